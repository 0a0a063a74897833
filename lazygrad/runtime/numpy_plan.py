"""Statements over symbolic views: what the NumPy code generators write, before places are known.

A `Plan` is straight-line code for one chunk of a kernel (or for all rows at once). Its operands
are views of the kernel's parameters or of working memory (`Work`); lifetimes are first and last
mention, and `pack` lays the working memory out in one block. Rendering turns statements into
lines: `FlatWriter` into lines of the program's one function, with every view prebound, and
`ChunkWriter` into a function that runs rows lo..hi, whose views are slices of prebound ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lazygrad.dtypes import DType
from lazygrad.runtime.alignment import aligned
from lazygrad.runtime.executor import Code, Place
from lazygrad.runtime.kernel import Access, Kernel
from lazygrad.shapes import Shape, contiguous_strides, numel

NumpyDType = np.dtype[Any]


@dataclass(eq=False, slots=True)
class Work:
    """A piece of working memory; `shared` ones outlive a chunk."""

    nbytes: int
    shared: bool = False
    offset: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """Strided elements of a parameter (by number) or of working memory.

    With `rows` > 0 the view is cut with the grid: positions lo * rows .. hi * rows of `row_axis`
    belong to rows lo..hi. Its shape is that of a whole chunk.
    """

    buffer: int | Work
    shape: Shape
    strides: tuple[int, ...]
    offset: int
    dtype: NumpyDType
    rows: int = 0
    row_axis: int = 0
    chunk_stride: int = 0

    @property
    def contiguous(self) -> bool:
        """Whether its elements lie in C order without gaps (those of the other rows too)."""
        dense = contiguous_strides(self.shape)
        cut = self.row_axis if self.rows else -1
        axes = enumerate(zip(self.shape, self.strides, dense, strict=True))
        return all((n <= 1 and i != cut) or s == d for i, (n, s, d) in axes)

    @property
    def ascending(self) -> bool:
        """Whether no axis runs backwards (that of the rows counts even in a chunk of one)."""
        cut = self.row_axis if self.rows else -1
        axes = enumerate(zip(self.shape, self.strides, strict=True))
        return all((n <= 1 and i != cut) or s >= 0 for i, (n, s) in axes)

    @property
    def injective(self) -> bool:
        """Whether no element is there twice by a stride of 0."""
        return all(n <= 1 or s != 0 for n, s in zip(self.shape, self.strides, strict=True))

    def retyped(self, dtype: NumpyDType) -> View:
        """The same bytes as another type of that size."""
        return replace(self, dtype=dtype)

    def reshaped(self, shape: Shape, rows: int) -> View:
        """A contiguous view in another shape (cut along its axis 0)."""
        return replace(self, shape=shape, strides=contiguous_strides(shape), rows=rows, row_axis=0)


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """An object that statements name; an array with `rows` is cut along axis 0."""

    value: Any
    name: str
    key: Hashable = None
    rows: int = 0


Operand = View | Const | str


@dataclass(frozen=True, slots=True)
class Statement:
    """One line: a template whose fields are numbered operands."""

    template: str
    operands: tuple[Operand, ...]


@dataclass
class Plan:
    """Straight-line code for `rows` rows of a kernel; `cut` if that is a chunk of several."""

    kernel: Kernel
    rows: int
    cut: bool
    scratch: list[Work]
    statements: list[Statement] = field(default_factory=list)

    def add(self, template: str, *operands: Operand) -> None:
        """Append a statement."""
        self.statements.append(Statement(template, operands))

    def temp(self, shape: Shape, dtype: NumpyDType, rows: int = 0, row_axis: int = 0) -> View:
        """Fresh contiguous working memory."""
        work = Work(aligned(numel(shape) * dtype.itemsize))
        return View(work, shape, contiguous_strides(shape), 0, dtype, rows, row_axis)

    def buffer(self, number: int) -> int | Work:
        """Buffer `number` of an access: a parameter or scratch."""
        inputs = len(self.kernel.params)
        return number if number < inputs else self.scratch[number - inputs]

    def dtype(self, number: int) -> DType:
        """The dtype of buffer `number`."""
        inputs = len(self.kernel.params)
        held = self.kernel.params if number < inputs else self.kernel.scratch
        return held[number if number < inputs else number - inputs].dtype

    def view(
        self, access: Access, shape: Shape, strides: Sequence[int], rows: int, row_axis: int = 0
    ) -> View:
        """A view through an access whose axes were rearranged to `shape` and `strides`."""
        return View(
            self.buffer(access.buffer), shape, tuple(strides), access.offset,
            self.dtype(access.buffer).dtype, rows if self.cut else 0, row_axis,
            access.chunk_stride if self.cut else 0,
        )  # fmt: skip


def scratch_memory(kernel: Kernel, rows: int, *, shared: bool) -> list[Work]:
    """Working memory for the kernel's scratch, for chunks of `rows` rows.

    Shared scratch outlives chunks only if there are several (`shared`).
    """
    return [
        Work(
            aligned((s.size if s.shared else s.row_size * rows) * s.dtype.itemsize),
            s.shared and shared,
        )
        for s in kernel.scratch
    ]


def pack(statements: Sequence[Statement], shared: bool = False) -> int:
    """Give every `Work` that the statements mention an offset; returns the bytes of the block.

    Memory is live from its first to its last mention, and two pieces share bytes only if they
    are never live together. The largest pieces are placed first, each at the lowest offset that
    is free during its life. `shared` packs the shared pieces instead, all live together.
    """
    life: dict[Work, tuple[int, int]] = {}
    for i, statement in enumerate(statements):
        for operand in statement.operands:
            work = operand.buffer if isinstance(operand, View) else None
            if isinstance(work, Work) and work.shared == shared:
                life[work] = (0 if shared else life.get(work, (i, i))[0], i)
    if shared:
        life = dict.fromkeys(life, (0, len(statements)))
    placed: list[Work] = []
    for work in sorted(life, key=lambda w: -w.nbytes):
        born, dies = life[work]
        busy = sorted(
            (p.offset, p.offset + p.nbytes)
            for p in placed
            if life[p][0] <= dies and born <= life[p][1]
        )
        offset = 0
        for lo, hi in busy:
            if offset + work.nbytes <= lo:
                break
            offset = max(offset, hi)
        work.offset = offset
        placed.append(work)
    return max((w.offset + w.nbytes for w in placed), default=0)


class FlatWriter:
    """Writes statements as lines of the program's function."""

    def __init__(
        self, code: Code, places: Sequence[Place], local: Place, shared: Place | None = None
    ) -> None:
        self.code, self.places = code, places
        self.local, self.shared = local, shared or local

    def place(self, buffer: int | Work) -> Place:
        """Where a buffer starts."""
        if isinstance(buffer, int):
            return self.places[buffer]
        base = self.shared if buffer.shared else self.local
        return Place(base.slot, base.offset + buffer.offset)

    def name(self, operand: Operand) -> str:
        """The text of an operand."""
        if isinstance(operand, str):
            return operand
        if isinstance(operand, Const):
            return self.code.constant(operand.value, operand.name, operand.key)
        return self.code.view(
            self.place(operand.buffer), operand.shape, operand.strides, operand.offset,
            operand.dtype,
        )  # fmt: skip

    def write(self, statements: Iterable[Statement]) -> None:
        """Append the lines."""
        for s in statements:
            self.code.line(s.template.format(*map(self.name, s.operands)))


