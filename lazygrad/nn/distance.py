"""Distances, and the losses of pairs, triples and margins, as modules."""

from __future__ import annotations

from collections.abc import Callable

from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError
from lazygrad.nn import functional as F
from lazygrad.nn.loss import Loss, WeightedLoss
from lazygrad.nn.module import Module


class CosineSimilarity(Module):
    """The cosine of the angle between vectors along `dim`."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        self.dim, self.eps = dim, eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """The shape of the inputs without `dim`."""
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """The p-norm of the difference along the last dimension.

    >>> import lazygrad as lg
    >>> lg.nn.PairwiseDistance(p=1)(lg.tensor([[3.0, 4.0]]), lg.zeros(1, 2))
    tensor([7.0000])
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """The shape of the inputs without the last dimension."""
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)


class _Margin(Loss):
    """A loss with a margin."""

    settings = ("margin", "reduction")

    def __init__(self, margin: float, *, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.margin = margin


class HingeEmbeddingLoss(_Margin):
    """The distance where the target is 1, relu(margin - distance) where it is -1."""

    function = F.hinge_embedding_loss

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__(margin, reduction=reduction)


class CosineEmbeddingLoss(_Margin):
    """1 - cos of two inputs where the target is 1, relu(cos - margin) where it is -1."""

    function = F.cosine_embedding_loss

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(margin, reduction=reduction)


class MarginRankingLoss(_Margin):
    """relu(-y * (x1 - x2) + margin)."""

    function = F.margin_ranking_loss

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(margin, reduction=reduction)


class TripletMarginLoss(Loss):
    """relu(d(anchor, positive) - d(anchor, negative) + margin) (Balntas et al. 2016).

    >>> import lazygrad as lg
    >>> anchor, near, far = lg.zeros(1, 2), lg.zeros(1, 2), lg.tensor([[3.0, 4.0]])
    >>> lg.nn.TripletMarginLoss(margin=6.0)(anchor, near, far)
    tensor(1.0000)
    """

    function = F.triplet_margin_loss
    settings = ("margin", "p", "eps", "swap", "reduction")

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        *,
        reduction: str = "mean",
    ) -> None:
        if margin <= 0:
            raise ArgumentError(f"TripletMarginLoss: margin must be positive, got {margin}")
        super().__init__(reduction=reduction)
        self.margin, self.p, self.eps, self.swap = margin, p, eps, swap


class TripletMarginWithDistanceLoss(Loss):
    """`TripletMarginLoss` with any distance."""

    function = F.triplet_margin_with_distance_loss
    settings = ("distance_function", "margin", "swap", "reduction")

    def __init__(
        self,
        *,
        distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.distance_function, self.margin, self.swap = distance_function, margin, swap


class MultiLabelMarginLoss(Loss):
    """relu(1 - x[y] + x[i]) of each label y and each other class i; labels are padded with -1."""

    function = F.multilabel_margin_loss


class SoftMarginLoss(Loss):
    """log(1 + exp(-y * x)) for labels y of -1 and 1."""

    function = F.soft_margin_loss


class MultiMarginLoss(WeightedLoss):
    """The mean over the other classes of relu(margin - x[y] + x[i]) ** p."""

    function = F.multi_margin_loss
    settings = ("p", "margin", "weight", "reduction")

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Tensor | None = None,
        *,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, reduction=reduction)
        self.p, self.margin = p, margin


class MultiLabelSoftMarginLoss(WeightedLoss):
    """The cross entropy of sigmoid(input) and a bit per class, the mean over the classes."""

    function = F.multilabel_soft_margin_loss


class PoissonNLLLoss(Loss):
    """Minus the log-likelihood of counts under a Poisson distribution."""

    function = F.poisson_nll_loss
    settings = ("log_input", "full", "eps", "reduction")

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        *,
        eps: float = 1e-8,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.log_input, self.full, self.eps = log_input, full, eps


class GaussianNLLLoss(Loss):
    """Minus the log-likelihood under normal distributions; called with (input, target, var)."""

    function = F.gaussian_nll_loss
    settings = ("full", "eps", "reduction")

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.full, self.eps = full, eps
