"""Initial values: each function fills a tensor in place and returns it.

The numbers come from the random stream in program order, so `manual_seed` decides them. Every name
exists with and without PyTorch's trailing underscore.
"""

from __future__ import annotations

import math

import numpy as np

from lazygrad.engine.creation import rand, randn
from lazygrad.engine.modes import no_grad
from lazygrad.engine.random import Generator, default_generator
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ArgumentTypeError, ShapeError, nearest
from lazygrad.shapes import numel

_GAINS = {
    "linear": 1.0, "identity": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "sigmoid": 1.0,
    "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4,
}  # fmt: skip


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a nonlinearity's inputs must be scaled to keep their variance.

    `param` is the negative slope of "leaky_relu" (0.01 unless given).

    >>> calculate_gain("tanh")
    1.6666666666666667
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        hint = nearest(str(nonlinearity), [*_GAINS, "leaky_relu"])
        raise ArgumentError(f"calculate_gain: unknown nonlinearity {nonlinearity!r}{hint}")
    return _GAINS[nonlinearity]


def fan_in_and_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs an output of a weight (out, in, ...) has, and how many outputs an input."""
    if tensor.ndim < 2:
        raise ShapeError(f"fan in and fan out need two dimensions, got {tensor.shape}")
    field = numel(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _check(tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise ArgumentTypeError(
            f"nn.init writes into a tensor, got {type(tensor).__name__}; pass the parameter itself,"
            " not its .data, which is an array"
        )


def _fill(tensor: Tensor, value: Tensor) -> Tensor:
    _check(tensor)
    with no_grad():
        return tensor.assign_(value)


def zeros_(tensor: Tensor) -> Tensor:
    """All 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """All 1."""
    return constant_(tensor, 1.0)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """All `val`.

    >>> import lazygrad as lg
    >>> lg.nn.init.constant_(lg.zeros(2), 0.5)
    tensor([0.5000, 0.5000])
    """
    _check(tensor)
    tensor.data = np.full(tensor.shape, val, tensor.dtype.dtype)
    return tensor


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix."""
    _check(tensor)
    if tensor.ndim != 2:
        raise ShapeError(f"eye_ takes a matrix, got {tensor.shape}")
    tensor.data = np.eye(*tensor.shape, dtype=tensor.dtype.dtype)
    return tensor


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform in [a, b)."""
    unit = rand(tensor.shape, dtype=tensor.dtype, generator=generator)
    return _fill(tensor, unit * (b - a) + a)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal with a mean and a standard deviation."""
    unit = randn(tensor.shape, dtype=tensor.dtype, generator=generator)
    return _fill(tensor, unit * std + mean)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, drawn again until it lies in [a, b]."""
    rng = np.random.default_rng((generator or default_generator()).host_seed())
    values = rng.normal(mean, std, tensor.shape)
    outside = (values < a) | (values > b)
    for _ in range(10_000):
        if not outside.any():
            tensor.data = values
            return tensor
        values[outside] = rng.normal(mean, std, int(outside.sum()))
        outside = (values < a) | (values > b)
    raise ArgumentError(f"trunc_normal_: [{a}, {b}] is out of reach of mean {mean}, std {std}")


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform within gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    bound = gain * math.sqrt(6.0 / sum(fan_in_and_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with deviation gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    std = gain * math.sqrt(2.0 / sum(fan_in_and_out(tensor)))
    return normal_(tensor, 0.0, std, generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"mode is 'fan_in' or 'fan_out', got {mode!r}")
    fan = fan_in_and_out(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform within gain * sqrt(3 / fan) (He et al. 2015); `a` is the slope of leaky_relu."""
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with deviation gain / sqrt(fan) (He et al. 2015); `a` is the slope of leaky_relu."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """`gain` times a random matrix with orthonormal rows or columns (Saxe et al. 2014).

    More than two dimensions are taken as (first, all the others).
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_ needs two dimensions, got {tensor.shape}")
    rng = np.random.default_rng((generator or default_generator()).host_seed())
    rows, columns = tensor.shape[0], numel(tensor.shape[1:])
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))  # makes the distribution uniform (Mezzadri 2007)
    tensor.data = gain * (q if rows >= columns else q.T).reshape(tensor.shape)
    return tensor


zeros, ones, constant, eye = zeros_, ones_, constant_, eye_
uniform, normal = uniform_, normal_
trunc_normal, orthogonal = trunc_normal_, orthogonal_
xavier_uniform, xavier_normal = xavier_uniform_, xavier_normal_
kaiming_uniform, kaiming_normal = kaiming_uniform_, kaiming_normal_
