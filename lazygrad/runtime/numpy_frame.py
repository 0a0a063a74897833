"""The domain of a stage, made as small as its accesses allow.

Axes of extent 1 are dropped and neighbours are merged where no access tells them apart, so that
NumPy sees the longest inner loops and the fewest dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lazygrad.shapes import Shape, numel

Varies = tuple[bool, ...]  # along which axes of a frame a value changes


@dataclass(frozen=True, slots=True)
class Frame:
    """A domain after merging; axis 0 holds `rows` positions per grid row (0: it is not cut)."""

    domain: Shape
    groups: tuple[tuple[int, ...], ...]  # the axes of the domain behind each axis
    shape: Shape
    rows: int

    def strides(self, given: Sequence[int]) -> tuple[int, ...]:
        """The strides of an access, given for the axes of the domain."""
        return tuple(given[group[-1]] for group in self.groups)

    def varies(self, given: Sequence[int]) -> Varies:
        """Along which axes an access moves."""
        return tuple(given[group[-1]] != 0 for group in self.groups)

    def extent(self, varies: Varies) -> tuple[Shape, int]:
        """The shape of a value, leading axes dropped along which it is constant; its rows."""
        shape = tuple(n if v else 1 for n, v in zip(self.shape, varies, strict=True))
        lead = varies.index(True) if True in varies else len(varies)
        return shape[lead:], self.rows if varies and lead == 0 else 0


def make_frame(
    domain: Shape, accesses: Sequence[Sequence[int]], cut: bool, marks: Sequence[int] = ()
) -> Frame:
    """The smallest frame; axes with different `marks` are not merged.

    A `cut` domain keeps its axis 0, the rows of the grid, even if a chunk has one row.

    >>> make_frame((4, 1, 3, 2), [(6, 0, 2, 1), (0, 0, 2, 1)], cut=False).shape
    (4, 6)
    """
    groups: list[list[int]] = []
    for axis, extent in enumerate(domain):
        if extent == 1 and not (cut and axis == 0):
            continue
        left = groups[-1][-1] if groups else -1
        same = left >= 0 and (not marks or marks[left] == marks[axis])
        if same and all(s[left] == s[axis] * extent for s in accesses):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    shape = tuple(numel([domain[a] for a in g]) for g in groups)
    rows = numel([domain[a] for a in groups[0][1:]]) if cut and groups else 0
    return Frame(domain, tuple(map(tuple, groups)), shape, rows)
