"""Loops of any length stay flat: nodes, tables, bytes. Deep and wide graphs do not overflow."""

import gc
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.config import config
from lazygrad.engine import handles as tables
from lazygrad.engine import pending, program, run
from lazygrad.engine.storage import Storage

STATM = Path("/proc/self/statm")
PAGE = os.sysconf("SC_PAGESIZE") if hasattr(os, "sysconf") else 4096


FLUSH = 300  # nodes before a flush, instead of 10 000


def resident() -> int:
    """Bytes in memory, where the system tells."""
    return int(STATM.read_text().split()[1]) * PAGE if STATM.exists() else 0


def counts() -> dict[str, int]:
    """The size of every table that a loop could fill."""
    g = lg.get_default_graph()
    return {
        "nodes": len(g),
        "values": len(g.values),
        "leases": len(g.leases),
        "saved": len(g.saved),
        "sources": len(g._sources),
        "handles": len(tables.HANDLES),
        "pending": len(tables.PENDING),
        "doomed": len(tables.DOOMED),
        "kept": len(tables.KEPT),
        "writes": len(pending.WRITES),
        "entries": len(run._ENTRIES),
        "programs": len(program.CACHE),
    }


def flat(
    body: Callable[[int], Any], times: int, warm: int = 30, slack: int = 8, mib: float = 4
) -> None:
    """Run a loop body; nothing may grow between an early and a late turn.

    What only structure holds may wait for the next flush; compiled programs may fill their cache.
    """
    limits = {"nodes": 2 * FLUSH, "sources": FLUSH, "entries": run._LIMIT, "programs": 256}
    with config.override(flush_nodes=FLUSH), lg.Graph():  # counts() looks at this one
        for k in range(warm):
            body(k)
        gc.collect()
        before, memory = counts(), resident()
        for k in range(warm, warm + times):
            body(k)
        gc.collect()
        after, grown = counts(), resident() - memory
    allowed = {k: max(before[k] + slack, limits.get(k, 0)) for k in before}
    worse = {k: (before[k], after[k]) for k in after if after[k] > allowed[k]}
    assert not worse, f"grew: {worse}"
    assert grown < mib * 2**20, f"{grown} bytes more"


def x_of(k: int) -> np.ndarray:
    return np.full((4, 3), k % 5, np.float32)


@pytest.fixture
def model() -> nn.Sequential:
    lg.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 2))


# sums -------------------------------------------------------------------------------------------


def accumulate(times: int) -> None:
    s, x = lg.zeros(3), lg.ones(3)
    with lg.no_grad():
        for _ in range(times):
            s += x
    assert s.tolist() == [times] * 3


@pytest.mark.parametrize("grad", [False, True])
def test_a_sum_over_many_turns_is_flushed(grad: bool) -> None:
    with config.override(flush_nodes=500), lg.Graph() as g:
        s, x = lg.zeros(3), lg.ones(3)
        most = 0
        for _ in range(6000):
            if grad:
                s = s + x  # nothing requires grad: no history is needed
            else:
                with lg.no_grad():
                    s += x
            most = max(most, len(g))
        assert s.tolist() == [6000] * 3
        assert most <= 1100


@pytest.mark.slow
def test_a_sum_over_a_million_turns() -> None:
    accumulate(20_000)
    memory = resident()
    accumulate(1_000_000)
    assert resident() - memory < 20 * 2**20


def test_reading_a_sum_now_and_then() -> None:
    total = [lg.zeros(())]

    def body(k: int) -> None:
        total[0] = total[0] + lg.tensor(float(k))
        if k % 10 == 0:
            total[0].item()

    flat(body, 1500, warm=50)


# training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["plain", "forward", "step"])
def test_training(model: nn.Sequential, style: str) -> None:
    optimizer = lg.optim.Adam(model.parameters(), lr=0.01)

    def forward(x: Any) -> Any:
        return (model(x) ** 2).mean()

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = forward(x)
        loss.backward()
        optimizer.step()
        return loss

    if style == "forward":
        forward = lg.compute_graph(forward)
    elif style == "step":
        step = lg.compute_graph(step)
    flat(lambda k: step(lg.tensor(x_of(k))), 300)


