"""One training run in a process of its own, timed with capture and compile.

`seconds(Run(...), settings)` starts it twice, with settings as environment variables: first with a
cache folder that is empty, then with what is in it now. The clock starts when data and weights are
there, and stops when the last loss is read.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import lazygrad as lg
from lazygrad import Tensor, nn, optim
from lazygrad.cli import tasks
from lazygrad.cli.trainer import Trainer
from lazygrad.data import DataLoader, moons
from lazygrad.errors import LazygradError

BASELINE = Path(lg.__file__).parents[1] / "benchmarks" / "baselines" / "micrograd.py"
_START = f"import sys; from {__name__} import main; main(sys.argv[1])"


class BenchError(LazygradError, RuntimeError):
    """A run did not reach its end."""


class Run(NamedTuple):
    """What is trained: `demo` is micrograd's, all points at once, else a task with validation."""

    task: str
    size: str = "normal"
    samples: int = 100
    epochs: int = 10


class Seconds(NamedTuple):
    """With nothing compiled before, and with what that run left on disk."""

    cold: float
    warm: float


def seconds(run: Run, settings: dict[str, str]) -> Seconds:
    """The time of a run under `LAZYGRAD_*` settings, in two processes one after the other."""
    names = {f"LAZYGRAD_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-c", _START, json.dumps(run)]
    with tempfile.TemporaryDirectory() as cache:
        names["LAZYGRAD_CACHE_DIR"] = cache
        first = float(_answer(command, names)["seconds"])
        if settings.get("executor") == "reference":  # it compiles nothing
            return Seconds(first, first)
        return Seconds(first, float(_answer(command, names)["seconds"]))


def baseline_seconds(samples: int, epochs: int) -> float | str | None:
    """The time of the recursive scalar engine, or the name of its error; None where it is not."""
    if not BASELINE.exists():  # an installed package has no benchmarks beside it
        return None
    found = _answer([sys.executable, str(BASELINE), str(samples), str(epochs)], {})
    return str(found["error"]) if "error" in found else float(found["seconds"])


def _answer(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise BenchError(f"{command[-1]}: {lines[-1]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _settle(model: nn.Module) -> None:
    """Compute the first weights."""
    for parameter in model.parameters():
        parameter.realize()


def demo(run: Run) -> float:
    """The demo of micrograd: an epoch is one step on all points, at a rate that falls."""
    task = tasks.TASKS["moons"]
    points, labels = moons(run.samples, seed=0).arrays
    model = tasks.network(task.widths[run.size])
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    loss_of = task.loss(model)
    rate = optimizer.param_groups[0]
    _settle(model)

    @lg.compute_graph
    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    started = time.perf_counter()
    for epoch in range(run.epochs):
        rate["lr"] = 1.0 - 0.9 * epoch / 100
        step(points, labels).item()
    return time.perf_counter() - started


def training(run: Run) -> float:
    """The run of Pycrograd and Mocrograd: 80 % to train in batches of 32, SGD 0.01."""
    task = tasks.TASKS[run.task]
    train, validation = task.load(run.samples, 0, None)
    model = tasks.network(task.widths[run.size])
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    trainer = Trainer(model, optimizer, task.loss(model), task.correct)
    _settle(model)
    loaders = DataLoader(train, 32, shuffle=True, seed=0), DataLoader(validation, 32)
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.fit(*loaders, run.epochs)
    return time.perf_counter() - started


def main(text: str) -> None:
    """Train what the JSON describes and print the seconds."""
    lg.manual_seed(0)
    run = Run(*json.loads(text))
    taken = demo(run) if run.task == "demo" else training(run)
    print(json.dumps({"seconds": taken}))
