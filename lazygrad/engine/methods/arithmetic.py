"""Elementwise methods and operators."""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lazygrad.dtypes import INTEGER, bool_, finfo
from lazygrad.engine.apply import append
from lazygrad.engine.graph import HOOKS, NO_ATTRS
from lazygrad.engine.methods.base import OPERANDS, Methods, in_place, write_back
from lazygrad.engine.precision import KEEP, SINGLE
from lazygrad.errors import ArgumentError, DTypeError
from lazygrad.ops import elementwise as ops
from lazygrad.ops import logic
from lazygrad.ops.opdef import OpDef

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

NUMBERS = frozenset({bool, int, float})
Operand = Any  # a tensor, an array or a Python number
Unary = Callable[[Any], "Tensor"]
Binary = Callable[[Any, Operand], "Tensor"]


def _operator(op: OpDef, symbol: str, reflected: bool = False) -> Binary:
    """The special method of a binary operator; foreign operands are left to the other side."""

    def method(self: Any, other: Any) -> Any:
        if type(other) not in NUMBERS and not isinstance(other, OPERANDS):
            return NotImplemented
        return append(HOOKS.tensor, op, (other, self) if reflected else (self, other), NO_ATTRS)

    method.__doc__ = f"`{'other' if reflected else 'self'} {symbol} ...`, elementwise."
    return method


def _assigned(name: str, symbol: str) -> Binary:
    """The special method of an in-place operator."""

    def method(self: Any, other: Any) -> Any:
        new = getattr(self, name)(other)
        return new if new is NotImplemented else write_back(self, new, symbol)

    method.__doc__ = f"`self {symbol} other`: this handle becomes the result."
    return method


def _unary(op: OpDef) -> Unary:
    """A method that only appends a node of `op`."""

    def method(self: Any) -> Any:
        return self.apply(op)

    method.__name__ = op.name
    method.__doc__ = op.doc
    return method


def _binary(op: OpDef) -> Binary:
    """A method of two operands that only appends a node of `op`."""

    def method(self: Any, other: Operand) -> Any:
        return self.apply(op, other)

    method.__name__ = op.name
    method.__doc__ = op.doc
    return method


