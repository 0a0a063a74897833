"""Attention: second order, masks that allow nothing, rotary positions, names, errors."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.config import config
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.runtime.dispatch import has_llvm
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


def weighted(q, k, v, mask=None, causal=False):
    """The definition, with all weights, in float64."""
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shapes", "mask", "causal"),
    [
        (((5, 4), (6, 4), (6, 3)), None, True),
        (((2, 5, 4), (6, 4), (2, 6, 3)), RNG.normal(size=(6,)), False),
        (((3, 2, 4, 5, 4), (1, 2, 1, 6, 4), (3, 1, 4, 6, 4)), RNG.random((2, 1, 5, 6)) > 0.3, 0),
        (((2, 4, 1, 4), (2, 1, 6, 4), (2, 1, 6, 4)), RNG.normal(size=(4, 1, 6)), False),
    ],
)  # fmt: skip
def test_leading_axes_broadcast(shapes, mask, causal) -> None:
    arrays = [np.random.default_rng(i).normal(size=s) for i, s in enumerate(shapes)]
    given = None if mask is None else lg.tensor(mask)
    found = F.scaled_dot_product_attention(*map(lg.tensor, arrays), given, is_causal=causal)
    np.testing.assert_allclose(
        found.numpy(), weighted(*arrays, mask, causal), rtol=1e-12, atol=1e-14
    )


def test_heads_that_do_not_fit_are_an_error() -> None:
    q, k = lg.ones(1, 4, 3, 2), lg.ones(1, 2, 3, 2)
    with pytest.raises(ShapeError, match=r"query \(1, 4, 3, 2\).*batch or heads differ"):
        F.scaled_dot_product_attention(q, k, k)


def test_half_precision_rounds_once() -> None:
    arrays = [RNG.normal(size=(1, 2, 5, 4)).astype(np.float16) for _ in range(3)]
    found = F.scaled_dot_product_attention(*map(lg.tensor, arrays)).numpy()
    wide = weighted(*(a.astype(np.float64) for a in arrays))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, wide, rtol=2**-10)


def test_a_mask_has_a_gradient() -> None:
    q, k, v, mask = normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 4), normal(3, 1)
    assert gradcheck(F.scaled_dot_product_attention, [q, k, v, mask])


def trained(time: int = 6) -> lg.Tensor:
    """The loss after three captured steps of a transformer."""
    lg.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    opt = lg.optim.AdamW(layer.parameters(), lr=0.01)
    mask = nn.Transformer.generate_square_subsequent_mask(time)

    @lg.compute_graph
    def step(x: lg.Tensor) -> lg.Tensor:
        loss = (layer(x, src_mask=mask, is_causal=True) - x.exp()).abs().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    trained.step = step
    for _ in range(3):
        loss = step(lg.randn(3, time, 16))
    return loss.numpy()


@pytest.mark.parametrize(
    "settings",
    [{"no_capture": True}, {"no_fuse": True}, {"num_workers": 1}, {"num_workers": 7}],
    ids=str,
)
def test_bits_depend_on_the_operands_alone(settings) -> None:
    expected = trained(80)
    with config.override(**settings):
        assert trained(80).tobytes() == expected.tobytes()


@pytest.mark.skipif(not has_llvm(), reason="machine code needs llvmlite")
def test_every_kernel_of_a_step_is_machine_code_and_right() -> None:
    with config.override(executor="native"):
        trained()
        rows = [r for r in trained.step._last.replay._step.program.explain_rows() if r["kernel"]]
    assert {r["executor"] for r in rows} == {"native"}
    assert {"attention", "attention_back"} <= {r["op"] for r in rows}
    with config.override(executor="native", validate=True):
        trained()


def test_memory_grows_with_time_not_with_its_square() -> None:
    """Of a captured step with 2048 queries and keys; the weights alone would be 33 MB."""

    @lg.compute_graph
    def step(q: lg.Tensor) -> lg.Tensor:
        opt.zero_grad()
        loss = F.scaled_dot_product_attention(q * weight, q, q, is_causal=True).sum()
        loss.backward()
        opt.step()
        return loss

    weight = nn.Parameter(lg.ones(8))
    opt = lg.optim.SGD([weight], lr=0.1)
    step(lg.zeros(1, 2, 2048, 8))
    program = step._last.replay._step.program
    assert program.memory.arena_bytes < 2_000_000
