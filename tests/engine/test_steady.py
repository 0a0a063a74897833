"""What repeats costs the same again and changes nothing: binders, shared gradients, watched states.

The fast ways take a lot for granted. These tests do to a training loop what could break that, at
random moments, beside a loop that is not captured, and look for one different bit.
"""

import copy
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn, optim
from lazygrad.engine.compute_graph import CapturedFunction
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


# that the fast ways are taken ---------------------------------------------------------------------


OURS = {
    "<binder>", "<turn>", "chain.py", "compute_graph.py", "gradients.py", "lazy.py", "light.py",
    "optimizer.py", "replay.py", "step.py", "storage.py", "tensor.py", "waiting.py",
}  # fmt: skip


def calls_of(fn: Callable[[], Any]) -> int:
    """How many Python functions run in a turn that has become usual, besides the program's."""
    counts: Counter[str] = Counter()

    def count(frame: Any, event: str, arg: Any) -> None:
        if Path(frame.f_code.co_filename).name in OURS:
            counts[event] += 1

    for _ in range(6):
        fn()
    sys.setprofile(count)
    try:
        fn()
    finally:
        sys.setprofile(None)
    return counts["call"]


@pytest.mark.compiled
@pytest.mark.parametrize("action", STEPS)
def test_the_python_side_does_not_grow_with_the_parameters(action: Any) -> None:
    x, y = np.ones((4, FEATURES), np.float32), np.zeros(4, np.int64)
    found = []
    for depth in (1, 12):
        layers = [nn.Linear(FEATURES, FEATURES) for _ in range(depth)]
        loop = Loop(nn.Sequential(*layers, nn.Linear(FEATURES, CLASSES)), True, False)
        found.append(calls_of(lambda loop=loop: action(loop, x, y, 0)))  # type: ignore[misc]
    assert 0 < found[0] == found[1] < 40


def served(fn: CapturedFunction) -> int:
    """How many calls have been served by binders."""
    return sum(entry.hits for entries in fn._entries.values() for entry in entries)


FORMS: list[Callable[..., Any]] = [
    lambda f, x, y: f(x, y),
    lambda f, x, y: f(y=y, x=x),
    lambda f, x, y: f(x, y, 0.5),
    lambda f, x, y: f(x, y, scale=0.5, double=True),
    lambda f, x, y: f(lg.tensor(x), lg.tensor(y)),
    lambda f, x, y: f(x, y) + f(x, y),
]


@pytest.mark.parametrize("form", range(len(FORMS)))
def test_every_form_of_a_call_is_served(form: int) -> None:
    loop = Loop(nn.Linear(FEATURES, CLASSES), True, False)

    @lg.compute_graph
    def step(x: Any, y: Any, scale: float = 1.0, *, double: bool = False) -> Any:
        loop.optimizer.zero_grad()
        loss = F.cross_entropy(loop.model(x), y) * scale
        loss.backward()
        loop.optimizer.step()
        return loss * 2 if double else loss

    x, y = np.ones((4, FEATURES), np.float32), np.zeros(4, np.int64)
    for _ in range(3):
        FORMS[form](step, x, y)
    before = served(step)
    results = [FORMS[form](step, x, y) for _ in range(4)]
    assert served(step) >= before + 4
    assert len({r.item() for r in results}) == 4
    assert step.cache_info().hits + step.cache_info().misses >= 7


def test_results_that_are_fed_back_are_served() -> None:
    """Hidden states, tokens: what one turn returned is an argument of the next."""
    loop = Loop(nn.Linear(FEATURES, CLASSES), True, False)

    @lg.compute_graph
    def step(x: Any, y: Any, hidden: Any) -> Any:
        loop.optimizer.zero_grad()
        loss = F.cross_entropy(loop.model(x + hidden), y)
        loss.backward()
        loop.optimizer.step()
        return loss, (hidden.detach() + x) / 2

    x, y = np.ones((4, FEATURES), np.float32), np.zeros(4, np.int64)
    hidden = lg.zeros(4, FEATURES)
    for turn in range(8):
        if turn == 4:
            before = served(step)
        _, hidden = step(x, y, hidden)
    assert served(step) == before + 4
    np.testing.assert_array_equal(hidden.numpy(), np.full_like(x, 1 - 0.5**8))


def test_inference_beside_training_is_served() -> None:
    loop = Loop(nn.Linear(FEATURES, CLASSES), True, False)
    act = lg.compute_graph(lambda x: loop.model(x).argmax(dim=1))
    x, y = np.ones((4, FEATURES), np.float32), np.zeros(4, np.int64)
    for turn in range(8):
        if turn == 4:
            before = served(loop.step), served(act)
        with lg.no_grad():
            act(x).numpy()
        loop.step(x, y, 1.0)
    assert (served(loop.step), served(act)) == (before[0] + 4, before[1] + 4)


def test_arguments_that_do_not_fit_are_looked_at() -> None:
    double = lg.compute_graph(lambda x: (x * 2).sum())
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for _ in range(4):
        assert double(x).item() == 30
    assert double(x.T).item() == 30
    assert double(np.asfortranarray(x)).item() == 30
    assert double(x.astype(">f4")).item() == 30
    assert double(x.astype(np.float64)).item() == 30
    assert double(lg.tensor(x)).item() == 30
    assert double(x[:, ::2]).item() == 20
    with pytest.raises(TypeError, match="missing"):
        double()


def test_a_pending_inference_sees_the_parameters_of_its_call() -> None:
    loop = Loop(nn.Linear(FEATURES, CLASSES), True, False)
    predict = lg.compute_graph(lambda x: loop.model(x))
    x, y = np.ones((4, FEATURES), np.float32), np.zeros(4, np.int64)
    for _ in range(5):
        loop.step(x, y, 1.0)
        with lg.no_grad():
            now = predict(x).numpy(copy=True)
            pending = predict(x)
        loop.step(x, y, 1.0)
        np.testing.assert_array_equal(pending.numpy(), now)


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_arguments(count: int) -> None:
    total = lg.compute_graph(lambda *xs, **more: sum(xs) + sum(more.values()))
    x = np.ones(2, np.float32)
    for _ in range(4):
        assert total(*[x] * count, last=x).tolist() == [count + 1] * 2
        assert total(*[x] * count).tolist() == [count] * 2
