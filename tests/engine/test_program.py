"""Programs: bound by pointer, leased, re-entrant, cached, and the same bits however they run."""

import gc
import threading
import weakref

import numpy as np
import pytest

from lazygrad.config import config
from lazygrad.dtypes import float64
from lazygrad.engine.arena import POOL
from lazygrad.engine.frozen import FNode, FrozenGraph, Site
from lazygrad.engine.program import CACHE, Program, ProgramCache, compile_graph, program_for
from lazygrad.ops.elementwise import ADD, EXP, MUL, NEG, RELU, SUB
from lazygrad.ops.opdef import Kind, OpDef
from lazygrad.ops.sort import CUMSUM
from tests.engine.build import Array, GraphBuilder, arrays_for, evaluate
from tests.engine.fuzz import VARIANTS, random_graph, variant

pytestmark = pytest.mark.compiled


def equal(a: Array, b: Array) -> bool:
    """The same bits, but any NaN for any NaN."""
    return a.tobytes() == b.tobytes() or (
        a.dtype.kind == "f" and np.array_equal(a, b, equal_nan=True)
    )


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_give_the_same_bits_in_every_variant(seed) -> None:
    """Fusion, planner, mode, workers, poison, fresh storage: never another bit."""
    frozen = random_graph(seed, steps=10 + seed)
    arrays = arrays_for(frozen, seed)
    with config.override(executor="reference"):
        expected = evaluate(compile_graph(frozen), arrays)
    plain: list[Array] = []
    for name in VARIANTS:
        with variant(name):
            program = compile_graph(frozen)
            found = evaluate(program, arrays)
            fresh = evaluate(program, arrays, fresh=range(9))
        plain = plain or found
        for k, (a, b, c) in enumerate(zip(plain, found, fresh, strict=True)):
            assert equal(a, b), (name, k)
            assert equal(b, c), (name, k, "fresh")
    for a, b in zip(expected, plain, strict=True):
        tolerance = 3e-2 if a.itemsize == 2 else 1e-3
        scale = np.nanmax(np.abs(a.astype(np.float64)), initial=1.0)
        np.testing.assert_allclose(
            b.astype(np.float64), a.astype(np.float64), rtol=tolerance, atol=tolerance * scale
        )


@pytest.mark.parametrize("seed", range(4))
def test_large_random_graphs(seed) -> None:
    """Streamed kernels, real chunks."""
    frozen = random_graph(1000 + seed, steps=12, scale=12)
    arrays = arrays_for(frozen)
    plain: list[Array] = []
    for name in VARIANTS:
        with variant(name):
            found = evaluate(compile_graph(frozen), arrays)
        plain = plain or found
        assert all(equal(a, b) for a, b in zip(plain, found, strict=True)), name


@pytest.mark.parametrize("seed", range(8))
def test_every_kernel_agrees_with_its_reference(seed) -> None:
    frozen = random_graph(seed)
    with config.override(validate=True):
        evaluate(compile_graph(frozen), arrays_for(frozen))


def two_steps() -> GraphBuilder:
    g = GraphBuilder()
    x = g.data((50,))
    g(CUMSUM, g(EXP, x), axis=0)
    return g


def test_leases_are_independent_and_return_the_arena() -> None:
    g = two_steps()
    program = compile_graph(g.finish([], kept=[1, 2]))
    POOL.clear()
    a, b = np.zeros(50, np.float32), np.ones(50, np.float32)
    first = program.run([a])
    second = program.run([b])
    assert first is not None and second is not None
    assert first.kept[0][0] == 1
    assert second.kept[0][0] == pytest.approx(np.e)
    assert not np.shares_memory(first.kept[0], second.kept[0])
    assert POOL.free_bytes == 0
    first.release()
    first.release()
    assert POOL.free_bytes == program.memory.arena_bytes
    assert second.kept[1][49] == pytest.approx(50 * np.e, rel=1e-5)
    del second
    gc.collect()
    assert POOL.free_bytes == 2 * program.memory.arena_bytes


def test_without_kept_values_the_arena_returns_at_once() -> None:
    g = two_steps()
    program = compile_graph(g.finish([2]))
    POOL.clear()
    outputs = [np.empty(50, np.float32) for _ in range(5)]
    for out in outputs:
        assert program.run([np.zeros(50, np.float32)], [out]) is None
    assert POOL.free_bytes == program.memory.arena_bytes
    assert len({out.ctypes.data for out in outputs}) == 5


def test_a_kept_source_or_view_of_one() -> None:
    g = GraphBuilder()
    x = g.data((2, 3))
    y = g(EXP, x)
    program = compile_graph(g.finish([y], kept=[x, g.t(x)]))
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    lease = program.run([array], [np.empty((2, 3), np.float32)])
    assert lease is not None
    expected = array.copy()
    array[:] = -1  # a later program writes the source in place: what was kept stays
    np.testing.assert_array_equal(lease.kept[0], expected)
    np.testing.assert_array_equal(lease.kept[1], expected.T)


def test_no_array_of_the_caller_stays_alive() -> None:
    g = GraphBuilder()
    x, w = g.data((4,)), g.param((4,))
    program = compile_graph(g.finish([g(MUL, x, w)], writes=[(1, g(SUB, w, x))]))
    arrays = [np.ones(4, np.float32) for _ in range(3)]
    program.run(arrays[:2], arrays[2:], [arrays[1]])
    gone = [weakref.ref(a) for a in arrays]
    del arrays
    gc.collect()
    assert [r() for r in gone] == [None] * 3
    fresh = [np.full(4, 2, np.float32) for _ in range(3)]  # may lie where the old ones lay
    program.run(fresh[:2], fresh[2:], [fresh[1]])
    assert fresh[2].tolist() == [4] * 4
    assert fresh[1].tolist() == [0] * 4


