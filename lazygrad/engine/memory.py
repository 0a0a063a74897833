"""The memory plan: one arena, every value between kernels at an offset of it.

A buffer lives from the kernel that makes it to its last reader; views own none; kept values live
to the end; outputs and writes are arrays of the caller. A value may take the buffer of an operand
that it is the last to read (in place). Workspaces live for one kernel. Offsets are found best fit:
each buffer goes into the tightest gap between those that live at the same time, largest first, or
in other orders where that wastes memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from lazygrad.engine.layouts import ARENA, Layouts
from lazygrad.engine.schedule import Schedule
from lazygrad.engine.stages import Form, can_overwrite
from lazygrad.runtime.alignment import ALIGN, aligned

SORTED_LIMIT = 2000  # buffers; beyond, offsets are given in the order of time
DEAD = 0xFF  # under `config.poison` the bytes of freed buffers: NaN, -1


@dataclass(slots=True)
class Buffer:
    """A piece of the arena, live from kernel `birth` through kernel `death`."""

    nbytes: int
    birth: int
    death: int
    values: list[int] = field(default_factory=list)  # nodes, in order; none: a workspace
    offset: int = 0


@dataclass(slots=True)
class MemoryPlan:
    """What `program.memory` reports.

    `naive_bytes`: one buffer for each traced node; `arena_bytes`: the planned peak;
    `lower_bound`: the most bytes live at once in this order; `peaks`: the peak of each order
    tried.
    """

    buffers: list[Buffer]
    arena_bytes: int
    lower_bound: int
    naive_bytes: int
    order: str
    peaks: dict[str, int]

    @property
    def peak(self) -> int:
        """The planned peak: the bytes of the arena."""
        return self.arena_bytes

    @property
    def best_of_orders(self) -> int:
        """The smallest peak among the orders that were tried."""
        return min(self.peaks.values())

    def __str__(self) -> str:
        lines = [
            f"naive {self.naive_bytes} bytes, arena {self.arena_bytes}"
            f" ({100 * self.arena_bytes / max(self.naive_bytes, 1):.0f} %),"
            f" lower bound {self.lower_bound}",
            "orders: " + ", ".join(f"{k} {v}" for k, v in self.peaks.items()) + f" -> {self.order}",
        ]
        for b in sorted(self.buffers, key=lambda b: (b.birth, b.offset)):
            what = ", ".join(f"%{i}" for i in b.values) or "workspace"
            lines.append(
                f"{b.offset:>10} +{b.nbytes:<10} kernels {b.birth}..{b.death}  {what}"
            )  # fmt: skip
        return "\n".join(lines)


def find_buffers(
    layouts: Layouts, plan: Schedule, reuse: bool = True
) -> tuple[list[Buffer], list[dict[int, int]]]:
    """The buffers of the values between kernels, and for each kernel which value overwrites which.

    With `reuse` off no arena value takes the buffer of another; writes of state stay in place.
    """
    end = len(plan.forms)
    last: dict[int, int] = {}
    reads: list[set[int]] = []
    for k, form in enumerate(plan.forms):
        roots = {layouts.root[j] for i in form.group.nodes for j in layouts.frozen.nodes[i].inputs}
        reads.append(roots)
        for root in roots:
            last[root] = k
    for root, home in layouts.homes.items():
        if home.place is ARENA:
            last[root] = end
    held: dict[int, Buffer] = {}
    buffers: list[Buffer] = []
    overs: list[dict[int, int]] = []
    for k, form in enumerate(plan.forms):
        over = {i: plan.overwrites[i] for i in form.group.nodes if i in plan.overwrites}
        overs.append(over)
        dying = sorted(r for r in reads[k] if r in held and last[r] == k) if reuse else []
        for i in form.group.nodes:
            claimed = layouts.homes.get(i)
            if i not in layouts.exported or (claimed is not None and claimed.place is not ARENA):
                continue
            old = _take(layouts, form, dying, i)
            if old is None:
                held[i] = Buffer(aligned(layouts.frozen.nodes[i].nbytes), k, k)
                buffers.append(held[i])
            else:
                over[i] = old
                held[i] = held[old]
            held[i].values.append(i)
            held[i].death = max(held[i].death, last.get(i, k))
    return buffers, overs


def _take(layouts: Layouts, form: Form, dying: list[int], new: int) -> int | None:
    """A dying operand whose buffer `new` can take; it is taken off the list."""
    for at, old in enumerate(dying):
        if can_overwrite(layouts, form, old, new):
            return dying.pop(at)
    return None


def give_offsets(buffers: Sequence[Buffer], reuse: bool = True, zone: int = 0) -> int:
    """Place the buffers; returns the bytes of the arena. `zone` bytes follow each buffer.

    >>> a, b, c = Buffer(64, 0, 1), Buffer(128, 1, 2), Buffer(64, 2, 3)
    >>> give_offsets([a, b, c]), (a.offset, b.offset, c.offset)
    (192, (128, 0, 128))
    """
    if not reuse:
        total = 0
        for b in buffers:
            b.offset, total = total, total + b.nbytes + zone
        return total
    if len(buffers) > SORTED_LIMIT:
        return _in_time(buffers, zone)
    bound = live_bytes(buffers, max((b.death for b in buffers), default=0), zone)
    best, offsets = -1, [0] * len(buffers)
    for key in PRIORITIES:
        total = _by_priority(sorted(buffers, key=key), zone)
        if best < 0 or total < best:
            best, offsets = total, [b.offset for b in buffers]
        if best == bound:
            break
    for b, offset in zip(buffers, offsets, strict=True):
        b.offset = offset
    return best


# Which buffers are placed first; the first of these that meets the bound is taken, else the best.
PRIORITIES: tuple[Callable[[Buffer], tuple[int, int]], ...] = (
    lambda b: (-b.nbytes, b.birth),
    lambda b: (-b.nbytes * (b.death - b.birth + 1), b.birth),
    lambda b: (b.birth - b.death, -b.nbytes),
    lambda b: (b.birth, -b.nbytes),
)


def _by_priority(ordered: Sequence[Buffer], zone: int) -> int:
    """Place each buffer into the tightest gap among those that are placed already."""
    spans = np.zeros((4, len(ordered)), np.int64)  # birth, death, lo, hi
    total = 0
    for k, b in enumerate(ordered):
        size = b.nbytes + zone
        meets = (spans[0, :k] <= b.death) & (spans[1, :k] >= b.birth)
        b.offset = _tightest(spans[2:, :k][:, meets], size)
        spans[:, k] = b.birth, b.death, b.offset, b.offset + size
        total = max(total, b.offset + size)
    return total


def _tightest(busy: np.ndarray[tuple[int, int], np.dtype[np.int64]], size: int) -> int:
    """The start of the smallest gap of at least `size` between busy spans, or their end."""
    if not busy.shape[1]:
        return 0
    lo, hi = busy[:, np.argsort(busy[0], kind="stable")]
    starts = np.concatenate(([0], np.maximum.accumulate(hi)))
    gaps = lo - starts[:-1]
    fits = np.flatnonzero(gaps >= size)
    return int(starts[fits[np.argmin(gaps[fits])]] if len(fits) else starts[-1])


def _in_time(buffers: Sequence[Buffer], zone: int) -> int:
    """First fit in the order of birth, with a free list: near-linear, for very long programs."""
    free: list[tuple[int, int]] = []  # (offset, size), by offset
    living: dict[int, list[Buffer]] = {}  # death -> buffers
    total = 0
    ordered = sorted(buffers, key=lambda b: b.birth)
    clock = 0
    for b in ordered:
        while clock < b.birth:
            for gone in living.pop(clock, ()):
                free.append((gone.offset, gone.nbytes + zone))
            clock += 1
        if len(free) > 1:
            free = _coalesce(free)
        size = b.nbytes + zone
        fit = min(
            ((length, at) for at, (_, length) in enumerate(free) if length >= size), default=None
        )
        if fit is None:
            b.offset, total = total, total + size
        else:
            start, length = free.pop(fit[1])
            b.offset = start
            if length > size:
                free.append((start + size, length - size))
        living.setdefault(b.death, []).append(b)
    return total


def _coalesce(free: list[tuple[int, int]]) -> list[tuple[int, int]]:
    free.sort()
    merged = [free[0]]
    for start, length in free[1:]:
        at, size = merged[-1]
        if at + size == start:
            merged[-1] = (at, size + length)
        else:
            merged.append((start, length))
    return merged


def live_bytes(buffers: Sequence[Buffer], kernels: int, zone: int = 0) -> int:
    """The most bytes that are live at once."""
    change = [0] * (kernels + 2)
    for b in buffers:
        change[b.birth] += b.nbytes + zone
        change[min(b.death, kernels) + 1] -= b.nbytes + zone
    peak = live = 0
    for delta in change:
        live += delta
        peak = max(peak, live)
    return peak


def check_plan(buffers: Sequence[Buffer], arena_bytes: int) -> None:
    """Raise `AssertionError` if two buffers that live at the same time overlap."""
    events = sorted(buffers, key=lambda b: b.birth)
    living: list[Buffer] = []
    for b in events:
        living = [a for a in living if a.death >= b.birth]
        assert b.offset % ALIGN == 0 and b.offset + b.nbytes <= arena_bytes, b
        for a in living:
            apart = a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
            assert apart or not a.nbytes or not b.nbytes, (a, b)
        living.append(b)
