"""Elementwise ops: one scalar body each, over broadcast operands.

A record's `reference` is its body run on NumPy arrays, so the meaning is written once. Gradients
are in tensor vocabulary; where PyTorch chose a value at a kink (ties of `maximum`, `relu` at 0),
so do we. Constants in a body go through `m.const`, in the dtype of the operand they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log as _log
from math import pi, sqrt
from typing import Any

import numpy as np

from lazygrad.dtypes import BOOL, FLOATING, INTEGER, DType, as_dtype, bool_, float32
from lazygrad.errors import DTypeError, ShapeError
from lazygrad.ops.opdef import Array, Kind, OpDef, Precision, Promotion, Sample, Spec, register
from lazygrad.ops.scalar_math import NUMPY
from lazygrad.shapes import Shape, broadcast

Scalar = Callable[..., Any]
Range = tuple[float, float]
REAL: Range = (-2.0, 2.0)
POSITIVE: Range = (0.5, 2.0)
UNIT: Range = (-0.9, 0.9)
_CATEGORY = {BOOL: "bool", INTEGER: "integer", FLOATING: "floating"}


def broadcast_of(name: str, *inputs: Spec) -> Shape:
    """The broadcast shape of the operands; the error names the op."""
    if len(inputs) == 2:  # the common cases cost one comparison
        a, b = inputs[0].shape, inputs[1].shape
        if a == b or not b:
            return a  # type: ignore[no-any-return]
        if not a:
            return b  # type: ignore[no-any-return]
    try:
        return broadcast(*[x.shape for x in inputs])
    except ShapeError as error:
        raise ShapeError(f"{name}: {error}") from None


def _infer(name: str, takes: frozenset[int], result: DType | None, arity: int) -> Scalar:
    """The shape and dtype rule of an elementwise op: operands (the last two of three) agree.

    This runs for every node that is appended, so the common shapes come first.
    """

    def refuse(*dtypes: DType) -> None:
        for dtype in dtypes:
            if dtype.category not in takes:
                known = " or ".join(_CATEGORY[c] for c in sorted(takes))
                raise DTypeError(f"{name} takes {known} tensors, got {dtype}")
        raise DTypeError(f"{name}: dtypes {' and '.join(map(str, dtypes))} differ")

    def one(x: Spec, **attrs: Any) -> tuple[Shape, DType]:
        dtype: DType = x.dtype
        if dtype.category not in takes:
            refuse(dtype)
        return x.shape, result or dtype

    def two(x: Spec, y: Spec, **attrs: Any) -> tuple[Shape, DType]:
        dtype: DType = x.dtype
        if dtype is not y.dtype or dtype.category not in takes:
            refuse(dtype, y.dtype)
        shape: Shape = x.shape
        return shape if shape == y.shape else broadcast_of(name, x, y), result or dtype

    def three(c: Spec, x: Spec, y: Spec, **attrs: Any) -> tuple[Shape, DType]:
        if c.dtype is not bool_:
            raise DTypeError(f"{name}: the condition must be bool, got {c.dtype}")
        dtype: DType = two(x, y)[1]
        return broadcast_of(name, c, x, y), dtype

    return (one, two, three)[arity - 1]


class _ArraySpec:
    """An array seen as a spec."""

    __slots__ = ("dtype", "shape")

    def __init__(self, array: Array) -> None:
        self.shape = array.shape
        self.dtype = as_dtype(array.dtype)


def reference_of(scalar: Scalar, infer: Scalar) -> Callable[..., Array]:
    """The body run on NumPy arrays, in the inferred dtype."""

    def reference(*arrays: Array, **attrs: Any) -> Array:
        arrays = tuple(np.asarray(a) for a in arrays)
        shape, dtype = infer(*[_ArraySpec(a) for a in arrays], **attrs)
        with np.errstate(all="ignore"):
            value = np.asarray(scalar(NUMPY, *arrays, **attrs), dtype.dtype)
        return value if value.shape == shape else np.broadcast_to(value, shape).copy()

    return reference


ANY = frozenset({BOOL, INTEGER, FLOATING})
NUMBERS = frozenset({INTEGER, FLOATING})
BITS = frozenset({BOOL, INTEGER})
FLOATS = frozenset({FLOATING})
SINGLE = Precision.SINGLE


def elementwise(
    name: str,
    scalar: Scalar,
    vjp: Callable[..., Any] | None = None,
    *,
    arity: int = 1,
    takes: frozenset[int] = ANY,
    result: DType | None = None,
    promotion: Promotion = Promotion.COMMON,
    domain: Range | tuple[Range, ...] = REAL,
    **facts: Any,
) -> OpDef:
    """Register an elementwise op; `takes` are the categories of dtypes that it accepts."""
    infer = _infer(name, takes, result, arity)
    ranges: Any = domain if isinstance(domain[0], tuple) else (domain,) * arity
    if "samples" not in facts:
        facts["samples"] = samples_of(
            lambda rng, shapes: tuple(
                rng.uniform(low, high, s) for (low, high), s in zip(ranges, shapes, strict=False)
            )
        )
    return register(
        OpDef(
            name, Kind.ELEMENTWISE, infer, reference_of(scalar, infer), arity, scalar, vjp,
            promotion, domain=ranges, **facts,
        )
    )  # fmt: skip


_SHAPES: tuple[tuple[Shape, ...], ...] = (
    ((2, 3), (2, 3), (2, 3)), ((2, 1), (3,), (2, 3)), ((), (2,), ()), ((), (), ()),
    ((0, 3), (3,), (1, 3)),
)  # fmt: skip


def samples_of(make: Callable[..., tuple[Array, ...]], **attrs: Any) -> Any:
    """Samples over the usual shapes; `make(rng, shapes)` returns the operands."""

    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for shapes in _SHAPES:
            yield Sample(make(rng, shapes), attrs)

    return samples


def _reals(**attrs: Any) -> Any:
    return samples_of(lambda rng, shapes: (rng.uniform(-2, 2, shapes[0]),), **attrs)


# Arithmetic of two operands.

ADD = elementwise(
    "add", lambda m, x, y: m.add(x, y), lambda g, out, x, y: (g, g), arity=2,
    commutative=True, associative=True, grad_name="AddBackward",
    doc="x + y; bools add as logical or.",
)  # fmt: skip
SUB = elementwise(
    "sub", lambda m, x, y: m.sub(x, y), lambda g, out, x, y: (g, lambda: -g), arity=2,
    takes=NUMBERS, unit=0.0, grad_name="SubBackward", doc="x - y; bools raise.",
)  # fmt: skip
MUL = elementwise(
    "mul", lambda m, x, y: m.mul(x, y), lambda g, out, x, y: (lambda: g * y, lambda: g * x),
    arity=2, commutative=True, associative=True, unit=1.0, grad_name="MulBackward",
    doc="x * y; bools multiply as logical and.",
)  # fmt: skip
DIV = elementwise(
    "div", lambda m, x, y: m.div(x, y),
    lambda g, out, x, y: (lambda: g / y, lambda: -g * (out / y)), arity=2, takes=FLOATS,
    promotion=Promotion.FLOAT, unit=1.0, flops=4, domain=(REAL, POSITIVE),
    grad_name="DivBackward", doc="x / y, true division: integers give the default float.",
)  # fmt: skip
FLOORDIV = elementwise(
    "floordiv", lambda m, x, y: m.floordiv(x, y), arity=2, takes=NUMBERS, flops=4,
    domain=(REAL, POSITIVE), doc="The largest integer not above x / y.",
)  # fmt: skip
MOD = elementwise(
    "mod", lambda m, x, y: m.mod(x, y), lambda g, out, x, y: (g, lambda: -g * (x // y)),
    arity=2, takes=NUMBERS, flops=4, domain=((0.1, 0.4), POSITIVE), grad_name="RemainderBackward",
    doc="x - y * floor(x / y): the sign of y, as Python's `%`.",
)  # fmt: skip
FMOD = elementwise(
    "fmod", lambda m, x, y: m.fmod(x, y), lambda g, out, x, y: (g, lambda: -g * (x / y).trunc()),
    arity=2, takes=NUMBERS, flops=4, domain=((0.1, 0.4), POSITIVE), grad_name="FmodBackward",
    doc="x - y * trunc(x / y): the sign of x, as C's fmod.",
)  # fmt: skip
POW = elementwise(
    "pow", lambda m, x, y: m.pow(x, y),
    lambda g, out, x, y: (
        lambda: (g * (y * x ** (y - 1))).masked_fill(y == 0, 0.0),
        lambda: (g * (out * x.log())).masked_fill((x == 0) & (y >= 0), 0.0),
    ),
    arity=2, takes=NUMBERS, flops=20, domain=(POSITIVE, REAL), autocast=SINGLE,
    grad_name="PowBackward",
    doc="x to the power y; an integer to a negative integer power rounds toward zero.",
)  # fmt: skip


def _powi(m: Any, x: Any, *, n: int) -> Any:
    """Repeated squaring, so that every interpreter multiplies in the same order."""
    if n == 0:
        return m.const(1, x)
    half = _powi(m, x, n=n // 2) if n > 1 else None
    if half is None:
        return x
    square = m.mul(half, half)
    return m.mul(square, x) if n % 2 else square


POWI = elementwise(
    "powi", _powi,
    lambda g, out, x, *, n: (lambda: g * (x ** (n - 1) * n) if n else g.new_zeros(x.shape),),
    takes=NUMBERS,
    flops=2, autocast=SINGLE, grad_name="PowBackward",
    doc="x to the small power n (0 to 4), by multiplication.",
    samples=_reals(n=3),
)  # fmt: skip
MAXIMUM = elementwise(
    "maximum", lambda m, x, y: m.maximum(x, y),
    lambda g, out, x, y: (lambda: _larger(g, x, y), lambda: _larger(g, y, x)), arity=2,
    commutative=True, associative=True, idempotent=True, grad_name="MaximumBackward",
    doc="The larger one; NaN wins; ties share the gradient.",
)  # fmt: skip
MINIMUM = elementwise(
    "minimum", lambda m, x, y: m.minimum(x, y),
    lambda g, out, x, y: (lambda: _larger(g, y, x), lambda: _larger(g, x, y)), arity=2,
    commutative=True, associative=True, idempotent=True, grad_name="MinimumBackward",
    doc="The smaller one; NaN wins; ties share the gradient.",
)  # fmt: skip


def _larger(g: Any, x: Any, y: Any) -> Any:
    """The cotangent where x > y, half of it where they are equal."""
    return (g * 0.5).where(x == y, g.masked_fill(x < y, 0.0))


CLAMP_MIN = elementwise(
    "clamp_min", lambda m, x, low: m.maximum(x, low),
    lambda g, out, x, low: (
        lambda: g.where(x >= low, 0.0), lambda: g.where(x < low, 0.0)
    ),
    arity=2, idempotent=True, grad_name="ClampBackward",
    doc="maximum(x, low) whose gradient at a tie goes to x alone.",
)  # fmt: skip
CLAMP_MAX = elementwise(
    "clamp_max", lambda m, x, high: m.minimum(x, high),
    lambda g, out, x, high: (
        lambda: g.where(x <= high, 0.0), lambda: g.where(x > high, 0.0)
    ),
    arity=2, idempotent=True, grad_name="ClampBackward",
    doc="minimum(x, high) whose gradient at a tie goes to x alone.",
)  # fmt: skip
ATAN2 = elementwise(
    "atan2", lambda m, y, x: m.atan2(y, x),
    lambda g, out, y, x: (lambda: g * (x / (x * x + y * y)), lambda: -g * (y / (x * x + y * y))),
    arity=2, takes=FLOATS, promotion=Promotion.FLOAT, flops=20, domain=(REAL, POSITIVE),
    grad_name="Atan2Backward", doc="The angle of the point (x, y).",
)  # fmt: skip
COPYSIGN = elementwise(
    "copysign", lambda m, x, y: m.copysign(x, y),
    lambda g, out, x, y: (
        lambda: g * (x.sign() * out.sign()), lambda: g.new_zeros(y.shape)
    ), arity=2, takes=FLOATS,
    promotion=Promotion.FLOAT, domain=(POSITIVE, REAL), grad_name="CopysignBackward",
    doc="The magnitude of x with the sign of y.",
)  # fmt: skip

# One operand, any number.

NEG = elementwise(
    "neg", lambda m, x: m.neg(x), lambda g, out, x: (-g,), takes=NUMBERS, involution=True,
    grad_name="NegBackward", doc="-x.",
)  # fmt: skip
ABS = elementwise(
    "abs", lambda m, x: m.abs(x), lambda g, out, x: (lambda: g * x.sign(),), takes=NUMBERS,
    idempotent=True, grad_name="AbsBackward", doc="|x|; its slope at 0 is 0.",
)  # fmt: skip
RELU = elementwise(
    "relu", lambda m, x: m.maximum(x, m.const(0, x)),
    lambda g, out, x: (lambda: g.masked_fill(out <= 0, 0.0),), takes=NUMBERS, idempotent=True,
    grad_name="ReluBackward", doc="max(x, 0); its slope at 0 is 0.",
)  # fmt: skip


def _flat(g: Any, out: Any, *operands: Any) -> Any:
    """A gradient that is zero wherever it exists."""
    return tuple([lambda x=x: g.new_zeros(x.shape) for x in operands])


SIGN = elementwise(
    "sign", lambda m, x: m.sign(x), _flat, takes=NUMBERS, idempotent=True,
    grad_name="SignBackward", doc="-1, 0 or 1.",
)  # fmt: skip
FLOOR = elementwise(
    "floor", lambda m, x: m.floor(x), _flat, takes=FLOATS, idempotent=True,
    grad_name="FloorBackward", doc="The largest integer not above x.",
)  # fmt: skip
CEIL = elementwise(
    "ceil", lambda m, x: m.ceil(x), _flat, takes=FLOATS, idempotent=True,
    grad_name="CeilBackward", doc="The smallest integer not below x.",
)  # fmt: skip
TRUNC = elementwise(
    "trunc", lambda m, x: m.trunc(x), _flat, takes=FLOATS, idempotent=True,
    grad_name="TruncBackward", doc="The integer part of x.",
)  # fmt: skip
DIV_FLOOR = elementwise(
    "div_floor", lambda m, x, y: m.floordiv(x, y), _flat, arity=2, takes=NUMBERS, flops=4,
    domain=(REAL, POSITIVE), grad_name="DivBackward",
    doc="`floordiv` with a gradient: zeros, also where y is 0.",
)  # fmt: skip
DIV_TRUNC = elementwise(
    "div_trunc", lambda m, x, y: m.trunc(m.div(x, y)), _flat, arity=2, takes=FLOATS,
    promotion=Promotion.FLOAT, flops=2, domain=(REAL, POSITIVE), grad_name="DivBackward",
    doc="The integer part of x / y; its gradient is zeros, also where y is 0.",
)  # fmt: skip
ROUND = elementwise(
    "round", lambda m, x: m.round(x), _flat, takes=FLOATS, idempotent=True,
    grad_name="RoundBackward", doc="The nearest integer; halves go to the even one.",
)  # fmt: skip

# Functions of one floating operand.


def _float(
    name: str, vjp: Callable[..., Any], doc: str, scalar: Scalar | None = None,
    domain: Range = REAL, flops: float = 12, **facts: Any,
) -> OpDef:  # fmt: skip
    def word(m: Any, x: Any) -> Any:
        return getattr(m, name)(x)

    return elementwise(
        name, scalar or word, vjp, takes=FLOATS, promotion=Promotion.FLOAT, domain=domain,
        flops=flops, grad_name=name.capitalize() + "Backward", doc=doc, **facts,
    )  # fmt: skip


EXP = _float("exp", lambda g, out, x: (g * out,), "e to the power x.", autocast=SINGLE)
EXP2 = _float(
    "exp2", lambda g, out, x: (g * (out * _log(2)),), "2 to the power x.", autocast=SINGLE
)
EXPM1 = _float(
    "expm1", lambda g, out, x: (g * (out + 1),), "exp(x) - 1, exact near 0.", autocast=SINGLE
)
LOG = _float(
    "log", lambda g, out, x: (g / x,), "The natural logarithm.", domain=POSITIVE, autocast=SINGLE
)
LOG2 = _float(
    "log2",
    lambda g, out, x: (g / (x * _log(2)),),
    "The logarithm to base 2.",
    domain=POSITIVE,
    autocast=SINGLE,
)
LOG10 = _float(
    "log10",
    lambda g, out, x: (g / (x * _log(10)),),
    "The logarithm to base 10.",
    domain=POSITIVE,
    autocast=SINGLE,
)
LOG1P = _float(
    "log1p",
    lambda g, out, x: (g / (x + 1),),
    "log(1 + x), exact near 0.",
    domain=(-0.5, 2.0),
    autocast=SINGLE,
)
SQRT = _float(
    "sqrt", lambda g, out, x: (g / (out * 2),), "The square root.", domain=POSITIVE, flops=4
)
RSQRT = _float(
    "rsqrt", lambda g, out, x: (g * (out * out * out * -0.5),), "1 / sqrt(x).",
    lambda m, x: m.div(m.const(1, x), m.sqrt(x)), POSITIVE, 8, autocast=SINGLE,
)  # fmt: skip
RECIPROCAL = _float(
    "reciprocal", lambda g, out, x: (-g * (out * out),), "1 / x.",
    lambda m, x: m.div(m.const(1, x), x), POSITIVE, 4, autocast=SINGLE,
)  # fmt: skip
SIN = _float("sin", lambda g, out, x: (g * x.cos(),), "The sine (x in radians).")
COS = _float("cos", lambda g, out, x: (-g * x.sin(),), "The cosine (x in radians).")
TAN = _float(
    "tan", lambda g, out, x: (g * (out * out + 1),), "The tangent (x in radians).",
    domain=(-1.0, 1.0), autocast=SINGLE,
)  # fmt: skip
ASIN = _float(
    "asin", lambda g, out, x: (g * (1 - x * x).rsqrt(),), "The angle whose sine is x.",
    domain=UNIT, autocast=SINGLE,
)  # fmt: skip
ACOS = _float(
    "acos", lambda g, out, x: (-g * (1 - x * x).rsqrt(),), "The angle whose cosine is x.",
    domain=UNIT, autocast=SINGLE,
)  # fmt: skip
ATAN = _float("atan", lambda g, out, x: (g / (x * x + 1),), "The angle whose tangent is x.")
SINH = _float("sinh", lambda g, out, x: (g * x.cosh(),), "The hyperbolic sine.", autocast=SINGLE)
COSH = _float("cosh", lambda g, out, x: (g * x.sinh(),), "The hyperbolic cosine.", autocast=SINGLE)
TANH = _float("tanh", lambda g, out, x: (g * (1 - out * out),), "The hyperbolic tangent.")
ASINH = _float("asinh", lambda g, out, x: (g * (x * x + 1).rsqrt(),), "The inverse of sinh.")
ACOSH = _float(
    "acosh", lambda g, out, x: (g * (x * x - 1).rsqrt(),), "The inverse of cosh.",
    domain=(1.5, 3.0),
)  # fmt: skip
ATANH = _float("atanh", lambda g, out, x: (g / (1 - x * x),), "The inverse of tanh.", domain=UNIT)
ERF = _float(
    "erf", lambda g, out, x: (g * ((-x * x).exp() * (2 / sqrt(pi))),),
    "The error function: 2/sqrt(pi) times the integral of exp(-t*t) from 0 to x.", flops=40,
)  # fmt: skip


def _sigmoid(m: Any, x: Any) -> Any:
    one = m.const(1, x)
    return m.div(one, m.add(one, m.exp(m.neg(x))))


def _softplus(m: Any, x: Any) -> Any:
    return m.add(m.maximum(x, m.const(0, x)), m.log1p(m.exp(m.neg(m.abs(x)))))


SIGMOID = _float(
    "sigmoid", lambda g, out, x: (g * (out * (1 - out)),), "1 / (1 + exp(-x)).", _sigmoid
)
SOFTPLUS = _float(
    "softplus", lambda g, out, x: (g * x.sigmoid(),), "log(1 + exp(x)), for any size of x.",
    _softplus, flops=25, autocast=SINGLE,
)  # fmt: skip

# Conversion.


def _cast_infer(x: Spec, *, dtype: DType) -> tuple[Shape, DType]:
    return x.shape, dtype


def _cast_scalar(m: Any, x: Any, *, dtype: DType) -> Any:
    return m.cast(x, dtype)


CAST = register(
    OpDef(
        "cast", Kind.ELEMENTWISE, _cast_infer, reference_of(_cast_scalar, _cast_infer), 1,
        _cast_scalar, lambda g, out, x, *, dtype: (g,), flops=0, samples=_reals(dtype=float32),
        grad_name="ToCopyBackward", doc="The elements as another dtype; floats truncate to ints.",
    )
)  # fmt: skip
