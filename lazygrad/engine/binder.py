"""A binder: one Python function, written for one signature, that does a whole replay.

The general way classifies arguments, looks entries up and binds arrays one by one. A binder has all
of that decided: it compares what could be different (`dtype`, shape, guards, epoch), puts the
arguments into their places and runs. What it does not know it answers with `MISS`, having changed
nothing, and the general way takes over. Its source can be read in `binder.source`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.config import config
from lazygrad.engine.calling import Named
from lazygrad.engine.graph import get_default_graph
from lazygrad.engine.guards import SCALARS, NameGuards, same
from lazygrad.engine.handles import PENDING
from lazygrad.engine.light import ValueTensor, number_class, settled
from lazygrad.engine.modes import LOCK, STATE
from lazygrad.engine.pending import WRITES
from lazygrad.engine.pytree import LEAF
from lazygrad.engine.replay import Replay
from lazygrad.engine.result import Given, Made
from lazygrad.engine.signature import ARRAY, FLOAT, TENSOR, Argument
from lazygrad.engine.storage import WATCH
from lazygrad.engine.tensor import Tensor
from lazygrad.engine.turn import fresh_lines, run_lines
from lazygrad.engine.waiting import Call

if TYPE_CHECKING:
    from lazygrad.engine.compute_graph import Entry

MISS = object()
FEW = 5  # arguments alike that are compared in pairs
DENSE = 0x101  # NumPy's flags C_CONTIGUOUS and ALIGNED
SIMPLE = (bool, int, str, bytes, type(None))

COMMON = {
    "acquire": LOCK.acquire, "release": LOCK.release, "MISS": MISS, "PENDING": PENDING,
    "STATE": STATE, "Tensor": Tensor,
    "ValueTensor": ValueTensor, "WATCH": WATCH, "WRITES": WRITES, "config": config,
    "empty": np.empty, "ndarray": np.ndarray, "Named": Named,
    "same": same, "settled": settled,
    "np": np, "Call": Call, "default_graph": get_default_graph,
    "new": object.__new__,
}  # fmt: skip


class Unbindable(Exception):
    """A signature that is left to the general way."""


class Binder:
    """A generated function `call(args)`, and what it was generated for.

    `args` are the positional arguments, `width` of them, or (args, kwargs) where some can only be
    named; `width` is -1 then.
    """

    __slots__ = ("call", "hits", "places", "source", "width")

    def __init__(self, source: str, names: dict[str, Any], places: Any, width: int) -> None:
        space = {**COMMON, **names}
        exec(compile(source, "<binder>", "exec"), space)
        self.call: Callable[[tuple[Any, ...]], Any] = space["call"]
        self.source = source
        self.places = places
        self.width = width
        self.hits = 0

    def fits(self, replay: Replay) -> bool:
        """Whether the arrays still have the places that it puts them into."""
        steady = replay.steady
        return self.places is None or steady is None or self.places == steady.form()


class Writer:
    """Writes the source of a binder; `names` are the objects that it refers to."""

    def __init__(self, entry: Entry, arguments: list[Argument], width: int) -> None:
        self.arguments = arguments
        self.names: dict[str, Any] = {}
        self.unpack: list[str] = []
        self.tests: list[str] = []
        self.entry = entry
        tree, _, aliases, grad, _, half = entry.signature  # a new default dtype is a new epoch
        if aliases:
            raise Unbindable
        self.leaves: list[str] = []
        self._unpack("args", tree)
        self.width = -1 if tree[0] is Named else width
        self.tests += ["(state := STATE.__dict__)['capture'] is None", "not state['trace']"]
        self.tests += [f"state['grad'] is {grad}", f"state['autocast'] is {self.name(half)}"]
        self._guards(entry.name_guards)

    def name(self, value: Any) -> str:
        """A name for an object."""
        found = f"c{len(self.names)}"
        self.names[found] = value
        return found

    # arguments ----------------------------------------------------------------------------

    def _unpack(self, what: str, tree: Any) -> None:
        """Take nested arguments apart, down to the leaves."""
        kind, keys, children = tree
        if kind not in (tuple, list, dict, Named):
            raise Unbindable
        self.unpack.append(f"if {what}.__class__ is not {kind.__name__}: return MISS")
        if kind is dict:
            self.unpack.append(f"if tuple({what}) != {self.name(keys)}: return MISS")
        else:
            self.unpack.append(f"if len({what}) != {len(children)}: return MISS")
        parts: list[str] = []
        for child in children:
            parts.append(f"a{len(self.leaves)}" if child == LEAF else f"{what}_{len(parts)}")
            if child == LEAF:
                self.leaves.append(parts[-1])
        if parts:
            values = f"{what}.values()" if kind is dict else what
            self.unpack.append(f"{', '.join(parts)}, = {values}")
        for part, child in zip(parts, children, strict=True):
            if child != LEAF:
                self._unpack(part, child)

    def check(self, by_pointer: bool) -> None:
        """Test that the leaves of the arguments are what they were when this was captured."""
        for index in range(len(self.arguments)):
            self._check_leaf(index, by_pointer)
        self._check_distinct()

    def _check_distinct(self) -> None:
        """Two names of one array are another signature."""
        alike: dict[Any, list[str]] = {}
        for arg, a in zip(self.arguments, self.leaves, strict=True):
            if arg.kind in (ARRAY, TENSOR):
                name = a if arg.kind == ARRAY else f"{a}._storage"
                alike.setdefault((arg.kind, arg.key), []).append(name)
        for names in alike.values():
            if len(names) > FEW:  # of thousands there would be millions of pairs
                ids = ", ".join(f"id({n})" for n in names)
                self.tests.append(f"len({{{ids}}}) == {len(names)}")
            else:
                self.tests += [f"{a} is not {b}" for a, b in combinations(names, 2)]

    def _check_leaf(self, index: int, by_pointer: bool) -> None:
        arg, a = self.arguments[index], self.leaves[index]
        tests = self.tests
        if arg.kind == ARRAY:
            tests += [
                f"{a}.__class__ is ndarray", f"{a}.dtype == {self.name(arg.value.dtype)}",
                f"{a}.shape == {arg.value.shape}",
            ]  # fmt: skip
            if by_pointer:
                tests.append(f"{a}.flags.num & {DENSE} == {DENSE}")
        elif arg.kind == FLOAT:
            tests.append(f"{a}.__class__ is float")
        elif arg.kind == TENSOR:
            self._check_tensor(arg, a)
        elif isinstance(arg.value, SIMPLE):
            kind = self.name(type(arg.value))
            tests.append(f"{a}.__class__ is {kind} and {a} == {self.name(arg.value)}")
        else:
            tests.append(f"{a} is {self.name(arg.value)}")

    def _check_tensor(self, arg: Argument, a: str) -> None:
        """A leaf that needs no gradient, with a value, and no state of this function."""
        if arg.value.requires_grad or arg.value.__class__ is not Tensor:
            raise Unbindable
        s = f"{a}s"
        self.tests += [
            f"({a}.__class__ is Tensor or settled({a}))", f"{a}._node is None",
            f"not {a}._requires_grad", f"{a}._graph is None",
            f"({s} := {a}._storage).pending is None", f"not {s}.watched",
            f"{s}.array is not None", f"{s}.array.flags.num & {DENSE} == {DENSE}",
            f"{s}.shape == {arg.value.shape}",
            f"{s}.dtype is {self.name(arg.value.dtype)}",
        ]  # fmt: skip

    # guards -------------------------------------------------------------------------------

    def _guards(self, guards: NameGuards) -> None:
        space = self.name(guards.namespace) if guards.globals else ""
        held = [(f"{space}[{n!r}]", value, plain) for n, value, plain in guards.globals]
        held += [
            (f"{self.name(cell)}.cell_contents", value, plain)
            for _, cell, value, plain in guards.cells
        ]  # fmt: skip
        for now, value, plain in held:
            before = self.name(value)
            test = f"{now} is {before}"
            self.tests.append(f"({test} or same({now}, {before}, True))" if plain else test)
        for _, inside in guards.insides:
            look, state = self.name(inside.look), self.name(inside)
            self.tests.append(f"{state}.alive")
            attributes = inside.attributes()
            if attributes is None:
                self.tests.append(f"{look}() == {state}.state")
                continue
            own = f"{state}own"
            self.tests.append(f"({own} := {self.name(inside.ref)}().__dict__) is not None")
            for key, value in attributes.items():
                now = f"{own}.get({key!r})"
                if isinstance(value, SCALARS):
                    before = self.name(value)
                    self.tests.append(f"({now} is {before} or same({now}, {before}, True))")
                else:  # as long as it lives, nothing else has its address
                    self.tests.append(f"id({now}) == {id(value)}")

    # results ------------------------------------------------------------------------------

    def result(self, made: Callable[[int], str]) -> str:
        """The expression of what the function returns."""
        found = self.entry.tree
        if found is None:
            return made(0)
        leaves = iter(
            made(x.position) if isinstance(x, Made)
            else self.leaves[x.argument] if isinstance(x, Given)
            else self.name(x)
            for x in found.leaves
        )  # fmt: skip
        return self._rebuilt(found.tree, leaves)

    def _rebuilt(self, tree: Any, leaves: Any) -> str:
        if tree == LEAF:
            return str(next(leaves))
        kind, keys, children = tree
        if kind not in (tuple, list, dict, OrderedDict):
            raise Unbindable
        parts = [self._rebuilt(child, leaves) for child in children]
        if kind is tuple:
            return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
        if kind is list:
            return f"[{', '.join(parts)}]"
        pairs = ", ".join(f"({self.name(k)}, {p})" for k, p in zip(keys, parts, strict=True))
        return f"{self.name(kind)}([{pairs}])"

    def write(self, body: list[str], places: Any = None) -> Binder:
        """The binder with this body, which runs under the lock once all tests have passed."""
        joined = "\n            and ".join(self.tests)
        inner = "\n        ".join(body)
        source = (
            "def call(args):\n    "
            + "\n    ".join(self.unpack)
            + "\n    acquire()"
            + "\n    try:"
            + "\n        try:"
            + f"\n            if not (\n            {joined}\n            ):"
            + "\n                return MISS"
            + "\n        except (KeyError, ValueError):  # a name that the function uses is gone"
            + "\n            return MISS"
            + f"\n        {inner}"
            + "\n    finally:"
            + "\n        release()\n"
        )
        return Binder(source, self.names, places, self.width)


def make_binder(entry: Entry, arguments: list[Argument], width: int) -> Binder | None:
    """The binder of a traced version, where its calls are of a plain form."""
    replay = entry.replay
    try:
        if replay.at_once and replay.steady is not None:
            return _step_binder(Writer(entry, arguments, width), replay)
        if replay.simple:
            return _call_binder(Writer(entry, arguments, width), replay)
    except Unbindable:
        pass
    return None


def _step_binder(w: Writer, replay: Replay) -> Binder:
    """A call that runs its program at once."""
    captured, steady = replay.captured, replay.steady
    assert steady is not None
    w.names["replay"] = replay
    first = [
        "(steady := replay.steady) is not None", "(count := steady.count) == WATCH.count",
        "steady.epoch == config.epoch", "not WRITES", "not (PENDING and steady.looks())",
        "(WATCH.reader is None or not WATCH.is_read())",
    ]  # fmt: skip
    w.tests.append("not state['anomaly']")
    if replay.gradients is not None:
        first.append("(gradients := steady.gradients).waiting is None")
        seen = "(seen := gradients.version != steady.version)"
        first.append(f"(not {seen} or steady.fits(gradients))")
        if captured.grad_reads:
            first.append("gradients.cleared and gradients.joined")
    if replay.cleared is not None:
        first.append("replay.cleared.cleared and replay.cleared.joined")
    w.tests[:0] = first
    w.check(by_pointer=True)
    fill, draw, undo = _fill(w, replay)
    emptied = [i for i, _ in steady.slots] + [i for i, _, _ in steady.fresh]
    start = min([i for i, _, _ in steady.fresh] + steady.numbers, default=0)
    lines, results = fresh_lines(steady, w.name)
    fill += lines
    made = [
        (i - start, "ValueTensor", result)
        for (i, _, _), result in zip(steady.fresh, results, strict=True)
    ]
    for i in steady.numbers:
        kind = w.name(number_class(steady.arrays[i].dtype))
        made.append((i - start, kind, f"arrays[{i}].item()"))
    body = ["arrays = steady.arrays"]
    if replay.gradients is not None:
        body.append("grads = steady.renew() if seen else None")
    body += [*draw, "steady.count = -1  # not to be entered twice"]
    body += [*fill, *run_lines(emptied, undo)]
    if replay.gradients is not None:
        body += ["if seen: steady.renewed(grads)", "gradients.cleared = False"]
    for k, kind, value in made:
        body += [f"t{k} = new({kind})", f"t{k}._lazy = {value}"]
    body.append(f"return {w.result(lambda k: f't{k}')}")
    return w.write(body, steady.form())


def _fill(w: Writer, replay: Replay) -> tuple[list[str], list[str], list[str]]:
    """Statements that put the arguments into their places, draw random numbers, and undo that."""
    fill, draw, undo = [], [], []
    streams: dict[Any, str] = {}
    for k, (generator, count) in enumerate(replay.captured.drawn.items()):
        g = streams[generator] = w.name(generator)
        draw += [f"n{k} = {g}._counter", f"{g}._counter = n{k} + {count}"]
        undo.append(f"{g}._counter = n{k}")
    seen: list[Any] = []
    assert replay.steady is not None
    for i, (kind, source) in replay.steady.slots:
        if kind == "random":
            k, g = list(streams).index(source.what), streams[source.what]
            key = w.name(np.zeros(2, np.uint64))
            fill += [f"{key}[0] = {g}._seed", f"{key}[1] = n{k} + {source.index}"]
            fill.append(f"arrays[{i}] = {key}")
            continue
        if kind != "arg":
            raise Unbindable
        arg, a = w.arguments[source.index], w.leaves[source.index]
        if arg.kind == FLOAT:
            cell = w.name(np.zeros(()))
            fill += [f"{cell}[()] = {a}", f"arrays[{i}] = {cell}"]
        elif arg.kind == TENSOR:
            fill.append(f"arrays[{i}] = {a}s.array")
        elif arg.key in seen:  # perhaps the same memory, which NumPy's products would notice
            own = w.name(np.empty(arg.value.shape, arg.value.dtype))
            fill += [f"np.copyto({own}, {a})", f"arrays[{i}] = {own}"]
        else:
            fill.append(f"arrays[{i}] = {a}")
            seen.append(arg.key)
    return fill, draw, undo


def _call_binder(w: Writer, replay: Replay) -> Binder:
    """A call that waits for what follows."""
    captured = replay.captured
    w.names["replay"] = replay
    w.tests[:0] = [f"config.epoch == {w.name(w.entry.epoch_guards)}.epoch", "not WRITES"]
    w.check(by_pointer=False)
    body: list[str] = []
    streams: dict[Any, int] = {}
    for k, (generator, count) in enumerate(captured.drawn.items()):
        streams[generator] = k
        body.append(f"n{k} = {w.name(generator)}.take({count})")
    given = []
    plain = True
    for source in captured.inputs:
        if source.kind == "random":
            plain = False
            k = streams[source.what]
            given.append(f"({w.name(source.what)}._seed, n{k} + {source.index})")
        elif source.kind == "arg":
            arg, a = w.arguments[source.index], w.leaves[source.index]
            if arg.kind == TENSOR:
                plain = False
                given.append(f"{a}s.ref")
                continue
            b, pool = f"b{len(given)}", w.name(replay.pool(arg, source.index))
            if arg.kind == ARRAY:
                body.append(f"{b} = {pool}.copy({a})")
            else:
                body += [f"{b} = {pool}.take()", f"{b}[()] = {a}"]
            given.append(b)
    requires = w.entry.signature[3] and bool(replay.leaf_inputs)
    body.append(f"call = Call(replay, [{', '.join(given)}], {plain}, default_graph(), {requires})")
    if captured.results == 1:
        body.append("t0 = call.result()")
    else:
        parts = ", ".join(f"t{k}" for k in range(captured.results))
        body.append(f"{parts}{',' if parts else '_'} = call.results()")
    body.append(f"return {w.result(lambda k: f't{k}')}")
    return w.write(body)
