"""Losses.

Class indices pick their log-probability by comparing each index with the position along the class
axis, not by gathering: so softmax, loss and gradient are one fused kernel over rows, and the
gradient is softmax minus one-hot. Indices are checked when the program runs, before any state is
written.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from lazygrad.dtypes import int64
from lazygrad.engine.indexing import vetted
from lazygrad.engine.precision import SINGLE
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, DTypeError, ShapeError, nearest
from lazygrad.nn.functional.activation import log_softmax, logsigmoid
from lazygrad.nn.functional.two_ways import with_vjp
from lazygrad.ops.effect import CHECK_INDEX

_REDUCTIONS = ("none", "mean", "sum")


def reduce_loss(loss: Tensor, reduction: str) -> Tensor:
    """The losses of the elements themselves, their mean, or their sum."""
    check_reduction(reduction)
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


def check_reduction(reduction: str) -> None:
    """Raise on an unknown reduction."""
    if reduction not in _REDUCTIONS:
        hint = nearest(str(reduction), _REDUCTIONS)
        raise ArgumentError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}{hint}")


def as_target(target: Any) -> Tensor:
    """The target as a tensor; arrays keep their dtype, lists of ints are integers."""
    return target if isinstance(target, Tensor) else Tensor(np.asarray(target))


def _same_shape(name: str, input: Tensor, target: Tensor) -> None:
    if input.shape != target.shape:
        raise ShapeError(f"{name}: input {input.shape} and target {target.shape} differ")


def _broadcasting(name: str, input: Tensor, target: Tensor) -> None:
    if input.shape != target.shape:
        warnings.warn(
            f"{name}: input {input.shape} and target {target.shape} differ and are broadcast, "
            "which is seldom meant; reshape one of them",
            stacklevel=3,
        )


# Classification.


def _class_axis(input: Tensor) -> int:
    return 1 if input.ndim > 1 else 0


def _as_labels(target: Any) -> Tensor:
    """Class indices as int64, which holds every `ignore_index`; probabilities as they are."""
    labels = as_target(target)
    return labels if labels.dtype.is_floating_point else labels.cast(int64)


def _one_hot(name: str, input: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Where each class index points to: a mask of the shape of `input`; ignored ones to nothing."""
    axis = _class_axis(input)
    if not input.ndim or target.shape != input.shape[:axis] + input.shape[axis + 1 :]:
        wanted = input.shape[:axis] + input.shape[axis + 1 :]
        raise ShapeError(
            f"{name}: input {input.shape} (batch, classes, ...) needs class indices of shape "
            f"{wanted}, got {target.shape}"
        )
    if target.dtype.is_floating_point:
        raise DTypeError(
            f"{name}: class indices must be integers, got {target.dtype}; use target.long()"
        )
    count = input.shape[axis]
    index = target.apply(CHECK_INDEX, low=0, high=count, what=f"{name}: label", ignore=ignore_index)
    line = tuple(count if i == axis else 1 for i in range(input.ndim))
    mask = index.unsqueeze(axis) == index._iota(line, axis)
    if not 0 <= ignore_index < count:
        return mask  # an ignored index is no class, so it points to nothing anyway
    return mask & (target != ignore_index).unsqueeze(axis)


def _weight_row(name: str, weight: Tensor, input: Tensor) -> Tensor:
    """Class weights, shaped to meet the class axis of `input`."""
    axis = _class_axis(input)
    if weight.shape != (input.shape[axis],):
        raise ShapeError(
            f"{name}: weight must have one entry for each of the {input.shape[axis]} classes, "
            f"got {weight.shape}"
        )
    return weight.reshape([-1 if i == axis else 1 for i in range(input.ndim)])


@SINGLE
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability of the class of each row; `mean` divides by the sum of weights.

    `input` holds log-probabilities (batch, classes, ...), `target` class indices (batch, ...).

    >>> import lazygrad as lg
    >>> F = lg.nn.functional
    >>> F.nll_loss(lg.tensor([[-1.0, -2.0], [-3.0, -4.0]]), lg.tensor([0, 1]))
    tensor(2.5000)
    """
    check_reduction(reduction)
    target = _as_labels(target)
    mask = _one_hot("nll_loss", input, target, ignore_index)
    loss, share = _picked("nll_loss", input, mask, weight)
    if reduction != "mean":
        return reduce_loss(loss, reduction)
    return loss.sum() / _total(share, input, target, ignore_index)


def _picked(
    name: str, log_prob: Tensor, mask: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The loss of each row; with class weights also the weight of each row's class."""
    axis = _class_axis(log_prob)
    if weight is None:
        return -log_prob.where(mask, 0.0).sum(dim=axis), None
    row = _weight_row(name, weight, log_prob)
    return -(log_prob * row).where(mask, 0.0).sum(dim=axis), row.where(mask, 0.0)


