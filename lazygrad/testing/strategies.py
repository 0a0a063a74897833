"""Hypothesis strategies for shapes, arrays in every memory layout, tensors, and cases of ops.

Hypothesis is an optional dependency: it is imported when the first strategy is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.dtypes import DType, DTypeLike, as_dtype, bool_, float64, int64
from lazygrad.engine.tensor import Tensor, apply
from lazygrad.errors import ArgumentError, LazygradError
from lazygrad.ops.opdef import Array, Kind, OpDef, all_ops
from lazygrad.shapes import Shape

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

LAYOUTS = ("plain", "transposed", "sliced", "reversed", "broadcast")
SPECIAL = (0.0, -0.0, float("inf"), float("-inf"), float("nan"), 5e-324, 1.0, -1.0)


def hypothesis_strategies() -> Any:
    """The module `hypothesis.strategies`, or an error that says how to get it."""
    try:
        from hypothesis import strategies
    except ImportError:
        raise ImportError(
            "the strategies of lazygrad.testing need Hypothesis: pip install hypothesis"
        ) from None
    return strategies


def shapes(
    min_dims: int = 0, max_dims: int = 4, min_side: int = 0, max_side: int = 5
) -> SearchStrategy[Shape]:
    """Shapes; empty ones and () are among them unless the limits say otherwise."""
    st = hypothesis_strategies()
    side = st.integers(min_side, max_side)
    return st.lists(side, min_size=min_dims, max_size=max_dims).map(tuple)  # type: ignore[no-any-return]


def layouts_of(shape: Shape) -> tuple[str, ...]:
    """The layouts that an array of this shape can have."""
    if not shape:
        return ("plain",)
    return LAYOUTS if len(shape) > 1 else tuple(x for x in LAYOUTS if x != "transposed")


def arranged(array: Array, layout: str) -> Array:
    """An array of the same shape (`broadcast` also of other values) in a memory layout.

    >>> arranged(np.eye(2), "reversed").strides
    (-16, -8)
    """
    if layout == "transposed":
        return np.ascontiguousarray(array.T).T
    if layout == "sliced":
        wide = np.zeros(tuple(2 * n + 1 for n in array.shape), array.dtype)
        view = wide[tuple(slice(1, None, 2) for _ in array.shape)]
        view[...] = array
        return view
    if layout == "reversed":
        flip = tuple(slice(None, None, -1) for _ in array.shape)
        return np.ascontiguousarray(array[flip])[flip]
    if layout == "broadcast":
        return np.broadcast_to(array[:1].copy(), array.shape)
    return array


def viewed(array: Array, layout: str, requires_grad: bool = False) -> tuple[Tensor, Tensor]:
    """A leaf, and a view of it with the values of `array` (those of its first row if broadcast)."""
    if layout == "transposed":
        leaf = Tensor(array.T, requires_grad=requires_grad)
        return leaf, leaf.permute(tuple(reversed(range(array.ndim))))
    if layout == "sliced":
        wide = np.zeros(tuple(2 * n + 1 for n in array.shape), array.dtype)
        index = tuple(slice(1, None, 2) for _ in array.shape)
        wide[index] = array
        leaf = Tensor(wide, requires_grad=requires_grad)
        return leaf, leaf[index]
    if layout == "reversed":
        axes = tuple(range(array.ndim))
        leaf = Tensor(np.flip(array, axes), requires_grad=requires_grad)
        return leaf, leaf.flip(axes)
    if layout == "broadcast":
        leaf = Tensor(array[:1], requires_grad=requires_grad)
        return leaf, leaf.expand(array.shape)
    leaf = Tensor(array, requires_grad=requires_grad)
    return leaf, leaf


def values(
    rng: np.random.Generator, shape: Shape, dtype: DType, low: float, high: float, special: bool
) -> Array:
    """Random values in [low, high); with `special` some zeros, infinities and NaN among them."""
    if dtype.name == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if not dtype.is_floating_point:
        low, high = (max(low, 0), max(high, 1)) if not dtype.is_signed else (low, high)
        return np.asarray(rng.integers(int(low), int(high) + 1, shape), dtype.dtype)
    array = np.asarray(rng.uniform(low, high, shape))
    if special:
        where = rng.random(shape) < 0.3
        array = np.where(where, rng.choice(SPECIAL, shape), array)
    with np.errstate(all="ignore"):
        return array.astype(dtype.dtype)


def arrays(
    shape: Shape | SearchStrategy[Shape] | None = None,
    dtype: DTypeLike = float64,
    low: float = -2.0,
    high: float = 2.0,
    layout: str | None = None,
    special: bool = False,
) -> SearchStrategy[Array]:
    """NumPy arrays in every memory layout: dense, transposed, sliced, reversed, stride 0."""
    st = hypothesis_strategies()
    kind = as_dtype(dtype)
    sizes = shapes() if shape is None else st.just(shape) if isinstance(shape, tuple) else shape

    @st.composite  # type: ignore[untyped-decorator]
    def draw_array(draw: Callable[[Any], Any]) -> Array:
        size = draw(sizes)
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        array = values(rng, size, kind, low, high, special)
        how = layout if layout is not None else draw(st.sampled_from(layouts_of(size)))
        return arranged(array, how)

    return draw_array()  # type: ignore[no-any-return]


def tensors(
    shape: Shape | SearchStrategy[Shape] | None = None,
    dtype: DTypeLike = float64,
    low: float = -2.0,
    high: float = 2.0,
    layout: str | None = None,
    special: bool = False,
    requires_grad: bool = False,
) -> SearchStrategy[Tensor]:
    """Tensors, pending views among them: transposed, strided, flipped and expanded leaves."""
    st = hypothesis_strategies()
    kind = as_dtype(dtype)
    sizes = shapes() if shape is None else st.just(shape) if isinstance(shape, tuple) else shape

    @st.composite  # type: ignore[untyped-decorator]
    def draw_tensor(draw: Callable[[Any], Any]) -> Tensor:
        size = draw(sizes)
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        array = values(rng, size, kind, low, high, special)
        how = layout if layout is not None else draw(st.sampled_from(layouts_of(size)))
        return viewed(array, how, requires_grad)[1]

    return draw_tensor()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class OpCase:
    """An op, arrays for its inputs, and its attributes."""

    op: OpDef
    arrays: tuple[Array, ...]
    attrs: dict[str, Any]

    def reference(self) -> Array:
        """The value that NumPy gives."""
        return np.asarray(self.op.reference(*self.arrays, **self.attrs))

    def apply(self, *inputs: Tensor) -> Tensor:
        """The op on tensors (by default on those of the case)."""
        return apply(self.op, *(inputs or [Tensor(a) for a in self.arrays]), **self.attrs)

    def __repr__(self) -> str:
        inputs = ", ".join(f"{a.shape} {a.dtype}" for a in self.arrays)
        return f"OpCase({self.op.name}: {inputs}; {self.attrs})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


class _Spec:
    def __init__(self, dtype: DType) -> None:
        self.shape: Shape = ()
        self.dtype = dtype


def dtypes_of(op: OpDef) -> tuple[DType, ...] | None:
    """The first dtypes that an elementwise op without attributes takes, floating ones preferred."""
    if op.kind is not Kind.ELEMENTWISE or not op.domain:
        return None
    for kind in (float64, int64, bool_):
        for first in (kind, bool_):
            found = (first, *(kind,) * (len(op.domain) - 1))
            try:
                op.infer(*[_Spec(d) for d in found])
                op.reference(*[np.ones((), d.dtype) for d in found])
            except (TypeError, LazygradError):
                continue
            return found
    return None


def has_cases(op: OpDef) -> bool:
    """Whether a record says on what its op can be tried: `samples`, or elementwise `domain`."""
    return op.samples is not None or dtypes_of(op) is not None


def op_cases(ops: OpDef | Sequence[OpDef] | None = None) -> SearchStrategy[OpCase]:
    """Cases of ops, by default of every op of the registry.

    They are what `samples` gives, or, for an elementwise op, broadcastable operands in every layout
    from its `domain`.
    """
    st = hypothesis_strategies()
    wanted = [ops] if isinstance(ops, OpDef) else list(all_ops() if ops is None else ops)
    found = [op for op in wanted if has_cases(op)]
    if not found:
        names = ", ".join(op.name for op in wanted)
        raise ArgumentError(f"none of the ops ({names}) has samples or an elementwise domain")

    @st.composite  # type: ignore[untyped-decorator]
    def draw_case(draw: Callable[[Any], Any]) -> OpCase:
        op = draw(st.sampled_from(found))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        if op.samples is not None:
            cases = list(op.samples(rng))
            case = cases[draw(st.integers(0, len(cases) - 1))]
            return OpCase(op, case.arrays, dict(case.attrs))
        shape = draw(shapes(max_dims=3, max_side=4))
        operands = []
        for (low, high), dtype in zip(op.domain, dtypes_of(op) or (), strict=True):
            part = draw(broadcast_parts(shape))
            array = values(rng, part, dtype, low, high, False)
            operands.append(arranged(array, draw(st.sampled_from(layouts_of(part)))))
        return OpCase(op, tuple(operands), {})

    return draw_case()  # type: ignore[no-any-return]


def broadcast_parts(shape: Shape) -> SearchStrategy[Shape]:
    """Shapes that broadcast to `shape`: leading axes dropped, others of extent 1."""
    st = hypothesis_strategies()
    ones = st.lists(st.booleans(), min_size=len(shape), max_size=len(shape))

    def cut(drawn: tuple[int, list[bool]]) -> Shape:
        lead, narrow = drawn
        return tuple(1 if one else n for n, one in zip(shape, narrow, strict=True))[lead:]

    return st.tuples(st.integers(0, len(shape)), ones).map(cut)  # type: ignore[no-any-return]
