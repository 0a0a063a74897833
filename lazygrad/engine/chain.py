"""Calls that have not become nodes: forward, backward and update as one known program.

A captured call usually goes through the same three hands: `loss = forward(x, y)`,
`loss.backward()`, `optimizer.step()`. A `Call` remembers what was called on which versions, and
its results are `LazyTensor`s. When the update comes, the whole chain is looked up by identity and
run as one `Step`; nothing is appended or searched. Any other use of a lazy tensor materialises the
chain: it becomes ordinary `call` nodes, and the general mechanism takes over with equal bits.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.config import config
from lazygrad.engine.body import Vjp, append_call, one_like, project
from lazygrad.engine.gradients import Gradients
from lazygrad.engine.graph import Graph, Node
from lazygrad.engine.handles import Saved, register_handle
from lazygrad.engine.latent import Held
from lazygrad.engine.light import SLOTS
from lazygrad.engine.modes import LOCK, STATE
from lazygrad.engine.pending import WRITES
from lazygrad.engine.random import key_node
from lazygrad.engine.step import Steady, Step
from lazygrad.engine.storage import WATCH, Ref, Storage
from lazygrad.engine.tensor import Tensor
from lazygrad.ops.opdef import Array
from lazygrad.shapes import numel

if TYPE_CHECKING:
    from lazygrad.engine.body import Body
    from lazygrad.engine.replay import Replay
    from lazygrad.engine.subgraph import Subgraph

GONE = -1  # no version of a storage
Feed = Any  # Ref: a pinned version; ndarray: a private copy, None once used; (seed, counter)


class Pins:
    """Versions that are not written over while this lives."""

    __slots__ = ("held", "refs")

    def __init__(self, refs: list[Ref]) -> None:
        self.refs = refs
        self.held = False
        self.hold()

    def hold(self) -> None:
        """Keep the versions."""
        if not self.held:
            self.held = True
            for ref in self.refs:
                ref.pins += 1

    def release(self) -> None:
        """The versions may be overwritten."""
        if self.held:
            self.held = False
            for ref in self.refs:
                ref.pins -= 1

    def __del__(self) -> None:
        self.release()


class Call:
    """A captured call: its replay and the values that it was called on.

    `given` has the values of the arguments: a private copy, a version of a tensor, or (seed,
    counter). What the function reads from outside is in the storages. The newest call does not pin
    these versions until something is about to be written (`WATCH.reader`); usually that is its own
    update, and nothing is ever pinned.
    """

    __slots__ = (
        "__weakref__", "back", "given", "graph", "handles", "node", "pins", "plain", "replay",
        "requires_grad", "values",
    )  # fmt: skip

    def __init__(
        self, replay: Replay, given: list[Feed], plain: bool, graph: Graph, requires: bool
    ) -> None:
        self.replay = replay
        self.given = given
        self.plain = plain  # only arrays were given
        self.graph = graph
        self.requires_grad = requires
        self.pins: Pins | None = None
        self.values: list[Array] | None = None
        self.back: BackCall | None = None
        self.node: Node | None = None
        if WATCH.reader is not None:
            WATCH.settle()
        WATCH.reader = me = weakref.ref(self)
        if requires:
            if graph.calls:
                graph.calls = [r for r in graph.calls if (c := r()) is not None and c.is_open]
            graph.calls.append(me)

    @property
    def is_open(self) -> bool:
        """Whether it may still become a node."""
        return self.node is None and self.values is None

    def pin(self) -> None:
        """The versions that it reads must stay."""
        if self.pins is None and self.is_open:
            refs = [s.ref for s in self.replay.read]
            self.pins = Pins(refs + [f for f in self.given if type(f) is Ref])

    def settle(self) -> None:
        """Become a node, unless the backward pass is under way: its place no longer matters."""
        if self.node is None and self.values is None and self.back is None:
            self.materialize()

    def result(self) -> LazyTensor:
        """The lazy tensor of a call with one result."""
        t = _lazy(self, 0)
        self.handles = [weakref.ref(t)]
        return t

    def results(self) -> list[Tensor]:
        """The lazy tensors that the caller gets."""
        found = [_lazy(self, i) for i in range(self.replay.captured.results)]
        self.handles = [weakref.ref(t) for t in found]
        return [*found]

    def spec(self, index: int) -> Node:
        """The traced node of a result: its shape and dtype."""
        return self.replay.body.outputs[index]

    def has_moved(self) -> bool:
        """Whether something that it reads has been written since, or will have been."""
        if WRITES and any(s.pending is not None for s in self.replay.read):
            return True
        return self.pins is not None and not all(r.storage.is_current(r) for r in self.pins.refs)

    def feed(self, place: int) -> Array:
        """The array of an argument."""
        what = self.given[place]
        if type(what) is Ref:
            return what.array()
        return np.array(what, np.uint64) if type(what) is tuple else what

    def arrays(self) -> list[Array]:
        """The arrays of all arguments."""
        return self.given if self.plain else [self.feed(i) for i in range(len(self.given))]

    def _feeds(self) -> list[Feed]:
        """What each input is, in their order."""
        read = self.replay.read
        if self.pins is None:  # it has run, and its update has written to them since
            versions = iter([Ref(s, GONE) for s in read])
        else:
            versions = iter(self.pins.refs)
        given = iter(self.given)
        return [
            next(given) if source.storage is None else next(versions)
            for source in self.replay.captured.inputs
        ]

    def materialize(self) -> Node:
        """Become an ordinary `call` node."""
        if self.node is not None:
            return self.node
        self.pin()
        graph, body = self.graph, self.replay.body
        later = graph.settle_calls(self) if self.requires_grad else []
        transient: list[Storage] = []
        nodes = []
        for what, inner in zip(self._feeds(), body.inputs, strict=True):
            if type(what) is tuple:
                nodes.append(key_node(graph, *what))
                continue
            if type(what) is not Ref:
                storage = (
                    Storage.released(inner.shape, inner.dtype)
                    if what is None
                    else Storage(what, inner.dtype)
                )
                transient.append(storage)
                what = storage.ref
            nodes.append(
                graph.source(
                    what, inner.shape, inner.dtype, what.storage.op, inner.requires_grad, inner.weak
                )
            )
        self.node = call = append_call(graph, body, nodes, self.requires_grad)
        graph.calls = later + graph.calls
        for storage in transient:
            storage.call = weakref.ref(call)
        self._hand_over(call)
        self.pins = None
        if self.back is not None:
            self.back.materialize()
        return call

    def _hand_over(self, call: Node) -> None:
        """Give the live handles their nodes, and what was computed its place."""
        for i, ref in enumerate(self.handles):
            t = ref()
            if t is None or t.__class__ is not LazyTensor:
                continue
            node = project(call, i)
            if self.values is not None:
                self.graph.values[node.id] = self.values[i]
            _settle(t, node)

    def start_backward(self, root: int, assign: bool = False) -> bool:
        """Begin the backward pass from a result, if that is the plain one; else False.

        With `assign` old gradients are replaced, not added to.
        """
        if self.node is not None or self.values is not None or self.back is not None:
            return False
        if not self.requires_grad:
            return False
        found = self.replay.shared.get(root)
        if found is None or not found[1].awaits(assign):
            found = self._share(root, assign)
            if found is None:
                return False
        vjp, shared = found
        self.back = BackCall(self, root, vjp, shared)
        shared.wait(self.back)
        return True

    def _share(self, root: int, assign: bool) -> tuple[Vjp, Gradients] | None:
        """The backward pass and what the leaves will share, where it is a plain one."""
        if numel(self.spec(root).shape) != 1:
            return None
        storages = self.replay.leaves()
        for leaf in [s.leaf() for s in storages]:
            if leaf is None or leaf._hooks or (leaf._has_grad and not assign):
                return None
        vjp = self.replay.body.vjp((root,), self.replay.leaf_inputs)
        if len(vjp.grads) != len(storages):
            return None
        before = self.replay.shared.get(root)
        mine = None if before is None else before[1]
        held = mine.held if mine is not None else Held.plain(vjp.body.outputs[: vjp.body.results])
        shared = Gradients.over([s.owner for s in storages if s.owner is not None], held, mine)
        shared.plain_at = config.epoch
        self.replay.shared[root] = vjp, shared
        return vjp, shared

    def run_alone(self) -> None:
        """Compute the results of a call that needs no gradient."""
        replay, step = self.replay, self.replay.alone()
        if replay.steady is not None and replay.steady.holds():
            steady = replay.steady
            self.finish(steady.turn(steady, self.arrays()))
            return
        outputs = [np.empty(shape, dtype) for shape, dtype in step.results]
        step.run(lambda kind, place: self.feed(place), outputs)
        self.finish(outputs)
        replay.steady = step.steady(replay.steady)

    def finish(self, outputs: list[Array]) -> None:
        """The results have values; the arguments are not needed any more."""
        self.values = outputs
        if self.pins is not None:
            self.pins.release()
        if self.plain:
            self.given = [None] * len(self.given)
        else:
            self.given = [f if type(f) is not np.ndarray else None for f in self.given]


class BackCall:
    """The backward pass of a `Call` from one of its results."""

    __slots__ = ("call", "handles", "root", "shared", "vjp")

    def __init__(self, call: Call, root: int, vjp: Vjp, shared: Gradients) -> None:
        self.call = call
        self.root = root
        self.vjp = vjp
        self.shared = shared
        self.handles: list[weakref.ref[LazyTensor]] = []

    def give_out(self) -> list[Tensor]:
        """A lazy tensor for each gradient: somebody looks."""
        found = [_lazy(self, i) for i in range(len(self.vjp.grads))]
        self.handles = [weakref.ref(t) for t in found]
        return [*found]

    def spec(self, index: int) -> Node:
        """The traced node of a gradient."""
        return self.vjp.body.outputs[index]

    def owner(self, gradient: Tensor) -> Any:
        """The leaf whose gradient a lazy tensor is; None for any other tensor."""
        if type(gradient) is not LazyTensor or gradient._lazy[0] is not self:
            return None
        return self.shared.leaves[gradient._lazy[1]]()

    def materialize(self) -> None:
        """Become an ordinary backward call; the forward does so first."""
        if self.shared.waiting is self:
            self.shared.settle()
        if self.call.node is None:
            self.call.materialize()  # comes back here
            return
        live = [(i, t) for i, r in enumerate(self.handles) if (t := r()) is not None]
        live = [(i, t) for i, t in live if t.__class__ is LazyTensor]
        if not live:
            return
        call, graph = self.call.node, self.call.graph
        back = append_backward(graph, call, self.vjp, self.root, call.inputs)
        for i, t in live:
            _settle(t, project(back, i))
        graph.saved[call.id] = Saved([], [])  # as backward() without retain_graph leaves it
        for i in range(self.call.replay.captured.results):
            graph.saved[project(call, i).id] = Saved([], [])


def append_backward(graph: Graph, call: Node, vjp: Vjp, root: int, sources: Sequence[Node]) -> Node:
    """Append the backward call of a call with a cotangent of one."""
    one = one_like(graph, call.payload.outputs[root])
    inputs = [*(sources[i] for i in vjp.sources), one, *(project(call, i) for i in vjp.residuals)]
    return append_call(graph, vjp.body, inputs, False)


class LazyTensor(Tensor):
    """A result of a call that is no node yet; asking for its node makes it one.

    Its slots but `_lazy` are empty until somebody asks for one.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name in SLOTS and name != "_node":
            self._fill()
            return getattr(self, name)
        return super().__getattr__(name)

    def _fill(self) -> None:
        """Give it what an ordinary tensor begins with; once only, so that nothing is lost."""
        self._storage = None
        self._requires_grad = False
        self._gradient = None
        self._hooks = None
        self._graph = None
        self._weak = False
        self._retains = False
        self._escaped = None
        self._anchor = None
        self._group = None
        self._label = ""

    def _become(self, array: Array) -> None:
        """Make it a leaf over its value."""
        _ordinary(self)
        self._node = None
        self._storage = Storage(array)

    @property
    def _node(self) -> Any:
        with LOCK:
            source = self._lazy[0]
            call = source if type(source) is Call else source.call
            call.materialize()
            if self.__class__ is LazyTensor:  # made after its call became a node
                _settle(self, project(call.materialize(), self._lazy[1]))
            return self._node

    @_node.setter
    def _node(self, node: Any) -> None:
        _ordinary(self)
        self._node = node

    @property
    def shape(self) -> Any:
        """The sizes of its dimensions."""
        source, index = self._lazy
        return source.spec(index).shape

    @property
    def dtype(self) -> Any:
        """The type of its elements."""
        source, index = self._lazy
        return source.spec(index).dtype

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow through it."""
        source, index = self._lazy
        return type(source) is Call and source.requires_grad and source.spec(index).requires_grad

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        self.requires_grad_(flag)

    @property
    def is_leaf(self) -> bool:
        """Whether it needs no gradient."""
        return not self.requires_grad

    def retain_grad(self) -> None:
        """Keep `.grad` for this tensor although it is not a leaf."""
        assert self._node is not None  # an ordinary tensor from here on
        self.retain_grad()

    def register_hook(self, hook: Any) -> Any:
        """Call `hook(grad)` in each backward pass; what it returns replaces the gradient."""
        assert self._node is not None
        return self.register_hook(hook)

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add the gradients of this tensor to `.grad` of the leaves it depends on."""
        if gradient is None and not retain_graph and not create_graph:
            source, index = self._lazy
            if type(source) is Call and STATE.capture is None:
                with LOCK:
                    if source.start_backward(index):
                        return
        super().backward(gradient, retain_graph, create_graph)

    def backprop(self) -> None:
        """As `backward()`, but `.grad` of the leaves is assigned, not added to."""
        source, index = self._lazy
        if type(source) is Call and STATE.capture is None:
            with LOCK:
                if source.start_backward(index, assign=True):
                    return
        super().backprop()

    def item(self) -> bool | int | float:
        """The value of a tensor with one element, as a Python number."""
        source, index = self._lazy
        if type(source) is Call and source.values is not None and STATE.capture is None:
            array = source.values[index]
            if array.ndim == 0:
                number: bool | int | float = array.item()
                return number
        return super().item()

    def __float__(self) -> float:
        return float(self.item())

    def _array(self) -> Array:
        source, index = self._lazy
        if STATE.capture is None and type(source) is Call and source.node is None:
            with LOCK:
                if source.values is None and not source.requires_grad and not source.has_moved():
                    source.run_alone()
                if source.values is not None:
                    value: Array = source.values[index]
                    return value
        return super()._array()


