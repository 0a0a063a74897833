"""The gradient checker: passes what is right, and shows where what is wrong is wrong."""

from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.errors import ArgumentError
from lazygrad.testing import GradcheckError, gradcheck, gradgradcheck


def leaf(*shape: int, seed: int = 0) -> lg.Tensor:
    return lg.tensor(np.random.default_rng(seed).uniform(-2, 2, shape), requires_grad=True)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize(
    "fn",
    [
        lambda x, y: (x @ y).tanh(),
        lambda x, y: (x * 2, y.exp().sum()),
        lambda x, y: x.softmax(dim=1).T.reshape(-1),
        lambda x, y: [x.sum(dim=0) + y[:, 0], (x * x).mean(), x.flip(0)[None]],
    ],
)
def test_right_gradients_pass(check: Any, fn: Any) -> None:
    assert check(fn, (leaf(3, 4), leaf(4, 3, seed=1)))


def test_other_arguments_are_passed_on() -> None:
    x = leaf(3)
    assert gradcheck(lambda x, k, t: x * k * t, (x, 2.0, lg.tensor([1.0, 2.0, 3.0])))
    assert gradcheck(lambda x, n: (x**3).detach() * 0 + x**n, [x, 2])


def test_shapes_at_the_edge() -> None:
    for shape in ((), (0,), (0, 3), (1,), (1, 1)):
        assert gradcheck(lambda x: x.sin(), leaf(*shape))
        assert gradgradcheck(lambda x: x.sin(), leaf(*shape))


def test_a_report_lists_the_worst_elements() -> None:
    def wrong(x: lg.Tensor) -> lg.Tensor:
        return x * x.detach()  # the gradient is half of what it should be

    with pytest.raises(GradcheckError) as caught:
        gradcheck(wrong, (leaf(2, 3),))
    text = str(caught.value)
    assert "the gradient of input 0 (2, 3) is wrong in 6 of 6 elements" in text
    assert "position" in text and "(0, 2)" in text and " 0.5" in text
    assert not gradcheck(wrong, (leaf(2, 3),), raise_exception=False)


def test_only_what_is_wrong_is_listed() -> None:
    def wrong(x: lg.Tensor) -> lg.Tensor:
        mask = lg.tensor([0.0, 0.0, 1.0], dtype=lg.float64)
        return x * x * (1 - mask) + x * x.detach() * mask

    with pytest.raises(GradcheckError, match=r"wrong in 1 of 3") as caught:
        gradcheck(wrong, leaf(3))
    assert "(2,)" in str(caught.value) and "(0,)" not in str(caught.value)


def test_a_wrong_second_derivative_is_found() -> None:
    def half(x: lg.Tensor) -> lg.Tensor:
        return x**3 / 2 + (x.detach() ** 3) / 2

    assert not gradcheck(half, leaf(3), raise_exception=False)
    with pytest.raises(GradcheckError):
        gradgradcheck(lambda x: x * (x.detach() ** 2), leaf(3))


def test_kinks() -> None:
    x = lg.tensor([0.0, 1.5, -0.5], dtype=lg.float64, requires_grad=True)
    with pytest.raises(GradcheckError, match=r"\(a kink\)\n.*skip_kinks=True"):
        gradcheck(lambda x: x.relu(), x)
    assert gradcheck(lambda x: x.relu(), x, skip_kinks=True)
    assert gradcheck(lambda x: x.abs(), x)  # the gradient at 0 is that of the central difference
    with pytest.raises(GradcheckError):  # a kink excuses nothing elsewhere
        gradcheck(lambda x: x.relu() + x * x.detach(), x, skip_kinks=True)


def test_functions_that_differ_between_calls() -> None:
    with pytest.raises(GradcheckError, match="differs between two calls"):
        gradcheck(lambda x: x * lg.rand(3, dtype=lg.float64), leaf(3))


def test_bad_arguments() -> None:
    with pytest.raises(ArgumentError, match=r"input 0 is lazygrad\.float32.*x\.double\(\)"):
        gradcheck(lambda x: x, lg.ones(2, requires_grad=True))
    with pytest.raises(ArgumentError, match="no input requires grad"):
        gradcheck(lambda x: x, lg.ones(2))
    with pytest.raises(ArgumentError, match="no output depends"):
        gradcheck(lambda x: x.detach(), leaf(2))
    with pytest.raises(ArgumentError, match="output 0 is a ndarray"):
        gradcheck(lambda x: [x.numpy()], leaf(2))


def test_gradients_of_leaves_are_left_alone() -> None:
    x = leaf(3)
    gradcheck(lambda x: x.sin(), x)
    assert x.grad is None


def test_captured_functions() -> None:
    assert gradcheck(lg.compute_graph(lambda x: (x.sin() * x).sum()), leaf(4))


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_tolerances(size: float) -> None:
    x = lg.tensor(np.array([size]), requires_grad=True)
    assert gradcheck(lambda x: x * x, x)
    assert not gradcheck(lambda x: x * x * 1.01 - (x * x).detach() * 0 + _off(x), x, **_loose())


def _off(x: lg.Tensor) -> lg.Tensor:
    return x.detach() * x * 0.5


def _loose() -> dict[str, Any]:
    return {"raise_exception": False}
