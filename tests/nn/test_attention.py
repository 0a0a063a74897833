"""Attention: second order, masks that allow nothing, rotary positions, names, errors."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.testing import gradcheck, gradgradcheck

F = nn.functional


def normal(*shape: int, seed: int = 0) -> lg.Tensor:
    values = np.random.default_rng(seed).normal(size=shape)
    return lg.tensor(values, requires_grad=True)


@pytest.mark.parametrize(
    "fn",
    [
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, lg.tensor([[True, False]] * 2)),
        lambda q, k, v: F.rotary_embedding(q * k, 2) + v,
    ],
)
def test_first_and_second_order(fn) -> None:
    inputs = [normal(1, 2, 2, seed=i) for i in range(3)]
    assert gradcheck(fn, inputs)
    assert gradgradcheck(fn, inputs)


NOTHING_FIRST = [
    lg.tensor([[False] * 3, [True] * 3]),
    lg.tensor([[-np.inf] * 3, [0.0] * 3], dtype=lg.float64),
]


@pytest.mark.parametrize("blocked", NOTHING_FIRST)
def test_a_query_that_sees_nothing_gets_zeros_and_no_gradient(blocked) -> None:
    q, k, v = normal(2, 4), normal(3, 4, seed=1), normal(3, 4, seed=2)
    out = F.scaled_dot_product_attention(q, k, v, blocked)
    out.sum().backward()
    assert (out[0] == 0).all() and (out[1] != 0).any()
    assert (q.grad[0] == 0).all() and not q.grad.isnan().any()


def test_heads_that_share_keys_are_heads_with_repeated_keys() -> None:
    q, k, v = normal(2, 6, 3, 4), normal(2, 2, 5, 4, seed=1), normal(2, 2, 5, 4, seed=2)
    mask = lg.tensor(np.random.default_rng(0).normal(size=(2, 6, 3, 5)))
    repeated = [t.repeat_interleave(3, 1) for t in (k, v)]
    np.testing.assert_allclose(
        F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True).numpy(),
        F.scaled_dot_product_attention(q, *repeated, mask).numpy(),
        rtol=1e-12,
    )


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_positions_turn_complex_numbers(interleaved) -> None:
    x = normal(3, 5, 6).numpy()
    angles = (np.arange(5) + 7)[:, None] * 10000.0 ** (-2 * np.arange(3) / 6)
    first, second = (x[..., ::2], x[..., 1::2]) if interleaved else (x[..., :3], x[..., 3:])
    turned = (first + 1j * second) * np.exp(1j * angles)
    wanted = np.concatenate([turned.real, turned.imag], -1)
    if interleaved:
        wanted = np.stack([turned.real, turned.imag], -1).reshape(x.shape)
    found = F.rotary_embedding(lg.tensor(x), lg.scalar(7), interleaved=interleaved)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10, atol=1e-12)


def test_parameters_have_the_names_of_pytorch() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 6)
    assert [name for name, _ in layer.named_parameters()] == [
        "self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight",
        "self_attn.out_proj.bias", "linear1.weight", "linear1.bias", "linear2.weight",
        "linear2.bias", "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
    ]  # fmt: skip


def test_dropout_of_a_captured_layer_is_that_of_an_uncaptured_one() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.3, batch_first=True)
    x = normal(2, 3, 4).float()
    found = []
    for call in (layer, lg.compute_graph(layer)):
        lg.manual_seed(1)
        found.append([call(x).numpy(copy=True) for _ in range(2)])
    np.testing.assert_array_equal(*found)
    assert not np.array_equal(*found[0])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: F.scaled_dot_product_attention(x, x, x[:1]), "as many values as keys"),
        (lambda x: F.scaled_dot_product_attention(x, x[:, :2], x), "widths of query and key"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, x @ x.T, is_causal=True), "not both"),
        (lambda x: nn.MultiheadAttention(4, 2)(x, x, x[:, :2]), "widths 4, 4, 4"),
        (lambda x: nn.MultiheadAttention(4, 2)(x, x, x, attn_mask=x), r"must be \(3, 3\)"),
        (lambda x: nn.MultiheadAttention(4, 3), "embed_dim 4 is no multiple of num_heads 3"),
        (lambda x: nn.TransformerEncoderLayer(4, 2, activation="tanh"), "'relu', 'gelu'"),
        (lambda x: nn.RotaryEmbedding(6)(x), r"takes \(..., time, 6\)"),
    ],
)
def test_errors_name_the_layer_and_the_shapes(call, text) -> None:
    with pytest.raises((ShapeError, ArgumentError), match=text):
        call(lg.ones(3, 4))
