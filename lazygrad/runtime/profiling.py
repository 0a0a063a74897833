"""Time per kernel: `with profile() as p:` recompiles what runs inside with clocks around kernels.

Kernels run one after the other, each waited for, so their times add up to a little more than a
whole program takes without clocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from lazygrad.config import config
from lazygrad.runtime.dispatch import threads, uses_native
from lazygrad.runtime.kernel import Kernel
from lazygrad.runtime.native.ceilings import ceilings


@dataclass(slots=True, eq=False)
class Clock:
    """What one kernel of one program has taken."""

    program: str
    kernel: Kernel
    ops: str
    mode: str
    executor: str
    calls: int = 0
    seconds: float = 0.0
    best: float = float("inf")
    _started: float = 0.0

    def start(self) -> None:
        """Begin to count."""
        self._started = perf_counter()

    def stop(self) -> None:
        """End a call."""
        took = perf_counter() - self._started
        self.calls += 1
        self.seconds += took
        self.best = min(self.best, took)


@dataclass(slots=True)
class Profile:
    """The clocks of everything that ran, and how they read."""

    clocks: list[Clock] = field(default_factory=list)
    flops_peak: float = 0.0  # of this machine, per second; 0 where it is not known
    bytes_peak: float = 0.0

    @property
    def seconds(self) -> float:
        """All kernels together."""
        return sum(c.seconds for c in self.clocks)

    def rows(self) -> list[dict[str, object]]:
        """One row for each kernel that ran, the slowest first."""
        found: list[dict[str, object]] = []
        for c in sorted(self.clocks, key=lambda c: -c.seconds):
            if not c.calls:
                continue
            each = c.seconds / c.calls
            gflops, gbytes = c.kernel.flops / each / 1e9, c.kernel.nbytes / each / 1e9
            row: dict[str, object] = {
                "program": c.program, "kernel": c.kernel.name, "ops": c.ops, "calls": c.calls,
                "ms": each * 1e3, "best ms": c.best * 1e3, "share": c.seconds / self.seconds,
                "GFLOP/s": gflops, "GB/s": gbytes, "mode": c.mode, "executor": c.executor,
            }  # fmt: skip
            peaks = ((gflops, self.flops_peak), (gbytes, self.bytes_peak))
            shares = [rate * 1e9 / peak for rate, peak in peaks if peak]
            if shares:
                row["of peak"] = max(shares)
            found.append(row)
        return found

    def __str__(self) -> str:
        head = f"{'kernel':8} {'calls':>6} {'ms':>9} {'best':>9} {'share':>6} {'GFLOP/s':>8}"
        lines = [f"{head} {'GB/s':>7} {'of peak':>7}  {'mode':10} ops"]
        for r in self.rows():
            peak = f"{r['of peak']:7.0%}" if "of peak" in r else f"{'':7}"
            lines.append(
                f"{r['kernel']:8} {r['calls']:6} {r['ms']:9.4f} {r['best ms']:9.4f}"
                f" {r['share']:6.1%} {r['GFLOP/s']:8.2f} {r['GB/s']:7.2f} {peak}"
                f"  {r['mode']:10} {r['ops']}"
            )
        return "\n".join([*lines, f"{self.seconds * 1e3:.3f} ms in kernels"])


_active: list[Profile] = []
_numbers = itertools.count(1)


def new_clock(program: str, kernel: Kernel, ops: list[str], mode: str, executor: str) -> Clock:
    """A clock for a kernel that is being compiled, listed in the profile that is open."""
    text = ", ".join(ops[:6]) + (f" and {len(ops) - 6} more" if len(ops) > 6 else "")
    clock = Clock(program, kernel, text, mode, executor)
    if _active:
        _active[-1].clocks.append(clock)
    return clock


@contextmanager
def profile(flops_peak: float | None = None, bytes_peak: float | None = None) -> Iterator[Profile]:
    """Time every kernel that runs in the block; print the result, or read its `rows()`.

    Each kernel is compared with the peaks of the machine: operations and bytes a second. For
    machine code they are those of `lazygrad machine`, measured once and kept on disk (a few
    seconds the first time); for other executors they are not known unless given.

    >>> import lazygrad as lg
    >>> with lg.profile(flops_peak=1e11, bytes_peak=1e10) as p:
    ...     _ = (lg.ones(3) * 2).numpy()
    >>> [r["ops"] for r in p.rows()]
    ['mul']
    """
    flops, nbytes = (0.0, 0.0) if None not in (flops_peak, bytes_peak) else _peaks()
    found = Profile(
        flops_peak=flops if flops_peak is None else flops_peak,
        bytes_peak=nbytes if bytes_peak is None else bytes_peak,
    )
    _active.append(found)
    try:
        with config.override(profile=next(_numbers)):
            yield found
    finally:
        _active.remove(found)


def _peaks() -> tuple[float, float]:
    """Operations and bytes a second of this machine on as many threads as programs use."""
    if not uses_native():
        return 0.0, 0.0
    measured, several = ceilings(), threads() > 1
    return measured.flops[several], measured.read[several]
