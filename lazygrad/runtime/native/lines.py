"""Axes of a matrix that lie in pieces, such as all windows of an image, and code that walks them.

A position along such an axis is one number; where its element lies takes divisions. So code walks
*runs*, the stretches of the innermost piece in which elements have one step, or reads a *table*
of the places of a few hundred positions, made once for all that is computed with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lazygrad.runtime.native.llvm import Function, Index, Value

Known = int | str  # a number in the code, or the name of a word
Pieces = tuple[tuple[int, int], ...]  # extent and stride of each piece, the outermost first


def joined(axes: list[Pieces]) -> list[Pieces]:
    """One axis as several accesses walk it, with as few pieces as all of them allow.

    >>> joined([((2, 12), (3, 4), (4, 1)), ((2, 30), (3, 0), (4, 0))])
    [((2, 12), (12, 1)), ((2, 30), (12, 0))]
    """
    strides: list[list[int]] = []  # of each piece that is kept, for every access
    extents: list[int] = []
    for pieces in zip(*axes, strict=True):
        n, steps = pieces[0][0], [s for _, s in pieces]
        if n == 1:
            continue
        if extents and all(a == n * b for a, b in zip(strides[-1], steps, strict=True)):
            extents[-1] *= n
            strides[-1] = steps
        else:
            extents.append(n)
            strides.append(steps)
    if not extents:
        return [((1, 1),) for _ in axes]
    return [
        tuple((n, steps[k]) for n, steps in zip(extents, strides, strict=True))
        for k in range(len(axes))
    ]


@dataclass(frozen=True, slots=True)
class Line:
    """An axis as code sees it: the step of its runs, and where there are many, their length.

    `outer` are the pieces around a run, the outermost first.
    """

    step: Known
    run: Known = 0
    outer: tuple[tuple[Known, Known], ...] = ()


class Walker:
    """Writes the code that walks lines."""

    def __init__(self, f: Function, number: Callable[[Known], Index]) -> None:
        self.f, self.number = f, number

    def at(self, element: str, base: Value, *steps: tuple[Index, Index]) -> Value:
        """An address: a base and positions times strides."""
        total: Index = 0
        for position, stride in steps:
            total = self.f.add(total, self.f.mul(position, stride))
        return self.f.gep(element, base, total)

    def place(self, line: Line, position: Index) -> Index:
        """How many elements lie before a position."""
        f, number = self.f, self.number
        if not line.outer:
            return f.mul(position, number(line.step))
        run = number(line.run)
        total = f.mul(f.rem(position, run), number(line.step))
        rest = f.div(position, run)
        for k in reversed(range(len(line.outer))):
            extent, stride = line.outer[k]
            digit = f.rem(rest, number(extent)) if k else rest
            rest = f.div(rest, number(extent)) if k else rest
            total = f.add(total, f.mul(digit, number(stride)))
        return total

    @contextmanager
    def runs(self, line: Line, start: Index, count: Index) -> Iterator[tuple[Index, Index, Index]]:
        """The runs of `count` positions from `start` on.

        Gives how many positions lie before the run, its length, and the place of its first.
        """
        f = self.f
        if not line.outer:
            yield 0, count, self.place(line, start)
            return
        run = self.number(line.run)
        slot = f.variable("i64", f.i64(0))
        head, body, end = f.label("runs"), f.label("run"), f.label("end")
        f.branch(head)
        f.block(head)
        done = f.load("i64", slot)
        f.branch_if(f.cmp("icmp slt", done, f.i64(count)), body, end)
        f.block(body)
        position = f.add(start, done)
        left = f.sub(run, f.rem(position, run))
        length = f.min(left, f.sub(count, done))
        yield done, length, self.place(line, position)
        f.store(f.i64(f.add(done, length)), slot)
        f.branch(head)
        f.block(end)

    def table(self, memory: Value, line: Line, start: Index, count: Index) -> Value:
        """Write the places of `count` positions from `start` on."""
        f = self.f
        with self.runs(line, start, count) as (done, length, place), f.loop(0, length) as i:
            at = f.add(place, f.mul(i, self.number(line.step)))
            f.store(f.i64(at), f.gep("i64", memory, f.add(done, i)))
        return memory
