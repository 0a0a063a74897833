"""Checkpoints: the same bits, in fewer bytes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import ArgumentError, GradientError
from lazygrad.testing import gradcheck, gradgradcheck

WIDTH, ROWS = 16, 64


class Block(nn.Module):
    """All that could differ the second time: random numbers, statistics, labels to check."""

    def __init__(self) -> None:
        self.norm = nn.BatchNorm1d(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.drop = nn.Dropout(0.3)
        self.table = nn.Embedding(3, WIDTH)

    def forward(self, x: lg.Tensor, ids: lg.Tensor) -> lg.Tensor:
        h = nn.functional.gelu(self.up(self.norm(x) + self.table(ids)))
        return x + self.drop(self.down(h))


Wrap = Callable[..., Any]


def plain(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)


def nested(fn: Callable[..., Any], *args: Any) -> Any:
    return lg.checkpoint(lambda *a: lg.checkpoint(fn, *a), *args)


def trained(wrap: Wrap, form: str, depth: int = 4) -> tuple[list[Any], Any]:
    """Everything that three steps leave behind, and the captured function."""
    lg.manual_seed(0)
    blocks = nn.ModuleList([Block() for _ in range(depth)])
    optimizer = lg.optim.AdamW(blocks.parameters(), lr=0.01)

    def forward(x: lg.Tensor, ids: lg.Tensor) -> lg.Tensor:
        for block in blocks:
            x = wrap(block, x, ids)
        return (x * x).mean()

    def step(x: lg.Tensor, ids: lg.Tensor) -> lg.Tensor:
        optimizer.zero_grad()
        loss = run(x, ids)
        loss.backward()
        optimizer.step()
        return loss

    run = lg.compute_graph(forward) if form == "forward captured" else forward
    fn: Any = lg.compute_graph(step) if form == "step captured" else step
    left: list[Any] = []
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = lg.tensor(rng.standard_normal((ROWS, WIDTH)).astype(np.float32))
        left.append(fn(x, lg.tensor(rng.integers(0, 3, ROWS))).item())
    left += [p.numpy() for p in blocks.parameters()] + [b.numpy() for b in blocks.buffers()]
    return [*left, lg.get_rng_state()], fn


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    return trained(plain, "step captured")[0]


@pytest.mark.parametrize("form", ["eager", "forward captured", "step captured"])
@pytest.mark.parametrize("wrap", [lg.checkpoint, nested])
def test_three_steps_have_the_same_bits(wrap: Wrap, form: str, expected: list[Any]) -> None:
    found, _ = trained(wrap, form)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.compiled
def test_a_step_needs_a_fraction_of_the_memory() -> None:
    arena = {}
    for wrap in (plain, lg.checkpoint):
        for depth in (4, 8):
            _, fn = trained(wrap, "step captured", depth)
            arena[wrap, depth] = fn.memory_plan().arena_bytes
    one = arena[plain, 8] - arena[plain, 4]  # what four blocks keep
    assert arena[lg.checkpoint, 8] < arena[plain, 8] / 2
    assert arena[lg.checkpoint, 8] - arena[lg.checkpoint, 4] < one / 4
    assert "after" in fn.explain()


@pytest.mark.compiled
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_copy_is_not_merged_with_its_original(blocks: int) -> None:
    leaf = lg.ones(8, requires_grad=True)

    @lg.compute_graph
    def fn() -> Any:
        x = leaf
        for _ in range(blocks):
            x = lg.checkpoint(lambda x: (x.exp() + 1).log().exp(), x)
        return x, lg.grad(x.sum(), leaf)[0]

    lg.realize(fn())
    assert sum(n.op.name == "exp" for n in fn.program.frozen.nodes) == 4 * blocks


def test_a_gradient_that_is_kept_as_its_factors() -> None:
    def gradients(wrap: Wrap) -> list[Any]:
        lg.manual_seed(0)
        first, second = nn.Linear(64, 64), nn.Linear(64, 64)
        optimizer = lg.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)

        @lg.compute_graph
        def step(x: lg.Tensor) -> lg.Tensor:
            optimizer.zero_grad()
            loss = (wrap(second, wrap(lambda x: first(x).tanh(), x)) ** 2).sum()
            loss.backward()
            optimizer.step()
            return loss

        lg.realize(step(lg.ones(2, 64)), step(lg.ones(2, 64)))
        assert first.weight.grad is not None and second.weight.grad is not None
        return [first.weight.grad.numpy(), second.weight.grad.numpy()]

    pairs = zip(gradients(plain), gradients(lg.checkpoint), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_an_uncaptured_forward_keeps_its_inputs_only() -> None:
    def chain(x: lg.Tensor) -> lg.Tensor:
        for _ in range(5):
            x = x.exp().log()
        return x

    def held(wrap: Wrap) -> int:
        with lg.Graph() as graph:
            loss = wrap(chain, lg.ones(1000, requires_grad=True)).sum()
            loss.item()
            return sum(v.nbytes for v in graph.values.values() if isinstance(v, np.ndarray))

    assert held(plain) > 5 * 4000
    assert held(lg.checkpoint) < 4000


def test_both_orders_against_finite_differences() -> None:
    x = lg.tensor(np.random.default_rng(0).uniform(0.5, 2, (3, 4)), requires_grad=True)
    w = lg.tensor(np.random.default_rng(1).standard_normal((4, 2)), requires_grad=True)

    def fn(x: lg.Tensor, w: lg.Tensor) -> lg.Tensor:
        return (lg.checkpoint(lambda x: (x @ w).sin(), x.log()) * x.sum()).exp()

    for form in (fn, lg.compute_graph(fn)):
        assert gradcheck(form, (x, w))
        assert gradgradcheck(form, (x, w))


def test_parameters_that_change_before_the_backward_pass() -> None:
    found = []
    for wrap in (plain, lg.checkpoint):
        w = nn.Parameter([2.0])
        x = lg.tensor([3.0], requires_grad=True)
        loss = wrap(lambda x, w=w: (x * w).exp().log(), x).sum()
        loss.item()
        with lg.no_grad():
            w.assign_(w * 100)
        loss.backward()
        assert x.grad is not None and w.grad is not None
        found.append((x.grad.tolist(), w.grad.tolist()))
    assert found[0] == found[1]


def test_what_goes_in_and_comes_out() -> None:
    x, y = lg.ones(2, requires_grad=True), lg.zeros(2)

    def fn(pair: dict[str, lg.Tensor], factor: float, scale: float = 1.0) -> Any:
        h = pair["x"] * factor * scale
        return {"h": h, "again": [h, pair["x"]], "y": pair["y"], "n": 3}

    out = lg.checkpoint(fn, {"x": x, "y": y}, 2.0, use_reentrant=False, scale=5.0)
    assert out["n"] == 3
    assert out["y"] is y
    assert not out["y"].requires_grad
    assert repr(out["h"]).endswith("grad_fn=<MulBackward>)")
    (out["h"] + out["again"][0] + out["again"][1]).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [21.0, 21.0]


def test_without_a_gradient_nothing_is_tied() -> None:
    x = lg.ones(2, requires_grad=True)
    with lg.no_grad():
        assert not lg.checkpoint(lambda x: x * 2, x).requires_grad
    y = lg.checkpoint(lambda x: x * 2, lg.ones(2))
    assert y.grad_fn is None
    with pytest.raises(ArgumentError, match="checkpoint takes a function, got Tensor"):
        lg.checkpoint(x, x)  # type: ignore[arg-type]


def test_a_rule_of_its_own_inside() -> None:
    @lg.custom_vjp
    def square(x: lg.Tensor) -> lg.Tensor:
        return x * x

    square.defvjp(lambda x: (x * x, x), lambda x, g: (20 * g * x,))
    for fn in (lambda x: lg.checkpoint(square, x * 1.5), square):
        x = lg.tensor([2.0], requires_grad=True)
        first = lg.compute_graph(fn)(x)
        first.sum().backward()
        assert x.grad is not None
        assert x.grad.item() == (20 * 3.0 * 1.5 if fn is not square else 40.0)


def test_a_hook_inside_is_not_lost() -> None:
    made: list[lg.Tensor] = []

    def fn(x: lg.Tensor) -> lg.Tensor:
        made.append(x * 2)
        return made[-1].exp()

    for watch in (lambda t: t.register_hook(lambda g: g), lambda t: t.retain_grad()):
        y = lg.checkpoint(fn, lg.ones(2, requires_grad=True))
        watch(made[-1])
        with pytest.raises(GradientError, match=r"inside of checkpoint\(\) has a hook"):
            y.sum().backward()
    x = lg.ones(2, requires_grad=True)
    x.register_hook(lambda g: g * 10)
    y = lg.checkpoint(lambda x: x * 2, x)
    y.register_hook(lambda g: g + 1)
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [40.0, 40.0]


def test_a_captured_function_inside() -> None:
    found = []
    for wrap in (plain, lg.checkpoint):
        layer = lg.compute_graph(lambda x: (x * x).sin().exp())
        x = lg.tensor([0.5, 2.0], requires_grad=True)
        for _ in range(3):
            (wrap(layer, wrap(layer, x)) ** 2).sum().backward()
        assert x.grad is not None
        found.append(x.grad.tolist())
    assert found[0] == found[1]


@pytest.mark.numpy_code  # nothing is compiled to machine code, which would take seconds
def test_a_stack_of_transformer_layers() -> None:
    def trained(wrap: Wrap) -> tuple[list[float], int]:
        lg.manual_seed(0)
        layers = nn.ModuleList(
            [nn.TransformerEncoderLayer(8, 2, 32, batch_first=True) for _ in range(4)]
        )
        optimizer = lg.optim.SGD(layers.parameters(), lr=0.1)

        @lg.compute_graph
        def step(x: lg.Tensor) -> lg.Tensor:
            optimizer.zero_grad()
            for layer in layers:
                x = wrap(layer, x)
            loss = (x * x.sin()).mean()
            loss.backward()
            optimizer.step()
            return loss

        losses = [step(lg.ones(2, 16, 8) * 0.1).item() for _ in range(2)]
        return losses, step.memory_plan().arena_bytes

    losses, arena = trained(plain)
    again, smaller = trained(lg.checkpoint)
    assert again == losses
    assert smaller < arena * 0.6


def drawn(seed: int, wrap: Wrap) -> list[Any]:
    """A chain of layers that share parameters, whole and in slices; some are checkpoints."""
    rng = np.random.default_rng(seed)
    shared = [nn.Parameter(rng.standard_normal((6, 6)) * 0.4) for _ in range(2)]
    layers: list[Callable[[lg.Tensor, lg.Tensor], lg.Tensor]] = [
        lambda x, w: (x @ w).tanh(),
        lambda x, w: nn.functional.layer_norm(x, (6,), w[0], w[1]),
        lambda x, w: x[:, :3].repeat(1, 2) + x * w[2],
        lambda x, w: nn.functional.dropout(x @ w, 0.3),
        lambda x, w: x + wrap(lambda y: (y @ w).sin() * w[0], x),
    ]
    lg.manual_seed(seed)
    x = lg.tensor(rng.standard_normal((4, 6)), requires_grad=True)
    before, y = x, x
    for _ in range(8):
        layer, w = layers[rng.integers(5)], shared[rng.integers(2)]
        through = wrap if rng.random() < 0.6 else plain
        before, y = y, through(lambda y, f=layer, w=w: f(y, w), y) + before * 0.5
    loss = (y * before).sum()
    grads = lg.grad(loss, [x, *shared], allow_unused=True)
    return [loss.numpy(), *(None if g is None else g.numpy() for g in grads)]


@pytest.mark.numpy_code
@pytest.mark.parametrize("seed", range(12))
def test_sums_of_gradients_keep_their_order(seed: int) -> None:
    pairs = zip(drawn(seed, plain), drawn(seed, lg.checkpoint), strict=True)
    assert all(a is b is None or np.array_equal(a, b) for a, b in pairs)
