"""Activations and the softmax family.

`inplace=` is accepted where PyTorch has it and changes nothing: whether a result takes the memory
of its operand is for the memory planner to decide.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from lazygrad.dtypes import DTypeLike
from lazygrad.engine.creation import rand
from lazygrad.engine.precision import KEEP, SINGLE
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn.functional.two_ways import wide, with_op, with_vjp
from lazygrad.ops.elementwise import SOFTPLUS
from lazygrad.shapes import existing_axis


@with_op(Tensor.relu)
def _relu(x: Tensor) -> Tensor:
    return x.where(x > 0, 0.0)


def relu(input: Tensor, inplace: bool = False, *, auto: bool | None = None) -> Tensor:
    """max(x, 0).

    >>> import lazygrad as lg
    >>> lg.nn.functional.relu(lg.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return _relu(input, auto=auto)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0)


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """`x` cut to [min_val, max_val]; its slope at the corners is 0, where that of `clamp` is 1."""
    if min_val > max_val:
        raise ArgumentError(f"hardtanh: min_val {min_val} is above max_val {max_val}")
    inside = (input > min_val) & (input < max_val)
    return input.where(inside, input.detach().clamp(min_val, max_val))


def _given(result: Tensor, x: Tensor) -> Tensor:
    """A rule that reads the argument."""
    return x


def _given_second(result: Tensor, setting: Any, x: Tensor) -> Tensor:
    return x


def _result(result: Tensor, *args: Any) -> Tensor:
    """A rule that reads the result."""
    return result


@with_vjp(lambda slope, x, g: (g.where(x > 0, g * slope),), keeps=_given_second, static=["slope"])
def _leaky_relu(slope: float, x: Tensor) -> Tensor:
    return x.where(x > 0, x * slope)


def leaky_relu(
    input: Tensor, negative_slope: float = 0.01, inplace: bool = False, *, auto: bool | None = None
) -> Tensor:  # fmt: skip
    """`x` where x > 0, else `negative_slope * x`.

    >>> import lazygrad as lg
    >>> lg.nn.functional.leaky_relu(lg.tensor([-1.0, 2.0]), 0.5)
    tensor([-0.5000, 2.0000])
    """
    return _leaky_relu(negative_slope, input, auto=auto)


def rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False,
    inplace: bool = False,
) -> Tensor:  # fmt: skip
    """Leaky relu with a slope drawn for each element, or the mean slope (Xu et al. 2015).

    >>> import lazygrad as lg
    >>> lg.nn.functional.rrelu(lg.tensor([-1.0, 2.0]), 0.25, 0.75)
    tensor([-0.5000, 2.0000])
    """
    if not lower <= upper:
        raise ArgumentError(f"rrelu: lower {lower} must not be above upper {upper}")
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    slope = rand(input.shape, dtype=input.dtype) * (upper - lower) + lower
    return input.where(input > 0, input * slope)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Leaky relu with a learned slope, one for all or one for each channel (axis 1)."""
    if weight.ndim and weight.shape[0] > 1:
        axis = 1 if input.ndim > 1 else 0
        weight = weight.reshape([-1 if i == axis else 1 for i in range(input.ndim)])
    return input.where(input > 0, input * weight)


@KEEP
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`x` where x > 0, else `alpha * (exp(x) - 1)` (Clevert et al. 2016)."""
    # The cut keeps exp from overflowing where its value is not taken.
    return input.where(input > 0, input.clamp(max=0).expm1() * alpha)


@KEEP
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """The scaled elu whose activations keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    return elu(input, 1.6732632423543772848170429916717) * 1.0507009873554804934193349852946


def _silu_backward(x: Tensor, g: Tensor) -> tuple[Tensor]:
    s = x.sigmoid()
    return (g * (s * (x * (1 - s) + 1)),)


@with_vjp(_silu_backward, keeps=_given)
def _silu(x: Tensor) -> Tensor:
    return x.silu()


def silu(input: Tensor, inplace: bool = False, *, auto: bool | None = None) -> Tensor:
    """`x * sigmoid(x)`, also called swish."""
    return _silu(input, auto=auto)


@KEEP
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * tanh(softplus(x))` (Misra 2019)."""
    return input * softplus(input).tanh()


