"""Linear algebra, with the names of `torch.linalg`."""

from typing import NoReturn

from lazygrad.engine import linalg, norms
from lazygrad.engine.linalg import *  # noqa: F403  its __all__ is part of ours
from lazygrad.engine.norms import *  # noqa: F403
from lazygrad.errors import nearest

__all__ = [*linalg.__all__, *norms.__all__]

_ABSENT = {
    "eig": "eigenvalues of a general matrix are complex; use eigh for a symmetric one",
    "eigvals": "eigenvalues of a general matrix are complex; use eigvalsh for a symmetric one",
    "lstsq": "use pinv(A) @ B",
}


def __getattr__(name: str) -> NoReturn:
    """Say what is there instead of a name that is not."""
    hint = f"; {_ABSENT[name]}" if name in _ABSENT else nearest(name, __all__)
    raise AttributeError(f"module 'lazygrad.linalg' has no attribute {name!r}{hint}")
