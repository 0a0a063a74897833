"""Hooks of modules: callables run before and after `forward`.

A registry is a dictionary from a running number to a hook, in the order in which they run; the
handle that registration returns takes its hook out again. Hooks run while a function is traced:
their tensor operations become part of the captured graph. Registering or removing one is a change
that captured functions notice.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

from lazygrad.config import config

_numbers = itertools.count()


@dataclass(frozen=True, slots=True, eq=False)
class Hook:
    """A registered hook and how it wants to be called."""

    call: Callable[..., Any]
    with_kwargs: bool = False
    always: bool = False


# A class of its own because plain dictionaries cannot be referred to weakly.
class HookRegistry(dict[int, Hook]):
    """The hooks of one module and one moment, in running order."""

    __slots__ = ("__weakref__",)

    def add(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Register a hook, at the end or at the front."""
        number = next(_numbers)
        later = dict(self) if prepend else {}
        if prepend:
            self.clear()
        self[number] = hook
        self.update(later)
        config.bump()
        return RemovableHandle(self, number)


class Around(Protocol):
    """What goes around a call besides: see backward_hooks.py."""

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments in place of those given."""
        ...

    def leave(self, output: Any) -> Any:
        """The output in place of the one computed."""
        ...


class RemovableHandle:
    """Takes a hook out again: by `remove()`, or at the end of a `with` block.

    >>> import lazygrad as lg
    >>> layer = lg.nn.Linear(2, 2)
    >>> with layer.register_forward_hook(lambda module, args, output: None):
    ...     y = layer(lg.ones(1, 2))
    """

    def __init__(self, registry: HookRegistry, number: int) -> None:
        self._registry = weakref.ref(registry)  # a handle must not keep its module alive
        self._number = number

    def remove(self) -> None:
        """Take the hook out; a second time does nothing."""
        registry = self._registry()
        if registry is not None and registry.pop(self._number, None) is not None:
            config.bump()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def run_with_hooks(
    module: Any,
    call: Callable[..., Any],
    before: HookRegistry,
    after: HookRegistry,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    backward: Around | None = None,
) -> Any:
    """Call with the hooks around it; a hook that returns something replaces what it was given.

    Those of the backward pass see what the others have replaced.
    """
    pending = list(after.values())
    try:
        for hook in list(before.values()):
            if hook.with_kwargs:
                changed = hook.call(module, args, kwargs)
                if changed is not None:
                    args, kwargs = _pair(changed)
            else:
                changed = hook.call(module, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        if backward is not None:
            args = backward.enter(args)
        output = call(*args, **kwargs)
        while pending:
            output = _after(pending.pop(0), module, args, kwargs, output)
        return output if backward is None else backward.leave(output)
    except BaseException:
        for hook in pending:
            if hook.always:
                _after(hook, module, args, kwargs, None)
        raise


def _pair(changed: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not (isinstance(changed, tuple) and len(changed) == 2):
        raise TypeError(
            f"a forward pre-hook with kwargs returns None or (args, kwargs), got {changed!r}"
        )
    return changed


def _after(hook: Hook, module: Any, args: tuple[Any, ...], kwargs: Any, output: Any) -> Any:
    if hook.with_kwargs:
        changed = hook.call(module, args, kwargs, output)
    else:
        changed = hook.call(module, args, output)
    return output if changed is None else changed
