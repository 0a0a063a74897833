"""Rearranging and resizing: pixel shuffles, interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lazygrad.engine.precision import KEEP
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn.functional.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
)
from lazygrad.ops.opdef import Array


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., channels * r * r, h, w) to (..., channels, h * r, w * r) (Shi et al. 2016)."""
    r = upscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-3] % (r * r):
        raise ShapeError(
            f"pixel_shuffle: the channels of input {input.shape} (..., channels, height, width) "
            f"are no multiple of {r} * {r}"
        )
    *lead, channels, height, width = input.shape
    split = input.reshape((-1, channels // (r * r), r, r, height, width))
    out = split.permute(0, 1, 4, 2, 5, 3)
    return out.reshape((*lead, channels // (r * r), height * r, width * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., channels, h * r, w * r) to (..., channels * r * r, h, w): undoes `pixel_shuffle`."""
    r = downscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-1] % r or input.shape[-2] % r:
        raise ShapeError(
            f"pixel_unshuffle: height and width of input {input.shape} are no multiples of {r}"
        )
    *lead, channels, height, width = input.shape
    split = input.reshape((-1, channels, height // r, r, width // r, r))
    out = split.permute(0, 1, 3, 5, 2, 4)
    return out.reshape((*lead, channels * r * r, height // r, width // r))


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """The channels of `groups` groups, one of each in turn (Zhang et al. 2018)."""
    if input.ndim < 3 or groups < 1 or input.shape[1] % groups:
        raise ShapeError(
            f"channel_shuffle: the channels of input {input.shape} (batch, channels, ...) are no "
            f"multiple of groups {groups}"
        )
    batch, channels, *rest = input.shape
    split = input.reshape((batch, groups, channels // groups, *rest))
    return split.transpose(1, 2).reshape(input.shape)


_SMOOTH = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}  # for how many dimensions


@KEEP
def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """(batch, channels, ...) with the dimensions after the channels resized.

    Either `size` or `scale_factor` is given, a number or one for each dimension. Modes are
    "nearest", "nearest-exact", "area" (means, as adaptive pooling), "linear", "bilinear",
    "trilinear" by the number of dimensions, and "bicubic" (Keys 1981) for two; with `align_corners`
    the outermost samples stay where they are.

    >>> import lazygrad as lg
    >>> lg.nn.functional.interpolate(lg.tensor([[[1.0, 3.0]]]), scale_factor=2)
    tensor([[[1., 1., 3., 3.]]])
    >>> lg.nn.functional.interpolate(lg.tensor([[[1.0, 3.0]]]), size=3, mode="linear")
    tensor([[[1., 2., 3.]]])
    """
    dimensions = input.ndim - 2
    if dimensions < 1:
        raise ShapeError(f"interpolate: input must be (batch, channels, ...), got {input.shape}")
    plain = mode in ("nearest", "nearest-exact", "area")
    if not plain and _SMOOTH.get(mode) != dimensions:
        raise ArgumentError(
            f"interpolate: mode {mode!r} does not fit input {input.shape}; it is 'nearest', "
            "'nearest-exact', 'area', 'linear' (1 dimension), 'bilinear' or 'bicubic' (2) or "
            "'trilinear' (3)"
        )
    if plain and align_corners is not None:
        raise ArgumentError("interpolate: align_corners is for the linear modes")
    targets = _targets(input, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        pool: Any = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[dimensions - 1]
        found: Tensor = pool(input, tuple(n for n, _ in targets))
        return found
    for axis, (n, factor) in enumerate(targets, start=2):
        if mode == "bicubic":
            input = _cubic(input, axis, n, factor, bool(align_corners))
        elif plain:
            input = _nearest(input, axis, n, factor, mode == "nearest-exact")
        else:
            input = _linear(input, axis, n, factor, bool(align_corners))
    return input


def _targets(
    input: Tensor,
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
    recompute: bool | None,
) -> list[tuple[int, float]]:
    """For each dimension its new size, and how far apart the samples are in the old one."""
    old = input.shape[2:]
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate takes either size or scale_factor")
    given = size if scale_factor is None else scale_factor
    values = list(given) if isinstance(given, Sequence) else [given] * len(old)
    if len(values) != len(old):
        raise ShapeError(
            f"interpolate: {len(values)} sizes or factors for the {len(old)} dimensions of input "
            f"{input.shape} after its channels"
        )
    if scale_factor is None:
        sizes = [int(v or 0) for v in values]
        factors = [n / m if m else 0.0 for n, m in zip(old, sizes, strict=True)]
    else:
        sizes = [math.floor(n * float(v or 0)) for n, v in zip(old, values, strict=True)]
        factors = [1 / float(v) if v else 0.0 for v in values]
        if recompute:
            factors = [n / m if m else 0.0 for n, m in zip(old, sizes, strict=True)]
    if min(sizes) < 1 or min(old) < 1:
        raise ShapeError(f"interpolate: sizes {tuple(sizes)} from input {input.shape}")
    return list(zip(sizes, factors, strict=True))


def _nearest(x: Tensor, axis: int, size: int, factor: float, exact: bool) -> Tensor:
    old = x.shape[axis]
    if size == old:
        return x
    if size % old == 0 and factor == old / size:
        return x.repeat_interleave(size // old, axis)
    step, shift = np.float32(factor), np.float32(0.5 if exact else 0)  # as PyTorch rounds it
    index = np.floor((np.arange(size, dtype=np.float32) + shift) * step).astype(np.int64)
    return x.index_select(axis, np.minimum(index, old - 1))


def _linear(x: Tensor, axis: int, size: int, factor: float, align: bool) -> Tensor:
    low, weight = linear_samples(x.shape[axis], size, factor, align)
    if size == x.shape[axis] and not weight.any():
        return x
    high = np.minimum(low + 1, x.shape[axis] - 1)
    column = [-1 if i == axis else 1 for i in range(x.ndim)]
    share = Tensor(weight.reshape(column), dtype=x.dtype)
    return x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share


def _cubic(x: Tensor, axis: int, size: int, factor: float, align: bool) -> Tensor:
    """Each sample from four neighbours, those outside replaced by the outermost ones."""
    old = x.shape[axis]
    index = np.arange(size, dtype=np.float64)
    if align:
        at = index * ((old - 1) / (size - 1) if size > 1 else 0.0)
    else:
        at = (index + 0.5) * factor - 0.5
    low = np.floor(at)
    column = [-1 if i == axis else 1 for i in range(x.ndim)]
    parts = []
    for tap in range(-1, 3):
        place = np.clip(low + tap, 0, old - 1).astype(np.int64)
        share = Tensor(_keys(np.abs(at - low - tap)).reshape(column), dtype=x.dtype)
        parts.append(x.index_select(axis, place) * share)
    return parts[0] + parts[1] + parts[2] + parts[3]


def _keys(distance: Array, a: float = -0.75) -> Array:
    """The share of a sample at a distance of up to 2 (Keys 1981, with PyTorch's `a`)."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)


def linear_samples(old: int, size: int, factor: float, align: bool) -> tuple[Array, Array]:
    """The sample below each new one, and how far towards the next one it lies.

    >>> low, weight = linear_samples(2, 4, 0.5, False)
    >>> low.tolist(), weight.tolist()
    ([0, 0, 0, 1], [0.0, 0.25, 0.75, 0.25])
    """
    index = np.arange(size, dtype=np.float64)
    if align:
        at = index * ((old - 1) / (size - 1) if size > 1 else 0.0)
    else:
        at = np.maximum((index + 0.5) * factor - 0.5, 0)
    low = np.minimum(np.floor(at).astype(np.int64), old - 1)
    return low, np.minimum(at - low, 1.0)
