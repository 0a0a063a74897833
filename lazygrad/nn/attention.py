"""Attention with several heads, and rotary positions, as layers."""

from __future__ import annotations

import math
from typing import Any

from lazygrad.dtypes import DTypeLike
from lazygrad.engine.functions import cat
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn import functional as F
from lazygrad.nn import init
from lazygrad.nn.functional.attention import attend
from lazygrad.nn.linear import Linear, blank
from lazygrad.nn.module import Module
from lazygrad.nn.parameter import Parameter
from lazygrad.ops.attention import seen_weights


def _additive(mask: Tensor, dtype: Any) -> Tensor:
    """A mask of this layer (true where attention is *not* allowed) as numbers to add."""
    if mask.dtype.is_floating_point:
        return mask
    return mask.new_zeros(mask.shape, dtype=dtype).where(mask == 0, -math.inf)


class MultiheadAttention(Module):
    """Attention of several heads at once (Vaswani et al. 2017).

    `forward(query, key, value)` takes (time, batch, embed_dim), batch first under `batch_first`, or
    without batch, and returns the output and the weights (averaged over the heads unless told
    otherwise, None without `need_weights`). As in PyTorch a boolean mask is true where attention is
    *not* allowed. Without `need_weights` and dropout the weights never exist as a whole (see
    `functional.scaled_dot_product_attention`).

    >>> import lazygrad as lg
    >>> layer = lg.nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = lg.ones(3, 5, 8)
    >>> output, weights = layer(x, x, x)
    >>> output.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: embed_dim {embed_dim} is no multiple of num_heads {num_heads}"
            )
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.head_dim, self.batch_first = embed_dim // num_heads, batch_first
        self.add_zero_attn = add_zero_attn
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        together = self.kdim == self.vdim == embed_dim
        widths = {"q": embed_dim, "k": self.kdim, "v": self.vdim}
        whole = blank(3 * embed_dim, embed_dim, dtype=dtype, device=device) if together else None
        for name, width in widths.items():
            part = None if together else blank(embed_dim, width, dtype=dtype, device=device)
            self.register_parameter(f"{name}_proj_weight", part)
        self.register_parameter("in_proj_weight", whole)
        self.register_parameter("in_proj_bias", blank(3 * embed_dim, dtype=dtype) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        for name in ("bias_k", "bias_v"):
            made = blank(1, 1, embed_dim, dtype=dtype) if add_bias_kv else None
            self.register_parameter(name, made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections anew, biases zero."""
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            weight = self._parameters[name]
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each of width embed_dim."""
        whole, bias = self.in_proj_weight, self.in_proj_bias
        if whole is not None and query is key and key is value:
            return F.linear(query, whole, bias).chunk(3, -1)
        weights = (
            whole.chunk(3) if whole is not None
            else tuple(self._parameters[f"{n}_proj_weight"] for n in "qkv")
        )  # fmt: skip
        biases = (None, None, None) if bias is None else bias.chunk(3)
        given = zip((query, key, value), weights, biases, strict=True)
        return tuple(F.linear(x, w, b) for x, w, b in given)  # type: ignore[arg-type]  # all there

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, time, embed_dim) to (batch, heads, time, head_dim)."""
        return x.reshape((*x.shape[:2], self.num_heads, self.head_dim)).transpose(1, 2)

    def _mask(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, like: Tensor, shape: Any
    ) -> Tensor | None:
        """Both masks as one that is added to (batch, heads, time, source)."""
        batch, time, source = shape
        total: Tensor | None = None
        if attn_mask is not None:
            if attn_mask.shape not in ((time, source), (batch * self.num_heads, time, source)):
                raise ShapeError(
                    f"MultiheadAttention: attn_mask must be {(time, source)} or "
                    f"{(batch * self.num_heads, time, source)}, got {attn_mask.shape}"
                )
            total = _additive(attn_mask, like.dtype)
            if attn_mask.ndim == 3:
                total = total.reshape((batch, self.num_heads, time, source))
        if key_padding_mask is not None:
            if key_padding_mask.shape != (batch, source):
                raise ShapeError(
                    f"MultiheadAttention: key_padding_mask must be {(batch, source)}, got "
                    f"{key_padding_mask.shape}"
                )
            padding = _additive(key_padding_mask, like.dtype).reshape((batch, 1, 1, source))
            total = padding if total is None else total + padding
        return total

    def _extended(
        self, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values with the learned one and the zero one behind them."""
        ends: list[tuple[Tensor, Tensor]] = []
        shape = (k.shape[0], 1, self.embed_dim)
        if self.bias_k is not None and self.bias_v is not None:
            ends.append((self.bias_k.expand(shape), self.bias_v.expand(shape)))
        if self.add_zero_attn:
            ends.append((k.new_zeros(shape), v.new_zeros(shape)))
        if ends:
            k, v = cat([k, *(a for a, _ in ends)], 1), cat([v, *(b for _, b in ends)], 1)
            mask = None if mask is None else F.pad(mask, (0, len(ends)))
        return k, v, mask

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output, and the weights or None."""
        self._check(query, key, value)
        has_batch = query.ndim == 3
        given = {id(x): x for x in (query, key, value)}  # one projection where all are one tensor
        if not has_batch:
            given = {i: x.unsqueeze(0) for i, x in given.items()}
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            given = {i: x.transpose(0, 1) for i, x in given.items()}
        q, k, v = self._projected(given[id(query)], given[id(key)], given[id(value)])
        shape = q.shape[0], q.shape[1], k.shape[1]
        mask = self._mask(attn_mask, key_padding_mask, q, shape)
        k, v, mask = self._extended(k, v, mask)
        causal, scale = is_causal and attn_mask is None, 1 / math.sqrt(self.head_dim)
        heads = self._heads(q), self._heads(k), self._heads(v)
        weights = None
        if need_weights or (self.dropout and self.training):
            weights = seen_weights((heads[0] * scale) @ heads[1].mT, mask, causal)
            weights = F.dropout(weights, self.dropout, self.training)
            out = weights @ heads[2]
        else:
            out = attend(*heads, mask, causal, scale)
        out = self.out_proj(out.transpose(1, 2).reshape(q.shape))
        if not has_batch:
            out = out.squeeze(0)
        elif not self.batch_first:
            out = out.transpose(0, 1)
        if weights is None or not need_weights:
            return out, None
        weights = weights if has_batch else weights.squeeze(0)
        return out, weights.mean(dim=-3) if average_attn_weights else weights

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        widths = tuple(x.shape[-1] if x.ndim else 0 for x in (query, key, value))
        if {query.ndim, key.ndim, value.ndim} not in ({2}, {3}) or widths != (
            self.embed_dim, self.kdim, self.vdim
        ):  # fmt: skip
            raise ShapeError(
                f"MultiheadAttention: query {query.shape}, key {key.shape} and value {value.shape} "
                f"must have 2 or 3 dimensions and widths {self.embed_dim}, {self.kdim}, {self.vdim}"
            )


class RotaryEmbedding(Module):
    """Pairs of (..., time, width) turned by angles that grow with time (RoPE, Su et al. 2021).

    >>> import lazygrad as lg
    >>> rope = lg.nn.RotaryEmbedding(8)
    >>> q = lg.ones(2, 4, 5, 8)
    >>> bool((rope(q, offset=3)[..., 0, :] == rope(q)[..., 3, :]).all())
    True
    """

    def __init__(self, dim: int, base: float = 10000.0, interleaved: bool = False) -> None:
        if dim % 2:
            raise ArgumentError(f"RotaryEmbedding: dim must be even, got {dim}")
        self.dim, self.base, self.interleaved = dim, base, interleaved

    def forward(self, input: Tensor, offset: int | Tensor = 0) -> Tensor:
        """Turn queries or keys whose first step is number `offset`."""
        if input.ndim < 2 or input.shape[-1] != self.dim:
            raise ShapeError(
                f"RotaryEmbedding({self.dim}) takes (..., time, {self.dim}), got {input.shape}"
            )
        return F.rotary_embedding(input, offset, self.base, self.interleaved)

    def extra_repr(self) -> str:
        """Width, base and pairing."""
        return f"{self.dim}, base={self.base}" + (", interleaved=True" if self.interleaved else "")
