"""Layers that only change the shape."""

from __future__ import annotations

from collections.abc import Sequence

from lazygrad.engine.tensor import Tensor
from lazygrad.nn.module import Module


class Flatten(Module):
    """The axes from `start_dim` to `end_dim` as one; by default all but the batch.

    >>> import lazygrad as lg
    >>> lg.nn.Flatten()(lg.ones(2, 3, 4)).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        """Reshape."""
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """One axis as several.

    >>> import lazygrad as lg
    >>> lg.nn.Unflatten(1, (3, 4))(lg.ones(2, 12)).shape
    (2, 3, 4)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        """Reshape."""
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
