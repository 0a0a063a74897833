"""`config.validate`: every kernel runs on the oracle too, and the results are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygrad.dtypes import FLOATING
from lazygrad.errors import InternalError
from lazygrad.runtime.executor import Code, Lowered, Place
from lazygrad.runtime.kernel import Contract, Kernel, computed_dtypes
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
        self.digits = 1e-9  # relative, of the coarsest dtype that takes part
        for dtype in computed_dtypes(kernel):
            if dtype.category == FLOATING:
                self.digits = max(self.digits, _DIGITS[dtype.itemsize])
        self.before: list[NDArray[Any]] = []

    def snapshot(self, params: Arrays) -> None:
        """Remember what the kernel is given."""
        self.before = [p.copy() for p in params]

    def compare(self, params: Arrays) -> None:
        """Run the oracle on what was given; raise where the results differ."""
        given = [p.copy() for p in self.before]
        interpret(self.kernel, self.before)
        for i, (found, expected) in enumerate(zip(params, self.before, strict=True)):
            digits = 0.0 if self.exact or found.dtype.kind in "biu" else self.digits
            if _same(found, expected, digits):
                continue
            if self.exact or not _same(found, expected, digits, self._spread(given, i)):
                raise InternalError(
                    f"kernel {self.kernel.name}: parameter {i} differs from the reference: "
                    f"{found} instead of {expected}"
                )
        self.before = []

    def _spread(self, given: Arrays, i: int) -> NDArray[Any]:
        """How far parameter i moves when what was given changes by its last bits.

        What is left of a sum that cancels is rounding alone, and a normalizing update blows it up:
        any two ways to add differ there, in as many digits as the oracle does from itself.
        """
        random = np.random.default_rng(0)
        spread = np.zeros(given[i].shape)
        for _ in range(_NUDGES):
            nudged = [_nudged(p, random) for p in given]
            interpret(self.kernel, nudged)
            with np.errstate(all="ignore"):
                moved = np.abs(nudged[i].astype(np.float64) - self.before[i].astype(np.float64))
            spread = np.fmax(spread, moved)
        return _FACTOR * spread


_DIGITS = {2: 1e-2, 4: 1e-4, 8: 1e-9}  # by the size of a float
_NUDGES = 16
_FACTOR = 32


def _nudged(values: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Floats changed by a few units in the last place."""
    if values.dtype.kind in "biu":
        return values.copy()
    last = 2.0 ** {2: -8, 4: -23, 8: -52}[values.dtype.itemsize]
    steps = 1 + last * random.integers(-4, 5, values.shape)
    with np.errstate(all="ignore"):
        return (values.astype(np.float64) * steps).astype(values.dtype)


def _same(
    found: NDArray[Any], expected: NDArray[Any], digits: float, spread: NDArray[Any] | float = 0.0
) -> bool:
    """Whether no element is further from what is expected than `digits`, or `spread`."""
    wide, other = found.astype(np.float64), expected.astype(np.float64)
    scale = float(np.nanmax(np.abs(other[np.isfinite(other)]), initial=1.0))
    allowed = np.nan_to_num(digits * scale + spread, posinf=np.inf)
    return bool(np.isclose(wide, other, digits, allowed, equal_nan=True).all())
