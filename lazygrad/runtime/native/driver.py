"""A program as one call: the driver walks a table of commands in machine code.

A `Table` holds the commands of a program, their arguments and a Python function `run` that is
machine code itself: it reads the addresses of the arrays out of the NumPy objects, so that a call
costs some 0.1 microseconds instead of a `ctypes` call's third of one. What a table does not know,
the arena and the arrays, comes with each call; several threads may run one table at once. How the
threads of one run share its chunks is written in `driver.ll`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import index
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lazygrad.runtime.native import jit
from lazygrad.runtime.native.pool import Pool

Words = np.ndarray[Any, np.dtype[np.int64]]
Run = Callable[[int, list[Any], int], int]

LINE = 32  # 64-bit words of one command, and of the table's head
BARRIER, CHECKS, SOLO, PASS = 1, 2, 4, 8  # flags of a command
MOST_CLAIMS = 1024  # of one command; more chunks are taken several at a time


class Command(NamedTuple):
    """One unit of a program, bound: what `Unit` says and where things lie.

    `args` are the words that the function reads: pairs of slot and offset, then numbers. Slot 0 is
    the arena, slot 1 + i the i-th array of a call. A thread's own memory lies in the arena at
    `local_offset + thread * local`. Without `barrier` the next command does not wait for this one.
    """

    function: int
    args: Sequence[int]
    rows: int = 1
    chunk: int = 1
    local_offset: int = 0
    local: int = 0
    parallel: bool = False
    checks: bool = False
    barrier: bool = True

    @property
    def chunks(self) -> int:
        """How many pieces the threads share; what is not parallel is one."""
        return -(-self.rows // self.chunk) if self.parallel else int(self.rows > 0)


class Table:
    """The commands of a program as the driver reads them.

    `run(arena, arrays, threads)` takes the arena's address and a list of as many arrays as the
    table was made for; it returns 0, or `index << 32 | code` of the first command whose check
    failed (no command behind the next barrier ran; a command that checks is one). `release` says
    whether other Python threads run meanwhile: giving the interpreter lock back and taking it
    again is not free.
    """

    def __init__(self, commands: Sequence[Command], arrays: int, release: bool = False) -> None:
        table = LINE * (1 + len(commands))
        starts = list(accumulate((len(c.args) for c in commands), initial=table))
        self._words = _aligned(starts[-1])  # one array: `run` keeps it alive
        address = self._words.ctypes.data
        head, *rows = self._words[:table].reshape(-1, LINE)
        shares = _claims(commands)
        flags, totals = _barriers(commands, [n for n, _ in shares])
        head[:3] = len(commands), arrays, release
        head[7] = max(totals, default=0)
        for i, (row, command) in enumerate(zip(rows, commands, strict=True)):
            self._words[starts[i] : starts[i + 1]] = command.args
            row[:11] = (
                command.function, address + 8 * starts[i], command.rows,
                command.chunk if command.parallel else command.rows, command.chunks,
                command.local_offset, command.local, flags[i], *shares[i], totals[i],
            )  # fmt: skip
        self._begin()

    def _begin(self) -> None:
        """Note what lies where in this process."""
        pool = _code().pool
        self._words[3:7] = (
            pool.address if pool else 0, id(np.ndarray), id(list), id(TypeError)
        )  # fmt: skip
        self.run = _bound(self._words)

    def still(self) -> Words:
        """The words of the table before its first run, addresses counted from its start.

        Where the functions are each `restored` table is told.
        """
        words, rows = self._words.copy(), LINE * (1 + int(self._words[0]))
        words[LINE:rows:LINE] = words[3:7] = 0
        words[LINE + 1 : rows : LINE] -= self._words.ctypes.data
        return words

    @staticmethod
    def restored(words: Words, functions: Sequence[int]) -> Table:
        """The table that `still` described, with the address of the function of each command."""
        table, rows = Table.__new__(Table), LINE * (1 + int(words[0]))
        table._words = _aligned(len(words))
        table._words[:] = words
        table._words[LINE:rows:LINE] = functions
        table._words[LINE + 1 : rows : LINE] += table._words.ctypes.data
        table._begin()
        return table

    @property
    def release(self) -> bool:
        """Whether other Python threads run while the table does."""
        return bool(self._words[2])

    @release.setter
    def release(self, value: bool) -> None:
        self._words[2] = value


def _claims(commands: Sequence[Command]) -> list[tuple[int, int]]:
    """For each command how many claims the threads make, and the chunks of one."""
    groups = [max(-(-c.chunks // MOST_CLAIMS), 1) for c in commands]
    return [(-(-c.chunks // g), g) for c, g in zip(commands, groups, strict=True)]


def _barriers(commands: Sequence[Command], claims: Sequence[int]) -> tuple[list[int], list[int]]:
    """For each command its flags and, where a segment ends, the claims of that segment.

    A segment without work is part of the next one. One of a single claim is for the caller
    alone (`SOLO`): small kernels that follow each other stay in one cache. Where only the caller
    goes on and nothing was checked, the others need not wait (`PASS`).
    """
    flags = [CHECKS * c.checks for c in commands]
    totals = [0] * len(commands)
    segments: list[range] = []
    start = 0
    for i, command in enumerate(commands):
        last = i + 1 == len(commands)
        if (command.barrier or command.checks or last) and any(claims[start : i + 1]):
            segments.append(range(start, i + 1))
            start = i + 1
    solo = [sum(claims[i] for i in segment) == 1 for segment in segments]
    for k, segment in enumerate(segments):
        end = segment[-1]
        totals[end] = sum(claims[i] for i in segment)
        flags[end] |= BARRIER
        for i in segment:
            flags[i] |= SOLO * solo[k]
        if all(solo[k + 1 : k + 2]) and not any(commands[i].checks for i in segment):
            flags[end] |= PASS
    return flags, totals


def _aligned(words: int) -> Words:
    """Zeros whose first word begins a pair of cache lines."""
    memory = np.zeros(words + 16, np.int64)
    start = -memory.ctypes.data % 128 // 8
    return memory[start : start + words]


class _Method(ctypes.Structure):
    """Python's definition of a function in machine code."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class _Code(NamedTuple):
    method: _Method
    run: Callable[[int, int, int], int]
    pool: Pool | None


