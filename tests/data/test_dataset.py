"""Datasets by index: rows, subsets, splits."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygrad as lg
from lazygrad import Tensor
from lazygrad.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    random_split,
)
from lazygrad.data.dataset import read_batch
from lazygrad.errors import ConfigError, DataError, DTypeError, IndexOutOfRangeError, ShapeError


def rows(count: int = 6) -> TensorDataset:
    return TensorDataset(np.arange(count * 2, dtype=np.float32).reshape(count, 2), np.arange(count))


def test_tensor_dataset_items_are_tensors() -> None:
    x, y = rows()[-1]
    assert isinstance(x, Tensor)
    assert x.tolist() == [10.0, 11.0]
    assert (y.item(), y.shape) == (5, ())
    assert len(rows()) == 6
    assert [t.shape for t in rows().tensors] == [(6, 2), (6,)]


def test_tensor_dataset_takes_tensors() -> None:
    x, y = TensorDataset(Tensor(np.eye(2, dtype=np.float32)), [3, 4])[0]
    assert x.tolist() == [1.0, 0.0]
    assert y.item() == 3


def test_tensor_dataset_can_be_walked() -> None:
    assert [y.item() for _, y in rows(3)] == [0, 1, 2]


def test_batches_are_the_stacked_items() -> None:
    dataset = Subset(Subset(rows(), [5, 3, 1, 0]), [3, 0, 2])
    fast = read_batch(dataset, [2, 0])
    slow = read_batch([dataset[i] for i in range(3)], [2, 0])
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_a_subclass_that_overrides_items_is_heard() -> None:
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x.numpy() * 2, y

    dataset = Doubled(np.ones((4, 1)), np.arange(4))
    assert read_batch(dataset, [0, 1])[0].tolist() == [[2.0], [2.0]]
    assert read_batch(Subset(dataset, [3]), [0])[0].tolist() == [[2.0]]


@given(
    size=st.integers(1, 200),
    cuts=st.lists(st.floats(0, 1), min_size=0, max_size=4),
    seed=st.integers(0, 9),
)
def test_split_is_a_partition(size: int, cuts: list[float], seed: int) -> None:
    borders = [0.0, *sorted(cuts), 1.0]
    fractions = [b - a for a, b in pairwise(borders)]
    parts = random_split(range(size), fractions, seed=seed)
    assert sorted(i for part in parts for i in part) == list(range(size))
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * size) <= len(parts)


def test_split_by_lengths_and_seeds() -> None:
    first, second = random_split(range(10), [7, 3], seed=1)
    assert (len(first), len(second)) == (7, 3)
    assert list(random_split(range(10), [7, 3], seed=1)[0]) == list(first)
    assert list(random_split(range(10), [7, 3], seed=2)[0]) != list(first)
    lg.manual_seed(4)
    drawn = list(random_split(range(10), [7, 3])[0])
    lg.manual_seed(4)
    assert list(random_split(range(10), [7, 3])[0]) == drawn


def test_datasets_one_after_the_other() -> None:
    both = ConcatDataset(["ab", "", Subset("cdef", [3, 0])])
    assert [both[i] for i in range(-4, 4)] == list("abfcabfc")
    numbers = ConcatDataset([TensorDataset(np.arange(3)), TensorDataset(np.arange(3, 5))])
    assert [x.tolist() for (x,) in DataLoader(numbers, 2)] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: TensorDataset(), DataError, "no tensors given"),
        (lambda: TensorDataset(np.float32(1)), ShapeError, "0-d tensor has no rows"),
        (
            lambda: TensorDataset(np.ones((3, 2)), np.ones(4)),
            ShapeError,
            r"first axis: \(3, 2\), \(4,\)",
        ),
        (lambda: ConcatDataset([]), DataError, "there are no datasets"),
        (lambda: ConcatDataset(["a", "b"])[2], IndexOutOfRangeError, "index 2 in a dataset of 2"),
        (lambda: Subset("abc", [3]), IndexOutOfRangeError, "indices from 3 to 3 in a dataset of 3"),
        (lambda: Subset("abc", [-4]), IndexOutOfRangeError, "indices from -4"),
        (lambda: Subset("abc", [0.5]), DTypeError, "a row of integers, got float64"),
        (lambda: random_split("abc", [2, 2]), ConfigError, "adds up to 4, the dataset has 3"),
        (lambda: random_split("abc", [0.5, 0.4]), ConfigError, "do not add up to 1"),
        (lambda: random_split("abc", [4, -1]), ConfigError, "must not be negative"),
        (lambda: rows()[6], IndexError, "6"),
        (lambda: DataLoader(Subset("abc", [])), DataError, "the dataset is empty"),
    ],
)
def test_bad_arguments(make, error, text) -> None:
    with pytest.raises(error, match=text):
        make()


def test_the_bases_say_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match="Mine must define __getitem__"):
        type("Mine", (Dataset,), {})()[0]
    with pytest.raises(NotImplementedError, match="Mine must define __iter__"):
        iter(type("Mine", (IterableDataset,), {})())
