"""Where kernels of maps and reductions are cut: for the caches, and for the threads.

Borders of pieces are free as long as no result and no load can tell where they are: rows (the
positions along one axis of each stage) must stay within what they store themselves. What a kernel
without rows computes is split into groups of stages that have such an axis in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lazygrad.runtime.kernel import (
    Access,
    Grid,
    Kernel,
    Map,
    Reduce,
    Scratch,
    depends_on_chunks,
)
from lazygrad.runtime.native.canonical import (
    Axis,
    Former,
    accesses_of,
    choose_map,
    choose_reduce,
    dtype_of,
    find_axes,
    is_chunked,
    stage_seconds,
)
from lazygrad.runtime.native.target import LANES

NEAR_BYTES = 1 << 15  # of all that a block of rows touches: it stays in the first-level cache
FAR_BYTES = 1 << 18  # or in the second, with working memory that all threads share
PARALLEL_SECONDS = 30e-6  # a kernel below it does not pay for meeting other threads
PIECE_SECONDS = 10e-6
PIECES = 64

Stages = Sequence[Map | Reduce]


@dataclass(frozen=True, slots=True)
class Cut:
    """Rows, rows of a block, and blocks that a thread takes at once."""

    rows: int = 1
    block: int = 1
    taken: int = 1


def cut_stages(kernel: Kernel, stages: Stages, rows: bool) -> tuple[list[list[Axis]], Cut]:
    """The axes of each stage and how they are cut; `rows`: along the rows of the grid, if at all.

    No axis is marked as the rows where nothing can be cut.
    """
    pieces = pieces_of(stages)
    alone = len(stages) == 1 and not _has_local(kernel, stages)
    free = rows and _are_free(kernel, stages)
    if rows and not free and is_chunked(kernel):
        return [find_axes(s, 0) for s in stages], Cut(kernel.grid.rows, kernel.grid.chunk)
    if alone and (free or not rows):
        axes = find_axes(stages[0], None)
        return [axes], _cut_alone(stages[0], axes, pieces)
    if free:
        return [find_axes(s, 0) for s in stages], _cut_rows(kernel, stages, pieces)
    if pieces > 1 and (common := common_axes(stages)) is not None:
        axes_ = [find_axes(s, a) for s, a in zip(stages, common, strict=True)]
        return axes_, _cut_common(kernel, stages, common[0], pieces)
    return [find_axes(s, None) for s in stages], Cut()


def pieces_of(stages: Stages) -> int:
    """For how many pieces stages have work."""
    seconds = sum(stage_seconds(s) for s in stages)
    return min(PIECES, int(seconds / PIECE_SECONDS)) if seconds > PARALLEL_SECONDS else 1


def share_scratch(kernel: Kernel) -> Kernel:
    """A kernel without rows, whose scratch is shared where it is large or threads may share work.

    Scratch of a chunk is given to each thread: here the chunk is the whole kernel.
    """
    if kernel.grid.rows > 1 or not all(isinstance(s, Map | Reduce) for s in kernel.stages):
        return kernel
    own = sum(s.row_size * s.dtype.itemsize for s in kernel.scratch if not s.shared)
    large = pieces_of([s for s in kernel.stages if isinstance(s, Map | Reduce)]) > 1
    if not own or not (large or own > FAR_BYTES):
        return kernel
    shared = tuple(
        s if s.shared else Scratch(s.dtype, 0, True, s.row_size) for s in kernel.scratch
    )  # fmt: skip
    return replace(kernel, scratch=shared)


def split_stages(kernel: Kernel, stages: Stages) -> list[list[Map | Reduce]]:
    """Stages of a large kernel without rows in groups, each of which can be cut along one axis."""
    if _has_local(kernel, stages) or pieces_of(stages) == 1:
        return [list(stages)]
    groups: list[tuple[list[Map | Reduce], bool]] = []
    for stage in stages:
        if groups and groups[-1][1] and common_axes([*groups[-1][0], stage]) is not None:
            groups[-1][0].append(stage)
            continue
        cut = common_axes([stage]) is not None
        if groups and not cut and not groups[-1][1]:
            groups[-1][0].append(stage)
        else:
            groups.append(([stage], cut))
    return [group for group, _ in groups]


def _has_local(kernel: Kernel, stages: Stages) -> bool:
    former = Former(kernel)
    return any(former.is_local(a.buffer) for s in stages for a in accesses_of(s))


# What rows reach --------------------------------------------------------------------------------


class _Reach(NamedTuple):
    """The elements of a row: how far rows are apart, the first and last one of row 0, all."""

    step: int
    low: int
    high: int
    walked: tuple[tuple[int, int], ...]


def _reach(stage: Map | Reduce, access: Access, row: int) -> _Reach:
    """What an access reaches in each row, where axis `row` is the rows."""
    if access.index is not None:
        return _Reach(0, 0, 0, ())
    walked = tuple(
        (n, s) for a, (n, s) in enumerate(zip(stage.domain, access.strides, strict=True))
        if n > 1 and s and a != row
    )  # fmt: skip
    ends = [(n - 1) * s for n, s in walked]
    low, high = sum(min(e, 0) for e in ends), sum(max(e, 0) for e in ends)
    return _Reach(access.strides[row], access.offset + low, access.offset + high, walked)


def _are_apart(stages: Stages, rows: Sequence[int], buffers: set[int]) -> bool:
    """Whether no row reaches into what another one stores to these buffers."""
    sites: dict[int, set[_Reach]] = {b: set() for b in buffers}
    for stage, row in zip(stages, rows, strict=True):
        for access in accesses_of(stage):
            if access.buffer in buffers:
                sites[access.buffer].add(_reach(stage, access, row))
    for reached in sites.values():
        steps = {site.step for site in reached}
        if len(steps) > 1 or 0 in steps:
            return False
        span = max(s.high for s in reached) - min(s.low for s in reached)
        if len(reached) > 1 and span >= abs(steps.pop()):
            return False
    return True


def _stored(stages: Stages) -> set[int]:
    return {a.buffer for s in stages for a in accesses_of(s)[len(s.body.loads) :]}


def _are_free(kernel: Kernel, stages: Stages) -> bool:
    """Whether the rows of the grid can be cut anywhere."""
    rows, former = kernel.grid.rows, Former(kernel)
    halves = replace(kernel, grid=Grid(rows, rows - 1))
    if depends_on_chunks(kernel) or depends_on_chunks(halves):
        return False
    outside = {b for b in _stored(stages) if not former.is_local(b)}
    return _are_apart(stages, [0] * len(stages), outside)


def common_axes(stages: Stages) -> list[int] | None:
    """An axis of each stage along which all of them can be cut together, if there is one."""
    first, stored = stages[0], _stored(stages)
    for a, n in enumerate(first.domain):
        if n < 2 * LANES or _is_reduced(first, a):
            continue
        chosen = [a]
        for stage in stages[1:]:
            same = [b for b, m in enumerate(stage.domain) if m == n and not _is_reduced(stage, b)]
            if a in same or len(same) == 1:
                chosen.append(a if a in same else same[0])
        if len(chosen) == len(stages) and _are_apart(stages, chosen, stored):
            return chosen
    return None


def _is_reduced(stage: Map | Reduce, axis: int) -> bool:
    return isinstance(stage, Reduce) and axis in stage.axes


# Cuts -------------------------------------------------------------------------------------------


def _cut_alone(stage: Map | Reduce, axes: list[Axis], pieces: int) -> Cut:
    """Cut a stage along the outermost loop that is long enough; marks its axis as the rows."""
    if isinstance(stage, Map):
        walk = choose_map(stage, axes)
        order = walk.order
    else:
        walk, across = choose_reduce(stage, axes)
        order = (*walk.order, walk.vector or 0) if across else walk.order
    if not order:
        return Cut()
    order = tuple(a for a in order if not axes[a].inner)  # borders would fall between its elements
    if not order:
        return Cut()
    enough = min(PIECES, max(axes[a].extent for a in order))
    chosen = next(a for a in order if axes[a].extent >= enough)
    axis = axes[chosen]
    axis.rows, axis.factor, axis.step = True, 1, axis.strides
    return Cut(axis.extent, _even(axis.extent, pieces, chosen == walk.vector))


def _even(rows: int, pieces: int, vectors: bool) -> int:
    """The rows of a piece, where rows are elements of vectors at the borders of some."""
    block = -(-rows // pieces)
    if vectors:  # long pieces, as short runs of memory defeat the prefetcher
        step = 16 * LANES
        block = -(-block // step) * step
    return min(block, rows)


def _cut_rows(kernel: Kernel, stages: Stages, pieces: int) -> Cut:
    """Cut the rows of several stages into blocks for the cache, those into pieces."""
    rows = kernel.grid.rows
    block = max(1, min(rows, NEAR_BYTES // max(_row_bytes(kernel, stages, rows), 1)))
    if block > LANES:
        block = block // LANES * LANES
    blocks = -(-rows // block)
    return Cut(rows, block, -(-blocks // pieces))


def _cut_common(kernel: Kernel, stages: Stages, axis: int, pieces: int) -> Cut:
    """Cut several stages along an axis that they have in common."""
    rows = stages[0].domain[axis]
    dense = any(a.strides[axis] == 1 for a in stages[0].body.loads)
    block = _even(rows, pieces, dense)
    if not dense:
        fitting = FAR_BYTES // max(_row_bytes(kernel, stages, rows), 1)
        block = max(1, min(block, fitting))
    return Cut(rows, block, max(1, -(-rows // block) // pieces))


def _row_bytes(kernel: Kernel, stages: Stages, rows: int) -> int:
    """What a row touches."""
    total, inputs = 0, len(kernel.params)
    for b in {a.buffer for s in stages for a in accesses_of(s)}:
        if b < inputs:
            size = kernel.params[b].size // rows
        else:
            scratch = kernel.scratch[b - inputs]
            size = scratch.size // rows if scratch.shared else scratch.row_size
        total += size * dtype_of(kernel, b).itemsize
    return total
