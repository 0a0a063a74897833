"""Elementwise methods composed of others: PyTorch's less frequent names, and in-place forms."""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lazygrad.dtypes import bool_, float64
from lazygrad.engine.methods.base import Methods, in_place

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

Operand = Any  # a tensor, an array or a Python number


class ElementaryMethods(Methods):
    """Functions of one or two elements that are compositions."""

    __slots__ = ()

    # Two operands.

    def fmax(self, other: Operand) -> Tensor:
        """The larger one; of a NaN and a number the number."""
        other = self._lift(other)
        larger = self.maximum(other)
        return other.where(self.isnan(), self.where(other.isnan(), larger))

    def fmin(self, other: Operand) -> Tensor:
        """The smaller one; of a NaN and a number the number."""
        other = self._lift(other)
        smaller = self.minimum(other)
        return other.where(self.isnan(), self.where(other.isnan(), smaller))

    def hypot(self, other: Operand) -> Tensor:
        """sqrt(self² + other²), for any size of the operands."""
        x, y = self._common(other)
        scale = x.detach().abs().maximum(y.detach().abs())
        scale = scale.masked_fill((scale == 0) | scale.isinf(), 1.0)
        x, y = x / scale, y / scale
        return (x * x + y * y).sqrt() * scale

    def xlogy(self, other: Operand) -> Tensor:
        """Self * log(other), and 0 where self is 0, whatever other is but NaN."""
        x, y = self._common(other)
        nothing = x.eq(0) & ((y <= 0) | y.isinf())
        return x * (y * 1.0).masked_fill(nothing, 1.0).log()

    def logaddexp2(self, other: Operand) -> Tensor:
        """log2(2^self + 2^other), for any size of the operands."""
        two = math.log(2)
        return (self * two).logaddexp(self._lift(other) * two) / two

    def ldexp(self, other: Operand) -> Tensor:
        """Self * 2^other."""
        x, y = self._common(other)
        return x * (y * 1.0).exp2()

    def heaviside(self, values: Operand) -> Tensor:
        """0 where self is negative, 1 where it is positive, `values` where it is 0."""
        return self._alike(values).where(self.eq(0), self.gt(0).to(self.dtype))

    def float_power(self, exponent: Operand) -> Tensor:
        """`self ** exponent` in float64."""
        return self.to(float64).pow(exponent)

    # One operand.

    def clamp_min(self, min: Operand) -> Tensor:
        """At least `min`."""
        return self.clamp(min=min)

    def clamp_max(self, max: Operand) -> Tensor:
        """At most `max`."""
        return self.clamp(max=max)

    def deg2rad(self) -> Tensor:
        """Degrees as radians."""
        return self._self * (math.pi / 180)

    def rad2deg(self) -> Tensor:
        """Radians as degrees."""
        return self._self * (180 / math.pi)

    def logit(self, eps: float | None = None) -> Tensor:
        """log(x / (1 - x)), of x within [eps, 1 - eps] when `eps` is given."""
        x = self._self if self.dtype.is_floating_point else self._self.mul(1.0)
        x = x if eps is None else x.clamp(eps, 1 - eps)
        return x.log() - (-x).log1p()

    def sinc(self) -> Tensor:
        """sin(pi x) / (pi x), and 1 at 0."""
        angle = (self * math.pi).masked_fill(self.eq(0), 1.0)
        return (angle.sin() / angle).masked_fill(self.eq(0), 1.0)

    def sgn(self) -> Tensor:
        """`sign`."""
        return self.sign()

    def signbit(self) -> Tensor:
        """Whether the sign is a minus, that of -0.0 too."""
        if not self.dtype.is_floating_point:
            return self.lt(0) if self.dtype is not bool_ else self.new_zeros(self.shape)
        return self._number(1.0, self.dtype).copysign(self).lt(0)

    def isposinf(self) -> Tensor:
        """Whether it is infinity."""
        return self.eq(math.inf)

    def isneginf(self) -> Tensor:
        """Whether it is -infinity."""
        return self.eq(-math.inf)

    def isreal(self) -> Tensor:
        """True everywhere: there are no complex numbers."""
        return self.new_ones(self.shape).to(bool_)

    def positive(self) -> Tensor:
        """Itself."""
        return self._self

    def fix(self) -> Tensor:
        """`trunc`."""
        return self.trunc()

    # Questions about the whole tensor.

    def is_nonzero(self) -> bool:
        """Whether its only element is not zero (this realizes)."""
        return bool(self.item())

    def is_signed(self) -> bool:
        """Whether its dtype has negative numbers."""
        return self.dtype.is_signed

    def is_complex(self) -> bool:
        """False: there are no complex numbers."""
        return False

    # In place.

    sin_, cos_, tan_ = in_place("sin"), in_place("cos"), in_place("tan")
    asin_, acos_, atan_ = in_place("asin"), in_place("acos"), in_place("atan")
    sinh_, cosh_, erf_ = in_place("sinh"), in_place("cosh"), in_place("erf")
    exp2_, expm1_ = in_place("exp2"), in_place("expm1")
    log2_, log10_, log1p_ = in_place("log2"), in_place("log10"), in_place("log1p")
    trunc_, frac_, fix_ = in_place("trunc"), in_place("frac"), in_place("fix")
    fmod_, atan2_, copysign_ = in_place("fmod"), in_place("atan2"), in_place("copysign")
    hypot_, xlogy_, logit_ = in_place("hypot"), in_place("xlogy"), in_place("logit")
    clamp_min_, clamp_max_ = in_place("clamp_min"), in_place("clamp_max")
    nan_to_num_, cumsum_, cumprod_ = in_place("nan_to_num"), in_place("cumsum"), in_place("cumprod")
    eq_, ne_, lt_, le_ = in_place("eq"), in_place("ne"), in_place("lt"), in_place("le")
    gt_, ge_, tril_, triu_ = in_place("gt"), in_place("ge"), in_place("tril"), in_place("triu")
    logical_and_, logical_or_ = in_place("logical_and"), in_place("logical_or")
    logical_xor_, logical_not_ = in_place("logical_xor"), in_place("logical_not")
    bitwise_and_, bitwise_or_ = in_place("bitwise_and"), in_place("bitwise_or")
    bitwise_xor_, bitwise_not_ = in_place("bitwise_xor"), in_place("bitwise_not")
    negative_, multiply_, subtract_ = in_place("neg"), in_place("mul"), in_place("sub")
    divide_, true_divide_, clip_ = in_place("div"), in_place("div"), in_place("clamp")
    addmm_, baddbmm_ = in_place("addmm"), in_place("baddbmm")
    absolute_, sgn_, sinc_ = in_place("abs"), in_place("sgn"), in_place("sinc")
    asinh_, acosh_, atanh_ = in_place("asinh"), in_place("acosh"), in_place("atanh")
    deg2rad_, rad2deg_, renorm_ = in_place("deg2rad"), in_place("rad2deg"), in_place("renorm")
    ldexp_, heaviside_, not_equal_ = in_place("ldexp"), in_place("heaviside"), in_place("ne")
    less_, less_equal_ = in_place("lt"), in_place("le")
    greater_, greater_equal_ = in_place("gt"), in_place("ge")
    arcsin_, arccos_, arctan_ = in_place("asin"), in_place("acos"), in_place("atan")
    arcsinh_, arccosh_, arctanh_ = in_place("asinh"), in_place("acosh"), in_place("atanh")
