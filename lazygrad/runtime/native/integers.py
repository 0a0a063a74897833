"""Integer and bool words as LLVM instructions, defined for every operand.

Rules of integers get `signed` and the operands. Where C and LLVM leave something undefined, or a
processor traps, NumPy's answer is written out: x // 0 and x % 0 are 0, the smallest number divided
by -1 is itself, a shift by more than the width leaves the sign alone.
"""

from __future__ import annotations

from collections.abc import Callable

from lazygrad.runtime.native.llvm import Function, Value, element_of, lanes_of, vector


def _bits(x: Value) -> int:
    return int(element_of(x.type)[1:])


def _two(word: str) -> Callable[..., Value]:
    return lambda f, signed, x, y: f.bin(word, x, y)


def _by_sign(word: str) -> Callable[..., Value]:
    return lambda f, signed, x, y: f.intrinsic(("s" if signed else "u") + word, x, y)


def _compare(predicate: str) -> Callable[..., Value]:
    return lambda f, signed, x, y: f.cmp(f"icmp {'s' if signed else 'u'}{predicate}", x, y)


def _itself(f: Function, signed: bool, x: Value) -> Value:
    return x


def _absolute(f: Function, signed: bool, x: Value) -> Value:
    return f.intrinsic("smax", x, _negative(f, signed, x)) if signed else x


def _negative(f: Function, signed: bool, x: Value) -> Value:
    return f.bin("sub", f.const(x.type, 0), x)


def _sign(f: Function, signed: bool, x: Value) -> Value:
    one = f.const(x.type, 1)
    if not signed:
        return f.intrinsic("umin", x, one)
    return f.intrinsic("smax", f.intrinsic("smin", x, one), f.const(x.type, -1))


def _division(f: Function, signed: bool, x: Value, y: Value) -> tuple[Value, Value, Value]:
    """(x / y rounded toward zero, its remainder, y == 0); where y is 0, x and 0.

    Up to 32 bits float64 divides exactly enough: its lanes are divided together, those of integers
    one by one.
    """
    zero, one = f.const(x.type, 0), f.const(x.type, 1)
    y = f.emit(f"freeze {y}", y.type)
    by_zero = f.cmp("icmp eq", y, zero)
    unsafe = by_zero
    if signed:
        lowest = f.cmp("icmp eq", x, f.const(x.type, -(1 << (_bits(x) - 1))))
        by_minus_one = f.cmp("icmp eq", y, f.const(x.type, -1))
        unsafe = f.bin("or", unsafe, f.bin("and", lowest, by_minus_one))
    safe = f.select(unsafe, one, y)
    if _bits(x) <= 32:
        wide = vector("double", lanes_of(x.type))
        to, back = ("sitofp", "fptosi") if signed else ("uitofp", "fptoui")
        ratio = f.bin("fdiv", f.convert(to, x, wide), f.convert(to, safe, wide))
        quotient = f.convert(back, ratio, x.type)
    else:
        quotient = f.bin("sdiv" if signed else "udiv", x, safe)
    return quotient, f.bin("sub", x, f.bin("mul", quotient, safe)), by_zero


def _crossed(f: Function, remainder: Value, y: Value) -> Value:
    """Whether the remainder must move to the side of the divisor."""
    zero = f.const(y.type, 0)
    differ = f.cmp("icmp slt", f.bin("xor", remainder, y), zero)
    return f.bin("and", differ, f.cmp("icmp ne", remainder, zero))


def _floordiv(f: Function, signed: bool, x: Value, y: Value) -> Value:
    quotient, remainder, by_zero = _division(f, signed, x, y)
    if signed:
        lower = f.convert("sext", _crossed(f, remainder, y), x.type)
        quotient = f.bin("add", quotient, lower)
    return f.select(by_zero, f.const(x.type, 0), quotient)


def _mod(f: Function, signed: bool, x: Value, y: Value) -> Value:
    _, remainder, _ = _division(f, signed, x, y)
    if not signed:
        return remainder
    moved = f.bin("add", remainder, y)
    return f.select(_crossed(f, remainder, y), moved, remainder)


def _fmod(f: Function, signed: bool, x: Value, y: Value) -> Value:
    return _division(f, signed, x, y)[1]


def _shift(word: str) -> Callable[..., Value]:
    def rule(f: Function, signed: bool, x: Value, y: Value) -> Value:
        inside = f.cmp("icmp ult", y, f.const(y.type, _bits(x)))
        by = f.select(inside, y, f.const(y.type, 0))
        if word == "shl":
            return f.select(inside, f.bin("shl", x, by), f.const(x.type, 0))
        if not signed:
            return f.select(inside, f.bin("lshr", x, by), f.const(x.type, 0))
        return f.bin("ashr", x, f.select(inside, y, f.const(y.type, _bits(x) - 1)))

    return rule


