"""Loss scaling: which steps are skipped, how the scale moves, and that nothing is read for it."""

import math
from pathlib import Path

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.amp import GradScaler
from lazygrad.errors import (
    ArgumentError,
    ArgumentTypeError,
    CaptureError,
    DTypeError,
    GradientError,
)
from tests.golden import cases_amp as cases

GOLDENS = np.load(Path(cases.__file__).with_name("goldens_amp.npz"))


@pytest.mark.parametrize("name", ["scaled", "clipped"])
def test_training_with_overflows_follows_pytorch_captured_or_not(name):
    run, case = cases.RUNS[name]
    plain, captured = run(lg, case), run(lg, case, wrap=lg.compute_graph)
    for part, values in plain.items():
        assert np.array_equal(captured[part], values)
        wanted = GOLDENS[f"{name}/{part}"]
        atol = 0 if part == "scales" else 2**-9
        np.testing.assert_allclose(values, wanted, rtol=0, atol=atol)
    halved = np.diff(plain["scales"]) < 0
    assert 3 < halved.sum() < 12  # it has overflowed, and not always


class Run:
    """One parameter whose gradient is what is asked for."""

    def __init__(self, kind=lg.optim.AdamW, **settings):
        self.w = nn.Parameter([1.0, 2.0])
        self.other = nn.Parameter([3.0])
        self.optimizer = kind([self.w, self.other], lr=0.1)
        settings = {"init_scale": 8.0, "growth_interval": 2, **settings}
        self.scaler = GradScaler("cpu", **settings)

    def step(self, factor):
        self.optimizer.zero_grad()
        loss = (self.w * factor).sum() + self.other.sum()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def state(self):
        moments = [t.tolist() for held in self.optimizer.state.values() for t in held.values()]
        counts = [g.counter.tolist() for g in self.optimizer.param_groups if g.counter is not None]
        return [self.w.tolist(), self.other.tolist(), moments, counts]


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("bad", [math.inf, math.nan, 1e38])
def test_a_skipped_step_changes_no_state(captured, bad):
    run = Run()
    step = lg.compute_graph(run.step) if captured else run.step
    step(lg.tensor(1.0))
    before = run.state()
    step(lg.tensor(bad))
    assert run.state() == before
    assert run.scaler.get_scale() == 4
    step(lg.tensor(1.0))
    assert run.state() != before
    assert run.optimizer.param_groups[0].counter.tolist() == [2, 2]


def test_the_scale_grows_after_a_streak_and_stays_finite():
    run = Run(kind=lg.optim.SGD)
    scales = []
    for factor in (1.0, 1.0, 1.0, math.inf, 1.0, 1.0):
        run.step(lg.tensor(factor))
        scales.append(run.scaler.get_scale())
    assert scales == [8, 16, 16, 8, 8, 16]
    top = Run(init_scale=2.0**127, growth_interval=1)
    top.step(lg.tensor(0.0))
    assert top.scaler.get_scale() == 2.0**127  # twice that is no float32
    assert top.scaler.state_dict()["_growth_tracker"] == 0


def test_scaled_gradients_are_those_of_a_plain_step():
    def trained(scaled):
        run = Run()
        for _ in range(3):
            run.optimizer.zero_grad()
            loss = (run.w * run.w).sum() + run.other.sum()
            if scaled:
                run.scaler.scale(loss).backward()
                run.scaler.unscale_(run.optimizer)
                nn.utils.clip_grad_norm_([run.w, run.other], 1.0)
                run.scaler.step(run.optimizer)
                run.scaler.update()
            else:
                loss.backward()
                nn.utils.clip_grad_norm_([run.w, run.other], 1.0)
                run.optimizer.step()
        return run.state()

    assert trained(True) == trained(False)  # powers of 2 round nothing


def test_several_optimizers_share_a_scale():
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    first, second = lg.optim.SGD([a], lr=1.0), lg.optim.SGD([b], lr=1.0)
    scaler = GradScaler(init_scale=2.0)
    scaler.scale([a.sum(), (b * math.inf).sum()])[0].backward()
    scaler.scale((b * math.inf).sum()).backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert (a.item(), b.item(), scaler.get_scale()) == (0, 1, 1)


def test_reading_the_scale_while_capturing_is_refused():
    run = Run()

    @lg.compute_graph
    def step():
        return run.w * run.scaler.get_scale()

    with pytest.raises(CaptureError, match="value of a tensor"):
        step()


