"""Calls that have not become nodes: forward, backward and update as one known program.

A captured call usually goes through the same three hands: `loss = forward(x, y)`,
`loss.backward()`, `optimizer.step()`. A `Call` remembers what was called on which versions, and
its results are `LazyTensor`s. When the update comes, the whole chain is looked up by identity and
run as one `Step`; nothing is appended or searched. Any other use of a lazy tensor materialises the
chain: it becomes ordinary `call` nodes, and the general mechanism takes over with equal bits.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.config import config
from lazygrad.engine.body import Vjp, append_call, one_like, project
from lazygrad.engine.graph import Graph, Node, Saved, register_handle
from lazygrad.engine.modes import LOCK, STATE
from lazygrad.engine.random import key_node
from lazygrad.engine.realize import WRITES
from lazygrad.engine.step import GradSlots, Step
from lazygrad.engine.storage import Ref, Storage
from lazygrad.engine.tensor import Tensor
from lazygrad.ops.opdef import Array
from lazygrad.shapes import numel

if TYPE_CHECKING:
    from lazygrad.engine.body import Body
    from lazygrad.engine.replay import Replay
    from lazygrad.engine.subgraph import Subgraph

Feed = Any  # Ref: a pinned version; ndarray: a private copy, None once used; (seed, counter)


class Call:
    """A captured call: its replay and the values that it was called on."""

    __slots__ = (
        "__weakref__", "back", "feeds", "graph", "handles", "node", "refs", "replay",
        "requires_grad", "values",
    )  # fmt: skip

    def __init__(self, replay: Replay, feeds: list[Feed], graph: Graph, requires: bool) -> None:
        self.replay = replay
        self.feeds = feeds
        self.graph = graph
        self.requires_grad = requires
        self.refs = [f for f in feeds if type(f) is Ref]
        for ref in self.refs:
            ref.pins += 1
        self.values: list[Array] | None = None
        self.back: BackCall | None = None
        self.node: Node | None = None
        self.handles: list[weakref.ref[Tensor]] = []
        if requires:
            graph.calls = [r for r in graph.calls if r() is not None]
            graph.calls.append(weakref.ref(self))

    def settle(self) -> None:
        """Become a node, unless the backward pass is under way: its place no longer matters."""
        if self.node is None and self.values is None and self.back is None:
            self.materialize()

    def results(self) -> list[Tensor]:
        """The lazy tensors that the caller gets."""
        found: list[Tensor] = [_lazy(self, i) for i in range(self.replay.captured.results)]
        self.handles = [weakref.ref(t) for t in found]
        return found

    def spec(self, index: int) -> Node:
        """The traced node of a result: its shape and dtype."""
        return self.replay.body.outputs[index]

    def unpin(self) -> None:
        """The versions may be overwritten."""
        for ref in self.refs:
            ref.pins -= 1
        self.refs = []

    def __del__(self) -> None:
        self.unpin()

    def feed(self, index: int) -> Array:
        """The array of an input."""
        what = self.feeds[index]
        if type(what) is Ref:
            return what.array()
        return np.array(what, np.uint64) if type(what) is tuple else what

    def materialize(self) -> Node:
        """Become an ordinary `call` node."""
        if self.node is not None:
            return self.node
        graph, body = self.graph, self.replay.body
        later = graph.settle_calls(self) if self.requires_grad else []
        transient: list[Storage] = []
        nodes = []
        for what, inner in zip(self.feeds, body.inputs, strict=True):
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
        self.unpin()
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
        if numel(self.spec(root).shape) != 1 or not self.requires_grad:
            return False
        leaves: list[Any] = [s.leaf() for s in self.replay.leaves()]
        for leaf in leaves:
            if leaf is None or leaf._hooks or (leaf._grad is not None and not assign):
                return False
        vjp = self.replay.body.vjp((root,), self.replay.leaf_inputs)
        if len(vjp.grads) != len(leaves):
            return False
        self.back = back = BackCall(self, root, vjp)
        for i, leaf in enumerate(leaves):
            leaf._grad = t = _lazy(back, i)
            back.handles.append(weakref.ref(t))
        return True

    def run_alone(self) -> None:
        """Compute the results of a call that needs no gradient."""
        step = self.replay.alone()
        outputs = [np.empty(shape, dtype) for shape, dtype in step.specs]
        step.run(lambda kind, what: self.feed(what), outputs)
        self.finish(outputs)

    def finish(self, outputs: Sequence[Array]) -> None:
        """The results have values; the arguments are not needed any more."""
        self.values = list(outputs)
        self.unpin()
        self.feeds = [f if type(f) is not np.ndarray else None for f in self.feeds]


class BackCall:
    """The backward pass of a `Call` from one of its results."""

    __slots__ = ("call", "handles", "root", "vjp")

    def __init__(self, call: Call, root: int, vjp: Vjp) -> None:
        self.call = call
        self.root = root
        self.vjp = vjp
        self.handles: list[weakref.ref[Tensor]] = []

    def spec(self, index: int) -> Node:
        """The traced node of a gradient."""
        return self.vjp.body.outputs[index]

    def materialize(self) -> None:
        """Become an ordinary backward call; the forward does so first."""
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
    """A result of a call that is no node yet; asking for its node makes it one."""

    __slots__ = ()

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
        self.__class__ = Tensor  # type: ignore[assignment]
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

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add the gradients of this tensor to `.grad` of the leaves it depends on."""
        plain = gradient is None and not retain_graph and not create_graph
        if not (plain and self._start_backward()):
            super().backward(gradient, retain_graph, create_graph)

    def backprop(self) -> None:
        """As `backward()`, but `.grad` of the leaves is assigned, not added to."""
        if not self._start_backward(assign=True):
            super().backprop()

    def _start_backward(self, assign: bool = False) -> bool:
        source, index = self._lazy
        if STATE.capture is not None or self._hooks or self._retains or type(source) is not Call:
            return False
        return source.start_backward(index, assign)

    def _array(self) -> Array:
        source, index = self._lazy
        if STATE.capture is None and type(source) is Call and source.node is None:
            with LOCK:
                if source.values is None and not source.requires_grad:
                    source.run_alone()
                if source.values is not None:
                    value: Array = source.values[index]
                    return value
        return super()._array()


