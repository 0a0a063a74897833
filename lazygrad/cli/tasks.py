"""What `lazygrad train` can train: a task is data, networks in three sizes, a loss, an accuracy.

The networks and losses are those with which Pycrograd and Mocrograd were measured; weights begin
as He et al. (2015) propose, which lets thirty layers of ReLU learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from lazygrad import Tensor, nn
from lazygrad.data import (
    MNIST,
    Subset,
    TensorDataset,
    digits,
    mnist_standin,
    moons,
    random_split,
)
from lazygrad.errors import DataError

Part = TensorDataset | Subset[tuple[Tensor, ...]]
Split = tuple[Part, Part]
LossFunction = Callable[[Tensor, Tensor], Tensor]

_VALIDATION = 0.2
_BATCH = 32


@dataclass(frozen=True)
class Task:
    """A dataset with networks that fit it; `length` images or points are used unless asked."""

    load: Callable[[int, int, Path | None], Split]  # length, seed, folder with files
    widths: dict[str, tuple[int, ...]]
    loss: Callable[[nn.Module], LossFunction]
    correct: LossFunction
    length: int
    epochs: int = 10
    batch_size: int = _BATCH
    optimizer: str = "adamw"
    lr: dict[str, float] = field(default_factory=lambda: {"sgd": 0.1, "adam": 2e-3, "adamw": 2e-3})


def network(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of the given widths with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        linear = nn.Linear(inputs, outputs)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def max_margin(model: nn.Module, decay: float = 1e-4) -> LossFunction:
    """Hinge loss of labels 0 and 1, plus `decay` times the sum of the squared parameters."""

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        data_loss = nn.functional.hinge_loss(scores.flatten(), labels * 2 - 1)
        return data_loss + decay * sum((p * p).sum() for p in model.parameters())

    return loss


def class_loss(model: nn.Module) -> LossFunction:
    """Cross entropy of the scores and class indices."""
    return nn.functional.cross_entropy


def right_class(scores: Tensor, labels: Tensor) -> Tensor:
    """How many rows have their largest score at the label."""
    return (scores.argmax(dim=1) == labels).sum()


def right_side(scores: Tensor, labels: Tensor) -> Tensor:
    """How many scores have the sign that their label, 0 or 1, asks for."""
    return ((scores.flatten() > 0) == (labels > 0)).sum()


def sizes(length: int) -> tuple[int, int]:
    """How many examples of `length` are for training and how many for validation."""
    held_out = max(1, round(_VALIDATION * length))
    return length - held_out, held_out


def head(data: TensorDataset, length: int) -> TensorDataset:
    """The first rows of a dataset."""
    if length > len(data):
        raise DataError(f"{length} examples asked for, the dataset has {len(data)}")
    return TensorDataset(*(array[:length] for array in data.arrays))


def load_digits(length: int, seed: int, folder: Path | None) -> Split:
    """The real digits; some of the 1797, each in one part only."""
    train, held_out = sizes(length)
    return head(digits(True, _VALIDATION, seed), train), head(
        digits(False, _VALIDATION, seed), held_out
    )


def load_moons(length: int, seed: int, folder: Path | None) -> Split:
    """Points on two half circles."""
    train, validation = random_split(moons(length, seed=seed), list(sizes(length)), seed=seed)
    return train, validation


def load_mnist(length: int, seed: int, folder: Path | None) -> Split:
    """MNIST from the files in `folder`; without one the stand-in made from the real digits."""
    train, held_out = sizes(length)
    if folder is None:
        return mnist_standin(True, train, seed), mnist_standin(False, held_out, seed)
    return head(_flat(MNIST(folder)), train), head(_flat(MNIST(folder, train=False)), held_out)


def _flat(images: MNIST) -> TensorDataset:
    """Images as rows of float32 between 0 and 1."""
    pixels = images.data.reshape(len(images), -1) / np.float32(255)
    return TensorDataset(pixels, images.targets)


TASKS = {
    "moons": Task(
        load=load_moons,
        widths={
            "normal": (2, 16, 16, 1),
            "longer": (2, *[16] * 29, 1),
            "bigger": (2, 256, 256, 1),
        },
        loss=max_margin,
        correct=right_side,
        length=100,
        epochs=100,
        batch_size=80,
        optimizer="sgd",
        lr={"sgd": 1.0, "adam": 1e-2, "adamw": 1e-2},
    ),
    "digits": Task(
        load=load_digits,
        widths={
            "normal": (64, 64, 32, 10),
            "longer": (64, *[256] * 29, 10),
            "bigger": (64, 8192, 4096, 2048, 10),
        },
        loss=class_loss,
        correct=right_class,
        length=1797,
    ),
    "mnist": Task(
        load=load_mnist,
        widths={
            "normal": (784, 64, 32, 10),
            "longer": (784, *[256] * 29, 10),
            "bigger": (784, 1024, 1024, 1024, 10),
        },
        loss=class_loss,
        correct=right_class,
        length=10_000,
    ),
}
