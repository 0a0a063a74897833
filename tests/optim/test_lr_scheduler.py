"""Schedules: cells, resuming, state dicts, errors. Their numbers are in the goldens."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn, optim
from lazygrad.errors import ArgumentError, ArgumentTypeError
from lazygrad.optim import lr_scheduler as sched


def optimizer(lr: float = 1.0, **options) -> optim.SGD:
    return optim.SGD([nn.Parameter([1.0])], lr=lr, **options)


MAKERS = [
    lambda o, **k: sched.LambdaLR(o, lambda e: 0.9**e, **k),
    lambda o, **k: sched.StepLR(o, 2, 0.5, **k),
    lambda o, **k: sched.MultiStepLR(o, [1, 4], 0.5, **k),
    lambda o, **k: sched.ConstantLR(o, 0.5, 4, **k),
    lambda o, **k: sched.LinearLR(o, 0.5, 1.0, 6, **k),
    lambda o, **k: sched.ExponentialLR(o, 0.9, **k),
    lambda o, **k: sched.PolynomialLR(o, 8, 2.0, **k),
    lambda o, **k: sched.CosineAnnealingLR(o, 4, 0.1, **k),
    lambda o, **k: sched.CosineAnnealingWarmRestarts(o, 3, **k),
    lambda o, **k: sched.OneCycleLR(o, 0.5, total_steps=10, cycle_momentum=False, **k),
]


def run(schedule: sched.LRScheduler, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        schedule.step()
        rates.append(schedule.optimizer.lr)
        assert schedule.get_last_lr() == [rates[-1]]
    return rates


@pytest.mark.parametrize("make", MAKERS)
def test_a_schedule_never_traces_again(make) -> None:
    w = nn.Parameter([1.0])
    opt = optim.SGD([w], lr=0.01)
    schedule = make(opt)

    @lg.compute_graph
    def step(x):
        opt.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        opt.step()
        return loss

    before = 1.0
    for _ in range(8):
        rate = opt.lr
        step(lg.ones(1)).item()
        assert w.item() == pytest.approx(before - rate, abs=1e-6)
        before = w.item()
        schedule.step()
    assert step.cache_info().misses == 1


@pytest.mark.parametrize("make", MAKERS)
def test_resuming_by_state_dicts_or_by_last_epoch_goes_on_as_before(make) -> None:
    opt = optimizer()
    schedule = make(opt)
    run(schedule, 3)
    saved = opt.state_dict(), schedule.state_dict()
    wanted = run(schedule, 5)
    other = optimizer(7.0)
    resumed = make(other)
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    np.testing.assert_allclose(run(resumed, 5), wanted, rtol=1e-12)
    third = optimizer(7.0)
    third.load_state_dict(saved[0])
    resumed = make(third, last_epoch=2)
    assert third.lr == saved[0]["param_groups"][0]["lr"] and resumed.last_epoch == 3
    np.testing.assert_allclose(run(resumed, 5), wanted, rtol=1e-12)


def test_state_dicts_survive_a_file(tmp_path) -> None:
    opt = optimizer(momentum=0.9)
    schedule = sched.SequentialLR(
        opt, [sched.ConstantLR(opt, 0.1, 2), sched.CosineAnnealingLR(opt, 5)], [3]
    )
    run(schedule, 4)
    lg.save({"opt": opt.state_dict(), "schedule": schedule.state_dict()}, tmp_path / "s")
    wanted = run(schedule, 4)
    other = optimizer(momentum=0.1)
    resumed = sched.SequentialLR(
        other, [sched.ConstantLR(other, 0.1, 2), sched.CosineAnnealingLR(other, 5)], [3]
    )
    loaded = lg.load(tmp_path / "s")
    other.load_state_dict(loaded["opt"])
    resumed.load_state_dict(loaded["schedule"])
    assert run(resumed, 4) == wanted


def test_a_plateau_is_left_by_state_dict_too() -> None:
    opt = optimizer()
    schedule = sched.ReduceLROnPlateau(opt, factor=0.5, patience=1)
    for _ in range(3):
        schedule.step(lg.tensor(1.0))
    assert opt.lr == 0.5 and schedule.get_last_lr() == [0.5]
    other = sched.ReduceLROnPlateau(optimizer(), factor=0.5, patience=1)
    other.load_state_dict(schedule.state_dict())
    assert (other.best, other.last_epoch) == (1.0, 3)


def test_a_cycle_moves_momentum_or_the_first_beta() -> None:
    opt = optimizer(momentum=0.5)
    cycle = sched.OneCycleLR(opt, 1.0, total_steps=11, pct_start=0.5)
    assert opt.param_groups[0]["momentum"] == 0.95
    low = []
    for _ in range(10):
        cycle.step()
        low.append(opt.param_groups[0]["momentum"])
    assert min(low) == pytest.approx(0.85, abs=0.01) and low[-1] == pytest.approx(0.95)
    with pytest.raises(ArgumentError, match="step 12 of a cycle of 11 steps"):
        cycle.step(), cycle.step()
    adam = optim.Adam([nn.Parameter([1.0])])
    sched.OneCycleLR(adam, 1.0, epochs=2, steps_per_epoch=5)
    assert adam.param_groups[0]["betas"] == (0.95, 0.999)


def test_senseless_arguments_raise() -> None:
    opt = optimizer()
    cases = [
        (lambda: sched.StepLR(opt, 0), "step_size must be an integer of at least 1, got 0"),
        (lambda: sched.ConstantLR(opt, 2.0), "factor must be between 0 and 1, got 2.0"),
        (lambda: sched.LinearLR(opt, 0.0), "start_factor must be above 0 and at most 1, got 0"),
        (lambda: sched.LinearLR(opt, 1.0, -1.0), "end_factor must be between 0 and 1, got -1"),
        (lambda: sched.CosineAnnealingLR(opt, 2.5), "T_max must be an integer of at least 1"),
        (lambda: sched.LambdaLR(opt, [abs, abs]), "lr_lambda has 2 entries for 1 parameter group"),
        (lambda: sched.OneCycleLR(opt, 1.0), "needs total_steps, or epochs and steps_per_epoch"),
        (lambda: sched.OneCycleLR(opt, 1.0, 9, anneal_strategy="sin"), "'cos' or 'linear'"),
        (
            lambda: sched.OneCycleLR(optim.Adagrad([nn.Parameter([1.0])]), 1.0, 9),
            "Adagrad has no momentum to cycle; pass cycle_momentum=False",
        ),
        (lambda: sched.SequentialLR(opt, [], []), "at least one schedule, all of its optimizer"),
        (lambda: sched.SequentialLR(opt, [sched.StepLR(opt, 1)], [1]), "need 0 milestones, got 1"),
        (lambda: sched.ReduceLROnPlateau(opt, factor=1.0), "factor must be below 1, got 1.0"),
        (lambda: sched.ReduceLROnPlateau(opt, "mni"), "mode is 'min' or 'max'"),
        (lambda: sched.StepLR(optimizer(), 1, last_epoch=3), "has no 'initial_lr': load the"),
    ]
    for make, text in cases:
        with pytest.raises(ArgumentError, match=text):
            make()
    with pytest.raises(ArgumentTypeError, match="a schedule takes an Optimizer, got Parameter"):
        sched.StepLR(nn.Parameter([1.0]), 1)  # type: ignore[arg-type]


def test_a_schedule_that_gives_nan_says_so_and_changes_nothing() -> None:
    opt = optimizer()
    schedule = sched.LambdaLR(opt, lambda e: float("nan") if e == 2 else 1.0)
    schedule.step()
    with pytest.raises(ArgumentError, match="learning rate"):
        schedule.step()
    assert schedule.last_epoch == 1 and opt.lr == 1.0


def test_a_cycle_of_three_phases() -> None:
    opt = optimizer(momentum=0.5)
    cycle = sched.OneCycleLR(
        opt, 1.0, 10, div_factor=10.0, final_div_factor=10.0, three_phase=True,
        anneal_strategy="linear",
    )  # fmt: skip
    rates, momenta = [], []
    for _ in range(9):
        cycle.step()
        rates.append(opt.lr)
        momenta.append(opt.param_groups[0]["momentum"])
    assert rates == pytest.approx([0.55, 1, 0.55, 0.1, 0.082, 0.064, 0.046, 0.028, 0.01])
    assert momenta == pytest.approx([0.9, 0.85, 0.9, *[0.95] * 6])
