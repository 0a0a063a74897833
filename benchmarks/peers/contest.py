"""One row of the table: every contestant in its own process, in turns."""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.forms import Form
from benchmarks.workloads import Workload

ROOT = Path(__file__).parents[2]
RTOL, ATOL = 1e-3, 1e-5  # how far the first losses may lie apart
_PAUSE = 0.05  # seconds in which the threads of the one before fall asleep (OpenBLAS: 2**26 cycles)


class PeerError(Exception):
    """A contestant could not do what it was asked to."""


class Process:
    """A running contestant; `ask` sends an order and waits for the answer."""

    def __init__(self, form: Form, w: Workload, python: str, settings: dict[str, str]) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by `close`
        command = [python, "-m", "benchmarks.peers.worker", form.module, form.name]
        self._child = subprocess.Popen(
            [*command, w.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=os.environ | settings | {"PYTHONPATH": str(ROOT)},
        )
        self._answer()

    def close(self) -> None:
        """End the process."""
        for stream in (self._child.stdin, self._child.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._child.wait()
        self._log.close()

    def ask(self, order: str) -> dict[str, Any]:
        """The answer to an order."""
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the missing answer is reported
            self._child.stdin.write(order + "\n")
            self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        found = json.loads(line) if line else {"error": self._last_words()}
        if "error" in found:
            self.close()
            raise PeerError(found["error"])
        return dict(found)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        status = self._child.wait()
        return f"the process ended with status {status}: {lines[-1] if lines else 'no message'}"


class Entry:
    """What one form showed in one row."""

    def __init__(self, form: Form, w: Workload, python: str, settings: dict[str, str]) -> None:
        self.form, self.workload = form, w
        self.error = ""
        self.found: dict[str, Any] = {}
        self.times: list[float] = []  # microseconds a step
        self.steps = 1
        self._python, self._settings = python, settings
        self._process: Process | None = None

    def start(self, cache: Path) -> Process:
        """A fresh process with a folder for what is compiled."""
        own = {k: v.format(cache=cache) for k, v in self.form.environment.items()}
        return Process(self.form, self.workload, self._python, own | self._settings)

    def warm_up(self, cache: Path) -> None:
        """First calls in two fresh processes; the second, which stays, finds the caches warm."""
        try:
            with contextlib.closing(self.start(cache)) as cold:
                self.found["first cold ms"] = cold.ask("first")["first"] * 1e3
            self._process = self.start(cache)
            seen = self._process.ask("first")
        except PeerError as error:
            self.error = str(error)
            return
        self.found["first warm ms"] = seen["first"] * 1e3
        self.found["import ms"] = seen["import"] * 1e3
        self.found["losses"] = seen["losses"]

    def calibrate(self, seconds: float) -> None:
        """Find how many steps take about so long."""
        while self._measure() * self.steps < seconds * 1e6 and self.steps < 1 << 16:
            self.steps *= 2

    def _measure(self) -> float:
        assert self._process is not None
        time.sleep(_PAUSE)
        seen = self._process.ask(f"time {self.steps}")
        if not math.isfinite(seen["loss"]):
            raise PeerError(f"the loss became {seen['loss']}")
        return float(seen["seconds"]) / self.steps * 1e6

    def round(self) -> None:
        """Time some steps."""
        self.times.append(self._measure())

    def finish(self) -> None:
        """Ask for the memory and end the process."""
        if self._process is not None:
            if not self.error:
                seen = self._process.ask("memory")
                self.found["peak MB"], self.found["imports MB"] = seen["peak"], seen["imports"]
            self._process.close()
            self._process = None
        if self.times:
            self.found["median us"] = statistics.median(self.times)
            self.found["best us"] = min(self.times)
            self.found["rounds us"] = self.times


def agree(entries: Sequence[Entry]) -> None:
    """Check that all compute the same losses from the same weights."""
    for entry in entries[1:]:
        mine, first = entry.found["losses"], entries[0].found["losses"]
        if not np.allclose(mine, first, rtol=RTOL, atol=ATOL):
            raise PeerError(
                f"{entry.workload.name}: the losses of {entry.form.title} are {mine},"
                f" those of {entries[0].form.title} {first}"
            )


def contest(
    w: Workload, forms: Sequence[Form], pythons: dict[bool, str], rounds: int,
    seconds: float = 0.2, settings: dict[str, str] | None = None,
) -> list[Entry]:  # fmt: skip
    """Measure every form that has the workload; `pythons[form.guest]` runs it."""
    entries = [Entry(form, w, pythons[form.guest], settings or {}) for form in forms]
    with tempfile.TemporaryDirectory() as folder:
        try:
            present = [entry for entry in entries if entry.form.has(w)]
            for number, entry in enumerate(present):
                cache = Path(folder, str(number))
                cache.mkdir()
                entry.warm_up(cache)
                if entry.error:
                    print(f"{w.name}: {entry.form.title}: {entry.error}", file=sys.stderr)
            racing = [entry for entry in present if not entry.error]
            agree(racing)
            for entry in racing:
                entry.calibrate(seconds)
            for turn in range(rounds):
                for i in range(len(racing)):
                    racing[(i + turn) % len(racing)].round()
        finally:
            for entry in entries:
                entry.finish()
    return entries
