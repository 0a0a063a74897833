"""The networks that are timed: sizes, batch, loss, first weights, batches. NumPy only.

Everything here is made from fixed seeds, so that each peer, in a process and an environment of its
own, starts from the same weights and sees the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BATCHES = 16  # a power of two: steps go round them


@dataclass(frozen=True)
class Workload:
    """A ReLU network, its batch and its loss; trained by plain SGD in float32."""

    name: str
    sizes: tuple[int, ...]
    batch: int
    hinge: bool = False  # targets -1 and 1, and a penalty; else softmax cross entropy
    lr: float = 0.01
    penalty: float = 1e-4  # times the sum of the squared parameters, with the hinge only
    ratio: float = 1.0  # to reach: best peer over lazygrad
    on_numpy: float = 1.6  # to reach on the NumPy executor: lazygrad over NumPy by hand

    @property
    def layers(self) -> int:
        """How many linear layers."""
        return len(self.sizes) - 1


WORKLOADS = (
    Workload("moons", (2, 16, 16, 1), 100, hinge=True, ratio=4, on_numpy=2.5),
    Workload("digits normal", (64, 64, 32, 10), 32, ratio=3),
    Workload("digits longer", (64, *([256] * 29), 10), 32, ratio=1.5),
    Workload("digits bigger", (64, 8192, 4096, 2048, 10), 8, lr=0.001, ratio=2.5),
    Workload("mnist", (784, 1024, 1024, 1024, 10), 64, ratio=1.2),
)


def find(name: str) -> Workload:
    """The workload of that name."""
    return next(w for w in WORKLOADS if w.name == name)


def weights(w: Workload) -> Iterator[tuple[Array, Array]]:
    """Weight (out, in) and bias of each layer, the weights as He et al. (2015) propose."""
    rng = np.random.default_rng(7)
    for inputs, outputs in pairwise(w.sizes):
        weight = rng.standard_normal((outputs, inputs), np.float32)
        weight *= np.float32((2 / inputs) ** 0.5)
        yield weight, rng.uniform(-0.1, 0.1, outputs).astype(np.float32)


def batches(w: Workload, count: int = BATCHES) -> list[tuple[Array, Array]]:
    """Random inputs (batch, features) with targets (batch, 1), or class indices (batch,)."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        x = rng.standard_normal((w.batch, w.sizes[0]), np.float32)
        if w.hinge:
            y: Array = rng.choice(np.array([-1, 1], np.float32), (w.batch, 1))
        else:
            y = rng.integers(0, w.sizes[-1], w.batch)
        found.append((x, y))
    return found
