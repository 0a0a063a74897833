"""Lion: steps of one size, in the direction of a sign."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from lazygrad.engine.tensor import Tensor
from lazygrad.optim.optimizer import Hyper, Moments, On, Optimizer, Scalars


class Lion(Optimizer):
    """Lion (Chen et al. 2023): the sign of a mix of momentum and gradient, times the rate.

    One moment instead of Adam's two; weight decay shrinks the parameter itself. Rates are chosen
    three to ten times smaller than for AdamW, weight decays as much larger.

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0, -3.0])
    >>> opt = lg.optim.Lion([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> [round(x, 4) for x in w.tolist()]
    [0.9, -2.9]
    """

    numeric: ClassVar[tuple[str, ...]] = ("lr", "betas", "weight_decay")
    switches: ClassVar[tuple[str, ...]] = ("weight_decay",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": bool(maximize)
        }  # fmt: skip
        super().__init__(params, defaults)

    def moments(self, on: On) -> tuple[str, ...]:
        """The momentum."""
        return ("exp_avg",)

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """The betas with their complements, and what weight decay leaves."""
        (lr,), (beta1, beta2), (decay,) = hyper["lr"], hyper["betas"], hyper["weight_decay"]
        s = {
            "lr": lr, "beta1": beta1, "share1": 1 - beta1, "beta2": beta2, "share2": 1 - beta2
        }  # fmt: skip
        if "weight_decay" in on:
            s["decay"] = 1 - lr * decay
        return s

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """Algorithm 2 of the paper."""
        if "weight_decay" in on:
            param = param * s["decay"]
        mean = state["exp_avg"]
        direction = (mean * s["beta1"] + grad * s["share1"]).sign()
        return param - direction * s["lr"], {"exp_avg": mean * s["beta2"] + grad * s["share2"]}
