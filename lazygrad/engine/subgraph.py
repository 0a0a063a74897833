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
from lazygrad.engine.chain import Chain, waiting_chain
from lazygrad.engine.graph import Graph, Node
from lazygrad.engine.modes import STATE, no_grad
from lazygrad.engine.pending import WRITES, withdraw_write
from lazygrad.engine.precision import full_precision
from lazygrad.engine.realize import drop_hopeless, flush_writes
from lazygrad.engine.tensor import Tensor
from lazygrad.engine.waiting import BackCall
from lazygrad.errors import LazygradError
from lazygrad.ops.source import DATA


def _weak(spec: Any) -> bool:
    """Whether a node is weakly typed; tensors that stand for their shapes are not."""
    return isinstance(spec, Node) and spec.weak


class Subgraph:
    """A traced pure function without gradients: tensors in, tensors out."""

    def __init__(self, fn: Callable[..., Sequence[Tensor]]) -> None:
        self._fn = fn
        self._bodies: dict[Any, Body] = {}

    def __call__(self, *tensors: Tensor, key: Any = ()) -> tuple[Tensor, ...]:
        """Append one call of the function on these tensors (inline while capturing)."""
        if STATE.capture is not None or STATE.trace or config.eager:
            with no_grad(), full_precision():
                return tuple(self._fn(*tensors))
        graph = choose_graph(tensors)
        nodes = [t._node_in(graph) for t in tensors]
        body = self.body(nodes, key)
        call = append_call(graph, body, nodes, False)
        return tuple([Tensor._of(project(call, i)) for i in range(body.results)])

    def body(self, specs: Sequence[Any], key: Any = ()) -> Body:
        """The traced body for inputs of these shapes and dtypes."""
        signature = (
            key, tuple([(n.shape, n.dtype, _weak(n)) for n in specs]),
        )  # fmt: skip
        found = self._bodies.get(signature)
        if found is None:
            found = self._bodies[signature] = self._trace(specs)
        return found

    def update(
        self,
        inputs: Sequence[Tensor],
        targets: Sequence[Tensor],
        learn: Callable[[Chain, BackCall, Sequence[Tensor]], None] | None = None,
    ) -> None:
        """Write the results for `inputs` to the leaves `targets`: the step of an optimizer.

        A chain of captured forward and backward that waits for it runs with it as one program;
        pending writes of running statistics come along; `learn` is told of such a chain. While
        capturing only the writes are noted.
        """
        found = waiting_chain(self, inputs, targets)
        if found is not None:
            chain, back = found
            if learn is not None:
                learn(chain, back, inputs)
            chain.run(back.call, back)
            return
        storages = [t._storage for t in targets if t._storage is not None]
        before = [s.pending for s in storages]
        for target, value in zip(targets, self(*inputs), strict=True):
            target.assign_(value)
        try:
            flush_writes(list(WRITES.values()), together=True)
        except BaseException as error:  # the step did not happen: its writes must not come later
            for storage, pending in zip(storages, before, strict=True):
                withdraw_write(storage, pending)
            if isinstance(error, LazygradError):
                drop_hopeless()
            raise

    def _trace(self, specs: Sequence[Any]) -> Body:
        graph = Graph("subgraph")
        before = STATE.graph, STATE.trace, STATE.grad, STATE.autocast
        STATE.graph, STATE.trace, STATE.grad, STATE.autocast = graph, True, False, None
        try:
            sources = [
                graph.source(("input", i), n.shape, n.dtype, DATA, False, _weak(n))
                for i, n in enumerate(specs)
            ]
            results = self._fn(*[Tensor._of(n) for n in sources])
            outputs = [t._node_in(graph) for t in results]
        finally:
            STATE.graph, STATE.trace, STATE.grad, STATE.autocast = before
        return Body(sources, outputs)
