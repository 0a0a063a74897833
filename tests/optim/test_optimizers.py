"""Optimizers: groups, cells, errors, state dicts, resuming."""

import copy
import math
import pickle

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn, optim
from lazygrad.errors import ArgumentError, ArgumentTypeError, CaptureError, StateDictError

KINDS = [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    lambda p: optim.Adam(p, lr=0.05, amsgrad=True),
    lambda p: optim.AdamW(p, lr=0.05),
    lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1),
]


def model_of(seed: int = 0) -> nn.Sequential:
    lg.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def make_step(model, optimizer, wrap=None):
    def step(x):
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return step if wrap is None else wrap(step)


def values(model) -> list[np.ndarray]:
    return [p.numpy(copy=True) for p in model.parameters()]


def assert_same(a, b) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


# Cells and groups.


def test_hyper_parameters_read_and_write_as_floats() -> None:
    opt = optim.Adam(model_of().parameters(), lr=1)
    group = opt.param_groups[0]
    assert group["lr"] == 1.0 and type(group["lr"]) is float
    group["lr"] = 0.3
    assert opt.lr == 0.3
    opt.lr = 0.1
    assert group["lr"] == 0.1 and group["betas"] == (0.9, 0.999)
    group["betas"] = [0.5, 0.6]
    assert group["betas"] == (0.5, 0.6)
    group["mine"] = "note"
    assert {"params", "lr", "mine", "amsgrad"} <= set(group) and group.get("nothing") is None
    assert group.setdefault("mine", 1) == "note"
    del group["mine"]
    with pytest.raises(KeyError, match="did you mean 'lr'"):
        group["lrr"]
    assert "lr: 0.1" in repr(opt) and "'lr': 0.1" in repr(group)


def test_groups_have_their_own_hyper_parameters() -> None:
    model = model_of()
    opt = optim.SGD(
        [{"params": model[0].parameters()}, {"params": model[2].weight, "lr": 0.0}], lr=0.1
    )
    opt.add_param_group({"params": list(model[2].named_parameters())[1:], "lr": 1.0})
    before = values(model)
    step = make_step(model, opt)
    step(lg.ones(1, 3))
    moved = [not np.array_equal(a, b) for a, b in zip(before, values(model), strict=True)]
    assert moved == [True, True, False, True]


def test_tensors_that_are_no_parameters_can_be_optimized() -> None:
    w = lg.tensor([1.0], requires_grad=True)
    opt = optim.SGD([w], lr=0.5)
    (w * 2).sum().backward()
    opt.step()
    assert w.item() == 0


def test_parameters_without_a_gradient_are_skipped() -> None:
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    opt = optim.Adam([a, b], lr=0.1)
    opt.step()
    assert opt.state == {}
    (a * 2).sum().backward()
    opt.step()
    assert a.item() < 1 and b.item() == 1 and b not in opt.state


def test_a_closure_is_evaluated_with_gradients() -> None:
    w = nn.Parameter([3.0])
    opt = optim.SGD([w], lr=0.1)

    def closure():
        opt.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with lg.no_grad():
        assert opt.step(closure).item() == 9
    assert w.item() == pytest.approx(2.4)


def test_zero_grad_drops_or_zeroes() -> None:
    w = nn.Parameter([3.0])
    opt = optim.SGD([w], lr=0.1)
    (w * w).sum().backward()
    opt.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0]
    opt.zero_grad()
    assert w.grad is None


@pytest.mark.parametrize("dtype", [lg.float16, lg.bfloat16, lg.float64])
def test_parameters_keep_their_dtype(dtype) -> None:
    w = nn.Parameter(np.ones(3), dtype=dtype)
    opt = optim.AdamW([w], lr=0.1)
    (w * w).sum().backward()
    opt.step()
    assert w.dtype is dtype and opt.state[w]["exp_avg"].dtype is dtype
    assert float(w[0]) == pytest.approx(0.9, rel=1e-2)


