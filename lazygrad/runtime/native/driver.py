"""A program as one call: the driver walks a table of commands in machine code.

A `Table` holds the commands of a program, their arguments and a Python function `run` that is
machine code itself: it reads the addresses of the arrays out of the NumPy objects, so that a call
costs some 0.1 microseconds instead of a `ctypes` call's third of one. What a table does not know,
the arena and the arrays, comes with each call; several threads may run one table at once.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lazygrad.runtime.native import jit

WORDS = 16  # 64-bit words of one command, and of the table's head
BARRIER, CHECKS = 1, 2

Run = Callable[[int, list[Any], int], int]


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
    failed (no later command ran). `release` says whether other Python threads run meanwhile:
    giving the interpreter lock back and taking it again is not free.
    """

    def __init__(self, commands: Sequence[Command], arrays: int, release: bool = False) -> None:
        self._words = _aligned(WORDS * (1 + len(commands)))
        self._args = [np.array([*c.args, 0], np.int64) for c in commands]
        head, *rows = self._words.reshape(-1, WORDS)
        head[:7] = (
            len(commands), arrays, release, 0, id(np.ndarray), id(list), id(TypeError)
        )  # fmt: skip
        for row, command, args in zip(rows, commands, self._args, strict=True):
            flags = BARRIER * command.barrier | CHECKS * command.checks
            chunk = command.chunk if command.parallel else max(command.rows, 1)
            row[:8] = (
                command.function, args.ctypes.data, command.rows, chunk, command.chunks,
                command.local_offset, command.local, flags,
            )  # fmt: skip
        self.run: Run = _bound(self._words)

    @property
    def release(self) -> bool:
        """Whether other Python threads run while the table does."""
        return bool(self._words[2])

    @release.setter
    def release(self, value: bool) -> None:
        self._words[2] = value


