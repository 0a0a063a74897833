"""Loads through an index, as NumPy statements.

Where the index names whole rows of a dense table, `table.take(index, 0, out, "clip")`; otherwise
the element numbers are computed into working memory and taken from the flat buffer. `clip` is
the mode in which `take` writes `out` directly; the range is checked before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazygrad.errors import IndexOutOfRangeError
from lazygrad.runtime.kernel import Access
from lazygrad.runtime.numpy_frame import Frame, Varies
from lazygrad.runtime.numpy_plan import Const, Plan, View, constant, function
from lazygrad.runtime.numpy_words import emit_copy

_INT64, _UINT64 = np.dtype(np.int64), np.dtype(np.uint64)
_maximum = np.maximum.reduce


def check_range(index: Any, extent: int) -> None:
    """Raise unless 0 <= index < extent everywhere; `index` are int64 seen as uint64."""
    if index.size and _maximum(index, None) >= extent:
        signed = index.view(np.int64)
        wrong = signed[(signed < 0) | (signed >= extent)].flat[0]
        raise IndexOutOfRangeError(f"index {wrong} is out of range for {extent} elements")


def emit_gather(
    plan: Plan, frame: Frame, access: Access, index: View, at: Varies, out: View
) -> None:
    """Append the statements that load through `index`, which changes along the axes `at`."""
    if index.dtype != _INT64:
        wide = plan.temp(index.shape, _INT64, index.rows)
        emit_copy(plan, index, wide)
        index = wide
    plan.add(
        "{0}({1}, {2})", function(check_range, "check_range"), index.retyped(_UINT64),
        str(access.index_extent),
    )  # fmt: skip
    dense = out if out.contiguous else plan.temp(out.shape, out.dtype, out.rows)
    table = _table(plan, frame, access, at)
    if table is None:
        flat = plan.view(
            Access(access.buffer, ()), (_size(plan, access.buffer),), (1,), 0
        )  # fmt: skip
        numbers = _element_numbers(plan, frame, access, index, out)
        plan.add('{0}.take({1}, None, {2}, "clip")', flat, numbers, dense)
    else:
        plan.add('{0}.take({1}, 0, {2}, "clip")', table, _squeezed(index), _squeezed(dense))
    if dense is not out:
        emit_copy(plan, dense, out)


def _size(plan: Plan, number: int) -> int:
    inputs = len(plan.kernel.params)
    if number < inputs:
        return plan.kernel.params[number].size
    scratch = plan.kernel.scratch[number - inputs]
    return scratch.size if scratch.shared else scratch.row_size * plan.rows


def _squeezed(view: View) -> View:
    """Without axes of extent 1 (but the rows of a chunk)."""
    kept = [i for i, n in enumerate(view.shape) if n != 1 or (view.rows > 0 and i == view.row_axis)]
    return View(
        view.buffer, tuple(view.shape[i] for i in kept), tuple(view.strides[i] for i in kept),
        view.offset, view.dtype, view.rows, view.row_axis, view.chunk_stride,
    )  # fmt: skip


def _table(plan: Plan, frame: Frame, access: Access, at: Varies) -> View | None:
    """The table whose rows are taken, if the index comes first and the rest is dense."""
    strides = frame.strides(access.strides)
    moves = [i for i, s in enumerate(strides) if s]
    index_axes = [i for i, v in enumerate(at) if v]
    if moves and (min(moves) <= max(index_axes, default=-1) or (frame.rows and moves[0] == 0)):
        return None
    shape = (access.index_extent, *(frame.shape[i] for i in moves))
    steps = (access.index_stride, *(strides[i] for i in moves))
    view = plan.view(access, shape, steps, 0)
    return view if view.contiguous else None


def _element_numbers(plan: Plan, frame: Frame, access: Access, index: View, out: View) -> View:
    """The offset + sum(position * stride) + index * index_stride, in working memory."""
    strides = frame.strides(access.strides)
    numbers = plan.temp(out.shape, _INT64, out.rows)
    multiply, add = function(np.multiply, "multiply"), function(np.add, "add")
    source = index
    if access.index_stride != 1:
        plan.add(
            "{0}({1}, {2}, {3})", multiply, index, constant(access.index_stride, _INT64), numbers
        )
        source = numbers
    offset = access.offset
    for axis, stride in enumerate(strides):
        if not stride:
            continue
        cut = axis == 0 and frame.rows > 0
        extent = plan.kernel.grid.rows * frame.rows if cut else frame.shape[axis]
        after = len(frame.shape) - axis - 1
        line = (np.arange(extent) * stride + offset).reshape((-1,) + (1,) * after)
        key = ("numbers", extent, stride, offset, after)
        plan.add(
            "{0}({1}, {2}, {3})", add, source, Const(line, "line", key, frame.rows * cut), numbers
        )
        source, offset = numbers, 0
    if offset:
        plan.add("{0}({1}, {2}, {3})", add, source, constant(offset, _INT64), numbers)
        source = numbers
    return source
