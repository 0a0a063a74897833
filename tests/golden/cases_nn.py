"""Layers of more than two dimensions, and losses of several inputs, for PyTorch and lazygrad.

A module trains for 100 steps together with its inputs, so that the gradients of both count.
"""

import numpy as np

if __package__:
    from tests.golden.cases import fill, flat, numbers, train
else:  # run beside it, by the script that has PyTorch
    from cases import fill, flat, numbers, train


def leaves(tree):
    """The tensors of nested tuples, in order."""
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in leaves(part)]
    return [] if tree is None else [tree]


def _swiglu(nn):
    if hasattr(nn, "SwiGLU"):
        return nn.SwiGLU()

    class SwiGLU(nn.Module):
        def forward(self, x):
            gate, value = x.chunk(2, -1)
            return nn.functional.silu(gate) * value

    return SwiGLU()


def _relu_squared(nn):
    return nn.ReLUSquared() if hasattr(nn, "ReLUSquared") else _Square(nn)


def _Square(nn):
    class Square(nn.Module):
        def forward(self, x):
            return nn.functional.relu(x) ** 2

    return Square()


def _packed(nn, layer, sort=False):
    """A recurrent layer over sequences of three lengths, packed and padded again."""
    rnn = nn.utils.rnn

    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            lengths = [2, 3, 1] if sort else [3, 2, 1]
            packed = rnn.pack_padded_sequence(x, lengths, enforce_sorted=not sort)
            output, state = self.layer(packed)
            return rnn.pad_packed_sequence(output, padding_value=0.3)[0], state

    return Packed()


def _called(nn, call, layer=None):
    """A module that calls a layer, or `functional`, in some way."""

    class Called(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, *inputs):
            return call(nn.functional if layer is None else layer, *inputs)

    return Called()


def _float_mask(x, *shape):
    """Numbers to add, a third of them minus infinity, never a whole row."""
    values = numbers("mask", *shape)
    values[..., 1:][values[..., 1:] < -0.4] = -np.inf
    return x.new_tensor(values)


def _flags(x, *shape):
    return _float_mask(x, *shape) > -1e9


def _attend(**options):
    return lambda F, q, k, v: F.scaled_dot_product_attention(q, k, v, **options)


