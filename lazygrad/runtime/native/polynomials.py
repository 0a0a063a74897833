"""The functions of the vocabulary in float32, as compositions of its simpler words.

Each one is branch-free: reduce the argument, evaluate a polynomial by fused multiply-adds (Horner),
undo the reduction, select the special cases. Polynomials are minimax fits of relative error (Remez,
40 digits), each coefficient then rounded to float32 with the others fitted again. Each
function is within 2 ulp of the float64 result, right at infinities, NaN, zeros and subnormals.

`m` is an interpreter of the vocabulary (LLVM, or NumPy in the tests) with a few things below it:
`bits` and `real` reinterpret float32 as int32 and back (float64 as int64), `scale(x, n)` is x 2^n
rounded once, `rarely` computes a path that few lanes need, `repeat` steps the lanes of which a
condition holds. A word called with numbers takes them in the dtype of its last operand.

The methods are those of W. J. Cody and W. Waite, "Software Manual for the Elementary Functions"
(1980); `wide` holds the functions for which float64 is the better way.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

from lazygrad.dtypes import float32, float64, int32
from lazygrad.runtime.native import wide
from lazygrad.runtime.native.wide import HALF_PI, clip, horner, logarithm, odd, reduce_angle, unless

_TINY = 2.0**-126  # the smallest normal number
_ROUND = 1.5 * 2.0**23  # adding it rounds to an integer, held in the low bits of the sum
_LOG2_E = (1.4426950216293335, 1.925963033500011e-08)
_LN2 = (0.6931471824645996, -1.9046542121259336e-09)
_HALF_PI = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
_PI = (3.1415927410125732, -8.742277657347586e-08)
_LOG10_2 = (0.3010300099849701, -1.432098883924482e-08)
_LOG10_E = (0.4342944920063019, -1.0103049952192578e-08)

# e^r = 1 + r + r^2 P(r) and e^r - 1, |r| <= ln(2)/2; 2^r = 1 + r P(r), |r| <= 1/2
_EXP = (0.0013836713, 0.00836914, 0.041668106, 0.16666517, 0.49999994, 1.0, 1.0)
_EXPM1 = (0.0013838698, 0.008367057, 0.041667745, 0.16666539, 0.49999997)
_EXP2 = (0.00015786962, 0.0013414752, 0.009617109, 0.055502776, 0.24022655, 0.69314724, 1.0)
# log(1 + f) = f + f^2 P(f), -1/3 <= f <= 1/3
_LOG = (
    0.14021303, -0.15383218, 0.13997002, -0.16417098, 0.2001108, -0.25007746, 0.333332,
    -0.49999937,
)  # fmt: skip
# f(x) = x + x^3 P(x^2)
_SIN = (2.83251e-06, -0.00019853064, 0.008333379, -0.16666667)  # |x| <= pi/4
_ATAN = (
    -0.0017830074, 0.010869233, -0.0310976, 0.057881717, -0.083993144, 0.10950881, -0.14264016,
    0.1999853, -0.333333,
)  # fmt: skip  # to 1
_SINH = (2.7822132e-06, 0.00019842896, 0.0083333105, 0.16666667)  # to 1
# cos(x) = 1 - x^2/2 + x^4 P(x^2)
_COS = (2.443067e-05, -0.0013887301, 0.041666646, -0.5, 1.0)
# erf(x) = x + x P(x^2) to 1; -log(1 - erf(x)) = P(x) from 1 to 3.95
_ERF = (
    7.806904e-05, -0.0007997853, 0.005187162, -0.026853347, 0.11283579, -0.37612626, 0.12837917,
)  # fmt: skip
_ERFC = (
    2.169835e-05, -0.00044147257, 0.0042052567, -0.025210224, 0.1084219, 0.63321656, 1.1295803,
    -0.000188467,
)  # fmt: skip

# Exponentials -------------------------------------------------------------------------------------


def _nearest(m: Any, x: Any, factor: float) -> tuple[Any, Any]:
    """(n, its low bits as integers), where n is the integer next to x times a factor."""
    shifted = m.fma(x, factor, _ROUND)
    return m.sub(shifted, _ROUND), m.bits(shifted)


def _split(m: Any, x: Any) -> tuple[Any, Any]:
    """(n, r) where x = n ln(2) + r and |r| <= ln(2)/2."""
    n, _ = _nearest(m, x, _LOG2_E[0])
    return n, m.fma(n, -_LN2[1], m.fma(n, -_LN2[0], x))


def exp(m: Any, x: Any, halved: bool = False) -> Any:
    """e^x, or half of it: that overflows later."""
    n, r = _split(m, clip(m, x, -105.0, 90.0))
    return m.scale(horner(m, r, _EXP), m.sub(n, 1.0) if halved else n)


def exp2(m: Any, x: Any) -> Any:
    """2^x."""
    x = clip(m, x, -151.0, 129.0)
    n, _ = _nearest(m, x, 1.0)
    return m.scale(horner(m, m.sub(x, n), _EXP2), n)


def expm1(m: Any, x: Any) -> Any:
    """e^x - 1 = 2^n (e^r - 1) + (2^n - 1)."""
    n, r = _split(m, clip(m, x, -18.0, 89.0))
    small = m.fma(horner(m, r, _EXPM1), m.mul(r, r), r)
    half = m.scale(m.const(1.0, x), m.sub(n, 1.0))  # of 2^n, that overflows before the result
    large = m.fma(half, small, m.sub(half, 0.5))
    return m.where(m.eq(n, 0.0), m.copysign(small, x), m.add(large, large))


def tanh(m: Any, x: Any) -> Any:
    """-t / (t + 2) where t = e^(-2|x|) - 1."""
    n, r = _split(m, m.maximum(m.const(-18.5, x), m.mul(m.abs(x), -2.0)))
    small = m.fma(horner(m, r, _EXPM1), m.mul(r, r), r)
    power = m.scale(m.const(1.0, x), n)
    t = m.fma(power, small, m.sub(power, 1.0))
    return m.copysign(m.div(t, m.add(t, 2.0)), x)


def sinh(m: Any, x: Any) -> Any:
    """(e^x - e^-x) / 2, or a polynomial of small |x|."""
    size = m.abs(x)
    half = exp(m, size, halved=True)
    large = m.sub(half, m.div(m.const(0.25, x), half))
    small = odd(m, size, m.mul(x, x), _SINH)
    return m.copysign(m.where(m.lt(size, 1.0), small, large), x)


def cosh(m: Any, x: Any) -> Any:
    """(e^x + e^-x) / 2."""
    half = exp(m, m.abs(x), halved=True)
    return m.add(half, m.div(m.const(0.25, x), half))


def erf(m: Any, x: Any) -> Any:
    """A polynomial to 1, from there 1 - e^-P(|x|)."""
    size = m.abs(x)
    n, r = _split(m, m.neg(horner(m, m.minimum(m.const(4.0, x), size), _ERFC)))
    large = m.sub(m.const(1.0, x), m.scale(horner(m, r, _EXP), n))
    small = m.fma(horner(m, m.mul(x, x), _ERF), size, size)
    return m.copysign(m.where(m.lt(size, 1.0), small, large), x)


# Logarithms ---------------------------------------------------------------------------------------


def _fraction(m: Any, x: Any) -> tuple[Any, Any]:
    """(n, f) where x = 2^n (1 + f), -1/3 <= f < 1/3, for normal positive x."""
    low = m.bits(m.const(2.0 / 3.0, x))
    above = m.sub(m.bits(x), low)
    n = m.cast(m.shr(above, 23), float32)
    f = m.sub(m.real(m.add(m.bit_and(above, 0x7FFFFF), low)), 1.0)
    return n, f


def _join_logs(m: Any, n: Any, f: Any) -> Any:
    """The logarithm of 2^n (1 + f)."""
    return m.fma(n, _LN2[0], m.fma(horner(m, f, _LOG), m.mul(f, f), f))


def _to_base(two: tuple[float, float], e: tuple[float, float]) -> Callable[..., Any]:
    """The same to another base, from its logarithms of 2 and e in two parts each."""

    def join(m: Any, n: Any, f: Any) -> Any:
        rest = m.mul(horner(m, f, _LOG), m.mul(f, f))
        low = m.fma(rest, e[0], m.mul(f, e[1]))
        return m.fma(n, two[0], m.fma(f, e[0], m.fma(n, two[1], low) if two[1] else low))

    return join


def _logarithm(join: Callable[..., Any]) -> Callable[..., Any]:
    """A logarithm, from n and f of its argument 2^n (1 + f)."""

    def compute(m: Any, x: Any) -> Any:
        tiny = m.lt(x, _TINY)
        n, f = _fraction(m, m.where(tiny, m.mul(x, 2.0**23), x))
        n = m.where(tiny, m.sub(n, 23.0), n)
        return _domain(m, x, x, join(m, n, f))

    return compute


def _domain(m: Any, x: Any, y: Any, result: Any) -> Any:
    """A logarithm of y where it ends: inf and NaN are x's own, 0 gives -inf, below is NaN."""
    result = m.where(m.lt(x, inf), result, x)
    result = unless(m, m.eq(y, 0.0), result, -inf)
    return unless(m, m.lt(y, 0.0), result, nan)


