"""Stages in canonical form: the few shapes of loops that many kernels share.

Axes of extent 1 vanish, axes that every access walks as one are merged, and the axis for vectors
and the order of the loops are chosen from the strides. What is left is split in two: the form,
which decides the code and is part of its key, and the numbers (extents, strides, offsets), which
the code reads at run time. Strides of 0 and 1 belong to the form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from lazygrad.dtypes import DType, int64
from lazygrad.ops.scalar_math import WORDS, Instr
from lazygrad.runtime.kernel import Access, Body, Kernel, Map, Reduce, Store
from lazygrad.runtime.native.nest import STEPS, Walk
from lazygrad.runtime.native.reduce import neutral
from lazygrad.runtime.native.target import LANES


@dataclass(frozen=True, slots=True)
class Word:
    """A number that the code reads at run time: its place among the words of the unit."""

    number: int


Number = int | Word


class Words:
    """The numbers of a unit, collected while its form is made."""

    def __init__(self) -> None:
        self.values: list[int] = []

    def word(self, value: int) -> Word:
        """A number for run time."""
        self.values.append(value)
        return Word(len(self.values) - 1)

    def known(self, value: int) -> Number:
        """A number of which the code knows whether it is 0 or 1."""
        return value if value in (0, 1) else self.word(value)

    def step(self, value: int) -> Number:
        """A stride, which shapes the code where vectors walk it without a gather."""
        return value if value in STEPS else self.word(value)


@dataclass(frozen=True, slots=True)
class Site:
    """An access in canonical form.

    `buffer` counts the buffers of the unit as they are met. The element at the first point of a
    block of rows is start + first row * step + block * chunk.
    """

    buffer: int
    dtype: DType
    strides: tuple[Number, ...]
    start: Number
    step: Number
    chunk: Number
    index: int | None = None
    index_stride: Number = 0
    index_extent: Number = 0
    repeat: int = 0  # along the vectors: each element so many times
    cycle: int = 0  # along the vectors: so many elements over and over


@dataclass(frozen=True, slots=True)
class Fold:
    """What a reduction combines, over which axes; vectors run across or along them."""

    axes: tuple[int, ...]
    combine: str
    value: int
    dtype: DType
    across: bool


@dataclass(frozen=True, slots=True)
class Loops:
    """A stage in canonical form.

    The extent of axis `rows` is the rows of the block times `extents[rows]`. `walk` are all loops,
    of a reduction those over kept axes; its vectors run across a kept axis or along a reduced one.
    """

    extents: tuple[Number, ...]
    rows: int | None
    body: Body
    loads: tuple[Site, ...]
    stores: tuple[tuple[Site, int], ...]
    walk: Walk
    fold: Fold | None = None

    @property
    def indexed_rows(self) -> bool:
        """Whether the body reads the position along the rows."""
        return any(i.word == "index" and i.value == self.rows for i in self.body.instrs)


@dataclass(slots=True)
class Axis:
    """An axis under construction: strides of all accesses, loads first."""

    extent: int
    strides: tuple[int, ...]
    reduced: bool
    origin: int | None = None  # the axis of the domain, where the body reads its positions
    rows: bool = False
    factor: int = 1  # elements for each row, of the axis of the rows
    step: tuple[int, ...] = ()  # elements between rows, of each access
    inner: int = 0  # the extent of an axis that is part of this one, though not for all accesses
    repeats: frozenset[int] = frozenset()  # accesses that stand still along that one
    cycles: frozenset[int] = frozenset()  # accesses that walk that one alone

    def absorbs(self, inner: Axis) -> bool:
        """Whether this axis and the next one inside can be walked as one."""
        return (
            self.reduced == inner.reduced
            and self.origin is None
            and inner.origin is None
            and not inner.rows
            and all(s == t * inner.extent for s, t in zip(self.strides, inner.strides, strict=True))
        )

    def merged(self, inner: Axis) -> Axis:
        """Both as one."""
        return replace(
            self, extent=self.extent * inner.extent, strides=inner.strides,
            factor=self.factor * inner.extent,
        )  # fmt: skip


def plain_stage(stage: Map | Reduce, target: DType) -> Map | Reduce | None:
    """A stage that combines nothing as a map, one without points as None.

    `target` is the dtype of the buffer that a reduction stores to.
    """
    if isinstance(stage, Map):
        return None if 0 in stage.domain else stage
    kept = tuple(1 if a in stage.axes else n for a, n in enumerate(stage.domain))
    if 0 in kept:
        return None
    if 0 in stage.domain:
        start = 0 if stage.is_position else neutral(stage.combine, stage.dtype)
        body = Body((), (), (Instr("const", (), target, start),))
        return Map(kept, body, (Store(stage.store, 0),))
    if any(stage.domain[a] != 1 for a in stage.axes):
        return stage
    body = stage.body
    instrs = list(body.instrs)

    def append(word: str, args: tuple[int, ...], dtype: DType, value: float | None = None) -> int:
        instrs.append(Instr(word, args, dtype, value))
        return len(body.load_dtypes) + len(instrs) - 1

    if stage.is_position:
        found = append("const", (), int64, 0)
    else:
        found = append("cast", (stage.value,), stage.dtype)
        if stage.combine == "add":  # a sum begins with 0, which turns -0.0 into 0.0
            found = append("add", (append("const", (), stage.dtype, 0), found), stage.dtype)
        found = append("cast", (found,), target)
    return Map(stage.domain, replace(body, instrs=tuple(instrs)), (Store(stage.store, found),))


def find_axes(stage: Map | Reduce, rows: int | None) -> list[Axis]:
    """The axes of a stage, merged; `rows` is the axis that the grid cuts.

    Of a map in the order of its first store, of a reduction in the order of the domain.
    """
    accesses = accesses_of(stage)
    reduced = stage.axes if isinstance(stage, Reduce) else ()
    indexed = {i.value for i in stage.body.instrs if i.word == "index"}
    axes = []
    for a, n in enumerate(stage.domain):
        if n == 1 and a != rows:
            continue
        strides = tuple(x.strides[a] for x in accesses)
        origin = a if a in indexed else None
        axes.append(Axis(n, strides, a in reduced, origin, a == rows, step=strides))
    if isinstance(stage, Map):
        first = len(stage.body.loads)
        axes.sort(key=lambda x: -abs(x.strides[first]) if len(accesses) > first else 0)
    merged: list[Axis] = []
    for axis in axes:
        if merged and merged[-1].absorbs(axis):
            merged[-1] = merged[-1].merged(axis)
        else:
            merged.append(axis)
    return _paired(stage, merged) if isinstance(stage, Map) else merged


def _paired(stage: Map, axes: list[Axis]) -> list[Axis]:
    """With a last axis of two or four elements as part of the one before, for longer vectors.

    Stores have to be contiguous along both. A load may be so too, or stand still along one of them:
    it then has each element several times, or a few elements over and over.
    """
    if len(axes) < 2 or any(a.index is not None for a in accesses_of(stage)):
        return axes
    *_, outer, last = axes
    n = last.extent
    if n not in (2, 4) or outer.rows or last.rows or (outer.origin, last.origin) != (None, None):
        return axes
    pairs = list(zip(outer.strides, last.strides, strict=True))
    loads = len(stage.body.loads)
    if any(p != (n, 1) for p in pairs[loads:]) or set(pairs) - {(n, 1), (1, 0), (0, 1), (0, 0)}:
        return axes
    both = replace(
        outer, extent=outer.extent * n, factor=outer.factor * n, inner=n,
        strides=tuple(0 if p[0] == 0 else 1 for p in pairs),
        repeats=frozenset(k for k, p in enumerate(pairs) if p == (1, 0)),
        cycles=frozenset(k for k, p in enumerate(pairs) if p == (0, 1)),
    )  # fmt: skip
    return [*axes[:-2], both]


def accesses_of(stage: Map | Reduce) -> list[Access]:
    """Loads, then stores."""
    if isinstance(stage, Map):
        return [*stage.body.loads, *(s.access for s in stage.stores)]
    return [*stage.body.loads, stage.store]


# choices -----------------------------------------------------------------------------------------

_GATHER, _SCATTER, _SPREAD = 20.0, 40.0, 0.3  # against a vector that is loaded or stored


def _fill(n: int) -> float:
    """Lanes that are walked for each one that counts."""
    return -(-n // LANES) * LANES / max(n, 1)


def _cost(stage: Map | Reduce, axis: Axis) -> float:
    """Of one vector of points along an axis."""
    loads = stage.body.loads
    total = 0.0
    for k, (access, s) in enumerate(zip(accesses_of(stage), axis.strides, strict=True)):
        if k < len(loads):
            scattered = access.index is not None and axis.strides[access.index] != 0
            total += _GATHER if scattered or s not in STEPS else float(abs(s)) if s else _SPREAD
        elif isinstance(stage, Map):
            total += 1.0 if s == 1 else _SCATTER
    return (total + 0.5) * _fill(axis.extent)


def choose_map(stage: Map, axes: Sequence[Axis]) -> Walk:
    """The loops of a map, and the axis of its vectors."""
    if not axes:
        return Walk((), None)
    places = range(len(axes))
    vector = min(reversed(places), key=lambda a: (not axes[a].inner, _cost(stage, axes[a])))
    order = [a for a in places if a != vector] + [vector]
    turned = [
        k for k, access in enumerate(stage.body.loads)
        if axes[vector].strides[k] not in STEPS and access.index is None
    ]  # fmt: skip
    inner = max(places, key=lambda a: sum(axes[a].strides[k] == 1 for k in turned))
    turned = [k for k in turned if axes[inner].strides[k] == 1]
    if turned:
        order.remove(inner)
        order.append(inner)
    return Walk(tuple(order), vector, tuple(turned))


def choose_reduce(stage: Reduce, axes: Sequence[Axis]) -> tuple[Walk, bool]:
    """The loops over kept axes, the axis of the vectors, and whether they run across."""
    kept = [a for a, x in enumerate(axes) if not x.reduced]
    reduced = [a for a, x in enumerate(axes) if x.reduced]
    kept.sort(key=lambda a: -abs(axes[a].strides[-1]))
    last = reduced[-1]
    points = prod(x.extent for x in axes) / LANES
    outputs = prod(axes[a].extent for a in kept)
    along = points * _cost(stage, axes[last]) + 15 * outputs
    if len(reduced) > 1 and axes[last].extent % LANES:
        along += 20 * points * LANES / axes[last].extent
    best, chosen = along, last
    for a in kept:
        across = points * (_cost(stage, axes[a]) + 2 * _fill(axes[a].extent))
        across += 50 * outputs / LANES * _fill(axes[a].extent)
        if across < best:
            best, chosen = across, a
    return Walk(tuple(a for a in kept if a != chosen), chosen), chosen != last


# forms -------------------------------------------------------------------------------------------


def dtype_of(kernel: Kernel, buffer: int) -> DType:
    """The dtype of a buffer."""
    k = buffer - len(kernel.params)
    return kernel.params[buffer].dtype if k < 0 else kernel.scratch[k].dtype


def is_chunked(kernel: Kernel) -> bool:
    """Whether the grid has more than one chunk."""
    return kernel.grid.rows > max(kernel.grid.chunk, 1)


class Former:
    """Makes the forms of a unit's stages; collects their words and its buffers.

    Buffers are numbered as they are met, so that the same loops over other buffers of a kernel are
    the same code.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.words = Words()
        self.buffers: dict[int, int] = {}  # those of the kernel, and their numbers here

    def is_local(self, buffer: int) -> bool:
        """Whether it is scratch of a chunk alone."""
        k = buffer - len(self.kernel.params)
        return k >= 0 and not self.kernel.scratch[k].shared

    def dtype(self, buffer: int) -> DType:
        """The dtype of a buffer."""
        return dtype_of(self.kernel, buffer)

    def form(self, stage: Map | Reduce, axes: Sequence[Axis]) -> Loops:
        """The form of a stage over these axes."""
        extents: list[Number] = [
            self.words.known(x.factor) if x.rows else self.words.word(x.extent) for x in axes
        ]
        rows = next((a for a, x in enumerate(axes) if x.rows), None)
        sites = [self.site(access, k, axes) for k, access in enumerate(accesses_of(stage))]
        loads = len(stage.body.loads)
        body = _renamed(stage.body, axes)
        if isinstance(stage, Map):
            stores = tuple((s, t.value) for s, t in zip(sites[loads:], stage.stores, strict=True))
            walk = choose_map(stage, axes)
            return Loops(tuple(extents), rows, body, tuple(sites[:loads]), stores, walk)
        walk, across = choose_reduce(stage, axes)
        reduced = tuple(a for a, x in enumerate(axes) if x.reduced)
        fold = Fold(reduced, stage.combine, stage.value, stage.dtype, across)
        return Loops(
            tuple(extents), rows, body, tuple(sites[:loads]), ((sites[-1], stage.value),), walk,
            fold,
        )  # fmt: skip

    def site(self, access: Access, k: int, axes: Sequence[Axis]) -> Site:
        """The k-th access over these axes."""
        known, rows = self.words.known, next((x for x in axes if x.rows), None)
        step = 0 if rows is None or self.is_local(access.buffer) else rows.step[k]
        chunk = access.chunk_stride if is_chunked(self.kernel) else 0
        return Site(
            self.buffers.setdefault(access.buffer, len(self.buffers)),
            self.dtype(access.buffer), tuple(self.words.step(x.strides[k]) for x in axes),
            known(access.offset), known(step), known(chunk), access.index,
            known(access.index_stride), known(access.index_extent),
            max((x.inner for x in axes if k in x.repeats), default=0),
            max((x.inner for x in axes if k in x.cycles), default=0),
        )  # fmt: skip


def _renamed(body: Body, axes: Sequence[Axis]) -> Body:
    """A body without its accesses, whose positions are along canonical axes."""
    places = {x.origin: a for a, x in enumerate(axes) if x.origin is not None}
    instrs = tuple(
        i if i.word != "index"
        else replace(i, value=places[int(i.value or 0)]) if int(i.value or 0) in places
        else replace(i, word="const", value=0)
        for i in body.instrs
    )  # fmt: skip
    return Body((), body.load_dtypes, instrs)


def stage_seconds(stage: Map | Reduce) -> float:
    """A guess of the time on one core."""
    flops = sum(WORDS[i.word].flops if i.word in WORDS else 0.5 for i in stage.body.instrs)
    touched = sum(d.itemsize for d in stage.body.load_dtypes)
    stores = 4 * len(stage.stores) if isinstance(stage, Map) else 2
    return prod(stage.domain) * (flops / 2e10 + (touched + stores) / 3e10)
