"""The arena pool: memory that programs borrow for one call.

A program plans its intermediate values at offsets of one arena; the bytes come from this pool and
are leased from the binding of a call until the last of its kept values is released. Programs that
do not run at the same time share one arena (the maximum of their sizes, not the sum); a call whose
values are still alive keeps its arena, so the next call gets another one. A fresh larger arena
replaces the smaller free ones. The pool is thread-safe.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from lazygrad.runtime.alignment import ALIGN, aligned

SMALL = 1 << 16  # bytes that nobody misses


class Arena:
    """A block of bytes at an aligned address, and what programs prepared in it."""

    __slots__ = ("__weakref__", "address", "frames", "memory", "nbytes")

    def __init__(self, nbytes: int) -> None:
        block = np.empty(nbytes + ALIGN, np.uint8)
        skip = -block.ctypes.data % ALIGN
        self.address = block.ctypes.data + skip
        self.memory: NDArray[np.uint8] = block[skip : skip + nbytes]
        self.nbytes = nbytes
        self.frames: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # program -> its views


class ArenaPool:
    """Free arenas, smallest first; at most `limit` of them.

    >>> pool = ArenaPool()
    >>> first = pool.take(100); pool.give(first)
    >>> pool.take(64) is first, pool.take(64) is first
    (True, False)
    """

    def __init__(self, limit: int = 16) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._free: list[Arena] = []
        # Arenas come back through a queue that needs no lock: the garbage collector may return one
        # at any moment, also while this thread is inside `take`.
        self._returned: deque[Arena] = deque()

    def take(self, nbytes: int, *, lasting: bool = False) -> Arena:
        """The smallest free arena that holds `nbytes`, or a new one.

        A `lasting` lease does not take an arena that is much larger than it needs.
        """
        most = 2 * aligned(nbytes) + SMALL if lasting else None
        with self._lock:
            self._collect()
            for i, arena in enumerate(self._free):
                if arena.nbytes >= nbytes:
                    if most is not None and arena.nbytes > most:
                        break
                    return self._free.pop(i)
            self._free = [a for a in self._free if a.nbytes >= nbytes]
        return Arena(aligned(nbytes))

    def give(self, arena: Arena) -> None:
        """Return an arena whose contents nobody reads any more."""
        self._returned.append(arena)

    def clear(self) -> None:
        """Free every arena that is not leased."""
        with self._lock:
            self._collect()
            self._free.clear()

    @property
    def free_bytes(self) -> int:
        """Bytes held by arenas that nobody leases."""
        with self._lock:
            self._collect()
            return sum(a.nbytes for a in self._free)

    def _collect(self) -> None:
        if self._returned:
            while self._returned:
                self._free.append(self._returned.popleft())
            self._free.sort(key=lambda a: a.nbytes)
            del self._free[: -self.limit]


POOL = ArenaPool()
