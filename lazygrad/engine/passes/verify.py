"""The graph verifier: whether a graph is legal and every node follows its own rule.

Run after every pass under `config.verify`; the error names the pass that broke the graph.
"""

from __future__ import annotations

from lazygrad.engine.frozen import FrozenGraph
from lazygrad.errors import InternalError, LazygradError
from lazygrad.ops.opdef import Kind


def verify(frozen: FrozenGraph, after: str = "freeze") -> None:
    """Raise `InternalError` unless indices, shapes, dtypes and bindings are consistent."""

    def check(truth: bool, what: str) -> None:
        if not truth:
            raise InternalError(f"graph is illegal after {after}: {what}")

    bound, nodes = set(frozen.sources), frozen.nodes
    check(len(bound) == len(frozen.sources), "a source is bound twice")
    for i, node in enumerate(nodes):
        where = f"node {i} ({node.op.name}, created at {node.site})"
        check(all(0 <= j < i for j in node.inputs), f"{where} reads {node.inputs}")
        if i in bound:
            check(node.op.kind is Kind.SOURCE, f"{where} is bound but not a source")
            continue
        check(node.op.arity in (None, len(node.inputs)), f"{where} has {len(node.inputs)} inputs")
        try:
            found = node.op.infer(*[nodes[j] for j in node.inputs], **node.attrs)
        except LazygradError as error:
            raise InternalError(f"graph is illegal after {after}: {where}: {error}") from error
        said = (node.shape, node.dtype)
        check(tuple(found) == said, f"{where} says {said}, its rule says {found}")
    total = len(nodes)
    for name in ("sources", "outputs", "kept"):
        check(all(0 <= i < total for i in getattr(frozen, name)), f"{name} out of range")
    targets = [at for at, _ in frozen.writes]
    check(len(set(targets)) == len(targets), "a source is written twice")
    for at, i in frozen.writes:
        check(0 <= at < len(frozen.sources) and 0 <= i < total, "a write is out of range")
        old, new = nodes[frozen.sources[at]], nodes[i]
        check(
            (old.shape, old.dtype) == (new.shape, new.dtype),
            f"write of {new.shape} {new.dtype} into source {at} of {old.shape} {old.dtype}",
        )