def _total(share: Tensor | None, input: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """What a mean divides by: the number, or the weight, of the rows that are not ignored."""
    if share is None:
        return (target != ignore_index).sum().to(input.dtype)
    return share.sum()


@SINGLE
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    auto: bool | None = None,
) -> Tensor:
    """The cross entropy of softmax(input) and the target.

    `input` holds scores (batch, classes, ...) or (classes,); `target` class indices (batch, ...),
    or probabilities in the shape of `input`. With `label_smoothing` the target is mixed with the
    uniform distribution (Szegedy et al. 2016).

    >>> import lazygrad as lg
    >>> F = lg.nn.functional
    >>> F.cross_entropy(lg.tensor([[2.0, 0.0], [0.0, 2.0]]), lg.tensor([0, 1]))
    tensor(0.1269)
    """
    check_reduction(reduction)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"label_smoothing must be between 0 and 1, got {label_smoothing}")
    axis, target = _class_axis(input), _as_labels(target)
    log_prob = log_softmax(input, axis, auto=True if auto is None else auto)
    if target.shape == input.shape and target.dtype.is_floating_point:
        return _soft_cross_entropy(log_prob, target, weight, reduction, label_smoothing)
    mask = _one_hot("cross_entropy", input, target, ignore_index)
    loss, share = _picked("cross_entropy", log_prob, mask, weight)
    if label_smoothing:
        row = 1.0 if weight is None else _weight_row("cross_entropy", weight, input)
        valid = target != ignore_index
        smooth = -(log_prob * row).sum(dim=axis).where(valid, 0.0)
        mixed = label_smoothing / input.shape[axis]
        loss = loss * (1 - label_smoothing) + smooth * mixed
    if reduction != "mean":
        return reduce_loss(loss, reduction)
    return loss.sum() / _total(share, input, target, ignore_index)


