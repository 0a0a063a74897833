"""Functions with a gradient of their own: what flows, at which order, and what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.engine.program import CACHE
from lazygrad.errors import CaptureError, DTypeError, GradientError, ShapeError
from lazygrad.testing import gradcheck, gradgradcheck


@lg.custom_vjp
def scaled(x: lg.Tensor, y: lg.Tensor) -> lg.Tensor:
    """x * y, with ten times its gradient: so that it is seen which rule was taken."""
    return x * y


scaled.defvjp(lambda x, y: (x * y, (x, y)), lambda xy, g: (10 * g * xy[1], 10 * g * xy[0]))


@lg.custom_vjp
def softmax(x: lg.Tensor) -> lg.Tensor:
    """Along the last axis; its gradient reads the result only."""
    e = (x - x.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


def _softmax_forward(x: lg.Tensor) -> Any:
    y = softmax(x)  # within its own forward it is the plain function
    return y, y


softmax.defvjp(_softmax_forward, lambda y, g: (y * (g - (g * y).sum(-1, keepdim=True)),))


def leaf(*values: float, dtype: Any = lg.float64) -> lg.Tensor:
    return lg.tensor(list(values), dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("captured", [False, True])
def test_the_gradient_is_what_the_rule_says(captured: bool) -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 5.0)
    fn = lg.compute_graph(scaled) if captured else scaled
    for _ in range(3):  # traced, joined with its backward, replayed
        x.grad = y.grad = None
        out = fn(x, y)
        out.sum().backward()
        assert out.tolist() == [3.0, 10.0]
        assert x.grad is not None and x.grad.tolist() == [30.0, 50.0]
        assert y.grad is not None and y.grad.tolist() == [10.0, 20.0]


def test_a_whole_captured_step_uses_it() -> None:
    w = lg.nn.Parameter([1.0, 2.0])
    optimizer = lg.optim.SGD([w], lr=0.1)

    @lg.compute_graph
    def step(x: lg.Tensor) -> lg.Tensor:
        optimizer.zero_grad()
        loss = scaled(x, w).sum()
        loss.backward()
        optimizer.step()
        return loss

    assert [step(lg.ones(2)).item() for _ in range(3)] == [3.0, 1.0, -1.0]
    assert w.tolist() == [-2.0, -1.0]


@pytest.mark.parametrize("captured", [False, True])
def test_both_orders_against_finite_differences(captured: bool) -> None:
    x = lg.tensor(np.random.default_rng(0).standard_normal((3, 4)), requires_grad=True)
    fn = lg.compute_graph(softmax) if captured else softmax
    assert gradcheck(fn, x)
    assert gradgradcheck(fn, x)


def test_a_residual_that_is_a_result_follows_the_rule_again() -> None:
    @lg.custom_vjp
    def exp(x: lg.Tensor) -> lg.Tensor:
        return x.exp()

    def forward(x: lg.Tensor) -> Any:
        y = x.exp()
        return y, y

    exp.defvjp(forward, lambda y, g: (10 * g * y,))
    for fn in (exp, lg.compute_graph(exp)):
        x = leaf(0.0)
        value = fn(x)
        for factor in (10.0, 100.0, 1000.0):
            (value,) = lg.grad(value.sum(), x, create_graph=True)
            assert value.tolist() == [factor]


def test_any_other_residual_follows_what_made_it() -> None:
    @lg.custom_vjp
    def cube(x: lg.Tensor) -> lg.Tensor:
        return x * x * x

    cube.defvjp(lambda x: (x * x * x, 3 * x * x), lambda slope, g: g * slope)
    for fn in (cube, lg.compute_graph(cube)):
        x = leaf(2.0)
        (first,) = lg.grad(fn(x).sum(), x, create_graph=True)
        (second,) = lg.grad(first.sum(), x, create_graph=True)
        assert (first.item(), second.item()) == (12.0, 12.0)
        assert lg.grad(second.sum(), x)[0].item() == 6.0


def test_containers_numbers_and_arguments_without_a_gradient() -> None:
    @lg.custom_vjp
    def mix(pair: dict[str, Any], labels: lg.Tensor, factor: float = 2.0) -> Any:
        return {"sum": pair["a"] + pair["b"][0], "count": labels + 1}

    def forward(pair: dict[str, Any], labels: lg.Tensor, factor: float) -> Any:
        return mix.fn(pair, labels, factor), (factor, None)

    def backward(residuals: Any, g: Any) -> Any:
        assert g["count"] is None  # integers have no gradient
        return {"a": g["sum"] * residuals[0], "b": [None]}, None, None

    mix.defvjp(forward, backward)
    pair = {"a": leaf(1.0), "b": [leaf(2.0)]}
    out = mix(pair, lg.tensor([3]), factor=7.0)
    assert out["count"].tolist() == [4]
    out["sum"].sum().backward()
    assert pair["a"].grad.item() == 7.0
    assert pair["b"][0].grad is None


def test_static_arguments_come_first() -> None:
    def total(axis: int, x: lg.Tensor) -> lg.Tensor:
        return x.sum(dim=axis)

    fn = lg.custom_vjp(total, nondiff_argnums=(0,))
    seen: list[int] = []

    def backward(axis: int, shape: Any, g: lg.Tensor) -> Any:
        seen.append(axis)
        return (10 * g.unsqueeze(axis).expand(shape),)

    fn.defvjp(lambda axis, x: (total(axis, x), x.shape), backward)
    for axis in (0, 1, 0):  # programs of one must not serve the other
        x = lg.ones(2, 3, requires_grad=True)
        y = fn(axis, x)
        assert y.tolist() == [2.0] * 3 if axis == 0 else [3.0] * 2
        y.sum().backward()
        assert x.grad is not None and (x.grad == 10).all().item()
    assert set(seen) == {0, 1}


def test_a_result_that_nobody_uses_has_a_zero_cotangent() -> None:
    @lg.custom_vjp
    def both(x: lg.Tensor) -> Any:
        return x * 2, x * 3

    both.defvjp(lambda x: ((x * 2, x * 3), None), lambda _, g: (g[0] * 2 + g[1] * 3,))
    x = leaf(1.0, 1.0)
    both(x)[1].sum().backward()
    assert x.grad is not None and x.grad.tolist() == [3.0, 3.0]


def test_an_argument_may_be_the_result_and_come_twice() -> None:
    @lg.custom_vjp
    def reverse(x: lg.Tensor, y: lg.Tensor) -> lg.Tensor:
        return x

    reverse.defvjp(lambda x, y: (x, None), lambda _, g: (-g, 3 * g))
    x = leaf(1.0)
    (reverse(x, x) + x).sum().backward()
    assert x.grad is not None and x.grad.item() == 3.0  # -1 + 3 + 1


@pytest.mark.parametrize("realized", [False, True])
def test_a_gradient_that_nobody_has_read_sees_what_was_there(realized: bool) -> None:
    x, w = leaf(1.0, 2.0), lg.nn.Parameter(np.array([3.0, 5.0]))
    loss = scaled(x, w).sum()
    if realized:
        loss.item()
    loss.backward()
    w.data = np.zeros(2)
    assert x.grad is not None and x.grad.tolist() == [30.0, 50.0]


@pytest.mark.parametrize("keeps", [False, True])
def test_its_gradient_is_added_to_what_is_there(keeps: bool) -> None:
    fn = lg.custom_vjp(lambda x: x * 2)
    fn.defvjp(lambda x: (x * 2, x if keeps else None), lambda _, g: g * 20)
    x = leaf(1.0)
    early = x * 100
    (early + fn(x) + x).sum().backward()
    assert x.grad is not None and x.grad.item() == 121.0


def test_without_a_gradient_the_function_itself_runs() -> None:
    calls: list[str] = []

    @lg.custom_vjp
    def fn(x: lg.Tensor) -> lg.Tensor:
        calls.append("plain")
        return x * 2

    def forward(x: lg.Tensor) -> Any:
        calls.append("forward")
        return x * 2, None

    fn.defvjp(forward, lambda _, g: (g * 2,))
    fn(lg.ones(1))
    with lg.no_grad():
        assert not fn(leaf(1.0)).requires_grad
    assert fn(leaf(1.0)).requires_grad
    assert calls == ["plain", "plain", "forward"]


def test_it_is_shown_by_its_name() -> None:
    x = lg.ones(4, requires_grad=True)
    assert repr(softmax(x)).endswith("grad_fn=<SoftmaxBackward>)")


@pytest.mark.compiled
def test_it_costs_no_kernel() -> None:
    x = lg.ones(4, requires_grad=True)

    @lg.compute_graph
    def fn(x: lg.Tensor) -> lg.Tensor:
        return scaled(x + 1, x).relu()

    fn(x).realize()
    assert len(fn.program.kernels) == 1


def test_a_loop_finds_its_program_again() -> None:
    x = leaf(1.0, 2.0)
    misses = []
    for _ in range(4):
        x.grad = None
        scaled(x, x).sum().backward()
        assert x.grad is not None
        x.grad.realize()
        misses.append(CACHE.misses)
    assert misses[1:] == [misses[0]] * 3


def held(fn: Callable[[lg.Tensor], lg.Tensor]) -> int:
    """Bytes that a realized function of a thousand numbers keeps for its backward pass."""
    with lg.Graph() as graph:
        loss = fn(lg.ones(1000, requires_grad=True)).sum()
        loss.item()
        return sum(v.nbytes for v in graph.values.values() if isinstance(v, np.ndarray))


def test_inner_values_are_not_kept_for_a_rule_that_does_not_read_them() -> None:
    assert held(softmax) < held(softmax.fn)


def test_what_is_kept_depends_on_what_the_rule_does_with_its_arguments() -> None:
    def exp(reads: bool, x: lg.Tensor) -> lg.Tensor:
        return x.exp() * 2

    fn = lg.custom_vjp(exp, nondiff_argnums=[0])

    def forward(reads: bool, x: lg.Tensor) -> Any:
        y = x.exp()
        return y * 2, y

    fn.defvjp(forward, lambda reads, y, g: (g * y if reads else g,))
    assert held(lambda x: fn(False, x)) < held(lambda x: fn(True, x))


# what is refused -------------------------------------------------------------------------------


def wrong(bwd: Callable[..., Any], fwd: Callable[..., Any] | None = None) -> Callable[..., Any]:
    @lg.custom_vjp
    def shifted(x: lg.Tensor, y: lg.Tensor) -> lg.Tensor:
        return x + y

    shifted.defvjp(fwd or (lambda x, y: (x + y, (x, y))), bwd)
    return shifted


OUTSIDE = lg.ones(2, dtype=lg.float64)
REFUSED = {
    "count": (lambda r, g: (g,), GradientError, "one gradient .* 2 arguments, got 1"),
    "no tuple": (lambda r, g: g, GradientError, "2 arguments, got Tensor"),
    "shape": (lambda r, g: (g.sum(), g), ShapeError, r"argument 0 has shape \(\), the argument"),
    "dtype": (lambda r, g: (g, g.float()), DTypeError, "argument 1 is lazygrad.float32"),
    "number": (lambda r, g: (1.0, g), GradientError, "gave a float for argument 0"),
    "form": (lambda r, g: ([g], g), GradientError, "argument 0 has another form"),
    "closure": (lambda r, g: (g * OUTSIDE, g), GradientError, "neither a residual nor a cotangent"),
    "random": (lambda r, g: (g * lg.rand(2), g), GradientError, "neither a residual nor"),
    "value": (lambda r, g: (g * g.sum().item(), g), CaptureError, "a value is needed"),
}


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("case", REFUSED)
def test_a_backward_that_returns_something_else(case: str, captured: bool) -> None:
    bwd, error, text = REFUSED[case]
    fn = wrong(bwd)
    fn = lg.compute_graph(fn) if captured else fn
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    with pytest.raises(error, match=text) as caught:
        fn(x, y).sum().backward()
    assert "shifted" in str(caught.value) + "".join(getattr(caught.value, "__notes__", ()))
    assert x.grad is None and y.grad is None


def test_a_forward_that_returns_something_else() -> None:
    x = leaf(1.0, 2.0)
    for fwd, text in (
        (lambda x, y: x + y, r"shifted: fwd must return \(result, residuals\), got Tensor"),
        (lambda x, y: (3.0, None), "shifted: fwd must return tensors, its result has a float"),
        (lambda x, y: (x + y, np.ones(2)), "shifted: bwd reads a ndarray, which is no tensor"),
    ):
        with pytest.raises(GradientError, match=text):
            wrong(lambda r, g: (g, g), fwd)(x, x)


def test_a_parameter_that_is_no_argument_is_refused() -> None:
    layer = lg.nn.Linear(2, 2)
    fn = lg.custom_vjp(lambda x: layer(x))
    fn.defvjp(lambda x: (layer(x), None), lambda _, g: (g,))
    with pytest.raises(GradientError, match="no argument, so its gradient would be lost"):
        fn(lg.ones(1, 2, requires_grad=True))
    layer.requires_grad_(False)
    assert fn(lg.ones(1, 2, requires_grad=True)).requires_grad


def test_a_function_without_a_rule() -> None:
    @lg.custom_vjp
    def unfinished(x: lg.Tensor) -> lg.Tensor:
        return x

    with pytest.raises(GradientError, match=r"unfinished has no gradient yet: call unfinished\.de"):
        unfinished(leaf(1.0))
