"""Fusion: the composites that must be one kernel, where chains are cut, and why."""

from collections.abc import Iterator

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.config import config
from lazygrad.dtypes import bfloat16, float16, float32, float64, int64
from lazygrad.engine import fuse
from lazygrad.engine.frozen import FrozenGraph
from lazygrad.engine.program import Program, compile_graph
from lazygrad.ops.contract import MATMUL
from lazygrad.ops.elementwise import (
    ADD,
    CAST,
    DIV,
    EXP,
    LOG,
    MUL,
    NEG,
    POW,
    RELU,
    RSQRT,
    SQRT,
    SUB,
    TANH,
)
from lazygrad.ops.logic import EQ, LE, WHERE
from lazygrad.ops.movement import EXPAND, RESHAPE, SLICE
from lazygrad.ops.reduce import MAX
from lazygrad.ops.sort import CUMSUM
from lazygrad.runtime.kernel import Contract, Extern, Map, Reduce
from tests.engine.build import GraphBuilder, arrays_for, evaluate
from tests.engine.fuzz import VARIANTS, random_graph, variant

pytestmark = pytest.mark.compiled

WIDE = 4096  # rows that make a kernel too large to run in one go


def compiled(frozen: FrozenGraph) -> Program:
    """Compile, and hold every variant to the plain one, bit for bit."""
    arrays = arrays_for(frozen)
    with config.override(executor="reference"):
        expected = evaluate(compile_graph(frozen), arrays)
    plain: list = []
    for name in VARIANTS:
        with variant(name):
            found = evaluate(compile_graph(frozen), arrays)
        plain = plain or found
        for a, b, c in zip(expected, plain, found, strict=True):
            np.testing.assert_allclose(
                b.astype(np.float64), a.astype(np.float64), rtol=2e-3, atol=2e-3
            )
            assert b.tobytes() == c.tobytes(), name
    return compile_graph(frozen)


def softmax_parts(g: GraphBuilder, x: int) -> tuple[int, int, int]:
    """exp(x - max), its sum, and x - max."""
    last = len(g.shape(x)) - 1
    z = g(SUB, x, g(MAX, x, axes=(last,), keepdim=True))
    e = g(EXP, z)
    return e, g.sum(e, last, keepdim=True), z


@pytest.mark.parametrize("shape", [(4, 10), (WIDE, 100), (16, 64, 300)])
def test_softmax_is_one_kernel(shape) -> None:
    g = GraphBuilder()
    e, s, _ = softmax_parts(g, g.data(shape))
    program = compiled(g.finish([g(DIV, e, s)]))
    (kernel,) = program.kernels
    assert kernel.grid.rows == np.prod(shape[:-1])
    assert [type(s) for s in kernel.stages] == [Reduce, Map, Reduce, Map]
    assert program.memory.arena_bytes < 2_000_000  # chunk by chunk: no whole array in between


@pytest.mark.parametrize("rows", [32, WIDE * 10])
def test_cross_entropy_with_gradient_is_one_kernel(rows) -> None:
    g = GraphBuilder()
    logits, labels = g.data((rows, 10)), g.data((rows, 1), int64)
    e, s, z = softmax_parts(g, logits)
    hot = g(CAST, g(EQ, g.iota((10,), 0, int64), labels), dtype=float32)
    picked = g.sum(g(MUL, g(SUB, z, g(LOG, s)), hot), 1)
    grad = g(MUL, g(SUB, g(DIV, e, s), hot), g.literal(1 / rows))
    program = compiled(g.finish([g(NEG, picked), grad]))
    assert len(program.kernels) == 1


@pytest.mark.parametrize("shape", [(4, 64), (WIDE, 256)])
def test_layer_norm_is_one_kernel(shape) -> None:
    g = GraphBuilder()
    x, weight, bias = g.data(shape), g.param(shape[1:]), g.param(shape[1:])
    n = g.literal(1 / shape[1])
    mean = g(MUL, g.sum(x, 1, keepdim=True), n)
    centered = g(SUB, x, mean)
    var = g(MUL, g.sum(g(MUL, centered, centered), 1, keepdim=True), n)
    y = g(MUL, centered, g(RSQRT, g(ADD, var, g.literal(1e-5))))
    program = compiled(g.finish([g(ADD, g(MUL, y, weight), bias)], kept=[mean]))
    assert len(program.kernels) == 1


