"""The scalar vocabulary: the words that every elementwise body is written in.

A body is a function over an interpreter `m`: `lambda m, x, y: m.add(m.mul(x, x), y)`. Running it
with `NumpyMath` computes arrays, with `Recorder` it yields SSA instructions for a kernel; LLVM,
CUDA and the FLOP counter are further interpreters of the same words. Rounding belongs to the
word: every interpreter computes each word in the dtype of its operands and rounds once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from lazygrad.dtypes import DType, as_dtype, bool_
from lazygrad.ops.special import erf, power


class Result(Enum):
    """The dtype of a word's result."""

    SAME = "same"  # that of its (first) operand
    BOOL = "bool"
    SECOND = "second"  # that of its second operand (where)
    CAST = "cast"  # given


class Word(NamedTuple):
    """One word: arity, result dtype, NumPy's function for it, and its cost in FLOPs."""

    name: str
    arity: int
    function: Callable[..., Any]
    result: Result = Result.SAME
    flops: float = 1.0
    commutative: bool = False


def _floor_divide(x: Any, y: Any, out: Any = None) -> Any:
    with np.errstate(all="ignore"):
        return np.floor_divide(x, y, out=out)


def _fma(x: Any, y: Any, z: Any, out: Any = None) -> Any:
    """NumPy has no fused multiply-add: float64 holds the product of float32 exactly."""
    wide = np.multiply(x, y, dtype=np.float64) + z
    if out is None:
        return wide.astype(np.result_type(x))
    np.copyto(out, wide, casting="same_kind")
    return out


def _where(c: Any, x: Any, y: Any, out: Any = None) -> Any:
    if out is None:
        return np.where(c, x, y)
    if out is x:
        np.copyto(out, y, where=np.logical_not(c))
    else:
        if out is not y:
            np.copyto(out, y)
        np.copyto(out, x, where=c)
    return out


def _words() -> dict[str, Word]:
    same: list[tuple[str, int, Callable[..., Any], float, bool]] = [
        ("add", 2, np.add, 1, True), ("sub", 2, np.subtract, 1, False),
        ("mul", 2, np.multiply, 1, True), ("div", 2, np.divide, 4, False),
        ("floordiv", 2, _floor_divide, 4, False), ("mod", 2, np.remainder, 4, False),
        ("pow", 2, power, 20, False), ("maximum", 2, np.maximum, 1, True),
        ("minimum", 2, np.minimum, 1, True), ("atan2", 2, np.arctan2, 20, False),
        ("copysign", 2, np.copysign, 1, False), ("fma", 3, _fma, 2, False),
        ("fmod", 2, np.fmod, 4, False), ("erf", 1, erf, 40, False),
        ("neg", 1, np.negative, 1, False), ("abs", 1, np.abs, 1, False),
        ("sign", 1, np.sign, 1, False), ("exp", 1, np.exp, 10, False),
        ("exp2", 1, np.exp2, 10, False), ("expm1", 1, np.expm1, 12, False),
        ("log", 1, np.log, 10, False), ("log2", 1, np.log2, 10, False),
        ("log10", 1, np.log10, 10, False), ("log1p", 1, np.log1p, 12, False),
        ("sqrt", 1, np.sqrt, 4, False), ("sin", 1, np.sin, 12, False),
        ("cos", 1, np.cos, 12, False), ("tan", 1, np.tan, 14, False),
        ("asin", 1, np.arcsin, 14, False), ("acos", 1, np.arccos, 14, False),
        ("atan", 1, np.arctan, 14, False), ("sinh", 1, np.sinh, 14, False),
        ("cosh", 1, np.cosh, 14, False), ("tanh", 1, np.tanh, 14, False),
        ("asinh", 1, np.arcsinh, 14, False), ("acosh", 1, np.arccosh, 14, False),
        ("atanh", 1, np.arctanh, 14, False), ("floor", 1, np.floor, 1, False),
        ("ceil", 1, np.ceil, 1, False), ("trunc", 1, np.trunc, 1, False),
        ("round", 1, np.rint, 1, False), ("bit_and", 2, np.bitwise_and, 1, True),
        ("bit_or", 2, np.bitwise_or, 1, True), ("bit_xor", 2, np.bitwise_xor, 1, True),
        ("bit_not", 1, np.invert, 1, False), ("shl", 2, np.left_shift, 1, False),
        ("shr", 2, np.right_shift, 1, False),
    ]  # fmt: skip
    boolean = [
        ("eq", 2, np.equal, True), ("ne", 2, np.not_equal, True), ("lt", 2, np.less, False),
        ("le", 2, np.less_equal, False), ("gt", 2, np.greater, False),
        ("ge", 2, np.greater_equal, False), ("logical_and", 2, np.logical_and, True),
        ("logical_or", 2, np.logical_or, True), ("logical_xor", 2, np.logical_xor, True),
        ("logical_not", 1, np.logical_not, False), ("isnan", 1, np.isnan, False),
        ("isinf", 1, np.isinf, False), ("isfinite", 1, np.isfinite, False),
    ]  # fmt: skip
    words = [Word(n, a, f, Result.SAME, c, s) for n, a, f, c, s in same]
    words += [Word(n, a, f, Result.BOOL, 1, s) for n, a, f, s in boolean]
    words.append(Word("where", 3, _where, Result.SECOND, 1))
    return {w.name: w for w in words}


