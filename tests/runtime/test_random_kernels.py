"""Random kernels in random layouts: every executor and mode gives the same bits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    int8,
    int32,
    int64,
    uint8,
)  # fmt: skip
from lazygrad.ops.scalar_math import Recorder, Ref
from lazygrad.runtime.kernel import Access, Body, Contract, Kernel, Map, Reduce, Store
from lazygrad.shapes import Shape
from tests.runtime.building import Build, index
from tests.runtime.running import run_all

pytestmark = pytest.mark.numpy_code

Case = tuple[Kernel, list[np.ndarray[Any, Any]]]
SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, np.inf, -np.inf, np.nan)
UNARY = {
    FLOATING: (
        "neg", "abs", "sign", "exp", "log", "sqrt", "sin", "tanh", "log1p", "expm1", "floor",
        "round", "asin", "atan", "cosh", "exp2", "log2", "erf",
    ),
    INTEGER: ("neg", "abs", "sign", "floor", "round", "bit_not"),
    BOOL: ("logical_not",),
}  # fmt: skip
BINARY = {
    FLOATING: (
        "add", "sub", "mul", "div", "maximum", "minimum", "pow", "atan2", "copysign", "mod",
        "floordiv", "fmod",
    ),
    INTEGER: ("add", "sub", "mul", "maximum", "minimum", "floordiv", "mod", "bit_and", "bit_xor"),
    BOOL: ("logical_and", "logical_or", "logical_xor", "maximum"),
}  # fmt: skip
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")


def numbers(seed: int, size: int, dtype: DType) -> np.ndarray[Any, Any]:
    """Random numbers, some of them special."""
    rng = np.random.default_rng(seed)
    if dtype.category == BOOL:
        return rng.integers(0, 2, size).astype(bool)
    if dtype.category == INTEGER:
        return rng.integers(0 if not dtype.is_signed else -9, 10, size).astype(dtype.dtype)
    values = rng.standard_normal(size) * rng.choice([0.1, 1, 30])
    special = rng.random(size) < 0.15
    values[special] = rng.choice(SPECIAL, special.sum())
    return values.astype(dtype.dtype)


@dataclass
class Layout:
    """A layout: strides for a domain, offset, size of the buffer."""

    strides: tuple[int, ...]
    offset: int
    size: int


@st.composite
def layouts(draw: st.DrawFn, domain: Shape, store: bool = False) -> Layout:
    """Axes in any order, with gaps, reversed, standing still (unless it is stored to)."""
    order = draw(st.permutations(range(len(domain))))
    strides, step, offset = [0] * len(domain), draw(st.sampled_from([1, 1, 2])), 0
    for axis in order:
        kind = draw(st.sampled_from(["dense", "dense", "gap", "back", "still"]))
        if kind == "still" and not store:
            continue
        strides[axis] = step
        step *= max(domain[axis], 1)
        if kind == "gap":
            step += draw(st.integers(1, 3))
        elif kind == "back":
            offset += strides[axis] * max(domain[axis] - 1, 0)
            strides[axis] = -strides[axis]
    start = draw(st.integers(0, 2))
    return Layout(tuple(strides), offset + start, start + step + 2)


domains = st.lists(st.sampled_from([0, 1, 1, 2, 3, 5, 8, 17]), min_size=1, max_size=4).map(tuple)
some_dtypes = st.sampled_from([float32] * 4 + [float64] * 2 + list(ALL))


class Expression:
    """A random expression over loads, written with a Recorder."""

    def __init__(self, draw: st.DrawFn, loads: list[DType], rank: int) -> None:
        self.draw, self.rank = draw, rank
        self.m = Recorder(loads)
        self.values = list(self.m.inputs)
        for _ in range(draw(st.integers(0, 6))):
            self.values.append(self.step())

    def pick(self, *dtypes: DType) -> Ref:
        found = [v for v in self.values if not dtypes or v.dtype in dtypes]
        return self.draw(st.sampled_from(found))

    def step(self) -> Ref:
        draw, x = self.draw, self.pick()
        kind = draw(st.sampled_from(["unary", "binary", "where", "cast", "compare", "index"]))
        if kind == "unary":
            return self.word(draw(st.sampled_from(UNARY[x.dtype.category])), x)
        if kind == "binary":
            return self.word(draw(st.sampled_from(BINARY[x.dtype.category])), x, self.other(x))
        if kind == "compare":
            return self.word(draw(st.sampled_from(COMPARE)), x, self.other(x))
        if kind == "cast":
            small = x.dtype.category != FLOATING  # NaN has no integer
            integers = [int8, int32, int64] if small else []
            target = st.sampled_from([float32, float64, float16, bfloat16, bool_, *integers])
            return self.m.cast(x, draw(target))
        if kind == "index":
            dtype = draw(st.sampled_from([int64, int32, float32]))
            return index(self.m, draw(st.integers(0, self.rank - 1)), dtype)
        conditions = [v for v in self.values if v.dtype is bool_]
        chosen = draw(st.sampled_from(conditions)) if conditions else self.word("gt", x, x)
        pair = (x, self.other(x)) if draw(st.booleans()) else (self.other(x), x)
        return self.word("where", chosen, *pair)

    def word(self, name: str, *args: Ref) -> Ref:
        return getattr(self.m, name)(*args)

    def other(self, x: Ref) -> Ref:
        if self.draw(st.booleans()):
            return self.pick(x.dtype)
        return self.m.const(self.draw(constants(x.dtype)), x)


def constants(dtype: DType) -> st.SearchStrategy[float]:
    if dtype.category == BOOL:
        return st.booleans()
    if dtype.category == INTEGER:
        return st.integers(1, 5)
    return st.sampled_from([0.0, 0.5, 2.0, -1.0, 3.0])


class Drawn(Build):
    """A kernel under construction with the arrays of its parameters."""

    def __init__(self, draw: st.DrawFn, rows: int) -> None:
        super().__init__(rows, draw(st.integers(1, max(rows, 1))))
        self.draw = draw
        self.arrays: list[np.ndarray[Any, Any]] = []

    def laid_out(self, layout: Layout, mode: str, dtype: DType) -> Access:
        buffer = self.param((layout.size,), mode, dtype)
        self.arrays.append(numbers(self.draw(st.integers(0, 999)), layout.size, dtype))
        return Access(buffer.number, layout.strides, layout.offset)

    def loaded(self, domain: Shape) -> tuple[list[Access], list[DType], list[Access]]:
        """Random loads, their dtypes, and those that may be stored to."""
        accesses, dtypes, stored = [], [], []
        for _ in range(self.draw(st.integers(1, 3))):
            store, dtype = self.draw(st.booleans()), self.draw(some_dtypes)
            layout = self.draw(layouts(domain, store))
            accesses.append(self.laid_out(layout, "inout" if store else "in", dtype))
            dtypes.append(dtype)
            if store:
                stored.append(accesses[-1])
        return accesses, dtypes, stored


@st.composite
def map_kernels(draw: st.DrawFn) -> Case:
    domain = draw(domains)
    k = Drawn(draw, domain[0])
    loads, dtypes, free = k.loaded(domain)
    body = Expression(draw, dtypes, len(domain))
    stores = []
    for _ in range(draw(st.integers(1, 3))):
        value = body.pick()
        places = [a for a in free if k.params[a.buffer].dtype is value.dtype]
        if places and draw(st.booleans()):
            access = draw(st.sampled_from(places))
            free.remove(access)
        else:
            access = k.laid_out(draw(layouts(domain, True)), "out", value.dtype)
        stores.append(Store(access, value.index))
    words = Body(tuple(loads), tuple(dtypes), tuple(body.m.instrs))
    k.stages.append(Map(domain, words, tuple(stores)))
    return k.kernel(), k.arrays


@given(map_kernels())
def test_maps(case: Case) -> None:
    run_all(*case)


@st.composite
def reduce_kernels(draw: st.DrawFn) -> Case:
    domain = draw(domains)
    axes = tuple(i for i in range(len(domain)) if draw(st.booleans()))
    k = Drawn(draw, domain[0])
    if 0 in axes:
        k.chunk = max(domain[0], 1)
    loads, dtypes, _ = k.loaded(domain)
    body = Expression(draw, dtypes, len(domain))
    value = body.pick()
    words = ["add", "mul"]
    if prod(domain[a] for a in axes) or not prod(domain):
        words += ["maximum", "minimum"]
    if len(axes) == 1 and domain[axes[0]]:
        words += ["argmax", "argmin"]
    combine = draw(st.sampled_from(words))
    if 0 in (domain[a] for a in axes) and combine not in ("add", "mul"):
        combine = "add"
    dtype = value.dtype
    if combine in ("add", "mul"):
        dtype = wide(dtype)
    if dtype.category == BOOL and combine not in ("argmax", "argmin"):
        combine = draw(st.sampled_from(["logical_and", "logical_or"]))
    result = int64 if combine.startswith("arg") else draw(st.sampled_from([dtype, value.dtype]))
    kept = tuple(1 if i in axes else n for i, n in enumerate(domain))
    layout = draw(layouts(kept, True))
    layout.strides = tuple(0 if i in axes else s for i, s in enumerate(layout.strides))
    store = k.laid_out(layout, "out", result)
    words_ = Body(tuple(loads), tuple(dtypes), tuple(body.m.instrs))
    k.stages.append(Reduce(domain, axes, combine, words_, value.index, dtype, store))
    return k.kernel(), k.arrays


def wide(dtype: DType) -> DType:
    """The accumulator of a sum."""
    if dtype.category != FLOATING:
        return int64
    return float32 if dtype.itemsize == 2 else dtype


@given(reduce_kernels())
def test_reductions(case: Case) -> None:
    run_all(*case)


@st.composite
def contract_kernels(draw: st.DrawFn) -> Case:
    sizes = st.sampled_from([0, 1, 2, 3, 7, 16])
    batch = tuple(draw(st.lists(st.sampled_from([1, 2, 3]), max_size=2)))
    m, n, k = draw(sizes), draw(sizes), draw(sizes)
    grid = draw(st.sampled_from(["batch", ""] if batch else ["m", "n", ""]))
    rows = {"batch": (*batch, 1)[0], "m": m, "n": n, "": 1}[grid]
    build = Drawn(draw, rows)
    dtype = draw(st.sampled_from([float32, float64, float16, bfloat16, int64]))
    left = build.laid_out(draw(layouts((*batch, m, k))), "in", dtype)
    same = draw(st.booleans()) and m == n
    right = build.laid_out(draw(layouts((*batch, k, n))), "in", dtype)
    if same:  # a @ a.T
        steps = (*left.strides[:-2], left.strides[-1], left.strides[-2])
        right = Access(left.buffer, steps, left.offset)
    for array in build.arrays:
        array[:] = np.nan_to_num(array.astype(np.float64), nan=1, posinf=2, neginf=-2)
    a, b = (prologue(draw, x, dtype, len(batch) + 2) for x in (left, right))
    domain = (*batch, m, n)
    layout = draw(layouts(domain, True))
    acc = wide(dtype)
    inside = Recorder([acc, dtype])
    value = inside.inputs[0]
    loads: tuple[Access, ...] = ()
    out = build.laid_out(layout, "inout", dtype)
    if draw(st.booleans()):
        loads = (out,)
        value = inside.add(value, inside.cast(inside.inputs[1], acc))
    else:
        inside = Recorder([acc])
        value = inside.inputs[0]
    value = inside.cast(value, dtype)
    epilogue = Body(loads, (dtype,) * len(loads), tuple(inside.instrs))
    build.stages.append(
        Contract(batch, m, n, k, a, b, epilogue, (Store(out, value.index),), acc, grid)
    )
    return build.kernel(), build.arrays


def prologue(draw: st.DrawFn, access: Access, dtype: DType, rank: int) -> Body:
    m = Recorder([dtype])
    if draw(st.booleans()):
        m.add(m.inputs[0], m.cast(index(m, draw(st.integers(0, rank - 1)), int64), dtype))
    return Body((access,), (dtype,), tuple(m.instrs))


@given(contract_kernels())
def test_contractions(case: Case) -> None:
    run_all(*case, exact=False)


@st.composite
def gather_kernels(draw: st.DrawFn) -> Case:
    domain = draw(domains)
    k = Drawn(draw, domain[0])
    extent = draw(st.integers(1, 5))
    kind = draw(st.sampled_from([int64, int32, uint8]))
    at = k.laid_out(draw(layouts(domain)), "in", kind)
    k.arrays[0][:] = np.random.default_rng(0).integers(0, extent, k.arrays[0].size)
    dtype = draw(some_dtypes)
    table = draw(layouts((extent, *domain)))
    strides = tuple(s if draw(st.booleans()) else 0 for s in table.strides[1:])
    loads = [at, replace(
        k.laid_out(table, "in", dtype), strides=strides, index=0, index_stride=table.strides[0],
        index_extent=extent,
    )]  # fmt: skip
    body = Body(tuple(loads), (kind, dtype), ())
    store = k.laid_out(draw(layouts(domain, True)), "out", dtype)
    k.stages.append(Map(domain, body, (Store(store, 1),)))
    return k.kernel(), k.arrays


@given(gather_kernels())
def test_gathers(case: Case) -> None:
    run_all(*case)


@st.composite
def chains(draw: st.DrawFn) -> Case:
    """Stages over rows that hand values on through scratch, some of them reductions."""
    rows, columns = draw(st.sampled_from([1, 2, 5, 9])), draw(st.sampled_from([1, 3, 8, 40]))
    k = Drawn(draw, rows)
    whole = (rows, columns)
    x = k.laid_out(draw(layouts(whole)), "in", float32)
    out = k.laid_out(draw(layouts(whole, True)), "out", float32)
    values = [x]
    steps = draw(st.lists(st.sampled_from(["map", "add", "maximum"]), min_size=1, max_size=6))
    for step in (*steps, "last"):
        loads = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
        body = Expression(draw, [float32] * len(loads), 2)
        value = body.m.cast(body.pick(), float32)
        words = Body(tuple(loads), (float32,) * len(loads), tuple(body.m.instrs))
        if step == "last":
            k.stages.append(Map(whole, words, (Store(out, value.index),)))
        elif step == "map":
            made = k.scratch((columns,)).at()[0]
            k.stages.append(Map(whole, words, (Store(made, value.index),)))
            values.append(made)
        else:
            made = k.scratch(()).over(0, None)[0]
            k.stages.append(Reduce(whole, (1,), step, words, value.index, float32, made))
            values.append(made)
    return k.kernel(), k.arrays


@given(chains())
def test_chains(case: Case) -> None:
    run_all(*case)
