"""Algebra: rewrites that follow from facts on `OpDef`, as a table of rules.

A rule has a name, a law, and says whether it is exact, that is, whether both sides have the same
bits for every input (NaN, infinities and signed zeros included). Only exact rules run unless a
pipeline asks for more. Rules read facts, never names of ops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import copysign
from typing import Any

from lazygrad.dtypes import DType
from lazygrad.engine.frozen import FNode, FrozenGraph
from lazygrad.engine.passes.rewrite import Editor, rebuild
from lazygrad.ops.opdef import Kind, Strided
from lazygrad.ops.scalar_math import Recorder
from lazygrad.shapes import contiguous_strides


@dataclass(frozen=True, slots=True)
class Rule:
    """`apply(editor, node)` is the index of what replaces the node, or None."""

    name: str
    law: str
    exact: bool
    apply: Callable[[Editor, FNode], int | None]


def _same_value(a: Any, b: Any) -> bool:
    """Equal with the sign of zero: x + 0.0 is not x for x = -0.0, x + -0.0 is."""
    return bool(a == b and copysign(1.0, a) == copysign(1.0, b))


def _replaces(editor: Editor, index: int, node: FNode) -> int | None:
    """`index` when it can stand for `node`: same shape and dtype."""
    found = editor.nodes[index]
    return index if (found.shape, found.dtype) == (node.shape, node.dtype) else None


def _unit(editor: Editor, node: FNode) -> int | None:
    if node.op.unit is None or len(node.inputs) != 2:
        return None
    pairs = [node.inputs, node.inputs[::-1]][: 2 if node.op.commutative else 1]
    for x, other in pairs:
        value = editor.scalar_of(other)
        if value is not None and _same_value(value, node.op.unit):
            return _replaces(editor, x, node)
    return None


def _involution(editor: Editor, node: FNode) -> int | None:
    if not node.op.involution or len(node.inputs) != 1:
        return None
    inner = editor.nodes[node.inputs[0]]
    if inner.op is node.op and inner.attrs == node.attrs:
        return _replaces(editor, inner.inputs[0], node)
    return None


def _idempotent(editor: Editor, node: FNode) -> int | None:
    if not node.op.idempotent:
        return None
    first = editor.nodes[node.inputs[0]]
    twice = first.op is node.op and first.attrs == node.attrs  # op(op(x))
    equal = len(node.inputs) == 2 and node.inputs[0] == node.inputs[1]  # op(x, x)
    if equal or (twice and len(node.inputs) == 1):
        return _replaces(editor, node.inputs[0], node)
    return None


def _identity_body(editor: Editor, node: FNode) -> int | None:
    """The recorded body is its argument: a cast to the same dtype."""
    if node.op.kind is not Kind.ELEMENTWISE or node.op.scalar is None or len(node.inputs) != 1:
        return None
    dtype: DType = editor.nodes[node.inputs[0]].dtype
    if dtype is not node.dtype:
        return None
    recorder = Recorder([dtype])
    if node.op.scalar(recorder, recorder.inputs[0], **node.attrs) is not recorder.inputs[0]:
        return None
    return _replaces(editor, node.inputs[0], node)


def _is_plain_view(node: FNode) -> bool:
    """Whether it says where elements are, and not also when they may be read."""
    return node.op.kind is Kind.VIEW and len(node.inputs) == 1


def _view_cycle(editor: Editor, node: FNode) -> int | None:
    """A chain of views that ends with the layout of one of its members is that member."""
    if not _is_plain_view(node):
        return None
    chain = [node]
    while _is_plain_view(below := editor.nodes[chain[-1].inputs[0]]) and len(chain) < 8:
        chain.append(below)
    for depth in range(len(chain)):
        root = chain[depth].inputs[0]
        if _replaces(editor, root, node) is None:
            continue
        plain = Strided(node.shape, contiguous_strides(node.shape))
        found: Strided | None = plain
        for view in reversed(chain[: depth + 1]):
            assert view.op.view is not None
            found = view.op.view(found, **view.attrs) if found is not None else None
        if found is not None and _same_layout(found, plain):
            return root
    return None


def _same_layout(a: Strided, b: Strided) -> bool:
    strides = [(x, y) for n, x, y in zip(a.shape, a.strides, b.strides, strict=True) if n != 1]
    return a.offset == b.offset and all(x == y for x, y in strides)


def _reassociate(editor: Editor, node: FNode) -> int | None:
    if not (node.op.associative and node.op.commutative) or len(node.inputs) != 2:
        return None
    x, c = node.inputs
    inner = editor.nodes[x]
    if editor.scalar_of(c) is None or inner.op is not node.op or inner.attrs != node.attrs:
        return None
    y, d = inner.inputs
    if editor.scalar_of(d) is None or editor.scalar_of(y) is not None:
        return None
    return editor.node(node.op, y, editor.node(node.op, d, c, **node.attrs), **node.attrs)


RULES = (
    Rule("unit", "op(x, unit) = x", True, _unit),
    Rule("involution", "op(op(x)) = x", True, _involution),
    Rule("idempotent", "op(x, x) = x, op(op(x)) = op(x)", True, _idempotent),
    Rule("identity", "op(x) = x where the body does nothing", True, _identity_body),
    Rule("view cycle", "view(...view(x)) = x where the layout is that of x", True, _view_cycle),
    Rule("reassociate", "op(op(x, c), d) = op(x, op(c, d))", False, _reassociate),
)


def simplify(frozen: FrozenGraph, *, inexact: bool = False) -> FrozenGraph:
    """Apply the exact rules (all rules if `inexact`) to every node, inputs first."""
    rules = [rule for rule in RULES if rule.exact or inexact]

    def visit(editor: Editor, node: FNode) -> int | None:
        for rule in rules:
            found = rule.apply(editor, node)
            if found is not None:
                return found
        return None

    return rebuild(frozen, visit)
