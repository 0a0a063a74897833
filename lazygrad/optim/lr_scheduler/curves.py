"""The schedules that are one curve."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable

from lazygrad.errors import ArgumentError
from lazygrad.optim.lr_scheduler.base import Factor, LRScheduler, per_group, positive, within
from lazygrad.optim.optimizer import Optimizer


class LambdaLR(LRScheduler):
    """The initial rate times `lr_lambda(epoch)`; a list has a function for each group.

    >>> import lazygrad as lg
    >>> opt = lg.optim.SGD([lg.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = lg.optim.lr_scheduler.LambdaLR(opt, lambda k: 1.0 - 0.9 * k / 100)
    >>> for _ in range(10):
    ...     schedule.step()
    >>> round(opt.lr, 6)
    0.91
    """

    absolute = True

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Factor | list[Factor], last_epoch: int = -1
    ) -> None:
        self.lr_lambdas: list[Factor] = per_group(optimizer, lr_lambda, "lr_lambda")
        super().__init__(optimizer, last_epoch)

    def closed_form(self) -> list[float]:
        """The initial rates times the functions."""
        pairs = zip(self.base_lrs, self.lr_lambdas, strict=True)
        return [base * factor(self.last_epoch) for base, factor in pairs]


class MultiplicativeLR(LRScheduler):
    """At each epoch the rate is multiplied by `lr_lambda(epoch)`."""

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Factor | list[Factor], last_epoch: int = -1
    ) -> None:
        self.lr_lambdas: list[Factor] = per_group(optimizer, lr_lambda, "lr_lambda")
        super().__init__(optimizer, last_epoch)

    def curve(self, epoch: int) -> float:
        """It begins with the initial rate."""
        return 1.0

    def get_lr(self) -> list[float]:
        """The rates that are there times the functions."""
        pairs = zip(self.optimizer.param_groups, self.lr_lambdas, strict=True)
        return [group["lr"] * factor(self.last_epoch) for group, factor in pairs]


class StepLR(LRScheduler):
    """Every `step_size` epochs the rate is multiplied by `gamma`."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = positive("step_size", step_size)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def curve(self, epoch: int) -> float:
        """`gamma` to the number of whole periods."""
        return float(self.gamma ** (epoch // self.step_size))


class MultiStepLR(LRScheduler):
    """At each milestone the rate is multiplied by `gamma`."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def curve(self, epoch: int) -> float:
        """`gamma` to the number of milestones passed."""
        return float(self.gamma ** bisect_right(self.milestones, epoch))


class ConstantLR(LRScheduler):
    """The rate times `factor` for the first `total_iters` epochs."""

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.factor = within("factor", factor, 0, 1)
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def curve(self, epoch: int) -> float:
        """`factor`, then 1."""
        return self.factor if epoch < self.total_iters else 1.0


class LinearLR(LRScheduler):
    """The factor goes in a straight line from `start_factor` to `end_factor`, then stays.

    >>> import lazygrad as lg
    >>> opt = lg.optim.SGD([lg.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = lg.optim.lr_scheduler.LinearLR(opt, start_factor=0.5, total_iters=2)
    >>> rates = [opt.lr]
    >>> for _ in range(3):
    ...     schedule.step()
    ...     rates.append(opt.lr)
    >>> rates
    [0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ArgumentError(f"start_factor must be above 0 and at most 1, got {start_factor}")
        self.start_factor = start_factor
        self.end_factor = within("end_factor", end_factor, 0, 1)
        self.total_iters = positive("total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def curve(self, epoch: int) -> float:
        """The point of the line at `epoch`."""
        done = min(epoch, self.total_iters) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * done


class ExponentialLR(LRScheduler):
    """At each epoch the rate is multiplied by `gamma`."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def curve(self, epoch: int) -> float:
        """`gamma` to the number of epochs."""
        return float(self.gamma**epoch)


class PolynomialLR(LRScheduler):
    """The rate falls to zero within `total_iters` epochs, along a power of the way left."""

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters = positive("total_iters", total_iters)
        self.power = power
        super().__init__(optimizer, last_epoch)

    def curve(self, epoch: int) -> float:
        """The part of the way that is left, to the power."""
        return float((1 - min(epoch, self.total_iters) / self.total_iters) ** self.power)


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the initial rate to `eta_min` in `T_max` epochs, and back.

    Loshchilov and Hutter 2017, without the restarts.

    >>> import lazygrad as lg
    >>> opt = lg.optim.SGD([lg.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = lg.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=2)
    >>> schedule.step()
    >>> round(opt.lr, 6)
    0.5
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_max: int,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_max = positive("T_max", T_max)
        self.eta_min = self.floor = eta_min
        super().__init__(optimizer, last_epoch)

    def curve(self, epoch: int) -> float:
        """From 1 down to 0 and up again."""
        return (1 + math.cos(math.pi * epoch / self.T_max)) / 2


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half cosines, each `T_mult` times as long as the one before (Loshchilov and Hutter 2017)."""

    absolute = True

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_0 = positive("T_0", T_0)
        self.T_mult = positive("T_mult", T_mult)
        self.eta_min = self.floor = eta_min
        super().__init__(optimizer, last_epoch)

    def curve(self, epoch: int) -> float:
        """From 1 down to 0 within each period."""
        length = self.T_0
        while epoch >= length:
            epoch -= length
            length *= self.T_mult
        return (1 + math.cos(math.pi * epoch / length)) / 2
