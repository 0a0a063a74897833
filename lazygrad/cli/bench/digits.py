"""The tables about networks for digits: Mocrograd's and Pycrograd's."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lazygrad.cli.bench import charts
from lazygrad.cli.bench.common import OUR, ours, say, settings_of
from lazygrad.cli.bench.measure import Run
from lazygrad.cli.bench.originals import MOCROGRAD, PYCROGRAD
from lazygrad.cli.bench.table import Cell, Table, speedup

SIZES = ("normal", "longer", "bigger")
SAMPLES = {"normal": (1000, 100), "longer": (100,), "bigger": (10, 100)}
NETWORKS = {
    "normal": "64 -> 64 -> 32 -> 10",
    "longer": "64 -> (256)x29 -> 10",
    "bigger": "64 -> 8192 -> 4096 -> 2048 -> 10",
}
WORKERS = (1, 10, 64, 256)


class Way(NamedTuple):
    """How the digits are trained, and under which key Mocrograd's README has that."""

    title: str
    settings: dict[str, str]
    key: int | str


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
                settings = settings_of(args) | way.settings
                taken = ours(run, settings, args.rounds)
                known: list[Cell] = [PYCROGRAD[size], MOCROGRAD[size].get(way.key)]
                theirs = known[-len(readme) :] if args.epochs == 10 else [None] * len(readme)
                gains = [speedup(cell, taken.cold) for cell in theirs]
                cells = NETWORKS[size], samples, way.title, *taken, *theirs, *gains
                print(table.add(*cells), flush=True)
    labels = [f"{n}, {s}: {how}" for n, s, how, *_ in table.rows]
    picture = args.out / f"{args.original}.png"
    files: list[Path | None] = [*table.write(args.out)]
    say([*files, charts.dots(table, labels, [*OUR, *readme], picture)])
    return 0
