"""The loader: batches, orders, streams, worker threads."""

import gc
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lazygrad as lg
from lazygrad import Tensor
from lazygrad.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from lazygrad.errors import ConfigError, DataError


def rows(count: int = 10) -> TensorDataset:
    return TensorDataset(np.arange(count * 2, dtype=np.float32).reshape(count, 2), np.arange(count))


def labels(loader: DataLoader) -> list[list[int]]:
    return [y.tolist() for _, y in loader]


class Stream(IterableDataset):
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self):
        return iter(range(self.count))


class SizedStream(Stream):
    def __len__(self) -> int:
        return self.count


def loader_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("lazygrad-loader")]


def wait_until_threads_end() -> None:
    for thread in loader_threads():
        thread.join(timeout=10)
    assert not loader_threads()


def test_batches_of_tensors_in_order() -> None:
    batches = list(DataLoader(rows(5), batch_size=2))
    assert [type(x) for x, _ in batches] == [Tensor] * 3
    assert [x.shape for x, _ in batches] == [(2, 2), (2, 2), (1, 2)]
    assert batches[1][0].tolist() == [[4.0, 5.0], [6.0, 7.0]]
    assert batches[1][0].numpy().dtype == np.float32


@given(
    count=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    num_workers=st.sampled_from([0, 0, 2]),
)
def test_every_item_once(count, batch_size, drop_last, shuffle, num_workers) -> None:
    loader = DataLoader(
        range(count), batch_size, shuffle, drop_last=drop_last, num_workers=num_workers, seed=1
    )
    batches = [batch.tolist() for batch in loader]
    assert len(batches) == len(loader)
    seen = [i for batch in batches for i in batch]
    dropped = count % batch_size if drop_last else 0
    assert len(seen) == len(set(seen)) == count - dropped
    assert all(len(batch) == batch_size for batch in batches[:-1])
    if not shuffle:
        assert seen == list(range(count - dropped))


def test_shuffling_is_reproducible_and_differs_by_epoch() -> None:
    first, second = (DataLoader(rows(), 3, shuffle=True, seed=5) for _ in range(2))
    epochs = [labels(first), labels(first)]
    assert epochs == [labels(second), labels(second)]
    assert epochs[0] != epochs[1]


def test_shuffling_follows_manual_seed() -> None:
    loader = DataLoader(rows(), 3, shuffle=True)
    lg.manual_seed(8)
    epoch = labels(loader)
    assert labels(loader) != epoch
    lg.manual_seed(8)
    assert labels(loader) == epoch


def test_workers_do_not_change_what_is_seen() -> None:
    plain = DataLoader(rows(), 3, shuffle=True, seed=5)
    threaded = DataLoader(rows(), 3, shuffle=True, seed=5, num_workers=3)
    assert [labels(plain), labels(plain)] == [labels(threaded), labels(threaded)]
    wait_until_threads_end()


def test_own_orders() -> None:
    assert labels(DataLoader(rows(), 2, sampler=[7, 1, 2])) == [[7, 1], [2]]
    by_batch = DataLoader(rows(), batch_sampler=[[7, 1, 2], [0]])
    assert labels(by_batch) == [[7, 1, 2], [0]]
    assert len(by_batch) == 2


def test_collate_fn_gets_the_items() -> None:
    loader = DataLoader([("a", 1), ("b", 2), ("c", 3)], 2, collate_fn=lambda items: items)
    assert list(loader) == [[("a", 1), ("b", 2)], [("c", 3)]]


def test_dictionaries() -> None:
    (batch,) = DataLoader([{"x": np.ones(2), "id": "a"}, {"x": np.zeros(2), "id": "b"}], 2)
    assert batch["x"].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert batch["id"] == ["a", "b"]


def test_without_batches() -> None:
    loader = DataLoader([(np.ones(2), 4), (np.zeros(2), 5)], batch_size=None)
    assert len(loader) == 2
    x, y = next(iter(loader))
    assert (x.tolist(), y) == ([1.0, 1.0], 4)
    assert list(DataLoader("ab", batch_size=None, collate_fn=str.upper)) == ["A", "B"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streams(num_workers: int) -> None:
    loader = DataLoader(Stream(5), 2, num_workers=num_workers)
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4]]
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4]]
    dropping = DataLoader(Stream(5), 2, drop_last=True, num_workers=num_workers)
    assert [batch.tolist() for batch in dropping] == [[0, 1], [2, 3]]
    assert list(DataLoader(Stream(3), batch_size=None, num_workers=num_workers)) == [0, 1, 2]
    assert list(DataLoader(Stream(3), 2, collate_fn=sum, num_workers=num_workers)) == [1, 2]
    wait_until_threads_end()


