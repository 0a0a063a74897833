"""Fusion: which values are computed in one kernel.

Nodes are walked in topological order and each joins the latest kernel among its producers, if
that kernel takes it; else it opens one, and the reason is kept. Joining only the latest keeps the
graph of kernels acyclic. So does joining a kernel that was opened later, behind the same one: small
values that do not fit behind a product (the gates of a cell, heads) are computed beside each other.
There are three forms of kernel:

- a *row program*: elementwise and reducing nodes. While all that it touches fits into the cache it
  is *resident* and takes anything. Beyond, it is *streamed*: rows are cut into chunks that run
  through all stages, so every access to a value made inside must stay in its row;
- a *contraction* with the elementwise chain behind it (its epilogue);
- an *extern*: an op that only its reference describes, alone.

A node that reads only sources waits until somebody reads it and is computed there; so do large
values that are better not stored at all (`late`). 0-d values made of 0-d sources (step sizes, bias
corrections) are computed in kernels of their own ahead of the rest, unless a single kernel reads
them: so they stand between no other two nodes.
"""

from __future__ import annotations

from math import prod

from lazygrad.config import config
from lazygrad.engine.frozen import FNode, ancestors
from lazygrad.engine.groups import (
    CACHE,
    CONTRACT,
    EXTERN,
    ROWS,
    Group,
    Trial,
    aligned_axes,
    common_prefix,
    domain_of,
    form_of,
    touched_bytes,
)
from lazygrad.engine.late import Late, late
from lazygrad.engine.layouts import Layouts, contiguous, respread
from lazygrad.ops.opdef import Kind
from lazygrad.runtime.dispatch import uses_native
from lazygrad.shapes import Shape, numel

LONGEST = 96  # nodes of one kernel
DEEPEST = 32  # nodes of a chain that waits for its reader
_SCALARS, _EARLY, _CLOSED = -2, -1, -3  # ranks of groups that depend on no ordinary one


