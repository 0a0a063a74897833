"""`config.validate`: every kernel runs on the oracle too, and the results are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygrad.errors import InternalError
from lazygrad.runtime.executor import Code, Lowered, Place
from lazygrad.runtime.kernel import Contract, Kernel
from lazygrad.runtime.reference import flat_params, interpret

Arrays = Sequence[NDArray[Any]]


class Validated:
    """A lowered kernel between a snapshot and a comparison."""

    def __init__(self, lowered: Lowered) -> None:
        self.lowered = lowered
        self.kernel, self.mode = lowered.kernel, lowered.mode
        self.executor, self.reason = lowered.executor, lowered.reason
        self.workspace, self.local = lowered.workspace, lowered.local

    def emit(self, code: Code, places: Sequence[Place], workspace: Place) -> None:
        """Append snapshot, kernel, comparison."""
        params = f"({''.join(n + ', ' for n in flat_params(code, self.kernel, places))})"
        exact = self.executor == "numpy" and not any(
            isinstance(s, Contract) for s in self.kernel.stages
        )
        check = code.constant(Comparison(self.kernel, exact), "comparison")
        code.line(f"{check}.snapshot({params})")
        self.lowered.emit(code, places, workspace)
        code.line(f"{check}.compare({params})")


class Comparison:
    """The parameters as they were before a kernel ran; `exact`: results have the same bits."""

    def __init__(self, kernel: Kernel, exact: bool) -> None:
        self.kernel, self.exact = kernel, exact
        self.before: list[NDArray[Any]] = []

    def snapshot(self, params: Arrays) -> None:
        """Remember what the kernel is given."""
        self.before = [p.copy() for p in params]

    def compare(self, params: Arrays) -> None:
        """Run the oracle on what was given; raise where the results differ."""
        interpret(self.kernel, self.before)
        for i, (found, expected) in enumerate(zip(params, self.before, strict=True)):
            if not _same(found, expected, self.exact):
                raise InternalError(
                    f"kernel {self.kernel.name}: parameter {i} differs from the reference: "
                    f"{found} instead of {expected}"
                )
        self.before = []


def _same(found: NDArray[Any], expected: NDArray[Any], exact: bool) -> bool:
    wide, other = found.astype(np.float64), expected.astype(np.float64)
    if exact or found.dtype.kind in "biu":
        return np.array_equal(wide, other, equal_nan=True)
    tolerance = 1e-2 if found.dtype.itemsize == 2 else 1e-4 if found.dtype.itemsize == 4 else 1e-9
    scale = float(np.nanmax(np.abs(other[np.isfinite(other)]), initial=1.0))
    return np.allclose(wide, other, tolerance, tolerance * scale, equal_nan=True)
