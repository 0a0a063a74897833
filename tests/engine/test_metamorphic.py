"""What must never change a bit: realize points and order, capture, fusion, planner, modes, workers.

Each way of running a program is compared with the plain one, byte by byte: values and gradients.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lazygrad as lg
from lazygrad.config import config
from lazygrad.engine import Graph, set_default_graph
from lazygrad.testing import RandomProgram, programs

Arrays = list[np.ndarray]

SETTINGS: dict[str, dict[str, Any]] = {
    "no fusion": {"no_fuse": True},
    "no planner": {"no_planner": True},
    "neither": {"no_fuse": True, "no_planner": True},
    "poison": {"poison": True, "verify": True},
    "eager": {"eager": True},
    "vectorized": {"parallel": "vectorized"},
    "chunked, 1 worker": {"parallel": "chunked", "num_workers": 1},
    "chunked, 2 workers": {"parallel": "chunked", "num_workers": 2},
    "chunked, 7 workers": {"parallel": "chunked", "num_workers": 7},
    "chunked, 64 workers": {"parallel": "chunked", "num_workers": 64},
}


@contextmanager
def setting(name: str) -> Iterator[None]:
    with config.override(**SETTINGS[name]):
        yield


def same_bits(a: Arrays, b: Arrays, what: str) -> None:
    assert len(a) == len(b)
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        assert x.dtype == y.dtype and x.shape == y.shape, f"{what}: value {k}"
        if x.tobytes() != y.tobytes():
            np.testing.assert_array_equal(x, y, err_msg=f"{what}: value {k}")
            raise AssertionError(f"{what}: value {k} differs in the sign of a zero or in a NaN")


def leaves_of(program: RandomProgram, dtype: Any) -> list[lg.Tensor]:
    return [lg.tensor(a.astype(dtype), requires_grad=True) for a in program.inputs]


def loss_of(values: list[lg.Tensor]) -> lg.Tensor:
    """Something that every value has a part in."""
    total = values[-1].sum()
    for v in values[:-1]:
        total = total + v.sum() * 0.5
    return total


def evaluate(
    program: RandomProgram,
    dtype: Any,
    between: Callable[[int, lg.Tensor], None] = lambda k, t: None,
    order: Callable[[list[Any]], list[Any]] = lambda results: results,
    drop: bool = False,
) -> Arrays:
    """Values, loss and gradients; `between` sees each value as it is made."""
    leaves = leaves_of(program, dtype)
    values = list(leaves)
    for k, line in enumerate(program.lines):
        values.append(line.on_tensors(values))
        between(k, values[-1])
    loss = loss_of(values)
    loss.backward()
    shown = [loss] if drop else [*values, loss]
    grads = [g for leaf in leaves if (g := leaf.grad) is not None]
    results = [*shown, *grads]
    for t in order(list(results)):
        t.realize()
    return [t.numpy(copy=True) for t in results]


CASES = given(
    program=programs(max_lines=10),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 1000),
)


@settings(max_examples=settings().max_examples)
@CASES
def test_realize_points_and_order(program: RandomProgram, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    plain = evaluate(program, dtype)
    same_bits(plain, evaluate(program, dtype), "a second run")
    same_bits(plain, evaluate(program, dtype, order=lambda r: r[::-1]), "in reverse")

    def shuffled(results: list[Any]) -> list[Any]:
        rng.shuffle(results)
        return results

    same_bits(plain, evaluate(program, dtype, order=shuffled), "in random order")
    same_bits(plain, evaluate(program, dtype, lambda k, t: t.realize()), "after every line")
    some = set(rng.integers(0, len(program.lines) + 1, 3))
    found = evaluate(program, dtype, lambda k, t: t.realize() if k in some else None)
    same_bits(plain, found, f"after lines {some}")
    alone = evaluate(program, dtype, drop=True)
    same_bits(plain[-len(alone) :], alone, "only the loss and the gradients")


@settings(max_examples=settings().max_examples // 2)
@CASES
def test_settings(program: RandomProgram, dtype: Any, seed: int) -> None:
    plain = evaluate(program, dtype)
    for name in SETTINGS:
        with setting(name):
            same_bits(plain, evaluate(program, dtype), name)


@settings(max_examples=settings().max_examples // 2)
@CASES
def test_capture(program: RandomProgram, dtype: Any, seed: int) -> None:
    """Captured whole, captured forward only, and captured with the backward pass inside."""
    plain = evaluate(program, dtype)
    leaves = leaves_of(program, dtype)

    @lg.compute_graph
    def forward(*inputs: lg.Tensor) -> list[lg.Tensor]:
        values = program.run(*inputs)
        return [*values, loss_of(values)]

    @lg.compute_graph
    def step(*inputs: lg.Tensor) -> list[lg.Tensor]:
        for x in leaves:
            x.grad = None
        values = program.run(*inputs)
        loss = loss_of(values)
        loss.backward()
        return [*values, loss]

    for fn, name in [(forward, "forward"), (step, "step")]:
        for turn in range(3):
            for leaf in leaves:
                leaf.grad = None
            results = fn(*leaves)
            if fn is forward:
                results[-1].backward()
            grads = [leaf.grad for leaf in leaves if leaf.grad is not None]
            found = [t.numpy(copy=True) for t in [*results, *grads]]
            same_bits(plain, found, f"{name}, call {turn}")


@settings(max_examples=settings().max_examples)
@given(
    program=programs(max_lines=10),
    dtype=st.sampled_from([np.float32, np.float64]),
    cuts=st.lists(st.integers(1, 9), max_size=3),
    closed=st.booleans(),
    second=st.booleans(),
)
def test_capture_of_parts(
    program: RandomProgram, dtype: Any, cuts: list[int], closed: bool, second: bool
) -> None:
    """Some stretches of a program captured, others not, closed over or passed as arguments."""

    def run(wrap: Callable[[Any], Any]) -> Arrays:
        leaves = leaves_of(program, dtype)
        values = list(leaves)
        borders = [0, *sorted({c for c in cuts if c < len(program.lines)}), len(program.lines)]
        for k, (lo, hi) in enumerate(itertools.pairwise(borders)):
            lines = program.lines[lo:hi]

            def stretch(*given: lg.Tensor, lines: Any = lines) -> list[lg.Tensor]:
                known = list(given) or values[: len(leaves) + lo]  # noqa: B023
                for line in lines:
                    known.append(line.on_tensors(known))
                return known[len(known) - len(lines) :]

            fn = wrap(stretch) if k % 2 == 0 else stretch
            values += fn() if closed else fn(*values)
        loss = loss_of(values)
        if second:
            first = lg.grad(loss, leaves, create_graph=True)
            slopes = [g.sum() for g in first if g.requires_grad]
            loss = sum(slopes, loss)
        loss.backward()
        grads = [g for leaf in leaves if (g := leaf.grad) is not None]
        return [t.numpy(copy=True) for t in [*values, loss, *grads]]

    plain = run(lambda fn: fn)
    same_bits(plain, run(lg.compute_graph), "captured in parts")


@settings(max_examples=settings().max_examples // 2)
@given(program=programs(max_lines=5, smooth=True), realized=st.booleans())
def test_second_derivatives_through_captured_functions(
    program: RandomProgram, realized: bool
) -> None:
    def curvature(fn: Callable[..., Any]) -> Arrays:
        leaves = leaves_of(program, np.float64)
        y = fn(*leaves).sum()
        if realized:
            y.realize()
        if not y.requires_grad:
            return []
        first = lg.grad(y, leaves, create_graph=True, allow_unused=True)
        slopes = [g for g in first if g is not None and g.requires_grad]
        if not slopes:
            return [g.numpy(copy=True) for g in first if g is not None]
        total = slopes[0].sum()
        for g in slopes[1:]:
            total = total + g.sum()
        second = lg.grad(total, leaves, allow_unused=True)
        return [g.numpy(copy=True) for g in (*first, *second) if g is not None]

    def last(*inputs: lg.Tensor) -> lg.Tensor:
        return program.run(*inputs)[-1]

    plain = curvature(last)
    captured = lg.compute_graph(last)
    for turn in range(2):
        same_bits(plain, curvature(captured), f"call {turn}")


# Sizes at which kernels are streamed and cut into chunks.


def big(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def softmax_loss() -> Arrays:
    x = lg.tensor(big(700, 501), requires_grad=True)
    y = lg.nn.functional.cross_entropy(x, lg.arange(700) % 501)
    y.backward()
    return [y.numpy(), x.grad.numpy(copy=True)]


def layer_norm() -> Arrays:
    x = lg.tensor(big(1031, 257), requires_grad=True)
    w = lg.tensor(big(257, seed=1), requires_grad=True)
    mean = x.mean(dim=1, keepdim=True)
    var = ((x - mean) ** 2).mean(dim=1, keepdim=True)
    y = (x - mean) * (var + 1e-5).rsqrt() * w
    (y * y.tanh()).sum().backward()
    return [y.numpy(), x.grad.numpy(copy=True), w.grad.numpy(copy=True)]


def reductions() -> Arrays:
    x = lg.tensor(big(1999, 333), requires_grad=True)
    parts = [x.sum(), x.sum(dim=0), x.T.sum(dim=0), x.max(), x.amax(dim=1), x.flip(0).mean(dim=0)]
    total = sum(p.sum() for p in parts) + (x * x).sum().sqrt()
    total.backward()
    return [p.numpy(copy=True) for p in [*parts, total, x.grad]]


def network() -> Arrays:
    rng = lg.Generator(3)
    sizes = [96, 700, 700, 10]
    weights = [
        lg.tensor(big(b, a, seed=a) / 10, requires_grad=True) for a, b in itertools.pairwise(sizes)
    ]
    h = lg.rand(311, 96, generator=rng)
    for w in weights:
        h = (h @ w.T).relu() * (lg.rand(h.shape[0], w.shape[0], generator=rng) > 0.1)
    loss = h.logsumexp(dim=1).mean()
    loss.backward()
    return [loss.numpy(copy=True), *(w.grad.numpy(copy=True) for w in weights)]


BIG = {f.__name__: f for f in (softmax_loss, layer_norm, reductions, network)}


@pytest.mark.parametrize("name", BIG)
def test_large_arrays(name: str) -> None:
    plain = BIG[name]()
    same_bits(plain, BIG[name](), "a second run")
    for how in SETTINGS:
        with setting(how):
            same_bits(plain, BIG[name](), f"{name}: {how}")


@pytest.mark.parametrize("when", ["init", "output", "loss", "backward", "graph"])
@pytest.mark.parametrize("optimizer", [lg.optim.SGD, lg.optim.AdamW])
def test_a_first_step_with_values_read_in_between(optimizer: Any, when: str) -> None:
    """Until it is read, a fresh parameter is a pending write: one value under two names."""

    def run(when: str) -> Arrays:
        set_default_graph(Graph("default"))  # what other tests have left is not realized
        lg.manual_seed(0)
        model = lg.nn.Sequential(lg.nn.Linear(5, 6), lg.nn.Tanh(), lg.nn.Linear(6, 3))
        opt = optimizer(model.parameters(), lr=0.1)
        if when == "init":
            lg.realize(*model.parameters())
        out = model(lg.tensor(big(4, 5)))
        if when == "output":
            out.realize()
        loss = (out * out).sum()
        if when == "loss":
            loss.realize()
        loss.backward()
        if when == "backward":
            model[0].weight.grad.realize()
        if when == "graph":
            lg.get_default_graph().realize()
        opt.step()
        opt.zero_grad()
        return [p.numpy(copy=True) for p in model.parameters()]

    same_bits(run(""), run(when), when)


def test_gradients_add_up_in_the_order_of_the_plain_program() -> None:
    """Inside of calls, before, between and after them: floating-point sums are not associative."""

    def gradients(wrap: Callable[[Any], Any]) -> Arrays:
        w = lg.tensor(big(50, seed=1), requires_grad=True)
        v = lg.tensor(big(50, seed=2), requires_grad=True)
        f = wrap(lambda x: x * w + (x * w).tanh() * w * v)
        g = wrap(lambda x: (x * v).sin() * v + w * 0.1)
        before = (w * v).sin()
        loss = f(lg.tensor(big(50, seed=3))) + (w * 0.3).exp() + g(before) * v
        loss = (loss + f(loss) + before).sum() + w.sum() * 0.7
        first = lg.grad(loss, [w, v], create_graph=True)
        second = lg.grad((first[0] * v).sum() + first[1].sum(), [w, v])
        loss.backward()
        return [t.numpy(copy=True) for t in (*first, *second, w.grad, v.grad)]

    same_bits(gradients(lambda fn: fn), gradients(lg.compute_graph), "captured")
