"""`ValueTensor`: a result that is nothing but its array until somebody uses it for more.

Most results of a training step are read as one number and dropped, most gradients are never looked
at. Such a tensor has one slot; whatever asks for another one makes it an ordinary leaf.
"""

from __future__ import annotations

from typing import Any

from lazygrad.engine.modes import LOCK, STATE
from lazygrad.engine.storage import Storage
from lazygrad.engine.tensor import Tensor
from lazygrad.ops.opdef import Array

SLOTS = frozenset(Tensor.__slots__)


class ValueTensor(Tensor):
    """A leaf over an array that belongs to it, in `_lazy`; its other slots are still empty."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name in SLOTS:
            _fill(self)
            return getattr(self, name)
        return super().__getattr__(name)

    def item(self) -> bool | int | float:
        """The value of a tensor with one element, as a Python number."""
        if STATE.capture is None and self.__class__ is ValueTensor:
            array = self._lazy
            if array.ndim == 0:
                return array.item()  # type: ignore[no-any-return]
        return super().item()

    def __float__(self) -> float:
        return float(self.item())

    def __reduce_ex__(self, protocol: Any) -> Any:
        _fill(self)
        return self.__reduce_ex__(protocol)


def _fill(t: Tensor) -> None:
    """Make it an ordinary leaf."""
    with LOCK:  # two threads may look at it for the first time
        if t.__class__ is ValueTensor:
            Tensor._init_leaf(t, Storage(t._lazy))
            t._lazy = None
            t.__class__ = Tensor  # type: ignore[assignment]  # the slots are the same


def value_tensor(array: Array) -> Tensor:
    """A leaf over an array that nobody else has."""
    t = ValueTensor.__new__(ValueTensor)
    t._lazy = array
    return t