_FASTCALL = 0x80  # the function takes `self`, a vector of arguments and its length


@functools.cache
def _code() -> _Code:
    """The driver and its pool; both stay for the life of the process."""
    names = ["lazygrad_call", "lazygrad_run", "lazygrad_worker"]
    call, run, worker = jit.compile_functions(text(), names)
    method = _Method(b"run", call, _FASTCALL, b"run(arena, arrays, threads)")
    word = ctypes.c_int64
    released = ctypes.CFUNCTYPE(word, word, word, word)(run)
    return _Code(method, released, Pool(worker) if os.name == "posix" else None)


def _bound(words: Words) -> Run:
    """The driver as a Python function with `words` as its self."""
    if not _layout_holds():
        return functools.partial(_run_slowly, words)
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    found: Run = new(ctypes.addressof(_code().method), words, None)
    return found


@functools.cache
def _layout_holds() -> bool:
    """Whether objects lie in memory as `driver.ll` reads them: not in every build of Python."""
    if platform.python_implementation() != "CPython" or object.__basicsize__ != 16:
        return False
    array = np.zeros(3)
    items = [array, array, array]
    word = ctypes.c_int64.from_address
    fields = (word(id(items) + 8).value, word(id(items) + 16).value, word(id(array) + 8).value)
    return (
        fields == (id(list), len(items), id(np.ndarray))
        and word(word(id(items) + 24).value + 16).value == id(array)
        and word(id(array) + 16).value == array.ctypes.data
    )


def _run_slowly(words: Words, arena: int, arrays: list[Any], threads: int) -> int:
    """`run` where the layout of objects is unknown."""
    plain = type(arrays) is list and all(type(a) is np.ndarray for a in arrays)
    if not plain or len(arrays) != words[1]:
        raise TypeError("run(arena: int, arrays: list of plain ndarrays, threads)")
    slots = np.array([index(arena), *(a.ctypes.data for a in arrays)], np.int64)
    return _code().run(words.ctypes.data, slots.ctypes.data, index(threads))


def text() -> str:
    """The driver in LLVM's text, for this system and processor."""
    source = Path(__file__).with_name("driver.ll").read_text("utf-8")
    system = _POSIX if os.name == "posix" else _ALONE
    system += _PLACES if sys.platform == "linux" else _ANYWHERE
    arm = platform.machine().lower() in ("arm64", "aarch64")
    return source + system + (_ARM if arm else _X86)


