"""The command `lazygrad`: train a task, measure, or show what this installation can do."""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import numpy as np

import lazygrad as lg
from lazygrad import optim
from lazygrad.cli import bench, system
from lazygrad.cli.tasks import TASKS, network
from lazygrad.cli.trainer import Trainer
from lazygrad.data import DataLoader
from lazygrad.errors import LazygradError
from lazygrad.optim.lr_scheduler import LambdaLR

Number = TypeVar("Number", int, float)

OPTIMIZERS = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}
SIZES = ("normal", "longer", "bigger")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = parser().parse_args(argv)
    try:
        status: int = args.run(args)
        return status
    except (LazygradError, OSError) as error:
        print(f"lazygrad: error: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The parser with its commands."""
    top = argparse.ArgumentParser(prog="lazygrad", description=__doc__)
    top.add_argument("--version", action="version", version=f"lazygrad {lg.__version__}")
    commands = top.add_subparsers(required=True, metavar="command")
    info = commands.add_parser("info", help="show versions, settings and what pictures need")
    info.set_defaults(run=show_info)
    _add_train(commands.add_parser("train", help="train a network and print how it learns"))
    bench.add_parser(commands.add_parser("bench", help="the tables of the originals, measured"))
    system.add_commands(commands)
    return top


def _add_train(train: argparse.ArgumentParser) -> None:
    train.set_defaults(run=run_training)
    train.add_argument("task", choices=TASKS, help="what to train")
    count = _positive(int)
    train.add_argument("--epochs", type=count, metavar="N", help="passes over the data")
    train.add_argument(
        "--length", type=_positive(int, 5), metavar="N", help="examples, of which 20%% validate"
    )
    train.add_argument("--batch-size", type=count, metavar="N", help="examples per step")
    train.add_argument("--size", choices=SIZES, default="normal", help="the network's size")
    train.add_argument("--seed", type=_seed, default=0, metavar="N", help="of data and weights")
    train.add_argument("--optimizer", choices=OPTIMIZERS, help="how weights are updated")
    train.add_argument("--lr", type=_positive(float), metavar="X", help="the learning rate")
    train.add_argument(
        "--data", type=Path, metavar="DIR", help="folder with MNIST's files (else a stand-in)"
    )
    train.add_argument("--visualize", type=Path, metavar="FILE", help="draw the graph there")
    train.add_argument("--save", type=Path, metavar="FILE", help="write the weights there")


def _positive(kind: Callable[[str], Number], least: int = 1) -> Callable[[str], Number]:
    """A type for arguments: numbers from `least` on, or above zero for fractions."""

    def parse(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if kind is float and not (value > 0 and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"{text} must be above 0 and finite")
        if kind is int and value < least:
            raise argparse.ArgumentTypeError(f"{text} is below {least}")
        return value

    return parse


def _seed(text: str) -> int:
    return _positive(int, 0)(text)


def run_training(args: argparse.Namespace) -> int:
    """`lazygrad train`."""
    task = TASKS[args.task]
    if args.data is not None and args.task != "mnist":
        print("lazygrad: error: --data goes with mnist only", file=sys.stderr)
        return 2
    for path in (args.save, args.visualize):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    lg.manual_seed(args.seed)
    train, validation = task.load(args.length or task.length, args.seed, args.data)
    batch_size = args.batch_size or task.batch_size
    widths = task.widths[args.size]
    model = network(widths)
    for name, parameter in model.named_parameters():
        parameter.name = name  # for the picture
    rule = args.optimizer or task.optimizer
    lr = args.lr or task.lr[rule]
    optimizer = OPTIMIZERS[rule](model.parameters(), lr=lr)
    epochs = args.epochs or task.epochs
    print(f"{args.task}: {len(train)} examples to train, {len(validation)} to validate")
    print(f"network {_arrows(widths)}, {rule} with lr {lr:g}, batches of {batch_size}, ", end="")
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    trainer = Trainer(model, optimizer, task.loss(model), task.correct)
    trainer.fit(
        DataLoader(train, batch_size, shuffle=True, seed=args.seed),
        DataLoader(validation, batch_size),
        epochs,
        # The rate falls to a tenth, as in micrograd's demo.
        LambdaLR(optimizer, lambda epoch: 1 - 0.9 * min(epoch / epochs, 1)),
    )
    if args.visualize is not None:
        _draw(trainer, args.visualize)
    if args.save is not None:
        lg.save(model.state_dict(), args.save)
        print(f"Weights written to {args.save}.")
    return 0


def _arrows(widths: Sequence[int]) -> str:
    """The widths of a network; a long run of equal ones is counted."""
    runs: list[list[int]] = []
    for width in widths:
        if runs and runs[-1][0] == width:
            runs[-1].append(width)
        else:
            runs.append([width])
    texts = [
        f"({run[0]})x{len(run)}" if len(run) > 3 else " -> ".join(map(str, run)) for run in runs
    ]
    return " -> ".join(texts)


def _draw(trainer: Trainer, path: Path) -> None:
    """Write the picture of the forward pass with its loss."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        trainer.evaluate.visualize(str(path))
    # Without the program `dot` the note says what was written, and how to get pictures.
    lines = [str(note.message) for note in notes] or [f"Graph written to {path}."]
    print("\n".join(lines))


def show_info(args: argparse.Namespace) -> int:
    """`lazygrad info`."""
    settings = {name: getattr(lg.config, name) for name in ("executor", "parallel", "num_workers")}
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    rows = {
        "lazygrad": lg.__version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "NumPy": f"{np.__version__} with {blas.get('name', 'unknown BLAS')}",
        **{name: _version(name) for name in ("llvmlite", "ml_dtypes", "safetensors", "graphviz")},
        "dot": shutil.which("dot") or "not found: pictures are saved as text (install Graphviz)",
        "cores": str(_cores()),
        **{name: str(value) for name, value in settings.items()},
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")
    return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
