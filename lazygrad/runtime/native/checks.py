"""Checks as machine code: index ranges, before the first state is written.

The code only finds out whether anything is wrong; the op's own reference then says what.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygrad.ops.effect import CHECK_INDEX
from lazygrad.runtime.executor import Bases
from lazygrad.runtime.kernel import Extern, Kernel
from lazygrad.runtime.native.llvm import Function, Value
from lazygrad.runtime.native.unit import Frame, Unit, Unsupported
from lazygrad.shapes import contiguous_strides, numel

_LIMIT = 1 << 63


def check_units(kernel: Kernel, stage: Extern) -> list[Unit]:
    """The unit of a kernel that checks indices."""
    if stage.op is not CHECK_INDEX:
        raise Unsupported(f"{stage.op.name} runs through its reference")
    access, shape, dtype = stage.inputs[0]
    if access.strides != contiguous_strides(shape):
        raise Unsupported("a check of strided indices")
    attrs = stage.attributes()
    low, high, ignore = attrs["low"], attrs["high"], attrs.get("ignore")
    if not all(-_LIMIT <= v < _LIMIT for v in (low, high, ignore or 0)):
        raise Unsupported("a check against limits beyond 64 bits")
    signed = dtype.dtype.kind == "i"
    bits = 8 * dtype.itemsize
    if not signed:  # nothing is below 0, where an unsigned comparison sees the largest numbers
        low, ignore = max(low, 0), None if ignore is None or ignore < 0 else ignore
    skips = ignore is not None

    def build(name: str) -> Function:
        return _check(name, bits, signed, skips)

    words = (access.offset, numel(shape), low, high, ignore or 0)
    return [Unit(("check_index", bits, signed, skips), build, (access.buffer,), words, checks=True)]


def _check(name: str, bits: int, signed: bool, skips: bool) -> Function:
    """1 if any element lies outside of [low, high) and is not `skip`, where one `skips` at all."""
    frame = Frame(name, 1)
    f = frame.f
    base = frame.pointer(0)
    offset, count, low, high, skip = (frame.word(k) for k in range(5))
    kind = f"i{bits}"
    bad = f.variable("i1", f.const("i1", False))
    with f.loop(0, count) as i:
        x: Value = f.load(kind, f.gep(kind, base, f.add(offset, i)))
        if bits < 64:
            x = f.convert("sext" if signed else "zext", x, "i64")
        below = f.cmp("icmp slt" if signed else "icmp ult", x, low)
        above = f.cmp("icmp sge" if signed else "icmp uge", x, high)
        wrong = f.bin("or", below, above)
        if skips:
            wrong = f.bin("and", wrong, f.cmp("icmp ne", x, skip))
        f.store(f.bin("or", f.load("i1", bad), wrong), bad)
    f.ret(f.convert("zext", f.load("i1", bad), "i64"))
    return f


def complain(kernel: Kernel, pieces: Sequence[Any], bases: Bases) -> None:
    """Run the reference of a failed check on the indices where they are; raises its error."""
    stage = kernel.stages[0]
    assert isinstance(stage, Extern)
    access, shape, dtype = stage.inputs[0]
    slot, offset = pieces[0].slot, pieces[0].offset + access.offset * dtype.itemsize
    array: NDArray[Any]
    if slot:
        flat = bases.arrays[slot - 1].reshape(-1).view(np.uint8)
        array = np.ndarray(shape, dtype.dtype, flat, offset)
    else:
        memory = np.asarray(_Memory(bases.arena + offset, numel(shape) * dtype.itemsize))
        array = memory.view(dtype.dtype).reshape(shape)
    stage.op.reference(array, **stage.attributes())


class _Memory:
    """Bytes at an address."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.__array_interface__ = {
            "data": (address, True), "shape": (nbytes,), "typestr": "|u1", "version": 3,
        }  # fmt: skip
