"""The memory plan: nothing that lives overlaps, little is wasted, order and reuse work."""

import ctypes
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazygrad.config import config
from lazygrad.engine.arena import POOL, ArenaPool, aligned
from lazygrad.engine.memory import Buffer, check_plan, give_offsets, live_bytes
from lazygrad.engine.program import compile_graph
from lazygrad.errors import InternalError
from lazygrad.ops.elementwise import ADD, EXP, MUL, RELU
from lazygrad.ops.sort import CUMSUM
from lazygrad.runtime.executor import Bases, CompiledCode
from tests.engine.build import GraphBuilder, arrays_for, evaluate
from tests.engine.fuzz import random_graph

pytestmark = pytest.mark.compiled

lives = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(0, 30), st.integers(0, 8)), max_size=40
)


@given(lives)
def test_living_buffers_never_overlap(spans) -> None:
    buffers = [Buffer(aligned(n), b, b + life) for n, b, life in spans]
    total = give_offsets(buffers)
    check_plan(buffers, total)
    bound = live_bytes(buffers, 40)
    assert bound <= total <= sum(b.nbytes for b in buffers)


@given(lives)
def test_without_reuse_every_buffer_has_its_own_place(spans) -> None:
    buffers = [Buffer(aligned(n), b, b + life) for n, b, life in spans]
    total = give_offsets(buffers, reuse=False, zone=64)
    assert total == sum(b.nbytes + 64 for b in buffers)
    for b in buffers:
        b.birth, b.death = 0, 99
    check_plan(buffers, total)


def test_a_very_long_plan_is_near_its_bound() -> None:
    rng = random.Random(0)
    buffers = [Buffer(aligned(rng.randint(1, 2000)), k, k + rng.randint(0, 5)) for k in range(5000)]
    total = give_offsets(buffers)
    check_plan(buffers, total)
    assert total <= 1.5 * live_bytes(buffers, 5010)


@pytest.mark.parametrize("seed", range(40))
def test_programs_stay_between_bound_and_naive(seed) -> None:
    frozen = random_graph(seed)
    with config.override(verify=True):
        plan = compile_graph(frozen).memory
    values = [b for b in plan.buffers if b.values]
    assert plan.lower_bound <= plan.arena_bytes
    assert live_bytes(values, 1000) <= sum(aligned(n.nbytes) for n in frozen.nodes)
    assert plan.best_of_orders == plan.peaks[plan.order]


def test_a_chain_of_opaque_ops_needs_two_buffers() -> None:
    g = GraphBuilder()
    x = g.data((1000,))
    for _ in range(20):
        x = g(CUMSUM, x, axis=0)
    plan = compile_graph(g.finish([x])).memory
    assert plan.arena_bytes == 2 * aligned(4000)
    assert plan.naive_bytes == 20 * 4000


def test_last_use_lets_a_value_take_the_buffer() -> None:
    g = GraphBuilder()
    x = g(CUMSUM, g.data((1000,)), axis=0)
    y = g(EXP, x)
    z = g(CUMSUM, y, axis=0)
    plan = compile_graph(g.finish([g(CUMSUM, z, axis=0)])).memory
    assert next(len(b.values) for b in plan.buffers if b.values) == 2  # exp over its operand
    held = g.finish([g(ADD, z, x)])
    first = next(b for b in compile_graph(held).memory.buffers if b.values)
    assert len(first.values) == 1  # x is read later: nothing may take its place


def test_kept_values_live_to_the_end_and_views_own_nothing() -> None:
    g = GraphBuilder()
    x = g(EXP, g.data((10, 10)))
    y = g(CUMSUM, g(MUL, x, x), axis=0)
    out = g(CUMSUM, g(CUMSUM, y, axis=0), axis=0)
    program = compile_graph(g.finish([out], kept=[g.t(x)]))
    (kept,) = [b for b in program.memory.buffers if b.death == len(program.kernels)]
    assert [program.frozen.nodes[i].op.name for i in kept.values] == ["exp"]
    made = [i for b in program.memory.buffers for i in b.values]
    assert [program.frozen.nodes[i].op.name for i in made] == ["exp", "mul", "cumsum", "cumsum"]


def test_the_order_minimises_the_peak() -> None:
    """Two wide branches, each summed: finish one before the other begins."""
    g = GraphBuilder()
    x = g.data((100,))
    wide = []
    for k in range(6):
        branch = g.expand(
            g.reshape(g(CUMSUM, g(MUL, x, g.literal(float(k + 2))), axis=0), 1, 100), 50, 100
        )
        wide.append(g(CUMSUM, branch, axis=0))
    sums = [g.sum(g(CUMSUM, w, axis=1), 0, 1) for w in wide]
    total = sums[0]
    for s in sums[1:]:
        total = g(ADD, total, s)
    plan = compile_graph(g.finish([total])).memory
    assert plan.peaks[plan.order] < plan.peaks["user"]
    assert plan.arena_bytes < 3.5 * 20_000


@pytest.mark.numpy_code
def test_poison_fills_what_is_freed_and_zones_guard_what_is_not() -> None:
    frozen = random_graph(3)
    arrays = arrays_for(frozen)
    plain = evaluate(compile_graph(frozen), arrays)
    with config.override(poison=True):
        program = compile_graph(frozen)
        spoiled = evaluate(program, arrays)
    assert ".fill(255)" in program.source
    assert all(a.tobytes() == b.tobytes() for a, b in zip(plain, spoiled, strict=True))


@pytest.mark.parametrize("side", [-1, 1])
def test_zones_guard_what_the_caller_gets(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    g = GraphBuilder()
    x = g.data((3,))
    with config.override(poison=True):
        program = compile_graph(g.finish([g(RELU, x)]))
    out = np.zeros(3, np.float32)
    program.run([np.ones(3, np.float32)], [out])
    assert out.tolist() == [1.0] * 3

    def trespass(code: object, views: object, bases: Bases) -> None:
        target = bases.arrays[1]
        at = target.ctypes.data + (target.nbytes if side > 0 else -1)
        ctypes.memset(at, 0, 1)

    monkeypatch.setattr(CompiledCode, "run", trespass)
    with pytest.raises(InternalError, match=r"array 0 of the caller, \(3,\) float32"):
        program.run([np.ones(3, np.float32)], [out])
    assert out.tolist() == [1.0] * 3


def test_the_pool_gives_the_smallest_fit_and_drops_what_is_too_small() -> None:
    pool = ArenaPool()
    small, large = pool.take(64), pool.take(640)
    pool.give(small)
    pool.give(large)
    assert pool.take(10) is small
    pool.give(small)
    assert pool.take(100) is large
    huge = pool.take(10_000)
    pool.give(huge)
    assert pool.free_bytes == huge.nbytes  # the small one was replaced
    assert huge.memory.ctypes.data % 64 == 0


def test_a_lasting_lease_leaves_the_large_arena_to_others() -> None:
    pool = ArenaPool()
    large = pool.take(10_000_000)
    pool.give(large)
    small = pool.take(1000, lasting=True)
    assert small.nbytes < 100_000
    assert pool.take(1000) is large


def test_programs_share_one_arena() -> None:
    POOL.clear()
    for n in (10, 1000, 100):
        g = GraphBuilder()
        x = g.data((n,))
        program = compile_graph(g.finish([g(CUMSUM, g(CUMSUM, g(RELU, x), axis=0), axis=0)]))
        program.run([np.ones(n, np.float32)], [np.empty(n, np.float32)])
        most = max(program.memory.arena_bytes, POOL.free_bytes)
    assert POOL.free_bytes == most
