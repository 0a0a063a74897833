"""Rprop, which knows signs only, and ASGD, which keeps the average of where it has been."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Unpack

from lazygrad.engine.tensor import Tensor
from lazygrad.optim.group import ParamGroup
from lazygrad.optim.optimizer import Hyper, Implementation, Moments, On, Optimizer, Scalars


class Rprop(Optimizer):
    """Resilient propagation (Riedmiller and Braun 1993): a step size of its own for each element.

    It grows by `etas[1]` while the sign of the gradient stays, within `step_sizes`, and shrinks by
    `etas[0]` when it turns; that step is then left out. For full batches.

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0, -3.0])
    >>> opt = lg.optim.Rprop([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> [round(x, 4) for x in w.tolist()]
    [0.9, -2.9]
    """

    numeric: ClassVar[tuple[str, ...]] = ("lr", "etas", "step_sizes")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
        **flags: Unpack[Implementation],
    ) -> None:
        defaults = {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": bool(maximize)
        }  # fmt: skip
        super().__init__(params, defaults, flags)

    def moments(self, on: On) -> tuple[str, ...]:
        """The last gradient, and the step size of each element."""
        return ("prev", "step_size")

    def counts(self, on: On) -> bool:
        """Step sizes begin with the learning rate of the first step."""
        return True

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """The factors of step sizes, their limits, and with what they begin."""
        (shrink, grow), (least, most) = hyper["etas"], hyper["step_sizes"]
        assert step is not None
        begin = hyper["lr"][0].where(step == 1, 0.0)
        return {"shrink": shrink, "grow": grow, "least": least, "most": most, "begin": begin}

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """One step of PyTorch's single-tensor formula."""
        agreed = grad * state["prev"]
        factor = s["grow"].where(agreed > 0, s["shrink"].where(agreed < 0, 1.0))
        size = ((state["step_size"] + s["begin"]) * factor).clamp(s["least"], s["most"])
        grad = grad.masked_fill(agreed < 0, 0.0)
        return param - grad.sign() * size, {"prev": grad, "step_size": size}


class ASGD(Optimizer):
    """Averaged stochastic gradient descent (Polyak and Juditsky 1992).

    The learning rate falls as `lr / (1 + lambd * lr * t) ** alpha`; the average over the steps
    after `t0` is in the state `ax`.

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0])
    >>> opt = lg.optim.ASGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.8
    """

    numeric: ClassVar[tuple[str, ...]] = ("lr", "lambd", "alpha", "t0", "weight_decay")
    switches: ClassVar[tuple[str, ...]] = ("weight_decay",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **flags: Unpack[Implementation],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lambd": lambd,
                "alpha": alpha,
                "t0": t0,
                "weight_decay": weight_decay,
                "maximize": bool(maximize),
            },
            flags,
        )

    def moments(self, on: On) -> tuple[str, ...]:
        """The average."""
        return ("ax",)

    def counts(self, on: On) -> bool:
        """The learning rate and the share of this step depend on its number."""
        return True

    def tallies(self, on: On) -> tuple[str, ...]:
        """The learning rate of the next step, and the share that it has in the average."""
        return ("eta", "mu")

    def initial(self, group: ParamGroup, name: str) -> float:
        """The first step is the average."""
        return 1.0 if name == "mu" else 0.0

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """What this step multiplies by, and the tallies for the next one."""
        (lr,), (lambd,), (alpha,) = hyper["lr"], hyper["lambd"], hyper["alpha"]
        (eta,), (mu,) = hyper["eta"], hyper["mu"]
        assert step is not None
        eta = lr.where(step == 1, eta)
        s = {
            "eta": lr / (1 + lambd * lr * step) ** alpha,
            "mu": 1 / (step - hyper["t0"][0]).clamp(min=1),
            "shrink": 1 - lambd * eta,
            "size": eta,
            "share": mu,
        }
        return s | ({"decay": hyper["weight_decay"][0]} if "weight_decay" in on else {})

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """One step of PyTorch's single-tensor formula."""
        if "weight_decay" in on:
            grad = grad + param * s["decay"]
        param = param * s["shrink"] - grad * s["size"]
        average = state["ax"]
        return param, {"ax": param.where(s["share"] == 1, average + (param - average) * s["share"])}
