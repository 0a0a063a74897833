"""Calls that have not become nodes yet, and the backward passes that wait with them.

A captured call usually goes through the same three hands: `loss = forward(x, y)`,
`loss.backward()`, `optimizer.step()`. A `Call` remembers what was called on which versions, a
`BackCall` from which of its results gradients are wanted; their results are `LazyTensor`s. Any use
but that of a known chain materialises them: they become ordinary `call` nodes, and the general
mechanism takes over with equal bits.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lazygrad.config import config
from lazygrad.engine.body import Vjp, append_call, one_like, project
from lazygrad.engine.gradients import Gradients
from lazygrad.engine.graph import Graph, Node
from lazygrad.engine.handles import Saved
from lazygrad.engine.latent import Held
from lazygrad.engine.lazy import LazyTensor, lazy, settle
from lazygrad.engine.pending import WRITES
from lazygrad.engine.random import key_node
from lazygrad.engine.storage import WATCH, Ref, Storage
from lazygrad.engine.tensor import Tensor
from lazygrad.ops.opdef import Array
from lazygrad.shapes import numel

if TYPE_CHECKING:
    from lazygrad.engine.replay import Replay

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
    is_forward: ClassVar[bool] = True

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
        t = lazy(self, 0)
        self.handles = [weakref.ref(t)]
        return t

    def results(self) -> list[Tensor]:
        """The lazy tensors that the caller gets."""
        found = [lazy(self, i) for i in range(self.replay.captured.results)]
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

    def forward_node(self) -> Node:
        """The node of the call, which it becomes now."""
        return self.materialize()

    def _hand_over(self, call: Node) -> None:
        """Give the live handles their nodes, and what was computed its place."""
        for i, ref in enumerate(self.handles):
            t = ref()
            if t is None or t.__class__ is not LazyTensor:
                continue
            node = project(call, i)
            if self.values is not None:
                self.graph.values[node.id] = self.values[i]
            settle(t, node)

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
    is_forward: ClassVar[bool] = False

    def __init__(self, call: Call, root: int, vjp: Vjp, shared: Gradients) -> None:
        self.call = call
        self.root = root
        self.vjp = vjp
        self.shared = shared
        self.handles: list[weakref.ref[LazyTensor]] = []

    def give_out(self) -> list[Tensor]:
        """A lazy tensor for each gradient: somebody looks."""
        found = [lazy(self, i) for i in range(len(self.vjp.grads))]
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

    def forward_node(self) -> Node:
        """The node of the call that this is the backward pass of; both become nodes now."""
        return self.call.materialize()

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
            settle(t, project(back, i))
        graph.saved[call.id] = Saved([], [])  # as backward() without retain_graph leaves it
        for i in range(self.call.replay.captured.results):
            graph.saved[project(call, i).id] = Saved([], [])


def append_backward(graph: Graph, call: Node, vjp: Vjp, root: int, sources: Sequence[Node]) -> Node:
    """Append the backward call of a call with a cotangent of one."""
    one = one_like(graph, call.payload.outputs[root])
    inputs = [*(sources[i] for i in vjp.sources), one, *(project(call, i) for i in vjp.residuals)]
    return append_call(graph, vjp.body, inputs, False)
