"""`Program`: a compiled graph that runs again and again on arrays given at each run.

A program is immutable and owns no storage. Each run binds source, output and write arrays by
pointer and leases an arena for the values in between; when the graph keeps values for a later
backward pass, the caller gets the lease and the arena is returned when it ends. Two leases of one
program can be alive at once.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from lazygrad.config import config
from lazygrad.engine.arena import POOL, Arena
from lazygrad.engine.binding import Binding, Frame
from lazygrad.engine.frozen import FrozenGraph
from lazygrad.engine.fuse import fuse
from lazygrad.engine.interpret import blame, interpret, last_uses
from lazygrad.engine.layouts import ARENA, OUTPUT, WRITE, Layouts, lay_out
from lazygrad.engine.memory import (
    Buffer,
    MemoryPlan,
    check_plan,
    find_buffers,
    give_offsets,
    live_bytes,
)
from lazygrad.engine.passes import run_pipeline, verify
from lazygrad.engine.schedule import Schedule, schedule
from lazygrad.engine.stages import build_kernel
from lazygrad.errors import InternalError
from lazygrad.ops.opdef import Array, Kind
from lazygrad.runtime.dispatch import lower
from lazygrad.runtime.executor import Code, CompiledCode, Lowered, Place, ViewSpec, make_view
from lazygrad.runtime.kernel import Kernel
from lazygrad.runtime.kernel_print import format_kernel

Arrays = Sequence[np.ndarray[Any, Any]]
SEGMENT = 2000  # nodes in one generated function
ZONE = 64  # bytes behind each buffer that nobody may touch (checked under `config.poison`)
CANARY, DEAD = 0xA5, 0xFF  # the bytes of red zones and of freed buffers (NaN, -1)


class Lease:
    """The values that a run keeps readable, until `release()` or garbage collection."""

    __slots__ = ("_arena", "kept")

    def __init__(self, kept: list[Array], arena: Arena | None) -> None:
        self.kept = kept
        self._arena = arena

    def release(self) -> None:
        """Return the arena; the kept arrays must not be read any more."""
        arena, self._arena = self._arena, None
        self.kept = []
        if arena is not None:
            POOL.give(arena)

    def __del__(self) -> None:
        self.release()


class Program:
    """A compiled graph. Build it with `compile_graph` or `program_for`.

    `frozen` is the graph after the passes, `kernels` the kernels in the order in which they run,
    `memory` the plan of the arena.
    """

    kernels: tuple[Kernel, ...] = ()

    def __init__(self, frozen: FrozenGraph, memory: MemoryPlan, name: str = "") -> None:
        self.frozen = frozen
        self.memory = memory
        self.name = name

    @property
    def order(self) -> tuple[str, ...]:
        """The names of the kernels in the order in which they run."""
        return tuple(k.name for k in self.kernels)

    def run(self, sources: Arrays, outputs: Arrays = (), writes: Arrays = ()) -> Lease | None:
        """Compute on these arrays; see `FrozenGraph` for what they are.

        `sources` are read in place and never copied, `outputs` and `writes` are filled; the array
        of a write may be the one bound as its source. Returns a `Lease` when the graph keeps
        values, else None.
        """
        raise NotImplementedError

    def explain_rows(self) -> list[dict[str, Any]]:
        """One row for each node: its kernel, how that runs and why, bytes, FLOPs, user's line."""
        rows = []
        kernel_of = {i: k for k, kernel in enumerate(self.kernels) for i in kernel.nodes}
        for i, node in enumerate(self.frozen.nodes):
            if node.op.kind is Kind.SOURCE:
                continue
            k = kernel_of.get(i)
            rows.append(
                {
                    "kernel": "" if k is None else self.kernels[k].name, "node": i,
                    "op": node.op.name, "shape": node.shape, "dtype": node.dtype.name,
                    **self._how(k), "bytes": 0 if node.op.kind is Kind.VIEW else node.nbytes,
                    "flops": self.kernels[k].flops if k is not None else 0.0, "site": node.site,
                }
            )  # fmt: skip
        return rows

    def _how(self, kernel: int | None) -> dict[str, str]:
        if kernel is None:
            return {"mode": "view", "reason": "other strides over the same bytes", "executor": ""}
        return {"mode": "whole", "reason": "the reference runs node by node", "executor": ""}

    def __str__(self) -> str:
        lines = [f"program {self.name or '(unnamed)'}: {len(self.kernels)} kernels"]
        lines += [format_kernel(k) for k in self.kernels]
        return "\n".join([*lines, str(self.memory)])


