"""Whole training steps as machine code: one call, no foreign kernel, checked kernel by kernel."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn, optim
from lazygrad.config import config
from lazygrad.runtime.dispatch import has_llvm

pytestmark = pytest.mark.skipif(not has_llvm(), reason="machine code needs llvmlite")

Step = Callable[..., Any]


def classifier(sizes: list[int], make: Callable[..., Any], seed: int = 0) -> tuple[Any, Any]:
    lg.manual_seed(seed)
    layers: list[Any] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    return model, make(model.parameters())


def training_step(sizes: list[int], make: Callable[..., Any], hinge: bool = False) -> Step:
    model, opt = classifier(sizes, make)

    def loss_of(x: Any, y: Any) -> Any:
        out = model(x)
        if not hinge:
            return nn.functional.cross_entropy(out, y)
        norm = sum((p * p).sum() for p in model.parameters())
        return (1 - out.reshape(-1) * y).relu().mean() + 1e-4 * norm

    @lg.compute_graph
    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        opt.step()
        return loss

    step.model = model
    return step


def batch(sizes: list[int], n: int, hinge: bool = False) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, sizes[0]), np.float32)
    if hinge:
        return x, rng.choice(np.array([-1, 1], np.float32), n)
    return x, rng.integers(0, sizes[-1], n)


def sgd(parameters: Any) -> Any:
    return optim.SGD(parameters, lr=0.01)


ROWS = {
    "moons": ([2, 16, 16, 1], 100, sgd, True),
    "digits normal": ([64, 64, 32, 10], 32, sgd, False),
    "digits longer": ([64, *[256] * 4, 10], 32, sgd, False),
    "digits bigger": ([64, 512, 256, 128, 10], 8, sgd, False),
    "mnist": ([784, 128, 128, 10], 64, lambda p: optim.SGD(p, lr=0.1, momentum=0.8), False),
    "adam": ([20, 30, 5], 16, lambda p: optim.Adam(p, lr=0.01), False),
    "adamw": ([20, 30, 5], 16, lambda p: optim.AdamW(p, lr=0.01), False),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_training_step_is_one_native_call(row: str) -> None:
    sizes, n, make, hinge = ROWS[row]
    with config.override(executor="native"):
        step = training_step(sizes, make, hinge)
        for _ in range(3):
            step(*batch(sizes, n, hinge))
        program = step._last.replay._step.program
        assert {r["executor"] for r in program.explain_rows() if r["kernel"]} == {"native"}
        (code,) = program._codes
        assert code.block is not None
        products = [r for r in program.explain_rows() if r["op"] == "matmul"]
        assert all("tiles of" in r["reason"] and "lanes" in r["reason"] for r in products)
        assert "native" in str(step.explain())


@pytest.mark.parametrize("row", ROWS)
def test_every_kernel_computes_what_the_reference_computes(row: str) -> None:
    sizes, n, make, hinge = ROWS[row]
    with config.override(executor="native", validate=True):
        step = training_step(sizes, make, hinge)
        for _ in range(2):
            assert np.isfinite(step(*batch(sizes, n, hinge)).item())


@pytest.mark.parametrize("row", ["digits normal", "moons", "adam"])
@pytest.mark.parametrize(
    "settings",
    [
        {"no_fuse": True}, {"no_capture": True}, {"no_planner": True}, {"num_workers": 1},
        {"num_workers": 2}, {"num_workers": 7}, {"num_workers": 64}, {"parallel": "chunked"},
        {"parallel": "vectorized"}, {"poison": True},
    ],
    ids=str,
)  # fmt: skip
def test_no_setting_reaches_a_bit(row: str, settings: dict[str, Any]) -> None:
    sizes, n, make, hinge = ROWS[row]

    def run(**more: Any) -> list[bytes]:
        with config.override(executor="native", **more):
            step = training_step(sizes, make, hinge)
            losses = [step(*batch(sizes, n, hinge)).numpy().tobytes() for _ in range(4)]
            return [*losses, *(p.numpy().tobytes() for p in step.model.parameters())]

    assert run() == run(**settings)


def test_a_check_stops_the_program_before_anything_is_written() -> None:
    with config.override(executor="native"):
        step = training_step([4, 5, 3], sgd)
        x = np.ones((2, 4), np.float32)
        step(x, np.array([0, 2]))
        before = [p.numpy(copy=True) for p in step.model.parameters()]
        with pytest.raises(lg.errors.IndexOutOfRangeError, match="label 3 at position 1"):
            step(x, np.array([0, 3]))
        for p, old in zip(step.model.parameters(), before, strict=True):
            assert p.numpy().tobytes() == old.tobytes()
        step(x, np.array([0, 2]))


def test_what_is_no_machine_code_stands_between_two_blocks() -> None:
    def f(x: Any) -> Any:
        return (x * 2).sort().values.exp() if hasattr(x.sort(), "values") else x.sort()[0].exp()

    x = lg.Tensor(np.array([3.0, 1.0, 2.0], np.float32))
    with config.override(executor="native"):
        g = lg.compute_graph(f)
        for _ in range(2):
            found = g(x).numpy()
        executors = {r["executor"] for r in g._last.replay.body.program.explain_rows()}
        assert {"native", "numpy"} <= executors
    np.testing.assert_allclose(found, f(x).numpy(), 1e-6)


PROBE = """
import sys, warnings
sys.modules["llvmlite"] = None
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    import lazygrad as lg
    w = lg.nn.Parameter([1.0, 2.0])
    opt = lg.optim.SGD([w], lr=0.1)
    @lg.compute_graph
    def step(x):
        opt.zero_grad(); loss = (w * x).sum(); loss.backward(); opt.step(); return loss
    print([round(step(lg.ones(2)).item(), 4) for _ in range(3)])
