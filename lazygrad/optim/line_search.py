"""A line search for the strong Wolfe conditions.

Bracketing and zooming by cubic interpolation (Nocedal and Wright, Numerical Optimization, 2006,
algorithms 3.5 and 3.6, with the safeguards of Mark Schmidt's minFunc), step by step as PyTorch
does it, so that both try the same points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from lazygrad.ops.opdef import Array

_C1, _C2 = 1e-4, 0.9  # of sufficient decrease and of curvature


class Point(NamedTuple):
    """A point of the line: its parameter, and loss, gradient and slope there."""

    t: float
    loss: float
    gradient: Array
    slope: float


def _cubic(a: Point, b: Point, low: float, high: float) -> float:
    """The minimum of the cubic through two points with their slopes, within [low, high]."""
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if square < 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    found = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    return min(max(found, low), high)


class _Search:
    """One search; `tried` counts the points beyond the first."""

    def __init__(self, at: Callable[[float], Point], start: Point, limit: int) -> None:
        self.at = at
        self.start = start
        self.limit = limit
        self.tried = 0

    def too_high(self, p: Point) -> bool:
        """Whether the loss has not decreased enough."""
        return p.loss > self.start.loss + _C1 * p.t * self.start.slope

    def flat_enough(self, p: Point) -> bool:
        """Whether the slope is small against that of the start."""
        return abs(p.slope) <= -_C2 * self.start.slope

    def bracket(self, t: float) -> list[Point]:
        """Two points with a good one between them, or a good one alone."""
        before, p = self.start, self.at(t)
        while self.tried < self.limit:
            if self.too_high(p) or (self.tried > 1 and p.loss >= before.loss):
                return [before, p]
            if self.flat_enough(p):
                return [p]
            if p.slope >= 0:
                return [before, p]
            step = _cubic(before, p, p.t + 0.01 * (p.t - before.t), p.t * 10)
            before, p = p, self.at(step)
            self.tried += 1
        return [self.start, p]

    def zoom(self, low: Point, high: Point, width: float) -> Point:
        """The best point found while the bracket shrinks; `low` is its better end."""
        stuck = False
        while self.tried < self.limit and abs(high.t - low.t) >= width:
            first, last = sorted((low.t, high.t))
            t = _cubic(low, high, first, last)
            margin = 0.1 * (last - first)
            near_end = min(last - t, t - first) < margin
            if near_end and (stuck or t >= last or t <= first):
                t = last - margin if abs(t - last) < abs(t - first) else first + margin
                near_end = False
            stuck = near_end
            p = self.at(t)
            self.tried += 1
            if self.too_high(p) or p.loss >= low.loss:
                low, high = (low, p) if low.loss <= p.loss else (p, low)
                continue
            if self.flat_enough(p):
                return p
            if p.slope * (high.t - low.t) >= 0:
                high = low
            low = p
        return low


def strong_wolfe(
    at: Callable[[float], Point], start: Point, t: float, width: float, limit: int
) -> tuple[Point, int]:
    """A point that satisfies the strong Wolfe conditions, and how many were evaluated.

    `at` evaluates a point, `t` is the first guess; a bracket narrower than `width`, or `limit`
    further points, end the search with the best point so far.
    """
    search = _Search(at, start, limit)
    ends = search.bracket(t)
    best = ends[0]
    if len(ends) == 2:
        low, high = ends if ends[0].loss <= ends[1].loss else ends[::-1]
        best = search.zoom(low, high, width)
    return best, search.tried + 1
