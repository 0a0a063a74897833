"""Every gradient of the registry by finite differences, to second order; composites; kinks."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.engine.tensor import apply
from lazygrad.ops import all_ops
from lazygrad.testing import gradcheck, gradgradcheck

OPS = [op for op in all_ops() if op.vjp is not None and op.samples is not None]
# Their gradient is zero: no second one.
STEPS = {"sign", "floor", "ceil", "trunc", "round", "div_floor", "div_trunc"}


def inputs(sample):
    """Floating operands require a gradient."""
    return [lg.tensor(a, requires_grad=a.dtype.kind == "f") for a in sample.arrays]


def samples(op, seed=3):
    return [s for s in op.samples(np.random.default_rng(seed)) if s.arrays[0].size]


def applied(op, attrs):
    """The op as a function; what is a symmetric matrix stays one under small changes."""

    def function(*operands):
        given = [(x + x.mT) * 0.5 for x in operands] if op.symmetric else operands
        return apply(op, *given, **wide(attrs))

    return function


def wide(attrs):
    """The same attributes, casts to float64."""
    return {k: lg.float64 if k == "dtype" else v for k, v in attrs.items()}


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_first_order(op):
    for sample in samples(op):
        gradcheck(applied(op, sample.attrs), inputs(sample))


@pytest.mark.parametrize("op", [op for op in OPS if op.name not in STEPS], ids=lambda op: op.name)
def test_second_order(op):
    for sample in samples(op)[:2]:
        gradgradcheck(applied(op, sample.attrs), inputs(sample))


def put(x, key, value):
    y = x + 0
    y[key] = value
    return y


ROWS = np.array([2, 0, 2])
COMPOSITES = {
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(0),
    "logsumexp": lambda x: x.logsumexp((0, 1)),
    "mean": lambda x: x.mean(0),
    "var": lambda x: x.var(1),
    "std": lambda x: x.std(),
    "norm": lambda x: x.norm(dim=1),
    "norm_3": lambda x: x.norm(3, dim=0),
    "max_dim": lambda x: x.max(1).values,
    "min_dim": lambda x: x.min(0, keepdim=True).values,
    "sort": lambda x: x.sort(1, descending=True).values,
    "topk": lambda x: x.topk(2).values,
    "median": lambda x: x.median(),
    "gelu": lambda x: x.gelu(),
    "gelu_tanh": lambda x: x.gelu("tanh"),
    "silu": lambda x: x.silu(),
    "softplus": lambda x: x.softplus(beta=2.0),
    "pow_tensor": lambda x: (x * x + 1) ** x,
    "clamp": lambda x: x.clamp(-1.0, 1.0),
    "lerp": lambda x: x.lerp(x * x, 0.3),
    "logaddexp": lambda x: x.logaddexp(x.flip(1)),
    "cumprod": lambda x: (x + 3).cumprod(1),
    "matmul_1d": lambda x: x @ x[0],
    "matmul_nd": lambda x: x.reshape(3, 2, 2) @ x.reshape(2, 6)[:, :3],
    "einsum": lambda x: lg.einsum("ij,kj,ik->i", x, x, x @ x.T),
    "einsum_diagonal": lambda x: lg.einsum("ii->i", x @ x.T),
    "outer": lambda x: x[0].outer(x[1]),
    "tril": lambda x: x.tril(),
    "diag": lambda x: x[0].diag(1),
    "diagonal": lambda x: x.diagonal(-1),
    "pad": lambda x: x.pad((1, -1)),
    "roll": lambda x: x.roll(1, 1),
    "repeat": lambda x: x.repeat(2, 2),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 0),
    "unfold": lambda x: x.unfold(1, 2, 1),
    "cat": lambda x: lg.cat([x, x * x], 1),
    "stack": lambda x: lg.stack([x, x.exp()], -1),
    "index": lambda x: x[ROWS] * x[1:, ::-1][:, [0, 1, 1, 3]].sum(),
    "index_pair": lambda x: x[ROWS, [0, 1, 0]],
    "mask": lambda x: x[x > 0],
    "take_along": lambda x: x.take_along_dim(lg.tensor(ROWS[None, :]), 1),
    "scatter_add": lambda x: x.scatter_add(1, lg.tensor([[0, 0], [1, 3]]), x[:2, 1:3] ** 2),
    "index_add": lambda x: x.index_add(0, lg.tensor([1, 1]), x[:2].exp()),
    "setitem": lambda x: put(x, (slice(None), 1), x[:, 0] * 2),
    "setitem_rows": lambda x: put(x, [2, 0], x[1] ** 2),
    "setitem_mask": lambda x: put(x, x.detach() > 0, x.sum()),
    "where": lambda x: lg.where(x > 0, x.exp(), x * x),
    "nan_to_num": lambda x: x.nan_to_num(),
    "expand": lambda x: x[:, None].expand(3, 2, 4) * 2,
    "unbind": lambda x: x.unbind(1)[2],
    "masked_select": lambda x: x.masked_select(x > 0, size=5, fill_value=2.0),
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_composite(name):
    x = lg.tensor(np.random.default_rng(5).uniform(-2, 2, (3, 4)), requires_grad=True)
    gradcheck(COMPOSITES[name], x)
    gradgradcheck(COMPOSITES[name], x)


def gradient(fn, *values):
    """The gradient of the sum of fn, as lists."""
    leaves = [lg.tensor(v, dtype=lg.float64, requires_grad=True) for v in values]
    found = lg.grad(fn(*leaves).sum(), leaves, allow_unused=True)
    return [None if g is None else g.tolist() for g in found]


# Where a function has no derivative the choice is PyTorch's.
KINKS = {
    "relu": (lambda x: x.relu(), [[-1.0, 0.0, 2.0]], [[0, 0, 1]]),
    "abs": (lambda x: x.abs(), [[-1.0, 0.0]], [[-1, 0]]),
    "maximum": (lambda x, y: x.maximum(y), [[1.0, 2.0], [1.0, 5.0]], [[0.5, 0], [0.5, 1]]),
    "minimum": (lambda x, y: x.minimum(y), [[1.0, 2.0], [1.0, 5.0]], [[0.5, 1], [0.5, 0]]),
    "clamp": (lambda x: x.clamp(-1, 1), [[-2.0, -1.0, 0.0, 1.0, 2.0]], [[0, 1, 1, 1, 0]]),
    "clamp_nan": (lambda x: x.clamp(-1, 1), [[np.nan]], [[0]]),
    "pow_literal_0": (lambda x: x**0, [[0.0, 2.0]], [[0, 0]]),
    "logaddexp_of_equals": (
        lambda x, y: x.logaddexp(y),
        [[1.0, -7.0], [1.0, -7.0]],
        [[0.5, 0.5], [0.5, 0.5]],
    ),
    "clamp_bounds": (
        lambda x, low, high: x.clamp(low, high),
        [[-2.0, 0.0, 3.0], [-1.0] * 3, [1.0] * 3],
        [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    ),
    "max_all": (lambda x: x.max(), [[2.0, 1.0, 2.0]], [[0.5, 0, 0.5]]),
    "amin": (lambda x: x.amin(0), [[2.0, 1.0, 1.0]], [[0, 0.5, 0.5]]),
    "max_dim": (lambda x: x.max(0).values, [[1.0, 2.0, 2.0]], [[0, 1, 0]]),
    "norm_at_0": (lambda x: x.norm(), [[0.0, 0.0]], [[0, 0]]),
    "std_of_equals": (lambda x: x.std(), [[3.0, 3.0]], [[0, 0]]),
    "sqrt_at_0": (lambda x: x.sqrt(), [[0.0]], [[np.inf]]),
    "pow_0": (lambda x: x.pow(lg.tensor([0.0, 2.0])), [[0.0, 0.0]], [[0, 0]]),
    "pow_of_0": (lambda y: lg.pow(0.0, y), [[0.0, 2.0]], [[0, 0]]),
    "prod_one_0": (lambda x: x.prod(), [[0.0, 2.0, 3.0]], [[6, 0, 0]]),
    "prod_two_0": (lambda x: x.prod(), [[0.0, 0.0, 3.0]], [[0, 0, 0]]),
    "steps": (lambda x: x.floor() + x.sign() + x.round(), [[0.3, -1.0]], [[0, 0]]),
    "softplus_large": (lambda x: x.softplus(), [[-800.0, 800.0]], [[0, 1]]),
    "where_nan": (
        lambda x: lg.where(x > 0, x, 0.0) + x.nan_to_num(),
        [[np.nan, 1.0]],
        [[0, 2]],
    ),
    "index_twice": (lambda x: x[[0, 0, 1]], [[1.0, 2.0]], [[2, 1]]),
    "copysign": (lambda x: x.copysign(-1.0), [[2.0, -2.0]], [[-1, 1]]),
    "remainder": (lambda x, y: x % y, [[5.5], [2.0]], [[1], [-2]]),
    "cast": (lambda x: x.float().double(), [[1.0]], [[1]]),
}


@pytest.mark.parametrize("name", KINKS)
def test_kink(name):
    fn, values, expected = KINKS[name]
    assert gradient(fn, *values) == expected


def test_no_gradient_through_integers():
    x = lg.tensor([1.5, 2.5], requires_grad=True)
    assert not x.long().requires_grad
    assert not x.argmax().requires_grad
    assert not (x > 2).requires_grad
    assert not (x // 1).requires_grad


def test_logsumexp_of_infinities():
    assert gradient(lambda x: x.logsumexp(0), [-np.inf, 0.0]) == [[0, 1]]
    assert lg.tensor([-np.inf, -np.inf]).logsumexp(0).item() == -np.inf
    assert lg.tensor([np.inf, 0.0]).logsumexp(0).item() == np.inf


def test_cross_entropy_by_a_mask_of_positions():
    """The loss with class indices needs no gather: the classes are compared with 0, 1, 2, ..."""
    labels = lg.tensor([2, 0, 1])
    x = lg.tensor(np.random.default_rng(1).normal(size=(3, 4)), requires_grad=True)

    def loss(x):
        return -(x.log_softmax(1) * lg.one_hot(labels, 4)).sum() / 3

    gradcheck(loss, x)
    (g,) = lg.grad(loss(x), [x])
    expected = (x.softmax(1) - lg.one_hot(labels, 4)) / 3
    np.testing.assert_allclose(g.numpy(), expected.numpy(), atol=1e-15)


def test_gradients_that_are_zero_everywhere_are_there() -> None:
    """Values of PyTorch 2.13."""
    for mode, quotients in (("floor", [0.0, float("inf"), -3.0]), ("trunc", [0.0, np.inf, -2.0])):
        x = lg.tensor([1.0, 5.0, -5.0], requires_grad=True)
        y = lg.tensor([2.0, 0.0, 2.0], requires_grad=True)
        out = x.div(y, rounding_mode=mode)
        assert out.tolist() == quotients
        out.sum().backward()
        assert x.grad.tolist() == y.grad.tolist() == [0.0] * 3
    x = lg.tensor([2.0, 0.0, np.nan], requires_grad=True)
    count = x.norm(p=0)
    assert count.item() == 2.0
    count.backward()
    assert x.grad is not None and x.grad.tolist() == [0.0] * 3
    y = lg.tensor([-1.0, 2.0], requires_grad=True)
    lg.copysign(lg.ones(2), y).sum().backward()
    assert y.grad is not None and y.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_the_gradient_of_an_extreme_that_is_nan_is_nan(name: str) -> None:
    x = lg.tensor([[1.0, np.nan, 2.0], [1.0, 1.0, 1.0]], requires_grad=True)
    getattr(x, name)(1).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[np.nan] * 3, [1 / 3] * 3])
