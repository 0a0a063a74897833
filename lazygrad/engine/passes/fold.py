"""Constant folding: an op on literals is computed once, at compile time, by its own definition."""

from __future__ import annotations

import numpy as np

from lazygrad.engine.frozen import FNode, FrozenGraph
from lazygrad.engine.passes.rewrite import Editor, rebuild
from lazygrad.ops.opdef import Kind
from lazygrad.ops.scalar_math import NUMPY
from lazygrad.ops.source import LITERAL

_PURE = (Kind.ELEMENTWISE, Kind.REDUCE, Kind.VIEW)


def fold(frozen: FrozenGraph) -> FrozenGraph:
    """Replace 0-d results of ops whose inputs are all literals.

    Only 0-d ones: a folded array would be data inside the structural key. An op that fails is
    left alone, so that its error comes at run time with the user's line.
    """
    return rebuild(frozen, _fold)


def _fold(editor: Editor, node: FNode) -> int | None:
    if node.shape or not node.inputs or node.op.kind not in _PURE:
        return None
    inputs = [editor.nodes[i] for i in node.inputs]
    if any(x.op is not LITERAL for x in inputs):
        return None
    arrays = [np.asarray(x.attrs["value"], x.dtype.dtype) for x in inputs]
    try:
        with np.errstate(all="ignore"):
            # The scalar body is what kernels run, word by word: the same bits as unfolded.
            if node.op.scalar is not None:
                value = node.op.scalar(NUMPY, *arrays, **node.attrs)
            else:
                value = node.op.reference(*arrays, **node.attrs)
    except (ArithmeticError, ValueError, TypeError):
        return None
    result = np.asarray(value)
    if result.shape != () or result.dtype != node.dtype.dtype:
        return None
    return editor.literal(result.item(), node)
