"""From a frozen graph to a program, and the cache of programs.

`compile_graph` is the compiler: passes, layout, fusion, schedule, memory plan, kernels, code, each
a function of what the one before gave. `program_for` finds or builds the program of a structure.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from lazygrad.config import config
from lazygrad.engine import stored
from lazygrad.engine.collector import collector_paused
from lazygrad.engine.compiler import settings_key
from lazygrad.engine.emit import build_kernels, emit_code, lower_all
from lazygrad.engine.executable import (
    About,
    CompiledProgram,
    Lease,
    Program,
    ReferenceProgram,
    Running,
    naive_bytes,
)
from lazygrad.engine.frozen import FrozenGraph
from lazygrad.engine.fuse import fuse
from lazygrad.engine.layouts import lay_out
from lazygrad.engine.memory import (
    Buffer,
    MemoryPlan,
    check_plan,
    find_buffers,
    give_offsets,
    live_bytes,
)
from lazygrad.engine.passes import run_pipeline, verify
from lazygrad.engine.schedule import schedule
from lazygrad.engine.zones import ZONE
from lazygrad.runtime.dispatch import threads

__all__ = [
    "CACHE",
    "Lease",
    "Program",
    "ProgramCache",
    "compile_graph",
    "program_for",
    "settings_key",
]


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
    kernels, roots = build_kernels(layouts, plan, overs)
    lowered = lower_all(layouts.frozen, kernels)
    spaces = [Buffer(low.workspace, k, k) for k, low in enumerate(lowered)]
    private = max((low.local for low in lowered), default=0) * threads()
    local = Buffer(private, 0, len(lowered))
    planned = [*buffers, *spaces, *([local] if private else [])]
    zone = ZONE if config.poison else 0
    total = give_offsets(planned, reuse, zone)
    if config.verify:
        check_plan(planned, total)
    memory = MemoryPlan(
        planned, total, live_bytes(planned, len(lowered)),
        naive_bytes(frozen), plan.order_name, plan.peaks,
    )  # fmt: skip
    codes = emit_code(
        layouts, kernels, lowered, roots, buffers, spaces, local, name or "program"
    )  # fmt: skip
    running = Running.of(layouts, memory, codes, plan.overwrites)
    about = About(layouts.frozen, memory, tuple(kernels), tuple(lowered))
    program = CompiledProgram(layouts.frozen, running, about, name)
    _report(program)
    return program


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
        for kernel, low in zip(program.kernels, program.about.lowered, strict=True):
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
        with collector_paused():
            program = compiler(frozen)  # without the lock: two threads may both compile, no harm
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


CACHE = ProgramCache()


def program_for(frozen: FrozenGraph) -> Program:
    """The cached program of a frozen graph (same structure and settings: same program)."""
    return CACHE.get(frozen, _loaded_or_compiled)


def _loaded_or_compiled(frozen: FrozenGraph) -> Program:
    name = stored.name_of(frozen)
    found = None if name is None else stored.load(name, frozen, compile_graph)
    if found is not None:
        return found
    program = compile_graph(frozen)
    if name is not None:
        stored.keep(name, program)
    return program
