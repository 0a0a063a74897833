"""Parameters: leaf tensors that modules register and optimizers update."""

from __future__ import annotations

from typing import Any

from lazygrad.engine.tensor import Tensor
from lazygrad.ops.source import PARAM


class Parameter(Tensor):
    """A leaf tensor that requires a gradient; as an attribute of a module it is registered.

    It belongs to no graph and works without a module. `data` may be anything that a tensor can be
    made of; it is copied in.

    >>> import lazygrad as lg
    >>> lg.nn.Parameter([1.0, 2.0]).requires_grad
    True
    """

    def __init__(self, data: Any, requires_grad: bool = True, **options: Any) -> None:
        super().__init__(data, requires_grad=requires_grad, **options)
        if self._storage is not None:
            self._storage.op = PARAM  # it stays a parameter in pictures when it is frozen
