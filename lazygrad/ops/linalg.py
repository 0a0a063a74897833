"""Matrices through NumPy's LAPACK: inverse, solution, factorizations, determinant.

Gradients: Giles, "Collected matrix derivative results" (2008); for QR and SVD Seeger et al.,
"Auto-differentiating linear algebra" (2017); for Cholesky Murray (2016). They are undefined where
singular values or eigenvalues that are told apart are equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from lazygrad.dtypes import DType
from lazygrad.errors import GradientError, ShapeError
from lazygrad.ops.factors import Parts, factorization, factors, of_matrices
from lazygrad.ops.opdef import Array, Kind, OpDef, Precision, Promotion, Sample, Spec, register
from lazygrad.shapes import Shape

# helpers of gradients, in tensor vocabulary


def _quotient(a: Any, b: Any) -> Any:
    """The quotient, 0 for 0 / 0: equal values that nothing tells apart have no gradient."""
    return a / b.masked_fill((a == 0) & (b == 0), 1.0)


def _skew(x: Any) -> Any:
    return x - x.mT


def _differences(values: Any) -> Any:
    """values[k] - values[j] at (j, k)."""
    return values.unsqueeze(-2) - values.unsqueeze(-1)


def _right_solve(b: Any, r: Any) -> Any:
    """The product of b and r^-T for a triangular (or any invertible) r."""
    return factors(SOLVE, r, b.mT)[0].mT


# inverse and solution


def _square_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in [(3, 3), (2, 2, 2), (1, 1), (0, 3, 3)]:
        yield Sample((rng.uniform(-1, 1, shape) + 2 * np.eye(shape[-1]),))


def _inv_vjp(g: Parts, out: Parts, x: Any) -> Any:
    turned = out[0].mT
    return (lambda: -(turned @ g[0] @ turned),)


INV = factorization(
    "inv", lambda x: (x.shape[-2:],), lambda x: [np.linalg.inv(x)], _inv_vjp, _square_samples,
    "the matrix{place} is singular and has no inverse", square=True,
    doc="The inverse of each matrix.",
)  # fmt: skip


def _solve_shapes(a: Spec, b: Spec) -> tuple[Shape, ...]:
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"linalg.solve: {a.shape} and {b.shape}: {a.shape[-1]} != {b.shape[-2]}")
    return (b.shape[-2:],)


def _solve_vjp(g: Parts, out: Parts, a: Any, b: Any) -> Any:
    (right,) = factors(SOLVE, a.mT, g[0])
    return (lambda: -(right @ out[0].mT), lambda: right)


def _solve_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for left, right in [((3, 3), (3, 2)), ((2, 2, 2), (2, 1)), ((2, 2), (3, 2, 2))]:
        a = rng.uniform(-1, 1, left) + 2 * np.eye(left[-1])
        yield Sample((a, rng.uniform(-2, 2, right)))


SOLVE = factorization(
    "solve", _solve_shapes, lambda a, b: [np.linalg.solve(a, b)], _solve_vjp, _solve_samples,
    "the matrix{place} is singular and the system has no solution", arity=2, square=True,
    promotion=Promotion.COMMON, doc="X with A @ X = B.",
)  # fmt: skip


# symmetric matrices, of which only the lower triangle is read


def _positive_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in [(3, 3), (2, 2, 2), (1, 1)]:
        x = rng.uniform(-1, 1, shape)
        yield Sample((x @ x.swapaxes(-1, -2) + np.eye(shape[-1]),))


def _cholesky_vjp(g: Parts, out: Parts, x: Any) -> Any:
    lower = out[0]

    def back() -> Any:
        product = (lower.mT @ g[0]).tril()
        middle = (product + product.tril(-1).mT) * 0.5
        return _right_solve(factors(SOLVE, lower.mT, middle)[0], lower.mT)

    return (back,)


CHOLESKY = factorization(
    "cholesky", lambda x: (x.shape[-2:],), lambda x: [np.linalg.cholesky(x)], _cholesky_vjp,
    _positive_samples, "the matrix{place} is not positive-definite", square=True, symmetric=True,
    doc="The lower triangle L with L @ L.mT = x.",
)  # fmt: skip


def _eigh_vjp(g: Parts, out: Parts, x: Any) -> Any:
    values, vectors = out[:2]

    def back() -> Any:
        turned = vectors.mT @ g[1]
        turned = turned.tril(-1) + turned.triu(1)
        core = _quotient(turned, _differences(values)) + g[0].diag_embed()
        result = vectors @ core @ vectors.mT
        return (result + result.mT) * 0.5

    return (back,)


EIGH = factorization(
    "eigh", lambda x: (x.shape[-1:], x.shape[-2:]), np.linalg.eigh, _eigh_vjp, _positive_samples,
    "the eigenvalues of the matrix{place} did not converge", square=True, symmetric=True,
    doc="The eigenvalues of a symmetric matrix, ascending, and its eigenvectors as columns.",
)  # fmt: skip


# QR and SVD


def _no_full_gradient(name: str, option: str, x: Spec) -> NoReturn:
    raise GradientError(
        f"linalg.{name}: with {option} the columns beyond the rank of a {x.shape[-2:]} matrix are"
        " arbitrary and have no gradient; use the reduced form"
    )


def _rectangular_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in [(4, 2), (2, 4), (3, 3), (2, 3, 2)]:
        yield Sample((rng.uniform(-2, 2, shape),), {"full": False})


def _qr_shapes(x: Spec, *, full: bool) -> tuple[Shape, ...]:
    m, n = x.shape[-2:]
    k = m if full else min(m, n)
    return (m, k), (k, n)


def _qr_square(gq: Any, gr: Any, q: Any, r: Any) -> Any:
    """The cotangent of x = q @ r with a square r."""
    upper = (gr @ r.mT - q.mT @ gq).triu()
    return _right_solve(gq + q @ (upper + upper.triu(1).mT), r)


def _qr_vjp(g: Parts, out: Parts, x: Any, *, full: bool) -> Any:
    m, n = x.shape[-2:]
    if full and m > n:
        _no_full_gradient("qr", "mode='complete'", x)

    def back() -> Any:
        (gq, gr), (q, r) = g[:2], out[:2]
        if m >= n:
            return _qr_square(gq, gr, q, r)
        rest = x.narrow(-1, m, n - m)
        g_rest = gr.narrow(-1, m, n - m)
        first = _qr_square(gq + rest @ g_rest.mT, gr.narrow(-1, 0, m), q, r.narrow(-1, 0, m))
        zeros = [(0, 0)] * (len(x.shape) - 1)
        return first.pad([*zeros, (0, n - m)]) + (q @ g_rest).pad([*zeros, (m, 0)])

    return (back,)


QR = factorization(
    "qr", _qr_shapes,
    lambda x, full: np.linalg.qr(x, "complete" if full else "reduced"), _qr_vjp,
    _rectangular_samples, "the decomposition of the matrix{place} failed",
    doc="Q with orthonormal columns and R upper triangular, Q @ R = x.",
)  # fmt: skip


def _svd_shapes(x: Spec, *, full: bool) -> tuple[Shape, ...]:
    m, n = x.shape[-2:]
    k = min(m, n)
    return ((m, m), (k,), (n, n)) if full else ((m, k), (k,), (k, n))


def _svd_vjp(g: Parts, out: Parts, x: Any, *, full: bool) -> Any:
    m, n = x.shape[-2:]
    if full and m != n:
        _no_full_gradient("svd", "full_matrices=True", x)

    def back() -> Any:
        (gu, gs, gvh), (u, s, vh) = g[:3], out[:3]
        row, column = s.unsqueeze(-2), s.unsqueeze(-1)
        gaps = _differences(s * s)
        core = _quotient(_skew(u.mT @ gu), gaps) * row
        core = core + column * _quotient(_skew(vh @ gvh.mT), gaps) + gs.diag_embed()
        result = u @ core @ vh
        if m > n:
            result = result + _quotient(gu - u @ (u.mT @ gu), row) @ vh
        if n > m:
            result = result + u @ _quotient(gvh - (gvh @ vh.mT) @ vh, column)
        return result

    return (back,)


SVD = factorization(
    "svd", _svd_shapes, lambda x, full: np.linalg.svd(x, full), _svd_vjp, _rectangular_samples,
    "the singular values of the matrix{place} did not converge",
    doc="U, the singular values S, descending, and Vh with U @ diag(S) @ Vh = x.",
)  # fmt: skip


# determinants, and the generalized inverse


def _slogdet_vjp(g: Parts, out: Parts, x: Any) -> Any:
    return (lambda: factors(INV, x)[0].mT * g[1].unsqueeze(-1).unsqueeze(-1),)


SLOGDET = factorization(
    "slogdet", lambda x: ((), ()), np.linalg.slogdet, _slogdet_vjp, _square_samples,
    "the determinant of the matrix{place} cannot be computed", square=True,
    doc="The sign of the determinant and the logarithm of its absolute value.",
)  # fmt: skip


def _scalar_infer(x: Spec) -> tuple[Shape, DType]:
    of_matrices("det", x, square=True)
    return x.shape[:-2], x.dtype


def _det_vjp(g: Any, out: Any, x: Any) -> Any:
    return (lambda: x.apply(COFACTOR) * g.unsqueeze(-1).unsqueeze(-1),)


DET: OpDef = register(
    OpDef(
        "linalg_det", Kind.OPAQUE, _scalar_infer,
        lambda x: np.asarray(np.linalg.det(x), x.dtype), vjp=_det_vjp,
        flops=10, samples=_square_samples, autocast=Precision.SINGLE, grad_name="LinalgDetBackward",
        doc="The determinant of each matrix.",
    )
)  # fmt: skip


def _cofactor_infer(x: Spec) -> tuple[Shape, DType]:
    of_matrices("det", x, square=True)
    return x.shape, x.dtype


def _cofactor_reference(x: Array) -> Array:
    """det(x) * x^-T without the division: singular matrices have cofactors too."""
    try:
        u, s, vh = np.linalg.svd(x)
    except np.linalg.LinAlgError:  # it has no determinant either
        return np.full_like(x, np.nan)
    others = np.ones_like(s)
    for i in range(s.shape[-1]):
        others[..., i] = np.delete(s, i, -1).prod(-1)
    sign = np.linalg.det(u) * np.linalg.det(vh)
    return np.asarray((u * (others * sign[..., None])[..., None, :]) @ vh, x.dtype)


def _cofactor_vjp(g: Any, out: Any, x: Any) -> Any:
    """Of an invertible x: (<g, C> C - C g^T C) / det(x)."""

    def back() -> Any:
        inner = (g * out).sum((-2, -1), keepdim=True)
        return (out * inner - out @ g.mT @ out) / x.apply(DET).reshape(inner.shape)

    return (back,)


COFACTOR: OpDef = register(
    OpDef(
        "linalg_cofactor", Kind.OPAQUE, _cofactor_infer, _cofactor_reference, vjp=_cofactor_vjp,
        flops=20, samples=_square_samples, autocast=Precision.SINGLE,
        grad_name="LinalgCofactorBackward",
        doc="The derivative of the determinant: the transposed adjugate of each matrix.",
    )
)  # fmt: skip


def _pinv_vjp(g: Parts, out: Parts, x: Any, *, atol: float, rtol: float) -> Any:
    """Golub and Pereyra (1973), as PyTorch evaluates it."""

    def back() -> Any:
        p, turned = out[0], g[0].mT
        k = turned @ p
        outer = k @ p.mT
        return -(p @ k).mT + outer - (x @ p) @ outer + (p.mT @ p) @ (turned - k @ x)

    return (back,)


def _pinv(x: Array, atol: float, rtol: float) -> list[Array]:
    u, s, vh = np.linalg.svd(x, False)
    limit = np.maximum(atol, rtol * s[..., :1]) if s.shape[-1] else s
    inverse = np.divide(1, s, out=np.zeros_like(s), where=s > limit)
    return [(vh.swapaxes(-1, -2) * inverse[..., None, :]) @ u.swapaxes(-1, -2)]


def _pinv_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in [(4, 2), (2, 3), (2, 3, 2)]:
        yield Sample((rng.uniform(-2, 2, shape),), {"atol": 0.0, "rtol": 1e-12})


PINV = factorization(
    "pinv", lambda x, atol, rtol: (x.shape[:-3:-1],), _pinv, _pinv_vjp, _pinv_samples,
    "the singular values of the matrix{place} did not converge",
    doc="The Moore-Penrose inverse; singular values up to max(atol, rtol * largest) count as 0.",
)  # fmt: skip
