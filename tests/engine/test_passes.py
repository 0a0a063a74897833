"""Passes: each does what its law says, keeps ins and outs, and leaves legal graphs."""

import pytest

from lazygrad.dtypes import bool_, float32, float64, int64
from lazygrad.engine.frozen import FNode, FrozenGraph, Site
from lazygrad.engine.passes import PIPELINES, listing, run_pipeline, verify
from lazygrad.engine.passes.algebra import RULES, simplify
from lazygrad.engine.passes.cse import merge_equal
from lazygrad.engine.passes.dce import drop_dead
from lazygrad.engine.passes.expand import expand
from lazygrad.engine.passes.fold import fold
from lazygrad.errors import InternalError
from lazygrad.ops.effect import CHECK_INDEX
from lazygrad.ops.elementwise import ABS, ADD, CAST, DIV, EXP, MAXIMUM, MUL, NEG, RELU, SUB
from lazygrad.ops.logic import LOGICAL_NOT
from lazygrad.ops.movement import PERMUTE, RESHAPE
from lazygrad.ops.source import DATA, LITERAL
from tests.engine.build import GraphBuilder


def names(g: FrozenGraph) -> list[str]:
    return [n.op.name for n in g.nodes]


def test_dead_nodes_go_and_sources_stay_in_order() -> None:
    g = GraphBuilder()
    x, unused = g.data((3,)), g.data((2,))
    y = g(EXP, x)
    g(NEG, y)
    z = g.data((3,))
    out = g(ADD, y, z)
    found = drop_dead(g.finish([out]))
    assert names(found) == ["data", "data", "exp", "data", "add"]
    assert found.sources == (0, 1, 3)
    assert found.nodes[found.sources[1]].shape == g[unused].shape
    assert drop_dead(found) is found


def test_effects_are_roots() -> None:
    g = GraphBuilder()
    labels = g.data((4,), int64)
    g(CHECK_INDEX, labels, low=0, high=3, what="label")
    out = g(EXP, g.data((2,)))
    assert "check_index" in names(run_pipeline(g.finish([out])))


def test_equal_nodes_become_one() -> None:
    x = FNode(DATA, (), {"shape": (2,), "dtype": float32}, (2,), float32)
    e = FNode(EXP, (0,), {}, (2,), float32)
    twice = FrozenGraph((x, e, e, FNode(ADD, (1, 2), {}, (2,), float32)), (0,), (3,))
    found = merge_equal(twice)
    assert names(found) == ["data", "exp", "add"]
    assert found.nodes[2].inputs == (1, 1)
    assert merge_equal(found) is found


def test_sources_are_never_merged() -> None:
    g = GraphBuilder()
    out = g(ADD, g.data((2,)), g.data((2,)))
    assert len(run_pipeline(g.finish([out])).sources) == 2


def test_negative_zero_is_another_literal() -> None:
    g = GraphBuilder()
    assert g.literal(0.0) != g.literal(-0.0)


def test_folding_uses_the_bits_of_the_op() -> None:
    g = GraphBuilder()
    x = g.data((3,))
    c = g(EXP, g(DIV, g.literal(1.0), g.literal(3.0)))
    found = run_pipeline(g.finish([g(MUL, x, c)]))
    assert sorted(names(found)) == ["data", "literal", "mul"]
    (literal,) = [n for n in found.nodes if n.op is LITERAL]
    assert literal.attrs["value"] == pytest.approx(1.3956124)
    assert float32.dtype.type(literal.attrs["value"]) == literal.attrs["value"]


def test_folding_leaves_arrays_and_failing_ops_alone() -> None:
    g = GraphBuilder()
    wide = g.expand(g.literal(2.0), 4)
    out = g(EXP, wide)
    assert "exp" in names(fold(g.finish([out])))


@pytest.mark.parametrize(
    ("op", "value", "holds"),
    [(MUL, 1.0, True), (SUB, 0.0, True), (SUB, -0.0, False), (DIV, 1.0, True), (MUL, 2.0, False)],
)
def test_unit(op, value, holds) -> None:
    g = GraphBuilder()
    x = g.data((3,))
    found = run_pipeline(g.finish([g(op, x, g.literal(value))]))
    assert (found.outputs == (0,)) is holds


