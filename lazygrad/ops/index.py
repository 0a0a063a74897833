"""Reading and writing at positions that are data: indexing, gather, scatter, nonzero.

Indices have been checked when they come here (on the host as the node is appended, or by a
`check_index` effect that runs before any state write), so that every backend may skip the test;
the references still refuse an index out of range.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lazygrad.dtypes import INTEGER, DType, as_dtype, bfloat16, bool_, float16, int64
from lazygrad.errors import DTypeError, IndexOutOfRangeError, ShapeError
from lazygrad.ops.opdef import Array, Kind, OpDef, Sample, Spec, register
from lazygrad.shapes import Shape, broadcast, numel


def _indices(name: str, x: Spec, indices: tuple[Spec, ...]) -> Shape:
    """The shape of a read of `x` by `indices` over its leading axes."""
    if not 0 < len(indices) <= len(x.shape):
        raise ShapeError(f"{name}: {len(indices)} indices for a tensor of shape {x.shape}")
    for i in indices:
        if i.dtype.category != INTEGER:
            raise DTypeError(f"{name}: indices must be integers, got {i.dtype}")
    return (*broadcast(*[i.shape for i in indices]), *x.shape[len(indices) :])


def _index_infer(x: Spec, *indices: Spec) -> tuple[Shape, DType]:
    return _indices("index", x, indices), x.dtype


def _index_reference(x: Array, *indices: Array) -> Array:
    try:
        return np.asarray(x[tuple(indices)])
    except IndexError as error:
        raise IndexOutOfRangeError(str(error)) from None


def _index_vjp(g: Any, out: Any, x: Any, *indices: Any) -> Any:
    def back() -> Any:
        return g.new_zeros(x.shape).apply(INDEX_PUT, g, *indices, accumulate=True)

    return (back, *(None for _ in indices))


def _index_samples(rng: np.random.Generator) -> Iterator[Sample]:
    rows = np.array([[2, 0], [0, -1]])
    yield Sample((rng.uniform(-2, 2, (3, 4)), rows))
    yield Sample((rng.uniform(-2, 2, (3, 4)), rows, np.array([1, 1])))
    yield Sample((rng.uniform(-2, 2, 5), np.array(3)))
    yield Sample((rng.uniform(-2, 2, (3, 2)), np.zeros(0, np.int64)))


INDEX = register(
    OpDef(
        "index", Kind.OPAQUE, _index_infer, _index_reference, None, None, _index_vjp, flops=0,
        reads="strided", samples=_index_samples, grad_name="IndexBackward",
        doc="x[i, j, ...]: index tensors over the leading axes, which broadcast together.",
    )
)  # fmt: skip


def _put_infer(x: Spec, v: Spec, *indices: Spec, accumulate: bool) -> tuple[Shape, DType]:
    region = _indices("index_put", x, indices)
    if v.dtype is not x.dtype:
        raise DTypeError(f"index_put: {v.dtype} written into {x.dtype}")
    if broadcast(region, v.shape) != region:
        raise ShapeError(f"index_put: a value of shape {v.shape} does not fit into {region}")
    return x.shape, x.dtype


def accumulate_rows(target: Array, rows: Array, values: Array) -> None:
    """target[rows[i]] += values[i], equal rows in the order of i."""
    if values.ndim == 1:
        np.add.at(target, rows, values)
        return
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    if len(starts):
        target[rows[starts]] += np.add.reduceat(values[order], starts, axis=0, dtype=target.dtype)


def accumulator_of(x: Array, accumulate: bool) -> Array:
    """A copy of `x` to write into; sums of half precision are made in float32."""
    half = accumulate and as_dtype(x.dtype) in (float16, bfloat16)
    return np.array(x, np.float32 if half else x.dtype)


def _put_reference(x: Array, v: Array, *indices: Array, accumulate: bool) -> Array:
    result = accumulator_of(x, accumulate)
    k = len(indices)
    try:
        if not accumulate:
            result[tuple(indices)] = v
            return result
        lead, rest = x.shape[:k], x.shape[k:]
        wrapped = [np.where(i < 0, i + n, i) for i, n in zip(indices, lead, strict=True)]
        rows = np.ravel_multi_index(np.broadcast_arrays(*wrapped), lead)
    except (IndexError, ValueError) as error:
        raise IndexOutOfRangeError(str(error)) from None
    if result.size and rows.size:
        values = np.broadcast_to(v, (*rows.shape, *rest))
        flat = result.reshape((-1, numel(rest)) if numel(rest) > 1 else (-1,))
        accumulate_rows(flat, rows.reshape(-1), values.reshape((-1, *flat.shape[1:])))
    return result.astype(x.dtype, copy=False)


def _put_vjp(g: Any, out: Any, x: Any, v: Any, *indices: Any, accumulate: bool) -> Any:
    def kept() -> Any:
        zero = g.new_zeros(())
        return g if accumulate else g.apply(INDEX_PUT, zero, *indices, accumulate=False)

    return (kept, lambda: g.apply(INDEX, *indices), *(None for _ in indices))


def _put_samples(rng: np.random.Generator) -> Iterator[Sample]:
    rows = np.array([[2, 0], [0, -1]])
    for accumulate in (True, False):
        once = rows if accumulate else np.array([[2, 0]])  # who wins a tie is not defined
        x = rng.uniform(-2, 2, (3, 4))
        yield Sample((x, rng.uniform(-2, 2, (*once.shape, 4)), once), {"accumulate": accumulate})
        yield Sample(
            (x, rng.uniform(-2, 2, once.shape), once, np.arange(2)), {"accumulate": accumulate}
        )
        yield Sample((x, rng.uniform(-2, 2, ()), np.array(1)), {"accumulate": accumulate})


INDEX_PUT = register(
    OpDef(
        "index_put", Kind.OPAQUE, _put_infer, _put_reference, None, None, _put_vjp,
        accumulate_half=True, edits=True, reads="strided", samples=_put_samples,
        grad_name="IndexPutBackward",
        doc="x with v written (or added) at the positions that the same `index` would read.",
    )
)  # fmt: skip


# gather and scatter along one axis


def along(name: str, x: Spec, index: Spec, axis: int) -> None:
    """Raise unless an index fits a tensor along an axis, as in a gather."""
    if index.dtype.category != INTEGER:
        raise DTypeError(f"{name}: the index must be integer, got {index.dtype}")
    if len(index.shape) != len(x.shape) or any(
        i > n for d, (i, n) in enumerate(zip(index.shape, x.shape, strict=False)) if d != axis
    ):
        raise ShapeError(
            f"{name}: index of shape {index.shape} does not fit a tensor of shape {x.shape}"
            f" along axis {axis}"
        )


def _region(shape: Shape, axis: int) -> tuple[slice, ...]:
    return tuple(slice(None) if d == axis else slice(n) for d, n in enumerate(shape))


def _gather_infer(x: Spec, index: Spec, *, axis: int) -> tuple[Shape, DType]:
    along("gather", x, index, axis)
    return index.shape, x.dtype


def _gather_reference(x: Array, index: Array, *, axis: int) -> Array:
    try:
        return np.take_along_axis(x[_region(index.shape, axis)], index, axis)
    except IndexError as error:
        raise IndexOutOfRangeError(str(error)) from None


def _gather_vjp(g: Any, out: Any, x: Any, index: Any, *, axis: int) -> Any:
    def back() -> Any:
        return g.new_zeros(x.shape).apply(SCATTER, index, g, axis=axis, accumulate=True)

    return (back, None)


_ALONG: list[tuple[Shape, list[Any], int]] = [
    ((3, 4), [[0, 2, 1], [1, 1, 0]], 1),
    ((3, 2), [[2, 0], [0, 0], [1, 2], [0, 1]], 0),
    ((5,), [4, 4, 0], 0),
]


def _gather_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, index, axis in _ALONG:
        yield Sample((rng.uniform(-2, 2, shape), np.array(index)), {"axis": axis})


GATHER = register(
    OpDef(
        "gather", Kind.OPAQUE, _gather_infer, _gather_reference, 2, None, _gather_vjp, flops=0,
        reads="strided", samples=_gather_samples, grad_name="GatherBackward",
        doc="out[i][j] = x[i][index[i][j]] (for axis 1).",
    )
)  # fmt: skip


def _scatter_infer(
    x: Spec, index: Spec, v: Spec, *, axis: int, accumulate: bool
) -> tuple[Shape, DType]:
    along("scatter", x, index, axis)
    if v.dtype is not x.dtype:
        raise DTypeError(f"scatter: {v.dtype} written into {x.dtype}")
    if v.shape != index.shape:
        raise ShapeError(f"scatter: index {index.shape} and source {v.shape} differ")
    return x.shape, x.dtype


def _scatter_reference(
    x: Array, index: Array, v: Array, *, axis: int, accumulate: bool
) -> Array:  # fmt: skip
    result = accumulator_of(x, accumulate)
    where = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    where[axis] = index
    try:
        if accumulate:
            np.add.at(result, tuple(where), v)
        else:
            result[tuple(where)] = v
    except IndexError as error:
        raise IndexOutOfRangeError(str(error)) from None
    return result.astype(x.dtype, copy=False)


def _scatter_vjp(
    g: Any, out: Any, x: Any, index: Any, v: Any, *, axis: int, accumulate: bool
) -> Any:  # fmt: skip
    def kept() -> Any:
        if accumulate:
            return g
        return g.apply(SCATTER, index, g.new_zeros(v.shape), axis=axis, accumulate=False)

    return (kept, None, lambda: g.apply(GATHER, index, axis=axis))


def _scatter_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, index, axis in _ALONG:
        x, i = rng.uniform(-2, 2, shape), np.array(index)
        yield Sample((x, i, rng.uniform(-2, 2, i.shape)), {"axis": axis, "accumulate": True})
    x, i = rng.uniform(-2, 2, (3, 4)), np.array([[0, 2], [3, 1]])
    yield Sample((x, i, rng.uniform(-2, 2, (2, 2))), {"axis": 1, "accumulate": False})


SCATTER = register(
    OpDef(
        "scatter", Kind.OPAQUE, _scatter_infer, _scatter_reference, 3, None, _scatter_vjp,
        accumulate_half=True, edits=True, reads="strided", samples=_scatter_samples,
        grad_name="ScatterBackward",
        doc="x with out[i][index[i][j]] = v[i][j] (for axis 1), or += when it accumulates.",
    )
)  # fmt: skip


# positions


def _nonzero_infer(x: Spec, *, size: int, fill_value: int) -> tuple[Shape, DType]:
    if x.dtype is not bool_:
        raise DTypeError(f"nonzero: the mask must be bool, got {x.dtype}")
    return (size, len(x.shape)), int64


def _nonzero_reference(x: Array, *, size: int, fill_value: int) -> Array:
    found = np.argwhere(x)[:size]
    result = np.full((size, x.ndim), fill_value, np.int64)
    result[: len(found)] = found
    return result


def _nonzero_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in [(3, 4), (5,), (0,)]:
        yield Sample((rng.random(shape) > 0.5,), {"size": 4, "fill_value": -1})


NONZERO = register(
    OpDef(
        "nonzero", Kind.OPAQUE, _nonzero_infer, _nonzero_reference, samples=_nonzero_samples,
        doc="The first `size` positions of true elements in C order, then `fill_value`.",
    )
)  # fmt: skip
