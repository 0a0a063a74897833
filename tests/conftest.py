"""Hypothesis profiles (`ci` draws the same examples on every run), lanes, tests of one executor."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import lazygrad as lg
from lazygrad.runtime.dispatch import uses_native
from tests import lanes

collect_ignore_glob = ["golden/make_*.py"]  # scripts that need PyTorch


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--lane`."""
    names = list(lanes.EXECUTORS)
    parser.addoption("--lane", choices=names, help="run what concerns one executor: tests/lanes.py")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the executor, and how many examples are drawn for it."""
    lane = config.getoption("--lane")
    if lane is not None:
        lanes.set_up(lane)
    # Each drawn program is compiled: to machine code that takes ten times as long as to Python.
    examples = 15 if lane == "native" or (lane is None and uses_native()) else 50
    settings.register_profile("ci", derandomize=True, deadline=None, max_examples=examples)
    settings.register_profile(
        "thorough",
        deadline=None,
        max_examples=500,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import what has no tests of the lane."""
    lane = config.getoption("--lane")
    return True if lane is not None and lanes.is_left_out(lane, collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that are not of the lane."""
    lane = config.getoption("--lane")
    if lane is not None:
        items[:] = [item for item in items if lanes.runs(lane, item)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run the tests that are about one executor on it."""
    reference = lg.config.executor == "reference"
    if item.get_closest_marker("numpy_code") or (reference and item.get_closest_marker("compiled")):
        with lg.config.override(executor="numpy"):
            return (yield)
    return (yield)