# Module and the shapes of its inputs.
MODULES = {
    "celu": (lambda nn: nn.CELU(0.7), [(3, 4)]),
    "glu": (lambda nn: nn.GLU(1), [(3, 4, 2)]),
    "swiglu": (_swiglu, [(3, 4)]),
    "relu_squared": (_relu_squared, [(3, 4)]),
    "threshold": (lambda nn: nn.Threshold(0.2, 1.5), [(3, 4)]),
    "hardshrink": (lambda nn: nn.Hardshrink(0.4), [(3, 4)]),
    "softshrink": (lambda nn: nn.Softshrink(0.4), [(3, 4)]),
    "tanhshrink": (lambda nn: nn.Tanhshrink(), [(3, 4)]),
    "softmax2d": (lambda nn: nn.Softmax2d(), [(2, 3, 2, 2)]),
    "bilinear": (lambda nn: nn.Bilinear(3, 4, 2), [(5, 3), (5, 4)]),
    "bilinear_deep": (lambda nn: nn.Bilinear(3, 2, 2, bias=False), [(2, 3, 3), (2, 3, 2)]),
    "cosine_similarity": (lambda nn: nn.CosineSimilarity(), [(3, 4), (3, 4)]),
    "pairwise_distance": (lambda nn: nn.PairwiseDistance(3.0, keepdim=True), [(3, 4), (3, 4)]),
    "group_norm": (lambda nn: nn.GroupNorm(2, 6), [(3, 6, 2, 2)]),
    "group_norm_plain": (lambda nn: nn.GroupNorm(3, 6, eps=1e-2, affine=False), [(2, 6, 4)]),
    "instance_norm1d": (lambda nn: nn.InstanceNorm1d(3, affine=True), [(2, 3, 5)]),
    "instance_norm1d_single": (lambda nn: nn.InstanceNorm1d(3), [(3, 5)]),
    "instance_norm2d_tracked": (
        lambda nn: nn.InstanceNorm2d(2, affine=True, track_running_stats=True, momentum=0.3),
        [(3, 2, 2, 3)],
    ),
    "batch_norm1d": (lambda nn: nn.BatchNorm1d(3), [(4, 3, 2)]),
    "batch_norm2d": (lambda nn: nn.BatchNorm2d(2, momentum=0.3), [(3, 2, 2, 3)]),
    "batch_norm2d_no_bias": (lambda nn: nn.BatchNorm2d(2, bias=False), [(3, 2, 2, 3)]),
    "batch_norm3d": (lambda nn: nn.BatchNorm3d(2), [(2, 2, 2, 1, 3)]),
    "upsample_area": (
        lambda nn: _called(nn, lambda F, x: F.interpolate(x, (2, 5), mode="area")), [(2, 2, 3, 4)],
    ),
    "upsample_bicubic": (lambda nn: nn.Upsample((5, 3), mode="bicubic"), [(1, 2, 3, 4)]),
    "upsample_bicubic_aligned": (
        lambda nn: nn.Upsample(scale_factor=1.7, mode="bicubic", align_corners=True),
        [(1, 2, 3, 4)],
    ),
    "local_response_norm": (lambda nn: nn.LocalResponseNorm(3, alpha=0.5, k=0.7), [(2, 5, 3)]),
    "lp_pool2d": (
        lambda nn: nn.Sequential(nn.Softplus(), nn.LPPool2d(3, (2, 3), stride=1)), [(2, 2, 4, 5)],
    ),
    "lp_pool1d_ceil": (
        lambda nn: nn.Sequential(nn.Softplus(), nn.LPPool1d(2, 2, ceil_mode=True)), [(2, 3, 5)],
    ),
    "max_unpool2d": (
        lambda nn: _called(nn, lambda F, x: F.max_unpool2d(
            *F.max_pool2d(x, 2, return_indices=True), 2, output_size=(5, 4))), [(2, 2, 5, 4)],
    ),
    "upsample_nearest": (lambda nn: nn.Upsample(scale_factor=2), [(2, 2, 3, 2)]),
    "upsample_nearest_size": (lambda nn: nn.Upsample((5, 3)), [(1, 2, 3, 4)]),
    "upsample_exact": (lambda nn: nn.Upsample((5, 3), mode="nearest-exact"), [(1, 2, 3, 4)]),
    "upsample_linear": (lambda nn: nn.Upsample(scale_factor=1.7, mode="linear"), [(2, 2, 4)]),
    "upsample_recomputed": (
        lambda nn: nn.Upsample(scale_factor=1.7, mode="linear", recompute_scale_factor=True),
        [(2, 2, 4)],
    ),
    "upsample_bilinear": (lambda nn: nn.Upsample((5, 3), mode="bilinear"), [(1, 2, 3, 4)]),
    "upsample_corners": (lambda nn: nn.UpsamplingBilinear2d(scale_factor=2), [(1, 2, 2, 3)]),
    "upsample_trilinear": (
        lambda nn: nn.Upsample(scale_factor=(2, 1, 1.5), mode="trilinear"), [(1, 1, 2, 2, 2)],
    ),
    "pixel_shuffle": (lambda nn: nn.PixelShuffle(2), [(2, 8, 2, 3)]),
    "pixel_unshuffle": (lambda nn: nn.PixelUnshuffle(2), [(3, 4, 2)]),
    "channel_shuffle": (lambda nn: nn.ChannelShuffle(2), [(1, 6, 2, 2)]),
    "zero_pad": (lambda nn: nn.ZeroPad2d((1, 0, -1, 2)), [(2, 2, 3, 3)]),
    "constant_pad": (lambda nn: nn.ConstantPad1d((2, 1), 0.7), [(2, 2, 3)]),
    "reflection_pad1d": (lambda nn: nn.ReflectionPad1d((3, 1)), [(2, 2, 4)]),
    "reflection_pad2d": (lambda nn: nn.ReflectionPad2d((1, 2, 2, 0)), [(2, 3, 3)]),
    "replication_pad2d": (lambda nn: nn.ReplicationPad2d((4, 1, 0, 2)), [(1, 2, 3, 3)]),
    "replication_pad3d": (lambda nn: nn.ReplicationPad3d(1), [(1, 1, 2, 2, 2)]),
    "circular_pad1d": (lambda nn: nn.CircularPad1d((3, 2)), [(2, 2, 3)]),
    "circular_pad2d": (lambda nn: nn.CircularPad2d((1, 2, 0, 1)), [(1, 2, 3, 3)]),
    "rnn": (lambda nn: nn.RNN(3, 4, 2), [(3, 2, 3)]),
    "rnn_relu": (
        lambda nn: nn.RNN(3, 2, nonlinearity="relu", bias=False, bidirectional=True), [(3, 2, 3)],
    ),
    "rnn_single": (lambda nn: nn.RNN(3, 4), [(3, 3), (1, 4)]),
    "lstm": (lambda nn: nn.LSTM(3, 4), [(3, 2, 3)]),
    "lstm_all": (
        lambda nn: nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True, proj_size=2), [(2, 2, 3)],
    ),
    "gru": (lambda nn: nn.GRU(3, 4), [(3, 2, 3), (1, 2, 4)]),
    "gru_both": (lambda nn: nn.GRU(2, 3, 2, bidirectional=True, bias=False), [(2, 3, 2)]),
    "rnn_cell": (lambda nn: nn.RNNCell(3, 4, nonlinearity="relu"), [(2, 3), (2, 4)]),
    "lstm_cell": (lambda nn: nn.LSTMCell(3, 4), [(2, 3)]),
    "lstm_cell_single": (lambda nn: nn.LSTMCell(3, 4, bias=False), [(3,)]),
    "gru_cell": (lambda nn: nn.GRUCell(3, 4), [(2, 3), (2, 4)]),
    "packed_lstm": (lambda nn: _packed(nn, nn.LSTM(3, 4, 2)), [(3, 3, 3)]),
    "packed_gru_both": (
        lambda nn: _packed(nn, nn.GRU(3, 2, bidirectional=True), sort=True), [(3, 3, 3)],
    ),
    "sdpa": (lambda nn: _called(nn, _attend()), [(2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 3)]),
    "sdpa_causal": (
        lambda nn: _called(nn, _attend(is_causal=True, scale=0.3)), [(2, 3, 4)] * 3,
    ),
    "sdpa_flags": (
        lambda nn: _called(
            nn,
            lambda F, q, k, v: F.scaled_dot_product_attention(q, k, v, _flags(q, 2, 1, 3, 5)),
        ),
        [(2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4)],
    ),
    "sdpa_added_gqa": (
        lambda nn: _called(
            nn,
            lambda F, q, k, v: F.scaled_dot_product_attention(
                q, k, v, _float_mask(q, 3, 5), enable_gqa=True
            ),
        ),
        [(2, 4, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4)],
    ),
    "sdpa_causal_gqa": (
        lambda nn: _called(nn, _attend(is_causal=True, enable_gqa=True)),
        [(1, 4, 3, 2), (1, 1, 3, 2), (1, 1, 3, 2)],
    ),
    "mha": (
        lambda nn: _called(nn, lambda m, x: m(x, x, x), nn.MultiheadAttention(4, 2)), [(3, 2, 4)],
    ),
    "mha_single": (
        lambda nn: _called(
            nn, lambda m, x: m(x, x, x, average_attn_weights=False), nn.MultiheadAttention(4, 2)
        ),
        [(3, 4)],
    ),
    "mha_cross": (
        lambda nn: _called(
            nn,
            lambda m, q, k, v: m(
                q, k, v, attn_mask=_float_mask(q, 3, 5),
                key_padding_mask=q.new_zeros(2, 5) > q.new_ones(2, 5),
            ),
            nn.MultiheadAttention(4, 2, kdim=3, vdim=2, batch_first=True, bias=False),
        ),
        [(2, 3, 4), (2, 5, 3), (2, 5, 2)],
    ),
    "mha_extended": (
        lambda nn: _called(
            nn,
            lambda m, q, k: m(q, k, k, attn_mask=~_flags(q, 4, 3, 5)),
            nn.MultiheadAttention(4, 2, add_bias_kv=True, add_zero_attn=True),
        ),
        [(3, 2, 4), (5, 2, 4)],
    ),
    "encoder_layer": (
        lambda nn: nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True), [(2, 3, 4)],
    ),
    "encoder_layer_first": (
        lambda nn: _called(
            nn,
            lambda m, x: m(x, src_mask=_float_mask(x, 3, 3)),
            nn.TransformerEncoderLayer(4, 2, 6, 0.0, "gelu", norm_first=True, bias=False),
        ),
        [(3, 2, 4)],
    ),
    "decoder_layer": (lambda nn: nn.TransformerDecoderLayer(4, 2, 6, 0.0), [(3, 2, 4), (5, 2, 4)]),
    "transformer": (
        lambda nn: _called(
            nn,
            lambda m, x, y: m(x, y, tgt_mask=m.generate_square_subsequent_mask(2).double()),
            nn.Transformer(4, 2, 2, 1, 5, 0.0, batch_first=True),
        ),
        [(2, 3, 4), (2, 2, 4)],
    ),
    "conv1d": (lambda nn: nn.Conv1d(3, 4, 3, padding="same"), [(2, 3, 5)]),
    "conv1d_circular": (
        lambda nn: nn.Conv1d(2, 2, 3, padding=2, padding_mode="circular"), [(2, 2, 4)],
    ),
    "conv2d": (lambda nn: nn.Conv2d(2, 3, 3, stride=2, padding=1), [(2, 2, 5, 4)]),
    "conv2d_groups": (
        lambda nn: nn.Conv2d(4, 6, (2, 3), groups=2, bias=False, dilation=(2, 1)), [(2, 4, 4, 4)],
    ),
    "conv2d_depthwise": (lambda nn: nn.Conv2d(3, 3, 3, groups=3, padding=1), [(2, 3, 3, 3)]),
    "conv2d_pointwise": (lambda nn: nn.Conv2d(3, 4, 1), [(2, 3, 3, 2)]),
    "conv2d_single": (lambda nn: nn.Conv2d(2, 2, 2, padding="valid"), [(2, 3, 3)]),
    "conv2d_same_reflect": (
        lambda nn: nn.Conv2d(2, 2, (2, 3), padding="same", padding_mode="reflect"), [(1, 2, 4, 3)],
    ),
    "conv2d_replicate": (
        lambda nn: nn.Conv2d(1, 2, 3, padding=(2, 1), padding_mode="replicate"), [(1, 1, 3, 3)],
    ),
    "conv3d": (lambda nn: nn.Conv3d(2, 2, (1, 2, 2), padding=(0, 1, 0)), [(1, 2, 2, 3, 3)]),
    "conv_transpose1d": (lambda nn: nn.ConvTranspose1d(2, 3, 3, stride=2), [(2, 2, 4)]),
    "conv_transpose2d": (
        lambda nn: nn.ConvTranspose2d(2, 4, 3, 2, 1, output_padding=1, groups=2), [(2, 2, 3, 3)],
    ),
    "conv_transpose3d": (
        lambda nn: nn.ConvTranspose3d(1, 2, 2, bias=False, dilation=(1, 2, 1)), [(1, 1, 2, 2, 2)],
    ),
    "unfold": (lambda nn: nn.Unfold((2, 3), padding=1, stride=2), [(2, 2, 4, 5)]),
    "fold": (lambda nn: nn.Fold((4, 5), (2, 3), padding=1, stride=2), [(2, 12, 9)]),
    "max_pool1d": (lambda nn: nn.MaxPool1d(3, stride=2, padding=1), [(2, 2, 6)]),
    "max_pool2d": (lambda nn: nn.MaxPool2d(2), [(2, 2, 4, 5)]),
    "max_pool2d_all": (
        lambda nn: nn.MaxPool2d((2, 3), (1, 2), (1, 0), (2, 1), ceil_mode=True), [(1, 2, 4, 6)],
    ),
    "max_pool2d_relu": (
        lambda nn: nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 1)), [(1, 2, 5, 5)],
    ),
    "max_pool3d": (lambda nn: nn.MaxPool3d(2, 1), [(1, 1, 3, 2, 3)]),
    "avg_pool1d": (lambda nn: nn.AvgPool1d(3, 2, 1), [(2, 2, 6)]),
    "avg_pool2d": (lambda nn: nn.AvgPool2d(2), [(2, 2, 4, 5)]),
    "avg_pool2d_all": (
        lambda nn: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), [(1, 2, 6, 4)],
    ),
    "avg_pool2d_divisor": (lambda nn: nn.AvgPool2d(2, 1, divisor_override=3), [(1, 2, 3, 3)]),
    "avg_pool3d": (lambda nn: nn.AvgPool3d(2, 1, 1), [(1, 1, 2, 2, 3)]),
    "adaptive_avg_pool1d": (lambda nn: nn.AdaptiveAvgPool1d(3), [(2, 2, 7)]),
    "adaptive_avg_pool2d": (lambda nn: nn.AdaptiveAvgPool2d((3, None)), [(1, 2, 5, 3)]),
    "adaptive_avg_pool2d_one": (lambda nn: nn.AdaptiveAvgPool2d(1), [(2, 2, 3, 4)]),
    "adaptive_avg_pool2d_up": (lambda nn: nn.AdaptiveAvgPool2d((5, 4)), [(1, 1, 3, 2)]),
    "adaptive_avg_pool3d": (lambda nn: nn.AdaptiveAvgPool3d(2), [(1, 1, 3, 2, 4)]),
    "adaptive_max_pool1d": (lambda nn: nn.AdaptiveMaxPool1d(4), [(2, 2, 7)]),
    "adaptive_max_pool2d": (lambda nn: nn.AdaptiveMaxPool2d((3, 2)), [(1, 2, 5, 6)]),
}  # fmt: skip


