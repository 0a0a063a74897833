"""Functions of several tensors that are compositions: PyTorch's less frequent names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from lazygrad import dtypes
from lazygrad.dtypes import DType, DTypeLike
from lazygrad.engine.creation import meshgrid, tensor, to_tensor, zeros
from lazygrad.engine.functions import cat, stack
from lazygrad.engine.precision import SINGLE
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, AxisError, ShapeError
from lazygrad.shapes import Shape, broadcast, existing_axis

__all__ = [
    "asarray", "atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "broadcast_shapes",
    "bucketize", "can_cast", "cartesian_prod", "cdist", "column_stack", "combinations", "dstack",
    "isin", "row_stack", "scalar_tensor", "std_mean", "trapezoid", "trapz", "unravel_index",
    "vander", "var_mean",
]  # fmt: skip


# Shapes.


def _each(tensors: tuple[Any, ...], rank: int) -> Any:
    """Tensors with at least `rank` dimensions: one, or a tuple of them."""
    if len(tensors) == 1 and not isinstance(tensors[0], list | tuple):
        return _raised(to_tensor(tensors[0]), rank)
    given = tensors[0] if len(tensors) == 1 else tensors
    return tuple(_raised(to_tensor(t), rank) for t in given)


def _raised(t: Tensor, rank: int) -> Tensor:
    if t.ndim >= rank:
        return t
    if rank == 3:
        return t.reshape((1, -1, 1)) if t.ndim < 2 else t.unsqueeze(-1)
    return t.reshape((1,) * (rank - t.ndim) + t.shape)


def atleast_1d(*tensors: Any) -> Any:
    """Numbers as vectors of one element."""
    return _each(tensors, 1)


def atleast_2d(*tensors: Any) -> Any:
    """Vectors as rows of a matrix."""
    return _each(tensors, 2)


def atleast_3d(*tensors: Any) -> Any:
    """Vectors as (1, n, 1), matrices as (m, n, 1)."""
    return _each(tensors, 3)


def broadcast_shapes(*shapes: Any) -> Shape:
    """The common shape of several.

    >>> broadcast_shapes((2, 1), (3,))
    (2, 3)
    """
    return broadcast(*[(s,) if isinstance(s, int) else tuple(s) for s in shapes])


# Side by side.


def dstack(tensors: Sequence[Any]) -> Tensor:
    """Along the third dimension, after `atleast_3d`."""
    return cat([_raised(to_tensor(t), 3) for t in tensors], 2)


def column_stack(tensors: Sequence[Any]) -> Tensor:
    """Along the second dimension, vectors as columns."""
    found = [to_tensor(t) for t in tensors]
    return cat([t.reshape((-1, 1)) if t.ndim < 2 else t for t in found], 1)


def row_stack(tensors: Sequence[Any]) -> Tensor:
    """`vstack`: along the first dimension, vectors as rows."""
    return cat([_raised(to_tensor(t), 2) for t in tensors], 0)


def block_diag(*tensors: Any) -> Tensor:
    """Matrices along the diagonal of one, zero beside them."""
    found = [_raised(to_tensor(t), 2) for t in tensors]
    if any(t.ndim > 2 for t in found):
        raise AxisError(f"block_diag takes matrices, got shapes {[t.shape for t in found]}")
    width, before, rows = sum(t.shape[1] for t in found), 0, []
    for t in found:
        after = width - before - t.shape[1]
        rows.append(t.pad((before, after)))
        before += t.shape[1]
    return cat(rows, 0) if rows else zeros(1, 0)


def cartesian_prod(*tensors: Any) -> Tensor:
    """All combinations of one element of each vector, as rows."""
    found = [to_tensor(t) for t in tensors]
    if len(found) == 1:
        return found[0]
    return stack([g.reshape(-1) for g in meshgrid(*found, indexing="ij")], 1)


def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of `r` elements of a vector, as rows.

    >>> combinations([1, 2, 3]).tolist()
    [[1, 2], [1, 3], [2, 3]]
    """
    x = to_tensor(input)
    if x.ndim != 1:
        raise AxisError(f"combinations takes a vector, not shape {x.shape}")
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = np.array(list(choose(range(x.shape[0]), r)), np.int64).reshape(-1, r)
    return x[rows] if r else x[:0]


# Search.


def bucketize(input: Any, boundaries: Any, *, right: bool = False) -> Tensor:
    """For each element the first boundary that is >= it (> it when `right`); int64."""
    edges = to_tensor(boundaries)
    if edges.ndim != 1:
        raise ShapeError(f"bucketize: boundaries must be a vector, got shape {edges.shape}")
    return edges.searchsorted(to_tensor(input), right=right)


