"""Pooling: the maximum or the mean of each window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lazygrad.dtypes import int64
from lazygrad.engine.creation import arange
from lazygrad.engine.functions import where
from lazygrad.engine.precision import KEEP
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn.functional.windows import Sizes, batched, bordered, per_dimension, windows_of
from lazygrad.ops.opdef import Array
from lazygrad.ops.pool import FIRST_MAX
from lazygrad.shapes import Shape, numel


def _counts(
    sizes: Shape, kernel: Shape, steps: Shape, pads: Shape, dilations: Shape, ceil_mode: bool
) -> list[int]:
    """How many windows there are; with `ceil_mode` also those that begin inside and end outside."""
    counts = []
    for n, k, s, p, d in zip(sizes, kernel, steps, pads, dilations, strict=True):
        free = n + 2 * p - d * (k - 1) - 1
        count = (-(-free // s) if ceil_mode else free // s) + 1
        if ceil_mode and (count - 1) * s >= n + p:
            count -= 1
        counts.append(count)
    return counts


class _Windows(NamedTuple):
    """Windows of (batch, channels, *sizes), and the axes along which the elements of one lie."""

    values: Tensor
    axes: tuple[int, ...]

    @property
    def counts(self) -> Shape:
        """How many there are along each dimension."""
        return tuple(n for a, n in enumerate(self.values.shape) if a not in self.axes)[2:]


def _last_axes(windows: Tensor) -> _Windows:
    """Windows as (batch, channels, *counts, *kernel)."""
    return _Windows(windows, tuple(range(windows.ndim // 2 + 1, windows.ndim)))


def _cut_windows(name: str, x: Tensor, sizes: Shape, steps: Shape, dilations: Shape) -> _Windows:
    """The windows over the sizes of (batch, channels, *sizes).

    Those that lie side by side are each axis as two, so that their gradient is one as well.
    """
    fit = all(n >= k for n, k in zip(x.shape[2:], sizes, strict=True))
    if steps != sizes or any(d != 1 for d in dilations) or not fit:
        return _last_axes(windows_of(name, x, sizes, steps, dilations))
    counts = [n // k for n, k in zip(x.shape[2:], sizes, strict=True)]
    whole = [slice(c * k) for c, k in zip(counts, sizes, strict=True)]
    pairs = [n for pair in zip(counts, sizes, strict=True) for n in pair]
    if any(n % k for n, k in zip(x.shape[2:], sizes, strict=True)):
        x = x[(slice(None), slice(None), *whole)]
    values = x.reshape((*x.shape[:2], *pairs))
    return _Windows(values, tuple(range(3, values.ndim, 2)))


def _pooled(
    name: str, dimensions: int, input: Tensor, kernel_size: Sizes, stride: Sizes | None,
    padding: Sizes, dilation: Sizes, ceil_mode: bool, value: float,
) -> tuple[_Windows, list[tuple[int, int]], Any]:  # fmt: skip
    """The windows, the border around the input, and how to bring a result to the input's rank."""
    kernel = per_dimension(name, "kernel_size", kernel_size, dimensions)
    steps = kernel if stride is None else per_dimension(name, "stride", stride, dimensions)
    pads = per_dimension(name, "padding", padding, dimensions, 0)
    dilations = per_dimension(name, "dilation", dilation, dimensions)
    if any(2 * p > k for p, k in zip(pads, kernel, strict=True)):
        raise ArgumentError(f"{name}: padding {pads} is more than half of the kernel {kernel}")
    x, has_batch = batched(name, input, dimensions)
    sizes = x.shape[2:]
    counts = _counts(sizes, kernel, steps, pads, dilations, ceil_mode)
    border = []
    for n, c, k, s, p, d in zip(sizes, counts, kernel, steps, pads, dilations, strict=True):
        end = (c - 1) * s + d * (k - 1) + 1 - n - p
        border.append((p, max(end, 0)))
    windows = _cut_windows(name, bordered(x, border, value=value), kernel, steps, dilations)
    return windows, border, (lambda y: y) if has_batch else (lambda y: y.squeeze(0))


def _lowest(x: Tensor) -> float:
    return -math.inf if x.dtype.is_floating_point else float(np.iinfo(x.dtype.dtype).min)


def _largest(windows: _Windows) -> Tensor:
    """The maximum of each window."""
    found: Tensor = windows.values.apply(FIRST_MAX, axes=windows.axes, keepdim=False)
    return found


