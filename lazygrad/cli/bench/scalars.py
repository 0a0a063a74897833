"""The tables about scalar engines: momograd's, and micrograd's beside Pycrograd."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from lazygrad.cli.bench import charts
from lazygrad.cli.bench.common import OUR, WARM, ours, say, settings_of
from lazygrad.cli.bench.measure import Run, baseline_seconds
from lazygrad.cli.bench.originals import MICROGRAD_MOONS, MOMOGRAD, PYCROGRAD_MOONS
from lazygrad.cli.bench.table import Cell, Table, speedup


def _baseline(samples: int, epochs: int, rounds: int) -> Cell:
    """The median of some rounds, or what the first answers where that is no number."""
    found = []
    for _ in range(rounds):
        cell = baseline_seconds(samples, epochs)
        if not isinstance(cell, float):
            return cell
        found.append(cell)
    return statistics.median(found)


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
            ours(run, settings_of(args) | more, args.rounds) for more in ({"no_capture": "1"}, {})
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
    say(files)
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
        fast = ours(run, settings_of(args), args.rounds)
        theirs: tuple[Cell, Cell] = (None, None)
        if (samples, args.epochs) == (100, 10):
            theirs = (MICROGRAD_MOONS, PYCROGRAD_MOONS)
        gain = speedup(slow, fast.cold)
        print(table.add(samples, slow, *fast, gain, *theirs, speedup(*theirs)), flush=True)
    labels = [f"{samples} samples" for samples in table.column("samples")]
    files: list[Path | None] = [*table.write(args.out)]
    say([*files, charts.dots(table, labels, list(columns), args.out / "micrograd.png")])
    return 0
