"""Where buffers may begin: at multiples of a cache line, which is also what vector units like."""

from __future__ import annotations

ALIGN = 64  # bytes


def aligned(nbytes: int) -> int:
    """The next multiple of `ALIGN`.

    >>> aligned(1), aligned(64), aligned(0)
    (64, 64, 0)
    """
    return -(-nbytes // ALIGN) * ALIGN
