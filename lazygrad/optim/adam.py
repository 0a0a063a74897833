"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Unpack

from lazygrad.engine.tensor import Tensor
from lazygrad.optim.optimizer import Hyper, Implementation, Moments, On, Optimizer, Scalars


def decay_share(lr: Tensor, decay: Tensor, on: On) -> Scalars:
    """What `decayed` multiplies the parameter by."""
    if "weight_decay" not in on:
        return {}
    return {"decay": 1 - lr * decay if "decoupled_weight_decay" in on else decay}


def decayed(param: Tensor, grad: Tensor, s: Scalars, on: On) -> tuple[Tensor, Tensor]:
    """Parameter and gradient after weight decay, which is added to one of them."""
    if "weight_decay" not in on:
        return param, grad
    if "decoupled_weight_decay" in on:
        return param * s["decay"], grad
    return param, grad + param * s["decay"]


def mean_shares(beta1: Tensor, beta2: Tensor) -> Scalars:
    """What `running_means` multiplies by."""
    return {"grad_share": 1 - beta1, "beta2": beta2, "square_share": 1 - beta2}


def running_means(grad: Tensor, state: Moments, s: Scalars) -> tuple[Tensor, Tensor]:
    """The running means of the gradient and of its square with this gradient in them."""
    mean = state["exp_avg"]
    mean = mean + (grad - mean) * s["grad_share"]
    return mean, state["exp_avg_sq"] * s["beta2"] + grad * grad * s["square_share"]


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): steps scaled by running means of gradient and squared gradient.

    `amsgrad` divides by the largest mean square so far (Reddi et al. 2018); `weight_decay` is added
    to the gradient, or shrinks the parameter itself with `decoupled_weight_decay` (AdamW).

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0, -3.0])
    >>> opt = lg.optim.Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> [round(x, 4) for x in w.tolist()]
    [0.9, -2.9]
    """

    numeric: ClassVar[tuple[str, ...]] = ("lr", "betas", "eps", "weight_decay")
    switches: ClassVar[tuple[str, ...]] = ("weight_decay",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        **flags: Unpack[Implementation],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": bool(amsgrad),
                "maximize": bool(maximize),
                "decoupled_weight_decay": bool(decoupled_weight_decay),
            },
            flags,
        )

    def moments(self, on: On) -> tuple[str, ...]:
        """Running means of the gradient and of its square."""
        names = ("exp_avg", "exp_avg_sq")
        return (*names, "max_exp_avg_sq") if "amsgrad" in on else names

    def counts(self, on: On) -> bool:
        """The bias correction depends on the number of the step."""
        return True

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """Bias corrections, and the complements of the betas."""
        (lr,), (eps,), (decay,) = hyper["lr"], hyper["eps"], hyper["weight_decay"]
        beta1, beta2 = hyper["betas"]
        assert step is not None
        s = {
            **mean_shares(beta1, beta2),
            "step_size": lr / (1 - beta1**step),
            "correction": (1 - beta2**step).sqrt(),
            "eps": eps,
        }
        return s | decay_share(lr, decay, on)

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """One step of PyTorch's single-tensor formula."""
        param, grad = decayed(param, grad, s, on)
        mean, square = running_means(grad, state, s)
        new = {"exp_avg": mean, "exp_avg_sq": square}
        largest = square
        if "amsgrad" in on:
            largest = new["max_exp_avg_sq"] = state["max_exp_avg_sq"].maximum(square)
        denominator = largest.sqrt() / s["correction"] + s["eps"]
        return param - mean * s["step_size"] / denominator, new


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): it shrinks the parameter.

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0])
    >>> opt = lg.optim.AdamW([w], lr=0.1, weight_decay=0.5)
    >>> (0 * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.95
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        **flags: Unpack[Implementation],
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad,
            maximize=maximize, decoupled_weight_decay=True, **flags,
        )  # fmt: skip
