"""`lazygrad bench`: the tables of the originals' READMEs, measured here, beside their figures.

Their machines were others, so their columns show the scale, not a race; what is comparable is the
scalar engine and lazygrad, which both run here.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from lazygrad.cli.bench import charts
from lazygrad.cli.bench.measure import Run, Seconds, baseline_seconds, seconds
from lazygrad.cli.bench.originals import (
    MICROGRAD_MOONS,
    MOCROGRAD,
    MOMOGRAD,
    PYCROGRAD,
    PYCROGRAD_MOONS,
)
from lazygrad.cli.bench.table import Cell, Table, speedup

SIZES = ("normal", "longer", "bigger")
SAMPLES = {"normal": (1000, 100), "longer": (100,), "bigger": (10, 100)}
NETWORKS = {
    "normal": "64 -> 64 -> 32 -> 10",
    "longer": "64 -> (256)x29 -> 10",
    "bigger": "64 -> 8192 -> 4096 -> 2048 -> 10",
}
WORKERS = (1, 10, 64, 256)
WARM = "code on disk (s)"
OUR = ("lazygrad (s)", f"lazygrad, {WARM}")


class Way(NamedTuple):
    """How the digits are trained, and under which key Mocrograd's README has that."""

    title: str
    settings: dict[str, str]
    key: int | str


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


def _ours(run: Run, settings: dict[str, str], rounds: int) -> Seconds:
    """The medians of some rounds."""
    found = zip(*(seconds(run, settings) for _ in range(rounds)), strict=True)
    return Seconds(*map(statistics.median, found))


def _baseline(samples: int, epochs: int, rounds: int) -> Cell:
    """The median of some rounds, or what the first answers where that is no number."""
    found = []
    for _ in range(rounds):
        cell = baseline_seconds(samples, epochs)
        if not isinstance(cell, float):
            return cell
        found.append(cell)
    return statistics.median(found)


def _settings(args: argparse.Namespace) -> dict[str, str]:
    return {"executor": args.executor} if args.executor else {}


def run_momograd(args: argparse.Namespace) -> int:
    """`lazygrad bench momograd`."""
    ways = ("micrograd (s)", "undecorated (s)", "captured (s)", f"captured, {WARM}")
    names = ("micro/undecorated", "micro/captured", "undecorated/captured")
    readme = ("micro (s)", "momo (s)", "momo.x (s)")
    gained = ("micro/momo", "micro/momo.x", "momo/momo.x")
    table = Table(
        "momograd",
        f"micrograd's demo, 2-16-16-1, {args.epochs} epochs. micrograd: the recursive scalar"
        " engine of `benchmarks/baselines`, on this machine; lazygrad without a decorator and"
        " captured, with capture and compile, and once more with the code on disk; then the"
        " figures of momograd's README, which are of 100 epochs.",
        (
            "samples",
            *ways,
            *(f"Speedup {n}" for n in names),
            *(f"README {n}" for n in readme),
            *(f"README Speedup {n}" for n in gained),
        ),
    )
    print(table.head())
    for samples in args.samples:
        run = Run("demo", samples=samples, epochs=args.epochs)
        slow = _baseline(samples, args.epochs, args.rounds)
        plain, captured = (
            _ours(run, _settings(args) | more, args.rounds) for more in ({"no_capture": "1"}, {})
        )
        gains = (
            speedup(slow, plain.cold),
            speedup(slow, captured.cold),
            speedup(plain.cold, captured.cold),
        )
        theirs: tuple[Cell, ...] = (None,) * 6
        if args.epochs == 100:
            theirs = MOMOGRAD.get(samples, theirs)
        print(table.add(samples, slow, plain.cold, *captured, *gains, *theirs), flush=True)
    seconds_of = [*ways, "README momo (s)", "README momo.x (s)"]
    folder: Path = args.out
    files: list[Path | None] = [*table.write(folder)]
    files.append(charts.lines(table, seconds_of, folder / "momograd_time.png", "seconds"))
    speedups = [t for t in table.columns if t.startswith("Speedup")]
    files.append(charts.lines(table, speedups, folder / "momograd_speedup.png", "times faster"))
    _say(files)
    return 0


