"""Functional forms of layers: linear, embedding, dropout, normalization."""

from __future__ import annotations

from collections.abc import Sequence

from lazygrad.dtypes import finfo
from lazygrad.engine.creation import rand
from lazygrad.engine.modes import no_grad
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, DTypeError, ShapeError
from lazygrad.shapes import numel


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias`; `weight` is (out, in), x is (..., in).

    >>> import lazygrad as lg
    >>> lg.nn.functional.linear(lg.ones(3, 4), lg.ones(2, 4)).shape
    (3, 2)
    """
    if weight.ndim != 2 or not input.ndim or input.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: input {input.shape} does not fit weight {weight.shape}, which is (out, in): "
            "the last dimension of the input must be `in`"
        )
    out = input @ weight.T
    return out if bias is None else out + bias


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


def _wide(x: Tensor) -> Tensor:
    """Half precision as float32: squares of 256 overflow in float16."""
    return x.float() if x.dtype.itemsize == 2 else x


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 over the last dimensions, then scale and shift (Ba et al. 2016)."""
    shape = tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"layer_norm: input {input.shape} does not end in normalized_shape {shape}"
        )
    axes = tuple(range(input.ndim - len(shape), input.ndim))
    x = _wide(input)
    centered = x - x.mean(dim=axes, keepdim=True)
    variance = (centered * centered).mean(dim=axes, keepdim=True)
    out = centered * (variance + eps).rsqrt()
    out = out if weight is None else out * weight
    return (out if bias is None else out + bias).to(input.dtype)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Divides by the root mean square over the last dimensions (Zhang and Sennrich 2019)."""
    shape = tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise ShapeError(f"rms_norm: input {input.shape} does not end in normalized_shape {shape}")
    axes = tuple(range(input.ndim - len(shape), input.ndim))
    small = finfo(input.dtype).eps if eps is None else eps
    x = _wide(input)
    out = x * ((x * x).mean(dim=axes, keepdim=True) + small).rsqrt()
    return (out if weight is None else out * weight).to(input.dtype)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
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
    x = _wide(input)
    if training:
        count = numel(input.shape) // max(input.shape[1], 1)
        if count < 2:
            raise ShapeError(
                "batch_norm: more than one value per channel is needed while training, "
                f"got input {input.shape}"
            )
        mean = x.mean(dim=across)
        centered = x - mean.reshape(column)
        variance = (centered * centered).mean(dim=across)
        with no_grad():
            if running_mean is not None:
                running_mean.assign_(_toward(running_mean, mean, momentum))
            if running_var is not None:
                unbiased = variance * (count / (count - 1))
                running_var.assign_(_toward(running_var, unbiased, momentum))
    elif running_mean is None or running_var is None:
        raise ArgumentError("batch_norm needs running statistics when it is not training")
    else:
        centered, variance = x - running_mean.reshape(column), _wide(running_var)
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    out = centered * scale.reshape(column)
    return (out if bias is None else out + bias.reshape(column)).to(input.dtype)


def _toward(running: Tensor, new: Tensor, momentum: float | Tensor) -> Tensor:
    return running * (1 - momentum) + new.detach() * momentum


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """`x` divided by its p-norm along `dim` (by `eps` where that is larger)."""
    return input / input.norm(p=p, dim=dim, keepdim=True).clamp(min=eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along `dim`."""
    squares = (x1 * x1).sum(dim=dim) * (x2 * x2).sum(dim=dim)
    return (x1 * x2).sum(dim=dim) / squares.clamp(min=eps * eps).sqrt()


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """`value` around the elements; `pad` counts from the last dimension: (left, right, top, ...).

    >>> import lazygrad as lg
    >>> lg.nn.functional.pad(lg.ones(2), (1, 2))
    tensor([0., 1., 1., 0., 0.])
    """
    return input.pad(pad, mode, value)
