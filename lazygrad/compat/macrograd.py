"""macrograd's names: models, optimizers that are told the parameters at each step, losses.

The graph, `compute_graph`, `realize()`, `backprop()` and `visualize()` are lazygrad's own. What is
different here from `lazygrad.nn`: weights are stored (in, out) and begin as small normal numbers,
losses take one-hot labels and probabilities, and momentum multiplies a velocity that has the
learning rate in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import e
from typing import Any, ClassVar

from lazygrad import Tensor, compute_graph, nn, optim, randn, zeros
from lazygrad.engine import Graph, get_default_graph, set_default_graph
from lazygrad.errors import ArgumentError
from lazygrad.optim.optimizer import Hyper, Moments, On, Scalars

__all__ = [
    "Tensor", "Graph", "get_default_graph", "set_default_graph", "compute_graph", "e",
    "Model", "Linear",
    "SGD", "SGD_Momentum", "LinearScheduler", "StepScheduler",
    "softmax", "relu", "sigmoid", "sin", "cos", "ln", "log2",
    "cross_entropy", "MSE", "BCE",
]  # fmt: skip


class Model(nn.Module):
    """A module; define `__call__` or `forward`. `parameters()` lists its own only."""


class Linear(nn.Module):
    """data @ weight + bias, weight (in_dims, out_dims)."""

    def __init__(self, in_dims: int, out_dims: int) -> None:
        self.weight = nn.Parameter(randn(in_dims, out_dims) * 0.01)
        self.bias = nn.Parameter(zeros(out_dims))

    def forward(self, data: Tensor) -> Tensor:
        """(batch, in_dims) to (batch, out_dims)."""
        return data @ self.weight + self.bias


class SGD:
    """Gradient descent without a state: `step(loss, params)` goes back and forward at once."""

    def __init__(self, learning_rate: float = 0.01, minimizing: bool = True) -> None:
        self.lr = learning_rate
        self.min = minimizing
        self._inner: optim.SGD | None = None

    def step(self, loss: Tensor, params: Sequence[Tensor]) -> list[Tensor]:
        """Compute the gradients of `loss` and update `params`; returns them."""
        known = self._inner.param_groups[0]["params"] if self._inner is not None else []
        if len(known) != len(params) or any(a is not b for a, b in zip(known, params, strict=True)):
            self._inner = optim.SGD(params, lr=self.lr, maximize=not self.min)
        assert self._inner is not None
        self._inner.lr = self.lr
        self._inner.zero_grad()
        loss.backward()
        self._inner.step()
        return list(params)


class SGD_Momentum(optim.Optimizer):
    """velocity = alpha * velocity - learning_rate * grad; param += velocity."""

    numeric: ClassVar[tuple[str, ...]] = ("lr", "alpha")

    def __init__(
        self, params: Sequence[Tensor], learning_rate: float = 0.01, alpha: float = 0.9
    ) -> None:
        if not 0 <= alpha < 1:
            raise ArgumentError(f"alpha must be at least 0 and below 1, got {alpha}")
        super().__init__(params, {"lr": learning_rate, "alpha": alpha})

    def moments(self, on: On) -> tuple[str, ...]:
        """One velocity for each parameter."""
        return ("velocity",)

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """Learning rate and alpha as they are."""
        return {"lr": hyper["lr"][0], "alpha": hyper["alpha"][0]}

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """The formula of the class."""
        velocity = s["alpha"] * state["velocity"] - s["lr"] * grad
        return param + velocity, {"velocity": velocity}

    def step(self, params: Sequence[Tensor] | None = None) -> list[Tensor]:  # type: ignore[override]
        """Update the parameters given at the start; returns them."""
        super().step()
        return [p for group in self.param_groups for p in group["params"]]


class LinearScheduler:
    """Moves the learning rate towards `target_lr`, which it reaches after `total_iter` steps."""

    def __init__(self, total_iter: int, target_lr: float) -> None:
        self.total_iter, self.target_lr, self.step_count = total_iter, target_lr, 0

    def step(self, optimizer: Any) -> Any:
        """Set `optimizer.lr`; returns the optimizer."""
        share = min(self.step_count / self.total_iter, 1.0)
        optimizer.lr = (1 - share) * optimizer.lr + share * self.target_lr
        self.step_count += 1
        return optimizer


class StepScheduler:
    """Multiplies the learning rate by `decay_factor` at every `decay_rate`-th step."""

    def __init__(self, decay_factor: float, decay_rate: int = 2) -> None:
        self.decay_factor, self.decay_rate, self.step_count = decay_factor, decay_rate, 0

    def step(self, optimizer: Any) -> Any:
        """Set `optimizer.lr`; returns the optimizer."""
        if self.step_count % self.decay_rate == 0:
            optimizer.lr = optimizer.lr * self.decay_factor
        self.step_count += 1
        return optimizer


relu, sigmoid, sin, cos = Tensor.relu, Tensor.sigmoid, Tensor.sin, Tensor.cos
ln, log2 = Tensor.log, Tensor.log2
MSE, BCE = nn.functional.mse_loss, nn.functional.binary_cross_entropy


def softmax(x: Tensor) -> Tensor:
    """Probabilities along the second axis."""
    return x.softmax(dim=1)


def cross_entropy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Mean cross entropy of one-hot labels and probabilities (batch, classes)."""
    return -(y_true * y_pred.log()).sum() / y_true.shape[0]
