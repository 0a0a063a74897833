"""Convolution and its two gradients: each is bilinear, and the gradients of one are the others.

`conv(x, w)`, `conv_input(g, w)` and `conv_weight(x, g)` take x (batch, channels, *sizes), w
(out, channels / groups, *kernel) and g (batch, out, *counts). The compiler sees none of them:
`expand` writes each as one matrix product over windows (of the larger steps, one for each remainder
of a position), and windows are a view.

Attributes: for each dimension a step, a dilation and the zeros (before, after) around x, of which
negative ones cut; the number of groups; of the gradients, the shape of the operand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from lazygrad.dtypes import BOOL, DType, as_dtype
from lazygrad.errors import DTypeError, ShapeError
from lazygrad.ops.contract import MATMUL
from lazygrad.ops.movement import CAT, PAD, PERMUTE, RESHAPE, SLICE, slice_attrs
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
from lazygrad.ops.windows import WINDOWS, window_count
from lazygrad.shapes import Shape, numel

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def _counts(sizes: Shape, kernel: Shape, steps: Ints, dilations: Ints, pads: Pads) -> Shape:
    """How many windows there are along each dimension."""
    return tuple(
        window_count(n + a + b, k, s, d)
        for n, k, s, d, (a, b) in zip(sizes, kernel, steps, dilations, pads, strict=True)
    )


def _check(name: str, dtype: DType, x: Shape, w: Shape, groups: int) -> None:
    if dtype.category == BOOL:
        raise DTypeError(f"{name} takes integer or floating tensors, got bool")
    if len(x) != len(w) or x[1] != w[1] * groups or w[0] % groups:
        raise ShapeError(f"{name}: input {x} and weight {w} with {groups} groups")


# The vocabulary of `expand`: a value has `shape`, `apply` and `new_zeros`.


def _reshaped(x: Any, shape: Sequence[int]) -> Any:
    return x.apply(RESHAPE, shape=tuple(shape))


def _permuted(x: Any, axes: Sequence[int]) -> Any:
    return x.apply(PERMUTE, axes=tuple(axes))


def _framed(x: Any, pads: Sequence[tuple[int, int]]) -> Any:
    """Zeros around the last dimensions; negative amounts cut."""
    pairs = [(0, 0)] * (len(x.shape) - len(pads)) + list(pads)
    if any(min(pair) < 0 for pair in pairs):
        cut = [
            slice(min(max(-a, 0), n), max(n - max(-b, 0), 0))
            for n, (a, b) in zip(x.shape, pairs, strict=True)
        ]
        x = x.apply(SLICE, **slice_attrs(tuple(cut), x.shape))
    grow = tuple((max(a, 0), max(b, 0)) for a, b in pairs)
    return x.apply(PAD, pads=grow, value=0.0) if any(map(any, grow)) else x


def _windows(x: Any, sizes: Ints, steps: Ints, dilations: Ints, groups: int) -> Any:
    """The windows as (batch, groups, channels, *counts, *sizes)."""
    if any(s != 1 for s in (*sizes, *steps)):
        axes = tuple(range(2, len(x.shape)))
        x = x.apply(WINDOWS, axes=axes, sizes=sizes, steps=steps, dilations=dilations)
    else:
        x = _reshaped(x, (*x.shape, *sizes))
    batch, channels, *rest = x.shape
    return _reshaped(x, (batch, groups, channels // groups, *rest))


def _weighted(
    x: Any, weight: Any, sizes: Ints, steps: Ints, dilations: Ints, backward: bool = False
) -> Any:
    """The product of (groups, out, channels, *sizes) with the windows: (batch, out, *counts).

    With `backward` the last element of a window meets the first tap.
    """
    groups, out, within = weight.shape[:3]
    rank = len(sizes)
    windows = _windows(x, sizes, steps, dilations, groups)
    batch, counts = windows.shape[0], windows.shape[3 : 3 + rank]
    rows = _permuted(windows, (0, 1, 2, *range(3 + rank, 3 + 2 * rank), *range(3, 3 + rank)))
    if backward and numel(sizes) > 1:
        whole, turned = slice(None), slice(None, None, -1)
        cut = (whole,) * 3 + tuple(turned if n > 1 else whole for n in sizes) + (whole,) * rank
        rows = rows.apply(SLICE, **slice_attrs(cut, rows.shape))
    taps, places = within * numel(sizes), numel(counts)
    lead = () if groups == 1 else (groups,)
    right = _reshaped(rows, (batch, *lead, taps, places))
    result = _reshaped(weight, (*lead, out, taps)).apply(MATMUL, right)
    return _reshaped(result, (batch, groups * out, *counts))


# forward


def _conv_infer(
    x: Spec, w: Spec, *, steps: Ints, dilations: Ints, pads: Pads, groups: int
) -> tuple[Shape, DType]:
    _check("conv", x.dtype, x.shape, w.shape, groups)
    counts = _counts(x.shape[2:], w.shape[2:], steps, dilations, pads)
    return (x.shape[0], w.shape[0], *counts), x.dtype


def _conv_expand(
    x: Any, w: Any, *, steps: Ints, dilations: Ints, pads: Pads, groups: int
) -> Any:  # fmt: skip
    out, within, *sizes = w.shape
    weight = _reshaped(w, (groups, out // groups, within, *sizes))
    return _weighted(_framed(x, pads), weight, tuple(sizes), steps, dilations)


def _conv_vjp(g: Any, out: Any, x: Any, w: Any, **attrs: Any) -> Any:
    return (
        lambda: g.apply(CONV_INPUT, w, shape=tuple(x.shape), **attrs),
        lambda: x.apply(CONV_WEIGHT, g, shape=tuple(w.shape), **attrs),
    )


# the gradient of the weight


def _conv_weight_infer(x: Spec, g: Spec, *, shape: Shape, groups: int, **_: Any) -> Any:
    _check("conv_weight", x.dtype, x.shape, shape, groups)
    return shape, x.dtype


def _conv_weight_expand(
    x: Any, g: Any, *, shape: Shape, steps: Ints, dilations: Ints, pads: Pads, groups: int
) -> Any:
    """A row for each output channel, a column for each tap, summed over all windows."""
    out, within, *sizes = shape
    rank = len(sizes)
    windows = _windows(_framed(x, pads), tuple(sizes), steps, dilations, groups)
    counts = windows.shape[3 : 3 + rank]
    batch, places = x.shape[0], x.shape[0] * numel(counts)
    columns = _permuted(windows, (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank)))
    rows = _reshaped(g, (batch, groups, out // groups, numel(counts)))
    rows = _permuted(rows, (1, 2, 0, 3))
    lead = () if groups == 1 else (groups,)
    left = _reshaped(rows, (*lead, out // groups, places))
    right = _reshaped(columns, (*lead, places, within * numel(sizes)))
    return _reshaped(left.apply(MATMUL, right), shape)


def _conv_weight_vjp(v: Any, out: Any, x: Any, g: Any, *, shape: Shape, **attrs: Any) -> Any:
    return (
        lambda: g.apply(CONV_INPUT, v, shape=tuple(x.shape), **attrs),
        lambda: x.apply(CONV, v, **attrs),
    )


# the gradient of the input


def _conv_input_infer(g: Spec, w: Spec, *, shape: Shape, groups: int, **_: Any) -> Any:
    _check("conv_input", g.dtype, shape, w.shape, groups)
    if g.shape[:2] != (shape[0], w.shape[0]):
        raise ShapeError(f"conv_input: {g.shape} of input {shape} and weight {w.shape}")
    return shape, g.dtype


class _Phase(NamedTuple):
    """Along one dimension, what reaches the positions r, r + step, ... of the input.

    These are windows of `size` elements of the output, `dilation` apart, of which the last meets
    the tap `first` of the kernel, the one before it `first` + `stride`. `frame` is what the output
    needs around it.
    """

    size: int
    first: int
    stride: int
    dilation: int
    frame: tuple[int, int]


def _phase(
    r: int, length: int, n: int, count: int, size: int, step: int, dilation: int, pad: int
) -> _Phase:
    """The phase r of `n` positions, which takes `length` of them."""
    taps = [t for t in range(size) if (r + pad - t * dilation) % step == 0]
    if not taps:
        return _Phase(0, 0, 1, 1, (0, 0))
    common = gcd(step, dilation)
    wide = dilation // common
    start = (r + pad - taps[-1] * dilation) // step
    stop = start + length + (len(taps) - 1) * wide
    return _Phase(len(taps), taps[0], step // common, wide, (-start, stop - count))


def _conv_input_expand(
    g: Any, w: Any, *, shape: Shape, steps: Ints, dilations: Ints, pads: Pads, groups: int
) -> Any:
    """The windows of the output that reach an element of the input, backward, times the kernel.

    With larger steps not every tap reaches every element: there is a product for each remainder of
    a position, and the results are put side by side.
    """
    rank = len(steps)
    sizes = shape[2:]
    out, within, *kernel = w.shape
    weight = _reshaped(w, (groups, out // groups, within, *kernel))
    weight = _permuted(weight, (0, 2, 1, *range(3, 3 + rank)))
    lengths = [-(-n // s) for n, s in zip(sizes, steps, strict=True)]

    def part(place: Ints) -> Any:
        phases = [
            _phase(r, length, n, count, k, s, d, pad[0])
            for r, length, n, count, k, s, d, pad in zip(
                place, lengths, sizes, g.shape[2:], kernel, steps, dilations, pads, strict=True
            )
        ]
        if any(p.size == 0 for p in phases):
            return g.new_zeros((shape[0], shape[1], *lengths))
        taps = tuple(
            slice(p.first, p.first + (p.size - 1) * p.stride + 1, p.stride) for p in phases
        )
        whole = (slice(None),) * 3
        cut = weight.apply(SLICE, **slice_attrs((*whole, *taps), weight.shape))
        framed = _framed(g, [p.frame for p in phases])
        each = tuple(p.size for p in phases)
        apart = tuple(p.dilation for p in phases)
        return _weighted(framed, cut, each, (1,) * rank, apart, backward=True)

    parts = {place: part(place) for place in product(*map(range, steps))}
    return _framed(
        _interleaved(parts, steps, lengths),
        [(0, n - length * s) for n, length, s in zip(sizes, lengths, steps, strict=True)],
    )


def _interleaved(parts: dict[Ints, Any], steps: Ints, lengths: Sequence[int]) -> Any:
    """Parts of which position q along a dimension is position q * step + remainder of the whole."""
    if len(parts) == 1:
        (only,) = parts.values()
        return only
    rank = len(steps)
    batch, channels = next(iter(parts.values())).shape[:2]
    spread = [n for length in lengths for n in (length, 1)]
    parts = {p: _reshaped(x, (batch, channels, *spread)) for p, x in parts.items()}
    for dimension in reversed(range(rank)):
        rows: dict[Ints, list[Any]] = {}
        for place, x in parts.items():
            rows.setdefault(place[:dimension], []).append(x)
        axis = 3 + 2 * dimension
        parts = {
            p: xs[0].apply(CAT, *xs[1:], axis=axis) if len(xs) > 1 else xs[0]
            for p, xs in rows.items()
        }
    whole = [length * s for length, s in zip(lengths, steps, strict=True)]
    return _reshaped(parts[()], (batch, channels, *whole))


def _conv_input_vjp(h: Any, out: Any, g: Any, w: Any, *, shape: Shape, **attrs: Any) -> Any:
    return (
        lambda: h.apply(CONV, w, **attrs),
        lambda: h.apply(CONV_WEIGHT, g, shape=tuple(w.shape), **attrs),
    )


# references: tap by tap


def _each_tap(
    shape: Shape, kernel: Shape, counts: Shape, steps: Ints, dilations: Ints, pads: Pads
) -> Iterator[tuple[Ints, tuple[slice, ...], tuple[slice, ...]]]:
    """Each tap of the kernel, and which elements of x it joins with which windows."""
    for tap in np.ndindex(*kernel):
        inside, windows = [], []
        for t, n, count, s, d, (before, _) in zip(
            tap, shape[2:], counts, steps, dilations, pads, strict=True
        ):
            start = t * d - before
            low = max(-(start // s), 0)
            high = min((n - 1 - start) // s + 1, count)
            windows.append(slice(low, max(high, low)))
            first = start + low * s
            inside.append(slice(first, first + max(high - low - 1, 0) * s + 1, s)
                          if high > low else slice(0, 0))  # fmt: skip
        yield tap, tuple(inside), tuple(windows)


def _reference(
    equation: str, target: str, shapes: tuple[Shape, Shape, Shape], x: Array | None,
    w: Array | None, g: Array | None, groups: int, dtype: Any, **attrs: Any,
) -> Array:  # fmt: skip
    """Sum over the taps what `equation` says about x, w and g, of which `target` is missing."""
    wide = accumulator(as_dtype(dtype)).dtype
    sx, sw, sg = shapes
    batch, out, within = sx[0], sw[0], sw[1]
    found: dict[str, Any] = {
        "x": np.zeros((batch, groups, within, *sx[2:]), wide),
        "w": np.zeros((groups, out // groups, *sw[1:]), wide),
        "g": np.zeros((batch, groups, out // groups, *sg[2:]), wide),
    }
    for name, given in (("x", x), ("w", w), ("g", g)):
        if given is not None:
            found[name] = given.astype(wide).reshape(found[name].shape)
    with np.errstate(all="ignore"):
        for tap, inside, windows in _each_tap(sx, sw[2:], sg[2:], **attrs):
            parts = {
                "x": found["x"][(..., *inside)], "g": found["g"][(..., *windows)],
                "w": found["w"][(..., *tap)],
            }  # fmt: skip
            given_parts = [
                p if name == "w" else p.reshape((*p.shape[:3], -1))
                for name, p in parts.items() if name != target
            ]  # fmt: skip
            parts[target] += np.einsum(equation, *given_parts).reshape(parts[target].shape)
        shape = {"x": sx, "w": sw, "g": sg}[target]
        return np.asarray(found[target].reshape(shape).astype(dtype))


def _conv_reference(x: Array, w: Array, **attrs: Any) -> Array:
    plain = {k: v for k, v in attrs.items() if k != "groups"}
    counts = _counts(x.shape[2:], w.shape[2:], **plain)
    shapes = (x.shape, w.shape, (x.shape[0], w.shape[0], *counts))
    return _reference("bgcp,goc->bgop", "g", shapes, x, w, None, dtype=x.dtype, **attrs)


def _conv_weight_reference(x: Array, g: Array, *, shape: Shape, **attrs: Any) -> Array:
    shapes = (x.shape, shape, g.shape)
    return _reference("bgcp,bgop->goc", "w", shapes, x, None, g, dtype=x.dtype, **attrs)


def _conv_input_reference(g: Array, w: Array, *, shape: Shape, **attrs: Any) -> Array:
    shapes = (shape, w.shape, g.shape)
    return _reference("bgop,goc->bgcp", "x", shapes, None, w, g, dtype=g.dtype, **attrs)


_CASES: list[tuple[Shape, Shape, dict[str, Any]]] = [
    ((2, 3, 5), (4, 3, 3), {"steps": (1,), "dilations": (1,), "pads": ((1, 1),), "groups": 1}),
    (
        (2, 4, 6, 5), (6, 2, 3, 2),
        {"steps": (2, 1), "dilations": (1, 2), "pads": ((1, 1), (0, 1)), "groups": 2},
    ),
    (
        (1, 2, 7, 4), (2, 2, 1, 1),
        {"steps": (3, 2), "dilations": (1, 1), "pads": ((0, 0), (0, 0)), "groups": 1},
    ),
    (
        (1, 3, 6, 6), (3, 1, 3, 3),
        {"steps": (2, 3), "dilations": (2, 1), "pads": ((2, 1), (0, 0)), "groups": 3},
    ),
]  # fmt: skip


def _samples(name: str) -> Any:
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for x, w, attrs in _CASES:
            plain = {k: v for k, v in attrs.items() if k != "groups"}
            g = (x[0], w[0], *_counts(x[2:], w[2:], **plain))
            shapes = {"conv": (x, w), "conv_weight": (x, g), "conv_input": (g, w)}[name]
            more = {"conv": {}, "conv_weight": {"shape": w}, "conv_input": {"shape": x}}[name]
            yield Sample(tuple(rng.uniform(-2, 2, s) for s in shapes), attrs | more)

    return samples


def _record(name: str, infer: Any, reference: Any, vjp: Any, expand: Any, doc: str) -> OpDef:
    return register(
        OpDef(
            name, Kind.CONTRACT, infer, reference, 2, None, vjp, Promotion.COMMON, expand=expand,
            accumulate_half=True, autocast=Precision.HALF, flops=2, grad_name="ConvolutionBackward",
            samples=_samples(name), doc=doc,
        )
    )  # fmt: skip


CONV = _record(
    "conv", _conv_infer, _conv_reference, _conv_vjp, _conv_expand,
    "The windows of (batch, channels, *sizes) times (out, channels / groups, *kernel).",
)  # fmt: skip
CONV_WEIGHT = _record(
    "conv_weight", _conv_weight_infer, _conv_weight_reference, _conv_weight_vjp,
    _conv_weight_expand, "The gradient of a convolution for its weight, of x and the output's g.",
)  # fmt: skip
CONV_INPUT = _record(
    "conv_input", _conv_input_infer, _conv_input_reference, _conv_input_vjp, _conv_input_expand,
    "The gradient of a convolution for its input, of the output's g and the weight.",
)  # fmt: skip