def test_a_scalar_parameter() -> None:
    w = nn.Parameter(2.0)
    opt = optim.Adam([w], lr=0.1)
    (w * w).backward()
    opt.step()
    assert w.shape == () and w.dtype is lg.float32 and w.item() == pytest.approx(1.9)


@pytest.mark.parametrize("wrap", [None, lg.compute_graph])
def test_moments_follow_a_model_that_is_converted(wrap) -> None:
    model = model_of()
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = make_step(model, opt, wrap)
    step(lg.ones(1, 3))
    velocity = opt.state[model[0].weight]["momentum_buffer"].numpy(copy=True)
    weight = model[0].weight.numpy(copy=True).astype(np.float64)
    model.double()
    step(lg.ones(1, 3, dtype=lg.float64))
    held = opt.state[model[0].weight]["momentum_buffer"]
    assert held.dtype is lg.float64
    np.testing.assert_allclose(weight - 0.1 * held.numpy(), model[0].weight.numpy(), rtol=1e-15)
    fresh = held.numpy() - 0.9 * velocity.astype(np.float64)
    np.testing.assert_allclose(fresh, model[0].weight.grad.numpy(), rtol=1e-6, atol=1e-9)


# Errors.


@pytest.mark.parametrize("lr", [float("nan"), -0.1, math.inf])
def test_a_senseless_learning_rate_raises(lr: float) -> None:
    w = [nn.Parameter([1.0])]
    with pytest.raises(ArgumentError, match=r"the learning rate \(lr\) must be a finite number"):
        optim.SGD(w, lr=lr)
    opt = optim.Adam(w)
    with pytest.raises(ValueError, match="learning rate"):
        opt.param_groups[0]["lr"] = lr
    with pytest.raises(ValueError, match="learning rate"):
        opt.lr = lr
    assert opt.lr == 1e-3


def test_other_senseless_arguments_raise() -> None:
    w = nn.Parameter([1.0])
    with pytest.raises(ArgumentError, match="SGD got an empty parameter list"):
        optim.SGD([], lr=0.1)
    with pytest.raises(ArgumentError, match="empty parameter list in a group"):
        optim.SGD([{"params": []}], lr=0.1)
    with pytest.raises(ArgumentTypeError, match=r"got a single Parameter; write \[params\]"):
        optim.SGD(w, lr=0.1)
    with pytest.raises(ArgumentTypeError, match="takes tensors, got float"):
        optim.SGD([1.0], lr=0.1)
    with pytest.raises(ArgumentError, match="result of operations"):
        optim.SGD([w * 2], lr=0.1)
    with pytest.raises(ArgumentError, match=r"a parameter of shape \(1,\) appears twice"):
        optim.SGD([w, w], lr=0.1)
    with pytest.raises(ArgumentError, match="appears twice"):
        optim.SGD([{"params": [w]}, {"params": [w]}], lr=0.1)
    with pytest.raises(ArgumentTypeError, match="lr must be a number, got 'fast'"):
        optim.SGD([w], lr="fast")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"the betas must be in \[0, 1\), got 1.0"):
        optim.Adam([w], betas=(0.9, 1.0))
    with pytest.raises(ArgumentError, match="momentum must be a finite number >= 0, got -1"):
        optim.SGD([w], momentum=-1)
    with pytest.raises(ArgumentError, match="Nesterov momentum requires a momentum"):
        optim.SGD([w], nesterov=True)
    with pytest.raises(ArgumentError, match="betas takes 2 numbers, got 0"):
        optim.Adam([w]).param_groups[0]["betas"] = 0.9
    with pytest.raises(ArgumentTypeError, match="a group is a mapping with 'params'"):
        optim.SGD([w]).add_param_group({"lr": 1})
    with pytest.raises(ArgumentError, match="params of a group are fixed"):
        optim.SGD([w]).param_groups[0]["params"] = []


# Captured steps.


