"""The kernel IR that the engine writes and every runtime reads.

A `Kernel` is a grid of rows, cut into chunks by borders that depend on shapes alone, and a list of
stages that run in order for each chunk and share chunk-local scratch. Axis 0 of every stage's
domain is the grid's row axis (extent `rows`; 1 where nothing is cut), so "run rows lo..hi of this
stage" is the one thing that a runtime has to know. Accesses are affine over the domain (a
transposed, sliced, broadcast or packed operand is only another access map) or gathered through a
loaded index. Bodies are SSA in the scalar vocabulary. `finish` stages run once, after all chunks:
they combine partial results that chunks left in shared scratch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lazygrad.dtypes import DType
from lazygrad.ops.opdef import Attrs, Kind, OpDef
from lazygrad.ops.scalar_math import Instr
from lazygrad.shapes import Shape

POSITIONS = frozenset({"argmax", "argmin"})  # reductions to a position, int64


@dataclass(frozen=True, slots=True)
class Access:
    """Where a point of a domain lies in a buffer, in elements.

    Element = offset + sum(position[i] * strides[i]) + chunk * chunk_stride
    + value[index] * index_stride, where `index` is an integer value loaded earlier in the body.
    `buffer` counts the kernel's params first, then its scratch. A chunk-local scratch is addressed
    relative to the chunk's first row.

    An operand of a `Contract` may walk an axis of its domain in pieces: `split` then has for each
    axis the extents into which it is cut, outermost first, and there is a stride for each of them.
    So the windows of a convolution are a matrix where they lie.
    """

    buffer: int
    strides: tuple[int, ...]
    offset: int = 0
    chunk_stride: int = 0
    index: int | None = None
    index_stride: int = 0
    index_extent: int = 0  # valid values of the index: 0 <= value < index_extent
    split: tuple[Shape, ...] = ()

    def points(self, domain: Shape) -> Shape:
        """The extents that the strides belong to: those of the domain, or its pieces."""
        return tuple(n for pieces in self.split for n in pieces) if self.split else domain


@dataclass(frozen=True, slots=True)
class Body:
    """Straight-line code in SSA form.

    Values 0..len(loads)-1 are the loads (a Contract epilogue has the accumulator first), then
    one value per instruction. The words "const" (immediate in `value`), "cast" and "index"
    (position along domain axis `value`) stand beside the scalar vocabulary.
    """

    loads: tuple[Access, ...]
    load_dtypes: tuple[DType, ...]
    instrs: tuple[Instr, ...] = ()


@dataclass(frozen=True, slots=True)
class Store:
    """Write value `value` of a body through `access`."""

    access: Access
    value: int


@dataclass(frozen=True, slots=True)
class Map:
    """A body at every point of `domain`."""

    domain: Shape
    body: Body
    stores: tuple[Store, ...]


@dataclass(frozen=True, slots=True)
class Reduce:
    """Combine value `value` of a body over `axes` of `domain`.

    The store has stride 0 along them. `combine` is a word (add, mul, maximum, minimum,
    logical_and, logical_or) or `argmax`, `argmin` (first position along the one reduced axis,
    int64). `dtype` is the accumulator's: the value is cast to it before, the result to the dtype
    of the buffer after.
    """

    domain: Shape
    axes: tuple[int, ...]
    combine: str
    body: Body
    value: int
    dtype: DType
    store: Access

    @property
    def is_position(self) -> bool:
        """Whether the result says where the extreme element is, not what it is."""
        return self.combine in POSITIONS


@dataclass(frozen=True, slots=True)
class Contract:
    """acc[batch, i, j] = sum over l of a[batch, i, l] * b[batch, l, j], then an epilogue.

    Operands are cast to `dtype`, the accumulator's, which is the dtype of the epilogue's value 0.

    `batch` is a shape; the domain of `a` is (*batch, m, k), of `b` (*batch, k, n), of the epilogue
    and its stores (*batch, m, n). The last value of `a` and `b` is the operand (prologue); value 0
    of `epilogue` is the accumulator, its loads follow. `grid` names the axis that the kernel's
    rows cut: "batch" (the first batch axis), "m", "n", "k" (then chunks store partials) or "".
    With a grid axis other than batch, rows of that axis are positions along it.
    """

    batch: Shape
    m: int
    n: int
    k: int
    a: Body
    b: Body
    epilogue: Body
    stores: tuple[Store, ...]
    dtype: DType  # accumulator
    grid: str = ""

    def row_axes(self, cut: bool) -> tuple[int | None, int | None, int | None]:
        """Which axes of the domains of `a`, `b` and the result are the grid's rows."""
        rank = len(self.batch)
        axes: dict[str, tuple[int | None, int | None, int | None]] = {
            "batch": (0, 0, 0), "m": (rank, None, rank), "n": (None, rank + 1, rank + 1),
            "k": (rank + 1, rank, None), "": (None, None, None),
        }  # fmt: skip
        return axes[self.grid if cut else ""]


