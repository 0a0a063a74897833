"""Kernels by hand: buffers with shapes, bodies as functions over the scalar vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from lazygrad.dtypes import DType, float32
from lazygrad.ops.scalar_math import Instr, Recorder, Ref
from lazygrad.runtime.kernel import (
    Access,
    Body,
    Contract,
    Grid,
    Kernel,
    Map,
    Param,
    Reduce,
    Scratch,
    Stage,
    Store,
)  # fmt: skip
from lazygrad.shapes import Shape, contiguous_strides


@dataclass(frozen=True)
class Buffer:
    """A buffer of a kernel under construction and a dense view of it."""

    number: int
    shape: Shape
    dtype: DType

    def at(
        self, strides: Sequence[int] | None = None, offset: int = 0, **more: Any
    ) -> tuple[Access, DType]:
        """An access, by default dense."""
        steps = contiguous_strides(self.shape) if strides is None else tuple(strides)
        return Access(self.number, steps, offset, **more), self.dtype

    def over(self, *axes: int | None) -> tuple[Access, DType]:
        """An access for a domain whose axis i runs along `axes[i]` of the buffer (None: still)."""
        dense = contiguous_strides(self.shape)
        return self.at([0 if a is None else dense[a] for a in axes])


Load = tuple[Access, DType]
Words = Callable[..., Any]


def make_body(
    loads: Sequence[Load], words: Words | None, first: DType | None = None
) -> tuple[Body, list[int]]:
    """A body and the numbers of the values that `words(m, *loads)` returns."""
    dtypes = ([first] if first else []) + [d for _, d in loads]
    m = Recorder(dtypes)
    result = words(m, *m.inputs) if words else m.inputs[-1]
    values = [r.index for r in (result if isinstance(result, tuple) else (result,))]
    return Body(tuple(a for a, _ in loads), tuple(d for _, d in loads), tuple(m.instrs)), values


def index(m: Recorder, axis: int, dtype: DType) -> Ref:
    """The position along an axis of the domain."""
    return m.emit(Instr("index", (), dtype, axis))


@dataclass
class Build:
    """A kernel under construction: declare params, then scratch, then stages."""

    rows: int = 1
    chunk: int = 1 << 30
    name: str = "test"
    params: list[Param] = field(default_factory=list)
    scratches: list[Scratch] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    finish: list[Stage] = field(default_factory=list)

    def param(
        self, shape: Shape, mode: str = "in", dtype: DType = float32, size: int = -1
    ) -> Buffer:
        assert not self.scratches
        self.params.append(Param(dtype, prod(shape) if size < 0 else size, mode))
        return Buffer(len(self.params) - 1, shape, dtype)

    def scratch(self, row_shape: Shape, dtype: DType = float32) -> Buffer:
        self.scratches.append(Scratch(dtype, prod(row_shape)))
        number = len(self.params) + len(self.scratches) - 1
        return Buffer(number, (self.rows, *row_shape), dtype)

    def shared(self, shape: Shape, dtype: DType = float32) -> Buffer:
        self.scratches.append(Scratch(dtype, 0, True, prod(shape)))
        return Buffer(len(self.params) + len(self.scratches) - 1, shape, dtype)

    def _append(self, stage: Stage, finish: bool) -> None:
        (self.finish if finish else self.stages).append(stage)

    def map(
        self, domain: Shape, loads: Sequence[Load], stores: Sequence[Load],
        words: Words | None = None, finish: bool = False,
    ) -> None:  # fmt: skip
        body, values = make_body(loads, words)
        targets = tuple(Store(a, v) for (a, _), v in zip(stores, values, strict=True))
        self._append(Map(domain, body, targets), finish)

    def reduce(
        self, domain: Shape, axes: tuple[int, ...], combine: str, loads: Sequence[Load],
        store: Load, words: Words | None = None, dtype: DType = float32, finish: bool = False,
    ) -> None:  # fmt: skip
        body, values = make_body(loads, words)
        self._append(Reduce(domain, axes, combine, body, values[0], dtype, store[0]), finish)

    def contract(
        self, batch: Shape, mnk: Shape, a: Load, b: Load, stores: Sequence[Load], *,
        prologue: tuple[Words | None, Words | None] = (None, None), loads: Sequence[Load] = (),
        epilogue: Words | None = None, dtype: DType = float32, grid: str = "",
    ) -> None:  # fmt: skip
        left, right = make_body([a], prologue[0])[0], make_body([b], prologue[1])[0]
        words = epilogue or (lambda m, acc, *rest: acc)
        body, values = make_body(loads, words, dtype)
        targets = tuple(Store(x, v) for (x, _), v in zip(stores, values, strict=True))
        m, n, k = mnk
        self.stages.append(Contract(batch, m, n, k, left, right, body, targets, dtype, grid))

    def kernel(self) -> Kernel:
        grid = Grid(self.rows, min(self.chunk, max(self.rows, 1)))
        return Kernel(
            self.name, tuple(self.params), tuple(self.scratches), grid, tuple(self.stages),
            tuple(self.finish), nbytes=sum(p.size * p.dtype.itemsize for p in self.params),
        )  # fmt: skip


def with_chunk(kernel: Kernel, chunk: int) -> Kernel:
    """The same kernel, cut otherwise."""
    return replace(kernel, grid=Grid(kernel.grid.rows, chunk))
