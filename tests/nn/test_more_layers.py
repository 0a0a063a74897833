"""Layers beyond the first ones: what goldens do not show (errors, masks, second order)."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import ArgumentError, LazygradError, ShapeError
from lazygrad.testing import gradcheck, gradgradcheck

F = nn.functional


def normal(*shape: int, seed: int = 0) -> lg.Tensor:
    values = np.random.default_rng(seed).normal(size=shape)
    return lg.tensor(values, requires_grad=True)


@pytest.mark.parametrize(
    ("fn", "shapes"),
    [
        (lambda x: F.glu(x) + F.swiglu(x), [(3, 4)]),
        (lambda x: F.celu(x, 0.7) + F.relu_squared(x) + F.tanhshrink(x), [(3, 4)]),
        (lambda x, w, b: F.group_norm(x, 2, w, b), [(2, 4, 3), (4,), (4,)]),
        (lambda x, w, b: F.instance_norm(x, weight=w, bias=b), [(2, 3, 4), (3,), (3,)]),
        (F.bilinear, [(2, 3), (2, 2), (2, 3, 2), (2,)]),
        (lambda x: F.interpolate(x, 5, mode="linear"), [(1, 2, 3)]),
        (lambda x: F.interpolate(x, (5, 2)), [(1, 2, 3, 3)]),
        (lambda x: F.pad(x, (2, 1), "reflect") * F.pad(x, (1, 2), "circular"), [(2, 3)]),
        (lambda x, y, z: F.triplet_margin_loss(x, y, z, 3.0), [(2, 3)] * 3),
        (lambda x, y: F.pairwise_distance(x, y), [(2, 3)] * 2),
    ],
)
def test_first_and_second_order(fn, shapes) -> None:
    inputs = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    assert gradcheck(fn, inputs)
    assert gradgradcheck(fn, inputs)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Dropout1d(0.4), (6, 5, 7)),
        (nn.Dropout1d(0.4), (40, 7)),
        (nn.Dropout2d(0.4), (6, 5, 3, 2)),
        (nn.Dropout3d(0.4), (6, 5, 2, 2, 2)),
        (nn.Dropout3d(0.4), (30, 2, 2, 2)),
    ],
)
def test_dropout_of_channels_keeps_or_drops_them_whole(layer, shape) -> None:
    lg.manual_seed(0)
    values = np.unique(layer(lg.ones(*shape)).numpy().reshape(-1, np.prod(shape[-1:])), axis=1)
    assert values.shape[1] == 1
    assert {round(v, 4) for v in values.ravel().tolist()} == {0.0, round(1 / 0.6, 4)}
    assert (layer.eval()(lg.ones(*shape)).numpy() == 1).all()


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_borders_are_those_of_numpy(mode) -> None:
    names = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    x = np.arange(12.0).reshape(3, 4)
    for pads in [((0, 0), (1, 2)), ((2, 0), (0, 3)), ((1, 2), (3, 1))]:
        found = lg.tensor(x).pad(pads, mode)
        np.testing.assert_array_equal(found.numpy(), np.pad(x, pads, names[mode]))


def test_a_border_cannot_be_wider_than_what_it_is_made_of() -> None:
    with pytest.raises(ShapeError, match=r"pad: \(3, 0\) along axis 1 with 3 elements"):
        lg.ones(2, 3).pad((3, 0), "reflect")
    with pytest.raises(ArgumentError, match="mode is one of"):
        lg.ones(2, 3).pad((3, 0), "mirror")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nn.GroupNorm(3, 4), "num_channels 4 is no multiple of num_groups 3"),
        (lambda: nn.GroupNorm(2, 4)(lg.ones(2, 6)), r"takes \(batch, 4, ...\), got \(2, 6\)"),
        (lambda: nn.InstanceNorm1d(3)(lg.ones(2, 4, 5)), r"InstanceNorm1d\(3\) takes"),
        (lambda: nn.InstanceNorm1d(3)(lg.ones(2, 3, 1)), "more than one value per channel"),
        (lambda: nn.BatchNorm3d(2)(lg.ones(2, 2, 2)), r"BatchNorm3d\(2\) takes"),
        (lambda: nn.GLU()(lg.ones(2, 3)), "must be even"),
        (lambda: nn.PixelShuffle(2)(lg.ones(1, 3, 2, 2)), r"no multiple of 2 \* 2"),
        (lambda: nn.Upsample()(lg.ones(1, 3, 2)), "either size or scale_factor"),
        (lambda: nn.Upsample(3, mode="bilinear")(lg.ones(1, 3, 2)), "does not fit input"),
        (lambda: nn.Bilinear(2, 3, 4)(lg.ones(1, 2), lg.ones(1, 2)), r"\(1, 2\) and \(1, 2\)"),
        (lambda: nn.ZeroPad2d((1, 2)), "ZeroPad2d takes 4 amounts"),
        (lambda: nn.TripletMarginLoss(margin=0.0), "margin must be positive"),
        (lambda: nn.CosineEmbeddingLoss()(lg.ones(2, 3), lg.ones(2, 3), lg.ones(3)), r"\(3,\)"),
        (lambda: F.triplet_margin_loss(*[lg.ones(2, 2)] * 3, margin=-1), "greater than 0, got -1"),
        (lambda: F.cosine_embedding_loss(*[lg.ones(2, 3, 2)] * 2, lg.ones(2, 3)), "0-d or 1-d"),
        (lambda: nn.MultiLabelSoftMarginLoss()(lg.ones(()), lg.ones(())), "must not be 0-d"),
        (lambda: F.linear(lg.ones(3, 2), lg.ones(2), lg.ones(3)), r"does not fit weight \(2,\)"),
        (lambda: nn.MultiMarginLoss(p=3)(lg.ones(2, 3), lg.tensor([0, 1])), "p is 1 or 2"),
    ],
)
def test_errors_name_the_layer_and_the_shapes(call, text) -> None:
    with pytest.raises((ShapeError, ArgumentError), match=text):
        call()


def test_ctc_takes_labels_one_after_the_other_and_single_sequences():
    F = lg.nn.functional
    logp = F.log_softmax(lg.tensor(np.random.default_rng(0).normal(size=(6, 2, 4))), 2)
    padded = F.ctc_loss(logp, lg.tensor([[1, 2], [3, 0]]), [6, 6], [2, 1], reduction="none")
    joined = F.ctc_loss(logp, lg.tensor([1, 2, 3]), [6, 6], [2, 1], reduction="none")
    alone = F.ctc_loss(logp[:, 1], lg.tensor([3]), 6, 1, reduction="none")
    assert padded.tolist() == joined.tolist()
    assert alone.item() == pytest.approx(padded[1].item()) and alone.shape == ()
    hopeless = lg.tensor([[1] * 4, [2] * 4])  # seven steps are needed, with the blanks between
    assert F.ctc_loss(logp, hopeless, [6, 6], [4, 4]).item() == np.inf
    with pytest.raises(ShapeError, match="lengths"):
        F.ctc_loss(logp, hopeless, [6], [4, 4])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"input_lengths": [5, 4]}, "ctc_loss: input length 5 at position 0"),
        ({"input_lengths": [4, -1]}, "ctc_loss: input length -1 at position 1"),
        ({"target_lengths": [3, 2]}, "ctc_loss: target length 3"),
        ({"targets": [[1, 1], [1, 3]]}, r"ctc_loss: label 3 at position \(1, 1\)"),
        ({"targets": [[1, -1], [1, 1]]}, "ctc_loss: label -1"),
        ({"targets": [1, 1, 1]}, r"target lengths of 4 labels for targets \(3,\)"),
        ({"blank": 3}, "blank 3 is none of 3 classes"),
        ({"input_lengths": [4.0, 4.0]}, "input length must be integers"),
    ],
)
def test_ctc_refuses_lengths_and_labels_that_do_not_exist(change, text):
    given = {"targets": [[1, 1], [1, 1]], "input_lengths": [4, 4], "target_lengths": [2, 2]}
    with pytest.raises(LazygradError, match=text):
        lg.nn.functional.ctc_loss(lg.zeros(4, 2, 3), **(given | change)).item()


def test_ctc_checks_lengths_in_a_captured_function_and_needs_no_time_for_no_labels():
    loss = lg.compute_graph(
        lambda x, n, k: lg.nn.functional.ctc_loss(
            x, lg.ones(1, 2, dtype=lg.int64), n, k, reduction="none"
        )
    )
    x = lg.zeros(4, 1, 3)
    assert loss(x, lg.tensor([0]), lg.tensor([0])).tolist() == [0.0]
    assert loss(x, lg.tensor([0]), lg.tensor([1])).tolist() == [np.inf]
    with pytest.raises(LazygradError, match="ctc_loss: input length 5"):
        loss(x, lg.tensor([5]), lg.tensor([2])).item()


def test_gumbel_softmax_samples_and_has_the_soft_gradient():
    lg.manual_seed(0)
    logits = lg.tensor(np.log([0.2, 0.8]), requires_grad=True)
    many = lg.nn.functional.gumbel_softmax(logits.expand(4000, 2), hard=True)
    assert set(many.detach().numpy().round(9).ravel()) == {0.0, 1.0}
    assert many.mean(0)[1].item() == pytest.approx(0.8, abs=0.03)
    soft = lg.nn.functional.gumbel_softmax(logits, tau=0.5)
    assert soft.sum().item() == pytest.approx(1)
    (many * lg.tensor([1.0, 2.0])).sum().backward()
    assert logits.grad[1].item() > 0


def test_unpooling_refuses_what_does_not_fit():
    x, places = lg.nn.functional.max_pool1d(lg.ones(1, 1, 5), 2, return_indices=True)
    assert lg.nn.MaxUnpool1d(2)(x, places).shape == (1, 1, 4)
    assert lg.nn.MaxUnpool1d(2)(x, places, output_size=(1, 1, 5)).shape == (1, 1, 5)
    with pytest.raises(ShapeError, match="no size near"):
        lg.nn.MaxUnpool1d(2)(x, places, output_size=(7,))
    with pytest.raises(ShapeError, match="must be alike"):
        lg.nn.functional.max_unpool1d(x, places[..., :1], 2)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_embeddings(mode: str):
    table = np.random.default_rng(1).normal(size=(5, 3))
    layer = nn.EmbeddingBag.from_pretrained(lg.tensor(table), freeze=False, padding_idx=1)
    layer.mode = mode
    bags = [[0, 4, 4], [], [1, 2], [1, 1], [3]]
    reduce = {"sum": np.sum, "mean": np.mean, "max": np.max}[mode]
    kept = [[i for i in bag if i != 1] for bag in bags]
    wanted = [reduce(table[bag], axis=0) if bag else np.zeros(3) for bag in kept]
    flat, starts = np.concatenate(bags).astype(int), np.cumsum([0, *map(len, bags[:-1])])
    out = layer(lg.tensor(flat), lg.tensor(starts))
    np.testing.assert_allclose(out.numpy(), wanted, rtol=1e-12)
    ends = F.embedding_bag(
        lg.tensor(flat), layer.weight, lg.tensor([*starts, len(flat)]), mode=mode,
        include_last_offset=True, padding_idx=1,
    )  # fmt: skip
    assert ends.tolist() == out.tolist()
    out.sum().backward()
    shares = {"sum": [1, 0, 1, 1, 2], "mean": [1 / 3, 0, 1, 1, 2 / 3], "max": [1, 0, 1, 1, 0]}
    assert layer.weight.grad[:, 0].tolist() == pytest.approx(shares[mode])


def test_bags_refuse_what_does_not_go_together():
    layer, i = nn.EmbeddingBag(4, 2), lg.tensor([0, 1])
    with pytest.raises(ShapeError, match="a vector with offsets"):
        layer(i)
    with pytest.raises(ArgumentError, match="per_sample_weights go with mode 'sum'"):
        layer(i, lg.tensor([0]), lg.ones(2))
    with pytest.raises(ArgumentError, match="sparse must be False"):
        nn.EmbeddingBag(4, 2, sparse=True)
    assert repr(layer) == "EmbeddingBag(4, 2, mode='mean')"


@pytest.mark.parametrize(
    ("offsets", "last", "text"),
    [
        ([0, 4], False, "offset 4 at position 1"),
        ([-1, 1], False, "offset -1"),
        ([1, 2], False, "offset 1 at position 0 is out of range where the first bag begins"),
        ([0, 2, 1], False, "offsets in order, step -1 at position 1"),
        (
            [0, 2],
            True,
            "offset 2 at position 0 is out of range where the last bag ends, which is 3",
        ),
    ],
)
def test_bags_begin_at_0_in_order_within_the_input(offsets, last, text):
    bags = F.embedding_bag
    for call in (bags, lg.compute_graph(bags)):
        with pytest.raises(LazygradError, match=text):
            call(
                lg.tensor([0, 1, 2]), lg.eye(3), lg.tensor(offsets), include_last_offset=last
            ).numpy()


def test_the_mask_of_a_transformer_has_a_dtype() -> None:
    mask = nn.Transformer.generate_square_subsequent_mask(2, dtype=lg.float64)
    assert mask.dtype is lg.float64 and mask.tolist() == [[0.0, -np.inf], [0.0, 0.0]]


def test_alpha_dropout_keeps_mean_and_variance():
    lg.manual_seed(0)
    x = lg.randn(4000, 10, requires_grad=True)
    out = nn.AlphaDropout(0.3)(x)
    assert abs(out.mean().item()) < 0.02 and abs(out.var().item() - 1) < 0.03
    scale = 1 / np.sqrt((1.7580993408473766**2 * 0.3 + 1) * 0.7)
    out.sum().backward()
    slopes = np.unique(x.grad.numpy())
    np.testing.assert_allclose(slopes, [0, scale], rtol=1e-6)
    whole = nn.FeatureAlphaDropout(0.5)(lg.ones(50, 4, 3, 3)).numpy()
    assert (whole == whole[:, :, :1, :1]).all() and len(np.unique(whole)) == 2
    assert nn.AlphaDropout(0.3).eval()(x) is x and F.alpha_dropout(x, 1.0, True).sum().item() == 0
    assert repr(nn.AlphaDropout(0.3)) == "AlphaDropout(p=0.3, inplace=False)"
    with pytest.raises(ShapeError, match="batch, channels"):
        F.feature_alpha_dropout(lg.ones(3), 0.5, True)


def test_rrelu_draws_slopes_while_training():
    layer = nn.RReLU(0.1, 0.3)
    x = lg.full((1000,), -1.0, requires_grad=True)
    found = (-layer(x)).numpy()
    assert found.min() >= 0.1 and found.max() < 0.3 and abs(found.mean() - 0.2) < 0.01
    np.testing.assert_allclose(layer.eval()(lg.tensor([-1.0, 2.0])).numpy(), [-0.2, 2.0])
    assert repr(layer) == "RReLU(lower=0.1, upper=0.3)"
    with pytest.raises(ArgumentError, match="lower 1 must not be above upper 0"):
        nn.RReLU(1, 0)