class ReferenceProgram(Program):
    """A graph run node by node through each op's own reference (`executor="reference"`)."""

    def __init__(self, frozen: FrozenGraph, name: str = "") -> None:
        naive = naive_bytes(frozen)
        super().__init__(frozen, MemoryPlan([], naive, naive, naive, "user", {"user": naive}), name)
        self._dying = last_uses(frozen)

    def run(self, sources: Arrays, outputs: Arrays = (), writes: Arrays = ()) -> Lease | None:
        """Compute on these arrays; see `Program.run`."""
        kept = interpret(self.frozen, self._dying, sources, outputs, writes)
        return Lease(kept, None) if self.frozen.kept else None


class CompiledProgram(Program):
    """Kernels as flat functions over views into a leased arena."""

    def __init__(
        self, layouts: Layouts, memory: MemoryPlan, lowered: Sequence[Lowered],
        segments: Sequence[tuple[int, CompiledCode]], overwrites: dict[int, int], name: str,
    ) -> None:  # fmt: skip
        super().__init__(layouts.frozen, memory, name)
        self.kernels = tuple(low.kernel for low in lowered)
        self._lowered = tuple(lowered)
        self._segments = tuple(segments)
        self._codes = tuple(code for _, code in segments)
        self._binding = Binding(self.frozen, self._codes)
        self._kept = _kept_specs(layouts, memory)
        # Writes whose kernel reads the old value in the array that it writes.
        self._in_place = tuple(
            (k, at) for k, (at, i) in enumerate(self.frozen.writes) if i in overwrites
        )
        self._poisoned = config.poison

    @property
    def source(self) -> str:
        """The generated code."""
        return "\n\n".join(code.source for code in self._codes)

    def run(self, sources: Arrays, outputs: Arrays = (), writes: Arrays = ()) -> Lease | None:
        """Compute on these arrays; see `Program.run`."""
        arena = POOL.take(self.memory.arena_bytes)
        frame = arena.frames.get(self)
        if frame is None:
            frame = arena.frames[self] = Frame(self._binding, arena.memory)
        try:
            frame.bind(sources, outputs, writes)
            for k, at in self._in_place:
                if writes[k] is not sources[at]:
                    np.copyto(writes[k], sources[at])
            if self._poisoned:
                arena.memory.fill(DEAD)
            for code, views in zip(self._codes, frame.views, strict=True):
                code.run(views)
        except BaseException as error:
            frame.release()
            POOL.give(arena)
            self._blame(error, error.__traceback__)
            raise
        frame.release()
        if not self._kept:
            POOL.give(arena)
            return None
        return Lease(self._keep(sources, outputs, arena), arena)

    def _keep(self, sources: Arrays, outputs: Arrays, arena: Arena) -> list[Array]:
        """The kept values as arrays."""
        kept = []
        for position, spec in self._kept:
            base = arena.memory if position < 0 else sources[position].reshape(-1).view(np.uint8)
            kept.append(make_view(base, spec))
        return kept

    def _blame(self, error: BaseException, traceback: TracebackType | None) -> None:
        """Name the op, shapes and line of the user whose kernel raised."""
        for first, code in self._segments:
            found = code.culprit(traceback)
            if found is not None:
                nodes = self.frozen.nodes
                for i in self.kernels[first + found].nodes[:4]:
                    blame(error, nodes[i], [nodes[j].shape for j in nodes[i].inputs])

    def _how(self, kernel: int | None) -> dict[str, str]:
        if kernel is None:
            return super()._how(kernel)
        low = self._lowered[kernel]
        return {"mode": low.mode, "reason": low.reason, "executor": low.executor}


