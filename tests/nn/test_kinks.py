"""Slopes at the points where a formula changes, as PyTorch 2.13 has them."""

from collections.abc import Callable
from typing import Any

import pytest

import lazygrad as lg

F = lg.nn.functional
SIXTH = 1 / 6


@pytest.mark.parametrize(
    ("function", "points", "slopes"),
    [
        (F.relu, [0.0, -0.0], [0, 0]),
        (F.relu6, [0.0, -0.0, 6.0, 1.0, -1.0, 7.0], [0, 0, 0, 1, 0, 0]),
        (F.hardtanh, [-1.0, 1.0, 0.5, 2.0], [0, 0, 1, 0]),
        (F.hardsigmoid, [-3.0, 3.0, 0.0], [0, 0, SIXTH]),
        (F.hardswish, [-3.0, 3.0, 0.0, 4.0], [0, 1, 0.5, 1]),
        (F.logsigmoid, [0.0, -0.0, 800.0, -800.0], [0.5, 0.5, 0, 1]),
        (F.softplus, [0.0, 21.0, -800.0], [0.5, 1, 0]),
        (F.leaky_relu, [0.0, 1.0], [0.01, 1]),
        (F.elu, [0.0], [1]),
        (lambda x: x.clamp(-1, 1), [-1.0, 1.0, 2.0], [1, 1, 0]),
        (lambda x: x.abs(), [0.0], [0]),
        (lambda x: lg.maximum(x, lg.zeros_like(x)), [0.0], [0.5]),
    ],
)
def test_slopes(function: Callable[[Any], Any], points: list[float], slopes: list[float]) -> None:
    x = lg.tensor(points, dtype=lg.float64, requires_grad=True)
    function(x).sum().backward()
    assert x.grad.tolist() == pytest.approx(slopes)


@pytest.mark.parametrize("score", [0.0, -0.0, 1e-3, 50.0, -50.0])
def test_the_loss_of_an_untrained_binary_classifier(score: float) -> None:
    x = lg.tensor([score, score], dtype=lg.float64, requires_grad=True)
    F.binary_cross_entropy_with_logits(x, lg.tensor([0.0, 1.0]), reduction="sum").backward()
    chance = x.detach().sigmoid()
    assert x.grad.tolist() == pytest.approx((chance - lg.tensor([0.0, 1.0])).tolist())


def test_the_curvature_of_logsigmoid_at_0() -> None:
    x = lg.tensor(0.0, requires_grad=True)
    (slope,) = lg.grad(F.logsigmoid(x), x, create_graph=True)
    assert lg.grad(slope, x)[0].item() == -0.25