def _gelu_backward(approximate: str, x: Tensor, g: Tensor) -> tuple[Tensor]:
    if approximate == "none":
        density = (x * x * -0.5).exp() * (1 / math.sqrt(2 * math.pi))
        return (g * (((x * math.sqrt(0.5)).erf() + 1) * 0.5 + x * density),)
    square = x * x
    bend = ((square * x * 0.044715 + x) * math.sqrt(2 / math.pi)).tanh()
    slope = (square * (3 * 0.044715) + 1) * math.sqrt(2 / math.pi)
    return (g * ((bend + 1) * 0.5 + x * (1 - bend * bend) * slope * 0.5),)


@with_vjp(_gelu_backward, keeps=_given_second, static=["approximate"])
def _gelu(approximate: str, x: Tensor) -> Tensor:
    return x.gelu(approximate)


def gelu(input: Tensor, approximate: str = "none", *, auto: bool | None = None) -> Tensor:
    """`x` times the normal distribution function of x (Hendrycks and Gimpel 2016).

    `approximate="tanh"` takes the cheaper formula that GPT-2 used.
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"gelu: approximate is 'none' or 'tanh', got {approximate!r}")
    return _gelu(approximate, input, auto=auto)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""
    return input.softplus(beta, threshold)


def softsign(input: Tensor) -> Tensor:
    """`x / (1 + |x|)`."""
    return input / (input.abs() + 1)


@with_op(Tensor.sigmoid)
def _sigmoid(x: Tensor) -> Tensor:
    return 1 / ((-x).exp() + 1)


def sigmoid(input: Tensor, *, auto: bool | None = None) -> Tensor:
    """1 / (1 + exp(-x))."""
    return _sigmoid(input, auto=auto)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """The straight line x / 6 + 1/2, cut to [0, 1]."""
    return relu6(input + 3) / 6


@KEEP
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * hardsigmoid(x)` (Howard et al. 2019)."""
    return input * hardsigmoid(input)


@KEEP
def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), without overflow."""
    return -(-input).apply(SOFTPLUS)


@with_op(Tensor.tanh)
def _tanh(x: Tensor) -> Tensor:
    return 1 - 2 / ((x * 2).exp() + 1)


def tanh(input: Tensor, *, auto: bool | None = None) -> Tensor:
    """The hyperbolic tangent."""
    return _tanh(input, auto=auto)


def _axis(name: str, input: Tensor, dim: int | None) -> int:
    """PyTorch's implicit axis, with its warning."""
    if dim is not None:
        return dim
    axis = 0 if input.ndim in (0, 1, 3) else 1
    warnings.warn(f"{name} without dim= takes axis {axis}; pass dim={axis}", stacklevel=3)
    return axis


@with_vjp(
    lambda dim, y, g: (y * (g - (g * y).sum(dim, keepdim=True)),),
    keeps=_result,
    static=["dim"],
)
def _softmax(dim: int, x: Tensor) -> Tensor:
    return x.softmax(dim)


@SINGLE
def softmax(
    input: Tensor, dim: int | None = None, dtype: DTypeLike | None = None, *,
    auto: bool | None = None,
) -> Tensor:  # fmt: skip
    """exp(x) normalized to sum 1 along `dim`, computed from x - max(x).

    >>> import lazygrad as lg
    >>> lg.nn.functional.softmax(lg.tensor([0.0, 0.0]), dim=0)
    tensor([0.5000, 0.5000])
    """
    x = input if dtype is None else input.to(dtype)
    return _softmax(_axis("softmax", x, dim), wide(x), auto=auto).to(x.dtype)