WORDS = _words()


class NumpyMath:
    """The vocabulary on NumPy arrays and scalars; `m.cast(x, dtype)` converts as PyTorch does."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        word = WORDS.get(name)
        if word is None:
            raise AttributeError(f"no word {name!r} in the scalar vocabulary")
        return word.function

    def cast(self, x: Any, dtype: DType) -> Any:
        """Convert elements; floating to integer truncates."""
        return np.asarray(x).astype(dtype.dtype)

    def const(self, value: float, like: Any) -> Any:
        """An immediate of the dtype of `like`."""
        return np.asarray(like).dtype.type(value)


NUMPY = NumpyMath()


@dataclass(frozen=True, slots=True, eq=False)
class Instr:
    """One SSA instruction: word, operands (indices of earlier values), dtype of the result.

    The words "const" (with `value`), "index" (the position along axis `value`) and "cast" are the
    only ones outside `WORDS`. Equal ones compute the same bits: a constant 0.0 is not -0.0, and NaN
    is NaN.
    """

    word: str
    args: tuple[int, ...]
    dtype: DType
    value: float | int | bool | None = None

    def _exact(self) -> tuple[Any, ...]:
        value = self.value
        exact = value.hex() if isinstance(value, float) else value
        return (self.word, self.args, self.dtype, exact, type(value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Instr) and self._exact() == other._exact()

    def __hash__(self) -> int:
        return hash(self._exact())


class Recorder:
    """Interprets a body by writing its instructions down; values are `Ref`s into the list.

    >>> from lazygrad.dtypes import float32
    >>> m = Recorder([float32, float32])
    >>> _ = m.add(m.mul(m.inputs[0], m.inputs[0]), m.inputs[1])
    >>> [(i.word, i.args) for i in m.instrs]
    [('mul', (0, 0)), ('add', (2, 1))]
    """

    def __init__(self, inputs: list[DType]) -> None:
        self.inputs = [Ref(self, i, d) for i, d in enumerate(inputs)]
        self.instrs: list[Instr] = []
        self._seen: dict[Instr, Ref] = {}

    def emit(self, instr: Instr) -> Ref:
        """Append an instruction, or find the equal one that is there already."""
        found = self._seen.get(instr)
        if found is None:
            found = Ref(self, len(self.inputs) + len(self.instrs), instr.dtype)
            self.instrs.append(instr)
            self._seen[instr] = found
        return found

    def const(self, value: float, like: Ref) -> Ref:
        """An immediate of the dtype of `like`."""
        return self.emit(Instr("const", (), like.dtype, value))

    def cast(self, x: Ref, dtype: DType) -> Ref:
        """Convert to `dtype`."""
        dtype = as_dtype(dtype)
        return x if x.dtype is dtype else self.emit(Instr("cast", (x.index,), dtype))

    def __getattr__(self, name: str) -> Callable[..., Ref]:
        word = WORDS.get(name)
        if word is None:
            raise AttributeError(f"no word {name!r} in the scalar vocabulary")

        def write(*args: Any) -> Ref:
            like = next(a for a in reversed(args) if isinstance(a, Ref))
            refs = [a if isinstance(a, Ref) else self.const(a, like) for a in args]
            dtype = {
                Result.BOOL: bool_, Result.SAME: refs[0].dtype, Result.SECOND: refs[-1].dtype,
            }[word.result]  # fmt: skip
            return self.emit(Instr(name, tuple(r.index for r in refs), dtype))

        return write


@dataclass(frozen=True, slots=True, eq=False)
class Ref:
    """A value while recording: its index and dtype."""

    recorder: Recorder
    index: int
    dtype: DType
