"""Samplers: orders, seeds, epochs."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.data import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from lazygrad.data.sampler import batch_count
from lazygrad.errors import ConfigError, DataError


def test_a_seed_gives_the_same_orders_and_another_one_in_each_epoch() -> None:
    first, second = RandomSampler(range(50), seed=3), RandomSampler(range(50), seed=3)
    epochs = [list(first) for _ in range(3)]
    assert epochs == [list(second) for _ in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert list(RandomSampler(range(50), seed=4)) != epochs[0]


def test_an_epoch_can_be_resumed() -> None:
    sampler = RandomSampler(range(50), seed=3)
    epochs = [list(sampler) for _ in range(3)]
    resumed = RandomSampler(range(50), seed=3)
    resumed.source.epoch = 2
    assert list(resumed) == epochs[2]


def test_a_seeded_order_does_not_depend_on_other_draws() -> None:
    sampler = RandomSampler(range(50), seed=3)
    lg.manual_seed(0)
    first = list(sampler)
    lg.manual_seed(1)
    assert list(RandomSampler(range(50), seed=3)) == first


def test_without_a_seed_manual_seed_decides() -> None:
    sampler = RandomSampler(range(50))
    lg.manual_seed(11)
    epochs = [list(sampler), list(sampler)]
    assert epochs[0] != epochs[1]
    lg.manual_seed(11)
    assert [list(sampler), list(RandomSampler(range(50)))] == epochs


def test_a_numpy_generator_serves() -> None:
    orders = [list(RandomSampler(range(50), generator=np.random.default_rng(5))) for _ in range(2)]
    assert orders[0] == orders[1]


def test_random_sampler_with_another_length() -> None:
    assert sorted(RandomSampler(range(3), num_samples=6, seed=0)) == [0, 0, 1, 1, 2, 2]
    assert len(list(RandomSampler(range(5), num_samples=2, seed=0))) == 2
    drawn = list(RandomSampler(range(3), replacement=True, num_samples=200, seed=0))
    assert len(drawn) == 200
    assert set(drawn) == {0, 1, 2}


def test_subset_and_weights() -> None:
    subset = SubsetRandomSampler([4, 7, 9], seed=0)
    assert sorted(subset) == [4, 7, 9]
    assert len(subset) == 3
    weighted = WeightedRandomSampler([0.0, 1.0, 3.0], 4000, seed=0)
    counts = np.bincount(list(weighted), minlength=3)
    assert counts[0] == 0
    assert abs(counts[2] / 4000 - 0.75) < 0.05
    assert sorted(WeightedRandomSampler([2, 0, 1], 2, replacement=False, seed=0)) == [0, 2]


def test_batches() -> None:
    assert list(BatchSampler(SequentialSampler(range(5)), 2)) == [[0, 1], [2, 3], [4]]
    assert len(BatchSampler(range(5), 2)) == 3
    assert len(BatchSampler(range(5), 2, drop_last=True)) == 2
    with pytest.raises(TypeError, match="generator has no length"):
        batch_count((i for i in range(3)), 2, drop_last=False)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: RandomSampler([]), DataError, "the dataset is empty"),
        (lambda: RandomSampler("ab", num_samples=0), ConfigError, "num_samples must be positive"),
        (lambda: RandomSampler("ab", seed=-1), ConfigError, "non-negative integer, got -1"),
        (lambda: RandomSampler("ab", seed=1.5), ConfigError, "non-negative integer, got 1.5"),
        (
            lambda: RandomSampler("ab", seed=1, generator=np.random.default_rng()),
            ConfigError,
            "either seed= or generator=",
        ),
        (
            lambda: BatchSampler("ab", 0),
            ConfigError,
            "batch_size must be a positive integer, got 0",
        ),
        (lambda: BatchSampler("ab", True), ConfigError, "batch_size must be a positive integer"),
        (lambda: WeightedRandomSampler([1, -1], 1), DataError, "none negative"),
        (lambda: WeightedRandomSampler([0, 0], 1), DataError, "not all zero"),
        (lambda: WeightedRandomSampler([1, np.nan], 1), DataError, "finite"),
        (lambda: WeightedRandomSampler([], 1), DataError, "one row"),
        (lambda: WeightedRandomSampler([1], 0), ConfigError, "num_samples must be positive"),
        (
            lambda: WeightedRandomSampler([1, 0], 2, replacement=False),
            DataError,
            "2 samples without replacement from 1",
        ),
    ],
)
def test_bad_arguments(make, error, text) -> None:
    with pytest.raises(error, match=text):
        make()


def test_a_sampler_must_define_its_order() -> None:
    with pytest.raises(NotImplementedError, match="Order must define __iter__"):
        list(type("Order", (Sampler,), {})())
