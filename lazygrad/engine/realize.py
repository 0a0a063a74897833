"""Realizing: pending nodes become values, through the program cache.

`realize_nodes` takes the pending nodes that the targets need, keys them structurally, finds or
builds the program of that structure and runs it. What is worth keeping comes out of the same run:
every value that a live tensor shows, pending writes of state, values that other pending tensors
read, and what a later backward pass of a realized tensor will read.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.config import config
from lazygrad.engine.anomaly import inspect
from lazygrad.engine.autodiff import is_leaf, pullback
from lazygrad.engine.body import project
from lazygrad.engine.compiler import program_for, settings_key
from lazygrad.engine.freeze import freeze
from lazygrad.engine.frozen import exact
from lazygrad.engine.graph import (
    DOOMED,
    HANDLES,
    HOOKS,
    KEPT,
    PENDING,
    Graph,
    Node,
    Saved,
    cut,
    doom,
    mark_realized,
    newest_id,
)
from lazygrad.engine.modes import LOCK, STATE
from lazygrad.engine.storage import Ref, Storage
from lazygrad.errors import CaptureError, LazygradError
from lazygrad.ops.opdef import Array, Kind
from lazygrad.ops.source import CONST, DATA, LITERAL

if TYPE_CHECKING:
    from lazygrad.engine.program import Program

WRITES: dict[int, Storage] = {}  # node id -> the storage that it is the next version of
SEGMENT = 256  # nodes per program when a huge pending graph is cut
HUGE = 4096


class Kept:
    """Which nodes of a pending set stay readable: positions, and (call position, output)."""

    __slots__ = ("bound", "calls", "nodes", "refs", "spare")

    def __init__(
        self, nodes: list[int], calls: list[tuple[int, int]], refs: list[int], bound: list[int]
    ) -> None:
        self.nodes = nodes
        self.calls = calls
        self.refs = refs  # positions of sources whose version is pinned
        self.bound = bound  # positions of nodes that had a value before
        self.spare: list[int] = []  # those of `nodes` that only pending tensors will read


class Entry:
    """A cached realization: the program and what to keep for backward."""

    __slots__ = ("bound", "kept", "program")

    def __init__(self, program: Program, bound: list[Any], kept: Kept) -> None:
        self.program = program
        self.bound = bound  # how to find each source: (position,) or (call position, node)
        self.kept = kept


_ENTRIES: OrderedDict[Any, Entry] = OrderedDict()
_LIMIT = 512


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


def _structural_key(nodes: list[Node], roots: list[int], extra: Any) -> Any:
    index = {n.id: i for i, n in enumerate(nodes)}
    parts: list[Any] = []
    for n in nodes:
        if is_bound(n):
            parts.append((n.op.kind is Kind.SOURCE, n.shape, n.dtype, n.requires_grad))
        elif n.op.kind is Kind.CALL:
            parts.append((n.payload.uid, tuple([index[i.id] for i in n.inputs])))
        else:
            attrs = tuple([(k, exact(v)) for k, v in n.attrs.items()]) if n.attrs else ()
            parts.append((n.op, n.dtype, tuple([index[i.id] for i in n.inputs]), attrs))
    return (tuple(parts), tuple(roots), extra, settings_key())


def _waiting() -> list[Node]:
    """What is still to be computed for somebody: pending tensors, pending writes."""
    live = [t._node for r in list(PENDING.values()) if (t := r()) is not None]
    live += [s.pending for s in list(WRITES.values())]
    return [n for n in live if n is not None]


class _Backlog:
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

    def clear(self) -> None:
        """Compute the nodes of earlier turns that pending tensors still wait for."""
        self.overdue = False
        old: list[Node] = []
        seen: set[int] = set()
        stack = _waiting()
        while stack:
            node = stack.pop()
            if node.id in seen or is_bound(node):
                continue
            seen.add(node.id)
            if node.id <= self.newest and node.op.kind is not Kind.CALL:
                old.append(node)
            else:
                stack.extend(node.inputs)
        self.clearing = True
        try:
            _realize_what_can_be([n for n in old if n.op is not LITERAL])
        finally:
            self.clearing = False


BACKLOG = _Backlog()


def _outside_readers(inside: set[int]) -> list[Node]:
    """The nodes of the set that pending tensors outside of it read (projections included)."""
    found: dict[int, Node] = {}
    seen: set[int] = set()
    stack = [n for n in _waiting() if n.id not in inside]
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


def _residuals(roots: list[Node], nodes: list[Node]) -> Kept:
    """What a backward pass from these roots would read: that pass is written down and read."""
    index = {n.id: i for i, n in enumerate(nodes)}
    graph = roots[0].graph
    before = STATE.graph, STATE.busy
    STATE.graph, STATE.busy = graph, True
    try:
        seeds = [
            (n, HOOKS.wrap(graph.source(("probe", n.id), n.shape, n.dtype, DATA))) for n in roots
        ]
        leaves = [n for n in nodes if n.requires_grad and is_leaf(n)]
        grads = pullback(seeds, leaves)
    finally:
        STATE.graph, STATE.busy = before
    stack = [g._node for g in grads.values()]
    kept, calls, refs, values = set(), set(), set(), set()
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if node is None or node.id in seen:
            continue
        seen.add(node.id)
        if node.id in index and node.op.kind is not Kind.VIEW:
            if not is_bound(node):
                kept.add(index[node.id])
            elif isinstance(node.payload, Ref):
                refs.add(index[node.id])
            elif node.op.kind is not Kind.SOURCE:
                values.add(index[node.id])
        elif node.op.kind is Kind.PROJECT and node.inputs[0].id in index:
            calls.add((index[node.inputs[0].id], node.attrs["index"]))
        else:
            stack.extend(node.inputs)
    return Kept(sorted(kept), sorted(calls), sorted(refs), sorted(values))


def _differentiable_roots(shown: list[Node]) -> list[Node]:
    """The shown nodes from which a backward pass may start later."""
    return [
        n for n in shown
        if n.requires_grad and not is_leaf(n) and n.id not in n.graph.saved
    ]  # fmt: skip


class _Run:
    """One realization: which nodes, which of them come out, where their values go."""

    def __init__(self, targets: Sequence[Node], nodes: list[Node], segment: bool = False) -> None:
        self.nodes = nodes
        inside = {n.id for n in self.nodes}
        self._add_projections(inside)
        self.writes = [
            (n, s) for n in self.nodes
            if (s := WRITES.get(n.id)) is not None and n.id not in n.graph.values
        ]  # fmt: skip
        wanted = {n.id for n in targets}
        self.shown = [
            n for n in self.nodes
            if not is_bound(n)
            and n.id not in WRITES
            and (n.id in HANDLES or n.id in wanted)
            and n.op.kind is not Kind.CALL
        ]  # fmt: skip
        readers = [] if segment else _outside_readers(inside)
        self.readers = [n for n in readers if n.id not in HANDLES and n.id not in WRITES]
        for n in self.readers:
            if n.id not in inside:
                self.nodes.append(n)
        self.roots = _differentiable_roots(self.shown)

    def _add_projections(self, inside: set[int]) -> None:
        """A call runs once: whatever is alive of its other outputs comes along."""
        for call in [n for n in self.nodes if n.op.kind is Kind.CALL and not is_bound(n)]:
            for i in range(call.payload.results):
                found = call.graph._find((call.id, i))
                if found is None or found.id in inside or found.id in found.graph.values:
                    continue
                if found.id in HANDLES or found.id in WRITES:
                    self.nodes.append(found)
                    inside.add(found.id)

    def entry(self) -> Entry:
        """The cached program of this structure, built when it is new."""
        index = {n.id: i for i, n in enumerate(self.nodes)}
        out = [index[n.id] for n in self.shown]
        wr = [index[n.id] for n, _ in self.writes]
        rd = [index[n.id] for n in self.readers]
        at = {ref: i for i, n in reversed([*enumerate(self.nodes)]) if (ref := version_of(n))}
        sources = [at.get(s.ref, -1) for _, s in self.writes]
        extra = (tuple(wr), tuple(rd), tuple(sources), tuple(index[n.id] for n in self.roots))
        key = _structural_key(self.nodes, out, extra)
        found = _ENTRIES.get(key)
        if found is None:
            kept = _residuals(self.roots, self.nodes) if self.roots else Kept([], [], [], [])
            kept.spare = sorted({*rd} - {*kept.nodes} - {*out})
            kept.nodes = sorted({*kept.nodes, *rd} - {*out})
            frozen, bound = freeze(
                self.nodes, out, kept.nodes, kept.calls,
                list(zip(wr, sources, (s for _, s in self.writes), strict=True)), is_bound,
            )  # fmt: skip
            found = _ENTRIES[key] = Entry(program_for(frozen), bound, kept)
            while len(_ENTRIES) > _LIMIT:
                _ENTRIES.popitem(last=False)
        else:
            _ENTRIES.move_to_end(key)
        return found

    def execute(self) -> None:
        """Run the program and put every value where it belongs."""
        entry = self.entry()
        arrays = [self._source(spec) for spec in entry.bound]
        outputs = [np.empty(n.shape, n.dtype.dtype) for n in self.shown]
        running = {n.id for n in self.nodes if not is_bound(n)}
        pinned = _pins(running) if self.writes else _nothing
        if self.writes:  # what the program reads under two names is not written over
            names = Counter(ref for n in self.nodes if (ref := version_of(n)))
            pinned = _either(pinned, lambda ref: names[ref] > 1)
        targets = [s.target(pinned) for _, s in self.writes]
        kept_calls = [(project(self.nodes[c], i)) for c, i in entry.kept.calls]
        if STATE.anomaly:
            inspect(entry.program.frozen, arrays)
        lease = entry.program.run(arrays, outputs, targets)
        for node in self.nodes:
            if node.op.kind is Kind.CALL:
                node.payload.program = entry.program
        for node, array in zip(self.shown, outputs, strict=True):
            node.graph.values[node.id] = array
            mark_realized(node)
        for (node, storage), array in zip(self.writes, targets, strict=True):
            ref = storage.advance(array, node.where)
            node.graph.values.setdefault(node.id, ref)
            ref.shown = HANDLES.get(node.id)
            WRITES.pop(node.id, None)
            mark_realized(node)
        kept_nodes = [*(self.nodes[i] for i in entry.kept.nodes), *kept_calls]
        if lease is not None:
            for node, array in zip(kept_nodes, lease.kept, strict=True):
                if node.id in node.graph.values:
                    continue  # it came out as an output
                node.graph.values[node.id] = array
                node.graph.leases[node.id] = lease
                mark_realized(node)
        if self.roots:
            kept_nodes += [self.nodes[i] for i in entry.kept.bound]
            saved = Saved(kept_nodes, [self.nodes[i].payload for i in entry.kept.refs])
            for root in self.roots:
                root.graph.saved[root.id] = saved
        for i in entry.kept.spare:
            doom(self.nodes[i].id, self.nodes[i].graph)
        _settle(self.nodes)
        BACKLOG.ran()

    def _source(self, spec: Any) -> Array:
        kind, what = spec
        if kind == "node":
            return value_of(self.nodes[what])
        if kind == "inner":
            return value_of(what)
        _, storage = self.writes[int(what)]
        return storage.current()


def _settle(nodes: list[Node]) -> None:
    """Drop what nobody will read again: values of a finished backward pass, arguments of calls."""
    done = [n for n in nodes if n.op.kind is Kind.CALL and _finished(n)]
    arguments = [
        n for n in nodes
        if isinstance(n.payload, Ref) and (call := n.payload.storage.call) is not None
        and (c := call()) is not None and _finished(c)
    ]  # fmt: skip
    if not (DOOMED or done or arguments):
        return
    needed = {n.id for n in pending_set(_waiting())}
    for node_id, graph in list(DOOMED.items()):
        if node_id in KEPT or node_id in HANDLES:
            del DOOMED[node_id]  # it will be doomed again when they let go
        elif node_id not in needed:
            graph.forget(node_id)
    for finished in done:
        arguments.extend(finished.inputs)
    for n in arguments:
        ref = n.payload
        if isinstance(ref, Ref) and (call := ref.storage.call) is not None and n.id not in needed:
            forward = call()
            if forward is None or _finished(forward):  # else another backward pass will read it
                ref.storage.array = None


def _finished(call: Node) -> bool:
    """Whether no backward pass through a call is to be expected."""
    return not call.requires_grad or call.id in call.graph.saved


def _nothing(ref: Ref) -> bool:
    return False


def _either(one: Callable[[Ref], bool], other: Callable[[Ref], bool]) -> Callable[[Ref], bool]:
    return lambda ref: one(ref) or other(ref)


def _pins(running: set[int]) -> Any:
    """A test whether a pending tensor or write outside of the running set reads a version."""
    held: set[Ref] = set()
    seen: set[int] = set()
    stack = _waiting()
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
    return bool(_pins(set())(ref)) if PENDING or WRITES else False


def pins_before_step() -> Callable[[Ref], bool]:
    """The same as a test for many versions, once what is overdue has been computed."""
    if BACKLOG.overdue:
        BACKLOG.clear()
    pinned: Callable[[Ref], bool] = _pins(set())
    return pinned


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
            BACKLOG.clear()
        todo = [n for n in todo if n.id not in n.graph.values]
        if not todo:
            return
        pending = pending_set(todo)
        readers = _readers_of(pending) if with_readers else []
        readers += _writes_beside(pending) if WRITES else []
        if readers:
            todo += readers
            pending = pending_set(todo)
        if len(pending) > HUGE:
            _realize_in_segments(pending, todo)
            todo = [n for n in todo if n.id not in n.graph.values]
            pending = pending_set(todo)
        graphs = {n.graph for n in todo}
        if len(graphs) == 1:
            _Run(todo, pending).execute()
            return
        for graph in graphs:
            own = [n for n in todo if n.graph is graph]
            _Run(own, pending_set(own)).execute()


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
            _Run(cut, pending_set(cut), segment=True).execute()
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


def _readers_of(nodes: list[Node]) -> list[Node]:
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


def _writes_beside(nodes: list[Node]) -> list[Node]:
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


def flush_old(graph: Graph) -> None:
    """Bound the growth of a graph: realize what is pending, cut what needs no gradient."""
    _realize_what_can_be([n for n in _waiting() if n.graph is graph])
    for node in graph.nodes:
        if not node.requires_grad and node.id in graph.values:
            cut(node, keep=True)
    graph.flush_at = max(config.flush_nodes, 2 * len(graph))
    graph.inlined = 0


HOOKS.realize_graph = realize_graph
