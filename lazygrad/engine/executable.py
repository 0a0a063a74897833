"""Programs: compiled graphs that run again and again on arrays given at each run.

A program is immutable and owns no storage. Each run binds source, output and write arrays by
pointer and leases an arena for the values in between; when the graph keeps values for a later
backward pass, the caller gets the lease and the arena is returned when it ends. Two leases of one
program can be alive at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

import numpy as np

from lazygrad.config import config
from lazygrad.engine.arena import POOL, Arena
from lazygrad.engine.binding import Binding, Frame
from lazygrad.engine.frozen import FrozenGraph
from lazygrad.engine.interpret import blame, interpret, last_uses
from lazygrad.engine.layouts import Layouts
from lazygrad.engine.memory import DEAD, MemoryPlan
from lazygrad.engine.zones import Zoned
from lazygrad.ops.opdef import Array, Kind
from lazygrad.runtime.executor import (
    Bases,
    Block,
    CompiledCode,
    KernelFailed,
    Lowered,
    ViewSpec,
    bytes_of,
    make_view,
)
from lazygrad.runtime.kernel import Kernel
from lazygrad.runtime.kernel_print import format_kernel

Arrays = Sequence[np.ndarray[Any, Any]]
OWN_ARENA = 1 << 20  # bytes that a step that is run again and again may keep for itself


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


class About(NamedTuple):
    """What a program can say about itself.

    `frozen` is the graph after the passes, `memory` the plan of the arena, `kernels` the kernels
    in the order in which they run, `lowered` what each of them became.
    """

    frozen: FrozenGraph
    memory: MemoryPlan
    kernels: tuple[Kernel, ...] = ()
    lowered: tuple[Lowered, ...] = ()


class Program:
    """A compiled graph. Build it with `compile_graph` or `program_for`.

    `frozen` says what goes in and out; it may be the graph before or after the passes.
    """

    def __init__(self, frozen: FrozenGraph, about: About | None, name: str = "") -> None:
        self.name = name
        self._about = about
        self._borders = len(frozen.sources), len(frozen.sources) + len(frozen.outputs)

    @property
    def about(self) -> About:
        """What it can say about itself; `frozen`, `memory` and `kernels` are taken from there."""
        assert self._about is not None
        return self._about

    @property
    def frozen(self) -> FrozenGraph:
        """The graph after the passes."""
        return self.about.frozen

    @property
    def memory(self) -> MemoryPlan:
        """The plan of the arena."""
        return self.about.memory

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels in the order in which they run."""
        return self.about.kernels

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

    def run_list(self, arrays: list[Any]) -> None:
        """The same on one list: sources, outputs, writes; for graphs that keep no values."""
        first, second = self._borders
        self.run(arrays[:first], arrays[first:second], arrays[second:])

    def bound(self, arrays: list[Any]) -> Callable[[list[Any]], None]:
        """`run_list` for lists like this one: the same arrays of state, the same forms."""
        return self.run_list

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
                    **self._costs(k, i), "site": node.site,
                }
            )  # fmt: skip
        return rows

    def _costs(self, kernel: int | None, node: int) -> dict[str, float | None]:
        """FLOPs of a kernel and bytes that it reads and writes.

        They stand in the row of its first node, so that the columns add up.
        """
        if kernel is None or node != min(self.kernels[kernel].nodes):
            return {"flops": None, "moved": None}
        return {"flops": self.kernels[kernel].flops, "moved": self.kernels[kernel].nbytes}

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
        memory = MemoryPlan([], naive, naive, naive, "user", {"user": naive})
        super().__init__(frozen, About(frozen, memory), name)
        self._graph, self._dying = frozen, last_uses(frozen)

    def run(self, sources: Arrays, outputs: Arrays = (), writes: Arrays = ()) -> Lease | None:
        """Compute on these arrays; see `Program.run`."""
        kept = interpret(self._graph, self._dying, sources, outputs, writes)
        return Lease(kept, None) if self._graph.kept else None


class Running(NamedTuple):
    """What a compiled program needs while it runs, without what it says about itself.

    `kept`: for each kept value the source that it views (-1: the arena), and the view. `in_place`:
    (position in `writes`, in `sources`) where a kernel reads the old value in the array that it
    writes.
    """

    codes: tuple[CompiledCode, ...]
    arena_bytes: int
    kept: tuple[tuple[int, ViewSpec], ...] = ()
    in_place: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def of(
        layouts: Layouts, memory: MemoryPlan, codes: Sequence[CompiledCode],
        overwrites: dict[int, int],
    ) -> Running:  # fmt: skip
        """Of what the compiler made."""
        writes = enumerate(layouts.frozen.writes)
        return Running(
            tuple(codes), memory.arena_bytes, tuple(_kept_specs(layouts, memory)),
            tuple((k, at) for k, (at, i) in writes if i in overwrites),
        )  # fmt: skip


