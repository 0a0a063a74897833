"""Distances, and the losses of pairs, triples and margins."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lazygrad.engine.functions import where
from lazygrad.engine.precision import SINGLE
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn.functional.activation import logsigmoid
from lazygrad.nn.functional.loss import (
    _as_labels,
    _one_hot,
    _weight_row,
    as_target,
    reduce_loss,
)


@SINGLE
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last dimension.

    >>> import lazygrad as lg
    >>> lg.nn.functional.pairwise_distance(lg.tensor([[3.0, 4.0]]), lg.zeros(1, 2))
    tensor([5.0000])
    """
    return (x1 - x2 + eps).norm(p=p, dim=-1, keepdim=keepdim)


@SINGLE
def hinge_embedding_loss(
    input: Tensor, target: Any, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """The distance itself where the target is 1, relu(margin - distance) where it is -1."""
    target = as_target(target)
    far = (margin - input).clamp(min=0).where(target != 1, 0.0)
    return reduce_loss(far + input.where(target != -1, 0.0), reduction)


@SINGLE
def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """1 - cos where the target is 1, relu(cos - margin) where it is -1.

    The inputs are (batch, width) with a target (batch,), or (width,) with a 0-d target.
    """
    target = as_target(target)
    if target.ndim > 1:
        raise ShapeError(f"cosine_embedding_loss: the target is 0-d or 1-d, got {target.shape}")
    if input1.shape != input2.shape or target.shape != input1.shape[:-1]:
        raise ShapeError(
            f"cosine_embedding_loss: inputs {input1.shape} and {input2.shape} must be alike, and "
            f"the target {target.shape} without their last dimension"
        )
    squares = [(x * x).sum(dim=-1) + 1e-12 for x in (input1, input2)]
    cosine = (input1 * input2).sum(dim=-1) / (squares[0] * squares[1]).sqrt()
    near = (1 - cosine).where(target == 1, 0.0)
    return reduce_loss(near + (cosine - margin).clamp(min=0).where(target == -1, 0.0), reduction)


@SINGLE
def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """relu(-y * (x1 - x2) + margin): y = 1 says that x1 should rank higher, y = -1 that x2."""
    target = as_target(target)
    if input1.ndim != input2.ndim or input1.ndim != target.ndim:
        raise ShapeError(
            f"margin_ranking_loss: shapes {input1.shape}, {input2.shape} and {target.shape} differ"
            " in rank"
        )
    return reduce_loss((margin - target * (input1 - input2)).clamp(min=0), reduction)


def _positive_margin(name: str, margin: float) -> None:
    if margin <= 0:
        raise ArgumentError(f"{name}: margin must be greater than 0, got {margin}")


@SINGLE
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """relu(d(anchor, positive) - d(anchor, negative) + margin) (Balntas et al. 2016).

    With `swap` the distance between positive and negative counts where it is the smaller one.
    """
    _positive_margin("triplet_margin_loss", margin)
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = far.minimum(pairwise_distance(positive, negative, p, eps))
    return reduce_loss((margin + near - far).clamp(min=0), reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with any distance; `pairwise_distance` unless one is given."""
    _positive_margin("triplet_margin_with_distance_loss", margin)
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    return reduce_loss((margin + near - far).clamp(min=0), reduction)


@SINGLE
def soft_margin_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-y * x)) for labels y of -1 and 1."""
    target = as_target(target)
    if input.shape != target.shape:
        raise ShapeError(f"soft_margin_loss: input {input.shape} and target {target.shape} differ")
    return reduce_loss(-logsigmoid(target * input), reduction)


@SINGLE
def multi_margin_loss(
    input: Tensor,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over the other classes of relu(margin - x[y] + x[i]) ** p (a multi-class hinge)."""
    if p not in (1, 2):
        raise ArgumentError(f"multi_margin_loss: p is 1 or 2, got {p}")
    target = _as_labels(target)
    mask = _one_hot("multi_margin_loss", input, target, ignore_index=-1)
    own = input.where(mask, 0.0).sum(dim=-1, keepdim=True)
    excess = (margin - own + input).clamp(min=0)
    excess = excess * excess if p == 2 else excess
    if weight is not None:
        row = _weight_row("multi_margin_loss", weight, input)
        excess = excess * row.where(mask, 0.0).sum(dim=-1, keepdim=True)
    return reduce_loss(excess.where(~mask, 0.0).mean(dim=-1), reduction)


@SINGLE
def multilabel_margin_loss(input: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """relu(1 - x[y] + x[i]) of each label y and each other class i, over the number of classes.

    `target` has the shape of `input`, (batch, classes) or (classes,): the labels, then -1.
    """
    target = as_target(target)
    if input.shape != target.shape or not input.ndim:
        raise ShapeError(f"multilabel_margin_loss: input {input.shape}, target {target.shape}")
    named = (target >= 0).cumprod(-1) > 0
    labels = target.where(named, 0)
    classes = target._iota((1, input.shape[-1]), 1)
    member = ((labels.unsqueeze(-1) == classes) & named.unsqueeze(-1)).any(-2)
    own = input.gather(-1, labels).unsqueeze(-1)
    excess = (1 - own + input.unsqueeze(-2)).clamp(min=0)
    counted = named.unsqueeze(-1) & ~member.unsqueeze(-2)
    loss = excess.where(counted, 0.0).sum((-2, -1)) / input.shape[-1]
    return reduce_loss(loss, reduction)


@SINGLE
def multilabel_soft_margin_loss(
    input: Tensor, target: Any, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """The cross entropy of sigmoid(input) and a bit per class, the mean over the classes."""
    target = as_target(target)
    if not input.ndim:
        raise ShapeError("multilabel_soft_margin_loss: input (..., classes) must not be 0-d")
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    loss = loss if weight is None else loss * weight
    return reduce_loss(loss.mean(dim=-1), reduction)


@SINGLE
def poisson_nll_loss(
    input: Tensor,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-likelihood of counts under a Poisson distribution of rate (exp of) `input`.

    `full` adds Stirling's approximation of log(target!) for counts above 1.
    """
    target = as_target(target)
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        count = target.where(target > 1, 1.0)
        stirling = count * count.log() - count + 0.5 * (2 * math.pi * count).log()
        loss = loss + stirling.where(target > 1, 0.0)
    return reduce_loss(loss, reduction)


@SINGLE
def gaussian_nll_loss(
    input: Tensor,
    target: Any,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-likelihood under normal distributions of means `input` and variances `var`.

    Variances are at least `eps`, which their gradient does not see; `full` adds log(2 pi) / 2.
    """
    target = as_target(target)
    variance = var if isinstance(var, Tensor) else input.new_full(input.shape, var)
    if input.ndim and variance.shape == input.shape[:-1]:
        variance = variance.unsqueeze(-1)
    with_floor = where(variance < eps, variance - variance.detach() + eps, variance)
    loss = 0.5 * (with_floor.log() + (input - target).square() / with_floor)
    return reduce_loss(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)
