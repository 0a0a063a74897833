"""`linalg` in float64: values, gradients and gradients of gradients, for PyTorch and lazygrad.

Factors are fixed up to signs, so what is compared of them does not depend on those.
"""

import zlib

import numpy as np


def numbers(name, *shape):
    """Normal numbers that depend on a name only."""
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)


def positive(x):
    return x @ x.mT + 0.5


def symmetric(x):
    return x + x.mT


def svd_function(lib, x, full):
    """U f(S) Vh: a function of the matrix that the signs of U and Vh do not change."""
    u, s, vh = lib.linalg.svd(x, full_matrices=full)
    return (u * (-s).exp().unsqueeze(-2)) @ vh


def eigh_function(lib, x, uplo="L"):
    values, vectors = lib.linalg.eigh(symmetric(x), uplo)
    return (vectors * values.sin().unsqueeze(-2)) @ vectors.mT


def qr_function(lib, x, mode):
    q, r = lib.linalg.qr(x, mode)
    return (q * q).cumsum(-1).sum(-2) if mode == "complete" else (q * q) @ (r * r)


# name: (shapes, function of the library and tensors)
CASES = {
    "inv": ([(3, 3)], lambda lib, x: lib.linalg.inv(x)),
    "inv_batch": ([(2, 3, 3)], lambda lib, x: x.inverse()),
    "inv_ex": ([(3, 3)], lambda lib, x: lib.linalg.inv_ex(x).inverse),
    "solve": ([(3, 3), (3, 2)], lambda lib, a, b: lib.linalg.solve(a, b)),
    "solve_vector": ([(3, 3), (3,)], lambda lib, a, b: lib.linalg.solve(a, b)),
    "solve_vectors": ([(2, 3, 3), (2, 3)], lambda lib, a, b: lib.linalg.solve(a, b)),
    "solve_broadcast": ([(3, 3), (2, 3, 2)], lambda lib, a, b: lib.linalg.solve(a, b)),
    "solve_right": ([(3, 3), (2, 3)], lambda lib, a, b: lib.linalg.solve(a, b, left=False)),
    "triangular": (
        [(3, 3), (3, 2)],
        lambda lib, a, b: lib.linalg.solve_triangular(a, b, upper=True),
    ),
    "triangular_unit": (
        [(3, 3), (2, 3)],
        lambda lib, a, b: lib.linalg.solve_triangular(
            a, b, upper=False, left=False, unitriangular=True
        ),
    ),
    "pinv_tall": ([(4, 2)], lambda lib, x: lib.linalg.pinv(x)),
    "pinv_wide": ([(2, 4)], lambda lib, x: lib.linalg.pinv(x)),
    "det": ([(2, 3, 3)], lambda lib, x: lib.linalg.det(x)),
    "slogdet": ([(3, 3)], lambda lib, x: lib.linalg.slogdet(x).logabsdet),
    "logdet": ([(3, 3)], lambda lib, x: (x @ x.mT).logdet()),
    "cholesky": ([(3, 3)], lambda lib, x: lib.linalg.cholesky(positive(x))),
    "cholesky_upper": ([(2, 3, 3)], lambda lib, x: lib.linalg.cholesky(positive(x), upper=True)),
    "cholesky_raw": ([(3, 4)], lambda lib, x: (x @ x.mT).cholesky()),
    "qr_tall": ([(4, 3)], lambda lib, x: qr_function(lib, x, "reduced")),
    "qr_wide": ([(3, 4)], lambda lib, x: qr_function(lib, x, "reduced")),
    "qr_complete_wide": ([(3, 4)], lambda lib, x: qr_function(lib, x, "complete")),
    "svd_tall": ([(4, 3)], lambda lib, x: svd_function(lib, x, False)),
    "svd_wide": ([(2, 3, 4)], lambda lib, x: svd_function(lib, x, False)),
    "svd_square": ([(3, 3)], lambda lib, x: svd_function(lib, x, True)),
    "svd_full_values": ([(4, 3)], lambda lib, x: lib.linalg.svd(x).S),
    "svdvals": ([(3, 5)], lambda lib, x: lib.linalg.svdvals(x)),
    "eigh": ([(3, 3)], eigh_function),
    "eigh_upper": ([(2, 3, 3)], lambda lib, x: eigh_function(lib, x, "U")),
    "eigvalsh": ([(3, 3)], lambda lib, x: lib.linalg.eigvalsh(symmetric(x))),
    "matrix_power": ([(3, 3)], lambda lib, x: lib.linalg.matrix_power(x, 5)),
    "matrix_power_negative": ([(3, 3)], lambda lib, x: x.matrix_power(-2)),
    "cond": ([(3, 3)], lambda lib, x: lib.linalg.cond(x)),
    "multi_dot": ([(2, 3), (3, 4), (4,)], lambda lib, *x: lib.linalg.multi_dot(x)),
    "vecdot": ([(2, 3), (3,)], lambda lib, a, b: lib.linalg.vecdot(a, b)),
    "cross": ([(2, 3), (2, 3)], lambda lib, a, b: lib.linalg.cross(a, b)),
    "diagonal": ([(2, 3, 3)], lambda lib, x: lib.linalg.diagonal(x, offset=1)),
    "norm_vector": ([(5,)], lambda lib, x: lib.linalg.norm(x, 3)),
    "norm_flat": ([(2, 3)], lambda lib, x: lib.linalg.norm(x)),
    "norm_nuc": ([(3, 2)], lambda lib, x: x.norm("nuc")),
    "norm_dims": ([(2, 3, 4)], lambda lib, x: lib.linalg.norm(x, 2, dim=(2, 0), keepdim=True)),
}
for _ord in ("fro", "nuc", float("inf"), -float("inf"), 1, -1, 2, -2):
    CASES[f"matrix_norm_{_ord}"] = (
        [(2, 3, 4)],
        lambda lib, x, order=_ord: lib.linalg.matrix_norm(x, order, dim=(0, 2)),
    )
for _p in (0.5, 1, 2, 3.5, -1, float("inf"), -float("inf")):
    CASES[f"vector_norm_{_p}"] = (
        [(3, 4)],
        lambda lib, x, order=_p: lib.linalg.vector_norm(x, order, dim=1, keepdim=True),
    )


def run(lib, name, wrap=None):
    """A case of this file."""
    return differentiated(lib, name, *CASES[name], wrap=wrap)


def differentiated(lib, name, shapes, function, wrap=None):
    """The value, the gradients of a random sum of it, and those of a sum of their sines."""
    grad = lib.grad if hasattr(lib, "grad") else lib.autograd.grad
    leaves = [
        lib.tensor(numbers(f"{name}.{i}", *shape), requires_grad=True)
        for i, shape in enumerate(shapes)
    ]

    def whole():
        value = function(lib, *leaves)
        weights = lib.tensor(numbers(name, *value.shape))
        first = grad((value * weights).sum(), leaves, create_graph=True)
        turned = sum((g.sin() * g).sum() for g in first)
        if not turned.requires_grad:
            return value.detach(), *first
        second = grad(turned, leaves, allow_unused=True)
        pairs = zip(leaves, second, strict=True)
        return value.detach(), *first, *(x * 0 if g is None else g for x, g in pairs)

    found = (whole if wrap is None else wrap(whole))()
    return {f"{i}": (t + 0.0).detach().numpy() for i, t in enumerate(found)}


RUNS = {name: (run, name) for name in CASES}
