"""Reductions as loops, with the order of their sums written out.

Neighbouring reduced axes count as one. The innermost of these is dealt out over `LANES` = 16
lanes, position p to lane p % 16; reduced axes further out are walked in order into the same lanes.
Then lane l meets lane l + 8, l + 4, l + 2, l + 1. So the bits depend on the shape and the axes
alone, and the same sum can be computed in two ways:

- *along*: the vector is the lanes. Where neighbouring axes cannot be walked as one, the vector is
  rotated after each run of the inner axis, so that loads stay contiguous.
- *across*: vectors run along an axis that is kept; each lane is a row of accumulators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lazygrad.dtypes import BOOL, FLOATING, DType, int64
from lazygrad.ops.scalar_math import WORDS
from lazygrad.runtime.kernel import POSITIONS, Body
from lazygrad.runtime.native.llvm import Function, Index, Value, element_of, literal, vector
from lazygrad.runtime.native.nest import Lanes, Nest, Operand, Point, Walk, first_lanes
from lazygrad.runtime.native.target import LANES, host
from lazygrad.runtime.native.words import NativeMath, llvm_type

_NEAR, _FAR = 256, 1024  # columns of a block: accumulators near at hand, or rows of whole pages
_MANY = 2048  # rows that are worth the latter
_LIGHT = 3  # words of a body that may be copied for each lane
State = list[Value]


class Combine:
    """How two partial results become one: a word, or the first position of an extreme element.

    A state is the value, and for positions the position as i64 beside it.
    """

    def __init__(self, f: Function, combine: str, dtype: DType) -> None:
        self.f, self.combine, self.dtype = f, combine, dtype
        self.is_position = combine in POSITIONS
        self.elements = [llvm_type(dtype), *(["i64"] if self.is_position else [])]

    def start(self, lanes: int, positions: Value) -> State:
        """The state before the first element; `positions` of the lanes decide ties."""
        type_ = vector(self.elements[0], lanes)
        text = literal(self.elements[0], neutral(self.combine, self.dtype))
        value = Value(f"splat ({self.elements[0]} {text})" if lanes > 1 else text, type_)
        return [value, *([positions] if self.is_position else [])]

    def add(self, state: State, x: Value, positions: Value, mask: Value | None) -> State:
        """The state after one more element in every lane that counts."""
        f = self.f
        if self.is_position:
            better = self._better(x, state[0])
            better = better if mask is None else f.bin("and", better, mask)
            return [f.select(better, x, state[0]), f.select(better, positions, state[1])]
        found = NativeMath(f, 1).combine(self.combine, self.dtype, state[0], x)
        return [found if mask is None else f.select(mask, found, state[0])]

    def merge(self, a: State, b: State) -> State:
        """Two states as one."""
        if not self.is_position:
            return [NativeMath(self.f, 1).combine(self.combine, self.dtype, a[0], b[0])]
        f = self.f
        worse = self._better(a[0], b[0])
        tie = f.bin("xor", worse, f.const(worse.type, True))
        tie = f.bin("and", tie, f.cmp("icmp slt", b[1], a[1]))
        take = f.bin("or", self._better(b[0], a[0]), tie)
        return [f.select(take, b[0], a[0]), f.select(take, b[1], a[1])]

    def _better(self, x: Value, y: Value) -> Value:
        """Where x beats y; NaN beats every number."""
        f, least = self.f, self.combine == "argmin"
        if self.dtype.category == FLOATING:
            more = f.cmp("fcmp olt" if least else "fcmp ogt", x, y)
            first = f.bin("and", f.cmp("fcmp uno", x, x), f.cmp("fcmp ord", y, y))
            return f.bin("or", more, first)
        sign = "s" if self.dtype.is_signed else "u"
        return f.cmp(f"icmp {sign}{'lt' if least else 'gt'}", x, y)


def neutral(combine: str, dtype: DType) -> float | int | bool:
    """What changes nothing under `combine`."""
    if combine in ("add", "logical_or"):
        return 0
    if combine in ("mul", "logical_and"):
        return 1
    least = combine in ("maximum", "argmax")
    if dtype.category == FLOATING:
        return -np.inf if least else np.inf
    if dtype.category == BOOL:
        return not least
    info = np.iinfo(dtype.dtype)
    return int(info.min if least else info.max)


def inner_group(extents: Sequence[Index], axes: Sequence[int]) -> int:
    """How many of the last reduced axes are neighbours: they count positions together."""
    count = 1
    while count < len(axes):
        between = range(axes[-count - 1] + 1, axes[-count])
        if any(extents[a] != 1 for a in between):
            break
        count += 1
    return count


def emit_reduce(
    f: Function, extents: Sequence[Index], axes: Sequence[int], combine: str, body: Body,
    value: int, dtype: DType, loads: Sequence[Operand], store: Operand, *,
    across: int | None = None, kept: Sequence[int] | None = None,
    origin: Sequence[Index] | None = None, wrong: Value | None = None,
) -> None:  # fmt: skip
    """Loops that combine `value` of `body` over `axes`, in accumulators of `dtype`.

    `across` names the kept axis that vectors run along, if any; `kept` is the order of the loops
    over all other kept axes. No extent may be 0, and one along a reduced axis not 1.
    """
    reduced = [a for a in axes if extents[a] != 1]
    others = [a for a, n in enumerate(extents) if n != 1 and a not in axes]
    outside = [a for a in (others if kept is None else kept) if a != across]
    last = reduced[-1] if across is None else across
    order = (*outside, *(a for a in reduced if a != last), last)
    nest = Nest(f, extents, [*loads, store], len(loads), Walk(order, last), origin, wrong)
    made = _Reduction(nest, combine, body, value, dtype, reduced)
    run = made.along if across is None else made.across
    nest.loops(len(outside), nest.start(), run)


class _Reduction:
    """A reduction under construction: what happens inside the loops over kept axes."""

    def __init__(
        self, nest: Nest, combine: str, body: Body, value: int, dtype: DType, axes: list[int]
    ) -> None:
        self.f, self.nest, self.body, self.value, self.axes = nest.f, nest, body, value, axes
        self.combine = Combine(nest.f, combine, dtype)
        self.dtype = dtype
        self.inner = inner_group(nest.extents, axes)
        count = len(body.load_dtypes)
        lead = nest.loaded - count
        self.source = (
            nest.operands[value].dtype if value < lead + count
            else body.instrs[value - lead - count].dtype
        )  # fmt: skip

    def element(self, point: Point) -> Value:
        """The element to combine at a point."""
        math = NativeMath(self.f, point.lanes.width)
        values = self.nest.values(self.body, point, math)
        return math.convert(values[self.value], self.source, self.dtype)

    def finish(self, point: Point, state: State) -> None:
        """Store the result at a point."""
        math, target = NativeMath(self.f, point.lanes.width), self.nest.operands[-1].dtype
        held = int64 if self.combine.is_position else self.dtype
        result = math.convert(state[-1], held, target)
        self.nest.store(len(self.nest.operands) - 1, point, math.to_memory(result, target))

    # the vector is the lanes

    def along(self, point: Point) -> None:
        """Combine along the last reduced axis by vectors of lanes."""
        f = self.f
        start = self.combine.start(LANES, f.steps(LANES))
        slots = [f.variable(v.type, v) for v in start]
        self._walk(point, slots, len(self.axes))
        state = [f.load(v.type, s) for v, s in zip(start, slots, strict=True)]
        width = LANES // 2
        while width:
            halves = [[_part(f, v, at, width) for v in state] for at in (0, width)]
            state = self.combine.merge(*halves)
            width //= 2
        self.finish(point, state)

    def _walk(self, point: Point, slots: list[Value], left: int) -> None:
        """The loops over the last `left` reduced axes; keeps each position in its lane."""
        f, nest = self.f, self.nest
        if left > 1:
            axis = nest.walk.order[point.depth]
            with f.loop(0, nest.extents[axis]) as i:
                self._walk(nest.enter(nest.moved(point, axis, i)), slots, left - 1)
            if left == self.inner:
                self._turn(slots, f.sub(0, self.count(self.inner)))
            return

        def visit(inner: Point) -> None:
            mask = inner.lanes.mask
            state = [f.load(vector(e, LANES), s)
                     for e, s in zip(self.combine.elements, slots, strict=True)]  # fmt: skip
            positions = nest.position(inner, self.axes[-1], relative=True)
            state = self.combine.add(state, self.element(inner), positions, mask)
            for v, s in zip(state, slots, strict=True):
                f.store(v, s)

        nest.vectors(self.axes[-1], point, visit)
        if self.inner > 1:
            self._turn(slots, nest.extents[self.axes[-1]])

    def count(self, axes: int) -> Index:
        """How many positions the last `axes` reduced axes have together."""
        total: Index = 1
        for a in self.axes[len(self.axes) - axes :]:
            total = self.f.mul(total, self.nest.extents[a])
        return total

    def _turn(self, slots: list[Value], by: Index) -> None:
        """Rotate the lanes, so that the next position comes to lane 0."""
        f = self.f
        steps = f.bin("and", f.i64(by), f.const("i64", LANES - 1))
        with f.when(f.cmp("icmp ne", steps, f.const("i64", 0))):
            for element, slot in zip(self.combine.elements, slots, strict=True):
                type_, memory = vector(element, LANES), _held(element)
                wide = vector(memory, LANES)
                value = _hold(f, f.load(type_, slot))
                twice = f.stack(2 * LANES * 8)
                f.store(value, twice)
                f.store(value, f.gep(memory, twice, LANES))
                f.store(_unhold(f, f.load(wide, f.gep(memory, twice, steps)), element), slot)

    # vectors run along an axis that is kept

    def across(self, point: Point) -> None:
        """Combine rows, into an accumulator of each column for each lane."""
        f, nest = self.f, self.nest
        axis = nest.walk.vector
        assert axis is not None
        extent = nest.extents[axis]
        done: Index = 0
        if self._is_light():  # and small: long strides are better walked row by row
            most = f.const("i64", _NEAR)
            small = f.cmp("icmp sle", f.i64(extent), most)
            short = f.cmp("icmp sle", f.i64(self.count(1)), most)
            whole = f.i64(f.mul(f.div(extent, LANES), LANES))
            done = f.select(f.bin("and", small, short), whole, f.const("i64", 0))
            with f.loop(0, done, LANES) as at:
                here = replace(nest.moved(point, axis, at), lanes=Lanes(LANES))
                self._registers(nest.settle(here))
        many = f.cmp("icmp sge", f.i64(self.count(len(self.axes))), f.const("i64", _MANY))
        width = f.select(many, f.const("i64", _FAR), f.const("i64", _NEAR))
        rows = [f.stack(_FAR * LANES * _SIZE[_held(e)]) for e in self.combine.elements]
        with f.loop(done, extent, width) as at:
            block = nest.settle(nest.moved(point, axis, at))
            columns = f.min(f.sub(extent, at), width)
            counter = f.variable("i64", f.const("i64", 0))
            again = f.variable("i1", f.const("i1", False))  # lanes hold values from before
            self._rows(block, rows, counter, again, columns, len(self.axes), width)
            self._tree(replace(block, depth=len(nest.walk.order) - 1), rows, columns, width)

    def _is_light(self) -> bool:
        """Whether a copy of the body for each lane is short, and all accumulators fit registers."""
        lanes = host().lanes * 4 // max(_SIZE[_held(e)] for e in self.combine.elements)
        few = len(self.body.instrs) <= _LIGHT and self.nest.loaded <= 2
        simple = all(WORDS[i.word].flops <= 1 for i in self.body.instrs if i.word in WORDS)
        return lanes >= LANES and few and simple and len(self.axes) == 1

    def _registers(self, point: Point) -> None:
        """A vector of columns whose accumulators are registers."""
        f, nest, (axis,) = self.f, self.nest, self.axes
        (element,) = self.combine.elements
        extent, rows = nest.extents[axis], f.stack(LANES * LANES * _SIZE[_held(element)])
        slots = [f.variable(v.type, v) for v in self.combine.start(LANES, f.i64(0)) * LANES]
        whole = f.mul(f.div(extent, LANES), LANES)

        def add(at: Point, state: Value) -> Value:
            x = self.element(nest.enter(nest.enter(at)))
            return self.combine.add([state], x, f.i64(0), None)[0]

        with f.loop(0, whole, LANES) as p:
            row = nest.moved(point, axis, p)
            for slot in slots:
                f.store(add(row, f.load(vector(element, LANES), slot)), slot)
                row = nest.moved(row, axis, 1)
        rest = f.i64(f.sub(extent, whole))
        with f.when(f.cmp("icmp sgt", rest, f.i64(0))):
            for k, slot in enumerate(slots):
                self._store_row([rows], k * LANES, [f.load(vector(element, LANES), slot)])
            with f.loop(0, rest) as lane:
                at = f.mul(lane, LANES)
                row = nest.moved(point, axis, f.add(whole, lane))
                self._store_row([rows], at, [add(row, self._load_row([rows], at)[0])])
            for k, slot in enumerate(slots):
                f.store(self._load_row([rows], k * LANES)[0], slot)
        states = [[f.load(vector(element, LANES), slot)] for slot in slots]
        while len(states) > 1:
            half = len(states) // 2
            states = [self.combine.merge(states[i], states[i + half]) for i in range(half)]
        self.finish(point, states[0])

    def _rows(
        self, point: Point, rows: list[Value], counter: Value, again: Value, columns: Index,
        left: int, width: Value,
    ) -> None:  # fmt: skip
        """The loops over reduced axes; `counter` is the position along the inner group."""
        f, nest = self.f, self.nest
        if left:
            axis = nest.walk.order[point.depth]
            with f.loop(0, nest.extents[axis]) as i:
                inner = nest.enter(nest.moved(point, axis, i))
                self._rows(inner, rows, counter, again, columns, left - 1, width)
            if left == self.inner:
                f.store(f.const("i64", 0), counter)
                f.store(f.const("i1", True), again)
            return
        assert nest.walk.vector is not None
        axis = nest.walk.vector
        at = f.load("i64", counter)
        lane = f.bin("and", at, f.const("i64", LANES - 1))
        seen = f.bin("or", f.cmp("icmp sge", at, f.const("i64", LANES)), f.load("i1", again))
        base = point.positions[axis]
        offset = f.mul(lane, width)
        position = f.splat(at, LANES)
        fresh = self.combine.start(LANES, position)

        def visit(inner: Point) -> None:
            place = f.add(offset, f.sub(inner.positions[axis], base))
            found = self._load_row(rows, place)
            state = [f.select(seen, x, y) for x, y in zip(found, fresh, strict=True)]
            state = self.combine.add(state, self.element(inner), position, None)
            self._store_row(rows, place, state)

        nest.vectors(axis, point, visit, columns)
        f.store(f.i64(f.add(at, 1)), counter)

    def _load_row(self, rows: list[Value], place: Index) -> State:
        f = self.f
        return [
            _unhold(f, f.load(vector(_held(e), LANES), f.gep(_held(e), row, place)), e)
            for e, row in zip(self.combine.elements, rows, strict=True)
        ]

    def _store_row(self, rows: list[Value], place: Index, state: State) -> None:
        f = self.f
        for v, row in zip(state, rows, strict=True):
            f.store(_hold(f, v), f.gep(_held(element_of(v.type)), row, place))

    def _tree(self, point: Point, rows: list[Value], columns: Index, width: Value) -> None:
        """Combine the lanes of each column and store the results."""
        f, nest = self.f, self.nest
        assert nest.walk.vector is not None
        with f.loop(self.count(self.inner), LANES) as lane:  # those that no position came to
            fresh = self.combine.start(LANES, f.splat(lane, LANES))
            with f.loop(0, columns, LANES) as at:
                self._store_row(rows, f.add(f.mul(lane, width), at), fresh)
        distance = f.variable("i64", f.const("i64", LANES // 2))
        with f.loop(0, LANES.bit_length() - 1):
            half = f.load("i64", distance)
            with f.loop(0, half) as lane, f.loop(0, columns, LANES) as at:
                here = f.add(f.mul(lane, width), at)
                other = f.add(here, f.mul(half, width))
                pair = self._load_row(rows, here), self._load_row(rows, other)
                self._store_row(rows, here, self.combine.merge(*pair))
            f.store(f.i64(f.div(half, 2)), distance)
        with f.loop(0, columns, LANES) as at:
            left = f.min(f.sub(columns, at), LANES)
            here_ = replace(nest.moved(point, nest.walk.vector, at), lanes=first_lanes(f, left))
            self.finish(here_, self._load_row(rows, at))


_SIZE = {"i1": 1, "i8": 1, "i16": 2, "half": 2, "i32": 4, "float": 4, "i64": 8, "double": 8}


def _held(element: str) -> str:
    """The type in which an accumulator lies in memory."""
    return "i8" if element == "i1" else element


def _hold(f: Function, x: Value) -> Value:
    lanes = vector("i8", LANES)
    return f.convert("zext", x, lanes) if element_of(x.type) == "i1" else x


def _unhold(f: Function, x: Value, element: str) -> Value:
    return f.cmp("icmp ne", x, f.const(x.type, 0)) if element == "i1" else x


def _part(f: Function, x: Value, at: int, width: int) -> Value:
    """`width` lanes from `at` on."""
    if width == 1:
        return f.lane(x, at)
    picks = ", ".join(f"i32 {at + k}" for k in range(width))
    type_ = vector(element_of(x.type), width)
    return f.emit(f"shufflevector {x}, {x.type} poison, <{width} x i32> <{picks}>", type_)
