"""Expansion: ops that are made of others become those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lazygrad.engine.frozen import FNode, FrozenGraph
from lazygrad.engine.passes.rewrite import Editor, rebuild
from lazygrad.ops.movement import EXPAND
from lazygrad.ops.opdef import OpDef
from lazygrad.shapes import Shape


@dataclass(frozen=True, slots=True)
class _Value:
    """A node as `OpDef.expand` handles it."""

    editor: Editor
    index: int

    @property
    def shape(self) -> Shape:
        """Its shape."""
        return self.editor.nodes[self.index].shape

    def apply(self, op: OpDef, *others: _Value, **attrs: Any) -> _Value:
        """A node of `op` over this value and others."""
        inputs = (self.index, *(x.index for x in others))
        return _Value(self.editor, self.editor.node(op, *inputs, **attrs))

    def new_zeros(self, shape: Shape) -> _Value:
        """Zeros of the same dtype."""
        zero = self.editor.literal(0.0, self.editor.nodes[self.index])
        return _Value(self.editor, self.editor.node(EXPAND, zero, shape=shape))


def expand(frozen: FrozenGraph) -> FrozenGraph:
    """Replace each op that has an expansion, where that does not decline (None)."""

    def visit(editor: Editor, node: FNode) -> int | None:
        if node.op.expand is None:
            return None
        inputs = [_Value(editor, i) for i in node.inputs]
        found: _Value | None = node.op.expand(*inputs, **node.attrs)
        return None if found is None else found.index

    return rebuild(frozen, visit)
