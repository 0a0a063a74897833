"""Learning-rate schedules.

A schedule is a curve: the factor by which the initial learning rate of each group is multiplied at
an epoch, above a floor. A step multiplies the rate that is there by the ratio of two neighbouring
points, so that several schedules of one optimizer multiply, as in PyTorch; the few that PyTorch
computes from the initial rate alone are marked `absolute`. Rates are written into the cells of the
parameter groups, so captured training steps read them and never trace again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from lazygrad.errors import ArgumentError, ArgumentTypeError, LazygradError
from lazygrad.optim.optimizer import Optimizer

Factor = Callable[[int], float]


class LRScheduler:
    """Base class of schedules: subclasses define `curve`, or `get_lr` itself.

    `step()` goes to the next epoch; call it after `optimizer.step()`, outside of captured
    functions. With `last_epoch` >= 0 a run is resumed: the groups need their `initial_lr` and keep
    the learning rate that was loaded into them.

    >>> import lazygrad as lg
    >>> class Halve(lg.optim.lr_scheduler.LRScheduler):
    ...     def curve(self, epoch):
    ...         return 0.5**epoch
    >>> opt = lg.optim.SGD([lg.nn.Parameter([1.0])], lr=0.8)
    >>> schedule = Halve(opt)
    >>> schedule.step()
    >>> opt.lr, schedule.get_last_lr()
    (0.4, [0.4])
    """

    absolute: ClassVar[bool] = False
    floor: float = 0.0

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentTypeError(
                f"a schedule takes an Optimizer, got {type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        self.last_epoch = last_epoch
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ArgumentError(
                    f"param_groups[{i}] has no 'initial_lr': load the optimizer's state dict "
                    f"before resuming a schedule with last_epoch={last_epoch}"
                )
        self.base_lrs: list[float] = [g["initial_lr"] for g in optimizer.param_groups]
        self._last_lr: list[float] = []
        self._start()

    def _start(self) -> None:
        """Go to the first epoch; a resumed run is there already."""
        self.last_epoch += 1
        if self.last_epoch == 0 or self.absolute:
            self._write(self._at_start())
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _at_start(self) -> list[float]:
        if self.absolute:
            return self.closed_form()
        groups = self.optimizer.param_groups
        return [self.floor + (g["lr"] - self.floor) * self.curve(0) for g in groups]

    def curve(self, epoch: int) -> float:
        """The factor of the learning rate at an epoch."""
        raise NotImplementedError

    def closed_form(self) -> list[float]:
        """The learning rates from the initial ones alone."""
        factor = self.curve(self.last_epoch)
        return [self.floor + (base - self.floor) * factor for base in self.base_lrs]

    def get_lr(self) -> list[float]:
        """The learning rates of `last_epoch`, one for each group."""
        before = 0.0 if self.absolute else self.curve(self.last_epoch - 1)
        if before == 0:
            return self.closed_form()
        ratio = self.curve(self.last_epoch) / before
        groups = self.optimizer.param_groups
        return [self.floor + (g["lr"] - self.floor) * ratio for g in groups]

    def step(self) -> None:
        """Go to the next epoch and write its learning rates."""
        self.last_epoch += 1
        try:
            self._write(self.get_lr())
        except LazygradError:  # a rate that makes no sense, or inside of a captured function
            self.last_epoch -= 1
            raise

    def restart(self) -> None:
        """Go back to epoch 0 and to the initial learning rates."""
        self.last_epoch = 0
        self._write(self.closed_form())

    def _write(self, rates: Sequence[float]) -> None:
        groups = self.optimizer.param_groups
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in groups]

    def get_last_lr(self) -> list[float]:
        """The learning rates that were written last."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """What a run needs to go on: plain numbers and lists; functions are left out."""
        return {k: v for k, v in vars(self).items() if k != "optimizer" and _is_plain(v)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state dict; the learning rates themselves are in the optimizer's."""
        vars(self).update({k: v for k, v in state_dict.items() if _is_plain(v)})


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)


def per_group(optimizer: Optimizer, value: Any, name: str) -> list[Any]:
    """One entry for each group: the given list, or the one value repeated."""
    count = len(optimizer.param_groups)
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    if len(values) != count:
        raise ArgumentError(f"{name} has {len(values)} entries for {count} parameter groups")
    return values


def positive(name: str, value: int) -> int:
    """A count of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


def within(name: str, value: float, low: float, high: float) -> float:
    """A number between two bounds."""
    if not low <= value <= high:
        raise ArgumentError(f"{name} must be between {low} and {high}, got {value}")
    return value
