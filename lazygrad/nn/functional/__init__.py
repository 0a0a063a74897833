"""The functional forms of layers, activations and losses, under PyTorch's names."""

from lazygrad.engine.creation import one_hot
from lazygrad.nn.functional.activation import (
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softmin,
    softplus,
    softsign,
    tanh,
)
from lazygrad.nn.functional.layers import (
    batch_norm,
    cosine_similarity,
    dropout,
    embedding,
    layer_norm,
    linear,
    normalize,
    pad,
    rms_norm,
)
from lazygrad.nn.functional.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    hinge_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)

__all__ = [
    "linear", "embedding", "dropout", "layer_norm", "rms_norm", "batch_norm", "normalize",
    "cosine_similarity", "one_hot", "pad",
    "relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "silu", "mish", "gelu", "softplus",
    "softsign", "sigmoid", "hardsigmoid", "hardswish", "logsigmoid", "tanh", "hardtanh", "softmax",
    "softmin", "log_softmax",
    "cross_entropy", "nll_loss", "hinge_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "kl_div", "mse_loss", "l1_loss", "smooth_l1_loss",
    "huber_loss",
]  # fmt: skip
