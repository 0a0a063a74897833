"""One trace of a function: what it read, what it wrote, what came out.

While a `Capture` is in progress, everything from outside (arguments, parameters, gradients, the
random counter) becomes an *input* of the graph being built, and every write (parameters, buffers,
`.grad`) is noted instead of done. The result is a `Captured` record: a body that can be called,
and the effects to apply after each call.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.dtypes import uint64
from lazygrad.engine.body import Body, between
from lazygrad.engine.graph import HOOKS, Graph, Node
from lazygrad.engine.guards import ModuleGuard
from lazygrad.engine.handles import mark_realized
from lazygrad.engine.leftover import constants
from lazygrad.engine.modes import STATE
from lazygrad.engine.storage import Storage, no_attribute_of_data
from lazygrad.errors import CaptureError
from lazygrad.ops.source import DATA, VERSION

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


SCALARS = (float, np.floating)


class Input:
    """Where the value of an input comes from at each call."""

    __slots__ = ("index", "kind", "storage", "what")

    def __init__(self, kind: str, what: Any, index: int = 0) -> None:
        self.kind = kind  # arg, storage, grad, random, tensor
        self.what = what
        self.index = index
        self.storage: Storage | None = what if kind == "storage" else None

    def owner(self) -> Any:
        """The tensor that collects the gradient of this input."""
        if self.storage is not None:
            return self.storage.leaf()
        return self.what if self.kind == "arg" else None


class NeedsValue(Exception):
    """The Python value of a float argument is needed: it has to be static."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class CapturedArray:
    """What `.data` and `.numpy()` give inside a captured function: a shape without values."""

    __slots__ = ("_tensor",)
    __array_ufunc__ = None

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the dimensions."""
        return self._tensor.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype."""
        return self._tensor.dtype.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self._tensor.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self._tensor.shape))

    def __len__(self) -> int:
        return len(self._tensor)

    def _lazy(self) -> Tensor:
        return self._tensor.detach()

    def __add__(self, other: Any) -> Any:
        return self._lazy() + _plain(other)

    def __sub__(self, other: Any) -> Any:
        return self._lazy() - _plain(other)

    def __mul__(self, other: Any) -> Any:
        return self._lazy() * _plain(other)

    def __truediv__(self, other: Any) -> Any:
        return self._lazy() / _plain(other)

    def __radd__(self, other: Any) -> Any:
        return other + self._lazy()

    def __rsub__(self, other: Any) -> Any:
        return other - self._lazy()

    def __rmul__(self, other: Any) -> Any:
        return other * self._lazy()

    def __rtruediv__(self, other: Any) -> Any:
        return other / self._lazy()

    def __neg__(self) -> Any:
        return -self._lazy()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and not hasattr(np.ndarray, name):
            raise no_attribute_of_data(name)
        return self._refuse()

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        if STATE.capture is not None:
            STATE.capture.refuse_value(self._tensor)
        raise CaptureError("the values of an array inside a captured function")

    __array__ = __getitem__ = __iter__ = __float__ = __int__ = __bool__ = _refuse

    def __repr__(self) -> str:
        return f"array(shape={self.shape}, {self.dtype}, captured)"


def _plain(other: Any) -> Any:
    return other._lazy() if isinstance(other, CapturedArray) else other