def test_read_only_and_odd_sources() -> None:
    g = GraphBuilder()
    x, s = g.data((3,)), g.state((), float64)
    program = compile_graph(g.finish([g(NEG, x), g(NEG, s)]))
    array = np.ones(3, np.float32)
    array.flags.writeable = False
    outputs = [np.empty(3, np.float32), np.empty((), np.float64)]
    program.run([array, np.array(2.0)], outputs)
    assert outputs[0].tolist() == [-1, -1, -1]
    assert outputs[1] == -2


def test_threads_may_run_one_program_at_once() -> None:
    g = GraphBuilder()
    x = g.data((1000,))
    y = x
    for _ in range(30):
        y = g(CUMSUM, g(MUL, y, g.literal(0.5)), axis=0)
    program = compile_graph(g.finish([y]))
    expected = {}
    wrong = []

    def work(k: int) -> None:
        array, out = np.full(1000, k, np.float32), np.empty(1000, np.float32)
        for _ in range(20):
            program.run([array], [out])
            if out.tobytes() != expected[k]:
                wrong.append(k)

    for k in range(4):
        out = np.empty(1000, np.float32)
        program.run([np.full(1000, k, np.float32)], [out])
        expected[k] = out.tobytes()
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def _explode(x: Array) -> Array:
    raise ValueError("no")


def test_a_failing_kernel_names_op_shapes_and_line() -> None:
    bomb = OpDef("bomb", Kind.OPAQUE, lambda x: (x.shape, x.dtype), _explode)
    g = GraphBuilder()
    x = g(EXP, g.data((2, 3)))
    node = FNode(bomb, (x,), {}, (2, 3), g[x].dtype, Site("model.py", 3, "forward"))
    frozen = g.finish([g(NEG, g.add(node))])
    for executor in ("auto", "reference"):
        with config.override(executor=executor):
            program = compile_graph(frozen)
        with pytest.raises(ValueError, match="no") as caught:
            program.run([np.ones((2, 3), np.float32)], [np.empty((2, 3), np.float32)])
        assert caught.value.__notes__ == ["while computing `bomb` ((2, 3)) created at model.py:3"]


def test_equal_structures_share_a_program() -> None:
    CACHE.clear()

    def frozen(value: float, n: int = 3):
        g = GraphBuilder()
        return g.finish([g(MUL, g.data((n,)), g.literal(value))])

    assert program_for(frozen(2.0)) is program_for(frozen(2.0))
    assert program_for(frozen(2.0)) is not program_for(frozen(0.5))
    assert program_for(frozen(0.0)) is not program_for(frozen(-0.0))
    assert program_for(frozen(2.0)) is not program_for(frozen(2.0, 4))
    with config.override(no_fuse=True):
        other = program_for(frozen(2.0))
    assert other is not program_for(frozen(2.0))


def test_the_cache_forgets_the_least_recently_used() -> None:
    cache = ProgramCache(limit=2)
    made = []
    for n in (1, 2, 3, 1):
        g = GraphBuilder()
        cache.get(g.finish([g(EXP, g.data((n,)))]), lambda f: made.append(f) or compile_graph(f))
    assert len(made) == 4
    assert len(cache) == 2
    assert (cache.hits, cache.misses) == (0, 4)


def test_a_program_says_what_it_does(capsys) -> None:
    g = GraphBuilder()
    x, w = g.data((4, 8)), g.param((2, 8))
    frozen = g.finish([g(RELU, g.matmul(x, g.t(w)))])
    with config.override(debug=4):
        program = compile_graph(frozen, name="layer")
    rows = program.explain_rows()
    assert [r["op"] for r in rows] == ["permute", "matmul", "relu"]
    assert set(rows[1]) == {
        "kernel", "node", "op", "shape", "dtype", "mode", "reason", "executor", "bytes", "flops",
        "moved", "site",
    }  # fmt: skip
    assert rows[0]["bytes"] == 0
    assert rows[1]["kernel"] == rows[2]["kernel"] == program.order[0]
    assert rows[1]["flops"] >= 2 * 4 * 2 * 8
    assert rows[1]["moved"] == 4 * (4 * 8 + 2 * 8 + 4 * 2)
    assert rows[2]["moved"] is None  # it is counted once for a kernel
    assert "naive" in str(program)
    printed = capsys.readouterr().err
    assert "def layer(v, bases):" in printed
    assert "1 kernels" in printed
    assert "after drop_dead" in printed


@pytest.mark.parametrize("shape", [(3,), ()])
def test_a_very_long_chain_compiles_and_runs(shape) -> None:
    g = GraphBuilder()
    x = y = g.data(shape)
    for _ in range(3000):
        y = g(RELU, g(ADD, y, x))
    program = compile_graph(g.finish([y]))
    assert len(program.kernels) < 100
    out = np.empty(shape, np.float32)
    program.run([np.ones(shape, np.float32)], [out])
    assert (out == 3001).all()


def test_nothing_is_collected_while_a_program_is_compiled() -> None:
    seen: list[bool] = []

    def compiler(frozen: FrozenGraph) -> Program:
        seen.append(gc.isenabled())
        raise ValueError("no program")

    g = GraphBuilder()
    frozen = g.finish([g(EXP, g.data((2,)))])
    with pytest.raises(ValueError, match="no program"):
        ProgramCache().get(frozen, compiler)
    assert seen == [False]
    assert gc.isenabled()
