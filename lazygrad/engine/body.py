"""A `Body`: a frozen piece of graph that can be called, differentiated and inlined.

Captured functions, optimizer updates and backward passes are bodies; calling one appends a single
`call` node. A body is a cut through a traced graph: from `inputs` (any nodes) to `outputs`. Its
`vjp` is another body, made once per set of cotangents: it reads the same inputs, the cotangents
and some forward values, which become further outputs of this body (`residuals`), so that a
backward pass never recomputes the forward.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lazygrad.engine.autodiff import pullback
from lazygrad.engine.graph import HOOKS, Graph, Node
from lazygrad.engine.modes import STATE
from lazygrad.ops.movement import EXPAND
from lazygrad.ops.opdef import Kind
from lazygrad.ops.source import CALL, DATA, PROJECT

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

_uids = itertools.count(1)


class Body:
    """Nodes between `inputs` and `outputs`; `effects` run whenever the body does."""

    def __init__(
        self, inputs: Sequence[Node], outputs: Sequence[Node], effects: Sequence[Node] = ()
    ) -> None:
        self.uid = next(_uids)
        self.inputs = tuple(inputs)
        self.results = len(outputs)  # outputs beyond are residuals
        self.outputs = list(outputs)
        self.effects = tuple(effects)
        self.nodes = between(self.inputs, [*self.outputs, *self.effects])
        self._residual_index = {n.id: i for i, n in reversed(list(enumerate(outputs)))}
        self.program: Any = None  # the program that ran it last, for reports
        self._vjps: dict[Any, Vjp] = {}

    def residual(self, node: Node) -> int:
        """The output index under which the value of an inner node can be had."""
        found = self._residual_index.get(node.id)
        if found is None:
            found = self._residual_index[node.id] = len(self.outputs)
            self.outputs.append(node)
        return found

    def value(self, call: Node, index: int) -> Node:
        """The node that has the value of output `index`."""
        return project(call, index)

    def copy(self, call: Node, cotangents: dict[int, Tensor]) -> None:
        """Nodes to walk over instead of a `pull`: only checkpoints have them."""
        return None

    def pull(
        self, call: Node, cotangents: dict[int, Tensor], needed: set[int],
        gathered: dict[int, Tensor],
    ) -> dict[int, Tensor]:  # fmt: skip
        """The gradients of a call's inputs: one more call, of the backward body.

        Those of the inputs in `gathered` are added to what is there, in the order of the nodes.
        """
        graph = call.graph
        indices, carried = tuple(sorted(cotangents)), tuple(sorted(gathered))
        given = [cotangents[i]._node_in(graph) for i in indices]
        given += [gathered[i]._node_in(graph) for i in carried]
        again = tuple([n.requires_grad for n in given]) if STATE.grad else ()
        vjp = self.vjp(indices, tuple(sorted(needed)), carried, again)
        if not vjp.grads:
            return {}
        inputs = [
            *(call.inputs[i] for i in vjp.sources),
            *given,
            *(project(call, i) for i in vjp.residuals),
        ]
        wants = STATE.grad and any(n.requires_grad for n in inputs)
        back = append_call(graph, vjp.body, inputs, wants)
        return {i: HOOKS.wrap(project(back, k)) for k, i in enumerate(vjp.grads)}

    def vjp(
        self, cotangents: tuple[int, ...], needed: tuple[int, ...], carried: tuple[int, ...] = (),
        again: tuple[bool, ...] = (),
    ) -> Vjp:  # fmt: skip
        """The backward body for cotangents of these outputs and gradients of these inputs.

        It is given what has been gathered already for the inputs `carried`, and adds to it.
        `again` says which cotangents and carried gradients are differentiated again.
        """
        key = (cotangents, needed, carried, again)
        found = self._vjps.get(key)
        if found is None:
            found = self._vjps[key] = _differentiate(self, *key)
        return found


class Vjp:
    """A backward body and where its inputs come from."""

    def __init__(
        self, body: Body, sources: list[int], residuals: list[int], grads: list[int]
    ) -> None:
        # the inputs of `body` are sources, one cotangent for each root, what is carried, residuals
        self.body = body
        self.sources = sources  # positions in the forward body's inputs
        self.residuals = residuals  # positions in the forward body's outputs
        self.grads = grads  # output i of `body` is the gradient of forward input grads[i]


def between(inputs: Iterable[Node], roots: Iterable[Node]) -> tuple[Node, ...]:
    """The nodes that the roots need, down to and without the inputs, oldest first."""
    stop = {n.id for n in inputs}
    seen: dict[int, Node] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node.id in seen or node.id in stop:
            continue
        seen[node.id] = node
        stack.extend(node.inputs)
    return tuple(seen[i] for i in sorted(seen))


def replay_nodes(body: Body, graph: Graph, inputs: Sequence[Node]) -> dict[int, Node]:
    """Append copies of the body's nodes to `graph`; maps old ids to the new nodes."""
    env: dict[int, Node] = {old.id: new for old, new in zip(body.inputs, inputs, strict=True)}
    for node in body.nodes:
        env[node.id] = copied(graph, node, [env[n.id] for n in node.inputs])
    return env


