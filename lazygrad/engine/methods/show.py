"""Methods that show what a tensor is made from."""

from __future__ import annotations

import sys

from lazygrad.engine.graph import HOOKS
from lazygrad.engine.methods.base import Methods


class ShowMethods(Methods):
    """Pictures of the branch of the graph that ends in a tensor."""

    __slots__ = ()

    def branch(self) -> str:
        """The text that `print_branch` prints."""
        return HOOKS.branch(self)

    def print_branch(self) -> None:
        """Print the tensor and everything it is made from as a text tree.

        >>> import lazygrad as lg
        >>> a = lg.tensor(3.0, requires_grad=True)
        >>> a.name = "a"
        >>> (a * a + 1).print_branch()
        add <data: 10.0, grad: ->
        ├── mul <data: 9.0, grad: ->
        │   ├── a <data: 3.0, grad: ->
        │   └── a <data: 3.0, grad: ->
        └── const <data: 1.0>
        """
        sys.stdout.write(self.branch() + "\n")
