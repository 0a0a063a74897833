"""Maps and reductions as machine code, against the reference and against their contract of bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygrad.dtypes import FLOATING, DType, bool_, float16, float32, float64, int32, int64
from lazygrad.runtime.kernel import Grid, Kernel
from lazygrad.runtime.native import canonical, cuts
from lazygrad.runtime.native.nest import Walk
from lazygrad.runtime.native.rows import row_units, share_scratch
from tests.runtime import test_random_kernels as random_kernels
from tests.runtime.building import Build
from tests.runtime.native.row_units import Array, check_units, run_units, same_bits
from tests.runtime.test_kernels import cross_entropy_kernel, layer_norm_kernel, softmax_kernel
from tests.runtime.test_random_kernels import Case

RNG = np.random.default_rng(0)
borders = st.sampled_from([1, 2, 3, 10, 15, 16, 17, 31, 32, 33, 47, 64, 65])


def normal(*shape: int, dtype: DType = float32) -> Array:
    return RNG.standard_normal(shape).astype(dtype.dtype)


def empty(*shape: int, dtype: DType = float32) -> Array:
    return np.full(shape, 0, dtype.dtype)


# whole kernels, shapes around the borders of vectors and blocks --------------------------------


@given(borders, borders, st.integers(1, 40))
def test_softmax(n: int, c: int, chunk: int) -> None:
    x = normal(n, c)
    found = check_units(softmax_kernel(n, c, chunk), [x, empty(n, c)])
    same_bits(found, run_units(softmax_kernel(n, c, n), [x, empty(n, c)])[0])


@given(borders, borders)
def test_layer_norm(n: int, c: int) -> None:
    arrays = [normal(n, c), normal(c), normal(c), empty(n, c)]
    check_units(layer_norm_kernel(n, c, 8), arrays, 2e-4)


@settings(max_examples=settings().max_examples // 3)
@given(borders, borders, st.integers(1, 40))
def test_cross_entropy_with_partial_sums(n: int, c: int, chunk: int) -> None:
    arrays = [normal(n, c), RNG.integers(0, c, n), empty(n, c), empty(1)]
    check_units(cross_entropy_kernel(n, c, chunk), arrays)


@pytest.mark.parametrize("label", [-1, 10])
def test_an_index_out_of_range_is_found(label: int) -> None:
    y = np.full(9, 3)
    y[5] = label
    arrays = [normal(9, 10), y, empty(9, 10), empty(1)]
    assert run_units(cross_entropy_kernel(9, 10, 4), arrays)[1] == 1


# the order of sums -----------------------------------------------------------------------------


def summed(x: Array, axes: tuple[int, ...]) -> Array:
    """The contract: neighbouring axes as one, dealt out over 16 lanes, then a tree."""
    kept = [a for a in range(x.ndim) if a not in axes]
    inner = [axes[-1]]
    while inner[0] - 1 in axes:
        inner.insert(0, inner[0] - 1)
    outer = [a for a in axes if a not in inner]
    shape = tuple(x.shape[a] for a in kept)
    x = x.transpose(*outer, *inner, *kept)
    n = int(np.prod([x.shape[len(outer) + i] for i in range(len(inner))]))
    lanes = np.zeros((16, *shape), x.dtype)
    for block in x.reshape(-1, n, *shape):
        for p, row in enumerate(block):
            lanes[p % 16] += row
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    total: Array = lanes[0]
    return total


def sum_kernel(
    shape: tuple[int, ...], axes: tuple[int, ...], order: tuple[int, ...], dtype: DType = float32
) -> Kernel:
    """A sum over an array that lies in memory in another order of its axes."""
    k = Build()
    x = k.param(tuple(shape[a] for a in order), dtype=dtype)
    kept = tuple(1 if a in axes else n for a, n in enumerate(shape))
    out = k.param(kept, "out", dtype)
    steps, dense = [0] * len(shape), x.at()[0].strides
    for place, a in enumerate(order):
        steps[a] = dense[place]
    to = tuple(0 if a in axes else s for a, s in enumerate(out.at()[0].strides))
    k.reduce((1, *shape), tuple(a + 1 for a in axes), "add", [x.at((0, *steps))], out.at((0, *to)),
             dtype=dtype)  # fmt: skip
    return k.kernel()


@given(
    st.sampled_from([(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]),
    st.permutations((0, 1, 2)),
    st.tuples(borders, borders, borders),
)
@settings(max_examples=settings().max_examples // 2)
def test_sums_have_one_order_in_every_layout(
    axes: tuple[int, ...], order: list[int], shape: tuple[int, int, int]
) -> None:
    shape = tuple(1 + n % 24 if i == 0 else n for i, n in enumerate(shape))  # type: ignore[assignment]
    x = normal(*shape)
    squeezed = x.reshape([n for n in shape if n != 1])
    places = {a: sum(m != 1 for m in shape[:a]) for a in range(3)}
    over = tuple(places[a] for a in axes if shape[a] != 1)
    expected = summed(squeezed, over) if over else squeezed + np.float32(0)
    kernel = sum_kernel(shape, axes, tuple(order))
    found, _ = run_units(
        kernel, [np.ascontiguousarray(x.transpose(order)), empty(*_kept(shape, axes))]
    )
    assert found[1].tobytes() == expected.tobytes()


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if a in axes else n for a, n in enumerate(shape))


@pytest.mark.parametrize("combine", ["add", "maximum", "argmax", "argmin"])
@pytest.mark.parametrize("shape", [(33, 5), (5, 33), (64, 64), (7, 3)])
def test_vectors_along_and_across_agree(
    monkeypatch: pytest.MonkeyPatch, combine: str, shape: tuple[int, int]
) -> None:
    k = Build()
    x = k.param(shape)
    out = k.param((shape[0],), "out", int64 if combine.startswith("arg") else float32)
    k.reduce((1, *shape), (2,), combine, [x.at((0, shape[1], 1))], out.at((0, 1, 0)))
    kernel = k.kernel()
    values = normal(*shape).round(1)
    values[2, 1:] = np.nan
    found = []
    for across in (False, True):

        def choose(stage: Any, axes: Any, across: bool = across) -> Any:
            return (Walk((), 0), True) if across else (Walk((0,), 1), False)

        monkeypatch.setattr(canonical, "choose_reduce", choose)
        monkeypatch.setattr(cuts, "choose_reduce", choose)
        found.append(run_units(kernel, [values, empty(shape[0], dtype=k.params[1].dtype)])[0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    if combine.startswith("arg"):
        np.testing.assert_array_equal(found[0][1], getattr(np, combine)(values, 1))


# random kernels --------------------------------------------------------------------------------

EXACT = {
    "UNARY": {FLOATING: ("neg", "abs", "sqrt", "floor", "round")},
    "BINARY": {FLOATING: ("add", "sub", "mul", "div", "maximum", "minimum", "copysign")},
}


@pytest.fixture(autouse=True, scope="module")
def _exact_words() -> Any:
    """Only words that round like NumPy's; the others have their own tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, words in EXACT.items():
            patch.setattr(random_kernels, name, getattr(random_kernels, name) | words)
        patch.setattr(
            random_kernels, "domains",
            st.lists(st.sampled_from([0, 1, 1, 2, 5, 15, 16, 17, 33]), min_size=1, max_size=3)
            .map(tuple),
        )  # fmt: skip
        yield


