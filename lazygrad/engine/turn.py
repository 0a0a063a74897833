"""One turn of a steady step, as Python statements written for its places.

A steady step fills the places of its arguments and fresh results, runs, and empties them again.
Which places these are is known, so the lines are generated: binders put them between their tests
and results, a chain of calls runs them as a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.ops.opdef import Array

if TYPE_CHECKING:
    from lazygrad.engine.step import Steady

Turn = Callable[["Steady", Sequence[Array]], list[Array]]


def run_lines(places: list[int], undo: list[str]) -> list[str]:
    """Run with `arrays` filled; then empty these places, so that nobody's array is kept alive.

    `count` is what the step has counted; `undo` follows a failure.
    """
    lines = ["try:", "    steady.run(arrays)"]
    if undo:
        lines += ["except BaseException:", *(f"    {line}" for line in undo), "    raise"]
    lines.append("finally:")
    if places:
        lines.append(f"    {' = '.join(f'arrays[{i}]' for i in places)} = None")
    return [*lines, "    steady.count = count"]


def fresh_lines(
    steady: Steady, name: Callable[[Any], str]
) -> tuple[list[str], list[str]]:  # fmt: skip
    """Statements that make the fresh results, and what they are called."""
    results = [f"r{k}" for k in range(len(steady.fresh))]
    lines = [
        f"arrays[{i}] = {result} = empty({shape}, {name(np.dtype(dtype))})"
        for result, (i, shape, dtype) in zip(results, steady.fresh, strict=True)
    ]
    return lines, results


def turn_of(steady: Steady) -> Turn:
    """A function of the step and its arguments' arrays that runs it and returns fresh results."""
    names: dict[str, Any] = {}

    def name(value: Any) -> str:
        names[f"c{len(names)}"] = value
        return f"c{len(names) - 1}"

    made, results = fresh_lines(steady, name)
    lines = ["arrays, count = steady.arrays, steady.count"]
    lines.append("steady.count = -1  # not to be entered twice")
    lines += [f"arrays[{i}] = given[{recipe[1]}]" for i, recipe in steady.slots]
    places = [i for i, _ in steady.slots] + [i for i, _, _ in steady.fresh]
    lines += [*made, *run_lines(places, []), f"return [{', '.join(results)}]"]
    space = {**names, "empty": np.empty}
    exec(_compiled("def turn(steady, given):\n    " + "\n    ".join(lines)), space)
    found: Turn = space["turn"]
    return found


@lru_cache(256)
def _compiled(source: str) -> CodeType:
    return compile(source, "<turn>", "exec")
