"""Words as machine code against NumPy: every dtype, the special values, accuracy, bits."""

from __future__ import annotations

import ctypes
import itertools
import math
import platform
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lazygrad.dtypes import (
    ALL,
    BOOL,
    FLOATING,
    INTEGER,
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int32,
    int64,
    uint8,
)
from lazygrad.ops.scalar_math import WORDS, Instr, NumpyMath, Result
from lazygrad.runtime.kernel import Access, Body
from lazygrad.runtime.native import polynomials
from lazygrad.runtime.native.jit import compile_text, link
from lazygrad.runtime.native.llvm import Function, Value, module, vector
from lazygrad.runtime.native.unit import Unsupported
from lazygrad.runtime.native.words import NativeMath, Term, llvm_type, memory_type

Make = Callable[..., Any]
_names = itertools.count()

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


class Compiled:
    """Functions over flat arrays, several in one module; lengths are padded to whole vectors."""

    def __init__(self, lanes: int = 16, optimize: int = 2) -> None:
        self.lanes, self.optimize = lanes, optimize
        self.functions: dict[str, tuple[Function, DType]] = {}
        self.addresses: dict[str, int] = {}
        self.serial = next(_names)

    def add(self, name: str, inputs: Sequence[DType], make: Make) -> Function:
        """`make(m, *terms)` gives the result; its dtype is that of the output array."""
        count, lanes = len(inputs), self.lanes
        params = [("ptr", f"p{i}") for i in range(count + 1)]
        f = Function(f"{name}_{self.serial}", [*params, ("i64", "n")])
        m = NativeMath(f, lanes)
        with f.loop(0, f.params[-1], lanes) as i:
            terms = []
            for p, dtype in zip(f.params, inputs, strict=False):
                at = f.gep(memory_type(dtype), p, i)
                raw = f.load(vector(memory_type(dtype), lanes), at)
                terms.append(Term(m.from_memory(raw, dtype), dtype))
            result = make(m, *terms)
            at = f.gep(memory_type(result.dtype), f.params[count], i)
            f.store(m.to_memory(result.value, result.dtype), at)
        f.ret()
        self.functions[name] = (f, result.dtype)
        return f

    def word(self, name: str, dtype: DType) -> Function:
        inputs = [dtype] * WORDS[name].arity
        if name == "where":
            inputs[0] = bool_
        return self.add(name, inputs, lambda m, *x: m.word(name, *x))

    def __call__(self, name: str, *arrays: Any) -> Any:
        if not self.addresses:
            found = [f for f, _ in self.functions.values()]
            code = compile_text(module(*found), self.optimize)
            symbols = [f.name for f in found]
            linked = link(f"words_{self.serial}", code, symbols)
            self.addresses = dict(zip(self.functions, (linked[s] for s in symbols), strict=True))
        count = len(arrays[0])
        padded = [np.concatenate([a, a[: -count % 16], np.zeros(16, a.dtype)]) for a in arrays]
        padded = [np.ascontiguousarray(a[: count + -count % 16]) for a in padded]
        out = np.zeros(len(padded[0]), self.functions[name][1].dtype)
        types = [ctypes.c_void_p] * (len(arrays) + 1)
        call = ctypes.CFUNCTYPE(None, *types, ctypes.c_int64)(self.addresses[name])
        call(*(a.ctypes.data for a in padded), out.ctypes.data, len(out))
        return out[:count]


def once(inputs: Sequence[DType], make: Make, *arrays: Any, **options: Any) -> Any:
    compiled = Compiled(**options)
    compiled.add("f", inputs, make)
    return compiled("f", *arrays)


SPECIAL = [
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.0, -2.0, 2.5, -2.5, 3.0, 7.0, 88.8, -88.8, -104.1,
    1e-3, 1e-45, -1e-45, 1e-40, 2.0**-126, 1e30, -1e30, 3.4e38, -3.4e38, 2.0**24, 2.0**31,
    -(2.0**31), 2.0**63, 1e10, 65504.0, 65520.0, math.inf, -math.inf, math.nan,
]  # fmt: skip


