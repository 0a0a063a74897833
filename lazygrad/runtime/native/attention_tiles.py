"""What attention is made of, forward and backward: a tile of its weights at a time.

A tile has up to `TILE` keys as rows and up to `TILE` queries as columns. Vectors lie along the
queries, so the largest score and the sum of each query are lanes of vectors, and nothing is added
up across a vector. Sums over the width and the depth are one chain of fused multiply-adds each;
those over keys and over queries are chains of `TILE` terms that are added in order. So rounding
depends on nothing but the operands: not on strides, threads, or what else a kernel computes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lazygrad.dtypes import BOOL, DType
from lazygrad.ops.scalar_math import Instr
from lazygrad.runtime.kernel import Body, Extern
from lazygrad.runtime.native.llvm import Function, Index, Value, vector
from lazygrad.runtime.native.nest import Operand, Walk, emit_map
from lazygrad.runtime.native.pack import transpose
from lazygrad.runtime.native.target import host
from lazygrad.runtime.native.tiles import Strip, Target, Tile, rows_apart
from lazygrad.runtime.native.unit import Frame
from lazygrad.runtime.native.words import NativeMath, Term
from lazygrad.shapes import Shape

TILE = 64  # queries, keys: both tiles, and the operands of their products, stay in the cache

_ORDER = {"out": "bthd", "g": "bthd"}  # the axes of operands: others have heads before time


@dataclass(frozen=True, slots=True)
class Form:
    """All that shapes the code. `operands` are what the unit reads, then what it writes."""

    operands: tuple[str, ...]
    words: tuple[str, ...]
    dtype: DType
    causal: bool
    scale: float
    mask: DType | None
    still: tuple[bool, bool]  # whether the mask is the same for all queries, for all keys
    rooms: tuple[tuple[str, int | str], ...]  # memory of a thread: see `Tiles`


def numbers_of(stage: Extern, names: tuple[str, ...]) -> dict[str, int]:
    """The numbers that the code reads: offset and strides of the operands, and the extents."""
    found: dict[str, int] = {}
    shapes: dict[str, Shape] = {}
    for name, (access, shape, _) in zip(names, stage.inputs, strict=True):
        found[name], shapes[name] = access.offset, shape
        for axis, n, s in zip(_ORDER.get(name, "bhtd"), shape, access.strides, strict=True):
            found[f"{name}_{axis}"] = 0 if n == 1 else s
    _, found["heads"], found["time"], found["width"] = shapes["q"]
    _, found["shared"], found["source"], found["depth"] = shapes["v"]
    found["group"] = found["heads"] // found["shared"]
    return found


def tile_of(dtype: DType) -> Tile:
    """The micro-kernel of the products, whose sums are short and whose operands are near."""
    here = host()
    lanes = here.lanes * 4 // dtype.itemsize
    rows = 8 if here.registers >= 32 else 6
    element = "float" if dtype.itemsize == 4 else "double"
    return Tile(element, lanes, 2, rows, masks=here.lanes >= 8)


def product(tile: Tile) -> Function:
    """`product(a, a_row, a_k, b, b_k, c, c_row, rows, columns, depth, add, ...)`: c (+)= a @ b.

    Strides are in elements; columns of b and c are contiguous. The last numbers are those of a
    `Triangle`: what lies outside of it is not computed.
    """
    params = [
        ("ptr", "a"), ("i64", "a_row"), ("i64", "a_k"), ("ptr", "b"), ("i64", "b_k"), ("ptr", "c"),
        ("i64", "c_row"), ("i64", "rows"), ("i64", "columns"), ("i64", "depth"), ("i1", "add"),
        ("i64", "left"), ("i64", "low"), ("i64", "across"), ("i64", "down"),
    ]  # fmt: skip
    f = Function(f"product_{tile.element}", params, "void", "nounwind noinline", internal=True)
    a, a_row, a_k, b, b_k, c, c_row, rows, columns, depth, add, *triangle = f.params
    left, low, across, down = triangle
    e = tile.element

    def at_least_0(x: Index) -> Value:
        return f.intrinsic("smax", f.i64(x), f.i64(0))

    with f.loop(0, rows, tile.rows) as i:
        high = f.i64(f.min(tile.rows, f.sub(rows, i)))
        start = at_least_0(f.add(i, low))
        stop = f.min(depth, f.add(f.add(i, down), tile.rows))
        here = f.gep(e, f.gep(e, a, f.mul(i, a_row)), f.mul(start, a_k))
        strip = Strip(f, tile, rows_apart(f, e, here, a_row), a_k, high)
        target = Target(f.gep(e, c, f.mul(i, c_row)), c_row, add)
        panels = f.div(at_least_0(f.add(i, left)), tile.columns)
        with f.loop(f.mul(panels, tile.columns), columns, tile.columns) as j:
            wide = f.i64(f.sub(columns, j))
            last = f.min(stop, f.add(f.add(j, across), tile.columns))
            count = f.sub(last, start)
            there = f.gep(e, f.gep(e, b, f.mul(start, b_k)), j)
            strip.compute(there, b_k, count, target.moved(f, e, j), wide)
    f.ret()
    return f


_FAR = 1 << 40  # further than any position


@dataclass(frozen=True, slots=True)
class Triangle:
    """The part of a product that is not zero for sure, where queries see earlier keys only.

    Columns begin at row + `left`; sums run over positions from row + `low` to row + `down` and to
    column + `across`. By default that is everything.
    """

    left: Index = -_FAR
    low: Index = -_FAR
    across: Index = _FAR
    down: Index = _FAR


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix in memory: strides of its rows and its columns."""

    pointer: Value
    row: Index
    column: Index = 1

    @property
    def turned(self) -> Matrix:
        """The transposed matrix."""
        return Matrix(self.pointer, self.column, self.row)


