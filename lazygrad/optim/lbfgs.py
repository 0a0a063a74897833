"""L-BFGS: a quasi-Newton method with a closure.

How many evaluations a step takes is decided by values, so a step is no subgraph: the closure is
(decorate what it calls with `compute_graph`), and the few vectors between two evaluations are
NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazygrad.engine.modes import capturing, enable_grad
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, CaptureError, StateDictError
from lazygrad.ops.opdef import Array
from lazygrad.optim.group import ParamGroup
from lazygrad.optim.line_search import Point, strong_wolfe
from lazygrad.optim.optimizer import Optimizer
from lazygrad.shapes import numel


@dataclass
class _Memory:
    """What a step knows of those before: the last direction, and pairs of changes."""

    n_iter: int = 0
    func_evals: int = 0
    d: Array | None = None
    t: float = 0.0
    prev_flat_grad: Array | None = None
    H_diag: float = 1.0
    old_dirs: list[Array] = field(default_factory=list)  # changes of the gradient
    old_stps: list[Array] = field(default_factory=list)  # changes of the parameters
    ro: list[float] = field(default_factory=list)

    def direction(self, gradient: Array, history: int) -> Array:
        """Minus the approximate inverse Hessian times the gradient (two-loop recursion)."""
        if self.d is None or self.prev_flat_grad is None:
            return -gradient
        change, step = gradient - self.prev_flat_grad, self.d * self.d.dtype.type(self.t)
        curvature = float(change @ step)
        if curvature > 1e-10:
            for kept, new in ((self.old_dirs, change), (self.old_stps, step)):
                kept.append(new)
            self.ro.append(1.0 / curvature)
            for entries in (self.old_dirs, self.old_stps, self.ro):
                del entries[:-history]
            self.H_diag = curvature / float(change @ change)
        pairs = list(zip(self.old_dirs, self.old_stps, self.ro, strict=True))
        q, weights = -gradient, []
        for y, s, rho in reversed(pairs):
            weights.append(float(s @ q) * rho)
            q -= y.dtype.type(weights[-1]) * y
        q *= q.dtype.type(self.H_diag)
        for (y, s, rho), weight in zip(pairs, reversed(weights), strict=True):
            q += s.dtype.type(weight - float(y @ q) * rho) * s
        return q


class LBFGS(Optimizer):
    """Limited-memory BFGS (Liu and Nocedal 1989); `step` takes a closure.

    The closure clears the gradients, computes the loss, calls `backward` and returns the loss. It
    is called up to `max_eval` times in a step (default: 5/4 of `max_iter`). `line_search_fn` is
    None (steps of length `lr`) or "strong_wolfe". There is one group of parameters.

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0, -3.0])
    >>> opt = lg.optim.LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = ((w - 2) ** 4).sum()
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(3):
    ...     loss = opt.step(closure)
    >>> bool((abs(w - 2) < 0.05).all())
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if line_search_fn not in (None, "strong_wolfe"):
            raise ArgumentError(
                f"line_search_fn is None or 'strong_wolfe', got {line_search_fn!r}"
            )  # fmt: skip
        self._memory = _Memory()
        super().__init__(
            params,
            {
                "lr": lr,
                "max_iter": max_iter,
                "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
            },
        )

    def validate(self, group: ParamGroup) -> None:
        """One group, of one dtype."""
        if self.param_groups:
            raise ArgumentError("LBFGS takes one group of parameters")
        dtypes = {p.dtype for p in group.params}
        if len(dtypes) > 1:
            raise ArgumentError(f"LBFGS takes parameters of one dtype, got {dtypes}")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Several evaluations of the closure, and updates; returns what the first one returned."""
        if closure is None:
            raise ArgumentError("LBFGS.step needs a closure that computes the loss and returns it")
        if capturing():
            raise CaptureError("LBFGS.step reads the loss: call it outside, capture the closure")
        first, loss, gradient = self._evaluate(closure)
        if np.abs(gradient).max() > self.param_groups[0]["tolerance_grad"]:
            self._descend(closure, loss, gradient)
        return first

    def _descend(self, closure: Callable[[], Any], loss: float, gradient: Array) -> None:
        """Up to `max_iter` updates, until one of the tolerances is met."""
        group, memory = self.param_groups[0], self._memory
        rate, tolerance = group["lr"], group["tolerance_change"]
        budget = memory.func_evals - 1 + group["max_eval"]
        for i in range(group["max_iter"]):
            memory.n_iter += 1
            d = memory.direction(gradient, group["history_size"])
            first = memory.d is None
            memory.d, memory.prev_flat_grad, before = d, gradient, loss
            memory.t = min(1.0, 1.0 / float(np.abs(gradient).sum())) * rate if first else rate
            slope = float(gradient @ d)
            if slope > -tolerance:
                return
            if group["line_search_fn"] is not None:
                start = Point(0.0, loss, gradient, slope)
                found = self._search(closure, start, d, budget - memory.func_evals)
                memory.t, loss, gradient = found.t, found.loss, found.gradient
                self._move(self._values(), memory.t, d)
            else:
                self._move(self._values(), memory.t, d)
                if i + 1 < group["max_iter"]:
                    _, loss, gradient = self._evaluate(closure)
            if (
                memory.func_evals >= budget
                or np.abs(gradient).max() <= group["tolerance_grad"]
                or np.abs(d).max() * memory.t <= tolerance
                or abs(loss - before) < tolerance
            ):
                return

    def _search(self, closure: Callable[[], Any], start: Point, d: Array, limit: int) -> Point:
        """The line search from where the parameters are; they are put back."""
        values = self._values()

        def at(t: float) -> Point:
            self._move(values, t, d)
            _, loss, gradient = self._evaluate(closure)
            return Point(t, loss, gradient, float(gradient @ d))

        width = self.param_groups[0]["tolerance_change"] / float(np.abs(d).max())
        found, _ = strong_wolfe(at, start, self._memory.t, width, limit)
        self._move(values, 0.0, d)
        return found

    def _evaluate(self, closure: Callable[[], Any]) -> tuple[Any, float, Array]:
        """What the closure returns, the loss as a number, and the gradient as one vector."""
        with enable_grad():
            result = closure()
        self._memory.func_evals += 1
        params = self.param_groups[0].params
        parts = [
            np.zeros(numel(p.shape), p.dtype.dtype) if p.grad is None else p.grad.numpy().ravel()
            for p in params
        ]
        return result, float(result), np.concatenate(parts)

    def _values(self) -> list[Array]:
        return [p.numpy(copy=True) for p in self.param_groups[0].params]

    def _move(self, values: list[Array], t: float, d: Array) -> None:
        """Set the parameters to `values` plus `t` times the direction."""
        start = 0
        for p, value in zip(self.param_groups[0].params, values, strict=True):
            part = d[start : start + value.size].reshape(value.shape)
            p.data = value + value.dtype.type(t) * part
            start += value.size

    def state_dict(self) -> dict[str, Any]:
        """Hyper-parameters and memory, all of it under the first parameter, as in PyTorch."""
        found = super().state_dict()
        if self._memory.n_iter:
            found["state"] = {0: {k: _exported(v) for k, v in vars(self._memory).items()}}
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state dict."""
        super().load_state_dict({**state_dict, "state": {}})
        held = state_dict["state"].get(0, {})
        known = {k: _imported(v) for k, v in held.items() if k in vars(_Memory())}
        size = sum(numel(p.shape) for p in self.param_groups[0].params)
        if known.get("d") is not None and known["d"].shape != (size,):
            raise StateDictError(f"state[0]: d has shape {known['d'].shape} where ({size},) is due")
        self._memory = _Memory(**known)


def _exported(value: Any) -> Any:
    if isinstance(value, list):
        return [_exported(v) for v in value]
    return Tensor(value) if isinstance(value, np.ndarray) else value


def _imported(value: Any) -> Any:
    if isinstance(value, list):
        return [_imported(v) for v in value]
    if value is None or isinstance(value, int | float):
        return value
    array = np.array(value.detach().numpy() if hasattr(value, "detach") else value)
    return array if array.ndim else float(array)
