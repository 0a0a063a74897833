"""Products and extremes of the elements that an index sends to one place; `scatter` has the sums.

As for `scatter`, the index has been checked when it comes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lazygrad.dtypes import BOOL, DType
from lazygrad.errors import DTypeError, IndexOutOfRangeError, ShapeError
from lazygrad.ops.index import GATHER, SCATTER, accumulator_of, along
from lazygrad.ops.opdef import Array, Kind, OpDef, Sample, Spec, register
from lazygrad.shapes import Shape

FUNCTIONS: dict[str, np.ufunc] = {"prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


def _infer(x: Spec, index: Spec, v: Spec, *, axis: int, reduce: str) -> tuple[Shape, DType]:
    along("scatter_reduce", x, index, axis)
    if v.dtype is not x.dtype:
        raise DTypeError(f"scatter_reduce: {v.dtype} reduced into {x.dtype}")
    if x.dtype.category == BOOL:
        raise DTypeError("scatter_reduce takes numbers, got bools")
    if v.shape != index.shape:
        raise ShapeError(f"scatter_reduce: index {index.shape} and source {v.shape} differ")
    return x.shape, x.dtype


def _reference(x: Array, index: Array, v: Array, *, axis: int, reduce: str) -> Array:
    result = accumulator_of(x, True)
    where = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    where[axis] = index
    with np.errstate(all="ignore"):
        try:
            FUNCTIONS[reduce].at(result, tuple(where), v.astype(result.dtype, copy=False))
        except IndexError as error:
            raise IndexOutOfRangeError(str(error)) from None
        return result.astype(x.dtype, copy=False)


def _vjp(g: Any, out: Any, x: Any, index: Any, v: Any, *, axis: int, reduce: str) -> Any:
    if reduce == "prod":
        return _product_vjp(g, out, x, index, v, axis)
    own = (x == out).to(g.dtype)
    taken = (v == out.apply(GATHER, index, axis=axis)).to(g.dtype)
    count = own.apply(SCATTER, index, taken, axis=axis, accumulate=True)
    share = g / count  # evenly to the elements that are the extreme one, as `amax` does
    return (lambda: own * share, None, lambda: taken * share.apply(GATHER, index, axis=axis))


def _product_vjp(g: Any, out: Any, x: Any, index: Any, v: Any, axis: int) -> Any:
    """The product of the others, also where one of the elements is 0."""

    def others(a: Any, b: Any) -> Any:
        return a.apply(SCATTER_REDUCE, index, b, axis=axis, reduce="prod")

    def picked(a: Any) -> Any:
        return a.apply(GATHER, index, axis=axis)

    def of_self() -> Any:
        ones = x.masked_fill(x == 0, 1.0)
        return g * others(ones, v) / ones

    def of_source() -> Any:
        zero = v == 0
        flags = zero.to(g.dtype)
        nothing = g.new_zeros(x.shape)
        count = picked(nothing.apply(SCATTER, index, flags, axis=axis, accumulate=True))
        single = zero & (count == 1)
        rest = picked(g * others(x, v.masked_fill(single, 1.0)))
        return rest.where(single, picked(g * out) / v.masked_fill(zero, 1.0))

    return (of_self, None, of_source)


def _samples(rng: np.random.Generator) -> Iterator[Sample]:
    for reduce in FUNCTIONS:
        for shape, index, axis in [
            ((3, 4), [[0, 2, 1], [1, 1, 0]], 1), ((3, 2), [[2, 0], [0, 0], [1, 2], [0, 1]], 0),
            ((5,), [4, 4, 0], 0),
        ]:  # fmt: skip
            x, i = rng.uniform(0.5, 2, shape), np.array(index)
            yield Sample((x, i, rng.uniform(0.5, 2, i.shape)), {"axis": axis, "reduce": reduce})


SCATTER_REDUCE: OpDef = register(
    OpDef(
        "scatter_reduce", Kind.OPAQUE, _infer, _reference, 3, None, _vjp, accumulate_half=True,
        samples=_samples, grad_name="ScatterReduceBackward",
        doc="x with out[i][index[i][j]] times (or the extreme of it and) v[i][j] (for axis 1).",
    )
)  # fmt: skip
