"""Realizing: pending nodes become values, through the program cache.

`realize_nodes` computes the nodes that it is asked for and, in the same run, what is cheaper now
than later: writes and tensors that read the same values. Huge sets are cut into programs of
bounded size, and what earlier turns of a loop left pending is caught up with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lazygrad.config import config
from lazygrad.engine.graph import HOOKS, Graph, Node, cut
from lazygrad.engine.handles import HANDLES, PENDING
from lazygrad.engine.modes import LOCK, STATE
from lazygrad.engine.pending import (
    BACKLOG,
    WRITES,
    is_bound,
    pending_set,
    pins,
    readers_of,
    waiting,
    withdraw_write,
    writes_beside,
)
from lazygrad.engine.run import Run
from lazygrad.engine.storage import Ref, Storage
from lazygrad.errors import CaptureError, LazygradError
from lazygrad.ops.opdef import Kind
from lazygrad.ops.source import LITERAL

SEGMENT = 256  # nodes per program when a huge pending graph is cut
HUGE = 4096


def realize_nodes(targets: Iterable[Node]) -> None:
    """Compute the nodes, and whatever is worth keeping of what they need."""
    try:
        _realize(targets)
    except LazygradError:
        drop_hopeless()
        raise


def _realize(targets: Iterable[Node], with_readers: bool = False) -> None:
    todo = [n for n in targets if not is_bound(n) or n.id in WRITES]
    if not todo:
        return
    if STATE.capture is not None or STATE.trace:
        raise CaptureError(
            "a value is needed while a function is being captured; move the reading outside of the"
            " captured function, or return the tensor"
        )
    with LOCK:
        if BACKLOG.overdue:
            catch_up()
        todo = [n for n in todo if n.id not in n.graph.values]
        if not todo:
            return
        pending = pending_set(todo)
        readers = readers_of(pending) if with_readers else []
        readers += writes_beside(pending) if WRITES else []
        if readers:
            todo += readers
            pending = pending_set(todo)
        if len(pending) > HUGE:
            _realize_in_segments(pending, todo)
            todo = [n for n in todo if n.id not in n.graph.values]
            pending = pending_set(todo)
        graphs = {n.graph for n in todo}
        if len(graphs) == 1:
            Run(todo, pending).execute()
            return
        for graph in graphs:
            own = [n for n in todo if n.graph is graph]
            Run(own, pending_set(own)).execute()


def _realize_in_segments(pending: list[Node], targets: list[Node]) -> None:
    """Cut a huge pending set by age into programs of bounded size.

    Chains of equal segments share one program. Values between segments live until the last one
    that reads them has run.
    """
    nodes = [n for n in pending if not is_bound(n) and n.op is not LITERAL]
    last_use: dict[int, int] = {}
    for block, start in enumerate(range(0, len(nodes), SEGMENT)):
        for n in nodes[start : start + SEGMENT]:
            for i in n.inputs:
                last_use[i.id] = block
    temporary: list[Node] = []
    final = {n.id for n in targets}
    for block, start in enumerate(range(0, len(nodes) - SEGMENT, SEGMENT)):
        part = nodes[start : start + SEGMENT]
        cut = [n for n in part if last_use.get(n.id, block) > block or n.id in final]
        cut = [n for n in cut if n.op.kind is not Kind.CALL]
        if cut:
            Run(cut, pending_set(cut), segment=True).execute()
        temporary.extend(cut)
        alive: list[Node] = []
        for n in temporary:
            done = last_use.get(n.id, -1) <= block and n.id not in final
            if done and n.id not in HANDLES and not n.requires_grad:
                n.graph.forget(n.id)
            else:
                alive.append(n)
        temporary = alive


def realize_graph(graph: Graph) -> None:
    """Realize every live tensor of a graph."""
    live = [t._node for r in list(PENDING.values()) if (t := r()) is not None]
    realize_nodes([n for n in live if n is not None and n.graph is graph])


def _realize_what_can_be(nodes: list[Node]) -> None:
    """Compute nodes that nobody has asked for: those that fail do so when somebody does."""
    try:
        _realize(nodes)
    except LazygradError:
        half = len(nodes) // 2
        if half:
            _realize_what_can_be(nodes[:half])
            _realize_what_can_be(nodes[half:])


def catch_up() -> None:
    """Compute what pending tensors wait for since earlier turns of a loop."""
    BACKLOG.overdue = False
    old = BACKLOG.old()
    BACKLOG.clearing = True
    try:
        _realize_what_can_be(old)
    finally:
        BACKLOG.clearing = False


def pins_before_step() -> Callable[[Ref], bool]:
    """The same as a test for many versions, once what is overdue has been computed."""
    if BACKLOG.overdue:
        catch_up()
    return pins(set())


def flush_writes(storages: Iterable[Storage], together: bool = False) -> None:
    """Realize the pending writes of these storages, in as few programs as possible.

    Where one fails, it is dropped: it would fail again. `together` leaves that to the caller.
    """
    if STATE.capture is not None:
        STATE.capture.eager = True  # a step: calls of the captured function run at once
        return
    writes = [s.pending for s in storages if s.pending is not None]
    if not writes or STATE.trace:
        return
    try:
        _realize(writes, with_readers=True)
    except LazygradError:  # a tensor that somebody still holds may fail: not the writes' fault
        try:
            _realize(writes)
        except LazygradError:
            if not together:
                drop_hopeless()
            raise


def drop_hopeless() -> None:
    """Drop the pending writes that cannot be computed, so that the states stay as they were.

    Running statistics of a call whose labels are out of range would otherwise fail every later
    step.
    """
    if STATE.capture is not None or STATE.trace:
        return  # nothing can be computed now
    for storage in list(WRITES.values()):
        node = storage.pending
        try:
            if node is not None:
                _realize([node])
        except LazygradError:
            withdraw_write(storage, None)


def flush_old(graph: Graph) -> None:
    """Bound the growth of a graph: realize what is pending, cut what needs no gradient."""
    _realize_what_can_be([n for n in waiting() if n.graph is graph])
    for node in graph.nodes:
        if not node.requires_grad and node.id in graph.values:
            cut(node, keep=True)
    graph.flush_at = max(config.flush_nodes, 2 * len(graph))
    graph.inlined = 0


HOOKS.realize_graph = realize_graph