@dataclass(frozen=True, slots=True)
class Extern:
    """An op that only its reference describes, on whole strided operands."""

    op: OpDef
    attrs: tuple[tuple[str, Any], ...]
    inputs: tuple[tuple[Access, Shape, DType], ...]
    output: tuple[Access, Shape, DType]

    def attributes(self) -> Attrs:
        """The attributes as a mapping."""
        return dict(self.attrs)


Stage = Map | Reduce | Contract | Extern


@dataclass(frozen=True, slots=True)
class Param:
    """A buffer given by the program: dtype, size in elements, and how stages use it."""

    dtype: DType
    size: int
    mode: str  # "in", "out", "inout"


@dataclass(frozen=True, slots=True)
class Scratch:
    """Chunk-local memory of `row_size` elements a row, or (shared) `size` elements for all."""

    dtype: DType
    row_size: int
    shared: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True)
class Grid:
    """`rows` cut into chunks of `chunk` rows (the last may be shorter), from shapes alone."""

    rows: int = 1
    chunk: int = 1

    def borders(self) -> list[tuple[int, int]]:
        """The (lo, hi) of every chunk; no rows are one empty chunk, so that an empty sum is 0."""
        step = max(self.chunk, 1)
        return [(lo, min(lo + step, self.rows)) for lo in range(0, max(self.rows, 1), step)]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One unit of work: what it reads and writes, its grid, its stages."""

    name: str
    params: tuple[Param, ...]
    scratch: tuple[Scratch, ...]
    grid: Grid
    stages: tuple[Stage, ...]
    finish: tuple[Stage, ...] = ()
    nodes: tuple[int, ...] = ()  # the frozen nodes that it computes, for explain and errors
    reason: str = ""  # why it is cut where it is
    flops: float = 0.0
    nbytes: int = 0

    def key(self) -> tuple[Any, ...] | None:
        """All that it computes, without its labels: equal keys, one compiled form.

        None for what must be told apart: attributes of an `Extern` that are no plain values, and
        checks, which say whose they are when they fail.
        """
        attrs: list[Any] = []
        for stage in self.stages:
            if isinstance(stage, Extern):
                if stage.op.kind is Kind.EFFECT:
                    return None
                try:
                    attrs.append(plain(stage.attrs))
                except TypeError:
                    return None
        return (self.params, self.scratch, self.grid, self.stages, self.finish, *attrs)


def plain(value: Any) -> Any:
    """What stands for a plain value in a key: equal only for the same type and bits.

    >>> plain((0.0, 1)) == plain((-0.0, 1)), plain(1) == plain(True)
    (False, False)
    """
    if isinstance(value, tuple):
        return tuple([plain(v) for v in value])
    if isinstance(value, float):
        return value.hex()
    if value is None or isinstance(value, bool | int | str | DType):
        return type(value), value
    raise TypeError(f"{type(value).__name__} is no plain value")


def stage_bodies(stage: Stage) -> tuple[Body, ...]:
    """The bodies of a stage."""
    match stage:
        case Map() | Reduce():
            return (stage.body,)
        case Contract():
            return (stage.a, stage.b, stage.epilogue)
        case Extern():
            return ()


def stage_loads(stage: Stage) -> tuple[Access, ...]:
    """Every access that a stage reads through."""
    if isinstance(stage, Extern):
        return tuple(access for access, _, _ in stage.inputs)
    return tuple(access for body in stage_bodies(stage) for access in body.loads)


def stage_stores(stage: Stage) -> tuple[Access, ...]:
    """Every access that a stage writes through."""
    match stage:
        case Map() | Contract():
            return tuple(store.access for store in stage.stores)
        case Reduce():
            return (stage.store,)
        case Extern():
            return (stage.output[0],)


def depends_on_chunks(kernel: Kernel) -> bool:
    """Whether chunk borders reach a result: partial results, a value of a whole chunk."""
    grid = kernel.grid
    return grid.rows > max(grid.chunk, 1) and any(_by_chunk(kernel, s) for s in kernel.stages)


def _by_chunk(kernel: Kernel, stage: Stage) -> bool:
    match stage:
        case Map():
            cut = False
        case Reduce():
            cut = 0 in stage.axes
        case Contract():
            cut = stage.grid != "batch"
        case Extern():
            cut = True
    inputs = len(kernel.params)
    return cut or any(
        access.chunk_stride != 0
        or (  # chunk-local scratch that is the same for all rows
            access.buffer >= inputs
            and not kernel.scratch[access.buffer - inputs].shared
            and access.strides[0] == 0
        )
        for access in stage_loads(stage) + stage_stores(stage)
    )


def computed_dtypes(kernel: Kernel) -> set[DType]:
    """Those in which a kernel stores or computes anything."""
    found = {p.dtype for p in kernel.params} | {s.dtype for s in kernel.scratch}
    for stage in (*kernel.stages, *kernel.finish):
        if isinstance(stage, Map | Reduce):
            found |= {i.dtype for i in stage.body.instrs}
        elif isinstance(stage, Contract):
            found |= {i.dtype for b in (stage.a, stage.b, stage.epilogue) for i in b.instrs}
    return found