class ChunkWriter:
    """Writes statements as a function `(p, w, c, lo, hi)` that runs rows lo..hi, chunk c.

    `p` are views of parameters and shared memory over all rows, `w` views of the worker's own
    memory over a whole chunk.
    """

    def __init__(self, code: Code, kernel: Kernel) -> None:
        self.code, self.kernel = code, kernel
        self.head: list[str] = []
        self.whole: dict[View, str] = {}  # of parameters and shared memory
        self.own: dict[View, str] = {}
        self._names: dict[View | Const, str] = {}

    def name(self, operand: Operand) -> str:
        """The text of an operand; a view becomes a local variable made in the function's head."""
        if isinstance(operand, str):
            return operand
        found = self._names.get(operand)
        if found is None:
            found = self._names[operand] = self._bind(operand)
        return found

    def _bind(self, operand: View | Const) -> str:
        if isinstance(operand, Const):
            text = self.code.constant(operand.value, operand.name, operand.key)
            return self._cut(text, "lo", "hi", operand.rows, 0) if operand.rows else text
        local = isinstance(operand.buffer, Work) and not operand.buffer.shared
        names = self.own if local else self.whole
        text = names.setdefault(operand, f"{'w' if local else 'p'}{len(names)}")
        if operand.chunk_stride:
            self.head.append(f"{text} = {text}[c, ...]")
        if not operand.rows:
            return text
        lo, hi = ("", "hi - lo") if local else ("lo", "hi")
        return self._cut(text, lo, hi, operand.rows, operand.row_axis)

    def _cut(self, text: str, lo: str, hi: str, rows: int, axis: int) -> str:
        name = f"v{len(self.head)}"
        if rows > 1:
            lo, hi = lo and f"{lo} * {rows}", f"({hi}) * {rows}" if "-" in hi else f"{hi} * {rows}"
        self.head.append(f"{name} = {text}[{':, ' * axis}{lo}:{hi}]")
        return name

    def define(self, statements: Iterable[Statement]) -> str:
        """Define the function; returns its name."""
        body = [s.template.format(*map(self.name, s.operands)) for s in statements]
        unpack = [
            f"{', '.join(names.values())}, = {source}"
            for names, source in ((self.whole, "p"), (self.own, "w"))
            if names
        ]
        return self.code.function(
            f"{identifier(self.kernel.name)}_chunk", "p, w, c, lo, hi",
            [*unpack, *self.head, *body],
        )  # fmt: skip

    def bind(self, flat: FlatWriter, own: bool) -> str:
        """The text of the tuple `p` or `w`, with the places of `flat`."""
        grid = self.kernel.grid
        names = []
        for view in self.own if own else self.whole:
            shape, strides = view.shape, view.strides
            if view.rows and not own:
                shape = tuple(
                    grid.rows * view.rows if i == view.row_axis else n for i, n in enumerate(shape)
                )
            if view.chunk_stride:
                shape = (len(grid.borders()), *shape)
                strides = (view.chunk_stride, *strides)
            names.append(flat.name(replace(view, shape=shape, strides=strides)))
        return f"({''.join(n + ', ' for n in names)})"


def identifier(name: str) -> str:
    """A kernel's name as part of a Python name."""
    return "".join(c if c.isalnum() else "_" for c in name) or "kernel"


def constant(value: Any, dtype: NumpyDType) -> Const:
    """A 0-d array of a number."""
    array = np.asarray(value).astype(dtype)
    array.setflags(write=False)
    return Const(array, "k", ("scalar", dtype.name, array.tobytes()))


def function(value: Any, name: str) -> Const:
    """A named function."""
    return Const(value, name)
