"""What every pass is made of: copy a graph node by node, replacing some on the way.

`rebuild` walks a graph in topological order and asks a visitor for the new index of each node, its
inputs already mapped. New nodes are interned and take the shape and dtype of their own rule and
the user's line of the node that they replace, so a pass cannot get these wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lazygrad.engine.frozen import Builder, FNode, FrozenGraph, Site
from lazygrad.ops.opdef import Kind, OpDef
from lazygrad.ops.source import LITERAL

Visitor = Callable[["Editor", FNode], int | None]


class Editor(Builder):
    """The graph under construction, as a visitor sees it."""

    site: Site | None = None
    name: str = ""

    def node(self, op: OpDef, *inputs: int, **attrs: Any) -> int:
        """A node of `op` at the site of the node that is being replaced."""
        shape, dtype = op.infer(*[self.nodes[i] for i in inputs], **attrs)
        return self.add(FNode(op, inputs, attrs, shape, dtype, self.site, self.name))

    def literal(self, value: float | int | bool, like: FNode) -> int:
        """A 0-d constant of the dtype of `like`."""
        return self.node(LITERAL, shape=(), dtype=like.dtype, value=value)

    def scalar_of(self, index: int) -> float | int | bool | None:
        """The value of a literal, also behind views (all its elements are equal); else None."""
        node = self.nodes[index]
        while node.op.kind is Kind.VIEW:
            node = self.nodes[node.inputs[0]]
        value: float | int | bool | None = node.attrs["value"] if node.op is LITERAL else None
        return value


def rebuild(frozen: FrozenGraph, visit: Visitor) -> FrozenGraph:
    """A copy in which node n is `visit(editor, n)`; None keeps it. The same graph if all are kept.

    `visit` is not asked about sources that are bound at each run: they keep their order.
    """
    editor = Editor()
    bound = set(frozen.sources)
    new: list[int] = []
    changed = False
    for i, node in enumerate(frozen.nodes):
        if i in bound:
            new.append(editor.add_source(node))
            continue
        node = node.over([new[j] for j in node.inputs])
        editor.site, editor.name = node.site, node.name
        found = visit(editor, node)
        at = editor.add(node) if found is None else found
        changed = changed or at != i or editor.nodes[at] is not node
        new.append(at)
    if not changed:
        return frozen
    return relink(frozen, editor.nodes, new)


def relink(frozen: FrozenGraph, nodes: list[FNode], new: list[int]) -> FrozenGraph:
    """The graph of `nodes`, the ins and outs of `frozen` moved to `new[old index]`."""
    return frozen.replace(
        nodes=tuple(nodes),
        sources=tuple(new[i] for i in frozen.sources),
        outputs=tuple(new[i] for i in frozen.outputs),
        kept=tuple(new[i] for i in frozen.kept),
        writes=tuple((at, new[i]) for at, i in frozen.writes),
    )
