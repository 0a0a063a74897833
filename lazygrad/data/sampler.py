"""Samplers: the order in which a loader visits a dataset.

A sampler is an iterable of indices with a length; a batch sampler an iterable of lists of them.
Each `iter()` is one epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Generic, TypeVar

import numpy as np

from lazygrad.data.seeding import RandomSource, SeedSource
from lazygrad.errors import ConfigError, DataError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def chunks(items: Iterable[T], size: int, drop_last: bool) -> Iterator[list[T]]:
    """Lists of `size` items in order; the last may be shorter unless `drop_last`.

    >>> list(chunks("abcde", 2, drop_last=False))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        if len(chunk) == size or not drop_last:
            yield chunk


def check_batch_size(batch_size: int) -> None:
    """Raise unless `batch_size` is a positive integer."""
    integral = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if not integral or batch_size < 1:
        raise ConfigError(f"batch_size must be a positive integer, got {batch_size!r}")


class Sampler(Generic[T_co]):
    """Base of samplers: override `__iter__`, and `__len__` where the length is known."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ... in order.

    >>> list(SequentialSampler("abc"))
    [0, 1, 2]
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """A fresh permutation in each epoch, or draws with replacement.

    `num_samples` is the length of an epoch, the dataset's by default; more than that goes round
    again with another permutation. `seed` and `generator` as in `RandomSource`.

    >>> sampler = RandomSampler("abcd", seed=0)
    >>> sorted(sampler), list(sampler) == list(sampler)
    ([0, 1, 2, 3], False)
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: SeedSource | np.random.Generator | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        if num_samples is not None and num_samples < 1:
            raise ConfigError(f"num_samples must be positive, got {num_samples}")
        if len(data_source) == 0:
            raise DataError("RandomSampler: the dataset is empty")
        self.data_source = data_source
        self.replacement = replacement
        self.source = RandomSource(seed, generator)
        self._num_samples = num_samples

    def __iter__(self) -> Iterator[int]:
        rng, size, count = next(self.source), len(self.data_source), len(self)
        if self.replacement:
            return iter(rng.integers(size, size=count).tolist())
        rounds = [rng.permutation(size) for _ in range(-(-count // size))]
        return iter(np.concatenate(rounds)[:count].tolist())

    def __len__(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices, in another order in each epoch."""

    def __init__(
        self,
        indices: Sequence[int],
        generator: SeedSource | np.random.Generator | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        self.indices = indices
        self.source = RandomSource(seed, generator)

    def __iter__(self) -> Iterator[int]:
        return iter(next(self.source).permutation(np.asarray(self.indices)).tolist())

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """`num_samples` draws from 0 ... len(weights)-1, chances in proportion to the weights.

    Without replacement at most as many as there are weights above zero.
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: SeedSource | np.random.Generator | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        self.weights = np.asarray(weights, dtype=np.float64)
        total = self.weights.sum()
        if self.weights.ndim != 1 or not (np.isfinite(total) and total > 0 <= self.weights.min()):
            raise DataError(
                "weights must be one row of finite numbers, none negative, not all zero"
            )
        if num_samples < 1:
            raise ConfigError(f"num_samples must be positive, got {num_samples}")
        drawable = int(np.count_nonzero(self.weights))
        if not replacement and num_samples > drawable:
            raise DataError(
                f"{num_samples} samples without replacement from {drawable} weights > 0"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.source = RandomSource(seed, generator)

    def __iter__(self) -> Iterator[int]:
        chances = self.weights / self.weights.sum()
        drawn = next(self.source).choice(
            len(chances), self.num_samples, replace=self.replacement, p=chances
        )
        return iter(drawn.tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices from another sampler.

    >>> list(BatchSampler(range(5), batch_size=2, drop_last=True))
    [[0, 1], [2, 3]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool = False) -> None:
        check_batch_size(batch_size)
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        return chunks(self.sampler, self.batch_size, self.drop_last)

    def __len__(self) -> int:
        return batch_count(self.sampler, self.batch_size, self.drop_last)


def batch_count(items: object, batch_size: int, drop_last: bool) -> int:
    """How many batches `items` make; `TypeError` where `items` has no length."""
    if not isinstance(items, Sized):
        raise TypeError(f"{type(items).__name__} has no length")
    return len(items) // batch_size if drop_last else -(-len(items) // batch_size)
