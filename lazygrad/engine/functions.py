"""Functions: `lazygrad.name(...)` for the methods, and those that take several tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazygrad import dtypes
from lazygrad.dtypes import DType, bool_, scalar_dtype
from lazygrad.dtypes import result_type as _result_type
from lazygrad.engine import einsum as _einsum
from lazygrad.engine.apply import SCALARS
from lazygrad.engine.creation import to_tensor
from lazygrad.engine.methods.base import numpy_names
from lazygrad.engine.precision import HALF
from lazygrad.engine.tensor import Tensor, apply
from lazygrad.errors import AxisError, ShapeError
from lazygrad.ops import elementwise as ops
from lazygrad.ops import logic
from lazygrad.ops.movement import CAT
from lazygrad.shapes import broadcast, normalize_axis

__all__ = [
    "broadcast_tensors", "broadcast_to", "cat", "concat", "concatenate", "einsum", "hstack",
    "is_floating_point", "is_tensor", "logical_and", "logical_or", "logical_xor", "pow",
    "promote_types", "result_type", "searchsorted", "stack", "tensordot", "vstack", "where",
]  # fmt: skip


def pow(input: Any, exponent: Any) -> Tensor:
    """`input ** exponent`; either may be a number."""
    if isinstance(input, SCALARS) and isinstance(exponent, Tensor):
        return apply(ops.POW, input, exponent)
    return to_tensor(input).pow(exponent)


def logical_and(input: Any, other: Any) -> Tensor:
    """Whether both are non-zero."""
    return to_tensor(input).logical_and(other)


def logical_or(input: Any, other: Any) -> Tensor:
    """Whether at least one is non-zero."""
    return to_tensor(input).logical_or(other)


def logical_xor(input: Any, other: Any) -> Tensor:
    """Whether exactly one is non-zero."""
    return to_tensor(input).logical_xor(other)


def searchsorted(sorted_sequence: Any, values: Any, *, right: bool = False) -> Tensor:
    """The first positions in a sorted sequence whose element is >= (or >) `values`."""
    return to_tensor(sorted_sequence).searchsorted(values, right=right)


def where(
    condition: Any, input: Any = None, other: Any = None, *, size: int | None = None,
    fill_value: int = 0,
) -> Any:  # fmt: skip
    """`input` where `condition` holds, else `other`; alone: the positions where it holds.

    The positions are one vector for each dimension; with `size` that many of them, then
    `fill_value`, as in `nonzero`.

    >>> import lazygrad as lg
    >>> lg.where(lg.tensor([True, False]), lg.tensor([1.0, 2.0]), 0.0)
    tensor([1., 0.])
    """
    flags = to_tensor(condition)
    if input is None and other is None:
        return flags.nonzero(as_tuple=True, size=size, fill_value=fill_value)
    if size is not None:
        raise ShapeError("where: size= belongs to the form with a condition alone")
    if input is None or other is None:
        raise ShapeError("where takes a condition alone, or a condition and two values")
    return apply(logic.WHERE, flags.to(bool_), input, other)


# Several tensors.


def _tensors(name: str, tensors: Any) -> list[Tensor]:
    if isinstance(tensors, Tensor):
        tensors = tensors.unbind(0)
    found = [to_tensor(t) for t in tensors]
    if not found:
        raise ShapeError(f"{name}: at least one tensor is needed")
    return found


@numpy_names
def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors one after the other along an existing dimension.

    >>> import lazygrad as lg
    >>> lg.cat([lg.ones(2), lg.zeros(1)])
    tensor([1., 1., 0.])
    """
    found = _tensors("cat", tensors)
    solid = [t for t in found if t.shape != (0,)] or found[:1]  # as PyTorch: (0,) fits anything
    if any(t.ndim == 0 for t in solid):
        raise ShapeError("cat: 0-d tensors cannot be concatenated; use stack()")
    axis = normalize_axis(dim, solid[0].ndim, "cat: axis")
    return solid[0] if len(solid) == 1 else apply(CAT, *solid, axis=axis)


concat = concatenate = cat


@numpy_names
def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension."""
    found = _tensors("stack", tensors)
    for t in found:
        if t.shape != found[0].shape:
            raise ShapeError(f"stack: shapes {found[0].shape} and {t.shape} differ")
    axis = normalize_axis(dim, found[0].ndim + 1, "stack: axis")
    return cat([t.unsqueeze(axis) for t in found], axis)


def hstack(tensors: Sequence[Any]) -> Tensor:
    """Along the second dimension (vectors along their only one)."""
    found = [t.reshape(1) if t.ndim == 0 else t for t in _tensors("hstack", tensors)]
    return cat(found, 0 if found[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Any]) -> Tensor:
    """Along the first dimension, vectors as rows."""
    return cat([t.reshape((1, -1)) if t.ndim < 2 else t for t in _tensors("vstack", tensors)], 0)


def broadcast_to(input: Any, shape: Sequence[int]) -> Tensor:
    """Expanded to `shape`."""
    return to_tensor(input).expand(shape)


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All expanded to their common shape."""
    found = _tensors("broadcast_tensors", tensors)
    shape = broadcast(*[t.shape for t in found])
    return tuple(t.expand(shape) for t in found)


@HALF
def einsum(equation: str, *operands: Any) -> Tensor:
    """The sum of products that `equation` describes.

    >>> import lazygrad as lg
    >>> lg.einsum("ij,ij->i", lg.ones(2, 3), lg.ones(2, 3))
    tensor([3., 3.])
    """
    given = (
        operands[0] if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
    )
    return _einsum.einsum(equation, _tensors("einsum", list(given)))


def tensordot(a: Any, b: Any, dims: Any = 2) -> Tensor:
    """The product summed over the last `dims` axes of `a` and the first of `b`, or over lists."""
    x, y = to_tensor(a), to_tensor(b)
    if isinstance(dims, int):
        if not 0 <= dims <= min(x.ndim, y.ndim):
            raise AxisError(f"tensordot: {dims} axes of tensors of shapes {x.shape} and {y.shape}")
        left = [x.ndim - dims + i for i in range(dims)]
        right = list(range(dims))
    else:
        left = [normalize_axis(i, x.ndim) for i in dims[0]]
        right = [normalize_axis(i, y.ndim) for i in dims[1]]
    names = [chr(ord("a") + i) for i in range(x.ndim + y.ndim)]
    first, second = names[: x.ndim], names[x.ndim :]
    for i, j in zip(left, right, strict=True):
        second[j] = first[i]
    return _einsum.einsum(f"{''.join(first)},{''.join(second)}", [x, y])


# Questions.


def is_tensor(obj: Any) -> bool:
    """Whether `obj` is a tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    """Whether its dtype is a floating one."""
    return input.dtype.is_floating_point


def promote_types(type1: Any, type2: Any) -> DType:
    """The common dtype of two dtypes."""
    return dtypes.promote(dtypes.as_dtype(type1), dtypes.as_dtype(type2))


def result_type(tensor1: Any, tensor2: Any) -> DType:
    """The dtype of an operation on two operands (tensors or numbers)."""
    pairs = [
        (scalar_dtype(x), 0) if isinstance(x, bool | int | float) else (x.dtype, 2 if x.ndim else 1)
        for x in (tensor1, tensor2)
    ]
    return _result_type(pairs)
