"""Sliding windows: a view that convolution and pooling read, and the sum that undoes it.

`windows` computes nothing: a window is more strides over the same elements, so that whoever reads
it can do so in place. `fold` is its transpose: it adds the elements of overlapping windows up.
Attributes: `axes` (sorted), and for each of them a size, a step and a dilation; window `i` along an
axis holds the elements `i * step + k * dilation`. The axis becomes the number of windows; the
positions `k` are new last axes, in the order of `axes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lazygrad.dtypes import DType, as_dtype
from lazygrad.errors import ShapeError
from lazygrad.ops.opdef import Array, Kind, OpDef, Sample, Spec, Strided, accumulator, register
from lazygrad.shapes import Shape

Ints = tuple[int, ...]


def window_count(extent: int, size: int, step: int, dilation: int) -> int:
    """How many windows fit.

    >>> window_count(7, 3, 2, 1), window_count(4, 3, 1, 2)
    (3, 0)
    """
    return max((extent - dilation * (size - 1) - 1) // step + 1, 0)


def _counted(shape: Shape, axes: Ints, sizes: Ints, steps: Ints, dilations: Ints) -> Shape:
    """`shape` with the windowed axes replaced by the number of windows."""
    counts = list(shape)
    for axis, size, step, dilation in zip(axes, sizes, steps, dilations, strict=True):
        counts[axis] = window_count(shape[axis], size, step, dilation)
    return tuple(counts)


def _windows_infer(
    x: Spec, *, axes: Ints, sizes: Ints, steps: Ints, dilations: Ints
) -> tuple[Shape, DType]:
    if not len(axes) == len(sizes) == len(steps) == len(dilations):
        raise ShapeError(f"windows: one size, step and dilation for each of the axes {axes}")
    if min((*sizes, *steps, *dilations), default=1) < 1:
        raise ShapeError(
            f"windows: sizes {sizes}, steps {steps} and dilations {dilations} are at least 1"
        )
    shape = _counted(x.shape, axes, sizes, steps, dilations)
    for axis, size, dilation in zip(axes, sizes, dilations, strict=True):
        if not shape[axis]:
            raise ShapeError(
                f"windows: {size} elements, {dilation} apart, do not fit into axis {axis} of "
                f"{x.shape}"
            )
    return (*shape, *sizes), x.dtype


def _windows_view(
    x: Strided, *, axes: Ints, sizes: Ints, steps: Ints, dilations: Ints
) -> Strided:  # fmt: skip
    strides = list(x.strides)
    for axis, step in zip(axes, steps, strict=True):
        strides[axis] *= step
    within = tuple(x.strides[a] * d for a, d in zip(axes, dilations, strict=True))
    shape = _counted(x.shape, axes, sizes, steps, dilations)
    return Strided((*shape, *sizes), (*strides, *within), x.offset)


def _windows_reference(
    x: Array, *, axes: Ints, sizes: Ints, steps: Ints, dilations: Ints
) -> Array:  # fmt: skip
    unit = x.itemsize
    plain = Strided(x.shape, tuple(s // unit for s in x.strides))
    view = _windows_view(plain, axes=axes, sizes=sizes, steps=steps, dilations=dilations)
    strides = [s * unit for s in view.strides]
    return np.lib.stride_tricks.as_strided(x, view.shape, strides, writeable=False)


def _windows_vjp(
    g: Any, out: Any, x: Any, *, axes: Ints, sizes: Ints, steps: Ints, dilations: Ints
) -> Any:  # fmt: skip
    def back() -> Any:
        tiles = steps == sizes and all(
            d == 1 or s == 1 for d, s in zip(dilations, sizes, strict=True)
        )
        if tiles:
            return _untiled(g, x.shape, axes)
        return g.apply(FOLD, shape=x.shape, axes=axes, steps=steps, dilations=dilations)

    return (back,)


def _untiled(g: Any, shape: Shape, axes: Ints) -> Any:
    """Windows that touch but do not overlap, put side by side; zeros behind the last one."""
    rank = len(shape)
    order = [k for i in range(rank) for k in ((i, rank + axes.index(i)) if i in axes else (i,))]
    merged = tuple(
        n * g.shape[rank + axes.index(i)] if i in axes else n for i, n in enumerate(g.shape[:rank])
    )
    whole = g.permute(tuple(order)).reshape(merged)
    if merged == shape:
        return whole
    return whole.pad([(0, n - m) for n, m in zip(shape, merged, strict=True)])


_CASES: list[tuple[Shape, Ints, Ints, Ints, Ints]] = [
    ((7,), (0,), (3,), (2,), (1,)),
    ((2, 5, 6), (1, 2), (2, 3), (1, 2), (2, 1)),
    ((2, 5, 7), (1, 2), (2, 3), (2, 3), (1, 1)),
    ((3, 4), (0,), (1,), (2,), (1,)),
    ((2, 4, 3), (1,), (4,), (1,), (1,)),
]


def _windows_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, axes, sizes, steps, dilations in _CASES:
        attrs = {"axes": axes, "sizes": sizes, "steps": steps, "dilations": dilations}
        yield Sample((rng.uniform(-2, 2, shape),), attrs)


WINDOWS = register(
    OpDef(
        "windows", Kind.VIEW, _windows_infer, _windows_reference, vjp=_windows_vjp,
        view=_windows_view, flops=0, samples=_windows_samples, grad_name="UnfoldBackward",
        doc="All windows over some axes; the positions within a window are new last axes.",
    )
)  # fmt: skip


def _fold_infer(
    x: Spec, *, shape: Shape, axes: Ints, steps: Ints, dilations: Ints
) -> tuple[Shape, DType]:
    rank = len(shape)
    sizes = x.shape[rank:]
    if len(sizes) != len(axes) or _counted(shape, axes, sizes, steps, dilations) != x.shape[:rank]:
        raise ShapeError(
            f"fold: {x.shape} are no windows over the axes {axes} of {shape}, with steps {steps} "
            f"and dilations {dilations}"
        )
    return shape, x.dtype


def _fold_reference(
    x: Array, *, shape: Shape, axes: Ints, steps: Ints, dilations: Ints
) -> Array:  # fmt: skip
    result = np.zeros(shape, accumulator(as_dtype(x.dtype)).dtype)
    rank = len(shape)
    counts = x.shape[:rank]
    for place in np.ndindex(*x.shape[rank:]):  # one position within all windows at a time
        index = [slice(None)] * rank
        for axis, k, step, dilation in zip(axes, place, steps, dilations, strict=True):
            start = k * dilation
            index[axis] = slice(start, start + (counts[axis] - 1) * step + 1, step)
        result[tuple(index)] += x[(..., *place)]
    return result.astype(x.dtype, copy=False)


def _fold_vjp(
    g: Any, out: Any, x: Any, *, shape: Shape, axes: Ints, steps: Ints, dilations: Ints
) -> Any:  # fmt: skip
    sizes = x.shape[len(shape) :]
    return (lambda: g.apply(WINDOWS, axes=axes, sizes=sizes, steps=steps, dilations=dilations),)


def _fold_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, axes, sizes, steps, dilations in _CASES:
        x = rng.uniform(-2, 2, (*_counted(shape, axes, sizes, steps, dilations), *sizes))
        attrs = {"shape": shape, "axes": axes, "steps": steps, "dilations": dilations}
        yield Sample((x,), attrs)


FOLD = register(
    OpDef(
        "fold", Kind.OPAQUE, _fold_infer, _fold_reference, vjp=_fold_vjp, accumulate_half=True,
        samples=_fold_samples, grad_name="FoldBackward",
        doc="The sum of overlapping windows, each element where `windows` reads it from.",
    )
)  # fmt: skip
