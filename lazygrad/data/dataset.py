"""Datasets: something with `__getitem__` and `__len__`, or something to iterate over.

A dataset that keeps its items in arrays may also define `get_batch(indices)`, which returns the
stacked items at once; `read_batch` uses it unless a subclass has overridden `__getitem__` alone,
whose word then counts.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lazygrad.data.collate import stack
from lazygrad.data.seeding import RandomSource, SeedSource
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ConfigError, DataError, DTypeError, IndexOutOfRangeError, ShapeError

T_co = TypeVar("T_co", covariant=True)


class Indexable(Protocol[T_co]):
    """What a loader needs of a dataset: a list will do."""

    def __getitem__(self, index: int, /) -> T_co: ...
    def __len__(self) -> int: ...


class Dataset(Generic[T_co]):
    """Base of datasets read by index: define `__getitem__` and `__len__`.

    Loaders with workers call `__getitem__` from several threads at once.
    """

    def __getitem__(self, index: int) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")


class IterableDataset(Generic[T_co]):
    """Base of datasets read as a stream: define `__iter__`, and `__len__` where it is known."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """The rows of one or more tensors or arrays of equal length.

    `arrays` holds them as NumPy arrays, borrowed, not copied. Item i is a tuple of tensors.

    >>> data = TensorDataset(np.eye(3, dtype=np.float32), np.arange(3))
    >>> x, y = data[1]
    >>> len(data), x.tolist(), y.item()
    (3, [0.0, 1.0, 0.0], 1)
    """

    def __init__(self, *tensors: Tensor | ArrayLike) -> None:
        self.arrays: tuple[NDArray[Any], ...] = tuple(
            t.numpy() if isinstance(t, Tensor) else np.asarray(t) for t in tensors
        )
        if not self.arrays:
            raise DataError("TensorDataset: no tensors given")
        if any(array.ndim == 0 for array in self.arrays):
            raise ShapeError("TensorDataset: a 0-d tensor has no rows")
        rows = [len(array) for array in self.arrays]
        if len(set(rows)) > 1:
            shapes = ", ".join(str(array.shape) for array in self.arrays)
            raise ShapeError(f"TensorDataset: tensors differ in their first axis: {shapes}")

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The whole columns as tensors."""
        return tuple(Tensor(array) for array in self.arrays)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(Tensor(array[index]) for array in self.arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def get_batch(self, indices: Sequence[int]) -> tuple[NDArray[Any], ...]:
        """The rows at `indices`, one array per column."""
        return tuple(array.take(indices, axis=0) for array in self.arrays)


class ConcatDataset(Dataset[T_co]):
    """Datasets one after the other.

    >>> both = ConcatDataset(["ab", "cde"])
    >>> len(both), both[1], both[2], both[-1]
    (5, 'b', 'c', 'e')
    """

    def __init__(self, datasets: Iterable[Indexable[T_co]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise DataError("ConcatDataset: there are no datasets")
        self.cumulative_sizes = list(accumulate(map(len, self.datasets)))

    def __getitem__(self, index: int) -> T_co:
        size = len(self)
        if not -size <= index < size:
            raise IndexOutOfRangeError(f"ConcatDataset: index {index} in a dataset of {size}")
        place = bisect_right(self.cumulative_sizes, index % size)
        before = self.cumulative_sizes[place - 1] if place else 0
        return self.datasets[place][index % size - before]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class Subset(Dataset[T_co]):
    """Some items of another dataset.

    >>> list(Subset("abcd", [3, 1]))
    ['d', 'b']
    """

    def __init__(self, dataset: Indexable[T_co], indices: Sequence[int]) -> None:
        chosen = np.asarray(indices)
        if chosen.size and (chosen.ndim != 1 or chosen.dtype.kind not in "iu"):
            raise DTypeError(f"Subset: indices must be a row of integers, got {chosen.dtype}")
        size = len(dataset)
        if chosen.size and not -size <= chosen.min() <= chosen.max() < size:
            raise IndexOutOfRangeError(
                f"Subset: indices from {chosen.min()} to {chosen.max()} in a dataset of {size}"
            )
        self.dataset = dataset
        self.indices: list[int] = chosen.astype(np.intp).tolist()

    def __getitem__(self, index: int) -> T_co:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)

    def get_batch(self, indices: Sequence[int]) -> Any:
        """The items at `indices`, stacked."""
        return read_batch(self.dataset, [self.indices[i] for i in indices])


def read_batch(dataset: Indexable[Any], indices: Sequence[int]) -> Any:
    """The items at `indices`, stacked into arrays.

    >>> read_batch([(1, 0.5), (2, 1.5)], [1, 0])
    (array([2, 1]), array([1.5, 0.5]))
    """
    for base in type(dataset).__mro__:
        if "get_batch" in vars(base):
            return dataset.get_batch(indices)  # type: ignore[attr-defined]
        if "__getitem__" in vars(base):
            break
    return stack([dataset[i] for i in indices])


def random_split(
    dataset: Indexable[T_co],
    lengths: Sequence[int | float],
    generator: SeedSource | np.random.Generator | None = None,
    *,
    seed: int | None = None,
) -> list[Subset[T_co]]:
    """Split at random into parts of the given sizes, or fractions that add up to 1.

    >>> [len(part) for part in random_split(range(10), [0.75, 0.25], seed=1)]
    [8, 2]
    """
    sizes = _sizes(len(dataset), lengths)
    order = next(RandomSource(seed, generator)).permutation(len(dataset))
    parts = np.split(order, np.cumsum(sizes)[:-1])
    return [Subset(dataset, part.tolist()) for part in parts]


def _sizes(total: int, lengths: Sequence[int | float]) -> list[int]:
    """Whole sizes that add up to `total`; what fractions leave over goes to the first parts."""
    if any(length < 0 for length in lengths):
        raise ConfigError(f"random_split: lengths must not be negative, got {list(lengths)}")
    if any(isinstance(length, float) for length in lengths):
        if not math.isclose(sum(lengths), 1.0):
            raise ConfigError(f"random_split: fractions {list(lengths)} do not add up to 1")
        sizes = [math.floor(total * fraction) for fraction in lengths]
        for part in range(total - sum(sizes)):
            sizes[part % len(sizes)] += 1
        return sizes
    sizes = [int(length) for length in lengths]
    if sum(sizes) != total:
        raise ConfigError(f"random_split: {sizes} adds up to {sum(sizes)}, the dataset has {total}")
    return sizes
