"""Methods and functions against NumPy in float64, over the layouts that an operand can have."""

import math
import warnings

import numpy as np
import pytest

import lazygrad as lg

rng = np.random.default_rng(7)
REAL = rng.uniform(-2, 2, (4, 6))
POSITIVE = rng.uniform(0.5, 2, (4, 6))
UNIT = rng.uniform(-0.9, 0.9, (4, 6))
OTHER = rng.uniform(0.5, 2, (4, 6))
INTS = rng.integers(0, 4, (4, 6))


def erf(x):
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def softmax(x, axis):
    e = np.exp(x)
    return e / e.sum(axis, keepdims=True)


# name: (operand, with lazygrad, with NumPy)
CASES = {
    "add": (REAL, lambda x: x + 2.5, lambda x: x + 2.5),
    "rsub": (REAL, lambda x: 2 - x, lambda x: 2 - x),
    "rdiv": (POSITIVE, lambda x: 1 / x, lambda x: 1 / x),
    "rpow": (REAL, lambda x: 2**x, lambda x: 2**x),
    "rmod": (POSITIVE, lambda x: 5 % x, lambda x: 5 % x),
    "rfloordiv": (POSITIVE, lambda x: 5 // x, lambda x: 5 // x),
    "floordiv": (REAL, lambda x: x // 0.3, lambda x: x // 0.3),
    "mod": (REAL, lambda x: x % 0.3, lambda x: x % 0.3),
    "fmod": (REAL, lambda x: x.fmod(0.3), lambda x: np.fmod(x, 0.3)),
    "div_trunc": (
        REAL,
        lambda x: x.div(0.3, rounding_mode="trunc"),
        lambda x: np.trunc(x / 0.3),
    ),
    "pow2": (REAL, lambda x: x**2, lambda x: x * x),
    "pow_half": (POSITIVE, lambda x: x**0.5, lambda x: x**0.5),
    "pow_negative": (POSITIVE, lambda x: x**-2, lambda x: x**-2.0),
    "neg": (REAL, lambda x: -x, np.negative),
    "abs": (REAL, abs, np.abs),
    "exp": (REAL, lambda x: x.exp(), np.exp),
    "exp2": (REAL, lambda x: x.exp2(), np.exp2),
    "expm1": (REAL, lambda x: x.expm1(), np.expm1),
    "log": (POSITIVE, lambda x: x.log(), np.log),
    "log_base_2": (POSITIVE, lambda x: x.log(base=2), np.log2),
    "log_base_3": (POSITIVE, lambda x: x.log(base=3), lambda x: np.log(x) / np.log(3)),
    "log10": (POSITIVE, lambda x: x.log10(), np.log10),
    "log1p": (POSITIVE, lambda x: x.log1p(), np.log1p),
    "sqrt": (POSITIVE, lambda x: x.sqrt(), np.sqrt),
    "rsqrt": (POSITIVE, lambda x: x.rsqrt(), lambda x: 1 / np.sqrt(x)),
    "reciprocal": (POSITIVE, lambda x: x.reciprocal(), np.reciprocal),
    "square": (REAL, lambda x: x.square(), np.square),
    "sin": (REAL, lambda x: x.sin(), np.sin),
    "cos": (REAL, lambda x: x.cos(), np.cos),
    "tan": (UNIT, lambda x: x.tan(), np.tan),
    "asin": (UNIT, lambda x: x.asin(), np.arcsin),
    "acos": (UNIT, lambda x: x.arccos(), np.arccos),
    "atan": (REAL, lambda x: x.atan(), np.arctan),
    "sinh": (REAL, lambda x: x.sinh(), np.sinh),
    "cosh": (REAL, lambda x: x.cosh(), np.cosh),
    "tanh": (REAL, lambda x: x.tanh(), np.tanh),
    "asinh": (REAL, lambda x: x.asinh(), np.arcsinh),
    "acosh": (POSITIVE + 1, lambda x: x.acosh(), np.arccosh),
    "atanh": (UNIT, lambda x: x.atanh(), np.arctanh),
    "atan2": (REAL, lambda x: x.atan2(0.7), lambda x: np.arctan2(x, 0.7)),
    "logaddexp": (REAL, lambda x: x.logaddexp(0.7), lambda x: np.logaddexp(x, 0.7)),
    "copysign": (REAL, lambda x: x.copysign(-1.0), lambda x: np.copysign(x, -1.0)),
    "erf": (REAL, lambda x: x.erf(), erf),
    "sigmoid": (REAL, lambda x: x.sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    "softplus": (REAL, lambda x: x.softplus(), lambda x: np.log1p(np.exp(x))),
    "gelu": (REAL, lambda x: x.gelu(), lambda x: x * 0.5 * (1 + erf(x / np.sqrt(2)))),
    "gelu_tanh": (
        REAL,
        lambda x: x.gelu("tanh"),
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    "silu": (REAL, lambda x: x.silu(), lambda x: x / (1 + np.exp(-x))),
    "relu": (REAL, lambda x: x.relu(), lambda x: np.maximum(x, 0)),
    "sign": (REAL, lambda x: x.sign(), np.sign),
    "floor": (REAL, lambda x: x.floor(), np.floor),
    "ceil": (REAL, lambda x: x.ceil(), np.ceil),
    "trunc": (REAL, lambda x: x.trunc(), np.trunc),
    "frac": (REAL, lambda x: x.frac(), lambda x: x - np.trunc(x)),
    "round": (REAL * 4, lambda x: x.round(), np.round),
    "round_2": (REAL, lambda x: x.round(decimals=2), lambda x: np.round(x, 2)),
    "maximum": (REAL, lambda x: x.maximum(0.3), lambda x: np.maximum(x, 0.3)),
    "minimum": (REAL, lambda x: x.minimum(0.3), lambda x: np.minimum(x, 0.3)),
    "clamp": (REAL, lambda x: x.clamp(-1, 0.5), lambda x: np.clip(x, -1, 0.5)),
    "clamp_min": (REAL, lambda x: x.clamp(min=0.5), lambda x: np.maximum(x, 0.5)),
    "where": (REAL, lambda x: lg.where(x > 0, x, -1.0), lambda x: np.where(x > 0, x, -1.0)),
    "masked_fill": (REAL, lambda x: x.masked_fill(x > 0, 9), lambda x: np.where(x > 0, 9, x)),
    "lerp": (REAL, lambda x: x.lerp(lg.ones_like(x), 0.3), lambda x: x + 0.3 * (1 - x)),
    "compare": (REAL, lambda x: x <= 0.3, lambda x: x <= 0.3),
    "logical": (REAL, lambda x: (x > 0).logical_xor(x > 1), lambda x: (x > 0) ^ (x > 1)),
    "logical_not": (REAL, lambda x: x.logical_not(), np.logical_not),
    "bits": (INTS, lambda x: (x & 3) | (x ^ 5) | ~x, lambda x: (x & 3) | (x ^ 5) | ~x),
    "shifts": (INTS, lambda x: (x << 3) + (x >> 1), lambda x: (x << 3) + (x >> 1)),
    "sum": (REAL, lambda x: x.sum(), np.sum),
    "sum_axis": (REAL, lambda x: x.sum(axis=1, keepdims=True), lambda x: x.sum(1, keepdims=True)),
    "sum_dim": (REAL, lambda x: x.sum(dim=0), lambda x: x.sum(0)),
    "sum_axes": (REAL, lambda x: x.sum((0, -1)), lambda x: x.sum((0, 1))),
    "sum_ints": (INTS, lambda x: x.sum(0), lambda x: x.sum(0)),
    "mean": (REAL, lambda x: x.mean(), np.mean),
    "mean_axis": (REAL, lambda x: x.mean(-1), lambda x: x.mean(-1)),
    "prod": (REAL, lambda x: x.prod(1), lambda x: x.prod(1)),
    "amax": (REAL, lambda x: x.amax(), np.max),
    "amin": (REAL, lambda x: x.amin(0), lambda x: x.min(0)),
    "max_values": (REAL, lambda x: x.max(dim=1).values, lambda x: x.max(1)),
    "max_indices": (REAL, lambda x: x.max(1, True).indices, lambda x: x.argmax(1)[:, None]),
    "max_axis": (REAL, lambda x: x.max(axis=1, keepdims=True), lambda x: x.max(1, keepdims=True)),
    "min": (REAL, lambda x: x.min(), np.min),
    "min_values": (REAL, lambda x: x.min(0)[0], lambda x: x.min(0)),
    "any": (INTS > 2, lambda x: x.any(0), lambda x: x.any(0)),
    "all": (INTS > 0, lambda x: x.all(axis=1), lambda x: x.all(1)),
    "argmax": (INTS, lambda x: x.argmax(), lambda x: x.argmax()),
    "argmax_axis": (INTS, lambda x: x.argmax(axis=0), lambda x: x.argmax(0)),
    "argmin": (INTS, lambda x: x.argmin(1, keepdim=True), lambda x: x.argmin(1)[:, None]),
    "count_nonzero": (INTS, lambda x: x.count_nonzero(0), lambda x: np.count_nonzero(x, 0)),
    "var": (REAL, lambda x: x.var(1), lambda x: x.var(1, ddof=1)),
    "var_biased": (REAL, lambda x: x.var(unbiased=False), np.var),
    "std": (REAL, lambda x: x.std(0, keepdim=True), lambda x: x.std(0, ddof=1, keepdims=True)),
    "norm": (REAL, lambda x: x.norm(), np.linalg.norm),
    "norm_1": (REAL, lambda x: x.norm(1, dim=1), lambda x: np.linalg.norm(x, 1, axis=1)),
    "norm_inf": (REAL, lambda x: x.norm(math.inf, 0), lambda x: np.abs(x).max(0)),
    "norm_3": (REAL, lambda x: x.norm(3, dim=1), lambda x: np.linalg.norm(x, 3, axis=1)),
    "softmax": (REAL, lambda x: x.softmax(-1), lambda x: softmax(x, -1)),
    "log_softmax": (REAL, lambda x: x.log_softmax(dim=0), lambda x: np.log(softmax(x, 0))),
    "logsumexp": (REAL, lambda x: x.logsumexp(1), lambda x: np.log(np.exp(x).sum(1))),
    "cumsum": (REAL, lambda x: x.cumsum(1), lambda x: x.cumsum(1)),
    "cumprod": (REAL, lambda x: x.cumprod(0), lambda x: x.cumprod(0)),
    "sort": (REAL, lambda x: x.sort(0).values, lambda x: np.sort(x, 0)),
    "argsort": (INTS, lambda x: x.argsort(1), lambda x: np.argsort(x, 1, kind="stable")),
    "sort_down": (REAL, lambda x: x.sort(1, descending=True)[0], lambda x: -np.sort(-x, 1)),
    "topk": (REAL, lambda x: x.topk(3).values, lambda x: -np.sort(-x, 1)[:, :3]),
    "topk_small": (REAL, lambda x: x.topk(2, 0, largest=False)[0], lambda x: np.sort(x, 0)[:2]),
    "median": (REAL[:, :5], lambda x: x.median(1).values, lambda x: np.median(x, 1)),
    "reshape": (REAL, lambda x: x.reshape(3, -1), lambda x: x.reshape(3, -1)),
    "flatten": (REAL, lambda x: x.flatten(), np.ravel),
    "transpose": (REAL, lambda x: x.transpose(), np.transpose),
    "transpose_two": (REAL, lambda x: x.transpose(0, 1), np.transpose),
    "transpose_tuple": (REAL, lambda x: x.transpose((1, 0)), np.transpose),
    "permute": (REAL, lambda x: x.permute(1, 0), np.transpose),
    "squeeze": (REAL, lambda x: x[:, :1].squeeze(-1), lambda x: x[:, 0]),
    "unsqueeze": (REAL, lambda x: x.unsqueeze(1), lambda x: x[:, None]),
    "expand": (REAL, lambda x: x.expand(2, -1, -1), lambda x: np.stack([x, x])),
    "repeat": (REAL, lambda x: x.repeat(2, 1, 3), lambda x: np.tile(x, (2, 1, 3))),
    "tile": (REAL, lambda x: x.tile((2,)), lambda x: np.tile(x, 2)),
    "repeat_interleave": (
        REAL,
        lambda x: x.repeat_interleave(2, dim=1),
        lambda x: np.repeat(x, 2, 1),
    ),
    "flip": (REAL, lambda x: x.flip(0), lambda x: np.flip(x, 0)),
    "roll": (REAL, lambda x: x.roll(2, 1), lambda x: np.roll(x, 2, 1)),
    "roll_flat": (REAL, lambda x: x.roll(-5), lambda x: np.roll(x, -5)),
    "pad": (REAL, lambda x: x.pad((1, 2)), lambda x: np.pad(x, ((0, 0), (1, 2)))),
    "pad_pairs": (
        REAL,
        lambda x: x.pad(((1, 0), (0, 2)), value=3.0),
        lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=3.0),
    ),
    "pad_cut": (REAL, lambda x: x.pad((-1, 1)), lambda x: np.pad(x[:, 1:], ((0, 0), (0, 1)))),
    "diagonal": (REAL, lambda x: x.diagonal(1), lambda x: np.diagonal(x, 1)),
    "diag": (REAL[0], lambda x: x.diag(-1), lambda x: np.diag(x, -1)),
    "trace": (REAL, lambda x: x.trace(), np.trace),
    "tril": (REAL, lambda x: x.tril(1), lambda x: np.tril(x, 1)),
    "triu": (REAL, lambda x: x.triu(-1), lambda x: np.triu(x, -1)),
    "split": (REAL, lambda x: x.split(4, dim=1)[1], lambda x: x[:, 4:]),
    "chunk": (REAL, lambda x: x.chunk(3, 1)[2], lambda x: x[:, 4:]),
    "unbind": (REAL, lambda x: x.unbind(1)[3], lambda x: x[:, 3]),
    "movedim": (REAL, lambda x: x.unsqueeze(0).movedim(0, -1), lambda x: x[..., None]),
    "unfold": (
        REAL,
        lambda x: x.unfold(1, 3, 2),
        lambda x: np.lib.stride_tricks.sliding_window_view(x, 3, 1)[:, ::2],
    ),
    "gather": (
        REAL,
        lambda x: x.gather(1, lg.tensor([[0, 2], [1, 1]])),
        lambda x: np.take_along_axis(x[:2], np.array([[0, 2], [1, 1]]), 1),
    ),
    "take_along_dim": (
        REAL,
        lambda x: x.take_along_dim(x.argmin(1, keepdim=True), 1),
        lambda x: x.min(1, keepdims=True),
    ),
    "index_select": (REAL, lambda x: x.index_select(1, [3, 0]), lambda x: x[:, [3, 0]]),
    "masked_select": (REAL, lambda x: x.masked_select(x > 0), lambda x: x[x > 0]),
    "nonzero": (INTS, lambda x: x.nonzero(), np.argwhere),
    "matmul": (REAL, lambda x: x @ x.T, lambda x: x @ x.T.copy()),
    "matmul_vector": (REAL, lambda x: x @ x[0], lambda x: x @ x[0]),
    "vector_matmul": (REAL, lambda x: x[:, 0] @ x, lambda x: x[:, 0] @ x),
    "matmul_batch": (REAL, lambda x: x.reshape(2, 2, 6) @ x.T, lambda x: x.reshape(2, 2, 6) @ x.T),
    "outer": (REAL[0], lambda x: x.outer(x), lambda x: np.outer(x, x)),
    "dot": (REAL[0], lambda x: x.dot(x), lambda x: np.dot(x, x)),
    "isclose": (REAL, lambda x: x.isclose(x + 1e-9), lambda x: np.isclose(x, x + 1e-9)),
}  # fmt: skip


def layouts(x):
    """(name, function that makes a tensor equal to x through views)."""
    yield "whole", lambda: lg.tensor(x)
    yield "transposed", lambda: lg.tensor(x.T.copy()).transpose()
    yield "sliced", lambda: lg.tensor(np.repeat(x, 2, -1))[..., ::2]
    yield "negative", lambda: lg.tensor(np.flip(x, -1).copy()).flip(-1)
    yield "part", lambda: lg.tensor(np.pad(x, 1))[(slice(1, -1),) * x.ndim]


@pytest.mark.parametrize("name", CASES)
def test_against_numpy(name):
    x, ours, theirs = CASES[name]
    expected = np.asarray(theirs(x))
    for layout, make in layouts(x):
        result = ours(make())
        assert (result.shape, result.dtype.dtype) == (expected.shape, expected.dtype), layout
        np.testing.assert_allclose(result.numpy(), expected, 1e-12, 1e-14, err_msg=layout)


ELEMENTWISE_AND_REDUCTIONS = [
    "add", "exp", "relu", "sum", "sum_axis", "mean", "prod", "amax", "argmax", "softmax", "cumsum",
    "sort", "transpose", "flip", "any", "var", "norm", "reshape", "all", "argsort", "mean_axis",
]  # fmt: skip


@pytest.mark.parametrize("name", ELEMENTWISE_AND_REDUCTIONS)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
def test_both_raise_or_both_succeed(name, shape):
    x, ours, theirs = CASES[name]
    x = np.ones(shape, x.dtype)
    try:
        with warnings.catch_warnings(action="ignore"):
            expected = np.asarray(theirs(x))
    except (ValueError, IndexError):
        with pytest.raises((ValueError, IndexError)):
            ours(lg.tensor(x))
        return
    result = ours(lg.tensor(x))
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.numpy(), expected)


@pytest.mark.parametrize("name", ["add", "exp", "relu", "sum", "mean", "amax", "logsumexp", "erf"])
def test_zero_dimensions(name):
    _, ours, theirs = CASES[name]
    x = np.float64(0.75)
    if name == "logsumexp":
        result, expected = lg.tensor(x).logsumexp(0), 0.75
    else:
        result, expected = ours(lg.tensor(x)), theirs(x)
    assert result.shape == ()
    np.testing.assert_allclose(result.item(), expected, 1e-14)


@pytest.mark.parametrize("name", ["sum_dim", "mean", "softmax", "exp", "amax"])
def test_stride_zero(name):
    x, ours, theirs = CASES[name]
    row = x[:1]
    result = ours(lg.tensor(row).expand(4, 6))
    np.testing.assert_allclose(result.numpy(), theirs(np.broadcast_to(row, (4, 6))), 1e-12)