def _lazy(source: Call | BackCall, index: int) -> LazyTensor:
    t = LazyTensor.__new__(LazyTensor)
    t._lazy = (source, index)
    return t


def _ordinary(t: Tensor) -> None:
    """Make a lazy tensor an ordinary one, which lacks a node yet."""
    try:
        object.__getattribute__(t, "_label")
    except AttributeError:
        LazyTensor._fill(t)  # type: ignore[arg-type]
    t.__class__ = Tensor
    t._lazy = None


def _settle(t: Tensor, node: Node) -> None:
    """Make a lazy tensor the ordinary handle of a node."""
    _ordinary(t)
    t._node = node
    register_handle(node, t)


class Chain:
    """Forward, backward and one update as a compiled step."""

    def __init__(
        self, call: Call, back: BackCall, update: Body, pattern: tuple[Any, ...],
        targets: Sequence[Storage],
    ) -> None:  # fmt: skip
        graph = Graph("chain")
        replay, vjp = call.replay, back.vjp
        body = replay.body
        feeds: dict[int, tuple[str, Any]] = {}
        at: dict[Storage, Node] = {}

        def source(recipe: tuple[str, Any], spec: Any) -> Node:
            node = graph.source(
                recipe, spec.shape, spec.dtype, spec.op, getattr(spec, "requires_grad", False)
            )
            feeds[node.id] = recipe
            return node

        sources = []
        places = itertools.count()
        for given, inner in zip(replay.captured.inputs, body.inputs, strict=True):
            if given.storage is not None:
                at[given.storage] = source(("storage", given.storage), inner)
                sources.append(at[given.storage])
            else:
                sources.append(source(("feed", next(places)), inner))
        forward = append_call(graph, body, sources, True)
        backward = append_backward(graph, forward, vjp, back.root, sources)
        given_nodes = []
        for what in pattern:
            if isinstance(what, Storage):
                if what not in at:
                    at[what] = source(("storage", what), what)
                given_nodes.append(at[what])
            else:
                given_nodes.append(project(backward, what))
        step = append_call(graph, update, given_nodes, False)
        results = [project(forward, i) for i in range(replay.captured.results)]
        grads = [project(backward, i) for i in range(len(vjp.grads))]
        written = [project(step, i) for i in range(len(targets))]
        nodes = graph.nodes
        position = {n.id: i for i, n in enumerate(nodes)}
        self.step = Step(
            nodes, {position[i]: r for i, r in feeds.items()},
            [position[n.id] for n in (*results, *grads)],
            [(position[n.id], s) for n, s in zip(written, targets, strict=True)],
            len(results),
        )  # fmt: skip
        self.results = len(results)
        self._steady: Steady | None = None
        for called in (body, vjp.body, update):
            called.program = self.step.program

    def run(self, call: Call, back: BackCall) -> None:
        """One turn of the loop."""
        steady, shared = self._steady, back.shared
        if (
            steady is not None
            and steady.holds()
            and shared.waiting is back
            and (steady.version == shared.version or steady.fits(shared))
            and ((reader := WATCH.reader) is None or reader() is call or not WATCH.is_read())
        ):
            grads = None if steady.version == shared.version else steady.renew(back)
            call.finish(steady.turn(steady, call.arrays()))
            WATCH.reader = None
            if len(waiting := call.graph.calls) == 1:  # this one: it has run
                waiting.clear()
            if grads is not None:
                steady.renewed(grads)
            shared.waiting = None
        else:
            self._run(call, back)

    def _run(self, call: Call, back: BackCall) -> None:
        step, shared = self.step, back.shared
        waiting = shared.waiting is back
        outputs = [np.empty(shape, dtype) for shape, dtype in step.results]
        if waiting or not shared.joined:
            shared.reform(step.held)
            grads = shared.take(back if waiting else None)
        else:  # the leaves have others by now
            grads = step.held.empty()
        if call.pins is not None:
            call.pins.release()
        elif WATCH.reader is not None and WATCH.reader() is call:
            WATCH.reader = None
        try:
            step.run(lambda kind, place: call.feed(place), outputs + grads)
        except BaseException:  # nothing was written: the call is as it was
            if call.pins is not None:
                call.pins.hold()
            call.pin()
            raise
        call.finish(outputs)
        if waiting:
            shared.hold(grads)
            self._steady = step.steady(self._steady, shared)
        elif shared.joined:
            for array, ref in zip(step.held.values(grads), back.handles, strict=True):
                t = ref()
                if t is not None:
                    t._become(array)
        else:
            shared.hand_over(grads, back.handles)


