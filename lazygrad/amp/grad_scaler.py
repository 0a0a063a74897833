"""Loss scaling: gradients of float16 products kept within the range of float16.

Nothing is read: whether a gradient overflowed is a node, a step that must not happen writes what
was there before, and the next scale is selected by the same node. So a captured training step holds
all of it, and replays it with whatever gradients come.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any

from lazygrad.config import config
from lazygrad.dtypes import float16, float32, float64, int32
from lazygrad.engine.capture import note_module
from lazygrad.engine.modes import STATE, capturing, no_grad
from lazygrad.engine.subgraph import Subgraph
from lazygrad.engine.tensor import Tensor, state
from lazygrad.errors import ArgumentError, ArgumentTypeError, DTypeError, GradientError
from lazygrad.optim import LBFGS
from lazygrad.optim.optimizer import Optimizer


class _Rule:
    """How the scale moves; captured functions are guarded by these numbers."""

    def __init__(self, growth: float, backoff: float, interval: int, enabled: bool) -> None:
        self.growth = growth
        self.backoff = backoff
        self.interval = interval
        self.enabled = enabled

    def set(self, name: str, value: float) -> None:
        """Change a number; what was captured with the old one is captured again."""
        setattr(self, name, value)
        config.bump()

    def next(self, scale: Tensor, streak: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        """The scale and the length of the streak without overflow, after a step."""
        wide = scale.to(float64)
        streak = streak + 1
        grows = streak == self.interval
        bigger = (wide * self.growth).to(float32)
        grown = bigger.where(grows & bigger.isfinite(), scale)
        zero = streak.new_zeros(())
        smaller = (wide * self.backoff).to(float32)
        return smaller.where(found, grown), zero.where(found | grows, streak)


class _Unscaled:
    """What is known of an optimizer's gradients between two updates of the scale."""

    def __init__(self, found: Tensor) -> None:
        self.found = found  # whether one of them is infinite or NaN
        self.stepped = False
        self.capture = STATE.capture


def _unscale(scale: Tensor, *grads: Tensor) -> list[Tensor]:
    """Whether a gradient is not finite, and the gradients divided by the scale."""
    inverse = (1.0 / scale.to(float64)).to(float32)
    found = reduce(Tensor.logical_or, [(~g.isfinite()).any() for g in grads])
    return [found, *(g * inverse.to(g.dtype) for g in grads)]


_unscale_subgraph = Subgraph(_unscale)


