"""The scalar vocabulary on LLVM vectors: one more interpreter of the bodies in the op table.

A word becomes a few instructions where the machine has them, and otherwise a composition of other
words: `polynomials` for float32, the C library lane by lane for float64. float16 and bfloat16 live
in float32 registers and are rounded to their grid after each word, so a word rounds as it does in
memory. Integers wrap around, divide by zero to zero and shift by anything, as NumPy does; nothing
here is undefined in any lane, whatever it holds, so lanes beyond the end of a row do no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import copysign
from typing import Any, NamedTuple

import numpy as np

from lazygrad.dtypes import BOOL, FLOATING, INTEGER, DType, bool_, float32, float64, int32, int64
from lazygrad.ops.scalar_math import WORDS, Result
from lazygrad.runtime.kernel import Body
from lazygrad.runtime.native import conversions, polynomials
from lazygrad.runtime.native.conversions import HALVES, llvm_type, memory_type
from lazygrad.runtime.native.integers import BOOLS, INTEGERS
from lazygrad.runtime.native.llvm import Function, Value, lanes_of, vector
from lazygrad.runtime.native.target import host
from lazygrad.runtime.native.unit import Unsupported

__all__ = ["NativeMath", "Term", "llvm_type", "memory_type"]


class Term(NamedTuple):
    """A value of the vocabulary: its register, its dtype, whether it is a number known now."""

    value: Value
    dtype: DType
    known: bool = False


class NativeMath:
    """Writes words into a function; `lanes` is the width of constants and positions.

    Values are in register representation: `llvm_type` of their dtype, with any number of lanes.

    >>> f = Function("twice", [("float", "x")], "float")
    >>> m = NativeMath(f, 1)
    >>> f.ret(m.word("add", Term(f.params[0], float32), 1.0).value)
    >>> "fadd float %x, 0x3FF0000000000000" in f.text()
    True
    """

    def __init__(self, f: Function, lanes: int) -> None:
        self.f = f
        self.lanes = lanes

    # values -----------------------------------------------------------------------------------

    def evaluate(
        self,
        body: Body,
        loads: Sequence[Value],
        index: Callable[[int], Value],
        before: Sequence[DType] = (),
    ) -> list[Value]:
        """All values of a body, in register representation.

        `loads` are its first values (of a Contract's epilogue the accumulator comes before the
        loads: `before` has its dtype); `index(axis)` gives the positions along an axis, in i64.
        """
        dtypes = [*before, *body.load_dtypes]
        terms = [Term(v, d) for v, d in zip(loads, dtypes, strict=True)]
        for instr in body.instrs:
            args = [terms[a] for a in instr.args]
            if instr.word == "const":
                assert instr.value is not None
                term = self.number(instr.value, instr.dtype)
            elif instr.word == "index":
                axis = int(instr.value or 0)
                term = self.cast(Term(index(axis), int64), instr.dtype)
            elif instr.word == "cast":
                term = self.cast(args[0], instr.dtype)
            else:
                term = self.word(instr.word, *args)
            terms.append(term)
        return [t.value for t in terms]

    def number(self, value: float, dtype: DType, lanes: int = 0) -> Term:
        """A constant of a dtype, converted as NumPy converts it."""
        exact = _exact(value, copysign(1.0, value), dtype)
        type_ = vector(llvm_type(dtype), lanes or self.lanes)
        return Term(self.f.const(type_, exact), dtype, known=exact == exact)

    def const(self, value: float, like: Term) -> Term:
        """A constant of the dtype and width of `like`."""
        return self.number(value, like.dtype, lanes_of(like.value.type))

    def from_memory(self, value: Value, dtype: DType) -> Value:
        """The registers of a value that was loaded as `memory_type`."""
        return conversions.from_memory(self.f, value, dtype)

    def to_memory(self, value: Value, dtype: DType) -> Value:
        """The `memory_type` of a value in registers, ready to be stored."""
        return conversions.to_memory(self.f, value, dtype)

    def convert(self, value: Value, source: DType, target: DType) -> Value:
        """The value as another dtype: floats truncate to integers, integers wrap around."""
        return conversions.convert(self.f, value, source, target)

    def cast(self, x: Term, dtype: DType) -> Term:
        """`convert` on terms: the word "cast"."""
        return Term(self.convert(x.value, x.dtype, dtype), dtype, x.known and dtype is x.dtype)

    # words ------------------------------------------------------------------------------------

    def combine(self, name: str, dtype: DType, *values: Value) -> Value:
        """A word on bare values of one dtype: what a reduction combines with."""
        return self.word(name, *(Term(v, dtype) for v in values)).value

    def word(self, name: str, *args: Term | float) -> Term:
        """One word; numbers among the operands take the dtype of the last term."""
        like = next(a for a in reversed(args) if isinstance(a, Term))
        terms = [a if isinstance(a, Term) else self.const(a, like) for a in args]
        if name == "where":
            return self._where(*terms)
        dtype = terms[0].dtype
        half = dtype in HALVES
        if half:
            terms = [Term(t.value, float32, t.known) for t in terms]
        result = self._rule(name, terms)
        if WORDS[name].result is Result.BOOL:
            return Term(result.value, bool_)
        if half and name not in _STAYS:
            return Term(conversions.round_to(self.f, result.value, dtype), dtype)
        return Term(result.value, dtype)

    def __getattr__(self, name: str) -> Callable[..., Term]:
        if name not in WORDS:
            raise AttributeError(f"no word {name!r} in the scalar vocabulary")
        return lambda *args: self.word(name, *args)

    def _rule(self, name: str, terms: list[Term]) -> Term:
        """A word on operands of one dtype, that is no half."""
        dtype = terms[0].dtype
        values = [t.value for t in terms]
        if dtype.category == BOOL:
            if name in BOOLS:
                return Term(BOOLS[name](self.f, *values), dtype)
        elif dtype.category != FLOATING:
            if name in INTEGERS:
                return Term(INTEGERS[name](self.f, dtype.is_signed, *values), dtype)
        elif name in ("maximum", "minimum"):
            return Term(self._extreme(name, *terms), dtype)
        elif name in _FLOATS:
            return Term(_FLOATS[name](self.f, *values), dtype)
        elif dtype is float64 and name in _LIBRARY:
            return Term(self.library(name, *values), dtype)
        else:
            compose = polynomials.FLOATING.get(name) or polynomials.FLOAT32.get(name)
            if compose is not None:
                result: Term = compose(self, *terms)
                return result
        raise Unsupported(f"the word {name} on {dtype}")

    def _where(self, c: Term, x: Term, y: Term) -> Term:
        if c.dtype is not bool_:
            c = self.ne(c, 0)
        return Term(self.f.select(c.value, x.value, y.value), y.dtype)

    def _extreme(self, name: str, x: Term, y: Term) -> Value:
        """The larger or smaller float: NaN wins, the first one if both are; of equals the second.

        An ordered comparison and its selection are one instruction on x86.
        """
        f, sense = self.f, "gt" if name == "maximum" else "lt"
        if y.known:
            return f.select(f.cmp(f"fcmp u{sense}", x.value, y.value), x.value, y.value)
        ordered = f.select(f.cmp(f"fcmp o{sense}", x.value, y.value), x.value, y.value)
        if x.known:
            return ordered
        return f.select(f.cmp("fcmp uno", x.value, x.value), x.value, ordered)

    # below the vocabulary: what compositions need besides words ----------------------------------

    def bits(self, x: Term) -> Term:
        """The bits of a float as a signed integer of its size."""
        dtype = int32 if x.dtype is float32 else int64
        type_ = vector(llvm_type(dtype), lanes_of(x.value.type))
        return Term(self.f.convert("bitcast", x.value, type_), dtype)

    def real(self, x: Term) -> Term:
        """The float with these bits."""
        dtype = float32 if x.dtype is int32 else float64
        type_ = vector(llvm_type(dtype), lanes_of(x.value.type))
        return Term(self.f.convert("bitcast", x.value, type_), dtype)

    def scale(self, x: Term, n: Term) -> Term:
        """X 2^n, rounded once, for float32 and integers |n| < 190.

        AVX-512 has an instruction for it; elsewhere x is multiplied by two powers of two, the
        first one without rounding.
        """
        f, type_ = self.f, x.value.type
        if lanes_of(type_) == 16 and host().lanes == 16:
            name = "@llvm.x86.avx512.mask.scalef.ps.512"
            f.declared[f"declare {type_} {name}({type_}, {type_}, {type_}, i16, i32)"] = None
            modes = "i16 -1, i32 4"  # every lane, the current rounding
            call = f"call {type_} {name}({x.value}, {n.value}, {x.value}, {modes})"
            return Term(f.emit(call, type_), x.dtype)
        down = self.lt(n, 0.0)
        near = self.add(n, self.where(down, self.const(64.0, n), self.const(-64.0, n)))
        rest = self.where(down, self.const(2.0**-64, n), self.const(2.0**64, n))
        biased = self.bits(self.add(near, 1.5 * 2.0**23 + 127.0))
        return self.mul(self.mul(x, self.real(self.shl(biased, 23))), rest)

    def rarely(
        self, c: Term, usual: Sequence[Term], unusual: Callable[[], Sequence[Term]]
    ) -> list[Term]:
        """`usual`, but `unusual()` in the lanes where `c` holds; computed if there are any."""
        f = self.f
        slots = [f.variable(t.value.type, t.value) for t in usual]
        with f.when(self.any(c)):
            for slot, t, other in zip(slots, usual, unusual(), strict=True):
                f.store(f.select(c.value, other.value, t.value), slot)
        return [Term(f.load(t.value.type, s), t.dtype) for s, t in zip(slots, usual, strict=True)]

    def repeat(
        self, start: Term, more: Callable[[Term], Term], step: Callable[[Term], Term]
    ) -> Term:
        """`step` the lanes for which `more` holds, until none is left."""
        f, type_ = self.f, start.value.type
        slot = f.variable(type_, start.value)
        head, body, done = f.label("repeat"), f.label("step"), f.label("done")
        f.branch(head)
        f.block(head)
        state = Term(f.load(type_, slot), start.dtype)
        c = more(state)
        f.branch_if(self.any(c), body, done)
        f.block(body)
        f.store(f.select(c.value, step(state).value, state.value), slot)
        f.branch(head)
        f.block(done)
        return state

    def library(self, symbol: str, *values: Value) -> Value:
        """A function of the C library on float64, lane by lane.

        It is called as code that LLVM knows nothing about: what it would fold or rewrite depends
        on the level of optimisation.
        """
        f, lanes = self.f, lanes_of(values[0].type)
        types = ", ".join("double" for _ in values)
        f.declared[f"declare double @{symbol}({types})"] = None

        def call(*operands: Value) -> Value:
            listed = ", ".join(str(o) for o in operands)
            return f.emit(f"call double @{symbol}({listed}) nobuiltin nounwind", "double")

        if lanes == 1:
            return call(*values)
        places = [f.variable(v.type, v) for v in values]
        with f.loop(0, lanes) as i:
            at = [f.gep("double", place, i) for place in places]
            f.store(call(*(f.load("double", a) for a in at)), at[0])
        return f.load(values[0].type, places[0])

    def any(self, c: Term) -> Value:
        """Whether a bool holds in any lane, as i1."""
        lanes = lanes_of(c.value.type)
        if lanes == 1:
            return c.value
        return self.f.call(f"@llvm.vector.reduce.or.v{lanes}i1", "i1", c.value)


@lru_cache(4096, typed=True)
def _exact(value: float, sign: float, dtype: DType) -> Any:
    """A number in a dtype, integers as signed ones; `sign` keeps 0.0 and -0.0 apart."""
    with np.errstate(all="ignore"):
        exact = np.asarray(value).astype(dtype.dtype).item()
    if dtype.category == INTEGER and exact >= 1 << (8 * dtype.itemsize - 1):
        exact -= 1 << (8 * dtype.itemsize)
    return exact


def _two(word: str) -> Callable[..., Value]:
    return lambda f, x, y: f.bin(word, x, y)


def _intrinsic(name: str) -> Callable[..., Value]:
    return lambda f, *values: f.intrinsic(name, *values)


def _compare(predicate: str) -> Callable[..., Value]:
    return lambda f, x, y: f.cmp(f"fcmp {predicate}", x, y)


def _finite(predicate: str) -> Callable[..., Value]:
    def rule(f: Function, x: Value) -> Value:
        return f.cmp(f"fcmp {predicate}", f.intrinsic("fabs", x), f.const(x.type, float("inf")))

    return rule


_FLOATS: dict[str, Callable[..., Value]] = {
    "add": _two("fadd"), "sub": _two("fsub"), "mul": _two("fmul"), "div": _two("fdiv"),
    "neg": lambda f, x: f.op("fneg", x), "fma": _intrinsic("fma"), "abs": _intrinsic("fabs"),
    "copysign": _intrinsic("copysign"), "sqrt": _intrinsic("sqrt"), "floor": _intrinsic("floor"),
    "ceil": _intrinsic("ceil"), "trunc": _intrinsic("trunc"), "round": _intrinsic("roundeven"),
    "eq": _compare("oeq"), "ne": _compare("une"), "lt": _compare("olt"), "le": _compare("ole"),
    "gt": _compare("ogt"), "ge": _compare("oge"),
    "isnan": lambda f, x: f.cmp("fcmp uno", x, x), "isinf": _finite("oeq"),
    "isfinite": _finite("one"),
}  # fmt: skip

_STAYS = frozenset({
    "neg", "abs", "sign", "maximum", "minimum", "copysign", "floor", "ceil", "trunc", "round",
    "fmod",
})  # fmt: skip  # words whose result is on the grid of their operands

# C's functions of float64, that have the names of the words
_LIBRARY = frozenset({
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "pow", "atan2", "fmod",
})  # fmt: skip
