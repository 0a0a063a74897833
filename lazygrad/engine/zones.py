"""Red zones: bytes beside the memory that kernels write, which nobody may touch.

They are there under `config.poison`: behind each buffer of the arena, and on both sides of what
the caller gets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lazygrad.errors import InternalError
from lazygrad.ops.opdef import Array

ZONE = 64  # bytes
CANARY = 0xA5  # what they are


def check_zone(zone: Array, what: object) -> None:
    """Raise where somebody has written into a zone."""
    if (zone != CANARY).any():
        raise InternalError(f"a kernel wrote beside its buffer: {what}")


class Zoned:
    """Arrays to run on instead of those of the caller, with zones around them.

    >>> given = np.zeros(2)
    >>> zoned = Zoned([given])
    >>> zoned.arrays[0][:] = 1.0
    >>> zoned.give_back(); given
    array([1., 1.])
    """

    def __init__(self, given: Sequence[Array]) -> None:
        self.given = given
        self._blocks = [np.full(a.nbytes + 2 * ZONE, CANARY, np.uint8) for a in given]
        self.arrays: list[Array] = []
        for a, block in zip(given, self._blocks, strict=True):
            inner = block[ZONE : ZONE + a.nbytes].view(a.dtype).reshape(a.shape)
            np.copyto(inner, a)
            self.arrays.append(inner)

    def give_back(self) -> None:
        """Copy what was computed to the caller; raises `InternalError` if a zone was touched."""
        for k, (block, inner) in enumerate(zip(self._blocks, self.arrays, strict=True)):
            for zone in (block[:ZONE], block[ZONE + inner.nbytes :]):
                check_zone(zone, f"array {k} of the caller, {inner.shape} {inner.dtype}")
        for a, inner in zip(self.given, self.arrays, strict=True):
            np.copyto(a, inner)