class Capture:
    """A trace in progress; `STATE.capture` while the user's function runs."""

    def __init__(self, name: str) -> None:
        self.graph = Graph(name)
        self.inputs: list[tuple[Input, Node]] = []
        self.effects: list[Node] = []
        self.eager = False  # a step was taken: calls run at once
        self.constants: list[Any] = []  # tensors that it leaves behind with a value
        self.modules: dict[int, tuple[Any, ModuleGuard]] = {}
        self.grad_reads: dict[int, tuple[Any, bool]] = {}
        self.drawn: dict[Any, int] = {}  # random numbers consumed, by generator
        self._known: dict[Any, Node] = {}
        self._written: dict[Storage, Any] = {}
        self._grads: dict[int, tuple[Any, Any]] = {}
        self._born: dict[int, weakref.ref[Any]] = {}
        self._arguments: dict[int, Any] = {}
        self._leaves: dict[int, Any] = {}
        self.hooked: dict[int, Any] = {}  # tensors whose hooks no backward pass has called yet
        self._wrap = HOOKS.wrap

    # inputs -------------------------------------------------------------------------------

    def add_input(
        self, kind: str, what: Any, spec: Any, requires_grad: bool = False, weak: bool = False,
        index: int = 0, op: Any = DATA,
    ) -> Node:  # fmt: skip
        """The source node of something from outside, one per thing."""
        key = (kind, None if kind == "arg" else id(what), index, requires_grad)
        found = self._known.get(key)
        if found is None:
            payload = Input(kind, what, index)
            found = self.graph.source(payload, spec.shape, spec.dtype, op, requires_grad, weak)
            self._known[key] = found
            self.inputs.append((payload, found))
        return found

    def argument(
        self, index: int, leaf: Any, shape: Any, dtype: Any, requires_grad: bool, weak: bool
    ) -> Any:
        """What the function gets for an argument: a tensor without a value."""
        found = self._arguments.get(index)
        if found is None:
            spec = _Spec(shape, dtype)
            node = self.add_input("arg", leaf, spec, requires_grad, weak, index)
            found = self._arguments[index] = self._wrap(node)
            node.payload.what = found
            self._leaves[index] = leaf
        return found

    def node_of(self, t: Tensor) -> Node:
        """The node that stands for a tensor inside of the trace."""
        node = t._node
        if node is not None:
            if node.graph is self.graph:
                return node
            return self.add_input("tensor", t, node, node.requires_grad, node.weak)
        storage = t._storage
        assert storage is not None
        pending: Node | None = storage.pending
        if pending is not None and pending.graph is self.graph:
            if t._requires_grad:
                return self.graph.versioned(VERSION, pending, t)
            return pending
        node = self.add_input("storage", storage, storage, t._requires_grad, t._weak, op=storage.op)
        if t._label and not node.label:
            node.label = t._label
        return node

    def random_key(self, generator: Any, n: int) -> Node:
        """A source for `n` random numbers of the stream, relative to the call's counter."""
        offset = self.drawn.get(generator, 0)
        self.drawn[generator] = offset + n
        return self.add_input("random", generator, _KEY, index=offset)

    # values and writes --------------------------------------------------------------------

    def refuse_value(self, t: Any) -> None:
        """Values do not exist yet."""
        node = t._node
        self._need_float(node)
        site = node.where if node is not None else None
        made = f" (a tensor of shape {t.shape} made at {site})" if site else f" (shape {t.shape})"
        raise CaptureError(
            f"the value of a tensor{made} was read inside a captured function, where it does not"
            " exist yet: a branch needs lg.where(condition, a, b); printing, .item(), .numpy() and"
            " float() belong outside of the function, or return the tensor"
        )

    def array_of(self, t: Any) -> CapturedArray:
        """The stand-in for `.data` and `.numpy()`."""
        self._need_float(t._node)
        return CapturedArray(t)

    def _need_float(self, node: Node | None) -> None:
        """Ask for the Python value of a float argument when a value is made from nothing else."""
        if node is None or node.shape:
            return
        found = -1
        for n in between((), [node]):
            if isinstance(n.payload, Input):
                index = n.payload.index
                if n.payload.kind != "arg" or not isinstance(self._leaves[index], SCALARS):
                    return
                found = index
        if found >= 0:
            raise NeedsValue(found)

    def rebound_argument(self) -> tuple[int, Node] | None:
        """An argument that the function changed in place, and what it became."""
        for index, stand_in in self._arguments.items():
            if not isinstance(stand_in._node.payload, Input):
                return index, stand_in._node
        return None

    def before_write(self, storage: Storage) -> None:
        """Note a storage before its first write, so that the trace leaves it as it was."""
        if storage not in self._written:
            self._written[storage] = storage.pending

    def read_grad(self, t: Any) -> Any:
        """`.grad` as the trace sees it."""
        held = self._grads.get(id(t))
        if held is not None:
            return held[1]
        index = self.argument_of(t)
        outer = t._grad if index < 0 else self._leaves[index]._grad
        self.grad_reads[id(t)] = (weakref.ref(t) if index < 0 else index, outer is None)
        if outer is None:
            return None
        g = type(outer)._of(self.add_input("grad", t, outer, index=index))
        self._grads[id(t)] = (t, g)
        return g

    def argument_of(self, t: Any) -> int:
        """Which argument a tensor of the trace stands for, or -1."""
        payload = t._node.payload if t._node is not None else None
        if isinstance(payload, Input) and payload.kind == "arg" and payload.what is t:
            return payload.index
        return -1

    def owns(self, t: Any) -> bool:
        """Whether a tensor was made inside the trace."""
        ref = self._born.get(id(t))
        return ref is not None and ref() is t

    def before_rebind(self, t: Any) -> None:
        """A computed tensor from outside cannot be changed in place: the next call would not."""
        if not self.owns(t) and self.argument_of(t) < 0:
            raise CaptureError(
                f"a tensor of shape {t.shape} that was computed outside of the captured function is"
                " changed in place inside of it, which only its first call would do; make a new"
                " tensor and return it"
            )

    def write_grad(self, t: Any, value: Any) -> None:
        """Set `.grad` within the trace."""
        self._grads[id(t)] = (t, value)

    def born(self, t: Any) -> None:
        """Remember a tensor made inside the trace."""
        self._born[id(t)] = weakref.ref(t)

    # the end ------------------------------------------------------------------------------

    def restore(self) -> None:
        """Undo what the trace has noted on storages (after success and after errors)."""
        for storage, pending in self._written.items():
            storage.pending = pending
        for ref in self._born.values():  # nobody waits for the value of a tensor that has none
            t = ref()
            if t is not None and t._node is not None and t._node.graph is self.graph:
                mark_realized(t._node)

    def finish(self, results: Sequence[Any]) -> Captured:
        """The record of a successful trace; `results` are the tensors that were returned."""
        nodes = [self.node_of(t) for t in results]
        writes = [
            (s, s.pending) for s in self._written
            if s.pending is not None and s.pending.graph is self.graph
        ]  # fmt: skip
        grads: list[tuple[Any, Node | None]] = []
        for t, value in self._grads.values():
            index = self.argument_of(t)
            target = weakref.ref(t) if index < 0 else index
            if value is None:
                grads.append((target, None))
            elif not (value._node is not None and _is_grad_of(value._node, t)):
                grads.append((target, self.node_of(value)))
        set_grads = [n for _, n in grads if n is not None]
        body = Body(
            [n for _, n in self.inputs],
            [*nodes, *(n for _, n in writes), *set_grads],
            self.effects,
        )
        self._check_hooks(nodes, body)
        left = [t for r in self._born.values() if (t := r()) is not None and t._node is not None]
        self.constants = constants(left, body.inputs)
        kept = {id(t) for t in self.constants}
        for t in left:
            if id(t) not in kept:
                t._escaped = f"was created at {t._node.where or 'an unknown line'}"
        for t in self._arguments.values():
            t._escaped = "stands for an argument"
        return Captured(self, body, len(nodes), [s for s, _ in writes], grads)

    def _check_hooks(self, results: Sequence[Node], body: Body) -> None:
        """Refuse hooks that only a backward pass outside of the function would call."""
        later = [n for n in results if n.requires_grad] if not self.eager else []
        passed = {n.id for n in (*body.inputs, *body.nodes)} if later else set()
        for t in self.hooked.values():
            if t._node is not None and t._node.graph is self.graph and t._node.id in passed:
                raise CaptureError(
                    f"a hook on a tensor of shape {t.shape} made at {t._node.where} inside a"
                    " captured function would be lost when backward() runs outside of it: call"
                    " backward() inside, or hook a parameter or the result"
                )


class _Spec:
    """A shape and a dtype."""

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype


_KEY = _Spec((2,), uint64)


class Captured:
    """A traced function: its body and what each call does besides returning tensors."""

    def __init__(
        self, capture: Capture, body: Body, results: int, writes: list[Storage],
        grads: list[tuple[Any, Node | None]],
    ) -> None:  # fmt: skip
        self.body = body
        self.graph = capture.graph.freeze()
        self.inputs = [i for i, _ in capture.inputs]
        self.results = results
        self.writes = writes
        self.grads = grads
        self.eager = capture.eager or bool(capture.effects)
        self.drawn = capture.drawn
        self.modules = list(capture.modules.values())
        self.grad_reads = list(capture.grad_reads.values())


def _is_grad_of(node: Node, t: Any) -> bool:
    """Whether a node is nothing but the gradient that a tensor came in with."""
    payload = node.payload
    return isinstance(payload, Input) and payload.kind == "grad" and payload.what is t


def note_module(module: Any, moving: bool = False) -> None:
    """Guard a module that the function being captured calls; with `moving` it may change it."""
    capture = STATE.capture
    if capture is not None and id(module) not in capture.modules:
        capture.modules[id(module)] = module, ModuleGuard(module, moving)
