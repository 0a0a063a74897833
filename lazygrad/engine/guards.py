"""Guards: what a captured function depends on besides its arguments.

Names that the function uses from closures and globals, plain values one step inside of what they
stand for (`cfg.alpha`, `cfg["alpha"]`, the entries of a list), flags and plain attributes of
modules that it called, `requires_grad` of the leaves it read. Modules and leaves are looked at only
when the config epoch has moved, so a replay usually compares one integer and a few names.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from typing import Any

from lazygrad.config import config
from lazygrad.engine.graph import PACKAGE

SCALARS = (bool, int, float, str, bytes, type(None), complex)
_MISSING = object()
_SPACES = types.ModuleType | type
_CODE = types.FunctionType | types.BuiltinFunctionType | types.MethodType


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= _names(const)
    return found


def _texts(code: types.CodeType) -> set[str]:
    found = {c for c in code.co_consts if isinstance(c, str)}
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= _texts(const)
    return found


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_plain(v) for v in value)
    return isinstance(value, SCALARS)


def same(now: Any, before: Any, plain: bool) -> bool:
    """Whether a name still stands for what it stood for."""
    if now is before or not plain:
        return now is before
    return type(now) is type(before) and repr(now) == repr(before)  # 0.0 is not -0.0, NaN is NaN


def _inner(fn: Any) -> Any:
    """What the decorators of lazygrad (`no_grad()`, `autocast(...)`) are around."""
    while hasattr(fn, "__wrapped__") and hasattr(fn, "__code__"):
        if not fn.__code__.co_filename.startswith(PACKAGE):
            break
        fn = fn.__wrapped__
    return fn


class NameGuards:
    """Snapshots of the closure cells and globals that a function names directly."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        plain = _inner(getattr(fn, "__func__", fn))
        code = getattr(plain, "__code__", None)
        self.cells: list[tuple[str, Any, Any, bool]] = []
        self.globals: list[tuple[str, Any, bool]] = []
        self.namespace: dict[str, Any] = getattr(plain, "__globals__", {})
        self.insides: list[tuple[str, _Inside]] = []
        if code is None:
            return
        for name, cell in zip(code.co_freevars, plain.__closure__ or (), strict=True):
            value = _cell(cell)
            self.cells.append((name, cell, value, _plain(value)))
        for name in sorted(_names(code)):
            value = self.namespace.get(name, _MISSING)
            if value is not _MISSING and not isinstance(value, _SPACES):
                self.globals.append((name, value, _plain(value)))
        self._look_inside(code, getattr(fn, "owner", None))

    def _look_inside(self, code: types.CodeType, owner: Any) -> None:
        names, texts = _names(code), _texts(code)
        held = [(name, value) for name, _, value, plain in self.cells if not plain]
        held += [(name, value) for name, value, plain in self.globals if not plain]
        spaces = ((name, self.namespace.get(name)) for name in sorted(names))
        held += [(name, value) for name, value in spaces if isinstance(value, _SPACES)]
        if owner is not None and code.co_varnames:
            held.append((code.co_varnames[0], owner()))
        for name, value in held:
            inside = _Inside(value, names, texts)
            if inside.state:
                self.insides.append((name, inside))

    def seal(self) -> None:
        """The trace is over: lists that it appended to count as they are now."""
        for _, inside in self.insides:
            inside.seal()

    def changed(self) -> str | None:
        """The first name whose value is another one now."""
        for name, cell, before, plain in self.cells:
            if not same(_cell(cell), before, plain):
                return name
        namespace = self.namespace
        for name, before, plain in self.globals:
            now = namespace.get(name, _MISSING)
            if now is not before and not same(now, before, plain):
                return name
        for name, inside in self.insides:
            if inside.look() != inside.state:
                return inside.which(name)
        return None


class _Inside:
    """Plain values one step inside of an object that a function names; modules are such objects.

    A module that the function calls is watched as a whole (`EpochGuards`); one whose method it is,
    or whose attribute it reads without a call, is not.
    """

    __slots__ = ("kind", "names", "ref", "state")
    LONG = 64  # entries of a list that are looked at

    def __init__(self, value: Any, names: set[str], texts: set[str]) -> None:
        self.kind = type(value)
        self.names: list[Any] = []
        self.ref: Callable[[], Any] = lambda: value
        if self.kind is dict:
            self.names = [k for k in value if isinstance(k, str) and k in texts]
        elif self.kind is not list:
            if hasattr(value, "__dict__") and not isinstance(value, _CODE):
                self.names = [k for k in sorted(names) if _plain(_attribute(value, k))]
            self.ref = _weakly(value)
        self.state = self.look()

    def look(self) -> tuple[Any, ...]:
        """What is there now."""
        value = self.ref()
        if self.kind is list:
            return tuple([repr(v) if _plain(v) else id(v) for v in value[: self.LONG]])
        if not self.names:
            return ()
        if self.kind is dict:
            found = [value.get(k, _MISSING) for k in self.names]
        else:
            found = [_attribute(value, k) for k in self.names]
        return tuple([repr(v) if _plain(v) else id(v) for v in found])

    def which(self, name: str) -> str:
        """What of it differs, as one would write it."""
        for key, before, now in zip(self.names, self.state, self.look(), strict=False):
            if before != now:
                return f"{name}[{key!r}]" if self.kind is dict else f"{name}.{key}"
        return name

    def seal(self) -> None:
        """Lists count as they are now."""
        if self.kind is list:
            self.state = self.look()


def _attribute(value: Any, name: str) -> Any:
    """A plain attribute of an object or, as a default, of its class; no property is called."""
    own = getattr(value, "__dict__", {})
    if name in own:
        return own[name]
    for base in type(value).__mro__:
        if name in vars(base):
            return vars(base)[name]
    return _MISSING


def _weakly(value: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def module_state(module: Any) -> tuple[Any, ...]:
    """What a forward pass reads from a module besides tensors: flags, numbers, hooks, children."""
    parts: list[Any] = []
    for name, value in vars(module).items():
        if _plain(value):
            parts.append((name, repr(value)))
        elif isinstance(value, dict):
            held = [(k, repr(v) if _plain(v) else id(v)) for k, v in value.items()]
            parts.append((name, tuple(held)))
        elif isinstance(value, list | set):
            parts.append((name, len(value)))
        elif not name.startswith("__"):
            parts.append((name, id(value)))
    return tuple(parts)


class EpochGuards:
    """Module states and `requires_grad` flags, compared when the config epoch has moved."""

    def __init__(self, modules: list[Any], leaves: list[Any]) -> None:
        self.modules = [(weakref.ref(m), module_state(m)) for m in modules]
        self.leaves = [(weakref.ref(t), t._requires_grad, _hooks(t)) for t in leaves]
        self.epoch = config.epoch

    def changed(self) -> str | None:
        """What differs from the trace, or None."""
        if config.epoch == self.epoch:
            return None
        for ref, before in self.modules:
            module = ref()
            if module is None or module_state(module) != before:
                return f"module {type(module).__name__}"
        for leaf_ref, requires, hooks in self.leaves:
            leaf = leaf_ref()
            if leaf is not None and (leaf._requires_grad != requires or _hooks(leaf) != hooks):
                return f"requires_grad or hooks of a {leaf.shape} parameter"
        self.epoch = config.epoch
        return None


def _hooks(t: Any) -> tuple[int, ...]:
    return tuple(t._hooks or ())
