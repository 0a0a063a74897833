"""`lazygrad bench`: the tables of the originals' READMEs, measured here, beside their figures.

Their machines were others, so their columns show the scale, not a race; what is comparable is the
scalar engine and lazygrad, which both run here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from lazygrad.cli.bench.digits import SIZES, WORKERS, run_digits
from lazygrad.cli.bench.scalars import run_micrograd, run_momograd


def add_parser(bench: argparse.ArgumentParser) -> None:
    """The options of the command."""
    tables = bench.add_subparsers(required=True, metavar="original")
    momograd = tables.add_parser("momograd", help="micrograd's demo by number of samples")
    _common(momograd, run_momograd, epochs=100)
    momograd.add_argument(
        "--samples", type=numbers, default=numbers("20,40,...,200"), metavar="A,B,...,Z"
    )
    for name in ("mocrograd", "pycrograd"):
        digits = tables.add_parser(name, help="digits, by network and number of workers")
        _common(digits, run_digits, epochs=10)
        digits.set_defaults(original=name)
        digits.add_argument("--only", choices=SIZES, help="one network")
        digits.add_argument(
            "--length", type=numbers, metavar="N",
            help="examples (default: 1000 and 100; longer 100; bigger 10 and 100)",
        )  # fmt: skip
        digits.add_argument("--workers", type=numbers, default=WORKERS, metavar="A,B")
    micrograd = tables.add_parser("micrograd", help="against a recursive scalar engine")
    _common(micrograd, run_micrograd, epochs=10)
    micrograd.add_argument("--length", type=numbers, default=(100, 1000), metavar="A,B")


def _common(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], epochs: int
) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("--epochs", type=_count, default=epochs, metavar="N")
    parser.add_argument("--rounds", type=_count, default=1, metavar="N", help="medians of so many")
    parser.add_argument("--executor", help="force lazygrad's executor")
    parser.add_argument(
        "--out", type=Path, default=Path("build/bench"), metavar="DIR", help="CSV, markdown, PNG"
    )


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def numbers(text: str) -> tuple[int, ...]:
    """Positive integers with commas between them; three dots continue the first step.

    >>> numbers("1,10,64"), numbers("20,40,...,100")
    ((1, 10, 64), (20, 40, 60, 80, 100))
    """
    parts = text.split(",")
    if len(parts) == 4 and parts[2] == "...":
        first, second, last = (_count(parts[i]) for i in (0, 1, 3))
        if not first < second <= last:
            raise argparse.ArgumentTypeError(f"{text!r} does not rise")
        return tuple(range(first, last + 1, second - first))
    return tuple(map(_count, parts))
