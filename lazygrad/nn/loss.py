"""Losses as modules: a function of `lazygrad.nn.functional` and its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from lazygrad.engine.tensor import Tensor
from lazygrad.nn import functional as F
from lazygrad.nn.functional.loss import check_reduction
from lazygrad.nn.functional.two_ways import chosen
from lazygrad.nn.module import Module


class Loss(Module):
    """`function` of what is given and of the attributes that `settings` names."""

    function: ClassVar[Callable[..., Tensor]]
    settings: ClassVar[tuple[str, ...]] = ("reduction",)

    def __init__(self, *, reduction: str = "mean") -> None:
        check_reduction(reduction)
        self.reduction = reduction

    def forward(self, *given: Any, **named: Any) -> Tensor:
        """The loss; `lazygrad.nn.functional` says what it takes, and in which shapes."""
        settings = {name: getattr(self, name) for name in self.settings}
        return type(self).function(*given, **named, **settings, **chosen(self))


class WeightedLoss(Loss):
    """A loss with weights, kept as a buffer."""

    settings: ClassVar[tuple[str, ...]] = ("weight", "reduction")
    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.register_buffer("weight", weight)


class CrossEntropyLoss(WeightedLoss):
    """Cross entropy of softmax(input) and class indices or probabilities.

    >>> import lazygrad as lg
    >>> loss = lg.nn.CrossEntropyLoss()
    >>> loss(lg.tensor([[2.0, 0.0], [0.0, 2.0]]), lg.tensor([0, 1]))
    tensor(0.1269)
    """

    function = F.cross_entropy
    settings = ("weight", "ignore_index", "reduction", "label_smoothing")

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


class NLLLoss(WeightedLoss):
    """Minus the log-probability of the class of each row."""

    function = F.nll_loss
    settings = ("weight", "ignore_index", "reduction")

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, reduction=reduction)
        self.ignore_index = ignore_index


class HingeLoss(Loss):
    """Max-margin loss: relu(1 - y * score) for labels y of -1 and 1."""

    function = F.hinge_loss


class BCELoss(WeightedLoss):
    """Cross entropy of probabilities and targets in [0, 1]."""

    function = F.binary_cross_entropy


class BCEWithLogitsLoss(WeightedLoss):
    """Cross entropy of sigmoid(input) and targets in [0, 1]."""

    function = F.binary_cross_entropy_with_logits
    settings = ("weight", "reduction", "pos_weight")
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


class KLDivLoss(Loss):
    """Kullback-Leibler divergence of log-probabilities from targets; also "batchmean"."""

    function = F.kl_div
    settings = ("reduction", "log_target")

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction="mean" if reduction == "batchmean" else reduction)
        self.reduction, self.log_target = reduction, log_target


class MSELoss(Loss):
    """The squared difference.

    >>> import lazygrad as lg
    >>> lg.nn.MSELoss()(lg.tensor([1.0, 3.0]), lg.tensor([1.0, 1.0]))
    tensor(2.)
    """

    function = F.mse_loss


class L1Loss(Loss):
    """The absolute difference."""

    function = F.l1_loss


class SmoothL1Loss(Loss):
    """Quadratic where the difference is below beta, linear further out."""

    function = F.smooth_l1_loss
    settings = ("reduction", "beta")

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.beta = beta


class HuberLoss(Loss):
    """Quadratic where the difference is below delta, linear further out."""

    function = F.huber_loss
    settings = ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = delta


class CTCLoss(Loss):
    """Connectionist temporal classification (Graves et al. 2006); see `functional.ctc_loss`."""

    function = F.ctc_loss
    settings = ("blank", "reduction", "zero_infinity")

    def __init__(
        self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False
    ) -> None:  # fmt: skip
        super().__init__(reduction=reduction)
        self.blank, self.zero_infinity = blank, zero_infinity
