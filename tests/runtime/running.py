"""Run kernels on every executor and mode, in memory with red zones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lazygrad.config import config
from lazygrad.runtime.alignment import aligned
from lazygrad.runtime.chunked import Chunked
from lazygrad.runtime.dispatch import lower, threads
from lazygrad.runtime.executor import Bases, Code, Lowered, Place, bytes_of, make_view
from lazygrad.runtime.kernel import Kernel
from lazygrad.runtime.kernel_verify import verify_kernel

RED = 256  # bytes around every buffer
Arrays = Sequence[np.ndarray[Any, Any]]


def execute(lowered: Lowered, arrays: Arrays) -> list[np.ndarray[Any, Any]]:
    """Run on copies of the arrays (one per parameter); returns them, red zones checked."""
    places, offset = [], RED
    for array in arrays:
        places.append(Place(0, offset))
        offset += -(-array.nbytes // 64) * 64 + RED
    workspace = Place(0, offset)
    private = lowered.local * threads()
    end = aligned(lowered.workspace) + RED + private + RED
    arena = np.full(offset + end + 64, 0xFF, np.uint8)
    arena = arena[-arena.ctypes.data % 64 :][: offset + end]
    expected = arena.copy()
    views = []
    for array, place in zip(arrays, places, strict=True):
        view = arena[place.offset : place.offset + array.nbytes].view(array.dtype)
        view[:] = array.ravel()
        views.append(view)
        expected[place.offset : place.offset + array.nbytes] = 0
    local = Place(0, offset + aligned(lowered.workspace) + RED)
    code = Code(0, local, threads())
    code.begin(0)
    lowered.emit(code, places, workspace)
    flat = code.compile("test")
    frame = [make_view(bytes_of(arena), spec) for spec in flat.specs]
    bases = Bases(arena.ctypes.data, [])
    flat.run(frame, bases)
    results = [v.copy().reshape(a.shape) for v, a in zip(views, arrays, strict=True)]
    flat_again = [v.copy() for v in views]
    for param, view, array in zip(lowered.kernel.params, views, arrays, strict=True):
        if param.mode == "in":
            assert view.tobytes() == array.tobytes(), "an input was written"
        view[:] = array.ravel()
    flat.run(frame, bases)  # working memory is garbage by now
    for first, view in zip(flat_again, views, strict=True):
        assert first.tobytes() == view.tobytes(), "a second run differs"
        view.view(np.uint8)[:] = 0
    arena[workspace.offset : workspace.offset + lowered.workspace] = 0xFF
    arena[local.offset : local.offset + private] = 0xFF
    assert (arena == expected).all(), "written outside of the buffers"
    return results


def run_all(kernel: Kernel, arrays: Arrays, exact: bool = True) -> list[np.ndarray[Any, Any]]:
    """Run everywhere; all of NumPy's executors agree bit for bit, with the oracle if `exact`."""
    verify_kernel(kernel)
    found = execute(lower_as(kernel, "vectorized"), arrays)
    for workers in (1, 2, 7, 64):
        with config.override(num_workers=workers):
            same(execute(Chunked(kernel, "test", 3), arrays), found)
            same(execute(lower_as(kernel, "chunked"), arrays), found)
    with config.override(executor="reference"):
        oracle = execute(lower(kernel), arrays)
    if exact:
        same(found, oracle)
    else:
        for x, y in zip(found, oracle, strict=True):
            np.testing.assert_allclose(x, y, 2e-5, 1e-6)
    return found


def lower_as(kernel: Kernel, parallel: str) -> Lowered:
    """Lowered in a forced mode."""
    with config.override(parallel=parallel):
        return lower(kernel)


def source(kernel: Kernel, parallel: str = "vectorized") -> list[str]:
    """The statements of a kernel."""
    code = Code()
    places = [Place(i + 1) for i in range(len(kernel.params))]
    lower_as(kernel, parallel).emit(code, places, Place(0))
    lines = code.compile("test").source.splitlines()
    return [line.strip() for line in lines if " = v" not in line and "def " not in line]


def same(found: Arrays, expected: Arrays) -> None:
    """Equal bit for bit, except that one NaN is as good as another."""
    for i, (x, y) in enumerate(zip(found, expected, strict=True)):
        assert x.dtype == y.dtype
        equal = x.view(f"u{x.itemsize}") == y.view(f"u{y.itemsize}")
        if x.dtype.kind not in "biu":
            wide, other = x.astype(np.float64), y.astype(np.float64)
            equal |= np.isnan(wide) & np.isnan(other)
        assert equal.all(), f"parameter {i}: {x} instead of {y}"
