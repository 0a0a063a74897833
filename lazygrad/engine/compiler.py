"""The door to the compiler, which is imported when something is first compiled.

Building graphs needs none of it, and `import lazygrad` is to cost little more than NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lazygrad.config import config

if TYPE_CHECKING:
    from lazygrad.engine.frozen import FrozenGraph
    from lazygrad.engine.program import Program


def settings_key() -> tuple[Any, ...]:
    """The settings that a program depends on."""
    return (
        config.executor, config.parallel, config.num_workers, config.no_fuse, config.no_planner,
        config.poison, config.validate, config.verify, config.profile,
    )  # fmt: skip


def program_for(frozen: FrozenGraph) -> Program:
    """The cached program of a frozen graph (same structure and settings: same program)."""
    program: Program = import_module("lazygrad.engine.program").program_for(frozen)
    return program
