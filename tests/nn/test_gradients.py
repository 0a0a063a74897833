"""Gradients of composites by finite differences, to second order."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.testing import gradcheck, gradgradcheck

F = nn.functional
LABELS = np.array([0, 2, 1])
BITS = lg.tensor([[0.0, 1.0, 1.0, 0.0]] * 3, dtype=lg.float64)


def normal(*shape: int, seed: int = 0) -> lg.Tensor:
    values = np.random.default_rng(seed).normal(size=shape)
    return lg.tensor(values, requires_grad=True)


@pytest.mark.parametrize(
    ("fn", "shapes"),
    [
        (lambda x: F.cross_entropy(x, LABELS), [(3, 4)]),
        (lambda x: F.cross_entropy(x, LABELS, label_smoothing=0.2, reduction="none"), [(3, 4)]),
        (lambda x, p: F.cross_entropy(x, p.softmax(1)), [(3, 4), (3, 4)]),
        (lambda x: F.nll_loss(x, LABELS), [(3, 4)]),
        (lambda x, t: F.mse_loss(x, t), [(3, 2), (3, 2)]),
        (lambda x, t: F.smooth_l1_loss(x, t, beta=0.5), [(3, 2), (3, 2)]),
        (lambda x: F.binary_cross_entropy_with_logits(x, BITS), [(3, 4)]),
        (lambda x: F.binary_cross_entropy(x.sigmoid(), BITS), [(3, 4)]),
        (F.linear, [(3, 4), (2, 4), (2,)]),
        (lambda w: F.embedding(lg.tensor([[0, 2], [2, 1]]), w), [(3, 2)]),
        (lambda x, w, b: F.layer_norm(x, (4,), w, b), [(3, 4), (4,), (4,)]),
        (lambda x, w: F.rms_norm(x, (4,), w), [(3, 4), (4,)]),
        (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [(5, 3), (3,), (3,)]),
        (lambda x: F.normalize(x), [(3, 4)]),
        (lambda x, y: F.cosine_similarity(x, y), [(3, 4), (3, 4)]),
        (lambda x: F.softplus(x, 2.0, 3.0), [(3, 4)]),
        (lambda x: F.logsigmoid(x) + F.silu(x) + F.mish(x) + F.gelu(x), [(3, 4)]),
        (lambda x: F.elu(x) + F.selu(x) + F.softsign(x) + F.softmin(x, 1), [(3, 4)]),
    ],
)
def test_first_and_second_order(fn, shapes) -> None:
    inputs = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    assert gradcheck(fn, inputs)
    assert gradgradcheck(fn, inputs)


def test_a_mask_of_dropout_is_the_same_in_the_backward_pass() -> None:
    x = normal(20)

    def fn(x: lg.Tensor) -> lg.Tensor:
        lg.manual_seed(0)
        return F.dropout(x * x, 0.5)

    assert gradcheck(fn, [x])