log = _logarithm(_join_logs)
log2 = _logarithm(_to_base((1.0, 0.0), _LOG2_E))
log10 = _logarithm(_to_base(_LOG10_2, _LOG10_E))


def log1p(m: Any, x: Any) -> Any:
    """log(1 + x): the exponent of 1 + x, the fraction from x itself."""
    one = m.add(x, 1.0)
    n, _ = _fraction(m, one)
    unit = m.scale(m.const(1.0, x), m.neg(n))
    f = m.fma(x, unit, m.sub(unit, 1.0))
    return _domain(m, x, one, m.copysign(_join_logs(m, n, f), x))


# Angles -------------------------------------------------------------------------------------------


def _quadrant(m: Any, x: Any) -> tuple[Any, Any]:
    """(r, q) where x = r + n pi/2, |r| <= pi/4, and the low bits of q are those of n."""
    n, q = _nearest(m, x, 1.0 / HALF_PI)
    r = x
    for part in _HALF_PI:
        r = m.fma(n, -part, r)
    usual = m.le(m.abs(x), 2.0**15)

    def large() -> tuple[Any, Any]:
        r, turns = reduce_angle(m, m.cast(x, float64))
        return m.cast(r, float32), m.cast(turns, int32)

    r, q = m.rarely(m.logical_not(usual), (r, q), large)
    return r, q