def _lazy(source: Call | BackCall, index: int) -> LazyTensor:
    t = LazyTensor.__new__(LazyTensor)
    t._lazy = (source, index)
    t._storage = None
    t._requires_grad = False
    t._grad = None
    t._hooks = None
    t._graph = None
    t._label = ""
    t._weak = False
    t._retains = False
    t._escaped = None
    t._anchor = None
    t._group = None
    return t


def _settle(t: Tensor, node: Node) -> None:
    """Make a lazy tensor the ordinary handle of a node."""
    t.__class__ = Tensor
    t._node = node
    t._lazy = None
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
        for i, (given, inner) in enumerate(zip(replay.captured.inputs, body.inputs, strict=True)):
            if given.storage is not None:
                at[given.storage] = source(("storage", given.storage), inner)
                sources.append(at[given.storage])
            else:
                sources.append(source(("feed", i), inner))
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
        )  # fmt: skip
        self.results = len(results)
        self.grads = GradSlots([(n.shape, n.dtype.dtype) for n in grads])
        for called in (body, vjp.body, update):
            called.program = self.step.program

    def run(self, call: Call, back: BackCall) -> None:
        """One turn of the loop."""
        step = self.step
        outputs = [np.empty(shape, dtype) for shape, dtype in step.specs[: self.results]]
        grads = self.grads.arrays()
        refs, call.refs = call.refs, []
        for ref in refs:
            ref.pins -= 1
        try:
            step.run(lambda kind, what: call.feed(what), outputs + grads)
        except BaseException:
            call.refs = refs  # nothing was written: the call is as it was
            for ref in refs:
                ref.pins += 1
            raise
        call.finish(outputs)
        self.grads.hand_over(grads, back.handles)


def update(sub: Subgraph, inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> bool:
    """Run a pending chain up to this update of `targets`; False when there is none."""
    if STATE.capture is not None or STATE.trace or WRITES or config.eager:
        return False
    back: Any = None
    pattern: list[Any] = []
    for t in inputs:
        if t.__class__ is LazyTensor:
            source, index = t._lazy
            if back is None:
                back = source
            if source is not back:
                return False
            pattern.append(index)
        else:
            storage = t._storage
            if storage is None or storage.pending is not None:
                return False
            pattern.append(storage)
    if type(back) is not BackCall or back.call.node is not None or back.call.values is not None:
        return False
    call = back.call
    if any(f is not f.storage.ref for f in call.refs):
        return False  # a parameter has moved on since the call
    chains = call.replay.chains
    key = (sub, back.root, tuple(pattern))
    chain = chains.get(key)
    with LOCK:
        if chain is None:
            specs = [t if t._storage is None else t._storage for t in inputs]
            storages = [t._storage for t in targets]
            if any(s is None for s in storages):
                return False
            chain = chains[key] = Chain(
                call, back, sub.body(specs), key[2], [s for s in storages if s is not None]
            )
        chain.run(call, back)
    return True