def operands(dtype: DType, arity: int) -> list[Any]:
    """Every pair of special values, then random ones."""
    rng = np.random.default_rng(7)
    if dtype.category == BOOL:
        return [rng.integers(0, 2, 64).astype(bool) for _ in range(arity)]
    if dtype.category == FLOATING:
        special = np.array(SPECIAL).astype(dtype.dtype)
        loose = [(3 * rng.normal(size=400)).astype(dtype.dtype) for _ in range(arity)]
    else:
        info = np.iinfo(dtype.dtype)
        low, high = int(info.min), int(info.max)
        near = [0, 1, 2, 3, 5, 7, 31, 33, 64, high, high - 1, low, low + 1]
        special = np.array(near + ([-1, -2, -3, -7] if low else []), dtype.dtype)
        loose = [rng.integers(low, high, 400, dtype.dtype) for _ in range(arity)]
    grid = [np.repeat(special, len(special)), np.tile(special, len(special))]
    grid.append(rng.permutation(grid[0]))
    return [np.concatenate([g, x]) for g, x in zip(grid, loose, strict=False)]


def distance(found: Any, expected: Any) -> Any:
    """How many numbers of their dtype lie between two arrays; NaN is next to NaN only."""
    size = {2: np.int16, 4: np.int32, 8: np.int64}[found.dtype.itemsize]

    def ordinal(x: Any) -> Any:
        bits = x.view(size).astype(np.int64)
        return np.where(bits < 0, np.iinfo(size).min - bits, bits)

    gap = np.abs(ordinal(found).astype(np.float64) - ordinal(expected).astype(np.float64))
    lost = np.isnan(found) != np.isnan(expected)
    lost |= (found == 0) & (expected == 0) & (np.signbit(found) != np.signbit(expected))
    return np.where(lost, np.inf, np.where(np.isnan(found), 0, gap))


FUNCTIONS = sorted(polynomials.FLOAT32.keys() - {"fmod"})
# NumPy itself is inexact (fma) or has no say (the sign of an extreme zero, of sign(-0.0)).
EXACT = {n for n in WORDS if n not in FUNCTIONS} - {"fma"}
UNSIGNED_ZERO = {"maximum", "minimum", "sign"}
BITWISE = {"bit_and", "bit_or", "bit_xor", "bit_not", "shl", "shr"}
INTEGERS_TAKE = EXACT - {"div", "copysign", "sqrt", "floor", "ceil", "trunc", "round"} | {"pow"}
BOOLS_TAKE = {
    "add", "mul", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge", "where", "abs",
    "logical_and", "logical_or", "logical_xor", "logical_not", "bit_and", "bit_or", "bit_xor",
    "bit_not", "isnan", "isinf", "isfinite",
}  # fmt: skip


def taken(dtype: DType) -> list[str]:
    if dtype.category == FLOATING:
        return [w for w in WORDS if w not in BITWISE]
    return [w for w in WORDS if w in (BOOLS_TAKE if dtype.category == BOOL else INTEGERS_TAKE)]


def close(name: str, dtype: DType) -> int:
    """The distance from NumPy's result that a word may have."""
    if name not in FUNCTIONS:
        return 0
    return 4 if dtype in (float32, float64) else 1  # NumPy's own error included


@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.name)
def test_words_agree_with_numpy(dtype: DType) -> None:
    names = [n for n in taken(dtype) if n != "fma" or dtype.category == INTEGER]
    compiled = Compiled()
    for name in names:
        compiled.word(name, dtype)
    for name in names:
        word = WORDS[name]
        values = operands(dtype, word.arity)
        if name == "where":
            values[0] = values[1] < values[2]
        out = bool_ if word.result is Result.BOOL else dtype
        if name == "fma":
            expected = values[0] * values[1] + values[2]
        else:
            expected = np.asarray(word.function(*values)).astype(out.dtype)
        found = compiled(name, *values)
        if out.category != FLOATING:
            np.testing.assert_array_equal(found, expected, name)
            continue
        if name in UNSIGNED_ZERO:
            found, expected = found + out.dtype.type(0), expected + out.dtype.type(0)
        gap = distance(found, expected)
        worst = int(np.argmax(gap))
        assert gap[worst] <= close(name, dtype), (name, [v[worst] for v in values], found[worst])