def test_changing_the_learning_rate_never_traces_again() -> None:
    plain, model = model_of(), model_of()
    opts = [optim.AdamW(m.parameters(), lr=0.1) for m in (plain, model)]
    eager, captured = make_step(plain, opts[0]), make_step(model, opts[1], lg.compute_graph)
    x = lg.randn(4, 3)
    captured(x), eager(x)
    for k in range(20):
        for opt in opts:
            opt.param_groups[0]["lr"] = 0.0 if k == 7 else 0.1 / (k + 1)
            opt.param_groups[0]["betas"] = (0.9 - k / 100, 0.99)
            opt.param_groups[0]["weight_decay"] = 0.1 + k / 10
            opt.param_groups[0]["eps"] = 10.0 ** -(k + 1)
        assert captured(x).item() == eager(x).item()
    assert_same(values(plain), values(model))
    assert captured.cache_info().misses <= 2  # the second: gradients are there from now on


def test_switching_momentum_on_and_off_traces_again() -> None:
    plain, model = model_of(), model_of()
    opts = [optim.SGD(m.parameters(), lr=0.1) for m in (plain, model)]
    eager, captured = make_step(plain, opts[0]), make_step(model, opts[1], lg.compute_graph)
    x = lg.randn(4, 3)
    for k in range(12):
        for opt in opts:
            opt.param_groups[0]["momentum"] = 0.9 if k % 4 > 1 else 0.0
            opt.param_groups[0]["weight_decay"] = 0.1 if k > 8 else 0.0
        assert captured(x).item() == eager(x).item()
    assert_same(values(plain), values(model))


def test_adding_a_group_after_capturing() -> None:
    results = []
    for wrap in (None, lg.compute_graph):
        model = model_of()
        opt = optim.SGD(model[0].parameters(), lr=0.1, momentum=0.5)
        step = make_step(model, opt, wrap)
        x = lg.ones(2, 3)
        step(x)
        opt.add_param_group({"params": model[2].parameters(), "lr": 0.01})
        step(x), step(x)
        results.append(values(model))
    assert_same(*results)


def test_hyper_parameters_are_out_of_reach_inside_of_a_captured_function() -> None:
    w = nn.Parameter([1.0])
    opt = optim.SGD([w], lr=0.1)
    schedule = optim.lr_scheduler.ExponentialLR(opt, 0.5)

    @lg.compute_graph
    def reads(x):
        return x * opt.param_groups[0]["lr"]

    @lg.compute_graph
    def writes(x):
        schedule.step()
        return x

    with pytest.raises(CaptureError, match=r"reading param_groups\[...\]\['lr'\] inside"):
        reads(lg.ones(1))
    with pytest.raises(CaptureError, match="captured function"):
        writes(lg.ones(1))
    assert opt.lr == 0.1
    assert schedule.last_epoch == 0


# State dicts.


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("wrap", [None, lg.compute_graph])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(make, wrap) -> None:
    x = lg.randn(4, 3)
    whole = model_of()
    step = make_step(whole, make(whole.parameters()), wrap)
    first = model_of()
    opt = make(first.parameters())
    early = make_step(first, opt, wrap)
    for _ in range(3):
        early(x), step(x)
    second = model_of(1)
    second.load_state_dict(first.state_dict())
    resumed = make(second.parameters())
    resumed.load_state_dict(opt.state_dict())
    late = make_step(second, resumed, wrap)
    for _ in range(3):
        late(x), step(x)
    assert_same(values(whole), values(second))
    again = resumed.state_dict()
    resumed.load_state_dict(again)
    for number, entry in again["state"].items():
        for name, tensor in entry.items():
            held = resumed.state_dict()["state"][number][name]
            np.testing.assert_array_equal(held.numpy(), tensor.numpy())


