"""Products of operands that lie in pieces: the bits are those of the operands written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazygrad.dtypes import DType, as_dtype, float16, float32, int32
from lazygrad.ops.opdef import Strided
from lazygrad.ops.windows import WINDOWS, window_count
from lazygrad.runtime.kernel import Access, Kernel
from lazygrad.runtime.kernel_print import format_kernel
from lazygrad.runtime.native.gemm import contract_units
from lazygrad.runtime.reference import interpret
from lazygrad.shapes import contiguous_strides
from tests.runtime.building import Build
from tests.runtime.native.test_gemm import Array, chain, normal, run

Split = tuple[tuple[int, ...], ...]


def windows_of(shape: tuple[int, ...], size: int, step: int, dilation: int) -> Strided:
    """The windows over the last two axes of (batch, channels, height, width)."""
    view = WINDOWS.view
    assert view is not None
    plain = Strided(shape, contiguous_strides(shape))
    axes = {"axes": (2, 3), "sizes": (size, size), "steps": (step, step)}
    found = view(plain, **axes, dilations=(dilation, dilation))
    assert found is not None
    return found


def convolution(
    x: Array, w: Array, step: int, dilation: int, kind: str, relu: bool = False
) -> tuple[Kernel, list[Array], Array, Array]:
    """A convolution (or its product for the weight) as a kernel, and both operands written out."""
    (batch, channels, _, _), (outputs, _, size, _) = x.shape, w.shape
    view = windows_of(x.shape, size, step, dilation)
    high, wide = view.shape[2:4]
    b, c, i, j, p, q = view.strides
    strided: Array = np.lib.stride_tricks.as_strided(
        x, view.shape, [s * x.itemsize for s in view.strides]
    )
    build = Build(1)
    dtype = as_dtype(x.dtype)
    if kind == "forward":
        taps, places = channels * size * size, high * wide
        split: Split = ((batch,), (channels, size, size), (high, wide))
        image = build.param(x.shape, dtype=dtype).at((b, c, p, q, i, j), split=split)
        weight = build.param((outputs, taps), dtype=dtype)
        out = build.param((batch, outputs, places), "out", dtype)
        left, right = weight.over(None, 0, 1), image
        extents, lead = (outputs, places, taps), (batch,)
        a = w.reshape(outputs, taps)
        k = strided.transpose(0, 1, 4, 5, 2, 3).reshape(batch, taps, places)
    else:
        taps, places = channels * size * size, batch * high * wide
        split = ((batch, high, wide), (channels, size, size))
        image = build.param(x.shape, dtype=dtype).at((b, i, j, c, p, q), split=split)
        gradient = build.param((batch, outputs, high, wide), dtype=dtype)
        own = (high * wide, outputs * high * wide, 1)
        left = gradient.at(own, split=((outputs,), (batch, high * wide)))
        out = build.param((outputs, taps), "out", dtype)
        right = image
        extents, lead = (outputs, taps, places), ()
        g = normal(batch, outputs, high, wide, seed=3).astype(x.dtype)
        w = g
        a = g.transpose(1, 0, 2, 3).reshape(outputs, places)
        k = strided.transpose(0, 2, 3, 1, 4, 5).reshape(places, taps)
    words = (lambda m, acc: m.cast(m.maximum(acc, m.const(0, acc)), dtype)) if relu else None
    total = float32 if dtype is float16 else dtype
    if total is not dtype and words is None:
        words = lambda m, acc: m.cast(acc, dtype)  # noqa: E731
    build.contract(lead, extents, left, right, [out.at()], epilogue=words, dtype=total)
    buffers = [x.ravel(), w.ravel(), np.zeros(out.shape, x.dtype).ravel()]
    return build.kernel(), buffers, a, k


@given(
    st.tuples(*[st.integers(1, n) for n in (3, 5, 9, 40, 20)]), st.integers(1, 3),
    st.integers(1, 3), st.integers(1, 2), st.sampled_from(["forward", "weight"]), st.booleans(),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_windows_are_read_where_they_lie(
    sizes: tuple[int, ...], size: int, step: int, dilation: int, kind: str, relu: bool
) -> None:
    batch, channels, high, wide, outputs = sizes
    least = dilation * (size - 1) + 1
    x = normal(batch, channels, max(high, least), max(wide, least))
    w = normal(outputs, channels, size, size, seed=1)
    kernel, buffers, a, b = convolution(x, w, step, dilation, kind, relu)
    expected = chain(np.broadcast_to(a, (*b.shape[:-2], *a.shape)), b)
    expected = np.maximum(expected, 0) if relu else expected
    found = run(kernel, buffers)[-1]
    np.testing.assert_array_equal(found, expected.ravel())


@pytest.mark.parametrize("kind", ["forward", "weight"])
def test_long_sums_in_pieces_have_the_bits_of_the_chain(kind: str) -> None:
    x, w = normal(3, 60, 16, 15), normal(20, 60, 3, 3, seed=1)
    kernel, buffers, a, b = convolution(x, w, 1, 1, kind)
    expected = chain(np.broadcast_to(a, (*b.shape[:-2], *a.shape)), b).ravel()
    for pieces in (None, 1):
        np.testing.assert_array_equal(run(kernel, buffers, pieces)[-1], expected)


@pytest.mark.parametrize("dtype", [float16, int32], ids=lambda d: d.name)
@pytest.mark.parametrize("kind", ["forward", "weight"])
def test_other_dtypes(kind: str, dtype: DType) -> None:
    x = np.rint(4 * normal(2, 3, 6, 7)).astype(dtype.dtype)
    w = np.rint(4 * normal(5, 3, 3, 3, seed=1)).astype(dtype.dtype)
    kernel, buffers, _, _ = convolution(x, w, 2, 1, kind)
    expected: list[Any] = [b.copy() for b in buffers]
    interpret(kernel, expected)
    np.testing.assert_array_equal(run(kernel, buffers)[-1], expected[-1])


def test_extents_are_no_part_of_the_code() -> None:
    keys = []
    for height, channels in ((30, 64), (34, 72)):
        x, w = normal(2, channels, height, height), normal(64, channels, 3, 3, seed=1)
        (unit,) = contract_units(convolution(x, w, 1, 1, "forward")[0])
        keys.append(unit.key)
    assert keys[0] == keys[1]


def test_an_access_in_pieces_is_printed_and_verified() -> None:
    x, w = normal(2, 3, 5, 5), normal(4, 3, 3, 3, seed=1)
    kernel, *_ = convolution(x, w, 1, 1, "forward")
    assert "pieces 2; 3 3 3; 3 3" in format_kernel(kernel)
    split = ((2,), (3, 3, 3), (3, 3))
    assert Access(0, (0,) * 6, split=split).points((2, 27, 9)) == (2, 3, 3, 3, 3, 3)
    assert window_count(5, 3, 1, 1) == 3
