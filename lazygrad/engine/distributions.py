"""Distributions as elementwise compositions over random bits.

Number i of a sample depends on the seed and on the counter that the node took when it was created,
not on when, where or with what it is computed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lazygrad.dtypes import DType, bfloat16, float16, float32, float64, int64, uint64
from lazygrad.engine.graph import HOOKS
from lazygrad.engine.indexing import vetted
from lazygrad.errors import ArgumentError, DTypeError, ShapeError
from lazygrad.ops.random import PHILOX
from lazygrad.shapes import Shape, numel

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

MANTISSA = {float32: 24, float16: 11, bfloat16: 8}  # bits of a float below 1


def bits(shape: Shape, generator: Any = None, words: int = 1) -> tuple[Tensor, ...]:
    """`words` uint32 tensors of `shape` from the next counters of the stream."""
    source = HOOKS.generator() if generator is None else generator
    key = source.key(numel(shape) * words)
    drawn = key.apply(PHILOX, shape=(words, *shape), offset=0)
    return tuple(drawn[i] for i in range(words)) if words > 1 else (drawn.reshape(shape),)


def _floating(name: str, dtype: DType) -> None:
    if not dtype.is_floating_point:
        raise DTypeError(f"{name} makes floating tensors, got dtype {dtype}")


def _unit(high: Tensor, low: Tensor) -> Tensor:
    """53 bits of two words as a float64 in [0, 1)."""
    return ((high >> 5).to(float64) * 2.0**26 + (low >> 6).to(float64)) * 2.0**-53


def uniform(shape: Shape, dtype: DType, generator: Any = None) -> Tensor:
    """Multiples of 2**-24 (float32) in [0, 1), each as likely as any other."""
    _floating("rand", dtype)
    if dtype is float64:
        return _unit(*bits(shape, generator, 2))
    kept = MANTISSA[dtype]
    (word,) = bits(shape, generator)
    return (word >> (32 - kept)).to(dtype) * 2.0**-kept


def normal(shape: Shape, dtype: DType, generator: Any = None) -> Tensor:
    """The standard normal distribution.

    By G. E. P. Box and M. E. Muller, "A note on the generation of random normal deviates" (1958).
    """
    _floating("randn", dtype)
    if dtype is float64:
        a, b, c, d = bits(shape, generator, 4)
        u, v = 1.0 - _unit(a, b), _unit(c, d)
    else:
        a, b = bits(shape, generator, 2)
        u, v = (a.to(float32) + 1.0) * 2.0**-32, b.to(float32) * 2.0**-32
    return ((u.log() * -2.0).sqrt() * (v * (2 * math.pi)).cos()).to(dtype)


def integers(low: int, high: int, shape: Shape, dtype: DType, generator: Any = None) -> Tensor:
    """Integers in [low, high), by the multiply-shift of Lemire (2019) without rejection."""
    span = high - low
    if span <= 0:
        raise ArgumentError(f"randint: nothing lies in [{low}, {high})")
    if span <= 2**32:
        (word,) = bits(shape, generator)
        offset = (word.to(uint64) * span) >> 32
    else:
        first, second = bits(shape, generator, 2)
        offset = ((first.to(uint64) << 32) | second.to(uint64)) % span
    return (offset.to(int64) + low).to(dtype)


def permutation(n: int, dtype: DType, generator: Any = None) -> Tensor:
    """0 to n - 1 in random order."""
    if n < 0:
        raise ArgumentError(f"randperm: n must not be negative, got {n}")
    (word,) = bits((n,), generator)
    return word.argsort().to(dtype)


def bernoulli(p: Tensor, generator: Any = None) -> Tensor:
    """1 with the probability in each element of `p`, else 0."""
    _floating("bernoulli", p.dtype)
    p = vetted(p.detach(), (p >= 0) & (p <= 1), "bernoulli: probabilities outside of [0, 1]")
    return (uniform(p.shape, float32, generator) < p).to(p.dtype)


def exponential(shape: Shape, dtype: DType, generator: Any = None) -> Tensor:
    """The exponential distribution of rate 1."""
    return -(-uniform(shape, dtype, generator)).log1p()


def multinomial(p: Tensor, count: int, replacement: bool, generator: Any = None) -> Tensor:
    """`count` positions of the last axis, drawn with the weights in `p`; int64.

    Without replacement by P. S. Efraimidis and P. G. Spirakis, "Weighted random sampling with a
    reservoir" (2006): the positions of the smallest exponential / weight.
    """
    _floating("multinomial", p.dtype)
    if p.ndim not in (1, 2):
        raise ShapeError(f"multinomial: weights have one or two dimensions, got {p.shape}")
    size = p.shape[-1]
    if count < 1 or (not replacement and count > size):
        raise ShapeError(f"multinomial: {count} draws without replacement from {size} categories")
    weights = p.detach().to(float64)
    sound = (weights >= 0) & weights.isfinite()
    weights = vetted(weights, sound, "multinomial: weights that are negative or not finite")
    enough = (weights > 0).sum(-1, keepdim=True) >= (1 if replacement else count)
    weights = vetted(weights, enough, "multinomial: rows with too few positive weights")
    if replacement:
        edges = weights.cumsum(-1)
        points = uniform((*p.shape[:-1], count), float64, generator) * edges[..., -1:]
        return edges.searchsorted(points, right=True).clamp(max=size - 1)
    race = exponential(p.shape, float64, generator) / weights
    return race.argsort(-1).narrow(-1, 0, count)
