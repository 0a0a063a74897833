"""Attention, and rotary positions."""

from __future__ import annotations

import math

from lazygrad.engine.creation import arange
from lazygrad.engine.functions import cat
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn.functional.layers import dropout


def attention_weights(scores: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    """The softmax of (..., queries, keys) scores over the keys that a mask allows; 0 without any.

    A boolean mask is true where attention is allowed, any other one is added.
    """
    if is_causal:
        rows, columns = (
            scores._iota((scores.shape[-2], 1), 0),
            scores._iota((1, scores.shape[-1]), 1),
        )
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
    groups = 1
    if enable_gqa:
        heads, shared = query.shape[-3], key.shape[-3]
        if heads % shared or value.shape[-3] != shared:
            raise ShapeError(
                f"scaled_dot_product_attention: {shapes}: the heads of the query must be a "
                "multiple of those of key and value"
            )
        groups = heads // shared
    q, k, v = (t._wide() for t in (query, key, value))
    if groups > 1:  # a head of keys meets its queries without being repeated
        q = q.reshape((*q.shape[:-3], -1, groups, *q.shape[-2:]))
        k, v = k.unsqueeze(-3), v.unsqueeze(-3)
        if attn_mask is not None and attn_mask.ndim > 2:
            *lead, heads = attn_mask.shape[:-2]
            split = (-1, groups) if heads > 1 else (1, 1)
            attn_mask = attn_mask.reshape((*lead, *split, *attn_mask.shape[-2:]))
    scores = (q * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)) @ k.mT
    out = dropout(attention_weights(scores, attn_mask, is_causal), dropout_p) @ v
    if groups > 1:
        out = out.reshape((*out.shape[:-4], -1, *out.shape[-2:]))
    return out.to(query.dtype)


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
