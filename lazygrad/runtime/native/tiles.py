"""The micro-kernel of matrix products: a tile of the result whose sums stay in registers.

A tile has `rows` rows of `vectors` vectors. Each step of the inner axis loads one row of B, which
lies along the lanes, and broadcasts one element of each row of A, which may lie anywhere. Every
element of the result is a chain of fused multiply-adds in ascending order from 0, whatever the
shape of the tile: rounding depends on the extent of the inner axis alone. The blocking for caches
is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lazygrad.runtime.native.llvm import Function, Value, vector

BYTES = {"float": 4, "double": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8}
SEGMENT = 512  # terms of one chain; a longer sum adds up the chains of its segments, in order

CONTINUE = 1  # the chains go on from what `start` holds
ADD = 2  # the result is added to what `c` holds


@dataclass(frozen=True, slots=True)
class Tile:
    """The shape of a micro-kernel; `element` is the type of operands and sums."""

    element: str
    lanes: int
    vectors: int
    rows: int
    logical: bool = False  # or of ands in place of a sum of products
    ahead: bool = False  # B lies where it is: its next panel is fetched meanwhile

    @property
    def columns(self) -> int:
        """How many columns of the result it has."""
        return self.lanes * self.vectors

    def function(self) -> Function:
        """`tile(a, a_row, a_k, b, b_k, k, c, c_row, start, rows, columns, flags)`.

        c[i, j] (+)= sum of a[i * a_row + l * a_k] * b[l * b_k + j] for i < rows <= self.rows and
        j < columns, of which no more than self.columns are computed. `start` has the rows of `c`.
        """
        return _Writer(self).write()


class _Writer:
    """Writes the function of a tile."""

    def __init__(self, tile: Tile) -> None:
        self.tile = tile
        name = f"tile_{tile.element}_{tile.rows}x{tile.vectors}x{tile.lanes}"
        self.f = f = Function(
            name + "_any" * tile.logical + "_ahead" * tile.ahead,
            [
                ("ptr", "a"), ("i64", "a_row"), ("i64", "a_k"), ("ptr", "b"), ("i64", "b_k"),
                ("i64", "k"), ("ptr", "c"), ("i64", "c_row"), ("ptr", "start"), ("i64", "rows"),
                ("i64", "columns"), ("i64", "flags"),
            ],
            attributes="nounwind alwaysinline",
            internal=True,
        )  # fmt: skip
        self.type = vector(tile.element, tile.lanes)
        self.masks = [lane_mask(f, tile.lanes, f.params[10], v) for v in range(tile.vectors)]

    def write(self) -> Function:
        """The whole function."""
        f, tile = self.f, self.tile
        a, a_row, a_k, b, b_k, k, c, _, start, rows, _, _ = f.params
        lines = [a]
        for r in range(1, tile.rows):  # rows beyond the last repeat it, and are not stored
            at = f.min(r, f.sub(rows, 1))
            lines.append(f.gep(tile.element, a, f.mul(at, a_row)))
        sums = [
            [f.variable(self.type, f.const(self.type, 0)) for _ in range(tile.vectors)]
            for _ in range(tile.rows)
        ]
        with f.when(self.flag(CONTINUE)):
            self.each_row(lambda r: self.begin(sums[r], self.row(start, r)))
        at_a = f.variable("i64", f.i64(0))
        at_b = f.variable("ptr", b)
        with f.loop(0, k):
            here, there = f.load("i64", at_a), f.load("ptr", at_b)
            if tile.ahead:
                for byte in range(0, tile.columns * BYTES[tile.element], 64):
                    beyond = f.gep(tile.element, there, tile.columns)
                    f.prefetch(f.gep("i8", beyond, byte), 2)
            right = [
                f.masked_load(self.type, f.gep(tile.element, there, v * tile.lanes), mask)
                for v, mask in enumerate(self.masks)
            ]
            for line, row in zip(lines, sums, strict=True):
                left = f.load(tile.element, f.gep(tile.element, line, here))
                wide = f.splat(left, tile.lanes)
                for slot, x in zip(row, right, strict=True):
                    f.store(self.fused(wide, x, f.load(self.type, slot)), slot)
            f.store(f.i64(f.add(here, a_k)), at_a)
            f.store(f.gep(tile.element, there, b_k), at_b)
        plain, add, done = f.label("plain"), f.label("add"), f.label("done")
        f.branch_if(self.flag(ADD), add, plain)
        f.block(add)
        self.each_row(lambda r: self.end(sums[r], self.row(c, r), add=True))
        f.branch(done)
        f.block(plain)
        self.each_row(lambda r: self.end(sums[r], self.row(c, r), add=False))
        f.branch(done)
        f.block(done)
        f.ret()
        return f

    def flag(self, bit: int) -> Value:
        f = self.f
        return f.cmp("icmp ne", f.bin("and", f.params[11], f.i64(bit)), f.i64(0))

    def each_row(self, body: Callable[[int], None]) -> None:
        f = self.f
        for r in range(self.tile.rows):
            with f.when(f.cmp("icmp slt", f.i64(r), f.params[9])):
                body(r)

    def row(self, base: Value, r: int) -> Value:
        f = self.f
        return f.gep(self.tile.element, base, f.mul(r, f.params[7]))

    def parts(self, at: Value) -> list[tuple[Value, Value]]:
        """The addresses of the vectors of a row, and their masks."""
        f, tile = self.f, self.tile
        return [
            (f.gep(tile.element, at, v * tile.lanes), mask) for v, mask in enumerate(self.masks)
        ]

    def begin(self, sums: list[Value], at: Value) -> None:
        f = self.f
        for slot, (place, mask) in zip(sums, self.parts(at), strict=True):
            f.store(f.masked_load(self.type, place, mask), slot)

    def end(self, sums: list[Value], at: Value, add: bool) -> None:
        f = self.f
        for slot, (place, mask) in zip(sums, self.parts(at), strict=True):
            value = f.load(self.type, slot)
            if add:
                value = self.sum(f.masked_load(self.type, place, mask), value)
            f.masked_store(value, place, mask)

    def fused(self, x: Value, y: Value, z: Value) -> Value:
        f = self.f
        if self.tile.element in ("float", "double"):
            return f.intrinsic("fma", x, y, z)
        return self.sum(z, f.bin("and" if self.tile.logical else "mul", x, y))

    def sum(self, x: Value, y: Value) -> Value:
        word = "fadd" if self.tile.element in ("float", "double") else "add"
        return self.f.bin("or" if self.tile.logical else word, x, y)


def lane_mask(f: Function, lanes: int, count: Value, at: int) -> Value:
    """Which lanes of the `at`-th vector lie below `count`."""
    left = f.convert("trunc", f.i64(f.sub(count, at * lanes)), "i32")
    return f.cmp("icmp slt", f.steps(lanes, "i32"), f.splat(left, lanes))
