"""`LazyTensor`: a result of a call that is no node yet.

It knows its source, a waiting call or the backward pass of one, and the number of its result there.
What can be answered without a node is; anything else makes the source a node, and the tensor an
ordinary handle of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lazygrad.engine.body import project
from lazygrad.engine.graph import Node
from lazygrad.engine.handles import register_handle
from lazygrad.engine.light import SLOTS
from lazygrad.engine.modes import LOCK, STATE
from lazygrad.engine.storage import Storage
from lazygrad.engine.tensor import Tensor
from lazygrad.ops.opdef import Array

if TYPE_CHECKING:
    from lazygrad.engine.waiting import BackCall, Call


class LazyTensor(Tensor):
    """A result of a call that is no node yet; asking for its node makes it one.

    Its slots but `_lazy` are empty until somebody asks for one.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name in SLOTS and name != "_node":
            self._fill()
            return getattr(self, name)
        return super().__getattr__(name)

    def _fill(self) -> None:
        """Give it what an ordinary tensor begins with; once only, so that nothing is lost."""
        self._storage = None
        self._requires_grad = False
        self._gradient = None
        self._hooks = None
        self._graph = None
        self._weak = False
        self._retains = False
        self._escaped = None
        self._anchor = None
        self._group = None
        self._label = ""

    def _become(self, array: Array) -> None:
        """Make it a leaf over its value."""
        ordinary(self)
        self._node = None
        self._storage = Storage(array)

    @property
    def _node(self) -> Any:
        with LOCK:
            source, index = self._lazy
            call = source.forward_node()
            if self.__class__ is LazyTensor:  # made after its call became a node
                settle(self, project(call, index))
            return self._node

    @_node.setter
    def _node(self, node: Any) -> None:
        ordinary(self)
        self._node = node

    @property
    def shape(self) -> Any:
        """The sizes of its dimensions."""
        source, index = self._lazy
        return source.spec(index).shape

    @property
    def dtype(self) -> Any:
        """The type of its elements."""
        source, index = self._lazy
        return source.spec(index).dtype

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow through it."""
        source, index = self._lazy
        flows: bool = source.is_forward and source.requires_grad
        return flows and bool(source.spec(index).requires_grad)

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        self.requires_grad_(flag)

    @property
    def is_leaf(self) -> bool:
        """Whether it needs no gradient."""
        return not self.requires_grad

    def retain_grad(self) -> None:
        """Keep `.grad` for this tensor although it is not a leaf."""
        assert self._node is not None  # an ordinary tensor from here on
        self.retain_grad()

    def register_hook(self, hook: Any) -> Any:
        """Call `hook(grad)` in each backward pass; what it returns replaces the gradient."""
        assert self._node is not None
        return self.register_hook(hook)

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add the gradients of this tensor to `.grad` of the leaves it depends on."""
        if gradient is None and not retain_graph and not create_graph:
            source, index = self._lazy
            if source.is_forward and STATE.capture is None:
                with LOCK:
                    if source.start_backward(index):
                        return
        super().backward(gradient, retain_graph, create_graph)

    def backprop(self) -> None:
        """As `backward()`, but `.grad` of the leaves is assigned, not added to."""
        source, index = self._lazy
        if source.is_forward and STATE.capture is None:
            with LOCK:
                if source.start_backward(index, assign=True):
                    return
        super().backprop()

    def item(self) -> bool | int | float:
        """The value of a tensor with one element, as a Python number."""
        source, index = self._lazy
        if source.is_forward and source.values is not None and STATE.capture is None:
            array = source.values[index]
            if array.ndim == 0:
                number: bool | int | float = array.item()
                return number
        return super().item()

    def __float__(self) -> float:
        return float(self.item())

    def _array(self) -> Array:
        source, index = self._lazy
        if STATE.capture is None and source.is_forward and source.node is None:
            with LOCK:
                if source.values is None and not source.requires_grad and not source.has_moved():
                    source.run_alone()
                if source.values is not None:
                    value: Array = source.values[index]
                    return value
        return super()._array()


def lazy(source: Call | BackCall, index: int) -> LazyTensor:
    """Result `index` of a call, or a gradient of its backward pass."""
    t = LazyTensor.__new__(LazyTensor)
    t._lazy = (source, index)
    return t


def ordinary(t: Tensor) -> None:
    """Make a lazy tensor an ordinary one, which lacks a node yet."""
    try:
        object.__getattribute__(t, "_label")
    except AttributeError:
        LazyTensor._fill(t)  # type: ignore[arg-type]
    t.__class__ = Tensor
    t._lazy = None


def settle(t: Tensor, node: Node) -> None:
    """Make a lazy tensor the ordinary handle of a node."""
    ordinary(t)
    t._node = node
    register_handle(node, t)