@pytest.mark.parametrize("shape", [(3, 5), (1000, 1000)])
def test_adamw_is_one_kernel(shape) -> None:
    g = GraphBuilder()
    p, grad, m, v = g.param(shape), g.data(shape), g.state(shape), g.state(shape)
    step, lr, b1, b2, decay = (g.state((), float64) for _ in range(5))

    def f32(i: int) -> int:
        return g(CAST, i, dtype=float32)

    one = g.literal(1.0, float64)
    m_new = g(ADD, g(MUL, m, f32(b1)), g(MUL, grad, f32(g(SUB, one, b1))))
    v_new = g(ADD, g(MUL, v, f32(b2)), g(MUL, g(MUL, grad, grad), f32(g(SUB, one, b2))))
    m_hat = g(DIV, m_new, f32(g(SUB, one, g(POW, b1, step))))
    v_hat = g(DIV, v_new, f32(g(SUB, one, g(POW, b2, step))))
    change = g(DIV, m_hat, g(ADD, g(SQRT, v_hat), g.literal(1e-8)))
    kept = g(MUL, p, f32(g(SUB, one, g(MUL, lr, decay))))
    p_new = g(SUB, kept, g(MUL, change, f32(lr)))
    at = {i: k for k, i in enumerate(g.sources)}
    frozen = g.finish([], writes=[(at[m], m_new), (at[v], v_new), (at[p], p_new)])
    (kernel,) = compile_graph(frozen).kernels
    assert [p.mode for p in kernel.params].count("inout") == 3
    arrays = [np.asarray(np.abs(a)) for a in arrays_for(frozen)]
    arrays[4] = np.array(3.0)
    arrays[6:8] = [np.array(0.9), np.array(0.99)]
    with config.override(executor="reference"):
        expected = evaluate(compile_graph(frozen), arrays)
    for name in VARIANTS:
        with variant(name):
            found = evaluate(compile_graph(frozen), arrays)
            fresh = evaluate(compile_graph(frozen), arrays, fresh=(0, 2))
        for a, b, c in zip(expected, found, fresh, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5)
            assert b.tobytes() == c.tobytes()


def test_bias_and_activation_follow_the_product() -> None:
    g = GraphBuilder()
    x, w, b = g.data((8, 16)), g.param((4, 16)), g.param((4,))
    h = g(RELU, g(ADD, g.matmul(x, g.t(w)), b))
    program = compiled(g.finish([h]))
    ((stage,),) = [k.stages for k in program.kernels]
    assert isinstance(stage, Contract)
    assert [i.word for i in stage.epilogue.instrs] == ["add", "const", "maximum"]


def test_the_update_follows_the_product_of_the_gradient() -> None:
    g = GraphBuilder()
    x, d, w, rate = g.data((8, 16)), g.data((8, 4)), g.param((4, 16)), g.state((), float64)
    grad = g.matmul(g.t(d), x)
    new = g(SUB, w, g(MUL, grad, g(CAST, rate, dtype=float32)))
    program = compiled(g.finish([], writes=[(g.sources.index(w), new)]))
    assert sorted(len(k.nodes) for k in program.kernels) == [1, 3]
    assert not [b for b in program.memory.buffers if b.values and b.nbytes > 64]


def test_reading_a_row_of_another_row_cuts_a_streamed_kernel() -> None:
    g = GraphBuilder()
    x = g(EXP, g.data((1024, 1024)))
    program = compiled(g.finish([g(ADD, x, g.t(x))]))
    assert len(program.kernels) == 2
    assert "not row by row" in program.kernels[1].reason
    small = GraphBuilder()
    x = small(EXP, small.data((8, 8)))
    assert len(compiled(small.finish([small(ADD, x, small.t(x))])).kernels) == 1


def test_reducing_over_rows_cuts_a_streamed_kernel() -> None:
    g = GraphBuilder()
    x = g.data((WIDE, 128))
    product = g(MUL, x, x)
    program = compiled(g.finish([g.sum(product, 0), product]))
    assert len(program.kernels) == 2


@pytest.fixture
def native() -> Iterator[None]:
    """Kernels that read and compute as they go."""
    with config.override(executor="native"):
        yield