def _aligned(words: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Zeros whose first word begins a pair of cache lines."""
    memory = np.zeros(words + 16, np.int64)
    start = -memory.ctypes.data % 128 // 8
    return memory[start : start + words]


class _Method(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@functools.cache
def _method() -> _Method:
    """The definition that all tables' functions share; Python never frees it."""
    code = jit.link("lazygrad.driver", jit.compile_text(TEXT), ["lazygrad_call"])
    fastcall = 0x80
    return _Method(b"run", code["lazygrad_call"], fastcall, b"Run the table.")


def _bound(words: np.ndarray[Any, np.dtype[np.int64]]) -> Run:
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = (
        ctypes.py_object,
        [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p],
    )
    found: Run = new(ctypes.addressof(_method()), words, None)
    return found


# Python's and NumPy's objects: the type at 8, a list's length at 16 and its items at 24, an
# array's data at 16. `_layout_holds` tries it.
TEXT = """
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyErr_Occurred()
declare void @PyErr_SetString(ptr, ptr)
@usage = private constant [57 x i8] c"run(arena: int, arrays: list of plain ndarrays, threads)\\00"

; ptr run(self: the table as an array, args, number of args): what Python calls
define ptr @lazygrad_call(ptr %self, ptr %args, i64 %given) nounwind {
entry:
  %self_data = getelementptr i8, ptr %self, i64 16
  %table = load ptr, ptr %self_data
  %three = icmp eq i64 %given, 3
  br i1 %three, label %typed, label %refuse
typed:
  %args_1 = getelementptr ptr, ptr %args, i64 1
  %list = load ptr, ptr %args_1
  %list_type_at = getelementptr i8, ptr %list, i64 8
  %list_type = load ptr, ptr %list_type_at
  %wanted_at = getelementptr i64, ptr %table, i64 5
  %wanted = load ptr, ptr %wanted_at
  %is_list = icmp eq ptr %list_type, %wanted
  br i1 %is_list, label %counted, label %refuse
counted:
  %length_at = getelementptr i8, ptr %list, i64 16
  %length = load i64, ptr %length_at
  %arrays_at = getelementptr i64, ptr %table, i64 1
  %arrays = load i64, ptr %arrays_at
  %fits = icmp eq i64 %length, %arrays
  br i1 %fits, label %bind, label %refuse
bind:
  %arena_object = load ptr, ptr %args
  %arena = call i64 @PyLong_AsLongLong(ptr %arena_object)
  %args_2 = getelementptr ptr, ptr %args, i64 2
  %threads_object = load ptr, ptr %args_2
  %threads = call i64 @PyLong_AsLongLong(ptr %threads_object)
  %error_set = call ptr @PyErr_Occurred()
  %good = icmp eq ptr %error_set, null
  br i1 %good, label %fill, label %fail
fill:
  %slots_count = add i64 %arrays, 1
  %slots = alloca i64, i64 %slots_count
  store i64 %arena, ptr %slots
  %items_at = getelementptr i8, ptr %list, i64 24
  %items = load ptr, ptr %items_at
  %array_type_at = getelementptr i64, ptr %table, i64 4
  %array_type = load ptr, ptr %array_type_at
  br label %items_head
items_head:
  %i = phi i64 [ 0, %fill ], [ %i_next, %item_kept ]
  %more = icmp slt i64 %i, %arrays
  br i1 %more, label %item, label %bound
item:
  %item_at = getelementptr ptr, ptr %items, i64 %i
  %object = load ptr, ptr %item_at
  %object_type_at = getelementptr i8, ptr %object, i64 8
  %object_type = load ptr, ptr %object_type_at
  %is_array = icmp eq ptr %object_type, %array_type
  br i1 %is_array, label %item_kept, label %refuse
item_kept:
  %data_at = getelementptr i8, ptr %object, i64 16
  %data = load i64, ptr %data_at
  %i_next = add i64 %i, 1
  %slot = getelementptr i64, ptr %slots, i64 %i_next
  store i64 %data, ptr %slot
  br label %items_head
bound:
  %release_at = getelementptr i64, ptr %table, i64 2
  %release = load i64, ptr %release_at
  %keeps = icmp eq i64 %release, 0
  br i1 %keeps, label %holding, label %released
holding:
  %held = call i64 @lazygrad_run(ptr %table, ptr %slots, i64 %threads)
  br label %done
released:
  %state = call ptr @PyEval_SaveThread()
  %free = call i64 @lazygrad_run(ptr %table, ptr %slots, i64 %threads)
  call void @PyEval_RestoreThread(ptr %state)
  br label %done
done:
  %result = phi i64 [ %held, %holding ], [ %free, %released ]
  %answer = call ptr @PyLong_FromLongLong(i64 %result)
  ret ptr %answer
refuse:
  %error_at = getelementptr i64, ptr %table, i64 6
  %error = load ptr, ptr %error_at
  call void @PyErr_SetString(ptr %error, ptr @usage)
  ret ptr null
fail:
  ret ptr null
}

; i64 run(table, slots, threads)
define i64 @lazygrad_run(ptr %table, ptr %slots, i64 %threads) nounwind {
entry:
  %result = call i64 @alone(ptr %table, ptr %slots)
  ret i64 %result
}

; All commands on the calling thread.
define internal i64 @alone(ptr %table, ptr %slots) nounwind {
entry:
  %count = load i64, ptr %table
  %arena = load ptr, ptr %slots
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i_next, %passed ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %command, label %finish
command:
  %i_next = add i64 %i, 1
  %row = getelementptr [16 x i64], ptr %table, i64 %i_next
  %function = load ptr, ptr %row
  %row_1 = getelementptr i64, ptr %row, i64 1
  %args = load ptr, ptr %row_1
  %row_2 = getelementptr i64, ptr %row, i64 2
  %rows = load i64, ptr %row_2
  %row_3 = getelementptr i64, ptr %row, i64 3
  %step = load i64, ptr %row_3
  %row_4 = getelementptr i64, ptr %row, i64 4
  %chunks = load i64, ptr %row_4
  %row_5 = getelementptr i64, ptr %row, i64 5
  %offset = load i64, ptr %row_5
  %row_7 = getelementptr i64, ptr %row, i64 7
  %flags = load i64, ptr %row_7
  %local = getelementptr i8, ptr %arena, i64 %offset
  br label %chunk_head
chunk_head:
  %chunk = phi i64 [ 0, %command ], [ %chunk_next, %chunk_body ]
  %worst = phi i64 [ -1, %command ], [ %worst_next, %chunk_body ]
  %another = icmp slt i64 %chunk, %chunks
  br i1 %another, label %chunk_body, label %ran
chunk_body:
  %lo = mul i64 %chunk, %step
  %end = add i64 %lo, %step
  %hi = call i64 @llvm.smin.i64(i64 %end, i64 %rows)
  %code = call i64 %function(ptr %slots, ptr %args, i64 %lo, i64 %hi, i64 %chunk, ptr %local)
  %less = sub i64 %code, 1
  %worst_next = call i64 @llvm.umin.i64(i64 %worst, i64 %less)
  %chunk_next = add i64 %chunk, 1
  br label %chunk_head
ran:
  %checking = and i64 %flags, 2
  %checks = icmp ne i64 %checking, 0
  %bad = icmp ne i64 %worst, -1
  %stop = and i1 %checks, %bad
  br i1 %stop, label %failed, label %passed
passed:
  br label %head
failed:
  %shifted = shl i64 %i, 32
  %reason = add i64 %worst, 1
  %failure = or i64 %shifted, %reason
  ret i64 %failure
finish:
  ret i64 0
}
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.umin.i64(i64, i64)
"""