@pytest.mark.parametrize("strategy", ["map_kernels", "gather_kernels", "reduce_kernels", "chains"])
def test_random_kernels(strategy: str) -> None:
    @settings(max_examples=settings().max_examples // 4)
    @given(getattr(random_kernels, strategy)())
    def run(case: Case) -> None:
        with np.errstate(all="ignore"):
            check_units(*case, rtol=1e-3)

    run()


def test_code_does_not_depend_on_the_level_of_optimization() -> None:
    for kernel, arrays in (
        (softmax_kernel(33, 10), [normal(33, 10), empty(33, 10)]),
        (sum_kernel((17, 33), (0,), (0, 1)), [normal(17, 33), empty(1, 33)]),
        (sum_kernel((3, 5, 33), (0, 1), (1, 0, 2)), [normal(5, 3, 33), empty(1, 1, 33)]),
        (layer_norm_kernel(9, 33, 4), [normal(9, 33), normal(33), normal(33), empty(9, 33)]),
    ):
        same_bits(run_units(kernel, arrays, 0)[0], run_units(kernel, arrays, 3)[0])


# forms and cuts --------------------------------------------------------------------------------


def add_kernel(shape: tuple[int, ...], turned: bool = False, dtype: DType = float32) -> Kernel:
    k = Build()
    x, y, out = (
        k.param(shape, dtype=dtype),
        k.param(shape, dtype=dtype),
        k.param(shape, "out", dtype),
    )
    strides = (1, shape[0]) if turned else x.at()[0].strides
    loads = [x.at((0, *strides)), y.at((0, *y.at()[0].strides))]
    k.map((1, *shape), loads, [out.at((0, *out.at()[0].strides))], lambda m, a, b: m.add(a, b))
    return k.kernel()


def test_code_is_keyed_without_extents() -> None:
    def key(kernel: Kernel) -> Any:
        (unit,) = row_units(kernel)
        return unit.key

    assert key(add_kernel((5, 7))) == key(add_kernel((300, 1, 1000))) == key(add_kernel((35,)))
    assert key(add_kernel((5, 7))) != key(add_kernel((5, 7), dtype=float64))
    assert key(softmax_kernel(7, 10)) == key(softmax_kernel(64, 33, 10))


def test_code_is_keyed_without_the_places_of_its_buffers() -> None:
    k = Build()
    others = [k.param((5,)) for _ in range(3)]
    first, second = k.param((5, 7)), k.param((5, 7))
    out = k.param((5, 7), "out")
    loads, stores = [x.at((0, 7, 1)) for x in (second, first)], [out.at((0, 7, 1))]
    k.map((1, 5, 7), loads, stores, lambda m, a, b: m.add(a, b))
    (unit,) = row_units(k.kernel())
    (plain,) = row_units(add_kernel((5, 7)))
    assert unit.key == plain.key
    assert unit.buffers == (len(others) + 1, len(others), len(others) + 2)


def test_large_maps_and_sums_are_cut_for_the_threads() -> None:
    for kernel in (
        add_kernel((1 << 18,)),
        add_kernel((512, 512), turned=True),
        sum_kernel((512, 2048), (0,), (0, 1)),
        sum_kernel((2048, 512), (1,), (0, 1)),
        replace(layer_norm_kernel(2048, 96, 1), grid=Grid(2048, 2048)),
    ):
        (unit,) = row_units(kernel)
        assert unit.parallel
        assert unit.rows > unit.chunk
        arrays = [normal(p.size) if p.mode == "in" else empty(p.size) for p in kernel.params]
        found = check_units(kernel, arrays, 1e-3)
        serial = [replace(unit, parallel=False)]
        same_bits(found, run_units(kernel, arrays, units=serial)[0])


def test_small_kernels_are_one_piece() -> None:
    for kernel in (
        add_kernel((64, 64)),
        softmax_kernel(32, 10),
        sum_kernel((32, 64), (0,), (0, 1)),
    ):
        (unit,) = row_units(kernel)
        assert not unit.parallel
        assert unit.rows == 1


@given(borders, borders)
def test_turned_operands(m: int, n: int) -> None:
    check_units(add_kernel((m, n), turned=True), [normal(n, m), normal(m, n), empty(m, n)], 0)


@pytest.mark.parametrize("dtype", [float64, float16, int32, int64, bool_])
def test_turned_operands_of_every_size(dtype: DType) -> None:
    x, y = normal(37, 50).round(), normal(50, 37).round()
    arrays = [x.astype(dtype.dtype), y.astype(dtype.dtype), empty(50, 37, dtype=dtype)]
    if dtype is bool_:
        k = Build()
        a, out = k.param((37, 50), dtype=bool_), k.param((50, 37), "out", bool_)
        k.map((1, 50, 37), [a.at((0, 1, 50))], [out.at((0, 37, 1))])
        check_units(k.kernel(), [arrays[0], arrays[2]])
        return
    check_units(add_kernel((50, 37), turned=True, dtype=dtype), arrays, 0)


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_sums_of_nothing(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    axes = tuple(a for a in axes if a < len(shape))
    kernel = sum_kernel(shape, axes, tuple(range(len(shape))))
    out = np.full(_kept(shape, axes), 7, np.float32)
    assert (check_units(kernel, [empty(*shape), out])[1] == 0).all()


def test_a_negative_zero_alone_sums_to_zero() -> None:
    for axes in ((0,), (1,), (0, 1)):
        found, _ = run_units(sum_kernel((1, 1), axes, (0, 1)), [normal(1, 1) * -0.0, empty(1, 1)])
        assert not np.signbit(found[1]).any()


Words = Callable[..., Any]


def test_a_map_in_place() -> None:
    k = Build()
    x, y = k.param((33, 10), "inout"), k.param((10,))
    k.map((1, 33, 10), [x.at((0, 10, 1)), y.at((0, 0, 1))], [x.at((0, 10, 1))],
          lambda m, a, b: m.mul(a, b))  # fmt: skip
    check_units(k.kernel(), [normal(33, 10), normal(10)], 0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_stages_without_rows_share_an_axis_to_cut(order: tuple[int, int]) -> None:
    """A sum over a batch and what follows, for every column by itself."""
    n, c = 512, 1024
    k = Build()
    x = k.param((n, c) if order == (0, 1) else (c, n))
    bias = k.param((c,), "inout")
    total = k.scratch((c,))
    strides = (c, 1) if order == (0, 1) else (1, n)
    k.reduce((1, n, c), (1,), "add", [x.at((0, *strides))], total.at((0, 0, 1)))
    k.map((1, c), [total.at((0, 1)), bias.at((0, 1))], [bias.at((0, 1))],
          lambda m, s, b: m.sub(b, m.mul(s, m.const(0.1, s))))  # fmt: skip
    kernel = share_scratch(k.kernel())
    (unit,) = row_units(kernel)
    assert unit.parallel
    assert unit.rows > unit.chunk
    arrays = [normal(n * c), normal(c)]
    found = check_units(kernel, arrays, 1e-3)
    same_bits(found, run_units(kernel, arrays, units=[replace(unit, parallel=False)])[0])


def test_sums_over_everything_are_not_cut_but_what_follows_is() -> None:
    k = Build()
    x, out = k.param((512, 512)), k.param((512, 512), "out")
    total = k.scratch(())
    k.reduce((1, 512, 512), (1, 2), "add", [x.at((0, 512, 1))], total.at((0, 0, 0)))
    k.map((1, 512, 512), [x.at((0, 512, 1)), total.at((0, 0, 0))], [out.at((0, 512, 1))],
          lambda m, a, s: m.sub(a, s))  # fmt: skip
    kernel = share_scratch(k.kernel())
    whole, after = row_units(kernel)
    assert whole.rows == 1
    assert after.parallel
    check_units(kernel, [normal(512, 512), empty(512, 512)], 1e-3)


@pytest.mark.parametrize("dtype", [float32, float64, float16, bool_], ids=lambda d: d.name)
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 40])
def test_every_second_element_is_read_and_nothing_behind_the_last(n: int, dtype: DType) -> None:
    k = Build()
    x = k.param((3, 2 * n - 1), dtype=dtype, size=3 * (2 * n - 1))
    out = k.param((3, n), "out", dtype)
    k.map((1, 3, n), [x.at((0, 2 * n - 1, 2))], [out.at((0, n, 1))])
    values = normal(3, 2 * n - 1, dtype=dtype)
    found = check_units(k.kernel(), [values.ravel(), empty(3, n, dtype=dtype).ravel()])
    same_bits([found[1].reshape(3, n)], [values[:, ::2]])


@pytest.mark.parametrize("dtype", [float32, float16, bool_], ids=lambda d: d.name)
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 40])
def test_rows_are_read_backward_and_nothing_before_the_first(n: int, dtype: DType) -> None:
    k = Build()
    x = k.param((3, n), dtype=dtype)
    out = k.param((3, n), "out", dtype)
    k.map((1, 3, n), [x.at((0, n, -1), offset=n - 1)], [out.at((0, n, 1))])
    values = normal(3, n, dtype=dtype)
    found = check_units(k.kernel(), [values.ravel(), empty(3, n, dtype=dtype).ravel()])
    same_bits([found[1].reshape(3, n)], [values[:, ::-1]])


