"""Modules, layers, losses and initializers, under PyTorch's names."""

from lazygrad.nn import functional, init, utils
from lazygrad.nn.activation import (
    ELU,
    GELU,
    SELU,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softmin,
    Softplus,
    Softsign,
    Tanh,
)
from lazygrad.nn.containers import (
    ModuleDict,
    ModuleList,
    ParameterDict,
    ParameterList,
    Sequential,
)
from lazygrad.nn.dropout import Dropout
from lazygrad.nn.flatten import Flatten, Unflatten
from lazygrad.nn.linear import Embedding, Identity, Linear
from lazygrad.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HingeLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
)
from lazygrad.nn.module import Module
from lazygrad.nn.normalization import BatchNorm1d, BatchNorm2d, LayerNorm, RMSNorm
from lazygrad.nn.parameter import Parameter

__all__ = [
    "Module", "Parameter", "functional", "init", "utils",
    "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict",
    "Identity", "Linear", "Embedding", "Flatten", "Unflatten", "Dropout",
    "LayerNorm", "RMSNorm", "BatchNorm1d", "BatchNorm2d",
    "ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU", "SELU", "SiLU", "Mish", "GELU", "Softplus",
    "Softsign", "Sigmoid", "Hardsigmoid", "Hardswish", "LogSigmoid", "Tanh", "Hardtanh",
    "Softmax", "Softmin", "LogSoftmax",
    "CrossEntropyLoss", "NLLLoss", "HingeLoss", "BCELoss", "BCEWithLogitsLoss", "KLDivLoss",
    "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss",
]  # fmt: skip
