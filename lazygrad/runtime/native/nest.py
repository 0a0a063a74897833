"""Loops over points: operands with strides, and maps over them.

One axis of a nest is walked by vectors of `LANES` elements: full ones, then a masked one for the
rest. An operand is loaded at the outermost level at which it stands still; along the vector axis
it is spread (stride 0), a vector (stride 1) or gathered lane by lane. Strides that are Python
integers shape the code, all others are registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from lazygrad.dtypes import DType
from lazygrad.runtime.kernel import Body
from lazygrad.runtime.native.llvm import Function, Index, Value, vector
from lazygrad.runtime.native.pack import shuffle, transpose
from lazygrad.runtime.native.target import LANES
from lazygrad.runtime.native.words import NativeMath, memory_type

STEPS = (-1, 0, 1, 2)  # strides that vectors are loaded with at once
_TILE = 64  # rows that are transposed at once


@dataclass(frozen=True, slots=True)
class Operand:
    """Elements in memory: an address and a stride in elements for each axis.

    A gathered one adds value[index] * index_stride, where `index` is a value loaded before; it
    must lie in 0..index_extent - 1.
    """

    pointer: Value
    dtype: DType
    strides: tuple[Index, ...]
    index: int | None = None
    index_stride: Index = 0
    index_extent: Index = 0
    repeat: int = 0  # along the vectors: each element so many times
    cycle: int = 0  # along the vectors: so many elements over and over

    @property
    def element(self) -> str:
        """The type of an element in memory."""
        return memory_type(self.dtype)


@dataclass(frozen=True, slots=True)
class Walk:
    """The order of the loops, outermost first, and the axis that vectors run along.

    Where the loop inside of the vectors is another one, loads that are contiguous along that one
    (`turned`) are transposed a tile at a time.
    """

    order: tuple[int, ...]
    vector: int | None
    turned: tuple[int, ...] = ()


def natural_walk(extents: Sequence[Index], operands: Sequence[Operand], stores: int) -> Walk:
    """Axes as they come; vectors along the one where most operands are contiguous.

    The last `stores` operands are stored to, and count for more.
    """
    axes = [a for a, n in enumerate(extents) if n != 1]
    if not axes:
        return Walk((), None)

    def gain(axis: int) -> int:
        weights = [1] * (len(operands) - stores) + [2] * stores
        return sum(w for w, o in zip(weights, operands, strict=True) if _is(o.strides[axis], 1))

    best = max(reversed(axes), key=gain)
    return Walk((*(a for a in axes if a != best), best), best)


def _is(stride: Index, known: int) -> bool:
    return isinstance(stride, int) and stride == known


@dataclass(slots=True)
class Lanes:
    """The vector at hand: how many lanes, which of them count (all, or the first `count`)."""

    width: int = 1
    mask: Value | None = None
    count: Value | None = None


@dataclass(slots=True)
class Point:
    """Where the nest is: loops around it, positions, operand addresses, values known by now."""

    depth: int
    positions: dict[int, Index]
    pointers: list[Value]
    known: dict[int, Value]  # operand -> its element in memory form, where it stands still
    lanes: Lanes = field(default_factory=Lanes)


Visit = Callable[[Point], None]


class Nest:
    """Loops over extents with operands, of which the first `loaded` are loads.

    `origin` is added to positions; `wrong` is an i1 slot that is set by an index out of range.
    """

    def __init__(
        self, f: Function, extents: Sequence[Index], operands: Sequence[Operand], loaded: int,
        walk: Walk, origin: Sequence[Index] | None = None, wrong: Value | None = None,
    ) -> None:  # fmt: skip
        self.f, self.extents, self.operands = f, tuple(extents), operands
        self.loaded, self.walk, self.wrong = loaded, walk, wrong
        self.origin = tuple(origin) if origin else (0,) * len(self.extents)

    # loops

    def start(self) -> Point:
        """The first point."""
        zeros: dict[int, Index] = dict.fromkeys(range(len(self.extents)), 0)
        return self.settle(Point(0, zeros, [o.pointer for o in self.operands], {}))

    def loops(self, levels: int, point: Point, visit: Visit) -> None:
        """The next `levels` loops around `visit`."""
        if not levels:
            visit(point)
            return
        axis = self.walk.order[point.depth]

        def inside(inner: Point) -> None:
            self.loops(levels - 1, inner, visit)

        if axis == self.walk.vector:
            self.vectors(axis, point, inside)
            return
        with self.f.loop(0, self.extents[axis]) as i:
            inside(self.enter(self.moved(point, axis, i)))

    def vectors(
        self, axis: int, point: Point, visit: Visit, extent: Index | None = None
    ) -> None:  # fmt: skip
        """Full vectors along an axis, then a masked one."""
        f = self.f
        n = self.extents[axis] if extent is None else extent
        whole = f.mul(f.div(n, LANES), LANES)
        if whole != 0:
            with f.loop(0, whole, LANES) as i:
                visit(self.enter(replace(self.moved(point, axis, i), lanes=Lanes(LANES))))
        rest = f.sub(n, whole)
        if rest == 0:
            return
        with f.when(f.cmp("icmp sgt", f.i64(rest), f.const("i64", 0))):
            inner = replace(self.moved(point, axis, whole), lanes=first_lanes(f, rest))
            visit(self.enter(inner))

    def tiles(self, point: Point, visit: Visit) -> None:
        """The innermost loop, in pieces, for each of which turned loads are transposed first."""
        f, walk = self.f, self.walk
        axis, vector_axis = walk.order[-1], walk.order[-2]
        tiles = {k: f.stack(_TILE * LANES * 8) for k in walk.turned}
        own, extents = self.operands, self.extents
        with f.loop(0, extents[axis], _TILE) as at:
            inner = self.moved(point, axis, at)
            count = f.min(_TILE, f.sub(extents[axis], at))
            operands, pointers = list(own), list(inner.pointers)
            for k, tile in tiles.items():
                o = own[k]
                element = "i16" if o.element == "half" else o.element
                f.call_internal(
                    transpose(element), pointers[k], f.i64(o.strides[vector_axis]), tile,
                    f.i64(LANES), inner.lanes.count or f.i64(LANES), f.i64(count),
                )  # fmt: skip
                strides = tuple(
                    1 if a == vector_axis else LANES if a == axis else 0
                    for a in range(len(extents))
                )
                operands[k], pointers[k] = replace(o, pointer=tile, strides=strides), tile
            self.operands = operands
            self.extents = tuple(count if a == axis else n for a, n in enumerate(extents))
            self.loops(1, replace(inner, pointers=pointers), visit)
            self.operands, self.extents = own, extents

    def moved(self, point: Point, axis: int, by: Index) -> Point:
        """A point further along an axis."""
        f = self.f

        def place(o: Operand) -> Index:
            times = o.repeat if axis == self.walk.vector and o.repeat else 1
            return f.mul(f.div(by, times), o.strides[axis])

        pointers = [
            p if _is(o.strides[axis], 0) else f.gep(o.element, p, place(o))
            for o, p in zip(self.operands, point.pointers, strict=True)
        ]
        positions = point.positions | {axis: f.add(point.positions[axis], by)}
        return Point(point.depth, positions, pointers, point.known, point.lanes)

    def enter(self, point: Point) -> Point:
        """One loop further inside."""
        return self.settle(replace(point, depth=point.depth + 1))

    def settle(self, point: Point) -> Point:
        """Load what stands still from here on."""
        found = dict(point.known)
        ahead = self.walk.order[point.depth :]
        along = () if point.lanes.width == 1 else (self.walk.vector or 0,)
        for k, o in enumerate(self.operands[: self.loaded]):
            still = all(_is(o.strides[a], 0) for a in (*ahead, *along))
            if still and o.index is None and not o.cycle and k not in found:
                found[k] = self.f.load(o.element, point.pointers[k])
        return replace(point, known=found)

    # values

    def position(self, point: Point, axis: int, relative: bool = False) -> Value:
        """The positions of the lanes along an axis, from its origin or from the first point."""
        f, lanes = self.f, point.lanes.width
        at = point.positions[axis] if relative else f.add(self.origin[axis], point.positions[axis])
        first = f.splat(f.i64(at), lanes)
        if axis != self.walk.vector or lanes == 1:
            return first
        return f.bin("add", first, f.steps(lanes))

    def values(self, body: Body, point: Point, math: NativeMath) -> list[Value]:
        """All values of a body at a point."""
        loads: list[Value] = []
        for k in range(self.loaded):
            loads.append(self.load(k, point, math, loads))
        before = [o.dtype for o in self.operands[: self.loaded - len(body.load_dtypes)]]
        return math.evaluate(body, loads, lambda axis: self.position(point, axis), before)

    def load(self, k: int, point: Point, math: NativeMath, values: Sequence[Value]) -> Value:
        """The value of a load at a point."""
        f, o, lanes = self.f, self.operands[k], point.lanes
        if k in point.known:
            return math.from_memory(f.splat(point.known[k], lanes.width), o.dtype)
        pointer = point.pointers[k]
        stride = 0 if lanes.width == 1 else o.strides[self.walk.vector or 0]
        if o.index is not None:
            index = values[o.index]
            if o.index not in point.known:
                places = self.index(o, index, lanes)
                return math.from_memory(self.gather(o, pointer, stride, lanes, places), o.dtype)
            first = f.lane(index, 0) if lanes.width > 1 else index
            place = self.index(o, first, Lanes())
            pointer = f.gep(o.element, pointer, f.mul(place, o.index_stride))
        if lanes.width > 1 and (o.repeat or o.cycle):
            found = self.pattern(o, pointer, lanes)
        elif _is(stride, 0):
            found = f.splat(f.load(o.element, pointer), lanes.width)
        elif _is(stride, 1):
            type_ = vector(o.element, lanes.width)
            if lanes.mask is None:
                found = f.load(type_, pointer)
            else:
                found = f.masked_load(type_, pointer, lanes.mask)
        elif _is(stride, 2):
            found = self.every_second(o, pointer, lanes)
        elif _is(stride, -1):
            found = self.backward(o, pointer, lanes)
        else:
            found = self.gather(o, pointer, stride, lanes)
        return math.from_memory(found, o.dtype)

    def index(self, o: Operand, value: Value, lanes: Lanes) -> Value:
        """The index of a gathered load, as i64; a wrong one is noted, and 0 taken instead."""
        f = self.f
        dtype = self.operands[o.index or 0].dtype
        wide = vector("i64", lanes.width)
        if dtype.itemsize < 8:
            value = f.convert("sext" if dtype.is_signed else "zext", value, wide)
        good = f.cmp("icmp ult", value, f.splat(f.i64(o.index_extent), lanes.width))
        bad = f.bin("xor", good, f.const(good.type, True))
        if lanes.mask is not None:
            bad = f.bin("and", bad, lanes.mask)
        if lanes.width > 1:
            bits = f"i{lanes.width}"
            bad = f.cmp("icmp ne", f.convert("bitcast", bad, bits), f.const(bits, 0))
        assert self.wrong is not None, "a gathered load needs a place for its error"
        f.store(f.bin("or", f.load("i1", self.wrong), bad), self.wrong)
        return f.select(good, value, f.const(wide, 0))

    def every_second(self, o: Operand, pointer: Value, lanes: Lanes) -> Value:
        """A vector of every second element, from two vectors of all."""
        f, width = self.f, lanes.width
        type_ = vector(o.element, width)
        reach: Index = 2 * width - 1 if lanes.count is None else f.sub(f.mul(lanes.count, 2), 1)
        halves = []
        for k in (0, width):  # nothing is read behind the last element
            count = f.i64(f.sub(reach, k))
            at = f.gep(o.element, pointer, k)
            whole = lanes.count is None and not k
            halves.append(f.load(type_, at) if whole else f.masked_load(
                type_, at, f.cmp("icmp slt", f.steps(width), f.splat(count, width))
            ))  # fmt: skip
        return shuffle(f, halves[0], halves[1], list(range(0, 2 * width, 2)))

    def pattern(self, o: Operand, pointer: Value, lanes: Lanes) -> Value:
        """A vector with each element several times, or of a few elements over and over."""
        f, width = self.f, lanes.width
        size = o.cycle or width // o.repeat
        type_ = vector(o.element, size)
        if o.cycle or lanes.count is None:
            found = f.load(type_, pointer)
        else:
            count = f.div(f.add(lanes.count, o.repeat - 1), o.repeat)
            mask = f.cmp("icmp slt", f.steps(size), f.splat(f.i64(count), size))
            found = f.masked_load(type_, pointer, mask)
        order = [k % size if o.cycle else k // o.repeat for k in range(width)]
        mask_text = ", ".join(f"i32 {k}" for k in order)
        return f.emit(
            f"shufflevector {found}, {found}, <{width} x i32> <{mask_text}>",
            vector(o.element, width),
        )

    def backward(self, o: Operand, pointer: Value, lanes: Lanes) -> Value:
        """A vector whose first element is the last one in memory."""
        f, width = self.f, lanes.width
        type_, first = vector(o.element, width), f.gep(o.element, pointer, 1 - width)
        if lanes.count is None:
            found = f.load(type_, first)
        else:
            start = f.splat(f.i64(f.sub(width, lanes.count)), width)
            found = f.masked_load(type_, first, f.cmp("icmp sge", f.steps(width), start))
        return shuffle(f, found, found, list(reversed(range(width))))

    def gather(
        self, o: Operand, pointer: Value, stride: Index, lanes: Lanes, index: Value | None = None
    ) -> Value:
        """A vector lane by lane; lanes that do not count repeat the last one that does."""
        f = self.f
        found = Value("poison", vector(o.element, lanes.width))
        last = None if lanes.count is None else f.sub(lanes.count, 1)
        if lanes.width == 1:
            offset = f.mul(index or 0, o.index_stride)
            return f.load(o.element, f.gep(o.element, pointer, offset))
        for lane in range(lanes.width):
            step: Index = lane if last is None else f.min(lane, last)
            offset = f.mul(step, stride)
            if index is not None:
                offset = f.add(offset, f.mul(f.lane(index, lane), o.index_stride))
            element = f.load(o.element, f.gep(o.element, pointer, offset))
            found = f.insert(found, element, lane)
        return found

    def store(self, k: int, point: Point, value: Value) -> None:
        """Store elements in memory form through operand `k`."""
        f, o, lanes = self.f, self.operands[k], point.lanes
        pointer = point.pointers[k]
        stride = 0 if lanes.width == 1 else o.strides[self.walk.vector or 0]
        if lanes.width == 1:
            f.store(value, pointer)
        elif _is(stride, 1):
            if lanes.mask is None:
                f.store(value, pointer)
            else:
                f.masked_store(value, pointer, lanes.mask)
        elif lanes.count is None:
            for lane in range(lanes.width):
                at = f.gep(o.element, pointer, f.mul(lane, stride))
                f.store(f.lane(value, lane), at)
        else:
            spill = f.variable(value.type, value)
            with f.loop(0, lanes.count) as i:
                element = f.load(o.element, f.gep(o.element, spill, i))
                f.store(element, f.gep(o.element, pointer, f.mul(i, stride)))


def first_lanes(f: Function, count: Index) -> Lanes:
    """Vectors of which the first `count` lanes count."""
    narrow = f.convert("trunc", f.i64(count), "i32") if isinstance(count, Value) else f.const(
        "i32", count
    )  # fmt: skip
    mask = f.cmp("icmp slt", f.steps(LANES, "i32"), f.splat(narrow, LANES))
    return Lanes(LANES, mask, f.i64(count))


def emit_map(
    f: Function, extents: Sequence[Index], body: Body, loads: Sequence[Operand],
    stores: Sequence[tuple[Operand, int]], origin: Sequence[Index] | None = None,
    walk: Walk | None = None, wrong: Value | None = None,
) -> None:  # fmt: skip
    """Loops that compute `body` at every point.

    `loads` are all of its values before its instructions (an accumulator first where there is
    one), `stores` pairs of an operand and a value. `origin` is added to the positions that the
    body reads. An operand that is stored may be loaded, at its own point.
    """
    operands = [*loads, *(o for o, _ in stores)]
    walk = walk or natural_walk(extents, operands, len(stores))
    nest = Nest(f, extents, operands, len(loads), walk, origin, wrong)

    def visit(point: Point) -> None:
        math = NativeMath(f, point.lanes.width)
        values = nest.values(body, point, math)
        for k, (o, number) in enumerate(stores, len(loads)):
            nest.store(k, point, math.to_memory(values[number], o.dtype))

    if walk.turned:
        nest.loops(len(walk.order) - 1, nest.start(), lambda point: nest.tiles(point, visit))
    else:
        nest.loops(len(walk.order), nest.start(), visit)
