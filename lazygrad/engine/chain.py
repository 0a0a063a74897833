"""A chain: forward, backward and update as one known program.

When an optimizer's step meets the backward pass of a waiting call, the three are looked up by
identity and run as one `Step`; nothing is appended or searched.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.config import config
from lazygrad.engine.body import Vjp, append_call, project
from lazygrad.engine.gradients import Gradients
from lazygrad.engine.graph import Graph, Node
from lazygrad.engine.lazy import LazyTensor
from lazygrad.engine.modes import STATE
from lazygrad.engine.pending import WRITES
from lazygrad.engine.step import Steady, Step
from lazygrad.engine.storage import WATCH, Storage
from lazygrad.engine.tensor import Tensor
from lazygrad.engine.waiting import BackCall, Call, append_backward

if TYPE_CHECKING:
    from lazygrad.engine.body import Body
    from lazygrad.engine.subgraph import Subgraph


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
            shared.waiting = call.back = None  # nobody has a gradient of it: no cycle is left
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
            call.back = None
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
