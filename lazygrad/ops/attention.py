"""Attention as one op, forward and backward: the matrix of weights exists a tile at a time only.

Queries are (batch, heads, time, width), keys (batch, shared, source, width) and values (batch,
shared, source, depth); `heads` is a multiple of `shared`, and consecutive heads share their keys.
A mask broadcasts to (batch, heads, time, source): bools say what is seen, numbers are added. With
`causal` query t sees the keys 0..t. A query that sees nothing gets zeros. The result is (batch,
time, heads, depth): time comes first, so that merging the heads copies nothing.

The method is that of Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018),
and Dao et al., "FlashAttention" (2022).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from lazygrad.dtypes import BOOL, DType, float32, float64
from lazygrad.errors import DTypeError, ShapeError
from lazygrad.ops.opdef import Array, Kind, OpDef, Sample, Spec, register
from lazygrad.shapes import Shape

_ROWS = 256  # queries that the reference looks at together


def _check(q: Spec, k: Spec, v: Spec, mask: Spec | None) -> None:
    """Raise unless the operands fit each other."""
    shapes = f"query {q.shape}, key {k.shape}, value {v.shape}"
    if not len(q.shape) == len(k.shape) == len(v.shape) == 4:
        raise ShapeError(f"attention takes operands of four dimensions, got {shapes}")
    if q.shape[3] != k.shape[3] or k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0]:
        raise ShapeError(f"attention: {shapes} do not fit each other")
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        raise ShapeError(f"attention: {shapes}: heads of queries are no multiple of those of keys")
    if not all(x.dtype is q.dtype for x in (k, v)) or q.dtype not in (float32, float64):
        raise DTypeError(f"attention takes float32 or float64, got {q.dtype} {k.dtype} {v.dtype}")
    if mask is not None:
        whole = (*q.shape[:3], k.shape[2])
        fits = len(mask.shape) == 4 and all(
            n in (1, m) for n, m in zip(mask.shape, whole, strict=True)
        )
        if not fits:
            raise ShapeError(f"attention: a mask of shape {mask.shape} for weights {whole}")
        if mask.dtype is not q.dtype and mask.dtype.category != BOOL:
            raise DTypeError(f"attention: a mask is bool or {q.dtype}, got {mask.dtype}")


def _infer(
    q: Spec, k: Spec, v: Spec, mask: Spec | None = None, *, causal: bool, scale: float
) -> tuple[Shape, DType]:  # fmt: skip
    _check(q, k, v, mask)
    batch, heads, time, _ = q.shape
    return (batch, time, heads, v.shape[3]), q.dtype


def _work(q: Spec, k: Spec, v: Spec, *mask: Spec, causal: bool, scale: float) -> float:
    """Two products, and some ten operations for each weight."""
    weights: int = math.prod((*q.shape[:3], k.shape[2]))
    each: int = 2 * (q.shape[3] + v.shape[3]) + 10
    return weights * each * (0.5 if causal else 1.0)


# the reference: one head at a time, some rows of its weights at a time


def _weights(
    q: Array, k: Array, mask: Array | None, first: int, causal: bool, scale: float
) -> Array:  # fmt: skip
    """The weights of some queries, the first of which is number `first`."""
    scores = (q @ np.ascontiguousarray(k.T)) * q.dtype.type(scale)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        rows, columns = np.ogrid[first : first + len(q), : len(k)]
        scores = np.where(columns <= rows, scores, -np.inf)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(top > -np.inf, top, 0.0).astype(q.dtype))
    total = e.sum(-1, keepdims=True)
    return np.asarray(e / np.where(total == 0, 1.0, total), q.dtype)


def _pieces(
    q: Array, k: Array, mask: tuple[Array, ...]
) -> Iterator[tuple[tuple[int, int], int, slice, Array | None]]:
    """For each head and some of its queries: (batch, head), head of keys, rows, their mask."""
    groups = q.shape[1] // k.shape[1]
    whole = np.broadcast_to(mask[0], (*q.shape[:3], k.shape[2])) if mask else None
    for b, h in np.ndindex(*q.shape[:2]):
        for start in range(0, q.shape[2], _ROWS):
            rows = slice(start, start + _ROWS)
            yield (b, h), h // groups, rows, None if whole is None else whole[b, h, rows]


def _reference(
    q: Array, k: Array, v: Array, *mask: Array, causal: bool, scale: float
) -> Array:  # fmt: skip
    result = np.zeros((q.shape[0], q.shape[2], q.shape[1], v.shape[3]), q.dtype)
    with np.errstate(all="ignore"):
        for (b, h), shared, rows, part in _pieces(q, k, mask):
            x, keys = np.ascontiguousarray(q[b, h, rows]), k[b, shared]
            p = _weights(x, keys, part, rows.start, causal, scale)
            result[b, rows, h] = p @ np.ascontiguousarray(v[b, shared])
    return result


# gradients


def seen_weights(scores: Any, mask: Any, causal: bool) -> Any:
    """The softmax of (..., time, source) scores over the keys that are seen; 0 where none is.

    In tensor vocabulary. A boolean mask is true where attention is allowed, numbers are added.
    """
    if causal:
        rows = scores._iota((scores.shape[-2], 1), 0)
        columns = scores._iota((1, scores.shape[-1]), 1)
        scores = scores.where(columns <= rows, -math.inf)
    if mask is not None:
        flags = not mask.dtype.is_floating_point
        scores = scores.where(mask != 0, -math.inf) if flags else scores + mask
    if mask is None:  # every query sees a key
        return scores.softmax(-1)
    top = scores.detach().amax(-1, keepdim=True)
    e = (scores - top.where(top > -math.inf, 0.0)).exp()
    total = e.sum(-1, keepdim=True)
    return e / total.where(total > 0, 1.0)


class _Whole:
    """Operands with the heads that share keys beside each other, and all weights, as tensors.

    Only what has no kernel needs the weights: gradients of masks, gradients of gradients.
    """

    def __init__(self, q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float) -> None:
        self.groups = (k.shape[1], q.shape[1] // k.shape[1])
        self.q, self.k, self.v = self.split(q), k.unsqueeze(2), v.unsqueeze(2)
        shared = None if mask is None else self.split(mask)
        self.p = seen_weights(self.q @ self.k.mT * scale, shared, causal)

    def split(self, x: Any) -> Any:
        """The heads as two axes: those of the keys, and those that share one."""
        groups = self.groups if x.shape[1] > 1 else (1, 1)
        return x.reshape((x.shape[0], *groups, *x.shape[2:]))

    def joined(self, x: Any) -> Any:
        """The heads as one axis again."""
        return x.reshape((x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:]))

    def scores(self, p: Any) -> Any:
        """The cotangent of the scores, from that of the weights."""
        return self.p * (p - (p * self.p).sum(-1, keepdim=True))


def _vjp(
    g: Any, out: Any, q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool, scale: float
) -> Any:  # fmt: skip
    attrs: dict[str, Any] = {"causal": causal, "scale": scale}
    given = (q, k, v) if mask is None else (q, k, v, mask)

    @functools.cache
    def back() -> Any:
        return _unpacked(g.apply(ATTENTION_BACK, out, *given, **attrs), q, k, v)

    def of_mask() -> Any:
        whole = _Whole(q, k, v, mask, **attrs)
        weights = whole.split(g.transpose(1, 2)) @ whole.v.mT
        return whole.joined(whole.scores(weights))

    grads = [lambda: back()[0], lambda: back()[1], lambda: back()[2]]
    return grads if mask is None else [*grads, of_mask]


ATTRS = [(False, 0.5), (True, 0.7)]


def _samples(rng: np.random.Generator) -> Iterator[Sample]:
    for number, (q, k, depth, mask) in enumerate([
        ((1, 2, 3, 4), (1, 2, 5, 4), 2, None), ((2, 4, 3, 2), (2, 2, 3, 2), 3, (2, 1, 3, 3)),
        ((1, 1, 1, 1), (1, 1, 1, 1), 1, None), ((1, 2, 2, 3), (1, 1, 4, 3), 3, (1, 2, 1, 4)),
    ]):  # fmt: skip
        arrays: list[Array] = [rng.uniform(-2, 2, s) for s in (q, k, (*k[:3], depth))]
        if mask is not None:
            arrays.append(rng.uniform(-2, 2, mask) if number == 1 else rng.random(mask) > 0.3)
        causal, scale = ATTRS[number % 2]
        yield Sample(tuple(arrays), {"causal": causal, "scale": scale})


ATTENTION = register(
    OpDef(
        "attention", Kind.OPAQUE, _infer, _reference, None, None, _vjp, reads="rows", work=_work,
        samples=_samples, grad_name="ScaledDotProductAttentionBackward",
        doc="softmax(q @ k.mT * scale + mask) @ v for each head, time before heads.",
    )
)  # fmt: skip


def _unpacked(packed: Any, q: Any, k: Any, v: Any) -> list[Any]:
    """The gradients of queries, keys and values, which lie one after the other."""
    parts, start = [], 0
    for x in (q, k, v):
        batch, heads, time, width = x.shape
        count = math.prod(x.shape)
        part = packed[start : start + count].reshape((batch, time, heads, width))
        parts.append(part.transpose(1, 2))
        start += count
    return parts


def _back_infer(
    g: Spec, out: Spec, q: Spec, k: Spec, v: Spec, mask: Spec | None = None, *, causal: bool,
    scale: float,
) -> tuple[Shape, DType]:  # fmt: skip
    _check(q, k, v, mask)
    wanted = (q.shape[0], q.shape[2], q.shape[1], v.shape[3])
    if g.shape != wanted or out.shape != wanted:
        raise ShapeError(f"attention: gradient {g.shape} and result {out.shape} of {wanted}")
    return (sum(math.prod(x.shape) for x in (q, k, v)),), q.dtype


def _back_work(
    g: Spec, out: Spec, q: Spec, k: Spec, v: Spec, *mask: Spec, causal: bool, scale: float
) -> float:
    """Five products; six where the statistics of the rows take a pass of their own."""
    weights: int = math.prod((*q.shape[:3], k.shape[2]))
    each: int = 2 * (3 * q.shape[3] + 2 * v.shape[3]) + 14
    return weights * each * (0.5 if causal else 1.0)


def _back_reference(
    g: Array, out: Array, q: Array, k: Array, v: Array, *mask: Array, causal: bool, scale: float
) -> Array:  # fmt: skip
    grads = [np.zeros((x.shape[0], x.shape[2], x.shape[1], x.shape[3]), q.dtype) for x in (q, k, v)]
    with np.errstate(all="ignore"):
        for (b, h), shared, rows, part in _pieces(q, k, mask):
            keys, values = np.ascontiguousarray(k[b, shared]), np.ascontiguousarray(v[b, shared])
            x, y = np.ascontiguousarray(q[b, h, rows]), np.ascontiguousarray(g[b, rows, h])
            p = _weights(x, keys, part, rows.start, causal, scale)
            inner = (y * out[b, rows, h]).sum(-1, keepdims=True)
            scores = p * (y @ np.ascontiguousarray(values.T) - inner) * q.dtype.type(scale)
            grads[0][b, rows, h] = scores @ keys
            grads[1][b, :, shared] += np.ascontiguousarray(scores.T) @ x
            grads[2][b, :, shared] += np.ascontiguousarray(p.T) @ y
    return np.concatenate([a.ravel() for a in grads])


def _back_vjp(
    g: Any, packed: Any, y: Any, out: Any, q: Any, k: Any, v: Any, mask: Any = None, *,
    causal: bool, scale: float,
) -> Any:  # fmt: skip
    """Through the weights, which this composes: the gradient of a gradient is no hot path.

    With cotangents a, b, c of the three gradients, the weights P, dP = Y V^T and the row sums D of
    Y * out: dS = P (dP - D) has the cotangent U = scale (a K^T + Q b^T), and so on.
    """

    @functools.cache
    def parts() -> dict[str, Any]:
        w = _Whole(q, k, v, mask, causal, scale)
        a, b, c = _unpacked(g, q, k, v)
        a, b, c = w.split(a), b.unsqueeze(2), c.unsqueeze(2)
        yy, oo = (w.split(x.transpose(1, 2)) for x in (y, out))
        dp = yy @ w.v.mT - (yy * oo).sum(-1, keepdim=True)
        u = (a @ w.k.mT + w.q @ b.mT) * scale
        up, ds = u * w.p, w.p * dp
        inner = up.sum(-1, keepdim=True)
        more = w.scores(u * dp + yy @ c.mT)
        return {
            "y": w.joined(up @ w.v + w.p @ c - inner * oo).transpose(1, 2),
            "out": w.joined(-inner * yy).transpose(1, 2),
            "q": w.joined((ds @ b + more @ w.k) * scale),
            "k": ((ds.mT @ a + more.mT @ w.q) * scale).sum(2),
            "v": (up.mT @ yy).sum(2),
            "mask": w.joined(more),
        }

    names = ["y", "out", "q", "k", "v", *([] if mask is None else ["mask"])]
    return [functools.partial(lambda name: parts()[name], name) for name in names]


def _back_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _samples(rng):
        arrays, attrs = sample.arrays, dict(sample.attrs)
        out = _reference(*arrays, **attrs)
        yield Sample((rng.uniform(-2, 2, out.shape), out, *arrays), attrs)


ATTENTION_BACK = register(
    OpDef(
        "attention_back", Kind.OPAQUE, _back_infer, _back_reference, None, None, _back_vjp,
        reads="rows", work=_back_work, samples=_back_samples,
        grad_name="ScaledDotProductAttentionBackwardBackward",
        doc="The gradients of attention (operands: that of its result, its result, its operands): "
        "of queries, keys and values one after the other, each with time before heads.",
    )
)  # fmt: skip
