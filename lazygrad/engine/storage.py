"""Versioned storage of leaves: parameters, buffers, moments, data.

A `Storage` owns the current array of a leaf. A graph never refers to a storage as such but to one
version of it, a `Ref`; writing makes a new version. The write goes in place when nothing alive
needs the old version (`pins`, an exported NumPy view), otherwise the old array stays with its
`Ref` and the new version lives in a fresh one: a value that somebody holds never changes.

A step that runs again and again looks at its storages once and *watches* them. What could spoil
that look (somebody takes a `Ref`, a view is exported, the array moves) is counted in `WATCH`, so
the step compares one number as long as nothing happens.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from sys import getrefcount
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.dtypes import DType, as_dtype
from lazygrad.errors import GraphReleasedError, ShapeError, UnknownAttributeError
from lazygrad.ops.opdef import Array, OpDef
from lazygrad.ops.source import DATA
from lazygrad.shapes import Shape

if TYPE_CHECKING:
    from lazygrad.engine.graph import Node


class Watch:
    """What steps and calls have taken for granted about all storages that they use."""

    __slots__ = ("count", "reader")

    def __init__(self) -> None:
        self.count = 0  # how often a watched storage was touched
        self.reader: weakref.ref[Any] | None = None  # a call whose versions are not pinned yet

    def settle(self) -> None:
        """Something is about to be written: the waiting call pins the versions that it reads."""
        waiting, self.reader = self.reader, None
        call = None if waiting is None else waiting()
        if call is not None:
            call.pin()

    def is_read(self, by: Any = None) -> bool:
        """Whether a call (but `by`) has yet to read versions that it has not pinned."""
        call = None if self.reader is None else self.reader()
        if call is None or not call.is_open:
            self.reader = None
            return False
        return call is not by


WATCH = Watch()


class Ref:
    """One version of a storage; what source nodes point at."""

    __slots__ = ("__weakref__", "pins", "saved", "shown", "storage", "version")

    def __init__(self, storage: Storage, version: int) -> None:
        self.storage = storage
        self.version = version
        self.saved: Array | None = None  # the array, once the storage has moved on
        self.shown: weakref.ref[Any] | None = None  # a tensor whose value this version is
        self.pins = 0  # residuals that will read this version

    def owner(self) -> Any:
        """The leaf tensor that collects the gradient, or None."""
        return self.storage.leaf()

    def array(self) -> Array:
        """The value of this version, or `GraphReleasedError` when it was overwritten."""
        if self.saved is not None:
            return self.saved
        storage = self.storage
        if storage.version == self.version and storage.array is not None:
            return storage.array
        where = f" at {storage.written_at}" if storage.written_at else ""
        what = storage.label or storage.op.name
        raise GraphReleasedError(
            f"the value of {what} {storage.shape} that this needs was released or overwritten"
            f"{where}; run the forward again, or call backward() before the write"
        )


class Storage:
    """The array of a leaf, its version, and the pending write if there is one."""

    __slots__ = (
        "__weakref__", "_known", "array", "call", "dtype", "exported", "label", "op", "owner",
        "pending", "shape", "version", "watched", "written_at",
    )  # fmt: skip

    def __init__(self, array: Array, dtype: DType | None = None, op: OpDef = DATA) -> None:
        self.array: Array | None = array
        self.shape: Shape = array.shape
        self.dtype = as_dtype(array.dtype) if dtype is None else dtype
        self.op = op
        self.version = 0
        self._known: weakref.ref[Ref] | None = None  # the current version, while somebody has it
        self.watched = False  # a step counts on nobody else having the current version
        self.pending: Node | None = None  # the node of the next version
        self.exported: weakref.ref[Array] | None = None
        self.owner: weakref.ref[Any] | None = None  # the leaf tensor that gets the gradient
        self.call: weakref.ref[Any] | None = None  # the call whose argument it is
        self.label = ""
        self.written_at: Any = None

    @classmethod
    def released(cls, shape: Shape, dtype: DType) -> Storage:
        """A storage whose array is gone: it can be drawn, not read."""
        found = cls(np.broadcast_to(np.zeros((), dtype.dtype), shape), dtype)
        found.array = None
        return found

    @property
    def ref(self) -> Ref:
        """The current version, for somebody who may keep it."""
        if self.watched:
            self._touch()
        return self._current_ref()

    def _current_ref(self) -> Ref:
        found = self.known()
        if found is None:
            found = Ref(self, self.version)
            self._known = weakref.ref(found)
        return found

    def known(self) -> Ref | None:
        """The current version, if anybody has it.

        A version refers to its storage; the other way round it is weak, so that an array goes as
        soon as its last user does, without waiting for the collection of cycles.
        """
        return None if self._known is None else self._known()

    def _touch(self) -> None:
        self.watched = False
        WATCH.count += 1

    def leaf(self) -> Any:
        """The tensor that collects the gradient, while it lives; None without one."""
        return None if self.owner is None else self.owner()

    def current(self) -> Array:
        """The array of the current version."""
        return self._current_ref().array()

    def is_current(self, ref: Ref) -> bool:
        """Whether this version is the newest."""
        return ref.storage is self and ref.version == self.version

    def is_quiet(self) -> bool:
        """Whether nobody else knows the current version, so that it may be written unseen."""
        if self.exported is not None:
            if self.exported() is not None:
                return False
            self.exported = None
        return self.pending is None and self.array is not None and self.known() is None

    def references(self) -> int:
        """How often the current version is referred to."""
        found = self.known()
        return 0 if found is None else getrefcount(found)

    def export(self) -> Array:
        """A read-only view; while it lives, writes go elsewhere."""
        base = self.exported() if self.exported is not None else None
        if base is not None:
            return base.view(self.dtype.dtype).reshape(self.shape)
        view = export(self.current())
        assert view.base is not None
        if self.watched:
            self._touch()
        self.exported = weakref.ref(view.base)
        return view

    def in_place(self, pinned: Callable[[Ref], bool]) -> bool:
        """Whether the next version may take the array of this one."""
        if self.exported is not None and self.exported() is not None:
            return False
        ref = self.known()
        if ref is None:
            return True
        if ref.shown is not None and ref.shown() is not None:
            return False
        return ref.pins == 0 and not pinned(ref)

    def target(self, pinned: Callable[[Ref], bool]) -> Array:
        """The array that the next version is to be written to."""
        if WATCH.reader is not None:
            WATCH.settle()
        if self.array is not None and self.in_place(pinned):
            return self.array
        return np.empty(self.shape, self.dtype.dtype)

    def advance(self, array: Array, site: Any = None) -> Ref:
        """Make `array` the next version (it may be the very array of this one)."""
        if array is not self.array and self.array is not None:
            before = self.known()
            if before is not None:
                before.saved = self.array
            self.exported = None
            if self.watched:
                self._touch()
        self.array = array
        self.version += 1
        self._known = None
        self.pending = None
        self.written_at = site
        return self._current_ref()

    def set(self, value: Any, pinned: Callable[[Ref], bool], site: Any = None) -> None:
        """Write from the host: copies `value` in."""
        new = np.asarray(value)
        if new.shape != self.shape and new.size != 1:
            raise ShapeError(f"cannot copy {new.shape} into a tensor of shape {self.shape}")
        target = self.target(pinned)
        np.copyto(target, new, casting="unsafe")
        self.advance(target, site)


def export(array: Array) -> Array:
    """A read-only view of `array`.

    It and its own views share one base that owns nothing, so a weak reference to that base tells
    whether anybody still looks at the memory. NumPy collapses chains of bases, except across an
    object of another type: a memoryview.
    """
    if array.size == 0:
        view = array.copy()
        view.flags.writeable = False
        return view[...]
    flat: Any = array.reshape(-1).view(np.uint8)
    raw = memoryview(flat).toreadonly()
    return np.frombuffer(raw, np.uint8).view(array.dtype).reshape(array.shape)


def _replaced(name: str) -> Any:
    """An in-place operator that makes a new array where writing is not allowed."""
    in_place, operator = getattr(np.ndarray, name), getattr(np.ndarray, name.replace("__i", "__"))

    def method(self: Array, other: Any) -> Any:
        if self.flags.writeable:  # a copy that belongs to the user
            return in_place(self, other)
        return operator(self.view(np.ndarray), other)

    method.__name__ = name
    return method


class ReadOnly(np.ndarray):
    """What `.data` gives: a read-only array whose `-=` and the like make a new array.

    Python then assigns the new array: `p.data -= 0.1 * p.grad.data`.
    """

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """Results of functions are plain."""
        return array[()] if return_scalar else array

    __iadd__ = _replaced("__iadd__")
    __isub__ = _replaced("__isub__")
    __imul__ = _replaced("__imul__")
    __itruediv__ = _replaced("__itruediv__")
    __ifloordiv__ = _replaced("__ifloordiv__")
    __imod__ = _replaced("__imod__")
    __ipow__ = _replaced("__ipow__")
    __iand__ = _replaced("__iand__")
    __ior__ = _replaced("__ior__")
    __ixor__ = _replaced("__ixor__")
    __imatmul__ = _replaced("__imatmul__")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a protocol that somebody probes for
            raise AttributeError(name)
        raise no_attribute_of_data(name)

    def __repr__(self) -> str:
        return repr(self.view(np.ndarray))

    def __reduce__(self) -> Any:
        return self.view(np.ndarray).__reduce__()


def no_attribute_of_data(name: str) -> UnknownAttributeError:
    """What `.data.zero_()` is answered with."""
    return UnknownAttributeError(
        f".data is a read-only NumPy array, which has no {name!r}; use the tensor: p.detach(),"
        " nn.init.zeros_(p), `with lg.no_grad(): p.zero_()`, or assign: p.data = array"
    )
