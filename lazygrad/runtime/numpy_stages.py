"""The stages of a kernel as NumPy statements: Map, Reduce, Contract, Extern.

Reductions always see a dense operand in C order whose neighbouring axes of one kind are merged:
then `ufunc.reduce` gives each row the same bits wherever the rows are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from lazygrad.ops.opdef import Kind, OpDef
from lazygrad.ops.scalar_math import WORDS
from lazygrad.runtime.kernel import POSITIONS, Access, Body, Contract, Extern, Map, Reduce, Stage
from lazygrad.runtime.numpy_body import BodyWriter
from lazygrad.runtime.numpy_frame import Frame, make_frame
from lazygrad.runtime.numpy_gemm import emit_gemm
from lazygrad.runtime.numpy_plan import Const, NumpyDType, Plan, View, Work, constant
from lazygrad.runtime.numpy_words import emit_copy
from lazygrad.shapes import Shape, numel

_INT64 = np.dtype(np.int64)
T = TypeVar("T")


def emit_stage(plan: Plan, stage: Stage) -> None:
    """Append the statements of one stage."""
    match stage:
        case Map():
            emit_map(plan, stage)
        case Reduce():
            emit_reduce(plan, stage)
        case Contract():
            emit_contract(plan, stage)
        case Extern():
            emit_extern(plan, stage)


def _domain(plan: Plan, domain: Shape) -> Shape:
    """The domain of one chunk."""
    return (plan.rows, *domain[1:]) if plan.cut else domain


def _moves(body: Body, rank: int) -> list[tuple[int, ...]]:
    """The strides of a body's loads, and one unit vector per position that it reads."""
    strides = [access.strides for access in body.loads]
    for instr in body.instrs:
        if instr.word == "index":
            strides.append(tuple(int(axis == instr.value) for axis in range(rank)))
    return strides


def _whole(plan: Plan, frame: Frame, access: Access) -> View:
    """The view of a store over the whole frame."""
    return plan.view(access, frame.shape, frame.strides(access.strides), frame.rows)


def emit_map(plan: Plan, stage: Map) -> None:
    """A body at every point."""
    domain = _domain(plan, stage.domain)
    moves = _moves(stage.body, len(domain)) + [s.access.strides for s in stage.stores]
    frame = make_frame(domain, moves, plan.cut)
    writer = BodyWriter(plan, frame, stage.body)
    writer.write([(s.value, _whole(plan, frame, s.access)) for s in stage.stores])


# ---------------------------------------------------------------------- Reduce


