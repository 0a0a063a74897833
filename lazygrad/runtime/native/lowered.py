"""Kernels as units of machine code, and blocks of them as one native call.

`Native` is a lowered kernel. Consecutive ones form a block: a command table that the driver walks.
Commands of a block that touch different bytes need not wait for each other, so a barrier stands
only where two of them meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lazygrad.dtypes import float16
from lazygrad.errors import InternalError
from lazygrad.runtime.alignment import aligned
from lazygrad.runtime.executor import Bases, Code, KernelFailed, Place
from lazygrad.runtime.kernel import Contract, Extern, Kernel, computed_dtypes
from lazygrad.runtime.native.checks import complain
from lazygrad.runtime.native.driver import Command, Table
from lazygrad.runtime.native.gemm import contract_units
from lazygrad.runtime.native.jit import compile_units, listing
from lazygrad.runtime.native.opaque import extern_units
from lazygrad.runtime.native.rows import row_units, share_scratch
from lazygrad.runtime.native.target import host
from lazygrad.runtime.native.unit import Unit, Unsupported

_BYTES_PER_SECOND = 2e10
_FLOPS_PER_SECOND = 6e10
KEEP_LOCK = 50e-6  # seconds: shorter programs keep the interpreter lock
ALONE = 20e-6  # seconds: shorter programs run on the caller


def lower_units(kernel: Kernel) -> list[Unit]:
    """The units of a kernel; raises `Unsupported` where only the reference can compute it."""
    if not host().halves and float16 in computed_dtypes(kernel):
        raise Unsupported("float16 on a processor that does not convert it")
    first = kernel.stages[0]
    if isinstance(first, Extern):
        return extern_units(kernel, first)
    if isinstance(first, Contract):
        return contract_units(kernel)
    return row_units(kernel)


class Native:
    """A kernel that runs as machine code."""

    executor = "native"

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel = share_scratch(kernel)
        self.units = lower_units(kernel)
        self.local = max((aligned(u.local) for u in self.units), default=0)
        self._shared: list[int] = []  # offset in the workspace of each scratch that is shared
        self.workspace = 0
        for scratch in kernel.scratch:
            self._shared.append(self.workspace)
            if scratch.shared:
                self.workspace += aligned(scratch.size * scratch.dtype.itemsize)
        pieces = [-(-u.rows // max(u.chunk, 1)) for u in self.units if u.parallel]
        self.mode = "chunked" if max(pieces, default=1) > 1 else "vectorized"
        self.reason = self._why(max(pieces, default=1))

    def _why(self, pieces: int) -> str:
        size = f"{self.kernel.nbytes / 1e3:.3g} kB"
        how = f"{size} in {pieces} pieces over the workers" if pieces > 1 else f"{size} at once"
        return "; ".join([*(u.note for u in self.units if u.note), how])

    @property
    def seconds(self) -> float:
        """A guess of the time on one core."""
        return max(self.kernel.nbytes / _BYTES_PER_SECOND, self.kernel.flops / _FLOPS_PER_SECOND)

    def emit(self, code: Code, places: Sequence[Place], workspace: Place) -> None:
        """Append the units to the current block."""
        block: BlockOfUnits = code.block(BlockOfUnits)
        block.add(code.kernel, self, places, workspace)

    def buffer(self, k: int, places: Sequence[Place], workspace: Place) -> _Piece:
        """Where buffer `k` of the kernel lies, how long it is, and whether it is written."""
        count = len(self.kernel.params)
        if k < count:
            param = self.kernel.params[k]
            nbytes = param.size * param.dtype.itemsize
            return _Piece(places[k].slot, places[k].offset, nbytes, param.mode != "in")
        scratch = self.kernel.scratch[k - count]
        offset = workspace.offset + self._shared[k - count]
        return _Piece(workspace.slot, offset, scratch.size * scratch.dtype.itemsize, True)


class _Piece(NamedTuple):
    """Bytes that a command touches."""

    slot: int
    offset: int
    nbytes: int
    written: bool

    def meets(self, other: _Piece) -> bool:
        """Whether the two must not be touched at the same time."""
        return (
            self.slot == other.slot
            and (self.written or other.written)
            and self.offset < other.offset + other.nbytes
            and other.offset < self.offset + self.nbytes
        )


class BlockOfUnits:
    """A block under construction."""

    def __init__(self, code: Code) -> None:
        self._aliases = code.aliases
        self._arrays = code.arrays
        self._local = code.local
        self._threads = code.threads
        self._entries: list[tuple[int, Native, Unit, list[_Piece]]] = []

    def add(
        self, number: int, native: Native, places: Sequence[Place], workspace: Place
    ) -> None:  # fmt: skip
        """Append the units of a kernel; `number` is the kernel's in the flat function."""
        for unit in native.units:
            pieces = [native.buffer(k, places, workspace) for k in unit.buffers]
            self._entries.append((number, native, unit, pieces))

    def compile(self) -> NativeBlock:
        """Find the machine code and write the table."""
        addresses = compile_units([unit for _, _, unit, _ in self._entries])
        commands: list[Command] = []
        since: list[_Piece] = []  # what the commands since the last barrier touch
        # One size for all: threads may be at different commands.
        local = max((native.local for _, native, _, _ in self._entries), default=0)
        for _, _, unit, pieces in self._entries:
            touched = [p._replace(slot=self._aliases.get(p.slot, p.slot)) for p in pieces]
            if any(a.meets(b) for a in touched for b in since):
                commands[-1] = commands[-1]._replace(barrier=True)
                since = []
            since += touched
            words = [w for p in pieces for w in (p.slot, p.offset)]
            commands.append(
                Command(
                    addresses[unit.key], (*words, *unit.words), unit.rows, unit.chunk,
                    self._local.offset, local, unit.parallel, unit.checks, barrier=False,
                )
            )  # fmt: skip
            if unit.checks:
                commands[-1] = commands[-1]._replace(barrier=True)
                since = []
        seconds = sum(native.seconds for _, native, _, _ in self._entries)
        if commands:
            commands[-1] = commands[-1]._replace(barrier=True)
        table = Table(commands, self._arrays, release=seconds > KEEP_LOCK)
        return NativeBlock(self, table, self._threads if seconds > ALONE else 1)


