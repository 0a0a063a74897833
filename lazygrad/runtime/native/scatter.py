"""Writes at positions that are data: one after the other, in the order of the indices.

So equal indices meet in one order on any number of threads. Vectors run along the axes that are
not indexed. The indices have been checked before; a wrong one writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from lazygrad.dtypes import DType
from lazygrad.ops.scalar_math import Instr
from lazygrad.runtime.kernel import Access, Body
from lazygrad.runtime.native.canonical import Number, Word, Words
from lazygrad.runtime.native.llvm import Function, Index, Value
from lazygrad.runtime.native.nest import Operand, emit_map
from lazygrad.runtime.native.unit import Frame, Unit
from lazygrad.runtime.native.words import memory_type
from lazygrad.shapes import Shape

Part = tuple[Access, DType, int, int]  # an index, its dtype, the extent and the stride it indexes


@dataclass(frozen=True, slots=True)
class _Index:
    """An index over the positions."""

    dtype: DType
    strides: tuple[Number, ...]
    start: Number
    extent: Number
    step: Number


@dataclass(frozen=True, slots=True)
class _Form:
    """What decides the code; axes are those of the positions, then those that are not indexed."""

    dtype: DType
    accumulate: bool
    positions: int
    extents: tuple[Number, ...]
    indices: tuple[_Index, ...]
    value: tuple[Number, tuple[Number, ...]]  # start, strides
    target: tuple[Number, tuple[Number, ...]]
    words: int


def scatter_unit(
    dtype: DType, positions: Shape, rest: Shape, parts: Sequence[Part], value: Access,
    target: Access, accumulate: bool,
) -> Unit:  # fmt: skip
    """target[indices] = value, or += value; accesses are over the positions and the rest."""
    words = Words()

    def number(n: int) -> Number:
        return 1 if n == 1 else words.word(n)

    def known(access: Access) -> tuple[Number, tuple[Number, ...]]:
        strides = tuple(
            0 if n == 1 else words.known(s)
            for n, s in zip((*positions, *rest), access.strides, strict=True)
        )
        return words.known(access.offset), strides

    extents = tuple(number(n) for n in (*positions, *rest))
    indices = []
    for access, kind, extent, step in parts:
        strides = tuple(words.known(s) for s in access.strides)
        start = words.known(access.offset)
        indices.append(_Index(kind, strides, start, words.word(extent), words.known(step)))
    form = _Form(
        dtype, accumulate, len(positions), extents, tuple(indices), known(value), known(target),
        len(words.values),
    )  # fmt: skip
    buffers = (target.buffer, value.buffer, *(a.buffer for a, _, _, _ in parts))
    return Unit(("scatter", form), partial(_build, form), buffers, tuple(words.values))


def _build(form: _Form, name: str) -> Function:
    frame = Frame(name, 2 + len(form.indices))
    f = frame.f
    words = [frame.word(k) for k in range(form.words)]

    def number(n: Number) -> Index:
        return words[n.number] if isinstance(n, Word) else n

    def moved(element: str, pointer: Value, at: Sequence[Index], strides: Sequence[Index]) -> Value:
        for i, stride in zip(at, strides, strict=True):
            pointer = f.gep(element, pointer, f.mul(i, stride))
        return pointer

    element = memory_type(form.dtype)
    bases = [frame.pointer(k) for k in range(2 + len(form.indices))]
    extents = [number(n) for n in form.extents]
    sides = []
    for base, (start, strides) in zip(bases, (form.target, form.value), strict=False):
        sides.append((f.gep(element, base, number(start)), [number(s) for s in strides]))
    with ExitStack() as loops:
        at = [0 if n == 1 else loops.enter_context(f.loop(0, n))
              for n in extents[: form.positions]]  # fmt: skip
        offset: Index = 0
        good = f.const("i1", True)
        for index, base in zip(form.indices, bases[2:], strict=True):
            kind = memory_type(index.dtype)
            first = f.gep(kind, base, number(index.start))
            place = moved(kind, first, at, [number(s) for s in index.strides])
            found, extent = _wrapped(f, f.load(kind, place), index.dtype, number(index.extent))
            good = f.bin("and", good, f.cmp("icmp ult", found, f.i64(extent)))
            offset = f.add(offset, f.mul(found, number(index.step)))
        loops.enter_context(f.when(good))
        operands = []
        for pointer, strides_ in sides:
            here = moved(element, pointer, at, strides_[: form.positions])
            operands.append(Operand(here, form.dtype, tuple(strides_[form.positions :])))
        out, value = operands
        out = Operand(f.gep(element, out.pointer, offset), form.dtype, out.strides)
        if form.accumulate:
            total = Instr("add", (0, 1), form.dtype)
            body = Body((), (form.dtype, form.dtype), (total,))
            emit_map(f, extents[form.positions :], body, [out, value], [(out, 2)])
        else:
            body = Body((), (form.dtype,), ())
            emit_map(f, extents[form.positions :], body, [value], [(out, 0)])
    return frame.finish()


def _wrapped(f: Function, x: Value, dtype: DType, extent: Index) -> tuple[Value, Index]:
    """An index as i64, a negative one from the end."""
    if dtype.itemsize < 8:
        x = f.convert("sext" if dtype.is_signed else "zext", x, "i64")
    if dtype.is_signed:
        negative = f.cmp("icmp slt", x, f.const("i64", 0))
        x = f.select(negative, f.i64(f.add(x, extent)), x)
    return x, extent
