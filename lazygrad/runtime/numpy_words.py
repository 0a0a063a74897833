"""One word of the scalar vocabulary as NumPy statements that allocate nothing.

Most words are one ufunc call with a positional `out` (the cheapest form). What this module knows
beyond that are NumPy's traps, all measured: `copyto(..., where=mask)` costs ten times a blend by
bit operations; casts are cheapest as `out[...] = x`; arithmetic on 0-d arrays costs half as
operators on their scalars; `maximum` and `minimum` take `out` by keyword only, and a third of
the time if both operands move; the functions of the mathematical library round differently when
they walk backwards, float16 ones when they walk in steps; `power` takes short cuts (squares,
roots) if its exponent does not move; `isnan` and its kind, and `negative` for some strides, write
wrong answers into an `out` with gaps (NumPy 2.4 with AVX-512).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazygrad.ops.scalar_math import WORDS
from lazygrad.runtime.numpy_plan import Const, NumpyDType, Plan, View, constant, function

LIBRARY_FLOPS = 10  # words that cost as much are functions of the mathematical library
_KEYWORD_OUT = frozenset({"maximum", "minimum"})
_NEEDS_DENSE_OUT = frozenset({"isnan", "isinf", "isfinite", "neg"})
_OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "eq": "==", "ne": "!=",
}  # fmt: skip
_SCALARS = frozenset({np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)})
_MOVING = 512  # elements from which `maximum` gains by a dense operand
_ROUNDING = frozenset({"floor", "ceil", "trunc", "round"})  # of integers: the integer itself
_FUNCTIONS: dict[str, Any] = {"floordiv": np.floor_divide}
_INTEGERS: dict[int, NumpyDType] = {n: np.dtype(f"int{8 * n}") for n in (1, 2, 4, 8)}
_FLOAT64 = np.dtype(np.float64)

Value = View | Const


def is_library(word: str) -> bool:
    """Whether the word is a function of the mathematical library, sensitive to strides."""
    known = WORDS.get(word)
    return known is not None and known.flops >= LIBRARY_FLOPS


def wants_dense(word: str, view: View) -> bool:
    """Whether the word must read a dense copy of this view to round as it always does."""
    if not is_library(word):
        return False
    return not _ascending(view)


def wants_moving(word: str, size: int) -> bool:
    """Whether the word is faster on `size` elements if no operand stands still."""
    return word in _KEYWORD_OUT and size >= _MOVING


def may_write(word: str, view: View) -> bool:
    """Whether the word can write its result into this view."""
    if word in _NEEDS_DENSE_OUT:
        return view.contiguous
    return not is_library(word) or _ascending(view)


def _ascending(view: View) -> bool:
    """Whether a library function rounds on this view as on a dense one."""
    return view.contiguous if view.dtype.itemsize < 4 else view.ascending


def emit_word(plan: Plan, word: str, args: list[Value], out: View) -> None:
    """Append the statements that compute one word into `out`."""
    if word == "where":
        _emit_where(plan, args[0], args[1], args[2], out)
    elif word == "cast" or (word in _ROUNDING and out.dtype.kind in "iub"):
        emit_copy(plan, args[0], out)
    elif out.shape == () and word in _OPERATORS and _dtype(args[0]) in _SCALARS:
        plan.add(f"{{0}}[()] = {{1}}[()] {_OPERATORS[word]} {{2}}[()]", out, *args)
    elif word == "fma":
        wide = plan.temp(out.shape, _FLOAT64, out.rows)
        plan.add(
            "{0}({1}, {2}, {3}, dtype={4})",
            function(np.multiply, "multiply"), *args[:2], wide, Const(_FLOAT64, "float64"),
        )  # fmt: skip
        plan.add("{0}({1}, {2}, {1})", function(np.add, "add"), wide, args[2])
        emit_copy(plan, wide, out)
    else:
        called = _FUNCTIONS.get(word, WORDS[word].function)
        if word == "pow" and out.dtype.kind not in "iu":
            called = np.power
        name = getattr(called, "__name__", word).lstrip("_")
        fields = ", ".join(f"{{{i + 1}}}" for i in range(len(args)))
        keyword = word in _KEYWORD_OUT or not isinstance(called, np.ufunc)
        last = f"{'out=' if keyword else ''}{{{len(args) + 1}}}"
        plan.add(f"{{0}}({fields}, {last})", function(called, name), *args, out)


def _dtype(value: Value) -> NumpyDType:
    return value.dtype if isinstance(value, View) else value.value.dtype


def emit_copy(plan: Plan, source: Value, out: View) -> None:
    """Append `out = source`, converting elements as a cast does."""
    plan.add("{0}[()] = {1}" if out.shape == () else "{0}[...] = {1}", out, source)


def _bits(value: Value) -> Value:
    """The same bits as integers."""
    integer = _INTEGERS[_dtype(value).itemsize]
    if isinstance(value, View):
        return value.retyped(integer)
    return Const(value.value.view(integer), value.name, ("bits", value.key), value.rows)


def _is_zero(value: Value) -> bool:
    return isinstance(value, Const) and value.rows == 0 and not value.value.tobytes().strip(b"\0")


def _emit_where(plan: Plan, c: Value, x: Value, y: Value, out: View) -> None:
    """Blend by bits: y ^ ((x ^ y) & mask); a zero on one side leaves a single `and`.

    The last statement is the only one that writes `out`, so `out` may be x or y.
    """
    if out.shape == ():
        plan.add("{0}[()] = {1} if {2} else {3}", out, x, c, y)
        return
    and_ = function(np.bitwise_and, "bitwise_and")
    target = out.retyped(_INTEGERS[out.dtype.itemsize])
    if _is_zero(x):
        mask = _mask(plan, c, out, inverted=True)
        plan.add("{0}({1}, {2}, {3})", and_, _bits(y), mask, target)
        return
    mask = _mask(plan, c, out, inverted=False)
    if _is_zero(y):
        plan.add("{0}({1}, {2}, {3})", and_, _bits(x), mask, target)
        return
    xor = function(np.bitwise_xor, "bitwise_xor")
    changed = plan.temp(out.shape, target.dtype, out.rows)
    plan.add("{0}({1}, {2}, {3})", xor, _bits(x), _bits(y), changed)
    plan.add("{0}({1}, {2}, {1})", and_, changed, mask)
    plan.add("{0}({1}, {2}, {3})", xor, changed, _bits(y), target)


def _mask(plan: Plan, c: Value, out: View, inverted: bool) -> View:
    """All bits set where the condition holds (where it does not, if inverted)."""
    integer = _INTEGERS[out.dtype.itemsize]
    mask = plan.temp(c.shape if isinstance(c, View) else c.value.shape, integer, c.rows)
    source: Value = mask
    if integer.itemsize == 1:
        source = _bits(c)
    else:
        emit_copy(plan, c, mask)
    if inverted:
        plan.add(
            "{0}({1}, {2}, {3})",
            function(np.subtract, "subtract"), source, constant(1, integer), mask,
        )  # fmt: skip
    else:
        plan.add("{0}({1}, {2})", function(np.negative, "negative"), source, mask)
    return mask
