"""Indexing: `x[key]` and `x[key] = value` as compositions of slice, reshape and index ops.

A key is taken apart once. Integers, slices, None and ... make the basic part: one `slice`, then a
reshape that drops the axes of integers and adds those of None. What is left are index arrays over
some axes; those axes are permuted to the front and read by one `index`. The rules are PyTorch's
(and NumPy's, except that an integer beside index arrays selects first, as PyTorch does).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.dtypes import INTEGER, bool_
from lazygrad.engine.graph import HOOKS
from lazygrad.engine.methods.base import Methods
from lazygrad.engine.modes import STATE
from lazygrad.errors import CaptureError, DTypeError, IndexOutOfRangeError, ShapeError
from lazygrad.ops import index as ops
from lazygrad.ops.effect import CHECK_INDEX, check_index
from lazygrad.ops.movement import SLICE_SET, inverse_permutation, slice_attrs
from lazygrad.shapes import Shape, broadcast, numel

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

Arrays = dict[int, Any]  # axis of the result of the basic part -> index tensor or host array


def checked(index: Tensor, size: int, what: str, low: int = 0, of: str = "") -> Tensor:
    """Integer positions with a check at run time that they lie in [low, size)."""
    if index.dtype.category != INTEGER:
        raise DTypeError(f"{what} must be integers, got {index.dtype}")
    return index.apply(CHECK_INDEX, low=low, high=size, what=what, of=of)


def vetted(x: Tensor, good: Tensor, what: str) -> Tensor:
    """`x`, with a check at run time that `good` holds everywhere; `what` is said if not."""
    number = good.logical_not().sum().apply(CHECK_INDEX, low=0, high=1, what=f"{what}, counted:")
    return x.where(number == 0, math.nan)


@dataclass
class Basic:
    """The basic part of a key: one slice per axis, and the shape that remains.

    `region` is the shape that it covers: axes of integers as 1, without those of None.
    """

    slices: tuple[slice, ...]
    shape: Shape
    region: Shape


def _is_array(item: Any) -> bool:
    return isinstance(item, Methods | np.ndarray | list | tuple | range)


def _host(item: Any) -> Any:
    """Lists and arrays of the host as arrays; tensors as they are."""
    if isinstance(item, Methods):
        return item
    if isinstance(item, list | tuple) and any(isinstance(x, Methods) for x in item):
        item = [x.item() if isinstance(x, Methods) else x for x in item]
    array = np.asarray(item)
    if array.size == 0 and not isinstance(item, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub":
        raise DTypeError(f"index: arrays of integers or bools can index, got {array.dtype}")
    return array


def _is_mask(item: Any) -> bool:
    return bool(item.dtype is bool_ if isinstance(item, Methods) else item.dtype == bool)


def _flag(item: Any) -> Any:
    """A mask without dimensions as the bool that it is; everything else as it is."""
    if item.ndim or not _is_mask(item):
        return item
    if isinstance(item, Methods) and STATE.capture is not None:
        raise CaptureError(
            "x[flag] inside a captured function: whether it has elements depends on a value; use"
            " lg.where(flag, x, 0)"
        )
    return bool(item.item())


def _expanded(key: Any, ndim: int) -> list[Any]:
    """The key as a list with one item per axis, None apart; masks stand for several axes."""
    items = list(key) if isinstance(key, tuple) else [key]
    items = [_flag(_host(i)) if _is_array(i) else i for i in items]
    used = 0
    for item in items:
        if _is_array(item):
            used += item.ndim if _is_mask(item) else 1
        elif item is not None and item is not Ellipsis and not isinstance(item, bool | np.bool_):
            used += 1
    if used > ndim:
        raise IndexOutOfRangeError(
            f"index: too many indices: the tensor has {ndim} dimensions, {used} are used"
        )
    # The first ... stands for the axes that are left, and any other for none, as in PyTorch.
    place = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    rest = [slice(None)] * (ndim - used)
    return items[:place] + rest + [item for item in items[place:] if item is not Ellipsis]


def _of(axis: int, size: int) -> str:
    return f"for axis {axis} with {size} elements"


def _integer(item: Any, size: int, axis: int) -> int:
    if isinstance(item, str) or not hasattr(item, "__index__"):
        raise DTypeError(f"index: {type(item).__name__} cannot index a tensor ({item!r:.40})")
    position: int = item.__index__()
    if not -size <= position < size:
        raise IndexOutOfRangeError(f"index {position} is out of range {_of(axis, size)}")
    return position % size


def _slice(item: slice) -> slice:
    parts = [p if p is None else p.__index__() for p in (item.start, item.stop, item.step)]
    if parts[2] == 0:
        raise ShapeError("index: the step of a slice cannot be 0")
    return slice(*parts)


def _covered(mask: Any, shape: Shape, axis: int) -> None:
    """Raise unless a mask has the shape of the axes that it covers."""
    covered = shape[axis : axis + mask.ndim]
    if tuple(mask.shape) != covered:
        raise ShapeError(f"index: a mask of shape {tuple(mask.shape)} for axes of shape {covered}")


def _positions(item: Any, shape: Shape, axis: int) -> list[Any]:
    """An index array as integer arrays, one per axis that it covers, checked."""
    if _is_mask(item):
        _covered(item, shape, axis)
        if isinstance(item, Methods) and STATE.capture is not None:
            raise CaptureError(
                "x[mask] inside a captured function: how many elements it has depends on values;"
                " use lg.where(mask, x, 0), masked_select(mask, size=n), or the rows"
                " mask.nonzero(size=n)"
            )
        mask = item.numpy() if isinstance(item, Methods) else item
        return list(np.nonzero(mask))
    size = shape[axis]
    if isinstance(item, Methods):
        return [checked(item._self, size, "index", -size, _of(axis, size))]
    check_index(item, low=-size, high=size, what="index", of=_of(axis, size))
    return [np.where(item < 0, item + size, item).astype(np.int64)]


def parse(key: Any, shape: Shape) -> tuple[Basic, Arrays]:
    """The basic part and the index arrays of a key for a tensor of `shape`."""
    slices: list[slice] = []
    out: list[int] = []
    region: list[int] = []
    arrays: Arrays = {}
    for item in _expanded(key, len(shape)):
        axis = len(slices)
        if item is None or item is True or item is np.True_:
            out.append(1)
        elif isinstance(item, bool | np.bool_):
            out.append(0)
        elif _is_array(item):
            for positions in _positions(item, shape, axis):
                arrays[len(out)] = positions
                size = shape[len(slices)]
                slices.append(slice(None))
                region.append(size)
                out.append(size)
        elif isinstance(item, slice):
            part = _slice(item)
            size = len(range(*part.indices(shape[axis])))
            slices.append(part)
            region.append(size)
            out.append(size)
        else:
            position = _integer(item, shape[axis], axis)
            slices.append(slice(position, position + 1))
            region.append(1)
    return Basic(tuple(slices), tuple(out), tuple(region)), arrays


@dataclass
class Advanced:
    """Index arrays brought into form: tensors over the leading axes of a permuted operand."""

    indices: list[Tensor]
    front: tuple[int, ...]  # the permutation that brings the indexed axes to the front
    after: tuple[int, ...]  # the permutation of the result that puts them back


def arrange(arrays: Arrays, shape: Shape) -> Advanced:
    """How to read `arrays` (by axis) from an operand of `shape`."""
    axes = sorted(arrays)
    indices = [
        a._self if isinstance(a, Methods) else HOOKS.tensor(a) for a in map(arrays.get, axes)
    ]
    rest = [i for i in range(len(shape)) if i not in arrays]
    rank = len(broadcast(*[i.shape for i in indices]))
    # Where their axes stand once 0-d arrays, which select as integers do, have dropped theirs.
    vectors, dropped = [], 0
    for axis, index in zip(axes, indices, strict=True):
        if index.ndim:
            vectors.append(axis - dropped)
        else:
            dropped += 1
    adjacent = bool(vectors) and vectors[-1] - vectors[0] == len(vectors) - 1
    place = vectors[0] if adjacent else 0
    after = [*range(rank, rank + place), *range(rank), *range(rank + place, rank + len(rest))]
    return Advanced(indices, (*axes, *rest), tuple(after))


def read(x: Tensor, key: Any) -> Tensor:
    """`x[key]`."""
    basic, arrays = parse(key, x.shape)
    y = x._slice(basic.slices)
    y = y.reshape(basic.shape) if 0 not in basic.shape or 0 in y.shape else _nothing(y, basic)
    if not arrays:
        return y
    form = arrange(arrays, y.shape)
    found = y.permute(form.front).apply(ops.INDEX, *form.indices)
    return found.permute(form.after)


def _nothing(y: Tensor, basic: Basic) -> Tensor:
    """A read through the index False: no elements."""
    return y.reshape(-1)._slice([slice(0, 0)]).reshape(basic.shape)


def _fitted(value: Tensor, shape: Shape) -> Tensor:
    """`value` broadcast to `shape`; leading axes of size 1 that are too many are dropped."""
    while value.ndim > len(shape) and value.shape[0] == 1:
        value = value.squeeze(0)
    if broadcast_or_none(value.shape, shape) != shape:
        raise ShapeError(f"setitem: a value of shape {value.shape} does not fit into {shape}")
    return value.expand(shape)


def broadcast_or_none(a: Shape, b: Shape) -> Shape | None:
    """The broadcast shape, or None when there is none."""
    try:
        return broadcast(a, b)
    except ShapeError:
        return None


def _single_mask(key: Any) -> Any:
    """The mask, when the key is nothing but one."""
    items = key if isinstance(key, tuple) else (key,)
    if len(items) == 1 and _is_array(items[0]):
        item = _host(items[0])
        if _is_mask(item):
            return item
    return None


def write(x: Tensor, key: Any, value: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of `x` with `value` (of its dtype) written where `x[key]` reads."""
    mask = _single_mask(key)
    if mask is not None and not accumulate:
        if value.ndim == 0:
            return _write_masked(x, mask, value)
        if isinstance(mask, Methods) and STATE.capture is not None:
            return _write_rows(x, mask._self, value)
    basic, arrays = parse(key, x.shape)
    attrs = slice_attrs(basic.slices, x.shape)
    if not arrays:
        if accumulate:
            value = read(x, key) + value
        fitted = _fitted(value, basic.shape)
        if 0 in basic.shape and 0 not in basic.region:  # the index False: nothing is written
            return x
        region = fitted.reshape(basic.region)
        return x.apply(SLICE_SET, region, **attrs)
    whole = all(s.indices(n) == (0, n, 1) for s, n in zip(basic.slices, x.shape, strict=True))
    inner = x if whole else x._slice(basic.slices)
    part = inner.reshape(basic.shape)
    form = arrange(arrays, part.shape)
    ((axis, index), *more) = arrays.items()
    if not more and axis and numel(index.shape) == 1:  # one position of an axis, in place
        slot = tuple(1 if a == axis else n for a, n in enumerate(part.shape))
        target = (*slot[:axis], *index.shape, *slot[axis + 1 :])
        at = form.indices[0].reshape(()).expand(slot)
        fitted = _fitted(value, target).reshape(slot)
        put = part.apply(ops.SCATTER, at, fitted, axis=axis, accumulate=accumulate)
        back = put.reshape(basic.region)
        return back if inner is x else x.apply(SLICE_SET, back, **attrs)
    turned = part.permute(form.front)
    lead = broadcast(*[i.shape for i in form.indices])
    target = tuple((*lead, *turned.shape[len(arrays) :])[a] for a in form.after)
    fitted = _fitted(value, target).permute(inverse_permutation(form.after))
    put = turned.apply(ops.INDEX_PUT, fitted, *form.indices, accumulate=accumulate)
    back = put.permute(inverse_permutation(form.front)).reshape(basic.region)
    return back if inner is x else x.apply(SLICE_SET, back, **attrs)