@pytest.mark.parametrize("captured", [False, True])
def test_losses_in_a_list(captured: bool) -> None:
    w = lg.tensor(np.ones((3, 2), np.float32), requires_grad=True)
    optimizer = lg.optim.SGD([w], lr=0.01)
    losses = []

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = ((x @ w) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    if captured:
        step = lg.compute_graph(step)
    with lg.Graph() as g:
        for k in range(200):
            losses.append(step(lg.tensor(x_of(k))))
        gc.collect()
        assert len(g) <= 200 * 20  # a loss keeps its history, for pictures
        assert len(g.values) <= 220  # but of its values only its own
        assert len(g.leases) <= 10
    assert len({loss.item() for loss in losses}) > 100


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("read", [False, True])
def test_losses_without_backward(model: nn.Sequential, captured: bool, read: bool) -> None:
    def forward(x: Any) -> Any:
        return (model(x) ** 2).mean()

    if captured:
        forward = lg.compute_graph(forward)

    def body(k: int) -> None:
        loss = forward(lg.tensor(x_of(k)))
        if read:
            loss.item()

    flat(body, 300)


def test_metrics_add_up(model: nn.Sequential) -> None:
    optimizer = lg.optim.SGD(model.parameters(), lr=0.01)
    total = [lg.zeros(())]

    @lg.compute_graph
    def forward(x: Any) -> Any:
        return (model(x) ** 2).mean()

    def body(k: int) -> None:
        loss = forward(x_of(k))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total[0] += loss.detach()
        if k % 7 == 0:
            total[0].item()

    flat(body, 300)


def test_gradients_accumulate(model: nn.Sequential) -> None:
    """Micro-batches without zero_grad, and gradients that are never read."""

    def body(k: int) -> None:
        (model(lg.tensor(x_of(k))) ** 2).mean().backward()

    flat(body, 200)


def test_values_that_nobody_can_read_are_dropped() -> None:
    """A running mean of large arrays: its history may stay for a while, its old values not."""
    w = lg.tensor(np.ones(1000, np.float32))
    mean = [lg.zeros(1000)]

    def body(k: int) -> None:
        mean[0] = mean[0] * 0.9 + w * 0.1
        mean[0].realize()

    with lg.Graph() as g:
        for k in range(50):
            body(k)
        assert len(g) > 100
        assert len(g.values) <= 3


def test_evaluation_under_no_grad(model: nn.Sequential) -> None:
    model.eval()
    results: list[Any] = []

    def body(k: int) -> None:
        with lg.no_grad():
            results[:] = [model(lg.tensor(x_of(k))).argmax(dim=1)]
        if k % 3 == 0:
            results[0].numpy()

    flat(body, 300)


# what is made again and again ---------------------------------------------------------------------


def test_decorating_again_and_again() -> None:
    seen = []

    def body(k: int) -> None:
        f = lg.compute_graph(lambda x: x * 2 + k % 3)
        f(x_of(k)).numpy()
        seen[:] = [weakref.ref(f)]

    flat(body, 200)
    gc.collect()
    assert seen[0]() is None


def test_exceptions_while_tracing(model: nn.Sequential) -> None:
    @lg.compute_graph
    def f(x: Any) -> Any:
        return model(x).item()

    def body(k: int) -> None:
        with pytest.raises(lg.errors.CaptureError):
            f(x_of(k))

    flat(body, 100)
    assert f.cache_info().size == 0


def test_models_come_and_go() -> None:
    def body(k: int) -> None:
        layer = nn.Linear(3, 2)
        optimizer = lg.optim.Adam(layer.parameters())
        f = lg.compute_graph(lambda x: layer(x).sum())
        f(x_of(k)).backward()
        optimizer.step()

    flat(body, 60)


def test_signatures_are_bounded() -> None:
    with config.override(capture_limit=4):
        f = lg.compute_graph(lambda x: x * 2)

        def body(k: int) -> None:
            f(np.ones(k % 7 + 1, np.float32)).numpy()

        with pytest.warns(lg.LazygradWarning):
            f(np.ones(9, np.float32))
            for n in range(1, 9):
                f(np.ones(n, np.float32))
        flat(body, 100)


def test_exports_are_let_go() -> None:
    w = lg.tensor(np.zeros(1000, np.float32), requires_grad=True)
    optimizer = lg.optim.SGD([w], lr=0.1)

    def body(k: int) -> None:
        view = w.numpy()
        assert not view.flags.writeable
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()

    flat(body, 300)


def test_random_tensors_and_keys() -> None:
    def body(k: int) -> None:
        (lg.rand(3) + lg.randn(3)).numpy()

    flat(body, 300)


# deep and wide -----------------------------------------


def chain(length: int, requires_grad: bool) -> Any:
    x = lg.tensor([1.0, 2.0], requires_grad=requires_grad)
    y = x
    for _ in range(length):
        y = y + 1
    return x, y


@pytest.mark.parametrize("length", [9_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_deep_chains(length: int) -> None:
    with config.override(flush_nodes=10**9), lg.Graph() as g:
        x, y = chain(length, True)
        assert y.grad_fn is not None
        y.sum().backward()
        assert x.grad.tolist() == [1, 1]
        assert y.tolist() == [length + 1, length + 2]
        assert str(g)
        assert g.visualize().source
        assert "..." in y.branch()
        del x, y
        gc.collect()
        assert len(g) == 0


@pytest.mark.parametrize("length", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_deep_chains_are_dropped_without_recursion(length: int) -> None:
    with config.override(flush_nodes=10**9), lg.Graph() as g:
        _, y = chain(length, False)
        assert len(g) > length
        del _, y
        gc.collect()
        assert len(g) == 0


def test_wide_graphs() -> None:
    with lg.Graph():
        x = lg.tensor([1.0], requires_grad=True)
        parts = [x * float(k) for k in range(3000)]
        total = lg.stack(parts).sum()
        total.backward()
        assert total.item() == sum(range(3000))
        assert x.grad.item() == sum(range(3000))


@pytest.mark.slow
def test_very_wide_graphs() -> None:
    with config.override(flush_nodes=10**9), lg.Graph():
        x = lg.tensor([1.0], requires_grad=True)
        parts = [x * 2 for _ in range(10_000)]
        lg.cat(parts).sum().backward()
        assert x.grad.item() == 20_000


@pytest.mark.parametrize(
    "use",
    [
        lambda a: lg.tensor(a),
        lambda a: (lg.tensor(a) * 2).sum().item(),
        lambda a: lg.compute_graph(lambda x: x * 2)(lg.tensor(a)).numpy().sum(),
        lambda a: lg.tensor(a).exp(),
        lambda a: (lg.tensor(a, requires_grad=True) * 3).sum().backward(),
    ],
)
def test_arrays_go_with_their_last_user(use: Any) -> None:
    """Not when cycles are collected next: a few large batches would fill the memory until then."""
    array = np.ones((64, 64), np.float32)
    use(array)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(o) is Storage for o in gc.get_objects())
        for _ in range(5):
            use(array)
        assert sum(type(o) is Storage for o in gc.get_objects()) == before
    finally:
        gc.enable()
