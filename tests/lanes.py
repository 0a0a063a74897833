"""Which tests run on which executor when `make test` runs them all: `pytest --lane NAME`.

Without a lane every test runs, on the executor that `LAZYGRAD_EXECUTOR` names. A lane leaves out
slow tests and what cannot fail on its executor in another way than it would in the lane before:

- `native`: everything but the tests of code that is generated for NumPy.
- `numpy`: those, and all tests whose subject computes.
- `reference`: the tests whose subject computes. Those about compiled programs are not among them:
  kernels of the reference are run one by one, so there is nothing to compile.
- `no-llvm`: machine code is asked for where llvmlite cannot be imported. That is the NumPy lane
  behind one notice, so a first hour and some training show that it works.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

import lazygrad as lg
from lazygrad.runtime.dispatch import uses_native

ROOT = Path(__file__).parent
EXECUTORS = {"native": "native", "numpy": "numpy", "reference": "reference", "no-llvm": "auto"}

# Files and folders that run in the native lane only, by what makes the others superfluous.
ONCE = {
    "no value is computed, or any would do": (
        "benchmarks",
        "compat",
        "data",
        "engine/test_anomaly.py",
        "engine/test_hooks.py",
        "engine/test_passes.py",
        "engine/test_protocols.py",
        "engine/test_visualize.py",
        "nn/test_init.py",
        "nn/test_module.py",
        "nn/test_reprs.py",
        "nn/test_state_dict.py",
        "ops/test_adding_an_op.py",
        "ops/test_creation.py",
        "ops/test_dtypes.py",
        "optim/test_lr_scheduler.py",
        "runtime/test_verify.py",
        "test_bench.py",
        "test_cli.py",
        "test_lanes.py",
        "test_layout.py",
        "test_readme.py",
        "test_serialization.py",
        "testing",
    ),
    "how long things live and what they cost depends on graphs and storage": (
        "engine/test_memory_flat.py",
    ),
    "whole examples: what they are made of is tested in every lane": ("examples", "originals"),
    "they name their executors": ("engine/test_stored.py", "runtime/native"),
}
EXCEPT = ("runtime/native/test_row_programs.py",)  # of these: about kernels as NumPy runs them

WITHOUT_LLVM = ("test_first_hour.py", "nn/test_capture.py", "optim/test_optimizers.py")


def set_up(lane: str) -> None:
    """Choose the executor of a lane for this process."""
    lg.config.executor = EXECUTORS[lane]
    if lane == "no-llvm":
        sys.modules["llvmlite"] = None  # type: ignore[assignment]  # so Python spells "not there"
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            assert not uses_native(), "llvmlite can be imported"
        assert [w.category for w in seen] == [RuntimeWarning]
        # It is said once: a second notice would be an error in a test.


def is_left_out(lane: str, path: Path) -> bool:
    """Whether a file or folder has no tests of a lane."""
    if path == ROOT or not path.is_relative_to(ROOT):
        return False
    here = path.relative_to(ROOT)
    if lane == "no-llvm":
        return path.is_file() and here.as_posix() not in WITHOUT_LLVM
    if lane == "native" or any(Path(kept).is_relative_to(here) for kept in EXCEPT):
        return False
    return any(here.is_relative_to(place) for places in ONCE.values() for place in places)


def runs(lane: str, item: pytest.Item) -> bool:
    """Whether a test is one of a lane, by its marks."""
    if item.get_closest_marker("slow"):
        return False
    if item.get_closest_marker("numpy_code"):
        return lane == "numpy"
    return lane != "reference" or item.get_closest_marker("compiled") is None
