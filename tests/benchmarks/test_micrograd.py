"""The recursive scalar engine that `lazygrad bench` measures against, and where it stops."""

import sys
from pathlib import Path

import numpy as np
import pytest

import lazygrad as lg
from benchmarks.baselines import micrograd
from lazygrad import nn
from lazygrad.compat.micrograd import Value

SIZES = (2, 16, 16, 1)


def test_it_has_at_most_120_lines() -> None:
    assert len(Path(micrograd.__file__).read_text().splitlines()) <= 120


def test_both_compute_the_same_loss_and_gradients() -> None:
    data, layers = micrograd.moons(12, seed=3), micrograd.network(SIZES, seed=3)
    loss = micrograd.loss_of(layers, *data)
    loss.backward()

    weights = []
    scores = lg.tensor(data[0], dtype=lg.float64)
    for layer in layers:
        rows = np.array([[v.data for v in neuron] for neuron in layer])
        weights.append(lg.tensor(rows, requires_grad=True))
        scores = nn.functional.linear(scores, weights[-1][:, :-1], weights[-1][:, -1])
        scores = scores if layer is layers[-1] else scores.relu()
    targets = lg.tensor(data[1], dtype=lg.float64)
    ours = nn.functional.hinge_loss(scores.flatten(), targets)
    ours = ours + 1e-4 * sum((w * w).sum() for w in weights)
    ours.backward()

    assert loss.data == pytest.approx(ours.item(), rel=1e-12)
    for layer, w in zip(layers, weights, strict=True):
        assert w.grad is not None
        np.testing.assert_allclose([[v.grad for v in n] for n in layer], w.grad.numpy(), rtol=1e-9)


def test_it_learns() -> None:
    assert micrograd.train(10, 15) < micrograd.train(10, 1) / 2


def derivative(kind: type[micrograd.Value] | type[Value], length: int) -> float:
    """Of a + a + ... + a, which is the length."""
    a = total = kind(1.0)
    for _ in range(length - 1):
        total = total + a
    total.backward()
    return a.grad


def test_the_recursion_limit_is_theirs_alone() -> None:
    limit = sys.getrecursionlimit()
    short = limit // 2
    assert derivative(micrograd.Value, short) == derivative(Value, short) == short
    with pytest.raises(RecursionError):
        derivative(micrograd.Value, limit)
    assert derivative(Value, 3 * limit) == 3 * limit


def test_the_number_of_points_is_limited_in_the_same_way() -> None:
    """The loss is a sum over the points: its graph is as deep as there are points."""
    samples = sys.getrecursionlimit()
    layers = micrograd.network((2, 1), seed=0)
    with pytest.raises(RecursionError):
        micrograd.loss_of(layers, *micrograd.moons(samples, seed=0)).backward()
