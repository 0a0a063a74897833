"""Products as machine code: every chain of sums has the same bits, however it is cut."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lazygrad.dtypes import DType, as_dtype
from lazygrad.runtime.kernel import Kernel
from lazygrad.runtime.native.gemm import contract_units
from lazygrad.runtime.native.jit import compile_units
from lazygrad.runtime.native.unit import Unit
from tests.runtime.building import Build

Array = NDArray[Any]
_FUNCTION = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
    ctypes.c_int64, ctypes.c_void_p,
)  # fmt: skip
GUARD = 64  # bytes around every buffer that must stay as they are


def run_units(units: list[Unit], arrays: list[Array], pieces: int | None = None) -> None:
    """Run units on flat arrays, `pieces` rows of the grid at a time."""
    addresses = compile_units(units)
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


def run(kernel: Kernel, arrays: list[Array], pieces: int | None = None) -> list[Array]:
    """The buffers after a kernel ran natively; nothing outside of them may change."""
    held = [guarded(a) for a in arrays]
    run_units(contract_units(kernel), held, pieces)
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
    x: Array, y: Array, layouts: tuple[str, str] = ("C", "C"), result: DType | None = None,
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
    for layouts in [(a, b) for a in ("C", "T", "gaps", "steps") for b in ("C", "T", "steps")]:
        found = run(*product(x, y, layouts))[-1].reshape(m, n)
        np.testing.assert_array_equal(found, expected, err_msg=str(layouts))