def softmin(input: Tensor, dim: int | None = None, dtype: DTypeLike | None = None) -> Tensor:
    """softmax(-x)."""
    return softmax(-input, _axis("softmin", input, dim), dtype)


@with_vjp(
    lambda dim, y, g: (g - y.exp() * g.sum(dim, keepdim=True),),
    keeps=_result,
    static=["dim"],
)
def _log_softmax(dim: int, x: Tensor) -> Tensor:
    return x.log_softmax(dim)


@SINGLE
def log_softmax(
    input: Tensor, dim: int | None = None, dtype: DTypeLike | None = None, *,
    auto: bool | None = None,
) -> Tensor:  # fmt: skip
    """log(softmax(x)), without overflow or underflow.

    >>> import lazygrad as lg
    >>> lg.nn.functional.log_softmax(lg.tensor([1000.0, 0.0]), dim=0)
    tensor([0., -1000.])
    """
    x = input if dtype is None else input.to(dtype)
    return _log_softmax(_axis("log_softmax", x, dim), wide(x), auto=auto).to(x.dtype)


@KEEP
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`x` where x > 0, else `alpha * (exp(x / alpha) - 1)` (Barron 2017)."""
    return input.where(input > 0, (input.clamp(max=0) / alpha).expm1() * alpha)


@with_vjp(lambda x, g: (g * (x.relu() * 2),), keeps=_given)
def _relu_squared(x: Tensor) -> Tensor:
    return x.relu().square()


def relu_squared(input: Tensor, inplace: bool = False, *, auto: bool | None = None) -> Tensor:
    """max(x, 0) ** 2 (So et al. 2021)."""
    return _relu_squared(input, auto=auto)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """`value` where x <= threshold, else `x`, NaN included."""
    return input.where((input <= threshold).logical_not(), value)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 where |x| <= lambd, else `x`, NaN included."""
    return input.where((input.abs() <= lambd).logical_not(), 0.0)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """`x` moved towards 0 by `lambd`, 0 where |x| <= lambd."""
    if lambd < 0:
        raise ArgumentError(f"softshrink: lambd must not be negative, got {lambd}")
    moved = input - input.sign() * lambd
    return moved.where((input.abs() <= lambd).logical_not(), 0.0)


def tanhshrink(input: Tensor) -> Tensor:
    """`x - tanh(x)`."""
    return input - input.tanh()


def _halves(name: str, input: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    axis = existing_axis(dim, input.ndim, f"{name}: dim")
    if input.shape[axis] % 2:
        raise ShapeError(f"{name}: dimension {axis} of {input.shape} must be even, it is halved")
    first, second = input.chunk(2, axis)
    return first, second


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along `dim` times the sigmoid of the second (Dauphin et al. 2017).

    >>> import lazygrad as lg
    >>> lg.nn.functional.glu(lg.tensor([3.0, 0.0]))
    tensor([1.5000])
    """
    value, gate = _halves("glu", input, dim)
    return value * gate.sigmoid()


def swiglu(input: Tensor, dim: int = -1) -> Tensor:
    """The silu of the first half along `dim` times the second (Shazeer 2020).

    >>> import lazygrad as lg
    >>> lg.nn.functional.swiglu(lg.tensor([0.0, 3.0]))
    tensor([0.])
    """
    gate, value = _halves("swiglu", input, dim)
    return gate.silu() * value


def gumbel_softmax(
    logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A sample of a categorical distribution that has a gradient (Jang et al. 2017).

    `hard` gives one-hot vectors with the gradient of the soft ones; `eps` is PyTorch's, unused.
    """
    noise = -logits.new_empty(logits.shape).exponential_().log()
    soft = ((logits + noise) / tau).softmax(dim)
    if not hard:
        return soft
    places = soft.detach().argmax(dim, keepdim=True)
    return soft.new_zeros(soft.shape).scatter(dim, places, 1.0) - soft.detach() + soft
