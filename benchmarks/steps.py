"""lazygrad's training steps against hand-written NumPy, in one process, interleaved.

    python -m benchmarks.steps [--rounds N] [--only NAME] [--json FILE] [--markdown FILE]

Per workload: microseconds a step (median over rounds) and the ratio to the hand-written step, for
a captured whole step, a captured forward with `backward()` and `step()` outside, and no decorator
at all. Every step gets a new batch as NumPy arrays and its loss is read as a Python float.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import lazygrad as lg
from benchmarks.machine import machine
from benchmarks.peers import lazygrad_forms, numpy_forms
from benchmarks.peers.forms import Step
from benchmarks.workloads import WORKLOADS, Workload

FORMS = {"captured step": "whole step", "captured forward": "forward", "undecorated": "undecorated"}


def measure(w: Workload, rounds: int) -> dict[str, Any]:
    """Median microseconds a step of each form, rounds interleaved."""
    ours = {title: lazygrad_forms.build(name, w) for title, name in FORMS.items()}
    forms: dict[str, Step] = {"numpy": numpy_forms.build("by hand", w), **ours}
    data = w.batches()
    first: dict[str, float] = {}
    losses = {}
    for name, step in forms.items():
        start = time.perf_counter()
        losses[name] = [step(*data[0])]
        first[name] = time.perf_counter() - start
        losses[name] += [step(*batch) for batch in data[1:3]]
    for name, seen in losses.items():
        if not np.allclose(seen, losses["numpy"], rtol=1e-3):
            raise AssertionError(f"{w.name}: {name} computes {seen}, NumPy {losses['numpy']}")
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, step in forms.items():
            start = time.perf_counter()
            for x, y in data:
                step(x, y)
            times[name].append((time.perf_counter() - start) / len(data) * 1e6)
    found: dict[str, Any] = {name: statistics.median(t) for name, t in times.items()}
    found["first call ms"] = {n: round(t * 1e3, 1) for n, t in first.items()}
    memory = ours["captured step"].captured.memory_plan()
    found["arena share"] = memory.arena_bytes / max(memory.naive_bytes, 1)
    return found


def node_building(n: int = 100_000) -> float:
    """Seconds to append `n` nodes."""
    x = lg.tensor([1.0, 2.0])
    start = time.perf_counter()
    for _ in range(n):
        x = x + 1
    return time.perf_counter() - start


def import_ratio(repeats: int = 9) -> float:
    """Median time of `import lazygrad` over that of `import numpy`, in fresh processes."""

    def seconds(module: str) -> float:
        clock = "time.perf_counter()"
        code = f"import time; t = {clock}; import {module}; print({clock} - t)"
        return float(subprocess.check_output([sys.executable, "-c", code], env=env))

    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    seconds("lazygrad")  # writes the byte code that a second import reads
    pairs = [(seconds("lazygrad"), seconds("numpy")) for _ in range(repeats)]
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)


def main(argv: list[str] | None = None) -> int:
    """Print the table; write it as JSON or markdown when asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", help="the workloads whose name contains this")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args(argv)
    lines = [
        "| workload | NumPy by hand | captured step | captured forward | undecorated"
        " | arena / naive |",
        "|---|---|---|---|---|---|",
    ]
    results: dict[str, Any] = {"machine": machine()}
    for w in WORKLOADS:
        if not w.by_hand or (args.only and args.only not in w.name):
            continue
        found = results[w.name] = measure(w, args.rounds)
        cells = [f"{found['numpy']:.0f} us"]
        for form in FORMS:
            cells.append(f"{found[form]:.0f} us ({found[form] / found['numpy']:.2f}x)")
        cells.append(f"{found['arena share']:.0%}")
        lines.append(f"| {w.name}, batch {w.batch} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    if not args.only:
        results["100 000 nodes s"] = node_building()
        results["import / numpy"] = import_ratio()
    print(results["machine"])
    for name in ("100 000 nodes s", "import / numpy"):
        if name in results:
            print(f"{name}: {results[name]:.2f}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    if args.markdown:
        args.markdown.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
