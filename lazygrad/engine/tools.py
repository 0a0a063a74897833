"""Small things that users of a lazy system ask for: realize several at once, time honestly."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from lazygrad.engine.arena import POOL
from lazygrad.engine.graph import Graph
from lazygrad.engine.handles import HANDLES, PENDING
from lazygrad.engine.pytree import flatten
from lazygrad.engine.realize import realize_graph, realize_nodes
from lazygrad.engine.tensor import Tensor


def realize(*things: Any) -> None:
    """Compute tensors, graphs, or containers of them, together in as few programs as possible.

    >>> import lazygrad as lg
    >>> a, b = lg.ones(2) + 1, lg.ones(2) * 3
    >>> lg.realize(a, b)
    >>> a.is_realized and b.is_realized
    True
    """
    nodes = []
    for thing in flatten(things)[0]:
        if isinstance(thing, Graph):
            realize_graph(thing)
        elif isinstance(thing, Tensor):
            if thing._node is None:
                thing.realize()
            else:
                thing._check_readable()
                nodes.append(thing._node)
        else:
            raise TypeError(f"realize takes tensors and graphs, got {type(thing).__name__}")
    if nodes:
        realize_nodes(nodes)


def synchronize() -> None:
    """Wait until everything that was started is done; on a CPU it always is."""


class Timing(NamedTuple):
    """Seconds of a benchmarked function: the first call (capture and compile), and the rest."""

    first: float
    median: float
    best: float
    runs: int


def benchmark(
    fn: Callable[..., Any], *args: Any, seconds: float = 0.5, repeats: int = 1000
) -> Timing:
    """Time `fn(*args)` including the values of what it returns.

    A loop that only calls a lazy function times the building of a graph; this forces results, and
    reports the first call apart.
    """

    def once() -> float:
        start = time.perf_counter()
        found = [t for t in flatten(fn(*args))[0] if isinstance(t, Tensor)]
        realize(*found)
        return time.perf_counter() - start

    first = once()
    times = [once()]
    while len(times) < repeats and sum(times) < seconds:
        times.append(once())
    return Timing(first, sorted(times)[len(times) // 2], min(times), len(times))


def memory_stats() -> dict[str, int]:
    """Live tensors, pending ones, and bytes of the arena pool."""
    return {
        "tensors": len(HANDLES),
        "pending": len(PENDING),
        "arena_bytes": POOL.free_bytes,
    }