class Fuser:
    """Assigns every stored node (and every effect) to a group."""

    def __init__(self, layouts: Layouts) -> None:
        self.layouts = layouts
        self.nodes = layouts.frozen.nodes
        self.group: dict[int, Group] = {}  # node -> its group; effects are keyed by their own index
        self.groups: list[Group] = []
        self.waiting: dict[int, int] = {}  # node -> length of the chain that waits with it
        self.scalars: Group | None = None
        self.behind: dict[Group, Group] = {}  # kernel -> the last one opened for its readers
        self.alone = config.no_fuse
        # NumPy sums what lies in memory: there nothing would be saved.
        streams = uses_native() and not self.alone
        self.late = late(layouts, CACHE // 2) if streams else Late()
        self._rank = self._born = 0
        self.effects = [i for i, n in enumerate(self.nodes) if n.op.kind is Kind.EFFECT]
        self.needed = self._reached()

    def run(self) -> list[Group]:
        """The groups, in an order in which they can run."""
        if self.effects:
            first = ancestors(self.nodes, self.effects)
            self._phase([i for i in range(len(self.nodes)) if i in first])
            for group in self.groups:
                group.rank = _CLOSED
            self._phase([i for i in range(len(self.nodes)) if i not in first])
        else:
            self._phase(range(len(self.nodes)))
        return self.groups

    def _reached(self) -> set[int]:
        """What somebody reads. Empty values read nothing: what is made for them alone is not."""
        found: set[int] = set()
        stack = [*self.layouts.homes, *self.effects]
        while stack:
            i = stack.pop()
            if i in found or i < 0:
                continue
            found.add(i)
            if 0 not in self.nodes[i].shape or self.nodes[i].op.kind is Kind.EFFECT:
                stack.extend(self._needs(i))
        return found

    def _phase(self, order: range | list[int]) -> None:
        start = len(self.groups)
        self.scalars = None
        for i in order:
            node = self.nodes[i]
            if node.op.kind is Kind.EFFECT:
                self._pull(i)
                self._open(EXTERN, [i], "a check or a print")
            elif i in self.needed and self.layouts.stored(i):
                self._place(i, node)
        self._settle(list(self.waiting), "it reads only sources")
        new = self.groups[start:]
        new.sort(key=lambda g: g.rank)
        self.groups[start:] = self._merge_scalars(new)

    def _producers(self, i: int) -> list[Group]:
        """The groups, of this phase, that node i has to come after."""
        found: list[Group] = []
        layouts, group = self.layouts, self.group
        for j in self.nodes[i].inputs:
            for k in (layouts.root[j], layouts.guard[j], layouts.after[j]):
                made = group.get(k) if k >= 0 else None
                if made is not None and made.rank != _CLOSED and made not in found:
                    found.append(made)
        return found

    def _waiting_for(self, i: int) -> list[int]:
        """The waiting nodes that node i needs, in topological order."""
        if not self.waiting:
            return []
        found: set[int] = set()
        stack = self._needs(i)
        while stack:
            k = stack.pop()
            if k in self.waiting and k not in found:
                found.add(k)
                stack.extend(self._needs(k))
        return sorted(found)

    def _needs(self, i: int) -> list[int]:
        """The values that node i reads or waits for."""
        layouts = self.layouts
        return [r for j in self.nodes[i].inputs for r in (layouts.root[j], layouts.after[j])]

    def _place(self, i: int, node: FNode) -> None:
        form = form_of(self.layouts, node)
        if self.alone:
            self._open(form, [i], "fusion is off")
            return
        producers = self._producers(i)
        if form is not ROWS:
            self._pull(i)
            self._open(form, [i], "a product" if form is CONTRACT else f"{node.op.name} is opaque")
            return
        if i in self.late.summands or (i in self.late.steps and self._follows_product(producers)):
            self.waiting[i] = 1
            return
        if node.op.kind is Kind.ELEMENTWISE and all(g.rank == _SCALARS for g in producers):
            if not node.shape and not self._waiting_for(i):
                self._scalar(i)
                return
            depth = 1 + max(self.waiting.get(self.layouts.root[j], 0) for j in node.inputs)
            if depth < DEEPEST:
                self.waiting[i] = depth
                return
        pulled = self._waiting_for(i)
        if pulled:
            producers += [g for k in pulled for g in self._producers(k)]
        self._join([*pulled, i], producers, "it reads only sources")

    def _scalar(self, i: int) -> None:
        """A 0-d value made of 0-d sources."""
        if self.scalars is None or len(self.scalars.nodes) >= LONGEST:
            self.scalars = Group(ROWS, _SCALARS, reason="0-d values of sources")
            self.groups.append(self.scalars)
        self._add(self.scalars, [i])

    def _pull(self, i: int) -> None:
        """Compute what node i needs and nobody has computed yet."""
        self._settle(self._waiting_for(i), "its reader takes only whole buffers")

    def _settle(self, nodes: list[int], reason: str) -> None:
        """Compute waiting nodes, each together with those that wait for it."""
        for k in reversed(nodes):
            if k in self.waiting:
                unit = [*self._waiting_for(k), k]
                self._join(unit, [g for i in unit for g in self._producers(i)], reason)

    def _join(self, unit: list[int], producers: list[Group], reason: str) -> None:
        """Put a node into the latest kernel among its producers, or into a new one.

        The nodes before the last one of `unit` are those that wait for it.
        """
        latest = max(producers, key=lambda g: (g.rank, g.born), default=None)
        if latest is not None and latest.rank > _SCALARS:
            if self._add(latest, unit):
                return
            last = unit[-1]
            if len(unit) > 1 and latest.rank > _EARLY and self._try(latest, [last]):
                for i in unit[:-1]:
                    self._join([i], self._producers(i), "its reader has no room")
                if not self._add(latest, [last]):  # the others have filled it
                    self._join([last], self._producers(last), "its reader has no room")
                return
            if self._beside(latest, unit):
                return
            reason = self._why(latest, unit)
        self._born += 1
        group = Group(ROWS, _EARLY, reason=reason, born=self._born)
        if any(g.rank > _EARLY for g in producers):  # early groups run in the order they came in
            group.rank = self._next()
        if self._add(group, unit):
            self.groups.append(group)
            if latest is not None and group.rank > _EARLY:
                self.behind[latest] = group
            return
        for i in unit:  # too much for one kernel: each finds its own place
            self._join([i], self._producers(i), reason)

    def _beside(self, latest: Group, unit: list[int]) -> bool:
        """Put nodes into the kernel behind `latest`, if they have its points and both are small."""
        other = self.behind.get(latest)
        if other is None:
            return False
        shapes = {domain_of(self.layouts, self.nodes[i]) for i in (*unit, other.nodes[0])}
        trial = self._try(other, unit) if len(shapes) == 1 else None
        if trial is None:
            return False
        made = len(other.nodes) + len(unit)
        small = touched_bytes(trial.outside, trial.widest, made) <= CACHE
        return small and self._add(other, unit)

    def _next(self) -> int:
        self._rank += 1
        return self._rank

    def _open(self, form: str, unit: list[int], reason: str) -> None:
        group = Group(form, self._next(), reason=reason)
        self.groups.append(group)
        self._add(group, unit)

    def _add(self, group: Group, unit: list[int]) -> bool:
        """Put nodes into a group if it takes them."""
        trial = self._try(group, unit)
        if trial is None:
            return False
        group.prefix, touched, group.outside, group.widest = trial
        group.touched |= touched
        group.nodes += unit
        for i in unit:
            self.group[i] = group
            self.waiting.pop(i, None)
        return True

    def _try(self, group: Group, unit: list[int]) -> Trial | None:
        """What the group would be with these nodes; None if it does not take them."""
        first = not group.nodes
        if len(group.nodes) + len(unit) > LONGEST:
            return None
        if group.form is EXTERN and not first:
            return None
        if group.form is CONTRACT and not first and not self._epilogue(group, unit):
            return None
        prefix, added = group.prefix, set[int]()
        outside, widest = group.outside, group.widest
        made = {*group.nodes, *unit} if first or len(unit) > 1 else None
        for i in unit:
            node = self.nodes[i]
            domain = domain_of(self.layouts, node)
            own = self._own_prefix(node, domain)
            prefix = own if first else common_prefix(prefix, own)
            first = False
            for j in node.inputs:
                root = self.layouts.root[j]
                inside = root in made if made is not None else self.group.get(root) is group
                if not inside:
                    if root not in group.touched and root not in added:
                        added.add(root)
                        outside += self.nodes[root].nbytes
                elif prefix:
                    length = aligned_axes(
                        self.layouts.layout[j], self.nodes[root].shape, domain, prefix
                    )
                    prefix = prefix[:length]
            if i not in self.late.summands:
                widest = max(widest, node.nbytes)
        alone = not group.nodes and len(unit) == 1
        nbytes = touched_bytes(outside, widest, len(group.nodes) + len(unit))
        free = group.form is not ROWS or alone or self._sums(group, unit)
        if not free and not self._fits(group, prefix, nbytes):
            return None
        return Trial(prefix, added, outside, widest)

    def _own_prefix(self, node: FNode, domain: Shape) -> Shape:
        if node.op.kind is Kind.REDUCE:
            axes = node.attrs["axes"]
            return domain[: axes[0]] if axes else domain
        return domain

    def _fits(self, group: Group, prefix: Shape, nbytes: int) -> bool:
        if nbytes <= CACHE:
            return True
        rows = prod(prefix)
        if rows > 1:
            return nbytes // rows <= CACHE
        # It runs in one go anyway: a few more small nodes do no harm.
        return bool(group.nodes) and prod(group.prefix) <= 1 and nbytes - group.nbytes <= CACHE // 4

    def _sums(self, group: Group, unit: list[int]) -> bool:
        """Whether it is one reduction with its summands: of these nothing is stored."""
        *body, last = [*group.nodes, *unit]
        return last not in self.late.summands and self.late.summands.issuperset(body)

    def _follows_product(self, producers: list[Group]) -> bool:
        """Whether it would be in the epilogue of a product."""
        return bool(producers) and max(producers, key=lambda g: g.rank).form is CONTRACT

    def _epilogue(self, group: Group, unit: list[int]) -> bool:
        """Whether nodes can follow the accumulator of a contraction point by point."""
        shape = self.nodes[group.nodes[0]].shape
        inside = {*group.nodes, *unit}
        for i in unit:
            node = self.nodes[i]
            if node.op.kind is not Kind.ELEMENTWISE or numel(node.shape) != numel(shape):
                return False
            for j in node.inputs:
                layout = self.layouts.layout[j]
                if self.layouts.root[j] in inside and layout != contiguous(node.shape):
                    return False
                if node.shape != shape and respread(layout, node.shape, shape) is None:
                    return False
        return True

    def _why(self, group: Group, unit: list[int]) -> str:
        """In words, why a kernel does not take these nodes."""
        name = self.nodes[group.nodes[0]].op.name
        if len(group.nodes) + len(unit) > LONGEST:
            return f"the kernel of {name} is full ({LONGEST} nodes)"
        if group.form is EXTERN:
            return f"{name} is opaque"
        if group.form is CONTRACT:
            return f"not point by point behind {name}"
        return f"with {name} it would touch more than {CACHE >> 10} KiB, and not row by row"

    def _merge_scalars(self, groups: list[Group]) -> list[Group]:
        """Compute 0-d values where they are used, if a single kernel uses them."""
        readers: dict[Group, set[Group]] = {g: set() for g in groups if g.rank == _SCALARS}
        if not readers:
            return groups
        for group in groups:
            for i in group.nodes:
                for root in self._needs(i):
                    made = self.group.get(root)
                    if made is not None and made in readers and made is not group:
                        readers[made].add(group)
        gone = set()
        for scalars, users in readers.items():
            if len(users) != 1:
                continue
            (user,) = users
            if len(user.nodes) + len(scalars.nodes) > LONGEST:
                continue
            small = user.nbytes + scalars.nbytes <= CACHE
            private = not any(i in self.layouts.homes for i in scalars.nodes)
            if user.form is ROWS and user not in gone and (small or private):
                user.nodes[:0] = scalars.nodes
                user.touched |= scalars.touched
                user.outside += scalars.outside
                for i in scalars.nodes:
                    self.group[i] = user
                if small:
                    user.prefix = ()
                gone.add(scalars)
        return [g for g in groups if g not in gone]


def fuse(layouts: Layouts) -> list[Group]:
    """Groups of nodes, one kernel each, in an order in which they can run."""
    return Fuser(layouts).run()
