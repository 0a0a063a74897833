"""Parallel mode and executor of a kernel: two independent choices, made from its shapes.

*vectorized*: one worker, the whole array in one pass; *chunked*: rows in cache-sized chunks
through the whole chain of stages, over the worker pool where that pays. The choice is stored
with its reason. `config.parallel` and `config.executor` force it. A reduction over rows leaves
one partial result per chunk, counted by shape: such a kernel runs chunk by chunk in both modes,
so that its rounding is the same.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Iterable
from dataclasses import replace

from lazygrad.config import config
from lazygrad.errors import ConfigError
from lazygrad.ops.opdef import Kind
from lazygrad.runtime.chunked import Chunked
from lazygrad.runtime.executor import Lowered
from lazygrad.runtime.kernel import Contract, Extern, Grid, Kernel, Stage, depends_on_chunks
from lazygrad.runtime.kernel_verify import verify_kernel
from lazygrad.runtime.native.lowered import Native, Unsupported, compile_units
from lazygrad.runtime.reference import Reference
from lazygrad.runtime.validate import Validated
from lazygrad.runtime.vectorized import Vectorized
from lazygrad.runtime.workers import cores, num_workers

CHUNK_BYTES = 1 << 19  # of all that one chunk touches: half of a second-level cache
POOL_SECONDS = 200e-6  # a kernel below it does not pay for waking threads
_BYTES_PER_SECOND = 2e10
_FLOPS_PER_SECOND = 4e9  # of elementwise work in NumPy on one core
_FORCED_CHUNKS = 4  # pieces of a small kernel under config.parallel = "chunked"


def chunk_rows(rows: int, row_bytes: int) -> int:
    """How many rows of a streamed kernel make a chunk that stays in the cache.

    >>> chunk_rows(100_000, 4096), chunk_rows(10, 4096), chunk_rows(10, 10**9)
    (128, 10, 1)
    """
    return max(1, min(rows, CHUNK_BYTES // max(row_bytes, 1)))


def lower(kernel: Kernel) -> Lowered:
    """Make a kernel ready to run, in the mode and on the executor that its shapes call for."""
    if config.verify:
        verify_kernel(kernel)
    if config.executor == "reference":
        return Reference(kernel, "forced by config.executor")
    lowered = _lower_native(kernel) if uses_native() else _lower_numpy(kernel)
    if config.validate and not _has_effects(kernel):
        return Validated(lowered)
    return lowered


def seconds(kernel: Kernel) -> float:
    """A guess of the time on one core, good to a factor of 3."""
    return max(kernel.nbytes / _BYTES_PER_SECOND, kernel.flops / _FLOPS_PER_SECOND)


@functools.cache
def has_llvm() -> bool:
    """Whether LLVM can be imported."""
    try:
        return importlib.util.find_spec("llvmlite") is not None
    except (ImportError, ValueError):
        return False


@functools.cache
def _say_so() -> None:
    """Once: kernels do not become machine code."""
    warnings.warn(
        "llvmlite cannot be imported, so kernels run on NumPy: `pip install llvmlite` makes them"
        " machine code, LAZYGRAD_EXECUTOR=numpy asks for NumPy without this notice",
        RuntimeWarning,
        stacklevel=2,
    )


def uses_native() -> bool:
    """Whether kernels become machine code under the current settings.

    Raises `ConfigError` where `config.executor` asks for it and LLVM is not there.
    """
    if config.executor == "native" and not has_llvm():
        raise ConfigError('executor="native" needs llvmlite: pip install llvmlite')
    if config.executor == "auto" and not has_llvm():
        _say_so()
    return config.executor in ("auto", "native") and has_llvm()


def threads() -> int:
    """How many threads a program may run on."""
    return min(num_workers(), cores())


def prepare(lowered: Iterable[Lowered]) -> None:
    """Compile the machine code of several kernels at once."""
    units = [unit for low in map(_inner, lowered) if isinstance(low, Native) for unit in low.units]
    if units:
        compile_units(units)


def _inner(lowered: Lowered) -> Lowered:
    return lowered.lowered if isinstance(lowered, Validated) else lowered


def _lower_native(kernel: Kernel) -> Lowered:
    try:
        return Native(_recut(kernel) if config.parallel == "chunked" else kernel)
    except Unsupported as why:
        return _lower_numpy(kernel, f"{why}; ")


def _lower_numpy(kernel: Kernel, why: str = "") -> Lowered:
    chunks = len(kernel.grid.borders())
    pieces = depends_on_chunks(kernel)
    if config.parallel == "vectorized":
        if pieces:
            return Chunked(kernel, f"{why}one worker, {chunks} partial results by shape", 1)
        return Vectorized(kernel, f"{why}forced by config.parallel")
    if config.parallel == "chunked":
        kernel = _recut(kernel)
        if len(kernel.grid.borders()) > 1:
            return Chunked(kernel, f"{why}forced by config.parallel", cores())
        return Vectorized(kernel, f"{why}one row: nothing to cut")
    if chunks <= 1:
        return Vectorized(kernel, f"{why}{_size(kernel.nbytes)} in one piece")
    if seconds(kernel) < POOL_SECONDS:
        return Chunked(kernel, f"{why}{chunks} chunks for the cache, too short for threads", 1)
    return Chunked(
        kernel, f"{why}{chunks} chunks, {_size(kernel.nbytes)} over the workers", cores()
    )


def _recut(kernel: Kernel) -> Kernel:
    """A kernel in one piece cut into a few, where no result can depend on it."""
    rows = kernel.grid.rows
    alone = any(isinstance(s, Extern | Contract) and not _by_rows(s) for s in kernel.stages)
    if rows < 2 or len(kernel.grid.borders()) > 1 or alone:
        return kernel
    cut = replace(kernel, grid=Grid(rows, -(-rows // min(rows, _FORCED_CHUNKS))))
    return kernel if depends_on_chunks(cut) else cut


def _by_rows(stage: Stage) -> bool:
    return isinstance(stage, Contract) and stage.grid == "batch"


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:.3g} MB" if nbytes >= 1e5 else f"{nbytes / 1e3:.3g} kB"


def _has_effects(kernel: Kernel) -> bool:
    return any(isinstance(s, Extern) and s.op.kind is Kind.EFFECT for s in kernel.stages)
