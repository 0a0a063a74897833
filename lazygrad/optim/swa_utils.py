"""Averages of the weights of a run: stochastic weight averaging and moving averages."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

from lazygrad.dtypes import int64
from lazygrad.engine.modes import no_grad
from lazygrad.engine.tensor import Tensor, state
from lazygrad.errors import ArgumentError
from lazygrad.nn.module import Module
from lazygrad.nn.normalization import BatchNorm
from lazygrad.optim.lr_scheduler.base import LRScheduler, per_group
from lazygrad.optim.optimizer import Optimizer

__all__ = [
    "AveragedModel", "SWALR", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn",
    "get_swa_multi_avg_fn", "update_bn",
]  # fmt: skip

Average = Callable[[Tensor, Tensor, Tensor], Tensor]
MultiAverage = Callable[[list[Tensor], list[Tensor], Tensor], Any]


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """`avg + (1 - decay) * (new - avg)`: the exponential moving average."""
    if not 0 <= decay <= 1:
        raise ArgumentError(f"decay must be in [0, 1], got {decay}")

    def average(averaged: Tensor, current: Tensor, num_averaged: Tensor) -> Tensor:
        return averaged * decay + current * (1 - decay)

    return average


def get_swa_avg_fn() -> Average:
    """The plain average of all models so far (Izmailov et al. 2018)."""

    def average(averaged: Tensor, current: Tensor, num_averaged: Tensor) -> Tensor:
        return averaged + (current - averaged) / (num_averaged + 1).to(averaged.dtype)

    return average


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """The exponential moving average of several tensors at once; returns the new ones."""
    return _of_each(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> MultiAverage:
    """The plain average of several tensors at once; returns the new ones."""
    return _of_each(get_swa_avg_fn())


def _of_each(average: Average) -> MultiAverage:
    def averages(
        averaged: list[Tensor], current: list[Tensor], num_averaged: Tensor
    ) -> list[Tensor]:
        return [average(a, c, num_averaged) for a, c in zip(averaged, current, strict=True)]

    return averages


class AveragedModel(Module):
    """A copy of a model whose parameters are an average of those that it is shown.

    `update_parameters(model)` after each step; the first call copies. Without a function it is the
    plain average (SWA); `multi_avg_fn=get_ema_multi_avg_fn(0.999)` makes it a moving one (EMA).
    With `use_buffers` buffers are averaged too, otherwise copied. All of it is pending state, so it
    may stand inside a captured training step.

    >>> import lazygrad as lg
    >>> model = lg.nn.Linear(1, 1, bias=False)
    >>> averaged = lg.optim.swa_utils.AveragedModel(model)
    >>> for value in (1.0, 2.0, 6.0):
    ...     model.weight.data = [[value]]
    ...     averaged.update_parameters(model)
    >>> averaged.module.weight.item()
    3.0
    """

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        if avg_fn is not None and multi_avg_fn is not None:
            raise ArgumentError("AveragedModel takes avg_fn or multi_avg_fn, not both")
        self.module = copy.deepcopy(model)
        self.register_buffer("n_averaged", state(0, int64))
        self.multi_avg_fn = multi_avg_fn or _of_each(avg_fn or get_swa_avg_fn())
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The averaged model."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the parameters of `model` into the average."""
        averaged: list[Tensor] = [*self.module.parameters()]
        current: list[Tensor] = [*model.parameters()]
        old_buffers, new_buffers = self.module.buffers(), model.buffers()
        if self.use_buffers:
            averaged += old_buffers
            current += new_buffers
        with no_grad():
            first = self.n_averaged == 0
            found = self.multi_avg_fn(averaged, current, self.n_averaged)
            for target, source, mean in zip(averaged, current, found, strict=True):
                target.assign_(source.where(first, mean.to(target.dtype)))
            for target, source in zip(old_buffers, new_buffers, strict=True):
                if not self.use_buffers:
                    target.assign_(source)
            self.n_averaged.assign_(self.n_averaged + 1)


class SWALR(LRScheduler):
    """The rate goes from what it is to `swa_lr` in `anneal_epochs` epochs, then stays.

    >>> import lazygrad as lg
    >>> opt = lg.optim.SGD([lg.nn.Parameter([1.0])], lr=1.0)
    >>> schedule = lg.optim.swa_utils.SWALR(opt, 0.5, anneal_epochs=2, anneal_strategy="linear")
    >>> rates = [opt.lr]
    >>> for _ in range(3):
    ...     schedule.step()
    ...     rates.append(opt.lr)
    >>> rates
    [1.0, 0.75, 0.5, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(f"anneal_strategy is 'cos' or 'linear', got {anneal_strategy!r}")
        if isinstance(anneal_epochs, bool) or not isinstance(anneal_epochs, int):
            raise ArgumentError(f"anneal_epochs must be an integer, got {anneal_epochs!r}")
        self.swa_lrs: list[float] = per_group(optimizer, swa_lr, "swa_lr")
        self.anneal_epochs, self.cosine = anneal_epochs, anneal_strategy == "cos"
        super().__init__(optimizer, last_epoch)

    def curve(self, epoch: int) -> float:
        """It begins with the rate that is there."""
        return 1.0

    def _share(self, epoch: int) -> float:
        """How much of the way to `swa_lr` is done at an epoch."""
        done = max(0.0, min(1.0, epoch / max(1, self.anneal_epochs)))
        return (1 - math.cos(math.pi * done)) / 2 if self.cosine else done

    def get_lr(self) -> list[float]:
        """The next point between what the rate was at first and `swa_lr`."""
        epoch = self.last_epoch if self.anneal_epochs else max(1, self.last_epoch)
        before, now = self._share(epoch - 1), self._share(epoch)
        rates = []
        for group, target in zip(self.optimizer.param_groups, self.swa_lrs, strict=True):
            rate = group["lr"]
            first = target if before == 1 else (rate - before * target) / (1 - before)
            rates.append(target * now + first * (1 - now))
        return rates


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running statistics of batch normalization anew, from one pass over `loader`.

    A batch is a tensor, or a tuple or list that begins with the input.
    """
    layers = [m for m in model.modules() if isinstance(m, BatchNorm)]
    if not layers:
        return
    momenta, training = [layer.momentum for layer in layers], model.training
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    model.train()
    try:
        with no_grad():
            for batch in loader:
                model(batch[0] if isinstance(batch, list | tuple) else batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.train(training)
