"""Kernels of maps and reductions as units: all stages of a block of rows in one function.

The function walks blocks of rows; scratch of a block lies in the thread's own memory and stays in
its first-level cache. Blocks are as large as that allows, whatever the grid says, unless borders
of chunks reach a result. A kernel of one stage is cut along whichever axis suits, so that large
ones keep every thread busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from lazygrad.runtime.alignment import aligned
from lazygrad.runtime.kernel import (
    Access,
    Grid,
    Kernel,
    Map,
    Reduce,
    Scratch,
    Stage,
    depends_on_chunks,
)
from lazygrad.runtime.native.canonical import (
    Axis,
    Former,
    Loops,
    Number,
    Site,
    Word,
    accesses_of,
    choose_map,
    choose_reduce,
    dtype_of,
    find_axes,
    is_chunked,
    plain_stage,
    stage_seconds,
)
from lazygrad.runtime.native.llvm import Function, Index, Value
from lazygrad.runtime.native.nest import Operand, emit_map
from lazygrad.runtime.native.reduce import emit_reduce
from lazygrad.runtime.native.target import LANES
from lazygrad.runtime.native.unit import Frame, Unit, Unsupported

BLOCK_BYTES = 1 << 15  # of all that a block of rows touches: it stays in the first-level cache
PARALLEL_SECONDS = 30e-6  # a kernel below it does not pay for meeting other threads
PIECE_SECONDS = 10e-6
PIECES = 64
_SCRATCH_BYTES = 1 << 18  # that each thread may have for itself


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides the code of a unit."""

    stages: tuple[Loops, ...]
    buffers: tuple[int, ...]
    local: tuple[tuple[int, Word], ...]  # scratch and its offset in bytes
    grid: tuple[Word, Word] | None  # rows and rows of a block, where the unit is cut
    words: int
    checks: bool


@dataclass(frozen=True, slots=True)
class _Cut:
    """Rows, rows of a block, and blocks that a thread takes at once."""

    rows: int = 1
    block: int = 1
    taken: int = 1


def row_units(kernel: Kernel) -> list[Unit]:
    """The units of a kernel of maps and reductions: its chunks, then its `finish` stages."""
    found = []
    for stages, cut in ((kernel.stages, kernel.grid.rows > 1), (kernel.finish, False)):
        plain = [p for s in stages if (p := _plain(kernel, s)) is not None]
        if plain:
            found.append(_unit(kernel, plain, cut))
    return found


def _plain(kernel: Kernel, stage: Stage) -> Map | Reduce | None:
    if not isinstance(stage, Map | Reduce):
        raise Unsupported(f"a {type(stage).__name__} among maps and reductions")
    return plain_stage(stage, dtype_of(kernel, accesses_of(stage)[-1].buffer))


