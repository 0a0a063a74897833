"""Functional forms of layers: linear, embedding, dropout, normalization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lazygrad.dtypes import finfo
from lazygrad.engine.creation import rand
from lazygrad.engine.functions import broadcast_tensors
from lazygrad.engine.modes import no_grad
from lazygrad.engine.precision import HALF, SINGLE
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, DTypeError, ShapeError
from lazygrad.nn.functional.two_ways import wide, with_vjp
from lazygrad.nn.functional.unit import unit
from lazygrad.shapes import numel


def _linear_backward(given: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    x, weight, has_bias = given
    rows = g.reshape((-1, weight.shape[0]))
    across = tuple(range(g.ndim - 1))
    return (
        g @ weight,
        rows.T @ x.reshape((-1, weight.shape[1])),
        (g.sum(across) if across else g) if has_bias else None,
    )


@with_vjp(_linear_backward, keeps=lambda result, x, w, b: (x, w, b is not None), auto=True)
def _linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out = input @ weight.T
    return out if bias is None else out + bias


@HALF
def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, auto: bool | None = None
) -> Tensor:  # fmt: skip
    """`x @ weight.T + bias`; `weight` is (out, in), x is (..., in).

    A `weight` (in,) without a bias gives one number for each row: (...).

    >>> import lazygrad as lg
    >>> lg.nn.functional.linear(lg.ones(3, 4), lg.ones(2, 4)).shape
    (3, 2)
    """
    if weight.ndim == 1 and bias is None and input.ndim and input.shape[-1] == weight.shape[0]:
        return input @ weight
    if weight.ndim != 2 or not input.ndim or input.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: input {input.shape} does not fit weight {weight.shape}, which is (out, in): "
            "the last dimension of the input must be `in`"
        )
    return _linear(input, weight, bias, auto=auto)


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Row `input[...]` of `weight` for each index; the row `padding_idx` gets no gradient.

    >>> import lazygrad as lg
    >>> lg.nn.functional.embedding(lg.tensor([2, 0]), lg.eye(3))
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if input.dtype.is_floating_point:
        raise DTypeError(f"embedding: indices must be integers, got {input.dtype}")
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight must be (number, width), got {weight.shape}")
    if padding_idx is not None and not -weight.shape[0] <= padding_idx < weight.shape[0]:
        raise ArgumentError(
            f"embedding: padding_idx {padding_idx} is no row of weight {weight.shape}"
        )
    rows = weight.index_select(0, input.reshape(-1)).reshape((*input.shape, weight.shape[1]))
    if padding_idx is None:
        return rows
    return rows.detach().where((input == padding_idx % weight.shape[0]).unsqueeze(-1), rows)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """While training, zeroes each element with probability `p` and scales the rest by 1 / (1 - p).

    (Srivastava et al. 2014.) The mask comes from the random stream, so `manual_seed` decides it.
    """
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p must be a probability, got {p}")
    if not training or p == 0:
        return input
    if p == 1:
        return input * 0.0
    keep = rand(input.shape, dtype=input.dtype) >= p
    return (input * (1 / (1 - p))).where(keep, 0.0)


def feature_dropout(input: Tensor, p: float, training: bool, batched: bool) -> Tensor:
    """Dropout of whole channels, axis 1 (axis 0 of a single sample)."""
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p must be a probability, got {p}")
    if not training or p == 0:
        return input
    lead = 2 if batched else 1
    ones = input.new_ones((*input.shape[:lead], *[1] * (input.ndim - lead)))
    return input * dropout(ones, p)


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:  # fmt: skip
    """Dropout of whole channels of (batch, channels, length) or (channels, length)."""
    return feature_dropout(input, p, training, input.ndim != 2)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:  # fmt: skip
    """Dropout of whole channels of (batch, channels, height, width) (Tompson et al. 2015)."""
    return feature_dropout(input, p, training, True)


def dropout3d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:  # fmt: skip
    """Dropout of whole channels of (batch, channels, depth, height, width)."""
    return feature_dropout(input, p, training, input.ndim != 4)


_SATURATED = -1.7580993408473766  # what selu tends to on the left


def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:  # fmt: skip
    """Dropout that keeps mean 0 and variance 1, for `selu` (Klambauer et al. 2017).

    Elements are set to what `selu` tends to on the left; then all are scaled and shifted.
    """
    return _alpha_dropout(input, p, training, input.shape)


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:  # fmt: skip
    """`alpha_dropout` of whole channels of (batch, channels, ...)."""
    if input.ndim < 2:
        raise ShapeError(f"feature_alpha_dropout takes (batch, channels, ...), got {input.shape}")
    return _alpha_dropout(input, p, training, (*input.shape[:2], *[1] * (input.ndim - 2)))


def _alpha_dropout(input: Tensor, p: float, training: bool, shape: tuple[int, ...]) -> Tensor:
    if not 0 <= p <= 1:
        raise ArgumentError(f"alpha_dropout: p must be a probability, got {p}")
    if not training or p == 0:
        return input
    if p == 1:
        return input * 0.0
    scale = 1 / math.sqrt((_SATURATED * _SATURATED * p + 1) * (1 - p))
    keep = rand(shape, dtype=input.dtype) >= p
    return input.where(keep, _SATURATED) * scale - _SATURATED * p * scale


def bilinear(
    input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:  # fmt: skip
    """`x1 @ weight[o] @ x2 + bias[o]` for each output o; `weight` is (out, in1, in2)."""
    if weight.ndim != 3 or (input1.shape[-1], input2.shape[-1]) != weight.shape[1:]:
        raise ShapeError(
            f"bilinear: inputs {input1.shape} and {input2.shape} do not fit weight {weight.shape}, "
            "which is (out, in1, in2)"
        )
    if input1.shape[:-1] != input2.shape[:-1]:
        raise ShapeError(f"bilinear: inputs {input1.shape} and {input2.shape} differ in front")
    count, first, second = weight.shape
    rows = input1 @ weight.permute(1, 0, 2).reshape((first, count * second))
    pairs = rows.reshape((*input1.shape[:-1], count, second)) * input2.unsqueeze(-2)
    out = pairs.sum(dim=-1)
    return out if bias is None else out + bias


@SINGLE
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    auto: bool | None = None,
) -> Tensor:
    """Mean 0 and variance 1 over the last dimensions, then scale and shift (Ba et al. 2016)."""
    shape = tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"layer_norm: input {input.shape} does not end in normalized_shape {shape}"
        )
    axes = _last(input, len(shape))
    return unit(wide(input), axes, eps, weight, bias, auto=auto)[0].to(input.dtype)


def _last(x: Tensor, dimensions: int) -> tuple[int, ...]:
    """The last axes."""
    return tuple(range(x.ndim - dimensions, x.ndim))


def _per_channel(out: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift of axis 1."""
    column = tuple(-1 if i == 1 else 1 for i in range(out.ndim))
    out = out if weight is None else out * weight.reshape(column)
    return out if bias is None else out + bias.reshape(column)


