"""Programs on disk: a large graph that any process has compiled is not compiled again.

The machine code of kernels is on disk by kernel (`runtime/native/jit.py`). For a graph of thousands
of nodes the passes, fusion, the schedule, the memory plan and lowering take longer than everything
else of a first call, and their result is small: tables of numbers. It is kept under a hash of the
structural key, of the settings and of lazygrad's own code. A `StoredProgram` runs from that alone.
When it is asked about itself, or when a check of its has failed, it compiles the graph after all.

Kept are programs that are machine code from the first to the last kernel, of ops that lazygrad
defines itself: what a user's op computes may change without a change of its name.
"""

from __future__ import annotations

import functools
import hashlib
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from lazygrad import ops
from lazygrad.config import config
from lazygrad.dtypes import DType, as_dtype
from lazygrad.engine.collector import collector_paused
from lazygrad.engine.compiler import settings_key
from lazygrad.engine.executable import About, CompiledProgram, Program, Running
from lazygrad.engine.frozen import FrozenGraph
from lazygrad.errors import InternalError
from lazygrad.runtime.dispatch import threads, uses_native
from lazygrad.runtime.executor import Bases, CompiledCode, ViewSpec
from lazygrad.runtime.native import disk, jit, stored
from lazygrad.runtime.native.lowered import NativeBlock
from lazygrad.runtime.workers import cores

LEAST = 200  # nodes; a smaller graph is compiled in a few milliseconds
OWN = frozenset(ops.all_ops())
_PLAIN = (int, bool, float, str, type(None), DType)

Compiler = Callable[[FrozenGraph], Program]


class StoredProgram(CompiledProgram):
    """A program that an earlier process compiled; `compiler` makes it anew when asked about it."""

    def __init__(self, frozen: FrozenGraph, running: Running, compiler: Compiler) -> None:
        super().__init__(frozen, running, None)
        self._make = functools.partial(compiler, frozen)

    @functools.cached_property
    def whole(self) -> Program:
        """The program, compiled in this process."""
        with collector_paused():
            return self._make()

    @property
    def about(self) -> About:
        """See `Program.about`."""
        return self.whole.about

    @property
    def source(self) -> str:
        """See `CompiledProgram.source`."""
        assert isinstance(self.whole, CompiledProgram)
        return self.whole.source

    def _how(self, kernel: int | None) -> dict[str, str]:
        return self.whole._how(kernel)

    def fail(self, bases: Bases) -> NoReturn:
        """Raise what a check has found, by running the whole program on the same arrays.

        Checks come before the first write, so they are as they were.
        """
        first, second = self._borders
        arrays = bases.arrays
        self.whole.run(arrays[:first], arrays[first:second], arrays[second:])
        raise InternalError("a check failed in a program from the disk, and does not fail anew")

    def _raise(self, error: BaseException) -> NoReturn:
        raise error  # it is from `whole`, which named op, shapes and line


def name_of(frozen: FrozenGraph) -> str | None:
    """What the program of a graph is called on disk; None where it is not to be kept."""
    if len(frozen.nodes) < LEAST or not _is_ordinary() or not uses_native():
        return None
    if disk.cache().refused() or not all(n.op in OWN and _is_plain(n.attrs) for n in frozen.nodes):
        return None
    about = (jit.generator(), _sources(), threads(), cores(), settings_key(), frozen.key)
    return hashlib.sha256(repr(about).encode()).hexdigest()


def _is_ordinary() -> bool:
    """Whether nothing is asked for that looks into programs, and none of their parts is forced."""
    return not (
        config.debug or config.poison or config.validate or config.verify or config.profile
    )  # fmt: skip


def _is_plain(value: Any) -> bool:
    """Whether a value is written the same in every process, and never as another one."""
    if type(value) in _PLAIN:
        return True
    if type(value) is dict:
        return all(map(_is_plain, value.values()))
    return type(value) is tuple and all(map(_is_plain, value))


@functools.cache
def _sources() -> str:
    """A hash of everything that decides what a graph compiles to."""
    root = Path(__file__).parents[1]
    found = hashlib.sha256()
    for path in sorted([*root.glob("*.py"), *root.glob("ops/**/*.py"), *root.glob("engine/**/*.py"),
                        *root.glob("runtime/*.py")]):  # fmt: skip
        found.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return found.hexdigest()


def keep(name: str, program: Program) -> None:
    """Write a program that has not run yet, if it is machine code throughout."""
    if not isinstance(program, CompiledProgram):
        return
    codes, arena_bytes, kept, in_place = program.running
    blocks = [code.block for code in codes if isinstance(code.block, NativeBlock)]
    if len(blocks) < len(codes):
        return
    records = [stored.Record.of(block) for block in blocks]
    head = {
        "arena_bytes": arena_bytes,
        "kept": [(at, (*spec[:4], as_dtype(spec.dtype).name)) for at, spec in kept],
        "in_place": in_place,
        "blocks": [r.header() for r in records],
    }
    content = json.dumps(head).encode() + b"\n" + stored.pack(records)
    disk.cache().keep({name: content})


def load(name: str, frozen: FrozenGraph, compiler: Compiler) -> StoredProgram | None:
    """The program of that name, if it is on disk with all of its code."""
    content = disk.cache().read(name)
    if content is None:
        return None
    head, _, numbers = content.partition(b"\n")
    fields = json.loads(head)
    made: weakref.ref[StoredProgram]

    def fail(bases: Bases) -> NoReturn:
        program = made()
        assert program is not None  # it is running
        program.fail(bases)

    blocks = stored.restore(stored.unpack(fields["blocks"], numbers), fail)
    if blocks is None:
        return None
    running = Running(
        tuple(CompiledCode.of_block(block) for block in blocks),
        fields["arena_bytes"],
        tuple((at, _view(*spec)) for at, spec in fields["kept"]),
        tuple((k, at) for k, at in fields["in_place"]),
    )
    program = StoredProgram(frozen, running, compiler)
    made = weakref.ref(program)
    return program


def _view(slot: int, offset: int, shape: list[int], strides: list[int], dtype: str) -> ViewSpec:
    return ViewSpec(slot, offset, tuple(shape), tuple(strides), as_dtype(dtype).dtype)
