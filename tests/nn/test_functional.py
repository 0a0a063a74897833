"""Functional forms: what is not in the goldens (errors, extremes, gradients in closed form)."""

import math

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    IndexOutOfRangeError,
    ShapeError,
)

F = nn.functional


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


# Cross entropy.


def test_the_gradient_of_cross_entropy_is_softmax_minus_one_hot() -> None:
    rng = np.random.default_rng(0)
    x = lg.tensor(rng.normal(size=(6, 4)), requires_grad=True)
    labels = rng.integers(0, 4, 6)
    F.cross_entropy(x, labels).backward()
    wanted = (softmax(x.detach().numpy()) - np.eye(4)[labels]) / 6
    np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=1e-12, atol=1e-16)


def test_cross_entropy_is_stable_for_extreme_scores() -> None:
    x = lg.tensor([[1e4, -1e4, 0.0], [3e38, 0.0, -3e38]], requires_grad=True)
    loss = F.cross_entropy(x, lg.tensor([0, 0]))
    loss.backward()
    assert loss.item() == 0
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros((2, 3)))
    assert F.cross_entropy(x, lg.tensor([1, 0])).item() == 1e4
    blocked = lg.tensor([[0.0, -np.inf]], requires_grad=True)
    F.cross_entropy(blocked, lg.tensor([0])).backward()
    np.testing.assert_array_equal(blocked.grad.numpy(), [[0, 0]])


def test_cross_entropy_takes_any_rank() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 3, 4, 5))
    y = rng.integers(0, 3, (2, 4, 5))
    flat = np.moveaxis(x, 1, -1).reshape(-1, 3)
    wanted = F.cross_entropy(lg.tensor(flat), y.reshape(-1)).item()
    assert F.cross_entropy(lg.tensor(x), y).item() == pytest.approx(wanted, rel=1e-12)
    single = F.cross_entropy(lg.tensor(x[0, :, 0, 0]), y[0, 0, 0])
    assert single.shape == () and single.item() == pytest.approx(
        F.cross_entropy(lg.tensor(flat[:1]), y.reshape(-1)[:1]).item()
    )


def test_all_ignored_is_nan_as_in_pytorch_and_sum_is_zero() -> None:
    x, y = lg.randn(2, 3), lg.tensor([-100, -100])
    assert np.isnan(F.cross_entropy(x, y).item())
    assert F.cross_entropy(x, y, reduction="sum").item() == 0


@pytest.mark.parametrize("label", [4, -1, 100])
def test_a_label_outside_of_the_classes_raises(label: int) -> None:
    x = lg.zeros(3, 4, requires_grad=True)
    for loss in (F.cross_entropy, F.nll_loss):
        with pytest.raises(IndexOutOfRangeError, match=rf"label {label} at position 1 is out of"):
            loss(x, lg.tensor([0, label, 2])).item()


def test_a_bad_label_leaves_everything_as_it_was() -> None:
    model = nn.Linear(2, 3)
    optimizer = lg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @lg.compute_graph
    def step(x: lg.Tensor, y: lg.Tensor) -> lg.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x = lg.ones(2, 2)
    step(x, lg.tensor([0, 1]))
    before = [p.numpy(copy=True) for p in model.parameters()]
    velocity = optimizer.state[model.weight]["momentum_buffer"].numpy(copy=True)
    with pytest.raises(IndexError, match="label 7 at position 1"):
        step(x, lg.tensor([0, 7])).item()
    for p, values in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), values)
    held = optimizer.state[model.weight]["momentum_buffer"].numpy()
    np.testing.assert_array_equal(held, velocity)
    assert np.isfinite(step(x, lg.tensor([2, 1])).item())


def test_targets_that_do_not_fit_raise_at_the_call() -> None:
    x = lg.zeros(3, 4)
    with pytest.raises(ShapeError, match=r"input \(3, 4\).*of shape \(3,\), got \(4,\)"):
        F.cross_entropy(x, lg.tensor([0, 1, 2, 3]))
    with pytest.raises(DTypeError, match=r"class indices must be integers.*use target.long\(\)"):
        F.cross_entropy(x, lg.zeros(3))
    with pytest.raises(ShapeError, match=r"weight must have one entry for each of the 4 classes"):
        F.cross_entropy(x, lg.tensor([0, 1, 2]), weight=lg.ones(3))
    with pytest.raises(ArgumentError, match="label_smoothing must be between 0 and 1, got 2"):
        F.cross_entropy(x, lg.tensor([0, 1, 2]), label_smoothing=2)
    with pytest.raises(ArgumentError, match="got 'maen'; did you mean 'mean'"):
        nn.CrossEntropyLoss(reduction="maen")
    with pytest.raises(ShapeError, match=r"binary_cross_entropy: input \(2,\) and target \(3,\)"):
        F.binary_cross_entropy(lg.zeros(2), lg.zeros(3))