def every_float(stride: int) -> Any:
    """Float32 numbers spread over all bit patterns, and the special ones."""
    spread = np.arange(0, 1 << 32, stride, dtype=np.uint32).view(np.float32)
    return np.concatenate([spread, np.array(SPECIAL, np.float32)])


def pairs() -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 1 << 32, (2, 100_000), dtype=np.uint32).view(np.float32)
    usual = rng.normal(size=(2, 100_000)).astype(np.float32)
    near = (1 + 1e-3 * usual[0]).astype(np.float32), (1e4 * usual[1]).astype(np.float32)
    grid = np.array(SPECIAL, np.float32)
    return [
        (bits[0], bits[1]), (np.abs(usual[0]), 8 * usual[1]), near, (usual[0], usual[1]),
        (np.repeat(grid, len(grid)), np.tile(grid, len(grid))),
    ]  # fmt: skip


def in_float64(name: str, *x: Any) -> Any:
    wide = [v.astype(np.float64) for v in x]
    return np.asarray(WORDS[name].function(*wide)).astype(np.float32)


@pytest.fixture(scope="module")
def functions() -> Compiled:
    compiled = Compiled()
    for name in [*FUNCTIONS, "fmod", "mod", "floordiv"]:
        compiled.word(name, float32)
    return compiled


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_functions_are_within_two_ulp(name: str, functions: Compiled) -> None:
    samples = pairs() if WORDS[name].arity == 2 else [(every_float(9973),)]
    for x in samples:
        gap = distance(functions(name, *x), in_float64(name, *x))
        worst = int(np.argmax(gap))
        assert gap[worst] <= 2, (name, [v[worst] for v in x])


@pytest.mark.parametrize("name", ["fmod", "mod", "floordiv"])
def test_remainders_are_exact(name: str, functions: Compiled) -> None:
    for x, y in pairs():
        assert not distance(functions(name, x, y), WORDS[name].function(x, y)).any()


class Below(NumpyMath):
    """NumPy with what the compositions need below the vocabulary."""

    def bits(self, x: Any) -> Any:
        return np.asarray(x).view(np.int32 if np.asarray(x).dtype == np.float32 else np.int64)

    def real(self, x: Any) -> Any:
        return np.asarray(x).view(np.float32 if np.asarray(x).dtype == np.int32 else np.float64)

    def scale(self, x: Any, n: Any) -> Any:
        return np.ldexp(x, np.nan_to_num(n).astype(np.int32))

    def rarely(self, c: Any, usual: Any, unusual: Any) -> Any:
        return [np.where(c, v, u) for u, v in zip(usual, unusual(), strict=True)]

    def repeat(self, start: Any, more: Any, step: Any) -> Any:
        while (c := more(start)).any():
            start = np.where(c, step(start), start)
        return start


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_compositions_are_right_in_numpy(name: str) -> None:
    samples = pairs() if WORDS[name].arity == 2 else [(every_float(99991),)]
    for x in samples:
        found = np.asarray(polynomials.FLOAT32[name](Below(), *x))
        assert distance(found, in_float64(name, *x)).max() <= 2


