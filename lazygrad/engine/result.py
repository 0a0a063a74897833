"""What a captured function returns: which tensors it makes, and how they are put together."""

from __future__ import annotations

from typing import Any, NamedTuple

from lazygrad.engine.pytree import unflatten
from lazygrad.engine.signature import Argument
from lazygrad.engine.tensor import Tensor


class Made(NamedTuple):
    """Where a tensor that the call made goes."""

    position: int


class Given(NamedTuple):
    """Where an argument goes."""

    argument: int


class Result:
    """How to rebuild a returned structure."""

    __slots__ = ("leaves", "tree")

    def __init__(self, tree: Any, leaves: list[Any]) -> None:
        self.tree = tree
        self.leaves = leaves

    def rebuild(self, made: list[Tensor], arguments: list[Argument]) -> Any:
        """The structure with tensors and arguments in their places."""
        leaves = [
            made[x.position] if type(x) is Made
            else arguments[x.argument].value if type(x) is Given
            else x
            for x in self.leaves
        ]  # fmt: skip
        return unflatten(self.tree, leaves)
