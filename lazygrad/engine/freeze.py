"""Freezing: live nodes become a `FrozenGraph`; calls are inlined, equal nodes interned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lazygrad.engine.frozen import Builder, FNode, FrozenGraph
from lazygrad.engine.graph import Node
from lazygrad.engine.storage import Storage
from lazygrad.ops.opdef import Kind
from lazygrad.ops.source import DATA, LITERAL

Bound = tuple[str, Any]


def is_input(node: Node) -> bool:
    """Whether a traced node's value is given at each run: every source but the literals."""
    return node.op.kind is Kind.SOURCE and node.op is not LITERAL


class _Freezer:
    """Adds nodes to a builder, remembering how the value of each source is found."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.bound: list[Bound] = []

    def source(self, node: Any, bound: Bound, label: str = "") -> int:
        """A source: bound at each run."""
        self.bound.append(bound)
        attrs = {"shape": node.shape, "dtype": node.dtype}
        op = node.op if node.op.kind is Kind.SOURCE else DATA  # a realized node is data by now
        frozen = FNode(op, (), attrs, node.shape, node.dtype, getattr(node, "where", None), label)
        return self.builder.add_source(frozen)

    def computed(self, node: Node, inputs: tuple[int, ...]) -> int:
        """Any other node."""
        return self.builder.add(
            FNode(node.op, inputs, node.attrs, node.shape, node.dtype, node.where, node.label)
        )

    def inline(self, call: Node, inputs: Sequence[int]) -> list[int]:
        """The nodes of a call's body over these inputs; returns its outputs and residuals."""
        body = call.payload
        env = {n.id: i for n, i in zip(body.inputs, inputs, strict=True)}
        calls: dict[int, list[int]] = {}
        for node in body.nodes:
            self.place(node, env, calls, ("inner", node))
        return [env[n.id] for n in body.outputs]

    def place(
        self, node: Node, env: dict[int, int], calls: dict[int, list[int]], bound: Bound
    ) -> None:
        """Add one node whose inputs are in `env`."""
        kind = node.op.kind
        if kind is Kind.CALL:
            calls[node.id] = self.inline(node, [env[n.id] for n in node.inputs])
            env[node.id] = -1
        elif kind is Kind.PROJECT:
            env[node.id] = calls[node.inputs[0].id][node.attrs["index"]]
        elif is_input(node):
            env[node.id] = self.source(node, bound, node.label)
        else:
            env[node.id] = self.computed(node, tuple([env[n.id] for n in node.inputs]))


def freeze(
    nodes: Sequence[Node],
    outputs: Sequence[int],
    kept: Sequence[int],
    kept_calls: Sequence[tuple[int, int]],
    writes: Sequence[tuple[int, int, Storage]],
    is_bound: Callable[[Node], bool],
) -> tuple[FrozenGraph, list[Bound]]:
    """Freeze nodes (oldest first); all positions are positions in `nodes`.

    `writes` are (node, its storage's source or -1, storage). Returns the graph and, for each of
    its sources, how to find its value: ("node", position), ("inner", node of a body) or
    ("storage", position in writes).
    """
    freezer = _Freezer()
    env: dict[int, int] = {}
    calls: dict[int, list[int]] = {}
    for position, node in enumerate(nodes):
        if is_bound(node):
            env[node.id] = freezer.source(node, ("node", position), node.label)
        else:
            freezer.place(node, env, calls, ("node", position))
    places = {index: i for i, index in enumerate(freezer.builder.sources)}
    written = []
    for k, (node_at, source_at, storage) in enumerate(writes):
        if source_at >= 0:
            at = places[env[nodes[source_at].id]]
        else:
            index = freezer.source(storage, ("storage", k), storage.label)
            at = places[index] = len(freezer.builder.sources) - 1
        written.append((at, env[nodes[node_at].id]))
    keep = [env[nodes[i].id] for i in kept]
    keep += [calls[nodes[c].id][i] for c, i in kept_calls]
    frozen = freezer.builder.finish([env[nodes[i].id] for i in outputs], keep, written)
    return frozen, freezer.bound
