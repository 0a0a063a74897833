"""Hypothesis profiles (`ci` draws the same examples on every run), and tests of one executor."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from lazygrad.config import config

collect_ignore_glob = ["golden/make_*.py"]  # scripts that need PyTorch

# Each drawn program is compiled: to machine code that takes ten times as long as to Python.
_COMPILES = config.executor in ("auto", "native")
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=15 if _COMPILES else 50
)
settings.register_profile(
    "thorough",
    deadline=None,
    max_examples=500,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run the tests that are about one executor on it."""
    reference = config.executor == "reference"
    if item.get_closest_marker("numpy_code") or (reference and item.get_closest_marker("compiled")):
        with config.override(executor="numpy"):
            return (yield)
    return (yield)
