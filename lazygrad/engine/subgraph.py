"""`Subgraph`: a pure function on tensors as one `call` node.

Optimizer updates and clipping are written as plain functions on tensors; a subgraph traces each
once per signature and appends one node per call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lazygrad.config import config
from lazygrad.engine.apply import choose_graph
from lazygrad.engine.body import Body, append_call, project
from lazygrad.engine.graph import Graph
from lazygrad.engine.modes import STATE, no_grad
from lazygrad.engine.tensor import Tensor
from lazygrad.ops.source import DATA


class Subgraph:
    """A traced pure function without gradients: tensors in, tensors out."""

    def __init__(self, fn: Callable[..., Sequence[Tensor]]) -> None:
        self._fn = fn
        self._bodies: dict[Any, Body] = {}

    def __call__(self, *tensors: Tensor, key: Any = ()) -> tuple[Tensor, ...]:
        """Append one call of the function on these tensors (inline while capturing)."""
        if STATE.capture is not None or STATE.trace or config.eager:
            with no_grad():
                return tuple(self._fn(*tensors))
        graph = choose_graph(tensors)
        nodes = [t._node_in(graph) for t in tensors]
        signature = (key, tuple([(n.shape, n.dtype, n.weak) for n in nodes]))
        body = self._bodies.get(signature)
        if body is None:
            body = self._bodies[signature] = self._trace(nodes)
        call = append_call(graph, body, nodes, False)
        return tuple([Tensor._of(project(call, i)) for i in range(body.results)])

    def _trace(self, specs: Sequence[Any]) -> Body:
        graph = Graph("subgraph")
        before = STATE.graph, STATE.trace, STATE.grad
        STATE.graph, STATE.trace, STATE.grad = graph, True, False
        try:
            sources = [
                graph.source(("input", i), n.shape, n.dtype, DATA, False, n.weak)
                for i, n in enumerate(specs)
            ]
            results = self._fn(*[Tensor._of(n) for n in sources])
            outputs = [t._node_in(graph) for t in results]
        finally:
            STATE.graph, STATE.trace, STATE.grad = before
        return Body(sources, outputs)