def run_module(lib, name, wrap=None, steps=100):
    """Losses, and at the end inputs, parameters, buffers, and the output in evaluation mode."""
    build, shapes = MODULES[name]
    module = build(lib.nn).double()
    fill(name, module, lib)
    inputs = [
        lib.nn.Parameter(lib.tensor(numbers(f"{name}.{i}", *s))) for i, s in enumerate(shapes)
    ]
    weights = []

    def loss():
        total = 0
        for i, y in enumerate(leaves(module(*inputs))):
            if i == len(weights):
                weights.append(lib.tensor(numbers(f"{name}.out{i}", *y.shape)))
            total = total + (y * weights[i]).sum() * 0.1 + (y * y).mean()
        return total

    loss()
    optimizer = lib.optim.SGD([*inputs, *module.parameters()], lr=0.02)
    losses = train(lib, module, optimizer, loss, wrap, steps=steps)
    module.eval()
    with lib.no_grad():
        outputs = leaves(module(*inputs))
    kept = [*inputs, *module.parameters(), *module.buffers(), *outputs]
    return {"losses": losses, "end": flat(kept)}


def _signs(name, *shape):
    return np.where(numbers(name, *shape) > 0, 1.0, -1.0)


# A loss, the shapes of its differentiable inputs, and what else it takes.
LOSSES = {
    "hinge_embedding": (lambda nn: nn.HingeEmbeddingLoss(0.8), [(5, 3)], [_signs("a", 5, 3)]),
    "cosine_embedding": (
        lambda nn: nn.CosineEmbeddingLoss(0.2), [(5, 3), (5, 3)], [_signs("b", 5)],
    ),
    "margin_ranking": (
        lambda nn: nn.MarginRankingLoss(0.3), [(5, 3), (5, 3)], [_signs("c", 5, 3)],
    ),
    "triplet_margin": (lambda nn: nn.TripletMarginLoss(1.5), [(5, 3)] * 3, []),
    "triplet_margin_swap": (
        lambda nn: nn.TripletMarginLoss(2.0, p=1.0, swap=True, reduction="sum"), [(5, 3)] * 3, [],
    ),
    "triplet_distance": (
        lambda nn: nn.TripletMarginWithDistanceLoss(
            distance_function=nn.PairwiseDistance(p=1), margin=2.0, swap=True), [(5, 3)] * 3, [],
    ),
    "multilabel_margin": (
        lambda nn: nn.MultiLabelMarginLoss(), [(3, 4)],
        [np.array([[3, 0, -1, 1], [1, -1, 0, 0], [-1, 0, 0, 0]])],
    ),
    "ctc": (
        lambda nn: _called(nn, lambda F, x, *y: F.ctc_loss(F.log_softmax(x, 2), *y)), [(7, 3, 4)],
        [np.array([[1, 2, 2], [3, 1, 0], [1, 0, 0]]), np.array([7, 6, 5]), np.array([3, 2, 0])],
    ),
    "ctc_sum": (
        lambda nn: _called(nn, lambda F, x, *y: F.ctc_loss(
            F.log_softmax(x, 2), *y, blank=2, reduction="sum", zero_infinity=True)), [(4, 2, 4)],
        [np.array([[1, 1, 3], [3, 3, 3]]), np.array([4, 4]), np.array([3, 3])],
    ),
    "soft_margin": (lambda nn: nn.SoftMarginLoss(), [(5, 3)], [_signs("d", 5, 3)]),
    "multi_margin": (lambda nn: nn.MultiMarginLoss(), [(4, 3)], [np.array([0, 2, 1, 1])]),
    "multi_margin_square": (
        lambda nn: nn.MultiMarginLoss(p=2, margin=0.7, reduction="sum"), [(4, 3)],
        [np.array([0, 2, 1, 1])],
    ),
    "multilabel_soft_margin": (
        lambda nn: nn.MultiLabelSoftMarginLoss(), [(5, 3)], [_signs("e", 5, 3) > 0],
    ),
    "poisson": (lambda nn: nn.PoissonNLLLoss(), [(5, 3)], [np.arange(15.0).reshape(5, 3)]),
    "poisson_full": (
        lambda nn: nn.PoissonNLLLoss(full=True, reduction="sum"), [(5, 3)],
        [np.arange(15.0).reshape(5, 3) % 4],
    ),
    "gaussian": (
        lambda nn: nn.GaussianNLLLoss(), [(5, 3)],
        [numbers("t", 5, 3), np.abs(numbers("v", 5, 3))],
    ),
    "gaussian_full": (
        lambda nn: nn.GaussianNLLLoss(full=True, eps=0.5), [(5, 3)],
        [numbers("t", 5, 3), np.abs(numbers("v", 5))[:, None]],
    ),
}  # fmt: skip


def run_loss(lib, name, wrap=None, steps=100):
    """Losses, and the inputs at the end."""
    build, shapes, others = LOSSES[name]
    module = build(lib.nn)
    inputs = [
        lib.nn.Parameter(lib.tensor(numbers(f"{name}.{i}", *s))) for i, s in enumerate(shapes)
    ]

    def loss():
        given = [x.double() if x.dtype is lib.bool else x for x in map(lib.tensor, others)]
        return module(*inputs, *given)

    optimizer = lib.optim.SGD(inputs, lr=0.05)
    losses = train(lib, module, optimizer, loss, wrap, steps=steps)
    return {"losses": losses, "end": flat(inputs)}


RUNS = {
    **{f"module/{n}": (run_module, n) for n in MODULES},
    **{f"loss/{n}": (run_loss, n) for n in LOSSES},
}
