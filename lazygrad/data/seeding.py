"""Where shuffles get their random numbers from.

With a seed, epoch e draws from NumPy's generator of (seed, e): reproducible, and another order in
each epoch, whatever else draws numbers in between. Without one, each epoch draws a seed from
lazygrad's own generator, so that `manual_seed` decides everything.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from lazygrad.engine.random import default_generator
from lazygrad.errors import ConfigError


class SeedSource(Protocol):
    """What seeds can be drawn from: lazygrad's generators."""

    def host_seed(self) -> int:
        """A fresh non-negative seed."""
        ...


class RandomSource:
    """A NumPy generator for each epoch: `next(source)`.

    `seed` must be a non-negative integer; `generator` may be one of lazygrad's or a
    `numpy.random.Generator`; with neither the default generator of lazygrad serves. `epoch` counts
    the seeded generators handed out and may be set, to resume a run.

    >>> source = RandomSource(seed=7)
    >>> next(source).integers(100) == next(RandomSource(seed=7)).integers(100)
    np.True_
    """

    def __init__(
        self, seed: int | None = None, generator: SeedSource | np.random.Generator | None = None
    ) -> None:
        if seed is not None and generator is not None:
            raise ConfigError("give either seed= or generator=, not both")
        if seed is not None and (not isinstance(seed, int | np.integer) or seed < 0):
            raise ConfigError(f"seed must be a non-negative integer, got {seed!r}")
        self.seed = seed
        self.generator = generator
        self.epoch = 0

    def __next__(self) -> np.random.Generator:
        if self.seed is not None:
            rng = np.random.default_rng((int(self.seed), self.epoch))
            self.epoch += 1
            return rng
        return np.random.default_rng(self.draw())

    def draw(self) -> int:
        """A seed below 2**63: the given one, or a fresh one from the generator."""
        if self.seed is not None:
            return int(self.seed)
        if isinstance(self.generator, np.random.Generator):
            return int(self.generator.integers(2**63))
        return (self.generator or default_generator()).host_seed()
