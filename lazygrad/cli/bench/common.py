"""What the tables have in common: rounds, titles of columns, and what is said at the end."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from lazygrad.cli.bench.charts import NO_CHARTS
from lazygrad.cli.bench.measure import Run, Seconds, seconds

WARM = "code on disk (s)"
OUR = ("lazygrad (s)", f"lazygrad, {WARM}")


def ours(run: Run, settings: dict[str, str], rounds: int) -> Seconds:
    """The medians of some rounds."""
    found = zip(*(seconds(run, settings) for _ in range(rounds)), strict=True)
    return Seconds(*map(statistics.median, found))


def settings_of(args: argparse.Namespace) -> dict[str, str]:
    """The settings that the options ask for."""
    return {"executor": args.executor} if args.executor else {}


def say(files: list[Path | None]) -> None:
    """Which files were written, and what is missing for the charts."""
    print(f"\nWritten: {', '.join(str(f) for f in files if f is not None)}")
    if None in files:
        print(NO_CHARTS)
