"""Graphs as pictures: `Graph.visualize()` and what notebooks show.

Parameters are blue, data red, constants green, state yellow, computed nodes grey; shape and dtype
stand on every node, small values and gradients too. Three stages can be drawn: `traced`, the nodes
as the user's lines appended them; `fused`, the optimized graph with one box per kernel; `planned`,
the same with one colour per buffer of the arena. Drawing is pure. Graphviz's program `dot` makes
the pictures; without it the source is returned and saved all the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import graphviz

from lazygrad.engine.freeze import freeze, is_input
from lazygrad.engine.graph import Graph
from lazygrad.engine.handles import HANDLES
from lazygrad.engine.picture import COLOURS, Item, collapse, items_of, items_of_frozen
from lazygrad.engine.program import Program, program_for
from lazygrad.engine.warn import warn
from lazygrad.errors import ArgumentError, nearest
from lazygrad.ops.opdef import Kind

MAX_NODES = 300
STAGES = ("traced", "fused", "planned")
NO_DOT = (
    "the picture needs Graphviz's program `dot` (apt install graphviz, brew install graphviz);"
    " until then paste the source into a Graphviz viewer, or use to_mermaid()"
)
BUFFER_COLOURS = (
    "#a6cee3", "#fdbf6f", "#b2df8a", "#cab2d6", "#fb9a99", "#ffff99",
    "#80cdc1", "#dfc27d", "#f1b6da", "#b3cde3", "#ccebc5", "#decbe4",
)  # fmt: skip


def visualize(
    graph: Graph,
    filename: str | None = None,
    view: bool = False,
    format: str = "svg",
    stage: str = "traced",
    max_nodes: int = MAX_NODES,
) -> graphviz.Digraph:
    """A drawing of the live nodes of a graph, saved (and opened) when a file is named."""
    if stage not in STAGES:
        raise ArgumentError(
            f"stage must be one of {', '.join(STAGES)}, got {stage!r}{nearest(str(stage), STAGES)}"
        )
    if stage == "traced":
        dot = draw(items_of(graph), graph.name or "graph", max_nodes)
    else:
        dot = draw_program(compile_live(graph), stage, graph.name or "graph", max_nodes)
    return deliver(dot, filename, view, format)


def visualize_program(
    program: Program, name: str, filename: str | None, view: bool, format: str, stage: str
) -> graphviz.Digraph:
    """A drawing of a compiled program, at the stage `fused` or `planned`."""
    return deliver(draw_program(program, stage, name, MAX_NODES), filename, view, format)


def compile_live(graph: Graph) -> Program:
    """The program that would compute the live tensors of a graph, from its sources alone."""
    nodes = list(graph.nodes)
    known = {n.id for n in nodes}
    nodes = [n for n in nodes if all(i.id in known for i in n.inputs)]
    read = {i.id for n in nodes for i in n.inputs}

    outputs = [
        k for k, n in enumerate(nodes)
        if (n.id in HANDLES or n.id not in read) and n.op.kind not in (Kind.SOURCE, Kind.CALL)
    ]  # fmt: skip
    frozen, _ = freeze(nodes, outputs, (), (), (), is_input)
    return program_for(frozen)


def draw(items: Sequence[Item], name: str, max_nodes: int) -> graphviz.Digraph:
    """The traced nodes."""
    note = f"{name}: {len(items)} nodes"
    if len(items) > max_nodes:
        note += f", more than {max_nodes}: one box for each line of code"
        items = collapse(items)
        if len(items) > max_nodes:
            note += f" (the first {max_nodes})"
            items = items[:max_nodes]
    if any(item.grad == "-" for item in items):
        note += r"\ngrad: - means that no backward() has reached this leaf yet"
    dot = _sheet(name, note)
    for i, item in enumerate(items):
        _box(dot, i, item)
    _edges(dot, items)
    _legend(dot, {item.kind for item in items})
    return dot


def draw_program(program: Program, stage: str, name: str, max_nodes: int) -> graphviz.Digraph:
    """The optimized graph: a box around each kernel, at stage `planned` a colour per buffer."""
    items = items_of_frozen(program.frozen)
    kernels = program.kernels
    note = f"{name}: {len(items)} nodes in {len(kernels)} kernels"
    if stage == "planned":
        plan = program.memory
        note += f", arena {plan.arena_bytes} bytes (one buffer per node: {plan.naive_bytes})"
    if len(items) > max_nodes:
        note += f"; the first {max_nodes} nodes"
        items = items[:max_nodes]
    dot = _sheet(name, note)
    fills: dict[int, str] = {}
    if stage == "planned":
        fills = _paint(program, items)
    drawn: set[int] = set()
    for k, kernel in enumerate(kernels):
        inside = [i for i in kernel.nodes if i < len(items) and i not in drawn]
        if not inside:
            continue
        drawn.update(inside)
        with dot.subgraph(name=f"cluster_kernel{k}") as box:
            label = f"{k}: {kernel.name}" + (rf"\n{kernel.reason}" if kernel.reason else "")
            box.attr(label=label, style="rounded", color="#555555", fontsize="10")
            for i in inside:
                _box(box, i, items[i], fills.get(i))
    for i, item in enumerate(items):
        if i not in drawn:
            _box(dot, i, item, fills.get(i))
    _edges(dot, items)
    _legend(dot, {item.kind for item in items})
    return dot


def _paint(program: Program, items: Sequence[Item]) -> dict[int, str]:
    """A colour for each node that has a buffer; nodes that share memory share the colour."""
    fills: dict[int, str] = {}
    for k, buffer in enumerate(program.memory.buffers):
        for i in buffer.values:
            if i < len(items):
                fills[i] = BUFFER_COLOURS[k % len(BUFFER_COLOURS)]
                items[i].note = f"buffer {k}: {buffer.nbytes} bytes at {buffer.offset}"
    return fills


def _sheet(name: str, note: str) -> graphviz.Digraph:
    dot = graphviz.Digraph(name, comment="drawn by lazygrad")
    dot.attr(label=note, labelloc="t", fontname="Helvetica", fontsize="12")
    dot.attr("node", shape="box", style="rounded,filled", fontname="Helvetica", fontsize="10")
    dot.attr("edge", color="#555555", arrowsize="0.6")
    return dot


def _box(dot: graphviz.Digraph, i: int, item: Item, fill: str | None = None) -> None:
    rows = [item.title, item.note] if item.note and not fill else [item.title, item.type]
    if fill:
        rows.append(item.note)
    if item.value:
        rows.append(item.value)
    if item.grad:
        rows.append(f"grad: {item.grad}")
    where = "" if item.site is None else str(item.site)
    label = r"\n".join(graphviz.escape(row) for row in rows)
    tooltip = graphviz.escape(f"{item.op} {item.type} {where}".strip())
    dot.node(f"n{i}", label, fillcolor=fill or COLOURS[item.kind], tooltip=tooltip)


def _edges(dot: graphviz.Digraph, items: Sequence[Item]) -> None:
    for i, item in enumerate(items):
        for j in item.inputs:
            if j < len(items):
                dot.edge(f"n{j}", f"n{i}")


def _legend(dot: graphviz.Digraph, kinds: set[str]) -> None:
    with dot.subgraph(name="cluster_legend") as box:
        box.attr(label="legend", style="dashed", color="#999999", fontsize="9")
        for kind, colour in COLOURS.items():
            if kind in kinds:
                box.node(f"legend_{kind}", kind, fillcolor=colour, fontsize="9", height="0.2")


def deliver(
    dot: graphviz.Digraph, filename: str | None, view: bool, format: str
) -> graphviz.Digraph:
    """Save and open a drawing as asked; without `dot` only its source is saved, with a warning."""
    path = Path(filename) if filename is not None else None
    known = {f".{f}" for f in graphviz.FORMATS}
    if path is not None and path.suffix in known and path.suffix not in (".gv", ".dot"):
        format, path = path.suffix[1:], path.with_suffix("")
    dot.format = format
    if path is None:
        if not view:
            return dot
        path = Path(tempfile.mkdtemp(prefix="lazygrad-")) / "graph"
    if path.suffix in (".gv", ".dot"):
        dot.save(path)
        return dot
    target = path.with_name(f"{path.name}.{format}")
    source = path.with_name(f"{path.name}.gv")
    try:
        dot.render(source, outfile=target, view=view, cleanup=True)
    except graphviz.ExecutableNotFound:
        dot.save(source)
        warn(f"{source} is saved; {NO_DOT}")
    return dot


def mimebundle(graph: Graph, **kwargs: Any) -> dict[str, Any]:
    """What a notebook shows: the picture, or the listing where there is no `dot`."""
    bundle: dict[str, Any] = {"text/plain": str(graph)}
    try:
        bundle.update(visualize(graph)._repr_mimebundle_(**kwargs))
    except graphviz.ExecutableNotFound:
        bundle["text/vnd.mermaid"] = graph.to_mermaid()
    return bundle
