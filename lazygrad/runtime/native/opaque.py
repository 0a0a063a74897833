"""Ops that are no stages, as units: copies and reads at positions that are data become stages.

Pad, cat and slice assignment are maps over parts of their result. A read at indices is two maps:
one makes offsets of the indices, in scratch of the chunk, one loads through them. They have been
checked before; here a wrong one reads element 0, and nothing outside of the buffer. A write at
indices is a copy, and code of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

from lazygrad.dtypes import bool_, int64
from lazygrad.ops.attention import ATTENTION, ATTENTION_BACK
from lazygrad.ops.effect import CHECK_INDEX
from lazygrad.ops.index import GATHER, INDEX, INDEX_PUT, SCATTER
from lazygrad.ops.movement import CAT, PAD, SLICE_SET
from lazygrad.ops.opdef import OpDef
from lazygrad.ops.random import PHILOX
from lazygrad.ops.scalar_math import Instr, Recorder, Ref
from lazygrad.ops.windows import FOLD
from lazygrad.runtime.kernel import Access, Body, Extern, Grid, Kernel, Map, Scratch, Store
from lazygrad.runtime.native.attention import attention_units
from lazygrad.runtime.native.checks import check_units
from lazygrad.runtime.native.conversions import HALVES
from lazygrad.runtime.native.philox import philox_units
from lazygrad.runtime.native.rows import row_units
from lazygrad.runtime.native.scatter import Part, scatter_unit
from lazygrad.runtime.native.unit import Unit, Unsupported
from lazygrad.shapes import Shape, broadcast, contiguous_strides, numel

Operand = tuple[Access, Shape]
_TAPS = 64  # elements of a window, each of which is a loop in the code


def extern_units(kernel: Kernel, stage: Extern) -> list[Unit]:
    """The units of an op without stages; raises `Unsupported` where only the reference knows it."""
    rule = _RULES.get(stage.op)
    if rule is None:
        raise Unsupported(f"{stage.op.name} runs through its reference")
    return rule(kernel, stage)


def _alone(kernel: Kernel, *maps: Map, rows: int = 1, scratch: int = 0) -> list[Unit]:
    """The unit of some maps, that share int64 scratch of `scratch` elements a row."""
    held = (Scratch(int64, scratch),) if scratch else ()
    alone = replace(kernel, grid=Grid(rows, max(rows, 1)), stages=maps, scratch=held)
    return [replace(unit, checks=False) for unit in row_units(alone)]


def _copy(kernel: Kernel, source: Operand, target: Access) -> list[Unit]:
    """The unit that copies an operand to a part of the result."""
    access, shape = source
    dtype = kernel.params[access.buffer].dtype
    loads = replace(access, strides=(0, *access.strides))
    to = replace(target, strides=(0, *target.strides))
    return _alone(kernel, Map((1, *shape), Body((loads,), (dtype,)), (Store(to, 0),)))


def _pad(kernel: Kernel, stage: Extern) -> list[Unit]:
    (source, shape, dtype), (target, whole, _) = stage.inputs[0], stage.output
    attrs = stage.attributes()
    const = Body((), (), (Instr("const", (), dtype, attrs["value"]),))
    everywhere = replace(target, strides=(0, *target.strides))
    units = _alone(kernel, Map((1, *whole), const, (Store(everywhere, 0),)))
    start = sum(s * before for s, (before, _) in zip(target.strides, attrs["pads"], strict=True))
    inside = replace(target, offset=target.offset + start)
    return units + _copy(kernel, (source, shape), inside)


def _cat(kernel: Kernel, stage: Extern) -> list[Unit]:
    target, axis = stage.output[0], stage.attributes()["axis"]
    units, at = [], 0
    for source, shape, _ in stage.inputs:
        part = replace(target, offset=target.offset + at * target.strides[axis])
        units += _copy(kernel, (source, shape), part)
        at += shape[axis]
    return units


def _slice_set(kernel: Kernel, stage: Extern) -> list[Unit]:
    (x, whole, _), (v, shape, _) = stage.inputs
    target, attrs = stage.output[0], stage.attributes()
    starts, stops, steps = attrs["starts"], attrs["stops"], attrs["steps"]
    units = [] if x == target else _copy(kernel, (x, whole), target)
    region = tuple(len(range(*span)) for span in zip(starts, stops, steps, strict=True))
    offset = sum(s * start for s, start in zip(target.strides, starts, strict=True))
    strides = tuple(s * step for s, step in zip(target.strides, steps, strict=True))
    to = replace(target, offset=target.offset + offset, strides=strides)
    return units + _copy(kernel, (_spread(v, shape, region), region), to)


def _fold(kernel: Kernel, stage: Extern) -> list[Unit]:
    """Zeros, then the elements of all windows at one place after the other, row by row."""
    (x, shape, dtype), (target, whole, _) = stage.inputs[0], stage.output
    attrs = stage.attributes()
    axes, steps, dilations = attrs["axes"], attrs["steps"], attrs["dilations"]
    counts, sizes = shape[: len(whole)], shape[len(whole) :]
    if dtype in HALVES:
        raise Unsupported("sums of windows in half precision")
    if numel(sizes) > _TAPS:
        raise Unsupported(f"the sum of windows of {numel(sizes)} elements")
    lead = axes[0] if axes and 0 not in whole else 0
    if any(
        s[a] != whole[a + 1] * s[a + 1]
        for s in (x.strides, target.strides)
        for a in range(lead - 1)
    ):
        lead = 0
    rows = numel(whole[:lead])
    own, far = x.strides[: len(whole)], x.strides[len(whole) :]

    def over(access: Access, strides: Sequence[int], offset: int) -> Access:
        """Over rows of the leading axes, which are dense, and the axes behind them."""
        row = strides[lead - 1] if lead else 0
        return replace(access, strides=(row, *strides[lead:]), offset=access.offset + offset)

    spread = list(target.strides)
    for axis, step in zip(axes, steps, strict=True):
        spread[axis] *= step
    zero = Body((), (), (Instr("const", (), dtype, 0),))
    maps = [Map((rows, *whole[lead:]), zero, (Store(over(target, target.strides, 0), 0),))]
    added = (Instr("add", (0, 1), dtype),) if dtype is not bool_ else (
        Instr("logical_or", (0, 1), dtype),
    )  # fmt: skip
    for place in product(*map(range, sizes)):
        start = sum(
            k * d * target.strides[a] for k, d, a in zip(place, dilations, axes, strict=True)
        )
        to = over(target, spread, start)
        come = over(x, own, sum(k * s for k, s in zip(place, far, strict=True)))
        body = Body((to, come), (dtype, dtype), added)
        maps.append(Map((rows, *counts[lead:]), body, (Store(to, 2),)))
    return _alone(kernel, *maps, rows=rows)


def _spread(access: Access, shape: Shape, domain: Shape) -> Access:
    """An access broadcast over a larger domain."""
    lead = len(domain) - len(shape)
    strides = tuple(0 if n == 1 else s for n, s in zip(shape, access.strides, strict=True))
    return replace(access, strides=(*(0 for _ in range(lead)), *strides))


def _offsets(kernel: Kernel, parts: Sequence[tuple[Access, int, int]], domain: Shape) -> Map:
    """Store sum(index * stride) over parts (index, extent, stride); negative indices wrap."""
    dtypes = tuple(kernel.params[a.buffer].dtype for a, _, _ in parts)
    m = Recorder(list(dtypes))
    total: Ref | None = None
    for i, (_, extent, stride) in zip(m.inputs, parts, strict=True):
        wide = m.cast(i, int64)
        wrapped = m.where(m.lt(wide, 0), m.add(wide, extent), wide) if i.dtype.is_signed else wide
        term = m.mul(wrapped, stride)
        total = term if total is None else m.add(total, term)
    assert total is not None
    scratch = Access(len(kernel.params), contiguous_strides(domain))
    body = Body(tuple(a for a, _, _ in parts), dtypes, tuple(m.instrs))
    return Map(domain, body, (Store(scratch, total.index),))


def _index(kernel: Kernel, stage: Extern) -> list[Unit]:
    (x, shape, _), *indices = stage.inputs
    lead, rest = shape[: len(indices)], shape[len(indices) :]
    positions = broadcast(*[s for _, s, _ in indices])
    parts = [
        (_spread(a, s, positions), n, stride)
        for (a, s, _), n, stride in zip(indices, lead, x.strides, strict=False)
    ]
    moved = (*(0 for _ in positions), *x.strides[len(indices) :])
    reach = 1 + sum((n - 1) * s for n, s in zip(lead, x.strides, strict=False))
    return _read(kernel, parts, positions, rest, replace(x, strides=moved), reach, stage.output[0])


def _gather(kernel: Kernel, stage: Extern) -> list[Unit]:
    (x, shape, _), (index, positions, _) = stage.inputs
    axis = stage.attributes()["axis"]
    parts = [(index, shape[axis], x.strides[axis])]
    still = tuple(0 if a == axis else s for a, s in enumerate(x.strides))
    reach = 1 + (shape[axis] - 1) * x.strides[axis]
    return _read(kernel, parts, positions, (), replace(x, strides=still), reach, stage.output[0])


def _read(
    kernel: Kernel, parts: Sequence[tuple[Access, int, int]], positions: Shape, rest: Shape,
    x: Access, reach: int, target: Access,
) -> list[Unit]:  # fmt: skip
    """Load through offsets that lie in 0..reach - 1."""
    if any(stride < 0 for _, _, stride in parts):
        raise Unsupported("a read at indices of a reversed axis")
    if 0 in (*positions, *rest):
        return []
    whole = positions or (1,)
    if not positions:
        parts = [(replace(a, strides=(0,)), n, s) for a, n, s in parts]
        x = replace(x, strides=(0, *x.strides))
        target = replace(target, strides=(0, *target.strides))
    dense = contiguous_strides(whole)
    at = Access(len(kernel.params), (*dense, *(0 for _ in rest)))
    x = replace(x, index=0, index_stride=1, index_extent=max(reach, 0))
    body = Body((at, x), (int64, kernel.params[x.buffer].dtype))
    load = Map((*whole, *rest), body, (Store(target, 1),))
    return _alone(kernel, _offsets(kernel, parts, whole), load, rows=whole[0], scratch=dense[0])


def _index_put(kernel: Kernel, stage: Extern) -> list[Unit]:
    (_, shape, _), (v, given, _), *indices = stage.inputs
    target, lead = stage.output[0], shape[: len(indices)]
    positions, rest = broadcast(*[s for _, s, _ in indices]), shape[len(indices) :]
    parts = [
        (_spread(a, s, positions), kind, n, stride)
        for (a, s, kind), n, stride in zip(indices, lead, target.strides, strict=False)
    ]
    moved = (*(0 for _ in positions), *target.strides[len(indices) :])
    value = _spread(v, given, (*positions, *rest))
    return _write(kernel, stage, parts, positions, rest, value, replace(target, strides=moved))


def _scatter(kernel: Kernel, stage: Extern) -> list[Unit]:
    (_, shape, _), (index, positions, kind), (v, _, _) = stage.inputs
    target, axis = stage.output[0], stage.attributes()["axis"]
    parts = [(index, kind, shape[axis], target.strides[axis])]
    still = tuple(0 if a == axis else s for a, s in enumerate(target.strides))
    return _write(kernel, stage, parts, positions, (), v, replace(target, strides=still))


def _write(
    kernel: Kernel, stage: Extern, parts: Sequence[Part], positions: Shape, rest: Shape,
    value: Access, target: Access,
) -> list[Unit]:  # fmt: skip
    """Copy the first operand to the result, then write or add values."""
    (x, whole, dtype), accumulate = stage.inputs[0], stage.attributes()["accumulate"]
    if accumulate and dtype in HALVES:
        raise Unsupported("sums in half precision at indices")
    units = [] if x == stage.output[0] else _copy(kernel, (x, whole), stage.output[0])
    if 0 in (*positions, *rest):
        return units
    return [*units, scatter_unit(dtype, positions, rest, parts, value, target, accumulate)]


_RULES: dict[OpDef, Callable[[Kernel, Extern], list[Unit]]] = {
    CHECK_INDEX: check_units, PHILOX: philox_units, PAD: _pad, CAT: _cat, SLICE_SET: _slice_set,
    FOLD: _fold, INDEX: _index, GATHER: _gather, INDEX_PUT: _index_put, SCATTER: _scatter,
    ATTENTION: attention_units, ATTENTION_BACK: attention_units,
}  # fmt: skip
