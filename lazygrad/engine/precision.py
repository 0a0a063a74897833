"""Autocast: which dtype the operands of an op have, within `with autocast(...)`.

Every op says in its record what it wants (`OpDef.autocast`): products the half type, sums, powers
and exponentials float32, the rest what they get, where different dtypes meet in the widest. What
PyTorch counts as one operation and is a composite here (`linear`, `softmax`, a loss) says so with
`computed_in`: its operands are cast once, and inside of it nothing is cast any more. Gradients are
computed in the dtypes of the forward pass, updates in those of the parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ParamSpec, Self, TypeVar

import numpy as np

from lazygrad.dtypes import DType, DTypeLike, as_dtype, bfloat16, float16, float32, float64
from lazygrad.engine.graph import HOOKS
from lazygrad.engine.modes import STATE
from lazygrad.engine.warn import warn
from lazygrad.errors import ArgumentTypeError, DeviceError, DTypeError
from lazygrad.ops.opdef import Precision

P = ParamSpec("P")
R = TypeVar("R")

_DEFAULTS = {"cpu": bfloat16, "cuda": float16}


def in_precision(x: Any, precision: Precision, half: DType) -> Any:
    """An operand as autocast to `half` wants it: floating tensors in its dtype, but no float64."""
    if precision is Precision.KEEP:
        return x
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        x = HOOKS.tensor(x)
    if not isinstance(x, HOOKS.tensor):
        return x
    target = half if precision is Precision.HALF else float32
    dtype = x.dtype
    if dtype is target or dtype is float64 or not dtype.is_floating_point:
        return x
    return x.cast(target)


def autocast_operands(operands: Sequence[Any], precision: Precision) -> list[Any]:
    """The operands of an op, where autocast is on."""
    half = STATE.autocast
    return list(operands) if half is None else [in_precision(x, precision, half) for x in operands]


@contextmanager
def _autocast_to(half: DType | None) -> Iterator[None]:
    before, STATE.autocast = STATE.autocast, half
    try:
        yield
    finally:
        STATE.autocast = before


def full_precision() -> AbstractContextManager[None]:
    """No autocast inside: updates are computed in the dtypes of what they update."""
    return _autocast_to(None)


def computed_in(precision: Precision) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let autocast treat a composite as one operation."""

    def argument(x: Any, half: DType) -> Any:
        if type(x) in (list, tuple) and any(isinstance(y, HOOKS.tensor) for y in x):
            return [in_precision(y, precision, half) for y in x]
        return in_precision(x, precision, half)

    def decorate(fn: Callable[P, R]) -> Callable[P, R]:
        plain: Callable[..., R] = fn

        @functools.wraps(fn)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            half = STATE.autocast
            if half is None:
                return fn(*args, **kwargs)
            given = [argument(x, half) for x in args]
            named = {name: argument(x, half) for name, x in kwargs.items()}
            with full_precision():
                return plain(*given, **named)

        return wrapped

    return decorate


HALF = computed_in(Precision.HALF)
SINGLE = computed_in(Precision.SINGLE)
KEEP = computed_in(Precision.KEEP)


class autocast:
    """Operations inside compute products in `dtype` and what needs more in float32.

    A context manager or a decorator, with PyTorch's arguments. Parameters stay float32: their
    half forms are nodes, of which a program has one each, so there is no cache to clear. The
    setting is part of a capture's signature. Backward passes belong outside (inside they do the
    same); gradients have the dtype of what they are the gradient of.

    `device_type` is "cpu" (bfloat16 unless told otherwise) or "cuda" (float16), which warns and
    does nothing while there is no such device. `dtype` is bfloat16 or float16, `cache_enabled` is
    accepted and without meaning.

    >>> import lazygrad as lg
    >>> x, w = lg.ones(2, 3), lg.ones(3, 4)
    >>> with lg.autocast("cpu"):
    ...     y = x @ w
    ...     y.dtype, (y + x.sum()).dtype, y.exp().dtype
    (lazygrad.bfloat16, lazygrad.bfloat16, lazygrad.float32)

    (Micikevicius et al., "Mixed precision training", 2018.)
    """

    def __init__(
        self,
        device_type: str,
        dtype: DTypeLike | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        self.device = _device(device_type)
        found = get_autocast_dtype(self.device) if dtype is None else as_dtype(dtype)
        if found not in (bfloat16, float16):
            raise DTypeError(f"autocast: dtype is bfloat16 or float16, got {found}")
        self.fast_dtype = found
        self._enabled = bool(enabled)
        if self._enabled and self.device == "cuda":
            warn("autocast('cuda'): there is no such device, so nothing is cast; use 'cpu'")
            self._enabled = False
        self._before: list[DType | None] = []

    def __enter__(self) -> Self:
        self._before.append(STATE.autocast)
        STATE.autocast = self.fast_dtype if self._enabled else None
        return self

    def __exit__(self, *exc: object) -> None:
        STATE.autocast = self._before.pop()

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """The function, called within this setting."""
        half = self.fast_dtype if self._enabled else None

        @functools.wraps(fn)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with _autocast_to(half):
                return fn(*args, **kwargs)

        return wrapped


def _device(device_type: str) -> str:
    if not isinstance(device_type, str):
        raise ArgumentTypeError(f"autocast: device_type is 'cpu' or 'cuda', got {device_type!r}")
    name = device_type.partition(":")[0]
    if name not in _DEFAULTS:
        raise DeviceError(f"autocast: device_type is 'cpu' or 'cuda', got {device_type!r}")
    return name


def is_autocast_enabled(device_type: str = "cpu") -> bool:
    """Whether this thread is within an enabled `autocast` of that device."""
    return _device(device_type) == "cpu" and STATE.autocast is not None


def get_autocast_dtype(device_type: str = "cpu") -> DType:
    """The half type of `autocast`: the one in use, or the default of the device."""
    name = _device(device_type)
    active = STATE.autocast if name == "cpu" else None
    return _DEFAULTS[name] if active is None else active


def is_autocast_available(device_type: str) -> bool:
    """Whether `autocast` does anything for that device."""
    return device_type.partition(":")[0] == "cpu"
