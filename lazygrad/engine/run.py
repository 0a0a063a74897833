"""One realization: the program of a set of pending nodes, and where its values go.

Pending nodes are keyed structurally; their program is found or built, then run. What is worth
keeping comes out of the same run: every value that a live tensor shows, pending writes of state,
values that other pending tensors read, and what a later backward pass of a realized tensor will
read.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.engine.anomaly import inspect
from lazygrad.engine.autodiff import is_leaf, pullback
from lazygrad.engine.body import project
from lazygrad.engine.compiler import program_for, settings_key
from lazygrad.engine.freeze import freeze
from lazygrad.engine.frozen import exact
from lazygrad.engine.graph import HOOKS, Node
from lazygrad.engine.handles import DOOMED, HANDLES, KEPT, Saved, doom, mark_realized
from lazygrad.engine.modes import STATE
from lazygrad.engine.pending import (
    BACKLOG,
    WRITES,
    is_bound,
    outside_readers,
    pending_set,
    pins,
    value_of,
    version_of,
    waiting,
)
from lazygrad.engine.storage import Ref
from lazygrad.ops.opdef import Array, Kind
from lazygrad.ops.source import DATA

if TYPE_CHECKING:
    from lazygrad.engine.program import Program


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


class Run:
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
        readers = [] if segment else outside_readers(inside)
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
        targets = self._targets()
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
        settle(self.nodes)
        BACKLOG.ran()

    def _targets(self) -> list[Array]:
        """The arrays that pending writes go to."""
        if not self.writes:
            return []
        waited_for = pins({n.id for n in self.nodes if not is_bound(n)})
        names = Counter(ref for n in self.nodes if (ref := version_of(n)))

        def pinned(ref: Ref) -> bool:
            """What the program reads under two names is not written over either."""
            return waited_for(ref) or names[ref] > 1

        return [storage.target(pinned) for _, storage in self.writes]

    def _source(self, spec: Any) -> Array:
        kind, what = spec
        if kind == "node":
            return value_of(self.nodes[what])
        if kind == "inner":
            return value_of(what)
        _, storage = self.writes[int(what)]
        return storage.current()


def settle(nodes: list[Node]) -> None:
    """Drop what nobody will read again: values of a finished backward pass, arguments of calls."""
    done = [n for n in nodes if n.op.kind is Kind.CALL and _finished(n)]
    arguments = [
        n for n in nodes
        if isinstance(n.payload, Ref) and (call := n.payload.storage.call) is not None
        and (c := call()) is not None and _finished(c)
    ]  # fmt: skip
    if not (DOOMED or done or arguments):
        return
    needed = {n.id for n in pending_set(waiting())}
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
