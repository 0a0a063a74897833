"""Adamax and RAdam: Adam with another norm, and Adam that waits for its variance to be known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Unpack

from lazygrad.engine.tensor import Tensor
from lazygrad.optim.adam import decay_share, decayed, mean_shares, running_means
from lazygrad.optim.optimizer import Hyper, Implementation, Moments, On, Optimizer, Scalars


class Adamax(Optimizer):
    """Adam over the infinity norm: a running maximum of |g| (Kingma and Ba 2015, section 7).

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0, -3.0])
    >>> opt = lg.optim.Adamax([w], lr=0.1)
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
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **flags: Unpack[Implementation],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": bool(maximize),
            },
            flags,
        )

    def moments(self, on: On) -> tuple[str, ...]:
        """The running mean of the gradient, and its running largest size."""
        return ("exp_avg", "exp_inf")

    def counts(self, on: On) -> bool:
        """The bias correction depends on the number of the step."""
        return True

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """The learning rate with the correction of the mean in it."""
        (lr,), (eps,), (decay,) = hyper["lr"], hyper["eps"], hyper["weight_decay"]
        beta1, beta2 = hyper["betas"]
        assert step is not None
        s = {"share": 1 - beta1, "beta2": beta2, "eps": eps, "size": lr / (1 - beta1**step)}
        return s | decay_share(lr, decay, on)

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """One step of PyTorch's single-tensor formula."""
        param, grad = decayed(param, grad, s, on)
        mean = state["exp_avg"]
        mean = mean + (grad - mean) * s["share"]
        largest = (state["exp_inf"] * s["beta2"]).maximum(grad.abs() + s["eps"])
        return param - mean * s["size"] / largest, {"exp_avg": mean, "exp_inf": largest}


class RAdam(Optimizer):
    """Rectified Adam (Liu et al. 2020): plain momentum until the variance of the steps is known.

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0])
    >>> opt = lg.optim.RAdam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.8
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
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **flags: Unpack[Implementation],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": bool(maximize),
                "decoupled_weight_decay": bool(decoupled_weight_decay),
            },
            flags,
        )

    def moments(self, on: On) -> tuple[str, ...]:
        """Running means of the gradient and of its square."""
        return ("exp_avg", "exp_avg_sq")

    def counts(self, on: On) -> bool:
        """Bias correction and rectification depend on the number of the step."""
        return True

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """The size of the step, and whether the mean square has a say in it."""
        (lr,), (eps,), (decay,) = hyper["lr"], hyper["eps"], hyper["weight_decay"]
        beta1, beta2 = hyper["betas"]
        assert step is not None
        correction = 1 - beta2**step
        limit = 2 / (1 - beta2) - 1  # how long the mean square remembers, in the end and now
        length = limit - 2 * step * beta2**step / correction
        rectified = length > 5
        known = length.where(rectified, limit)  # any number under the root that is not negative
        root = ((known - 4) * (known - 2) * limit / ((limit - 4) * (limit - 2) * known)).sqrt()
        size = lr / (1 - beta1**step)
        s = {
            **mean_shares(beta1, beta2),
            "size": (size * root * correction.sqrt()).where(rectified, size),
            "rectified": rectified.to(lr.dtype),
            "eps": eps,
        }
        return s | decay_share(lr, decay, on)

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """One step of PyTorch's single-tensor formula."""
        param, grad = decayed(param, grad, s, on)
        mean, square = running_means(grad, state, s)
        scale = (square.sqrt() + s["eps"]).where(s["rectified"] > 0, 1.0)
        return param - mean * s["size"] / scale, {"exp_avg": mean, "exp_avg_sq": square}
