"""`@compute_graph`: capture once, replay for ever.

The first call with a new signature traces the function into a frozen graph; every call, the first
one included, then runs that graph: one `call` node, or, when the function took an optimizer step
or wrote state without a gradient, its compiled program at once. Nothing of the function's Python
runs again until a signature or a guard changes.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from lazygrad.config import config
from lazygrad.engine.binder import MISS, Binder, make_binder
from lazygrad.engine.calling import Named, binding_of
from lazygrad.engine.capture import Capture, Captured, NeedsValue
from lazygrad.engine.check import check_same
from lazygrad.engine.graph import Graph, get_default_graph
from lazygrad.engine.guards import EpochGuards, NameGuards
from lazygrad.engine.leftover import keep
from lazygrad.engine.modes import LOCK, STATE
from lazygrad.engine.pytree import flatten, paths, unflatten
from lazygrad.engine.replay import Replay
from lazygrad.engine.report import Reports
from lazygrad.engine.result import Given, Made, Result
from lazygrad.engine.signature import ARRAY, Argument, Signature, classify
from lazygrad.engine.tensor import Tensor
from lazygrad.engine.warn import warn
from lazygrad.errors import CaptureError


class CacheInfo(NamedTuple):
    """Counts of a captured function's cache."""

    hits: int
    misses: int
    size: int
    limit: int


class Entry:
    """One traced version of the function: its replay and its guards."""

    __slots__ = (
        "binders", "calls", "epoch_guards", "name_guards", "replay", "signature", "tree",
    )  # fmt: skip

    def __init__(
        self, signature: Signature, captured: Captured, tree: Any, names: NameGuards
    ) -> None:
        self.signature = signature
        self.replay = Replay(captured, grad=signature[3])
        self.tree = tree
        self.name_guards = names
        leaves = [
            owner for i in captured.inputs
            if i.storage is not None and (owner := i.storage.leaf()) is not None
        ]  # fmt: skip
        self.epoch_guards = EpochGuards([guard for _, guard in captured.modules], leaves)
        self.calls = 0
        self.binders: dict[Any, Binder] = {}

    def binder_of(self, arguments: list[Argument]) -> Binder | None:
        """What serves calls with arguments of these kinds at once, if it is known."""
        return self.binders.get(tuple([arg.kind for arg in arguments]))

    def bind(self, arguments: list[Argument], width: int) -> Binder | None:
        """The same, written when it may be known by now."""
        if self.calls < 2 or self.epoch_guards.epoch != config.epoch:
            return None
        found = self.binder_of(arguments)
        if found is None or not found.fits(self.replay):
            new = make_binder(self, arguments, width)
            if new is not None:
                new.hits = 0 if found is None else found.hits
                self.binders[tuple([arg.kind for arg in arguments])] = found = new
        return found

    @property
    def hits(self) -> int:
        """How many calls binders have served."""
        return sum(binder.hits for binder in self.binders.values())

    def changed(self) -> str | None:
        """Why this version does not serve now, or None."""
        return self.name_guards.changed() or self.epoch_guards.changed()

    def grads_changed(self, arguments: list[Argument]) -> bool:
        """Whether a gradient that the trace read is there now and was not then, or the reverse."""
        for target, was_none in self.replay.captured.grad_reads:
            t = arguments[target].value if isinstance(target, int) else target()
            if t is None or t._has_grad is was_none:
                return True
        return False


