"""What repeats costs the same again and changes nothing: binders, shared gradients, watched states.

The fast ways take a lot for granted. These tests do to a training loop what could break that, at
random moments, beside a loop that is not captured, and look for one different bit.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn, optim
from lazygrad.errors import IndexOutOfRangeError

F = nn.functional
CLASSES, FEATURES = 3, 6


class Loop:
    """A model in training, captured or not, and what its user has kept."""

    def __init__(self, model: Any, captured: bool, adam: bool) -> None:
        self.model = model
        self.captured = captured
        make = optim.AdamW if adam else optim.SGD
        self.optimizer = make(model.parameters(), lr=0.05)
        self.generator = lg.get_rng_state()
        self.seen: list[Any] = []  # values
        self.kept: list[tuple[Any, Any]] = []  # something held, a copy of its value
        self.pending: list[Any] = []  # lazy tensors that are read later
        self.scale = 1.0

        def forward(x: Any, y: Any, scale: float) -> Any:
            return F.cross_entropy(self.model(x), y) * scale

        def step(x: Any, y: Any, scale: float) -> Any:
            self.optimizer.zero_grad()
            loss = forward(x, y, scale)
            loss.backward()
            self.optimizer.step()
            return loss

        wrap: Callable[[Any], Any] = lg.compute_graph if captured else _on_tensors
        self.forward, self.step = wrap(forward), wrap(step)

    def parameter(self, k: int) -> Any:
        """One of the parameters."""
        found = [*self.model.parameters()]
        return found[k % len(found)]


def _on_tensors(fn: Any) -> Any:
    return lambda x, y, scale: fn(lg.tensor(x), lg.tensor(y), scale)


def train(t: Loop, x: Any, y: Any, k: int) -> None:
    t.seen.append(float(t.step(x, y, t.scale)))


def train_in_calls(t: Loop, x: Any, y: Any, k: int) -> None:
    loss = t.forward(x, y, t.scale)
    t.optimizer.zero_grad()
    loss.backward()
    t.optimizer.step()
    t.seen.append(loss.item())


def overwrite_inputs(t: Loop, x: Any, y: Any, k: int) -> None:
    x, y = x.copy(), y.copy()
    t.optimizer.zero_grad()
    loss = t.forward(x, y, t.scale)
    x[...], y[...] = np.nan, 0
    loss.backward()
    t.optimizer.step()
    t.seen.append(loss.item())


def accumulate(t: Loop, x: Any, y: Any, k: int) -> None:
    t.forward(x, y, t.scale).backward()
    t.forward(x, y, 0.5).backward()
    t.optimizer.step()


def assign_gradients(t: Loop, x: Any, y: Any, k: int) -> None:
    t.forward(x, y, t.scale).backprop()
    t.optimizer.step()


def clip(t: Loop, x: Any, y: Any, k: int) -> None:
    t.optimizer.zero_grad()
    t.forward(x, y, t.scale).backward()
    t.seen.append(nn.utils.clip_grad_norm_(t.model.parameters(), 0.1).item())
    t.optimizer.step()


def hold_gradient(t: Loop, x: Any, y: Any, k: int) -> None:
    grad = t.parameter(k).grad
    if grad is not None:
        t.kept.append((grad, grad.numpy(copy=True)))


def hold_view(t: Loop, x: Any, y: Any, k: int) -> None:
    view = t.parameter(k).numpy()
    t.kept.append((view, view.copy()))


def hold_loss(t: Loop, x: Any, y: Any, k: int) -> None:
    loss = t.step(x, y, t.scale)
    t.kept.append((loss, loss.numpy(copy=True)))


def wait(t: Loop, x: Any, y: Any, k: int) -> None:
    t.pending.append(t.forward(x, y, t.scale))


def wait_for_weight(t: Loop, x: Any, y: Any, k: int) -> None:
    t.pending.append((t.parameter(k) * 2).sum())


def add_up(t: Loop, x: Any, y: Any, k: int) -> None:
    t.pending.append(t.step(x, y, t.scale) + t.step(x, y, t.scale))


def read(t: Loop, x: Any, y: Any, k: int) -> None:
    t.seen += [p.item() for p in t.pending]
    t.pending.clear()


def evaluate(t: Loop, x: Any, y: Any, k: int) -> None:
    with lg.no_grad():
        t.seen.append(t.forward(x, y, t.scale).item())


def write(t: Loop, x: Any, y: Any, k: int) -> None:
    p = t.parameter(k)
    p.data = p.data * np.float32(0.5)


def write_between(t: Loop, x: Any, y: Any, k: int) -> None:
    t.optimizer.zero_grad()
    loss = t.forward(x, y, t.scale)
    with lg.no_grad():
        t.parameter(k).mul_(0.5)
    loss.backward()
    t.optimizer.step()
    t.seen.append(loss.item())


def drop_one(t: Loop, x: Any, y: Any, k: int) -> None:
    t.parameter(k).grad = None


def give_one(t: Loop, x: Any, y: Any, k: int) -> None:
    p = t.parameter(k)
    p.grad = lg.ones(*p.shape)


def drop_all(t: Loop, x: Any, y: Any, k: int) -> None:
    (t.model if k % 2 else t.optimizer).zero_grad()
    assert all(p.grad is None for p in t.model.parameters())


def other_rate(t: Loop, x: Any, y: Any, k: int) -> None:
    t.optimizer.lr = 0.01 * (1 + k % 4)


def other_scale(t: Loop, x: Any, y: Any, k: int) -> None:
    t.scale = 0.25 * (1 + k % 4)


def other_mode(t: Loop, x: Any, y: Any, k: int) -> None:
    t.model.train(bool(k % 2))


def freeze(t: Loop, x: Any, y: Any, k: int) -> None:
    p = t.model[0].bias
    p.requires_grad_(not p.requires_grad)


def fail(t: Loop, x: Any, y: Any, k: int) -> None:
    if not t.captured:
        return  # its random numbers are drawn, its gradients dropped: a failed call undoes that
    grads = [None if p.grad is None else p.grad.numpy(copy=True) for p in t.model.parameters()]
    with pytest.raises(IndexOutOfRangeError):
        t.step(x, np.full_like(y, CLASSES + 7), t.scale)
    for p, grad in zip(t.model.parameters(), grads, strict=True):
        assert (p.grad is None) == (grad is None)
        if p.grad is not None:
            np.testing.assert_array_equal(p.grad.numpy(), grad)


def hooked(t: Loop, x: Any, y: Any, k: int) -> None:
    handle = t.model[0].weight.register_hook(lambda g: g * 0.5)
    train(t, x, y, k)
    train_in_calls(t, x, y, k)
    handle.remove()


STEPS = [train, train_in_calls]
ACTIONS = [
    overwrite_inputs, accumulate, assign_gradients, clip, hold_gradient, hold_view, hold_loss,
    wait, wait_for_weight, add_up, read, evaluate, write, write_between, drop_one, give_one,
    drop_all, other_rate, other_scale, other_mode, freeze, fail, hooked,
]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_a_loop_that_is_disturbed_keeps_its_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lg.manual_seed(seed)
    model = nn.Sequential(nn.Linear(FEATURES, 5), nn.ReLU(), nn.Dropout(0.3), nn.Linear(5, CLASSES))
    loops = [Loop(m, captured, seed % 2 == 0)
             for m, captured in ((copy.deepcopy(model), False), (model, True))]  # fmt: skip
    for turn in range(36):
        quiet = turn % 9 < 5  # long enough for everything to become steady
        action = STEPS[seed // 2 % 2] if quiet else ACTIONS[rng.integers(len(ACTIONS))]
        n = 3 if turn % 9 == 7 else 4
        x = rng.standard_normal((n, FEATURES)).astype(np.float32)
        y, k = rng.integers(0, CLASSES, n), int(rng.integers(8))
        for loop in loops:
            lg.set_rng_state(loop.generator)
            action(loop, x, y, k)
            loop.generator = lg.get_rng_state()
        plain, captured = loops
        assert plain.seen == captured.seen, action.__name__
        np.testing.assert_array_equal(plain.generator, captured.generator)
    for loop in loops:
        lg.set_rng_state(loop.generator)
        read(loop, None, None, 0)
        for held, value in loop.kept:
            np.testing.assert_array_equal(np.asarray(held), value)
    assert plain.seen == captured.seen
    for a, b in zip(plain.model.parameters(), captured.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None and b.grad is not None:
            np.testing.assert_array_equal(a.grad.numpy(), b.grad.numpy())
