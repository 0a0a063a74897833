"""Ops with several results: packed factors.

An op has one result, a factorization several: they come flattened, side by side in one last axis,
with a status behind them (0, or 1 where LAPACK gave up). `factors` takes that apart again, after a
check of the status that runs before any state is written. So each factorization is computed once,
whichever of its factors are read, and its gradient is one formula over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lazygrad.dtypes import DType, float32, float64
from lazygrad.errors import DTypeError, LinalgError, ShapeError
from lazygrad.ops.opdef import Array, Kind, OpDef, Precision, Sample, Spec, register
from lazygrad.shapes import Shape, broadcast, numel

Shapes = Callable[..., tuple[Shape, ...]]
Parts = list[Any]


def of_matrices(name: str, *inputs: Spec, square: bool = False) -> None:
    """Raise unless the inputs are (batches of) matrices of float32 or float64."""
    for x in inputs:
        if x.dtype not in (float32, float64):
            raise DTypeError(
                f"linalg.{name} takes float32 or float64 tensors, got {x.dtype}; use .float() first"
            )
        if len(x.shape) < 2:
            raise ShapeError(f"linalg.{name}: a matrix has two dimensions, got shape {x.shape}")
    if square and inputs[0].shape[-1] != inputs[0].shape[-2]:
        raise ShapeError(f"linalg.{name}: the matrix must be square, got shape {inputs[0].shape}")


# packing


def _check_infer(packed: Spec, *, what: str) -> tuple[Shape, DType]:
    return packed.shape, packed.dtype


def check_factors(packed: Array, *, what: str) -> Array:
    """Return packed factors, or raise `LinalgError` where their status says that there are none."""
    failed = np.flatnonzero(packed[..., -1] > 0.5)
    if len(failed):
        batch = np.unravel_index(failed[0], packed.shape[:-1])
        place = f" of batch element {tuple(int(i) for i in batch)}" if batch else ""
        raise LinalgError(what.format(place=place))
    return packed


def _check_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in [(3,), (2, 4)]:
        packed = rng.uniform(-2, 2, shape)
        packed[..., -1] = 0
        yield Sample((packed,), {"what": "no factors"})


CHECK_FACTORS = register(
    OpDef(
        "check_factors", Kind.EFFECT, _check_infer, check_factors, vjp=lambda g, out, x, what: (g,),
        samples=_check_samples, flops=0, grad_name="FactorsBackward",
        doc="Packed factors themselves, after a check that they could be computed.",
    )
)  # fmt: skip


def _packed(parts: Sequence[Array], batch: Shape, dtype: Any) -> Array:
    """Arrays side by side."""
    flat = [p.reshape((*batch, numel(p.shape[len(batch) :]))) for p in parts]
    return np.concatenate(flat, -1, dtype=dtype)


class Factorization(NamedTuple):
    """An op with packed factors: their shapes after the batch, and what to say without them."""

    op: OpDef
    shapes: Shapes
    complaint: str

    def unpack(self, packed: Any, *inputs: Spec, **attrs: Any) -> Parts:
        """The factors, and the status."""
        parts, at = [], 0
        for shape in (*self.shapes(*inputs, **attrs), ()):
            piece = packed.narrow(-1, at, numel(shape))
            parts.append(piece.reshape((*packed.shape[:-1], *shape)))
            at += numel(shape)
        return parts


def factors(of: Factorization, x: Any, *others: Any, **attrs: Any) -> Parts:
    """The factors of `x` as tensors; without them the program raises before it writes."""
    packed = x.apply(of.op, *others, **attrs).apply(CHECK_FACTORS, what=of.complaint)
    return of.unpack(packed, x, *others, **attrs)[:-1]


def factors_and_status(of: Factorization, x: Any, *others: Any, **attrs: Any) -> Parts:
    """The factors of `x`, NaN where there are none, and their status."""
    return of.unpack(x.apply(of.op, *others, **attrs), x, *others, **attrs)


def factorization(
    name: str, shapes: Shapes, compute: Callable[..., Sequence[Array]], vjp: Any, samples: Any,
    complaint: str, *, arity: int = 1, square: bool = False, **facts: Any,
) -> Factorization:  # fmt: skip
    """Register an op whose parts `compute` gives for a batch of matrices, or LAPACK's error."""

    def batch_of(inputs: Sequence[Spec]) -> Shape:
        return broadcast(*[x.shape[:-2] for x in inputs])

    def infer(*inputs: Spec, **attrs: Any) -> tuple[Shape, DType]:
        of_matrices(name, *inputs, square=square)
        count = sum(map(numel, shapes(*inputs, **attrs)))
        return (*batch_of(inputs), count + 1), inputs[0].dtype

    def one(inputs: Sequence[Array], attrs: Any) -> list[Array]:
        try:
            return [*compute(*inputs, **attrs), np.zeros(())]
        except np.linalg.LinAlgError:
            wanted = shapes(*inputs, **attrs)
            return [*(np.full(shape, np.nan) for shape in wanted), np.ones(())]

    def reference(*inputs: Array, **attrs: Any) -> Array:
        batch = batch_of(inputs)
        with np.errstate(all="ignore"):
            try:
                parts = [*compute(*inputs, **attrs), np.zeros(batch)]
            except np.linalg.LinAlgError:  # which of them?
                wide = [np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in inputs]
                each = [one([x[i] for x in wide], attrs) for i in np.ndindex(*batch)]
                parts = [
                    np.stack(p).reshape((*batch, *p[0].shape)) for p in zip(*each, strict=True)
                ]
        return _packed(parts, batch, inputs[0].dtype)

    op = OpDef(
        "linalg_" + name, Kind.OPAQUE, infer, reference, arity, None,
        lambda g, out, *inputs, **attrs: vjp(
            found.unpack(g, *inputs, **attrs), found.unpack(out, *inputs, **attrs), *inputs, **attrs
        ),
        flops=10, samples=samples, autocast=Precision.SINGLE,
        grad_name=f"Linalg{name.title()}Backward", **facts,
    )  # fmt: skip
    found = Factorization(register(op), shapes, f"linalg.{name}: {complaint}")
    return found
