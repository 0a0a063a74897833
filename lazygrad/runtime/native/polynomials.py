"""The functions of the vocabulary in float32, as compositions of its simpler words.

Each one is branch-free: reduce the argument, evaluate a polynomial by fused multiply-adds (Horner),
undo the reduction, select the special cases. Polynomials are minimax fits of relative error (Remez,
40 digits), each coefficient then rounded to float32 with the others fitted again. Everything is
within 2 ulp of the float64 result, `pow` within 1; infinities, NaN, zeros and subnormals are right.

`m` is an interpreter of the vocabulary (LLVM, or NumPy in the tests) with a few things below it:
`bits` and `real` reinterpret float32 as int32 and back (float64 as int64), `scale(x, n)` is x 2^n
rounded once, `rarely` computes a path that few lanes need, `repeat` steps the lanes of which a
condition holds. A word called with numbers takes them in the dtype of its last operand.

The methods are those of W. J. Cody and W. Waite, "Software Manual for the Elementary Functions"
(1980), the reduction of large angles of M. Payne and R. Hanek (1983).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

from lazygrad.dtypes import float32, float64, int32

_TINY = 2.0**-126  # the smallest normal number
_ROUND = 1.5 * 2.0**23  # adding it rounds to an integer, held in the low bits of the sum
_LOG2_E = (1.4426950216293335, 1.925963033500011e-08)
_LN2 = (0.6931471824645996, -1.9046542121259336e-09)
_HALF_PI = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
_WIDE_HALF_PI = 1.5707963267948966
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
_TAN = (0.004376413, 9.123098e-05, 0.010832477, 0.021284511, 0.054059178, 0.13332674, 0.3333335)
_ASIN = (0.037691906, 0.014316901, 0.031838845, 0.044513382, 0.07500522, 0.1666666)  # to 1/2
_ATAN = (
    -0.0017830074, 0.010869233, -0.0310976, 0.057881717, -0.083993144, 0.10950881, -0.14264016,
    0.1999853, -0.333333,
)  # fmt: skip  # to 1
_SINH = (2.7822132e-06, 0.00019842896, 0.0083333105, 0.16666667)  # to 1
_TANH = (-0.0058979667, 0.020798625, -0.053784717, 0.13331936, -0.333333)  # to 0.6
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
# atanh(s) = s + s^3 P(s^2) in float64, |s| <= 0.1717
_ATANH = (0.11792127239258421, 0.14268602156463128, 0.20000168359187495, 0.33333332819633127)
# 2/pi, 24 bits at a time
_TWO_OVER_PI = tuple(
    bits * 2.0 ** (-24 * k)
    for k, bits in enumerate(
        (0xA2F983, 0x6E4E44, 0x1529FC, 0x2757D1, 0xF534DD, 0xC0DB62, 0x95993C, 0x439041), 1
    )
)


def _horner(m: Any, x: Any, coefficients: tuple[float, ...], start: Any = None) -> Any:
    """A polynomial, highest power first; `start` is the value before the first coefficient."""
    total = m.const(coefficients[0], x) if start is None else m.fma(start, x, coefficients[0])
    for c in coefficients[1:]:
        total = m.fma(total, x, c)
    return total


def _odd(m: Any, x: Any, z: Any, coefficients: tuple[float, ...]) -> Any:
    """X + x z P(z), where z is x*x."""
    return m.fma(_horner(m, z, coefficients), m.mul(x, z), x)


def _unless(m: Any, c: Any, x: Any, value: float) -> Any:
    """`x`, but a number where `c` holds."""
    return m.where(c, m.const(value, x), x)


def _clip(m: Any, x: Any, low: float, high: float) -> Any:
    """`x` within two limits; NaN stays."""
    return m.maximum(m.const(low, x), m.minimum(m.const(high, x), x))


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
    n, r = _split(m, _clip(m, x, -105.0, 90.0))
    return m.scale(_horner(m, r, _EXP), m.sub(n, 1.0) if halved else n)


def exp2(m: Any, x: Any) -> Any:
    """2^x."""
    x = _clip(m, x, -151.0, 129.0)
    n, _ = _nearest(m, x, 1.0)
    return m.scale(_horner(m, m.sub(x, n), _EXP2), n)


def expm1(m: Any, x: Any) -> Any:
    """e^x - 1 = 2^n (e^r - 1) + (2^n - 1)."""
    n, r = _split(m, _clip(m, x, -18.0, 89.0))
    small = m.fma(_horner(m, r, _EXPM1), m.mul(r, r), r)
    half = m.scale(m.const(1.0, x), m.sub(n, 1.0))  # of 2^n, that overflows before the result
    large = m.fma(half, small, m.sub(half, 0.5))
    return m.where(m.eq(n, 0.0), m.copysign(small, x), m.add(large, large))


def tanh(m: Any, x: Any) -> Any:
    """T / (t + 2) where t = e^(-2|x|) - 1; the sign is that of x."""
    n, r = _split(m, m.maximum(m.const(-18.5, x), m.mul(m.abs(x), -2.0)))
    small = m.fma(_horner(m, r, _EXPM1), m.mul(r, r), r)
    power = m.scale(m.const(1.0, x), n)
    t = m.fma(power, small, m.sub(power, 1.0))
    return m.copysign(m.div(t, m.add(t, 2.0)), x)


def sinh(m: Any, x: Any) -> Any:
    """(e^x - e^-x) / 2, or a polynomial of small |x|."""
    size = m.abs(x)
    half = exp(m, size, halved=True)
    large = m.sub(half, m.div(m.const(0.25, x), half))
    small = _odd(m, size, m.mul(x, x), _SINH)
    return m.copysign(m.where(m.lt(size, 1.0), small, large), x)


def cosh(m: Any, x: Any) -> Any:
    """(e^x + e^-x) / 2."""
    half = exp(m, m.abs(x), halved=True)
    return m.add(half, m.div(m.const(0.25, x), half))


def erf(m: Any, x: Any) -> Any:
    """A polynomial to 1, from there 1 - e^-P(|x|)."""
    size = m.abs(x)
    n, r = _split(m, m.neg(_horner(m, m.minimum(m.const(4.0, x), size), _ERFC)))
    large = m.sub(m.const(1.0, x), m.scale(_horner(m, r, _EXP), n))
    small = m.fma(_horner(m, m.mul(x, x), _ERF), size, size)
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
    """N log(2) + log(1 + f)."""
    return m.fma(n, _LN2[0], m.fma(_horner(m, f, _LOG), m.mul(f, f), f))


def _to_base(two: tuple[float, float], e: tuple[float, float]) -> Callable[..., Any]:
    """The same to the base of which log(2) and log(e) are given, in two parts each."""

    def join(m: Any, n: Any, f: Any) -> Any:
        rest = m.mul(_horner(m, f, _LOG), m.mul(f, f))
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
    result = _unless(m, m.eq(y, 0.0), result, -inf)
    return _unless(m, m.lt(y, 0.0), result, nan)


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
    n, q = _nearest(m, x, 1.0 / _WIDE_HALF_PI)
    r = x
    for part in _HALF_PI:
        r = m.fma(n, -part, r)
    usual = m.le(m.abs(x), 2.0**15)

    def large() -> tuple[Any, Any]:
        r, turns = _wide_quadrant(m, m.cast(x, float64))
        return m.cast(r, float32), m.cast(turns, int32)

    r, q = m.rarely(m.logical_not(usual), (r, q), large)
    return r, q


def _wide_quadrant(m: Any, x: Any) -> tuple[Any, Any]:
    """(r, n mod 4) for any x, in float64.

    The product of x with 24 bits of 2/pi is exact, and so are its integer part, of which two bits
    count, and the rest. The rests are added from the largest one on: what they cancel is exact.
    """
    turns = rest = m.const(0.0, x)

    def take(value: Any, turns: Any) -> tuple[Any, Any]:
        n = m.round(value)
        four = m.mul(m.round(m.mul(n, 0.25)), 4.0)
        return m.sub(value, n), m.add(turns, m.sub(n, four))

    for part in _TWO_OVER_PI:
        product, turns = take(m.mul(x, part), turns)
        rest, turns = take(m.add(rest, product), turns)
    return m.mul(rest, _WIDE_HALF_PI), turns


def _wave(m: Any, x: Any, quarter: int) -> Any:
    """sin(x + quarter pi/2)."""
    r, q = _quadrant(m, x)
    q = m.add(q, quarter) if quarter else q
    z = m.mul(r, r)
    odd = m.ne(m.bit_and(q, 1), 0)
    value = m.where(odd, _horner(m, z, _COS), _odd(m, r, z, _SIN))
    sign = m.shl(m.bit_and(q, 2), 30)
    return m.real(m.bit_xor(m.bits(value), sign))


def sin(m: Any, x: Any) -> Any:
    """The sine."""
    return m.where(m.lt(m.abs(x), 2.0**-12), x, _wave(m, x, 0))


def cos(m: Any, x: Any) -> Any:
    """The cosine."""
    return _wave(m, x, 1)


def _arctan(m: Any, ratio: Any, inverted: Any) -> Any:
    """Atan of 0 <= ratio <= 1, or pi/2 less it."""
    angle = _odd(m, ratio, m.mul(ratio, ratio), _ATAN)
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
    ratio = _unless(m, m.eq(small, large), ratio, 1.0)  # inf / inf
    ratio = _unless(m, m.eq(large, 0.0), ratio, 0.0)
    angle = _arctan(m, ratio, steep)
    left = m.lt(m.bits(x), 0)  # -0.0 too
    angle = m.where(left, m.add(m.sub(m.const(_PI[1], x), angle), _PI[0]), angle)
    angle = m.copysign(angle, y)
    return m.where(m.logical_or(m.isnan(x), m.isnan(y)), m.add(x, y), angle)


# In float64, rounded once -------------------------------------------------------------------------


def _in_float64(compute: Callable[..., Any], even: bool = False) -> Callable[..., Any]:
    """An odd (or any) function of float32 from one of |x| (or x) in float64."""

    def word(m: Any, x: Any) -> Any:
        if even:
            return m.cast(compute(m, m.cast(x, float64)), float32)
        return m.copysign(m.cast(compute(m, m.cast(m.abs(x), float64)), float32), x)

    return word


def tan(m: Any, x: Any) -> Any:
    """The tangent, and in odd quadrants -1 / tan."""
    wide = m.cast(x, float64)
    n = m.round(m.mul(wide, 1.0 / _WIDE_HALF_PI))
    r = m.fma(n, -6.123233995736766e-17, m.fma(n, -_WIDE_HALF_PI, wide))
    large = m.logical_not(m.le(m.abs(x), 2.0**15))
    r, n = m.rarely(large, (r, n), lambda: _wide_quadrant(m, wide))
    t = _odd(m, r, m.mul(r, r), _TAN)
    half = m.mul(n, 0.5)
    value = m.where(m.eq(m.round(half), half), t, m.div(m.const(-1.0, t), t))
    return m.where(m.eq(x, 0.0), x, m.cast(value, float32))


def _arc(m: Any, size: Any) -> tuple[Any, Any]:
    """(asin(s), |x| > 1/2) where s is |x|, or sqrt((1 - |x|)/2) of the larger ones."""
    big = m.gt(size, 0.5)
    z = m.where(big, m.fma(size, -0.5, 0.5), m.mul(size, size))
    return _odd(m, m.where(big, m.sqrt(z), size), z, _ASIN), big


def _asin(m: Any, size: Any) -> Any:
    arc, big = _arc(m, size)
    return m.where(big, m.fma(arc, -2.0, _WIDE_HALF_PI), arc)


def _acos(m: Any, x: Any) -> Any:
    arc, big = _arc(m, m.abs(x))
    twice = m.add(arc, arc)
    left = m.sub(m.const(2.0 * _WIDE_HALF_PI, x), twice)
    near = m.sub(m.const(_WIDE_HALF_PI, x), m.copysign(arc, x))
    return m.where(big, m.where(m.lt(x, 0.0), left, twice), near)


asin, acos = _in_float64(_asin), _in_float64(_acos, even=True)


def _wide_log(m: Any, x: Any) -> Any:
    """log(x) to 37 bits for float64 x, normal and positive."""
    low = m.bits(m.const(0.7071067811865476, x))
    above = m.sub(m.bits(x), low)
    n = m.cast(m.shr(above, 52), float64)
    f = m.real(m.add(m.bit_and(above, (1 << 52) - 1), low))
    s = m.div(m.sub(f, 1.0), m.add(f, 1.0))
    half = _odd(m, s, m.mul(s, s), _ATANH)
    return m.fma(n, 0.6931471805599453, m.add(half, half))


def pow(m: Any, x: Any, y: Any) -> Any:
    """2^(y log2|x|), and the sign of x if y is odd."""
    size, wide_y = m.abs(x), m.cast(y, float64)
    log2x = m.mul(_wide_log(m, m.cast(size, float64)), 1.4426950408889634)
    log2x = _unless(m, m.isinf(x), _unless(m, m.eq(x, 0.0), log2x, -inf), inf)
    exponent = _clip(m, m.mul(wide_y, log2x), -160.0, 160.0)
    n = m.round(exponent)
    r = m.cast(m.sub(exponent, n), float32)
    result = m.scale(_horner(m, r, _EXP2), m.cast(n, float32))
    half = m.mul(y, 0.5)
    whole = m.eq(m.trunc(y), y)
    odd = m.logical_and(whole, m.ne(m.trunc(half), half))
    result = m.where(odd, m.copysign(result, x), result)
    outside = m.logical_and(m.lt(x, 0.0), m.logical_and(m.ne(x, -inf), m.logical_not(whole)))
    result = _unless(m, outside, result, nan)
    result = m.where(m.isnan(y), y, m.where(m.isnan(x), x, result))
    one = m.logical_or(m.eq(x, 1.0), m.logical_and(m.eq(x, -1.0), m.isinf(y)))
    return _unless(m, m.logical_or(one, m.eq(y, 0.0)), result, 1.0)


def _asinh(m: Any, x: Any) -> Any:
    near = _odd(m, x, m.mul(x, x), (0.075, -1.0 / 6.0))
    far = _wide_log(m, m.add(x, m.sqrt(m.fma(x, x, 1.0))))
    return m.where(m.lt(x, inf), m.where(m.lt(x, 2.0**-8), near, far), x)


def _atanh(m: Any, x: Any) -> Any:
    near = _odd(m, x, m.mul(x, x), (0.2, 1.0 / 3.0))
    far = _wide_log(m, m.div(m.add(x, 1.0), m.sub(m.const(1.0, x), x)))
    far = _unless(m, m.eq(x, 1.0), m.mul(far, 0.5), inf)
    return m.where(m.le(x, 1.0), m.where(m.lt(x, 2.0**-8), near, far), m.const(nan, x))


asinh, atanh = _in_float64(_asinh), _in_float64(_atanh)


def acosh(m: Any, x: Any) -> Any:
    """log(x + sqrt(x^2 - 1))."""
    wide = m.cast(x, float64)
    result = _wide_log(m, m.add(wide, m.sqrt(m.fma(wide, wide, -1.0))))
    result = m.cast(result, float32)
    return m.where(m.lt(x, inf), _unless(m, m.lt(x, 1.0), result, nan), x)


def fmod(m: Any, x: Any, y: Any) -> Any:
    """X - y trunc(x / y), exactly: 24 bits of the quotient at a time, in float64."""
    size = m.cast(m.abs(y), float64)

    def step(rest: Any) -> Any:
        quotient = m.trunc(m.div(rest, size))
        leading = m.real(m.bit_and(m.bits(quotient), -(1 << 29)))
        return m.fma(m.neg(leading), size, rest)

    rest = m.repeat(m.cast(m.abs(x), float64), lambda rest: m.ge(m.abs(rest), size), step)
    rest = m.where(m.lt(rest, 0.0), m.add(rest, size), rest)  # the last quotient was rounded up
    return m.where(m.isnan(y), y, m.copysign(m.cast(rest, float32), x))


FLOAT32: dict[str, Callable[..., Any]] = {
    "exp": exp, "exp2": exp2, "expm1": expm1, "tanh": tanh, "sinh": sinh, "cosh": cosh,
    "erf": erf, "log": log, "log2": log2, "log10": log10, "log1p": log1p, "sin": sin, "cos": cos,
    "tan": tan, "asin": asin, "acos": acos, "atan": atan, "atan2": atan2, "pow": pow,
    "asinh": asinh, "acosh": acosh, "atanh": atanh, "fmod": fmod,
}  # fmt: skip

# Words of any floating dtype ----------------------------------------------------------------------


def sign(m: Any, x: Any) -> Any:
    """-1, 0 or 1; NaN stays."""
    result = _unless(m, m.lt(x, 0.0), m.add(x, 0.0), -1.0)
    return _unless(m, m.gt(x, 0.0), result, 1.0)


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
