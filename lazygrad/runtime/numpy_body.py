"""A body as NumPy statements: words in order, results written where they belong.

Every value has the extent of what it depends on (a chain over 0-d loads costs 0-d calls) and a
location. Locations are chosen from the last word to the first: a stored value is computed in the
view that it is stored to, the operand that dies in a word takes that word's location, and the
rest are temporaries, packed by their lifetimes. So `relu(acc + b) * s` runs in the output's
buffer alone. A view that is still to be read is never written: then the value gets a temporary
and is copied at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lazygrad.runtime.kernel import Access, Body
from lazygrad.runtime.numpy_frame import Frame, Varies
from lazygrad.runtime.numpy_gather import emit_gather
from lazygrad.runtime.numpy_plan import Const, NumpyDType, Plan, View, Work, constant
from lazygrad.runtime.numpy_words import (
    Value,
    emit_copy,
    emit_word,
    may_write,
    wants_dense,
    wants_moving,
)
from lazygrad.shapes import numel

Target = tuple[int, View]  # a value of the body and where it goes, over the whole frame
_LINE = 1 << 14  # elements of a constant array
Busy = dict[int | Work, list[tuple[int, View]]]


@dataclass(slots=True)
class _Known:
    """What is known of a value; `given` is a load's view or a constant, else an op computes it."""

    dtype: NumpyDType
    varies: Varies
    given: Value | None = None


@dataclass(slots=True, eq=False)
class _Op:
    """An operation: the value that it makes, the values that it reads, how it is written."""

    result: int
    reads: tuple[int, ...]
    write: Callable[[list[Value], View], None]
    word: str = ""  # of the vocabulary; then the result may take an operand's place
    table: View | None = None  # what a gather reads beside its index