def _power(f: Function, signed: bool, x: Value, y: Value) -> Value:
    """Repeated squaring while any lane has bits of its exponent left."""
    zero, one = f.const(x.type, 0), f.const(x.type, 1)
    base, result = f.variable(x.type, x), f.variable(x.type, one)
    negative = f.cmp("icmp slt", y, zero)
    left = f.variable(y.type, f.select(negative, zero, y) if signed else y)
    head, body, done = f.label("power"), f.label("square"), f.label("powered")
    f.branch(head)
    f.block(head)
    e = f.load(y.type, left)
    more, lanes = f.cmp("icmp ne", e, zero), lanes_of(x.type)
    if lanes > 1:
        more = f.call(f"@llvm.vector.reduce.or.v{lanes}i1", "i1", more)
    f.branch_if(more, body, done)
    f.block(body)
    b, r = f.load(x.type, base), f.load(x.type, result)
    odd = f.cmp("icmp ne", f.bin("and", e, one), zero)
    f.store(f.select(odd, f.bin("mul", r, b), r), result)
    f.store(f.bin("mul", b, b), base)
    f.store(f.bin("lshr", e, one), left)
    f.branch(head)
    f.block(done)
    found = f.load(x.type, result)
    if not signed:
        return found
    # 1 ** -n = 1, (-1) ** -n = +-1, anything else rounds to 0.
    unit = f.cmp("icmp ule", f.bin("add", x, one), f.const(x.type, 2))  # -1, 0 or 1
    signs = f.select(f.cmp("icmp ne", f.bin("and", y, one), zero), x, f.bin("mul", x, x))
    return f.select(negative, f.select(unit, signs, zero), found)


def _fma(f: Function, signed: bool, x: Value, y: Value, z: Value) -> Value:
    return f.bin("add", f.bin("mul", x, y), z)


def _truth(f: Function, x: Value) -> Value:
    return f.cmp("icmp ne", x, f.const(x.type, 0))


def _logical(word: str) -> Callable[..., Value]:
    return lambda f, signed, x, y: f.bin(word, _truth(f, x), _truth(f, y))


def _always(value: bool) -> Callable[..., Value]:
    return lambda f, signed, x: f.const(vector("i1", lanes_of(x.type)), value)


INTEGERS: dict[str, Callable[..., Value]] = {
    "add": _two("add"), "sub": _two("sub"), "mul": _two("mul"), "floordiv": _floordiv,
    "mod": _mod, "fmod": _fmod, "pow": _power, "maximum": _by_sign("max"),
    "minimum": _by_sign("min"), "fma": _fma,
    "neg": _negative, "abs": _absolute, "sign": _sign, "floor": _itself, "ceil": _itself,
    "trunc": _itself, "round": _itself, "bit_and": _two("and"), "bit_or": _two("or"),
    "bit_xor": _two("xor"), "bit_not": lambda f, signed, x: f.bin("xor", x, f.const(x.type, -1)),
    "shl": _shift("shl"), "shr": _shift("shr"),
    "eq": lambda f, signed, x, y: f.cmp("icmp eq", x, y),
    "ne": lambda f, signed, x, y: f.cmp("icmp ne", x, y),
    "lt": _compare("lt"), "le": _compare("le"), "gt": _compare("gt"), "ge": _compare("ge"),
    "logical_and": _logical("and"), "logical_or": _logical("or"), "logical_xor": _logical("xor"),
    "logical_not": lambda f, signed, x: f.cmp("icmp eq", x, f.const(x.type, 0)),
    "isnan": _always(False), "isinf": _always(False), "isfinite": _always(True),
}  # fmt: skip


def _bool(word: str) -> Callable[..., Value]:
    return lambda f, x, y: f.bin(word, x, y)


def _not(f: Function, x: Value) -> Value:
    return f.bin("xor", x, f.const(x.type, True))


def _and_not(f: Function, x: Value, y: Value) -> Value:
    return f.bin("and", x, _not(f, y))


BOOLS: dict[str, Callable[..., Value]] = {
    "add": _bool("or"), "mul": _bool("and"), "maximum": _bool("or"), "minimum": _bool("and"),
    "bit_and": _bool("and"), "bit_or": _bool("or"), "bit_xor": _bool("xor"), "bit_not": _not,
    "logical_and": _bool("and"), "logical_or": _bool("or"), "logical_xor": _bool("xor"),
    "logical_not": _not, "ne": _bool("xor"), "eq": lambda f, x, y: _not(f, f.bin("xor", x, y)),
    "lt": lambda f, x, y: _and_not(f, y, x), "gt": _and_not,
    "le": lambda f, x, y: _not(f, _and_not(f, x, y)),
    "ge": lambda f, x, y: _not(f, _and_not(f, y, x)),
    "abs": lambda f, x: x, "floor": lambda f, x: x, "ceil": lambda f, x: x,
    "trunc": lambda f, x: x, "isnan": lambda f, x: f.const(x.type, False),
    "isinf": lambda f, x: f.const(x.type, False), "isfinite": lambda f, x: f.const(x.type, True),
}  # fmt: skip
