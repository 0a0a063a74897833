"""Effects: nodes that must run even when nobody reads them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from lazygrad.dtypes import INTEGER, DType
from lazygrad.errors import DTypeError, IndexOutOfRangeError
from lazygrad.ops.opdef import Array, Kind, OpDef, Sample, Spec, register
from lazygrad.shapes import Shape


def _infer(
    x: Spec, *, low: int, high: int, what: str, of: str = "", ignore: int | None = None
) -> tuple[Shape, DType]:
    if x.dtype.category != INTEGER:
        raise DTypeError(f"{what} must be integers, got {x.dtype}")
    return x.shape, x.dtype


def check_index(
    x: Array, *, low: int, high: int, what: str, of: str = "", ignore: int | None = None
) -> Array:  # fmt: skip
    """Return `x`, or raise `IndexOutOfRangeError` naming the first element outside [low, high).

    `what` is indexed ("label"), `of` what it belongs to; elements equal to `ignore` are let pass.

    >>> check_index(np.array([0, 3]), low=0, high=3, what="label")
    Traceback (most recent call last):
    lazygrad.errors.IndexOutOfRangeError: label 3 at position 1 is out of range [0, 3)
    """
    if x.size == 0 or (x.min() >= low and x.max() < high):
        return x
    bad = (x < low) | (x >= high)
    if ignore is not None:
        bad &= x != ignore
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        place = f" at position {where[0] if len(where) == 1 else where}" if where else ""
        limits = of or f"[{low}, {high})"
        raise IndexOutOfRangeError(f"{what} {int(x[where])}{place} is out of range {limits}")
    return x


def _samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in [(), (3,), (2, 2), (0,)]:
        index = rng.integers(0, 4, shape)
        yield Sample((np.asarray(index),), {"low": 0, "high": 4, "what": "label"})


CHECK_INDEX = register(
    OpDef(
        "check_index", Kind.EFFECT, _infer, check_index, samples=_samples, flops=0,
        doc="The input itself, after a check that all its elements lie in [low, high).",
    )
)  # fmt: skip


def _print_infer(*inputs: Spec, text: str) -> tuple[Shape, DType]:
    if not inputs:
        raise DTypeError("debug.print takes at least one tensor")
    return inputs[0].shape, inputs[0].dtype


def write_values(*arrays: Array, text: str) -> Array:
    """Write `text.format(*arrays)` as a line to standard output; returns the first array."""
    sys.stdout.write(text.format(*arrays) + "\n")
    return arrays[0]


def _print_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in [(), (2, 2), (0,)]:
        yield Sample((rng.standard_normal(shape),), {"text": "{}"})


DEBUG_PRINT = register(
    OpDef(
        "debug_print", Kind.EFFECT, _print_infer, write_values, arity=None, observable=True,
        samples=_print_samples, flops=0,
        doc="The first input itself, after its values were printed: each time it runs.",
    )
)  # fmt: skip
