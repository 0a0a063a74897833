"""Losses as modules; `lazygrad.nn.functional` says what each computes."""

from __future__ import annotations

from typing import Any

from lazygrad.engine.tensor import Tensor
from lazygrad.nn import functional as F
from lazygrad.nn.functional.loss import check_reduction
from lazygrad.nn.module import Module


class _Loss(Module):
    """A loss with a reduction: "none", "mean" or "sum"."""

    def __init__(self, *, reduction: str = "mean") -> None:
        check_reduction(reduction)
        self.reduction = reduction


class _WeightedLoss(_Loss):
    """A loss with weights, kept as a buffer."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.register_buffer("weight", weight)


class CrossEntropyLoss(_WeightedLoss):
    """Cross entropy of softmax(input) and class indices or probabilities.

    >>> import lazygrad as lg
    >>> loss = lg.nn.CrossEntropyLoss()
    >>> loss(lg.tensor([[2.0, 0.0], [0.0, 2.0]]), lg.tensor([0, 1]))
    tensor(0.1269)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, reduction=reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Scores (batch, classes, ...) and targets to the loss."""
        return F.cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class NLLLoss(_WeightedLoss):
    """Minus the log-probability of the class of each row."""

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, reduction=reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Log-probabilities (batch, classes, ...) and class indices to the loss."""
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class HingeLoss(_Loss):
    """Max-margin loss: relu(1 - y * score) for labels y of -1 and 1."""

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Scores and labels to the loss."""
        return F.hinge_loss(input, target, self.reduction)


class BCELoss(_WeightedLoss):
    """Cross entropy of probabilities and targets in [0, 1]."""

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Probabilities and targets to the loss."""
        return F.binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_WeightedLoss):
    """Cross entropy of sigmoid(input) and targets in [0, 1]."""

    pos_weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(weight, reduction=reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Scores and targets to the loss."""
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, self.reduction, self.pos_weight
        )


class KLDivLoss(Module):
    """Kullback-Leibler divergence of log-probabilities from targets; also "batchmean"."""

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        if reduction != "batchmean":
            check_reduction(reduction)
        self.reduction, self.log_target = reduction, log_target

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Log-probabilities and probabilities to the loss."""
        return F.kl_div(input, target, self.reduction, self.log_target)


class MSELoss(_Loss):
    """The squared difference.

    >>> import lazygrad as lg
    >>> lg.nn.MSELoss()(lg.tensor([1.0, 3.0]), lg.tensor([1.0, 1.0]))
    tensor(2.)
    """

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Values and targets to the loss."""
        return F.mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """The absolute difference."""

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Values and targets to the loss."""
        return F.l1_loss(input, target, self.reduction)


class SmoothL1Loss(_Loss):
    """Quadratic near 0, linear further out."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Values and targets to the loss."""
        return F.smooth_l1_loss(input, target, self.reduction, self.beta)


class HuberLoss(Module):
    """Quadratic within delta, linear further out."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        check_reduction(reduction)
        self.reduction, self.delta = reduction, delta

    def forward(self, input: Tensor, target: Any) -> Tensor:
        """Values and targets to the loss."""
        return F.huber_loss(input, target, self.reduction, self.delta)
