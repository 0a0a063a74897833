"""Dead code: what no root needs is dropped."""

from __future__ import annotations

from lazygrad.engine.frozen import FNode, FrozenGraph, ancestors
from lazygrad.engine.passes.rewrite import relink


def drop_dead(frozen: FrozenGraph) -> FrozenGraph:
    """Keep the nodes that some root reads, and every bound source (callers bind by position)."""
    live = ancestors(frozen.nodes, (*frozen.roots, *frozen.sources))
    if len(live) == len(frozen.nodes):
        return frozen
    nodes: list[FNode] = []
    new: list[int] = []
    for i, node in enumerate(frozen.nodes):
        new.append(len(nodes))
        if i in live:
            nodes.append(node.over([new[j] for j in node.inputs]))
    return relink(frozen, nodes, new)
