"""`Program`: a compiled graph that runs again and again on arrays given at each run.

A program is immutable and owns no storage. Each run binds source, output and write arrays by
pointer and leases an arena for the values in between; when the graph keeps values for a later
backward pass, the caller gets the lease and the arena is returned when it ends. Two leases of one
program can be alive at once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lazygrad.config import config
from lazygrad.engine.arena import POOL, Arena
from lazygrad.engine.frozen import FrozenGraph
from lazygrad.engine.interpret import interpret, last_uses
from lazygrad.ops.opdef import Array

Arrays = Sequence[np.ndarray[Any, Any]]


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
    """A compiled graph. Build it with `compile_graph` or `program_for`."""

    def __init__(self, frozen: FrozenGraph, name: str = "") -> None:
        self.frozen = frozen
        self.name = name
        self._dying = last_uses(frozen)

    def run(self, sources: Arrays, outputs: Arrays = (), writes: Arrays = ()) -> Lease | None:
        """Compute on these arrays; see `FrozenGraph` for what they are.

        `sources` are read in place and never copied, `outputs` and `writes` are filled; the array
        of a write may be the one bound as its source. Returns a `Lease` when the graph keeps
        values, else None.
        """
        kept = interpret(self.frozen, self._dying, sources, outputs, writes)
        return Lease(kept, None) if self.frozen.kept else None


def compile_graph(frozen: FrozenGraph, *, name: str = "") -> Program:
    """Compile a frozen graph for the current settings."""
    return Program(frozen, name)


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
        config.poison, config.validate,
    )  # fmt: skip


CACHE = ProgramCache()


def program_for(frozen: FrozenGraph) -> Program:
    """The cached program of a frozen graph (same structure and settings: same program)."""
    return CACHE.get(frozen, compile_graph)
