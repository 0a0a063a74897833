"""Common subexpressions: equal computations become one node."""

from __future__ import annotations

from lazygrad.engine.frozen import FrozenGraph
from lazygrad.engine.passes.rewrite import rebuild


def merge_equal(frozen: FrozenGraph) -> FrozenGraph:
    """Nodes of equal op, inputs and attributes become one (rebuilding interns them)."""
    return rebuild(frozen, lambda editor, node: None)
