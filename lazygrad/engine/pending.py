"""Who waits for what: pending tensors, pending writes, and what they will read.

A tensor without a value and a state with a pending next version wait for nodes to be computed.
Everything here walks from them and computes nothing; `realize.py` decides what runs when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized

import numpy as np

from lazygrad.engine.graph import Node, newest_id
from lazygrad.engine.handles import PENDING
from lazygrad.engine.modes import STATE
from lazygrad.engine.storage import Ref, Storage
from lazygrad.ops.opdef import Array, Kind
from lazygrad.ops.source import CONST, LITERAL

WRITES: dict[int, Storage] = {}  # node id -> the storage that it is the next version of


def pending_set(roots: Iterable[Node]) -> list[Node]:
    """The nodes without a value that the roots need, and those they start from; oldest first."""
    seen: dict[int, Node] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node.id in seen:
            continue
        seen[node.id] = node
        if node.id not in node.graph.values:
            stack.extend(node.inputs)
    return [seen[i] for i in sorted(seen)]


def is_bound(node: Node) -> bool:
    """Whether its value comes from outside of the program."""
    return node.op is not LITERAL and (node.op.kind is Kind.SOURCE or node.id in node.graph.values)


def value_of(node: Node) -> Array:
    """The array of a bound node."""
    if node.op is CONST:
        return np.asarray(node.payload, node.dtype.dtype)
    held = node.graph.values.get(node.id)
    if held is None:
        held = node.payload
    return held if isinstance(held, np.ndarray) else held.array()


def version_of(node: Node) -> Ref | None:
    """The version of a storage that a node's value is, if any."""
    if isinstance(node.payload, Ref):
        return node.payload
    held = node.graph.values.get(node.id)
    return held if isinstance(held, Ref) else None


def waiting() -> list[Node]:
    """What is still to be computed for somebody: pending tensors, pending writes."""
    live = [t._node for r in list(PENDING.values()) if (t := r()) is not None]
    live += [s.pending for s in list(WRITES.values())]
    return [n for n in live if n is not None]


class Backlog:
    """What is pending since earlier turns of a loop, such as `total += loss`.

    Each run looks at what is pending besides; when that look gets long, the next run first computes
    what was there before the last one, so that a loop of any length has turns of one cost.
    """

    LONG = 512  # nodes of one look

    def __init__(self) -> None:
        self.overdue = False
        self.clearing = False  # what cannot be computed stays, and must not be tried for ever
        self.newest = 0  # the newest node at the end of the last run

    def looked_at(self, seen: Sized) -> None:
        """Note the length of a look."""
        self.overdue |= len(seen) > self.LONG and not self.clearing

    def ran(self) -> None:
        """Note the end of a run."""
        self.newest = newest_id()

    def old(self) -> list[Node]:
        """The nodes of earlier turns that pending tensors still wait for."""
        old: list[Node] = []
        seen: set[int] = set()
        stack = waiting()
        while stack:
            node = stack.pop()
            if node.id in seen or is_bound(node):
                continue
            seen.add(node.id)
            if node.id <= self.newest and node.op.kind is not Kind.CALL:
                old.append(node)
            else:
                stack.extend(node.inputs)
        return [n for n in old if n.op is not LITERAL]


BACKLOG = Backlog()


def outside_readers(inside: set[int]) -> list[Node]:
    """The nodes of the set that pending tensors outside of it read (projections included)."""
    found: dict[int, Node] = {}
    seen: set[int] = set()
    stack = [n for n in waiting() if n.id not in inside]
    while stack:
        node = stack.pop()
        if node.id in seen or node.id in node.graph.values or node.op.kind is Kind.SOURCE:
            continue
        seen.add(node.id)
        ours = node.id in inside or (node.op.kind is Kind.PROJECT and node.inputs[0].id in inside)
        if ours and node.op.kind is not Kind.VIEW:  # what a view shows is kept, not the view
            found[node.id] = node
        else:
            stack.extend(node.inputs)
    BACKLOG.looked_at(seen)
    return [found[i] for i in sorted(found)]


def readers_of(nodes: list[Node]) -> list[Node]:
    """Nodes of live pending tensors that read what these nodes read or compute.

    Computing them in the same program spares keeping old versions and inner values: the loss,
    usually.
    """
    inside = {n.id for n in nodes}
    others = [
        t._node for r in list(PENDING.values())
        if (t := r()) is not None and t._node is not None and t._node.id not in inside
    ]  # fmt: skip
    if not others:
        return []
    reads = {n.id for n in nodes if n.inputs or isinstance(n.payload, Ref)}  # constants are shared
    seen: dict[int, Node] = {}
    stack = list(others)
    while stack:
        node = stack.pop()
        if node.id in seen or node.id in inside:
            continue
        seen[node.id] = node
        if node.id not in node.graph.values:
            stack.extend(node.inputs)
    BACKLOG.looked_at(seen)
    for i in sorted(seen):
        if seen[i].id not in seen[i].graph.values and any(n.id in reads for n in seen[i].inputs):
            reads.add(i)
    return [n for n in others if n.id in reads]


def writes_beside(nodes: list[Node]) -> list[Node]:
    """Pending writes that read what these nodes compute: running statistics, usually.

    Computed along, they neither compute it again nor keep it until somebody asks for them.
    """
    inside = {n.id for n in nodes}
    made = {n.id for n in nodes if n.inputs and n.op.kind is not Kind.VIEW and not is_bound(n)}
    found: list[Node] = []
    for storage in list(WRITES.values()):  # other threads stage writes meanwhile
        write = storage.pending
        if write is None or write.id in inside:
            continue
        if any(n.id in made for n in pending_set([write])):
            found.append(write)
    return found


# What a write must not overwrite --------------------------------------------------------------


def pins(running: set[int]) -> Callable[[Ref], bool]:
    """A test whether a pending tensor or write outside of the running set reads a version."""
    held: set[Ref] = set()
    seen: set[int] = set()
    stack = waiting()
    while stack:
        node = stack.pop()
        if node.id in seen or (node.id in running and node.op.kind is not Kind.VIEW):
            continue
        seen.add(node.id)
        value = node.graph.values.get(node.id)
        if value is None and node.op.kind is not Kind.SOURCE:
            stack.extend(node.inputs)
        elif isinstance(value, Ref):
            held.add(value)
        elif isinstance(node.payload, Ref):
            held.add(node.payload)
    BACKLOG.looked_at(seen)
    return held.__contains__


def pinned_by_pending(ref: Ref) -> bool:
    """Whether any pending tensor reads this version (for writes from the host)."""
    return pins(set())(ref) if PENDING or WRITES else False


# Pending writes -------------------------------------------------------------------------------


def stage_write(storage: Storage, node: Node) -> None:
    """Make `node` the pending next version of a storage."""
    old = storage.pending
    storage.pending = node
    if STATE.capture is not None:
        return  # noted, not done: the end of the trace puts the old one back
    if old is not None and WRITES.get(old.id) is storage:
        del WRITES[old.id]
    WRITES[node.id] = storage


def withdraw_write(storage: Storage, earlier: Node | None) -> None:
    """Forget the pending next version of a storage; `earlier` is pending again, if anything."""
    if storage.pending is earlier:
        return
    if storage.pending is not None:
        WRITES.pop(storage.pending.id, None)
    storage.pending = earlier
    if earlier is not None and earlier.id not in earlier.graph.values:
        WRITES[earlier.id] = storage
