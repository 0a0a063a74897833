"""Dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError
from lazygrad.nn import functional as F
from lazygrad.nn.module import Module


class _Dropout(Module):
    """What the kinds of dropout have in common; `function` draws the mask."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        if not 0 <= p <= 1:
            raise ArgumentError(f"{type(self).__name__}: p must be a probability, got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        """Drop, while training."""
        return type(self).function(input, self.p, self.training)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """While training, zeroes each element with probability `p` and scales the rest by 1 / (1 - p).

    >>> import lazygrad as lg
    >>> layer = lg.nn.Dropout(0.5)
    >>> layer.eval()(lg.ones(3))
    tensor([1., 1., 1.])
    """

    function = F.dropout


class Dropout1d(_Dropout):
    """Drops whole channels of (batch, channels, length) or (channels, length)."""

    function = F.dropout1d


class Dropout2d(_Dropout):
    """Drops whole channels of (batch, channels, height, width) (Tompson et al. 2015)."""

    function = F.dropout2d


class Dropout3d(_Dropout):
    """Drops whole channels of (batch, channels, depth, height, width)."""

    function = F.dropout3d


class AlphaDropout(_Dropout):
    """Dropout that keeps mean 0 and variance 1, for networks of SELU (Klambauer et al. 2017)."""

    function = F.alpha_dropout


class FeatureAlphaDropout(_Dropout):
    """`AlphaDropout` of whole channels of (batch, channels, ...)."""

    function = F.feature_alpha_dropout
