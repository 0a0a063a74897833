"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Unpack

from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError
from lazygrad.optim.group import ParamGroup
from lazygrad.optim.optimizer import Hyper, Implementation, Moments, On, Optimizer, Scalars


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's variant (Sutskever et al. 2013).

    `b <- momentum * b + (1 - dampening) * g`, `p <- p - lr * b`; Nesterov takes `g + momentum * b`
    instead of `b`; `weight_decay` adds that multiple of the parameter to the gradient. The first
    step is not dampened, as in PyTorch.

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0])
    >>> opt = lg.optim.SGD([w], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     opt.zero_grad()
    ...     (w * w).sum().backward()
    ...     opt.step()
    >>> round(w.item(), 4)
    0.46
    """

    numeric: ClassVar[tuple[str, ...]] = ("lr", "momentum", "dampening", "weight_decay")
    switches: ClassVar[tuple[str, ...]] = ("momentum", "dampening", "weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        **flags: Unpack[Implementation],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": bool(nesterov),
                "maximize": bool(maximize),
            },
            flags,
        )

    def validate(self, group: ParamGroup) -> None:
        """Nesterov needs momentum and takes no dampening."""
        if "nesterov" in group.on and ("momentum" not in group.on or "dampening" in group.on):
            raise ArgumentError("Nesterov momentum requires a momentum and zero dampening")

    def moments(self, on: On) -> tuple[str, ...]:
        """The velocity, if there is momentum."""
        return ("momentum_buffer",) if "momentum" in on else ()

    def counts(self, on: On) -> bool:
        """The first step is known by its number, where that matters."""
        return "momentum" in on and "dampening" in on

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """Learning rate, momentum, what of the gradient enters the velocity, weight decay."""
        s = {name: hyper[name][0] for name in ("lr", *self.switches) if name == "lr" or name in on}
        dampening = s.pop("dampening", None)
        if dampening is not None and step is not None:
            s["share"] = (1 - dampening).where(step > 1, 1.0)
        return s

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """One step of PyTorch's single-tensor formula."""
        if "weight_decay" in on:
            grad = grad + param * s["weight_decay"]
        if "momentum" in on:
            share = grad * s["share"] if "share" in s else grad
            buffer = state["momentum_buffer"] * s["momentum"] + share
            state = {"momentum_buffer": buffer}
            grad = grad + buffer * s["momentum"] if "nesterov" in on else buffer
        return param - grad * s["lr"], state
