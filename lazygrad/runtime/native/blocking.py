"""How a product is cut, from its shape and strides alone: roles, tile, copies, blocks.

The result has a row axis, along which operands are broadcast, and a lane axis, along which
vectors lie. Either operand can play either role, since a factor commutes with the other: the
result is then computed as its transpose. Costs are counted in cycles of one vector fused
multiply-add each. Nothing chosen here reaches a bit of the result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from lazygrad.runtime.native.tiles import BYTES, SEGMENT, Tile

PANELS = 1 << 17  # elements of a packed operand that may lie in a second-level cache
TARGET = 1 << 19  # products of elements that are worth a piece of work of their own
PIECES = 16  # as many as are wanted of a large product

NEAR, FAR = 1 << 18, 1 << 20  # bytes: a part of the second-level cache, more than it holds

# Cycles for each element that is copied, from a cache that is near and from further away.
_COPY = {"direct": (0.0, 0.3), "copy": (0.15, 0.5), "transpose": (0.35, 1.0), "gather": (1.5, 2.0)}


class Side(NamedTuple):
    """Strides of an operand along its own axis of the result and along the inner axis."""

    outer: int
    inner: int


@dataclass(frozen=True, slots=True)
class Blocking:
    """How a product is computed: `swapped` if the lanes run along the rows of the result."""

    swapped: bool
    tile: Tile
    how: str  # what becomes of the operand along the lanes
    turned: bool  # the result leaves the tile transposed
    whole: bool  # that operand is packed at once, not one segment at a time
    depth: int  # how many terms a tile adds at once; few where a large operand lies as it is
    rows: int  # of a block, in the axes of the tile
    columns: int
    cost: float


def cut(
    batch: int, m: int, n: int, k: int, left: Side, right: Side, along: int, kind: Kind
) -> Blocking:
    """The cheaper of both roles. `along` is the axis of unit stride of the stores: 0 or 1."""
    plain = _role(batch, m, n, k, left, right, along == 0, kind, False)
    other = _role(batch, n, m, k, right, left, along == 1, kind, True)
    return other if other.cost < plain.cost else plain


class Kind(NamedTuple):
    """What the elements are, and the vectors that the host has for them."""

    element: str
    lanes: int
    registers: int
    logical: bool = False


def _role(
    batch: int, rows: int, columns: int, k: int, left: Side, right: Side, turned: bool,
    kind: Kind, swapped: bool,
) -> Blocking:  # fmt: skip
    turned = turned and min(rows, columns) > 1
    tile = _tile(rows, columns, kind)
    strips = -(-rows // tile.rows)
    width = -(-columns // tile.columns) * tile.columns
    size = BYTES[kind.element]
    large = k * columns * size > NEAR * 2
    depth = SEGMENT
    if columns == 1 or right.outer == 1:
        how = "direct" if strips <= 16 or k * columns * size <= NEAR else "copy"
        if how == "direct" and k * columns * size > FAR:
            depth = max(16, min(SEGMENT, NEAR // (right.inner * size) // 16 * 16))
            tile = replace(tile, ahead=True)
    else:
        how = "transpose" if right.inner == 1 else "gather"
    part = 1 if tile.lanes == kind.lanes else 2
    steps = strips * tile.rows * width / (tile.lanes * part)
    pack = _COPY[how][large] * k * columns
    cost = steps * (k + 4) + 0.4 * rows * columns * turned
    if left.inner != 1:
        cost += rows * k * (0.02 if rows * k * size <= NEAR * 2 else 1.5)
    high, wide = _block(batch, rows, columns, k, tile, pack, cost)
    whole = depth == SEGMENT and (how == "direct" or min(wide, width) * k <= PANELS)
    pieces = -(-rows // high)
    return Blocking(swapped, tile, how, turned, whole, depth, high, wide, cost + pack * pieces)


def _tile(rows: int, columns: int, kind: Kind) -> Tile:
    """As many sums as registers hold, at least eight chains, little waste at the edges."""
    lanes = kind.lanes
    if columns <= lanes // 2 and lanes >= 8:
        lanes //= 2
    vectors = -(-columns // lanes)
    across = 3 if vectors == 3 else min(vectors, 2)
    most = 8 if kind.registers >= 32 or across == 1 else 6 if across == 2 else 4
    high = -(-rows // -(-rows // most))
    if high < 4:
        across = min(vectors, 8 // high)
    return Tile(kind.element, lanes, across, high, kind.logical)


def _block(
    batch: int, rows: int, columns: int, k: int, tile: Tile, pack: float, cost: float
) -> tuple[int, int]:
    """Rows and columns of a block: enough pieces for the workers, few repeated copies."""
    wanted = min(PIECES, batch * rows * columns * k // TARGET) // batch
    best, choice = float("inf"), (rows, columns)
    limit = max(tile.columns, PANELS // min(k + 1, SEGMENT))
    area = PANELS if k > 128 else PANELS // 4
    for down in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256):
        high = _even(rows, down, tile.rows)
        for across in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256):
            wide = _even(columns, across, tile.columns)
            found = -(-rows // high) * -(-columns // wide)
            fits = wide <= limit and high * wide <= area
            missing = max(0, wanted - found) / max(wanted, 1)
            loss = -(-rows // high) * pack + cost * (missing + (0 if fits else 1))
            loss += -(-columns // wide) * rows * k * 0.02 + found
            if loss < best:
                best, choice = loss, (high, wide)
    return choice


def _even(extent: int, pieces: int, step: int) -> int:
    """The extent of equal pieces, in whole steps."""
    return min(-(-extent // (pieces * step)) * step, -(-extent // step) * step)