def test_unit_keeps_the_broadcast_shape() -> None:
    g = GraphBuilder()
    x = g.data((3,))
    out = g(MUL, x, g.expand(g.literal(1.0), 2, 3))
    assert "mul" in names(run_pipeline(g.finish([out])))


def test_unit_of_commutative_op_may_come_first() -> None:
    g = GraphBuilder()
    assert run_pipeline(g.finish([g(MUL, g.literal(1.0), g.data((3,)))])).outputs == (0,)
    g = GraphBuilder()
    assert run_pipeline(g.finish([g(DIV, g.literal(1.0), g.data((3,)))])).outputs != (0,)


def test_involution_idempotence_identity() -> None:
    g = GraphBuilder()
    x, b = g.data((3,)), g.data((3,), bool_)
    outputs = [
        g(NEG, g(NEG, x)),
        g(LOGICAL_NOT, g(LOGICAL_NOT, b)),
        g(MAXIMUM, x, x),
        g(CAST, x, dtype=float32),
    ]
    found = run_pipeline(g.finish(outputs))
    assert found.outputs == (0, 1, 0, 0)
    g = GraphBuilder()
    y = g(RELU, g.data((3,)))
    assert run_pipeline(g.finish([g(RELU, y), g(ABS, g(ABS, y))])).outputs[0] == 1
    g = GraphBuilder()
    assert "cast" in names(run_pipeline(g.finish([g(CAST, g.data((3,)), dtype=float64)])))


def test_views_that_cancel() -> None:
    g = GraphBuilder()
    x = g.data((2, 3, 4))
    there = g(PERMUTE, x, axes=(2, 0, 1))
    back = g(PERMUTE, there, axes=(1, 2, 0))
    flat = g(RESHAPE, g(RESHAPE, x, shape=(24,)), shape=(2, 3, 4))
    other = g(PERMUTE, there, axes=(2, 0, 1))
    found = run_pipeline(g.finish([back, flat, other]))
    assert found.outputs[:2] == (0, 0)
    assert found.outputs[2] != 0


def test_inexact_rules_are_off_by_default() -> None:
    g = GraphBuilder()
    out = g(ADD, g(ADD, g.data((3,)), g.literal(2.0)), g.literal(0.5))
    frozen = g.finish([out])
    assert names(simplify(frozen)).count("add") == 2
    found = drop_dead(simplify(frozen, inexact=True))
    assert names(drop_dead(fold(found))).count("add") == 1
    assert {r.name for r in RULES if not r.exact} == {"reassociate"}


def test_replaced_nodes_keep_the_users_line() -> None:
    site = Site("model.py", 7, "forward")
    g = GraphBuilder()
    a = g.literal(1.0)
    b = g.add(FNode(EXP, (a,), {}, (), float32, site))
    found = fold(g.finish([b]))
    assert found.nodes[found.outputs[0]].site is site


def test_the_verifier_names_pass_and_line() -> None:
    g = GraphBuilder()
    x = g.data((2, 3))
    site = Site("model.py", 7, "forward")
    bad = g.add(FNode(EXP, (x,), {}, (3, 2), float32, site))
    with pytest.raises(InternalError, match=r"after fold: node 1 \(exp, created at model.py:7\)"):
        verify(g.finish([bad]), "fold")
    with pytest.raises(InternalError, match="reads"):
        verify(FrozenGraph((FNode(EXP, (0,), {}, (2,), float32),), (), (0,)))
    g = GraphBuilder()
    x, y = g.data((2,)), g.data((3,))
    with pytest.raises(InternalError, match="write of"):
        verify(g.finish([], writes=[(0, y)]))
    with pytest.raises(InternalError, match="written twice"):
        verify(g.finish([], writes=[(0, x), (0, x)]))


def test_passes_are_idempotent_and_listed() -> None:
    g = GraphBuilder()
    x = g.data((2, 3))
    out = g(MUL, g(NEG, g(NEG, x)), g(EXP, g.literal(0.0)))
    once = run_pipeline(g.finish([out]))
    assert run_pipeline(once) is once
    assert listing(once).splitlines()[0].startswith("%0 = data()")
    assert PIPELINES["O0"] == [expand]


def test_a_chain_of_100000_nodes_passes() -> None:
    g = GraphBuilder()
    x = g.data((3,))
    for _ in range(50_000):
        x = g(RELU, g(ADD, x, x))
    found = run_pipeline(g.finish([x]))
    assert len(found.nodes) == 100_001
