"""Warnings that point at the user's line."""

from __future__ import annotations

import sys
import warnings

from lazygrad.engine.graph import PACKAGE


class LazygradWarning(UserWarning):
    """Something works, but not as well as it could."""


def warn(message: str) -> None:
    """Warn at the innermost line outside of lazygrad."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
        level += 1
    warnings.warn(message, LazygradWarning, stacklevel=level)
