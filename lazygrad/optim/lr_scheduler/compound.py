"""Schedules made of others, driven by a metric, or of more than the learning rate."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from lazygrad.errors import ArgumentError
from lazygrad.optim.group import ParamGroup
from lazygrad.optim.lr_scheduler.base import LRScheduler, per_group, positive, within
from lazygrad.optim.optimizer import Optimizer


class OneCycleLR(LRScheduler):
    """One cycle: up from `max_lr / div_factor` to `max_lr`, then down far below (Smith 2018).

    With `three_phase` it goes down as it went up first, and then far below in what is left. The
    momentum (or the first beta) goes the other way unless `cycle_momentum` is False.
    """

    absolute = True

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError("OneCycleLR needs total_steps, or epochs and steps_per_epoch")
            total_steps = positive("epochs", epochs) * positive("steps_per_epoch", steps_per_epoch)
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(f"anneal_strategy is 'cos' or 'linear', got {anneal_strategy!r}")
        self.total_steps = positive("total_steps", total_steps)
        self.peak = float(within("pct_start", pct_start, 0, 1) * total_steps) - 1
        self.three_phase = three_phase
        self.cosine = anneal_strategy == "cos"
        self.max_lrs = per_group(optimizer, max_lr, "max_lr")
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        self.momentum_name = momentum_of(optimizer, cycle_momentum)
        self.base_momentum, self.max_momentum = base_momentum, max_momentum
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, self.max_lrs, strict=True):
                group["initial_lr"] = rate / div_factor
        super().__init__(optimizer, last_epoch)

    def _between(self, low: float, high: float, end: float) -> float:
        """The point of the cycle between values: up to `high`, then down to `end`."""
        if self.last_epoch > self.total_steps:
            raise ArgumentError(f"step {self.last_epoch} of a cycle of {self.total_steps} steps")
        turns, values = [0.0, self.peak, self.total_steps - 1], [low, high, end]
        if self.three_phase:  # back to `low` as fast as it came
            turns.insert(2, 2 * self.peak)
            values.insert(2, low)
        phase = 0
        while self.last_epoch > turns[phase + 1] and phase + 2 < len(turns):
            phase += 1
        first, last = values[phase : phase + 2]
        start, stop = turns[phase : phase + 2]
        done = (self.last_epoch - start) / (stop - start)
        if self.cosine:
            return last + (first - last) / 2 * (math.cos(math.pi * done) + 1)
        return first + (last - first) * done

    def closed_form(self) -> list[float]:
        """The rates at this step of the cycle; the momentum is written on the way."""
        low, high = self.base_momentum, self.max_momentum
        momentum = self._between(high, low, high)
        write_momentum(self.optimizer, self.momentum_name, momentum)
        pairs = zip(self.base_lrs, self.max_lrs, strict=True)
        return [self._between(base, peak, base / self.final_div_factor) for base, peak in pairs]


class CyclicLR(LRScheduler):
    """The rate goes up from `base_lr` to `max_lr` and back, again and again (Smith 2017).

    `mode` shrinks the cycles: "triangular" not, "triangular2" halves each, "exp_range" by `gamma`
    to the step; `scale_fn` of the cycle or of the step takes its place. The momentum (or the first
    beta) goes the other way unless `cycle_momentum` is False.
    """

    absolute = True

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
    ) -> None:
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ArgumentError(
                f"mode is 'triangular', 'triangular2' or 'exp_range', got {mode!r}"
            )  # fmt: skip
        self.max_lrs = per_group(optimizer, max_lr, "max_lr")
        down = step_size_up if step_size_down is None else step_size_down
        self.length = float(step_size_up + down)
        self.rise = step_size_up / self.length
        self.mode, self.gamma, self.scale_fn = mode, gamma, scale_fn
        self.by_cycle = mode != "exp_range" if scale_fn is None else scale_mode == "cycle"
        self.momentum_name = momentum_of(optimizer, cycle_momentum)
        self.base_momentum, self.max_momentum = base_momentum, max_momentum
        if last_epoch == -1:
            rates = per_group(optimizer, base_lr, "base_lr")
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["initial_lr"] = rate
        super().__init__(optimizer, last_epoch)

    def _scale(self, x: float) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(x)
        if self.mode == "triangular2":
            return float(1 / 2.0 ** (x - 1))
        return float(self.gamma**x) if self.mode == "exp_range" else 1.0

    def closed_form(self) -> list[float]:
        """The rates at this step; the momentum is written on the way."""
        cycle = math.floor(1 + self.last_epoch / self.length)
        x = 1 + self.last_epoch / self.length - cycle
        height = x / self.rise if x <= self.rise else (x - 1) / (self.rise - 1)
        height *= self._scale(cycle if self.by_cycle else self.last_epoch)
        momentum = self.max_momentum - (self.max_momentum - self.base_momentum) * height
        write_momentum(self.optimizer, self.momentum_name, momentum)
        pairs = zip(self.base_lrs, self.max_lrs, strict=True)
        return [base + (top - base) * height for base, top in pairs]


def momentum_of(optimizer: Optimizer, wanted: bool) -> str:
    """The hyper-parameter that is the momentum of an optimizer; empty when it is not cycled."""
    names = [n for n in ("momentum", "betas") if n in optimizer.numeric and wanted]
    if wanted and not names:
        raise ArgumentError(
            f"{type(optimizer).__name__} has no momentum to cycle; pass cycle_momentum=False"
        )
    return names[0] if names else ""


def write_momentum(optimizer: Optimizer, name: str, momentum: float) -> None:
    """Set the momentum of all groups, or their first beta."""
    for group in optimizer.param_groups if name else ():
        group[name] = momentum if name == "momentum" else (momentum, *group[name][1:])


class ChainedScheduler(LRScheduler):
    """Several schedules of one optimizer, stepped together.

    >>> import lazygrad as lg
    >>> from lazygrad.optim.lr_scheduler import ChainedScheduler, ConstantLR, ExponentialLR
    >>> opt = lg.optim.SGD([lg.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = ChainedScheduler([ConstantLR(opt, 0.5, 1), ExponentialLR(opt, 0.5)])
    >>> schedule.step()
    >>> opt.lr
    0.5
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        if not schedulers:
            raise ArgumentError("ChainedScheduler takes at least one schedule")
        owner = schedulers[0].optimizer if optimizer is None else optimizer
        if any(s.optimizer is not owner for s in schedulers):
            raise ArgumentError("ChainedScheduler takes schedules of one optimizer")
        self._schedulers = list(schedulers)
        self.optimizer = owner
        self._last_lr = [group["lr"] for group in owner.param_groups]

    def step(self) -> None:
        """Step all of them."""
        for part in self._schedulers:
            part.step()
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The states of its parts."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state dict."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for part, held in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            part.load_state_dict(held)


class SequentialLR(LRScheduler):
    """One schedule after the other; `milestones` are the epochs at which the next one begins.

    >>> import lazygrad as lg
    >>> from lazygrad.optim.lr_scheduler import ConstantLR, ExponentialLR, SequentialLR
    >>> opt = lg.optim.SGD([lg.nn.Parameter([1.0])], lr=1.0)
    >>> parts = [ConstantLR(opt, factor=0.5, total_iters=9), ExponentialLR(opt, gamma=0.5)]
    >>> schedule = SequentialLR(opt, parts, milestones=[2])
    >>> rates = [opt.lr]
    >>> for _ in range(3):
    ...     schedule.step()
    ...     rates.append(opt.lr)
    >>> rates
    [0.5, 0.5, 1.0, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        if not schedulers or any(s.optimizer is not optimizer for s in schedulers):
            raise ArgumentError("SequentialLR takes at least one schedule, all of its optimizer")
        if len(milestones) != len(schedulers) - 1:
            raise ArgumentError(
                f"{len(schedulers)} schedules need {len(schedulers) - 1} milestones, "
                f"got {len(milestones)}"
            )
        self._schedulers = list(schedulers)
        self.milestones = list(milestones)
        super().__init__(optimizer, last_epoch)

    def _start(self) -> None:
        self.last_epoch += 1
        if self.last_epoch == 0:  # each of the schedules has taken its first step: take it back
            for group in self.optimizer.param_groups:
                group["lr"] = group["initial_lr"]
            self._schedulers[bisect_right(self.milestones, 0)].restart()
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def step(self) -> None:
        """Step the schedule whose turn it is."""
        self.last_epoch += 1
        i = bisect_right(self.milestones, self.last_epoch)
        if i > 0 and self.milestones[i - 1] == self.last_epoch:
            self._schedulers[i].restart()
        else:
            self._schedulers[i].step()
        self._last_lr = self._schedulers[i].get_last_lr()

    def restart(self) -> None:
        """Go back to epoch 0 of the first schedule."""
        self.last_epoch = 0
        self._schedulers[0].restart()
        self._last_lr = self._schedulers[0].get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """The state of this schedule and of its parts."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state dict."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for part, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            part.load_state_dict(state)


class ReduceLROnPlateau(LRScheduler):
    """Multiply the rate by `factor` when a metric has not improved for `patience` epochs.

    >>> import lazygrad as lg
    >>> opt = lg.optim.SGD([lg.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = lg.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=1)
    >>> for loss in (3.0, 3.0, 3.0):
    ...     schedule.step(loss)
    >>> opt.lr
    0.5
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1:
            raise ArgumentError(f"factor must be below 1, got {factor}")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ArgumentError(
                "mode is 'min' or 'max', threshold_mode 'rel' or 'abs', "
                f"got {mode!r} and {threshold_mode!r}"
            )
        self.factor, self.patience, self.cooldown, self.eps = factor, patience, cooldown, eps
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.min_lrs = per_group(optimizer, min_lr, "min_lr")
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = 0
        super().__init__(optimizer)

    def curve(self, epoch: int) -> float:
        """It begins with the initial rate."""
        return 1.0

    def _improved(self, value: float) -> bool:
        margin = self.threshold if self.mode == "min" else -self.threshold
        bound = self.best * (1 - margin) if self.threshold_mode == "rel" else self.best - margin
        return value < bound if self.mode == "min" else value > bound

    def step(self, metrics: Any) -> None:  # type: ignore[override]  # as in PyTorch
        """Look at a metric (a number or a tensor with one element)."""
        value = float(metrics)
        self.last_epoch += 1
        improved = self._improved(value)
        self.best = value if improved else self.best
        self.num_bad_epochs = 0 if improved else self.num_bad_epochs + 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0  # ignore any bad epochs while cooling down
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
            self._write([self._reduced(g, i) for i, g in enumerate(self.optimizer.param_groups)])
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _reduced(self, group: ParamGroup, i: int) -> float:
        old: float = group["lr"]
        new = max(old * self.factor, self.min_lrs[i])
        return new if old - new > self.eps else old
