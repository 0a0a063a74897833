"""The user's handle: a `Tensor` is a leaf with storage, or stands for a node of a graph.

Operations never compute: they append a node and return its handle. Asking for a value realizes
it. The methods by topic live in `engine/methods/`; this file holds what a tensor *is*: its node or
storage, values in and out, and writes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NoReturn, Self

import numpy as np

from lazygrad.dtypes import DType, DTypeLike, as_dtype
from lazygrad.engine import apply as _apply
from lazygrad.engine.convert import to_array
from lazygrad.engine.device import CPU, check_device
from lazygrad.engine.device import device as device_type
from lazygrad.engine.graph import HOOKS, Graph, Node, get_default_graph, storage_source, user_site
from lazygrad.engine.handles import HANDLES, register_handle
from lazygrad.engine.methods import (
    ArithmeticMethods,
    ConvertMethods,
    DecomposeMethods,
    ElementaryMethods,
    GradientMethods,
    IndexMethods,
    LinalgMethods,
    MaskMethods,
    PieceMethods,
    RandomMethods,
    ReduceMethods,
    ScatterMethods,
    ShapeMethods,
    ShowMethods,
    StatisticsMethods,
)
from lazygrad.engine.modes import STATE
from lazygrad.engine.pending import pinned_by_pending, stage_write, value_of, withdraw_write
from lazygrad.engine.protocols import NumpyProtocols, PythonProtocols
from lazygrad.engine.realize import flush_writes, realize_nodes
from lazygrad.engine.storage import ReadOnly, Storage, export
from lazygrad.errors import (
    DTypeError,
    EscapedTensorError,
    GradientError,
    ShapeError,
)
from lazygrad.ops.opdef import Array, OpDef, get_op
from lazygrad.ops.source import DATA, VERSION
from lazygrad.ops.source import STATE as STATE_OP
from lazygrad.shapes import Shape


class Tensor(
    ArithmeticMethods, ElementaryMethods, StatisticsMethods, PieceMethods,
    ReduceMethods, ShapeMethods, IndexMethods, ScatterMethods, MaskMethods,
    LinalgMethods, ConvertMethods,
    DecomposeMethods, RandomMethods, ShowMethods, GradientMethods, PythonProtocols, NumpyProtocols,
):  # fmt: skip
    """An n-dimensional array that is computed when somebody looks.

    `Tensor(list)` is float32 unless `dtype` says otherwise; arrays keep their dtype; the data is
    copied. `graph=` binds it to a graph: everything made from it goes there.

    >>> from lazygrad import Tensor
    >>> y = Tensor([1.0, 2.0, 3.0]) * 2
    >>> y.shape, y.dtype
    ((3,), lazygrad.float32)
    >>> y
    tensor([2., 4., 6.])
    """

    __slots__ = (
        "__weakref__", "_anchor", "_escaped", "_gradient", "_graph", "_group", "_hooks", "_label",
        "_lazy", "_node", "_requires_grad", "_retains", "_storage", "_weak",
    )  # fmt: skip
    __array_priority__ = 1000

    _node: Node | None
    _lazy: Any  # of a `LazyTensor` its call and output, of a `ValueTensor` its array
    _storage: Storage | None

    def __init__(
        self,
        data: Any,
        *,
        requires_grad: bool = False,
        dtype: DTypeLike | None = None,
        device: Any = None,
        graph: Graph | None = None,
    ) -> None:
        check_device(device)
        if isinstance(data, Tensor):
            data = data.numpy() if dtype is None else data.to(dtype).numpy()
        array = to_array(data, None if dtype is None else as_dtype(dtype))
        self._init_leaf(Storage(array), graph=graph)
        if requires_grad:
            self.requires_grad_()

    def _init_leaf(
        self, storage: Storage, requires_grad: bool = False, graph: Graph | None = None
    ) -> None:
        self._node = None
        self._storage = storage
        self._requires_grad = requires_grad
        self._gradient: Any = None  # a tensor, or what many leaves share
        self._hooks: dict[int, Callable[[Tensor], Tensor | None]] | None = None
        self._graph = graph
        self._label = ""
        self._weak = False
        self._retains = False
        self._escaped: Any = None
        self._anchor: Node | None = None
        self._group: list[weakref.ref[Tensor]] | None = None
        if graph is not None:
            self._anchor = self._node_in(graph)

    @classmethod
    def _of(cls, node: Node) -> Tensor:
        """The handle of a node: the live one, or a new one."""
        ref = HANDLES.get(node.id)
        found = ref() if ref is not None else None
        if found is not None:
            return found  # type: ignore[no-any-return]
        t = Tensor._fresh(node)
        if STATE.capture is not None:
            STATE.capture.born(t)
        return t

    @classmethod
    def _fresh(cls, node: Node) -> Tensor:
        """The handle of a node that was just appended."""
        t = Tensor._bare(node)
        register_handle(node, t)
        return t

    @classmethod
    def _bare(cls, node: Node) -> Tensor:
        """A handle that is not registered: its value is not worth storing."""
        t = Tensor.__new__(Tensor)
        t._node = node
        t._storage = None
        t._requires_grad = False
        t._gradient = None
        t._hooks = None
        t._graph = None
        t._label = ""
        t._weak = False
        t._retains = False
        t._escaped = None
        t._anchor = None
        t._group = None
        return t

    @classmethod
    def _leaf(cls, storage: Storage, requires_grad: bool = False) -> Tensor:
        """A leaf over a storage."""
        t = Tensor.__new__(Tensor)
        t._init_leaf(storage)
        if requires_grad:
            t.requires_grad_()
        return t

    @staticmethod
    def _apply_any(op: OpDef, *operands: Any, **attrs: Any) -> Tensor:
        return apply(op, *operands, **attrs)

    def _restore(self, array: Array, requires_grad: bool, label: str, op: str) -> None:
        """Fill a blank tensor, for copies and pickles."""
        self._init_leaf(Storage(np.array(array), op=get_op(op)))
        if label:
            self.name = label
        if requires_grad:
            self.requires_grad_()

    # structure ----------------------------------------------------------------------------

    def _home(self) -> Graph | None:
        """The graph that binds operations on it, if any."""
        node = self._node
        if node is None:
            return self._graph
        if node.id in node.graph.values and not node.requires_grad:
            return None
        return node.graph

    def _node_in(self, graph: Graph) -> Node:
        """The node that stands for its current value in `graph`."""
        node = self._node
        capture = STATE.capture
        if capture is not None and graph is capture.graph:
            return capture.node_of(self)
        if self._escaped is not None:
            self._refuse_escaped()
        if node is not None:
            if node.graph is graph:
                return node
            self.realize()
            return self._imported(graph)
        storage = self._storage
        assert storage is not None
        pending = storage.pending
        if pending is not None:
            if pending.graph is graph:
                return graph.versioned(VERSION, pending, self) if self._requires_grad else pending
            flush_writes([storage])
        return storage_source(graph, storage, self._requires_grad, self._weak)

    def _imported(self, graph: Graph) -> Node:
        """A data source with the value of a node of another graph."""
        assert self._node is not None
        storage = Storage(value_of(self._node))
        return graph.source(storage.ref, storage.shape, storage.dtype, DATA)

    def apply(self, op: OpDef, *others: Any, **attrs: Any) -> Tensor:
        """Append a node of `op` with this tensor as its first input."""
        return _apply.append(Tensor, op, (self, *others), attrs)

    @property
    def shape(self) -> Shape:
        """The sizes of its dimensions."""
        node = self._node
        return node.shape if node is not None else self._storage.shape  # type: ignore[union-attr]

    @property
    def dtype(self) -> DType:
        """The type of its elements."""
        node = self._node
        return node.dtype if node is not None else self._storage.dtype  # type: ignore[union-attr]

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def device(self) -> device_type:
        """Where it lives: "cpu"."""
        return CPU

    @property
    def graph(self) -> Graph:
        """The graph of its node; for a leaf the one it is bound to, else the default graph."""
        if self._node is not None:
            return self._node.graph
        return self._graph if self._graph is not None else get_default_graph()

    @property
    def name(self) -> str:
        """A label for pictures and errors."""
        return self._label

    @name.setter
    def name(self, label: str) -> None:
        if self._node is not None:
            self._node.label = label
        if self._storage is not None:
            self._storage.label = label
        self._label = label

    label = name

    # values -------------------------------------------------------------------------------

    def realize(self) -> Self:
        """Compute it now; nothing happens when it has a value."""
        if self._node is not None:
            self._check_readable()
            nodes = [self._node]
            if self._group is not None:  # gradients of one backward pass are computed together
                nodes += [n for r in self._group if (t := r()) is not None and (n := t._node)]
                self._group = None
            realize_nodes(nodes)
        elif self._storage is not None and self._storage.pending is not None:
            self._check_readable()
            flush_writes([self._storage])
        return self

    @property
    def is_realized(self) -> bool:
        """Whether its value is there."""
        if self._node is not None:
            return self._node.id in self._node.graph.values
        return self._storage is not None and self._storage.pending is None

    def _refuse_escaped(self) -> NoReturn:
        raise EscapedTensorError(
            f"this tensor {self._escaped} inside a captured function and has no"
            " value outside of it; return it from the function (a buffer is written:"
            " buffer.copy_(value))"
        )

    def _check_readable(self) -> None:
        if self._escaped is not None:
            self._refuse_escaped()
        if STATE.capture is not None:
            STATE.capture.refuse_value(self)

    def _array(self) -> Array:
        """Its value, not to be written to."""
        self._check_readable()
        self.realize()
        if self._node is not None:
            return value_of(self._node)
        return self._storage.current()  # type: ignore[union-attr]

    @property
    def data(self) -> Any:
        """Its value as a read-only array; assigning copies a value in.

        While a function is being captured the array answers `shape`, `dtype`, `ndim`, `size` and
        `len()`, and arithmetic on it stays lazy.
        """
        array = self.numpy()
        return array.view(ReadOnly) if isinstance(array, np.ndarray) else array

    @data.setter
    def data(self, value: Any) -> None:
        if STATE.capture is not None or isinstance(value, Tensor):
            self.assign_(value)
            return
        array = to_array(value, self.dtype)
        if self._storage is None:
            self._become_leaf(Storage(array))
        elif array.shape != self._storage.shape:
            raise ShapeError(f"cannot assign {array.shape} to .data of shape {self.shape}")
        else:
            flush_writes([self._storage])
            self._storage.set(array, pinned_by_pending, user_site_text())

    def numpy(self, copy: bool = False) -> Any:
        """Its value as a NumPy array: a read-only view that pins the memory, or a copy."""
        if STATE.capture is not None:
            return STATE.capture.array_of(self)
        array = self._array()
        if copy:
            return array.copy()
        if self._storage is not None:
            return self._storage.export()
        if self._node is not None and self._node.id in self._node.graph.leases:
            return array.copy()  # it lives in an arena that will be used again
        return export(array)

    def item(self) -> bool | int | float:
        """The value of a tensor with one element, as a Python number."""
        self._check_readable()
        array = self._array()
        if array.size != 1:
            raise ShapeError(f"item() needs one element, this tensor has shape {self.shape}")
        number: bool | int | float = array.item()
        return number

    def tolist(self) -> Any:
        """Its value as nested lists."""
        self._check_readable()
        return self._array().tolist()

    def assign_(self, value: Any) -> Self:
        """Write a new value: pending until it is read, flushed, or the end of a captured call.

        Tensors made before keep the old value. Shape must match; the dtype is converted.
        """
        new = value if isinstance(value, Tensor) else Tensor(value)
        if new.shape != self.shape:
            raise ShapeError(f"cannot assign a tensor of shape {new.shape} to one of {self.shape}")
        new = new.detach() if new.requires_grad else new
        if new.dtype is not self.dtype:
            new = new.to(self.dtype)
        if self._storage is None:
            return self._rebind(new)
        capture = STATE.capture
        if capture is not None:
            capture.before_write(self._storage)
            stage_write(self._storage, new._node_in(capture.graph))
        elif new._node is None:
            self._overwrite(new._array())
        else:
            graph = new._node.graph
            if self._storage.pending is not None and self._storage.pending.graph is not graph:
                flush_writes([self._storage])
            if new.is_realized:
                self._overwrite(new._array())
            else:
                stage_write(self._storage, new._node)
        return self

    def _overwrite(self, array: Array) -> None:
        """Write an array; a write that was pending never comes."""
        assert self._storage is not None
        withdraw_write(self._storage, None)
        self._storage.set(array, pinned_by_pending, user_site_text())

    def _rebind(self, new: Tensor) -> Self:
        """In-place operations: make this handle stand for the new version."""
        if self._storage is not None:
            if self._requires_grad and (STATE.grad or new.requires_grad):
                raise GradientError(
                    "a leaf that requires grad cannot be changed in place; use no_grad()"
                )
            if new.dtype is not self.dtype:
                raise DTypeError(
                    f"in place: a result of {new.dtype} does not fit a tensor of {self.dtype}"
                )
            if not new.requires_grad:
                return self.assign_(new)
        if STATE.capture is not None:
            STATE.capture.before_rebind(self)
        if new._node is None:
            assert new._storage is not None
            new = new.detach()
        assert new._node is not None
        self._storage = None
        self._node = new._node
        if STATE.capture is not None:
            STATE.capture.born(self)
        register_handle(new._node, self)
        return self

    def _become_leaf(self, storage: Storage) -> None:
        requires = self.requires_grad
        self._node = None
        self._storage = storage
        self._requires_grad = False
        if requires:
            self.requires_grad_()


def user_site_text() -> str:
    """The user's line as `file:line`."""
    site = user_site()
    return "" if site is None else f"{site[0].co_filename}:{site[1]}"


def apply(op: OpDef, *operands: Any, **attrs: Any) -> Tensor:
    """Append a node of `op` over tensors, arrays and numbers."""
    return _apply.append(Tensor, op, operands, attrs)


def state(value: Any, dtype: DTypeLike | None = None, name: str = "") -> Tensor:
    """A leaf that programs may write: a moment, a running statistic, a hyper-parameter."""
    t = Tensor(value, dtype=dtype)
    assert t._storage is not None
    t._storage.op = STATE_OP
    if name:
        t.name = name
    return t


HOOKS.wrap = Tensor._bare
HOOKS.tensor = Tensor
