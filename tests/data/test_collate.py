"""Collation: structures, dtypes, and items that do not fit together."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

from lazygrad import Tensor
from lazygrad.data import default_collate
from lazygrad.errors import DataError, DTypeError, ShapeError

Pair = namedtuple("Pair", "image label")


@pytest.mark.parametrize(
    ("items", "dtype"),
    [
        ([1, 2, 3], "int64"),
        ([0.5, 1.5], "float64"),
        ([1, 2.5], "float64"),
        ([True, False], "bool"),
        ([np.float32(1), np.float32(2)], "float32"),
        ([np.uint8(1)], "uint8"),
        ([np.zeros((2, 3), np.float16)] * 2, "float16"),
        ([Tensor(np.zeros(3, np.float32))] * 2, "float32"),
        ([np.zeros((), np.int8)] * 2, "int8"),
    ],
)
def test_leaves_keep_their_dtype_and_gain_an_axis(items, dtype) -> None:
    batch = default_collate(items)
    assert isinstance(batch, Tensor)
    expected = np.stack([np.asarray(item) for item in items])
    assert batch.numpy().dtype == dtype
    np.testing.assert_array_equal(batch.numpy(), expected)


def test_structures_are_kept() -> None:
    items = [
        {"pair": Pair(np.full(2, i), i), "name": f"item {i}", "list": [i, (i, b"raw")]}
        for i in range(3)
    ]
    batch = default_collate([OrderedDict(item) for item in items])
    assert type(batch) is OrderedDict
    assert type(batch["pair"]) is Pair
    assert batch["pair"].image.shape == (3, 2)
    assert batch["pair"].label.tolist() == [0, 1, 2]
    assert batch["name"] == ["item 0", "item 1", "item 2"]
    assert type(batch["list"]) is list
    assert type(batch["list"][1]) is tuple
    assert batch["list"][1][0].tolist() == [0, 1, 2]
    assert batch["list"][1][1] == [b"raw"] * 3


@pytest.mark.parametrize(
    ("items", "error", "text"),
    [
        ([], DataError, "no items"),
        ([None], DTypeError, "items of type NoneType; give the loader a collate_fn="),
        ([object()], DTypeError, "items of type object"),
        ([1, None], DTypeError, "numbers of types NoneType, int"),
        ([1, "a"], DTypeError, "numbers of types int, str"),
        (
            [np.zeros(2), np.zeros(2), np.zeros((2, 3))],
            ShapeError,
            r"item 0 of the batch has shape \(2,\), item 2 has \(2, 3\)",
        ),
        ([{"x": 1}, {"y": 1}], DataError, r"keys \['x'\], item 1 has \['y'\]"),
        ([{"x": 1}, 3], DataError, "item 1 has int"),
        ([(1, 2), (1,)], DataError, "item 0 of the batch has 2 entries, item 1 has 1"),
        ([(1, 2), 5], DataError, "item 1 has int"),
    ],
)
def test_items_that_do_not_fit(items, error, text) -> None:
    with pytest.raises(error, match=text):
        default_collate(items)


def test_the_batch_does_not_share_memory_with_the_items() -> None:
    item = np.zeros(3)
    batch = default_collate([item])
    item[:] = 1
    assert batch.tolist() == [[0.0, 0.0, 0.0]]
