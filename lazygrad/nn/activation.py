"""Activations as modules: a function of `lazygrad.nn.functional` and its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from lazygrad.dtypes import DTypeLike, as_dtype, get_default_dtype
from lazygrad.engine.device import check_device
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn import functional as F
from lazygrad.nn.functional.two_ways import chosen
from lazygrad.nn.module import Module
from lazygrad.nn.parameter import Parameter


class _Activation(Module):
    """`function` of the input and of the attributes that `settings` names."""

    function: ClassVar[Callable[..., Tensor]]
    settings: ClassVar[tuple[str, ...]] = ()
    inplace = False

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function."""
        settings = [getattr(self, name) for name in self.settings]
        return type(self).function(input, *settings, **chosen(self))

    def extra_repr(self) -> str:
        """The settings, as PyTorch writes them."""
        parts = [f"{name}={getattr(self, name)!r}" for name in self.settings]
        return ", ".join([*parts, "inplace=True"] if self.inplace else parts)


class _InPlace(_Activation):
    """One with PyTorch's `inplace` flag, which changes nothing here."""

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace


class ReLU(_InPlace):
    """max(x, 0).

    >>> import lazygrad as lg
    >>> lg.nn.ReLU()(lg.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    function = F.relu


class ReLU6(_InPlace):
    """min(max(x, 0), 6)."""

    function = F.relu6


class SiLU(_InPlace):
    """x * sigmoid(x)."""

    function = F.silu


class Mish(_InPlace):
    """x * tanh(softplus(x))."""

    function = F.mish


class SELU(_InPlace):
    """The self-normalizing elu."""

    function = F.selu


class Hardswish(_InPlace):
    """x * hardsigmoid(x)."""

    function = F.hardswish


class Hardsigmoid(_InPlace):
    """The straight line x / 6 + 1/2, cut to [0, 1]."""

    function = F.hardsigmoid


class Softsign(_Activation):
    """x / (1 + |x|)."""

    function = F.softsign


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    function = F.sigmoid


class LogSigmoid(_Activation):
    """log(sigmoid(x))."""

    function = F.logsigmoid


class Tanh(_Activation):
    """The hyperbolic tangent."""

    function = F.tanh


class Hardtanh(_Activation):
    """x cut to [min_val, max_val]."""

    function = F.hardtanh
    settings = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace


class LeakyReLU(_Activation):
    """x where x > 0, else negative_slope * x."""

    function = F.leaky_relu
    settings = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope, self.inplace = negative_slope, inplace


class RReLU(Module):
    """Leaky relu with a slope drawn for each element while training (Xu et al. 2015)."""

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        if not lower <= upper:
            raise ArgumentError(f"RReLU: lower {lower} must not be above upper {upper}")
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def forward(self, input: Tensor) -> Tensor:
        """Draw the slopes, or take the mean one."""
        return F.rrelu(input, self.lower, self.upper, self.training)

    def extra_repr(self) -> str:
        """PyTorch's."""
        inplace = ", inplace=True" if self.inplace else ""
        return f"lower={self.lower}, upper={self.upper}{inplace}"


class PReLU(_Activation):
    """Leaky relu with a learned slope, one for all or one for each channel."""

    function = F.prelu
    settings = ("weight",)

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, *, device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        self.num_parameters = num_parameters
        check_device(device)
        kind = get_default_dtype() if dtype is None else as_dtype(dtype)
        self.weight = Parameter(np.full(num_parameters, init, kind.dtype))

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"num_parameters={self.num_parameters}"


class ELU(_Activation):
    """x where x > 0, else alpha * (exp(x) - 1)."""

    function = F.elu
    settings = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha, self.inplace = alpha, inplace


class GELU(_Activation):
    """x times the normal distribution function of x; `approximate` is "none" or "tanh"."""

    function = F.gelu
    settings = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate


class Softplus(_Activation):
    """log(1 + exp(beta * x)) / beta."""

    function = F.softplus
    settings = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold


class _AlongAxis(_Activation):
    """A function along an axis."""

    settings = ("dim",)

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim


class Softmax(_AlongAxis):
    """exp(x) normalized to sum 1 along `dim`."""

    function = F.softmax


class Softmin(_AlongAxis):
    """softmax(-x)."""

    function = F.softmin


class LogSoftmax(_AlongAxis):
    """log(softmax(x))."""

    function = F.log_softmax


class CELU(_Activation):
    """x where x > 0, else alpha * (exp(x / alpha) - 1)."""

    function = F.celu
    settings = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha, self.inplace = alpha, inplace


class ReLUSquared(_InPlace):
    """max(x, 0) ** 2."""

    function = F.relu_squared


class Threshold(_Activation):
    """x where x > threshold, else value."""

    function = F.threshold
    settings = ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        self.threshold, self.value, self.inplace = threshold, value, inplace


class _Shrink(_Activation):
    """One with a width around 0."""

    settings = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def extra_repr(self) -> str:
        """PyTorch's."""
        return str(self.lambd)


class Hardshrink(_Shrink):
    """x where |x| > lambd, else 0."""

    function = F.hardshrink


class Softshrink(_Shrink):
    """x moved towards 0 by lambd, 0 where |x| <= lambd."""

    function = F.softshrink


class Tanhshrink(_Activation):
    """x - tanh(x)."""

    function = F.tanhshrink


class GLU(_Activation):
    """The first half along `dim` times the sigmoid of the second."""

    function = F.glu
    settings = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim


class SwiGLU(GLU):
    """The silu of the first half along `dim` times the second."""

    function = F.swiglu


class Softmax2d(Module):
    """softmax over the channels of (batch, channels, height, width) or (channels, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply it at every place."""
        if input.ndim not in (3, 4):
            raise ShapeError(f"Softmax2d takes 3 or 4 dimensions, got {input.shape}")
        return F.softmax(input, dim=-3, auto=self.auto)
