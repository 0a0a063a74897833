"""The command `python -m benchmarks.peers`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.machine import machine
from benchmarks.peers.contest import PeerError, contest
from benchmarks.peers.environment import python, versions
from benchmarks.peers.forms import FORMS
from benchmarks.peers.report import header, record, step_times, tables
from benchmarks.workloads import WORKLOADS


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=peers.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--only", metavar="ROW,...", default="", help="rows with this in their name")
    found.add_argument("--form", metavar="TITLE,...", default="", help="forms likewise")
    found.add_argument("--rounds", type=int, default=21, metavar="N")
    found.add_argument("--seconds", type=float, default=0.1, metavar="S", help="of one round")
    found.add_argument("--executor", help="force lazygrad's executor")
    found.add_argument(
        "--peers-python", metavar="PATH",
        help="interpreter with torch and jax; `none`: only NumPy and lazygrad (else one is made)",
    )  # fmt: skip
    found.add_argument("--json", type=Path, metavar="FILE")
    found.add_argument("--markdown", type=Path, metavar="FILE")
    return found


def chosen(wanted: str, name: str) -> bool:
    """Whether one of the wanted texts, between commas, is in the name."""
    return any(text.strip().lower() in name.lower() for text in wanted.split(","))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write them when asked."""
    args = parser().parse_args(argv)
    alone = args.peers_python == "none"
    workloads = [w for w in WORKLOADS if chosen(args.only, w.name)]
    forms = [f for f in FORMS if chosen(args.form, f.title) and not (f.guest and alone)]
    if not workloads or not forms:
        print("no row or no form has that name", file=sys.stderr)
        return 2
    pythons = {False: sys.executable}
    about: dict[str, Any] = {"machine": machine(), "rounds": args.rounds}
    settings = {"LAZYGRAD_EXECUTOR": args.executor} if args.executor else {}
    rows = []
    try:
        if any(form.guest for form in forms):
            pythons[True] = python(args.peers_python)
            about |= versions(pythons[True], "torch", "jax", "numpy")
        print(header(forms))
        for w in workloads:
            rows.append(contest(w, forms, pythons, args.rounds, args.seconds, settings))
            print(step_times(rows[-1]), flush=True)
    except (PeerError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = tables(rows) + f"\n\n{', '.join(f'{k} {v}' for k, v in about.items())}\n"
    print("\n" + text.split("\n\n", 2)[2])
    if args.json:
        args.json.write_text(json.dumps({"about": about, "rows": record(rows)}, indent=1) + "\n")
    if args.markdown:
        args.markdown.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
