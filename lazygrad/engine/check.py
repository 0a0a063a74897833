"""Comparing two traces of one function: what `CHECK` and `verify=True` do on the second call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lazygrad.errors import StaleCaptureError
from lazygrad.ops.source import CONST

if TYPE_CHECKING:
    from lazygrad.engine.capture import Captured


def _lines(captured: Captured) -> list[tuple[Any, Any]]:
    body = captured.body
    bound = {n.id for n in body.inputs}
    index: dict[int, int] = {}
    found = []
    for node in [*body.inputs, *body.nodes]:
        index[node.id] = len(index)
        value = node.payload if node.op is CONST else None
        attrs = tuple(sorted(node.attrs.items(), key=lambda kv: kv[0]))
        inputs = tuple(index[n.id] for n in node.inputs) if node.id not in bound else ()
        found.append(((node.op.name, inputs, attrs, value), node))
    return found


def check_same(first: Captured, second: Captured, name: str) -> None:
    """Raise `StaleCaptureError` at the first node that differs."""
    a, b = _lines(first), _lines(second)
    for (key_a, node_a), (key_b, node_b) in zip(a, b, strict=False):
        if key_a != key_b:
            raise StaleCaptureError(
                f"{name}: a second trace differs from the captured graph at {node_b.where}:"
                f" {_say(key_b, node_b)} instead of {_say(key_a, node_a)}; the function reads"
                " Python state that is not an argument"
            )
    if len(a) != len(b):
        longer = (a if len(a) > len(b) else b)[min(len(a), len(b))][1]
        raise StaleCaptureError(
            f"{name}: a second trace has {len(b)} nodes, the captured graph {len(a)}; the first"
            f" one that differs is {longer.op.name} at {longer.where}"
        )


def _say(key: Any, node: Any) -> str:
    value = f" = {key[3]}" if key[3] is not None else ""
    return f"{node.op.name}{value} {node.shape}"
