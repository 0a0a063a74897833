"""Products that share a weight: the same gradients, as one product however many steps there are."""

from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.engine.shared import share_products
from lazygrad.ops.opdef import Kind
from lazygrad.testing import gradcheck, gradgradcheck

STEPS = 4


def unrolled(w: Any, b: Any, x: Any, shared: bool) -> list[Any]:
    """h' = tanh(x + W h + b): all states."""
    h, rows, products, states = x, [], [], []
    for _ in range(STEPS):
        rows.append(h)
        products.append(nn.functional.linear(h, w, b))
        h = (x + products[-1]).tanh()
        states.append(h)
    return share_products(w, b, rows, products, [x], states) if shared else states


def leaves() -> list[lg.Tensor]:
    rng = np.random.default_rng(0)
    shapes = (3, 3), (3,), (2, 3)
    return [lg.tensor(rng.uniform(-1, 1, s), requires_grad=True) for s in shapes]


@pytest.mark.parametrize("used", [(0, 1, 2, 3), (3,), (1, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_the_operations(used: tuple[int, ...], bias: bool) -> None:
    def gradients(shared: bool) -> list[Any]:
        w, b, x = leaves()
        states = unrolled(w, b if bias else None, x, shared)
        other = (w * w).sum() + (x * 3).sum()  # what the weight and the input are used for besides
        (sum((states[i] * (i + 1)).sum() for i in used) + other).backward()
        return [None if t.grad is None else t.grad.numpy() for t in (w, b, x)]

    for mine, plain in zip(gradients(True), gradients(False), strict=True):
        if plain is None:
            assert mine is None
        else:
            np.testing.assert_allclose(mine, plain, rtol=1e-12)


def test_gradients_of_gradients() -> None:
    def last(w: Any, b: Any, x: Any) -> Any:
        return unrolled(w, b, x, True)[-1]

    assert gradcheck(last, leaves())
    assert gradgradcheck(last, leaves())


def test_what_needs_no_gradient_has_none() -> None:
    w, b, x = leaves()
    states = unrolled(w.detach(), b, x.detach(), True)
    states[-1].sum().backward()
    assert b.grad is not None and w.grad is None and x.grad is None
    frozen = unrolled(w.detach(), None, x.detach(), True)
    assert not frozen[-1].requires_grad


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN])
def test_captured_layers_have_the_same_bits(make: Any) -> None:
    """Also where two calls of a captured layer meet in one backward pass."""
    x = np.random.default_rng(0).standard_normal((STEPS, 2, 3)).astype(np.float32)

    def gradients(wrap: Any) -> list[bytes]:
        lg.manual_seed(0)
        layer = make(3, 4, 2, bidirectional=True)
        forward = wrap(lambda x: layer(x)[0])
        for scale in (1.0, 2.0):
            (forward(lg.tensor(x)) + forward(lg.tensor(x * scale + 1))).sum().backward()
        return [p.grad.numpy().tobytes() for p in layer.parameters()]

    assert gradients(lg.compute_graph) == gradients(lambda f: f)


@pytest.mark.compiled
@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU])
def test_products_of_a_training_step(make: Any) -> None:
    """Two for each step (there and back), and one for each weight, and that of the input."""

    def products(steps: int) -> int:
        layer = make(3, 4)
        optimizer = lg.optim.SGD(layer.parameters(), lr=0.1)

        @lg.compute_graph
        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = layer(x)[0].sum()
            loss.backward()
            optimizer.step()
            return loss

        step(lg.ones(steps, 2, 3)).item()
        nodes = step.program.frozen.nodes
        return sum(n.op.kind is Kind.CONTRACT for n in nodes)

    assert [products(n) for n in (3, 6)] == [2 * 3 + 2, 2 * 6 + 2]
