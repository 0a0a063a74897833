"""Words as compositions of simpler words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lazygrad.dtypes import float32, float64

_LIBRARY = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh "
    "atanh erf pow atan2 fmod"
).split()


def _wide(name: str) -> Callable[..., Any]:
    def compute(m: Any, *args: Any) -> Any:
        return m.cast(m.word(name, *(m.cast(a, float64) for a in args)), float32)

    return compute


def sign(m: Any, x: Any) -> Any:
    """-1, 0 or 1; NaN stays."""
    small = m.where(m.lt(x, 0.0), m.const(-1.0, x), m.add(x, 0.0))
    return m.where(m.gt(x, 0.0), m.const(1.0, x), small)


def mod(m: Any, x: Any, y: Any) -> Any:
    """The remainder with the sign of y, as Python has it."""
    rest = m.fmod(x, y)
    crossed = m.logical_xor(m.lt(y, 0.0), m.lt(rest, 0.0))
    moved = m.where(crossed, m.add(rest, y), rest)
    zero = m.logical_and(m.eq(rest, 0.0), m.ne(y, 0.0))
    return m.where(zero, m.copysign(m.const(0.0, y), y), moved)


def floordiv(m: Any, x: Any, y: Any) -> Any:
    """The largest integer not above x / y, exact where the quotient is."""
    rest, ratio = m.fmod(x, y), m.div(x, y)
    crossed = m.logical_xor(m.lt(y, 0.0), m.lt(rest, 0.0))
    crossed = m.logical_and(crossed, m.ne(rest, 0.0))
    whole = m.div(m.sub(x, rest), y)
    whole = m.where(crossed, m.sub(whole, 1.0), whole)
    low = m.floor(whole)
    near = m.where(m.gt(m.sub(whole, low), 0.5), m.add(low, 1.0), low)
    near = m.where(m.eq(whole, 0.0), m.copysign(m.const(0.0, x), ratio), near)
    return m.where(m.eq(y, 0.0), ratio, near)


def _truth(name: str) -> Callable[..., Any]:
    def compute(m: Any, *args: Any) -> Any:
        return m.word(name, *(m.ne(a, 0.0) for a in args))

    return compute


SHARED: dict[str, Callable[..., Any]] = {
    "sign": sign, "mod": mod, "floordiv": floordiv,
    **{n: _truth(n) for n in ("logical_and", "logical_or", "logical_xor", "logical_not")},
}  # fmt: skip
FLOAT32: dict[str, Callable[..., Any]] = {n: _wide(n) for n in _LIBRARY}