def _soft_cross_entropy(
    log_prob: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    axis = _class_axis(log_prob)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / log_prob.shape[axis]
    terms = log_prob * target
    if weight is not None:
        terms = terms * _weight_row("cross_entropy", weight, log_prob)
    return reduce_loss(-terms.sum(dim=axis), reduction)


@SINGLE
def hinge_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Max-margin loss relu(1 - y * score) for labels y of -1 and 1, as a support vector machine.

    >>> import lazygrad as lg
    >>> lg.nn.functional.hinge_loss(lg.tensor([0.5, -2.0]), lg.tensor([1, -1]))
    tensor(0.2500)
    """
    target = as_target(target)
    _same_shape("hinge_loss", input, target)
    return reduce_loss((1 - target * input).relu(), reduction)


@SINGLE
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """Cross entropy of probabilities and targets in [0, 1]; logarithms are cut at -100.

    `binary_cross_entropy_with_logits` is the stable form for scores.
    """
    target = as_target(target)
    _same_shape("binary_cross_entropy", input, target)
    within = (input >= 0) & (input <= 1)
    input = vetted(input, within, "binary_cross_entropy: inputs outside of [0, 1]")
    loss = -(target * _safe_log(input) + (1 - target) * _safe_log(1 - input))
    return reduce_loss(loss if weight is None else loss * weight, reduction)


def _safe_log(x: Tensor) -> Tensor:
    """log(x), not below -100; nothing infinite or NaN comes into its gradient at 0."""
    positive = x > 0
    return x.where(positive, 1.0).log().clamp(min=-100).where(positive, -100.0)


@SINGLE
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Cross entropy of sigmoid(input) and targets in [0, 1], for any score.

    >>> import lazygrad as lg
    >>> F = lg.nn.functional
    >>> F.binary_cross_entropy_with_logits(lg.tensor([0.0, 1000.0]), lg.tensor([1.0, 1.0]))
    tensor(0.3466)
    """
    target = as_target(target)
    _same_shape("binary_cross_entropy_with_logits", input, target)
    log_sigmoid = logsigmoid(input)
    if pos_weight is not None:
        log_sigmoid = log_sigmoid * ((pos_weight - 1) * target + 1)
    loss = (1 - target) * input - log_sigmoid
    return reduce_loss(loss if weight is None else loss * weight, reduction)


@SINGLE
def kl_div(
    input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """Pointwise Kullback-Leibler divergence; `input` holds log-probabilities.

    The divergence of a batch is `reduction="batchmean"`.
    """
    if log_target:
        loss = target.exp() * (target - input)
    else:
        loss = target.xlogy(target) - target * input
    if reduction == "batchmean":
        return loss.sum() / (input.shape[0] if input.ndim else 1)
    return reduce_loss(loss, reduction)


# Regression.


def _times_weight(name: str, loss: Tensor, weight: Tensor, input: Tensor) -> Tensor:
    if weight.shape != input.shape:
        raise ShapeError(f"{name}: input {input.shape} and weight {weight.shape} differ")
    return loss * weight


def _weighted(
    name: str, loss: Tensor, weight: Tensor | None, input: Tensor, reduction: str
) -> Tensor:
    """The reduced loss; a mean is over the weights, where there are any."""
    if weight is None:
        return reduce_loss(loss, reduction)
    check_reduction(reduction)
    loss = _times_weight(name, loss, weight, input)
    return loss.sum() / weight.sum() if reduction == "mean" else reduce_loss(loss, reduction)


def _squared_backward(given: tuple[Tensor, Tensor], g: Tensor) -> tuple[Tensor, Tensor]:
    slope = g * ((given[0] - given[1]) * 2)
    return slope, -slope


@with_vjp(_squared_backward, keeps=lambda result, x, y: (x, y), auto=True)
def _squared_error(x: Tensor, y: Tensor) -> Tensor:
    difference = x - y
    return difference * difference


@SINGLE
def mse_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", weight: Tensor | None = None, *,
    auto: bool | None = None,
) -> Tensor:  # fmt: skip
    """The squared difference; a mean with a `weight` for each element is the weighted one.

    >>> import lazygrad as lg
    >>> lg.nn.functional.mse_loss(lg.tensor([1.0, 3.0]), lg.tensor([1.0, 1.0]))
    tensor(2.)
    """
    target = as_target(target)
    _broadcasting("mse_loss", input, target)
    alike = (input.shape, input.dtype) == (target.shape, target.dtype)
    loss = _squared_error(input, target, auto=auto if alike else True)
    return _weighted("mse_loss", loss, weight, input, reduction)


@SINGLE
def l1_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", weight: Tensor | None = None
) -> Tensor:
    """The absolute difference; a mean with a `weight` for each element is the weighted one."""
    target = as_target(target)
    _broadcasting("l1_loss", input, target)
    return _weighted("l1_loss", (input - target).abs(), weight, input, reduction)


@SINGLE
def smooth_l1_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """0.5 * d * d / beta where |d| < beta, else |d| - 0.5 * beta (Girshick 2015)."""
    if beta < 0:
        raise ArgumentError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    if beta == 0:
        return l1_loss(input, target, reduction)
    target = as_target(target)
    _broadcasting("smooth_l1_loss", input, target)
    distance = (input - target).abs()
    near = distance * distance * (0.5 / beta)
    return reduce_loss(near.where(distance < beta, distance - 0.5 * beta), reduction)


@SINGLE
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """0.5 * d * d where |d| < delta, else delta * (|d| - 0.5 * delta) (Huber 1964).

    A `weight` multiplies each element; the mean is over their number, as PyTorch has it.
    """
    if delta <= 0:
        raise ArgumentError(f"huber_loss: delta must be positive, got {delta}")
    target = as_target(target)
    _broadcasting("huber_loss", input, target)
    distance = (input - target).abs()
    near, far = distance * distance * 0.5, (distance - 0.5 * delta) * delta
    loss = near.where(distance < delta, far)
    if weight is not None:
        loss = _times_weight("huber_loss", loss, weight, input)
    return reduce_loss(loss, reduction)
