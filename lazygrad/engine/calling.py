"""The arguments of a call in one form: all positional that can be, with defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple


class Named(NamedTuple):
    """The arguments of a call of which some can only be named."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def binding_of(fn: Callable[..., Any]) -> Callable[..., Arguments]:
    """A function with the signature of `fn` that returns its arguments in one form.

    >>> def f(x, y=2, *more, z=3): ...
    >>> bind = binding_of(f)
    >>> bind(1), bind(y=5, x=4, z=6)
    (((1, 2), {'z': 3}), ((4, 5), {'z': 6}))
    """
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # some functions written in C have none
        return lambda *args, **kwargs: (args, kwargs)
    name = getattr(fn, "__name__", "f")
    header = inspect.Signature(
        [p.replace(annotation=p.empty, default=p.empty) for p in parameters]
    )  # fmt: skip
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    args = [f"{p.name}, " for p in parameters if p.kind in positional]
    args += [f"*{p.name}, " for p in parameters if p.kind is p.VAR_POSITIONAL]
    kwargs = [f"{p.name!r}: {p.name}, " for p in parameters if p.kind is p.KEYWORD_ONLY]
    kwargs += [f"**{p.name}" for p in parameters if p.kind is p.VAR_KEYWORD]
    source = f"def bind{header}: return ({''.join(args)}), {{{''.join(kwargs)}}}"
    space: dict[str, Any] = {}
    exec(source, space)
    bind: FunctionType = space["bind"]
    bind.__name__ = bind.__qualname__ = name  # which errors about arguments name
    given = [p for p in parameters if p.default is not p.empty]
    bind.__defaults__ = tuple(p.default for p in given if p.kind in positional)
    bind.__kwdefaults__ = {p.name: p.default for p in given if p.kind is p.KEYWORD_ONLY}
    return bind