class CapturedFunction(Reports):
    """A function whose graph is captured; made by `@compute_graph`."""

    def __init__(self, fn: Callable[..., Any], verify: bool = False) -> None:
        if not callable(fn):
            raise TypeError(f"compute_graph takes a function, got {type(fn).__name__}")
        functools.update_wrapper(self, fn)
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)  # modules and partials lack one
        self._fn = fn
        self._verify = verify
        self._entries: OrderedDict[Any, list[Entry]] = OrderedDict()
        self._static_floats: set[str] = set()
        self._bound: weakref.WeakKeyDictionary[Any, CapturedFunction] = weakref.WeakKeyDictionary()
        self._hits = self._misses = 0
        self._warned: set[str] = set()
        self._seen: dict[str, set[Any]] = {}
        self._last: Entry | None = None
        self._binder: Binder | None = None
        self._parameters = _parameters(fn)
        self._bind = binding_of(fn)

    # calling ------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function through its frozen graph."""
        binder = self._binder
        if binder is not None:
            if kwargs or len(args) != binder.width:
                args, kwargs = self._bind(*args, **kwargs)
            result = binder.call(Named(args, kwargs) if kwargs else args)
            if result is not MISS:
                binder.hits += 1
                return result
        return self._call(args, kwargs)

    def _call(self, args: Any, kwargs: Any) -> Any:
        """The general way."""
        if STATE.capture is not None or STATE.trace or config.no_capture or config.eager:
            return self._fn(*args, **kwargs)
        if kwargs or len(args) != len(self._parameters):
            args, kwargs = self._bind(*args, **kwargs)
        with LOCK:
            leaves, tree = flatten(Named(args, kwargs)) if kwargs else flatten(args)
            arguments, signature = classify(leaves, tree, self._static_floats, self._path)
            entry = self._find(signature, arguments)
            if entry is None:
                entry = self._capture(leaves, tree, arguments, signature, bool(kwargs))
                if entry is None:  # an argument turned out to be static
                    return self(*args, **kwargs)
            elif (config.check or self._verify) and entry.calls == 1:
                again = self._trace(leaves, tree, arguments, bool(kwargs))[0]
                check_same(entry.replay.captured, again, self.__name__)
            entry.calls += 1
            self._last = entry
            binder = entry.binder_of(arguments)
            if binder is not None and binder is not self._binder:  # after another signature
                self._binder = binder
                result = binder.call(Named(args, kwargs) if kwargs else args)
                if result is not MISS:
                    return result
            results = entry.replay.run(arguments)
            self._binder = entry.bind(arguments, len(self._parameters))
        return results[0] if entry.tree is None else entry.tree.rebuild(results, arguments)

    def _find(self, signature: Signature, arguments: list[Argument]) -> Entry | None:
        entries = self._entries.get(signature)
        if entries is None:
            return None
        for i, entry in enumerate(entries):
            if entry.changed() is None and not entry.grads_changed(arguments):
                self._hits += 1
                if i:
                    entries.insert(0, entries.pop(i))
                return entry
        self._note_guard(entries[0].changed())
        return None

    def _path(self, tree: Any, index: int) -> str:
        return self._named(paths(tree)[index])

    def _named(self, path: str) -> str:
        """A path into the arguments, with the name of the parameter that it starts from."""
        if path.startswith("[") and self._parameters:
            head, _, rest = path[1:].partition("]")
            if head.isdigit() and int(head) < len(self._parameters):
                return self._parameters[int(head)] + rest
        return path

    # capturing ----------------------------------------------------------------------------

    def _capture(
        self, leaves: list[Any], tree: Any, arguments: list[Argument], signature: Signature,
        with_kwargs: bool,
    ) -> Entry | None:  # fmt: skip
        self._misses += 1
        names = NameGuards(self._fn)
        try:
            captured, out_tree = self._trace(leaves, tree, arguments, with_kwargs)
        except NeedsValue as signal:
            name = self._path(tree, signal.index)
            self._static_floats.add(name)
            warn(
                f"{self.__name__}: the Python value of the float argument {name!r} is needed while"
                " capturing, so each new value is captured again; use tensor operations on it to"
                " avoid that"
            )
            return None
        names.seal()
        entry = Entry(signature, captured, out_tree, names)
        self._entries.setdefault(signature, []).insert(0, entry)
        self._entries.move_to_end(signature)
        while sum(map(len, self._entries.values())) > config.capture_limit:
            oldest = next(iter(self._entries))
            self._hits += self._entries[oldest].pop().hits
            if not self._entries[oldest]:
                del self._entries[oldest]
        self._note_signature(arguments, tree)
        return entry

    def _trace(
        self, leaves: list[Any], tree: Any, arguments: list[Argument], with_kwargs: bool
    ) -> tuple[Captured, Any]:
        capture = Capture(getattr(self, "__name__", "captured"))
        before = STATE.graph, STATE.capture
        STATE.graph, STATE.capture = capture.graph, capture
        try:
            values = [
                arg.stand_in(capture, i, leaf)
                for i, (arg, leaf) in enumerate(zip(arguments, leaves, strict=True))
            ]
            args = unflatten(tree, values)
            result = self._fn(*args[0], **args[1]) if with_kwargs else self._fn(*args)
            changed = capture.rebound_argument()
            if changed is not None:
                index, node = changed
                raise CaptureError(
                    f"{self.__name__}: argument {self._path(tree, index)!r} is changed in place at"
                    f" {node.where} inside a captured function, which its caller would not see;"
                    " make a new tensor (x = x * 2) and return it"
                )
            results, out_tree = _results(result, capture, arguments)
            captured = capture.finish(results)
        finally:
            capture.restore()
            STATE.graph, STATE.capture = before
        keep(capture.constants, get_default_graph())
        return captured, out_tree

    # warnings -----------------------------------------------------------------------------

    def _note_guard(self, what: str | None) -> None:
        if what is None or what.startswith("module") or what.endswith(".training"):
            return  # train() and eval() are captured beside each other
        if what not in self._warned and not what.startswith(("requires_grad", "a gradient")):
            self._warned.add(what)
            warn(
                f"{self.__name__}: {what!r}, which the captured function uses from outside, has"
                " changed, so it is captured again, and at each further change; pass it as an"
                " argument, or, if the function changes it itself, do that outside"
            )

    def _note_signature(self, arguments: list[Argument], tree: Any) -> None:
        for arg, path in zip(arguments, paths(tree), strict=True):
            name = self._named(path)
            seen = self._seen.setdefault(name, set())
            seen.add(arg.key)
            limit = 4 if arg.counts else 8
            if len(seen) == limit and name not in self._warned:
                self._warned.add(name)
                hint = "; pass a counter as lg.scalar(i)" if arg.counts else ""
                warn(
                    f"{self.__name__}: argument {name!r} took {limit} different"
                    f" {'values' if arg.counts else 'shapes or values'}"
                    f" ({', '.join(str(k[1]) for k in list(seen)[:4])}, ...) and is captured again"
                    f" for each{hint}"
                )

    # methods ------------------------------------------------------------------------------

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A method captures for each instance on its own."""
        if instance is None:
            return self
        found = self._bound.get(instance)
        if found is None:
            found = CapturedFunction(_Method(self._fn, instance), self._verify)
            self._bound[instance] = found
        return found

    # looking inside -----------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The frozen graph of the last signature."""
        return self._latest().replay.captured.graph

    @property
    def graphs(self) -> list[Graph]:
        """The frozen graphs of all signatures."""
        return [e.replay.captured.graph for es in self._entries.values() for e in es]

    @property
    def buffers(self) -> list[Any]:
        """The data buffers of the last signature: what its inputs are copied into."""
        return self._latest().replay.buffers()

    def _latest(self) -> Entry:
        if self._last is None:
            raise CaptureError(f"{self.__name__} has not been called yet: nothing is captured")
        return self._last

    def cache_info(self) -> CacheInfo:
        """Hits, misses (captures), versions held, limit; of a method for all its instances."""
        size = sum(map(len, self._entries.values()))
        hits = self._hits + sum(e.hits for es in self._entries.values() for e in es)
        parts = [bound.cache_info() for bound in self._bound.values()]
        return CacheInfo(
            hits + sum(p.hits for p in parts),
            self._misses + sum(p.misses for p in parts),
            size + sum(p.size for p in parts),
            config.capture_limit,
        )

    def clear_cache(self) -> None:
        """Forget every captured version."""
        self._hits += sum(e.hits for es in self._entries.values() for e in es)
        self._entries.clear()
        self._last = self._binder = None
        self._seen.clear()
        for bound in self._bound.values():
            bound.clear_cache()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._fn, name)  # of a captured module: parameters(), eval(), ...

    def __deepcopy__(self, memo: Any) -> CapturedFunction:
        return CapturedFunction(copy.deepcopy(self._fn, memo), self._verify)  # its own `self`

    def __reduce__(self) -> Any:
        found: Any = sys.modules.get(self.__module__)
        for name in self.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is self:
            return self.__qualname__  # a decorated function is found by its name
        return (CapturedFunction, (self._fn, self._verify))

    def __repr__(self) -> str:
        return f"<captured {self.__name__}: {len(self.graphs)} graphs>"


