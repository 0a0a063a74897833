"""`lazygrad.linalg`: norms of vectors and matrices, and what follows from singular values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lazygrad.dtypes import DTypeLike, int64
from lazygrad.engine.linalg import as_tensor, inv, svdvals, tolerances
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.shapes import Axes, normalize_axes, normalize_axis

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

__all__ = ["cond", "matrix_norm", "matrix_rank", "norm", "vector_norm"]


def vector_norm(
    x: Tensor, ord: float = 2, dim: Axes = None, keepdim: bool = False,
    *, dtype: DTypeLike | None = None,
) -> Tensor:  # fmt: skip
    """The p-norm of all elements, or over `dim`; `ord` is any number, inf or -inf.

    >>> import lazygrad as lg
    >>> lg.linalg.vector_norm(lg.tensor([[3.0, 0.0], [0.0, 4.0]]))
    tensor(5.)
    """
    x = as_tensor("vector_norm", x)
    if isinstance(ord, bool | str) or ord is None:
        raise ArgumentError(f"linalg.vector_norm: ord must be a number, got {ord!r}")
    return (x if dtype is None else x.to(dtype)).norm(ord, dim, keepdim)


_MATRIX_ORDS = ("'fro'", "'nuc'", "inf", "-inf", "1", "-1", "2", "-2")


def matrix_norm(
    A: Tensor, ord: float | str = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False,
    *, dtype: DTypeLike | None = None,
) -> Tensor:  # fmt: skip
    """A norm of matrices over two dimensions.

    "fro" is the root of the sum of squares, "nuc" the sum of singular values, 2 and -2 the largest
    and smallest one, 1 and -1 (inf and -inf) the largest and smallest sum over a column (row).

    >>> import lazygrad as lg
    >>> lg.linalg.matrix_norm(lg.tensor([[1.0, 2.0], [3.0, 4.0]]), 1)
    tensor(6.)
    """
    A = as_tensor("matrix_norm", A)
    A = A if dtype is None else A.to(dtype)
    if A.ndim < 2 or len(dim) != 2:
        raise ShapeError(f"linalg.matrix_norm: two dimensions, got {dim} of shape {A.shape}")
    row, column = (normalize_axis(d, A.ndim, "linalg.matrix_norm: dim") for d in dim)
    if row == column:
        raise ShapeError(f"linalg.matrix_norm: dim {tuple(dim)} names one dimension twice")
    if ord == "fro":
        return A.norm(2, (row, column), keepdim)
    if ord in (1, -1, math.inf, -math.inf):
        along, across = (row, column) if ord in (1, -1) else (column, row)
        sums = A.abs().sum(along, keepdim=True)
        if not A.shape[across] and ord in (1, math.inf):
            sums = sums.new_zeros([1 if i == across else n for i, n in enumerate(sums.shape)])
        found = sums.amax(across, True) if ord in (1, math.inf) else sums.amin(across, True)
    elif ord in ("nuc", 2, -2):
        values = svdvals(A.movedim((row, column), (-2, -1)))
        if ord == "nuc" or (ord == 2 and not values.shape[-1]):
            found = values.sum(-1)
        else:
            found = values.amax(-1) if ord == 2 else values.amin(-1)
        first, second = sorted((row, column))
        found = found.unsqueeze(first).unsqueeze(second)
    else:
        known = ", ".join(_MATRIX_ORDS)
        raise ArgumentError(f"linalg.matrix_norm: ord is one of {known}, got {ord!r}")
    return found if keepdim else found.squeeze((row, column))


def norm(
    A: Tensor, ord: float | str | None = None, dim: Axes = None, keepdim: bool = False,
    *, dtype: DTypeLike | None = None,
) -> Tensor:  # fmt: skip
    """The norm of vectors (one `dim`), of matrices (two), or of all elements (no `ord`, no `dim`).

    With an `ord` and no `dim` the tensor must be a vector or a matrix.

    >>> import lazygrad as lg
    >>> lg.linalg.norm(lg.tensor([[3.0, 0.0], [0.0, 4.0]]), "nuc")
    tensor(7.)
    """
    A = as_tensor("norm", A)
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if dim is None and A.ndim not in (1, 2):
        raise ShapeError(
            f"linalg.norm: with ord={ord!r} and no dim the tensor has 1 or 2 dimensions, got shape"
            f" {A.shape}"
        )
    axes = normalize_axes(dim, A.ndim, "linalg.norm: dim")
    if len(axes) == 2:
        order = dim if isinstance(dim, tuple | list) else axes
        return matrix_norm(A, ord, order, keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise ArgumentError(f"linalg.norm: ord={ord!r} is a norm of matrices, dim names {axes}")
    return vector_norm(A, ord, axes, keepdim, dtype=dtype)


def matrix_rank(
    A: Tensor, *, atol: float | None = None, rtol: float | None = None, hermitian: bool = False
) -> Tensor:  # fmt: skip
    """How many singular values are above max(atol, rtol * largest); int64."""
    A = as_tensor("matrix_rank", A)
    low, relative = tolerances("matrix_rank", A, atol, rtol)
    values = svdvals(A.detach())
    if not values.shape[-1]:
        return values.sum(-1).to(int64)
    limit = (values.amax(-1, keepdim=True) * relative).clamp(min=low)
    return (values > limit).sum(-1)


def cond(A: Tensor, p: float | str | None = None) -> Tensor:
    """The condition number: the largest singular value by the smallest, or by another norm.

    With a `p` other than None, 2 and -2 it is the norm of A times that of its inverse.
    """
    A = as_tensor("cond", A)
    if p in (None, 2, -2):
        values = svdvals(A)
        if not values.shape[-1]:
            return values.sum(-1)
        largest, smallest = values.select(-1, 0), values.select(-1, -1)
        return smallest / largest if p == -2 else largest / smallest
    inverse = inv(A)
    if not A.shape[-1]:
        return matrix_norm(A, "fro")  # 0, by any norm
    return matrix_norm(A, p) * matrix_norm(inverse, p)
