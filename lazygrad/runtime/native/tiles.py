"""The micro-kernel of matrix products: a tile of the result whose sums stay in registers.

A tile has `rows` rows of `vectors` vectors. Each step of the inner axis loads one row of B, which
lies along the lanes, and broadcasts one element of each row of A, which may lie anywhere. Every
element of the result is a chain of fused multiply-adds in ascending order from 0, whatever the
shape of the tile: rounding depends on the extent of the inner axis alone. The blocking for caches
is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lazygrad.runtime.native.llvm import Function, Index, Value, vector

SEGMENT = 512  # terms of one chain; a longer sum adds up the chains of its segments, in order

BYTES = {"float": 4, "double": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8}


@dataclass(frozen=True, slots=True)
class Tile:
    """The shape of a micro-kernel; `element` is the type of operands and sums."""

    element: str
    lanes: int
    vectors: int
    rows: int
    logical: bool = False  # or of ands in place of a sum of products
    ahead: bool = False  # B lies where it is: its next panel is fetched meanwhile
    streams: bool = False  # rows of A are long, contiguous, and come from memory
    masks: bool = True  # masked vectors cost no more than others, so that all may be masked

    @property
    def columns(self) -> int:
        """How many columns of the result it has."""
        return self.lanes * self.vectors


@dataclass(frozen=True, slots=True)
class Target:
    """Where a tile ends: c (+)= its sums.

    They are added to what `c` holds where `add` is true; None: never. Its rows are `step` elements
    apart.
    """

    c: Value
    step: Index
    add: Value | None = None

    def moved(self, f: Function, element: str, by: Index) -> Target:
        """The target of elements further on."""
        return replace(self, c=f.gep(element, self.c, by))


@dataclass(frozen=True, slots=True)
class Table:
    """The places of elements that lie nowhere regular: i64 offsets in memory."""

    places: Value


_BEYOND = 2048  # bytes by which a stream is fetched ahead
_Masks = Sequence[Value | None]


class Strip:
    """A strip of `rows` rows, at most those of a tile, of which tiles are computed one by one.

    Row i of A begins at `line(i)`. Its elements are `a_k` apart, or lie where a table of offsets
    says.
    """

    def __init__(
        self, f: Function, tile: Tile, line: Callable[[Index], Value], a_k: Index | Table,
        rows: Value,
    ) -> None:  # fmt: skip
        self.f, self.tile, self.a_k = f, tile, a_k
        self.type = vector(tile.element, tile.lanes)
        last = f.sub(rows, 1)  # rows beyond the last repeat it, and are not stored
        self.lines = [line(f.min(r, last) if r else 0) for r in range(tile.rows)]
        self.exist = [f.cmp("icmp slt", f.i64(r), rows) for r in range(tile.rows)]

    def compute(self, b: Value, b_k: Index, k: Index, target: Target, columns: Value) -> None:
        """The tile of b[l * b_k + j] for l < k and j < columns, which may be more than its own."""
        f, tile = self.f, self.tile
        if tile.masks:
            self._compute(b, b_k, k, target, _masks(f, tile, columns))
            return
        full, edge, done = f.label("full"), f.label("edge"), f.label("done")
        f.branch_if(f.cmp("icmp sge", columns, f.i64(tile.columns)), full, edge)
        f.block(full)
        self._compute(b, b_k, k, target, [None] * tile.vectors)
        f.branch(done)
        f.block(edge)
        self._compute(b, b_k, k, target, _masks(f, tile, columns))
        f.branch(done)
        f.block(done)

    def _compute(self, b: Value, b_k: Index, k: Index, target: Target, masks: _Masks) -> None:
        f = self.f
        zero = f.const(self.type, 0)
        sums = [[f.variable(self.type, zero) for _ in masks] for _ in range(self.tile.rows)]
        self._add_products(sums, b, b_k, k, masks)
        if target.add is None:
            self._end(sums, target, masks, add=False)
            return
        plain, add, done = f.label("plain"), f.label("add"), f.label("done")
        f.branch_if(target.add, add, plain)
        for label in (add, plain):
            f.block(label)
            self._end(sums, target, masks, add=label == add)
            f.branch(done)
        f.block(done)

    def _add_products(
        self, sums: list[list[Value]], b: Value, b_k: Index, k: Index, masks: _Masks
    ) -> None:
        f, tile, a_k = self.f, self.tile, self.a_k
        at_a, at_b = f.variable("i64", f.i64(0)), f.variable("ptr", b)

        def steps(start: Index, stop: Index) -> None:
            with f.loop(start, stop) as k:
                there = f.load("ptr", at_b)
                if isinstance(a_k, Table):
                    self._step(sums, f.load("i64", f.gep("i64", a_k.places, k)), there, masks)
                else:
                    here = f.load("i64", at_a)
                    self._step(sums, here, there, masks)
                    f.store(f.i64(f.add(here, a_k)), at_a)
                f.store(f.gep(tile.element, there, b_k), at_b)

        if not tile.streams:
            steps(0, k)
            return
        size = BYTES[tile.element]
        with f.loop(0, k, 64 // size) as first:
            for line in self.lines:
                f.prefetch(f.gep(tile.element, line, f.add(first, _BEYOND // size)), 2)
            steps(first, f.min(k, f.add(first, 64 // size)))

    def _step(self, sums: list[list[Value]], here: Value, there: Value, masks: _Masks) -> None:
        """Add the products of one position of the inner axis."""
        f, tile = self.f, self.tile
        if tile.ahead:
            beyond = f.gep(tile.element, there, tile.columns)
            for byte in lines_of(tile.columns * BYTES[tile.element]):
                f.prefetch(f.gep("i8", beyond, byte), 2)
        right = [
            self._load(f.gep(tile.element, there, v * tile.lanes), mask)
            for v, mask in enumerate(masks)
        ]
        for line, row in zip(self.lines, sums, strict=True):
            left = f.load(tile.element, f.gep(tile.element, line, here))
            wide = f.splat(left, tile.lanes)
            for slot, x in zip(row, right, strict=True):
                f.store(self._fused(wide, x, f.load(self.type, slot)), slot)

    def _end(self, sums: list[list[Value]], target: Target, masks: _Masks, add: bool) -> None:
        """Store the rows that exist."""
        f, tile = self.f, self.tile
        for r, row in enumerate(sums):
            line = f.gep(tile.element, target.c, f.mul(r, target.step))
            with f.when(self.exist[r]):
                for v, (slot, mask) in enumerate(zip(row, masks, strict=True)):
                    at, x = f.gep(tile.element, line, v * tile.lanes), f.load(self.type, slot)
                    if add:
                        x = self._sum(self._load(at, mask), x)
                    if mask is None:
                        f.store(x, at)
                    else:
                        f.masked_store(x, at, mask)

    def _load(self, at: Value, mask: Value | None) -> Value:
        f = self.f
        return f.load(self.type, at) if mask is None else f.masked_load(self.type, at, mask)

    def _fused(self, x: Value, y: Value, z: Value) -> Value:
        f = self.f
        if self.tile.element in ("float", "double"):
            return f.intrinsic("fma", x, y, z)
        return self._sum(z, f.bin("and" if self.tile.logical else "mul", x, y))

    def _sum(self, x: Value, y: Value) -> Value:
        word = "fadd" if self.tile.element in ("float", "double") else "add"
        return self.f.bin("or" if self.tile.logical else word, x, y)


def rows_apart(f: Function, element: str, first: Value, step: Index) -> Callable[[Index], Value]:
    """The addresses of rows that are `step` elements apart."""
    return lambda r: f.gep(element, first, f.mul(r, step))


def lines_of(nbytes: int) -> range:
    """Where to touch the cache lines of so many bytes.

    Touched are last bytes of lines: what begins inside of a line shares it with what comes before.
    """
    return range(63, max(nbytes, 64), 64)


def _masks(f: Function, tile: Tile, columns: Value) -> list[Value | None]:
    """Which lanes of each vector lie below `columns`."""
    masks: list[Value | None] = []
    for v in range(tile.vectors):
        left = f.convert("trunc", f.i64(f.sub(columns, v * tile.lanes)), "i32")
        masks.append(f.cmp("icmp slt", f.steps(tile.lanes, "i32"), f.splat(left, tile.lanes)))
    return masks
