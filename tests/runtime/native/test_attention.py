"""Attention as machine code: its reference, at every border of a tile, in any layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazygrad.dtypes import as_dtype
from lazygrad.ops.attention import ATTENTION, ATTENTION_BACK
from lazygrad.ops.opdef import OpDef
from lazygrad.runtime.kernel import Access, Extern, Grid, Kernel, Param
from lazygrad.runtime.native.attention import attention_units
from lazygrad.shapes import contiguous_strides
from tests.runtime.native.row_units import Array, run_units

TIMES = st.sampled_from([1, 2, 16, 17, 63, 64, 65, 129])
WIDTHS = st.sampled_from([1, 3, 16, 33])


class Spec:
    def __init__(self, array: Array) -> None:
        self.shape, self.dtype = array.shape, as_dtype(array.dtype)


def run(op: OpDef, arrays: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    """The result of an op on operands with the strides that they have, between red zones."""
    specs = [Spec(a) for a in arrays]
    shape, dtype = op.infer(*specs, **attrs)
    inputs = tuple(
        (Access(k, tuple(s // a.itemsize for s in a.strides)), spec.shape, spec.dtype)
        for k, (a, spec) in enumerate(zip(arrays, specs, strict=True))
    )
    output = Access(len(arrays), contiguous_strides(shape)), shape, dtype
    stage = Extern(op, tuple(sorted(attrs.items())), inputs, output)
    out = np.zeros(shape, dtype.dtype)
    params = [Param(s.dtype, a.size, "in") for s, a in zip(specs, arrays, strict=True)]
    kernel = Kernel("test", (*params, Param(dtype, out.size, "out")), (), Grid(), (stage,))
    memory = [(a if a.base is None else a.base).reshape(-1) for a in arrays]
    found, _ = run_units(kernel, [*memory, out.reshape(-1)], units=attention_units(kernel, stage))
    result: Array = found[-1].reshape(shape)
    return result


def operands(
    seed: int, time: int, source: int, width: int, depth: int, kind: type = np.float32
) -> list[Array]:
    """Queries of four heads, keys and values of two; queries and values have time before heads."""
    rng = np.random.default_rng(seed)
    q, k, v = (
        np.array(rng.normal(size=shape), kind)
        for shape in [(2, time, 4, width), (2, 2, source, width), (2, source, 2, depth)]
    )
    return [q.transpose(0, 2, 1, 3), k, v.transpose(0, 2, 1, 3)]


def check(arrays: Sequence[Array], attrs: Mapping[str, Any], close: float) -> None:
    """Compare both passes with their references."""
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    out = ATTENTION.reference(*wide, **attrs)
    np.testing.assert_allclose(run(ATTENTION, arrays, attrs), out, rtol=close, atol=close)
    g = np.random.default_rng(5).normal(size=out.shape)
    expected = ATTENTION_BACK.reference(g, out, *wide, **attrs)
    given = [x.astype(arrays[0].dtype) for x in (g, out)]
    found = run(ATTENTION_BACK, [*given, *arrays], attrs)
    np.testing.assert_allclose(found, expected, rtol=20 * close, atol=20 * close)


@given(TIMES, TIMES, WIDTHS, WIDTHS, st.booleans())
def test_both_passes_at_the_borders_of_tiles(
    time: int, source: int, width: int, depth: int, causal: bool
) -> None:
    check(operands(0, time, source, width, depth), {"causal": causal, "scale": 0.5}, 1e-5)


@pytest.mark.parametrize(
    ("shape", "flags"),
    [
        ((2, 4, 70, 130), True), ((1, 1, 70, 130), False), ((2, 1, 1, 130), False),
        ((1, 4, 70, 1), True),
    ],
)  # fmt: skip
def test_masks_of_every_form(shape: tuple[int, ...], flags: bool) -> None:
    rng = np.random.default_rng(1)
    mask = rng.random(shape) > 0.4 if flags else rng.normal(size=shape)
    if flags and shape[3] > 1:
        mask[0, 0, 0] = False  # a query that sees nothing
    kind = np.float64 if shape == (2, 4, 70, 130) else np.float32
    mask = mask if flags else mask.astype(kind)
    arrays = [*operands(1, 70, 130, 5, 6, kind), mask]
    check(arrays, {"causal": False, "scale": 0.5}, 1e-12 if kind is np.float64 else 1e-5)


def test_no_keys_give_zeros() -> None:
    check(operands(2, 3, 0, 4, 5), {"causal": False, "scale": 0.5}, 0.0)


def test_scores_far_apart_stay_finite() -> None:
    """The largest score comes last, so all that was added up before is scaled to nothing."""
    q, k, v = operands(3, 5, 200, 8, 4)
    k[:, :, 150] *= 200
    check([q, k, v], {"causal": False, "scale": 1.0}, 1e-4)


def test_bits_do_not_depend_on_layouts() -> None:
    attrs = {"causal": True, "scale": 0.3}
    arrays = operands(4, 70, 70, 7, 9)
    dense = [a.copy(order="C") for a in arrays]
    out = run(ATTENTION, arrays, attrs)
    assert out.tobytes() == run(ATTENTION, dense, attrs).tobytes()
    back = [run(ATTENTION_BACK, [out, out, *x], attrs).tobytes() for x in (arrays, dense)]
    assert back[0] == back[1]