def test_loading_into_a_captured_run_goes_back_in_time() -> None:
    model = model_of()
    opt = optim.Adam(model.parameters(), lr=0.1)
    step = make_step(model, opt, lg.compute_graph)
    x = lg.randn(4, 3)
    start = model.state_dict(), opt.state_dict()
    step(x), step(x)
    saved = model.state_dict(), opt.state_dict()
    losses = [step(x).item() for _ in range(3)]
    model.load_state_dict(saved[0])
    opt.load_state_dict(saved[1])
    assert [step(x).item() for _ in range(3)] == losses
    model.load_state_dict(start[0])
    opt.load_state_dict(start[1])  # without any state: it begins anew
    step(x), step(x)
    assert [step(x).item() for _ in range(3)] == losses
    assert step.cache_info().misses <= 2


def test_the_layout_is_that_of_pytorch() -> None:
    model = model_of()
    opt = optim.Adam(
        [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 1.0}]
    )
    make_step(model, opt)(lg.ones(1, 3))
    given = opt.state_dict()
    assert sorted(given["state"]) == [0, 1, 2, 3]
    assert sorted(given["state"][2]) == ["exp_avg", "exp_avg_sq", "step"]
    assert given["state"][2]["step"].item() == 1
    assert [g["params"] for g in given["param_groups"]] == [[0, 1], [2, 3]]
    assert [g["lr"] for g in given["param_groups"]] == [1e-3, 1.0]
    assert given["param_groups"][0]["betas"] == (0.9, 0.999)


def test_a_state_dict_does_not_change_afterwards() -> None:
    model = model_of()
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = make_step(model, opt)
    x = lg.ones(1, 3)
    step(x)
    given = opt.state_dict()
    before = given["state"][0]["momentum_buffer"].numpy(copy=True)
    step(x)
    np.testing.assert_array_equal(given["state"][0]["momentum_buffer"].numpy(), before)


def test_every_problem_of_a_state_dict_is_listed_and_nothing_is_loaded() -> None:
    model = model_of()
    opt = optim.Adam(model.parameters(), lr=0.1)
    make_step(model, opt)(lg.ones(1, 3))
    given = opt.state_dict()
    given["state"][0]["exp_avg"] = lg.zeros(3)
    given["state"][1]["velocity"] = lg.zeros(4)
    given["param_groups"][0]["lr"] = float("nan")
    given["param_groups"][0]["eps"] = 0.5
    before = opt.state[model[0].weight]["exp_avg"].numpy(copy=True)
    with pytest.raises(StateDictError) as caught:
        opt.load_state_dict(given)
    for line in (
        "the state dict does not fit Adam; nothing was loaded:",
        "param_groups[0]: the learning rate (lr) must be a finite number >= 0, got nan",
        "state[0]: exp_avg has shape (3,) where (4, 3) is needed",
        "state[1]: unexpected 'velocity'",
    ):
        assert line in str(caught.value)
    assert opt.lr == 0.1 and opt.param_groups[0]["eps"] == 1e-8
    np.testing.assert_array_equal(opt.state[model[0].weight]["exp_avg"].numpy(), before)
    with pytest.raises(StateDictError, match="2 parameter groups where there are 1"):
        opt.load_state_dict({"state": {}, "param_groups": given["param_groups"] * 2})
    with pytest.raises(StateDictError, match="it has no 'state' and 'param_groups'"):
        opt.load_state_dict({"lr": 1})
    del given["param_groups"][0]["params"][0]
    with pytest.raises(StateDictError, match="3 parameters where there are 4"):
        opt.load_state_dict(given)


def test_copies_of_model_and_optimizer_go_on_together() -> None:
    model = model_of()
    opt = optim.AdamW(model.parameters(), lr=0.1)
    x = lg.randn(4, 3)
    make_step(model, opt)(x)
    for twin, twin_opt in (
        copy.deepcopy((model, opt)),
        pickle.loads(pickle.dumps((model, opt))),
    ):
        assert twin_opt.param_groups[0]["params"][0] is twin.parameters()[0]
        original = copy.deepcopy((model, opt))
        make_step(twin, twin_opt)(x)
        make_step(*original)(x)
        assert_same(values(twin), values(original[0]))
