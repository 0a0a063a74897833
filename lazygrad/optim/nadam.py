"""NAdam: Adam with Nesterov's look ahead."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Unpack

from lazygrad.engine.tensor import Tensor
from lazygrad.optim.adam import decay_share, decayed, mean_shares, running_means
from lazygrad.optim.group import ParamGroup
from lazygrad.optim.optimizer import Hyper, Implementation, Moments, On, Optimizer, Scalars


class NAdam(Optimizer):
    """Adam with Nesterov momentum (Dozat 2016), its momentum growing towards the first beta.

    `mu_t = beta1 * (1 - 0.96 ** (t * momentum_decay) / 2)`; the product of all `mu` so far is kept
    for each parameter, so a beta that changes on the way is taken as it was at each step.

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0, -3.0])
    >>> opt = lg.optim.NAdam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> [round(x, 4) for x in w.tolist()]
    [0.8944, -2.8944]
    """

    numeric: ClassVar[tuple[str, ...]] = ("lr", "betas", "eps", "weight_decay", "momentum_decay")
    switches: ClassVar[tuple[str, ...]] = ("weight_decay",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
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
                "momentum_decay": momentum_decay,
                "maximize": bool(maximize),
                "decoupled_weight_decay": bool(decoupled_weight_decay),
            },
            flags,
        )

    def moments(self, on: On) -> tuple[str, ...]:
        """Running means of the gradient and of its square."""
        return ("exp_avg", "exp_avg_sq")

    def counts(self, on: On) -> bool:
        """Momentum and bias correction depend on the number of the step."""
        return True

    def tallies(self, on: On) -> tuple[str, ...]:
        """The product of the momenta so far."""
        return ("mu_product",)

    def initial(self, group: ParamGroup, name: str) -> float:
        """An empty product is 1."""
        return 1.0 if name == "mu_product" else 0.0

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """The momenta of this step and the next, and what gradient and mean are multiplied by."""
        (lr,), (eps,), (decay,) = hyper["lr"], hyper["eps"], hyper["weight_decay"]
        (beta1, beta2), (rate,), (product,) = (
            hyper["betas"], hyper["momentum_decay"], hyper["mu_product"],
        )  # fmt: skip
        assert step is not None
        base = step.new_full((), 0.96)
        mu = beta1 * (1 - 0.5 * base ** (step * rate))
        following = beta1 * (1 - 0.5 * base ** ((step + 1) * rate))
        product = product * mu
        s = {
            "mu_product": product,
            **mean_shares(beta1, beta2),
            "grad_size": lr * (1 - mu) / (1 - product),
            "mean_size": lr * following / (1 - product * following),
            "correction": 1 - beta2**step,
            "eps": eps,
        }
        return s | decay_share(lr, decay, on)

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """One step of PyTorch's single-tensor formula."""
        param, grad = decayed(param, grad, s, on)
        mean, square = running_means(grad, state, s)
        scale = (square / s["correction"]).sqrt() + s["eps"]
        param = param - grad * s["grad_size"] / scale - mean * s["mean_size"] / scale
        return param, {"exp_avg": mean, "exp_avg_sq": square}