@pytest.mark.parametrize("dtype", [float32, float64, bfloat16, int32], ids=lambda d: d.name)
def test_bits_depend_neither_on_lanes_nor_on_the_optimiser(dtype: DType) -> None:
    names = taken(dtype)
    if dtype is bfloat16:  # what it adds is the rounding
        names = [n for n in names if n not in FUNCTIONS or n == "exp"]
    made = [Compiled(16, 2), Compiled(16, 0), Compiled(8), Compiled(1)]
    for compiled in made:
        for name in names:
            compiled.word(name, dtype)
    for name in names:
        values = operands(dtype, WORDS[name].arity)
        if name == "where":
            values[0] = values[1] < values[2]
        first, *others = (compiled(name, *values) for compiled in made)
        for other in others:
            if dtype.category == FLOATING and first.dtype != bool:
                assert not distance(first, other).any(), name
            else:
                np.testing.assert_array_equal(first, other, name)


def test_neighbours_in_a_vector_do_not_change_a_lane() -> None:
    """A lane that takes the rare path or more steps leaves the others alone."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 256)).astype(np.float32)
    huge = np.where(np.arange(256) % 5 == 0, np.float32(1e30), x)
    for name in ("sin", "cos", "tan"):
        whole = once([float32], lambda m, a, name=name: m.word(name, a), huge)
        alone = once([float32], lambda m, a, name=name: m.word(name, a), x)
        np.testing.assert_array_equal(whole[x == huge], alone[x == huge])
    whole = once([float32] * 2, lambda m, a, b: m.fmod(a, b), huge, y)
    alone = once([float32] * 2, lambda m, a, b: m.fmod(a, b), x, y)
    np.testing.assert_array_equal(whole[x == huge], alone[x == huge])


def test_functions_of_float32_stay_in_registers() -> None:
    """No library call; the frequent ones have no branch and few instructions."""
    limits = {"exp": 20, "exp2": 18, "tanh": 26, "log": 40, "log1p": 36, "expm1": 28, "erf": 40}
    for name in FUNCTIONS:
        arity = WORDS[name].arity
        f = Function(name, [("<16 x float>", f"x{i}") for i in range(arity)], "<16 x float>")
        found = NativeMath(f, 16).word(name, *(Term(p, float32) for p in f.params))
        f.ret(found.value)
        assert all("@llvm." in d for d in f.declared), name
        if name in limits:
            assert f.text().count("br ") == 0, name
            assert f.text().count(" = ") <= limits[name] + 10, name  # 10: without AVX-512


def _cast_values(source: DType) -> Any:
    if source.category != FLOATING:
        return operands(source, 1)[0]
    wide = np.array(
        [*SPECIAL, 127.5, -128.9, 128.0, 255.9, 256.0, -0.9, 40000.0, -40000.0, 70000.0]
    )
    rng = np.random.default_rng(2)
    values = np.concatenate([wide, 100 * rng.normal(size=200), 2.0 ** rng.uniform(-30, 20, 200)])
    return values.astype(source.dtype)


@pytest.mark.parametrize("source", ALL, ids=lambda d: d.name)
def test_casts_agree_with_numpy(source: DType) -> None:
    compiled = Compiled()
    for target in ALL:
        compiled.add(target.name, [source], lambda m, x, target=target: m.cast(x, target))
    for target in ALL:
        x = _cast_values(source)
        known = target.name != "uint32" and platform.machine() in ("x86_64", "AMD64")
        if source.category == FLOATING and target.category == INTEGER and not known:
            # Outside of the range NumPy's answer depends on the processor, and for uint32 on where
            # an element lies in the array.
            x = x[np.isfinite(x) & (np.abs(x.astype(np.float64)) < 2.0**31) & (x >= 0)]
        found, expected = compiled(target.name, x), x.astype(target.dtype)
        if target.category == FLOATING:
            assert not distance(found, expected).any(), target
        else:
            np.testing.assert_array_equal(found, expected, target.name)


def test_float64_rounds_once_to_float16() -> None:
    halves = np.arange(1, 2000, dtype=np.uint16).view(np.float16).astype(np.float64)
    middle = (halves[1:] + halves[:-1]) / 2
    x = np.concatenate(
        [middle, np.nextafter(middle, 0), np.nextafter(middle, 1e9), 65519.9 + middle]
    )
    found = once([float64], lambda m, a: m.cast(a, float16), x)
    np.testing.assert_array_equal(found, x.astype(np.float16))


@pytest.mark.parametrize("dtype", [float16, bfloat16], ids=lambda d: d.name)
def test_halves_round_after_every_word(dtype: DType) -> None:
    x, y, z = operands(dtype, 3)
    found = once([dtype] * 3, lambda m, a, b, c: m.sub(m.add(m.mul(a, b), c), m.exp(b)), x, y, z)
    exp = np.exp(y.astype(np.float32)).astype(dtype.dtype)
    assert distance(found, x * y + z - exp).max() <= 1


def test_every_bfloat16_survives_and_every_float32_rounds_to_one() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    kept = once([bfloat16], lambda m, a: m.mul(a, 1.0), bits)
    assert not distance(kept, bits).any()
    x = every_float(65521)
    found = once([float32], lambda m, a: m.cast(a, bfloat16), x)
    assert not distance(found, x.astype(ml_dtypes.bfloat16)).any()


def test_a_body_is_evaluated_value_by_value() -> None:
    body = Body(
        (Access(0, (1,)), Access(1, (1,))), (float32, float32),
        (
            Instr("mul", (0, 1), float32), Instr("const", (), float32, 3),
            Instr("add", (3, 4), float32), Instr("index", (), float32, 0),
            Instr("add", (5, 6), float32), Instr("cast", (7,), int64),
            Instr("add", (7, 2), float32),
        ),
    )  # fmt: skip

    def make(m: NativeMath, acc: Term, x: Term, y: Term) -> Term:
        def index(axis: int) -> Value:
            assert axis == 0
            return m.f.steps(m.lanes)

        values = m.evaluate(body, [acc.value, x.value, y.value], index, before=[float32])
        assert [v.type for v in values] == ["<16 x float>"] * 8 + ["<16 x i64>", "<16 x float>"]
        return Term(values[-1], float32)

    acc, x, y = np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)
    found = once([float32] * 3, make, acc, x, y)
    # Values: acc, x, y, acc * x, 3, acc * x + 3, position, their sum, as int64, sum + y.
    np.testing.assert_array_equal(found, acc * x + 3 + np.arange(16, dtype=np.float32) + y)


@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.name)
def test_constants_convert_as_numpy_does(dtype: DType) -> None:
    values: list[Any] = [-1, 300, 2.7, -0.0, math.nan, math.inf, True, 1e300, 2**63]
    compiled = Compiled()
    for k, value in enumerate(values):
        compiled.add(f"c{k}", [uint8], lambda m, x, value=value: m.number(value, dtype))
    for k, value in enumerate(values):
        found = compiled(f"c{k}", np.zeros(1, np.uint8))
        expected = np.full(1, np.asarray(value).astype(dtype.dtype))
        assert found.tobytes() == expected.tobytes() or value != value, value
        assert (found != found) == (expected != expected)


def test_numbers_take_the_dtype_of_the_last_operand() -> None:
    x = np.array([250, 3], np.uint8)
    found = once([uint8], lambda m, a: m.add(a, 10), x)
    np.testing.assert_array_equal(found, [4, 13])


def test_what_does_not_exist_is_refused() -> None:
    m = NativeMath(Function("f", [("i32", "x")]), 1)
    x = Term(m.f.params[0], int32)
    with pytest.raises(Unsupported, match=r"sqrt on lazygrad\.int32"):
        m.word("sqrt", x)
    with pytest.raises(AttributeError, match="no word 'cbrt'"):
        m.cbrt(x)


def test_types_in_registers_and_in_memory() -> None:
    assert [llvm_type(d) for d in (bfloat16, float64, bool_, uint8)] == [
        "float",
        "double",
        "i1",
        "i8",
    ]
    assert [memory_type(d) for d in (bfloat16, float16, bool_)] == ["i16", "half", "i8"]