class _Method:
    """A function bound to an instance that is held weakly."""

    def __init__(self, fn: Callable[..., Any], instance: Any) -> None:
        functools.update_wrapper(self, fn)
        self.__func__ = fn
        self._instance = self.owner = weakref.ref(instance)
        parameters = list(inspect.signature(fn).parameters.values())[1:]
        self.__signature__ = inspect.Signature(parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self._instance(), *args, **kwargs)


def _parameters(fn: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the positional parameters; calls of another form are bound by signature."""
    try:
        found = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return ()
    if any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in found):
        return ()
    return tuple(p.name for p in found)


def _results(
    result: Any, capture: Capture, arguments: list[Argument]
) -> tuple[list[Tensor], Result | None]:
    """The tensors that a call makes, and how to rebuild the result (None: it is a lone tensor).

    What the function got, as an argument or from outside, it gives back as the same object.
    """
    leaves, tree = flatten(result)
    made: list[Tensor] = []
    positions: dict[int, int] = {}
    for k, x in enumerate(leaves):
        if not isinstance(x, Tensor):
            continue
        index = capture.argument_of(x)
        if index >= 0 and arguments[index].kind != ARRAY:
            leaves[k] = Given(index)
        elif index >= 0 or capture.owns(x):
            if id(x) not in positions:
                positions[id(x)] = len(made)
                made.append(x)
            leaves[k] = Made(positions[id(x)])
    if made and result is made[0]:
        return made, None
    return made, Result(tree, leaves)


def compute_graph(fn: Any = None, *, verify: bool = False) -> Any:
    """Capture a function: traced on its first call per signature, frozen, compiled, replayed.

    Tensors and arrays are inputs by shape and dtype, floats are inputs, other Python values are
    part of the signature. `verify=True` traces a second time and compares.

    >>> import lazygrad as lg
    >>> @lg.compute_graph
    ... def f(x):
    ...     return (x * 2).sum()
    >>> f(lg.tensor([1.0, 2.0])).item(), f(lg.tensor([3.0, 4.0])).item()
    (6.0, 14.0)
    >>> f.cache_info().misses
    1
    """
    if fn is None:
        return functools.partial(compute_graph, verify=verify)
    return CapturedFunction(fn, verify)
