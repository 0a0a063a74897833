"""State of which some elements are written: in place where nobody needs the old ones."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import IndexOutOfRangeError
from lazygrad.runtime.dispatch import uses_native

SIZE = 2048


class Cache(nn.Module):
    """Rows that come one by one."""

    def __init__(self) -> None:
        self.register_buffer("rows", lg.zeros(2, SIZE, 3))


def add_row(kept: Any, row: Any, at: Any) -> Any:
    kept.rows[:, at] = row
    return kept.rows[:, at].sum() + kept.rows.sum()


def add_slice(kept: Any, row: Any, at: Any) -> Any:
    kept.rows[:, 2:3] = row[:, None]
    return kept.rows.sum()


def look_before(kept: Any, row: Any, at: Any) -> Any:
    before = kept.rows * 1.0
    kept.rows[:, at] = row
    return before.sum() + 10 * kept.rows.sum()


def shift(kept: Any, row: Any, at: Any) -> Any:
    kept.rows[:, 1:] = kept.rows[:, :-1]
    kept.rows[:, 0] = row
    return kept.rows[:, 1].sum()


def shift_alone(kept: Any, row: Any, at: Any) -> Any:
    kept.rows[:, 1:] = kept.rows[:, :-1] + 1
    kept.rows[:, 2:] = kept.rows[:, :-2]
    return kept.rows[:, 5].sum()


def move_up(kept: Any, row: Any, at: Any) -> Any:
    kept.rows[:, 1:] = kept.rows[:, :-1]
    return kept.rows[:, 3].sum() + row.sum()


def twice(kept: Any, row: Any, at: Any) -> Any:
    kept.rows[:, at] = row
    kept.rows[:, at + 1] = kept.rows[:, at] * 2
    return kept.rows.sum()


@pytest.mark.parametrize(
    "edit", [add_row, add_slice, look_before, shift, shift_alone, move_up, twice]
)
@pytest.mark.parametrize("captured", [True, False])
def test_edits_are_those_of_numpy(edit: Callable[..., Any], captured: bool) -> None:
    rng = np.random.default_rng(0)
    start = rng.integers(-3, 4, (2, SIZE, 3)).astype(np.float32)
    kept, plain = Cache(), SimpleNamespace(rows=start.copy())
    kept.rows.data = start

    def fn(row: lg.Tensor, at: lg.Tensor) -> Any:
        return edit(kept, row, at)

    call = lg.compute_graph(fn) if captured else fn
    with lg.no_grad():
        for k in (3, 0, 100, 7):
            row = rng.integers(-3, 4, (2, 3)).astype(np.float32)
            assert float(call(lg.tensor(row), lg.scalar(k))) == float(edit(plain, row, k))
    np.testing.assert_array_equal(kept.rows.numpy(), plain.rows)


@pytest.mark.skipif(not uses_native(), reason="NumPy reads dense copies, the oracle has no plan")
@pytest.mark.parametrize("edit", [add_row, add_slice])
def test_only_the_new_elements_are_written(edit: Callable[..., Any]) -> None:
    """No buffer of a program is as large as the state, nothing is traced again."""
    kept = Cache()
    fn = lg.compute_graph(lambda row, at: edit(kept, row, at))
    with lg.no_grad():
        first = fn(lg.ones(2, 3), lg.scalar(0)).item()
        address = kept.rows.numpy().ctypes.data
        for k in range(1, 5):
            assert fn(lg.ones(2, 3), lg.scalar(k)).item() >= first
    assert fn._last.replay._step.program.memory.arena_bytes < kept.rows.nbytes / 4
    assert fn.cache_info().misses == 1
    assert kept.rows.numpy().ctypes.data == address


def test_who_holds_the_old_state_keeps_it() -> None:
    kept = Cache()
    fn = lg.compute_graph(lambda row, at: add_row(kept, row, at))
    with lg.no_grad():
        for k in range(3):
            fn(lg.ones(2, 3), lg.scalar(k))
        view, lazy = kept.rows.numpy(), kept.rows.sum()
        fn(lg.ones(2, 3), lg.scalar(3))
        assert (view.sum(), lazy.item(), kept.rows.sum().item()) == (18, 18, 24)


def test_a_position_outside_changes_nothing() -> None:
    kept = Cache()
    fn = lg.compute_graph(lambda row, at: add_row(kept, row, at))
    with lg.no_grad():
        fn(lg.ones(2, 3), lg.scalar(0))
        with pytest.raises(IndexOutOfRangeError):
            fn(lg.ones(2, 3), lg.scalar(SIZE)).item()
    assert kept.rows.sum().item() == 6


def test_a_call_without_a_backward_pass_that_writes_runs_at_once() -> None:
    """And one with a backward pass waits for it, whatever it writes."""
    kept = Cache()
    weight = nn.Parameter(lg.ones(2, 3))

    @lg.compute_graph
    def fn(row: lg.Tensor, at: lg.Tensor) -> lg.Tensor:
        kept.rows[:, at] = row
        return (row * weight).sum()

    with lg.no_grad():
        fn(lg.ones(2, 3), lg.scalar(0))
    fn(lg.ones(2, 3), lg.scalar(1)).backward()
    assert [e.replay.at_once for es in fn._entries.values() for e in es] == [True, False]
    assert weight.grad is not None
    assert kept.rows.sum().item() == 12
