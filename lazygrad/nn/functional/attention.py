"""Attention, and rotary positions."""

from __future__ import annotations

import math
from functools import reduce

from lazygrad.dtypes import INTEGER, promote
from lazygrad.engine.creation import arange
from lazygrad.engine.functions import cat
from lazygrad.engine.precision import HALF
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, DTypeError, ShapeError
from lazygrad.nn.functional.layers import dropout
from lazygrad.ops.attention import ATTENTION, seen_weights
from lazygrad.shapes import Shape, broadcast


def _same_rank(x: Tensor, batch: Shape) -> Tensor:
    """(..., heads, time, width) with one axis in place of those before the heads."""
    x = x.reshape((*(1,) * (3 + len(batch) - x.ndim), *x.shape))
    return x.expand((*batch, *x.shape[-3:])).reshape((-1, *x.shape[-3:]))


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> Tensor:
    """Attention as one op; the axes before the last two broadcast.

    The weights of one query are a row, for which products are quicker.
    """
    if query.shape[-2] == 1:
        return _composed(query, key, value, mask, causal, scale)
    dtype = reduce(promote, (t._wide().dtype for t in (query, key, value)))
    batch = broadcast(*(t.shape[:-3] for t in (query, key, value)))
    q, k, v = (_same_rank(t.to(dtype), batch) for t in (query, key, value))
    if k.shape[1] != v.shape[1]:
        shared = broadcast(k.shape[1:2], v.shape[1:2])[0]
        k, v = (t.expand((-1, shared, -1, -1)) for t in (k, v))
    if q.shape[1] < k.shape[1]:
        q = q.expand((-1, k.shape[1], -1, -1))
    masks = []
    if mask is not None:
        mask = mask.to(dtype) if mask.dtype.is_floating_point else mask != 0
        whole = mask.reshape((*(1,) * (3 + len(batch) - mask.ndim), *mask.shape))
        masks = [whole if len(batch) == 1 else _same_rank(mask, batch)]
    out = q.apply(ATTENTION, k, v, *masks, causal=causal, scale=scale).transpose(1, 2)
    rank = max(query.ndim, key.ndim, value.ndim)
    return out.reshape((*batch, *out.shape[1:])[-rank:]).to(query.dtype)


def _composed(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float,
    dropout_p: float = 0.0,
) -> Tensor:  # fmt: skip
    """Attention of products and a softmax: all weights exist."""
    q, k, v = (t._wide() for t in (query, key, value))
    heads, shared = (t.shape[-3] if t.ndim > 2 else 1 for t in (q, k))
    groups = heads // shared if shared else 1
    if groups > 1:  # a head of keys meets its queries without being repeated
        q = q.reshape((*q.shape[:-3], -1, groups, *q.shape[-2:]))
        k, v = k.unsqueeze(-3), v.unsqueeze(-3)
        if mask is not None and mask.ndim > 2:
            *lead, heads = mask.shape[:-2]
            split = (-1, groups) if heads > 1 else (1, 1)
            mask = mask.reshape((*lead, *split, *mask.shape[-2:]))
    out = dropout(seen_weights((q * scale) @ k.mT, mask, causal), dropout_p) @ v
    if groups > 1:
        out = out.reshape((*out.shape[:-4], -1, *out.shape[-2:]))
    return out.to(query.dtype)


@HALF
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key.mT * scale) @ value (Vaswani et al. 2017).

    Queries are (..., heads, time, width), keys and values (..., heads, source, width); `scale` is
    1 / sqrt(width) unless given. With `is_causal` no query sees a later key. `attn_mask`
    broadcasts to (..., time, source): true where attention is allowed, or numbers that are added.
    With `enable_gqa` several heads of queries share one of keys and values.

    The weights never exist as a whole, not even for the gradient: both passes make them tile by
    tile (Dao et al. 2022), so memory grows with time, not with its square. With `dropout_p` they
    are composed of products and a softmax, and do.

    >>> import lazygrad as lg
    >>> x = lg.eye(2).reshape(1, 1, 2, 2)
    >>> lg.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.0)
    tensor([[[[1.0000, 0.0000],
              [0.5000, 0.5000]]]])
    """
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    if min(query.ndim, key.ndim, value.ndim) < 2 or query.shape[-1] != key.shape[-1]:
        raise ShapeError(f"scaled_dot_product_attention: {shapes}: widths of query and key differ")
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            f"scaled_dot_product_attention: {shapes}: there must be as many values as keys"
        )
    if is_causal and attn_mask is not None:
        raise ArgumentError("scaled_dot_product_attention takes attn_mask or is_causal, not both")
    if enable_gqa:
        heads, shared = query.shape[-3], key.shape[-3]
        if heads % shared or value.shape[-3] != shared:
            raise ShapeError(
                f"scaled_dot_product_attention: {shapes}: the heads of the query must be a "
                "multiple of those of key and value"
            )
    else:
        try:
            broadcast(*(t.shape[:-2] for t in (query, key, value)))
        except ShapeError:
            raise ShapeError(
                f"scaled_dot_product_attention: {shapes}: batch or heads differ"
            ) from None
    if isinstance(attn_mask, Tensor) and attn_mask.dtype.category == INTEGER:
        raise DTypeError(
            "scaled_dot_product_attention: attn_mask is bool (true: allowed) or floating (added), "
            f"got {attn_mask.dtype}"
        )
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if dropout_p:
        return _composed(query, key, value, attn_mask, is_causal, scale, dropout_p)
    return attend(query, key, value, attn_mask, is_causal, scale)


def rotary_embedding(
    input: Tensor, offset: int | Tensor = 0, base: float = 10000.0, interleaved: bool = False
) -> Tensor:
    """Pairs of (..., time, width) turned by angles that grow with time (RoPE, Su et al. 2021).

    The pair i turns by `base ** (-2 i / width)` at each step, the first step being number `offset`.
    Pairs are the two halves of the width, or neighbours when `interleaved`.

    >>> import lazygrad as lg
    >>> lg.nn.functional.rotary_embedding(lg.tensor([[1.0, 0.0], [1.0, 0.0]]))
    tensor([[1.0000, 0.0000],
            [0.5403, 0.8415]])
    """
    steps, width = input.shape[-2:]
    if width % 2:
        raise ShapeError(f"rotary_embedding: the width of input {input.shape} must be even")
    pairs = arange(width // 2).to(input._wide().dtype)
    frequencies = (pairs * (-2 * math.log(base) / width)).exp()
    angles = (arange(steps) + offset).to(frequencies.dtype).unsqueeze(-1) * frequencies
    cos, sin = angles.cos(), angles.sin()
    x = input._wide()
    if interleaved:
        split = x.reshape((*x.shape[:-1], width // 2, 2))
        first, second = split.unbind(-1)
    else:
        first, second = x.chunk(2, -1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    if interleaved:
        out = cat([t.unsqueeze(-1) for t in turned], -1).reshape(x.shape)
    else:
        out = cat(turned, -1)
    return out.to(input.dtype)
