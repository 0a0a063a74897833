"""Data types and promotion.

A `DType` is an interned record around a NumPy dtype, so it compares by identity, prints as
`lazygrad.float32` and goes wherever NumPy takes a dtype. Promotion follows PyTorch: a tensor
with dimensions decides over a 0-d one, and that over a Python scalar, unless the weaker one is of
a higher category (bool < integer < floating).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from lazygrad.config import config
from lazygrad.errors import DTypeError, nearest

BOOL, INTEGER, FLOATING = 0, 1, 2  # categories


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """A data type: `name`, NumPy `dtype`, `category`, `itemsize` in bytes."""

    name: str
    dtype: np.dtype[Any]  # the attribute that makes np.zeros(3, dtype=lazygrad.float32) work
    category: int
    itemsize: int

    @property
    def is_floating_point(self) -> bool:
        """Whether it is float16, bfloat16, float32 or float64."""
        return self.category == FLOATING

    @property
    def is_signed(self) -> bool:
        """Whether it holds negative numbers."""
        return self.category == FLOATING or self.dtype.kind == "i"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, np.dtype | type | str) and _LOOKUP.get(other) is self

    __hash__ = object.__hash__  # interned: a C-level hash keeps structural keys cheap

    def __repr__(self) -> str:
        return f"lazygrad.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (as_dtype, (self.name,))


def _make(name: str, numpy_type: Any, category: int) -> DType:
    dtype = np.dtype(numpy_type)
    return DType(name, dtype, category, dtype.itemsize)


float16 = _make("float16", np.float16, FLOATING)
bfloat16 = _make("bfloat16", ml_dtypes.bfloat16, FLOATING)
float32 = _make("float32", np.float32, FLOATING)
float64 = _make("float64", np.float64, FLOATING)
int8 = _make("int8", np.int8, INTEGER)
int16 = _make("int16", np.int16, INTEGER)
int32 = _make("int32", np.int32, INTEGER)
int64 = _make("int64", np.int64, INTEGER)
uint8 = _make("uint8", np.uint8, INTEGER)
uint16 = _make("uint16", np.uint16, INTEGER)
uint32 = _make("uint32", np.uint32, INTEGER)
uint64 = _make("uint64", np.uint64, INTEGER)
bool_ = _make("bool", np.bool_, BOOL)

ALL = (
    float16, bfloat16, float32, float64, int8, int16, int32, int64,
    uint8, uint16, uint32, uint64, bool_,
)  # fmt: skip
FLOATS = tuple(d for d in ALL if d.category == FLOATING)

_LOOKUP: dict[Any, DType] = {}
for _d in ALL:
    _LOOKUP |= {_d.name: _d, _d.dtype: _d, _d.dtype.type: _d}
_LOOKUP |= {
    float: float32, int: int64, bool: bool_, "half": float16, "float": float32,
    "double": float64, "long": int64, "int": int32, "short": int16,
}  # fmt: skip

DTypeLike = Any


def as_dtype(value: DTypeLike) -> DType:
    """The `DType` for a name, a NumPy dtype, a Python type or a `DType`.

    >>> as_dtype("float32"), as_dtype(np.int8), as_dtype(float)
    (lazygrad.float32, lazygrad.int8, lazygrad.float32)
    """
    if isinstance(value, DType):
        return value
    try:
        found = _LOOKUP.get(value)
    except TypeError:
        found = None
    if found is not None:
        return found
    try:
        found = _LOOKUP.get(np.dtype(value).newbyteorder("="))
    except (TypeError, DeprecationWarning):
        found = None
    if found is None:
        hint = nearest(str(value), [d.name for d in ALL])
        raise DTypeError(f"unknown dtype {value!r}{hint}")
    return found


_default = float32


def get_default_dtype() -> DType:
    """The dtype of Python floats and of division of integers (float32 unless set)."""
    return _default


def set_default_dtype(dtype: DTypeLike) -> None:
    """Set the dtype of Python floats; it must be floating."""
    global _default
    found = as_dtype(dtype)
    if not found.is_floating_point:
        raise DTypeError(f"the default dtype must be floating, got {found}")
    _default = found
    config.bump()


def _promote_pairs() -> dict[tuple[DType, DType], DType]:
    """PyTorch's table: within a category the wider one; mixed signs the next wider signed one."""
    table = {}
    for a in ALL:
        for b in ALL:
            if a.category != b.category:
                found = a if a.category > b.category else b
            elif a.category == FLOATING:
                halves = {a, b} == {float16, bfloat16}
                found = float32 if halves else max(a, b, key=lambda d: d.itemsize)
            elif a.category == BOOL:
                found = bool_
            else:
                found = _LOOKUP.get(np.promote_types(a.dtype, b.dtype), int64)
                if found.category != INTEGER:  # uint64 with a signed type: NumPy says float64
                    found = int64
            table[a, b] = found
    return table


_PROMOTE = _promote_pairs()


def promote(a: DType, b: DType) -> DType:
    """The common dtype of two dtypes of equal rank.

    >>> promote(uint8, int8), promote(int64, float16), promote(float16, bfloat16)
    (lazygrad.int16, lazygrad.float16, lazygrad.float32)
    """
    return _PROMOTE[a, b]


def result_type(operands: Iterable[tuple[DType, int]]) -> DType:
    """The common dtype of (dtype, rank) pairs; rank 2 = dimensions, 1 = 0-d, 0 = Python scalar."""
    best: list[DType | None] = [None, None, None]
    for dtype, rank in operands:
        held = best[rank]
        best[rank] = dtype if held is None else _PROMOTE[held, dtype]
    result: DType | None = best[2]
    for weaker in (best[1], best[0]):
        if weaker is None:
            continue
        if result is None:
            result = weaker
        elif weaker.category > result.category:
            result = _default if weaker is best[0] and weaker.category == FLOATING else weaker
    assert result is not None, "result_type of nothing"
    return result


def scalar_dtype(value: bool | int | float) -> DType:
    """The dtype that a Python scalar has by itself: bool, int64 or the default float."""
    if isinstance(value, bool):
        return bool_
    return int64 if isinstance(value, int) else _default


class FInfo(NamedTuple):
    """Limits of a floating dtype, as `torch.finfo`."""

    dtype: DType
    bits: int
    eps: float
    max: float
    min: float
    tiny: float
    smallest_normal: float
    resolution: float


def finfo(dtype: DTypeLike = None) -> FInfo:
    """Limits of a floating dtype (the default dtype when none is given)."""
    found = _default if dtype is None else as_dtype(dtype)
    if not found.is_floating_point:
        raise DTypeError(f"finfo takes a floating dtype, got {found}")
    info: Any = ml_dtypes.finfo(found.dtype)  # type: ignore[no-untyped-call]
    tiny = float(info.smallest_normal)
    return FInfo(
        found, info.bits, float(info.eps), float(info.max), float(info.min), tiny, tiny,
        float(info.resolution),
    )  # fmt: skip


def iinfo(dtype: DTypeLike) -> np.iinfo[Any]:
    """Limits of an integer dtype."""
    found = as_dtype(dtype)
    if found.category != INTEGER:
        raise DTypeError(f"iinfo takes an integer dtype, got {found}")
    return np.iinfo(found.dtype)