def _wave(m: Any, x: Any, quarter: int) -> Any:
    """sin(x + quarter pi/2)."""
    r, q = _quadrant(m, x)
    q = m.add(q, quarter) if quarter else q
    z = m.mul(r, r)
    cosine = m.ne(m.bit_and(q, 1), 0)
    value = m.where(cosine, horner(m, z, _COS), odd(m, r, z, _SIN))
    sign = m.shl(m.bit_and(q, 2), 30)
    return m.real(m.bit_xor(m.bits(value), sign))


def sin(m: Any, x: Any) -> Any:
    """The sine."""
    return m.where(m.lt(m.abs(x), 2.0**-12), x, _wave(m, x, 0))


def cos(m: Any, x: Any) -> Any:
    """The cosine."""
    return _wave(m, x, 1)


def _arctan(m: Any, ratio: Any, inverted: Any) -> Any:
    """The arc tangent of 0 <= ratio <= 1, or pi/2 less it."""
    angle = odd(m, ratio, m.mul(ratio, ratio), _ATAN)
    rest = m.add(m.sub(m.const(_HALF_PI[1], angle), angle), _HALF_PI[0])
    return m.where(inverted, rest, angle)


def atan(m: Any, x: Any) -> Any:
    """The angle whose tangent is x."""
    size = m.abs(x)
    big = m.gt(size, 1.0)
    ratio = m.where(big, m.div(m.const(1.0, x), size), size)
    return m.copysign(_arctan(m, ratio, big), x)


