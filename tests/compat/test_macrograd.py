"""macrograd's optimizers, schedules and losses, against their formulas."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.compat import macrograd as mg

COMPAT = Path(mg.__file__).parent


@pytest.mark.parametrize("path", sorted(COMPAT.glob("*.py")), ids=lambda p: p.stem)
def test_a_file_of_renames_stays_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 150


def test_momentum_keeps_the_rate_in_its_velocity() -> None:
    w = lg.nn.Parameter([1.0, -2.0])
    optimizer = mg.SGD_Momentum([w], 0.1, alpha=0.5)
    value, velocity = np.array([1.0, -2.0]), np.zeros(2)
    for step, rate in enumerate((0.1, 0.1, 0.02)):
        optimizer.lr = rate
        (w * w).sum().backprop()
        assert optimizer.step([w]) == [w]
        velocity = 0.5 * velocity - rate * 2 * value
        value = value + velocity
        np.testing.assert_allclose(w.numpy(), value, rtol=1e-6, err_msg=str(step))


def test_alpha_must_be_a_fraction() -> None:
    with pytest.raises(lg.errors.ArgumentError, match="alpha must be at least 0 and below 1"):
        mg.SGD_Momentum([lg.nn.Parameter([1.0])], alpha=1.0)


@pytest.mark.parametrize(("minimizing", "expected"), [(True, [0.8, -1.6]), (False, [1.2, -2.4])])
def test_sgd_is_told_the_loss_and_the_parameters(minimizing: bool, expected: list[float]) -> None:
    w = lg.nn.Parameter([1.0, -2.0])
    optimizer = mg.SGD(0.1, minimizing)
    optimizer.step((w * w).sum(), [w])
    np.testing.assert_allclose(w.numpy(), expected, rtol=1e-6)
    optimizer.step((w * 0).sum(), [w])  # the old gradient does not count
    np.testing.assert_allclose(w.numpy(), expected, rtol=1e-6)
    other = lg.nn.Parameter([1.0])
    optimizer.step((other * 2).sum(), [other])
    assert other.item() == pytest.approx(0.8 if minimizing else 1.2)


class Rate:
    lr = 1.0


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        (mg.LinearScheduler(2, 0.0), [1.0, 0.5, 0.0, 0.0]),
        (mg.StepScheduler(0.5, decay_rate=2), [0.5, 0.5, 0.25, 0.25]),
    ],
    ids=["linear", "step"],
)
def test_schedulers(scheduler: Any, rates: list[float]) -> None:
    optimizer = Rate()
    assert [scheduler.step(optimizer).lr for _ in rates] == rates


def test_losses_and_functions() -> None:
    x = lg.tensor([[1.0, 2.0], [0.5, 0.25]])
    one_hot = lg.tensor([[0.0, 1.0], [1.0, 0.0]])
    p = mg.softmax(x)
    expected = -(np.log(p.numpy()) * one_hot.numpy()).sum() / 2
    assert mg.cross_entropy(one_hot, p).item() == pytest.approx(expected, rel=1e-6)
    assert mg.MSE(x, one_hot).item() == pytest.approx(((x - one_hot) ** 2).mean().item())
    assert mg.BCE(p, one_hot).item() == pytest.approx(expected, rel=1e-6)
    for name, reference in (("sin", np.sin), ("cos", np.cos), ("ln", np.log), ("log2", np.log2)):
        np.testing.assert_allclose(getattr(mg, name)(x).numpy(), reference(x.numpy()), rtol=1e-6)
    np.testing.assert_allclose((mg.e**x).numpy(), np.exp(x.numpy()), rtol=1e-6)


def test_two_models_share_no_parameters() -> None:
    class Net(mg.Model):
        def __init__(self) -> None:
            super().__init__()
            self.layer = mg.Linear(3, 2)

        def __call__(self, data: mg.Tensor) -> mg.Tensor:
            return mg.softmax(self.layer(data))

    a, b = Net(), Net()
    assert [p.shape for p in a.parameters()] == [(3, 2), (2,)]
    assert not {id(p) for p in a.parameters()} & {id(p) for p in b.parameters()}
    assert a(lg.ones(4, 3)).shape == (4, 2)
