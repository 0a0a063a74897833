"""A compiled step: a program, where each of its arrays comes from, and what it writes.

Whole captured steps and joined chains (forward, backward, update) run through this: bind arrays by
recipe, run, move versions on. No node is made and nothing is searched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.config import config
from lazygrad.engine.anomaly import inspect
from lazygrad.engine.compiler import program_for
from lazygrad.engine.freeze import freeze, is_input
from lazygrad.engine.graph import PENDING, Node
from lazygrad.engine.modes import STATE
from lazygrad.engine.realize import BACKLOG, WRITES, flush_writes, pins_before_step
from lazygrad.engine.storage import Ref, Storage
from lazygrad.engine.tensor import Tensor
from lazygrad.ops.opdef import Array

if TYPE_CHECKING:
    from lazygrad.engine.program import Program

Recipe = tuple[str, Any]  # ("storage", storage), ("const", array), or what `bind` understands
Bind = Callable[[str, Any], Array]


class Step:
    """A program over traced nodes.

    `nodes` oldest first; `feeds[i]` says where the value of the source `nodes[i]` comes from;
    `outputs` are positions of values that come out, `writes` (position, storage).
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        feeds: dict[int, Recipe],
        outputs: Sequence[int],
        writes: Sequence[tuple[int, Storage]],
    ) -> None:
        self._nodes = nodes
        self._feeds = feeds
        self._outputs = outputs
        self._written = writes
        self.writes = [s for _, s in writes]
        self.write_set = set(self.writes)
        self.storages = {what for kind, what in feeds.values() if kind == "storage"}
        self.storages.update(self.writes)
        self.specs = [(nodes[i].shape, nodes[i].dtype.dtype) for i in outputs]
        self.program = self._compile()

    def _compile(self) -> Program:
        nodes, feeds = self._nodes, self._feeds
        at = {what: i for i, (kind, what) in feeds.items() if kind == "storage"}
        fed = {nodes[i].id for i in feeds}
        writes = [(i, at.get(s, -1), s) for i, s in self._written]
        frozen, bound = freeze(
            nodes, self._outputs, (), (), writes, lambda n: n.id in fed or is_input(n)
        )
        self.bound = [self._recipe(spec) for spec in bound]
        self.epoch = config.epoch
        return program_for(frozen)

    def _recipe(self, spec: tuple[str, Any]) -> Recipe:
        kind, what = spec
        if kind == "storage":
            return "storage", self.writes[what]
        node = what if kind == "inner" else self._nodes[what]
        if kind == "node" and what in self._feeds:
            return self._feeds[what]
        return "const", np.asarray(node.payload).astype(node.dtype.dtype)

    def run(self, bind: Bind, outputs: Sequence[Array]) -> None:
        """One run into these output arrays; states move to their next versions."""
        if config.epoch != self.epoch:
            self.program = self._compile()  # a setting may have changed; usually a cache hit
        for s in self.storages:
            if s.pending is not None:
                flush_writes(self.storages)
                break
        pinned = pins_before_step() if PENDING or WRITES else _nobody
        arrays: list[Any] = [
            what.array if kind == "storage" else what if kind == "const" else bind(kind, what)
            for kind, what in self.bound
        ]
        targets: list[Any] = [
            s.array
            if pinned is _nobody and s.exported is None and s.ref.pins == 0 and s.ref.shown is None
            else s.target(pinned)
            for s in self.writes
        ]
        if STATE.anomaly:
            inspect(self.program.frozen, arrays)
        self.program.run(arrays, outputs, targets)
        for s, array in zip(self.writes, targets, strict=True):
            if array is s.array and getrefcount(s.ref) == _ALONE:
                continue  # nothing refers to the old version: the same reference serves
            s.advance(array)
        BACKLOG.ran()


def _nobody(ref: Ref) -> bool:
    return False


class GradSlots:
    """The gradients that a step leaves behind, in arrays that are used again.

    A gradient of the last run is written over when nobody but its leaf (and this object) refers to
    it, its array or a view of that.
    """

    def __init__(self, specs: Sequence[tuple[Any, Any]]) -> None:
        self.specs = specs
        self.tensors: list[Tensor | None] = [None] * len(specs)

    def forget(self) -> None:
        """Write over nothing: the next run gets new arrays."""
        self.tensors = [None] * len(self.specs)

    def arrays(self) -> list[Array]:
        """The arrays for the gradients of the next run."""
        found: list[Any] = []
        for k in range(len(self.tensors)):
            if self.tensors[k] is not None:
                held, owned, alone = self.counts(k)
                if held <= _HELD and owned == _OWNED and alone == _ALONE:
                    storage: Any = self.tensors[k]._storage  # type: ignore[union-attr]
                    if storage.exported is None and storage.pending is None:
                        found.append(storage.array)
                        continue
                self.tensors[k] = None
            shape, dtype = self.specs[k]
            found.append(np.empty(shape, dtype))
        return found

    def counts(self, k: int) -> tuple[int, int, int]:
        """How often gradient `k`, its storage and its version are referred to (storage-less: 0)."""
        held = self.tensors[k]
        if held is None or held._storage is None:
            return getrefcount(held), 0, 0
        storage = held._storage
        return getrefcount(held), getrefcount(storage), getrefcount(storage.ref)

    def hand_over(self, arrays: Sequence[Array], handles: Sequence[Any]) -> None:
        """Make the arrays the values of lazy gradients (weak references), which become leaves."""
        for k, ref in enumerate(handles):
            held, t = self.tensors[k], ref()
            if t is None:
                self.tensors[k] = None
                continue
            t._node = None
            t._storage = Storage(arrays[k]) if held is None else held._storage
            self.tensors[k] = t

    def settle(self, arrays: Sequence[Array], leaves: Sequence[Any]) -> None:
        """Make the arrays the gradients of the leaves (None: the leaf is gone)."""
        for k, leaf in enumerate(leaves):
            held = self.tensors[k]
            if held is None:
                held = self.tensors[k] = Tensor._leaf(Storage(arrays[k]))
            if leaf is not None and leaf._grad is not held:
                leaf._grad = held


def _baseline() -> tuple[int, int, int]:
    """The counts of a gradient that only the table and its leaf hold; interpreters differ."""
    slots = GradSlots([((), np.dtype(np.float32))])
    leaf = Tensor(0.0)
    slots.settle([np.zeros((), np.float32)], [leaf])
    return slots.counts(0)


_HELD, _OWNED, _ALONE = _baseline()
