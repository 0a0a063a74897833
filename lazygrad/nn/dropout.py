"""Dropout."""

from __future__ import annotations

from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError
from lazygrad.nn import functional as F
from lazygrad.nn.module import Module


class Dropout(Module):
    """While training, zeroes each element with probability `p` and scales the rest by 1 / (1 - p).

    >>> import lazygrad as lg
    >>> layer = lg.nn.Dropout(0.5)
    >>> layer.eval()(lg.ones(3))
    tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        if not 0 <= p <= 1:
            raise ArgumentError(f"Dropout: p must be a probability, got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        """Drop, while training."""
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"p={self.p}, inplace={self.inplace}"