def _kept_specs(layouts: Layouts, memory: MemoryPlan) -> list[tuple[int, ViewSpec]]:
    """For each kept node the source that it views (-1: the arena), and the view."""
    offset = {i: b.offset for b in memory.buffers for i in b.values}
    positions = {i: k for k, i in enumerate(layouts.frozen.sources)}
    found = []
    for i in layouts.frozen.kept:
        root, layout, node = layouts.root[i], layouts.layout[i], layouts.frozen.nodes[i]
        size = node.dtype.itemsize
        spec = ViewSpec(
            0, offset.get(root, 0) + layout.offset * size, layout.shape,
            tuple(s * size for s in layout.strides), node.dtype.dtype,
        )  # fmt: skip
        found.append((positions.get(root, -1), spec))
    return found


def naive_bytes(frozen: FrozenGraph) -> int:
    """The bytes of a buffer for each node that computes something."""
    return sum(n.nbytes for n in frozen.nodes if n.op.kind not in (Kind.SOURCE, Kind.VIEW))


def compile_graph(frozen: FrozenGraph, *, name: str = "") -> Program:
    """Compile a frozen graph for the current settings."""
    if config.executor == "reference":
        return ReferenceProgram(frozen, name)
    layouts = lay_out(run_pipeline(frozen))
    plan = schedule(layouts, fuse(layouts))
    if config.verify:
        verify(layouts.frozen, "layout")
    reuse = not config.no_planner
    buffers, overs = find_buffers(layouts, plan, reuse)
    lowered, roots = _lower(layouts, plan, overs)
    spaces = [Buffer(low.workspace, k, k) for k, low in enumerate(lowered)]
    zone = ZONE if config.poison else 0
    total = give_offsets([*buffers, *spaces], reuse, zone)
    if config.verify:
        check_plan([*buffers, *spaces], total)
    memory = MemoryPlan(
        [*buffers, *spaces], total, live_bytes([*buffers, *spaces], len(lowered)),
        naive_bytes(frozen), plan.order_name, plan.peaks,
    )  # fmt: skip
    segments = _emit(layouts, lowered, roots, buffers, spaces, name or "program")
    program = CompiledProgram(layouts, memory, lowered, segments, plan.overwrites, name)
    _report(program)
    return program


def _lower(
    layouts: Layouts, plan: Schedule, overs: Sequence[dict[int, int]]
) -> tuple[list[Lowered], list[tuple[int, ...]]]:
    """Kernels from forms, ready for their executors, and the value of each parameter."""
    lowered, roots = [], []
    for k, (form, over) in enumerate(zip(plan.forms, overs, strict=True)):
        kernel, params = build_kernel(layouts, form, f"k{k}", over)
        lowered.append(lower(kernel))
        new = {old: written for written, old in over.items()}
        roots.append(tuple([new.get(r, r) for r in params]))
    return lowered, roots


def _emit(
    layouts: Layouts, lowered: Sequence[Lowered], roots: Sequence[tuple[int, ...]],
    buffers: Sequence[Buffer], spaces: Sequence[Buffer], name: str,
) -> list[tuple[int, CompiledCode]]:  # fmt: skip
    """Write all kernels into flat functions of bounded length."""
    places = _places(layouts, buffers)
    guard = _Guard([*buffers, *spaces]) if config.poison else None
    segments: list[tuple[int, CompiledCode]] = []
    code, first, length = Code(), 0, 0
    for k, low in enumerate(lowered):
        if length >= SEGMENT:
            segments.append((first, code.compile(name)))
            code, first, length = Code(), k, 0
        if guard is not None:
            guard.before(code, k)
        low.emit(code, [places[r] for r in roots[k]], Place(0, spaces[k].offset))
        if guard is not None:
            guard.after(code, k)
        length += len(low.kernel.nodes)
    segments.append((first, code.compile(name)))
    return segments