class GradScaler:
    """Scales losses so that float16 gradients do not vanish; skips the steps that overflow.

    `scale(loss).backward()`, then `step(optimizer)`, which divides the gradients by the scale and
    steps unless one of them is infinite or NaN, then `update()`: after an overflow the scale is
    multiplied by `backoff_factor`, after `growth_interval` steps without one by `growth_factor`.
    `unscale_(optimizer)` before `step` shows the true gradients, to clip them. With
    `enabled=False` nothing is done but the steps. bfloat16 needs no scaling.

    Names, defaults and the rule are PyTorch's; `device` is accepted and without meaning.

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0])
    >>> optimizer, scaler = lg.optim.SGD([w], lr=0.5), lg.amp.GradScaler(init_scale=4.0)
    >>> scaler.scale((w * w).sum()).backward()
    >>> w.grad.item()
    8.0
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> w.item(), scaler.get_scale()
    (0.0, 4.0)

    (Micikevicius et al., "Mixed precision training", 2018.)
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        if not isinstance(device, str):
            raise ArgumentTypeError(f"GradScaler: device is a name, got {device!r}")
        self._rule = _Rule(
            _growth(growth_factor), _backoff(backoff_factor), _interval(growth_interval),
            bool(enabled),
        )  # fmt: skip
        self._scale = state(_positive(init_scale), float32, "scale")
        self._streak = state(0, int32, "growth_tracker")
        self._unscaled: dict[int, _Unscaled] = {}

    # the loop ---------------------------------------------------------------------------------

    def scale(self, outputs: Any) -> Any:
        """A tensor, or each of a list or tuple of tensors, times the scale."""
        note_module(self._rule)
        if not self._rule.enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._scale
        if isinstance(outputs, list | tuple):
            return type(outputs)([self.scale(x) for x in outputs])
        raise ArgumentTypeError(f"scale() takes tensors, got {type(outputs).__name__}")

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of an optimizer's parameters by the scale, once before its step."""
        note_module(self._rule)
        if not self._rule.enabled:
            return
        known = self._known(optimizer)
        if known is not None:
            raise GradientError(
                "unscale_() is called after step()" if known.stepped else
                "unscale_() has already been called on this optimizer since the last update()"
            )  # fmt: skip
        leaves = [
            p for group in optimizer.param_groups for p in group.params if p.grad is not None
        ]  # fmt: skip
        grads = [p.grad for p in leaves if p.grad is not None]
        if not grads:
            raise GradientError("no parameter of this optimizer has a gradient: nothing to unscale")
        if any(g.dtype is float16 for g in grads):
            raise DTypeError(
                "gradients of float16 parameters cannot be unscaled: keep the parameters in"
                " float32 and use autocast"
            )
        with no_grad():
            found, *unscaled = _unscale_subgraph(self._scale, *grads)
            for p, g in zip(leaves, unscaled, strict=True):
                p.grad = g
        self._unscaled[id(optimizer)] = _Unscaled(found)

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """Step the optimizer unless one of its gradients is infinite or NaN.

        Gradients that `unscale_` has not divided yet are divided first.
        """
        note_module(self._rule)
        if not self._rule.enabled:
            return optimizer.step(*args, **kwargs)
        if args or kwargs or isinstance(optimizer, LBFGS):
            raise ArgumentError("GradScaler.step() takes no closure, and no optimizer with one")
        known = self._known(optimizer)
        if known is None:
            self.unscale_(optimizer)
            known = self._unscaled[id(optimizer)]
        elif known.stepped:
            raise GradientError("step() has already been called since the last update()")
        known.stepped = True
        optimizer._step_unless(known.found)
        if not capturing():  # the step has computed it; its history would hold the whole pass
            known.found = Tensor(known.found.numpy())
        return None

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Move the scale on, or set it."""
        note_module(self._rule)
        if not self._rule.enabled:
            return
        if new_scale is not None:
            given = new_scale if isinstance(new_scale, Tensor) else Tensor(_positive(new_scale))
            with no_grad():
                self._scale.assign_(given)
        else:
            found = [u.found for u in self._unscaled.values() if u.capture is STATE.capture]
            if not found:
                raise GradientError("update() without a step: no gradients have been checked")
            with no_grad():
                overflow = reduce(Tensor.logical_or, found)
                scale, streak = self._rule.next(self._scale, self._streak, overflow)
                self._scale.assign_(scale)
                self._streak.assign_(streak)
        self._unscaled.clear()

    def _known(self, optimizer: Optimizer) -> _Unscaled | None:
        """What has been done since the last update; what a failed trace has done does not count."""
        known = self._unscaled.get(id(optimizer))
        if known is not None and known.capture is not STATE.capture:
            del self._unscaled[id(optimizer)]
            return None
        return known

    # settings ---------------------------------------------------------------------------------

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._rule.enabled

    def get_scale(self) -> float:
        """The scale as a Python float; 1 when it is not enabled."""
        return float(self._scale.item()) if self._rule.enabled else 1.0

    def get_growth_factor(self) -> float:
        """What the scale is multiplied by after a streak without overflow."""
        return self._rule.growth

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what the scale is multiplied by after a streak without overflow."""
        self._rule.set("growth", _growth(new_factor))

    def get_backoff_factor(self) -> float:
        """What the scale is multiplied by after an overflow."""
        return self._rule.backoff

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what the scale is multiplied by after an overflow."""
        self._rule.set("backoff", _backoff(new_factor))

    def get_growth_interval(self) -> int:
        """How many steps without overflow let the scale grow."""
        return self._rule.interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set how many steps without overflow let the scale grow."""
        self._rule.set("interval", _interval(new_interval))

    def state_dict(self) -> dict[str, Any]:
        """Scale, factors, interval and streak, in PyTorch's layout; empty when not enabled."""
        if not self._rule.enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._rule.growth,
            "backoff_factor": self._rule.backoff,
            "growth_interval": self._rule.interval,
            "_growth_tracker": int(self._streak.item()),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; captured steps stay valid."""
        if not self._rule.enabled:
            return
        if not state_dict:
            raise ArgumentError("the state dict is empty: it comes from a disabled GradScaler")
        scale, streak = _positive(state_dict["scale"]), int(state_dict["_growth_tracker"])
        growth = _growth(state_dict["growth_factor"])
        backoff = _backoff(state_dict["backoff_factor"])
        interval = _interval(state_dict["growth_interval"])
        self._scale.data, self._streak.data = scale, streak
        if (growth, backoff, interval) != (
            self._rule.growth, self._rule.backoff, self._rule.interval
        ):  # fmt: skip
            self._rule.set("growth", growth)
            self._rule.set("backoff", backoff)
            self._rule.set("interval", interval)


def _positive(value: float) -> float:
    if not 0 < float(value) < math.inf:
        raise ArgumentError(f"GradScaler: the scale must be a positive number, got {value}")
    return float(value)


def _growth(value: float) -> float:
    if not value > 1:
        raise ArgumentError(f"GradScaler: growth_factor must be above 1, got {value}")
    return float(value)


def _backoff(value: float) -> float:
    if not 0 < value < 1:
        raise ArgumentError(f"GradScaler: backoff_factor must be between 0 and 1, got {value}")
    return float(value)


def _interval(value: int) -> int:
    if value != int(value) or value < 1:
        raise ArgumentError(f"GradScaler: growth_interval must be a positive integer, got {value}")
    return int(value)
