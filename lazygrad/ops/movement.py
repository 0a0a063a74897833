"""Movement: the same elements under other positions.

Most of these are views: `view` maps a strided description of the input to one of the output, so
they compute nothing (a reshape that is no view of its input gives None and becomes a copy).
Attributes are canonical: axes non-negative, `slice` as (starts, stops, steps) with
`len(range(start, stop, step))` elements per axis, 0 <= start, and stop just past the last element
(so -1 after a walk down to 0); an empty axis is (0, 0, 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lazygrad.dtypes import DType
from lazygrad.errors import DTypeError, ShapeError
from lazygrad.ops.opdef import (
    Array,
    Kind,
    OpDef,
    Patch,
    Promotion,
    Sample,
    Spec,
    Strided,
    register,
)
from lazygrad.shapes import Shape, broadcast, numel, reshape_strides

Ints = tuple[int, ...]


def _view(name: str, infer: Any, reference: Any, vjp: Any, view: Any, **facts: Any) -> OpDef:
    return register(
        OpDef(name, Kind.VIEW, infer, reference, vjp=vjp, view=view, flops=0, **facts)
    )  # fmt: skip


# reshape


def _reshape_infer(x: Spec, *, shape: Shape) -> tuple[Shape, DType]:
    if numel(shape) != numel(x.shape):
        raise ShapeError(f"reshape: {x.shape} has {numel(x.shape)} elements, {shape} has not")
    return shape, x.dtype


def _reshape_view(x: Strided, *, shape: Shape) -> Strided | None:
    strides = reshape_strides(x.shape, x.strides, shape)
    return None if strides is None else Strided(shape, strides, x.offset)


def _reshape_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for old, new in [((2, 6), (3, 4)), ((6,), (2, 3)), ((1,), ()), ((0, 3), (0,)), ((4, 1), (4,))]:
        yield Sample((rng.uniform(-2, 2, old),), {"shape": new})


RESHAPE = _view(
    "reshape", _reshape_infer, lambda x, *, shape: x.reshape(shape),
    lambda g, out, x, *, shape: (g.reshape(x.shape),), _reshape_view,
    samples=_reshape_samples, grad_name="ViewBackward",
    doc="The elements in C order under another shape (already resolved, without -1).",
)  # fmt: skip

# permute


def _permute_infer(x: Spec, *, axes: Ints) -> tuple[Shape, DType]:
    if sorted(axes) != list(range(len(x.shape))):
        raise ShapeError(f"permute: {axes} is no permutation of the axes of {x.shape}")
    return tuple(x.shape[a] for a in axes), x.dtype


def _permute_view(x: Strided, *, axes: Ints) -> Strided:
    return Strided(
        tuple(x.shape[a] for a in axes), tuple(x.strides[a] for a in axes), x.offset
    )  # fmt: skip


def inverse_permutation(axes: Ints) -> Ints:
    """The permutation that undoes `axes`.

    >>> inverse_permutation((2, 0, 1))
    (1, 2, 0)
    """
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def _permute_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, axes in [((2, 3), (1, 0)), ((2, 3, 4), (2, 0, 1)), ((), ()), ((0, 2), (1, 0))]:
        yield Sample((rng.uniform(-2, 2, shape),), {"axes": axes})


PERMUTE = _view(
    "permute", _permute_infer, lambda x, *, axes: x.transpose(axes),
    lambda g, out, x, *, axes: (g.permute(inverse_permutation(axes)),), _permute_view,
    samples=_permute_samples, grad_name="PermuteBackward",
    doc="The axes in another order: axis i of the result is axis axes[i].",
)  # fmt: skip

# expand


def _expand_infer(x: Spec, *, shape: Shape) -> tuple[Shape, DType]:
    lead = len(shape) - len(x.shape)
    bad = lead < 0 or any(n not in (1, shape[lead + i]) for i, n in enumerate(x.shape))
    if bad or any(n < 0 for n in shape):
        raise ShapeError(f"expand: shape {x.shape} does not broadcast to {shape}")
    return shape, x.dtype


def _expand_view(x: Strided, *, shape: Shape) -> Strided:
    lead = len(shape) - len(x.shape)
    strides = tuple(
        s if n == shape[lead + i] else 0
        for i, (n, s) in enumerate(zip(x.shape, x.strides, strict=True))
    )
    return Strided(shape, (0,) * lead + strides, x.offset)


def _expand_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for old, new in [((3, 1), (3, 4)), ((3,), (2, 3)), ((), (2, 2)), ((1, 2), (0, 2))]:
        yield Sample((rng.uniform(-2, 2, old),), {"shape": new})


EXPAND = _view(
    "expand", _expand_infer, lambda x, *, shape: np.broadcast_to(x, shape),
    lambda g, out, x, *, shape: (g,), _expand_view,
    samples=_expand_samples, grad_name="ExpandBackward",
    doc="Axes of extent 1, and new leading axes, repeated without a copy.",
)  # fmt: skip

# slice


def canonical_slice(index: slice, extent: int) -> tuple[int, int, int]:
    """(start, stop, step) in the canonical form of the `slice` op.

    >>> canonical_slice(slice(None, None, -2), 5), canonical_slice(slice(1, 9), 4)
    ((4, -1, -2), (1, 4, 1))
    """
    walk = range(*index.indices(extent))
    if not walk:
        return 0, 0, 1
    if len(walk) == 1:
        return walk[0], walk[0] + 1, 1
    return walk[0], walk[-1] + (1 if walk.step > 0 else -1), walk.step


def numpy_slices(starts: Ints, stops: Ints, steps: Ints) -> tuple[slice, ...]:
    """Canonical (starts, stops, steps) as slices that NumPy understands."""
    return tuple(
        slice(a, None if b < 0 else b, c) for a, b, c in zip(starts, stops, steps, strict=True)
    )


def _sliced(starts: Ints, stops: Ints, steps: Ints) -> Shape:
    return tuple(len(range(*abc)) for abc in zip(starts, stops, steps, strict=True))


def _slice_infer(x: Spec, *, starts: Ints, stops: Ints, steps: Ints) -> tuple[Shape, DType]:
    if not len(starts) == len(stops) == len(steps) == len(x.shape):
        raise ShapeError(f"slice: one (start, stop, step) for each axis of {x.shape}")
    return _sliced(starts, stops, steps), x.dtype


def _slice_reference(x: Array, *, starts: Ints, stops: Ints, steps: Ints) -> Array:
    index: Any = (*numpy_slices(starts, stops, steps), ...)  # never an array scalar
    return np.asarray(x[index])


def _slice_view(x: Strided, *, starts: Ints, stops: Ints, steps: Ints) -> Strided:
    return Strided(
        _sliced(starts, stops, steps),
        tuple(s * step for s, step in zip(x.strides, steps, strict=True)),
        x.offset + sum(s * start for s, start in zip(x.strides, starts, strict=True)),
    )


def _slice_vjp(g: Any, out: Any, x: Any, **where: Ints) -> Any:
    return (Patch(g, **where),)


_SLICES: list[tuple[Shape, tuple[slice, ...]]] = [
    ((5,), (slice(1, 4),)),
    ((5, 4), (slice(None, None, -1), slice(0, 4, 3))),
    ((5, 4), (slice(2, 2), slice(None))),
    ((2, 3, 4), (slice(1, 2), slice(None), slice(-1, None, -2))),
    ((), ()),
]


def _slice_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, index in _SLICES:
        yield Sample((rng.uniform(-2, 2, shape),), slice_attrs(index, shape))


def slice_attrs(index: tuple[slice, ...], shape: Shape) -> dict[str, Ints]:
    """The attributes of a `slice` op that takes one slice per axis of `shape`."""
    parts = [canonical_slice(s, n) for s, n in zip(index, shape, strict=True)]
    starts, stops, steps = zip(*parts, strict=True) if parts else ((), (), ())
    return {"starts": starts, "stops": stops, "steps": steps}


SLICE = _view(
    "slice", _slice_infer, _slice_reference, _slice_vjp, _slice_view,
    samples=_slice_samples, grad_name="SliceBackward",
    doc="Every step-th element from start up to stop, along each axis.",
)  # fmt: skip


def _slice_set_infer(
    x: Spec, v: Spec, *, starts: Ints, stops: Ints, steps: Ints
) -> tuple[Shape, DType]:
    region = _sliced(starts, stops, steps)
    if v.dtype is not x.dtype:
        raise DTypeError(f"slice_set: {v.dtype} written into {x.dtype}")
    if broadcast(region, v.shape) != region:
        raise ShapeError(f"slice_set: a value of shape {v.shape} does not fit into {region}")
    return x.shape, x.dtype


def _slice_set_reference(
    x: Array, v: Array, *, starts: Ints, stops: Ints, steps: Ints
) -> Array:  # fmt: skip
    result = np.array(x)
    result[numpy_slices(starts, stops, steps)] = v
    return result


def _slice_set_vjp(g: Any, out: Any, x: Any, v: Any, **where: Ints) -> Any:
    zero = g.new_zeros(v.shape)
    return (lambda: g.apply(SLICE_SET, zero, **where), lambda: g.apply(SLICE, **where))


def _slice_set_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _slice_samples(rng):
        region = _sliced(**sample.attrs)
        for shape in {region, region[1:], tuple(1 for _ in region)}:
            yield Sample((*sample.arrays, rng.uniform(-2, 2, shape)), sample.attrs)


SLICE_SET = register(
    OpDef(
        "slice_set", Kind.OPAQUE, _slice_set_infer, _slice_set_reference, 2, None, _slice_set_vjp,
        flops=0, edits=True, reads="strided", samples=_slice_set_samples,
        grad_name="SliceSetBackward",
        doc="The first operand with the second one written over a slice of it.",
    )
)  # fmt: skip

# diagonal


def _diagonal_parts(shape: Shape, offset: int, axis1: int, axis2: int) -> tuple[int, int, int]:
    """Length, and the first row and column, of a diagonal."""
    row, column = max(-offset, 0), max(offset, 0)
    return max(min(shape[axis1] - row, shape[axis2] - column), 0), row, column


def _diagonal_infer(x: Spec, *, offset: int, axis1: int, axis2: int) -> tuple[Shape, DType]:
    if axis1 == axis2:
        raise ShapeError(f"diagonal: two different axes are needed, got {axis1} twice")
    length, _, _ = _diagonal_parts(x.shape, offset, axis1, axis2)
    rest = tuple(n for i, n in enumerate(x.shape) if i not in (axis1, axis2))
    return (*rest, length), x.dtype


def _diagonal_view(x: Strided, *, offset: int, axis1: int, axis2: int) -> Strided:
    length, row, column = _diagonal_parts(x.shape, offset, axis1, axis2)
    rest = [i for i in range(len(x.shape)) if i not in (axis1, axis2)]
    start = row * x.strides[axis1] + column * x.strides[axis2] if length else 0
    return Strided(
        (*[x.shape[i] for i in rest], length),
        (*[x.strides[i] for i in rest], x.strides[axis1] + x.strides[axis2]),
        x.offset + start,
    )


def _diagonal_vjp(g: Any, out: Any, x: Any, *, offset: int, axis1: int, axis2: int) -> Any:
    """The cotangent on the diagonal: g repeated over the rows, under a mask."""

    def back() -> Any:
        rows, columns = x.shape[axis1], x.shape[axis2]
        length, row, _ = _diagonal_parts(x.shape, offset, axis1, axis2)
        n = len(g.shape)
        padded = g.apply(PAD, pads=((0, 0),) * (n - 1) + ((row, rows - row - length),), value=0.0)
        spread = padded.unsqueeze(-1).expand((*padded.shape, columns))
        placed = spread * spread.new_eye(rows, columns, offset)
        order = [i for i in range(n + 1) if i not in (axis1, axis2)] + [axis1, axis2]
        return placed.permute(inverse_permutation(tuple(order)))

    return (back,)


def _diagonal_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, offset, i, j in [
        ((3, 3), 0, 0, 1), ((3, 4), 1, 0, 1), ((4, 2, 3), -1, 0, 2), ((2, 3, 2), 0, 2, 1)
    ]:  # fmt: skip
        attrs = {"offset": offset, "axis1": i, "axis2": j}
        yield Sample((rng.uniform(-2, 2, shape),), attrs)


DIAGONAL = _view(
    "diagonal", _diagonal_infer,
    lambda x, *, offset, axis1, axis2: np.diagonal(x, offset, axis1, axis2),
    _diagonal_vjp, _diagonal_view, samples=_diagonal_samples, grad_name="DiagonalBackward",
    doc="The elements [i, i + offset] of two axes, as a new last axis.",
)  # fmt: skip

# pad and cat: these copy


def _pad_infer(x: Spec, *, pads: tuple[tuple[int, int], ...], value: float) -> tuple[Shape, DType]:
    if len(pads) != len(x.shape) or any(n < 0 for pair in pads for n in pair):
        raise ShapeError(f"pad: one (before, after) >= 0 for each axis of {x.shape}, got {pads}")
    return tuple(n + a + b for n, (a, b) in zip(x.shape, pads, strict=True)), x.dtype


def _pad_reference(x: Array, *, pads: tuple[tuple[int, int], ...], value: float) -> Array:
    return np.pad(x, pads, constant_values=x.dtype.type(value)) if pads else x


def _pad_vjp(
    g: Any, out: Any, x: Any, *, pads: tuple[tuple[int, int], ...], value: float
) -> Any:  # fmt: skip
    index = tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, pads, strict=True))
    return (g.apply(SLICE, **slice_attrs(index, g.shape)),)


def _pad_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, pads in [((3,), ((1, 2),)), ((2, 3), ((0, 1), (2, 0))), ((), ()), ((0,), ((1, 1),))]:
        yield Sample((rng.uniform(-2, 2, shape),), {"pads": pads, "value": 0.5})


PAD = register(
    OpDef(
        "pad", Kind.OPAQUE, _pad_infer, _pad_reference, vjp=_pad_vjp, flops=0, reads="strided",
        samples=_pad_samples, grad_name="ConstantPadBackward",
        doc="`value` put before and after the elements of each axis.",
    )
)  # fmt: skip


def _cat_infer(*inputs: Spec, axis: int) -> tuple[Shape, DType]:
    if not inputs:
        raise ShapeError("cat: at least one tensor is needed")
    first = inputs[0]
    total = 0
    for x in inputs:
        if x.dtype is not first.dtype:
            raise DTypeError(f"cat: dtypes {first.dtype} and {x.dtype} differ")
        others = [s[:axis] + s[axis + 1 :] for s in (first.shape, x.shape)]
        if len(x.shape) != len(first.shape) or others[0] != others[1]:
            raise ShapeError(
                f"cat: shapes {first.shape} and {x.shape} differ outside of axis {axis}"
            )
        total += x.shape[axis]
    return (*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype


def _cat_vjp(g: Any, out: Any, *inputs: Any, axis: int) -> Any:
    def part(start: int, stop: int) -> Any:
        index = tuple(slice(start, stop) if i == axis else slice(None) for i in range(g.ndim))
        return lambda: g.apply(SLICE, **slice_attrs(index, g.shape))

    parts, start = [], 0
    for x in inputs:
        parts.append(part(start, start + x.shape[axis]))
        start += x.shape[axis]
    return parts


def _cat_samples(rng: np.random.Generator) -> Iterator[Sample]:
    cases: list[tuple[list[Shape], int]] = [
        ([(2, 3), (2, 1)], 1), ([(3,), (0,), (2,)], 0), ([(1, 2)] * 3, 0), ([(2,)], 0)
    ]  # fmt: skip
    for shapes, axis in cases:
        yield Sample(tuple(rng.uniform(-2, 2, s) for s in shapes), {"axis": axis})


CAT = register(
    OpDef(
        "cat", Kind.OPAQUE, _cat_infer, lambda *x, axis: np.concatenate(x, axis), None, None,
        _cat_vjp, Promotion.COMMON, flops=0, reads="strided", samples=_cat_samples,
        grad_name="CatBackward",
        doc="Several tensors one after the other along `axis`.",
    )
)  # fmt: skip