@pytest.mark.usefixtures("native")
def test_what_only_a_sum_over_rows_reads_is_never_stored() -> None:
    g = GraphBuilder()
    x, y = g.data((WIDE, 128)), g.data((128,))
    program = compiled(g.finish([g.sum(g(MUL, g(SUB, x, y), g(EXP, x)), 0)]))
    (kernel,) = program.kernels
    assert isinstance(kernel.stages[0], Reduce) and len(kernel.stages) == 1
    assert program.memory.arena_bytes < 1 << 20
    (total,) = compiled_sum((WIDE, 128)).kernels  # what follows a full reduction goes with it
    assert [type(s) for s in total.stages] == [Reduce, Map]
    costly = GraphBuilder()  # one sum is for one thread: all of them share what takes long
    x = costly.data((WIDE, 128))
    program = compiled(costly.finish([costly.sum(costly(MUL, costly(EXP, x), x), 0, 1)]))
    assert [len(k.nodes) for k in program.kernels] == [2, 1]
    turned = GraphBuilder()  # read in another order than it is computed in
    x = turned(EXP, turned.data((WIDE, 128)))
    assert len(compiled(turned.finish([turned.sum(turned.t(x), 0)])).kernels) == 2


@pytest.mark.usefixtures("native")
def test_behind_a_product_nothing_is_stored_that_follows_from_what_is() -> None:
    g = GraphBuilder()
    d = g.matmul(g.data((WIDE, 8)), g.data((8, 128)))
    scaled = g(MUL, d, g.data((128,)))
    shift = g.sum(d, 0)
    program = compiled(g.finish([g(SUB, scaled, shift)]))
    assert [len(k.nodes) for k in program.kernels] == [1, 1, 2]
    g = GraphBuilder()  # read once: it is better stored than its operand
    d = g.matmul(g.data((WIDE, 8)), g.data((8, 128)))
    scaled = g(MUL, d, g.data((128,)))
    program = compiled(g.finish([g(CUMSUM, scaled, axis=0)]))
    assert [len(k.nodes) for k in program.kernels] == [2, 1]


def compiled_sum(shape) -> Program:
    g = GraphBuilder()
    x = g.data(shape)
    loss = g(MUL, g.sum(g(MUL, x, x), 0, 1), g.literal(0.5))
    return compile_graph(g.finish([g(TANH, loss)]))


def test_opaque_ops_stand_alone() -> None:
    g = GraphBuilder()
    x = g(CUMSUM, g(EXP, g.data((4, 4))), axis=0)
    program = compiled(g.finish([g(EXP, x)]))
    assert [len(k.nodes) for k in program.kernels] == [1, 1, 1]
    assert isinstance(program.kernels[1].stages[0], Extern)
    assert program.kernels[2].reason == "cumsum is opaque"


def test_views_compute_nothing() -> None:
    g = GraphBuilder()
    x = g.data((4, 6))
    y = g.expand(g.reshape(g.t(x), 2, 12, 1), 2, 12, 3)
    program = compiled(g.finish([g(EXP, y)]))
    # The transpose cannot be reshaped by strides alone: one copy, fused into the map.
    assert len(program.kernels) == 1
    assert sum(n.op.name == "copy" for n in program.frozen.nodes) == 1
    g = GraphBuilder()
    x = g.data((4, 6))
    y = g(EXPAND, g(RESHAPE, x, shape=(4, 6, 1)), shape=(4, 6, 2))
    program = compiled(g.finish([g(EXP, y)]))
    assert [n.op.name for n in program.frozen.nodes].count("copy") == 0


def test_step_sizes_are_computed_once_and_ahead() -> None:
    g = GraphBuilder()
    rate = g(CAST, g(MUL, g.state((), float64), g.literal(0.5, float64)), dtype=float32)
    params = [g.param((n, 3)) for n in (2, 3)]
    writes = []
    for p in params:
        d = g.data(g.shape(p))
        writes.append((g.sources.index(p), g(SUB, p, g(MUL, g(CUMSUM, d, axis=0), rate))))
    program = compiled(g.finish([], writes=writes))
    first = [program.frozen.nodes[i].op.name for i in program.kernels[0].nodes]
    assert first == ["mul", "cast"]
    assert len(program.kernels) == 1 + 2 * 2


