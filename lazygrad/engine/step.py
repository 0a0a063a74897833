"""A compiled step: a program, where each of its arrays comes from, and what it writes.

Whole captured steps and joined chains (forward, backward, update) run through this: bind arrays by
recipe, run, move versions on. No node is made and nothing is searched. After a run in which every
state was written in place the step is *steady*: the next one binds its arguments and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.config import config
from lazygrad.engine.anomaly import inspect
from lazygrad.engine.compiler import program_for
from lazygrad.engine.freeze import freeze, is_input
from lazygrad.engine.graph import Node
from lazygrad.engine.handles import PENDING
from lazygrad.engine.latent import hold_factors
from lazygrad.engine.light import is_number
from lazygrad.engine.modes import STATE
from lazygrad.engine.pending import BACKLOG, WRITES
from lazygrad.engine.realize import flush_writes, pins_before_step
from lazygrad.engine.storage import WATCH, Ref, Storage
from lazygrad.engine.turn import turn_of
from lazygrad.ops.opdef import Array

if TYPE_CHECKING:
    from lazygrad.engine.gradients import Gradients
    from lazygrad.engine.program import Program

Recipe = tuple[str, Any]  # ("storage", storage), ("const", array), or what `bind` understands
Bind = Callable[[str, Any], Array]
_TURNS = 256  # of a steady step between two looks at what is pending


class Step:
    """A program over traced nodes.

    `nodes` oldest first; `feeds[i]` says where the value of the source `nodes[i]` comes from;
    `outputs` are positions of values that come out, `writes` (position, storage). The outputs from
    `first` on are gradients, which `held` describes: their arrays are asked for in that form.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        feeds: dict[int, Recipe],
        outputs: Sequence[int],
        writes: Sequence[tuple[int, Storage]],
        first: int | None = None,
    ) -> None:
        self._first = len(outputs) if first is None else first
        self._nodes = nodes
        self._feeds = feeds
        self._outputs = outputs
        self._written = writes
        self.writes = [s for _, s in writes]
        self.write_set = set(self.writes)
        self.storages = {what for kind, what in feeds.values() if kind == "storage"}
        self.storages.update(self.writes)
        self.results = [(nodes[i].shape, nodes[i].dtype.dtype) for i in outputs[: self._first]]
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
        frozen, self.held = hold_factors(frozen, self._first)
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
        if WRITES and self.writes:  # a step carries out what others left to be written
            flush_writes(list(WRITES.values()))
        for s in self.storages:
            if s.pending is not None:
                flush_writes(self.storages)
                break
        WATCH.settle()
        pinned = pins_before_step() if PENDING or WRITES else _nobody
        arrays: list[Any] = [
            what.array if kind == "storage" else what if kind == "const" else bind(kind, what)
            for kind, what in self.bound
        ]
        targets = [s.target(pinned) for s in self.writes]
        if STATE.anomaly:
            inspect(self.program.frozen, arrays)
        self.program.run(arrays, outputs, targets)
        for s, array in zip(self.writes, targets, strict=True):
            if array is not s.array or not s.is_quiet():
                s.advance(array)
        BACKLOG.ran()

    def steady(
        self, before: Steady | None, gradients: Gradients | None = None, numbers: bool = False
    ) -> Steady | None:
        """The step with everything bound but its arguments, if nothing speaks against that.

        `gradients` are written over in each run. Results are fresh arrays, or with `numbers`
        Python numbers where they are numbers. `before` is what this gave last, if that is alike.
        """
        if config.epoch != self.epoch or not all(s.is_quiet() for s in self.writes):
            return None
        if any(s.array is None or s.pending is not None for s in self.storages):
            return None
        for s in self.storages:
            s.watched = True
        if before is not None and before.resumes(self, gradients):
            return before
        return Steady(self, gradients, numbers)


