"""Groups: the nodes of one kernel while it is decided which these are, and what they may be.

`fuse` fills them, the stages of a kernel are formed from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

from lazygrad.engine.frozen import FNode
from lazygrad.engine.layouts import Layouts, contiguous, spread
from lazygrad.ops.opdef import Kind, Strided
from lazygrad.shapes import Shape

CACHE = 1 << 21  # bytes that a kernel, or one chunk of it, touches: a second-level cache

ROWS, CONTRACT, EXTERN = "rows", "contract", "extern"


@dataclass(slots=True, eq=False)
class Group:
    """Nodes of one kernel. `prefix`: the leading axes that every stage has and stays in."""

    form: str
    rank: int
    nodes: list[int] = field(default_factory=list)
    prefix: Shape = ()
    touched: set[int] = field(default_factory=set)  # roots of other kernels that it reads
    outside: int = 0  # bytes of those
    widest: int = 0  # bytes of the largest value that it makes
    reason: str = ""  # why it was opened: what kept its first node out of an earlier kernel
    born: int = 0  # early groups run in this order

    @property
    def nbytes(self) -> int:
        """An estimate of the bytes that it touches in one go."""
        return touched_bytes(self.outside, self.widest, len(self.nodes))


def touched_bytes(outside: int, widest: int, made: int) -> int:
    """What is read, and the few of the values made that are needed at once."""
    return outside + widest * min(made, 3)


class Trial(NamedTuple):
    """What a group would be with some more nodes."""

    prefix: Shape
    touched: set[int]
    outside: int
    widest: int


def domain_of(layouts: Layouts, node: FNode) -> Shape:
    """The points at which a node computes: of its operand for a reduction."""
    if node.op.kind is Kind.REDUCE:
        return layouts.frozen.nodes[node.inputs[0]].shape
    return node.shape


def form_of(layouts: Layouts, node: FNode) -> str:
    """The form of kernel that a node needs."""
    kind = node.op.kind
    if kind is Kind.ELEMENTWISE and node.op.scalar is not None:
        return ROWS
    if kind is Kind.REDUCE and node.op.combine and 0 not in domain_of(layouts, node):
        return ROWS
    if kind is Kind.CONTRACT and all(0 not in layouts.frozen.nodes[i].shape for i in node.inputs):
        return CONTRACT
    return EXTERN


def common_prefix(a: Shape, b: Shape) -> Shape:
    """The leading axes that two shapes share.

    >>> common_prefix((2, 3, 4), (2, 3, 5))
    (2, 3)
    """
    if a == b:
        return a
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return a[:n]


def aligned_axes(access: Strided, root: Shape, domain: Shape, prefix: Shape) -> int:
    """Over how many axes of `prefix` an access to a value of shape `root` stays in its own row."""
    if access.shape == root == domain and access.offset == 0:
        plain = contiguous(root).strides
        if access.strides == plain:
            return len(prefix)
    strides, plain = spread(access, domain), contiguous(root).strides
    length = min(len(prefix), len(root))
    while length:
        same = root[:length] == prefix[:length] and all(
            n == 1 or s == p
            for n, s, p in zip(prefix[:length], strides[:length], plain[:length], strict=True)
        )
        row = prod(root[length:])
        inner = zip(domain[length:], strides[length:], strict=True)
        if same and access.offset + sum((n - 1) * s for n, s in inner) < row:
            return length
        length -= 1
    return 0
