"""Products as machine code: every chain of sums has the same bits, however it is cut."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lazygrad.dtypes import (
    DType,
    as_dtype,
    bfloat16,
    float16,
    float32,
    float64,
    int8,
    int64,
    uint8,
)  # fmt: skip
from lazygrad.runtime.kernel import Kernel
from lazygrad.runtime.native import blocking, gemm
from lazygrad.runtime.native.blocking import Blocking, Side
from lazygrad.runtime.native.gemm import contract_units
from lazygrad.runtime.native.jit import OPTIMIZE, compile_units
from lazygrad.runtime.native.tiles import Tile
from lazygrad.runtime.native.unit import Unit, Unsupported
from lazygrad.runtime.reference import interpret
from tests.runtime.building import Build, index

Array = NDArray[Any]
_FUNCTION = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
    ctypes.c_int64, ctypes.c_void_p,
)  # fmt: skip
GUARD = 64  # bytes around every buffer that must stay as they are


def run_units(
    units: list[Unit], arrays: list[Array], pieces: int | None = None, level: int = OPTIMIZE
) -> None:
    """Run units on flat arrays, `pieces` rows of the grid at a time."""
    addresses = compile_units(units, level)
    for unit in units:
        slots = np.array([0, *(a.ctypes.data for a in arrays)], np.int64)
        pairs = [w for k in unit.buffers for w in (1 + k, 0)]
        args = np.array([*pairs, *unit.words], np.int64)
        local = np.full(unit.local + 128 + 2 * GUARD, 0xA5, np.uint8)
        first = -(local.ctypes.data + GUARD) % 64 + GUARD
        step = pieces or unit.chunk
        for chunk, lo in enumerate(range(0, unit.rows, step)):
            status = _FUNCTION(addresses[unit.key])(
                slots.ctypes.data, args.ctypes.data, lo, min(lo + step, unit.rows), chunk,
                local.ctypes.data + first,
            )  # fmt: skip
            assert status == 0
        assert (local[:first] == 0xA5).all()
        assert (local[first + unit.local :] == 0xA5).all()


def guarded(array: Array) -> Array:
    """A copy between bytes that the code must not touch."""
    raw = np.full(array.nbytes + 2 * GUARD, 0x7F, np.uint8)
    copy = raw[GUARD : GUARD + array.nbytes].view(array.dtype)
    copy[...] = array.ravel()
    return copy


def run(
    kernel: Kernel, arrays: list[Array], pieces: int | None = None, level: int = OPTIMIZE
) -> list[Array]:
    """The buffers after a kernel ran natively; nothing outside of them may change."""
    held = [guarded(a) for a in arrays]
    run_units(contract_units(kernel), held, pieces, level)
    for a in held:
        raw = a.base
        assert raw is not None
        assert (raw[:GUARD] == 0x7F).all() and (raw[GUARD + a.nbytes :] == 0x7F).all()
    return held


def strided(matrix: Array, layout: str) -> tuple[Array, tuple[int, ...], int]:
    """A flat array that holds a matrix (or a stack) in a layout; strides and offset."""
    *batch, rows, columns = matrix.shape
    gap = {"gaps": 3, "steps": columns}.get(layout, 0)
    if layout == "T":
        flat = np.ascontiguousarray(matrix.swapaxes(-1, -2)).ravel()
        inner: tuple[int, ...] = (1, rows)
        step = rows * columns
    else:
        wide = np.zeros((*batch, rows, columns + gap), matrix.dtype)
        view = wide[..., ::2][..., :columns] if layout == "steps" else wide[..., :columns]
        view[...] = matrix
        flat = wide.ravel()
        inner = (columns + gap, 2 if layout == "steps" else 1)
        step = rows * (columns + gap)
    strides = [*inner]
    for n in reversed(batch):
        strides.insert(0, step)
        step *= n
    return flat, tuple(strides), 0


def product(
    x: Array, y: Array, layouts: Sequence[str] = ("C", "C"), result: DType | None = None,
    accumulator: DType | None = None,
) -> tuple[Kernel, list[Array]]:  # fmt: skip
    """The kernel of x @ y and its buffers."""
    build, arrays, loads = Build(1), [], []
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    for matrix, layout in zip((x, y), layouts, strict=True):
        flat, strides, offset = strided(matrix, layout)
        own = [s if n > 1 else 0 for n, s in zip(matrix.shape[:-2], strides, strict=False)]
        still = [0] * (len(batch) - len(own))
        loads.append(
            build.param((flat.size,), dtype=as_dtype(x.dtype)).at(
                (*still, *own, *strides[-2:]), offset
            )
        )
        arrays.append(flat)
    m, k, n = *x.shape[-2:], y.shape[-1]
    out = build.param((*batch, m, n), "out", result or as_dtype(x.dtype))
    arrays.append(np.zeros(out.shape, out.dtype.dtype).ravel())
    total = accumulator or as_dtype(x.dtype)
    epilogue = (lambda q, acc: q.cast(acc, out.dtype)) if out.dtype is not total else None
    build.contract(batch, (m, n, k), *loads, [out.at()], dtype=total, epilogue=epilogue)
    return build.kernel(), arrays


def chain(x: Array, y: Array) -> Array:
    """x @ y as chains of fused multiply-adds of 512 terms each, in float32.

    Products of float32 are exact in float64; their sum there may round once more than a fused
    operation does, which the extended format makes unlikely enough for a test with a fixed seed.
    """
    total: Array | None = None
    k = x.shape[-1]
    for start in range(0, max(k, 1), 512):
        acc = np.zeros((*x.shape[:-1], y.shape[-1]), np.float32)
        for j in range(start, min(start + 512, k)):
            exact = x[..., :, j, None].astype(np.longdouble) * y[..., None, j, :]
            acc = (exact + acc).astype(np.float32)
        total = acc if total is None else (total + acc).astype(np.float32)
    assert total is not None
    return total


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


SHAPES = [
    (1, 1, 1), (1, 16, 3), (1, 40, 70), (40, 1, 70), (3, 5, 0), (100, 16, 2), (8, 10, 33),
    (17, 49, 21), (9, 33, 600), (32, 64, 64), (64, 70, 19), (2, 3, 1100), (5, 130, 12),
    (130, 7, 12), (33, 31, 513),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_are_those_of_the_chain_in_every_layout(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    x, y = normal(m, k), normal(k, n, seed=1)
    expected = chain(x, y)
    for layouts in ("C C", "C T", "T C", "T T", "gaps steps", "steps gaps"):
        found = run(*product(x, y, layouts.split()))[-1].reshape(m, n)
        np.testing.assert_array_equal(found, expected, err_msg=layouts)


def variants(m: int, n: int) -> Iterator[Blocking]:
    """Ways to cut a product that the shape rule would not all choose."""
    lanes = gemm.host().lanes
    for rows, width, vectors, swapped in [
        (8, lanes, 2, False), (8, lanes, 2, True), (3, lanes, 1, True),
        (5, max(lanes // 2, 2), 1, False),
    ]:  # fmt: skip
        first, second = (n, m) if swapped else (m, n)
        for whole, how in ((True, "copy"), (False, "copy"), (False, "direct")):
            if swapped:
                how = "transpose"
            tile = Tile("float", width, vectors, rows, ahead=how == "direct", streams=whole)
            yield Blocking(swapped, tile, how, swapped, whole, first, second, 0.0)
            yield Blocking(swapped, tile, how, swapped, whole, rows * 2, tile.columns, 0.0)


def test_no_way_to_cut_a_product_changes_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    m, n, k = 21, 37, 530
    x, y = normal(m, k), normal(k, n, seed=1)
    expected = chain(x, y)
    kernel, arrays = product(x, y)
    for way in variants(m, n):
        monkeypatch.setattr(gemm, "cut", lambda *_, way=way: way)
        found = run(kernel, arrays)[-1].reshape(m, n)
        np.testing.assert_array_equal(found, expected, err_msg=str(way))


def test_an_operand_that_is_fetched_ahead_may_begin_anywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    m, k = 9, 33
    tile = Tile("float", gemm.host().lanes, 2, 8, ahead=True)
    for n, high, wide in [(3 * tile.columns, m, tile.columns), (5, m, tile.columns), (70, 8, 96)]:
        way = Blocking(False, tile, "direct", False, False, high, wide, 0.0)
        monkeypatch.setattr(gemm, "cut", lambda *_, way=way: way)
        x, y = normal(m, k), normal(k, n, seed=1)
        expected = chain(x, y)
        for offset in (0, 1, 5, 15):
            build = Build(1)
            a, b = build.param((m, k)), build.param((k * n + offset,))
            out = build.param((m, n), "out")
            build.contract((), (m, n, k), a.at(), b.at((n, 1), offset), [out.at()])
            moved = np.concatenate([np.zeros(offset, np.float32), y.ravel()])
            found = run(build.kernel(), [x.ravel(), moved, np.zeros(m * n, np.float32)])[-1]
            np.testing.assert_array_equal(found.reshape(m, n), expected)


@pytest.mark.parametrize(("lanes", "registers"), [(4, 32), (8, 16), (16, 32)])
def test_the_vectors_of_a_host_do_not_change_a_bit(
    lanes: int, registers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = replace(gemm.host(), lanes=lanes, registers=registers)
    monkeypatch.setattr(gemm, "host", lambda: here)
    for m, n, k in [(21, 37, 530), (9, 2, 40)]:
        x, y = normal(m, k), normal(k, n, seed=1)
        expected = chain(x, y)
        for layouts in (("C", "C"), ("C", "T")):
            found = run(*product(x, y, layouts))[-1].reshape(m, n)
            np.testing.assert_array_equal(found, expected, err_msg=str(layouts))


def test_pieces_of_the_grid_do_not_change_a_bit() -> None:
    x, y = normal(150, 300), normal(300, 170, seed=1)
    kernel, arrays = product(x, y, ("C", "T"))
    (unit,) = contract_units(kernel)
    assert unit.rows > 3
    whole = run(kernel, arrays, pieces=unit.rows)[-1]
    for pieces in (1, 2, 3):
        np.testing.assert_array_equal(run(kernel, arrays, pieces)[-1], whole)


@pytest.mark.parametrize("level", [0, 3])
def test_what_llvm_optimises_does_not_change_a_bit(level: int) -> None:
    x, y = normal(19, 530), normal(530, 41, seed=1)
    kernel, arrays = product(x, y, ("C", "T"))
    found = run(kernel, arrays, level=level)[-1]
    np.testing.assert_array_equal(found.reshape(19, 41), chain(x, y))


def test_a_row_has_the_bits_of_the_same_row_among_others() -> None:
    x, y = normal(64, 700), normal(700, 50, seed=1)
    whole = run(*product(x, y))[-1].reshape(64, 50)
    for m in (1, 2, 9, 33):
        np.testing.assert_array_equal(run(*product(x[:m], y))[-1].reshape(m, 50), whole[:m])
    turned = run(*product(y.T.copy(), x.T.copy()))[-1].reshape(50, 64)
    np.testing.assert_array_equal(turned.T, whole)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((7,), (7,)), ((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 3), ()), ((), (5,)), ((1, 4), (3, 1)),
        ((2, 1, 3), (4, 1)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("layouts", [("C", "C"), ("gaps", "T")])
@pytest.mark.parametrize("mnk", [(5, 7, 9), (1, 18, 4), (20, 1, 6)], ids=str)
def test_batches_broadcast(
    left: tuple[int, ...], right: tuple[int, ...], layouts: tuple[str, str],
    mnk: tuple[int, int, int],
) -> None:  # fmt: skip
    m, n, k = mnk
    x, y = normal(*left, m, k), normal(*right, k, n, seed=1)
    expected = chain(x, y)
    found = run(*product(x, y, layouts))[-1].reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [float64, int64, int8, uint8, float16, bfloat16], ids=str)
@pytest.mark.parametrize("layouts", [("C", "C"), ("T", "T"), ("steps", "steps")])
def test_every_dtype(dtype: DType, layouts: tuple[str, str]) -> None:
    rng = np.random.default_rng(0)
    m, n, k = 19, 37, 45
    half = dtype in (float16, bfloat16)
    if dtype.is_floating_point:
        x, y = (rng.standard_normal(s).astype(dtype.dtype) for s in ((m, k), (k, n)))
    else:
        x, y = (rng.integers(0, 100, s).astype(dtype.dtype) for s in ((m, k), (k, n)))
    kernel, arrays = product(x, y, layouts, accumulator=float32 if half else None)
    found = run(kernel, arrays)[-1].reshape(m, n)
    if half:
        expected = chain(x.astype(np.float32), y.astype(np.float32)).astype(dtype.dtype)
        np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))
    elif dtype is float64:
        np.testing.assert_allclose(found, x @ y, rtol=1e-13)
    else:
        np.testing.assert_array_equal(found, x @ y)


def compare(kernel: Kernel, arrays: list[Array]) -> None:
    """Run natively and by the reference; results are close, what is only read is untouched."""
    expected = [a.copy() for a in arrays]
    interpret(kernel, expected)
    for param, found, wanted in zip(kernel.params, run(kernel, arrays), expected, strict=True):
        if param.mode == "in":
            np.testing.assert_array_equal(found, wanted)
        else:
            np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("mnk", [(9, 40, 20), (40, 9, 700), (1, 33, 5), (33, 1, 5), (2, 3, 0)])
@pytest.mark.parametrize("layouts", [("C", "T"), ("T", "C")])
@pytest.mark.parametrize("batch", [(), (3,)], ids=str)
def test_epilogue_reads_and_stores_more_than_the_sums(
    mnk: tuple[int, int, int], layouts: tuple[str, str], batch: tuple[int, ...]
) -> None:
    m, n, k = mnk
    build, arrays, loads = Build(1), [], []
    for matrix, layout in zip((normal(*batch, m, k), normal(*batch, k, n)), layouts, strict=True):
        flat, strides, offset = strided(matrix, layout)
        loads.append(build.param((flat.size,)).at(strides, offset))
        arrays.append(flat)
    rank = len(batch)
    bias, weight, rate = build.param((n,)), build.param((*batch, m, n), "inout"), build.param(())
    turned = build.param((*batch, n, m))
    out = build.param((*batch, m, n), "out")
    for b in (bias, weight, rate, turned, out):
        arrays.append(normal(*b.shape, seed=b.number).ravel())

    def words(q: Any, acc: Any, b: Any, w: Any, r: Any, t: Any) -> Any:
        column = q.cast(index(q, rank + 1, int64), float32)
        step = q.mul(r, q.add(q.add(acc, b), q.mul(t, column)))
        return q.sub(w, step), q.maximum(acc, q.const(0.0, acc))

    axes = tuple(range(rank))
    build.contract(
        batch, (m, n, k), *loads, [weight.at(), out.at()],
        loads=[
            bias.over(*(None for _ in axes), None, 0), weight.at(), rate.at((0,) * (rank + 2)),
            turned.over(*axes, rank + 1, rank),
        ],
        epilogue=words,
    )  # fmt: skip
    compare(build.kernel(), arrays)


@pytest.mark.parametrize("layouts", [("C", "C"), ("T", "T"), ("steps", "steps")])
@pytest.mark.parametrize("mnk", [(9, 40, 20), (70, 70, 600), (1, 5, 3)], ids=str)
@pytest.mark.parametrize("batch", [(), (3,)], ids=str)
def test_prologues(
    mnk: tuple[int, int, int], layouts: tuple[str, str], batch: tuple[int, ...]
) -> None:
    m, n, k = mnk
    build, arrays, loads = Build(1), [], []
    for matrix, layout in zip((normal(*batch, m, k), normal(*batch, k, n)), layouts, strict=True):
        flat, strides, offset = strided(matrix, layout)
        loads.append(build.param((flat.size,)).at(strides, offset))
        arrays.append(flat)
    out = build.param((*batch, m, n), "out")
    arrays.append(np.zeros(out.shape, np.float32).ravel())
    build.contract(
        batch, (m, n, k), *loads, [out.at()],
        prologue=(
            lambda q, x: q.add(x, q.cast(index(q, 0, int64), float32)),
            lambda q, y: q.mul(y, q.cast(index(q, len(batch), int64), float32)),
        ),
    )  # fmt: skip
    expected = [a.copy() for a in arrays]
    interpret(build.kernel(), expected)
    found = run(build.kernel(), arrays)[-1]
    np.testing.assert_allclose(found, expected[-1], rtol=1e-3, atol=1e-4 * np.abs(found).max())


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (((0, 1), 0), ((19, 1), 0)), (((25, 0), 0), ((19, 1), 0)), (((-25, 1), 500), ((1, 25), 0)),
        (((25, -1), 24), ((-19, 1), 456)), (((25, 1), 0), ((0, 0), 3)),
    ],
    ids=["one row", "one column", "rows backwards", "both backwards", "one element"],
)  # fmt: skip
def test_operands_that_stand_still_or_run_backwards(
    a: tuple[tuple[int, int], int], b: tuple[tuple[int, int], int]
) -> None:
    m, n, k = 21, 19, 25
    flat = [normal(600, seed=i) for i in range(2)]
    x, y = (
        np.lib.stride_tricks.as_strided(v[offset:], shape, [4 * s for s in strides])
        for v, (strides, offset), shape in zip(flat, (a, b), ((m, k), (k, n)), strict=True)
    )
    build = Build(1)
    loads = [build.param((600,)).at(strides, offset) for strides, offset in (a, b)]
    out = build.param((m, n), "out")
    build.contract((), (m, n, k), *loads, [out.at()])
    found = run(build.kernel(), [*flat, np.zeros(m * n, np.float32)])[-1]
    np.testing.assert_array_equal(found.reshape(m, n), chain(x, y))


def test_results_in_any_layout() -> None:
    x, y = normal(20, 70), normal(70, 35, seed=1)
    expected = chain(x, y)
    for strides, size in (((1, 20), 700), ((72, 2), 20 * 72), ((35, 1), 700)):
        build = Build(1)
        a, b = build.param((20, 70)), build.param((70, 35))
        out = build.param((size,), "out")
        build.contract((), (20, 35, 70), a.at(), b.at(), [out.at(strides)])
        flat = run(build.kernel(), [x.ravel(), y.ravel(), np.zeros(size, np.float32)])[-1]
        view = np.lib.stride_tricks.as_strided(flat, (20, 35), [4 * s for s in strides])
        np.testing.assert_array_equal(view, expected)


def test_shapes_choose_the_roles() -> None:
    kind = blocking.Kind("float", 16, 32)
    weight = Side(4096, 1)  # (out, in), the columns of the product in rows
    skinny = blocking.cut(1, 8, 4096, 4096, Side(4096, 1), weight, 1, kind)
    assert skinny.swapped and skinny.tile.lanes == 8
    gradient = blocking.cut(1, 4096, 4096, 8, Side(1, 4096), Side(1, 4096), 1, kind)
    assert not gradient.swapped and gradient.how == "direct"
    small = blocking.cut(1, 32, 64, 64, Side(64, 1), Side(64, 1), 1, kind)
    assert (small.rows, small.columns) in {(32, 64), (64, 32)}
    large = blocking.cut(1, 1024, 1024, 1024, Side(1024, 1), Side(1, 1024), 1, kind)
    assert large.rows * large.columns * 8 <= 1024 * 1024


def test_what_only_the_reference_computes_is_refused() -> None:
    kernel, _ = product(normal(3, 4), normal(4, 5))
    with pytest.raises(Unsupported, match="beside other stages"):
        contract_units(replace(kernel, stages=kernel.stages * 2))


def test_nothing_to_compute_is_no_unit() -> None:
    assert contract_units(product(normal(0, 4), normal(4, 5))[0]) == []
