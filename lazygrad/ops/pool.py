"""The largest element of each window, and which one it is.

A few elements are compared one after the other, all windows at once: `expand` takes the elements
of the windows apart, so that vectors run along the windows and not along their two or three
elements. The largest of many elements is a reduction like others.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import product
from typing import Any

import numpy as np

from lazygrad.dtypes import DType, as_dtype, int64, uint8
from lazygrad.errors import ShapeError
from lazygrad.ops.movement import RESHAPE, SLICE, slice_attrs
from lazygrad.ops.opdef import Array, Kind, OpDef, Sample, Spec, register
from lazygrad.ops.reduce import Axes, kept
from lazygrad.shapes import Shape, numel, reduced

FEW = 16  # elements that are compared one after the other


def _taken_apart(x: Any, axes: Axes) -> list[Any]:
    """The elements over `axes` in C order, each with extent 1 there."""
    whole = [slice(None)] * len(x.shape)
    found = []
    for place in product(*(range(x.shape[a]) for a in axes)):
        for axis, k in zip(axes, place, strict=True):
            whole[axis] = slice(k, k + 1)
        found.append(x.apply(SLICE, **slice_attrs(tuple(whole), x.shape)))
    return found


def _few(x: Any, axes: Axes) -> bool:
    return 0 < numel([x.shape[a] for a in axes]) <= FEW and 0 not in x.shape


def _expansion(op: OpDef) -> Any:
    """How a reduction over a few elements is made of an op that takes all of them."""

    def expand(x: Any, *, axes: Axes, keepdim: bool) -> Any:
        if not _few(x, axes):
            return None
        first, *others = _taken_apart(x, axes)
        return first.apply(op, *others).apply(RESHAPE, shape=reduced(x.shape, axes, keepdim))

    return expand


def _largest_body(m: Any, *elements: Any) -> Any:
    return reduce(m.maximum, elements)


def _place_body(m: Any, *elements: Any) -> Any:
    best = elements[0]
    place = m.cast(m.const(0, best), uint8)
    for k, x in enumerate(elements[1:], 1):
        better = m.logical_and(m.logical_not(m.le(x, best)), m.eq(best, best))
        place = m.where(better, m.cast(m.const(k, best), uint8), place)
        best = m.where(better, x, best)
    return place


def _place_of_elements(*elements: Array) -> Array:
    return _place(np.stack(elements, -1), (elements[0].ndim,), False)


# Written by `expand` only.
LARGEST = OpDef(
    "largest", Kind.ELEMENTWISE, lambda *x: (x[0].shape, x[0].dtype),
    lambda *x: reduce(np.maximum, x), None, _largest_body, doc="The largest of several values.",
)  # fmt: skip
PLACE = OpDef(
    "place", Kind.ELEMENTWISE, lambda *x: (x[0].shape, uint8), _place_of_elements, None,
    _place_body, doc="Which of several values is the first of the largest ones.",
)  # fmt: skip


# the largest


def _infer(x: Spec, *, axes: Axes, keepdim: bool) -> tuple[Shape, DType]:
    if numel([x.shape[a] for a in axes]) == 0:
        raise ShapeError(f"first_max: shape {x.shape} has no elements along {axes}")
    return reduced(x.shape, axes, keepdim), x.dtype


def _reference(x: Array, *, axes: Axes, keepdim: bool) -> Array:
    largest: Any = np.maximum.reduce  # its stubs know no tuple of axes
    return np.asarray(largest(x, axis=axes, keepdims=keepdim), x.dtype)


def _vjp(g: Any, out: Any, x: Any, *, axes: Axes, keepdim: bool) -> Any:
    """To the first of the elements that are the extreme one, in C order over `axes`."""
    if not axes:
        return (g,)

    def chosen() -> Any:
        places, count = _places(x, axes)
        if _few(x, axes):
            first = x.apply(FIRST_PLACE, axes=axes, keepdim=True)
            places = places.to(first.dtype)
        else:
            top = (x == out.reshape(kept(x, axes))) | (x != x)
            first = places.expand(x.shape).where(top, count).amin(axes, keepdim=True)
        return g.reshape(kept(x, axes)).where(places == first, 0.0)

    return (chosen,)


def _places(x: Any, axes: Axes) -> tuple[Any, int]:
    """The position of each element in C order over `axes`, and how many there are."""
    place: Any = 0
    count = 1
    for axis in reversed(axes):
        extent = x.shape[axis]
        line = tuple(extent if i == axis else 1 for i in range(len(x.shape)))
        place = x._iota(line, axis) * count + place
        count *= extent
    return place, count


def _samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, axes in [
        ((2, 3, 4), (1,)), ((2, 3, 4), (0, 2)), ((2, 3, 4), (0, 1, 2)), ((5,), (0,)),
        ((3, 1), (1,)), ((2, 3, 2, 2), (1, 3)), ((3, 40), (1,)),
    ]:  # fmt: skip
        for keepdim in (False, True):
            yield Sample((rng.uniform(-2, 2, shape),), {"axes": axes, "keepdim": keepdim})


FIRST_MAX = register(
    OpDef(
        "first_max", Kind.REDUCE, _infer, _reference, vjp=_vjp, combine="maximum",
        expand=_expansion(LARGEST), associative=True, samples=_samples,
        grad_name="MaxPoolBackward",
        doc="The largest element over `axes`; NaN wins; the first of equal ones gets g.",
    )
)  # fmt: skip


# which one


def _place_infer(x: Spec, *, axes: Axes, keepdim: bool) -> tuple[Shape, DType]:
    if numel([x.shape[a] for a in axes]) == 0:
        raise ShapeError(f"first_place: shape {x.shape} has no elements along {axes}")
    return reduced(x.shape, axes, keepdim), uint8 if _few(x, axes) else int64


def _place(x: Array, axes: Axes, keepdim: bool) -> Array:
    rest = [a for a in range(x.ndim) if a not in axes]
    flat = x.transpose(*rest, *axes).reshape(*(x.shape[a] for a in rest), -1)
    found = np.asarray(flat.argmax(-1))
    dtype = _place_infer(_Shaped(x), axes=axes, keepdim=keepdim)[1]
    return found.reshape(reduced(x.shape, axes, keepdim)).astype(dtype.dtype)


class _Shaped:
    """An array as `infer` sees it."""

    def __init__(self, x: Array) -> None:
        self.shape, self.dtype = x.shape, as_dtype(x.dtype)


FIRST_PLACE = register(
    OpDef(
        "first_place", Kind.OPAQUE, _place_infer,
        lambda x, *, axes, keepdim: _place(x, axes, keepdim), expand=_expansion(PLACE),
        samples=_samples,
        doc="Which element over `axes`, in C order, is the first of the largest ones; NaN wins.",
    )
)  # fmt: skip
