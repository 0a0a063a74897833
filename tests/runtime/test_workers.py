"""The worker pool: shares, threads, errors, fork."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest

from lazygrad.config import Config, config
from lazygrad.errors import ConfigError, IndexOutOfRangeError
from lazygrad.runtime import workers
from lazygrad.runtime.workers import num_workers, run_chunks, set_num_workers, shares

BORDERS = [(i, i + 1) for i in range(20)]


def ran(own: int, function: Any = None) -> list[tuple[int, int]]:
    """(thread memory, chunk) of each call, sorted by chunk."""
    found = []

    def note(whole: Any, memory: Any, chunk: int, lo: int, hi: int) -> None:
        assert (lo, hi) == BORDERS[chunk] and whole == "whole"
        if function is not None:
            function(chunk)
        found.append((chunk, memory))

    run_chunks(note, BORDERS, "whole", list(range(own)))
    return sorted(found)


@pytest.mark.parametrize("count", [1, 2, 7, 64, 256])
def test_every_chunk_runs_once(count: int) -> None:
    with config.override(num_workers=count):
        assert [c for c, _ in ran(3)] == list(range(20))


def test_one_worker_stays_on_the_caller() -> None:
    with config.override(num_workers=1):
        here = threading.get_ident()
        assert {m for _, m in ran(3, lambda c: _is(threading.get_ident(), here))} == {0}


def _is(x: int, y: int) -> None:
    assert x == y


def test_shares_cover_everything_in_order() -> None:
    for chunks in (1, 2, 19, 64):
        for count in (1, 2, 7, 64):
            found = shares(chunks, count)
            assert [c for share in found for c in share] == list(range(chunks))
            assert all(found) and max(map(len, found)) - min(map(len, found)) <= 1


def test_the_first_error_reaches_the_caller() -> None:
    def fail(chunk: int) -> None:
        if chunk >= 5:
            raise IndexOutOfRangeError(f"chunk {chunk}")

    for count in (1, 2, 7):
        with (
            config.override(num_workers=count),
            pytest.raises(IndexOutOfRangeError, match="chunk 5"),
        ):
            ran(3, fail)
    assert len(ran(3)) == 20  # the pool still works


def test_no_floating_point_warnings_in_threads() -> None:
    with config.override(num_workers=4), np.errstate(all="ignore"):
        ran(4, lambda chunk: np.divide(np.ones(3), np.zeros(3)))


def test_a_busy_pool_means_the_caller_works() -> None:
    inner = []

    def nested(chunk: int) -> None:
        if chunk == 3:
            inner.extend(ran(2))

    with config.override(num_workers=2):
        ran(2, nested)
    assert {m for _, m in inner} == {0}


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "many"])
def test_worker_counts_below_one_raise(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="num_workers must be at least 1"):
        set_num_workers(wrong)


def test_automatic_is_one_per_core() -> None:
    with config.override(num_workers=3):
        assert num_workers() == 3
        set_num_workers("auto")
        assert num_workers() == workers.cores() == len(os.sched_getaffinity(0))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_the_pool_survives_fork() -> None:
    with config.override(num_workers=2):
        ran(2)
        child = os.fork()
        if child == 0:
            os._exit(0 if len(ran(2)) == 20 else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_an_empty_variable_is_none() -> None:
    found = Config({"LAZYGRAD_NUM_WORKERS": "", "LAZYGRAD_EXECUTOR": " ", "LAZYGRAD_POISON": ""})
    assert (found.num_workers, found.executor, found.poison) == (0, "auto", False)