class CompiledProgram(Program):
    """Kernels as flat functions over views into a leased arena."""

    def __init__(
        self, frozen: FrozenGraph, running: Running, about: About | None, name: str = ""
    ) -> None:  # fmt: skip
        super().__init__(frozen, about, name)
        self.running = running
        self._codes, self._arena_bytes, self._kept, self._in_place = running
        self._binding = Binding(frozen, self._codes)
        self._lasting = bool(self._kept)
        self._poisoned = config.poison

    @property
    def source(self) -> str:
        """The generated code: Python, and what LLVM made of the blocks of native kernels."""
        texts = [code.source for code in self._codes]
        texts += [block.source for code in self._codes for block in code.blocks]
        return "\n\n".join(texts)

    def bound(self, arrays: list[Array]) -> Callable[[list[Array]], None]:
        """See `Program.bound`; one native call where the whole program is one block."""
        block = self._codes[0].block if len(self._codes) == 1 else None
        writes = self._borders[1]
        moved = any(arrays[writes + k] is not arrays[at] for k, at in self._in_place)
        moved = moved or any(a is not None and _plain(a) is not a for a in arrays)
        if block is None or moved or self._kept or self._poisoned:
            return super().bound(arrays)
        size = self._arena_bytes
        if size <= OWN_ARENA:
            return self._own_arena(block)

        def run(arrays: list[Array]) -> None:
            arena = POOL.take(size)
            try:
                block.run(Bases(arena.address, arrays))
            except BaseException as error:
                self._raise(error)
            finally:
                POOL.give(arena)

        return run

    def _own_arena(self, block: Block) -> Callable[[list[Array]], None]:
        arena = Arena(self._arena_bytes)
        call, address, threads = block.call, arena.address, block.threads

        def run(arrays: list[Array]) -> None:
            status = call(address, arrays, threads)
            if status:
                try:
                    block.fail(status, Bases(arena.address, arrays))
                except BaseException as error:
                    self._raise(error)

        return run

    def _raise(self, error: BaseException) -> NoReturn:
        """Raise an error of a kernel, with the op, shapes and line of the user."""
        self._blame(error, error.__traceback__)
        if isinstance(error, KernelFailed):
            raise error.cause from None
        raise error

    def run(self, sources: Arrays, outputs: Arrays = (), writes: Arrays = ()) -> Lease | None:
        """Compute on these arrays; see `Program.run`."""
        if not self._poisoned:
            return self._run(sources, outputs, writes)
        zoned, count = Zoned([*outputs, *writes]), len(outputs)
        lease = self._run(sources, zoned.arrays[:count], zoned.arrays[count:])
        zoned.give_back()
        return lease

    def _run(self, sources: Arrays, outputs: Arrays, writes: Arrays) -> Lease | None:
        arena = POOL.take(self._arena_bytes, lasting=self._lasting)
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
            kept = self._keep(sources, arena)
            bases = Bases(arena.address, [*map(_plain, sources), *outputs, *writes])
            for code, views in zip(self._codes, frame.views, strict=True):
                code.run(views, bases)
        except BaseException as error:
            frame.release()
            POOL.give(arena)
            self._raise(error)
        frame.release()
        if not self._kept:
            POOL.give(arena)
            return None
        return Lease(kept, arena)

    def _keep(self, sources: Arrays, arena: Arena) -> list[Array]:
        """The kept values as arrays; one that views a source is copied before that is written."""
        kept = []
        for position, spec in self._kept:
            if position < 0:
                kept.append(make_view(arena.memory, spec))
            else:
                kept.append(make_view(bytes_of(sources[position]), spec).copy())
        return kept

    def _blame(self, error: BaseException, traceback: TracebackType | None) -> None:
        """Name the op, shapes and line of the user whose kernel raised."""
        for code in self._codes:
            found = code.culprit(error, traceback)
            if found is not None:
                nodes = self.frozen.nodes
                cause = error.cause if isinstance(error, KernelFailed) else error
                for i in self.kernels[found].nodes[:4]:
                    blame(cause, nodes[i], [nodes[j].shape for j in nodes[i].inputs])
                return

    def _how(self, kernel: int | None) -> dict[str, str]:
        if kernel is None:
            return super()._how(kernel)
        low = self.about.lowered[kernel]
        return {"mode": low.mode, "reason": low.reason, "executor": low.executor}


def _plain(array: Array) -> Array:
    """The array as machine code reads one: dense (a kept view may not be), and no subclass."""
    if type(array) is np.ndarray and array.flags.c_contiguous:
        return array
    return np.array(array, order="C", subok=False)


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