def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Whether each element is one of `test_elements`."""
    tests = to_tensor(test_elements).reshape(-1)
    found = (to_tensor(elements).unsqueeze(-1) == tests).any(-1)
    return ~found if invert else found


def unravel_index(indices: Any, shape: Sequence[int]) -> tuple[Tensor, ...]:
    """Positions in the flat tensor as positions along each dimension."""
    rest, found = to_tensor(indices), []
    for size in reversed(tuple(shape)):
        found.append(rest % size)
        rest = rest // size
    return tuple(reversed(found))


# Numbers.


@SINGLE
def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """The p-norm of the difference of each row of `x1` and each row of `x2`.

    (..., m, k) and (..., n, k) to (..., m, n); leading dimensions broadcast. `compute_mode` is
    accepted as PyTorch has it; differences are always taken, so nothing cancels.

    >>> import lazygrad as lg
    >>> lg.cdist(lg.tensor([[0.0, 0.0]]), lg.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[5., 1.]])
    """
    a, b = to_tensor(x1), to_tensor(x2)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-1]:
        raise ShapeError(f"cdist: (..., m, k) and (..., n, k) are needed, got {a.shape}, {b.shape}")
    if p < 0:
        raise ArgumentError(f"cdist: p must not be negative, got {p}")
    return (a.unsqueeze(-2) - b.unsqueeze(-3)).norm(p, -1)


def var_mean(input: Any, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """`(var, mean)` over the same dimensions; arguments are those of `var`."""
    return _with_mean("var", to_tensor(input), args, options)


def std_mean(input: Any, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """`(std, mean)` over the same dimensions; arguments are those of `std`."""
    return _with_mean("std", to_tensor(input), args, options)


def _with_mean(name: str, x: Tensor, args: Any, options: Any) -> tuple[Tensor, Tensor]:
    spread = getattr(x, name)(*args, **options)
    given = dict(zip(("dim", "unbiased", "keepdim"), args, strict=False)) | options
    dim = None if isinstance(given.get("dim"), bool) else given.get("dim")
    return spread, x.mean(dim, keepdim=given.get("keepdim", False))


def trapezoid(y: Any, x: Any = None, *, dx: float = 1.0, dim: int = -1) -> Tensor:
    """The integral along `dim` by trapezoids, over the places `x` or steps of `dx`."""
    values = to_tensor(y)
    axis = existing_axis(dim, values.ndim, "trapezoid: axis")
    last = values.shape[axis] - 1
    if last < 1:
        return values.sum(axis) * 0
    heights = values.narrow(axis, 0, last) + values.narrow(axis, 1, last)
    if x is None:
        return heights.sum(axis) * (dx / 2)
    steps = to_tensor(x).diff(dim=-1 if to_tensor(x).ndim == 1 else dim)
    if steps.ndim == 1:
        steps = steps.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    return (heights * steps).sum(axis) / 2


trapz = trapezoid


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers of a vector's elements as columns, the highest first."""
    base = to_tensor(x)
    if base.ndim != 1:
        raise AxisError(f"vander takes a vector, not shape {base.shape}")
    count = base.shape[0] if N is None else N
    powers = [base.new_ones(base.shape)]
    for _ in range(count - 1):
        powers.append(powers[-1] * base)
    ordered = powers[:count] if increasing else powers[:count][::-1]
    return stack(ordered, 1) if ordered else base.new_zeros((base.shape[0], 0))


# Tensors and dtypes.


def asarray(
    obj: Any, *, dtype: DTypeLike | None = None, device: Any = None, copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor of anything array-like; one that already is one stays, unless it must change."""
    if isinstance(obj, Tensor) and not copy:
        found = obj if dtype is None else obj.to(dtype)
        return found.requires_grad_() if requires_grad else found
    return tensor(obj, dtype=dtype, device=device, requires_grad=requires_grad)


def scalar_tensor(s: float, *, dtype: DTypeLike | None = None, device: Any = None) -> Tensor:
    """A 0-d tensor; of the default dtype unless `dtype` is given."""
    return tensor(s, dtype=dtypes.get_default_dtype() if dtype is None else dtype, device=device)


def can_cast(from_: DType, to: DType) -> bool:
    """Whether a conversion keeps the kind of number: floats do not become integers.

    >>> import lazygrad as lg
    >>> lg.can_cast(lg.int32, lg.float16), lg.can_cast(lg.float32, lg.int64)
    (True, False)
    """
    return from_.category <= to.category