def copied(graph: Graph, node: Node, inputs: Sequence[Node]) -> Node:
    """A copy of a node over other inputs; outputs of a call stay interned."""
    if node.op.kind is Kind.PROJECT:
        return graph.project(PROJECT, inputs[0], node.attrs["index"], node, node.requires_grad)
    return graph.clone(node, tuple(inputs))


def _differentiate(
    body: Body, cotangents: tuple[int, ...], needed: tuple[int, ...], carried: tuple[int, ...],
    again: tuple[bool, ...],
) -> Vjp:  # fmt: skip
    """Trace the backward pass of a body in a graph of its own."""
    graph = Graph(f"backward {body.uid}")
    state = STATE.graph, STATE.capture, STATE.busy
    STATE.graph, STATE.capture, STATE.busy = graph, None, True
    try:
        sources = [
            graph.source(("input", i), n.shape, n.dtype, DATA, n.requires_grad, n.weak)
            for i, n in enumerate(body.inputs)
        ]
        env = replay_nodes(body, graph, sources)
        outputs = [env[body.outputs[i].id] for i in cotangents]
        flags = iter(again or [False] * (len(cotangents) + len(carried)))
        seeds = _sources_like(graph, "cotangent", outputs, flags)
        gathered = _sources_like(graph, "carried", [sources[i] for i in carried], flags)
        forward = {env[n.id].id: n for n in body.nodes}
        found = pullback(
            [(n, HOOKS.wrap(s)) for n, s in zip(outputs, seeds, strict=True)],
            [sources[i] for i in needed],
            create_graph=True,
            gathered={sources[i].id: HOOKS.wrap(n) for i, n in zip(carried, gathered, strict=True)},
        )
        grads = [i for i in needed if sources[i].id in found]
        roots = [found[sources[i].id]._node_in(graph) for i in grads]
    finally:
        STATE.graph, STATE.capture, STATE.busy = state
    cut = _residual_cut(roots, forward)
    used = {n.id for n in between(cut, roots)} | {n.id for n in roots}
    kept_sources = [i for i, n in enumerate(sources) if n.id in used]
    inputs = [*(sources[i] for i in kept_sources), *seeds, *gathered, *cut]
    residuals = [body.residual(forward[n.id]) for n in cut]
    return Vjp(Body(inputs, roots), kept_sources, residuals, grads)


def _sources_like(
    graph: Graph, what: str, nodes: Sequence[Node], flags: Iterator[bool]
) -> list[Node]:
    """A source with the shape and dtype of each node."""
    return [
        graph.source((what, k), n.shape, n.dtype, DATA, next(flags)) for k, n in enumerate(nodes)
    ]


def _residual_cut(roots: Sequence[Node], forward: dict[int, Any]) -> list[Node]:
    """The forward values that the gradient nodes read; views and constants are made again."""
    cut: dict[int, Node] = {}
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node.id in seen:
            continue
        seen.add(node.id)
        if node.op.kind is Kind.PROJECT and node.id not in forward:
            call = forward.get(node.inputs[0].id)
            if call is not None:  # nobody has read this output in the forward
                forward[node.id] = call.payload.value(call, node.attrs["index"])
        if node.id in forward and node.op.kind not in (Kind.SOURCE, Kind.VIEW):
            cut[node.id] = node
        else:
            stack.extend(node.inputs)
    return [cut[i] for i in sorted(cut)]


def one_like(graph: Graph, value: Node | Tensor) -> Node:
    """The cotangent of one that a backward pass from this value begins with."""
    one = graph.constant(1.0, value.dtype)
    return graph.append(EXPAND, (one,), {"shape": value.shape}) if value.shape else one


def append_call(graph: Graph, body: Body, inputs: Sequence[Node], requires_grad: bool) -> Node:
    """Append one `call` node of a body."""
    graph.inlined += len(body.nodes)
    return graph.append(CALL, tuple(inputs), requires_grad=requires_grad, payload=body)


def project(call: Node, index: int) -> Node:
    """Output `index` of a call, as a node."""
    spec = call.payload.outputs[index]
    return call.graph.project(PROJECT, call, index, spec, call.requires_grad and spec.requires_grad)