def test_a_trace_that_failed_leaves_no_step_behind():
    run = Run()
    fails = [True]

    def step(x):
        run.optimizer.zero_grad()
        run.scaler.scale((run.w * x).sum()).backward()
        run.scaler.unscale_(run.optimizer)
        if fails[0]:
            raise ZeroDivisionError
        run.scaler.step(run.optimizer)
        run.scaler.update()

    captured = lg.compute_graph(step)
    with pytest.raises(ZeroDivisionError):
        captured(lg.tensor(1.0))
    fails[0] = False
    captured(lg.tensor(1.0))
    assert run.w.tolist() != [1, 2]


def test_other_factors_are_captured_again():
    run = Run(growth_interval=1)
    step = lg.compute_graph(run.step)
    step(lg.tensor(1.0))
    assert run.scaler.get_scale() == 16
    run.scaler.set_growth_factor(4.0)
    step(lg.tensor(1.0))
    assert run.scaler.get_scale() == 64
    run.scaler.set_growth_interval(3)
    run.scaler.set_backoff_factor(0.25)
    step(lg.tensor(math.inf))
    assert run.scaler.get_scale() == 16
    assert (run.scaler.get_growth_factor(), run.scaler.get_backoff_factor()) == (4, 0.25)
    assert run.scaler.get_growth_interval() == 3


def test_state_dicts():
    run, other = Run(growth_interval=5), Run(init_scale=1.0)
    step = lg.compute_graph(other.step)
    step(lg.tensor(1.0))
    run.step(lg.tensor(1.0))
    saved = run.scaler.state_dict()
    assert saved == {
        "scale": 8.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 5,
        "_growth_tracker": 1,
    }  # fmt: skip
    other.scaler.load_state_dict(saved)
    assert other.scaler.state_dict() == saved
    for _ in range(4):
        step(lg.tensor(1.0))
    assert other.scaler.get_scale() == 16
    off = GradScaler(enabled=False)
    assert off.state_dict() == {}
    with pytest.raises(ArgumentError, match="empty"):
        run.scaler.load_state_dict({})


def test_setting_the_scale():
    run = Run()
    run.scaler.update(2.0)
    assert run.scaler.get_scale() == 2
    run.scaler.update(lg.tensor(4.0))
    assert run.scaler.get_scale() == 4


def test_without_being_enabled_it_only_steps():
    run = Run(kind=lg.optim.SGD, enabled=False)
    loss = run.w.sum()
    assert run.scaler.scale(loss) is loss
    loss.backward()
    run.scaler.unscale_(run.optimizer)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    assert run.w.tolist() == pytest.approx([0.9, 1.9])
    assert (run.scaler.get_scale(), run.scaler.is_enabled()) == (1, False)


def test_memory_is_flat_when_nobody_reads_the_scale():
    run = Run(kind=lg.optim.SGD)
    for _ in range(3):
        run.step(lg.tensor(1.0))
    before = lg.memory_stats()["pending"], len(lg.get_default_graph())
    for _ in range(50):
        run.step(lg.tensor(1.0))
    assert lg.memory_stats()["pending"] <= before[0]
    assert len(lg.get_default_graph()) <= before[1]


def test_misuse():
    run = Run()
    with pytest.raises(GradientError, match="without a step"):
        run.scaler.update()
    with pytest.raises(GradientError, match="has a gradient"):
        run.scaler.step(run.optimizer)
    run.scaler.scale(run.w.sum()).backward()
    run.scaler.unscale_(run.optimizer)
    with pytest.raises(GradientError, match="already been called on this optimizer"):
        run.scaler.unscale_(run.optimizer)
    run.scaler.step(run.optimizer)
    with pytest.raises(GradientError, match="after step"):
        run.scaler.unscale_(run.optimizer)
    with pytest.raises(GradientError, match="since the last update"):
        run.scaler.step(run.optimizer)
    run.scaler.update()
    with pytest.raises(ArgumentError, match="closure"):
        run.scaler.step(run.optimizer, lambda: None)
    with pytest.raises(ArgumentTypeError, match="takes tensors"):
        run.scaler.scale(1.0)
    half = nn.Parameter(np.ones(2, np.float16))
    half.sum().backward()
    with pytest.raises(DTypeError, match="float32"):
        run.scaler.unscale_(lg.optim.SGD([half], lr=0.1))
    for wrong in (
        {"growth_factor": 1.0}, {"backoff_factor": 1.0}, {"growth_interval": 0}, {"init_scale": 0},
    ):  # fmt: skip
        with pytest.raises(ArgumentError):
            GradScaler(**wrong)
    with pytest.raises(ArgumentTypeError, match="device"):
        GradScaler(2.0**16)