def emit_reduce(plan: Plan, stage: Reduce) -> None:
    """A body at every point, combined over axes."""
    domain = _domain(plan, stage.domain)
    marks = tuple(int(a in stage.axes) for a in range(len(domain)))
    frame = make_frame(domain, _moves(stage.body, len(domain)), plan.cut, marks)
    operand = _dense_value(plan, frame, stage)
    groups = _merged(frame, marks)
    shape = tuple(numel([domain[a] for a in g]) for g in groups)
    operand = operand.reshaped(shape, shape[0] // domain[0] if plan.cut and domain[0] else 0)
    axes = [i for i, g in enumerate(groups) if marks[g[-1]]]
    kept = [g for g in groups if not marks[g[-1]]]
    out = _reduced_view(plan, domain, kept, stage.store)
    dtype = _INT64 if stage.is_position else operand.dtype
    place = (
        out if out is not None and out.dtype == dtype else _reduced_temp(plan, domain, kept, dtype)
    )
    _emit_combine(plan, stage.combine, operand, axes, place)
    if place is not out:
        axes_kept = tuple(a for g in kept for a in g)
        rows = int(plan.cut and 0 in axes_kept)
        fine = tuple(domain[a] for a in axes_kept)
        target = plan.view(stage.store, fine, [stage.store.strides[a] for a in axes_kept], rows)
        emit_copy(plan, place.reshaped(fine, rows), target)


def _dense_value(plan: Plan, frame: Frame, stage: Reduce) -> View:
    """The reduced value over the whole frame, dense, in the accumulator's dtype."""
    writer = BodyWriter(plan, frame, stage.body)
    plain, dtype = writer.plain(stage.value), stage.dtype.dtype
    whole = plain is not None and all(writer.varies(stage.value))
    if plain is not None and whole and plain.contiguous and plain.dtype == dtype:
        return plain
    dense = plan.temp(frame.shape, dtype, frame.rows)
    writer.write([(stage.value, dense)])
    return dense


def _merged(frame: Frame, marks: Sequence[int]) -> list[list[int]]:
    """The axes of the domain, neighbours of one kind (reduced or kept) in one group."""
    groups: list[list[int]] = []
    for group in frame.groups:
        if groups and marks[groups[-1][-1]] == marks[group[-1]]:
            groups[-1].extend(group)
        else:
            groups.append(list(group))
    return groups


def _reduced_view(
    plan: Plan, domain: Shape, kept: Sequence[Sequence[int]], store: Access
) -> View | None:
    """The result's view with merged axes, or None where its strides do not merge."""
    for group in kept:
        for left, right in pairwise(group):
            if store.strides[left] != store.strides[right] * domain[right]:
                return None
    shape = tuple(numel([domain[a] for a in g]) for g in kept)
    return plan.view(store, shape, [store.strides[g[-1]] for g in kept], _rows(plan, domain, kept))


def _rows(plan: Plan, domain: Shape, kept: Sequence[Sequence[int]]) -> int:
    """Positions per grid row of the first kept axis."""
    if not (plan.cut and kept and kept[0][0] == 0):
        return 0
    return numel([domain[a] for a in kept[0][1:]])


def _reduced_temp(
    plan: Plan, domain: Shape, kept: Sequence[Sequence[int]], dtype: NumpyDType
) -> View:
    shape = tuple(numel([domain[a] for a in g]) for g in kept)
    return plan.temp(shape, dtype, _rows(plan, domain, kept))


def _emit_combine(plan: Plan, combine: str, operand: View, axes: list[int], out: View) -> None:
    axis = str(axes[0]) if len(axes) == 1 else str(tuple(axes))
    if combine in POSITIONS:
        if axes:
            plan.add(f"{{0}}.{combine}({axis}, {{1}})", operand, out)
        else:
            plan.add("{0}[...] = 0", out)
    elif axes:
        ufunc: Any = WORDS[combine].function
        reduce = Const(ufunc.reduce, f"{ufunc.__name__}_reduce", ("reduce", combine))
        plan.add(f"{{0}}({{1}}, {axis}, None, {{2}})", reduce, operand, out)
    elif combine == "add" and operand.dtype.kind not in "biu":  # NumPy adds to 0: -0.0 becomes 0.0
        add, zero = Const(np.add, "add"), constant(0, operand.dtype)
        plan.add("{0}({1}, {2}, {3})", add, operand, zero, out)
    else:
        emit_copy(plan, operand, out)


# ---------------------------------------------------------------------- Contract


def emit_contract(plan: Plan, stage: Contract) -> None:
    """A matrix product between its prologues and its epilogue."""
    dtype = stage.dtype.dtype
    axes = stage.row_axes(plan.cut)
    extents = [
        tuple(plan.rows if i == axis else n for i, n in enumerate((*stage.batch, *last)))
        for axis, last in zip(
            axes, ((stage.m, stage.k), (stage.k, stage.n), (stage.m, stage.n)), strict=True
        )
    ]
    a = _operand(plan, stage.a, extents[0], axes[0], dtype)
    b = _operand(plan, stage.b, extents[1], axes[1], dtype)
    domain, axis = extents[2], axes[2]
    stores = [plan.view(s.access, domain, s.access.strides, int(axis is not None), axis or 0)
              for s in stage.stores]  # fmt: skip
    busy = {a.buffer, b.buffer, *(plan.buffer(x.buffer) for x in stage.epilogue.loads)}
    place = next(
        (
            s
            for s in stores
            if s.contiguous and s.dtype == dtype and s.buffer not in busy and not axis
        ),
        None,
    )
    spare = place is None
    if place is None:
        place = plan.temp(domain, dtype, int(axis is not None), axis or 0)
    emit_gemm(plan, a, b, place)
    views = [_fronted(v, axis) for v in (place, *stores)]
    moves = [_front(m, axis) for m in _moves(stage.epilogue, len(domain))]
    frame = make_frame(_front(domain, axis), moves + [v.strides for v in views], axis is not None)
    first, *targets = [_framed(frame, v) for v in views]
    writer = BodyWriter(plan, frame, _fronted_body(stage.epilogue, axis), first, spare)
    writer.write([(s.value, t) for s, t in zip(stage.stores, targets, strict=True)])


def _operand(plan: Plan, body: Body, domain: Shape, axis: int | None, dtype: NumpyDType) -> View:
    """An operand of a product; batch axes along which it does not change have extent 1."""
    value = len(body.loads) + len(body.instrs) - 1
    moves = _moves(body, len(domain))
    batch = len(domain) - 2
    still = [i for i in range(batch) if not any(m[i] for m in moves)]
    domain = tuple(1 if i in still else n for i, n in enumerate(domain))
    axis = None if axis in still else axis
    cut = int(axis is not None)
    if not body.instrs and body.loads[value].index is None:
        plain = plan.view(body.loads[value], domain, body.loads[value].strides, cut, axis or 0)
        if plain.dtype == dtype:
            return plain
    dense = plan.temp(domain, dtype, cut, axis or 0)
    front = _fronted(dense, axis)
    moves = [_front(m, axis) for m in moves]
    frame = make_frame(front.shape, [*moves, front.strides], axis is not None)
    BodyWriter(plan, frame, _fronted_body(body, axis)).write([(value, _framed(frame, front))])
    return dense


def _front(items: Sequence[T], axis: int | None) -> tuple[T, ...]:
    """With the item of the grid's axis first."""
    if axis is None:
        return tuple(items)
    return (items[axis], *items[:axis], *items[axis + 1 :])


def _fronted(view: View, axis: int | None) -> View:
    """A view whose grid axis is its first."""
    if axis is None:
        return view
    return replace(
        view, shape=_front(view.shape, axis), strides=_front(view.strides, axis), row_axis=0
    )


def _fronted_body(body: Body, axis: int | None) -> Body:
    """A body over the domain whose grid axis is its first."""
    if not axis:
        return body
    loads = tuple(replace(a, strides=_front(a.strides, axis)) for a in body.loads)
    instrs = tuple(
        replace(i, value=_moved(int(i.value or 0), axis)) if i.word == "index" else i
        for i in body.instrs
    )
    return Body(loads, body.load_dtypes, instrs)


def _moved(position: int, axis: int) -> int:
    """Where an axis stands after `axis` went to the front."""
    if position == axis:
        return 0
    return position + 1 if position < axis else position


def _framed(frame: Frame, view: View) -> View:
    """A view of the whole domain over the frame."""
    return replace(view, shape=frame.shape, strides=frame.strides(view.strides), rows=frame.rows)


# ---------------------------------------------------------------------- Extern


def emit_extern(plan: Plan, stage: Extern) -> None:
    """A call of the op's reference on dense operands."""
    inputs = []
    for access, shape, _ in stage.inputs:
        view = plan.view(access, shape, access.strides, 0)
        if not view.contiguous:
            dense = plan.temp(shape, view.dtype)
            emit_copy(plan, view, dense)
            view = dense
        inputs.append(view)
    access, shape, _ = stage.output
    out = plan.view(access, shape, access.strides, 0)
    called = Const(_reference(stage.op, stage.attributes()), stage.op.name)
    fields = ", ".join(f"{{{i + 1}}}" for i in range(len(inputs)))
    call = f"{{0}}({fields})"
    handed_on = inputs and inputs[0] == out
    if stage.op.kind is Kind.EFFECT and (handed_on or isinstance(out.buffer, Work)):
        plan.add(call, called, *inputs)
    else:
        plan.add(f"{{{len(inputs) + 1}}}[...] = {call}", called, *inputs, out)


def _reference(op: OpDef, attrs: Any) -> Any:
    return partial(op.reference, **attrs) if attrs else op.reference
