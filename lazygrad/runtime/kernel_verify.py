"""The rules of the kernel IR, checked: what passes can be cut, fused and run in place.

`verify_kernel` raises `InternalError` for accesses outside their buffer, bodies whose dtypes do
not fit, scratch that is read before it is written, two points or two chunks that write the same
element, and in-place hazards: a chunk that loads what another one stores, a point that loads
what another one has overwritten. Kernels of up to `EXACT` points are checked element by element,
larger ones by their strides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lazygrad.dtypes import BOOL, INTEGER, DType, bool_, int64
from lazygrad.errors import InternalError
from lazygrad.ops.scalar_math import WORDS, Result
from lazygrad.runtime.kernel import (
    Access,
    Body,
    Contract,
    Extern,
    Kernel,
    Map,
    Reduce,
    Stage,
    stage_bodies,
)
from lazygrad.shapes import Shape

EXACT = 1 << 20

Elements = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Site:
    """An access of a stage: its domain, the axis that the grid cuts, whether it writes.

    `aligned`: a load that an overlapping store of the stage may overwrite at its own point.
    """

    access: Access
    domain: Shape
    row_axis: int | None
    writes: bool = False
    aligned: bool = True


def verify_kernel(kernel: Kernel) -> None:
    """Raise `InternalError` if the kernel breaks a rule of the IR."""
    try:
        _Verifier(kernel).run()
    except InternalError as error:
        raise InternalError(f"kernel {kernel.name!r}: {error}") from None


def _fail(text: str) -> NoReturn:
    raise InternalError(text)


def stage_sites(stage: Stage, cut: bool) -> Iterator[_Site]:
    """Every access of a stage, loads first."""
    match stage:
        case Map():
            row = 0 if cut else None
            yield from (_Site(a, stage.domain, row) for a in stage.body.loads)
            yield from (_Site(s.access, stage.domain, row, True) for s in stage.stores)
        case Reduce():
            row = 0 if cut else None
            yield from (_Site(a, stage.domain, row, aligned=False) for a in stage.body.loads)
            kept = tuple(1 if i in stage.axes else n for i, n in enumerate(stage.domain))
            yield _Site(stage.store, kept, None if 0 in stage.axes else row, True)
        case Contract():
            yield from _contract_sites(stage, cut)
        case Extern():
            for i, (access, shape, _) in enumerate(stage.inputs):
                yield _Site(access, shape, None, aligned=i == 0 and access == stage.output[0])
            yield _Site(stage.output[0], stage.output[1], None, True)


def _contract_sites(stage: Contract, cut: bool) -> Iterator[_Site]:
    a, b, out = stage.row_axes(cut)
    left = (*stage.batch, stage.m, stage.k)
    right = (*stage.batch, stage.k, stage.n)
    result = (*stage.batch, stage.m, stage.n)
    for loads, domain, axis in ((stage.a.loads, left, a), (stage.b.loads, right, b)):
        for x in loads:
            if x.split and (axis is not None or tuple(map(prod, x.split)) != domain):
                _fail(f"the domain {domain} in pieces {x.split}")
            yield _Site(x, x.points(domain), axis, aligned=False)
    yield from (_Site(x, result, out) for x in stage.epilogue.loads)
    yield from (_Site(s.access, result, out, True) for s in stage.stores)


class _Verifier:
    """A kernel under examination."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.inputs = len(kernel.params)
        self.borders = kernel.grid.borders()
        self.chunk_rows = max((hi - lo for lo, hi in self.borders), default=0)
        self.staged = [(s, True) for s in kernel.stages] + [(s, False) for s in kernel.finish]

    def run(self) -> None:
        for i, (stage, cut) in enumerate(self.staged):
            try:
                self.structure(stage, cut)
                for site in stage_sites(stage, cut):
                    self.bounds(site)
                self.dtypes(stage)
            except InternalError as error:
                raise InternalError(f"stage {i} ({type(stage).__name__}): {error}") from None
        points = sum(
            prod(site.domain) * max(site.access.index_extent, 1)
            for stage, cut in self.staged
            for site in stage_sites(stage, cut)
        )
        if points <= EXACT:
            _Flow(self).run()
        else:
            self.windows()

    # ------------------------------------------------------------------ structure

    def structure(self, stage: Stage, cut: bool) -> None:
        rows = self.kernel.grid.rows
        match stage:
            case Map() | Reduce():
                if cut and stage.domain[:1] != (rows,):
                    _fail(f"domain {stage.domain} does not begin with the grid's {rows} rows")
            case Contract():
                axis = {"batch": (*stage.batch, None)[0], "m": stage.m, "n": stage.n, "k": stage.k}
                if cut and (stage.grid or rows > 1) and axis.get(stage.grid) != rows:
                    _fail(f"grid {stage.grid!r} has not the grid's {rows} rows")
            case Extern():
                if cut and rows > 1:
                    _fail("an op without stages cannot be cut")
        if isinstance(stage, Reduce):
            if sorted(set(stage.axes)) != list(stage.axes) or not set(stage.axes) <= set(
                range(len(stage.domain))
            ):
                _fail(f"axes {stage.axes} of a domain {stage.domain}")
            if any(stage.store.strides[a] for a in stage.axes):
                _fail("the store moves along a reduced axis")

    def buffer(self, number: int) -> Any:
        held = (*self.kernel.params, *self.kernel.scratch)
        if not 0 <= number < len(held):
            _fail(f"buffer {number} does not exist")
        return held[number]

    def is_local(self, access: Access) -> bool:
        held = self.buffer(access.buffer)
        return access.buffer >= self.inputs and not held.shared

    def bounds(self, site: _Site) -> None:
        access, held = site.access, self.buffer(site.access.buffer)
        if len(access.strides) != len(site.domain):
            _fail(f"strides {access.strides} for the domain {site.domain}")
        local = self.is_local(access)
        if site.writes and access.index is not None:
            _fail("a store through an index: no chunk could be shown to be alone")
        if local and (access.index is not None or access.chunk_stride) and len(self.borders) > 1:
            _fail("chunk-local scratch has neither an index nor a chunk stride")
        if access.buffer < self.inputs and site.writes and held.mode == "in":
            _fail(f"parameter {access.buffer} is read only")
        if 0 in site.domain or not self.borders:
            return
        lo, hi = self.span(site, local)
        size = held.size if access.buffer < self.inputs or held.shared else (
            held.row_size * self.chunk_rows
        )  # fmt: skip
        if lo < 0 or hi >= size:
            _fail(f"elements {lo}..{hi} of buffer {access.buffer} with {size} elements")
        if site.writes and any(
            s == 0 < n - 1 for s, n in zip(access.strides, site.domain, strict=True)
        ):
            _fail("several points store to the same element")

    def span(self, site: _Site, local: bool) -> tuple[int, int]:
        """The first and the last element that an access can reach."""
        access = site.access
        extents = [
            self.chunk_rows if local and i == site.row_axis else n
            for i, n in enumerate(site.domain)
        ]
        ends = [s * (n - 1) for s, n in zip(access.strides, extents, strict=True)]
        ends += [access.chunk_stride * (len(self.borders) - 1)]
        if access.index is not None:
            ends.append(access.index_stride * (access.index_extent - 1))
        return (
            access.offset + sum(min(e, 0) for e in ends),
            access.offset + sum(max(e, 0) for e in ends),
        )

    # ------------------------------------------------------------------ dtypes

    def dtypes(self, stage: Stage) -> None:
        if isinstance(stage, Extern):
            for access, _, dtype in (*stage.inputs, stage.output):
                if self.buffer(access.buffer).dtype is not dtype:
                    _fail(f"buffer {access.buffer} is not {dtype}")
            return
        found: list[DType] = []
        domain = stage.domain if not isinstance(stage, Contract) else (
            *stage.batch, stage.m, stage.n
        )  # fmt: skip
        for body in stage_bodies(stage):
            last = isinstance(stage, Contract) and body is stage.epilogue
            found = [stage.dtype] if isinstance(stage, Contract) and last else []
            self.body(body, found, len(domain))
            if isinstance(stage, Contract) and not last and not found:
                _fail("an operand without a value")
        if isinstance(stage, Reduce):
            if not 0 <= stage.value < len(found):
                _fail(f"value {stage.value} does not exist")
            if stage.is_position and self.buffer(stage.store.buffer).dtype is not int64:
                _fail("positions are int64")
            if stage.is_position and len(stage.axes) != 1:
                _fail("a position is along one axis")
            return
        for store in stage.stores:
            if not 0 <= store.value < len(found):
                _fail(f"value {store.value} does not exist")
            held = self.buffer(store.access.buffer)
            if held.dtype is not found[store.value]:
                _fail(
                    f"{found[store.value]} is stored to buffer {store.access.buffer}, {held.dtype}"
                )

    def body(self, body: Body, found: list[DType], rank: int) -> None:
        """Append the dtype of every value."""
        if len(body.load_dtypes) != len(body.loads):
            _fail("a load without a dtype")
        for access, dtype in zip(body.loads, body.load_dtypes, strict=True):
            if self.buffer(access.buffer).dtype is not dtype:
                _fail(f"{dtype} is loaded from buffer {access.buffer}, "
                      f"{self.buffer(access.buffer).dtype}")  # fmt: skip
            if access.index is not None and (
                not 0 <= access.index < len(found) or found[access.index].category != INTEGER
            ):
                _fail(f"index {access.index} is no integer loaded before")
            found.append(dtype)
        for instr in body.instrs:
            if any(not 0 <= a < len(found) for a in instr.args):
                _fail(f"{instr.word} reads a value that is not there yet")
            args = [found[a] for a in instr.args]
            expected = _result(instr.word, args, instr.dtype)
            if expected is not instr.dtype:
                _fail(f"{instr.word} of {args} gives {expected}, not {instr.dtype}")
            if instr.word == "index" and not 0 <= int(instr.value or 0) < rank:
                _fail(f"no axis {instr.value}")
            found.append(instr.dtype)

    # ------------------------------------------------------------------ large kernels

    def windows(self) -> None:
        """By strides: whoever loads a stored buffer stays within the rows that it stores."""
        stored: set[int] = set()
        for stage, cut in self.staged:
            touched = list(stage_sites(stage, cut))
            for number in {s.access.buffer for s in touched if not s.writes} - stored:
                if number >= self.inputs:
                    _fail(f"buffer {number} is read before it is written")
            stored |= {s.access.buffer for s in touched if s.writes}
        sites = [s for stage, cut in self.staged if cut for s in stage_sites(stage, cut)]
        written = {s.access.buffer for s in sites if s.writes}
        for number in written & {s.access.buffer for s in sites if not s.writes}:
            touching = [s for s in sites if s.access.buffer == number]
            if self.is_local(touching[0].access) or len(self.borders) <= 1:
                continue
            steps = {
                s.access.strides[s.row_axis] if s.row_axis is not None else 0 for s in touching
            }
            inside = [_window(s) for s in touching]
            width = max(hi for _, hi in inside) - min(lo for lo, _ in inside)
            if len(steps) != 1 or any(s.access.index is not None for s in touching):
                _fail(f"buffer {number} is stored, and loaded in other rows")
            if width >= abs(steps.pop()):
                _fail(f"the rows of buffer {number} that is stored and loaded overlap")


