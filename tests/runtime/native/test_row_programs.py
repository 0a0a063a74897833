"""The kernels that the engine makes of small programs, as machine code against the reference."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn, optim
from lazygrad.config import config
from lazygrad.engine import program
from lazygrad.engine.frozen import FrozenGraph
from lazygrad.engine.program import CACHE, Program, compile_graph
from lazygrad.nn import functional as F
from lazygrad.runtime.kernel import Contract, Extern, Kernel
from tests.runtime.native.row_units import Array, check_units, run_units, same_bits

pytestmark = pytest.mark.numpy_code


def tensor(*shape: int, dtype: lg.DType = lg.float32, grad: bool = False) -> lg.Tensor:
    values = np.random.default_rng(0).standard_normal(shape) * 3
    return lg.tensor(values.astype(dtype.dtype), requires_grad=grad)


def labels(n: int, classes: int) -> lg.Tensor:
    return lg.tensor(np.random.default_rng(0).integers(0, classes, n))


def values_of(kernel: Kernel) -> list[Array]:
    rng = np.random.default_rng(0)
    return [
        (rng.standard_normal(p.size) if p.dtype.is_floating_point else rng.integers(0, 3, p.size))
        .astype(p.dtype.dtype)
        for p in kernel.params
    ]  # fmt: skip


def training(optimizer: Callable[..., optim.Optimizer], *sizes: int) -> Callable[[], None]:
    """Two steps of a network with ReLU and cross entropy."""

    def run() -> None:
        layers: list[nn.Module] = []
        for n, m in itertools.pairwise(sizes):
            layers += [nn.Linear(n, m), nn.ReLU()]
        model = nn.Sequential(*layers[:-1])
        step = optimizer(model.parameters(), lr=0.1)
        for _ in range(2):
            step.zero_grad()
            F.cross_entropy(model(tensor(33, sizes[0])), labels(33, sizes[-1])).backward()
            step.step()

    return run


def hinge() -> None:
    x, t = tensor(100, 1, grad=True), tensor(100, 1).sign()
    loss = F.relu(1 - x * t).mean() + 0.1 * (x * x).sum()
    loss.backward()
    assert x.grad is not None
    x.grad.numpy()


def layer_norm() -> None:
    x, w, b = tensor(3, 17, 65, grad=True), tensor(65, grad=True), tensor(65, grad=True)
    (F.layer_norm(x, (65,), w, b) ** 2).sum().backward()
    for p in (x, w, b):
        assert p.grad is not None
        p.grad.numpy()


def batch_norm() -> None:
    layer, x = nn.BatchNorm1d(33), tensor(17, 33, grad=True)
    (layer(x) ** 2).sum().backward()
    assert x.grad is not None
    x.grad.numpy()


def halves() -> None:
    for dtype in (lg.float16, lg.bfloat16):
        x = tensor(17, 33, dtype=dtype)
        (x * 2 + 1).sum(0).numpy(), x.softmax(1).numpy(), x.amax(1).numpy(), x.mean().item()


def integers() -> None:
    tensor(17, 33, dtype=lg.int32).sum(0).numpy()
    tensor(17, 33, dtype=lg.int8).sum().numpy()
    tensor(3, 4, 5, dtype=lg.int64).prod(1).numpy()
    (tensor(17, 33) > 0).any(1).numpy(), (tensor(17, 33) > 0).all(0).numpy()


PROGRAMS: dict[str, Callable[[], object]] = {
    "softmax": lambda: tensor(33, 10).softmax(1).numpy(),
    "softmax of columns": lambda: tensor(33, 17).softmax(0).numpy(),
    "log softmax": lambda: tensor(5, 33, 17).log_softmax(1).numpy(),
    "hinge": hinge,
    "layer norm": layer_norm,
    "batch norm": batch_norm,
    "sgd": training(optim.SGD, 2, 16, 16, 3),
    "adamw": training(optim.AdamW, 17, 10),
    "transposed": lambda: (tensor(33, 47).T + tensor(47, 33)).numpy(),
    "permuted": lambda: (tensor(5, 6, 7, 8).permute(2, 0, 3, 1) * 2).numpy(),
    "reversed and strided": lambda: (tensor(33, 47).flip(0) + tensor(33, 94)[:, ::2]).numpy(),
    "broadcast": lambda: lg.where(tensor(33, 47) > 0, tensor(33, 1), tensor(47)).numpy(),
    "argmax": lambda: (tensor(33, 47).argmax(1).numpy(), tensor(33, 47).argmin(0).numpy()),
    "argmax of all": lambda: tensor(33, 47).argmax().numpy(),
    "moments": lambda: (tensor(33, 47).var(0).numpy(), tensor(3, 33, 5).mean((0, 2)).numpy()),
    "sums": lambda: (tensor(3, 33, 17).sum((0, 1)).numpy(), tensor(3, 33, 17).sum().numpy()),
    "halves": halves,
    "integers": integers,
    "scalars": lambda: ((tensor() * 2).numpy(), tensor().exp().sum().numpy()),
    "nothing": lambda: (tensor(0, 5).sum(0).numpy(), (tensor(0, 5) + 1).sum(1).numpy()),
    "positions": lambda: (F.one_hot(labels(33, 10), 10).numpy(), lg.arange(33).numpy()),
    "dropout": lambda: F.dropout(tensor(33, 47), 0.5, True).numpy(),
}


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Program]]:
    """Every program that is compiled during the test."""
    found: list[Program] = []

    def record(frozen: FrozenGraph, **options: str) -> Program:
        found.append(compile_graph(frozen, **options))
        return found[-1]

    monkeypatch.setattr(program, "compile_graph", record)
    CACHE.clear()
    yield found
    CACHE.clear()


@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_of_programs(name: str, compiled: list[Program]) -> None:
    with config.override(executor="numpy"):
        PROGRAMS[name]()
    kernels = {k.key(): k for p in compiled for k in p.kernels if _is_row_kernel(k)}
    assert kernels or name == "nothing"
    for kernel in kernels.values():
        arrays = values_of(kernel)
        found = check_units(kernel, arrays, 2e-4)
        same_bits(found, run_units(kernel, arrays)[0])


def _is_row_kernel(kernel: Kernel) -> bool:
    return not any(isinstance(s, Contract | Extern) for s in kernel.stages)
