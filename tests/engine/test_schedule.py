"""Order: checks before writes, reads of the old value before writes, whatever has to be copied."""

from typing import Any

import numpy as np
import pytest

from lazygrad.config import config
from lazygrad.dtypes import float32, int64
from lazygrad.engine import schedule
from lazygrad.engine.executable import CompiledProgram
from lazygrad.engine.frozen import FNode, FrozenGraph, Site
from lazygrad.engine.program import compile_graph
from lazygrad.errors import IndexOutOfRangeError
from lazygrad.ops.effect import CHECK_INDEX
from lazygrad.ops.elementwise import ADD, CAST, EXP, MUL, NEG, SUB
from lazygrad.ops.opdef import Kind, OpDef
from lazygrad.ops.sort import CUMSUM
from lazygrad.ops.source import AFTER
from tests.engine.build import GraphBuilder, arrays_for, evaluate
from tests.engine.fuzz import VARIANTS, variant

pytestmark = pytest.mark.compiled


def same_everywhere(frozen: FrozenGraph, exact: bool = True) -> None:
    """Every variant, in place and fresh, gives what the reference gives."""
    arrays = arrays_for(frozen)
    with config.override(executor="reference"):
        expected = evaluate(compile_graph(frozen), arrays)
    for name in VARIANTS:
        with variant(name):
            program = compile_graph(frozen)
            for fresh in ((), (0,), range(9)):
                for a, b in zip(expected, evaluate(program, arrays, fresh), strict=True):
                    np.testing.assert_allclose(b, a, rtol=0 if exact else 1e-5)


def test_two_states_change_places() -> None:
    g = GraphBuilder()
    a, b = g.state((4,)), g.state((4,))
    same_everywhere(g.finish([], writes=[(0, b), (1, a)]))


def test_a_write_of_a_transposed_self() -> None:
    g = GraphBuilder()
    w = g.param((5, 5))
    same_everywhere(g.finish([g(NEG, w)], writes=[(0, g(ADD, w, g.t(w)))]))


def test_states_that_read_each_other() -> None:
    g = GraphBuilder()
    a, b = g.state((4,)), g.state((4,))
    same_everywhere(g.finish([], writes=[(0, g(ADD, a, b)), (1, g(SUB, a, b))]))
    g = GraphBuilder()
    a, b = g.state((4,)), g.state((4,))
    new_a, new_b = g(CUMSUM, b, axis=0), g(CUMSUM, a, axis=0)
    same_everywhere(g.finish([], writes=[(0, new_a), (1, new_b)]))


def test_a_reader_that_needs_the_new_value_too() -> None:
    g = GraphBuilder()
    w = g.param((4,))
    new = g(CUMSUM, g(EXP, w), axis=0)
    late = g(SUB, g(CUMSUM, new, axis=0), w)
    same_everywhere(g.finish([g(CUMSUM, late, axis=0)], writes=[(0, new)]))


def test_one_value_in_many_places() -> None:
    g = GraphBuilder()
    w, x = g.param((2, 3)), g.data((2, 3))
    y = g(ADD, w, x)
    flat = g.reshape(y, 6)
    outputs = [y, y, x, g.t(y), flat, w, g.literal(2.0), g.expand(g.literal(3.0), 2, 2)]
    same_everywhere(g.finish(outputs, kept=[y, g.t(y), x, flat], writes=[(0, y)]))


def test_a_state_becomes_an_input_or_a_constant() -> None:
    g = GraphBuilder()
    w, x = g.param((2, 3)), g.data((3, 2))
    zero = g.expand(g.literal(0.0), 4)
    g.state((4,))
    same_everywhere(g.finish([g(NEG, w)], writes=[(0, g.t(x)), (2, zero)]))


def test_old_values_are_read_before_they_are_overwritten() -> None:
    """The gradient of the input reads the weight that the same step updates."""
    g = GraphBuilder()
    x, w = g.data((6, 4)), g.param((3, 4))
    d = g.matmul(x, g.t(w))
    new = g(SUB, w, g.matmul(g.t(d), x))
    back = g(MUL, g.matmul(d, w), g.literal(0.5))
    same_everywhere(g.finish([back], writes=[(1, new)]), exact=False)


def failing_step() -> FrozenGraph:
    """A program whose label check fails, with writes that do not depend on it."""
    g = GraphBuilder()
    labels, w, x = g.data((3,), int64), g.param((4,)), g.data((4,))
    site = Site("train.py", 12, "step")
    attrs = {"low": 0, "high": 2, "what": "label"}
    checked = g.add(FNode(CHECK_INDEX, (labels,), attrs, (3,), int64, site))
    early = g(ADD, w, x)
    total = g(CAST, g.sum(checked, 0), dtype=float32)
    return g.finish([g(ADD, g.sum(early, 0), total)], writes=[(1, early)])


@pytest.mark.parametrize("name", VARIANTS)
def test_checks_run_before_the_first_write(name) -> None:
    frozen = failing_step()
    with variant(name):
        program = compile_graph(frozen)
    w = np.ones(4, np.float32)
    sources = [np.array([0, 5, 1]), w, np.ones(4, np.float32)]
    with pytest.raises(IndexOutOfRangeError, match="label 5 at position 1") as caught:
        program.run(sources, [np.empty((), np.float32)], [w])
    assert (w == 1).all()
    (note,) = caught.value.__notes__
    assert note == "while computing `check_index` ((3,)) created at train.py:12"
    sources[0][1] = 1
    out = np.empty((), np.float32)
    program.run(sources, [out], [w])
    assert (w == 2).all()
    assert out == 8 + 2


