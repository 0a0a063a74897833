"""Clocks around kernels."""

from __future__ import annotations

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.config import config
from lazygrad.runtime import profiling
from lazygrad.runtime.native.ceilings import Ceilings

pytestmark = pytest.mark.compiled


def test_every_kernel_of_a_captured_step_has_a_clock() -> None:
    w = lg.nn.Parameter(np.ones((3, 2), np.float32))
    opt = lg.optim.SGD([w], lr=0.001)

    @lg.compute_graph
    def step(x: lg.Tensor) -> lg.Tensor:
        opt.zero_grad()
        loss = (x @ w).square().sum()
        loss.backward()
        opt.step()
        return loss

    x = np.ones((4, 3), np.float32)
    plain = [step(x).item() for _ in range(3)]
    with lg.profile(flops_peak=1e12, bytes_peak=1e11) as p:
        for _ in range(3):
            step(x)
    rows = p.rows()
    assert rows and all(r["calls"] == 3 and r["ms"] > 0 for r in rows)
    assert any("matmul" in str(r["ops"]) for r in rows)
    assert "GFLOP/s" in str(p) and "of peak" in str(p)
    assert config.profile == 0
    assert step(x).item() < plain[-1]


def test_shares_of_given_peaks() -> None:
    with lg.profile(flops_peak=1e12, bytes_peak=1e11) as p:
        (lg.ones(3) * 2).numpy()
    assert 0 < float(str(p.rows()[0]["of peak"])) < 1


def shares_of(executor: str, workers: int, **given: float) -> tuple[float, float, bool]:
    """The peaks of a profile, and whether its rows have shares of them."""
    with config.override(executor=executor, num_workers=workers), lg.profile(**given) as p:
        (lg.ones(3) * 2).numpy()
    return p.flops_peak, p.bytes_peak, "of peak" in p.rows()[0]


def test_peaks_are_those_of_the_machine_for_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Ceilings(8, (1e11, 8e11), (3e10, 9e10), (2e10, 6e10), 4)
    monkeypatch.setattr(profiling, "ceilings", lambda: figures)
    monkeypatch.setattr(profiling, "threads", lg.num_workers)
    assert shares_of("native", 2) == (8e11, 9e10, True)
    assert shares_of("native", 1) == (1e11, 3e10, True)
    assert shares_of("native", 2, flops_peak=5.0) == (5.0, 9e10, True)
    assert shares_of("numpy", 2) == (0, 0, False)
    assert shares_of("numpy", 2, bytes_peak=1e9) == (0, 1e9, True)