class BodyWriter:
    """Writes a body over a frame; `first` is value 0 in the epilogue of a contraction.

    If it is `spare`, a word that reads it last may write over it.
    """

    def __init__(
        self,
        plan: Plan,
        frame: Frame,
        body: Body,
        first: View | None = None,
        spare: bool = False,
    ) -> None:
        self.plan, self.frame, self._spare = plan, frame, spare
        self.values: list[_Known] = []
        self.extra: dict[int, _Known] = {}  # dense copies, numbered after the body's values
        self.ops: list[_Op] = []
        self._count = len(body.loads) + len(body.instrs) + (first is not None)
        self._copies: dict[tuple[int, Varies], int] = {}
        if first is not None:
            self.values.append(_Known(first.dtype, (True,) * len(frame.shape), first))
        for access in body.loads:
            self._load(access)
        for instr in body.instrs:
            dtype = instr.dtype.dtype
            if instr.word == "const":
                self._constant(dtype, constant(instr.value, dtype), self._nowhere())
            elif instr.word == "index":
                self._position(int(instr.value or 0), dtype)
            else:
                self._word(instr.word, instr.args, dtype)

    def plain(self, value: int) -> View | None:
        """The view of a value that is a plain load, else None."""
        given = self.values[value].given
        return given if isinstance(given, View) else None

    def varies(self, value: int) -> Varies:
        """Along which axes of the frame a value changes."""
        return self._known(value).varies

    # ------------------------------------------------------------------ reading the body

    def _known(self, value: int) -> _Known:
        return self.values[value] if value < self._count else self.extra[value]

    def _nowhere(self) -> Varies:
        return (False,) * len(self.frame.shape)

    def _load(self, access: Access) -> None:
        strides = self.frame.strides(access.strides)
        moves = self.frame.varies(access.strides)
        dtype = self.plan.dtype(access.buffer).dtype
        if access.index is None:
            shape, rows = self.frame.extent(moves)
            view = self.plan.view(access, shape, strides[len(strides) - len(shape) :], rows)
            self.values.append(_Known(dtype, moves, view))
            return
        at = self.values[access.index].varies
        varies = tuple(a or b for a, b in zip(moves, at, strict=True))
        table = self.plan.view(access, (), (), 0)
        plan, frame = self.plan, self.frame

        def write(args: list[Value], out: View) -> None:
            assert isinstance(args[0], View)
            emit_gather(plan, frame, access, args[0], at, out)

        self.ops.append(_Op(len(self.values), (access.index,), write, table=table))
        self.values.append(_Known(dtype, varies))

    def _constant(self, dtype: NumpyDType, given: Const, varies: Varies) -> None:
        self.values.append(_Known(dtype, varies, given))

    def _position(self, axis: int, dtype: NumpyDType) -> None:
        """The position along an axis of the domain: a constant line, cut with the rows."""
        at = next((i for i, g in enumerate(self.frame.groups) if axis in g), None)
        if at is None:
            self._constant(dtype, constant(0, dtype), self._nowhere())
            return
        cut = at == 0 and self.frame.rows > 0
        extent = self.plan.kernel.grid.rows if cut else self.frame.shape[at]
        after = len(self.frame.shape) - at - 1
        line = np.arange(extent).astype(dtype).reshape((-1,) + (1,) * after)
        varies = tuple(i == at for i in range(len(self.frame.shape)))
        key = ("line", extent, after, dtype.name)
        self._constant(dtype, Const(line, "line", key, int(cut)), varies)

    def _word(self, word: str, args: tuple[int, ...], dtype: NumpyDType) -> None:
        lanes = [self._known(a).varies for a in args]
        varies = tuple(any(v) for v in zip(*lanes, strict=True))
        size = numel(self.frame.extent(varies)[0])
        reads = list(args)
        for i, a in enumerate(args):
            given = self._known(a).given
            literal = isinstance(given, Const) and not given.value.shape
            if word == "pow" and i == 1 and not literal and lanes[i] != varies:
                reads[i] = self._dense(a, varies)  # no short cut for an exponent that stands still
            elif lanes[i][-1:] != varies[-1:] and wants_moving(word, size):
                reads[i] = self._moving(a, varies, size)
            elif isinstance(given, View) and wants_dense(word, given):
                reads[i] = self._dense(a, lanes[i])
        self.ops.append(
            _Op(len(self.values), tuple(reads), partial(emit_word, self.plan, word), word)
        )
        self.values.append(_Known(dtype, varies))

    def _dense(self, value: int, varies: Varies) -> int:
        """A value of its own that is a dense copy with the given extent."""
        known = self._known(value)
        if known.given is None and known.varies == varies:
            return value
        found = self._copies.get((value, varies))
        if found is None:
            found = self._count + len(self.extra)
            self._copies[value, varies] = found
            self.extra[found] = _Known(known.dtype, varies)
            self.ops.append(_Op(found, (value,), self._copy))
        return found

    def _moving(self, value: int, varies: Varies, size: int) -> int:
        """A dense copy; of a number, one that is made once if it is small."""
        known = self._known(value)
        literal = isinstance(known.given, Const) and not known.given.value.shape
        if not literal or self.plan.cut or size > _LINE:
            return self._dense(value, varies)
        assert isinstance(known.given, Const)
        number = known.given.value
        filled = np.full(self.frame.extent(varies)[0], number)
        key = ("filled", filled.shape, number.dtype.name, number.tobytes())
        found = self._count + len(self.extra)
        self.extra[found] = _Known(known.dtype, varies, Const(filled, "filled", key))
        return found

    def _copy(self, args: list[Value], out: View) -> None:
        emit_copy(self.plan, args[0], out)

    # ------------------------------------------------------------------ writing it

    def write(self, targets: Sequence[Target]) -> None:
        """Append the statements that bring each target's value to its view."""
        targets = [self._apart(t, targets) for t in targets if not self._in_place(t)]
        self._drop_dead([value for value, _ in targets])
        made = {op.result: i for i, op in enumerate(self.ops)}
        last = {r: i for i, op in enumerate(self.ops) for r in op.reads}
        busy = self._busy(last)
        direct: dict[int, View] = {}
        copies: list[Target] = []
        for value, view in targets:
            if value not in direct and value in made and self._direct(value, view, made, busy):
                direct[value] = view
            else:
                copies.append((value, view))
        for value, _ in copies:
            last[value] = len(self.ops)
        found = self._locate(direct, made, last, busy)
        for op in self.ops:
            op.write([self._operand(r, found) for r in op.reads], found[op.result])
        for value, view in copies:
            emit_copy(self.plan, self._operand(value, found), view)

    def _operand(self, value: int, found: dict[int, View]) -> Value:
        given = self._known(value).given
        return found[value] if given is None else given

    def _in_place(self, target: Target) -> bool:
        """Whether a loaded value goes back to where it came from."""
        return self._known(target[0]).given == target[1]

    def _apart(self, target: Target, targets: Sequence[Target]) -> Target:
        """A loaded value whose buffer another target overwrites is copied before."""
        value, view = target
        known = self._known(value)
        if isinstance(known.given, View) and any(
            known.given.buffer == other.buffer for _, other in targets
        ):
            return self._dense(value, known.varies), view
        return target

    def _drop_dead(self, wanted: Sequence[int]) -> None:
        live, kept = set(wanted), []
        for op in reversed(self.ops):
            if op.result in live:
                live.update(op.reads)
                kept.append(op)
        self.ops = kept[::-1]

    def _busy(self, last: dict[int, int]) -> Busy:
        """For each buffer that is loaded: the last operations that read it, through which view."""
        busy: Busy = {}
        for value, position in last.items():
            given = self._known(value).given
            if isinstance(given, View):
                busy.setdefault(given.buffer, []).append((position, given))
        for i, op in enumerate(self.ops):
            if op.table is not None:
                busy.setdefault(op.table.buffer, []).append((i, op.table))
        return busy

    def _direct(self, value: int, view: View, made: dict[int, int], busy: Busy) -> bool:
        """Whether the value can be computed in the view that it goes to."""
        known = self._known(value)
        return (
            all(known.varies)
            and known.dtype == view.dtype
            and view.injective
            and may_write(self.ops[made[value]].word, view)
            and _unread(view, made[value], busy)
        )

    def _locate(
        self, direct: dict[int, View], made: dict[int, int], last: dict[int, int], busy: Busy
    ) -> dict[int, View]:
        """A view for every computed value, from the last operation to the first."""
        found = dict(direct)
        for i in range(len(self.ops) - 1, -1, -1):
            op = self.ops[i]
            result = self._known(op.result)
            if op.result not in found:
                found[op.result] = self._fresh(op, result, i, last)
            place = found[op.result]
            if not op.word or not place.contiguous:
                continue
            for read in op.reads:
                known = self._known(read)
                if (
                    read in made
                    and read not in found
                    and last[read] == i
                    and (known.dtype, known.varies) == (result.dtype, result.varies)
                    and may_write(self.ops[made[read]].word, place)
                    and _unread(place, made[read], busy)
                ):
                    found[read] = place
                    break
        return found

    def _fresh(self, op: _Op, result: _Known, i: int, last: dict[int, int]) -> View:
        """Working memory for a result: an accumulator that dies here, else memory of its own."""
        if self._spare and op.word and 0 in op.reads and last[0] == i:
            first = self.values[0].given
            whole = result.dtype == self.values[0].dtype and all(result.varies)
            if isinstance(first, View) and whole and may_write(op.word, first):
                self._spare = False
                return first
        shape, rows = self.frame.extent(result.varies)
        return self.plan.temp(shape, result.dtype, rows)


def _unread(view: View, position: int, busy: Busy) -> bool:
    """Whether no load needs the view's buffer after the operation at `position` begins.

    That operation itself may read the very view: a word reads a point before it writes it.
    """
    return all(
        latest < position or (latest == position and given == view)
        for latest, given in busy.get(view.buffer, ())
    )
