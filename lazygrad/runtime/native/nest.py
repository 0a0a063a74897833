"""Loops over points: operands with strides, and maps over them.

One axis of a nest is walked by vectors of `LANES` elements: full ones, then a masked one for the
rest. An operand is loaded at the outermost level at which it stands still; along the vector axis
it is spread (stride 0), a vector (stride 1) or gathered lane by lane. Strides that are Python
integers shape the code, all others are registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from lazygrad.dtypes import DType
from lazygrad.runtime.kernel import Body
from lazygrad.runtime.native.llvm import Function, Index, Value, vector
from lazygrad.runtime.native.target import LANES
from lazygrad.runtime.native.words import NativeMath, memory_type


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

    @property
    def element(self) -> str:
        """The type of an element in memory."""
        return memory_type(self.dtype)


@dataclass(frozen=True, slots=True)
class Walk:
    """The order of the loops, outermost first, and the axis that vectors run along."""

    order: tuple[int, ...]
    vector: int | None


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
    """Where the nest is: positions along its axes, operand addresses, values known by now."""

    positions: dict[int, Index]
    pointers: list[Value]
    known: dict[int, Value]  # operand -> its element in memory form, where it stands still
    lanes: Lanes = field(default_factory=Lanes)


class Nest:
    """Loops over extents with operands; `visit` runs at every (vector of) points.

    `origin` is added to positions; `wrong` is an i1 slot that is set by an index out of range.
    """

    def __init__(
        self, f: Function, extents: Sequence[Index], operands: Sequence[Operand], walk: Walk,
        origin: Sequence[Index] | None = None, wrong: Value | None = None,
    ) -> None:  # fmt: skip
        self.f, self.extents, self.operands, self.walk = f, tuple(extents), operands, walk
        self.origin = tuple(origin) if origin else (0,) * len(self.extents)
        self.wrong = wrong

    # loops

    def start(self) -> Point:
        """The first point."""
        return Point(
            dict.fromkeys(range(len(self.extents)), 0), [o.pointer for o in self.operands], {}
        )

    def run(self, visit: Callable[[Point], None]) -> None:
        """All loops around `visit`."""
        self.loops(self.walk.order, self.start(), visit)

    def loops(self, axes: Sequence[int], point: Point, visit: Callable[[Point], None]) -> None:
        """The loops over these axes, outermost first, around `visit`."""
        point = self.settle(point, axes)
        if not axes:
            visit(point)
            return
        axis, rest = axes[0], axes[1:]
        if axis == self.walk.vector:
            self.vectors(axis, point, lambda inner: self.loops(rest, inner, visit))
            return
        with self.f.loop(0, self.extents[axis]) as i:
            self.loops(rest, self.moved(point, axis, i), visit)

    def vectors(self, axis: int, point: Point, visit: Callable[[Point], None]) -> None:
        """Full vectors along an axis, then a masked one."""
        f, extent = self.f, self.extents[axis]
        if isinstance(extent, int):
            whole: Index = extent // LANES * LANES
        else:
            whole = f.bin("and", extent, f.const("i64", -LANES))
        if whole != 0:
            with f.loop(0, whole, LANES) as i:
                visit(replace(self.moved(point, axis, i), lanes=Lanes(LANES)))
        rest = f.sub(extent, whole)
        if isinstance(rest, int):
            if rest:
                visit(self.masked(point, axis, whole, rest))
            return
        with f.when(f.cmp("icmp sgt", rest, f.const("i64", 0))):
            visit(self.masked(point, axis, whole, rest))

    def masked(self, point: Point, axis: int, at: Index, count: Index) -> Point:
        """A point whose first `count` lanes count."""
        return replace(self.moved(point, axis, at), lanes=first_lanes(self.f, count))

    def moved(self, point: Point, axis: int, by: Index) -> Point:
        """A point further along an axis."""
        f = self.f
        pointers = [
            p if _is(o.strides[axis], 0) else f.gep(o.element, p, f.mul(by, o.strides[axis]))
            for o, p in zip(self.operands, point.pointers, strict=True)
        ]
        positions = point.positions | {axis: f.add(point.positions[axis], by)}
        return Point(positions, pointers, dict(point.known), point.lanes)

    def settle(self, point: Point, ahead: Sequence[int]) -> Point:
        """Load what stands still from here on."""
        found = dict(point.known)
        done = self.walk.order[: len(self.walk.order) - len(ahead)]
        for k, o in enumerate(self.operands[: self.loaded]):
            still = all(_is(o.strides[a], 0) for a in ahead)
            if k in found or not still or o.index is not None:
                continue
            vectors = self.walk.vector
            if vectors is None or vectors not in done or _is(o.strides[vectors], 0):
                found[k] = self.f.load(o.element, point.pointers[k])
        return replace(point, known=found)

    loaded = 0  # how many of the operands, from the first, are loads

    # values

    def position(self, point: Point, axis: int) -> Value:
        """The positions of the lanes along an axis."""
        f, lanes = self.f, point.lanes.width
        first = f.splat(f.i64(f.add(self.origin[axis], point.positions[axis])), lanes)
        if axis != self.walk.vector or lanes == 1:
            return first
        return f.bin("add", first, f.steps(lanes))

    def load_all(self, point: Point, math: NativeMath) -> list[Value]:
        """The values of all loads at a point."""
        values: list[Value] = []
        for k in range(self.loaded):
            values.append(self.load(k, point, math, values))
        return values

    def load(self, k: int, point: Point, math: NativeMath, values: Sequence[Value]) -> Value:
        """The value of a load at a point."""
        f, o, lanes = self.f, self.operands[k], point.lanes
        if k in point.known:
            return math.from_memory(f.splat(point.known[k], lanes.width), o.dtype)
        pointer = point.pointers[k]
        stride = 0 if lanes.width == 1 else o.strides[self.walk.vector or 0]
        if o.index is not None:
            scalar = point.known.get(o.index)
            index = self.index(o, math, values[o.index], point)
            if scalar is None and lanes.width > 1:
                return math.from_memory(self.gather(o, pointer, stride, lanes, index), o.dtype)
            first = f.lane(index, 0) if lanes.width > 1 else index
            pointer = f.gep(o.element, pointer, f.mul(first, o.index_stride))
        if _is(stride, 0):
            found = f.splat(f.load(o.element, pointer), lanes.width)
        elif _is(stride, 1):
            type_ = vector(o.element, lanes.width)
            masked = lanes.mask is not None
            found = f.masked_load(type_, pointer, lanes.mask) if masked else f.load(type_, pointer)
        else:
            found = self.gather(o, pointer, stride, lanes)
        return math.from_memory(found, o.dtype)

    def index(self, o: Operand, math: NativeMath, value: Value, point: Point) -> Value:
        """The index of a gathered load, as i64; a wrong one is noted, and 0 taken instead."""
        f, lanes = self.f, point.lanes
        dtype = self.operands[o.index or 0].dtype
        bits = 8 * dtype.itemsize
        wide = vector("i64", lanes.width)
        if bits < 64:
            value = f.convert("sext" if dtype.is_signed else "zext", value, wide)
        extent = f.splat(f.i64(o.index_extent), lanes.width)
        good = f.cmp("icmp ult", value, extent)
        bad = f.bin("xor", good, f.const(good.type, True))
        if lanes.mask is not None:
            bad = f.bin("and", bad, lanes.mask)
        if lanes.width > 1:
            bits_type = f"i{lanes.width}"
            bad = f.cmp("icmp ne", f.convert("bitcast", bad, bits_type), f.const(bits_type, 0))
        assert self.wrong is not None, "a gathered load needs a place for its error"
        f.store(f.bin("or", f.load("i1", self.wrong), bad), self.wrong)
        return f.select(good, value, f.const(wide, 0))

    def gather(
        self, o: Operand, pointer: Value, stride: Index, lanes: Lanes, index: Value | None = None
    ) -> Value:
        """A vector lane by lane; lanes that do not count repeat the last one that does."""
        f = self.f
        found = Value("poison", vector(o.element, lanes.width))
        last = None if lanes.count is None else f.sub(lanes.count, 1)
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
    nest = Nest(f, extents, operands, walk, origin, wrong)
    nest.loaded = len(loads)

    def visit(point: Point) -> None:
        math = NativeMath(f, point.lanes.width)
        values = math.evaluate(
            body, nest.load_all(point, math), lambda axis: nest.position(point, axis)
        )
        for k, (o, number) in enumerate(stores, len(loads)):
            nest.store(k, point, math.to_memory(values[number], o.dtype))

    nest.run(visit)
