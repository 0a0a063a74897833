"""Guards: what a captured function depends on besides its arguments.

Names that the function uses from closures and globals, plain values and tensors one step inside of
what they stand for (`cfg.alpha`, `cfg["alpha"]`, the entries of a list), flags, plain attributes
and tensors of modules that it called, `requires_grad` of the leaves it read. Modules and leaves are
looked at only when the config epoch has moved, so a replay usually compares one integer and a few
names.

What the function changes itself has to be changed, and seen, by the next call as well: a trace that
changed something serves no other call. A tensor of an earlier trace has no value, so any such
tensor is like any other: a function that only leaves them there is traced twice, one that reads
them raises.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Iterable, Iterator
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


def _is_tensor(value: Any) -> bool:
    return hasattr(type(value), "_escaped")  # its slot; guards stand below tensors


def _is_value(value: Any) -> bool:
    """What a function may read at once: a plain value, a tensor, a tuple of these."""
    if isinstance(value, tuple):
        return all(map(_is_value, value))
    return isinstance(value, SCALARS) or _is_tensor(value)


def _mark(value: Any) -> Any:
    """What a value is compared by: what it says, or else which object it is."""
    if isinstance(value, SCALARS):
        return repr(value)
    if isinstance(value, tuple):
        return tuple([_mark(v) for v in value])
    if _is_tensor(value):
        try:
            if object.__getattribute__(value, "_escaped") is not None:
                return _ESCAPED
        except AttributeError:  # a `LazyTensor` whose slots are empty
            pass
    return id(value)


_ESCAPED = "escaped"  # no plain value says this: its text has quotation marks


class _Watched:
    """A state, and whether the objects that it was compared by are still there.

    An address says which object it is only while that object lives: the next may get the same one.
    """

    __slots__ = ("__weakref__", "alive", "held", "state")

    def __init__(self) -> None:
        self.alive = True
        self.held: list[Callable[[], Any]] = []
        self.state: Any = None

    def hold(self, values: Iterable[Any]) -> None:
        """Learn of the end of these objects; what cannot be referred to weakly is kept alive."""
        me = weakref.ref(self)

        def end(_: Any) -> None:
            if (found := me()) is not None:
                found.alive = False

        self.held += [_weakly(v, end) for v in _objects(values)]


def _objects(values: Iterable[Any]) -> Iterator[Any]:
    """Those that are compared by which object they are."""
    for value in values:
        if isinstance(value, tuple):
            yield from _objects(value)
        elif isinstance(_mark(value), int):
            yield value


def _weakly(value: Any, end: Callable[[Any], None] | None = None) -> Callable[[], Any]:
    try:
        return weakref.ref(value, end)
    except TypeError:
        return lambda: value


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
            if not inside.alive or inside.look() != inside.state:
                return inside.which(name)
        return None


class _Inside(_Watched):
    """What is one step inside of an object that a function names; modules are such objects.

    A module that the function calls is watched as a whole (`ModuleGuard`); of one whose method it
    is, or whose attribute it reads without a call, the attributes that the function names are.
    """

    __slots__ = ("kind", "names", "objects", "ref")
    LONG = 64  # entries of a list that are looked at

    def __init__(self, value: Any, names: set[str], texts: set[str]) -> None:
        super().__init__()
        self.kind = type(value)
        self.names: list[Any] = []
        self.ref: Callable[[], Any] = lambda: value
        if self.kind is dict:
            self.names = [k for k in value if isinstance(k, str) and k in texts]
        elif self.kind is not list:
            if hasattr(value, "__dict__") and not isinstance(value, _CODE):
                own = () if isinstance(value, _SPACES) else vars(value)  # else: their functions
                self.names = [
                    k for k in sorted(names) if k in own or _is_value(_attribute(value, k))
                ]
            self.ref = _weakly(value)
        found = self._values()
        self.hold(v for v in found if _is_value(v))
        self.state = tuple([_mark(v) for v in found])
        self.objects = [i for i, v in enumerate(found) if not _is_value(v)]

    def _values(self) -> list[Any]:
        value = self.ref()
        if self.kind is list:
            return list(value[: self.LONG])
        if not self.names:
            return []
        if self.kind is dict:
            return [value.get(k, _MISSING) for k in self.names]
        return [_attribute(value, k) for k in self.names]

    def look(self) -> tuple[Any, ...]:
        """What is there now."""
        return tuple([_mark(v) for v in self._values()])

    def attributes(self) -> dict[str, Any] | None:
        """Its names, if all are plain values or objects that are the object's own attributes.

        These can be compared one by one, which is quicker than `look`.
        """
        value = self.ref()
        own = getattr(value, "__dict__", {})
        if self.kind in (dict, list) or isinstance(value, _SPACES) or not own:
            return None
        found = {k: own.get(k, _MISSING) for k in self.names}
        if tuple(map(_mark, found.values())) != self.state:
            return None  # it has been changed since
        special = (v is _MISSING or isinstance(v, tuple) or _is_tensor(v) for v in found.values())
        return None if any(special) else found

    def which(self, name: str) -> str:
        """What of it differs, as one would write it."""
        for key, before, now in zip(self.names, self.state, self.look(), strict=False):
            if before != now:
                return f"{name}[{key!r}]" if self.kind is dict else f"{name}.{key}"
        return name

    def seal(self) -> None:
        """The trace is over: objects, and what it appended to a list, count as they are now."""
        now, state = self._values(), list(self.state)
        for i, value in enumerate(now[: len(state)]):
            if state[i] != _mark(value) and (_is_value(value) or i not in self.objects):
                self.alive = False  # a replay would not change it
        if self.kind is list:
            kept = len(state) if len(now) >= len(state) else 0
            self.hold(now[kept:])
            state[kept:] = [_mark(v) for v in now[kept:]]
        for i in self.objects:
            if i < len(state) and not _is_value(now[i]):
                self.hold([now[i]])
                state[i] = _mark(now[i])
        self.state = tuple(state)


def _attribute(value: Any, name: str) -> Any:
    """A plain attribute of an object or, as a default, of its class; no property is called."""
    own = getattr(value, "__dict__", {})
    if name in own:
        return own[name]
    for base in type(value).__mro__:
        if name in vars(base):
            return vars(base)[name]
    return _MISSING


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


class ModuleGuard(_Watched):
    """What a forward pass reads from a module: flags, numbers, tensors, hooks, children.

    Made before the function that is captured changes any of it. With `moving` it may: values then
    count as they were, all else as the trace left it.
    """

    __slots__ = ("moved", "moving", "ref", "shape", "title")

    def __init__(self, module: Any, moving: bool) -> None:
        super().__init__()
        self.title = type(module).__name__
        self.ref = weakref.ref(module)
        self.moving = moving
        self.moved: set[Any] = set()
        found = {k: v for k, v in _parts(module) if _is_value(v)} if moving else {}
        self.hold(found.values())
        self.state = {k: _mark(v) for k, v in found.items()}
        self.shape: Any = None

    def seal(self) -> None:
        """The trace is over."""
        module = self.ref()
        if module is None:
            return
        now = dict(_parts(module))
        rest = {
            k: v for k, v in now.items()
            if not self.moving or not (_is_value(v) or k in self.state)
        }  # fmt: skip
        self.hold(rest.values())
        self.state |= {k: _mark(v) for k, v in rest.items()}
        self.shape = _shape(module)
        self.moved = {
            k for k in {*now, *self.state}
            if k not in now or k not in self.state or _mark(now[k]) != self.state[k]
        }  # fmt: skip
        if self.moved:  # a replay would not move it
            self.alive = False

    def changed(self) -> str | None:
        """What differs from the trace, or None."""
        module = self.ref()
        if module is None:
            return f"module {self.title}"
        now = {k: _mark(v) for k, v in _parts(module)}
        if self.alive and now == self.state and _shape(module) == self.shape:
            return None
        for key in self.moved:  # by the function itself
            if isinstance(key, str) and now.get(key) not in (self.state.get(key), _ESCAPED):
                return f"{self.title}.{key}"
        return f"module {self.title}"


def _parts(module: Any) -> Iterator[tuple[Any, Any]]:
    """The attributes of a module, and the entries of those that are dictionaries."""
    for name, value in vars(module).items():
        if isinstance(value, dict):
            yield from (((name, k), v) for k, v in value.items())
        elif not isinstance(value, list | set) and not name.startswith("__"):
            yield name, value


def _shape(module: Any) -> dict[str, Any]:
    """The keys of its dictionaries, the lengths of its lists."""
    return {
        name: tuple(value) if isinstance(value, dict) else len(value)
        for name, value in vars(module).items()
        if isinstance(value, dict | list | set)
    }


class EpochGuards:
    """Module states and `requires_grad` flags, compared when the config epoch has moved."""

    def __init__(self, modules: list[ModuleGuard], leaves: list[Any]) -> None:
        self.modules = modules
        for guard in modules:
            guard.seal()
        self.leaves = [(weakref.ref(t), t._requires_grad, _hooks(t)) for t in leaves]
        moved = any(guard.moved or not guard.alive for guard in modules)
        self.epoch = -1 if moved else config.epoch

    def changed(self) -> str | None:
        """What differs from the trace, or None."""
        if config.epoch == self.epoch:
            return None
        for guard in self.modules:
            if (what := guard.changed()) is not None:
                return what
        for leaf_ref, requires, hooks in self.leaves:
            leaf = leaf_ref()
            if leaf is not None and (leaf._requires_grad != requires or _hooks(leaf) != hooks):
                return f"requires_grad or hooks of a {leaf.shape} parameter"
        self.epoch = config.epoch
        return None


def _hooks(t: Any) -> tuple[int, ...]:
    return tuple(t._hooks or ())