def test_length_of_streams() -> None:
    assert len(DataLoader(SizedStream(5), 2)) == 3
    with pytest.raises(TypeError, match="Stream has no length"):
        len(DataLoader(Stream(5), 2))


class Faulty(Dataset):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> int:
        if index == 7:
            raise OSError("item 7 cannot be read")
        return index


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_an_error_of_a_worker_arrives_with_its_batch(num_workers: int) -> None:
    iterator = iter(DataLoader(Faulty(), 2, num_workers=num_workers))
    assert [next(iterator).tolist() for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(OSError, match="item 7 cannot be read") as caught:
        next(iterator)
    assert caught.value.__notes__ == ["DataLoader: while reading the items [6, 7]"]
    wait_until_threads_end()


def test_an_error_of_a_stream_arrives() -> None:
    class Broken(IterableDataset):
        def __iter__(self):
            yield 1
            raise OSError("the stream broke")

    for num_workers in (0, 2):
        with pytest.raises(OSError, match="the stream broke"):
            list(DataLoader(Broken(), num_workers=num_workers))
    wait_until_threads_end()


def test_threads_end_when_the_iterator_is_dropped() -> None:
    iterator = iter(DataLoader(range(1000), num_workers=3))
    next(iterator)
    assert loader_threads()
    del iterator
    gc.collect()
    wait_until_threads_end()


def test_workers_read_only_so_far_ahead() -> None:
    read = []

    class Recording(Dataset):
        def __len__(self) -> int:
            return 100

        def __getitem__(self, index: int) -> int:
            read.append(index)
            return index

    iterator = iter(DataLoader(Recording(), num_workers=2, prefetch_factor=3))
    next(iterator)
    deadline = time.monotonic() + 10
    while len(read) < 7 and time.monotonic() < deadline:
        time.sleep(0.001)
    del iterator
    wait_until_threads_end()
    assert sorted(read) == list(range(7))


def test_workers_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=10)

    class Meeting(Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> int:
            meeting.wait()  # returns only once two workers are inside
            return index

    assert [b.tolist() for b in DataLoader(Meeting(), num_workers=2)] == [[0], [1], [2], [3]]


def test_held_batches_stay_as_they_were() -> None:
    batches = [x for x, _ in DataLoader(rows(6), 2)]
    assert [x.tolist()[0] for x in batches] == [[0.0, 1.0], [4.0, 5.0], [8.0, 9.0]]
    source = np.zeros((2, 2))
    (batch,) = [x for (x,) in DataLoader(TensorDataset(source), 2)]
    source[:] = 1
    assert batch.tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: DataLoader([]), DataError, "the dataset is empty"),
        (lambda: DataLoader(rows(0)), DataError, "the dataset is empty"),
        (lambda: DataLoader(Subset(rows(), []), shuffle=True), DataError, "the dataset is empty"),
        (lambda: DataLoader("ab", 0), ConfigError, "batch_size must be a positive integer, got 0"),
        (lambda: DataLoader("ab", 1.5), ConfigError, "batch_size must be a positive integer"),
        (lambda: DataLoader("ab", num_workers=-1), ConfigError, "num_workers must not be negative"),
        (lambda: DataLoader("ab", prefetch_factor=0), ConfigError, "prefetch_factor"),
        (lambda: DataLoader("ab", None, drop_last=True), ConfigError, "drop_last needs"),
        (lambda: DataLoader("ab", shuffle=True, sampler=[0]), ConfigError, "either sampler="),
        (lambda: DataLoader("ab", 2, batch_sampler=[[0]]), ConfigError, "batch_sampler excludes"),
        (lambda: DataLoader(Stream(3), shuffle=True), ConfigError, "IterableDataset decides"),
        (lambda: DataLoader("ab", shuffle=True, seed=-1), ConfigError, "seed must be"),
    ],
)
def test_bad_arguments(make, error, text) -> None:
    with pytest.raises(error, match=text):
        make()


def test_tensors_of_a_collate_fn_on_workers_meet_those_of_the_main_thread() -> None:
    def collate(items: list[int]) -> dict[str, Tensor]:
        return {"x": Tensor(np.array(items, np.float64)).to("float32") * 2}

    scale = Tensor([1.0]) + 1  # a pending node of this thread's graph
    loader = DataLoader(range(6), batch_size=3, num_workers=2, collate_fn=collate)
    assert [(batch["x"] * scale).tolist() for batch in loader] == [[0, 4, 8], [12, 16, 20]]
