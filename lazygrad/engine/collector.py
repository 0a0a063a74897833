"""Python's cyclic garbage collector, out of the way while something long is made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Collect nothing inside.

    Compiling makes many objects at once, nearly all of which stay: every collection would walk
    through all of them, which is a seventh of the first call of a long program.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
