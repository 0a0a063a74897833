"""Linear algebra, with the names of `torch.linalg`; see `engine/linalg.py`."""

from typing import NoReturn

from lazygrad.engine.linalg import *  # noqa: F403  its __all__ is ours
from lazygrad.engine.linalg import __all__ as __all__
from lazygrad.engine.linalg import missing


def __getattr__(name: str) -> NoReturn:
    missing(name)