def _positions(windows: _Windows, places: Tensor) -> Tensor:
    """Where in the input the maximum of each window lies; `places` are the windows of that."""
    axes = windows.axes
    values = windows.values.detach()
    top = (values == values.amax(axes, keepdim=True)) | values.isnan()
    first: Tensor = where(top, places, np.iinfo(np.int64).max).amin(axes)
    return first


def _max_pool(
    dimensions: int, input: Tensor, kernel_size: Sizes, stride: Sizes | None, padding: Sizes,
    dilation: Sizes, ceil_mode: bool, return_indices: bool,
) -> Any:  # fmt: skip
    name = f"max_pool{dimensions}d"
    low = _lowest(input)
    windows, border, restore = _pooled(
        name, dimensions, input, kernel_size, stride, padding, dilation, ceil_mode, low
    )
    out = restore(_largest(windows))
    if not return_indices:
        return out
    sizes = input.shape[-dimensions:]
    places = arange(numel(sizes), dtype=int64).reshape((1, 1, *sizes))
    kernel, steps, dilations = (
        per_dimension(name, name, v, dimensions)
        for v in (kernel_size, kernel_size if stride is None else stride, dilation)
    )
    framed = _cut_windows(name, bordered(places, border), kernel, steps, dilations)
    return out, restore(_positions(windows, framed.values))


def max_pool1d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of (batch, channels, length); see `max_pool2d`."""
    return _max_pool(
        1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )  # fmt: skip


def max_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of (batch, channels, height, width); `stride` is the kernel's.

    The first of equal elements gets the gradient. `return_indices` adds where in each plane the
    maximum was.

    >>> import lazygrad as lg
    >>> lg.nn.functional.max_pool2d(lg.arange(16.0).reshape(1, 1, 4, 4), 2)
    tensor([[[[5., 7.],
              [13., 15.]]]])
    """
    return _max_pool(
        2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )  # fmt: skip


def max_pool3d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of (batch, channels, depth, height, width)."""
    return _max_pool(
        3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )  # fmt: skip


def _mean(windows: _Windows, sizes: Sequence[Array]) -> Tensor:
    """The sum of each window by the product of its sizes along the dimensions."""
    total = windows.values.sum(windows.axes)
    shares = np.ones((), np.int64)
    for size in sizes:
        shares = shares[..., None] * size
    if (shares == shares.flat[0]).all():
        return total / int(shares.flat[0])
    return total / Tensor(shares, dtype=total.dtype)


@KEEP
def _avg_pool(
    dimensions: int, input: Tensor, kernel_size: Sizes, stride: Sizes | None, padding: Sizes,
    ceil_mode: bool, count_include_pad: bool, divisor_override: int | None,
) -> Tensor:  # fmt: skip
    name = f"avg_pool{dimensions}d"
    windows, border, restore = _pooled(
        name, dimensions, input, kernel_size, stride, padding, 1, ceil_mode, 0.0
    )
    if divisor_override == 0:
        raise ArgumentError("avg_pool: divisor_override must not be 0")
    if divisor_override is not None:
        total = windows.values.sum(windows.axes)
        return restore(total / divisor_override)  # type: ignore[no-any-return]
    kernel = per_dimension(name, "kernel_size", kernel_size, dimensions)
    steps = kernel if stride is None else per_dimension(name, "stride", stride, dimensions)
    sizes = []
    for n, c, k, s, (p, _) in zip(
        input.shape[-dimensions:], windows.counts, kernel, steps, border, strict=False
    ):
        start = np.arange(c) * s - p
        stop = np.minimum(start + k, n + p)
        if not count_include_pad:
            start, stop = np.maximum(start, 0), np.minimum(stop, n)
        sizes.append(stop - start)
    return restore(_mean(windows, sizes))  # type: ignore[no-any-return]


def avg_pool1d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of (batch, channels, length); see `avg_pool2d`."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (batch, channels, height, width); `stride` is the kernel's.

    The zeros of the padding count, unless `count_include_pad` is false.

    >>> import lazygrad as lg
    >>> lg.nn.functional.avg_pool2d(lg.arange(16.0).reshape(1, 1, 4, 4), 2)
    tensor([[[[2.5000, 4.5000],
              [10.5000, 12.5000]]]])
    """
    return _avg_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )  # fmt: skip


