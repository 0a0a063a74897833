"""Borders as layers: zeros, a constant, or elements of the input itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError
from lazygrad.nn import functional as F
from lazygrad.nn.module import Module

Padding = int | Sequence[int]


class _Pad(Module):
    """`padding` around the last `dimensions`: one number, or (left, right, top, bottom, ...)."""

    dimensions: ClassVar[int]
    mode: ClassVar[str] = "constant"
    value: float = 0.0

    def __init__(self, padding: Padding) -> None:
        count = 2 * self.dimensions
        given = (padding,) * count if isinstance(padding, int) else tuple(padding)
        if len(given) != count:
            raise ArgumentError(f"{type(self).__name__} takes {count} amounts, got {padding}")
        self.padding = given

    def forward(self, input: Tensor) -> Tensor:
        """The input with its border."""
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    """A border of one value."""

    def __init__(self, padding: Padding, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """`value` around the last dimension."""

    dimensions = 1


class ConstantPad2d(_ConstantPad):
    """`value` around the last two dimensions."""

    dimensions = 2


class ConstantPad3d(_ConstantPad):
    """`value` around the last three dimensions."""

    dimensions = 3


class ZeroPad1d(_Pad):
    """Zeros around the last dimension."""

    dimensions = 1


class ZeroPad2d(_Pad):
    """Zeros around the last two dimensions."""

    dimensions = 2


class ZeroPad3d(_Pad):
    """Zeros around the last three dimensions."""

    dimensions = 3


class ReflectionPad1d(_Pad):
    """The last dimension mirrored at its ends, without the edges themselves.

    >>> import lazygrad as lg
    >>> lg.nn.ReflectionPad1d(2)(lg.tensor([[1.0, 2.0, 3.0]]))
    tensor([[3., 2., 1., 2., 3., 2., 1.]])
    """

    dimensions, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The last two dimensions mirrored at their ends."""

    dimensions, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """The last three dimensions mirrored at their ends."""

    dimensions, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The edges of the last dimension again and again."""

    dimensions, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The edges of the last two dimensions again and again."""

    dimensions, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The edges of the last three dimensions again and again."""

    dimensions, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """The last dimension, continued from its other end."""

    dimensions, mode = 1, "circular"


class CircularPad2d(_Pad):
    """The last two dimensions, continued from their other ends."""

    dimensions, mode = 2, "circular"


class CircularPad3d(_Pad):
    """The last three dimensions, continued from their other ends."""

    dimensions, mode = 3, "circular"
