"""Gradients that are kept as factors: the same bits, for every way to look at them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn, optim
from lazygrad.engine.latent import Latent

WIDE, BATCH = 96, 4


def setup(latent: bool = True) -> tuple[Any, Any, Any]:
    lg.manual_seed(3)
    model = nn.Sequential(nn.Linear(WIDE, WIDE), nn.Tanh(), nn.Linear(WIDE, 3))
    return model, optim.SGD(model.parameters(), lr=0.1, momentum=0.5), nn.MSELoss()


def batches(n: int) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    draw = rng.standard_normal
    return [
        (draw((BATCH, WIDE), np.float32), draw((BATCH, 3), np.float32)) for _ in range(n)
    ]  # fmt: skip


def whole(model: Any, opt: Any, loss_fn: Any) -> Any:
    @lg.compute_graph
    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return step


def halves(model: Any, opt: Any, loss_fn: Any) -> Any:
    forward = lg.compute_graph(lambda x, y: loss_fn(model(x), y))

    def step(x: Any, y: Any) -> Any:
        loss = forward(x, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    return step


def plain(model: Any, opt: Any, loss_fn: Any) -> Any:
    def step(x: Any, y: Any) -> Any:
        loss = loss_fn(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    return step


@pytest.mark.parametrize("form", [whole, halves])
@pytest.mark.parametrize("look", ["never", "always", "late", "in between"])
def test_gradients_have_the_bits_of_the_plain_program(form: Any, look: str) -> None:
    results = []
    for make in (plain, form):
        model, opt, loss_fn = setup()
        step = make(model, opt, loss_fn)
        seen: list[Any] = []
        held: list[Any] = []
        for k, (x, y) in enumerate(batches(6)):
            x = x.copy()
            step(x, y)
            x[:] = np.nan  # a factor is not the array of the caller
            if look == "always" or (look == "late" and k == 5) or (look == "in between" and k % 2):
                held += [(p.grad, p.grad.numpy(copy=True)) for p in model.parameters()]
        for tensor, value in held:  # nothing that was given out has changed
            assert tensor.numpy().tobytes() == value.tobytes()
            seen.append(value)
        results.append([*seen, *(p.numpy(copy=True) for p in model.parameters())])
    assert len(results[0]) == len(results[1])
    for a, b in zip(*results, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.compiled
def test_only_large_products_that_nobody_reads_are_kept_as_factors() -> None:
    model, opt, loss_fn = setup()
    step = whole(model, opt, loss_fn)
    for x, y in batches(3):
        step(x, y)
    held = step._last.replay._step.held
    forms = [isinstance(f, Latent) for f in held.forms]
    assert forms == [True, False, False, False]
    assert held.specs[0][0] == (BATCH, WIDE)


def test_a_clipped_gradient_is_stored() -> None:
    for make in (plain, whole):
        model, opt, loss_fn = setup()

        def clipped(x: Any, y: Any, model: Any = model, opt: Any = opt, f: Any = loss_fn) -> Any:
            opt.zero_grad()
            loss = f(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            opt.step()
            return loss

        step = clipped if make is plain else lg.compute_graph(clipped)
        for x, y in batches(4):
            step(x, y)
        found = [p.grad.numpy(copy=True) for p in model.parameters()]
        if make is plain:
            expected = found
    for a, b in zip(expected, found, strict=True):
        assert a.tobytes() == b.tobytes()
