"""What a kernel becomes before it is machine code: units, each one function of the program's table.

A function has the signature

    i64 name(ptr slots, ptr args, i64 lo, i64 hi, i64 chunk, ptr local)

`slots` are the addresses that the program bound (0: its arena). `args` holds, for each buffer, a
slot and an offset in bytes, then the numbers (extents, strides) that the code reads at run time.
`local` is memory of the running thread alone. The result is 0, or what a check found wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lazygrad.runtime.native.llvm import Function, Value

SIGNATURE = [
    ("ptr", "slots"), ("ptr", "args"), ("i64", "lo"), ("i64", "hi"), ("i64", "chunk"),
    ("ptr", "local"),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unit:
    """One entry of a program's command table.

    Equal keys mean equal code: extents and strides are in `words`, not in the key, unless the code
    is specialised on them. `buffers` are numbers of the kernel's buffers (params, then scratch that
    all threads share). Rows 0..rows are cut in steps of `chunk`, for the threads if `parallel`.
    """

    key: tuple[Any, ...]
    build: Callable[[str], Function]
    buffers: tuple[int, ...]
    words: tuple[int, ...] = ()
    rows: int = 1
    chunk: int = 1
    local: int = 0  # bytes for each thread
    parallel: bool = False
    checks: bool = False
    note: str = field(default="", compare=False)  # what `explain()` says about how it computes


class Frame:
    """A unit's function under construction: its buffers and words as values."""

    def __init__(self, name: str, buffers: int) -> None:
        self.f = Function(name, SIGNATURE, "i64")
        self.slots, self.args, self.lo, self.hi, self.chunk, self.local = self.f.params
        self._buffers = buffers

    def pointer(self, k: int) -> Value:
        """The address of the k-th buffer of the unit."""
        f = self.f
        slot = f.load("i64", f.gep("i64", self.args, 2 * k))
        offset = f.load("i64", f.gep("i64", self.args, 2 * k + 1))
        base = f.load("ptr", f.gep("i64", self.slots, slot))
        return f.gep("i8", base, offset)

    def word(self, k: int) -> Value:
        """The k-th number behind the buffers."""
        return self.f.load("i64", self.f.gep("i64", self.args, 2 * self._buffers + k))

    def finish(self) -> Function:
        """Return 0."""
        self.f.ret(self.f.const("i64", 0))
        return self.f


class Unsupported(Exception):
    """Why a kernel cannot become machine code."""
