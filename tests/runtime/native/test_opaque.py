"""Ops without stages as machine code: what their references compute, on every sample and layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.dtypes import DType, as_dtype
from lazygrad.ops.index import GATHER, INDEX, INDEX_PUT, SCATTER
from lazygrad.ops.movement import CAT, PAD, SLICE_SET
from lazygrad.ops.opdef import OpDef
from lazygrad.ops.random import PHILOX
from lazygrad.ops.windows import FOLD
from lazygrad.runtime.kernel import Access, Extern, Grid, Kernel, Param
from lazygrad.runtime.native.opaque import extern_units
from lazygrad.shapes import Shape, contiguous_strides
from tests.runtime.native.row_units import Array, run_units


class Operand(NamedTuple):
    """What an op's rule of shapes reads of an operand."""

    shape: Shape
    dtype: DType


OPS = (PAD, CAT, SLICE_SET, FOLD, INDEX, GATHER, INDEX_PUT, SCATTER, PHILOX)


def run(
    op: OpDef, arrays: Sequence[Array], attrs: Mapping[str, Any], turned: bool = False,
    status: int = 0,
) -> Array:  # fmt: skip
    """The result of an op, on operands that lie in memory in C or Fortran order."""
    specs = [Operand(a.shape, as_dtype(a.dtype)) for a in arrays]
    shape, dtype = op.infer(*specs, **attrs)
    inputs = []
    for k, spec in enumerate(specs):
        strides = contiguous_strides(spec.shape[::-1])[::-1] if turned else (
            contiguous_strides(spec.shape)
        )  # fmt: skip
        inputs.append((Access(k, strides), spec.shape, spec.dtype))
    out = np.zeros(shape, dtype.dtype)
    stage = Extern(
        op, tuple(sorted(attrs.items())), tuple(inputs),
        (Access(len(arrays), contiguous_strides(shape)), shape, dtype),
    )  # fmt: skip
    params = [Param(s.dtype, a.size, "in") for s, a in zip(specs, arrays, strict=True)]
    kernel = Kernel("test", (*params, Param(dtype, out.size, "out")), (), Grid(), (stage,))
    flat = [np.ascontiguousarray(a.T if turned else a).reshape(-1) for a in arrays]
    found, wrong = run_units(kernel, [*flat, out], units=extern_units(kernel, stage))
    assert wrong == status
    result: Array = found[-1].reshape(shape)
    return result


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_samples(op: OpDef, turned: bool) -> None:
    assert op.samples is not None
    for sample in op.samples(np.random.default_rng(0)):
        for kind in (np.float32,) if turned else (np.float32, np.float16):
            arrays = [a.astype(kind) if a.dtype.kind == "f" else a for a in sample.arrays]
            if kind is np.float16 and (op is FOLD or sample.attrs.get("accumulate")):
                continue  # sums of halves are left to the reference
            expected = op.reference(*arrays, **sample.attrs)
            found = run(op, arrays, sample.attrs, turned)
            assert found.dtype == expected.dtype
            sums = sample.attrs.get("accumulate", False)  # the order is another one
            np.testing.assert_allclose(found, expected, 1e-6 if sums else 0)


@pytest.mark.parametrize("count", [1, 3, 4, 63, 64, 65, 500, 70_000])
@pytest.mark.parametrize("start", [0, 1, 2, 3, 2**34 + 5])
def test_random_words_at_every_length(count: int, start: int) -> None:
    key = np.array([2**63 + 12345, start], np.uint64)
    attrs: dict[str, Any] = {"shape": (count,), "offset": 6}
    np.testing.assert_array_equal(run(PHILOX, [key], attrs), PHILOX.reference(key, **attrs))


@pytest.mark.parametrize("rows", [1, 17, 3000])
@pytest.mark.parametrize("width", [1, 15, 64, 100])
def test_rows_of_a_table(rows: int, width: int) -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((50, width)).astype(np.float32)
    for dtype in (np.int64, np.int32, np.uint8):
        at = rng.integers(0, 50, rows).astype(dtype)
        np.testing.assert_array_equal(run(INDEX, [table, at], {}), table[at])


@pytest.mark.parametrize("width", [1, 15, 64, 100])
def test_sums_of_rows_of_a_table(width: int) -> None:
    rng = np.random.default_rng(0)
    at, values = rng.integers(-9, 9, 200), rng.standard_normal((200, width)).astype(np.float32)
    expected = np.zeros((9, width), np.float32)
    for i, row in zip(at, values, strict=True):
        expected[i] += row
    attrs = {"accumulate": True}
    found = run(INDEX_PUT, [np.zeros((9, width), np.float32), values, at], attrs)
    np.testing.assert_array_equal(found, expected)


def test_a_wrong_index_writes_nothing() -> None:
    table, values = np.zeros(5, np.float32), np.ones(4, np.float32)
    at = np.array([2, 5, 1 << 40, -6])
    found = run(INDEX_PUT, [table, values, at], {"accumulate": False})
    np.testing.assert_array_equal(found, [0, 0, 1, 0, 0])


def test_a_wrong_index_stays_inside_of_the_table() -> None:
    table = np.arange(5, dtype=np.float32)
    found = run(INDEX, [table, np.array([2, 5, 1 << 40, -6])], {}, status=1)
    np.testing.assert_array_equal(found, [2, 0, 0, 0])


def test_dropout_runs_without_python() -> None:
    with lg.config.override(executor="native"):
        x = lg.ones(64, 64)
        lg.manual_seed(0)
        dropped = lg.nn.functional.dropout(x, 0.5, True).numpy()
    with lg.config.override(executor="numpy"):
        lg.manual_seed(0)
        expected = lg.nn.functional.dropout(x, 0.5, True).numpy()
    np.testing.assert_array_equal(dropped, expected)
