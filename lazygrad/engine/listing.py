"""Graphs as text: the listing of `str(graph)`, Mermaid flowcharts, the tree above one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lazygrad.engine.graph import Graph
from lazygrad.engine.modes import STATE
from lazygrad.engine.picture import (
    COLOURS,
    Item,
    brief,
    collapse,
    grad_text,
    items_above,
    items_of,
    leaf_of,
)
from lazygrad.ops.opdef import Array

LONGEST = 1000  # lines of a listing before its middle is left out
MERMAID_NODES = 300
TREE_LINES = 500


def listing(graph: Graph) -> str:
    """A graph in single-assignment form, one line per node.

    >>> from lazygrad.engine import Graph, Tensor
    >>> g = Graph("demo")
    >>> y = Tensor([1.0, 2.0], graph=g).exp().sum()
    >>> print(g)  # doctest: +SKIP
    graph demo: 3 nodes
      %0 = data               (2,) float32  [1.0, 2.0]  # train.py:2
      %1 = exp %0             (2,) float32  # train.py:2
      %2 = sum(axes=(0,)) %1  () float32    # train.py:2
    """
    items = items_of(graph)
    name = f" {graph.name}" if graph.name else ""
    frozen = ", frozen" if graph.frozen else ""
    head = f"graph{name}: {len(items)} nodes{frozen}"
    cells = [(f"%{i} = {_call(item)}", item.type, _remarks(item)) for i, item in enumerate(items)]
    gap = len(cells) - LONGEST
    if gap > 0:
        half = LONGEST // 2
        cells = [*cells[:half], (f"... {gap} nodes are left out ...", "", ""), *cells[-half:]]
    wide = min(max((len(c[0]) for c in cells), default=0), 60)
    middle = max((len(c[1]) for c in cells), default=0)
    lines = [f"  {a.ljust(wide)}  {b.ljust(middle)}  {c}".rstrip() for a, b, c in cells]
    return "\n".join([head, *lines])


def _call(item: Item) -> str:
    operands = ", ".join(f"%{i}" for i in item.inputs)
    return f"{item.title} {operands}".rstrip()


def _remarks(item: Item) -> str:
    parts = [item.value] if item.value else []
    if item.grad:
        parts.append(f"grad: {item.grad}")
    if item.site is not None:
        parts.append(f"# {Path(item.site.filename).name}:{item.site.line}")
    return "  ".join(parts)


def to_mermaid(graph: Graph) -> str:
    """A Mermaid flowchart, which GitHub, notebooks and many editors draw by themselves."""
    items = items_of(graph)
    if len(items) > MERMAID_NODES:
        items = collapse(items)
    lines = ["flowchart TD"]
    for i, item in enumerate(items):
        rows = [item.title, item.type]
        if item.note:
            rows = [item.title, item.note]
        if item.value:
            rows.append(item.value)
        if item.grad:
            rows.append(f"grad: {item.grad}")
        text = "<br/>".join(_escape(r) for r in rows)
        lines.append(f'  n{i}["{text}"]:::{item.kind}')
    lines += [f"  n{j} --> n{i}" for i, item in enumerate(items) for j in item.inputs]
    lines += [
        f"  classDef {kind} fill:{colour},stroke:#555,color:#000"
        for kind, colour in COLOURS.items()
    ]
    return "\n".join(lines)


def _escape(text: str) -> str:
    for char, code in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(char, code)
    return text


def values_above(items: Sequence[Item]) -> list[Array | None]:
    """The value of every item, computed by each op's reference where it is not there.

    Nothing is stored; a value whose sources are gone is None.
    """
    found: list[Array | None] = []
    for item in items:
        array, node = item.array, item.node
        if array is None and node is not None and item.kind == "computed":
            inputs = [found[j] for j in item.inputs]
            if all(x is not None for x in inputs):
                array = np.asarray(node.op.reference(*inputs, **node.attrs))
        found.append(array)
    return found


def branch(tensor: Any) -> str:
    """A tensor and what it is made from as a text tree, with labels, values and gradients.

    What several branches share is drawn once. As any printing does, this computes what it shows,
    except inside a captured function and in a graph too large to print.
    """
    if tensor._node is None:
        array = None if STATE.capture is not None else tensor._array()
        kind = "param" if tensor.requires_grad else tensor._storage.op.name
        item = Item(kind, kind, (), tensor.shape, tensor.dtype, name=tensor.name)
        item.grad = _grad(tensor) if tensor.requires_grad else ""
        return _branch(item, array)
    items = items_above(tensor._node)
    small = STATE.capture is None and len(items) <= TREE_LINES
    arrays = values_above(items) if small else [item.array for item in items]
    for item in items:
        leaf = None if item.node is None else leaf_of(item.node)
        if leaf is not None:
            item.grad = _grad(leaf)
        elif item.node is not None and item.node.requires_grad:
            item.grad = "-"
    lines: list[str] = []
    drawn: set[int] = set()
    stack = [(len(items) - 1, "", "")]
    while stack and len(lines) < TREE_LINES:
        at, prefix, below = stack.pop()
        again = " (above)" if at in drawn and items[at].inputs else ""
        lines.append(prefix + _branch(items[at], arrays[at]) + again)
        if again:
            continue
        drawn.add(at)
        inputs = items[at].inputs
        for k in reversed(range(len(inputs))):
            last = k == len(inputs) - 1
            fork, rest = ("└── ", "    ") if last else ("├── ", "│   ")
            stack.append((inputs[k], below + fork, below + rest))
    if stack:
        lines.append(f"... cut after {TREE_LINES} lines")
    return "\n".join(lines)


def _grad(leaf: Any) -> str:
    if leaf._grad is not None and STATE.capture is None:
        leaf._grad.realize()
    return grad_text(leaf)


def _branch(item: Item, array: Array | None) -> str:
    name = item.name or (item.kind if not item.inputs else "")
    if item.kind == "computed":
        name = f"{name} = {item.op}" if name else item.op
    shown = f", grad: {item.grad}" if item.grad else ""
    shape = f"shape: {item.shape}, " if item.shape else ""
    return f"{name} <{shape}data: {brief(array) or '-'}{shown}>"
