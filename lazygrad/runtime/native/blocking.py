"""How a product is cut, from its shape and strides alone: roles, tile, copies, blocks.

The result has a row axis, along which one operand is broadcast, and a lane axis, along which
vectors of the other lie. Either operand can play either role, since factors commute: the result is
then computed as its transpose. Costs are counted in cycles of one vector fused multiply-add each.
Nothing chosen here reaches a bit of the result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from lazygrad.runtime.native.target import cores
from lazygrad.runtime.native.tiles import BYTES, SEGMENT, Tile

NEAR, FAR = 1 << 18, 1 << 20  # bytes: a part of the second-level cache, more than it holds

# Elements of a packed operand, or of a block of the result. With short sums what the epilogue
# reads comes from memory meanwhile, and smaller blocks mix the two better.
_PANELS = 1 << 17
_WORTH = 1 << 19  # products of elements that are worth a piece of work of their own
READING = 16  # rows: a product of fewer takes as long as reading its other operand
_PIECES = 4  # for each core, as many as are wanted of a large product
_UNEVEN = 0.15  # of the time, what a single piece for each core costs, in place of many
_FEW = 4  # panels, up to which most reads of the other operand are the first ones

# Cycles for each element that is copied, from a cache that is near and from further away.
_COPY = {
    "direct": (0.0, 0.6), "copy": (0.3, 1.0), "spread": (0.4, 1.0), "transpose": (0.7, 2.0),
    "gather": (3.0, 4.0),
}  # fmt: skip
_RUN = 4.0  # cycles for each run that is packed, along each line of it
_READ = {
    "direct": "read where they lie", "copy": "copied", "spread": "spread", "gather": "gathered",
    "transpose": "transposed",
}  # fmt: skip
_CUTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512)


class Side(NamedTuple):
    """Strides of an operand along its own axis of the result and along the inner axis.

    Of one that lies in pieces, the strides within a run. `how` it has to be packed then, and how
    many elements of its own axis are one run.
    """

    outer: int
    inner: int
    how: str = ""
    run: int = 1


class Kind(NamedTuple):
    """What the elements are, and the vectors that the host has for them."""

    element: str
    lanes: int
    registers: int
    masks: bool = True
    logical: bool = False


@dataclass(frozen=True, slots=True)
class Blocking:
    """How a product is computed: `swapped` if the lanes run along the rows of the result."""

    swapped: bool
    tile: Tile
    how: str  # what becomes of the operand along the lanes
    turned: bool  # the result leaves the tiles transposed
    whole: bool  # that operand is packed at once, not one segment at a time
    rows: int  # of a block, in the axes of the tile
    columns: int
    cost: float

    @property
    def note(self) -> str:
        """The tile, the roles, and what becomes of the operand along the lanes."""
        tile = f"tiles of {self.tile.rows} x {self.tile.columns}"
        roles = " of the transposed result" if self.swapped else ""
        streams = "; operands stream from memory" if self.tile.ahead or self.tile.streams else ""
        return f"{tile}{roles}, lanes {_READ[self.how]}{streams}"


def cut(
    batch: int, m: int, n: int, k: int, left: Side, right: Side, along: int, kind: Kind
) -> Blocking:
    """The cheaper of both roles. `along` is the axis of unit stride of the stores: 0 or 1."""
    plain = _role(batch, m, n, k, left, right, along == 0, kind, False)
    other = _role(batch, n, m, k, right, left, along == 1, kind, True)
    return other if other.cost < plain.cost else plain


def _role(
    batch: int, rows: int, columns: int, k: int, left: Side, right: Side, turned: bool,
    kind: Kind, swapped: bool,
) -> Blocking:  # fmt: skip
    turned = turned and min(rows, columns) > 1
    tile = _tile(rows, columns, kind)
    size = BYTES[kind.element]
    strips = -(-rows // tile.rows)
    width = -(-columns // tile.columns) * tile.columns
    nbytes = k * columns * size
    if right.how:
        how = right.how
    elif columns == 1 or right.outer == 1:
        how = "direct" if strips <= 16 or nbytes <= NEAR else "copy"
        tile = replace(tile, ahead=how == "direct" and nbytes > FAR)
    else:
        how = "transpose" if right.inner == 1 else "gather"
    if (
        left.inner == 1
        and not left.how
        and rows * k * size > FAR
        and columns <= _FEW * tile.columns
    ):
        tile = replace(tile, streams=True)
    part = 1 if tile.lanes == kind.lanes else 2  # narrow vectors run twice as fast
    steps = strips * tile.rows * width / (tile.lanes * part)
    cost = steps * (k + 4) + 0.4 * rows * columns * turned
    if left.inner != 1 and not left.how:
        cost += rows * k * (0.02 if rows * k * size <= 2 * NEAR else 1.5)
    pack = _COPY[how][nbytes > 2 * NEAR] * k * columns
    if how == "spread":
        pack += _RUN / min(right.run, tile.lanes) * k * columns
    high, wide = _block(batch, rows, columns, k, tile, pack, cost)
    whole = not tile.ahead and (how == "direct" or min(wide, width) * k <= _PANELS)
    return Blocking(swapped, tile, how, turned, whole, high, wide, cost + pack * -(-rows // high))


def _tile(rows: int, columns: int, kind: Kind) -> Tile:
    """As many sums as registers hold, at least eight chains, little waste at the edges."""
    lanes = kind.lanes
    if columns <= lanes // 2 and lanes >= 8:
        lanes //= 2
    vectors = -(-columns // lanes)
    usual = 2 if kind.masks else 3  # of narrow vectors more, since their edges waste less
    across = 3 if vectors == 3 else min(vectors, usual)
    most = 8 if kind.registers >= 32 or across == 1 else 6 if across == 2 else 4
    high = -(-rows // -(-rows // most))
    if high < 4:
        across = min(vectors, 8 // high)
    return Tile(kind.element, lanes, across, high, kind.logical, masks=kind.masks)


def _block(
    batch: int, rows: int, columns: int, k: int, tile: Tile, pack: float, cost: float
) -> tuple[int, int]:
    """Rows and columns of a block: enough pieces for the workers, few repeated copies."""
    work = batch * columns * k * max(rows, READING)
    wanted = min(_PIECES * cores(), work // _WORTH) // batch
    busy = max(1, min(cores(), work // _WORTH))
    far = rows * columns * BYTES[tile.element] > FAR
    area = _PANELS // (32 if far and k <= 32 else 8 if far and k <= 128 else 1)  # see `_PANELS`
    limit = max(tile.columns, _PANELS // min(k + 1, SEGMENT))
    if rows <= tile.rows and tile.ahead:
        limit = columns  # nothing is read twice

    def loss(block: tuple[int, int]) -> float:
        high, wide = block
        down, across = -(-rows // high), -(-columns // wide)
        pieces = batch * down * across
        missing = max(0, wanted - down * across) / max(wanted, 1)
        idle = -(-pieces // busy) * busy / pieces - 1
        fits = wide <= limit and high * wide <= area
        again = down * pack + 0.02 * across * rows * k
        uneven = (again + cost) * (idle + _UNEVEN * missing)
        return again + uneven + cost * (not fits) + down * across

    return min(
        ((h, w) for h in _pieces(rows, tile.rows) for w in _pieces(columns, tile.columns)), key=loss
    )


def _pieces(extent: int, step: int) -> list[int]:
    """Extents of equal pieces, in whole steps."""
    steps = -(-extent // step)
    return list(dict.fromkeys(-(-steps // cut) * step for cut in _CUTS if cut <= steps))
