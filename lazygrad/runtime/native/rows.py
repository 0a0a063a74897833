"""Kernels of maps and reductions as units: all stages of a block of rows in one function.

The function walks blocks of rows; scratch of a block lies in the thread's own memory. `cuts` says
what is a row and how many make a block, `canonical` what the loops of a stage look like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from lazygrad.runtime.alignment import aligned
from lazygrad.runtime.kernel import Kernel, Map, Reduce, Stage
from lazygrad.runtime.native.canonical import (
    Former,
    Loops,
    Number,
    Site,
    Word,
    accesses_of,
    dtype_of,
    plain_stage,
)
from lazygrad.runtime.native.cuts import cut_stages, pieces_of, share_scratch, split_stages
from lazygrad.runtime.native.llvm import Function, Index, Value
from lazygrad.runtime.native.nest import Operand, emit_map
from lazygrad.runtime.native.reduce import emit_reduce
from lazygrad.runtime.native.unit import Frame, Unit, Unsupported

__all__ = ["row_units", "share_scratch"]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides the code of a unit."""

    stages: tuple[Loops, ...]
    buffers: tuple[int, ...]  # numbers of those that are bound, in the order of the slots
    local: tuple[tuple[int, Word], ...]  # scratch and its offset in bytes
    grid: tuple[Word, Word] | None  # rows and rows of a block, where the unit is cut
    words: int
    checks: bool


def row_units(kernel: Kernel) -> list[Unit]:
    """The units of a kernel of maps and reductions: its chunks, then its `finish` stages."""
    found = []
    for stages, rows in ((kernel.stages, kernel.grid.rows > 1), (kernel.finish, False)):
        plain = [p for s in stages if (p := _plain(kernel, s)) is not None]
        groups = [plain] if rows or not plain else split_stages(kernel, plain)
        found += [_unit(kernel, group, rows) for group in groups if group]
    return found


def _plain(kernel: Kernel, stage: Stage) -> Map | Reduce | None:
    if not isinstance(stage, Map | Reduce):
        raise Unsupported(f"a {type(stage).__name__} among maps and reductions")
    accesses = accesses_of(stage)
    if not accesses:
        return None  # a constant that only empty stages read
    return plain_stage(stage, dtype_of(kernel, accesses[-1].buffer))


def _unit(kernel: Kernel, stages: Sequence[Map | Reduce], rows: bool) -> Unit:
    """The unit of stages that run block by block together."""
    former = Former(kernel)
    axes, cut = cut_stages(kernel, stages, rows)
    forms = tuple(former.form(s, x) for s, x in zip(stages, axes, strict=True))
    is_cut = any(form.rows is not None for form in forms)
    grid = (former.words.word(cut.rows), former.words.word(cut.block)) if is_cut else None
    block = cut.block if is_cut else max(min(kernel.grid.chunk, kernel.grid.rows), 1)
    offsets, size = [], 0
    for b, number in former.buffers.items():
        if not former.is_local(b):
            continue
        offsets.append((number, former.words.word(size)))
        row_size = kernel.scratch[b - len(kernel.params)].row_size
        size += aligned(row_size * block * dtype_of(kernel, b).itemsize)
    bound = [b for b in former.buffers if not former.is_local(b)]
    plan = Plan(
        forms, tuple(former.buffers[b] for b in bound), tuple(offsets), grid,
        len(former.words.values), any(s.index is not None for x in forms for s in x.loads),
    )  # fmt: skip
    blocks = -(-cut.rows // cut.block)
    return Unit(
        ("rows", plan), partial(build_rows, plan), tuple(bound), tuple(former.words.values),
        blocks, cut.taken, size, pieces_of(stages) > 1 and blocks > cut.taken, plan.checks,
    )  # fmt: skip


def build_rows(plan: Plan, name: str) -> Function:
    """The function of a unit."""
    return _Builder(plan, name).function()


class _Builder:
    """A unit's function under construction."""

    def __init__(self, plan: Plan, name: str) -> None:
        self.plan = plan
        self.frame = Frame(name, len(plan.buffers))
        self.f = self.frame.f
        self.words = [self.frame.word(k) for k in range(plan.words)]
        self.base = {b: self.frame.pointer(k) for k, b in enumerate(plan.buffers)}
        for b, offset in plan.local:
            self.base[b] = self.f.gep("i8", self.frame.local, self.number(offset))
        self.wrong = self.f.variable("i1", self.f.const("i1", False)) if plan.checks else None

    def number(self, x: Number) -> Index:
        """A number of the form as the code has it."""
        return self.words[x.number] if isinstance(x, Word) else x

    def function(self) -> Function:
        """All stages of every block."""
        f = self.f
        if self.plan.grid is None:
            self.stages(0, 0, 0)
        else:
            rows, block = (self.number(w) for w in self.plan.grid)
            with f.loop(self.frame.lo, self.frame.hi) as b:
                first = f.mul(b, block)
                self.stages(first, f.min(block, f.sub(rows, first)), b)
        if self.wrong is None:
            return self.frame.finish()
        f.ret(f.convert("zext", f.load("i1", self.wrong), "i64"))
        return f

    def stages(self, first: Index, rows: Index, block: Index) -> None:
        """The stages of rows `first`.. of a block."""
        for form in self.plan.stages:
            self.stage(form, first, rows, block)

    def stage(self, form: Loops, first: Index, rows: Index, block: Index) -> None:
        """The loops of one stage."""
        f = self.f
        extents = [
            f.mul(rows, self.number(n)) if a == form.rows else self.number(n)
            for a, n in enumerate(form.extents)
        ]
        origin = [first if a == form.rows else 0 for a in range(len(extents))]
        loads = [self.operand(site, first, block) for site in form.loads]
        stores = [(self.operand(site, first, block), value) for site, value in form.stores]
        fold = form.fold
        if fold is None:
            emit_map(f, extents, form.body, loads, stores, origin, form.walk, self.wrong)
            return
        emit_reduce(
            f, extents, fold.axes, fold.combine, form.body, fold.value, fold.dtype, loads,
            stores[0][0], across=form.walk.vector if fold.across else None, kept=form.walk.order,
            origin=origin, wrong=self.wrong,
        )  # fmt: skip

    def operand(self, site: Site, first: Index, block: Index) -> Operand:
        """An access, from the first point of the block."""
        f = self.f
        start = f.add(
            f.add(self.number(site.start), f.mul(first, self.number(site.step))),
            f.mul(block, self.number(site.chunk)),
        )
        found = Operand(self.base[site.buffer], site.dtype, tuple(map(self.number, site.strides)))
        pointer: Value = f.gep(found.element, found.pointer, start)
        return Operand(
            pointer, site.dtype, found.strides, site.index, self.number(site.index_stride),
            self.number(site.index_extent), site.repeat, site.cycle,
        )  # fmt: skip
