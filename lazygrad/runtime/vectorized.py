"""The vectorized mode: one worker, every stage over the whole array in one pass."""

from __future__ import annotations

from collections.abc import Sequence

from lazygrad.runtime.executor import Code, Place
from lazygrad.runtime.kernel import Kernel
from lazygrad.runtime.numpy_plan import FlatWriter, Plan, pack, scratch_memory
from lazygrad.runtime.numpy_stages import emit_stage


class Vectorized:
    """A kernel as statements over all its rows."""

    mode = "vectorized"
    executor = "numpy"
    local = 0

    def __init__(self, kernel: Kernel, reason: str) -> None:
        self.kernel = kernel
        self.reason = reason
        memory = scratch_memory(kernel, kernel.grid.rows, shared=False)
        plan = Plan(kernel, kernel.grid.rows, False, memory)
        for stage in (*kernel.stages, *kernel.finish):
            emit_stage(plan, stage)
        self._statements = plan.statements
        self.workspace = pack(plan.statements)

    def emit(self, code: Code, places: Sequence[Place], workspace: Place) -> None:
        """Append the statements to the program's function."""
        FlatWriter(code, places, workspace).write(self._statements)