@pytest.mark.parametrize("dtype", [float32, float16, bool_, int64], ids=lambda d: d.name)
@pytest.mark.parametrize(("n", "few"), [(1, 2), (7, 2), (8, 2), (9, 2), (40, 2), (5, 4), (13, 4)])
def test_a_last_axis_of_few_elements_is_part_of_the_vectors(n: int, few: int, dtype: DType) -> None:
    """Dense, one for all of `few`, `few` over and over, and one for each row."""
    k = Build()
    shapes = [(6, n, few), (6, n), (6, few), (6,)]
    params = [k.param(shape, dtype=dtype) for shape in shapes]
    out = k.param((6, n, few), "out", dtype)
    loads = [
        params[0].at((0, n * few, few, 1)), params[1].at((0, n, 1, 0)),
        params[2].at((0, few, 0, 1)), params[3].at((0, 1, 0, 0)),
    ]  # fmt: skip

    def largest(m: Any, *x: Any) -> Any:
        return m.maximum(m.maximum(x[0], x[1]), m.maximum(x[2], x[3]))

    k.map((1, 6, n, few), loads, [out.at((0, n * few, few, 1))], largest)
    values = [normal(*shape, dtype=dtype) for shape in shapes]
    found = check_units(k.kernel(), [*(v.ravel() for v in values), empty(6 * n * few, dtype=dtype)])
    a, b, c, d = values
    expected = np.maximum(np.maximum(a, b[:, :, None]), np.maximum(c[:, None], d[:, None, None]))
    same_bits([found[4]], [expected.ravel()])
