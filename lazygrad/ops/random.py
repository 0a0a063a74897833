"""Random bits as a pure function of a key and a position.

Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
(2011): a block cipher of ten rounds over a 128-bit counter. Number p of the stream of a seed is
lane p % 4 of block p // 4, so any backend, in any order, on any worker, makes the same numbers.
Distributions are compositions of elementwise ops over these bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lazygrad.dtypes import DType, uint32, uint64
from lazygrad.errors import DTypeError, ShapeError
from lazygrad.ops.opdef import Array, Kind, OpDef, Sample, Spec, register
from lazygrad.shapes import Shape, numel

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_BLOCKS = 1 << 13  # ciphered together: their words stay in the cache


def philox(counter: Array, key: tuple[int, int]) -> Array:
    """Ten rounds over counters of shape (4, n) (uint64 holding 32 bits); returns uint32 (4, n).

    >>> out = philox(np.zeros((4, 1), np.uint64), (0, 0))
    >>> [hex(word) for word in out[:, 0].tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c2 = (second >> _HALF) ^ c1 ^ np.uint64(k0), (first >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = second & _LOW, first & _LOW
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


def _infer(key: Spec, *, shape: Shape, offset: int) -> tuple[Shape, DType]:
    if key.shape != (2,):
        raise ShapeError(f"philox: the key must be (seed, counter), got shape {key.shape}")
    if key.dtype is not uint64:
        raise DTypeError(f"philox: the key must be uint64, got {key.dtype}")
    return shape, uint32


def _reference(key: Array, *, shape: Shape, offset: int) -> Array:
    seed, start = int(key[0]), int(key[1]) + offset
    count = numel(shape)
    first, last = start // 4, (start + count + 3) // 4
    words = np.empty((last - first, 4), np.uint32)
    for low in range(first, last, _BLOCKS):
        high = min(low + _BLOCKS, last)
        counter = np.zeros((4, high - low), np.uint64)
        counter[0] = np.arange(low, high, dtype=np.uint64)
        counter[1] = counter[0] >> _HALF
        counter[0] &= _LOW
        words[low - first : high - first] = philox(counter, (seed & 0xFFFFFFFF, seed >> 32)).T
    skip = start - 4 * first
    return words.reshape(-1)[skip : skip + count].reshape(shape)


def _samples(rng: np.random.Generator) -> Iterator[Sample]:
    cases: list[tuple[int, int, Shape]] = [
        (0, 0, (8,)), (2**63 + 5, 2**40 + 3, (2, 3)), (7, 1, ()), (1, 2, (0,))
    ]  # fmt: skip
    for seed, counter, shape in cases:
        key = np.array([seed, counter], np.uint64)
        yield Sample((key,), {"shape": shape, "offset": 0})
        yield Sample((key,), {"shape": shape, "offset": 5})


PHILOX = register(
    OpDef(
        "philox", Kind.RANDOM, _infer, _reference, flops=20, samples=_samples,
        doc="Uniform 32-bit words: the stream of a seed from its counter + `offset` on.",
    )
)  # fmt: skip
