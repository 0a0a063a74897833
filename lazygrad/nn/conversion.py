"""Changing the dtype of a leaf without changing which tensor it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lazygrad.dtypes import DType, as_dtype
from lazygrad.engine.device import check_device, looks_like_device
from lazygrad.engine.storage import Storage
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentTypeError


def target_dtype(*args: Any, **kwargs: Any) -> DType | None:
    """The dtype that the arguments of `to` ask for; an unavailable device raises."""
    found = None
    unknown = kwargs.keys() - {"device", "dtype", "non_blocking"}
    if unknown:
        raise ArgumentTypeError(f"to() got an unexpected keyword {unknown.pop()!r}")
    for value in (*args, kwargs.get("device"), kwargs.get("dtype")):
        if isinstance(value, Tensor):
            found = value.dtype
        elif looks_like_device(value):
            check_device(value)
        elif value is not None and not isinstance(value, bool):
            found = as_dtype(value)
    return found


def convert_leaf(tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> None:
    """Give a leaf, and its gradient, the value of `fn` of it."""
    old = tensor._storage
    new = fn(tensor.detach())
    if old is None or new.dtype is tensor.dtype:
        return
    storage = Storage(np.array(new.numpy()), op=old.op)
    storage.label = old.label
    grad = tensor.grad
    tensor.grad = None
    tensor._become_leaf(storage)
    tensor.grad = None if grad is None else fn(grad.detach())
