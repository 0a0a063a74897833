"""Matrix products as units: the kernel's `Contract` in canonical form, cut, and its code's key.

Axes of extent 1 go, batch axes that all accesses walk as one merge, and a batch along which one
operand stands still becomes rows or columns of the product. Extents, strides and block sizes are
words that the code reads; only what shapes the code (roles, tile, copies, which strides are 0 or
1, bodies) is in the key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod

from lazygrad.dtypes import BOOL, DType
from lazygrad.ops.scalar_math import Instr
from lazygrad.runtime.kernel import Access, Body, Contract, Kernel, Param, Scratch
from lazygrad.runtime.native.blocking import FAR, Blocking, Kind, Side, cut
from lazygrad.runtime.native.gemm_code import Form, Known, Place, Source, write
from lazygrad.runtime.native.target import host
from lazygrad.runtime.native.tiles import SEGMENT
from lazygrad.runtime.native.unit import Unit, Unsupported

_CHUNK = 1 << 18  # products of elements that a thread takes at a time, at least
_PAD = 16  # elements behind each row of working memory, against rows that share cache sets


@dataclass(frozen=True, slots=True)
class Walked:
    """An access as strides over the batch and over its two axes (outer before inner)."""

    access: Access
    dtype: DType
    batch: tuple[int, ...]
    outer: int
    inner: int


@dataclass(frozen=True, slots=True)
class Product:
    """A contraction in canonical form. `left`, `right`, `loads` and `stores` are its accesses."""

    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    left: tuple[Walked, ...]
    right: tuple[Walked, ...]  # outer is its column axis, inner that of the sum
    loads: tuple[Walked, ...]
    stores: tuple[Walked, ...]

    def every(self) -> tuple[Walked, ...]:
        """All accesses."""
        return (*self.left, *self.right, *self.loads, *self.stores)


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
    product = _canonical(kernel, stage)
    left, right = _factor(stage.a, stage.dtype), _factor(stage.b, stage.dtype)
    return [_Lowering(kernel, stage, product, left, right).unit()]


def _accesses(stage: Contract) -> list[Access]:
    bodies = (stage.a, stage.b, stage.epilogue)
    return [a for b in bodies for a in b.loads] + [s.access for s in stage.stores]


def _canonical(kernel: Kernel, stage: Contract) -> Product:
    held: tuple[Param | Scratch, ...] = (*kernel.params, *kernel.scratch)
    rank = len(stage.batch)

    def walked(access: Access, turned: bool = False) -> Walked:
        outer, inner = access.strides[rank:]
        if turned:
            outer, inner = inner, outer
        dtype = held[access.buffer].dtype
        return Walked(access, dtype, access.strides[:rank], outer, inner)

    product = Product(
        stage.batch, stage.m, stage.n, stage.k,
        tuple(walked(a) for a in stage.a.loads), tuple(walked(a, True) for a in stage.b.loads),
        tuple(walked(a) for a in stage.epilogue.loads),
        tuple(walked(s.access) for s in stage.stores),
    )  # fmt: skip
    bodies = (stage.a, stage.b, stage.epilogue)
    if any(i.word == "index" for b in bodies for i in b.instrs):
        return product
    return _folded(_merged(product))


def _merged(product: Product) -> Product:
    """Without batch axes of extent 1, neighbours that all accesses walk as one merged."""
    p = product
    groups: list[list[int]] = []
    for axis, n in enumerate(p.batch):
        if n == 1:
            continue
        if groups and all(w.batch[groups[-1][-1]] == n * w.batch[axis] for w in p.every()):
            groups[-1].append(axis)
        else:
            groups.append([axis])

    def fewer(w: Walked) -> Walked:
        return replace(w, batch=tuple(w.batch[g[-1]] for g in groups))

    return replace(
        p, batch=tuple(prod(p.batch[i] for i in g) for g in groups), left=_each(p.left, fewer),
        right=_each(p.right, fewer), loads=_each(p.loads, fewer), stores=_each(p.stores, fewer),
    )  # fmt: skip


def _folded(product: Product) -> Product:
    """With the last batch axes as rows (or columns), where the other operand ignores them."""
    p = product
    while p.batch:
        n = p.batch[-1]
        results = (*p.loads, *p.stores)
        down = [(w.batch[-1], w.outer) for w in (*p.left, *results)]
        across = [(w.batch[-1], w.outer) for w in p.right]
        across += [(w.batch[-1], w.inner) for w in results]
        if all(w.batch[-1] == 0 for w in p.right) and _follows(n, p.m, down):
            p = replace(
                p, batch=p.batch[:-1], m=n * p.m, right=_each(p.right, _shorter),
                left=_each(p.left, _shorter, outer=p.m == 1),
                loads=_each(p.loads, _shorter, outer=p.m == 1),
                stores=_each(p.stores, _shorter, outer=p.m == 1),
            )  # fmt: skip
        elif all(w.batch[-1] == 0 for w in p.left) and _follows(n, p.n, across):
            p = replace(
                p, batch=p.batch[:-1], n=n * p.n, left=_each(p.left, _shorter),
                right=_each(p.right, _shorter, outer=p.n == 1),
                loads=_each(p.loads, _shorter, inner=p.n == 1),
                stores=_each(p.stores, _shorter, inner=p.n == 1),
            )  # fmt: skip
        else:
            break
    return p


def _each(
    accesses: tuple[Walked, ...], change: Callable[..., Walked], **more: object
) -> tuple[Walked, ...]:
    return tuple(change(w, **more) for w in accesses)


def _shorter(w: Walked, outer: bool = False, inner: bool = False) -> Walked:
    """Without the last batch axis, whose stride one of the other axes may take."""
    *batch, last = w.batch
    return replace(
        w, batch=tuple(batch), outer=last if outer else w.outer, inner=last if inner else w.inner
    )


def _follows(batch: int, extent: int, strides: Sequence[tuple[int, int]]) -> bool:
    """Whether a batch axis and the axis behind it are one to all accesses."""
    return extent == 1 or all(big == extent * small for big, small in strides)


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
        work = blocking.rows * blocking.columns * max(p.k, 1)
        chunk = max(1, _CHUNK // work)
        return Unit(
            ("contract", form), partial(write, form), tuple(self.buffers),
            tuple(self.words.values()), blocks, chunk, self.local,
            parallel=blocks > chunk,
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
        tile = replace(
            found.tile, streams=found.tile.streams and first is None,
            ahead=found.tile.ahead and second is None,
        )  # fmt: skip
        return replace(found, whole=whole, tile=tile)

    def side(self, walked: tuple[Walked, ...], body: Body | None, extent: int) -> Side:
        """The strides of a factor, or of what is computed in its place."""
        if body is not None:
            return Side(0, 1) if any(w.inner == 1 for w in walked) else Side(1, 0)
        return Side(
            1 if extent == 1 else walked[0].outer, 1 if self.product.k == 1 else walked[0].inner
        )

    def unit_axis(self) -> int:
        """The axis of the result along which its first store is contiguous; -1 for none."""
        p = self.product
        if not p.stores:
            return 1
        first = p.stores[0]
        if first.inner == 1 or p.n == 1:
            return 1
        return 0 if first.outer == 1 or p.m == 1 else -1

    def reaches(self, blocking: Blocking) -> bool:
        """Whether vectors that leave the tiles lie in the result as they are."""
        p, first = self.product, self.product.stores[0]
        down, across = first.outer == 1 or p.m == 1, first.inner == 1 or p.n == 1
        return down if blocking.swapped != blocking.turned else across

    def far(self, blocking: Blocking, loads: tuple[Place, ...]) -> tuple[int, ...]:
        """The loads of an epilogue that comes from memory, row by row of a tile."""
        p = self.product
        if blocking.swapped or p.m * p.n * self.stage.dtype.itemsize <= FAR:
            return ()
        rows = [i for i, w in enumerate(p.loads) if w.inner == 1 and w.outer not in (0, 1)]
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
            self.number(f"{name}r", 0 if outer == 1 else w.outer, (0, 1)),
            self.number(f"{name}c", 0 if inner == 1 else w.inner, (0, 1)),
        )

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

        def room(name: str, count: int) -> None:
            self.words[name] = self.local
            self.local += -(-count * size // 64) * 64

        for name, source, extent in (("left", first, blocking.rows), ("right", second, columns)):
            if source.body is not None:
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
