"""Pools by norms, pools undone, and responses normalized by their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazygrad.engine.precision import SINGLE
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ShapeError
from lazygrad.nn.functional.pooling import avg_pool1d, avg_pool2d, avg_pool3d
from lazygrad.nn.functional.windows import Sizes, per_dimension
from lazygrad.shapes import numel

_AVERAGES: tuple[Any, ...] = (avg_pool1d, avg_pool2d, avg_pool3d)


def _lp_pool(
    dimensions: int, input: Tensor, norm_type: float, kernel_size: Sizes, stride: Sizes | None,
    ceil_mode: bool,
) -> Tensor:  # fmt: skip
    sizes = per_dimension(f"lp_pool{dimensions}d", "kernel_size", kernel_size, dimensions)
    mean: Tensor = _AVERAGES[dimensions - 1](
        input.pow(float(norm_type)), sizes, stride, 0, ceil_mode
    )
    return (mean.clamp(min=0) * float(numel(sizes))).pow(1.0 / norm_type)


def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """(sum of x ** p) ** (1 / p) of each window of (batch, channels, length).

    >>> import lazygrad as lg
    >>> lg.nn.functional.lp_pool1d(lg.tensor([[[3.0, 4.0]]]), 2, 2)
    tensor([[[5.]]])
    """
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """(sum of x ** p) ** (1 / p) of each window of (batch, channels, height, width)."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Tensor, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None,
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """(sum of x ** p) ** (1 / p) of each window of (batch, channels, depth, height, width)."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


def _max_unpool(
    dimensions: int, input: Tensor, indices: Tensor, kernel_size: Sizes, stride: Sizes | None,
    padding: Sizes, output_size: Sequence[int] | None,
) -> Tensor:  # fmt: skip
    name = f"max_unpool{dimensions}d"
    if input.shape != indices.shape or input.ndim not in (dimensions + 1, dimensions + 2):
        raise ShapeError(
            f"{name}: input {input.shape} and indices {indices.shape} must be alike, with "
            f"{dimensions} dimensions after the channels"
        )
    sizes = per_dimension(name, "kernel_size", kernel_size, dimensions)
    steps = per_dimension(name, "stride", sizes if stride is None else stride, dimensions)
    pads = per_dimension(name, "padding", padding, dimensions, least=0)
    lead, old = input.shape[:-dimensions], input.shape[-dimensions:]
    new = tuple(
        (n - 1) * step - 2 * pad + size
        for n, size, step, pad in zip(old, sizes, steps, pads, strict=True)
    )
    if output_size is not None:
        asked = tuple(output_size)[-dimensions:]
        if len(asked) != dimensions or any(
            abs(a - n) >= step for a, n, step in zip(asked, new, steps, strict=True)
        ):
            raise ShapeError(f"{name}: output_size {tuple(output_size)} is no size near {new}")
        new = asked
    flat = input.new_zeros((*lead, numel(new)))
    return flat.scatter(-1, indices.flatten(-dimensions), input.flatten(-dimensions)).reshape(
        (*lead, *new)
    )


def max_unpool1d(
    input: Tensor, indices: Tensor, kernel_size: Sizes, stride: Sizes | None = None,
    padding: Sizes = 0, output_size: Sequence[int] | None = None,
) -> Tensor:  # fmt: skip
    """The maxima of `max_pool1d` back where they were, zero elsewhere."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor, indices: Tensor, kernel_size: Sizes, stride: Sizes | None = None,
    padding: Sizes = 0, output_size: Sequence[int] | None = None,
) -> Tensor:  # fmt: skip
    """The maxima of `max_pool2d` back where they were, zero elsewhere (Zeiler et al. 2011)."""
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor, indices: Tensor, kernel_size: Sizes, stride: Sizes | None = None,
    padding: Sizes = 0, output_size: Sequence[int] | None = None,
) -> Tensor:  # fmt: skip
    """The maxima of `max_pool3d` back where they were, zero elsewhere."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


@SINGLE
def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Each channel divided by (k + alpha * the mean square of `size` neighbours) ** beta.

    Input is (batch, channels, ...); Krizhevsky et al. 2012, section 3.3.
    """
    if input.ndim < 3 or size < 1:
        raise ShapeError(
            f"local_response_norm: input must be (batch, channels, ...) and size >= 1, got "
            f"{input.shape} and {size}"
        )
    squares = (input * input).movedim(1, -1).pad((size // 2, (size - 1) // 2))
    mean = squares.unfold(-1, size, 1).mean(-1).movedim(-1, 1)
    return input / (mean * alpha + k).pow(beta)