def test_class_indices_work_in_a_graph_of_their_own() -> None:
    g = lg.Graph()
    x = lg.Tensor(np.zeros((2, 3)), graph=g)
    assert F.cross_entropy(x, lg.Tensor([0, 1], dtype=lg.int64, graph=g)).item() == pytest.approx(
        np.log(3)
    )


# Other losses.


def test_hinge_loss_is_that_of_micrograd() -> None:
    scores = lg.tensor([2.0, 0.5, -0.5, -3.0], requires_grad=True)
    loss = nn.HingeLoss()(scores, lg.tensor([1.0, 1.0, 1.0, -1.0]))
    loss.backward()
    assert loss.item() == pytest.approx((0 + 0.5 + 1.5 + 0) / 4)
    np.testing.assert_array_equal(scores.grad.numpy(), [0, -0.25, -0.25, 0])


def test_binary_cross_entropy_is_finite_at_the_borders() -> None:
    p = lg.tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True)
    loss = F.binary_cross_entropy(p, lg.tensor([1.0, 0.0, 0.0, 1.0]), reduction="none")
    assert loss.tolist() == [100.0, 100.0, 0.0, 0.0]
    loss.sum().backward()
    assert np.isfinite(p.grad.numpy()).all()
    z = lg.tensor([1e4, -1e4], requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(z, lg.tensor([0.0, 0.0]), reduction="sum")
    loss.backward()
    assert loss.item() == 1e4
    np.testing.assert_array_equal(z.grad.numpy(), [1, 0])


def test_a_loss_that_broadcasts_warns() -> None:
    with pytest.warns(UserWarning, match=r"mse_loss: input \(3, 1\) and target \(3,\) differ"):
        assert F.mse_loss(lg.zeros(3, 1), lg.ones(3)).item() == 1


# Layers.


def test_linear_names_both_shapes() -> None:
    with pytest.raises(ShapeError, match=r"linear: input \(2, 3\) does not fit weight \(5, 4\)"):
        nn.Linear(4, 5)(lg.ones(2, 3))
    assert nn.Linear(4, 5)(lg.ones(4)).shape == (5,)
    assert nn.Linear(4, 5)(lg.ones(2, 3, 4)).shape == (2, 3, 5)


def test_embedding_checks_indices_and_skips_padding() -> None:
    table = nn.Embedding(4, 2, padding_idx=-1)
    assert table.weight.numpy()[3].tolist() == [0, 0]
    table(lg.tensor([3, 1, 1])).sum().backward()
    np.testing.assert_array_equal(table.weight.grad.numpy(), [[0, 0], [2, 2], [0, 0], [0, 0]])
    with pytest.raises(IndexOutOfRangeError, match="4"):
        table(lg.tensor([4])).numpy()
    with pytest.raises(DTypeError, match="embedding: indices must be integers, got lazygrad"):
        table(lg.ones(1))
    with pytest.raises(ArgumentError, match="padding_idx 9 is outside of 4 embeddings"):
        nn.Embedding(4, 2, padding_idx=9)
    frozen = nn.Embedding.from_pretrained([[1.0, 2.0]])
    assert not frozen.weight.requires_grad and frozen(lg.tensor(0)).tolist() == [1, 2]


def test_dropout_drops_scales_and_is_seeded() -> None:
    lg.manual_seed(3)
    x = lg.ones(100, 100, requires_grad=True)
    y = F.dropout(x, 0.25)
    values = y.numpy()
    assert set(np.unique(values)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((values == 0).mean() - 0.25) < 0.02
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), values)
    lg.manual_seed(3)
    np.testing.assert_array_equal(F.dropout(x, 0.25).numpy(), values)
    assert not np.array_equal(F.dropout(x, 0.25).numpy(), values)
    assert F.dropout(x, 0.25, training=False) is x
    assert F.dropout(x, 1.0).sum().item() == 0
    with pytest.raises(ArgumentError, match=r"p must be a probability, got 1.5"):
        nn.Dropout(1.5)


