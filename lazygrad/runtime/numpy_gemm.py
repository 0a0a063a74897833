"""Matrix products through BLAS whose bits depend on values, shapes and dtypes alone.

BLAS takes transposed operands without a copy, but not without a difference: OpenBLAS has other
kernels for small products and for vectors, which round differently for every layout (found on
20-30 % of random shapes with m n k up to 10**6, on none above). So a product is always that of
operands in C order; another layout goes to BLAS as it is only where a large product, or a probe
of that very case, shows that it makes no difference. One buffer as both operands takes a third
path (`syrk`) and is copied. A vector times a large matrix is padded to a large product instead
of copying the matrix.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygrad.runtime.numpy_plan import NumpyDType, Plan, View, function
from lazygrad.runtime.numpy_words import emit_copy
from lazygrad.shapes import Shape

LARGE = 1_000_000  # products m * n * k above it are free of small-matrix kernels
COPY_LIMIT = 1 << 14  # elements of both operands up to which a vector case copies them
_PROBED = 512  # results compared by a probe

Floats = NDArray[Any]
Matrix = tuple[Shape, tuple[int, int]]  # shape and strides of the last two axes


def emit_gemm(plan: Plan, a: View, b: View, out: View) -> None:
    """Append the statements of `out = a @ b`; `out` is in C order, all have equal rank."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    blas = out.dtype.kind == "f"
    if a.buffer == b.buffer:
        b = _dense(plan, b)
    if blas and min(m, n) == 1 < max(m, n) and k * max(m, n) > COPY_LIMIT:
        _emit_padded(plan, a, b, out)
        return
    if blas and not _free(m, n, k, out.dtype, _matrix(a), _matrix(b)):
        a = a if _ordered(_matrix(a)) else _dense(plan, a)
        b = b if _ordered(_matrix(b)) else _dense(plan, b)
    _emit_product(plan, a, b, out)


def _emit_product(plan: Plan, a: View, b: View, out: View) -> None:
    batch = range(len(out.shape) - 2)
    kept = [i for i in batch if out.shape[i] != 1 or (out.rows > 0 and out.row_axis == i)]
    views = [_without(v, [i for i in batch if i not in kept]) for v in (a, b, out)]
    cut_inside = any(v.rows > 0 and v.row_axis > 0 for v in views)
    if kept or cut_inside:  # `dot` refuses an `out` with gaps
        plan.add("{0}({1}, {2}, {3})", function(np.matmul, "matmul"), *views)
    else:
        plan.add("{0}({1}, {2}, {3})", function(np.dot, "dot"), *views)


def _without(view: View, axes: list[int]) -> View:
    """A view without some axes of extent 1."""
    kept = [i for i in range(len(view.shape)) if i not in axes]
    return View(
        view.buffer, tuple(view.shape[i] for i in kept), tuple(view.strides[i] for i in kept),
        view.offset, view.dtype, view.rows, kept.index(view.row_axis) if view.rows else 0,
        view.chunk_stride,
    )  # fmt: skip


def _dense(plan: Plan, view: View) -> View:
    """A copy in C order."""
    copy = plan.temp(view.shape, view.dtype, view.rows, view.row_axis)
    emit_copy(plan, view, copy)
    return copy


def _emit_padded(plan: Plan, a: View, b: View, out: View) -> None:
    """A vector case as a product that is large enough to take the general path of BLAS."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    pad = max(2, LARGE // (k * max(m, n)) + 1)
    batch, at = out.shape[:-2], -2 if m == 1 else -1

    def widened(view: View, shape: Shape) -> tuple[View, View]:
        """Working memory for `pad` vectors in place of one, and the view of the one."""
        axis = len(shape) + at
        wide = plan.temp(
            tuple(pad if i == axis else e for i, e in enumerate(shape)), view.dtype,
            view.rows, view.row_axis,
        )  # fmt: skip
        one = View(wide.buffer, shape, wide.strides, 0, wide.dtype, view.rows, view.row_axis)
        return wide, one

    vector = a if m == 1 else b
    wide, one = widened(vector, vector.shape)
    result, first = widened(out, (*batch, m, n))
    plan.add("{0}[...] = 0", wide)
    emit_copy(plan, vector, one)
    other = _blas_ready(plan, b if m == 1 else a)
    _emit_product(plan, *((wide, other) if m == 1 else (other, wide)), result)
    emit_copy(plan, first, out)


def _blas_ready(plan: Plan, view: View) -> View:
    return view if _strided(_matrix(view)) else _dense(plan, view)


def _matrix(view: View) -> Matrix:
    """Shape and strides of the matrices, strides of extents below 2 made canonical."""
    rows, columns = view.shape[-2:]
    down, right = view.strides[-2:]
    return (rows, columns), (down if rows > 1 else columns, right if columns > 1 else 1)


def _ordered(matrix: Matrix) -> bool:
    """Whether it is in C order without gaps."""
    (_, columns), strides = matrix
    return strides == (columns, 1) or strides == (max(columns, 1), 1)


def _strided(matrix: Matrix) -> bool:
    """Whether BLAS takes it without a copy: a unit stride, rows or columns that do not overlap."""
    (rows, columns), (down, right) = matrix
    if columns == 1 and right == 1 and rows > 1:
        return down >= 1
    return (right == 1 and down >= max(columns, 1)) or (down == 1 and right >= max(rows, 1))


def _free(m: int, n: int, k: int, dtype: NumpyDType, a: Matrix, b: Matrix) -> bool:
    """Whether these layouts give the bits of C order."""
    if _ordered(a) and _ordered(b):
        return True
    if not (_strided(a) and _strided(b)):
        return False
    if m > 1 and n > 1 and m * n * k > LARGE:
        return True
    return 0 not in (m, n, k) and _probe(a, b, dtype)


def _laid_out(matrix: Matrix, values: Floats) -> Floats:
    """Stacked matrices of these values, each in the layout of `matrix`."""
    shape, strides = matrix
    size = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    base = np.zeros((len(values), size), values.dtype)
    steps = (size, *strides)
    item = values.dtype.itemsize
    array = np.ndarray(values.shape, values.dtype, base, 0, tuple(s * item for s in steps))
    array[...] = values
    return array


@lru_cache(maxsize=4096)
def _probe(a: Matrix, b: Matrix, dtype: NumpyDType) -> bool:
    """Whether random matrices in these layouts multiply to the bits of those in C order."""
    generator = np.random.default_rng(0)
    (m, _), (_, n) = a[0], b[0]
    trials = 1 + _PROBED // (m * n)
    x = generator.standard_normal((trials, *a[0])).astype(dtype)
    y = generator.standard_normal((trials, *b[0])).astype(dtype)
    expected, found = np.matmul(x, y), np.matmul(_laid_out(a, x), _laid_out(b, y))
    return bool(expected.tobytes() == found.tobytes())
