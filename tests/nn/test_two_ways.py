"""Functions with two gradients: derived from the operations, and written by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import ArgumentError
from lazygrad.nn.functional.two_ways import TWO_WAYS

F = nn.functional
RNG = np.random.default_rng(0)
Case = tuple[str, Callable[..., lg.Tensor], list[Any]]


def draw(*shape: int) -> Any:
    return RNG.standard_normal(shape)


LABELS = lg.tensor([2, 0, 1, -100])
CASES: list[Case] = [
    ("relu", F.relu, [draw(3, 4)]),
    ("sigmoid", F.sigmoid, [draw(3, 4)]),
    ("tanh", F.tanh, [draw(3, 4)]),
    ("leaky_relu", lambda x, auto: F.leaky_relu(x, 0.2, auto=auto), [draw(3, 4)]),
    ("silu", F.silu, [draw(3, 4)]),
    ("gelu", F.gelu, [draw(3, 4)]),
    ("gelu", lambda x, auto: F.gelu(x, "tanh", auto=auto), [draw(3, 4)]),
    ("relu_squared", F.relu_squared, [draw(3, 4)]),
    ("softmax", lambda x, auto: F.softmax(x, 1, auto=auto), [draw(3, 4, 2)]),
    ("log_softmax", lambda x, auto: F.log_softmax(x, -1, auto=auto), [draw(3, 4)]),
    ("cross_entropy", lambda x, auto: F.cross_entropy(x, LABELS, auto=auto), [draw(4, 3)]),
    (
        "cross_entropy",
        lambda x, auto: F.cross_entropy(x, LABELS, label_smoothing=0.1, auto=auto),
        [draw(4, 3)],
    ),
    ("squared_error", F.mse_loss, [draw(3, 4), draw(3, 4)]),
    ("normalization", lambda x, w, b, auto: F.layer_norm(x, (4,), w, b, auto=auto),
     [draw(2, 3, 4), draw(4), draw(4)]),
    ("normalization", lambda x, auto: F.layer_norm(x, (3, 4), auto=auto), [draw(2, 3, 4)]),
    ("normalization", lambda x, w, auto: F.rms_norm(x, (4,), w, auto=auto),
     [draw(2, 3, 4), draw(4)]),
    ("normalization", lambda x, w, b, auto: F.batch_norm(x, None, None, w, b, True, auto=auto),
     [draw(5, 3, 2), draw(3), draw(3)]),
    ("linear", F.linear, [draw(2, 3, 4), draw(5, 4), draw(5)]),
    ("linear", F.linear, [draw(4), draw(5, 4)]),
]  # fmt: skip


def derivatives(fn: Callable[..., lg.Tensor], arrays: list[Any], captured: bool) -> list[Any]:
    """The value, the gradients along a direction, and the gradients of these along another."""
    rng = np.random.default_rng(1)
    leaves = [lg.tensor(a, requires_grad=True) for a in arrays]
    y = (lg.compute_graph(fn) if captured else fn)(*leaves)
    first = lg.grad(y, leaves, lg.tensor(rng.standard_normal(y.shape)), create_graph=True)
    along = [lg.tensor(rng.standard_normal(g.shape)) for g in first if g is not None]
    total = sum((g * v).sum() for g, v in zip(first, along, strict=True) if g is not None)
    assert isinstance(total, lg.Tensor)
    second = lg.grad(total, leaves, allow_unused=True) if total.requires_grad else ()
    zero = [0.0 if g is None else g.numpy() for g in second]
    return [y.numpy(), *(g.numpy() for g in first if g is not None), *zero]


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("case", CASES, ids=[name for name, _, _ in CASES])
def test_both_gradients_are_equal_to_second_order(case: Case, captured: bool) -> None:
    _, fn, arrays = case
    derived, own = (
        derivatives(lambda *xs, a=auto: fn(*xs, auto=a), arrays, captured) for auto in (True, False)
    )
    derived += [0.0] * (len(own) - len(derived))  # a second derivative that is no node at all
    own += [0.0] * (len(derived) - len(own))
    for a, b in zip(derived, own, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12)


def test_every_function_with_two_gradients_is_among_the_cases() -> None:
    assert set(TWO_WAYS) <= {name for name, _, _ in CASES}


def kept(fn: Callable[..., lg.Tensor], auto: bool) -> int:
    """Bytes that a forward leaves behind for its backward, of an inner value of 40 kB."""
    with lg.Graph() as graph:
        loss = fn(lg.ones(100, 100, requires_grad=True) * 0.5, auto=auto).sum()
        loss.item()
        return sum(v.nbytes for v in graph.values.values() if isinstance(v, np.ndarray))


SCALE = nn.Parameter(np.ones(100, np.float32))
KEPT: dict[str, tuple[Callable[..., lg.Tensor], float, float]] = {  # in values of that size
    "sigmoid": (F.sigmoid, 2, 1),
    "tanh": (F.tanh, 2, 1),
    "silu": (F.silu, 2, 1),
    "gelu": (F.gelu, 3, 1),
    "gelu by tanh": (lambda x, auto: F.gelu(x, "tanh", auto=auto), 3, 1),
    "softmax": (lambda x, auto: F.softmax(x, -1, auto=auto), 2, 1),
    "layer norm": (lambda x, auto: F.layer_norm(x, (100,), SCALE, auto=auto), 2, 1),
    "rms norm": (lambda x, auto: F.rms_norm(x, (100,), SCALE, auto=auto), 2, 1),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_rule_keeps_less_than_what_is_derived(name: str) -> None:
    fn, derived, own = KEPT[name]
    assert kept(fn, False) <= (own + 0.05) * 40_000
    assert kept(fn, True) >= derived * 40_000


@pytest.mark.compiled
@pytest.mark.parametrize("function", [F.silu, F.gelu, F.softmax, F.log_softmax, F.relu_squared])
def test_the_plan_of_a_step_shows_what_is_saved(function: Callable[..., lg.Tensor]) -> None:
    """Those whose own rule is the default, because a whole step needs less memory with it."""

    def arena(auto: bool | None) -> int:
        a, b = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        settings = {"dim": -1} if "softmax" in function.__name__ else {}

        @lg.compute_graph
        def step(x: lg.Tensor) -> Any:
            loss = b(function(a(x), auto=auto, **settings)).sum()
            return loss, lg.grad(loss, [a.weight, b.weight])

        lg.realize(step(lg.ones(64, 64)))
        assert "erf" in step.explain() or function is not F.gelu
        return int(step.memory_plan().arena_bytes)

    assert arena(False) < arena(True)
    assert arena(None) == arena(False)


MODULES: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "GELU": (nn.GELU, "MulBackward", "GeluBackward"),
    "Softmax": (lambda: nn.Softmax(-1), "DivBackward", "SoftmaxBackward"),
    "LayerNorm": (lambda: nn.LayerNorm(4), "AddBackward", "NormalizationBackward"),
    "RMSNorm": (lambda: nn.RMSNorm(4), "MulBackward", "NormalizationBackward"),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), "AddBackward", "NormalizationBackward"),
    "Linear": (lambda: nn.Linear(4, 4), "AddBackward", "LinearBackward"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_layer_has_the_choice_as_an_attribute(name: str) -> None:
    make, derived, own = MODULES[name]
    layer = make()
    x = lg.randn(3, 4, requires_grad=True)
    found = []
    for auto in (True, False):
        layer.auto = auto
        found.append(repr(layer(x).grad_fn))
    lg.realize(*layer.buffers())
    assert found == [f"<{derived}>", f"<{own}>"]


def test_a_captured_function_sees_the_choice_change() -> None:
    layer = nn.GELU()
    fn = lg.compute_graph(lambda x: lg.grad(layer(x).sum(), x)[0])
    x = lg.randn(3, requires_grad=True)
    fn(x)
    layer.auto = True
    fn(x)
    assert fn.cache_info().misses == 2


def test_a_choice_that_is_none() -> None:
    with pytest.raises(ArgumentError, match="auto must be True, False or None, got 'yes'"):
        F.gelu(lg.ones(2), auto="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("auto", [True, False])
@pytest.mark.parametrize("function", [F.relu_squared, F.gelu, F.softmax])
def test_under_autocast(function: Callable[..., lg.Tensor], auto: bool) -> None:
    settings = {"dim": -1} if function is F.softmax else {}
    w = nn.Parameter(np.eye(4, dtype=np.float32))
    x = lg.tensor(np.array([[-1.0, 0.5, 1.0, 2.0]], np.float32), requires_grad=True)
    with lg.autocast("cpu"):
        y = function(x @ w, auto=auto, **settings)
    assert y.dtype is (lg.bfloat16 if function is F.gelu else lg.float32)
    (y * y).sum().backward()
    expected = lg.tensor(x.detach().numpy(), requires_grad=True)
    (function(expected, **settings) ** 2).sum().backward()
    assert x.grad is not None and expected.grad is not None
    assert x.grad.dtype is lg.float32
    np.testing.assert_allclose(x.grad.numpy(), expected.grad.numpy(), rtol=0.05, atol=0.02)
