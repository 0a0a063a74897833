"""`lazygrad.linalg`: inverses and factorizations of (batches of) matrices; `norms.py` has the rest.

Everything takes float32 or float64 tensors (..., rows, columns). Whether a matrix is singular is
known when the program runs: then it raises `LinalgError` naming the user's line, before any state
is written. The ops, with their gradients, are in `ops/linalg.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lazygrad.dtypes import finfo, int32
from lazygrad.engine.methods.base import Methods
from lazygrad.engine.modes import STATE
from lazygrad.engine.precision import in_precision
from lazygrad.errors import ArgumentError, ArgumentTypeError, ShapeError, nearest
from lazygrad.ops import linalg as ops
from lazygrad.ops.factors import factors, factors_and_status, of_matrices
from lazygrad.ops.opdef import Precision

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

__all__ = [
    "cholesky", "cholesky_ex", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "inv_ex",
    "matmul", "matrix_power", "multi_dot", "pinv", "qr", "slogdet", "solve", "solve_triangular",
    "svd", "svdvals", "vecdot",
]  # fmt: skip


class SVD(NamedTuple):
    """U @ diag(S) @ Vh."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class QR(NamedTuple):
    """Q @ R."""

    Q: Tensor
    R: Tensor


class Eigh(NamedTuple):
    """The eigenvalues of a symmetric matrix, ascending, and its eigenvectors as columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SLogDet(NamedTuple):
    """sign * exp(logabsdet)."""

    sign: Tensor
    logabsdet: Tensor


class InvEx(NamedTuple):
    """The inverse, and 1 for each matrix that has none."""

    inverse: Tensor
    info: Tensor


class CholeskyEx(NamedTuple):
    """The triangle, and 1 for each matrix that is not positive-definite."""

    L: Tensor
    info: Tensor


def as_tensor(name: str, A: Any) -> Tensor:
    """The operand of `linalg.name`: a tensor, in float32 where autocast has made it half."""
    if not isinstance(A, Methods):
        raise ArgumentTypeError(f"linalg.{name} takes tensors, got {type(A).__name__}")
    found: Tensor = A._self
    if STATE.autocast is not None:
        found = in_precision(found, Precision.SINGLE, STATE.autocast)
    return found


def _square(name: str, A: Any) -> Tensor:
    found = as_tensor(name, A)
    of_matrices(name, found, square=True)
    return found


# inverses and solutions


def inv(A: Tensor) -> Tensor:
    """The inverse of each square matrix; a singular one raises `LinalgError`.

    `solve(A, B)` is faster and more accurate than `inv(A) @ B`.

    >>> import lazygrad as lg
    >>> lg.linalg.inv(lg.tensor([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    found: Tensor = factors(ops.INV, as_tensor("inv", A))[0]
    return found


def inv_ex(A: Tensor, *, check_errors: bool = False) -> InvEx:
    """The inverse, and int32 flags that are 1 where there is none (it is NaN there)."""
    if check_errors:
        return InvEx(inv(A), A.new_zeros(A.shape[:-2], dtype=int32))
    inverse, status = factors_and_status(ops.INV, as_tensor("inv_ex", A))
    return InvEx(inverse, status.detach().to(int32))


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with A @ X = B, or X @ A = B when not `left`.

    `A` is (..., n, n), `B` (..., n, k) or a vector (..., n) where its shape says so as in PyTorch.

    >>> import lazygrad as lg
    >>> A, b = lg.tensor([[2.0, 0.0], [0.0, 4.0]]), lg.tensor([2.0, 8.0])
    >>> lg.linalg.solve(A, b)
    tensor([1., 2.])
    """
    A, B = _square("solve", A), as_tensor("solve", B)
    vector = B.ndim == 1 or (A.ndim - 1 == B.ndim and B.shape == A.shape[:-1])
    right = B.unsqueeze(-1) if vector else B
    if not left:
        if vector:
            raise ShapeError(f"linalg.solve: left=False takes matrices, got B of shape {B.shape}")
        return solve(A.mT, B.mT).mT
    found: Tensor = factors(ops.SOLVE, A, right)[0]
    return found.squeeze(-1) if vector else found


def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:  # fmt: skip
    """`solve` with one triangle of A; with `unitriangular` its diagonal counts as ones."""
    A = _square("solve_triangular", A)
    if unitriangular:
        eye = A.new_eye(A.shape[-1], A.shape[-1])
        A = (A.triu(1) if upper else A.tril(-1)) + eye
    else:
        A = A.triu() if upper else A.tril()
    return solve(A, B, left=left)


def pinv(
    A: Tensor, *, atol: float | None = None, rtol: float | None = None, hermitian: bool = False
) -> Tensor:  # fmt: skip
    """The Moore-Penrose inverse; singular values up to max(atol, rtol * largest) count as 0.

    `rtol` is max(rows, columns) * eps unless one of the two is given.

    >>> import lazygrad as lg
    >>> lg.linalg.pinv(lg.tensor([[1.0], [1.0]])).shape
    (1, 2)
    """
    A = as_tensor("pinv", A)
    low, relative = tolerances("pinv", A, atol, rtol)
    found: Tensor = factors(ops.PINV, A, atol=low, rtol=relative)[0]
    return found


def tolerances(
    name: str, A: Tensor, atol: float | None, rtol: float | None
) -> tuple[float, float]:  # fmt: skip
    """The absolute and the relative size up to which singular values count as 0."""
    of_matrices(name, A)
    if rtol is None:
        rtol = 0.0 if atol else max(A.shape[-2:]) * finfo(A.dtype).eps
    return float(atol or 0.0), float(rtol)


def matrix_power(A: Tensor, n: int) -> Tensor:
    """`A` multiplied by itself `n` times; a negative `n` takes the inverse.

    >>> import lazygrad as lg
    >>> lg.linalg.matrix_power(lg.tensor([[1.0, 1.0], [0.0, 1.0]]), 3).tolist()
    [[1.0, 3.0], [0.0, 1.0]]
    """
    A = as_tensor("matrix_power", A)
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise ShapeError(f"linalg.matrix_power: the matrix must be square, got shape {A.shape}")
    base = inv(A) if n < 0 else A
    result, left = None, abs(n)
    while left:
        if left & 1:
            result = base if result is None else result @ base
        left >>= 1
        base = base @ base if left else base
    return A.new_eye(A.shape[-1], A.shape[-1]).expand(A.shape) if result is None else result


# determinants


def det(A: Tensor) -> Tensor:
    """The determinant of each square matrix.

    Its gradient holds at singular matrices too, the gradient of that one at the others only.

    >>> import lazygrad as lg
    >>> lg.linalg.det(lg.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor(8.)
    """
    return as_tensor("det", A).apply(ops.DET)


def slogdet(A: Tensor) -> SLogDet:
    """The sign of each determinant, and the logarithm of its absolute value (-inf for 0)."""
    sign, log = factors(ops.SLOGDET, as_tensor("slogdet", A))
    return SLogDet(sign.detach(), log)


# factorizations


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The triangle L with L @ L.mT = A (its transpose if `upper`).

    Of each symmetric matrix one triangle is read; one that is not positive-definite raises
    `LinalgError`. The gradient is symmetric.

    >>> import lazygrad as lg
    >>> lg.linalg.cholesky(lg.tensor([[4.0, 2.0], [2.0, 5.0]])).tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """
    A = as_tensor("cholesky", A)
    lower: Tensor = factors(ops.CHOLESKY, A.mT if upper and A.ndim > 1 else A)[0]
    return lower.mT if upper else lower


def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> CholeskyEx:
    """The triangle, and int32 flags that are 1 where there is none (it is NaN there)."""
    if check_errors:
        return CholeskyEx(cholesky(A, upper=upper), A.new_zeros(A.shape[:-2], dtype=int32))
    A = as_tensor("cholesky_ex", A)
    lower, status = factors_and_status(ops.CHOLESKY, A.mT if upper and A.ndim > 1 else A)
    return CholeskyEx(lower.mT if upper else lower, status.detach().to(int32))


def qr(A: Tensor, mode: str = "reduced") -> QR:
    """Q with orthonormal columns and R upper triangular, Q @ R = A.

    `mode` is "reduced" (Q is (m, min(m, n))), "complete" (Q is (m, m); no gradient if m > n), or
    "r" (Q is empty).
    """
    A = as_tensor("qr", A)
    if mode not in ("reduced", "complete", "r"):
        hint = nearest(str(mode), ("reduced", "complete"))
        raise ArgumentError(f"linalg.qr: mode is 'reduced', 'complete' or 'r', got {mode!r}{hint}")
    q, r = factors(ops.QR, A, full=mode == "complete")
    return QR(A.new_zeros((0,)) if mode == "r" else q, r)


def svd(A: Tensor, full_matrices: bool = True) -> SVD:
    """U, the singular values S, descending, and Vh with U @ diag(S) @ Vh = A.

    U is (m, m) and Vh (n, n), or (m, k) and (k, n), k = min(m, n), without `full_matrices`; the
    first form of a matrix that is not square has a gradient through S only. Gradients through U and
    Vh need distinct singular values, and a function that does not depend on their signs.

    >>> import lazygrad as lg
    >>> lg.linalg.svd(lg.tensor([[3.0, 0.0], [0.0, -4.0]])).S
    tensor([4., 3.])
    """
    A = as_tensor("svd", A)
    full = full_matrices and A.ndim > 1 and A.shape[-1] != A.shape[-2]
    u, s, vh = factors(ops.SVD, A, full=full)
    return SVD(u, svdvals(A) if full and A.requires_grad else s, vh)


def svdvals(A: Tensor) -> Tensor:
    """The singular values of each matrix, descending."""
    values: Tensor = factors(ops.SVD, as_tensor("svdvals", A), full=False)[1]
    return values


def eigh(A: Tensor, UPLO: str = "L") -> Eigh:
    """The eigenvalues of a symmetric matrix, ascending, and its eigenvectors as columns.

    The triangle `UPLO` ("L" or "U") is read; the gradient is symmetric.

    >>> import lazygrad as lg
    >>> lg.linalg.eigh(lg.tensor([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
    tensor([1., 2.])
    """
    A = as_tensor("eigh", A)
    if UPLO not in ("L", "U", "l", "u"):
        raise ArgumentError(f"linalg.eigh: UPLO is 'L' or 'U', got {UPLO!r}")
    values, vectors = factors(ops.EIGH, A.mT if UPLO in "Uu" and A.ndim > 1 else A)
    return Eigh(values, vectors)


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of a symmetric matrix, ascending."""
    return eigh(A, UPLO).eigenvalues


# what follows from them


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of matrices (the first and the last may be vectors), from left to right."""
    given = [as_tensor("multi_dot", t) for t in tensors]
    if len(given) < 2:
        raise ShapeError(f"linalg.multi_dot: at least two tensors are needed, got {len(given)}")
    return functools.reduce(lambda a, b: a @ b, given)


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """`lazygrad.matmul`."""
    return as_tensor("matmul", input).matmul(other)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """The inner products along `dim`; the other dimensions broadcast."""
    return (as_tensor("vecdot", x) * as_tensor("vecdot", y)).sum(dim)


def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The vector products of three elements along `dim`.

    >>> import lazygrad as lg
    >>> lg.linalg.cross(lg.tensor([1.0, 0.0, 0.0]), lg.tensor([0.0, 1.0, 0.0]))
    tensor([0., 0., 1.])
    """
    a, b = as_tensor("cross", input), as_tensor("cross", other)
    for t in (a, b):
        if not t.ndim or t.shape[dim] != 3:
            raise ShapeError(f"linalg.cross: three elements along dim {dim}, got shape {t.shape}")
    left = a.roll(-1, dim) * b.roll(-2, dim)
    return left - a.roll(-2, dim) * b.roll(-1, dim)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonals of two dimensions, as a new last one."""
    return as_tensor("diagonal", A).diagonal(offset, dim1, dim2)
