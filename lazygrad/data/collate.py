"""From a list of items to a batch of tensors.

Two steps, so that worker threads stay out of the graph: `stack` makes the NumPy arrays of a batch
wherever the items are read, `to_tensors` wraps them on the thread that asked for the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygrad.engine.tensor import Tensor
from lazygrad.errors import DataError, DTypeError, ShapeError

_NUMBERS = (bool, int, float, np.generic)


def default_collate(items: Sequence[Any]) -> Any:
    """Stack items along a new first axis, keeping their structure.

    Tensors and arrays keep their dtype; Python ints become int64, floats float64, bools bool;
    mappings, tuples, namedtuples and lists are collated by entry; strings and bytes stay a list.
    Raises `ShapeError` for arrays of different shapes, `DTypeError` for anything else.

    >>> batch = default_collate([{"x": [1.0, 2.0], "label": 0}, {"x": [3.0, 4.0], "label": 1}])
    >>> batch["label"].shape, [column.tolist() for column in batch["x"]]
    ((2,), [[1.0, 3.0], [2.0, 4.0]])
    """
    return to_tensors(stack(items))


def stack(items: Sequence[Any]) -> Any:
    """`default_collate` with NumPy arrays for leaves."""
    if len(items) == 0:
        raise DataError("cannot collate a batch of no items")
    first = items[0]
    if isinstance(first, str | bytes):
        return list(items)
    if isinstance(first, Tensor | np.ndarray):
        return _stack_arrays([_array(item) for item in items])
    if isinstance(first, _NUMBERS):
        return _stack_numbers(items)
    if isinstance(first, Mapping):
        return _stack_mappings(items)
    if isinstance(first, tuple | list):
        return _stack_sequences(items)
    raise DTypeError(
        f"cannot collate items of type {type(first).__name__}; give the loader a collate_fn="
    )


def to_tensors(tree: Any) -> Any:
    """Every array of a structure of mappings, tuples and lists as a tensor; the rest as it is."""
    if isinstance(tree, np.ndarray):
        return Tensor(tree)
    if isinstance(tree, Mapping):
        return _like(tree, {key: to_tensors(value) for key, value in tree.items()})
    if isinstance(tree, tuple | list):
        return _like(tree, [to_tensors(value) for value in tree])
    return tree


def _array(item: Any) -> NDArray[Any]:
    return item.numpy() if isinstance(item, Tensor) else np.asarray(item)


def _like(template: Any, values: Any) -> Any:
    """`values` in the container type of `template`, which may be a namedtuple."""
    if hasattr(template, "_fields"):
        return type(template)(*values)
    return type(template)(values)


def _stack_arrays(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    shape = arrays[0].shape
    for position, array in enumerate(arrays):
        if array.shape != shape:
            raise ShapeError(
                f"cannot collate: item 0 of the batch has shape {shape}, item {position} has "
                f"{array.shape}; pad them, or give the loader a collate_fn="
            )
    return np.stack(arrays)


def _stack_numbers(items: Sequence[Any]) -> NDArray[Any]:
    stacked = np.asarray(items)
    if stacked.ndim != 1 or stacked.dtype.kind not in "biufV":
        kinds = sorted({type(item).__name__ for item in items})
        raise DTypeError(f"cannot collate numbers of types {', '.join(kinds)}")
    return stacked


def _stack_mappings(items: Sequence[Any]) -> Any:
    first = items[0]
    for position, item in enumerate(items):
        if not isinstance(item, Mapping) or item.keys() != first.keys():
            keys = list(item) if isinstance(item, Mapping) else type(item).__name__
            raise DataError(
                f"cannot collate: item 0 of the batch has keys {list(first)}, item {position} "
                f"has {keys}"
            )
    return _like(first, {key: stack([item[key] for item in items]) for key in first})


def _stack_sequences(items: Sequence[Any]) -> Any:
    first = items[0]
    for position, item in enumerate(items):
        if not isinstance(item, tuple | list) or len(item) != len(first):
            entries = len(item) if isinstance(item, tuple | list) else type(item).__name__
            raise DataError(
                f"cannot collate: item 0 of the batch has {len(first)} entries, item {position} "
                f"has {entries}"
            )
    return _like(first, [stack(column) for column in zip(*items, strict=True)])