class NativeBlock:
    """Commands that run as one native call."""

    def __init__(self, made: BlockOfUnits, table: Table, threads: int) -> None:
        self._entries = made._entries
        self.threads = threads
        self.table = table
        self.call = table.run

    @property
    def units(self) -> list[Unit]:
        """The unit of each command."""
        return [unit for _, _, unit, _ in self._entries]

    @property
    def source(self) -> str:
        """LLVM's text and the assembly of each unit, once."""
        units = {unit.key: (native, unit) for _, native, unit, _ in self._entries}
        texts = []
        for native, unit in units.values():
            text, assembly = listing(unit)
            texts.append(f"; kernel {native.kernel.name}\n{text}\n{assembly}")
        return "\n".join(texts)

    def run(self, bases: Bases) -> None:
        """Run the commands on these slots."""
        status = self.call(bases.arena, bases.arrays, self.threads)
        if status:
            self.fail(status, bases)

    def fail(self, status: int, bases: Bases) -> None:
        """Raise what a check found."""
        at, code = status >> 32, status & 0xFFFFFFFF
        number, native, _, pieces = self._entries[at]
        try:
            complain(native.kernel, pieces, bases)
        except Exception as cause:
            raise KernelFailed(number, cause) from None
        raise InternalError(
            f"kernel {native.kernel.name} failed with code {code}, its reference does not"
        )


__all__ = ["Native", "NativeBlock", "Unsupported", "compile_units", "lower_units"]
