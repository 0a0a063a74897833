"""Run the units of row kernels alone, in memory with red zones."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from lazygrad.runtime.kernel import Kernel
from lazygrad.runtime.native.jit import compile_units
from lazygrad.runtime.native.rows import row_units, share_scratch
from lazygrad.runtime.native.unit import Unit
from lazygrad.runtime.reference import interpret

RED = 256  # bytes around every buffer
Array = np.ndarray[Any, Any]
_CALL = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
    ctypes.c_int64, ctypes.c_void_p,
)  # fmt: skip


def run_units(
    kernel: Kernel, arrays: Sequence[Array], optimize: int = 2, units: list[Unit] | None = None
) -> tuple[list[Array], int]:
    """The parameters after a run on copies of `arrays`, and what the checks found."""
    kernel = share_scratch(kernel)
    units = row_units(kernel) if units is None else units
    addresses = compile_units(units, optimize)
    sizes = [a.nbytes for a in arrays]
    sizes += [s.size * s.dtype.itemsize if s.shared else 0 for s in kernel.scratch]
    places, end = [], RED
    for size in sizes:
        places.append(end)
        end += -(-size // 64) * 64 + RED
    arena, outside = _memory(end), np.ones(end, bool)
    for at, size in zip(places, sizes, strict=True):
        outside[at : at + size] = False
    for array, at in zip(arrays, places, strict=False):
        arena[at : at + array.nbytes] = array.reshape(-1).view(np.uint8)
    slots = np.array([arena.ctypes.data], np.int64)
    status = 0
    for unit in units:
        pairs = [word for b in unit.buffers for word in (0, places[b])]
        words = np.array([*pairs, *unit.words, 0], np.int64)
        local = _memory(unit.local + 2 * RED)
        step = unit.chunk if unit.parallel else unit.rows
        pieces = [(lo, min(lo + step, unit.rows)) for lo in range(0, unit.rows, max(step, 1))]
        for chunk, (lo, hi) in reversed(list(enumerate(pieces))):
            status |= _CALL(addresses[unit.key])(
                slots.ctypes.data, words.ctypes.data, lo, hi, chunk, local.ctypes.data + RED
            )
        assert (local[:RED] == 0xFF).all(), "written before the local memory"
        assert (local[RED + unit.local :] == 0xFF).all(), "written behind the local memory"
    assert (arena[outside] == 0xFF).all(), "written outside of the buffers"
    found = [
        arena[at : at + a.nbytes].view(a.dtype).reshape(a.shape).copy()
        for a, at in zip(arrays, places, strict=False)
    ]
    for param, a, b in zip(kernel.params, arrays, found, strict=True):
        assert param.mode != "in" or a.tobytes() == b.tobytes(), "an input was written"
    return found, status


def _memory(size: int) -> Array:
    """Bytes that begin at a cache line."""
    raw = np.full(size + 64, 0xFF, np.uint8)
    return raw[-raw.ctypes.data % 64 :][:size]


def oracle(kernel: Kernel, arrays: Sequence[Array]) -> list[Array]:
    """The parameters after a run of the reference."""
    flat = [a.reshape(-1).copy() for a in arrays]
    interpret(kernel, flat)
    return [x.reshape(a.shape) for x, a in zip(flat, arrays, strict=True)]


def check_units(kernel: Kernel, arrays: Sequence[Array], rtol: float = 2e-5) -> list[Array]:
    """Run natively and on the reference; returns what the units gave."""
    found, status = run_units(kernel, arrays)
    assert status == 0
    for x, y in zip(found, oracle(kernel, arrays), strict=True):
        if x.dtype.kind in "iub":
            np.testing.assert_array_equal(x, y)
        else:
            close = rtol if x.itemsize > 2 else 0.02
            wide, other = x.astype(np.float64), y.astype(np.float64)
            np.testing.assert_allclose(wide, other, close, close)
    return found


def same_bits(found: Sequence[Array], expected: Sequence[Array]) -> None:
    """Equal byte for byte."""
    for x, y in zip(found, expected, strict=True):
        assert x.tobytes() == y.tobytes()
