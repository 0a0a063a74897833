"""Which values are still wanted: by live tensors, by saved backward passes, by what is pending.

A value in the side table of a graph goes when its node dies, or earlier when it is *doomed*: no
tensor stands for its node any more and no backward pass has saved it, so only tensors that were
pending before may still read it.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from lazygrad.engine.modes import STATE
from lazygrad.engine.storage import Ref

if TYPE_CHECKING:
    from lazygrad.engine.graph import Graph, Node

DOOMED: dict[int, Graph] = {}  # node id -> where: values that only pending tensors may still read
KEPT: dict[int, int] = {}  # node id -> how many `Saved` hold its value
HANDLES: dict[int, HandleRef] = {}  # node id -> the live tensor that stands for it
PENDING: dict[int, HandleRef] = {}  # those whose node has no value yet


class KeyedRef(weakref.ref[Any]):
    """A weak reference that knows its key in a table."""

    __slots__ = ("key",)
    key: Any


class HandleRef(KeyedRef):
    """The weak reference to the tensor that stands for a node."""

    __slots__ = ("graph",)
    graph: Graph


def _handle_died(ref: HandleRef) -> None:
    key = ref.key
    if HANDLES.get(key) is ref:
        del HANDLES[key]
        PENDING.pop(key, None)
        doom(key, ref.graph)


def doom(node_id: int, graph: Graph) -> None:
    """Nobody will ask for this value any more, except tensors that are pending now."""
    if node_id in graph.values and node_id not in KEPT and node_id not in HANDLES:
        DOOMED[node_id] = graph


def register_handle(node: Node, tensor: Any) -> None:
    """Make `tensor` the handle of `node`: while it lives, the node's value is worth storing."""
    ref = HandleRef(tensor, _handle_died)
    ref.key = node.id
    ref.graph = graph = node.graph
    HANDLES[node.id] = ref
    if node.id in graph.values:
        DOOMED.pop(node.id, None)
    elif not (STATE.capture is not None or STATE.trace or STATE.busy):  # else it never has a value
        PENDING[node.id] = ref


def mark_realized(node: Node) -> None:
    """The node has a value now."""
    PENDING.pop(node.id, None)


class Saved:
    """What a realized tensor holds for its backward pass: nodes with values, pinned versions."""

    __slots__ = ("__weakref__", "nodes", "refs")

    def __init__(self, nodes: list[Node], refs: list[Ref]) -> None:
        self.nodes = nodes
        self.refs = refs
        for ref in refs:
            ref.pins += 1
        for node in nodes:
            KEPT[node.id] = KEPT.get(node.id, 0) + 1

    def __del__(self) -> None:
        """Let go: the versions may be overwritten, the values dropped."""
        for ref in self.refs:
            ref.pins -= 1
        for node in self.nodes:
            others = KEPT.pop(node.id) - 1
            if others:
                KEPT[node.id] = others
            else:
                doom(node.id, node.graph)