def _unit(kernel: Kernel, stages: Sequence[Map | Reduce], cut: bool) -> Unit:
    """The unit of stages that share a grid."""
    former = Former(kernel)
    seconds = sum(stage_seconds(s) for s in stages)
    pieces = min(PIECES, int(seconds / PIECE_SECONDS)) if seconds > PARALLEL_SECONDS else 1
    touched = sorted({a.buffer for s in stages for a in accesses_of(s)})
    local = [b for b in touched if former.is_local(b)]
    fixed = cut and not _cuttable(kernel, stages)
    cut = cut and not (fixed and not is_chunked(kernel))
    if cut and fixed:
        axes = [find_axes(s, 0) for s in stages]
        made = _Cut(kernel.grid.rows, kernel.grid.chunk)
    elif len(stages) == 1 and not local:
        axes = [find_axes(stages[0], None)]
        made = _free_cut(stages[0], axes[0], pieces)
    elif cut:
        axes = [find_axes(s, 0) for s in stages]
        made = _row_cut(kernel, touched, pieces)
    elif pieces > 1 and (common := _common_axes(kernel, stages)) is not None:
        axes = [find_axes(s, a) for s, a in zip(stages, common, strict=True)]
        dense = any(a.strides[common[0]] == 1 for a in stages[0].body.loads)
        made = _even_cut(stages[0].domain[common[0]], pieces, dense)
        former.whole = True
    else:
        axes, made = [find_axes(s, None) for s in stages], _Cut()
    forms = tuple(former.form(s, x) for s, x in zip(stages, axes, strict=True))
    blocks = -(-made.rows // made.block)
    is_cut = any(form.rows is not None for form in forms)
    grid = (former.words.word(made.rows), former.words.word(made.block)) if is_cut else None
    rows = made.block if cut else min(kernel.grid.chunk, max(kernel.grid.rows, 1))
    offsets, size = [], 0
    for b in local:
        offsets.append((b, former.words.word(size)))
        size += aligned(_scratch(kernel, b).row_size * rows * former.dtype(b).itemsize)
    plan = Plan(
        forms, tuple(b for b in touched if b not in local), tuple(offsets), grid,
        len(former.words.values), any(s.index is not None for x in forms for s in x.loads),
    )  # fmt: skip
    return Unit(
        ("rows", plan), partial(build_rows, plan), plan.buffers, tuple(former.words.values),
        blocks, made.taken, size, pieces > 1 and blocks > made.taken, plan.checks,
    )  # fmt: skip


def _cuttable(kernel: Kernel, stages: Sequence[Map | Reduce]) -> bool:
    """Whether rows can be cut anywhere: each stays within what it stores itself."""
    rows = kernel.grid.rows
    if depends_on_chunks(kernel) or depends_on_chunks(replace(kernel, grid=Grid(rows, rows - 1))):
        return False
    sites: dict[int, set[_Reach]] = {}
    for stage in stages:
        for access in accesses_of(stage):
            sites.setdefault(access.buffer, set()).add(_reach(stage, access, 0))
    former = Former(kernel)
    stored = {a.buffer for s in stages for a in accesses_of(s)[len(s.body.loads) :]}
    return all(former.is_local(b) or _apart(sites[b]) for b in stored)


class _Reach(NamedTuple):
    """The elements of a row: how far rows are apart, the first and last one of row 0, all."""

    step: int
    low: int
    high: int
    walked: tuple[tuple[int, int], ...]


def _reach(stage: Map | Reduce, access: Access, row: int) -> _Reach:
    """What an access reaches in each row, where axis `row` is the rows."""
    if access.index is not None:
        return _Reach(0, 0, 0, ())
    walked = tuple(
        (n, s) for a, (n, s) in enumerate(zip(stage.domain, access.strides, strict=True))
        if n > 1 and s and a != row
    )  # fmt: skip
    ends = [(n - 1) * s for n, s in walked]
    low, high = sum(min(e, 0) for e in ends), sum(max(e, 0) for e in ends)
    return _Reach(access.strides[row], access.offset + low, access.offset + high, walked)


def _apart(sites: set[_Reach]) -> bool:
    """Whether no row reaches into another one."""
    steps = {site.step for site in sites}
    if len(steps) > 1 or 0 in steps:
        return False
    span = max(s.high for s in sites) - min(s.low for s in sites)
    return len(sites) == 1 or span < abs(steps.pop())


def _scratch(kernel: Kernel, buffer: int) -> Scratch:
    return kernel.scratch[buffer - len(kernel.params)]


def _free_cut(stage: Map | Reduce, axes: list[Axis], pieces: int) -> _Cut:
    """Cut a stage that stands alone along the outermost loop that is long enough."""
    if isinstance(stage, Map):
        walk = choose_map(stage, axes)
        order = walk.order
    else:
        walk, across = choose_reduce(stage, axes)
        order = (*walk.order, walk.vector or 0) if across else walk.order
    if not order:
        return _Cut()
    enough = min(PIECES, max(axes[a].extent for a in order))
    chosen = next(a for a in order if axes[a].extent >= enough)
    axis = axes[chosen]
    axis.rows, axis.factor, axis.step = True, 1, axis.strides
    return _even_cut(axis.extent, pieces, chosen == walk.vector)


def _even_cut(rows: int, pieces: int, vectors: bool) -> _Cut:
    """Cut into pieces, where rows are elements of vectors at the borders of some."""
    block = -(-rows // pieces)
    if vectors:  # long pieces, as short runs of memory defeat the prefetcher
        step = 16 * LANES
        block = -(-block // step) * step
    return _Cut(rows, min(block, rows))


def _common_axes(kernel: Kernel, stages: Sequence[Map | Reduce]) -> list[int] | None:
    """An axis of each stage along which all of them can be cut together.

    Every position along it computes what it reads: sums over other axes, then what follows.
    """
    scratch = sum(s.row_size * s.dtype.itemsize for s in kernel.scratch if not s.shared)
    if scratch > _SCRATCH_BYTES:
        return None
    stored = {a.buffer for s in stages for a in accesses_of(s)[len(s.body.loads) :]}
    first = stages[0]
    for a, n in enumerate(first.domain):
        chosen = [a]
        for stage in stages[1:]:
            same = [b for b, m in enumerate(stage.domain) if m == n and not _reduced(stage, b)]
            if len(same) == 1:
                chosen.append(same[0])
        if n < 2 * LANES or _reduced(first, a) or len(chosen) != len(stages):
            continue
        sites: dict[int, set[_Reach]] = {}
        for stage, row in zip(stages, chosen, strict=True):
            for access in accesses_of(stage):
                sites.setdefault(access.buffer, set()).add(_reach(stage, access, row))
        if all(_apart(sites[b]) for b in stored):
            return chosen
    return None


def _reduced(stage: Map | Reduce, axis: int) -> bool:
    return isinstance(stage, Reduce) and axis in stage.axes


def _row_cut(kernel: Kernel, touched: Sequence[int], pieces: int) -> _Cut:
    """Cut the rows of a kernel of several stages for the cache and the threads."""
    rows, inputs, total = kernel.grid.rows, len(kernel.params), 0
    for b in touched:
        size = kernel.params[b].size // rows if b < inputs else _scratch(kernel, b).row_size
        total += size * dtype_of(kernel, b).itemsize
    block = max(1, min(rows, BLOCK_BYTES // max(total, 1)))
    if block > LANES:
        block = block // LANES * LANES
    blocks = -(-rows // block)
    return _Cut(rows, block, -(-blocks // pieces))


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
            self.number(site.index_extent),
        )  # fmt: skip