def ways_of(workers: tuple[int, ...]) -> Iterator[Way]:
    """The reference, one pass over whole arrays, chunks over workers, and what lazygrad picks."""
    yield Way("reference", {"executor": "reference"}, "reference")
    yield Way("vectorized", {"parallel": "vectorized"}, "")
    for n in workers:
        title = f"chunk-parallel, {n} worker{'s' * (n > 1)}"
        yield Way(title, {"parallel": "chunked", "num_workers": str(n)}, n)
    yield Way("automatic", {"parallel": "auto", "num_workers": "0"}, "auto")


def run_digits(args: argparse.Namespace) -> int:
    """`lazygrad bench mocrograd` and `lazygrad bench pycrograd`."""
    readme = ("Mocrograd (s)",) if args.original == "mocrograd" else (
        "Pycrograd (s)", "Mocrograd (s)",
    )  # fmt: skip
    table = Table(
        args.original,
        f"Digits, {args.epochs} epochs, 80 % to train, batches of 32, SGD 0.01; lazygrad with"
        " capture and compile, then what the READMEs say (MacBook Pro M1, 10 epochs; on how many"
        " examples they do not say, but Mocrograd's script takes 100).",
        ("network", "samples", "how", *OUR, *readme, *(f"Speedup over {t[:-4]}" for t in readme)),
    )
    print(table.head())
    for size in [args.only] if args.only else SIZES:
        for samples in args.length or SAMPLES[size]:
            for way in ways_of(args.workers):
                run = Run("digits", size, samples, args.epochs)
                settings = _settings(args) | way.settings
                taken = _ours(run, settings, args.rounds)
                known: list[Cell] = [PYCROGRAD[size], MOCROGRAD[size].get(way.key)]
                theirs = known[-len(readme) :] if args.epochs == 10 else [None] * len(readme)
                gains = [speedup(cell, taken.cold) for cell in theirs]
                cells = NETWORKS[size], samples, way.title, *taken, *theirs, *gains
                print(table.add(*cells), flush=True)
    labels = [f"{n}, {s}: {how}" for n, s, how, *_ in table.rows]
    picture = args.out / f"{args.original}.png"
    files: list[Path | None] = [*table.write(args.out)]
    _say([*files, charts.dots(table, labels, [*OUR, *readme], picture)])
    return 0


def run_micrograd(args: argparse.Namespace) -> int:
    """`lazygrad bench micrograd`."""
    columns = ("micrograd (s)", *OUR, "README micrograd (s)", "README Pycrograd (s)")
    table = Table(
        "micrograd",
        f"2-16-16-1 on two half circles, {args.epochs} epochs, all points at once: the recursive"
        " scalar engine of `benchmarks/baselines` and lazygrad, both on this machine; Pycrograd's"
        " README has 10 epochs of 100 points.",
        ("samples", *columns[:3], "Speedup", *columns[3:], "README Speedup"),
    )
    print(table.head())
    for samples in args.length:
        run = Run("demo", samples=samples, epochs=args.epochs)
        slow = _baseline(samples, args.epochs, args.rounds)
        fast = _ours(run, _settings(args), args.rounds)
        theirs: tuple[Cell, Cell] = (None, None)
        if (samples, args.epochs) == (100, 10):
            theirs = (MICROGRAD_MOONS, PYCROGRAD_MOONS)
        gain = speedup(slow, fast.cold)
        print(table.add(samples, slow, *fast, gain, *theirs, speedup(*theirs)), flush=True)
    labels = [f"{samples} samples" for samples in table.column("samples")]
    files: list[Path | None] = [*table.write(args.out)]
    _say([*files, charts.dots(table, labels, list(columns), args.out / "micrograd.png")])
    return 0


def _say(files: list[Path | None]) -> None:
    """Which files were written, and what is missing for the charts."""
    print(f"\nWritten: {', '.join(str(f) for f in files if f is not None)}")
    if None in files:
        print(charts.NO_CHARTS)