class Steady:
    """A step that runs on the same arrays again, for as long as nobody touches a storage.

    `arrays` is what the program takes: sources, outputs, writes. The places in `slots` (arguments)
    and `fresh` (outputs) are filled for a run and emptied after it, so that nobody's array is kept
    alive; those in `numbers` are outputs that are read as Python numbers after the run.
    `gradients` are outputs, too; they have a `version` of their own.
    """

    __slots__ = (
        "arrays", "count", "epoch", "first", "fresh", "gradients", "held", "numbers", "run",
        "slots", "turn", "turns", "version",
    )  # fmt: skip

    def __init__(self, step: Step, gradients: Gradients | None, numbers: bool) -> None:
        self.gradients = gradients
        self.arrays = self._arrays(step)
        sources, results = len(step.bound), len(step.results)
        self.first = sources + results  # the place of the first gradient
        self.held = step.held
        self.slots = [
            (i, recipe) for i, recipe in enumerate(step.bound)
            if recipe[0] not in ("storage", "const")
        ]  # fmt: skip
        self.fresh: list[tuple[int, Any, Any]] = []
        self.numbers: list[int] = []
        for place, spec in enumerate(step.results, sources):
            if numbers and is_number(*spec):
                self.arrays[place] = np.empty(*spec)
                self.numbers.append(place)
            else:
                self.fresh.append((place, *spec))
        self.run = step.program.bound(self.arrays)
        self.turn = _in_binder if numbers else turn_of(self)
        self.epoch = step.epoch
        self.count = WATCH.count
        self.version = 0 if gradients is None else gradients.version
        self.turns = 0

    def _arrays(self, step: Step) -> list[Any]:
        sources = [
            what.array if kind == "storage" else what if kind == "const" else None
            for kind, what in step.bound
        ]
        grads = [] if self.gradients is None else self.gradients.arrays
        return [*sources, *([None] * len(step.results)), *grads, *(s.array for s in step.writes)]

    def resumes(self, step: Step, gradients: Gradients | None) -> bool:
        """Go on after a step that ran in the general way, if that moved no state."""
        if self.epoch != step.epoch or self.gradients is not gradients:
            return False
        arrays = self._arrays(step)
        last = len(arrays) - len(step.writes)
        for k, array in enumerate(arrays):
            if self.first <= k < last:
                self.arrays[k] = array
            elif array is not None and array is not self.arrays[k]:
                return False
        self.count = WATCH.count
        self.version = 0 if gradients is None else gradients.version
        return True

    def fits(self, gradients: Gradients) -> bool:
        """Whether these are the gradients that it writes, in the form in which it does."""
        if gradients is not self.gradients:
            return False
        return gradients.version == self.version or gradients.held == self.held

    def renew(self, back: Any = None) -> list[Array]:
        """Other arrays for the gradients, because somebody has looked at these."""
        assert self.gradients is not None
        arrays = self.gradients.take(back)
        self.arrays[self.first : self.first + len(arrays)] = arrays
        return arrays

    def renewed(self, arrays: list[Array]) -> None:
        """They have been written."""
        assert self.gradients is not None
        self.gradients.hold(arrays)
        self.version = self.gradients.version

    def form(self) -> tuple[Any, ...]:
        """Where arguments and results are; equal for programs of one form."""
        return self.slots, self.fresh, self.numbers

    def holds(self) -> bool:
        """Whether all is as it was."""
        return (
            self.count == WATCH.count
            and self.epoch == config.epoch
            and not WRITES
            and not STATE.anomaly
            and not (PENDING and self.looks())
        )

    def looks(self) -> bool:
        """Whether it is time to look at what is pending, which may have become a lot.

        No pending tensor can read what this step writes: nobody has these versions.
        """
        self.turns += 1
        return self.turns % _TURNS == 0


def _in_binder(steady: Steady, given: Sequence[Array]) -> list[Array]:
    raise AssertionError("a whole step takes its turns in a binder")


def _nobody(ref: Ref) -> bool:
    return False