_POSIX = """
declare i32 @sched_yield()
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)
declare i32 @pthread_cond_broadcast(ptr)
"""

# No threads: nothing of this is ever called.
_ALONE = """
define internal i32 @sched_yield() { ret i32 0 }
define internal i32 @pthread_mutex_lock(ptr %m) { ret i32 0 }
define internal i32 @pthread_mutex_unlock(ptr %m) { ret i32 0 }
define internal i32 @pthread_cond_wait(ptr %c, ptr %m) { ret i32 0 }
define internal i32 @pthread_cond_signal(ptr %c) { ret i32 0 }
define internal i32 @pthread_cond_broadcast(ptr %c) { ret i32 0 }
"""

# A worker that wakes up on the processor of the caller would wait for its turn there, though others
# are idle: it goes to another one of those (at most 1024) that it is allowed.
_PLACES = """
declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @sched_setaffinity(i32, i64, ptr)
declare i64 @llvm.vector.reduce.or.v16i64(<16 x i64>)
define internal i64 @processor() {
  %cpu = call i32 @sched_getcpu()
  %wide = sext i32 %cpu to i64
  ret i64 %wide
}
define internal void @processors(ptr %allowed) {
  store <16 x i64> zeroinitializer, ptr %allowed, align 64
  %ignored = call i32 @sched_getaffinity(i32 0, i64 128, ptr %allowed)
  ret void
}
define internal void @avoid(i64 %cpu, ptr %allowed) {
entry:
  %others = alloca [16 x i64], align 64
  %here = call i64 @processor()
  %same = icmp eq i64 %here, %cpu
  %known = icmp ult i64 %cpu, 1024
  %meet = and i1 %same, %known
  br i1 %meet, label %look, label %done
look:
  %all = load <16 x i64>, ptr %allowed, align 64
  store <16 x i64> %all, ptr %others, align 64
  %word = lshr i64 %cpu, 6
  %at = getelementptr i64, ptr %others, i64 %word
  %bits = load i64, ptr %at
  %place = and i64 %cpu, 63
  %bit = shl i64 1, %place
  %mask = xor i64 %bit, -1
  %rest = and i64 %bits, %mask
  store i64 %rest, ptr %at
  %left = load <16 x i64>, ptr %others, align 64
  %any = call i64 @llvm.vector.reduce.or.v16i64(<16 x i64> %left)
  %elsewhere = icmp ne i64 %any, 0
  br i1 %elsewhere, label %go, label %done
go:
  %ignored = call i32 @sched_setaffinity(i32 0, i64 128, ptr %others)
  br label %done
done:
  ret void
}
"""

_ANYWHERE = """
define internal i64 @processor() { ret i64 -1 }
define internal void @processors(ptr %allowed) { ret void }
define internal void @avoid(i64 %cpu, ptr %allowed) { ret void }
"""

# Rounding to nearest, subnormals kept, no traps: whatever a library set for the calling thread.
_X86 = """
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse2.pause()
define internal i64 @enter_float() {
  %at = alloca i32
  %standard = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %at)
  %old = load i32, ptr %at
  store i32 8064, ptr %standard
  call void @llvm.x86.sse.ldmxcsr(ptr %standard)
  %wide = zext i32 %old to i64
  ret i64 %wide
}
define internal void @leave_float(i64 %old) {
  %at = alloca i32
  %narrow = trunc i64 %old to i32
  store i32 %narrow, ptr %at
  call void @llvm.x86.sse.ldmxcsr(ptr %at)
  ret void
}
define internal void @pause() {
  call void @llvm.x86.sse2.pause()
  ret void
}
"""

_ARM = """
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)
declare void @llvm.aarch64.hint(i32)
define internal i64 @enter_float() {
  %old = call i64 @llvm.aarch64.get.fpcr()
  call void @llvm.aarch64.set.fpcr(i64 0)
  ret i64 %old
}
define internal void @leave_float(i64 %old) {
  call void @llvm.aarch64.set.fpcr(i64 %old)
  ret void
}
define internal void @pause() {
  call void @llvm.aarch64.hint(i32 1)
  ret void
}
"""
