"""Matrix products have the bits of operands in C order, whatever their layout."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from lazygrad.dtypes import float16, float32, float64
from tests.runtime.building import Build
from tests.runtime.running import execute, lower_as, run_all, same, source

pytestmark = pytest.mark.numpy_code


def product(m: int, n: int, k: int, a: str, b: str, dtype: Any = float32) -> np.ndarray[Any, Any]:
    """a @ b with operands laid out in C order, transposed or with gaps."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((m, k)).astype(dtype.dtype)
    y = rng.standard_normal((k, n)).astype(dtype.dtype)
    build, arrays, loads = Build(1), [], []
    for matrix, layout in ((x, a), (y, b)):
        rows, columns = matrix.shape
        size, strides = {
            "C": (rows * columns, (columns, 1)), "T": (rows * columns, (1, rows)),
            "gaps": (rows * (columns + 3), (columns + 3, 1)),
            "back": (rows * columns, (columns, 1)), "steps": (rows * columns * 2, (columns * 2, 2)),
        }[layout]  # fmt: skip
        flat = np.zeros(size, dtype.dtype)
        if layout == "back":
            strides, offset = (-columns, 1), (rows - 1) * columns
        else:
            offset = 0
        view = np.lib.stride_tricks.as_strided(
            flat[offset:], matrix.shape, [s * flat.itemsize for s in strides]
        )
        view[...] = matrix
        loads.append(build.param((size,), dtype=dtype).at(strides, offset))
        arrays.append(flat)
    out = build.param((m, n), "out", dtype)
    arrays.append(np.zeros(m * n, dtype.dtype))
    build.contract((), (m, n, k), *loads, [out.at()], dtype=dtype)
    return execute(lower_as(build.kernel(), "vectorized"), arrays)[2]


@pytest.mark.parametrize("dtype", [float32, float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(23, 35, 43), (56, 55, 65), (1, 41, 51), (22, 1, 40), (1, 1, 61), (5, 7, 1), (1, 300, 200),
     (300, 1, 200), (90, 130, 110)],
)  # fmt: skip
def test_layouts_do_not_change_a_bit(m: int, n: int, k: int, dtype: Any) -> None:
    expected = product(m, n, k, "C", "C", dtype)
    for layouts in ("C T", "T C", "T T", "gaps gaps", "back C", "C steps"):
        same([product(m, n, k, *layouts.split(), dtype)], [expected])


def test_small_products_agree_with_numpy_in_c_order() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(s).astype(np.float32) for s in ((23, 43), (43, 35)))
    np.testing.assert_array_equal(product(23, 35, 43, "T", "T"), (x @ y).ravel())


def test_a_product_with_itself_is_that_of_two_buffers() -> None:
    x = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)
    k = Build(1)
    a, out = k.param((20, 30)), k.param((20, 20), "out")
    k.contract((), (20, 20, 30), a.at(), a.at((1, 30)), [out.at()])
    found = run_all(k.kernel(), [x, np.zeros(400, np.float32)], exact=False)[1]
    np.testing.assert_array_equal(found.reshape(20, 20), x @ np.ascontiguousarray(x.T))


def test_batches_are_cut_without_a_trace() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((6, 5, 4)).astype("f4"), rng.standard_normal((4, 3)).astype("f4")
    k = Build(6, 4)
    a, b, out = k.param((6, 5, 4)), k.param((4, 3)), k.param((6, 5, 3), "out")
    k.contract((6,), (5, 3, 4), a.at(), b.over(None, 0, 1), [out.at()], grid="batch")
    found = run_all(k.kernel(), [x, w, np.zeros((6, 5, 3), "f4")])[2]
    np.testing.assert_array_equal(found, x @ w)


def test_halves_are_accumulated_in_float32() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(s).astype(np.float16) for s in ((5, 400), (400, 6)))
    k = Build(1)
    a, b = k.param((5, 400), dtype=float16), k.param((400, 6), dtype=float16)
    out = k.param((5, 6), "out", float16)
    narrow = lambda m, acc: m.cast(acc, float16)  # noqa: E731
    k.contract((), (5, 6, 400), a.at(), b.at(), [out.at()], epilogue=narrow)
    found = run_all(k.kernel(), [x, y, np.zeros((5, 6), np.float16)])[2]
    np.testing.assert_array_equal(found, (x.astype("f4") @ y.astype("f4")).astype("f2"))


def test_a_product_goes_straight_to_its_output() -> None:
    k = Build(1)
    a, b, bias, out = k.param((5, 4)), k.param((4, 6)), k.param((6,)), k.param((5, 6), "out")
    k.contract((), (5, 6, 4), a.at(), b.at(), [out.at()], loads=[bias.over(None, 0)],
               epilogue=lambda m, acc, bias: m.add(acc, bias))  # fmt: skip
    assert source(k.kernel()) == ["dot(a0, a1, a2)", "add(a2, a3, a2)"]


def test_an_update_of_a_weight_writes_over_the_product() -> None:
    k = Build(1)
    g, x, w = k.param((8, 6)), k.param((8, 4)), k.param((6, 4), "inout")
    k.contract((), (6, 4, 8), g.at((1, 6)), x.at(), [w.at()], loads=[w.at()],
               epilogue=lambda m, acc, w: m.sub(w, m.mul(acc, 0.5)))  # fmt: skip
    text = "\n".join(source(k.kernel()))
    assert re.search(r"dot\(.*\nmultiply\((\w+), k, \1\)\nsubtract\((\w+), \1, \2\)$", text)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype("f4") for s in ((8, 6), (8, 4), (6, 4))]
    found = run_all(k.kernel(), arrays)[2]
    product = np.ascontiguousarray(arrays[0].T) @ arrays[1]
    np.testing.assert_array_equal(found, arrays[2] - product * np.float32(0.5))
