"""Values that are better computed by their reader than stored for it.

A kernel stores what another one reads. Where the reader could compute the value from what is stored
anyway, that costs a write and a read of it for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lazygrad.engine.frozen import FNode
from lazygrad.engine.layouts import Layouts, contiguous
from lazygrad.ops.opdef import Kind
from lazygrad.shapes import numel

# A few sums are computed by one thread. What takes it no longer than to read, it may compute.
MANY, CHEAP = 64, 4


class Late(NamedTuple):
    """Nodes that wait for their reader, by what makes it the better place for them."""

    # Only a reduction over the leading axis reads them. It cannot follow what it reads row by row,
    # but it can compute it as it goes.
    summands: frozenset[int] = frozenset()
    # Their only large operand has other readers, so it is stored anyway.
    steps: frozenset[int] = frozenset()


def late(layouts: Layouts, least: int) -> Late:
    """Elementwise nodes of more than `least` bytes that one other node reads, if it is either."""
    nodes = layouts.frozen.nodes
    readers: dict[int, set[int]] = {}
    for i, node in enumerate(nodes):
        if node.op.kind is not Kind.VIEW:
            for j in node.inputs:
                readers.setdefault(layouts.root[j], set()).add(i)
    summands: dict[int, int] = {}  # with how many sums theirs are
    steps: set[int] = set()
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        if node.nbytes <= least or node.op.kind is not Kind.ELEMENTWISE or node.op.scalar is None:
            continue
        if len(readers.get(i, ())) != 1 or i in layouts.homes or not layouts.stored(i):
            continue
        (reader,) = readers[i]
        sums = numel(nodes[reader].shape) if _is_summed(nodes, i, reader) else summands.get(reader)
        shared = sums is not None and (sums >= MANY or node.op.flops <= CHEAP)
        if sums is not None and shared and _reads(layouts, i, reader):
            summands[i] = sums
        wide = [r for j in node.inputs if nodes[r := layouts.root[j]].nbytes * 8 > node.nbytes]
        if len(set(wide)) == 1 and len(readers[wide[0]]) > 1:
            steps.add(i)
    return Late(frozenset(summands), frozenset(steps))


def _reads(layouts: Layouts, i: int, reader: int) -> bool:
    """Whether the reader reads at each of its points what node i computed there."""
    node, other = layouts.frozen.nodes[i], layouts.frozen.nodes[reader]
    own = [layouts.layout[j] for j in other.inputs if layouts.root[j] == i]
    return all(layout == contiguous(node.shape) for layout in own)


def _is_summed(nodes: Sequence[FNode], i: int, reader: int) -> bool:
    node = nodes[reader]
    leading = node.op.kind is Kind.REDUCE and node.attrs["axes"][:1] == (0,)
    return leading and nodes[i].shape[0] > 1