def test_a_new_state_that_is_checked_is_written_after_the_check() -> None:
    g = GraphBuilder()
    s = g.state((3,), int64)
    new = g(ADD, s, g.data((3,), int64))
    g(CHECK_INDEX, new, low=0, high=5, what="counter")
    program = compile_graph(g.finish([], writes=[(0, new)]))
    state = np.array([1, 2, 3])
    with pytest.raises(IndexOutOfRangeError):
        program.run([state, np.array([0, 0, 9])], [], [state])
    assert state.tolist() == [1, 2, 3]
    program.run([state, np.array([1, 1, 1])], [], [state])
    assert state.tolist() == [2, 3, 4]


def test_checks_come_first_in_every_order() -> None:
    """Also where another order than the user's needs less memory."""
    g = GraphBuilder()
    x, s, labels = g.data((100,)), g.state((100,)), g.data((3,), int64)
    wide = []
    for k in range(5):
        branch = g(CUMSUM, g(MUL, x, g.literal(float(k + 2))), axis=0)
        wide.append(g(CUMSUM, g.expand(g.reshape(branch, 1, 100), 50, 100), axis=0))
    new = g(ADD, s, x)
    total = g.sum(new, 0)
    for w in wide:
        total = g(ADD, total, g.sum(g(CUMSUM, w, axis=1), 0, 1))
    g(CHECK_INDEX, g(CUMSUM, labels, axis=0), low=0, high=9, what="label")
    program = compile_graph(g.finish([total], writes=[(1, new)]))
    assert program.memory.order == "greedy"
    first = [program.frozen.nodes[k.nodes[0]].op.name for k in program.kernels[:2]]
    assert first == ["cumsum", "check_index"]


def test_kernels_of_sources_never_wait_for_each_other() -> None:
    """Two values of sources, each read by an opaque op, and sums of them in both directions."""
    g = GraphBuilder()
    a, b = g(EXP, g.data((4,))), g(EXP, g.data((4,)))
    first, second = g(CUMSUM, a, axis=0), g(CUMSUM, b, axis=0)
    same_everywhere(g.finish([first, second, g(ADD, a, b), g(SUB, b, a)]), exact=False)


def test_opaque_ops_get_dense_operands() -> None:
    seen = []

    def look(x):
        seen.append(x.flags.c_contiguous)
        return np.array(x)

    looker = OpDef("look", Kind.OPAQUE, lambda x: (x.shape, x.dtype), look)
    g = GraphBuilder()
    x = g.data((3, 4))
    y = g(EXP, x)
    outputs = [g(looker, v) for v in (g.t(x), g.t(y), g.expand(g.literal(1.0), 2, 2))]
    evaluate(compile_graph(frozen := g.finish(outputs)), arrays_for(frozen))
    assert seen == [True] * 3


def test_what_reads_a_checked_value_runs_after_the_check() -> None:
    g = GraphBuilder()
    x = g.data((3,), int64)
    a = g(CHECK_INDEX, x, low=0, high=9, what="a")
    b = g(CHECK_INDEX, g(NEG, a), low=-9, high=1, what="b")
    program = compile_graph(g.finish([g(CUMSUM, b, axis=0)]))
    ops = [program.frozen.nodes[i].op.name for k in program.kernels for i in k.nodes]
    assert ops == ["check_index", "neg", "check_index", "cumsum"]


def drawn(seed: int) -> FrozenGraph:
    """A program in which some values may not be read before others are there."""
    rng = np.random.default_rng(seed)
    g = GraphBuilder()
    values = [g.data((4, 4)), g.param((4, 4))]
    for _ in range(24):
        a, b = rng.choice(values, 2).tolist()
        kind = rng.integers(6)
        if kind < 2:
            values.append(g((NEG, EXP)[kind], (a, values[1])[rng.integers(2)]))
        elif kind < 4:
            values.append(g.matmul(a, b) if kind == 2 else g(CUMSUM, a, axis=0))
        else:
            late = g(AFTER, a, b)
            values.append(g(ADD, late, values[0]) if kind == 4 else g(NEG, g.t(late)))
    return g.finish([*values[-3:], g(NEG, g(AFTER, values[2], values[-1]))])


def _last_first(graph: Any, start: int, sizes: Any) -> list[int]:
    return schedule._by_priority(graph, start, lambda k: -k, lambda k: None)


@pytest.mark.numpy_code
@pytest.mark.parametrize("seed", range(40))
def test_readers_wait_for_the_moment_that_they_are_told(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even in an order that would run them as early as it may."""
    monkeypatch.setattr(schedule, "_greedy", _last_first)
    monkeypatch.setattr(schedule._Sizes, "peak", lambda self, order: order == sorted(order))
    program = compile_graph(drawn(seed))
    assert isinstance(program, CompiledProgram)
    nodes = program.frozen.nodes
    at = {i: k for k, kernel in enumerate(program.kernels) for i in kernel.nodes}
    checked = 0
    for i, k in at.items():
        for j in nodes[i].inputs:
            while nodes[j].op.kind is Kind.VIEW:
                for moment in nodes[j].inputs[1:]:
                    while nodes[moment].op.kind is Kind.VIEW:
                        moment = nodes[moment].inputs[0]
                    checked += 1
                    assert at.get(moment, -1) <= k
                j = nodes[j].inputs[0]
    assert checked


def test_the_moment_may_be_a_value_that_waits_for_its_own_reader() -> None:
    g = GraphBuilder()
    moment = g(EXP, g.data((4,)))
    first = g(CUMSUM, g.data((4,)), axis=0)
    then = g(CUMSUM, g(NEG, g(AFTER, first, moment)), axis=0)
    same_everywhere(g.finish([g(ADD, moment, then)]), exact=False)
