"""What one word costs: the statements that are written for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lazygrad.dtypes import FLOATS, bfloat16, bool_, float16, float32, float64
from lazygrad.ops.scalar_math import WORDS
from tests.runtime.building import Build
from tests.runtime.running import run_all, source

pytestmark = pytest.mark.numpy_code


def calls(kernel: Any) -> list[str]:
    return [line.split("(")[0].split(" ")[0] for line in source(kernel)]


def test_relu_runs_in_the_buffer_of_its_output() -> None:
    k = Build(32)
    x, b, out = k.param((32, 64)), k.param((64,)), k.param((32, 64), "out")
    loads = [x.at(), b.over(None, 0)]
    k.map((32, 64), loads, [out.at()], lambda m, x, b: m.sqrt(m.exp(m.add(x, b))))
    assert source(k.kernel()) == ["add(a0, a1, a2)", "exp(a2, a2)", "sqrt(a2, a2)"]


def test_backward_of_relu_blends_in_place_by_bits() -> None:
    k = Build(4)
    y, g = k.param((4, 8)), k.param((4, 8), "inout")
    words = lambda m, y, g: m.where(m.le(y, 0.0), m.const(0.0, g), g)  # noqa: E731
    k.map((4, 8), [y.at(), g.at()], [g.at()], words)
    assert source(k.kernel()) == [
        "less_equal(a0, k, a1)", "a2[...] = a1", "subtract(a2, k_3, a2)",
        "bitwise_and(a3, a2, a3)",
    ]  # fmt: skip
    run_all(k.kernel(), [np.arange(-16, 16, dtype="f4"), np.full(32, np.nan, "f4")])


def test_maximum_with_a_number_meets_a_dense_operand_where_that_is_faster() -> None:
    for n, expected in (
        (8, ["maximum(a0, k, out=a0)"]),
        (1024, ["maximum(a0, filled, out=a0)"]),
        (1 << 20, ["a0[...] = k", "maximum(a1, a0, out=a1)"]),
    ):
        k = Build(n)
        x = k.param((n,), "inout")
        k.map((n,), [x.at()], [x.at()], lambda m, x: m.maximum(x, 0.0))
        assert source(k.kernel()) == expected


def test_a_chain_over_cells_is_computed_once_and_narrow() -> None:
    k = Build(100)
    x, lr = k.param((100,), "inout"), k.param((), dtype=float64)
    words = lambda m, x, lr: m.mul(x, m.cast(m.sub(m.const(1.0, lr), lr), float32))  # noqa: E731
    k.map((100,), [x.at(), lr.over(None)], [x.at()], words)
    assert source(k.kernel()) == [
        "a0[()] = k[()] - a1[()]", "a2[()] = a0", "multiply(a3, a2, a3)",
    ]  # fmt: skip


def test_a_value_that_is_still_read_is_not_overwritten() -> None:
    k = Build(6)
    a, b = k.param((6,), "inout"), k.param((6,), "inout")
    k.map((6,), [a.at(), b.at()], [b.at(), a.at()], lambda m, x, y: (x, y))
    x, y = np.arange(6, dtype="f4"), np.arange(6, 12, dtype="f4")
    found = run_all(k.kernel(), [x, y])
    np.testing.assert_array_equal(found, [y, x])


def test_unused_instructions_are_not_written() -> None:
    k = Build(6)
    x, out = k.param((6,)), k.param((6,), "out")
    k.map((6,), [x.at()], [out.at()], lambda m, x: (m.exp(x), m.neg(x))[1])
    assert calls(k.kernel()) == ["negative"]


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)
@pytest.mark.parametrize("word", sorted(WORDS))
def test_every_word_on_every_layout(word: str, dtype: Any) -> None:
    """Dense, backwards and in steps: the same bits as the oracle's dense arrays."""
    if word.startswith(("bit_", "sh")) or (word == "fma" and dtype is bfloat16):
        return
    rng = np.random.default_rng(0)
    for step in (1, -1, 2, 4):
        k = Build(5, 2)
        loads, arrays = [], []
        for i in range(WORDS[word].arity):
            kind = bool_ if word == "where" and i == 0 else dtype
            x = k.param((240,), dtype=kind)
            loads.append(x.at((12 * step, step), 59 if step < 0 else 0))
            values = rng.standard_normal(240) * 3
            arrays.append((values > 0) if kind is bool_ else values.astype(dtype.dtype))
        first = WORDS[word].result.value == "bool"
        out = k.param((120,), "out", bool_ if first else dtype)
        arrays.append(np.zeros(120, bool if first else dtype.dtype))
        k.map((5, 12), loads, [out.at((24, 2))], lambda m, *x: getattr(m, word)(*x))
        run_all(k.kernel(), arrays)


def test_power_with_an_exponent_that_stands_still_takes_no_short_cut() -> None:
    rng = np.random.default_rng(1)
    base = rng.uniform(0.1, 9, (50, 20)).astype(np.float32)
    results = []
    for dense in (False, True):
        k = Build(50, 7)
        x, y = k.param((50, 20)), k.param((50, 20) if dense else (50,))
        out = k.param((50, 20), "out")
        load = y.at() if dense else y.over(0, None)
        k.map((50, 20), [x.at(), load], [out.at()], lambda m, x, y: m.pow(x, y))
        exponent = np.tile([2.0, 0.5, 3.0, -1.0, 1.5], 10).astype(np.float32)
        given = np.repeat(exponent, 20) if dense else exponent
        results.append(run_all(k.kernel(), [base, given, base])[2])
    np.testing.assert_array_equal(*results)


def test_half_sums_are_combined_in_float32() -> None:
    for dtype in (float16, bfloat16):
        k = Build(3)
        x, out = k.param((3, 4000), dtype=dtype), k.param((3,), "out", dtype)
        k.reduce((3, 4000), (1,), "add", [x.at()], out.over(0, None))
        x = np.full((3, 4000), 0.1).astype(dtype.dtype)
        found = run_all(k.kernel(), [x, x[:, 0]])[1]
        np.testing.assert_array_equal(found, x.astype("f4").sum(1).astype(dtype.dtype))
