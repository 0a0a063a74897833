"""The process of one contestant: builds its step, then times it whenever it is asked to.

Orders are lines on standard input, `time 64` for 64 steps; the answer to each is a line of JSON on
what was standard output, which everybody else in this process finds replaced by standard error.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from benchmarks.models import Array
from benchmarks.peers.forms import THREADS, Step
from benchmarks.workloads import Workload

CHECKED = 4  # losses that everybody must agree on


def status(field: str) -> float:
    """Megabytes that the system names `field` for this process; 0 where it does not say.

    `resource.getrusage` would also count the process that this one was forked from.
    """
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    kilobytes = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return float(kilobytes[0]) / 1024 if kilobytes else 0.0


def narrow(x: Array) -> Array:
    """Integers of 32 bits, anything else as it is."""
    return x.astype(np.int32) if x.dtype.kind == "i" else x


def forget_peak() -> None:
    """Start the peak anew, so that what built the weights is not counted."""
    gc.collect()
    with contextlib.suppress(OSError):  # other systems count from the start
        Path("/proc/self/clear_refs").write_text("5")


class Contestant:
    """A step with its endless stream of batches."""

    def __init__(self, module: str, form: str, w: Workload) -> None:
        begun = time.perf_counter()
        build = importlib.import_module(f"benchmarks.peers.{module}").build
        self.imported = time.perf_counter() - begun
        self.resting = status("VmRSS")
        data = w.batches()
        if module == "jax_forms":  # its integers are 32 bits wide: it would convert each batch
            data = [(narrow(x), narrow(y)) for x, y in data]
        self.batches: Iterator[tuple[Array, Array]] = cycle(data)
        self.step: Step = build(form, w)
        forget_peak()

    def first(self) -> dict[str, Any]:
        """The first call, timed, and the losses of the first steps."""
        begun = time.perf_counter()
        loss = self.step(*next(self.batches))
        seconds = time.perf_counter() - begun
        losses = [loss] + [self.step(x, y) for x, y in islice(self.batches, CHECKED - 1)]
        return {"first": seconds, "import": self.imported, "losses": losses}

    def time(self, steps: int) -> dict[str, Any]:
        """Seconds of so many steps."""
        step = self.step
        chosen = list(islice(self.batches, steps))
        loss = 0.0
        begun = time.perf_counter()
        for x, y in chosen:
            loss = step(x, y)
        return {"seconds": time.perf_counter() - begun, "loss": loss}

    def memory(self) -> dict[str, Any]:
        """Megabytes: the peak since the first call, and what the imports alone took."""
        return {"peak": status("VmHWM"), "imports": self.resting}


def use_cores(count: int) -> None:
    """Keep to the first cores that this process may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def answering(answers: TextIO, work: Callable[[], dict[str, Any]]) -> bool:
    """Write what `work` finds, or why it found nothing."""
    try:
        found = work()
    except Exception as error:
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}".strip().splitlines()[0]}
    answers.write(json.dumps(found) + "\n")
    answers.flush()
    return "error" not in found


def main(argv: list[str]) -> int:
    """`worker MODULE FORM WORKLOAD`, the last as JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    use_cores(THREADS)
    module, form, text = argv
    workload = Workload.from_json(text)
    built: list[Contestant] = []

    def start() -> dict[str, Any]:
        built.append(Contestant(module, form, workload))
        return {"ready": True}

    if not answering(answers, start):
        return 1
    for line in sys.stdin:
        order, *numbers = line.split()
        if not answering(answers, partial(getattr(built[0], order), *map(int, numbers))):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