@SINGLE
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 over each group of channels of a sample (Wu and He 2018).

    >>> import lazygrad as lg
    >>> lg.nn.functional.group_norm(lg.tensor([[1.0, 3.0, 5.0, 9.0]]), 2, eps=0.0)
    tensor([[-1., 1., -1., 1.]])
    """
    if input.ndim < 2 or num_groups < 1 or input.shape[1] % num_groups:
        raise ShapeError(
            f"group_norm: the channels of input {input.shape} (batch, channels, ...) are no "
            f"multiple of num_groups {num_groups}"
        )
    size = numel(input.shape[1:]) // num_groups
    grouped = wide(input).reshape((input.shape[0], num_groups, size))
    out = unit(grouped, (2,), eps)[0]
    return _per_channel(out.reshape(input.shape), weight, bias).to(input.dtype)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 over each channel of each sample (Ulyanov et al. 2016).

    Running statistics, where given, move towards the averages over the batch; they are used
    instead when `use_input_stats` is false.
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    count = numel(input.shape[2:])
    if input.ndim < 3 or count < 2:
        raise ShapeError(
            "instance_norm: more than one value per channel is needed, "
            f"got input {input.shape} (batch, channels, ...)"
        )
    out, variance, mean = unit(wide(input), _last(input, input.ndim - 2), eps)
    with no_grad():
        axes = (0, *range(2, input.ndim))
        if running_mean is not None:
            running_mean.assign_(_toward(running_mean, mean.mean(dim=axes), momentum))
        if running_var is not None:
            unbiased = variance.mean(dim=axes) * (count / (count - 1))
            running_var.assign_(_toward(running_var, unbiased, momentum))
    return _per_channel(out, weight, bias).to(input.dtype)


@SINGLE
def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    auto: bool | None = None,
) -> Tensor:
    """Divides by the root mean square over the last dimensions (Zhang and Sennrich 2019)."""
    shape = tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise ShapeError(f"rms_norm: input {input.shape} does not end in normalized_shape {shape}")
    small = finfo(input.dtype).eps if eps is None else eps
    x, axes = wide(input), _last(input, len(shape))
    return unit(x, axes, small, weight, centred=False, auto=auto)[0].to(input.dtype)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
    *,
    auto: bool | None = None,
) -> Tensor:
    """Mean 0 and variance 1 over all axes but 1, then scale and shift (Ioffe and Szegedy 2015).

    While training, statistics are those of the batch, and the running ones move by `momentum`
    towards them (towards the unbiased variance): a pending write of state. Otherwise the running
    statistics are used.
    """
    if input.ndim < 2:
        raise ShapeError(f"batch_norm: input must be (batch, channels, ...), got {input.shape}")
    across = tuple(i for i in range(input.ndim) if i != 1)
    column = tuple(-1 if i == 1 else 1 for i in range(input.ndim))
    x = wide(input)
    scale = None if weight is None else weight.reshape(column)
    shift = None if bias is None else bias.reshape(column)
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError("batch_norm needs running statistics when it is not training")
        by = (wide(running_var) + eps).rsqrt().reshape(column)
        out = (x - running_mean.reshape(column)) * (by if scale is None else by * scale)
        return (out if shift is None else out + shift).to(input.dtype)
    count = numel(input.shape) // max(input.shape[1], 1)
    if count < 2:
        raise ShapeError(
            "batch_norm: more than one value per channel is needed while training, "
            f"got input {input.shape}"
        )
    own = False if auto is None else auto  # by hand two passes over the gradient, derived eight
    out, variance, mean = unit(x, across, eps, scale, shift, auto=own)
    with no_grad():
        if running_mean is not None:
            running_mean.assign_(_toward(running_mean, mean.reshape(-1), momentum))
        if running_var is not None:
            unbiased = variance.reshape(-1) * (count / (count - 1))
            running_var.assign_(_toward(running_var, unbiased, momentum))
    return out.to(input.dtype)


def _toward(running: Tensor, new: Tensor, momentum: float | Tensor) -> Tensor:
    return running * (1 - momentum) + new.detach() * momentum


@SINGLE
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """`x` divided by its p-norm along `dim` (by `eps` where that is larger)."""
    return input / input.norm(p=p, dim=dim, keepdim=True).clamp(min=eps)


@SINGLE
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along `dim` of the common shape of both."""
    x1, x2 = broadcast_tensors(x1, x2)
    squares = (x1 * x1).sum(dim=dim) * (x2 * x2).sum(dim=dim)
    return (x1 * x2).sum(dim=dim) / squares.clamp(min=eps * eps).sqrt()


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """`value` around the elements; `pad` counts from the last dimension: (left, right, top, ...).

    Other modes are "reflect", "replicate" and "circular".

    >>> import lazygrad as lg
    >>> lg.nn.functional.pad(lg.ones(2), (1, 2))
    tensor([0., 1., 1., 0., 0.])
    """
    return input.pad(pad, mode, value)
