"""Functions of float32 that are computed in float64, and the blocks that all of them are made of.

Where a function cancels, folds or divides, float64 costs no more than the care that float32 takes:
tan, the inverse functions of sine, hyperbolic sine and their kin, the remainder, and the reduction
of large angles (M. Payne and R. Hanek, 1983). Their polynomials are as short as float32 allows.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

from lazygrad.dtypes import float32, float64, int32

HALF_PI = 1.5707963267948966

# f(x) = x + x^3 P(x^2)
_TAN = (  # to pi/4
    0.004376413, 9.123098e-05, 0.010832477, 0.021284511, 0.054059178, 0.13332674, 0.3333335,
)  # fmt: skip
_ASIN = (0.037691906, 0.014316901, 0.031838845, 0.044513382, 0.07500522, 0.1666666)  # to 1/2
_ATANH = (  # to 0.1717, in float64
    0.11792127239258421, 0.14268602156463128, 0.20000168359187495, 0.33333332819633127,
)  # fmt: skip
# 2/pi, 24 bits at a time
_TWO_OVER_PI = tuple(
    bits * 2.0 ** (-24 * k)
    for k, bits in enumerate(
        (0xA2F983, 0x6E4E44, 0x1529FC, 0x2757D1, 0xF534DD, 0xC0DB62, 0x95993C, 0x439041), 1
    )
)


def horner(m: Any, x: Any, coefficients: tuple[float, ...]) -> Any:
    """A polynomial, its highest power first."""
    total = m.const(coefficients[0], x)
    for c in coefficients[1:]:
        total = m.fma(total, x, c)
    return total


def odd(m: Any, x: Any, z: Any, coefficients: tuple[float, ...]) -> Any:
    """The polynomial x + x z P(z), where z is x*x."""
    return m.fma(horner(m, z, coefficients), m.mul(x, z), x)


def unless(m: Any, c: Any, x: Any, value: float) -> Any:
    """`x`, but a number where `c` holds."""
    return m.where(c, m.const(value, x), x)


def clip(m: Any, x: Any, low: float, high: float) -> Any:
    """`x` within two limits; NaN stays."""
    return m.maximum(m.const(low, x), m.minimum(m.const(high, x), x))


def reduce_angle(m: Any, x: Any) -> tuple[Any, Any]:
    """(r, n mod 4) where x = r + n pi/2 and |r| <= pi/4, for any x, in float64.

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
    return m.mul(rest, HALF_PI), turns


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
    n = m.round(m.mul(wide, 1.0 / HALF_PI))
    r = m.fma(n, -6.123233995736766e-17, m.fma(n, -HALF_PI, wide))
    large = m.logical_not(m.le(m.abs(x), 2.0**15))
    r, n = m.rarely(large, (r, n), lambda: reduce_angle(m, wide))
    t = odd(m, r, m.mul(r, r), _TAN)
    half = m.mul(n, 0.5)
    value = m.where(m.eq(m.round(half), half), t, m.div(m.const(-1.0, t), t))
    return m.where(m.eq(x, 0.0), x, m.cast(value, float32))


def _arc(m: Any, size: Any) -> tuple[Any, Any]:
    """(asin(s), |x| > 1/2) where s is |x|, or sqrt((1 - |x|)/2) of the larger ones."""
    big = m.gt(size, 0.5)
    z = m.where(big, m.fma(size, -0.5, 0.5), m.mul(size, size))
    return odd(m, m.where(big, m.sqrt(z), size), z, _ASIN), big


def _asin(m: Any, size: Any) -> Any:
    arc, big = _arc(m, size)
    return m.where(big, m.fma(arc, -2.0, HALF_PI), arc)


def _acos(m: Any, x: Any) -> Any:
    arc, big = _arc(m, m.abs(x))
    twice = m.add(arc, arc)
    left = m.sub(m.const(2.0 * HALF_PI, x), twice)
    near = m.sub(m.const(HALF_PI, x), m.copysign(arc, x))
    return m.where(big, m.where(m.lt(x, 0.0), left, twice), near)


asin, acos = _in_float64(_asin), _in_float64(_acos, even=True)


def logarithm(m: Any, x: Any) -> Any:
    """log(x) to 37 bits for float64 x, normal and positive."""
    low = m.bits(m.const(0.7071067811865476, x))
    above = m.sub(m.bits(x), low)
    n = m.cast(m.cast(m.shr(above, 52), int32), float64)  # AVX2 has no int64 to float64
    f = m.real(m.add(m.bit_and(above, (1 << 52) - 1), low))
    s = m.div(m.sub(f, 1.0), m.add(f, 1.0))
    half = odd(m, s, m.mul(s, s), _ATANH)
    return m.fma(n, 0.6931471805599453, m.add(half, half))


def _asinh(m: Any, x: Any) -> Any:
    near = odd(m, x, m.mul(x, x), (0.075, -1.0 / 6.0))
    far = logarithm(m, m.add(x, m.sqrt(m.fma(x, x, 1.0))))
    return m.where(m.lt(x, inf), m.where(m.lt(x, 2.0**-8), near, far), x)


def _atanh(m: Any, x: Any) -> Any:
    near = odd(m, x, m.mul(x, x), (0.2, 1.0 / 3.0))
    far = logarithm(m, m.div(m.add(x, 1.0), m.sub(m.const(1.0, x), x)))
    far = unless(m, m.eq(x, 1.0), m.mul(far, 0.5), inf)
    return m.where(m.le(x, 1.0), m.where(m.lt(x, 2.0**-8), near, far), m.const(nan, x))


asinh, atanh = _in_float64(_asinh), _in_float64(_atanh)


def acosh(m: Any, x: Any) -> Any:
    """log(x + sqrt(x^2 - 1))."""
    wide = m.cast(x, float64)
    result = logarithm(m, m.add(wide, m.sqrt(m.fma(wide, wide, -1.0))))
    result = m.cast(result, float32)
    return m.where(m.lt(x, inf), unless(m, m.lt(x, 1.0), result, nan), x)


def fmod(m: Any, x: Any, y: Any) -> Any:
    """The rest x - y trunc(x / y), exactly: 24 bits of the quotient at a time, in float64."""
    size = m.cast(m.abs(y), float64)

    def step(rest: Any) -> Any:
        quotient = m.trunc(m.div(rest, size))
        leading = m.real(m.bit_and(m.bits(quotient), -(1 << 29)))
        return m.fma(m.neg(leading), size, rest)

    rest = m.repeat(m.cast(m.abs(x), float64), lambda rest: m.ge(m.abs(rest), size), step)
    rest = m.where(m.lt(rest, 0.0), m.add(rest, size), rest)  # the last quotient was rounded up
    return m.where(m.isnan(y), y, m.copysign(m.cast(rest, float32), x))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "tan": tan, "asin": asin, "acos": acos, "asinh": asinh, "acosh": acosh, "atanh": atanh,
    "fmod": fmod,
}  # fmt: skip