def test_a_gradient_mask_and_an_accumulation() -> None:
    g = GraphBuilder()
    x, w, out, old = g.data((8, 4)), g.param((4, 6)), g.data((8, 6)), g.state((8, 6))
    d = g(WHERE, g(LE, out, g.literal(0.0)), g.literal(0.0), g.matmul(x, w))
    program = compiled(g.finish([d], writes=[(g.sources.index(old), g(ADD, old, d))]))
    assert len(program.kernels) == 1


@pytest.mark.parametrize("dtype", [float16, bfloat16])
def test_half_precision_accumulates_in_float32(dtype) -> None:
    g = GraphBuilder()
    x, y = g.data((3, 2000), dtype), g.data((2000, 4), dtype)
    program = compile_graph(g.finish([g.sum(g(MUL, x, x), 1), g.matmul(x, y)]))
    frozen = program.frozen
    arrays = arrays_for(frozen)
    x32, y32 = (a.astype(np.float32) for a in arrays)
    total, product = evaluate(program, arrays)
    square = (x32 * x32).astype(dtype.dtype).astype(np.float32)
    assert total.tobytes() == square.sum(1).astype(dtype.dtype).tobytes()
    np.testing.assert_allclose(product.astype(np.float32), x32 @ y32, rtol=1e-2, atol=1e-2)


def test_empty_arrays_need_no_kernels() -> None:
    g = GraphBuilder()
    x = g.data((0, 3))
    y = g(EXP, x)
    program = compiled(g.finish([y, g.sum(y, 0), g.matmul(g.t(y), y)], kept=[y]))
    assert all(isinstance(k.stages[0], Extern) for k in program.kernels)


@pytest.mark.numpy_code
def test_a_product_of_a_matrix_with_itself_reads_a_copy() -> None:
    g = GraphBuilder()
    x = g.data((6, 6))
    program = compiled(g.finish([g.matmul(x, g.t(x)), g.matmul(x, x)]))
    assert [n.op.name for n in program.frozen.nodes].count("copy") == 2


def test_one_body_may_hold_both_zeros() -> None:
    @lg.compute_graph
    def signs(flags: lg.Tensor) -> lg.Tensor:
        zero = lg.zeros(())
        return lg.where(flags, zero, -zero)

    assert np.signbit(signs(lg.tensor([True, False])).numpy()).tolist() == [False, True]


def test_no_fuse_gives_a_kernel_to_each_node() -> None:
    g = GraphBuilder()
    e, s, _ = softmax_parts(g, g.data((4, 10)))
    frozen = g.finish([g(DIV, e, s)])
    with config.override(no_fuse=True):
        assert len(compile_graph(frozen).kernels) == 5


def test_small_values_behind_a_product_are_computed_beside_each_other() -> None:
    """The gates of a cell are slices of a product, so they are no epilogue of it."""
    g = GraphBuilder()
    product = g(MATMUL, g.data((4, 3)), g.data((3, 6)))
    left = g(TANH, g(SLICE, product, starts=(0, 0), stops=(4, 3), steps=(1, 1)))
    right = g(EXP, g(SLICE, product, starts=(0, 3), stops=(4, 6), steps=(1, 1)))
    rows = g(SLICE, product, starts=(0, 0), stops=(2, 6), steps=(1, 1))
    other = g(SQRT, g(MUL, rows, rows))  # other points: a kernel of its own
    program = compiled(g.finish([g(ADD, left, right), other]))
    assert [len(k.nodes) for k in program.kernels] == [1, 3, 2]


@pytest.mark.parametrize("longest", [2, 3, 4, 6])
def test_every_node_finds_a_kernel_however_short_they_are(
    longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes that wait for a reader may fill the kernel that it was to join."""
    monkeypatch.setattr(fuse, "LONGEST", longest)
    with config.override(executor="numpy"):
        for seed in range(40):
            frozen = random_graph(seed, steps=30)
            arrays = arrays_for(frozen)
            with config.override(executor="reference"):
                expected = evaluate(compile_graph(frozen), arrays)
            found = evaluate(compile_graph(frozen), arrays)
            for a, b in zip(expected, found, strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-5)
