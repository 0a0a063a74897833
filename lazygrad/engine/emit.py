"""From planned kernels to code: one flat function, or a few for very long programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from lazygrad.config import config
from lazygrad.engine.frozen import FrozenGraph
from lazygrad.engine.interpret import blame
from lazygrad.engine.kernels import build_kernel
from lazygrad.engine.layouts import ARENA, OUTPUT, WRITE, Layouts
from lazygrad.engine.memory import DEAD, Buffer
from lazygrad.engine.schedule import Schedule
from lazygrad.engine.zones import CANARY, ZONE, check_zone
from lazygrad.errors import InternalError, LazygradError
from lazygrad.runtime.dispatch import lower, prepare, threads
from lazygrad.runtime.executor import Code, CompiledCode, Lowered, Place
from lazygrad.runtime.kernel import Extern, Kernel
from lazygrad.runtime.profiling import new_clock

SEGMENT = 2000  # nodes in one generated function


def build_kernels(
    layouts: Layouts, plan: Schedule, overs: Sequence[dict[int, int]]
) -> tuple[list[Kernel], list[tuple[int, ...]]]:
    """The kernel of each form, and the value that each of its parameters is."""
    kernels, roots = [], []
    for k, (form, over) in enumerate(zip(plan.forms, overs, strict=True)):
        with _named(layouts.frozen, f"k{k}", form.group.nodes):
            kernel, params = build_kernel(layouts, form, f"k{k}", over)
        new = {old: written for written, old in over.items()}
        kernels.append(kernel)
        roots.append(tuple([new.get(r, r) for r in params]))
    return kernels, roots


def lower_all(frozen: FrozenGraph, kernels: Sequence[Kernel]) -> list[Lowered]:
    """Make kernels ready for their executors; kernels of one structure share the work."""
    known: dict[Any, Lowered] = {}
    found = []
    for kernel in kernels:
        key = kernel.key()
        low = None if key is None else known.get(key)
        if low is None:
            with _named(frozen, kernel.name, kernel.nodes):
                low = lower(kernel)
            failing = low.executor != "native" and any(isinstance(s, Extern) for s in kernel.stages)
            if key is not None and not failing:  # a reference that raises says whose kernel it is
                known[key] = low
        found.append(low)
    return found


def emit_code(
    layouts: Layouts, kernels: Sequence[Kernel], lowered: Sequence[Lowered],
    roots: Sequence[tuple[int, ...]], buffers: Sequence[Buffer], spaces: Sequence[Buffer],
    local: Buffer, name: str,
) -> list[CompiledCode]:  # fmt: skip
    """Write all kernels into flat functions of bounded length.

    `local` is the private memory of the program's threads.
    """
    places = _places(layouts, buffers)
    guard = _Guard([*buffers, *spaces]) if config.poison else None
    codes: list[CompiledCode] = []
    frozen = layouts.frozen
    _compile(frozen, kernels, lowered)
    arrays = len(frozen.sources) + len(frozen.outputs) + len(frozen.writes)
    first_write = 1 + len(frozen.sources) + len(frozen.outputs)
    aliases = {first_write + k: 1 + at for k, (at, _) in enumerate(frozen.writes)}
    begin = partial(Code, arrays, Place(0, local.offset), threads(), aliases)
    code, length = begin(), 0
    for k, (kernel, low) in enumerate(zip(kernels, lowered, strict=True)):
        if length >= SEGMENT:
            codes.append(code.compile(name))
            code, length = begin(), 0
        code.begin(k)
        if guard is not None:
            guard.before(code, k)
        clock = ""
        if config.profile:
            ops = [frozen.nodes[i].op.name for i in kernel.nodes]
            watch = new_clock(name, kernel, ops, low.mode, low.executor)
            clock = code.constant(watch, "clock")
            code.line(f"{clock}.start()")
        low.emit(code, [places[r] for r in roots[k]], Place(0, spaces[k].offset))
        if clock:
            code.line(f"{clock}.stop()")
        if guard is not None:
            guard.after(code, k)
        length += len(kernel.nodes)
    codes.append(code.compile(name))
    return codes


def _compile(frozen: FrozenGraph, kernels: Sequence[Kernel], lowered: Sequence[Lowered]) -> None:
    """Compile all machine code at once; where that fails, one by one, to say which it was."""
    try:
        prepare(lowered)
    except Exception:
        for kernel, low in zip(kernels, lowered, strict=True):
            with _named(frozen, kernel.name, kernel.nodes):
                prepare([low])
        raise


@contextmanager
def _named(frozen: FrozenGraph, name: str, nodes: Sequence[int]) -> Iterator[None]:
    """Whatever goes wrong inside is raised with the name of the kernel and the user's lines."""
    try:
        yield
    except Exception as error:
        found = error
        if not isinstance(error, MemoryError | LazygradError) or isinstance(error, InternalError):
            what = "" if isinstance(error, InternalError) else f"{type(error).__name__}: "
            found = InternalError(f"kernel {name} cannot be compiled: {what}{error}")
        for i in nodes[:4]:
            blame(found, frozen.nodes[i], [frozen.nodes[j].shape for j in frozen.nodes[i].inputs])
        raise found from error


class _Guard:
    """Code that fills freed buffers with NaN and watches the bytes behind each buffer."""

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self.born: dict[int, list[Buffer]] = {}
        self.dying: dict[int, list[Buffer]] = {}
        for b in buffers:
            if b.nbytes:
                self.born.setdefault(b.birth, []).append(b)
                self.dying.setdefault(b.death, []).append(b)

    def before(self, code: Code, kernel: int) -> None:
        """Mark the zones of what this kernel makes."""
        for b in self.born.get(kernel, ()):
            code.line(f"{_bytes(code, b.offset + b.nbytes, ZONE)}.fill({CANARY})")

    def after(self, code: Code, kernel: int) -> None:
        """Check the zones of what dies with this kernel, and spoil it."""
        for b in self.dying.get(kernel, ()):
            check = code.constant(check_zone, "check_zone")
            what = code.constant(b, "buffer")
            code.line(f"{check}({_bytes(code, b.offset + b.nbytes, ZONE)}, {what})")
            code.line(f"{_bytes(code, b.offset, b.nbytes)}.fill({DEAD})")


def _bytes(code: Code, offset: int, count: int) -> str:
    return code.view(Place(0, offset), (count,), (1,), 0, np.dtype(np.uint8))


def _places(layouts: Layouts, buffers: Sequence[Buffer]) -> dict[int, Place]:
    """Where each value begins: slot 0 is the arena, then sources, outputs and writes."""
    frozen = layouts.frozen
    places = {i: Place(1 + k) for k, i in enumerate(frozen.sources)}
    for b in buffers:
        places.update((i, Place(0, b.offset)) for i in b.values)
    starts = {OUTPUT: 1 + len(frozen.sources)}
    starts[WRITE] = starts[OUTPUT] + len(frozen.outputs)
    for root, home in layouts.homes.items():
        if home.place is not ARENA:
            places[root] = Place(starts[home.place] + home.index)
    for i, node in enumerate(frozen.nodes):
        if 0 in node.shape:
            places.setdefault(i, Place(0))
    return places
