"""Pycrograd's and Mocrograd's names: data, networks, losses and a trainer that belong together.

Their networks see one example at a time; here a batch is one tensor, and the trainer's step is
one captured function. `parameters_dict` may be what `model.parameters()` returns, or a mapping of
names to parameters. Their commands are those of `lazygrad train`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from lazygrad import Tensor, nn, optim
from lazygrad.cli import tasks, trainer
from lazygrad.data import DataLoader, TensorDataset
from lazygrad.optim.optimizer import Hyper, Moments, On, Scalars

__all__ = [
    "Tensor", "Trainer", "SGD", "SGDVariable", "MLP", "MLPDigits", "MLPMnist",
    "MoonsData", "DigitsData", "MnistData",
    "max_margin_loss", "cross_entropy_loss", "calculate_accuracy", "calculate_accuracy_binary",
]  # fmt: skip


def _listed(parameters: Any) -> list[Tensor]:
    if isinstance(parameters, Tensor):
        return [parameters]
    parts = parameters.values() if isinstance(parameters, Mapping) else parameters
    return [p for part in parts for p in _listed(part)]


class SGD(optim.SGD):
    """Plain gradient descent."""

    def __init__(self, parameters_dict: Any, learning_rate: float) -> None:
        super().__init__(_listed(parameters_dict), lr=learning_rate)


class SGDVariable(optim.Optimizer):
    """Gradient descent with the given rate at the first step, 1.0 - 0.9 k / 100 from then on."""

    def __init__(self, parameters_dict: Any, learning_rate: float) -> None:
        super().__init__(_listed(parameters_dict), {"lr": learning_rate})

    def counts(self, on: On) -> bool:
        """The rate depends on the number of steps."""
        return True

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """The rate of this step, which counts from 1."""
        assert step is not None
        return {"lr": (1.0 - 0.9 * (step - 2) / 100).where(step > 1, hyper["lr"][0])}

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """Down the gradient."""
        return param - s["lr"] * grad, {}


def _network(task: str, size: str = "normal") -> nn.Module:
    layers = tasks.network(tasks.TASKS[task].widths[size])
    return layers if task == "moons" else layers.append(nn.LogSoftmax(dim=1))


MLP, MLPDigits, MLPMnist = (partial(_network, task) for task in ("moons", "digits", "mnist"))


class Data(NamedTuple):
    """80 % to train, 20 % to validate."""

    train: TensorDataset
    validation: TensorDataset


def _data(task: str, length: int, seed: int = 0) -> Data:
    """The data of a task; moons have labels -1 and 1, the others one-hot ones."""
    parts = (p.get_batch(range(len(p))) for p in tasks.TASKS[task].load(length, seed, None))
    train, validation = (
        TensorDataset(x, y * 2 - 1 if task == "moons" else np.eye(10, dtype=np.float32)[y])
        for x, y in parts
    )
    return Data(train, validation)


MoonsData, DigitsData, MnistData = (partial(_data, task) for task in ("moons", "digits", "mnist"))


def _regularized(loss: Tensor, parameters_dict: Any) -> Tensor:
    """The loss with 1e-4 times the squared parameters in it: shown, not followed, as there."""
    if parameters_dict is None:
        return loss
    squares = [(p.detach() ** 2).sum() for p in _listed(parameters_dict)]
    return loss + 1e-4 * sum(squares[1:], squares[0])


def max_margin_loss(input: Tensor, target: Tensor, parameters_dict: Any = None) -> Tensor:
    """Mean of relu(1 - target * score) for targets -1 and 1."""
    return _regularized(nn.functional.hinge_loss(input.flatten(), target), parameters_dict)


def cross_entropy_loss(input: Tensor, target: Tensor, parameters_dict: Any = None) -> Tensor:
    """Mean cross entropy of log-probabilities and one-hot targets."""
    return _regularized(-(target * input).sum() / input.shape[0], parameters_dict)


def calculate_accuracy(input: Tensor, target: Tensor) -> Tensor:
    """The fraction of rows whose largest score stands at the target."""
    return (input.argmax(dim=1) == target.argmax(dim=1)).float().mean()


def calculate_accuracy_binary(input: Tensor, target: Tensor) -> Tensor:
    """The fraction of scores with the sign of their target."""
    return ((input.flatten() > 0) == (target > 0)).float().mean()


class Trainer:
    """Fits a model to data and prints every epoch."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        loss_function: Callable[..., Tensor],
        accuracy_function: Callable[..., Tensor],
    ) -> None:
        parameters = model.parameters()
        self._inner = trainer.Trainer(
            model,
            optimizer,
            lambda scores, target: loss_function(scores, target, parameters),
            lambda scores, target: accuracy_function(scores, target) * len(target),
        )

    def fit(self, epochs: int, batch_size: int, data: Data) -> trainer.Score:
        """Train for some epochs; returns the last validation's loss and accuracy."""
        train, validation = (DataLoader(part, batch_size) for part in data)
        return self._inner.fit(train, validation, epochs)
