"""Dead code: what no root needs is dropped."""

from __future__ import annotations

from lazygrad.engine.frozen import FNode, FrozenGraph
from lazygrad.engine.passes.rewrite import relink


def drop_dead(frozen: FrozenGraph) -> FrozenGraph:
    """Keep the nodes that some root reads, and every bound source (callers bind by position)."""
    live = [False] * len(frozen.nodes)
    for i in (*frozen.roots, *frozen.sources):
        live[i] = True
    for i in range(len(live) - 1, -1, -1):
        if live[i]:
            for j in frozen.nodes[i].inputs:
                live[j] = True
    if all(live):
        return frozen
    nodes: list[FNode] = []
    new: list[int] = []
    for i, node in enumerate(frozen.nodes):
        new.append(len(nodes))
        if live[i]:
            inputs = tuple([new[j] for j in node.inputs])
            if inputs != node.inputs:
                node = FNode(
                    node.op, inputs, node.attrs, node.shape, node.dtype, node.site, node.name
                )  # fmt: skip
            nodes.append(node)
    return relink(frozen, nodes, new)
