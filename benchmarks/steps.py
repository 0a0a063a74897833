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
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lazygrad as lg
from benchmarks.baselines.numpy_steps import ClassifierStep, MarginStep
from lazygrad import nn, optim
from lazygrad.nn import functional as F

Step = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Workload:
    """A network, its batch and its loss."""

    name: str
    sizes: tuple[int, ...]
    batch: int
    hinge: bool = False
    lr: float = 0.01
    limit: float = 1.6  # the ratio to reach


WORKLOADS = (
    Workload("moons", (2, 16, 16, 1), 100, hinge=True, limit=2.5),
    Workload("digits normal", (64, 64, 32, 10), 32),
    Workload("digits longer", (64, *([256] * 29), 10), 32),
    Workload("mnist", (784, 1024, 1024, 1024, 10), 64),
)


def make_model(w: Workload) -> nn.Module:
    """The network in lazygrad."""
    lg.manual_seed(0)
    layers: list[Any] = []
    for i, (a, b) in enumerate(zip(w.sizes, w.sizes[1:], strict=False)):
        layers += [nn.Linear(a, b)] + ([nn.ReLU()] if i < len(w.sizes) - 2 else [])
    return nn.Sequential(*layers)


def batches(w: Workload, count: int = 16) -> list[tuple[Any, Any]]:
    """Fixed random batches."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        x = rng.standard_normal((w.batch, w.sizes[0])).astype(np.float32)
        if w.hinge:
            y: Any = rng.choice([-1.0, 1.0], (w.batch, 1)).astype(np.float32)
        else:
            y = rng.integers(0, w.sizes[-1], w.batch)
        found.append((x, y))
    return found


def loss_of(w: Workload, model: Any, x: Any, y: Any) -> Any:
    """The loss in lazygrad."""
    scores = model(x)
    if not w.hinge:
        return F.cross_entropy(scores, y)
    penalty = sum((p * p).sum() for p in model.parameters())
    return (1 - y * scores).relu().mean() + 1e-4 * penalty


def whole_step(w: Workload) -> Step:
    """A captured training step."""
    model = make_model(w)
    optimizer = optim.SGD(model.parameters(), lr=w.lr)

    @lg.compute_graph
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(w, model, x, y)
        loss.backward()
        optimizer.step()
        return loss

    run: Any = lambda x, y: step(x, y).item()  # noqa: E731
    run.captured = step
    return run  # type: ignore[no-any-return]


def captured_forward(w: Workload) -> Step:
    """A captured forward; backward and step outside."""
    model = make_model(w)
    optimizer = optim.SGD(model.parameters(), lr=w.lr)
    forward = lg.compute_graph(lambda x, y: loss_of(w, model, x, y))

    def step(x: Any, y: Any) -> float:
        loss = forward(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def undecorated(w: Workload) -> Step:
    """No decorator: the graph is built anew each step."""
    model = make_model(w)
    optimizer = optim.SGD(model.parameters(), lr=w.lr)

    def step(x: Any, y: Any) -> float:
        loss = loss_of(w, model, lg.tensor(x), lg.tensor(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def by_hand(w: Workload) -> Step:
    """The NumPy step."""
    params = [p.numpy(copy=True) for p in make_model(w).parameters()]
    kind = MarginStep if w.hinge else ClassifierStep
    return kind(params[::2], params[1::2], w.batch, w.lr).step


def measure(w: Workload, rounds: int) -> dict[str, Any]:
    """Median microseconds a step of each form, rounds interleaved."""
    forms = {
        "numpy": by_hand(w), "captured step": whole_step(w),
        "captured forward": captured_forward(w), "undecorated": undecorated(w),
    }  # fmt: skip
    data = batches(w)
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
    memory = forms["captured step"].captured.memory_plan()  # type: ignore[attr-defined]
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


def machine() -> str:
    """The machine in one line."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return (
        f"{name}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()},"
        f" NumPy {np.__version__}"
    )


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
        if args.only and args.only not in w.name:
            continue
        found = results[w.name] = measure(w, args.rounds)
        cells = [f"{found['numpy']:.0f} us"]
        for form in ("captured step", "captured forward", "undecorated"):
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
