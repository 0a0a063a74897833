"""Gradients of a tensor: who collects them, what flows back, what is cut off."""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,misc"

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from lazygrad.config import config
from lazygrad.engine.backward import run_backward
from lazygrad.engine.methods.base import Methods
from lazygrad.engine.modes import STATE
from lazygrad.engine.show import GradFn
from lazygrad.engine.storage import Storage
from lazygrad.errors import GradientError, ShapeError
from lazygrad.ops.source import DATA, DETACH, PARAM, VERSION

if TYPE_CHECKING:
    from lazygrad.engine.graph import Node
    from lazygrad.engine.tensor import Tensor


class SharedGradient:
    """What stands in `.grad` of many leaves at once, see engine/gradients.py."""

    __slots__ = ()

    @property
    def is_none(self) -> bool:
        """Whether the gradients are None."""
        raise NotImplementedError

    def settle(self) -> None:
        """Give every leaf a gradient of its own, or None."""
        raise NotImplementedError


class GradientMethods(Methods):
    """`backward`, `grad`, `requires_grad_`, `detach`, hooks."""

    __slots__ = ()

    if TYPE_CHECKING:
        _node: Node | None
        _storage: Storage | None
        _requires_grad: bool
        _gradient: Any  # a tensor, a SharedGradient or None
        _hooks: dict[int, Callable[[Tensor], Tensor | None]] | None
        _retains: bool

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow through it."""
        return self._node.requires_grad if self._node is not None else self._requires_grad

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        self.requires_grad_(flag)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Make it a leaf that collects a gradient, or stop it."""
        if self._node is not None and requires_grad == self._node.requires_grad:
            return self
        if requires_grad and not self.dtype.is_floating_point:
            raise GradientError(f"only floating tensors can require grad, this one is {self.dtype}")
        if self._node is not None:
            if self._node.requires_grad:
                raise GradientError("only leaves can stop requiring grad; use detach()")
            capture = STATE.capture
            if capture is not None and self._node.graph is capture.graph:
                leaf = self._node.graph.append(
                    VERSION, (self._node,), requires_grad=True, payload=weakref.ref(self)
                )
                self._rebind(self._of(leaf))  # it has no value yet, but it is a leaf
                return self
            self._become_leaf(Storage(self._array().copy()))
        storage = self._storage
        assert storage is not None
        if requires_grad != self._requires_grad:
            self._requires_grad = requires_grad
            config.bump()
            if requires_grad:
                storage.owner = weakref.ref(self)
                storage.op = PARAM if storage.op is DATA else storage.op
            elif storage.op is PARAM:
                storage.op = DATA
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether the user made it, or it needs no gradient."""
        node = self._node
        return node is None or not node.requires_grad or node.op is VERSION

    @property
    def _grad(self) -> Tensor | None:
        """`.grad`, also while a function is captured."""
        if isinstance(self._gradient, SharedGradient):
            self._gradient.settle()
        return self._gradient

    @_grad.setter
    def _grad(self, value: Tensor | None) -> None:
        if isinstance(self._gradient, SharedGradient):
            self._gradient.settle()
        self._gradient = value

    @property
    def _has_grad(self) -> bool:
        """Whether `.grad` is not None; nothing is settled by asking."""
        held = self._gradient
        return not held.is_none if isinstance(held, SharedGradient) else held is not None

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward passes have accumulated, or None."""
        if STATE.capture is not None:
            return STATE.capture.read_grad(self)
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and value.shape != self.shape:
            raise ShapeError(f"a gradient of shape {value.shape} for a tensor of {self.shape}")
        if STATE.capture is not None:
            STATE.capture.write_grad(self, value)
        else:
            self._grad = value

    @property
    def grad_fn(self) -> GradFn | None:
        """What made it, if a gradient flows through: shown as `<PowBackward>`."""
        if self._node is None or not self._node.requires_grad:
            return None
        return GradFn(self._node)

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add the gradients of this tensor to `.grad` of the leaves it depends on.

        `gradient` is needed unless it has one element. Values saved for the backward pass are
        released unless `retain_graph` (default: `create_graph`).
        """
        run_backward([self._self], [gradient], retain_graph, create_graph)

    def backprop(self) -> None:
        """As `backward()`, but `.grad` of the leaves is assigned, not added to."""
        run_backward([self._self], [None], None, False, assign=True)

    def retain_grad(self) -> None:
        """Keep `.grad` for this tensor although it is not a leaf."""
        if not self.requires_grad:
            raise GradientError("retain_grad() on a tensor that does not require grad")
        self._retains = True

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Handle:
        """Call `hook(grad)` in each backward pass; what it returns replaces the gradient."""
        if not self.requires_grad:
            raise GradientError("register_hook() on a tensor that does not require grad")
        if self._hooks is None:
            self._hooks = {}
        handle = Handle(self._hooks)
        self._hooks[handle.key] = hook
        if STATE.capture is not None:
            STATE.capture.hooked[id(self)] = self
        config.bump()
        return handle

    def _run_hooks(self, g: Tensor) -> Tensor:
        for hook in list((self._hooks or {}).values()):
            changed = hook(g)
            g = g if changed is None else changed
        return g

    def detach(self) -> Tensor:
        """The same value without history; writes to either never show in the other."""
        before = STATE.grad
        STATE.grad = False
        try:
            return self.apply(DETACH)
        finally:
            STATE.grad = before


class Handle:
    """Removes a hook."""

    _count = 0

    def __init__(self, table: dict[int, Any]) -> None:
        Handle._count += 1
        self.key = Handle._count
        self._table = table

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        self._table.pop(self.key, None)
        config.bump()
