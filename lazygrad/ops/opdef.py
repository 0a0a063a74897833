"""One op is one record.

An `OpDef` says everything that lazygrad knows about an operation: its shape and dtype rule, its
meaning in plain NumPy (`reference`: the constant folder, the oracle of every test, the fallback
kernel), its body in the scalar vocabulary (`scalar`: what kernels are made of), its gradient
(`vjp`, in tensor vocabulary, so that a backward pass is ordinary nodes), and facts as data
(`commutative`, `unit`, `flops`, ...) that passes, fusion, profiler and tests read. Code
elsewhere never names an op: where it would have to, a field is missing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygrad.dtypes import DType, float32, get_default_dtype, int64
from lazygrad.errors import LazygradError, nearest
from lazygrad.shapes import Shape

Array = NDArray[Any]
Attrs = Mapping[str, Any]
Spec = Any  # anything with `.shape` and `.dtype`: nodes, frozen nodes, tensors, test doubles


class Kind(Enum):
    """How an op moves data; the compiler chooses its treatment by this."""

    SOURCE = "source"  # a value from outside: data, parameter, state, constant
    ELEMENTWISE = "elementwise"  # one scalar body over broadcast inputs
    REDUCE = "reduce"  # a combining word over some axes
    VIEW = "view"  # other strides over the same elements
    CONTRACT = "contract"  # (batched) matrix product
    OPAQUE = "opaque"  # only its reference says what it does: indexing, sorting, scans
    RANDOM = "random"  # a pure function of a counter
    EFFECT = "effect"  # must run even when nobody reads it: checks, debug prints
    CALL = "call"  # a frozen graph as one node
    PROJECT = "project"  # one output of a call


class Promotion(Enum):
    """What happens to the dtypes of the operands before the op sees them."""

    NONE = "none"  # left alone
    COMMON = "common"  # cast to their common dtype
    FLOAT = "float"  # the same, integers become the default floating dtype
    TAIL = "tail"  # the first is left alone, the others are cast to their common dtype


class Precision(Enum):
    """The dtype of floating operands (float64 apart) that an op asks `autocast` for."""

    KEEP = "keep"  # what they have; those that differ meet in the widest
    HALF = "half"  # the half type: products
    SINGLE = "single"  # float32: sums, powers, exponentials, factorizations


@dataclass(frozen=True, slots=True)
class Strided:
    """An affine view of a buffer: shape, strides and offset in elements."""

    shape: Shape
    strides: tuple[int, ...]
    offset: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class OpDef:
    """Everything about one op. Only `name`, `kind`, `infer` and `reference` are required.

    `infer(*inputs, **attrs)` returns (shape, dtype) or raises; `reference(*arrays, **attrs)`
    returns an array; `scalar(m, *x, **attrs)` returns a value of the vocabulary `m`;
    `vjp(g, out, *inputs, **attrs)` returns one cotangent per input: a tensor, a `Patch`, None, or a
    function without arguments that makes it, called only when that input needs a gradient.
    Cotangents may have the broadcast shape: the engine sums them down. What `expand` gets has
    `shape`, `apply(op, *others, **attrs)` and `new_zeros(shape)`; it returns None to leave the op.
    """

    name: str
    kind: Kind
    infer: Callable[..., tuple[Shape, DType]]
    reference: Callable[..., Array]
    arity: int | None = 1  # None: any number of inputs
    scalar: Callable[..., Any] | None = None
    vjp: Callable[..., Sequence[Any]] | None = None
    promotion: Promotion = Promotion.NONE
    view: Callable[..., Strided | None] | None = None  # (Strided, **attrs) -> Strided | None
    expand: Callable[..., Any] | None = None  # (*values, **attrs): the op as it is made of others
    combine: str | None = None  # REDUCE: the word that combines two elements
    commutative: bool = False
    associative: bool = False
    idempotent: bool = False  # op(x, x) = x, or op(op(x)) = op(x)
    involution: bool = False  # op(op(x)) = x
    unit: float | None = None  # op(x, unit) = x, bit for bit
    observable: bool = False  # EFFECT: seen from outside, so a captured call runs it every time
    symmetric: bool = False  # the input is a symmetric matrix, of which one triangle is read
    autocast: Precision = Precision.KEEP
    accumulate_half: bool = False  # float16 and bfloat16 are computed in float32
    flops: float = 1.0  # per output element (REDUCE: per input element; CONTRACT: per product)
    work: Callable[..., float] | None = None  # (*inputs, **attrs): all of them, where not `flops`
    edits: bool = False  # OPAQUE: the result is the first input with some elements changed
    reads: str = "dense"  # OPAQUE: what its machine code reads where it lies; "rows": any strides
    # but a last one of 1, "strided": any; other operands, and those of NumPy, are copied first
    grad_name: str = ""  # the class name that repr shows: AddBackward
    domain: tuple[tuple[float, float], ...] = ()  # test range of each input
    samples: Callable[[np.random.Generator], Iterator[Sample]] | None = None
    doc: str = ""

    @property
    def differentiable(self) -> bool:
        """Whether it has a gradient."""
        return self.vjp is not None

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (get_op, (self.name,))


@dataclass(frozen=True, slots=True)
class Sample:
    """One test case of an op: arrays, attributes."""

    arrays: tuple[Array, ...]
    attrs: Attrs = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Patch:
    """A cotangent that is zero outside of a slice: the engine puts several of them side by side."""

    value: Any  # a tensor
    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]


_REGISTRY: dict[str, OpDef] = {}


def register(op: OpDef) -> OpDef:
    """Add an op to the registry; a second op of the same name raises."""
    if op.name in _REGISTRY:
        raise LazygradError(f"op {op.name!r} is registered twice")
    _REGISTRY[op.name] = op
    return op


def get_op(name: str) -> OpDef:
    """The op of that name."""
    found = _REGISTRY.get(name)
    if found is None:
        raise LazygradError(f"unknown op {name!r}{nearest(name, _REGISTRY)}")
    return found


def all_ops() -> tuple[OpDef, ...]:
    """Every registered op, in the order of registration."""
    return tuple(_REGISTRY.values())


def common_float(dtype: DType) -> DType:
    """The dtype of a floating computation on `dtype`."""
    return dtype if dtype.is_floating_point else get_default_dtype()


def widened(dtype: DType) -> DType:
    """The dtype of a sum: integers and bools add up in int64."""
    return dtype if dtype.is_floating_point else int64


def accumulator(dtype: DType) -> DType:
    """The dtype in which elements of `dtype` are added up: float32 for the half precisions."""
    return float32 if dtype.is_floating_point and dtype.itemsize == 2 else dtype