class _Guard:
    """Code that fills freed buffers with NaN and watches the bytes behind each buffer."""

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self.born: dict[int, list[Buffer]] = {}
        self.dying: dict[int, list[Buffer]] = {}
        for b in buffers:
            if b.nbytes:
                self.born.setdefault(b.birth, []).append(b)
                self.dying.setdefault(b.death, []).append(b)

    def before(self, code: Code, kernel: int) -> None:
        """Mark the zones of what this kernel makes."""
        for b in self.born.get(kernel, ()):
            code.line(f"{_bytes(code, b.offset + b.nbytes, ZONE)}.fill({CANARY})")

    def after(self, code: Code, kernel: int) -> None:
        """Check the zones of what dies with this kernel, and spoil it."""
        for b in self.dying.get(kernel, ()):
            check = code.constant(_check_zone, "check_zone")
            what = code.constant(b, "buffer")
            code.line(f"{check}({_bytes(code, b.offset + b.nbytes, ZONE)}, {what})")
            code.line(f"{_bytes(code, b.offset, b.nbytes)}.fill({DEAD})")


def _bytes(code: Code, offset: int, count: int) -> str:
    return code.view(Place(0, offset), (count,), (1,), 0, np.dtype(np.uint8))


def _check_zone(zone: Array, buffer: Buffer) -> None:
    if (zone != CANARY).any():
        raise InternalError(f"a kernel wrote behind its buffer: {buffer}")


def _places(layouts: Layouts, buffers: Sequence[Buffer]) -> dict[int, Place]:
    """Where each value begins: slot 0 is the arena, then sources, outputs and writes."""
    frozen = layouts.frozen
    places = {i: Place(1 + k) for k, i in enumerate(frozen.sources)}
    for b in buffers:
        places.update((i, Place(0, b.offset)) for i in b.values)
    starts = {OUTPUT: 1 + len(frozen.sources)}
    starts[WRITE] = starts[OUTPUT] + len(frozen.outputs)
    for root, home in layouts.homes.items():
        if home.place is not ARENA:
            places[root] = Place(starts[home.place] + home.index)
    for i, node in enumerate(frozen.nodes):
        if 0 in node.shape:
            places.setdefault(i, Place(0))
    return places


def _report(program: CompiledProgram) -> None:
    """What `config.debug` asks for."""
    if config.debug >= 1:
        plan = program.memory
        sys.stderr.write(
            f"{program.name or 'program'}: {len(program.frozen.nodes)} nodes, "
            f"{len(program.kernels)} kernels, arena {plan.arena_bytes} of {plan.naive_bytes} "
            f"naive bytes, lower bound {plan.lower_bound}\n"
        )
    if config.debug >= 2:
        for kernel, low in zip(program.kernels, program._lowered, strict=True):
            ops = ", ".join(program.frozen.nodes[i].op.name for i in kernel.nodes[:8])
            sys.stderr.write(
                f"  {kernel.name} [{low.mode}, {low.executor}] {ops}: {kernel.reason}\n"
            )  # fmt: skip
    if config.debug >= 4:
        sys.stderr.write(program.source + "\n")


class ProgramCache:
    """Programs by structural key and settings, the least recently used are dropped."""

    def __init__(self, limit: int = 256) -> None:
        self.limit = limit
        self.hits = 0
        self.misses = 0
        self._lock = threading.Lock()
        self._programs: OrderedDict[Any, Program] = OrderedDict()

    def get(self, frozen: FrozenGraph, compiler: Callable[..., Program]) -> Program:
        """The program of that structure, compiled when it is new."""
        key = (frozen.key, settings_key())
        with self._lock:
            found = self._programs.get(key)
            if found is not None:
                self.hits += 1
                self._programs.move_to_end(key)
                return found
            self.misses += 1
        program = compiler(frozen)  # outside of the lock: two threads may both compile, no harm
        with self._lock:
            self._programs[key] = program
            while len(self._programs) > self.limit:
                self._programs.popitem(last=False)
        return program

    def clear(self) -> None:
        """Drop every program."""
        with self._lock:
            self._programs.clear()

    def __len__(self) -> int:
        return len(self._programs)


def settings_key() -> tuple[Any, ...]:
    """The settings that a program depends on."""
    return (
        config.executor, config.parallel, config.num_workers, config.no_fuse, config.no_planner,
        config.poison, config.validate, config.verify,
    )  # fmt: skip


CACHE = ProgramCache()


def program_for(frozen: FrozenGraph) -> Program:
    """The cached program of a frozen graph (same structure and settings: same program)."""
    return CACHE.get(frozen, compile_graph)
