"""Pictures: colours, shapes, values, gradients, stages; pure, and of use without Graphviz."""

import os
import stat
from pathlib import Path
from typing import Any

import graphviz
import numpy as np
import pytest
from hypothesis import given, settings

import lazygrad as lg
from lazygrad import nn
from lazygrad.engine.graph import Graph
from lazygrad.engine.handles import HANDLES, PENDING
from lazygrad.engine.picture import COLOURS, items_of
from lazygrad.errors import ArgumentError
from lazygrad.testing import RandomProgram, programs


@pytest.fixture
def no_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without the program `dot`."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A program `dot` that writes its input to the file it is asked for."""
    tool = tmp_path / "bin" / "dot"
    tool.parent.mkdir()
    tool.write_text(
        "#!/bin/sh\n"
        'for a in "$@"; do case "$prev" in -o) out="$a";; esac;'
        ' case "$a" in -o*) out="${a#-o}";; esac; last="$a"; prev="$a"; done\n'
        'if [ -n "$out" ]; then echo picture > "$out"; else echo "<svg/>"; fi\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def small(graph: Graph) -> dict[str, lg.Tensor]:
    """loss = ((x @ w) * 3 + s).sum() with a name or two."""
    x = lg.Tensor([[1.0, 2.0]], graph=graph)
    w = lg.tensor([[1.0], [1.0]], requires_grad=True)
    s = lg.engine.tensor.state([5.0])
    w.name = "w"
    y = x @ w
    y.name = "y"
    return {"x": x, "w": w, "y": y, "loss": (y * 3 + s).sum()}


def box(source: str, text: str) -> str:
    """The line of a drawing that holds a text."""
    found = [line for line in source.splitlines() if text in line and "label=" in line]
    assert found, f"{text!r} is not in\n{source}"
    return found[0]


def test_kinds_have_colours_shapes_and_dtypes() -> None:
    g = Graph("small")
    made = small(g)
    source = g.visualize().source
    assert COLOURS["param"] in box(source, "w: param")
    assert r"(2, 1) float32" in box(source, "w: param")
    assert COLOURS["data"] in box(source, '"data')
    assert COLOURS["const"] in box(source, r"const\n() float32\n3.0")
    assert COLOURS["state"] in box(source, '"state')
    assert COLOURS["computed"] in box(source, "y: matmul")
    assert "[[1.0, 2.0]]" in box(source, '"data')
    assert "test_visualize.py" in box(source, "y: matmul")  # the tooltip
    for kind in COLOURS:
        assert f"legend_{kind}" in source
    assert made["loss"].item() == 14


def test_gradients_show_a_dash_before_backward_and_their_value_after() -> None:
    g = Graph()
    made = small(g)
    before = g.visualize().source
    assert "grad: -" in box(before, "w: param")
    assert "no backward() has reached" in before
    made["loss"].backward()
    assert "grad: pending" in box(g.visualize().source, "w: param")
    made["w"].grad.realize()
    after = g.visualize().source
    assert "grad: [[3.0], [6.0]]" in box(after, "w: param")
    assert "grad: -" not in after


def test_values_appear_once_they_are_computed() -> None:
    g = Graph()
    made = small(g)
    assert "3.0" not in box(g.visualize().source, "y: matmul").split("tooltip")[0]
    made["y"].realize()
    assert "[[3.0]]" in box(g.visualize().source, "y: matmul")
    big = lg.Tensor(np.arange(100.0), graph=g)
    assert "0.0 .. 99.0, mean 49.5" in box(g.visualize().source, "(100,) float64")
    assert big.shape == (100,)


def test_calls_are_shown_by_their_bodies() -> None:
    w = lg.tensor([2.0], requires_grad=True)
    w.name = "w"

    @lg.compute_graph
    def f(x: lg.Tensor) -> lg.Tensor:
        return (x * w).exp()

    with Graph("outer") as g:
        y = f(lg.tensor([1.0]))
        z = y + 1
        assert [i.op for i in items_of(g)] == ["data", "param", "mul", "exp", "const", "add"]
        z.sum().backward()
        ops = [i.op for i in items_of(g)]
        assert "call" not in ops and "project" not in ops
        assert [i.op for i in items_of(f.graph)] == ["data", "param", "mul", "exp"]
    assert "w: param" in f.visualize().source


@pytest.mark.compiled
@pytest.mark.parametrize("stage", ["fused", "planned"])
def test_compiled_stages(stage: str) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
    f = lg.compute_graph(lambda x: model(x).exp().sum())
    f(np.ones((3, 4), np.float32)).backward()
    model[0].weight.grad.realize()
    for drawn in (f.visualize(stage=stage), f.graph.visualize(stage=stage)):
        assert isinstance(drawn, graphviz.Digraph)
        assert "cluster_kernel0" in drawn.source
        assert "matmul" in drawn.source and "kernels" in drawn.source
        assert ("arena" in drawn.source) == (stage == "planned")
    if stage == "planned":
        assert "bytes at" in f.visualize(stage=stage).source
    g = Graph()
    made = small(g)
    assert "cluster_kernel0" in g.visualize(stage=stage).source
    assert not made["loss"].is_realized


def test_an_unknown_stage_names_the_known_ones() -> None:
    with pytest.raises(ArgumentError, match=r"traced, fused, planned, got 'fusd'.*'fused'"):
        Graph().visualize(stage="fusd")
    f = lg.compute_graph(lambda x: x + 1)
    f(lg.ones(1))
    with pytest.raises(ArgumentError, match="stage must be one of"):
        f.visualize(stage="x")


def test_an_empty_graph_can_be_drawn() -> None:
    g = Graph("empty")
    for stage in ("traced", "fused", "planned"):
        assert "0 nodes" in g.visualize(stage=stage).source
    assert str(g) == "graph empty: 0 nodes"
    assert g.to_mermaid().startswith("flowchart")


def test_large_graphs_become_one_box_for_each_line() -> None:
    with lg.Graph() as g:
        x = lg.tensor([1.0])
        for _ in range(1000):
            x = x + 1
            x = x * 2
        dot = g.visualize(max_nodes=100)
        assert dot.source.count("[label=") < 20
        assert "1000 nodes: 1000 add" in dot.source and "1000 mul" in dot.source
        assert "one box for each line of code" in dot.source
        assert len(g.to_mermaid().splitlines()) < 30
        assert "left out" in str(g)
        assert "more than" not in g.visualize(max_nodes=5000).source


# files ------------------------------------------------------------------------------------------


def test_without_dot_the_source_is_saved_with_one_line_of_advice(no_dot: Path) -> None:
    g = Graph()
    made = small(g)
    with pytest.warns(lg.LazygradWarning, match=r"graph\.gv is saved; .*Graphviz.*dot.*mermaid"):
        drawn = g.visualize(str(no_dot / "sub" / "graph.svg"))
    assert isinstance(drawn, graphviz.Digraph)
    assert (no_dot / "sub" / "graph.gv").read_text() == drawn.source
    assert g.visualize() is not None  # nothing is said when nothing is to be drawn
    assert made["loss"].shape == ()


def test_with_dot_the_picture_is_where_it_was_asked_for(dot: Path) -> None:
    g = Graph()
    made = small(g)
    for name, wanted in [("a.svg", "a.svg"), ("b", "b.svg"), ("c.png", "c.png")]:
        drawn = g.visualize(str(dot / name))
        assert (dot / wanted).read_text() == "picture\n"
    assert drawn.format == "png"
    g.visualize(str(dot / "d"), format="pdf")
    assert (dot / "d.pdf").exists()
    g.visualize(str(dot / "e.gv"))
    assert (dot / "e.gv").read_text().startswith("// drawn by lazygrad")
    assert not (dot / "a.gv").exists()
    assert made["y"].shape == (1, 1)


def test_notebooks_show_a_picture_or_text(dot: Path) -> None:
    g = Graph("shown")
    made = small(g)
    bundle = g._repr_mimebundle_(include=None, exclude=None)
    assert bundle["image/svg+xml"].startswith("<svg")
    assert bundle["text/plain"] == str(g)
    assert made["y"].shape == (1, 1)


def test_notebooks_show_text_without_dot(no_dot: Path) -> None:
    g = Graph("shown")
    made = small(g)
    bundle = g._repr_mimebundle_()
    assert bundle["text/plain"].startswith("graph shown: 8 nodes")
    assert bundle["text/vnd.mermaid"] == g.to_mermaid()
    assert "image/svg+xml" not in bundle
    assert made["y"].shape == (1, 1)


# text -------------------------------------------------------------------------------------------


def test_listing() -> None:
    with Graph("demo") as g:
        x = lg.tensor([1.0, 2.0], requires_grad=True)
        x.name = "x"
        y = (x.exp() * 0.3).sum()
    lines = str(g).splitlines()
    assert lines[0] == "graph demo: 5 nodes"
    assert lines[1].split("  ")[1].strip() == "%0 = x: param"
    assert "(2,) float32" in lines[1] and "[1.0, 2.0]  grad: -" in lines[1]
    assert lines[2].strip().startswith("%1 = exp %0")
    assert "%3 = mul %1, %2" in lines[4]
    assert "%4 = sum(axes=(0,)) %3" in lines[5]
    assert all("# test_visualize.py:" in line for line in lines[1:])
    assert repr(g) == "<Graph 'demo': 5 nodes>"
    assert y.shape == ()


def test_mermaid() -> None:
    with Graph() as g:
        x = lg.tensor([1.0, 2.0], requires_grad=True)
        x.name = 'a "quoted" <name>'
        y = x.exp()
    lines = g.to_mermaid().splitlines()
    assert lines[0] == "flowchart TD"
    assert lines[1] == (
        '  n0["a #quot;quoted#quot; #lt;name#gt;: param<br/>(2,) float32<br/>[1.0, 2.0]'
        '<br/>grad: -"]:::param'
    )
    assert "  n0 --> n1" in lines
    assert y.shape == (2,)


def test_a_branch_as_a_tree(capsys: pytest.CaptureFixture[str]) -> None:
    a = lg.tensor(3.0, requires_grad=True)
    b = lg.tensor(2.0, requires_grad=True)
    a.name, b.name = "a", "b"
    c = a * b
    c.name = "c"
    d = c + a
    d.retain_grad()
    d.backward()
    d.print_branch()
    assert capsys.readouterr().out == (
        "add <data: 9.0, grad: 1.0>\n"
        "├── c = mul <data: 6.0, grad: ->\n"
        "│   ├── a <data: 3.0, grad: 3.0>\n"
        "│   └── b <data: 2.0, grad: 3.0>\n"
        "└── a <data: 3.0, grad: 3.0>\n"
    )
    a.print_branch()
    assert capsys.readouterr().out == "a <data: 3.0, grad: 3.0>\n"
    shared = c * c
    assert shared.branch().endswith("└── c = mul <data: 6.0, grad: -> (above)")
    assert lg.ones(2, 2).branch() == "data <shape: (2, 2), data: [[1.0, 1.0], [1.0, 1.0]]>"


def test_a_branch_inside_of_a_captured_function_shows_structure() -> None:
    texts = []

    @lg.compute_graph
    def f(x: lg.Tensor) -> lg.Tensor:
        y = x.exp()
        texts.append(y.branch())
        return y

    f(lg.ones(2))
    assert texts == ["exp <shape: (2,), data: ->\n└── data <shape: (2,), data: ->"]


# purity -----------------------------------------------------------------------------------------


def state_of(graph: Graph) -> Any:
    return (
        [(n.id, n.op.name, tuple(i.id for i in n.inputs)) for n in graph.nodes],
        sorted(graph.values),
        sum(ref.graph is graph for ref in HANDLES.values()),
        sum(ref.graph is graph for ref in PENDING.values()),
        lg.get_rng_state().tolist(),
        lg.config.epoch,
    )


@settings(max_examples=25)
@given(program=programs(max_lines=8))
def test_pictures_change_nothing(program: RandomProgram) -> None:
    with Graph() as graph:
        leaves = [lg.tensor(a, requires_grad=True) for a in program.inputs]
        values = program.run(*leaves)
        loss = values[-1].sum()
        loss.backward()
        grads = [leaf.grad for leaf in leaves]
        before = state_of(graph)
        for stage in ("traced", "fused", "planned"):
            assert graph.visualize(stage=stage).source
        assert str(graph) and graph.to_mermaid()
        assert state_of(graph) == before
        assert all(leaf.grad is g for leaf, g in zip(leaves, grads, strict=True))
        assert not loss.is_realized
    for value, wanted in zip(values, program.shadow(), strict=True):
        np.testing.assert_allclose(value.numpy(), wanted, rtol=1e-9, atol=1e-9)