@dataclass(frozen=True, slots=True)
class Queries:
    """The queries of a tile: the first of them, how many, and the lanes that these take."""

    batch: Index
    head: Index
    shared: Index
    first: Index
    rows: Value
    lanes: Value


class Tiles:
    """A unit under construction: its numbers, its memory, and the steps of both passes.

    The rooms of a form are tiles in the memory of the thread: names, and how many rows of `TILE`
    elements, a number or a word.
    """

    def __init__(self, form: Form, name: str) -> None:
        self.form, self.tile = form, tile_of(form.dtype)
        self.element = self.tile.element
        self.type = vector(self.element, self.tile.lanes)
        self.frame = Frame(name, len(form.operands))
        f = self.f = self.frame.f
        self.math = NativeMath(f, self.tile.lanes)
        self.words = {w: self.frame.word(k) for k, w in enumerate(form.words)}
        self.bases = {n: self.frame.pointer(k) for k, n in enumerate(form.operands)}
        self.rooms: dict[str, Value] = {}
        at: Index = 0
        for room, rows in form.rooms:
            self.rooms[room] = f.gep(self.element, self.frame.local, f.mul(at, TILE))
            at = f.add(at, self.words[rows] if isinstance(rows, str) else rows)
        self._product = product(self.tile)

    # addresses

    def at(self, name: str, batch: Index, head: Index, time: Index) -> Matrix:
        """The rows of an operand from a point on."""
        f, w = self.f, self.words
        index: Index = w[name]
        for position, axis in ((batch, "b"), (head, "h"), (time, "t")):
            index = f.add(index, f.mul(position, w[f"{name}_{axis}"]))
        return Matrix(f.gep(self.element, self.bases[name], index), w[f"{name}_t"])

    def room(self, name: str) -> Matrix:
        """A tile as a matrix."""
        return Matrix(self.rooms[name], TILE)

    def load(self, room: str, row: Index, column: Index) -> Term:
        """A vector of a tile."""
        f = self.f
        at = f.gep(self.element, self.rooms[room], f.add(f.mul(row, TILE), column))
        return Term(f.load(self.type, at), self.form.dtype)

    def store(self, x: Term, room: str, row: Index, column: Index) -> None:
        """Write a vector of a tile."""
        f = self.f
        f.store(x.value, f.gep(self.element, self.rooms[room], f.add(f.mul(row, TILE), column)))

    def number(self, value: float) -> Term:
        """A constant in every lane."""
        return self.math.number(value, self.form.dtype)

    # steps

    def queries(self, batch: Index, head: Index, first: Index) -> Queries:
        """The queries of the tile that begins with query `first`."""
        f, lanes = self.f, self.tile.lanes
        rows = f.i64(f.min(TILE, f.sub(self.words["time"], first)))
        wide = f.mul(f.div(f.add(rows, lanes - 1), lanes), lanes)
        return Queries(batch, head, f.div(head, self.words["group"]), first, rows, f.i64(wide))

    @contextmanager
    def columns(self, queries: Queries) -> Iterator[Value]:
        """A loop over vectors of queries."""
        with self.f.loop(0, queries.lanes, self.tile.lanes) as column:
            yield column

    def turn(self, name: str, queries: Queries, extent: str, room: str) -> None:
        """The rows of an operand, one for each query, as columns; lanes without a query are 0."""
        f, count = self.f, self.words[extent]
        with f.when(f.cmp("icmp ne", queries.rows, queries.lanes)), f.loop(0, count) as i:
            self.store(self.number(0.0), room, i, f.sub(queries.lanes, self.tile.lanes))
        source = self.at(name, queries.batch, queries.head, queries.first)
        f.call_internal(
            transpose(self.element), source.pointer, f.i64(source.row), self.rooms[room],
            f.i64(TILE), queries.rows, count,
        )  # fmt: skip

    def multiply(
        self, a: Matrix, b: Matrix, c: Matrix, rows: Index, columns: Index, depth: Index,
        add: Value | bool = False, part: Triangle | None = None,
    ) -> None:  # fmt: skip
        """Write c = a @ b, or c += where `add` holds."""
        f = self.f
        more = f.const("i1", add) if isinstance(add, bool) else add
        sizes = [f.i64(n) for n in (c.row, rows, columns, depth)]
        p = part if part is not None and self.form.causal else Triangle()
        f.call_internal(
            self._product, a.pointer, f.i64(a.row), f.i64(a.column), b.pointer, f.i64(b.row),
            c.pointer, *sizes, more, *(f.i64(n) for n in (p.left, p.low, p.across, p.down)),
        )  # fmt: skip

    def begin(self, queries: Queries) -> None:
        """No key has been seen yet."""
        with self.columns(queries) as column:
            self.store(self.number(-math.inf), "top", 0, column)
            self.store(self.number(0.0), "sum", 0, column)

    @contextmanager
    def keys(self, queries: Queries) -> Iterator[tuple[Value, Value]]:
        """A loop over tiles of the keys that some query sees: the first key, and how many."""
        f = self.f
        stop = self.seen(queries)
        with f.loop(0, stop, TILE) as first:
            yield first, f.i64(f.min(TILE, f.sub(stop, first)))

    def seen(self, queries: Queries) -> Value:
        """How many keys there are for the queries of a tile."""
        f, source = self.f, self.words["source"]
        if not self.form.causal:
            return source
        return f.i64(f.min(source, f.add(queries.first, queries.rows)))

    def scores(self, queries: Queries, first: Value, keys: Value) -> None:
        """The products of a tile of keys with the queries, and the mask of the tile."""
        k, width = self.at("k", queries.batch, queries.shared, first), self.words["width"]
        part = Triangle(left=self.f.sub(first, queries.first))
        self.multiply(k, self.room("q"), self.room("p"), keys, queries.lanes, width, part=part)
        if self.form.mask is not None:
            self._fetch_mask(queries, first, keys)

    def _fetch_mask(self, queries: Queries, first: Value, keys: Value) -> None:
        """The mask of a tile, as numbers: 0 and -inf for bools."""
        f, w, form = self.f, self.words, self.form
        assert form.mask is not None
        index: Index = w["mask"]
        where = (queries.batch, queries.head, queries.first, first)
        for position, axis in zip(where, "bhtd", strict=True):
            index = f.add(index, f.mul(position, w[f"mask_{axis}"]))
        one_for_all, all_for_one = form.still
        strides: tuple[Index, Index] = (int(not all_for_one), 0 if one_for_all else w["mask_t"])
        source = Operand(self.bases["mask"], form.mask, strides)
        source = Operand(f.gep(source.element, source.pointer, index), form.mask, strides)
        instrs: tuple[Instr, ...] = ()
        if form.mask.category == BOOL:
            zero, never = (Instr("const", (), form.dtype, x) for x in (0.0, -math.inf))
            instrs = (zero, never, Instr("where", (0, 1, 2), form.dtype))
        body = Body((), (form.mask,), instrs)
        target = Operand(self.rooms["mask"], form.dtype, (TILE, 1))
        turned = () if one_for_all or all_for_one else (0,)
        walk = Walk((0, 1) if one_for_all else (1, 0), 1, turned)
        emit_map(f, (keys, queries.rows), body, [source], [(target, len(instrs))], walk=walk)

    def score(self, j: Value, column: Value, ahead: Value) -> Term:
        """The scores of key `j` of a tile; `ahead`: the last key of it that each query sees."""
        f, m, form = self.f, self.math, self.form
        s = m.mul(self.load("p", j, column), self.number(form.scale))
        if form.mask is not None:
            extra = self.load("mask", j, column)
            flags = form.mask.category == BOOL
            s = m.where(m.lt(extra, 0.0), self.number(-math.inf), s) if flags else m.add(s, extra)
        if form.causal:
            here = f.splat(f.convert("trunc", j, "i32"), self.tile.lanes)
            never = self.number(-math.inf).value
            s = Term(f.select(f.cmp("icmp sle", here, ahead), s.value, never), s.dtype)
        return s

    def ahead(self, queries: Queries, first: Value, column: Value) -> Value:
        """For each query of a vector how many keys of a tile, less one, it sees if causal."""
        f, lanes = self.f, self.tile.lanes
        before = f.i64(f.sub(f.add(queries.first, column), first))
        narrow = f.splat(f.convert("trunc", before, "i32"), lanes)
        return f.bin("add", narrow, f.steps(lanes, "i32"))

    @contextmanager
    def rows(
        self, queries: Queries, first: Value, keys: Value, column: Value, room: str
    ) -> Iterator[Value]:
        """A loop over the keys of a tile that a vector of queries sees; the others become 0."""
        f = self.f
        stop = keys
        if self.form.causal:
            reach = f.add(f.sub(f.add(queries.first, column), first), self.tile.lanes)
            stop = f.intrinsic("smax", f.i64(f.min(keys, reach)), f.i64(0))
        with f.loop(0, stop) as j:
            yield j
        with f.loop(stop, keys) as j:
            self.store(self.number(0.0), room, j, column)

    def base(self, top: Term) -> Term:
        """What is subtracted from scores: the largest, or 0 where no key was seen."""
        return self.math.where(self.math.gt(top, -math.inf), top, self.number(0.0))

    def soften(self, queries: Queries, first: Value, keys: Value) -> None:
        """Scores become exp(score - the largest so far); "top" and "sum" go on.

        What was added up before is to be multiplied by "less".
        """
        f, m = self.f, self.math
        with self.columns(queries) as column:
            ahead = self.ahead(queries, first, column)
            old = self.load("top", 0, column)
            slot = f.variable(self.type, old.value)
            with self.rows(queries, first, keys, column, "p") as j:
                s = self.score(j, column, ahead)
                self.store(s, "p", j, column)
                f.store(m.maximum(Term(f.load(self.type, slot), s.dtype), s).value, slot)
            top = Term(f.load(self.type, slot), old.dtype)
            self.store(top, "top", 0, column)
            base = self.base(top)
            less = m.exp(m.sub(old, base))
            self.store(less, "less", 0, column)
            total = f.variable(self.type, m.mul(self.load("sum", 0, column), less).value)
            with self.rows(queries, first, keys, column, "p") as j:
                e = m.exp(m.sub(self.load("p", j, column), base))
                self.store(e, "p", j, column)
                f.store(m.add(Term(f.load(self.type, total), e.dtype), e).value, total)
            self.store(Term(f.load(self.type, total), old.dtype), "sum", 0, column)
