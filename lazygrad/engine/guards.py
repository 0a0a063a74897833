"""Guards: what a captured function depends on besides its arguments.

Names that the function uses from closures and globals, flags and plain attributes of modules that
it called, `requires_grad` of the leaves it read. Modules and leaves are looked at only when the
config epoch has moved, so a replay usually compares one integer and a few names.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from typing import Any

from lazygrad.config import config

SCALARS = (bool, int, float, str, bytes, type(None), complex)
_MISSING = object()


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= _names(const)
    return found


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_plain(v) for v in value)
    return isinstance(value, SCALARS)


def _same(now: Any, before: Any, plain: bool) -> bool:
    if now is before or not plain:
        return now is before
    return type(now) is type(before) and repr(now) == repr(before)  # 0.0 is not -0.0, NaN is NaN


class NameGuards:
    """Snapshots of the closure cells and globals that a function names directly."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        plain = getattr(fn, "__func__", fn)
        code = getattr(plain, "__code__", None)
        self.cells: list[tuple[str, Any, Any, bool]] = []
        self.globals: list[tuple[str, Any, bool]] = []
        self.namespace: dict[str, Any] = getattr(plain, "__globals__", {})
        if code is None:
            return
        for name, cell in zip(code.co_freevars, plain.__closure__ or (), strict=True):
            value = _cell(cell)
            self.cells.append((name, cell, value, _plain(value)))
        for name in sorted(_names(code)):
            value = self.namespace.get(name, _MISSING)
            if value is _MISSING or isinstance(value, types.ModuleType | type):
                continue
            self.globals.append((name, value, _plain(value)))

    def changed(self) -> str | None:
        """The first name whose value is another one now."""
        for name, cell, before, plain in self.cells:
            if not _same(_cell(cell), before, plain):
                return name
        namespace = self.namespace
        for name, before, plain in self.globals:
            now = namespace.get(name, _MISSING)
            if now is not before and not _same(now, before, plain):
                return name
        return None


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
