"""Methods and functions that are compositions: values and gradients, by fixed inputs.

Each case is a function of the library and of X, Y (3, 4), Z (3, 4) with NaN, L (5,) with ties and
P (3, 4) within (0, 1); all results are kept, flattened one after the other.
"""

import math

import numpy as np

_RNG = np.random.default_rng(2)
X, Y = _RNG.normal(size=(3, 4)), _RNG.normal(size=(3, 4))
Z = np.where(_RNG.random((3, 4)) < 0.3, np.nan, X)
L = np.array([2.0, 1.0, 2.0, 1.0, 3.0])
P = _RNG.uniform(0.05, 0.95, (3, 4))
INPUTS = {"X": X, "Y": Y, "Z": Z, "L": L, "P": P}

CASES = {
    "fmax": lambda t, X, Y, Z, **_: [X.fmax(Y), t.fmax(Z, Y), Y.fmax(Z)],
    "fmin": lambda t, X, Y, Z, **_: [X.fmin(Y), t.fmin(Z, Y), Y.fmin(Z)],
    "hypot": lambda t, X, Y, **_: [X.hypot(Y), t.hypot(X * 1e200, Y * 1e200)],
    "xlogy": lambda t, X, P, **_: [t.xlogy(X, P), (X * 0).xlogy(P * 0).detach()],
    "logaddexp2": lambda t, X, Y, **_: [X.logaddexp2(Y), t.logaddexp(X, Y)],
    "ldexp": lambda t, X, **_: [X.ldexp(t.tensor([1.0, 0.0, -2.0, 3.0]))],
    "heaviside": lambda t, X, Y, **_: [
        (X * 0).detach().heaviside(Y.detach()), X.detach().heaviside(Y.detach())
    ],
    "clamps": lambda t, X, **_: [X.clamp_min(0.1), X.clamp_max(0.1)],
    "angles": lambda t, X, **_: [X.deg2rad(), t.rad2deg(X)],
    "logit": lambda t, P, **_: [P.logit(), t.logit(P, 0.3)],
    "sinc": lambda t, X, L, **_: [X.sinc(), (L - 1).sinc()],
    "signs": lambda t, X, **_: [X.sgn(), X.signbit(), (X * 0).neg().signbit(), X.positive()],
    "infinite": lambda t, X, **_: [(X / 0).isposinf(), (X / 0).isneginf(), X.isreal()],
    "float_power": lambda t, P, Y, **_: [P.float_power(Y), t.float_power(P, 2), Y.fix()],
    "nansum": lambda t, Z, **_: [Z.nansum(), Z.nansum(1), Z.nansum((0, 1), keepdim=True)],
    "nanmean": lambda t, Z, **_: [Z.nanmean(), t.nanmean(Z, 0, keepdim=True)],
    "nanmedian": lambda t, Z, **_: [Z.nanmedian(), *Z.nanmedian(1), *Z.nanmedian(0, True)],
    "kthvalue": lambda t, X, **_: [*X.kthvalue(2), *t.kthvalue(X, 3, 0, keepdim=True)],
    "mode": lambda t, L, X, **_: [*L.mode(), *X.round().mode(0), *X.round().mode(1, keepdim=True)],
    "msort": lambda t, X, **_: [X.msort()],
    "quantile": lambda t, X, Z, **_: [
        X.quantile(0.3), X.quantile(0.61, dim=1), X.quantile(t.tensor([0.1, 0.9]).double(), 0),
        X.quantile(0.5, keepdim=True), X.quantile(t.tensor([0.2]).double(), 1, True),
        Z.quantile(0.3, 1), Z.nanquantile(0.3, 1), Z.nanquantile(0.7),
        t.nanquantile(Z, 0.2, 0, True),
    ],
    "interpolations": lambda t, X, **_: [
        X.quantile(0.4, 1, interpolation=way)
        for way in ("lower", "higher", "nearest", "midpoint", "linear")
    ],
    "cov": lambda t, X, L, **_: [
        X.cov(), L.cov(), X.cov(correction=0), X.corrcoef(), X[:1].cov(), X[:1].corrcoef()
    ],
    "dist": lambda t, X, Y, **_: [X.dist(Y), t.dist(X, Y, 1), X.dist(Y, math.inf)],
    "renorm": lambda t, X, **_: [X.renorm(2, 0, 1.0), X.renorm(1, 1, 1.5)],
    "histc": lambda t, X, L, **_: [
        X.detach().histc(4), L.detach().histc(5, 1, 2), t.histc(X.detach(), 3, -1, 1)
    ],
    "turned": lambda t, X, **_: [
        X.fliplr(), X.flipud(), X.rot90(), X.rot90(-1), X.rot90(2), t.rot90(X, 5, (1, 0))
    ],
    "tensor_split": lambda t, X, L, **_: [
        *X.tensor_split(3, 1), *L.tensor_split(2), *L.tensor_split((1, 3)), *X.hsplit(2),
        *X.vsplit(3), *L.hsplit([2]), *X.reshape(1, 3, 4).dsplit(2),
    ],
    "diagflat": lambda t, L, X, **_: [
        t.diag_embed(X, 1, 0, 2), X.diag_embed(-1, dim1=2, dim2=0), L.diagflat(1),
        X.view_as(X), X.view_as(X.reshape(12)),
    ],
    "products": lambda t, X, Y, L, **_: [
        X.inner(Y), L.vdot(L), L.ger(X[0]), X.kron(Y[:2]), L.kron(X), t.kron(X, L),
        X[:, 0].addmv(X, Y[0], beta=0.5, alpha=2), t.addr(X, X[:, 1], Y[0], alpha=3),
        X[:, :3].addbmm(t.stack([X, Y]), t.stack([Y.t(), X.t()]), beta=2),
    ],
    "atleast": lambda t, X, L, **_: [t.atleast_1d(X.sum()), t.atleast_2d(L), *t.atleast_3d(L, X)],
    "stacks": lambda t, X, Y, L, **_: [
        t.dstack([X, Y]), t.column_stack([L, L * 2]), t.row_stack([L, L]), t.column_stack([X, Y]),
        t.dstack([L, L]), t.block_diag(X, L, Y.sum()),
    ],
    "products_of_sets": lambda t, X, L, **_: [
        t.cartesian_prod(L, X[0]), t.cartesian_prod(L), t.combinations(L), t.combinations(L, 3),
        t.combinations(X[0], with_replacement=True),
    ],
    "search": lambda t, X, L, **_: [
        t.bucketize(X.detach(), t.tensor([-1.0, 0.0, 1.0]).double()),
        t.bucketize(t.tensor([1.0, 2.0]), t.tensor([1.0, 2.0, 3.0]), right=True),
        t.isin(L.detach(), t.tensor([1.0, 3.0]).double()),
        t.isin(L.detach(), t.tensor([1.0]).double(), invert=True),
        *t.unravel_index(t.tensor([5, 11]), (3, 4)),
    ],
    "cdist": lambda t, X, Y, **_: [
        t.cdist(X, Y), t.cdist(X, Y, p=1), t.cdist(X, Y, 3.0), t.cdist(X, Y, math.inf),
        t.cdist(X.reshape(3, 2, 2), Y.reshape(3, 2, 2)), t.cdist(X, X.detach()),
    ],
    "with_mean": lambda t, X, **_: [
        *t.std_mean(X), *t.var_mean(X, 1), *t.var_mean(X, dim=0, correction=0, keepdim=True),
        *t.std_mean(X, False),
    ],
    "trapezoid": lambda t, X, Y, **_: [
        t.trapezoid(X), t.trapezoid(X, dx=0.5, dim=0), t.trapezoid(X, Y), t.trapz(X, Y[0]),
    ],
    "vander": lambda t, L, **_: [
        t.vander(L.detach()), t.vander(L.detach(), 3),
        t.vander(L.detach(), 4, increasing=True),
    ],
    "cross": lambda t, X, Y, **_: [t.cross(X, Y, 0), t.cross(X[:, :3], Y[:, :3])],
}  # fmt: skip


def run(lib, name):
    """All values of a case, and the gradients of all inputs of a weighted sum."""
    given = {k: lib.tensor(v).requires_grad_() for k, v in INPUTS.items()}
    found = CASES[name](lib, **given)
    weigh = np.random.default_rng(3).normal
    total = 0
    for t in found:
        if t.requires_grad:
            total = total + (t * lib.tensor(weigh(size=tuple(t.shape)))).nan_to_num(0.0).sum()
    if isinstance(total, type(found[0])):
        total.backward()
    values = [t.detach().numpy().reshape(-1) for t in found]
    grads = [np.zeros(0) if x.grad is None else x.grad.numpy().reshape(-1) for x in given.values()]
    sizes = [n for t in found for n in (t.ndim, *t.shape)]
    return {"values": np.concatenate(values), "grads": np.concatenate(grads), "shapes": sizes}


RUNS = {name: (run, name) for name in CASES}
