"""What a thread is doing: gradient mode, the current graph, the capture in progress.

One small object per thread, looked up once per operation.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from lazygrad.dtypes import DType
    from lazygrad.engine.capture import Capture
    from lazygrad.engine.graph import Graph

P = ParamSpec("P")
R = TypeVar("R")


class State(threading.local):
    """The state of one thread. All of it is in `__dict__`, for who reads several fields at once."""

    def __init__(self) -> None:
        self.grad: bool = True
        self.autocast: DType | None = None  # the half type of products, within `autocast`
        self.graph: Graph | None = None  # the current graph; None until the first node
        self.default: Graph | None = None  # what `set_default_graph` chose
        self.capture: Capture | None = None  # the innermost capture in progress
        # overrides the user's line while gradients are written
        self.site: tuple[CodeType, int] | None = None
        self.anomaly: bool = False  # look for NaNs before each program runs
        self.busy: bool = False  # realizing: nodes are for planning only, nothing may be flushed
        self.trace: bool = False  # inside a trace of a subgraph: nothing may be realized


STATE = State()
LOCK = threading.RLock()  # realizing, capturing and replaying are serialised

if hasattr(os, "register_at_fork"):
    # A forked child lacks the thread that realizes, and would wait for its lock for ever: a fork
    # takes the lock itself, so that nothing is in the middle of anything.
    os.register_at_fork(
        before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release
    )


def serialised(fn: Callable[P, R]) -> Callable[P, R]:
    """One thread at a time: what a realization drops is what no pending tensor of any thread needs.

    Nodes that are written one after the other, like those of a backward pass, have to be complete
    before another thread may look.
    """

    @functools.wraps(fn)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with LOCK:
            return fn(*args, **kwargs)

    return wrapped


class _GradMode:
    """A context manager and decorator that sets the gradient mode."""

    mode = True

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> Self:
        self._before.append(STATE.grad)
        STATE.grad = self.mode
        return self

    def __exit__(self, *exc: object) -> None:
        STATE.grad = self._before.pop()

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(fn)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with type(self)():
                return fn(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):
    """Operations inside record no gradient.

    >>> import lazygrad as lg
    >>> w = lg.tensor(2.0, requires_grad=True)
    >>> with lg.no_grad():
    ...     (w * 3).requires_grad
    False
    """

    mode = False

    def __new__(cls, fn: Callable[..., Any] | None = None) -> Any:
        """`@no_grad` without parentheses decorates at once."""
        self = super().__new__(cls)
        if fn is None:
            return self
        self._before = []
        return self(fn)


class inference_mode(no_grad):
    """The same as `no_grad`; PyTorch's other name for it."""


class enable_grad(_GradMode):
    """Operations inside record gradients even within `no_grad`."""


class set_grad_enabled(_GradMode):
    """Set the gradient mode to a flag, at once and until the end of a `with` block."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode = bool(mode)
        self._before.append(STATE.grad)
        STATE.grad = self.mode

    def __enter__(self) -> Self:
        return self


def is_grad_enabled() -> bool:
    """Whether operations record gradients in this thread."""
    return STATE.grad


def capturing() -> bool:
    """Whether this thread is tracing a captured function."""
    return STATE.capture is not None
