"""Panels: the operand along the lanes as tiles read it, packed from wherever it lies."""

from __future__ import annotations

from dataclasses import dataclass

from lazygrad.runtime.native import pack
from lazygrad.runtime.native.lines import Line, Walker
from lazygrad.runtime.native.llvm import Index, Value
from lazygrad.runtime.native.tiles import Tile


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor: its axes, the address of its first element, and where in it the block begins."""

    pointer: Value
    outer: Line
    inner: Line
    start: Index = 0
    at: Index = 0
    scattered: bool = False


class Packer:
    """Packs panels as wide as a tile; `memory` holds a table of places, where `how` needs one."""

    def __init__(self, walker: Walker, tile: Tile, how: str, memory: Value | None) -> None:
        self.f, self.walker = walker.f, walker
        self.tile, self.element, self.how, self.memory = tile, tile.element, how, memory

    def pack(
        self, right: Factor, columns: Index, at: Index, depth: Value, panels: Value
    ) -> None:  # fmt: skip
        """`columns` of the operand, from the inner position `at` on, in panels."""
        f, tile = self.f, self.tile
        places = None
        if self.memory is not None:
            places = self.walker.table(self.memory, right.inner, f.add(right.at, at), depth)
        with f.loop(0, columns, tile.columns) as j:
            width = f.i64(f.min(tile.columns, f.sub(columns, j)))
            panel = f.gep(self.element, panels, f.mul(j, depth))
            if places is not None:
                self.spread(right, j, width, places, depth, panel)
            elif right.scattered:
                self.pack_runs(right, j, width, at, depth, panel)
            else:
                outer, inner = (
                    self.walker.number(right.outer.step),
                    self.walker.number(right.inner.step),
                )
                source = self.walker.at(self.element, right.pointer, (j, outer), (at, inner))
                self.copy(source, outer, inner, panel, width, depth)

    def copy(
        self, source: Value, outer: Index, inner: Index, panel: Value, width: Index, depth: Index
    ) -> None:
        """Elements with one stride along each axis to a panel, or to a part of one."""
        f, how = self.f, self.how
        step, outer, inner = f.i64(self.tile.columns), f.i64(outer), f.i64(inner)
        width, depth = f.i64(width), f.i64(depth)
        if how == "transpose":
            f.call_internal(
                pack.transpose(self.element), source, outer, panel, step, width, depth
            )  # fmt: skip
        elif how == "copy":
            copy = pack.copy(self.element, self.tile.lanes)
            f.call_internal(copy, source, inner, panel, step, depth, width)
        else:
            copy = pack.gather(self.element)
            f.call_internal(copy, source, inner, panel, step, depth, width, outer)

    def pack_runs(
        self, right: Factor, j: Value, width: Index, at: Index, depth: Index, panel: Value
    ) -> None:
        """A panel, run by run along both axes."""
        f, walker = self.f, self.walker
        outer, inner = self.walker.number(right.outer.step), self.walker.number(right.inner.step)
        with (
            walker.runs(right.inner, f.add(right.at, at), depth) as (below, deep, down),
            walker.runs(right.outer, f.add(right.start, j), width) as (left, wide, across),
        ):
            source = f.gep(self.element, right.pointer, f.add(down, across))
            target = f.add(f.mul(below, self.tile.columns), left)
            self.copy(source, outer, inner, f.gep(self.element, panel, target), wide, deep)

    def spread(
        self, right: Factor, j: Value, width: Index, places: Value, depth: Value, panel: Value
    ) -> None:
        """A panel, run by run along the lanes and, from a table, along the inner axis."""
        f, lanes = self.f, self.tile.lanes
        step = right.outer.step
        known = step if isinstance(step, int) and lanes > 1 else 0
        part = pack.spread(self.element, lanes, known)
        start = f.add(right.start, j)
        with (
            self.walker.runs(right.outer, start, width) as (before, length, place),
            f.loop(0, length, lanes) as i,
        ):
            source = self.walker.at(
                self.element, right.pointer, (1, place), (i, self.walker.number(step))
            )
            target = f.gep(self.element, panel, f.add(before, i))
            count = f.i64(f.min(lanes, f.sub(length, i)))
            f.call_internal(
                part, source, places, target, f.i64(self.tile.columns), depth, count,
                f.i64(self.walker.number(step)),
            )  # fmt: skip
