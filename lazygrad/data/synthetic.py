"""Two interleaving half circles, the smallest dataset that no straight line divides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygrad.data.dataset import TensorDataset
from lazygrad.data.seeding import RandomSource
from lazygrad.errors import ConfigError


def make_moons(
    n_samples: int = 100,
    *,
    shuffle: bool = True,
    noise: float | None = None,
    seed: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Points (n, 2) of float64 on two half circles, and their class (n,) of int64, 0 or 1.

    `noise` is the standard deviation of what is added to the points. The numbers are those of
    scikit-learn's `make_moons` with `random_state=seed`; without a seed lazygrad's own generator
    decides.

    >>> make_moons(4, shuffle=False)[0].round(1).tolist()
    [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [2.0, 0.5]]
    """
    if n_samples < 2:
        raise ConfigError(f"moons: n_samples must be at least 2, got {n_samples}")
    if noise is not None and noise < 0:
        raise ConfigError(f"moons: noise must not be negative, got {noise}")
    # The legacy generator, because its stream is the one that published results are made with.
    rng = np.random.RandomState(RandomSource(seed).draw() % 2**32)
    n_outer = n_samples // 2
    n_inner = n_samples - n_outer
    outer, inner = np.linspace(0, np.pi, n_outer), np.linspace(0, np.pi, n_inner)
    points = np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            np.stack([1 - np.cos(inner), 1 - np.sin(inner) - 0.5], axis=1),
        ]
    )
    labels = np.repeat(np.array([0, 1], np.int64), [n_outer, n_inner])
    if shuffle:
        order = np.arange(n_samples)
        rng.shuffle(order)
        points, labels = points[order], labels[order]
    if noise is not None:
        points += rng.normal(scale=noise, size=points.shape)
    return points, labels


def moons(
    n_samples: int = 100, *, noise: float | None = 0.1, seed: int | None = None
) -> TensorDataset:
    """`make_moons` ready for a network: points of float32, classes of int64.

    >>> x, y = moons(10, seed=0)[0]
    >>> x.shape, y.shape
    ((2,), ())
    """
    points, labels = make_moons(n_samples, noise=noise, seed=seed)
    return TensorDataset(points.astype(np.float32), labels)
