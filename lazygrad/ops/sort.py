"""Orders and scans along one axis: argsort, searchsorted, cumsum, cumprod.

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
CUMPROD = _scan(
    "cumprod", np.multiply,
    lambda g, out, x, *, axis: (lambda: _from_the_end(g * out, axis) / x,),
    "The products of the elements up to each position of `axis`; its gradient needs x != 0.",
)  # fmt: skip