def avg_pool3d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of (batch, channels, depth, height, width)."""
    return _avg_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )  # fmt: skip


# Adaptive pooling: the windows follow from the size of the result.


def _adaptive(
    name: str, dimensions: int, input: Tensor, output_size: Any, value: float
) -> tuple[Tensor, list[Array], Any]:
    """The windows (batch, channels, *counts, *kernel), filled up with `value` where they differ.

    Also the size of each window along each dimension, and how to bring a result to the rank of the
    input.
    """
    given = output_size if isinstance(output_size, tuple | list) else (output_size,) * dimensions
    if len(given) != dimensions:
        raise ArgumentError(f"{name}: output_size takes {dimensions} numbers, got {output_size!r}")
    x, has_batch = batched(name, input, dimensions)
    counts = [n if c is None else c for n, c in zip(x.shape[2:], given, strict=True)]
    if min(counts) < 1 or 0 in x.shape[2:]:
        raise ShapeError(f"{name}: output_size {tuple(counts)} from input {input.shape}")
    extents = []
    for axis, (n, c) in enumerate(zip(x.shape[2:], counts, strict=True), start=2):
        index = np.arange(c)
        start = index * n // c
        extents.append(-(-(index + 1) * n // c) - start)
        x = _cut(x, axis, start, extents[-1], value)
    return x, extents, (lambda y: y) if has_batch else (lambda y: y.squeeze(0))


def _cut(x: Tensor, axis: int, start: Array, extent: Array, value: float) -> Tensor:
    """Axis `axis` as (number of windows), and their elements as a new last axis."""
    size = int(extent.max())
    steps = np.unique(np.diff(start))
    if len(np.unique(extent)) == 1 and len(steps) <= 1:  # all alike: a view
        step = int(steps[0]) if len(steps) and steps[0] else 1
        if x.shape[axis] == len(start) * size:  # side by side
            parts = x.reshape((*x.shape[:axis], len(start), size, *x.shape[axis + 1 :]))
            return parts.movedim(axis + 1, -1)
        if len(start) == 1 or steps[0]:
            return x._windows((axis,), (size,), (step,), (1,))
    index = start[:, None] + np.arange(size)
    inside = np.arange(size) < extent[:, None]
    taken = x.index_select(axis, np.minimum(index, x.shape[axis] - 1).reshape(-1))
    taken = taken.reshape((*x.shape[:axis], len(start), size, *x.shape[axis + 1 :]))
    taken = taken.movedim(axis + 1, -1)
    column = [len(start) if i == axis else 1 for i in range(x.ndim)]
    return taken.where(Tensor(inside.reshape((*column, size))), value)


@KEEP
def _adaptive_avg_pool(dimensions: int, input: Tensor, output_size: Any) -> Tensor:
    name = f"adaptive_avg_pool{dimensions}d"
    windows, extents, restore = _adaptive(name, dimensions, input, output_size, 0.0)
    return restore(_mean(_last_axes(windows), extents))  # type: ignore[no-any-return]


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """The means of `output_size` windows of (batch, channels, length)."""
    return _adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The means of windows of (batch, channels, height, width), so many that the size is reached.

    Window i of c over n elements goes from floor(i * n / c) to ceil((i + 1) * n / c); None keeps a
    size.

    >>> import lazygrad as lg
    >>> lg.nn.functional.adaptive_avg_pool2d(lg.arange(6.0).reshape(1, 2, 3), (1, 2))
    tensor([[[2., 3.]]])
    """
    return _adaptive_avg_pool(2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """The means of windows of (batch, channels, depth, height, width)."""
    return _adaptive_avg_pool(3, input, output_size)


def _adaptive_max_pool(
    dimensions: int, input: Tensor, output_size: Any, return_indices: bool
) -> Any:
    name = f"adaptive_max_pool{dimensions}d"
    windows, _, restore = _adaptive(name, dimensions, input, output_size, _lowest(input))
    found = _last_axes(windows)
    out = restore(_largest(found))
    if not return_indices:
        return out
    sizes = input.shape[-dimensions:]
    places = arange(numel(sizes), dtype=int64).reshape((1, 1, *sizes))
    framed, *_ = _adaptive(name, dimensions, places, output_size, 0)
    return out, restore(_positions(found, framed))


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of `output_size` windows of (batch, channels, length)."""
    return _adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of windows of (batch, channels, height, width), see `adaptive_avg_pool2d`."""
    return _adaptive_max_pool(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of windows of (batch, channels, depth, height, width)."""
    return _adaptive_max_pool(3, input, output_size, return_indices)
