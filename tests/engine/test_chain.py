"""A captured forward, its backward and the update join in one program without becoming nodes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn, optim
from lazygrad.engine.graph import Graph
from lazygrad.engine.lazy import LazyTensor
from lazygrad.errors import IndexOutOfRangeError
from lazygrad.nn import functional as F


def make(momentum: float = 0.0) -> tuple[Any, Any]:
    lg.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    return model, optim.SGD(model.parameters(), lr=0.1, momentum=momentum)


def batches(count: int = 6) -> Iterator[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    for i in range(count):
        n = 3 if i == count - 1 else 5
        yield rng.standard_normal((n, 6)).astype(np.float32), rng.integers(0, 3, n)


def train(captured: bool, use: Any) -> list[Any]:
    """A loop whose steps do `use(loss, model, optimizer)`; returns everything one could look at."""
    model, optimizer = make(momentum=0.9)

    def forward(x: Any, y: Any) -> Any:
        return F.cross_entropy(model(x), y)

    call = lg.compute_graph(forward) if captured else forward
    seen: list[Any] = []
    for x, y in batches():
        loss = call(x, y) if captured else call(lg.tensor(x), lg.tensor(y))
        seen += use(loss, model, optimizer)
        seen.append(loss.item())
    seen += [p.numpy(copy=True) for p in model.parameters()]
    seen += [p.grad.numpy(copy=True) for p in model.parameters()]
    return seen


def plain(loss: Any, model: Any, optimizer: Any) -> list[Any]:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return []


def read_first(loss: Any, model: Any, optimizer: Any) -> list[Any]:
    value = loss.item()
    plain(loss, model, optimizer)
    return [value]


def read_gradients(loss: Any, model: Any, optimizer: Any) -> list[Any]:
    optimizer.zero_grad()
    loss.backward()
    grads = [p.grad.numpy(copy=True) for p in model.parameters()]
    optimizer.step()
    return grads


def write_in_between(loss: Any, model: Any, optimizer: Any) -> list[Any]:
    with lg.no_grad():
        model[0].weight.mul_(0.5)  # the call saw the weight as it was
    return read_gradients(loss, model, optimizer)


def clip(loss: Any, model: Any, optimizer: Any) -> list[Any]:
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    return [norm.item()]


def accumulate(loss: Any, model: Any, optimizer: Any) -> list[Any]:
    loss.backward()
    optimizer.step()
    return []


def use_in_expression(loss: Any, model: Any, optimizer: Any) -> list[Any]:
    optimizer.zero_grad()
    (loss * 2 + (model[0].bias ** 2).sum()).backward()
    optimizer.step()
    return []


def second_order(loss: Any, model: Any, optimizer: Any) -> list[Any]:
    optimizer.zero_grad()
    (g,) = lg.grad(loss, model[2].weight, create_graph=True)
    (loss + (g * g).sum()).backward()
    optimizer.step()
    return []


def assign(loss: Any, model: Any, optimizer: Any) -> list[Any]:
    loss.backprop()
    optimizer.step()
    return []


USES = [
    plain, read_first, read_gradients, write_in_between, clip, accumulate, use_in_expression,
    second_order, assign,
]  # fmt: skip


@pytest.mark.parametrize("use", USES, ids=lambda f: f.__name__)
def test_every_use_of_a_captured_call_has_the_bits_of_the_uncaptured_one(use: Any) -> None:
    for a, b in zip(train(False, use), train(True, use), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_chain_appends_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer = make()
    forward = lg.compute_graph(lambda x, y: F.cross_entropy(model(x), y))
    data = list(batches())[:4]
    for x, y in data:
        plain(forward(x, y), model, optimizer)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a node was appended")

    monkeypatch.setattr(Graph, "append", refuse)
    losses = []
    for x, y in data:
        loss = forward(x, y)
        plain(loss, model, optimizer)
        losses.append(loss.item())
    assert len(set(losses)) == 4


def test_held_gradients_and_losses_do_not_change() -> None:
    model, optimizer = make()
    forward = lg.compute_graph(lambda x, y: F.cross_entropy(model(x), y))
    held: list[tuple[Any, Any]] = []
    losses = []
    for x, y in list(batches())[:4]:
        loss = forward(x, y)
        plain(loss, model, optimizer)
        losses.append(loss)
        grad = model[0].weight.grad
        held.append((grad, grad.numpy(copy=True)))
    for grad, value in held:
        np.testing.assert_array_equal(grad.numpy(), value)
    assert len({loss.item() for loss in losses}) == 4


def test_a_failed_step_leaves_everything_as_it_was() -> None:
    model, optimizer = make(momentum=0.9)
    forward = lg.compute_graph(lambda x, y: F.cross_entropy(model(x), y))
    data = list(batches())[:2]
    for x, y in data:
        plain(forward(x, y), model, optimizer)
    before = [p.numpy(copy=True) for p in model.parameters()]
    loss = forward(data[0][0], np.full(5, 9))
    optimizer.zero_grad()
    loss.backward()
    with pytest.raises(IndexOutOfRangeError, match="label 9"):
        optimizer.step()
    for p, value in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), value)
    plain(forward(*data[0]), model, optimizer)


def test_a_consumed_call_can_be_looked_at() -> None:
    model, optimizer = make()
    forward = lg.compute_graph(lambda x, y: F.cross_entropy(model(x), y))
    for x, y in list(batches())[:2]:
        loss = forward(x, y)
        kind = type(loss)
        plain(loss, model, optimizer)
    assert kind is LazyTensor
    value = loss.item()
    assert "grad_fn" in repr(loss) and loss.shape == () and loss.requires_grad
    assert loss.item() == value
    assert loss.graph.visualize().source
