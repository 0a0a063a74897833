"""Tensors that a traced function leaves behind, in attributes and containers.

What depends on an argument, a parameter or a random number has no value outside of the function:
later calls would not renew it. A constant is the same in each call (a mask or a table of positions
that a module makes when it first needs it), so it gets its value and stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lazygrad.engine.body import between, copied
from lazygrad.engine.graph import Graph, Node
from lazygrad.engine.handles import register_handle
from lazygrad.ops.opdef import Kind
from lazygrad.ops.source import CONST, LITERAL

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

_VARYING = (Kind.SOURCE, Kind.EFFECT, Kind.CALL)


def constants(tensors: Sequence[Tensor], inputs: Sequence[Node]) -> list[Tensor]:
    """Those that nothing but numbers of the program went into."""
    varying = {n.id for n in inputs}
    for node in between((), [t._node for t in tensors if t._node is not None]):  # oldest first
        source = node.op.kind in _VARYING and node.op not in (CONST, LITERAL)
        if source or any(n.id in varying for n in node.inputs):
            varying.add(node.id)
    return [t for t in tensors if t._node is not None and t._node.id not in varying]


def keep(tensors: Sequence[Tensor], graph: Graph) -> None:
    """Compute them, in a graph that goes on after the trace."""
    env: dict[int, Node] = {}
    for node in between((), [t._node for t in tensors if t._node is not None]):
        env[node.id] = copied(graph, node, [env[n.id] for n in node.inputs])
    for t in tensors:
        assert t._node is not None
        t._node = env[t._node.id]
        register_handle(t._node, t)
        t.realize()
