"""Epochs of training and validation, reported as Pycrograd and Mocrograd print them.

A step is one captured function: forward, backward and update replay as a single program, and the
last, smaller batch of an epoch gets a program of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, TextIO

from lazygrad import Tensor, compute_graph, nn, no_grad
from lazygrad.optim import Optimizer
from lazygrad.optim.lr_scheduler import LRScheduler

Batch = tuple[Tensor, Tensor]
Metric = Callable[[Tensor, Tensor], Tensor]


class Batches(Protocol):
    """What yields (inputs, targets) and knows how many: a `DataLoader`."""

    def __iter__(self) -> Iterator[Batch]: ...
    def __len__(self) -> int: ...


class Score(NamedTuple):
    """Mean loss and fraction of right answers over some examples."""

    loss: float
    accuracy: float

    def __str__(self) -> str:
        return f"loss {self.loss:.4f}, accuracy {self.accuracy:.2%}"


class ProgressLine:
    """One line of a terminal that is written over; a stream that is no terminal stays silent."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._on = self._stream.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._on:
            self._stream.write(f"\r{text:<{self._width}}")
            self._stream.flush()
            self._width = len(text)

    def clear(self) -> None:
        """Leave an empty line to whatever is printed next."""
        if self._on and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0


class Trainer:
    """Fits a model; `correct(scores, targets)` counts right answers.

    `train_step` and `evaluate` are the captured functions, to be looked at with `visualize()` and
    `explain()`.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, loss: Metric, correct: Metric
    ) -> None:
        self.model = model
        self.optimizer = optimizer

        @compute_graph
        def train_step(inputs: Tensor, targets: Tensor) -> Batch:
            optimizer.zero_grad()
            scores = model(inputs)
            value = loss(scores, targets)
            value.backward()
            optimizer.step()
            return value, correct(scores, targets)

        @compute_graph
        def evaluate(inputs: Tensor, targets: Tensor) -> Batch:
            scores = model(inputs)
            return loss(scores, targets), correct(scores, targets)

        self.train_step = train_step
        self.evaluate = evaluate

    def fit(
        self,
        train: Batches,
        validation: Batches,
        epochs: int,
        scheduler: LRScheduler | None = None,
    ) -> Score:
        """Train for some epochs, printing both scores of each; returns the last validation's."""
        started = time.perf_counter()
        progress = ProgressLine()
        score = Score(float("nan"), float("nan"))
        for epoch in range(epochs):
            self.model.train()
            score = _run(self.train_step, train, progress, f"epoch {epoch + 1}/{epochs}")
            print(f"Training Epoch   {epoch:3}, {score}")
            self.model.eval()
            with no_grad():
                score = _run(self.evaluate, validation, progress, "validation")
            print(f"Validation Epoch {epoch:3}, {score}")
            if scheduler is not None:
                scheduler.step()
        print(f"Training took {time.perf_counter() - started:.3f} seconds.")
        return score


def _run(
    step: Callable[[Tensor, Tensor], Batch], batches: Batches, progress: ProgressLine, title: str
) -> Score:
    """Call `step` on every batch and average what it returns over the examples."""
    loss = right = 0.0
    seen = 0
    total = len(batches)
    for done, (inputs, targets) in enumerate(batches, 1):
        value, count = step(inputs, targets)
        loss += value.item() * len(targets)
        right += count.item()
        seen += len(targets)
        bar = "=" * (20 * done // total)
        progress.show(f"{title} [{bar:<20}] {done}/{total}, {Score(loss / seen, right / seen)}")
    progress.clear()
    return Score(loss / seen, right / seen)
