"""The code of a product: blocks, packing, tiles, epilogue.

A block of the result is computed as a whole, all terms of its sums included, by one thread:

    for each segment of the inner axis:          (512 terms, see `tiles`)
        pack the operand along the lanes in panels as wide as a tile
        for each strip of rows: for each panel: tile
    epilogue over the block

A panel that fits into the cache at full depth is packed at once, and strips go through all
segments, so that the operand that is broadcast streams from memory once, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lazygrad.dtypes import DType
from lazygrad.runtime.kernel import Body
from lazygrad.runtime.native import pack
from lazygrad.runtime.native.lines import Known, Line, Walker
from lazygrad.runtime.native.llvm import Function, Index, Value
from lazygrad.runtime.native.nest import Operand, emit_map
from lazygrad.runtime.native.panels import Factor, Packer
from lazygrad.runtime.native.tiles import (
    BYTES,
    SEGMENT,
    Strip,
    Table,
    Target,
    Tile,
    lines_of,
    rows_apart,
)
from lazygrad.runtime.native.unit import Frame


@dataclass(frozen=True, slots=True)
class Place:
    """An access: a buffer of the unit, strides over the batch, and the two axes of a matrix."""

    buffer: int
    dtype: DType
    offset: Known
    batch: tuple[Known, ...]
    outer: Line
    inner: Line


@dataclass(frozen=True, slots=True)
class Source:
    """An operand: its only load, or a body that computes it (along the inner axis or across)."""

    places: tuple[Place, ...]
    body: Body | None
    along: bool

    @property
    def scattered(self) -> bool:
        """Whether it is read where it is, and lies in pieces."""
        place = self.places[0]
        return self.body is None and bool(place.outer.outer or place.inner.outer)


@dataclass(frozen=True, slots=True)
class Form:
    """All that shapes the code of a product."""

    words: tuple[str, ...]
    buffers: int
    batch: tuple[Known, ...]
    dtype: DType
    tile: Tile
    swapped: bool
    how: str
    turned: bool
    whole: bool
    long: bool  # more than one segment
    first: Source  # broadcast, along the rows of the tile
    second: Source  # along the lanes
    epilogue: Body | None  # None: the sums are the result
    loads: tuple[Place, ...]
    stores: tuple[Place, ...]
    values: tuple[int, ...]
    far: tuple[int, ...]  # loads of the epilogue that are fetched while the tiles are computed


@dataclass(slots=True)
class _Block:
    """A block of the result: where it begins, how large it is."""

    batch: list[Index]
    row: Index
    column: Index
    rows: Index
    columns: Index


def write(form: Form, name: str) -> Function:
    """The function of a unit."""
    return _Writer(form, name).write()


class _Writer:
    def __init__(self, form: Form, name: str) -> None:
        self.form, self.tile = form, form.tile
        self.element = form.tile.element
        self.frame = Frame(name, form.buffers)
        self.f = self.frame.f
        self.words = {w: self.frame.word(k) for k, w in enumerate(form.words)}
        self.bases = [self.frame.pointer(k) for k in range(form.buffers)]
        self.walker = Walker(self.f, self.number)
        places = self.room("right_inner") if form.how == "spread" else None
        self.packer = Packer(self.walker, form.tile, form.how, places)

    def write(self) -> Function:
        with self.f.loop(self.frame.lo, self.frame.hi) as number:
            self.block(number)
        return self.frame.finish()

    # numbers and addresses

    def number(self, known: Known) -> Index:
        return self.words[known] if isinstance(known, str) else known

    def room(self, name: str) -> Value:
        """Working memory of the thread."""
        return self.f.gep("i8", self.frame.local, self.words[name])

    def at(self, base: Value, *steps: tuple[Index, Index]) -> Value:
        """An address: a base and positions times strides."""
        return self.walker.at(self.element, base, *steps)

    def operand(self, place: Place, batch: Sequence[Index], outer: Index, inner: Index) -> Operand:
        """An access from a point on, over an axis of extent 1 for each of the batch, and two."""
        f, place_of = self.f, self.walker.place
        rows, columns = self.number(place.outer.step), self.number(place.inner.step)
        at = f.add(place_of(place.outer, outer), place_of(place.inner, inner))
        for position, stride in zip(batch, place.batch, strict=True):
            at = f.add(at, f.mul(position, self.number(stride)))
        base = Operand(self.bases[place.buffer], place.dtype, (0,) * len(batch) + (rows, columns))
        pointer = f.gep(base.element, base.pointer, f.add(at, self.number(place.offset)))
        return Operand(pointer, place.dtype, base.strides)

    # blocks

    def block(self, number: Value) -> None:
        f, w, form = self.f, self.words, self.form
        across = f.i64(f.rem(number, w["across"]))
        rest = f.div(number, w["across"])
        row = f.mul(f.rem(rest, w["down"]), w["high"])
        rest = f.div(rest, w["down"])
        batch: list[Index] = []
        for k, extent in reversed(list(enumerate(form.batch))):
            batch.insert(0, f.rem(rest, self.number(extent)) if k else rest)
            rest = f.div(rest, self.number(extent)) if k else rest
        rows = f.min(w["high"], f.sub(w["rows"], row))
        if self.tile.ahead:
            column, end = self.aligned(batch, across)
        else:
            column = f.mul(across, w["wide"])
            end = f.min(w["columns"], f.add(column, w["wide"]))
        block = _Block(batch, row, column, rows, f.sub(end, column))
        target = self.target(block)
        if form.whole:
            self.by_strips(block, target)
        else:
            self.by_segments(block, target)
        self.end(block, target)

    def aligned(self, batch: list[Index], across: Value) -> tuple[Index, Index]:
        """The columns of a block, so that panels of the operand along the lanes begin at lines.

        Else two panels would share each line, which would come from memory twice. The last block
        has the columns by which the others are moved, the first panel of all is narrower.
        """
        f, w = self.f, self.words
        before = self.before(self.operand(self.form.second.places[0], batch, 0, 0).pointer)
        start = f.sub(f.mul(across, w["wide"]), before)
        last = f.cmp("icmp eq", f.i64(f.add(across, 1)), w["across"])
        end = f.select(last, w["columns"], f.i64(f.add(start, w["wide"])))
        return f.intrinsic("smax", f.i64(start), f.i64(0)), end

    def before(self, base: Value) -> Index:
        """How many elements of its cache line lie before an address."""
        f = self.f
        inside = f.bin("and", f.convert("ptrtoint", base, "i64"), f.i64(63))
        return f.div(inside, BYTES[self.element])

    def target(self, block: _Block) -> Target:
        """Where the tiles go: to their place at once if nothing is left to do."""
        form = self.form
        if form.epilogue is not None or form.turned:
            return Target(self.room("tile"), self.words["step"])
        store = form.stores[0]
        out = self.operand(store, block.batch, *self.corner(block))
        line = store.inner if form.swapped else store.outer
        return Target(out.pointer, self.number(line.step))

    def corner(self, block: _Block) -> tuple[Index, Index]:
        """The position of the block in the result."""
        return (block.column, block.row) if self.form.swapped else (block.row, block.column)

    # products

    @contextmanager
    def segments(self) -> Iterator[tuple[Index, Value, Value | None]]:
        """For each segment where it begins, how long it is, whether it is added to others."""
        f, k = self.f, self.words["k"]
        if not self.form.long:
            yield 0, k, None
            return
        with f.loop(0, k, SEGMENT) as at:
            depth = f.i64(f.min(SEGMENT, f.sub(k, at)))
            yield at, depth, f.cmp("icmp ne", at, f.i64(0))

    def by_strips(self, block: _Block, target: Target) -> None:
        """Everything packed, then each strip of rows through all segments."""
        f = self.f
        left, right = self.factor(block, first=True), self.factor(block, first=False)
        if self.form.how != "direct":
            with self.segments() as (at, depth, _):
                self.packer.pack(right, block.columns, at, depth, self.panels(at))
        rows = self.rows_of(block, left)
        steps = self.steps_of(left, 0, self.words["k"])
        with (
            f.loop(0, block.rows, self.tile.rows) as i,
            self.segments() as (at, depth, more),
        ):
            line = self.lines_from(left, rows, i, at)
            self.strip(block, i, line, steps, right, at, depth, replace(target, add=more))

    def by_segments(self, block: _Block, target: Target) -> None:
        """Segment by segment: pack it, then all strips of rows."""
        f, form = self.f, self.form
        rows = self.rows_of(block, self.factor(block, True)) if form.first.scattered else None
        with self.segments() as (at, depth, more):
            left = self.factor(block, True, at, depth)
            right = self.factor(block, False, at, depth)
            start: Index = 0
            if form.how != "direct":
                self.packer.pack(right, block.columns, start, depth, self.room("panels"))
            steps = self.steps_of(left, start, depth)
            with f.loop(0, block.rows, self.tile.rows) as i:
                line = self.lines_from(left, rows, i, start)
                self.strip(block, i, line, steps, right, start, depth, replace(target, add=more))

    def rows_of(self, block: _Block, left: Factor) -> Value | None:
        """A table of where the rows of the block are, if they are nowhere regular."""
        if not left.scattered:
            return None
        memory = self.room("left_outer")
        return self.walker.table(memory, left.outer, left.start, block.rows)

    def steps_of(self, left: Factor, at: Index, depth: Index) -> Index | Table:
        """How the elements of a row follow each other."""
        if not left.scattered:
            return self.number(left.inner.step)
        memory = self.room("left_inner")
        return Table(self.walker.table(memory, left.inner, self.f.add(left.at, at), depth))

    def lines_from(
        self, left: Factor, rows: Value | None, i: Value, at: Index
    ) -> Callable[[Index], Value]:
        """The address of each row of the strip that begins at row `i`."""
        f = self.f
        if rows is not None:
            table = f.gep("i64", rows, i)
            return lambda r: f.gep(
                self.element, left.pointer, f.load("i64", f.gep("i64", table, r))
            )
        step = self.number(left.outer.step)
        first = self.at(left.pointer, (i, step), (at, self.number(left.inner.step)))
        return rows_apart(f, self.element, first, step)

    def panels(self, at: Index) -> Value:
        """The panels of a segment: they lie one after another."""
        width = self.tile.columns
        padded = self.f.mul(self.f.div(self.f.add(self.words["wide"], width - 1), width), width)
        return self.f.gep(self.element, self.room("panels"), self.f.mul(at, padded))

    def strip(
        self, block: _Block, i: Value, line: Callable[[Index], Value], steps: Index | Table,
        right: Factor, at: Index, depth: Value, target: Target,
    ) -> None:  # fmt: skip
        """The tiles of a strip of rows, for terms that begin at `at`."""
        f, tile = self.f, self.tile
        rows = f.i64(f.min(tile.rows, f.sub(block.rows, i)))
        strip = Strip(f, tile, line, steps, rows)
        packed = self.form.how != "direct"
        base = (
            (self.panels(at) if self.form.whole else self.room("panels"))
            if packed
            else self.at(right.pointer, (at, self.number(right.inner.step)))
        )
        target = target.moved(f, self.element, f.mul(i, target.step))
        for j, width in self.panels_of(block, base):
            for k in self.form.far:
                self.fetch(self.form.loads[k], block, i, j)
            strip.compute(
                f.gep(self.element, base, f.mul(j, depth) if packed else j),
                tile.columns if packed else self.number(right.inner.step), depth,
                target.moved(f, self.element, j), width,
            )  # fmt: skip

    def panels_of(self, block: _Block, base: Value) -> Iterator[tuple[Value, Value]]:
        """A loop over panels: where each begins, how wide it is (or more than a tile)."""
        f, tile = self.f, self.tile
        if not tile.ahead:
            with f.loop(0, block.columns, tile.columns) as j:
                yield j, f.i64(f.sub(block.columns, j))
            return
        before = self.before(base)
        with f.loop(f.sub(0, before), block.columns, tile.columns) as first:
            j = f.intrinsic("smax", first, f.i64(0))
            end = f.min(block.columns, f.add(first, tile.columns))
            yield j, f.i64(f.sub(end, j))

    def fetch(self, place: Place, block: _Block, i: Value, j: Value) -> None:
        """Ask for what the epilogue reads at a tile."""
        f, tile = self.f, self.tile
        corner = f.add(block.row, i), f.add(block.column, j)
        operand = self.operand(place, block.batch, *corner)
        for r in range(tile.rows):
            line = f.gep(operand.element, operand.pointer, f.mul(r, operand.strides[-2]))
            for byte in lines_of(tile.columns * place.dtype.itemsize):
                f.prefetch(f.gep("i8", line, byte), 2, write=True)

    # factors

    def factor(self, block: _Block, first: bool, at: Index = 0, depth: Index = 0) -> Factor:
        """A factor of the block from the inner position `at` on, where it lies or computed."""
        form = self.form
        source = form.first if first else form.second
        start = block.row if first else block.column
        is_left = first != form.swapped  # of the kernel's product
        if source.body is not None:
            return self.made(block, source, first, is_left, start, at, depth)
        place = source.places[0]
        if source.scattered:
            base = self.operand(place, block.batch, 0, 0)
            return Factor(base.pointer, place.outer, place.inner, start, at, True)
        operand = self.operand(place, block.batch, start, at)
        return Factor(operand.pointer, place.outer, place.inner)

    def made(
        self, block: _Block, source: Source, first: bool, is_left: bool, start: Index, at: Index,
        depth: Index,
    ) -> Factor:  # fmt: skip
        """A factor that a body computes, for one segment, into working memory."""
        f, form, walker = self.f, self.form, self.walker
        name = "left" if first else "right"
        memory, step = self.room(name), f"{name}_step"
        lines = (Line(step), Line(1)) if source.along else (Line(1), Line(step))
        outer, inner = (self.number(line.step) for line in lines)
        body = source.body
        assert body is not None
        still = (0,) * len(block.batch)

        def ordered(o: Operand) -> Operand:
            """As the body sees it: the right operand has its inner axis first."""
            a, b = o.strides[-2:]
            return o if is_left else Operand(o.pointer, o.dtype, (*still, b, a))

        value = len(body.load_dtypes) + len(body.instrs) - 1
        extent = block.rows if first else block.columns
        with (
            walker.runs(source.places[0].outer, start, extent) as (row, high, _),
            walker.runs(source.places[0].inner, at, depth) as (column, wide, _),
        ):
            corner = f.add(start, row), f.add(at, column)
            loads = [ordered(self.operand(p, block.batch, *corner)) for p in source.places]
            to = self.at(memory, (row, outer), (column, inner))
            target = ordered(Operand(to, form.dtype, (*still, outer, inner)))
            extents, origin = (high, wide), corner
            if not is_left:
                extents, origin = extents[::-1], origin[::-1]
            emit_map(
                f, (*(1 for _ in still), *extents), body, loads, [(target, value)],
                (*block.batch, *origin),
            )  # fmt: skip
        return Factor(memory, *lines)

    # the result

    def end(self, block: _Block, target: Target) -> None:
        """The epilogue over the block."""
        f, form = self.f, self.form
        result, step = target.c, target.step
        if form.epilogue is None and not form.turned:
            return
        corner = self.corner(block)
        rows, columns = f.i64(block.rows), f.i64(block.columns)
        if form.turned:
            turn = pack.transpose(self.element)
            if form.epilogue is None:
                out = self.operand(form.stores[0], block.batch, *corner)
                place = out.pointer
                line = form.stores[0].outer if form.swapped else form.stores[0].inner
                across = self.number(line.step)
            else:
                place, across = self.room("turned"), self.words["turned_step"]
            f.call_internal(turn, result, f.i64(step), place, f.i64(across), rows, columns)
            result, step = place, across
            if form.epilogue is None:
                return
        self.finish(block, result, (1, step) if form.swapped != form.turned else (step, 1))

    def finish(self, block: _Block, result: Value, along: tuple[Index, Index]) -> None:
        """The body over the sums of the block, run by run of what it reads and writes."""
        f, form, walker = self.f, self.form, self.walker
        assert form.epilogue is not None
        still = (0,) * len(block.batch)
        row, column = self.corner(block)
        extents = (block.columns, block.rows) if form.swapped else (block.rows, block.columns)
        with (
            walker.runs(form.stores[0].outer, row, extents[0]) as (below, high, _),
            walker.runs(form.stores[0].inner, column, extents[1]) as (left, wide, _),
        ):
            at = f.add(row, below), f.add(column, left)
            start = self.at(result, (below, along[0]), (left, along[1]))
            sums = Operand(start, form.dtype, (*still, *along))
            loads = [sums, *(self.operand(p, block.batch, *at) for p in form.loads)]
            stores = [
                (self.operand(p, block.batch, *at), v)
                for p, v in zip(form.stores, form.values, strict=True)
            ]
            emit_map(
                f, (*(1 for _ in still), high, wide), form.epilogue, loads, stores,
                (*block.batch, *at),
            )  # fmt: skip
