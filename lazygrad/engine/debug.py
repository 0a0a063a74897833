"""Printing values from inside of captured functions."""

from __future__ import annotations

from typing import Any

from lazygrad.engine.modes import STATE
from lazygrad.engine.tensor import Tensor, apply
from lazygrad.errors import ArgumentTypeError
from lazygrad.ops.effect import DEBUG_PRINT


def print(text: str, *tensors: Any) -> None:
    """Print `text.format(*values)`: at once, or at every call of the function being captured.

    >>> import lazygrad as lg
    >>> @lg.compute_graph
    ... def double(x):
    ...     lg.debug.print("x = {}", x)
    ...     return x * 2
    >>> _ = double(lg.tensor([1.0])), double(lg.tensor([2.0]))
    x = [1.]
    x = [2.]
    """
    if not isinstance(text, str):
        raise ArgumentTypeError(f"debug.print takes a format string first, got {text!r}")
    given = [t if isinstance(t, Tensor) else Tensor(t) for t in tensors]
    out = apply(DEBUG_PRINT, *[t.detach() for t in given], text=text)
    if STATE.capture is None and not STATE.trace:
        out.realize()
