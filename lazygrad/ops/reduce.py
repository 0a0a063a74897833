"""Reductions: a combining word over some axes.

Attributes: `axes`, a sorted tuple of non-negative ints, and `keepdim`. Sums of integers and bools
are int64; float16 and bfloat16 are combined in float32 and rounded once. The tree in which the
elements are combined belongs to the executor, but depends on shape, axes and dtype alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lazygrad.dtypes import BOOL, DType, as_dtype, bool_, int64
from lazygrad.errors import DTypeError, ShapeError
from lazygrad.ops.opdef import (
    Array,
    Kind,
    OpDef,
    Precision,
    Sample,
    Spec,
    accumulator,
    register,
    widened,
)
from lazygrad.shapes import Shape, numel, reduced

Axes = tuple[int, ...]


def kept(x: Spec, axes: Axes) -> Shape:
    """The shape of a reduction of `x` with the reduced axes kept as 1."""
    return reduced(x.shape, axes, True)


def spread(g: Any, x: Spec, axes: Axes) -> Any:
    """A value of the reduced shape (with or without kept axes) repeated over the shape of `x`."""
    return g.reshape(kept(x, axes)).expand(x.shape)


def _samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, axes in [
        ((2, 3, 4), (1,)), ((2, 3, 4), (0, 2)), ((2, 3, 4), (0, 1, 2)), ((5,), (0,)),
        ((), ()), ((3, 1), (1,)), ((3, 4), ()),
    ]:  # fmt: skip
        for keepdim in (False, True):
            x = rng.uniform(-2, 2, shape)
            yield Sample((x,), {"axes": axes, "keepdim": keepdim})


def _reduction(
    name: str, word: str, function: Any, vjp: Any = None, *, dtype: Callable[[DType], DType],
    empty: bool = True, **facts: Any,
) -> OpDef:  # fmt: skip
    """Register a reduction by `word`; `empty` says that the word has a neutral element."""

    def infer(x: Spec, *, axes: Axes, keepdim: bool) -> tuple[Shape, DType]:
        if not empty and numel([x.shape[a] for a in axes]) == 0:
            raise ShapeError(f"{name}: shape {x.shape} has no elements along {axes}")
        return reduced(x.shape, axes, keepdim), dtype(x.dtype)

    def reference(x: Array, *, axes: Axes, keepdim: bool) -> Array:
        result = dtype(as_dtype(x.dtype))
        wide = accumulator(result).dtype
        with np.errstate(all="ignore"):
            total = function.reduce(x, axis=axes, dtype=wide, keepdims=keepdim)
            return np.asarray(total).astype(result.dtype)

    return register(
        OpDef(
            name, Kind.REDUCE, infer, reference, vjp=vjp, combine=word, accumulate_half=True,
            samples=_samples, **facts,
        )
    )  # fmt: skip


def _same(dtype: DType) -> DType:
    return dtype


def _bool(dtype: DType) -> DType:
    return bool_


def _sum_vjp(g: Any, out: Any, x: Any, *, axes: Axes, keepdim: bool) -> Any:
    return (spread(g, x, axes),)


def _prod_vjp(g: Any, out: Any, x: Any, *, axes: Axes, keepdim: bool) -> Any:
    """The product of the other elements, also where some elements are 0."""

    def others() -> Any:
        zero = x == 0
        zeros = zero.sum(axes, keepdim=True)
        rest = x.masked_fill(zero, 1.0)
        product = rest.prod(axes, keepdim=True)
        only = (product * (zeros == 1)).expand(x.shape)  # at the single zero
        return spread(g, x, axes) * only.where(zero, product * (zeros == 0) / rest)

    return (others,)


def _extreme_vjp(g: Any, out: Any, x: Any, *, axes: Axes, keepdim: bool) -> Any:
    """Evenly to all the elements that are the extreme one; where that is NaN, NaN to all."""

    def share() -> Any:
        chosen = x == out.reshape(kept(x, axes))
        count = chosen.sum(axes, keepdim=True)
        return g.reshape(kept(x, axes)).where(chosen, 0.0) / count

    return (share,)


SUM = _reduction(
    "sum", "add", np.add, _sum_vjp, dtype=widened, associative=True, grad_name="SumBackward",
    autocast=Precision.SINGLE, doc="The sum over `axes`; of nothing: 0.",
)  # fmt: skip
PROD = _reduction(
    "prod", "mul", np.multiply, _prod_vjp, dtype=widened, associative=True,
    grad_name="ProdBackward", autocast=Precision.SINGLE,
    doc="The product over `axes`; of nothing: 1.",
)  # fmt: skip
MAX = _reduction(
    "max", "maximum", np.maximum, _extreme_vjp, dtype=_same, empty=False, associative=True,
    grad_name="AmaxBackward", doc="The largest element over `axes`; NaN wins; ties share g.",
)  # fmt: skip
MIN = _reduction(
    "min", "minimum", np.minimum, _extreme_vjp, dtype=_same, empty=False, associative=True,
    grad_name="AminBackward", doc="The smallest element over `axes`; NaN wins; ties share g.",
)  # fmt: skip
ANY = _reduction(
    "any", "logical_or", np.logical_or, dtype=_bool, associative=True,
    doc="Whether some element over `axes` is not zero.",
)  # fmt: skip
ALL = _reduction(
    "all", "logical_and", np.logical_and, dtype=_bool, associative=True,
    doc="Whether no element over `axes` is zero.",
)  # fmt: skip


def _positions(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, axis in [((2, 3, 4), 1), ((5,), 0), ((3, 1), 1), ((4, 2), 0)]:
        for keepdim in (False, True):
            x = rng.integers(0, 3, shape).astype(float)  # with ties
            yield Sample((x,), {"axes": (axis,), "keepdim": keepdim})


def _position(name: str, function: Callable[..., Any], doc: str) -> OpDef:
    def infer(x: Spec, *, axes: Axes, keepdim: bool) -> tuple[Shape, DType]:
        if x.dtype.category == BOOL:
            raise DTypeError(f"{name} takes no bool tensors")
        if x.shape[axes[0]] == 0:
            raise ShapeError(f"{name}: shape {x.shape} has no elements along {axes[0]}")
        return reduced(x.shape, axes, keepdim), int64

    def reference(x: Array, *, axes: Axes, keepdim: bool) -> Array:
        return np.asarray(function(x, axis=axes[0], keepdims=keepdim), np.int64)

    return register(
        OpDef(name, Kind.REDUCE, infer, reference, combine=name, samples=_positions, doc=doc)
    )


ARGMAX = _position("argmax", np.argmax, "The first position of the largest element; NaN wins.")
ARGMIN = _position("argmin", np.argmin, "The first position of the smallest element; NaN wins.")
