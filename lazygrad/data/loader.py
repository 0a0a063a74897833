"""`DataLoader`: batches of tensors from a dataset, read ahead by threads where wished.

Reading a batch (the items, stacking, a user's `collate_fn`) may run on a worker; wrapping the
arrays as tensors always happens on the thread that iterates, and tensors that a `collate_fn` makes
are computed before they leave its thread, so no graph is shared. Threads
suffice because reading waits for files or runs in NumPy, and they see the dataset without copies.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from typing import Any, TypeVar

import numpy as np

from lazygrad.data.collate import stack, to_tensors
from lazygrad.data.dataset import Indexable, IterableDataset, read_batch
from lazygrad.data.sampler import (
    BatchSampler,
    RandomSampler,
    SequentialSampler,
    batch_count,
    check_batch_size,
    chunks,
)
from lazygrad.data.seeding import SeedSource
from lazygrad.engine.pytree import flatten
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ConfigError, DataError

T = TypeVar("T")
Collate = Callable[[Any], Any]
_END = object()


class DataLoader:
    """Iterate over a dataset in batches.

    Parameters
    ----------
    dataset
        Anything with `__getitem__` and `__len__`, or an `IterableDataset`.
    batch_size
        Items per batch; None yields single items, arrays converted to tensors.
    shuffle
        A new order in each epoch: reproducible with `seed`, else as `manual_seed` decides.
    sampler, batch_sampler
        The order of items, or of whole batches, instead of `shuffle`.
    num_workers
        Threads that read ahead, 0 for none; batches come in the same order either way, and an
        error of a worker is raised where the batch is asked for.
    collate_fn
        From a list of items to a batch; by default `default_collate`.
    drop_last
        Leave out a last batch that is smaller.
    generator, seed
        Where the shuffle gets its random numbers, as in `RandomSampler`.
    prefetch_factor
        Batches read ahead per worker.
    pin_memory, persistent_workers
        Taken as in PyTorch and without effect: memory is the CPU's, and workers are threads.

    Raises `DataError` for an empty dataset, `ConfigError` for arguments that do not fit.

    >>> loader = DataLoader([(0.5, 0), (1.5, 1), (2.5, 0)], batch_size=2)
    >>> [(x.shape, y.tolist()) for x, y in loader], len(loader)
    ([((2,), [0, 1]), ((1,), [0])], 2)
    """

    def __init__(
        self,
        dataset: Indexable[Any] | IterableDataset[Any],
        batch_size: int | None = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        drop_last: bool = False,
        generator: SeedSource | np.random.Generator | None = None,
        seed: int | None = None,
        prefetch_factor: int = 2,
        pin_memory: bool = False,
        persistent_workers: bool = False,
    ) -> None:
        _check_counts(batch_size, drop_last, num_workers, prefetch_factor)
        _check_order(dataset, batch_size, shuffle, sampler, batch_sampler, drop_last)
        self.dataset = dataset
        self.batch_size = None if batch_sampler is not None else batch_size
        self.drop_last = drop_last
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.prefetch_factor = prefetch_factor
        self.sampler, self.batch_sampler = sampler, batch_sampler
        self._reader: _StreamReader | _ItemReader
        if isinstance(dataset, IterableDataset):
            self._reader = _StreamReader(dataset, batch_size, drop_last, collate_fn)
            return
        if len(dataset) == 0:
            raise DataError("DataLoader: the dataset is empty")
        order: Iterable[Any]
        if batch_sampler is not None:
            order = batch_sampler
        else:
            if sampler is None and shuffle:
                sampler = RandomSampler(dataset, generator=generator, seed=seed)
            self.sampler = order = SequentialSampler(dataset) if sampler is None else sampler
            if batch_size is not None:
                self.batch_sampler = order = BatchSampler(order, batch_size, drop_last)
        self._reader = _ItemReader(dataset, order, self.batch_sampler is not None, collate_fn)

    def __len__(self) -> int:
        """Batches per epoch; `TypeError` where the dataset or sampler has no length."""
        return len(self._reader)

    def __iter__(self) -> Iterator[Any]:
        reader = self._reader
        workers = min(self.num_workers, reader.most_workers)
        tasks = reader.tasks()
        results = (
            _read_ahead(_settled(reader.read), tasks, workers, workers * self.prefetch_factor)
            if workers
            else map(reader.read, tasks)
        )
        for result in results:
            if result is _END:
                return
            yield to_tensors(result) if self.collate_fn is None else result


class _ItemReader:
    """Reads a dataset by index; a task is a list of indices, or one index without batches."""

    most_workers = sys.maxsize

    def __init__(
        self,
        dataset: Indexable[Any],
        order: Iterable[Any],
        batched: bool,
        collate_fn: Collate | None,
    ) -> None:
        self.dataset = dataset
        self.order = order
        self.batched = batched
        self.collate_fn = collate_fn

    def __len__(self) -> int:
        return batch_count(self.order, 1, drop_last=False)

    def tasks(self) -> Iterator[Any]:
        return iter(self.order)

    def read(self, task: Any) -> Any:
        try:
            if self.batched and self.collate_fn is None:
                return read_batch(self.dataset, task)
            found = [self.dataset[i] for i in task] if self.batched else self.dataset[task]
            return found if self.collate_fn is None else self.collate_fn(found)
        except Exception as error:
            error.add_note(f"DataLoader: while reading the items {task}")
            raise


class _StreamReader:
    """Reads an iterable dataset; a task is the stream itself, and to read is to take its next.

    One worker at most: a stream has one reader at a time, and the order is its own.
    """

    most_workers = 1

    def __init__(
        self,
        dataset: IterableDataset[Any],
        batch_size: int | None,
        drop_last: bool,
        collate_fn: Collate | None,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.collate_fn = stack if collate_fn is None and batch_size is not None else collate_fn

    def __len__(self) -> int:
        return batch_count(self.dataset, self.batch_size or 1, self.drop_last)

    def tasks(self) -> Iterator[Iterator[Any]]:
        stream = iter(self.dataset)
        size = self.batch_size
        return repeat(stream if size is None else chunks(stream, size, self.drop_last))

    def read(self, task: Iterator[Any]) -> Any:
        found: Any = next(task, _END)
        return found if found is _END or self.collate_fn is None else self.collate_fn(found)


def _check_counts(
    batch_size: int | None, drop_last: bool, num_workers: int, prefetch_factor: int
) -> None:
    if batch_size is not None:
        check_batch_size(batch_size)
    elif drop_last:
        raise ConfigError("drop_last needs a batch_size")
    if num_workers < 0:
        raise ConfigError(f"num_workers must not be negative, got {num_workers}")
    if prefetch_factor < 1:
        raise ConfigError(f"prefetch_factor must be at least 1, got {prefetch_factor}")


def _check_order(
    dataset: object,
    batch_size: int | None,
    shuffle: bool,
    sampler: object,
    batch_sampler: object,
    drop_last: bool,
) -> None:
    own_items = shuffle or sampler is not None
    if isinstance(dataset, IterableDataset) and (own_items or batch_sampler is not None):
        raise ConfigError("an IterableDataset decides its own order: no shuffle or sampler")
    if batch_sampler is not None and (batch_size != 1 or own_items or drop_last):
        raise ConfigError("batch_sampler excludes batch_size, shuffle, sampler and drop_last")
    if shuffle and sampler is not None:
        raise ConfigError("give either sampler= or shuffle=True, not both")


def _settled(read: Callable[[Any], T]) -> Callable[[Any], T]:
    """`read`, whose tensors are computed where they were made: each thread has its own graph."""

    def read_and_compute(task: Any) -> T:
        found = read(task)
        for leaf in flatten(found)[0]:
            if isinstance(leaf, Tensor):
                leaf.realize()
        return found

    return read_and_compute


def _read_ahead(
    read: Callable[[Any], T], tasks: Iterable[Any], workers: int, ahead: int
) -> Iterator[T]:
    """`map(read, tasks)` on threads, in order, at most `ahead` results before they are wanted.

    The threads end with the iterator: when it is exhausted, raises, or is dropped.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lazygrad-loader")
    pending: deque[Future[T]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(read, task))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
