"""Orders and scans along one axis: argsort, searchsorted, cumsum, cumprod, cummax.

Sorting is always stable and a NaN counts as the largest number, as in PyTorch; `sort` and `topk`
are gathers by `argsort`, so that their gradient is that of a gather.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lazygrad.dtypes import DType, as_dtype, bfloat16, int64
from lazygrad.errors import DTypeError, ShapeError
from lazygrad.ops.opdef import (
    Array,
    Kind,
    OpDef,
    Precision,
    Promotion,
    Sample,
    Spec,
    accumulator,
    register,
    widened,
)
from lazygrad.shapes import Shape


def _argsort_infer(x: Spec, *, axis: int, descending: bool) -> tuple[Shape, DType]:
    return x.shape, int64


def _comparable(x: Array) -> Array:
    return x.astype(np.float32) if x.dtype == bfloat16.dtype else x


def _argsort_reference(x: Array, *, axis: int, descending: bool) -> Array:
    if not x.ndim:
        return np.zeros((), np.int64)
    x = _comparable(x)
    if not descending:
        return np.argsort(x, axis, kind="stable")
    backward = np.argsort(np.flip(x, axis), axis, kind="stable")  # ties stay in order
    return np.asarray(x.shape[axis] - 1 - np.flip(backward, axis))


def _sort_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, axis in [((5,), 0), ((3, 4), 1), ((3, 4), 0), ((0, 2), 0), ((), 0)]:
        for descending in (False, True):
            x = rng.integers(0, 3, shape).astype(float)
            yield Sample((x,), {"axis": axis, "descending": descending})


ARGSORT = register(
    OpDef(
        "argsort", Kind.OPAQUE, _argsort_infer, _argsort_reference, flops=10,
        samples=_sort_samples,
        doc="The positions that sort x along `axis`; equal elements keep their order.",
    )
)  # fmt: skip


def _search_infer(edges: Spec, x: Spec, *, right: bool) -> tuple[Shape, DType]:
    if not edges.shape or edges.shape[:-1] not in ((), x.shape[:-1]):
        raise ShapeError(f"searchsorted: edges {edges.shape} do not fit values {x.shape}")
    return x.shape, int64


def _search_reference(edges: Array, x: Array, *, right: bool) -> Array:
    side: Any = "right" if right else "left"
    edges, x = _comparable(edges), _comparable(x)
    if edges.ndim == 1:
        return np.asarray(np.searchsorted(edges, x, side), np.int64)
    rows, lines = edges.reshape(-1, edges.shape[-1]), x.reshape(-1, x.shape[-1])
    found = [np.searchsorted(e, v, side) for e, v in zip(rows, lines, strict=True)]
    return np.asarray(found, np.int64).reshape(x.shape)


def _search_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for right in (False, True):
        attrs = {"right": right}
        yield Sample((np.arange(4.0), rng.integers(-1, 6, (2, 3)).astype(float)), attrs)
        yield Sample((np.sort(rng.random((2, 4)), 1), rng.random((2, 3))), attrs)


SEARCHSORTED = register(
    OpDef(
        "searchsorted", Kind.OPAQUE, _search_infer, _search_reference, 2,
        promotion=Promotion.COMMON, flops=10, samples=_search_samples,
        doc="The first position in the sorted last axis of `edges` whose element is >= x (> x).",
    )
)  # fmt: skip


def _scan_infer(x: Spec, *, axis: int) -> tuple[Shape, DType]:
    if x.shape and not 0 <= axis < len(x.shape):
        raise DTypeError(f"scan: axis {axis} of shape {x.shape}")
    return x.shape, widened(x.dtype)


def _scan(name: str, function: Any, vjp: Any, doc: str) -> OpDef:
    def reference(x: Array, *, axis: int) -> Array:
        result = widened(as_dtype(x.dtype))
        if not x.ndim:
            return x.astype(result.dtype)
        with np.errstate(all="ignore"):
            sums = function.accumulate(x, axis, accumulator(result).dtype)
            return np.asarray(sums).astype(result.dtype)

    return register(
        OpDef(
            name, Kind.OPAQUE, _scan_infer, reference, vjp=vjp, accumulate_half=True,
            autocast=Precision.SINGLE, samples=_scan_samples,
            grad_name=name.capitalize() + "Backward", doc=doc,
        )
    )  # fmt: skip


def _scan_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, axis in [((5,), 0), ((3, 4), 1), ((3, 4), 0), ((), 0), ((0, 2), 0)]:
        yield Sample((rng.uniform(0.5, 2, shape),), {"axis": axis})


def _from_the_end(g: Any, axis: int) -> Any:
    """The sums of g from each position to the end of `axis`."""
    return g.flip(axis).cumsum(axis).flip(axis) if g.ndim else g


CUMSUM = _scan(
    "cumsum", np.add, lambda g, out, x, *, axis: (lambda: _from_the_end(g, axis),),
    "The sums of the elements up to each position of `axis`.",
)  # fmt: skip


def _cumprod_vjp(g: Any, out: Any, x: Any, *, axis: int) -> Any:
    """In front of the first zero the products over x; at it, those of the others; behind it 0."""

    def back() -> Any:
        if not x.ndim:
            return g
        zero = x == 0
        count = zero.cumsum(axis)
        first = zero & (count == 1)
        before = _from_the_end(g * out, axis) / x.masked_fill(zero, 1.0)
        at = _from_the_end(g * x.masked_fill(first, 1.0).cumprod(axis), axis)
        return before.where(count == 0, at.where(first, 0.0))

    return (back,)


CUMPROD = _scan(
    "cumprod", np.multiply, _cumprod_vjp,
    "The products of the elements up to each position of `axis`.",
)  # fmt: skip


def _extreme_reference(x: Array, *, axis: int, largest: bool) -> Array:
    if not x.ndim:
        return np.zeros((), np.int64)
    lines = np.moveaxis(_comparable(x), axis, 0)
    found = np.zeros(lines.shape, np.int64)
    for i in range(1, len(lines)):
        held = np.take_along_axis(lines, found[i - 1][None], 0)[0]
        better = lines[i] >= held if largest else lines[i] <= held
        found[i] = np.where((better & (held == held)) | (lines[i] != lines[i]), i, found[i - 1])
    return np.ascontiguousarray(np.moveaxis(found, 0, axis))


def _extreme_infer(x: Spec, *, axis: int, largest: bool) -> tuple[Shape, DType]:
    return x.shape, int64


def _extreme_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, axis in [((5,), 0), ((3, 4), 1), ((3, 4), 0), ((), 0), ((0, 2), 0)]:
        for largest in (False, True):
            x = rng.integers(0, 3, shape).astype(float)  # with ties
            yield Sample((x,), {"axis": axis, "largest": largest})


CUMULATIVE_EXTREME = register(
    OpDef(
        "cumulative_extreme", Kind.OPAQUE, _extreme_infer, _extreme_reference,
        samples=_extreme_samples,
        doc="Where the largest (smallest) element up to each position is; the last of equal ones.",
    )
)  # fmt: skip
