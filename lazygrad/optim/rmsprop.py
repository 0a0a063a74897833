"""RMSprop, Adagrad and Adadelta: steps scaled by the squared gradients so far."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Unpack

from lazygrad.engine.tensor import Tensor
from lazygrad.optim.group import ParamGroup, checked
from lazygrad.optim.optimizer import Hyper, Implementation, Moments, On, Optimizer, Scalars


class RMSprop(Optimizer):
    """RMSprop (Hinton's lecture 6e, 2012): divides by the root of a running mean square.

    `centered` subtracts the square of the running mean (Graves 2013).

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0])
    >>> opt = lg.optim.RMSprop([w], lr=0.01)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.9
    """

    numeric: ClassVar[tuple[str, ...]] = ("lr", "alpha", "eps", "weight_decay", "momentum")
    switches: ClassVar[tuple[str, ...]] = ("weight_decay", "momentum")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        **flags: Unpack[Implementation],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": bool(centered),
                "maximize": bool(maximize),
            },
            flags,
        )

    def moments(self, on: On) -> tuple[str, ...]:
        """The mean square, the velocity with momentum, the mean when centered."""
        velocity = ("momentum_buffer",) if "momentum" in on else ()
        return ("square_avg", *velocity, *(("grad_avg",) if "centered" in on else ()))

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """The cells, and the complement of alpha."""
        s = {name: cells[0] for name, cells in hyper.items()}
        s["share"] = 1 - s["alpha"]
        return s

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """One step of PyTorch's single-tensor formula."""
        if "weight_decay" in on:
            grad = grad + param * s["weight_decay"]
        square = state["square_avg"] * s["alpha"] + grad * grad * s["share"]
        new = {"square_avg": square}
        variance = square
        if "centered" in on:
            mean = state["grad_avg"]
            mean = new["grad_avg"] = mean + (grad - mean) * s["share"]
            variance = square - mean * mean
        scale = variance.sqrt() + s["eps"]
        if "momentum" in on:
            velocity = state["momentum_buffer"] * s["momentum"] + grad / scale
            new["momentum_buffer"] = velocity
            return param - velocity * s["lr"], new
        return param - grad * s["lr"] / scale, new


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011): divides by the root of the sum of squared gradients.

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0])
    >>> opt = lg.optim.Adagrad([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.9
    """

    numeric: ClassVar[tuple[str, ...]] = ("lr", "lr_decay", "weight_decay", "eps")
    switches: ClassVar[tuple[str, ...]] = ("weight_decay",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        **flags: Unpack[Implementation],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "eps": eps,
                "initial_accumulator_value": checked(
                    "initial_accumulator_value", initial_accumulator_value
                ),
                "maximize": bool(maximize),
            },
            flags,
        )

    def moments(self, on: On) -> tuple[str, ...]:
        """The sum of squared gradients."""
        return ("sum",)

    def counts(self, on: On) -> bool:
        """The learning rate decays with the number of the step."""
        return True

    def initial(self, group: ParamGroup, name: str) -> float:
        """The sum may begin above zero."""
        return float(group["initial_accumulator_value"])

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """The decayed learning rate."""
        s = {name: cells[0] for name, cells in hyper.items()}
        assert step is not None
        s["lr"] = s["lr"] / (1 + (step - 1) * s.pop("lr_decay"))
        return s

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """One step of PyTorch's single-tensor formula."""
        if "weight_decay" in on:
            grad = grad + param * s["weight_decay"]
        total = state["sum"] + grad * grad
        return param - grad * s["lr"] / (total.sqrt() + s["eps"]), {"sum": total}


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012): the step has the size of recent steps, not of a learning rate.

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0])
    >>> opt = lg.optim.Adadelta([w])
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.9968
    """

    numeric: ClassVar[tuple[str, ...]] = ("lr", "rho", "eps", "weight_decay")
    switches: ClassVar[tuple[str, ...]] = ("weight_decay",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **flags: Unpack[Implementation],
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "rho": rho,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": bool(maximize),
            },
            flags,
        )

    def moments(self, on: On) -> tuple[str, ...]:
        """Running means of the squared gradient and of the squared step."""
        return ("square_avg", "acc_delta")

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """The cells, and the complement of rho."""
        s = {name: cells[0] for name, cells in hyper.items()}
        s["share"] = 1 - s["rho"]
        return s

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """One step of PyTorch's single-tensor formula."""
        if "weight_decay" in on:
            grad = grad + param * s["weight_decay"]
        square = state["square_avg"] * s["rho"] + grad * grad * s["share"]
        moved = state["acc_delta"]
        delta = (moved + s["eps"]).sqrt() / (square + s["eps"]).sqrt() * grad
        moved = moved * s["rho"] + delta * delta * s["share"]
        return param - delta * s["lr"], {"square_avg": square, "acc_delta": moved}
