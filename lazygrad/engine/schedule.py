"""The order of kernels: the one that needs the least memory.

Checks come first, and a write of state comes after every read of the old value.
Three orders are tried: the user's, a greedy one that always runs the ready kernel that frees most,
and depth first from the results (finish what is started). The one with the smallest peak wins.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from lazygrad.engine.frozen import FNode
from lazygrad.engine.groups import EXTERN, ROWS, Group
from lazygrad.engine.layouts import ARENA, COPY, WRITE, Home, Layouts, contiguous
from lazygrad.engine.stages import Form, can_overwrite, form_stages
from lazygrad.ops.opdef import Kind

GREEDY_LIMIT = 1500  # kernels; beyond, only the user's order is used


@dataclass(slots=True)
class Schedule:
    """Kernels in order; `before[k]` are the positions of those that k waits for."""

    forms: list[Form]
    overwrites: dict[int, int]  # written value -> the source whose array it goes to in place
    order_name: str = ""
    peaks: dict[str, int] = field(default_factory=dict)  # order -> its peak in bytes


class _Graph:
    """Groups and what each has to wait for."""

    def __init__(self, layouts: Layouts, groups: list[Group]) -> None:
        self.layouts = layouts
        self.where: dict[int, int] = {i: k for k, g in enumerate(groups) for i in g.nodes}
        self.before: list[set[int]] = [set() for _ in groups]
        self.after: list[set[int]] = [set() for _ in groups]
        self.readers: dict[int, set[int]] = {}  # root -> groups that read it
        for k, group in enumerate(groups):
            self._link(k, group)
        for root, readers in self.readers.items():
            made = self.where.get(root)
            if made is not None and readers - {made}:
                layouts.exported.add(root)
        for group in groups:  # an opaque op fills its buffer, also when nobody reads it
            if group.form is EXTERN:
                layouts.exported.update(i for i in group.nodes if layouts.root[i] == i)
        layouts.exported.update(layouts.homes)
        self.forms = [form_stages(layouts, g) for g in groups]

    def _link(self, k: int, group: Group) -> None:
        layouts = self.layouts
        for i in group.nodes:
            for j in layouts.frozen.nodes[i].inputs:
                root = layouts.root[j]
                self.readers.setdefault(root, set()).add(k)
                for made in (root, layouts.after[j]):
                    at = self.where.get(made, k)
                    if at != k:
                        self.edge(at, k)

    def edge(self, first: int, then: int) -> None:
        """Make one group run before another."""
        self.before[then].add(first)
        self.after[first].add(then)

    def reaches(self, start: int) -> set[int]:
        """The groups that run after `start` in any order."""
        found: set[int] = set()
        stack = [start]
        while stack:
            for k in self.after[stack.pop()]:
                if k not in found:
                    found.add(k)
                    stack.append(k)
        return found

    def add(self, group: Group) -> int:
        """One more group."""
        k = len(self.forms)
        self.forms.append(form_stages(self.layouts, group))
        self.before.append(set())
        self.after.append(set())
        self.where.update((i, k) for i in group.nodes)
        self._link(k, group)
        return k


def _order_writes(graph: _Graph) -> dict[int, int]:
    """Put each write after every read of the old value.

    Where that is impossible, the new value is made in the arena first and copied at the end.
    Returns the writes that happen in place.
    """
    layouts = graph.layouts
    overwrites: dict[int, int] = {}
    late = []
    for k, (at, new) in enumerate(layouts.frozen.writes):
        home = layouts.homes.get(new)
        if home is None or home.place is not WRITE:
            continue  # an empty array
        old = layouts.frozen.sources[at]
        writer = graph.where[new]
        readers = graph.readers.get(old, set())
        inside = writer in readers
        aligned = not inside or can_overwrite(layouts, graph.forms[writer], old, new)
        others = readers - {writer}
        if not aligned or (others and others & graph.reaches(writer)):
            late.append((k, at, new))
            continue
        for reader in others:
            graph.edge(reader, writer)
        if inside:
            overwrites[new] = old
    for k, at, new in late:
        _write_late(graph, k, at, new)
    return overwrites


def _write_late(graph: _Graph, k: int, at: int, new: int) -> None:
    """Keep a new state in the arena and copy it to its storage when nobody reads the old one."""
    layouts = graph.layouts
    node = layouts.frozen.nodes[new]
    copy = FNode(COPY, (new,), {}, node.shape, node.dtype, node.site, node.name)
    index = len(layouts.frozen.nodes)
    writes = list(layouts.frozen.writes)
    writes[k] = (at, index)
    layouts.frozen = layouts.frozen.replace(
        nodes=(*layouts.frozen.nodes, copy), writes=tuple(writes)
    )
    layouts.root.append(index)
    layouts.layout.append(contiguous(node.shape))
    layouts.guard.append(-1)
    layouts.after.append(-1)
    layouts.homes[index] = Home(WRITE, k)
    del layouts.homes[new]
    layouts.exported.update((new, index))
    group = Group(ROWS, 0, [index], node.shape, {new}, node.nbytes, node.nbytes)
    group.reason = "the old value is still read while the new one is made"
    old = layouts.frozen.sources[at]
    writer = graph.add(group)
    for reader in graph.readers.get(old, ()):
        if reader != writer:
            graph.edge(reader, writer)


class _Sizes:
    """Arena bytes that each group makes, and how often each value is still to be read."""

    def __init__(self, graph: _Graph) -> None:
        layouts = graph.layouts
        self.made: list[list[tuple[int, int]]] = [[] for _ in graph.forms]
        self.reads: list[list[int]] = [[] for _ in graph.forms]
        self.count: dict[int, int] = {}
        self.size: dict[int, int] = {}
        for root in layouts.exported:
            home = layouts.homes.get(root)
            if home is not None and home.place is not ARENA:
                continue
            size = layouts.frozen.nodes[root].nbytes
            self.made[graph.where[root]].append((root, size))
            self.size[root] = size
            readers = graph.readers.get(root, set())
            self.count[root] = len(readers) + (home is not None)
            for k in readers:
                self.reads[k].append(root)

    def peak(self, order: list[int]) -> int:
        """The largest sum of live bytes in this order."""
        left = dict(self.count)
        live = peak = 0
        for k in order:
            live += sum(size for _, size in self.made[k])
            peak = max(peak, live)
            for root in self.reads[k]:
                left[root] -= 1
                if not left[root]:
                    live -= self.size[root]
        return peak


def _by_priority(
    graph: _Graph, start: int, priority: Callable[[int], float], on_run: Callable[[int], None]
) -> list[int]:
    """A topological order that always takes the ready group of smallest priority."""
    waits = [len(b) for b in graph.before]
    order = list(range(start))
    for k in order:
        for after in graph.after[k]:
            waits[after] -= 1
        on_run(k)
    ready = [(priority(k), k) for k in range(start, len(waits)) if not waits[k]]
    heapq.heapify(ready)
    while ready:
        stale, k = heapq.heappop(ready)
        now = priority(k)
        if ready and (now, k) > ready[0] and now > stale:
            heapq.heappush(ready, (now, k))
            continue
        order.append(k)
        on_run(k)
        for after in graph.after[k]:
            waits[after] -= 1
            if not waits[after]:
                heapq.heappush(ready, (priority(after), after))
    return order


def _greedy(graph: _Graph, start: int, sizes: _Sizes) -> list[int]:
    """Run what frees most next."""
    left = dict(sizes.count)

    def growth(k: int) -> float:
        freed = sum(sizes.size[r] for r in sizes.reads[k] if left[r] == 1)
        return float(sum(size for _, size in sizes.made[k]) - freed)

    def run(k: int) -> None:
        for root in sizes.reads[k]:
            left[root] -= 1

    return _by_priority(graph, start, growth, run)


def _depth_first(graph: _Graph, start: int, sizes: _Sizes) -> list[int]:
    """Finish what is started: post-order from the results, larger operands first."""
    order = list(range(start))
    done = set(order)
    weight = [sum(size for _, size in made) for made in sizes.made]
    ends = [k for k in range(start, len(graph.forms)) if not graph.after[k]]
    for end in ends:
        stack = [(end, False)]
        while stack:
            k, opened = stack.pop()
            if k in done:
                continue
            if opened:
                done.add(k)
                order.append(k)
                continue
            stack.append((k, True))
            needs = [b for b in graph.before[k] if b not in done]
            stack.extend((b, False) for b in sorted(needs, key=lambda b: (weight[b], b)))
    return order


def schedule(layouts: Layouts, groups: list[Group]) -> Schedule:
    """Order the groups of a graph."""
    graph = _Graph(layouts, groups)
    effects = [
        k for k, g in enumerate(groups)
        if layouts.frozen.nodes[g.nodes[0]].op.kind is Kind.EFFECT
    ]  # fmt: skip
    start = effects[-1] + 1 if effects else 0  # checks and what they need stay in front, in order
    assert all(b < k for k in range(start) for b in graph.before[k]), "a check runs too early"
    overwrites = _order_writes(graph)
    sizes = _Sizes(graph)
    orders = {"user": _by_priority(graph, start, float, lambda k: None)}
    if len(graph.forms) <= GREEDY_LIMIT:
        orders["greedy"] = _greedy(graph, start, sizes)
        orders["depth first"] = _depth_first(graph, start, sizes)
    peaks = {name: sizes.peak(order) for name, order in orders.items()}
    best = min(orders, key=lambda name: peaks[name])
    assert len(orders[best]) == len(graph.forms), "the graph of kernels has a cycle"
    return Schedule([graph.forms[k] for k in orders[best]], overwrites, best, peaks)
