"""What this machine can do at most: fused multiply-adds and memory traffic, measured once.

A kernel is judged by its share of these. They are measured with generated code under the driver,
as kernels run: the best of many short runs, on one thread and on all. The figures stay in the
cache on disk; measured beside other busy programs they are too low, so they can be taken again.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from lazygrad.runtime.native import disk
from lazygrad.runtime.native.driver import Command, Table
from lazygrad.runtime.native.jit import Key, compile_units
from lazygrad.runtime.native.llvm import Function, vector
from lazygrad.runtime.native.target import cores, host, llvm_version
from lazygrad.runtime.native.unit import Frame, Unit

_VERSION = 1  # of what is measured
_PATIENCE = 0.2  # seconds for each figure
_PIECE = 1 << 18  # bytes that a thread takes at a time


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Figures of one machine; `threads` is how many cores the process might use.

    `flops` are float32 operations a second (a fused multiply-add is two) and `read` and `copy`
    bytes a second of memory (a copy reads and writes each byte), on one thread and on all.
    `workers` is the smallest number of threads that reach the peak.
    """

    threads: int
    flops: tuple[float, float]
    read: tuple[float, float]
    copy: tuple[float, float]
    workers: int


def ceilings(again: bool = False) -> Ceilings:
    """The figures of this machine, measured the first time (or `again`): about two seconds."""
    text = f"ceilings {_VERSION} {host().key} {llvm_version()} {cores()}"
    name = hashlib.sha256(text.encode()).hexdigest()
    if again or name not in _memory:
        kept = None if again else disk.cache().read(name)
        if kept is None:
            _memory[name] = _measure()
            disk.cache().write(name, json.dumps(astuple(_memory[name])).encode())
        else:
            threads, flops, read, copy, workers = json.loads(kept)
            _memory[name] = Ceilings(threads, tuple(flops), tuple(read), tuple(copy), workers)
    return _memory[name]


_memory: dict[str, Ceilings] = {}


def _measure() -> Ceilings:
    words = _memory_words()
    source, target = np.ones(words, np.float32), np.zeros(words, np.float32)
    rows = words * 4 // _PIECE
    address = {key[1]: found for key, found in _compiled().items()}
    read, copy = (
        Table([Command(address[word], (1, 0, 2, 0), rows, parallel=True)], 2)
        for word in ("read", "copy")
    )
    counts = sorted({1, *(cores() >> k for k in range(cores().bit_length() - 1))})
    flops = {n: _flops(address["fma"], n) for n in counts}

    def rate(table: Table, threads: int, nbytes: int) -> float:
        return nbytes / _best(lambda: table.run(0, [source, target], threads))

    size = rows * _PIECE
    return Ceilings(
        cores(),
        (flops[1], max(flops.values())),
        (rate(read, 1, size), rate(read, cores(), size)),
        (rate(copy, 1, 2 * size), rate(copy, cores(), 2 * size)),
        next(n for n in counts if flops[n] >= 0.95 * max(flops.values())),
    )


def _flops(address: int, threads: int) -> float:
    """Operations a second of so many threads, in a few milliseconds each time."""
    times, out = 100_000, np.zeros(64 * threads, np.float32)
    command = Command(address, (1, 0, times), rows=threads, parallel=True)
    table = Table([command], 1)
    operations = 2 * times * _accumulators() * host().lanes * threads
    return operations / _best(lambda: table.run(0, [out], threads))


def _best(call: Callable[[], int]) -> float:
    """The seconds of the third fastest call.

    There may be few moments when all cores are free, and clocks of virtual machines may jump.
    """
    found: list[float] = []
    end = time.perf_counter() + _PATIENCE
    while len(found) < 8 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return sorted(found)[2]


def _memory_words() -> int:
    """Float32 numbers that no cache holds."""
    largest = 0
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        found = re.fullmatch(r"(\d+)K\n?", path.read_text())
        largest = max(largest, int(found[1]) << 10 if found else 0)
    return min(max(4 * largest, 128 << 20), 1 << 30) // 4


# The code -----------------------------------------------------------------------------------------


def _accumulators() -> int:
    """Independent chains: enough to hide the latency of an addition, not more than registers."""
    return host().registers * 5 // 8


def _compiled() -> dict[Key, int]:
    words = {"fma": _build_fma, "read": _build_read, "copy": _build_copy}
    return compile_units(
        Unit(("ceilings", word, _VERSION), build, (0, 1)) for word, build in words.items()
    )


def _build_fma(name: str) -> Function:
    frame = Frame(name, 1)
    f, type_ = frame.f, vector("float", host().lanes)
    out, times = frame.pointer(0), frame.word(0)
    factor, step = f.const(type_, 0.5), f.const(type_, 1.0)
    chains = [f.variable(type_, f.const(type_, k)) for k in range(_accumulators())]
    with f.loop(0, times):
        for chain in chains:
            f.store(f.intrinsic("fma", f.load(type_, chain), factor, step), chain)
    at = f.gep("float", out, f.mul(frame.chunk, 64))
    for chain in chains:  # all are used, or LLVM drops them
        f.line(f"store volatile {f.load(type_, chain)}, ptr {at.text}, align 4")
    return frame.finish()


def _build_read(name: str) -> Function:
    """Adds a piece up, into one number: what is loaded must be used."""
    frame = Frame(name, 2)
    f, lanes = frame.f, host().lanes
    type_, count = vector("float", lanes), 8
    source, target = frame.pointer(0), frame.pointer(1)
    chains = [f.variable(type_, f.const(type_, 0.0)) for _ in range(count)]
    first = f.mul(frame.lo, _PIECE // 4)
    with f.loop(first, f.add(first, _PIECE // 4), count * lanes) as i:
        for k, chain in enumerate(chains):
            x = f.load(type_, f.gep("float", source, f.add(i, k * lanes)), 4)
            f.store(f.bin("fadd", f.load(type_, chain), x), chain)
    at = f.gep("float", target, f.mul(frame.chunk, 64))
    for chain in chains:
        f.line(f"store volatile {f.load(type_, chain)}, ptr {at.text}, align 4")
    return frame.finish()


def _build_copy(name: str) -> Function:
    frame = Frame(name, 2)
    f, lanes = frame.f, host().lanes
    type_ = vector("float", lanes)
    source, target = frame.pointer(0), frame.pointer(1)
    first = f.mul(frame.lo, _PIECE // 4)
    with f.loop(first, f.add(first, _PIECE // 4), 4 * lanes) as i:
        for k in range(4):
            x = f.load(type_, f.gep("float", source, f.add(i, k * lanes)), 4)
            f.store(x, f.gep("float", target, f.add(i, k * lanes)), 4)
    return frame.finish()
