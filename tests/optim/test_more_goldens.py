"""The later optimizers, schedules and averages against PyTorch 2.13, captured and not."""

from pathlib import Path

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.errors import ArgumentError, CaptureError, StateDictError
from tests.golden import cases_optim as cases

GOLDENS = np.load(Path(cases.__file__).with_name("goldens_optim.npz"))


@pytest.mark.parametrize("name", cases.RUNS)
def test_training_is_that_of_pytorch_captured_or_not(name: str) -> None:
    run, case = cases.RUNS[name]
    plain = run(lg, case)
    captured = run(lg, case, wrap=lg.compute_graph)
    for part, values in plain.items():
        np.testing.assert_array_equal(captured[part], values)
        wanted = GOLDENS[f"{name}/{part}"]
        np.testing.assert_allclose(values, wanted, rtol=1e-9, atol=1e-13)


def _closure(opt: lg.optim.Optimizer, w: lg.Tensor) -> lg.Tensor:
    opt.zero_grad()
    loss = ((w - 2) ** 4).sum()
    loss.backward()
    return loss


@pytest.mark.parametrize("kind", ["NAdam", "LBFGS"])
def test_a_resumed_run_goes_on_as_the_first_one(kind: str) -> None:
    w = lg.nn.Parameter(np.array([1.0, -30.0]))
    options = {"max_iter": 2} if kind == "LBFGS" else {}
    opt = getattr(lg.optim, kind)([w], **options)
    step = (lambda: opt.step(lambda: _closure(opt, w))) if kind == "LBFGS" else None
    for _ in range(3):
        step() if step else (_closure(opt, w), opt.step())
    held, start = opt.state_dict(), w.tolist()
    other = lg.nn.Parameter(np.array(start))
    resumed = getattr(lg.optim, kind)([other], lr=0.7, **options)
    resumed.load_state_dict(held)
    for o, p in ((opt, w), (resumed, other)):
        _closure(o, p)
        o.step(lambda o=o, p=p: _closure(o, p)) if kind == "LBFGS" else o.step()
    assert other.tolist() == w.tolist() != start


def test_mu_product_is_in_the_state_dict() -> None:
    w = lg.nn.Parameter([1.0])
    opt = lg.optim.NAdam([w])
    (w * w).sum().backward()
    opt.step()
    entry = opt.state_dict()["state"][0]
    assert sorted(entry) == ["exp_avg", "exp_avg_sq", "mu_product", "step"]
    assert entry["mu_product"].item() == pytest.approx(0.9 * (1 - 0.5 * 0.96**0.004))


def test_lbfgs_says_what_it_needs() -> None:
    w = lg.nn.Parameter([1.0])
    opt = lg.optim.LBFGS([w])
    with pytest.raises(ArgumentError, match="closure"):
        opt.step()
    with pytest.raises(CaptureError, match="capture the closure"):
        lg.compute_graph(lambda: opt.step(lambda: _closure(opt, w)))()
    with pytest.raises(ArgumentError, match="one group"):
        opt.add_param_group({"params": [lg.nn.Parameter([2.0])]})
    with pytest.raises(ArgumentError, match="strong_wolfe"):
        lg.optim.LBFGS([w], line_search_fn="armijo")
    opt.step(lambda: _closure(opt, w))
    with pytest.raises(StateDictError, match="d has shape"):
        lg.optim.LBFGS([lg.nn.Parameter([1.0, 2.0])]).load_state_dict(opt.state_dict())


@pytest.mark.parametrize("flag", ["foreach", "fused", "capturable"])
def test_pytorch_s_choices_of_an_implementation_are_accepted(flag: str) -> None:
    ends = []
    for given in ({}, {flag: True}, {flag: False}):
        w = lg.nn.Parameter([1.0, -3.0])
        opt = lg.optim.AdamW([w], lr=0.1, **given)
        (w * w).sum().backward()
        opt.step()
        ends.append(w.tolist())
    assert ends[0] == ends[1] == ends[2] != [1.0, -3.0]


def test_other_flags_of_optimizers_are_refused() -> None:
    w = lg.nn.Parameter([1.0])
    with pytest.raises(ArgumentError, match="differentiable"):
        lg.optim.SGD([w], lr=0.1, differentiable=True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'momentun'"):
        lg.optim.SGD([w], lr=0.1, momentun=0.9)