def run_known(chains: dict[Vjp, Chain], leaf: Tensor, idle: Sequence[Tensor]) -> bool:
    """Run the chain that waits for an update, if that is a known one; else False.

    `leaf` is one of those updated, `idle` must have no gradients. Nothing else is looked at.
    """
    shared = leaf._gradient
    if shared.__class__ is not Gradients or STATE.trace or STATE.capture is not None or WRITES:
        return False
    back = shared.waiting
    chain = None if back is None else chains.get(back.vjp)
    if chain is None:
        return False
    call = back.call
    if call.node is not None or call.values is not None or (call.pins and call.has_moved()):
        return False
    if idle and any(t._has_grad for t in idle):
        return False
    chain.run(call, back)
    return True


def waiting_chain(
    sub: Subgraph, inputs: Sequence[Tensor], targets: Sequence[Tensor]
) -> tuple[Chain, BackCall] | None:
    """The chain that waits for this update of `targets`, and its backward pass, if any."""
    if STATE.capture is not None or STATE.trace or WRITES or config.eager:
        return None
    back: Any = None
    pattern: list[Any] = []
    for t in inputs:
        if t.__class__ is LazyTensor:
            source, index = t._lazy
            if back is None:
                back = source
            if source is not back:
                return None
            pattern.append(index)
        else:
            storage = t._storage
            if storage is None or storage.pending is not None:
                return None
            pattern.append(storage)
    if type(back) is not BackCall or not back.call.is_open or back.call.has_moved():
        return None
    call = back.call
    chains = call.replay.chains
    key = (sub, back.root, tuple(pattern))
    chain = chains.get(key)
    if chain is None:
        specs = [t if t._storage is None else t._storage for t in inputs]
        storages = [t._storage for t in targets]
        if any(s is None for s in storages):
            return None
        chain = chains[key] = Chain(
            call, back, sub.body(specs), key[2], [s for s in storages if s is not None]
        )
    return chain, back