print([str(w.message)[:27] for w in seen if "llvmlite" in str(w.message)])
"""


@pytest.mark.parametrize(
    ("executor", "notices"), [("auto", "['llvmlite cannot be imported']"), ("numpy", "[]")]
)
def test_without_llvm_there_is_numpy_and_one_notice(executor: str, notices: str) -> None:
    environment = {**os.environ, "LAZYGRAD_EXECUTOR": executor}
    run = [sys.executable, "-c", PROBE]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[3.0, 2.8, 2.6]", notices]


def test_asking_for_machine_code_without_llvm_is_an_error() -> None:
    environment = {**os.environ, "LAZYGRAD_EXECUTOR": "native"}
    run = [sys.executable, "-c", PROBE]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode and "pip install llvmlite" in done.stderr


def test_values_that_are_kept_as_views_are_read_as_what_they_are() -> None:
    x = lg.tensor([0.5, -1.0, 2.0], requires_grad=True)
    weights = lg.tensor([1.0, 2.0, 3.0])
    for executor in ("native", "numpy"):
        with config.override(executor=executor):
            (g,) = lg.grad(x.sigmoid().mean(), [x], create_graph=True)
            (second,) = lg.grad((g * weights).sum(), [x])
            s = 1 / (1 + np.exp(-x.numpy()))
            np.testing.assert_allclose(
                second.numpy(), weights.numpy() * s * (1 - s) * (1 - 2 * s) / 3, 1e-5
            )
            wide = lg.tensor([2.0]).expand(3)
            wide.realize()
            w = nn.Parameter(np.ones(3, np.float32))
            opt = optim.SGD([w], lr=0.0)

            @lg.compute_graph
            def step(t: Any, w: Any = w, opt: Any = opt) -> Any:
                opt.zero_grad()
                loss = (w * t).sum()
                loss.backward()
                opt.step()
                return loss

            assert [step(wide).item() for _ in range(4)] == [6.0] * 4


STEP = """
import hashlib, numpy as np, lazygrad as lg
from lazygrad import nn
F = nn.functional
lg.manual_seed(0)
model = nn.Sequential(
    nn.Linear(13, 37), nn.LayerNorm(37), nn.GELU(), nn.Dropout(0.1), nn.Linear(37, 70), nn.Tanh(),
    nn.Linear(70, 5),
)
optimizer = lg.optim.AdamW(model.parameters(), lr=1e-2)
@lg.compute_graph
def step(x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss
rng = np.random.default_rng(0)
for _ in range(3):
    step(rng.standard_normal((19, 13)).astype("f4"), rng.integers(0, 5, 19)).item()
half = lg.tensor(rng.standard_normal((4, 5)), dtype=lg.float16)
q = lg.tensor(rng.standard_normal((2, 70, 5)).astype("f4"), requires_grad=True)
F.scaled_dot_product_attention(q, q, q, is_causal=True).sin().sum().backward()
values = (*model.parameters(), half.softmax(-1) @ half.T, q.grad)
state = [p.numpy().tobytes() for p in values]
print(hashlib.sha256(b"".join(state)).hexdigest())
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names levels of x86-64")
def test_every_instruction_set_gives_the_same_bits() -> None:
    """The lesser levels are those that this processor has, too; the first run is its own."""
    found = set()
    for level in ("", "x86-64-v2", "x86-64-v3"):
        run = subprocess.run(
            [sys.executable, "-c", STEP],
            env=os.environ | {"LAZYGRAD_CPU": level, "LAZYGRAD_EXECUTOR": "native"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        if run.returncode and "is taken as it is or as one of" in run.stderr:
            continue  # wider than this processor
        assert run.returncode == 0, run.stderr
        found.add(run.stdout)
    assert len(found) == 1


def test_validation_knows_what_is_rounding_alone() -> None:
    """The gradient of a bias before a mean is taken off is 0, and AdamW makes whole steps of it."""
    x = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    bias = nn.Parameter(np.zeros(8, np.float32))
    optimizer = lg.optim.AdamW([bias])

    @lg.compute_graph
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        y = (x + bias) * 3
        loss = ((y - y.mean(0, keepdim=True)) ** 3).sum()
        loss.backward()
        optimizer.step()
        return loss

    with lg.config.override(validate=True):
        for _ in range(5):
            step(x)
    assert 0 < np.abs(bias.numpy()).max() < 0.01


def test_validation_takes_a_float64_that_was_computed_in_float32_for_one() -> None:
    whole, wide = lg.arange(40).realize(), lg.ones(40, dtype=lg.float64).realize()
    with lg.config.override(validate=True):
        assert np.isfinite((whole.float().tanh().exp() * (wide * 1e3)).numpy()).all()