def _window(site: _Site) -> tuple[int, int]:
    """The elements that one row reaches, relative to the row."""
    access = site.access
    ends = [
        s * (n - 1)
        for i, (s, n) in enumerate(zip(access.strides, site.domain, strict=True))
        if i != site.row_axis
    ]
    return (
        access.offset + sum(min(e, 0) for e in ends),
        access.offset + sum(max(e, 0) for e in ends),
    )


def _result(word: str, args: Sequence[DType], given: DType) -> DType:
    """The dtype that a word gives."""
    if word in ("const", "index", "cast"):
        if len(args) != (word == "cast"):
            _fail(f"{word} with {len(args)} operands")
        return given
    known = WORDS.get(word)
    if known is None:
        _fail(f"no word {word!r} in the vocabulary")
    if len(args) != known.arity:
        _fail(f"{word} with {len(args)} operands")
    same = args[1:] if known.result is Result.SECOND else args
    if any(d is not same[0] for d in same):
        _fail(f"{word} of operands of different dtypes {list(args)}")
    if known.result is Result.SECOND and args[0].category != BOOL:
        _fail(f"{word} chooses by {args[0]}")
    return bool_ if known.result is Result.BOOL else same[0]


class _Flow:
    """Element by element: who writes what, and who reads it when."""

    def __init__(self, verifier: _Verifier) -> None:
        self.verifier = verifier
        self.kernel = verifier.kernel
        sizes = [p.size for p in self.kernel.params]
        sizes += [
            s.size if s.shared else s.row_size * verifier.chunk_rows for s in self.kernel.scratch
        ]
        self.owner = [np.full(n, -1, np.int64) for n in sizes]
        self.ready = [np.zeros(n, bool) for n in sizes]
        for param, ready in zip(self.kernel.params, self.ready, strict=False):
            ready[:] = param.mode != "out"

    def run(self) -> None:
        borders = self.verifier.borders
        for chunk, rows in enumerate(borders):
            for stage in self.kernel.stages:
                for site in stage_sites(stage, True):
                    if site.writes and not self.verifier.is_local(site.access):
                        self.own(self.elements(site, rows, chunk), site, chunk)
        for chunk, rows in enumerate(borders):
            for number, scratch in enumerate(self.kernel.scratch, self.verifier.inputs):
                if not scratch.shared:
                    self.ready[number][:] = False
            for i, stage in enumerate(self.kernel.stages):
                self.stage(stage, True, rows, chunk, f"stage {i}")
        for i, stage in enumerate(self.kernel.finish):
            self.stage(stage, False, (0, 0), 0, f"finish stage {i}")

    def own(self, elements: Elements, site: _Site, chunk: int) -> None:
        owner = self.owner[site.access.buffer]
        held = owner[elements]
        if ((held >= 0) & (held != chunk)).any():
            _fail(f"two chunks store to the same element of buffer {site.access.buffer}")
        owner[elements] = chunk

    def stage(self, stage: Stage, cut: bool, rows: tuple[int, int], chunk: int, where: str) -> None:
        sites = list(stage_sites(stage, cut))
        reached = [self.elements(s, rows, chunk) for s in sites]
        for site, elements in zip(sites, reached, strict=True):
            number = site.access.buffer
            if site.writes:
                if np.unique(elements).size != elements.size:
                    _fail(f"{where}: several points store to the same element of buffer {number}")
                continue
            if not self.ready[number][elements].all():
                _fail(f"{where} reads buffer {number} before it is written")
            owner = self.owner[number][elements]
            if cut and not self.verifier.is_local(site.access) and (
                (owner >= 0) & (owner != chunk)
            ).any():  # fmt: skip
                _fail(f"{where}: a chunk loads from buffer {number} what another chunk stores")
        for (a, x), (b, y) in product(zip(sites, reached, strict=True), repeat=2):
            if not a.writes and b.writes and a.access.buffer == b.access.buffer:
                self.in_place(a, x.ravel(), y.ravel(), where)
        for site, elements in zip(sites, reached, strict=True):
            if site.writes:
                self.ready[site.access.buffer][elements] = True

    def in_place(self, load: _Site, loaded: Elements, stored: Elements, where: str) -> None:
        """A point may overwrite what it loads itself, nothing that another point loads."""
        order = np.full(self.owner[load.access.buffer].size, -1, np.int64)
        order[stored] = np.arange(stored.size)
        points = order[loaded]
        clash = points >= 0
        if load.aligned and loaded.size == stored.size:
            clash &= points != np.arange(loaded.size)
        if clash.any():
            _fail(
                f"{where}: a point loads from buffer {load.access.buffer} what another one stores"
            )

    def elements(self, site: _Site, rows: tuple[int, int], chunk: int) -> Elements:
        """The element numbers of a chunk's points; for an index, of all its values."""
        access, local = site.access, self.verifier.is_local(site.access)
        spans = [
            (0 if local else rows[0], rows[1] - rows[0] * local) if i == site.row_axis else (0, n)
            for i, n in enumerate(site.domain)
        ]
        found = np.full([hi - lo for lo, hi in spans], access.offset + chunk * access.chunk_stride)
        for i, ((lo, hi), stride) in enumerate(zip(spans, access.strides, strict=True)):
            line = np.arange(lo, hi) * stride
            found += line.reshape([-1 if i == j else 1 for j in range(len(spans))])
        if access.index is not None:
            found = found[..., None] + np.arange(access.index_extent) * access.index_stride
        return found