def placed(x: Tensor, flags: Tensor, rows: Tensor, exactly: bool = False) -> Tensor:
    """`x` with successive rows of `rows` where `flags`, over its first axis, hold.

    That there are enough of them (as many, if `exactly`) is checked when the program runs.
    """
    count, total = rows.shape[0], x.shape[0]
    what = f"masked write of {count} values: the number of true elements"
    least = count if exactly else 0
    number = flags.sum().apply(CHECK_INDEX, low=least, high=count + 1, what=what)
    if not count or not total:
        return x
    place = (flags.cumsum(0) - 1).minimum(number - 1).clamp(0, count - 1)
    shape = (total, *[1] * (x.ndim - 1))
    return rows.apply(ops.INDEX, place).where(flags.reshape(shape), x)


def _write_rows(x: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    """`x[mask] = values` without reading the mask: `values` says how many there are."""
    _covered(mask, x.shape, 0)
    rest = x.shape[mask.ndim :]
    lead = value.shape[0] if value.ndim > len(rest) else 1
    flat = mask.reshape(-1)
    if lead == 1:  # one row for all
        row = _fitted(value, rest) if value.ndim <= len(rest) else _fitted(value[0], rest)
        return row.where(mask.reshape((*mask.shape, *[1] * len(rest))), x)
    rows = _fitted(value, (lead, *rest))
    return placed(x.reshape((-1, *rest)), flat, rows, exactly=True).reshape(x.shape)


def _write_masked(x: Tensor, mask: Any, value: Tensor) -> Tensor:
    """`x[mask] = number`: elementwise, so that nothing has to be read."""
    shape = tuple(mask.shape)
    _covered(mask, x.shape, 0)
    flags = x._lift(mask).reshape((*shape, *[1] * (x.ndim - len(shape))))
    return x.masked_fill(flags, value)