class ArithmeticMethods(Methods):
    """Operators, arithmetic, comparison, logic, functions of one operand."""

    __slots__ = ()

    __add__ = _operator(ops.ADD, "+")
    __radd__ = _operator(ops.ADD, "+", True)
    __iadd__ = _assigned("__add__", "+=")
    __sub__ = _operator(ops.SUB, "-")
    __rsub__ = _operator(ops.SUB, "-", True)
    __isub__ = _assigned("__sub__", "-=")
    __mul__ = _operator(ops.MUL, "*")
    __rmul__ = _operator(ops.MUL, "*", True)
    __imul__ = _assigned("__mul__", "*=")
    __truediv__ = _operator(ops.DIV, "/")
    __rtruediv__ = _operator(ops.DIV, "/", True)
    __itruediv__ = _assigned("__truediv__", "/=")
    __floordiv__ = _operator(ops.FLOORDIV, "//")
    __rfloordiv__ = _operator(ops.FLOORDIV, "//", True)
    __ifloordiv__ = _assigned("__floordiv__", "//=")
    __mod__ = _operator(ops.MOD, "%")
    __rmod__ = _operator(ops.MOD, "%", True)
    __imod__ = _assigned("__mod__", "%=")
    __and__ = _operator(logic.BIT_AND, "&")
    __rand__ = _operator(logic.BIT_AND, "&", True)
    __iand__ = _assigned("__and__", "&=")
    __or__ = _operator(logic.BIT_OR, "|")
    __ror__ = _operator(logic.BIT_OR, "|", True)
    __ior__ = _assigned("__or__", "|=")
    __xor__ = _operator(logic.BIT_XOR, "^")
    __rxor__ = _operator(logic.BIT_XOR, "^", True)
    __ixor__ = _assigned("__xor__", "^=")
    __lshift__ = _operator(logic.SHL, "<<")
    __rlshift__ = _operator(logic.SHL, "<<", True)
    __ilshift__ = _assigned("__lshift__", "<<=")
    __rshift__ = _operator(logic.SHR, ">>")
    __rrshift__ = _operator(logic.SHR, ">>", True)
    __irshift__ = _assigned("__rshift__", ">>=")
    __eq__ = _operator(logic.EQ, "==")  # type: ignore[assignment]  # elementwise, as in NumPy
    __ne__ = _operator(logic.NE, "!=")  # type: ignore[assignment]
    __lt__ = _operator(logic.LT, "<")
    __le__ = _operator(logic.LE, "<=")
    __gt__ = _operator(logic.GT, ">")
    __ge__ = _operator(logic.GE, ">=")
    __neg__ = _unary(ops.NEG)
    __abs__ = _unary(ops.ABS)
    __invert__ = _unary(logic.BIT_NOT)
    __rpow__ = _operator(ops.POW, "**", True)
    __ipow__ = _assigned("__pow__", "**=")

    def __hash__(self) -> int:
        return id(self)

    def __pos__(self) -> Tensor:
        return self._self

    def __pow__(self, exponent: Operand) -> Tensor:
        if not isinstance(exponent, OPERANDS):
            return NotImplemented
        return self.pow(exponent)

    # Two operands.

    def add(self, other: Operand, *, alpha: float = 1) -> Tensor:
        """`self + alpha * other`."""
        if alpha == 1:
            return self.apply(ops.ADD, other)
        x, y = self._common(other)
        return x.apply(ops.ADD, y._times(alpha))

    def sub(self, other: Operand, *, alpha: float = 1) -> Tensor:
        """`self - alpha * other`."""
        if alpha == 1:
            return self.apply(ops.SUB, other)
        x, y = self._common(other)
        return x.apply(ops.SUB, y._times(alpha))

    def div(self, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
        """`self / other`; `rounding_mode` is None, "floor" or "trunc".

        A rounded quotient has a gradient of zeros, `//` has none.
        """
        if rounding_mode == "floor":
            return self.apply(ops.DIV_FLOOR, other)
        if rounding_mode not in (None, "trunc"):
            raise ArgumentError(f"div: rounding_mode {rounding_mode!r} is not floor or trunc")
        if rounding_mode is None:
            return self.apply(ops.DIV, other)
        other = self._lift(other)
        if self.dtype.is_floating_point or other.dtype.is_floating_point:
            return self.apply(ops.DIV_TRUNC, other)
        remainder = self.apply(ops.FMOD, other)  # what is left is a multiple of other
        return (self - remainder).apply(ops.FLOORDIV, other)

    def pow(self, exponent: Operand) -> Tensor:
        """`self ** exponent`; the integers 0 to 4 are multiplications."""
        if isinstance(exponent, int | float) and not isinstance(exponent, bool):
            n = int(exponent) if math.isfinite(exponent) and exponent == int(exponent) else -1
            integral = isinstance(exponent, int) or self.dtype.is_floating_point
            if integral and 0 <= n <= 4 and self.dtype is not bool_:
                return self.apply(ops.POWI, n=n)
            if n < 0 and isinstance(exponent, int) and not self.dtype.is_floating_point:
                raise ArgumentError(
                    f"pow: integers to the negative integer power {exponent}; use a float"
                )
        return self.apply(ops.POW, exponent)

    mul = _binary(ops.MUL)
    floor_divide = _binary(ops.FLOORDIV)
    remainder = _binary(ops.MOD)
    fmod = _binary(ops.FMOD)
    maximum = _binary(ops.MAXIMUM)
    minimum = _binary(ops.MINIMUM)
    atan2 = _binary(ops.ATAN2)
    copysign = _binary(ops.COPYSIGN)
    eq = _binary(logic.EQ)
    ne = _binary(logic.NE)
    lt = _binary(logic.LT)
    le = _binary(logic.LE)
    gt = _binary(logic.GT)
    ge = _binary(logic.GE)
    bitwise_and = _binary(logic.BIT_AND)
    bitwise_or = _binary(logic.BIT_OR)
    bitwise_xor = _binary(logic.BIT_XOR)
    bitwise_left_shift = _binary(logic.SHL)
    bitwise_right_shift = _binary(logic.SHR)

    def logical_and(self, other: Operand) -> Tensor:
        """Whether both are non-zero."""
        return self.to(bool_).apply(logic.LOGICAL_AND, self._lift(other).to(bool_))

    def logical_or(self, other: Operand) -> Tensor:
        """Whether at least one is non-zero."""
        return self.to(bool_).apply(logic.LOGICAL_OR, self._lift(other).to(bool_))

    def logical_xor(self, other: Operand) -> Tensor:
        """Whether exactly one is non-zero."""
        return self.to(bool_).apply(logic.LOGICAL_XOR, self._lift(other).to(bool_))

    def logical_not(self) -> Tensor:
        """Whether it is zero."""
        return self.to(bool_).apply(logic.LOGICAL_NOT)

    @SINGLE
    def logaddexp(self, other: Operand) -> Tensor:
        """log(exp(self) + exp(other)), for any size of the operands."""
        other = self._lift(other)
        apart = (self - other).abs().masked_fill(self == other, 0.0)  # inf - inf is no distance
        return self.maximum(other) + (-apart).softplus()

    # Functions of one operand.

    neg = _unary(ops.NEG)
    abs = _unary(ops.ABS)
    relu = _unary(ops.RELU)
    exp = _unary(ops.EXP)
    exp2 = _unary(ops.EXP2)
    expm1 = _unary(ops.EXPM1)
    log2 = _unary(ops.LOG2)
    log10 = _unary(ops.LOG10)
    log1p = _unary(ops.LOG1P)
    sqrt = _unary(ops.SQRT)
    rsqrt = _unary(ops.RSQRT)
    reciprocal = _unary(ops.RECIPROCAL)
    sin = _unary(ops.SIN)
    cos = _unary(ops.COS)
    tan = _unary(ops.TAN)
    asin = _unary(ops.ASIN)
    acos = _unary(ops.ACOS)
    atan = _unary(ops.ATAN)
    sinh = _unary(ops.SINH)
    cosh = _unary(ops.COSH)
    tanh = _unary(ops.TANH)
    asinh = _unary(ops.ASINH)
    acosh = _unary(ops.ACOSH)
    atanh = _unary(ops.ATANH)
    erf = _unary(ops.ERF)
    sigmoid = _unary(ops.SIGMOID)
    isnan = _unary(logic.ISNAN)
    isinf = _unary(logic.ISINF)
    isfinite = _unary(logic.ISFINITE)
    bitwise_not = _unary(logic.BIT_NOT)

    def log(self, base: float | None = None) -> Tensor:
        """The logarithm, natural or to `base`."""
        named = {None: ops.LOG, 2.0: ops.LOG2, 10.0: ops.LOG10}.get(base)
        if named is not None:
            return self.apply(named)
        assert base is not None
        return self.apply(ops.LOG) / math.log(base)

    def sign(self) -> Tensor:
        """-1, 0 or 1 (a bool stays as it is)."""
        return self._self if self.dtype is bool_ else self.apply(ops.SIGN)

    def _integral(self, op: OpDef) -> Tensor:
        """A rounding, which integers do not need."""
        return self._self if self.dtype.category == INTEGER else self.apply(op)

    def floor(self) -> Tensor:
        """The largest integer not above."""
        return self._integral(ops.FLOOR)

    def ceil(self) -> Tensor:
        """The smallest integer not below."""
        return self._integral(ops.CEIL)

    def trunc(self) -> Tensor:
        """The integer part."""
        return self._integral(ops.TRUNC)

    def round(self, decimals: int = 0) -> Tensor:
        """To the nearest integer (or decimal place); halves go to the even one."""
        if decimals == 0 or not self.dtype.is_floating_point:
            return self._integral(ops.ROUND)
        scale = 10.0 ** abs(decimals)
        if decimals > 0:
            return (self * scale).apply(ops.ROUND) / scale
        return (self / scale).apply(ops.ROUND) * scale

    def square(self) -> Tensor:
        """`self * self`."""
        return self.pow(2)

    def frac(self) -> Tensor:
        """The part after the point, with the sign of self."""
        return self - self.trunc()

    @SINGLE
    def softplus(self, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
        """log(1 + exp(beta * x)) / beta, and x itself where beta * x > threshold."""
        scaled = self if beta == 1 else self * beta
        smooth = scaled.apply(ops.SOFTPLUS)
        return (self + 0.0).where(scaled > threshold, smooth if beta == 1 else smooth / beta)

    @KEEP
    def gelu(self, approximate: str = "none") -> Tensor:
        """Times the normal distribution function of itself: exact ("none") or by "tanh".

        Hendrycks and Gimpel, "Gaussian error linear units" (2016).
        """
        if approximate == "none":
            return self * ((self * math.sqrt(0.5)).erf() + 1.0) * 0.5
        if approximate != "tanh":
            raise ArgumentError(f"gelu: approximate {approximate!r} is not none or tanh")
        inner = (self + self.pow(3) * 0.044715) * math.sqrt(2 / math.pi)
        return self * (inner.tanh() + 1.0) * 0.5

    @KEEP
    def silu(self) -> Tensor:
        """The product of x and its sigmoid."""
        return self * self.sigmoid()

    # Choice.

    def where(self, condition: Operand, other: Operand) -> Tensor:
        """Self where `condition` holds, else `other`."""
        return self._lift(condition).to(bool_).apply(logic.WHERE, self, other)

    def masked_fill(self, mask: Operand, value: Operand) -> Tensor:
        """`value` where `mask` holds, else self; the dtype of self stays."""
        if not self.dtype.is_floating_point:
            kind = self._lift(value).dtype
            if kind.is_floating_point:
                raise DTypeError(f"masked_fill: a {kind} value in a {self.dtype} tensor")
        return self._lift(mask).apply(logic.WHERE, self._alike(value), self)

    def clamp(self, min: Operand = None, max: Operand = None) -> Tensor:
        """Within [min, max]; a bound may be absent, a number or a tensor."""
        if min is None and max is None:
            raise ArgumentError("clamp: at least one of min and max must be given")
        low = self._self if min is None else self.apply(ops.CLAMP_MIN, min)
        return low if max is None else low.apply(ops.CLAMP_MAX, max)

    def lerp(self, end: Operand, weight: Operand) -> Tensor:
        """`self + weight * (end - self)`."""
        return self + (self._lift(end) - self) * weight

    def nan_to_num(
        self, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
    ) -> Tensor:
        """NaN and the infinities replaced (the infinities by the largest numbers)."""
        if not self.dtype.is_floating_point:
            return self._self
        limit = finfo(self.dtype)
        high = limit.max if posinf is None else posinf
        low = limit.min if neginf is None else neginf
        finite = self.masked_fill(self.isnan(), nan)
        return finite.masked_fill(self == math.inf, high).masked_fill(self == -math.inf, low)

    def addcmul(self, a: Operand, b: Operand, *, value: float = 1) -> Tensor:
        """`self + value * a * b`."""
        x, a, b = self._common(a, b)
        return x + a * b * value

    def addcdiv(self, a: Operand, b: Operand, *, value: float = 1) -> Tensor:
        """`self + value * a / b`."""
        x, a, b = self._common(a, b)
        return x + a / b * value

    def isclose(
        self, other: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> Tensor:
        """|self - other| <= atol + rtol * |other|, elementwise."""
        other = self._lift(other)
        if self.dtype is bool_ and other.dtype is bool_:
            return self == other
        near = (self - other).abs() <= other.abs() * rtol + atol
        found = (self == other) | (near & other.isfinite())
        return found | (self.isnan() & other.isnan()) if equal_nan else found

    def allclose(
        self, other: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> bool:
        """Whether all elements are close, as a Python bool (this realizes)."""
        return bool(self.isclose(other, rtol, atol, equal_nan).all().item())

    def equal(self, other: Tensor) -> bool:
        """Whether shape and all elements are equal, as a Python bool (this realizes)."""
        return self.shape == other.shape and bool((self == other).all().item())

    # PyTorch's and NumPy's other names.

    multiply = mul
    subtract = sub
    divide = true_divide = div
    negative = neg
    absolute = abs
    power = pow
    clip = clamp
    arctan2 = atan2
    arcsin, arccos, arctan = asin, acos, atan
    arcsinh, arccosh, arctanh = asinh, acosh, atanh
    greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne

    add_ = in_place("add")
    sub_ = in_place("sub")
    mul_ = in_place("mul")
    div_ = in_place("div")
    pow_ = in_place("pow")
    remainder_ = in_place("remainder")
    floor_divide_ = in_place("floor_divide")
    neg_ = in_place("neg")
    abs_ = in_place("abs")
    exp_ = in_place("exp")
    log_ = in_place("log")
    sqrt_ = in_place("sqrt")
    rsqrt_ = in_place("rsqrt")
    square_ = in_place("square")
    reciprocal_ = in_place("reciprocal")
    floor_ = in_place("floor")
    ceil_ = in_place("ceil")
    round_ = in_place("round")
    sign_ = in_place("sign")
    relu_ = in_place("relu")
    sigmoid_ = in_place("sigmoid")
    tanh_ = in_place("tanh")
    clamp_ = in_place("clamp")
    lerp_ = in_place("lerp")
    masked_fill_ = in_place("masked_fill")
    addcmul_ = in_place("addcmul")
    addcdiv_ = in_place("addcdiv")
