"""Clocks around kernels."""

from __future__ import annotations

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.config import config

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
    with lg.profile() as p:
        for _ in range(3):
            step(x)
    rows = p.rows()
    assert rows and all(r["calls"] == 3 and r["ms"] > 0 for r in rows)
    assert any("matmul" in str(r["ops"]) for r in rows)
    assert "GFLOP/s" in str(p) and "of peak" in str(p)
    assert config.profile == 0
    assert step(x).item() < plain[-1]


def test_shares_of_a_measured_peak() -> None:
    with lg.profile(flops_peak=1e12, bytes_peak=1e11) as p:
        (lg.ones(3) * 2).numpy()
    assert 0 < float(str(p.rows()[0]["of peak"])) < 1