def test_normalization_checks_shapes() -> None:
    with pytest.raises(ShapeError, match=r"input \(2, 3\) does not end in normalized_shape \(4,\)"):
        nn.LayerNorm(4)(lg.ones(2, 3))
    with pytest.raises(ShapeError, match=r"BatchNorm1d\(3\) takes \(batch, 3, ...\).*got \(2, 4\)"):
        nn.BatchNorm1d(3)(lg.ones(2, 4))
    with pytest.raises(ShapeError, match="more than one value per channel"):
        nn.BatchNorm1d(3)(lg.ones(1, 3))
    assert nn.BatchNorm1d(3)(lg.ones(1, 3, 2)).shape == (1, 3, 2)
    assert nn.BatchNorm2d(3)(lg.ones(1, 3, 2, 2)).shape == (1, 3, 2, 2)


def test_softmax_without_an_axis_warns_and_chooses_as_pytorch() -> None:
    with pytest.warns(UserWarning, match="softmax without dim= takes axis 1; pass dim=1"):
        y = nn.Softmax()(lg.zeros(2, 4))
    assert y.tolist() == [[0.25] * 4] * 2


def test_gradients_do_not_overflow_where_a_branch_is_not_taken() -> None:
    x = lg.tensor([1000.0, -1000.0], requires_grad=True)
    for f in (F.elu, F.selu, F.softplus, F.logsigmoid, F.silu, F.gelu, F.mish, F.sigmoid, F.tanh):
        x.grad = None
        f(x).sum().backward()
        assert np.isfinite(x.grad.numpy()).all(), f.__name__


def test_normalize_and_cosine_similarity() -> None:
    x = lg.tensor([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(F.normalize(x).numpy(), [[0.6, 0.8], [0, 0]])
    y = lg.tensor([[4.0, 3.0], [1.0, 0.0]])
    np.testing.assert_allclose(F.cosine_similarity(x, y).numpy(), [0.96, 0], rtol=1e-6)


def test_half_precision_normalizes_in_single() -> None:
    values = np.linspace(-900, 900, 8).reshape(2, 4)
    for norm in (
        lambda x: F.layer_norm(x, (4,)),
        lambda x: F.rms_norm(x, (4,)),
        lambda x: F.batch_norm(x, None, None, training=True),
    ):
        y = norm(lg.tensor(values, dtype=lg.float16))
        assert y.dtype is lg.float16
        np.testing.assert_allclose(y.numpy(), norm(lg.tensor(values)).numpy(), rtol=2e-3)


def test_labels_of_every_integer_dtype() -> None:
    x = lg.tensor(np.random.default_rng(1).normal(size=(3, 4)))
    for loss in (F.cross_entropy, F.nll_loss, F.multi_margin_loss):
        expected = loss(x, lg.tensor([2, 0, 1])).item()
        for name in ("uint8", "int8", "int16", "int32", "uint64"):
            assert loss(x, lg.tensor([2, 0, 1], dtype=getattr(lg, name))).item() == expected


def test_binary_cross_entropy_takes_probabilities_only() -> None:
    assert F.binary_cross_entropy(lg.tensor([0.0, 1.0]), lg.tensor([0.0, 1.0])).item() == 0
    for bad in (1.5, -0.1, math.nan):
        loss = F.binary_cross_entropy(lg.tensor([bad, 0.5]), lg.ones(2))
        with pytest.raises(
            IndexOutOfRangeError, match=r"inputs outside of \[0, 1\], counted: 1 is"
        ):
            loss.item()


def test_divergences_of_what_is_no_distribution() -> None:
    x, y = lg.tensor([0.5, 0.5, 0.5]), lg.tensor([0.0, -1.0, math.nan])
    loss = F.kl_div(x, y, reduction="none").numpy()
    assert loss[0] == 0 and np.isnan(loss[1:]).all()
    assert F.kl_div(lg.tensor(0.5), lg.tensor(1.0), reduction="batchmean").item() == -0.5


def test_losses_of_scalars_are_scalars() -> None:
    one = lg.tensor(1.0)
    assert F.gaussian_nll_loss(one, one, one, reduction="none").shape == ()


def test_nan_is_not_hidden_by_thresholds() -> None:
    x = lg.tensor([math.nan, 0.25, 1.0])
    for y, known in (
        (F.softshrink(x), [0.0, 0.5]),
        (F.hardshrink(x), [0.0, 1.0]),
        (F.threshold(x, 0.5, 7.0), [7.0, 1.0]),
    ):
        assert math.isnan(y[0].item()) and y[1:].tolist() == known
    with pytest.raises(ArgumentError, match="softshrink: lambd must not be negative, got -1"):
        F.softshrink(x, -1.0)


def test_group_norm_of_no_samples() -> None:
    x, weight = lg.zeros(0, 4, 3), lg.ones(4, requires_grad=True)
    y = F.group_norm(x, 2, weight)
    assert y.shape == x.shape
    y.sum().backward()
    assert weight.grad.tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.hardtanh(x, 1.0, -1.0), "min_val 1.0 is above max_val -1.0"),
        (
            lambda x: F.embedding(lg.tensor([0]), x, 3),
            r"padding_idx 3 is no row of weight \(3, 4\)",
        ),
        (lambda x: F.avg_pool2d(x[None], 2, divisor_override=0), "divisor_override must not be 0"),
        (
            lambda x: F.scaled_dot_product_attention(x, x, x, lg.ones(3, 3, dtype=lg.int64)),
            r"attn_mask is bool \(true: allowed\) or floating \(added\), got lazygrad.int64",
        ),
    ],
)
def test_what_pytorch_refuses(call, message) -> None:
    with pytest.raises((ArgumentError, DTypeError), match=message):
        call(lg.ones(3, 4))


