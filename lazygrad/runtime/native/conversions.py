"""How a dtype lies in memory and in registers, and how one becomes another.

float16 and bfloat16 are float32 in registers, on the grid of their own dtype; bool is i1. A float
that no integer of the target can hold gives what x86 gives a C cast, on every machine.
"""

from __future__ import annotations

from lazygrad.dtypes import (
    BOOL,
    FLOATING,
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    uint64,
)  # fmt: skip
from lazygrad.runtime.native.llvm import Function, Value, element_of, lanes_of, vector

HALVES = frozenset((float16, bfloat16))


def llvm_type(dtype: DType) -> str:
    """The type of an element in registers."""
    if dtype.category == FLOATING:
        return "double" if dtype is float64 else "float"
    return "i1" if dtype is bool_ else f"i{8 * dtype.itemsize}"


def memory_type(dtype: DType) -> str:
    """The type of an element in memory."""
    if dtype in HALVES:
        return "half" if dtype is float16 else "i16"
    return "i8" if dtype is bool_ else llvm_type(dtype)


def _like(x: Value, element: str) -> str:
    return vector(element, lanes_of(x.type))


def from_memory(f: Function, x: Value, dtype: DType) -> Value:
    """Registers of what was loaded as `memory_type`."""
    if dtype is bool_:
        return f.cmp("icmp ne", x, f.const(x.type, 0))
    if dtype is float16:
        return f.convert("fpext", x, _like(x, "float"))
    if dtype is bfloat16:
        wide = f.convert("zext", x, _like(x, "i32"))
        shifted = f.bin("shl", wide, f.const(wide.type, 16))
        return f.convert("bitcast", shifted, _like(x, "float"))
    return x


def to_memory(f: Function, x: Value, dtype: DType) -> Value:
    """What is stored as `memory_type`; a half is on its grid already."""
    if dtype is bool_:
        return f.convert("zext", x, _like(x, "i8"))
    if dtype is float16:
        return f.convert("fptrunc", x, _like(x, "half"))
    if dtype is bfloat16:
        bits = f.convert("bitcast", x, _like(x, "i32"))
        return f.convert("trunc", f.bin("lshr", bits, f.const(bits.type, 16)), _like(x, "i16"))
    return x


def round_to(f: Function, x: Value, dtype: DType) -> Value:
    """A float32 rounded to the grid of float16 or bfloat16."""
    if dtype is float16:
        return f.convert("fpext", f.convert("fptrunc", x, _like(x, "half")), x.type)
    # By integers: the instruction for it flushes subnormals.
    bits = f.convert("bitcast", x, _like(x, "i32"))

    def const(value: int) -> Value:
        return f.const(bits.type, value)

    odd = f.bin("and", f.bin("lshr", bits, const(16)), const(1))
    rounded = f.bin("add", f.bin("add", bits, const(0x7FFF)), odd)
    quiet = f.bin("or", bits, const(0x00400000))
    chosen = f.select(f.cmp("fcmp uno", x, x), quiet, rounded)
    return f.convert("bitcast", f.bin("and", chosen, const(-0x10000)), x.type)


def convert(f: Function, x: Value, source: DType, target: DType) -> Value:
    """An element of one dtype as another."""
    if source is target:
        return x
    if target is bool_:
        zero = f.const(x.type, 0)
        return f.cmp("fcmp une" if source.category == FLOATING else "icmp ne", x, zero)
    if source.category == FLOATING:
        if target.category == FLOATING:
            return _float_to_float(f, x, target)
        return _float_to_integer(f, x, target)
    if target.category == FLOATING:
        word = "sitofp" if source.category != BOOL and source.is_signed else "uitofp"
        found = f.convert(word, x, _like(x, llvm_type(target)))
        return round_to(f, found, target) if target in HALVES else found
    return _resize(f, x, target, source.category != BOOL and source.is_signed)


def _resize(f: Function, x: Value, target: DType, signed: bool) -> Value:
    """An integer wider or narrower."""
    have, want = int(element_of(x.type)[1:]), 8 * target.itemsize
    if have == want:
        return x
    word = "trunc" if have > want else "sext" if signed else "zext"
    return f.convert(word, x, _like(x, f"i{want}"))


def _float_to_float(f: Function, x: Value, target: DType) -> Value:
    double = element_of(x.type) == "double"
    if target is float64:
        return x if double else f.convert("fpext", x, _like(x, "double"))
    if not double:
        return x if target is float32 else round_to(f, x, target)
    if target is float16:
        return round_to(f, _to_odd(f, x), target)
    single = f.convert("fptrunc", x, _like(x, "float"))
    return single if target is float32 else round_to(f, single, target)


def _to_odd(f: Function, x: Value) -> Value:
    """A float64 as float32, what is lost kept in the last bit: rounding it again rounds once."""
    near = f.convert("fptrunc", x, _like(x, "float"))
    back = f.convert("fpext", near, x.type)
    bits = f.convert("bitcast", near, _like(x, "i32"))
    one = f.const(bits.type, 1)
    size, kept = f.intrinsic("fabs", x), f.intrinsic("fabs", back)
    lower = f.select(f.cmp("fcmp ogt", kept, size), f.bin("sub", bits, one), bits)
    sticky = f.select(f.cmp("fcmp one", kept, size), f.bin("or", lower, one), lower)
    return f.convert("bitcast", sticky, near.type)


def _float_to_integer(f: Function, x: Value, target: DType) -> Value:
    if target is uint64:
        half = f.const(x.type, 2.0**63)
        upper = f.cmp("fcmp oge", x, half)
        low = _signed(f, f.select(upper, f.bin("fsub", x, half), x), 64)
        high = f.bin("xor", low, f.const(low.type, -(1 << 63)))
        return f.select(upper, high, low)
    wide = target.itemsize == 8 or (target.itemsize == 4 and not target.is_signed)
    found = _signed(f, x, 64 if wide else 32)
    return _resize(f, found, target, signed=True)


def _signed(f: Function, x: Value, bits: int) -> Value:
    """Truncated to a signed integer; the lowest one where it does not fit, or is NaN."""
    limit = 2.0 ** (bits - 1)
    above = f.cmp("fcmp oge", x, f.const(x.type, -limit))
    if element_of(x.type) == "double" and bits == 32:  # -2147483648.5 truncates into the range
        above = f.cmp("fcmp ogt", x, f.const(x.type, -limit - 1))
    fits = f.bin("and", above, f.cmp("fcmp olt", x, f.const(x.type, limit)))
    integer = f.convert("fptosi", x, _like(x, f"i{bits}"))
    return f.select(fits, integer, f.const(integer.type, -(1 << (bits - 1))))
