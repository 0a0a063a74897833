"""momograd's README (and so micrograd), run: Mojo's keywords become Python's."""

import random

import numpy as np
import pytest

from lazygrad.compat.micrograd import MLP, Value
from tests.originals.readme import from_mojo, ported, run

IMPORTS = {"from momograd.engine import Value": "from lazygrad.compat.micrograd import Value"}


def test_value(capsys: pytest.CaptureFixture[str]) -> None:
    run(from_mojo(ported("momograd", "value", IMPORTS)))["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "<data: 125.0, grad: 1.0>"
    assert lines[2] == "Computational graph:"
    tree = "\n".join(lines[3:])
    assert all(label in tree for label in ("a ", "b ", "c ", "d "))
    assert "grad: 75.0" in tree  # of c and of b


def test_values_have_every_operator() -> None:
    a, b = Value(2.0), Value(-3.0)
    c = (1 - a) * (2 / b) + (b**2 - 2**a).relu() / 4 + (-a).tanh() * a.exp() + (1 + b) - a.log()
    expected = (1 - 2) * (2 / -3) + 5 / 4 + np.tanh(-2) * np.exp(2) - 2 - np.log(2)
    assert c.data == pytest.approx(expected, rel=1e-12)
    c.backward()
    step = 1e-6
    nudged = (
        (1 - (2 + step)) * (2 / -3)
        + (9 - 2 ** (2 + step)) / 4
        + np.tanh(-(2 + step)) * np.exp(2 + step)
        - 2
        - np.log(2 + step)
    )
    assert a.grad == pytest.approx((nudged - expected) / step, rel=1e-4)


def test_gradients_add_up_and_can_be_reset() -> None:
    a = Value(3.0, "a")
    b = a * a
    b.backward()
    assert (a.grad, b.grad, repr(b)) == (6.0, 1.0, "<data: 9.0, grad: 1.0>")
    (a * 2).backward()
    assert a.grad == 8.0
    a.grad = 0
    assert a.grad == 0.0


def test_the_network_of_micrograds_demo_learns() -> None:
    random.seed(1)
    model = MLP(2, [4, 1])
    assert repr(model).startswith("MLP of [Layer of [ReLUNeuron(2), ReLUNeuron(2)")
    assert len(model.parameters()) == 4 * 3 + 5
    points = [((0.0, 0.2), 1), ((1.0, 0.8), -1), ((0.1, 1.0), 1), ((0.9, 0.1), -1)]
    losses = []
    for _ in range(40):
        scores = [model([Value(v) for v in x]) for x, _ in points]
        margins = [(1 + -y * score).relu() for (_, y), score in zip(points, scores, strict=True)]
        decay = 1e-4 * sum(p * p for p in model.parameters())
        loss = sum(margins) * (1.0 / len(margins)) + decay
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= 0.3 * p.grad
        losses.append(loss.data)
    assert losses[-1] < 0.1 < losses[0]
