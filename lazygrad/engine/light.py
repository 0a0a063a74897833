"""Results that are nothing but their value until somebody uses them for more.

Most results of a training step are read as one number and dropped, most gradients are never looked
at. A `ValueTensor` has one slot, an array; a `NumberTensor` has a Python number. Whatever asks for
another slot makes it an ordinary leaf.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import numpy as np

from lazygrad.engine.modes import LOCK, STATE
from lazygrad.engine.storage import Storage
from lazygrad.engine.tensor import Tensor
from lazygrad.ops.opdef import Array

SLOTS = frozenset(Tensor.__slots__)


class LightTensor(Tensor):
    """A leaf over a value in `_lazy` that belongs to it; its other slots are still empty."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name in SLOTS:
            _fill(self)
            return getattr(self, name)
        return super().__getattr__(name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        _fill(self)
        return self.__reduce_ex__(protocol)

    @staticmethod
    def _make(value: Any) -> Array:
        """The array of a value."""
        raise NotImplementedError


class ValueTensor(LightTensor):
    """A leaf that is an array."""

    __slots__ = ()

    @staticmethod
    def _make(value: Array) -> Array:
        return value

    def item(self) -> bool | int | float:
        """The value of a tensor with one element, as a Python number."""
        if STATE.capture is None and isinstance(value := self._lazy, np.ndarray) and not value.ndim:
            number: bool | int | float = value.item()
            return number
        return super().item()

    def __float__(self) -> float:
        return float(self.item())


class NumberTensor(LightTensor):
    """A 0-d leaf that is a Python number; there is a class for each dtype."""

    __slots__ = ()
    kind: ClassVar[Any]

    @classmethod
    def _make(cls, value: Any) -> Array:
        return np.array(value, cls.kind)

    def item(self) -> bool | int | float:
        """The value, as a Python number."""
        if STATE.capture is None and (value := self._lazy) is not None:
            number: bool | int | float = value
            return number
        return super().item()

    def __float__(self) -> float:
        if STATE.capture is None and (value := self._lazy) is not None:
            return float(value)
        return float(super().item())


def _fill(t: Tensor) -> None:
    """Make it an ordinary leaf."""
    with LOCK:  # two threads may look at it for the first time
        if isinstance(t, LightTensor):
            Tensor._init_leaf(t, Storage(t._make(t._lazy)))
            t._lazy = None
            t.__class__ = Tensor  # type: ignore[assignment]  # the slots are the same


def settled(t: Any) -> bool:
    """Make a tensor that is nothing but its value an ordinary leaf; whether it was one."""
    if not isinstance(t, LightTensor):
        return False
    _fill(t)
    return True


def value_tensor(array: Array) -> Tensor:
    """A leaf over an array that nobody else has."""
    t = ValueTensor.__new__(ValueTensor)
    t._lazy = array
    return t


@functools.cache
def number_class(kind: np.dtype[Any]) -> type[NumberTensor]:
    """The class of 0-d leaves of a NumPy dtype.

    >>> number_class(np.dtype(np.float32)).__name__
    'NumberTensor'
    """
    return type("NumberTensor", (NumberTensor,), {"__slots__": (), "kind": kind})


def is_number(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether a Python number holds exactly what an array of this kind holds."""
    return shape == () and dtype.kind in "biuf"
