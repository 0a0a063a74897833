"""Hooks of modules in the backward pass: what they get, replace, and when they are refused."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import ArgumentError, ArgumentTypeError, CaptureError, ShapeError


class Three(nn.Module):
    def forward(self, a: lg.Tensor, b: lg.Tensor, c: object = None) -> tuple[lg.Tensor, ...]:
        return a * 2, b * 3, a * b


def lists(grads: tuple[lg.Tensor | None, ...]) -> list[object]:
    return [None if g is None else g.tolist() for g in grads]


def test_hooks_get_one_gradient_for_each_argument_and_result() -> None:
    model, log = Three(), []
    model.register_full_backward_pre_hook(lambda m, out: log.append(lists(out)))
    model.register_full_backward_hook(lambda m, i, out: log.append((m, lists(i), lists(out))))
    a, b = lg.ones(2, requires_grad=True), lg.ones(2, requires_grad=True)
    model(a, b, 5)[0].sum().backward()
    came = [[1.0, 1.0], None, None]
    assert log == [came, (model, [[2.0, 2.0], [0.0, 0.0], None], came)]
    assert a.grad is not None and a.grad.tolist() == [2.0, 2.0]
    with lg.no_grad():
        assert not model(a, b)[0].requires_grad


def test_hooks_replace_gradients_until_they_are_removed() -> None:
    layer = nn.Linear(2, 1)
    x = lg.ones(1, 2, requires_grad=True)
    plain = lg.grad(layer(x).sum(), [x, layer.weight])
    first = layer.register_full_backward_pre_hook(lambda m, out: (out[0] * 3,))
    second = layer.register_full_backward_hook(lambda m, i, out: (i[0] * 5 + out[0],))
    found = lg.grad(layer(x).sum(), [x, layer.weight])
    np.testing.assert_allclose(found[0].numpy(), plain[0].numpy() * 15 + 3, rtol=1e-6)
    np.testing.assert_allclose(found[1].numpy(), plain[1].numpy() * 3)
    first.remove()
    second.remove()
    np.testing.assert_array_equal(lg.grad(layer(x).sum(), [x])[0].numpy(), plain[0].numpy())


def test_without_an_argument_that_requires_grad_the_hook_gets_none() -> None:
    layer, log = nn.Linear(2, 1), []
    handle = layer.register_full_backward_hook(lambda m, i, out: log.append((i, lists(out))))
    layer(lg.ones(1, 2)).sum().backward()
    assert log == [((None,), [[[1.0]]])]
    handle.remove()
    layer.register_full_backward_hook(lambda m, i, out: out)
    with pytest.raises(ArgumentError, match="no argument requires grad"):
        layer(lg.ones(1, 2)).sum().backward()


def test_wrong_replacements_are_refused() -> None:
    layer = nn.Linear(2, 1)
    x = lg.ones(1, 2, requires_grad=True)
    for returned, error, match in (
        ((1, 2), ArgumentError, "2 gradients in place of the 1 of grad_input"),
        (3.0, ArgumentTypeError, "None or a tuple"),
        ((3.0,), ArgumentTypeError, "returned a float"),
        ((lg.ones(3),), ShapeError, r"shape \(3,\) in place of grad_input\[0\]"),
    ):
        with (
            layer.register_full_backward_hook(lambda m, i, out, r=returned: r),
            pytest.raises(error, match=match),
        ):
            layer(x).sum().backward()


def test_captured_steps_run_hooks_and_notice_their_change() -> None:
    layer = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))

    def step(x: lg.Tensor) -> lg.Tensor:
        layer.zero_grad()
        layer(x).sum().backward()
        return layer[0].weight.grad * 1

    captured = lg.compute_graph(step)
    x = lg.ones(1, 2)
    plain = captured(x).numpy()
    handle = layer[2].register_full_backward_hook(lambda m, i, out: (i[0] * 2,))
    for _ in range(3):
        np.testing.assert_array_equal(captured(x).numpy(), step(x).numpy())
    np.testing.assert_allclose(captured(x).numpy(), plain * 2, rtol=1e-6)
    handle.remove()
    np.testing.assert_array_equal(captured(x).numpy(), plain)


def test_a_captured_forward_whose_backward_is_outside_refuses() -> None:
    layer = nn.Linear(2, 1)
    layer.register_full_backward_hook(lambda m, i, out: None)

    @lg.compute_graph
    def loss(x: lg.Tensor) -> lg.Tensor:
        return layer(x).sum()

    with pytest.raises(CaptureError, match="would be lost"):
        loss(lg.ones(1, 2))


def test_hooks_inside_of_a_checkpoint_and_in_second_derivatives() -> None:
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda m, i, out: (i[0] * 2,))
    x = lg.ones(1, 2, requires_grad=True)
    plain = lg.grad(layer(x).sum(), [x])[0].numpy()
    again = lg.grad(lg.checkpoint(lambda x: layer(x), x).sum(), [x])[0].numpy()
    np.testing.assert_array_equal(again, plain)
    (first,) = lg.grad((layer(x) ** 2).sum(), [x], create_graph=True)
    (second,) = lg.grad(first.sum(), [x])
    w = layer.weight.numpy()
    np.testing.assert_allclose(second.numpy(), (4 * w.T @ w).sum(0, keepdims=True) * 2, rtol=1e-5)


def test_an_output_that_cannot_be_hooked_warns() -> None:
    class Listing(nn.Module):
        def forward(self, x: lg.Tensor) -> list[lg.Tensor]:
            return [x]

    model = Listing()
    model.register_full_backward_hook(lambda m, i, out: None)
    with pytest.warns(UserWarning, match="Listing returned list"):
        model(lg.ones(2, requires_grad=True))
