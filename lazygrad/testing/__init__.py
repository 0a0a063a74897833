"""Tools for testing code that is built on lazygrad, and ops of your own.

`gradcheck` and `gradgradcheck` compare gradients with finite differences. `shapes`, `arrays`,
`tensors`, `op_cases` and `programs` are Hypothesis strategies (`pip install hypothesis`); the suite
of lazygrad itself is written with them.
"""

from lazygrad.testing.gradcheck import GradcheckError, gradcheck, gradgradcheck
from lazygrad.testing.programs import RandomProgram, programs
from lazygrad.testing.strategies import OpCase, arrays, op_cases, shapes, tensors

__all__ = [
    "GradcheckError", "OpCase", "RandomProgram", "arrays", "gradcheck", "gradgradcheck",
    "op_cases", "programs", "shapes", "tensors",
]  # fmt: skip
