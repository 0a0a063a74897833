"""Contraction: the (batched) matrix product, from which einsum, linear, outer... are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lazygrad.dtypes import BOOL, DType, as_dtype
from lazygrad.errors import DTypeError, ShapeError
from lazygrad.ops.opdef import (
    Array,
    Kind,
    OpDef,
    Precision,
    Promotion,
    Sample,
    Spec,
    accumulator,
    register,
)
from lazygrad.shapes import Shape, broadcast


def compact(shape: Shape) -> str:
    """A shape as error messages print it.

    >>> compact((32, 784)), compact((3,))
    ('(32,784)', '(3,)')
    """
    return f"({shape[0]},)" if len(shape) == 1 else f"({','.join(map(str, shape))})"


def _infer(a: Spec, b: Spec) -> tuple[Shape, DType]:
    x, y = a.shape, b.shape
    if len(x) < 2 or len(y) < 2:
        raise ShapeError(f"matmul: {compact(x)} @ {compact(y)}: operands need two dimensions")
    if x[-1] != y[-2]:
        hint = ""
        if x[-1] == y[-1]:
            hint = "; did you mean w.T?" if len(y) == 2 else "; did you mean w.mT?"
        elif x[-2] == y[-2]:
            hint = "; did you mean x.T @ w?" if len(x) == 2 else "; did you mean x.mT @ w?"
        raise ShapeError(f"matmul: {compact(x)} @ {compact(y)}: inner {x[-1]} != {y[-2]}{hint}")
    if a.dtype.category == BOOL:
        raise DTypeError("matmul takes integer or floating tensors, got bool")
    if x[:-2] == y[:-2]:
        batch = x[:-2]
    else:
        try:
            batch = broadcast(x[:-2], y[:-2])
        except ShapeError as error:
            raise ShapeError(f"matmul: {compact(x)} @ {compact(y)}: batch {error}") from None
    return (*batch, x[-2], y[-1]), a.dtype


def _reference(a: Array, b: Array) -> Array:
    wide = accumulator(as_dtype(a.dtype)).dtype
    if a is b:
        b = b.copy()  # BLAS takes another path, with other rounding, for one array twice
    with np.errstate(all="ignore"):
        product = np.matmul(a.astype(wide, copy=False), b.astype(wide, copy=False))
        return np.asarray(product, a.dtype)  # too large for float16: infinite


def _samples(rng: np.random.Generator) -> Iterator[Sample]:
    for left, right in [
        ((2, 3), (3, 4)), ((1, 3), (3, 1)), ((5, 2, 3), (5, 3, 2)), ((2, 1, 2, 3), (4, 3, 2)),
        ((0, 3), (3, 2)), ((2, 0), (0, 2)),
    ]:  # fmt: skip
        yield Sample((rng.uniform(-2, 2, left), rng.uniform(-2, 2, right)))


def _vjp(g: Any, out: Any, a: Any, b: Any) -> Any:
    """The gradient of a transposed operand is a transposed product.

    For `x @ w.T` that gives the gradient of w in the layout of w, instead of one that the update
    has to read against the grain.
    """
    return (
        lambda: (b @ g.mT).mT if a.is_transposed else g @ b.mT,
        lambda: (g.mT @ a).mT if b.is_transposed else a.mT @ g,
    )


MATMUL = register(
    OpDef(
        "matmul", Kind.CONTRACT, _infer, _reference, 2, None,
        _vjp, Promotion.COMMON,
        accumulate_half=True, autocast=Precision.HALF, flops=2, grad_name="MmBackward",
        samples=_samples,
        doc="The matrix product of the last two axes; leading axes broadcast.",
    )
)  # fmt: skip
