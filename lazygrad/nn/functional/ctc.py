"""Connectionist temporal classification: the loss of a sequence without an alignment."""

from __future__ import annotations

from typing import Any

from lazygrad.dtypes import int64
from lazygrad.engine.functions import cat, stack
from lazygrad.engine.indexing import checked
from lazygrad.engine.precision import SINGLE
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn.functional.loss import as_target, check_reduction

_NEVER = -1e30  # the log of a probability of 0: finite, so that gradients stay numbers


@SINGLE
def ctc_loss(
    log_probs: Tensor,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Minus the log-probability of the labels over all alignments (Graves et al. 2006).

    `log_probs` is (time, batch, classes), or (time, classes) for one sequence; `targets` is (batch,
    labels), padded, or all labels one after the other. With "mean" each loss is divided by the
    number of labels first. A target that does not fit its input costs infinity, or nothing with
    `zero_infinity`.
    """
    check_reduction(reduction)
    single = log_probs.ndim == 2
    probs = log_probs.unsqueeze(1) if single else log_probs
    if probs.ndim != 3:
        raise ShapeError(f"ctc_loss: log_probs must be (time, batch, classes), got {probs.shape}")
    duration, batch, classes = probs.shape
    if not 0 <= blank < classes:
        raise ArgumentError(f"ctc_loss: blank {blank} is none of {classes} classes")
    times, sizes = (as_target(n).reshape(-1) for n in (input_lengths, target_lengths))
    times = checked(times, duration + 1, "ctc_loss: input length").to(int64)
    if times.shape != (batch,) or sizes.shape != (batch,):
        raise ShapeError(
            f"ctc_loss: lengths {times.shape} and {sizes.shape} for a batch of {batch}"
        )
    targets = as_target(targets)
    count = targets.shape[-1] if targets.ndim else 0
    sizes = checked(sizes, count + 1, "ctc_loss: target length").to(int64)
    labels = _rows(targets.to(int64), sizes, single)
    if labels.shape[0] != batch:
        raise ShapeError(f"ctc_loss: targets {labels.shape} for a batch of {batch}")
    loss = -_log_likelihood(probs, labels, times, sizes, blank)
    impossible = loss.detach() > -_NEVER / 2
    loss = loss.masked_fill(impossible, 0.0 if zero_infinity else float("inf"))
    if reduction == "mean":
        return (loss / sizes.clamp(min=1).to(loss.dtype)).mean()
    return loss.sum() if reduction == "sum" else loss[0] if single else loss


def _rows(targets: Tensor, sizes: Tensor, single: bool) -> Tensor:
    """The labels as (batch, longest); those that came one after the other are cut (this reads)."""
    if targets.ndim == 2 or single:
        return targets.reshape((1, -1)) if single else targets
    total, longest = int(sizes.sum().item()), int(sizes.max().item())
    if targets.shape != (total,):
        raise ShapeError(f"ctc_loss: target lengths of {total} labels for targets {targets.shape}")
    places = (sizes.cumsum(0) - sizes).unsqueeze(1) + targets._iota((1, longest), 1)
    return targets[places.clamp(max=max(targets.shape[0] - 1, 0))]


def _log_likelihood(
    probs: Tensor, labels: Tensor, times: Tensor, sizes: Tensor, blank: int
) -> Tensor:
    """The forward recursion over blank, label, blank, label, ..., blank."""
    batch, count = labels.shape
    inside = labels._iota((1, count), 1) < sizes.unsqueeze(1)
    known = checked(labels.where(inside, blank), probs.shape[2], "ctc_loss: label")
    blanks = known.new_full((batch, count), blank)
    path = cat(
        [stack([blanks, known], 2).reshape((batch, 2 * count)), blanks.new_full((batch, 1), blank)],
        1,
    )
    seen = probs.gather(2, path.unsqueeze(0).expand((probs.shape[0], *path.shape)))
    skips = (path[:, 2:] != blank) & (path[:, 2:] != path[:, :-2])
    place = path._iota((1, 2 * count + 1), 1)
    started = (times > 0).unsqueeze(1)
    first = (place == 0) | (place == 1) & started & (sizes.unsqueeze(1) > 0)
    alpha = seen[0].where(started, 0.0).where(first, _NEVER)
    for t in range(1, probs.shape[0]):
        before = alpha.pad((1, 0), value=_NEVER)[:, :-1]
        skipped = alpha[:, :-2].where(skips, _NEVER).pad((2, 0), value=_NEVER)
        moved = stack([alpha, before, skipped], 0).logsumexp(0) + seen[t]
        alpha = moved.where((times > t).unsqueeze(1), alpha).clamp(min=_NEVER)
    last = (2 * sizes).unsqueeze(1)
    end = alpha.gather(1, last)
    label = alpha.gather(1, (last - 1).clamp(min=0)).where(last > 0, _NEVER)
    return cat([end, label], 1).logsumexp(1)