def test_losses_with_a_weight_for_each_element() -> None:
    x, y, w = lg.tensor([1.0, 2.0, 4.0]), lg.zeros(3), lg.tensor([1.0, 0.0, 3.0])
    assert F.mse_loss(x, y, weight=w).item() == 49 / 4  # over the weights
    assert F.l1_loss(x, y, weight=w, reduction="sum").item() == 13
    assert F.l1_loss(x, y, weight=w).item() == 13 / 4
    assert F.huber_loss(x, y, weight=w).item() == pytest.approx(11 / 3)  # over the elements
    assert F.mse_loss(x, y, weight=w, reduction="none").tolist() == [1, 0, 48]
    with pytest.raises(ShapeError, match=r"mse_loss: input \(3,\) and weight \(2,\) differ"):
        F.mse_loss(x, y, weight=w[:2])


def test_losses_take_the_names_of_their_functions() -> None:
    x, y = lg.tensor([[1.0, 2.0]]), lg.tensor([[0.0, 1.0]])
    assert nn.MSELoss()(input=x, target=y).item() == 1
    known = nn.TripletMarginLoss()(x, y, x).item()
    assert nn.TripletMarginLoss()(anchor=x, positive=y, negative=x).item() == known
    assert nn.GaussianNLLLoss()(x, y, var=lg.ones(1, 2)).item() == 0.5
    with pytest.raises(TypeError, match="target"):
        nn.MSELoss()(x)


def test_layers_with_parameters_take_a_device_and_a_dtype() -> None:
    for layer in (nn.LayerNorm, nn.RMSNorm, nn.PReLU):
        assert layer(3, device="cpu", dtype=lg.float64).weight.dtype is lg.float64
        with pytest.raises(DeviceError):
            layer(3, device="cuda")


def test_sequences_are_padded_on_either_side() -> None:
    pad = nn.utils.rnn.pad_sequence
    x, y = lg.tensor([1.0, 2.0]), lg.tensor([3.0])
    assert pad([x, y], True, padding_side="left").tolist() == [[1, 2], [0, 3]]
    for given, side in (([], "right"), ([x], "top")):
        with pytest.raises(ArgumentError, match="pad_sequence takes at least one sequence"):
            pad(given, padding_side=side)


def test_linear_with_a_vector_of_weights() -> None:
    x, w = lg.arange(6.0).reshape(3, 2), lg.tensor([1.0, 10.0], requires_grad=True)
    out = lg.nn.functional.linear(x, w)
    assert out.tolist() == [10.0, 32.0, 54.0]
    out.sum().backward()
    assert w.grad is not None and w.grad.tolist() == [6.0, 9.0]
