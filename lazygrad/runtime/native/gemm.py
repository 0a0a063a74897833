"""Matrix products as units: the kernel's `Contract` in canonical form, cut, and its code's key.

Extents, strides and block sizes are words that the code reads; only what shapes the code (roles,
tile, copies, which strides are 0 or 1, bodies) is in the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod

from lazygrad.dtypes import BOOL, DType
from lazygrad.ops.scalar_math import Instr
from lazygrad.runtime.kernel import Access, Body, Contract, Kernel
from lazygrad.runtime.native.blocking import FAR, READING, Blocking, Kind, Side, cut
from lazygrad.runtime.native.gemm_code import Form, Place, Source, write
from lazygrad.runtime.native.lines import Known, Line, Pieces
from lazygrad.runtime.native.products import Product, Walked, canonical_product
from lazygrad.runtime.native.target import host
from lazygrad.runtime.native.tiles import SEGMENT
from lazygrad.runtime.native.unit import Unit, Unsupported

_CHUNK = 1 << 18  # products of elements that a thread takes at a time, at least
_RUN = 8  # elements of a run along the inner axis that are worth a transposition of their own
_PAD = 16  # elements behind each row of working memory, against rows that share cache sets


def contract_units(kernel: Kernel) -> list[Unit]:
    """The unit of a kernel that is one product; raises `Unsupported` for others."""
    stage = kernel.stages[0]
    if len(kernel.stages) != 1 or kernel.finish or not isinstance(stage, Contract):
        raise Unsupported("a product beside other stages")
    if stage.grid == "k" and kernel.grid.rows > 1:
        raise Unsupported("a product in partial sums")
    if any(a.index is not None or a.chunk_stride for a in _accesses(stage)):
        raise Unsupported("a product of gathered operands")
    if any(a.buffer >= len(kernel.params) for a in _accesses(stage)):
        raise Unsupported("a product of scratch")
    if 0 in (*stage.batch, stage.m, stage.n):
        return []
    product = canonical_product(kernel, stage)
    left, right = _factor(stage.a, stage.dtype), _factor(stage.b, stage.dtype)
    return [_Lowering(kernel, stage, product, left, right).unit()]


def _accesses(stage: Contract) -> list[Access]:
    bodies = (stage.a, stage.b, stage.epilogue)
    return [a for b in bodies for a in b.loads] + [s.access for s in stage.stores]


def _factor(body: Body, dtype: DType) -> Body | None:
    """What computes an operand; None if it is there as it is needed."""
    last = len(body.loads) + len(body.instrs) - 1
    if not body.instrs and body.load_dtypes == (dtype,):
        return None
    instrs = (*body.instrs, Instr("cast", (last,), dtype))
    return Body((), body.load_dtypes, instrs)


@dataclass(slots=True)
class _Lowering:
    """From a product to its unit: numbers become words, everything else the key."""

    kernel: Kernel
    stage: Contract
    product: Product
    left: Body | None
    right: Body | None
    words: dict[str, int] = field(default_factory=dict)
    buffers: list[int] = field(default_factory=list)
    local: int = 0

    def unit(self) -> Unit:
        p, stage = self.product, self.stage
        blocking = self.blocking()
        rows, columns = (p.n, p.m) if blocking.swapped else (p.m, p.n)
        down, across = -(-rows // blocking.rows), -(-columns // blocking.columns)
        self.words |= {
            "rows": rows, "columns": columns, "k": p.k, "high": blocking.rows,
            "wide": blocking.columns, "down": down, "across": across,
        }  # fmt: skip
        extents = tuple(self.number(f"e{i}", n) for i, n in enumerate(p.batch))
        operands = (
            self.source("a", p.left, self.left, p.m), self.source("b", p.right, self.right, p.n),
        )  # fmt: skip
        first, second = operands[::-1] if blocking.swapped else operands
        loads = tuple(self.place(f"l{i}", w, p.m, p.n) for i, w in enumerate(p.loads))
        stores = tuple(self.place(f"s{i}", w, p.m, p.n) for i, w in enumerate(p.stores))
        values = tuple(s.value for s in stage.stores)
        plain = not stage.epilogue.instrs and not loads and values == (0,)
        trivial = plain and self.reaches(blocking)
        self.memory(blocking, first, second, trivial)
        epilogue = Body((), (stage.dtype, *stage.epilogue.load_dtypes), stage.epilogue.instrs)
        form = Form(
            tuple(self.words), len(self.buffers), extents, stage.dtype, blocking.tile,
            blocking.swapped, blocking.how, blocking.turned, blocking.whole, p.k > SEGMENT,
            first, second, None if trivial else epilogue, loads, stores, values,
            self.far(blocking, loads),
        )  # fmt: skip
        blocks = prod(p.batch) * down * across
        work = max(blocking.rows, READING) * blocking.columns * max(p.k, 1)
        chunk = max(1, _CHUNK // work)
        return Unit(
            ("contract", form), partial(write, form), tuple(self.buffers),
            tuple(self.words.values()), blocks, chunk, self.local,
            parallel=blocks > chunk, note=blocking.note,
        )  # fmt: skip

    def blocking(self) -> Blocking:
        p, here = self.product, host()
        size = self.stage.dtype.itemsize
        element = {"float32": "float", "float64": "double"}.get(self.stage.dtype.name)
        kind = Kind(
            element or f"i{8 * size}", here.lanes * 4 // max(size, 4), here.registers,
            here.lanes >= 8, self.stage.dtype.category == BOOL,
        )  # fmt: skip
        left, right = self.side(p.left, self.left, p.m), self.side(p.right, self.right, p.n)
        along = 0 if self.unit_axis() == 0 else 1
        found = cut(prod(p.batch), p.m, p.n, p.k, left, right, along, kind)
        whole = found.whole and self.left is None and self.right is None
        first, second = (self.right, self.left) if found.swapped else (self.left, self.right)
        if p.k > SEGMENT and (right if found.swapped else left).how:
            whole = False  # its places are found once a segment
        tile = replace(
            found.tile, streams=found.tile.streams and first is None,
            ahead=found.tile.ahead and second is None,
        )  # fmt: skip
        return replace(found, whole=whole, tile=tile)

    def side(self, walked: tuple[Walked, ...], body: Body | None, extent: int) -> Side:
        """The strides of a factor, or of what is computed in its place."""
        if body is not None:
            return Side(0, 1) if any(w.inner[-1][1] == 1 for w in walked) else Side(1, 0)
        (*_, (wide, outer)), (*_, (run, inner)) = walked[0].outer, walked[0].inner
        outer, inner = 1 if extent == 1 else outer, 1 if self.product.k == 1 else inner
        if len(walked[0].outer) == len(walked[0].inner) == 1:
            return Side(outer, inner)
        long = inner == 1 and run >= _RUN and outer != 1
        return Side(outer, inner, "transpose" if long else "spread", wide)

    def unit_axis(self) -> int:
        """The axis of the result along which its first store is contiguous; -1 for none."""
        p = self.product
        if not p.stores:
            return 1
        first = p.stores[0]
        if first.inner[-1][1] == 1 or p.n == 1:
            return 1
        return 0 if first.outer[-1][1] == 1 or p.m == 1 else -1

    def reaches(self, blocking: Blocking) -> bool:
        """Whether vectors that leave the tiles lie in the result as they are."""
        p, first = self.product, self.product.stores[0]
        if len(first.outer) > 1 or len(first.inner) > 1:
            return False
        down = first.outer[0][1] == 1 or p.m == 1
        across = first.inner[0][1] == 1 or p.n == 1
        return down if blocking.swapped != blocking.turned else across

    def far(self, blocking: Blocking, loads: tuple[Place, ...]) -> tuple[int, ...]:
        """The loads of an epilogue that comes from memory, row by row of a tile."""
        p = self.product
        if blocking.swapped or p.m * p.n * self.stage.dtype.itemsize <= FAR:
            return ()
        rows = [
            i for i, w in enumerate(p.loads)
            if len(w.outer) == len(w.inner) == 1 and w.inner[0][1] == 1
            and w.outer[0][1] not in (0, 1)
        ]  # fmt: skip
        return tuple(rows[:4])

    # numbers

    def number(self, name: str, value: int, known: Sequence[int] = ()) -> Known:
        if value in known:
            return value
        self.words[name] = value
        return name

    def buffer(self, number: int) -> int:
        if number not in self.buffers:
            self.buffers.append(number)
        return self.buffers.index(number)

    def place(self, name: str, w: Walked, outer: int, inner: int) -> Place:
        """An access as code sees it; the stride of an extent of 1 is that of a vector."""
        return Place(
            self.buffer(w.access.buffer),
            w.dtype,
            self.number(f"{name}o", w.access.offset, (0,)),
            tuple(self.number(f"{name}b{i}", s, (0,)) for i, s in enumerate(w.batch)),
            self.line(f"{name}r", w.outer, outer),
            self.line(f"{name}c", w.inner, inner),
        )

    def line(self, name: str, pieces: Pieces, extent: int) -> Line:
        """An axis of an access; all accesses of an operand have runs of the same length."""
        (*outer, (run, step)) = pieces
        known = self.number(name, 0 if extent == 1 else step, (0, 1, 2))
        if not outer:
            return Line(known)
        return Line(
            known, self.number(f"{name}n", run),
            tuple(
                (self.number(f"{name}n{i}", n), self.number(f"{name}s{i}", s))
                for i, (n, s) in enumerate(outer)
            ),
        )  # fmt: skip

    def source(
        self, name: str, walked: tuple[Walked, ...], body: Body | None, extent: int
    ) -> Source:
        places = tuple(
            self.place(f"{name}{i}", w, extent, self.product.k) for i, w in enumerate(walked)
        )
        return Source(places, body, self.side(walked, body, extent).inner == 1)

    def memory(self, blocking: Blocking, first: Source, second: Source, trivial: bool) -> None:
        """Lay out the working memory of a thread."""
        size = self.stage.dtype.itemsize
        tile = blocking.tile
        columns = (-(-blocking.columns // tile.columns) + tile.ahead) * tile.columns
        depth = min(self.product.k, SEGMENT)
        deep = -(-depth // 16) * 16 + _PAD

        def room(name: str, count: int, size: int = size) -> None:
            self.words[name] = self.local
            self.local += -(-count * size // 64) * 64

        for name, source, extent in (("left", first, blocking.rows), ("right", second, columns)):
            if source.body is None:
                if source.scattered:
                    room(f"{name}_inner", depth, 8)
                if source.scattered and name == "left":
                    room("left_outer", extent, 8)
            else:
                self.words[f"{name}_step"] = deep if source.along else extent + _PAD
                room(name, extent * deep if source.along else depth * (extent + _PAD))
        if blocking.how != "direct":
            room("panels", columns * (self.product.k if blocking.whole else depth))
        if not trivial or blocking.turned:
            self.words["step"] = columns + (_PAD if columns % 256 == 0 else 0)
            room("tile", blocking.rows * self.words["step"])
        if blocking.turned and not trivial:
            self.words["turned_step"] = blocking.rows + _PAD
            room("turned", columns * (blocking.rows + _PAD))
