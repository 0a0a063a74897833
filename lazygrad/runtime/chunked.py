"""The chunk-parallel mode: rows in cache-sized chunks through the whole chain of stages.

A kernel becomes a function that runs rows lo..hi with the scratch of one worker; the program's
function hands its chunks to the worker pool (or runs them one after the other where the kernel
is too small to gain), then the `finish` stages run on the caller. Chunk borders come from the
kernel's grid, never from the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence

from lazygrad.runtime.executor import Code, Place
from lazygrad.runtime.kernel import Kernel
from lazygrad.runtime.numpy_plan import (
    ChunkWriter,
    FlatWriter,
    Plan,
    Statement,
    pack,
    scratch_memory,
)  # fmt: skip
from lazygrad.runtime.numpy_stages import emit_stage
from lazygrad.runtime.workers import run_chunks


class Chunked:
    """A kernel as a function of a chunk; `workers` bounds how many run at once."""

    mode = "chunked"
    executor = "numpy"
    local = 0

    def __init__(self, kernel: Kernel, reason: str, workers: int) -> None:
        self.kernel = kernel
        self.reason = reason
        self._borders = tuple(kernel.grid.borders())
        self._workers = max(1, min(workers, len(self._borders)))
        rows = min(kernel.grid.chunk, kernel.grid.rows)
        memory = scratch_memory(kernel, rows, shared=True)
        chunk = Plan(kernel, rows, True, memory)
        for stage in kernel.stages:
            emit_stage(chunk, stage)
        finish = Plan(kernel, kernel.grid.rows, False, memory)
        for stage in kernel.finish:
            emit_stage(finish, stage)
        self._chunk: list[Statement] = chunk.statements
        self._finish: list[Statement] = finish.statements
        self._shared = pack(self._chunk + self._finish, shared=True)
        self._own = pack(self._chunk)
        self.workspace = self._shared + max(self._own * self._workers, pack(self._finish))

    def emit(self, code: Code, places: Sequence[Place], workspace: Place) -> None:
        """Append the call of the chunk function, and the statements of `finish`."""
        locals_ = [
            Place(workspace.slot, workspace.offset + self._shared + i * self._own)
            for i in range(self._workers)
        ]
        writer = ChunkWriter(code, self.kernel)
        name = writer.define(self._chunk)
        flats = [FlatWriter(code, places, local, workspace) for local in locals_]
        whole = writer.bind(flats[0], own=False)
        own = "".join(writer.bind(flat, own=True) + ", " for flat in flats)
        run = code.constant(run_chunks, "run_chunks")
        borders = code.constant(self._borders, "borders", ("borders", self._borders))
        code.line(f"{run}({name}, {borders}, {whole}, ({own}))")
        flats[0].write(self._finish)