def atan2(m: Any, y: Any, x: Any) -> Any:
    """The angle of the point (x, y)."""
    height, width = m.abs(y), m.abs(x)
    steep = m.gt(height, width)
    large, small = m.where(steep, height, width), m.where(steep, width, height)
    ratio = m.div(small, large)
    ratio = unless(m, m.eq(small, large), ratio, 1.0)  # inf / inf
    ratio = unless(m, m.eq(large, 0.0), ratio, 0.0)
    angle = _arctan(m, ratio, steep)
    left = m.lt(m.bits(x), 0)  # -0.0 too
    angle = m.where(left, m.add(m.sub(m.const(_PI[1], x), angle), _PI[0]), angle)
    angle = m.copysign(angle, y)
    return m.where(m.logical_or(m.isnan(x), m.isnan(y)), m.add(x, y), angle)


def pow(m: Any, x: Any, y: Any) -> Any:
    """2^(y log2|x|), and the sign of x if y is odd."""
    size, wide_y = m.abs(x), m.cast(y, float64)
    log2x = m.mul(logarithm(m, m.cast(size, float64)), 1.4426950408889634)
    log2x = unless(m, m.isinf(x), unless(m, m.eq(x, 0.0), log2x, -inf), inf)
    exponent = clip(m, m.mul(wide_y, log2x), -160.0, 160.0)
    n = m.round(exponent)
    r = m.cast(m.sub(exponent, n), float32)
    result = m.scale(horner(m, r, _EXP2), m.cast(n, float32))
    half = m.mul(y, 0.5)
    whole = m.eq(m.trunc(y), y)
    signed = m.logical_and(whole, m.ne(m.trunc(half), half))
    result = m.where(signed, m.copysign(result, x), result)
    outside = m.logical_and(m.lt(x, 0.0), m.logical_and(m.ne(x, -inf), m.logical_not(whole)))
    result = unless(m, outside, result, nan)
    result = m.where(m.isnan(y), y, m.where(m.isnan(x), x, result))
    one = m.logical_or(m.eq(x, 1.0), m.logical_and(m.eq(x, -1.0), m.isinf(y)))
    return unless(m, m.logical_or(one, m.eq(y, 0.0)), result, 1.0)


FLOAT32: dict[str, Callable[..., Any]] = {
    "exp": exp, "exp2": exp2, "expm1": expm1, "tanh": tanh, "sinh": sinh, "cosh": cosh,
    "erf": erf, "log": log, "log2": log2, "log10": log10, "log1p": log1p, "sin": sin, "cos": cos,
    "atan": atan, "atan2": atan2, "pow": pow, **wide.FUNCTIONS,
}  # fmt: skip

# Words of any floating dtype ----------------------------------------------------------------------


def sign(m: Any, x: Any) -> Any:
    """-1, 0 or 1; NaN stays."""
    result = unless(m, m.lt(x, 0.0), m.add(x, 0.0), -1.0)
    return unless(m, m.gt(x, 0.0), result, 1.0)


def mod(m: Any, x: Any, y: Any) -> Any:
    """The remainder with the sign of y, as Python has it."""
    rest = m.fmod(x, y)
    crossed = m.logical_xor(m.lt(y, 0.0), m.lt(rest, 0.0))
    moved = m.where(crossed, m.add(rest, y), rest)
    zero = m.logical_and(m.eq(rest, 0.0), m.ne(y, 0.0))
    return m.where(zero, m.copysign(rest, y), moved)


def floordiv(m: Any, x: Any, y: Any) -> Any:
    """The largest integer not above x / y, by the remainder, as Python has it."""
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
        return getattr(m, name)(*(m.ne(a, 0.0) for a in args))

    return compute


FLOATING: dict[str, Callable[..., Any]] = {
    "sign": sign, "mod": mod, "floordiv": floordiv,
    **{n: _truth(n) for n in ("logical_and", "logical_or", "logical_xor", "logical_not")},
}  # fmt: skip
