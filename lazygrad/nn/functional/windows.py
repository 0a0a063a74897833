"""What convolution and pooling have in common: sizes per dimension, and sliding windows.

Pooling reads `Tensor._windows`, a view that only changes strides; so does what a convolution is
expanded to (`ops/conv.py`), one matrix product of its windows with the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.shapes import Shape

Sizes = int | Sequence[int]


def per_dimension(name: str, what: str, value: Any, count: int, least: int = 1) -> Shape:
    """One number for each of `count` dimensions: the given ones, or the one repeated.

    >>> per_dimension("conv2d", "stride", 2, 2), per_dimension("conv2d", "stride", (1, 3), 2)
    ((2, 2), (1, 3))
    """
    given = tuple(value) if isinstance(value, Iterable) else (value,) * count
    given = given * count if len(given) == 1 else given
    if len(given) != count or any(type(n) is not int or n < least for n in given):
        raise ArgumentError(
            f"{name}: {what} must be an integer >= {least}, or {count} of them, got {value!r}"
        )
    return given


def batched(name: str, input: Tensor, dimensions: int) -> tuple[Tensor, bool]:
    """The input as (batch, channels, ...), and whether it came so."""
    if input.ndim == dimensions + 2:
        return input, True
    if input.ndim == dimensions + 1:
        return input.unsqueeze(0), False
    places = "batch, channels, " + ", ".join(("depth", "height", "width")[-dimensions:])
    if dimensions == 1:
        places = "batch, channels, length"
    raise ShapeError(f"{name}: input must be ({places}), with or without batch, got {input.shape}")


def bordered(
    input: Tensor, pads: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0
) -> Tensor:
    """A border around the last dimensions, one (before, after) for each."""
    if not any(map(any, pads)):
        return input
    return input.pad([(0, 0)] * (input.ndim - len(pads)) + list(pads), mode, value)


def windows_of(
    name: str, x: Tensor, sizes: Shape, steps: Shape, dilations: Shape
) -> Tensor:  # fmt: skip
    """The windows over the dimensions after the channels: (batch, channels, *counts, *sizes)."""
    for extent, size, dilation in zip(x.shape[2:], sizes, dilations, strict=True):
        if dilation * (size - 1) + 1 > extent:
            raise ShapeError(
                f"{name}: a kernel of {sizes} with dilation {dilations} does not fit into the "
                f"padded input {x.shape}"
            )
    axes = range(2, x.ndim)
    if all(s == 1 for s in sizes) and all(s == 1 for s in steps):
        return x.reshape((*x.shape, *sizes))
    return x._windows(tuple(axes), sizes, steps, dilations)
