"""Training steps of convolutional networks: what they are compiled to."""

from collections.abc import Iterator

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import config, nn, optim
from lazygrad.runtime.dispatch import uses_native

F = nn.functional
BATCH, CHANNELS, SIZE = 8, 16, 16


@pytest.fixture(autouse=True)
def native() -> Iterator[None]:
    with config.override(executor="auto", num_workers=2):
        if not uses_native():
            pytest.skip("machine code needs llvmlite")
        yield


def make_step(stride: int = 1):
    lg.manual_seed(0)
    first, second = nn.Conv2d(1, CHANNELS, 3, padding=1), nn.Conv2d(CHANNELS, 32, 3, stride, 1)
    last = nn.Linear(32 * (SIZE // 2 // stride // 2) ** 2, 10)
    model = nn.Sequential(
        first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), last
    )
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    @lg.compute_graph
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    rng = np.random.default_rng(0)
    batch = rng.standard_normal((BATCH, 1, SIZE, SIZE)).astype(np.float32)
    return step, (batch, rng.integers(0, 10, BATCH))


def run_bits(**settings) -> list[bytes]:
    with config.override(**settings):
        step, batch = make_step()
        losses = [step(*batch).numpy().tobytes() for _ in range(2)]
        return losses


@pytest.mark.parametrize("stride", [1, 2])
def test_a_training_step_is_one_native_call_that_writes_no_windows_out(stride: int) -> None:
    step, batch = make_step(stride)
    first = step(*batch).item()
    assert step(*batch).item() < first
    program = step._last.replay._step.program
    assert {r["executor"] for r in program.explain_rows() if r["kernel"]} == {"native"}
    (code,) = program._codes
    assert code.block is not None
    windows = 4 * BATCH * (CHANNELS * 9) * (SIZE // 2 // stride) ** 2
    activations = 4 * BATCH * CHANNELS * SIZE**2
    largest = max(b.nbytes for b in program.memory.buffers if b.values)
    assert largest < 1.5 * max(windows // 2, activations)


def test_no_setting_reaches_a_bit() -> None:
    expected = run_bits()
    for settings in ({"no_fuse": True}, {"num_workers": 1}, {"num_workers": 7}, {"poison": True}):
        assert run_bits(**settings) == expected, settings


def test_every_kernel_computes_what_the_reference_computes() -> None:
    with config.override(validate=True):
        step, batch = make_step(2)
        assert np.isfinite(step(*batch).item())


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.max_pool2d(x, 3, 2, 1), lambda x: F.max_pool2d(x, 2, ceil_mode=True),
        lambda x: F.avg_pool2d(x, 3, 2), lambda x: F.adaptive_avg_pool2d(x, 1),
    ],
    ids=["overlapping", "side by side", "mean", "global mean"],
)  # fmt: skip
def test_pooling_and_its_gradient_are_machine_code(pool) -> None:
    @lg.compute_graph
    def gradient(x):
        return lg.grad(pool(x).square().sum(), x)[0]

    x = lg.tensor(np.random.default_rng(0).standard_normal((2, 3, 9, 9)), requires_grad=True)
    for _ in range(2):
        gradient(x).numpy()
    program = gradient._last.replay.body.program
    assert {r["executor"] for r in program.explain_rows() if r["kernel"]} == {"native"}
