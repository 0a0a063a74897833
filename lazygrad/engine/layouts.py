"""Where every value of a graph lies: views resolved to strided accesses, copies made explicit.

`lay_out` is the last rewrite before kernels are formed. Afterwards each node is either *stored*
(it has a buffer of its own, C-contiguous), *virtual* (a literal or a position: no buffer, loads
compute it) or a view, that is, a root and strides over the root's buffer. A copy node is inserted
where a view is not enough:

- a reshape that strides cannot express (the native runtime's products read some of these in
  pieces, such as the windows of a convolution), and walks with negative steps (NumPy's loops round
  differently over them; products of the native runtime do not mind);
- operands of opaque ops, which get dense arrays, so that their rounding does not depend on where
  an operand came from (unless their machine code reads others); products whose operands BLAS
  cannot read, or that share a buffer (BLAS takes another path for a matrix and itself);
- outputs, kept values and writes that are not the one value stored there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from lazygrad.engine.frozen import FNode, FrozenGraph, ancestors
from lazygrad.engine.passes.rewrite import Editor
from lazygrad.ops.movement import PERMUTE, RESHAPE
from lazygrad.ops.opdef import Kind, OpDef, Strided
from lazygrad.ops.source import IOTA, LITERAL
from lazygrad.runtime.dispatch import uses_native
from lazygrad.shapes import Shape, contiguous_strides, numel, reshape_strides

COPY = OpDef(
    "copy",
    Kind.ELEMENTWISE,
    lambda x: (x.shape, x.dtype),
    lambda x: np.array(x, order="C"),
    scalar=lambda m, x: x,
    flops=0,
    doc="The same value in a dense buffer of its own; written by the compiler only.",
)

Parts = tuple[Shape, ...]  # for each axis the extents into which it is cut, outermost first

ARENA, OUTPUT, WRITE = "arena", "output", "write"
DENSE = (Kind.OPAQUE, Kind.RANDOM, Kind.EFFECT)  # kinds with dense operands


@dataclass(frozen=True, slots=True)
class Home:
    """Where a stored value lives: the arena, output `index`, or the target of write `index`."""

    place: str
    index: int = 0


@dataclass(slots=True)
class Layouts:
    """A graph whose views are resolved; `root` and `layout` are indexed by node.

    A view that only products read may be in `split`: its layout is then that of its pieces, the
    extents into which each of its axes is cut.
    """

    frozen: FrozenGraph
    root: list[int]
    layout: list[Strided]
    guard: list[int]  # the last effect that a node's value went through, or -1
    after: list[int]  # the root that readers of a view have to wait for, or -1
    split: dict[int, Parts] = field(default_factory=dict)
    homes: dict[int, Home] = field(default_factory=dict)  # roots that outlive their readers
    exported: set[int] = field(default_factory=set)  # roots that other kernels or callers read

    def stored(self, i: int) -> bool:
        """Whether node i is computed into a buffer."""
        node = self.frozen.nodes[i]
        return self.root[i] == i and is_stored(node)


def is_stored(node: FNode) -> bool:
    """Whether a kernel computes it (an empty value needs no kernel)."""
    return (
        node.op.kind not in (Kind.SOURCE, Kind.VIEW, Kind.EFFECT)
        and not is_virtual(node)
        and 0 not in node.shape
    )


def is_virtual(node: FNode) -> bool:
    """Whether loads compute it: literals, and positions along the only axis of an iota."""
    if node.op is IOTA:
        return numel(node.shape) == node.shape[node.attrs["axis"]]
    return node.op is LITERAL


def is_dense(layout: Strided) -> bool:
    """C-contiguous, at any offset.

    >>> is_dense(Strided((2, 1, 3), (3, 7, 1), 5)), is_dense(Strided((2, 3), (1, 2)))
    (True, False)
    """
    step = 1
    for n, s in zip(reversed(layout.shape), reversed(layout.strides), strict=True):
        if n != 1:
            if s != step:
                return False
            step *= n
    return True


def is_backward(layout: Strided) -> bool:
    """Whether some of its axes are walked backward.

    >>> is_backward(Strided((3,), (-1,), 2)), is_backward(Strided((1,), (-1,)))
    (True, False)
    """
    return any(s < 0 and n > 1 for n, s in zip(layout.shape, layout.strides, strict=True))


def has_rows(layout: Strided) -> bool:
    """Whether the last axis is contiguous.

    >>> has_rows(Strided((2, 3), (7, 1))), has_rows(Strided((2, 3), (1, 2)))
    (True, False)
    """
    return layout.shape[-1] == 1 or layout.strides[-1] == 1


_READS: dict[str, Callable[[Strided], bool]] = {
    "dense": is_dense, "rows": has_rows, "strided": lambda layout: True,
}  # fmt: skip


def covers(layout: Strided, root: FNode) -> bool:
    """Whether a view is all of its root's buffer in order."""
    return (
        layout.offset == 0 and numel(layout.shape) == numel(root.shape) and is_dense(layout)
    )  # fmt: skip


def contiguous(shape: Shape) -> Strided:
    """The layout of a dense buffer."""
    return Strided(shape, contiguous_strides(shape))


def spread(layout: Strided, domain: Shape) -> tuple[int, ...]:
    """The strides of an operand over a domain that it broadcasts to.

    >>> spread(Strided((3, 1), (1, 1)), (2, 3, 4))
    (0, 1, 0)
    """
    if layout.shape == domain:
        return layout.strides
    lead = len(domain) - len(layout.shape)
    inner = [0 if n == 1 else s for n, s in zip(layout.shape, layout.strides, strict=True)]
    return (*(0,) * lead, *inner)


def respread(layout: Strided, domain: Shape, points: Shape) -> tuple[int, ...] | None:
    """As `spread`, over the same points under another shape; None where no strides say it.

    >>> respread(Strided((3, 1, 1), (1, 1, 1)), (2, 3, 4, 4), (2, 3, 16))
    (0, 1, 0)
    """
    strides = spread(layout, domain)
    return strides if domain == points else reshape_strides(domain, strides, points)


def cut_alike(old: Shape, new: Shape) -> Parts | None:
    """The axes of `new` in pieces of which each lies within one axis of `old`, if there are such.

    >>> cut_alike((4, 3, 2), (2, 2, 6)), cut_alike((4, 3), (3, 4)), cut_alike((6,), (1, 6))
    (((2,), (2,), (3, 2)), None, ((1,), (6,)))
    """
    left = [n for n in old if n != 1]
    parts: list[Shape] = []
    for extent in new:
        pieces: list[int] = []
        while extent > 1:
            piece = min(extent, left[0])
            if extent % piece or left[0] % piece:
                return None
            pieces.append(piece)
            extent //= piece
            left[0] //= piece
            if left[0] == 1:
                del left[0]
        parts.append(tuple(pieces) or (1,))
    return tuple(parts)


def _readable_by_blas(layout: Strided) -> bool:
    (m, k), (row, column) = layout.shape[-2:], layout.strides[-2:]
    return (column == 1 and row >= k) or (row == 1 and column >= m)


class _Arranger(Editor):
    """An editor that knows the root and layout of every node it adds."""

    def __init__(self) -> None:
        super().__init__()
        self.root: list[int] = []
        self.layout: list[Strided] = []
        self.guard: list[int] = []
        self.after: list[int] = []
        self.split: dict[int, Parts] = {}
        self.fine: dict[int, int] = {}  # a view in pieces -> the view with an axis for each piece

    def put(self, node: FNode, *, source: bool = False) -> int:
        """Add a node and find its layout; the index of it, or of a copy that stands for it."""
        index = self.add_source(node) if source else self.add(node)
        if index < len(self.root):
            return index
        guard = -1
        for i in node.inputs:
            guard = max(guard, self.guard[i])
        root, layout = index, contiguous(node.shape)
        if node.op.kind is Kind.EFFECT:
            root, layout, guard = self.root[node.inputs[0]], self.layout[node.inputs[0]], index
        elif node.op.kind is Kind.VIEW and 0 not in node.shape:
            assert node.op.view is not None
            below = node.inputs[0]
            root = self.root[below]
            found = None
            if below not in self.split or node.op is RESHAPE:
                found = node.op.view(self.layout[below], **node.attrs)
            if found is None:
                return self._put_split(index, node)
            layout = found
        self.root.append(root)
        self.layout.append(layout)
        self.guard.append(guard)
        self.after.append(self.moment(node))
        return index if uses_native() or not is_backward(layout) else self.copy(index)

    def moment(self, node: FNode) -> int:
        """The latest stored value that readers of a view have to wait for: its later operands."""
        if node.op.kind not in (Kind.VIEW, Kind.EFFECT):
            return -1
        found = self.after[node.inputs[0]]
        for i in node.inputs[1:] if node.op.kind is Kind.VIEW else ():
            found = max(found, self.root[i] if is_stored(self.nodes[self.root[i]]) else -1)
        return found

    def _put_split(self, index: int, node: FNode) -> int:
        """Settle a view in pieces; the view with an axis for each piece comes behind it."""
        below = node.inputs[0]
        parts = self.parts(node, below)
        assert parts is not None, "the operand of a reshape is copied before"
        source = self.fine.get(below, below)
        shape = tuple(n for part in parts for n in part)
        old = self.layout[source]
        self.root.append(self.root[below])
        self.guard.append(self.guard[below])
        self.after.append(self.moment(node))
        self.split[index] = parts
        if node.op is PERMUTE:
            starts = list(accumulate((len(p) for p in self.split[below]), initial=0))
            axes = tuple(k for a in node.attrs["axes"] for k in range(starts[a], starts[a + 1]))
            assert PERMUTE.view is not None
            found, fine = PERMUTE.view(old, axes=axes), node.over((source,))
            fine = replace(fine, attrs={"axes": axes}, shape=shape)
        else:
            assert RESHAPE.view is not None
            found, fine = RESHAPE.view(old, shape=shape), node.over((source,))
            fine = replace(fine, attrs={"shape": shape}, shape=shape)
        assert found is not None
        self.layout.append(found)
        self.fine[index] = self.put(fine)
        return index

    def parts(self, node: FNode, below: int) -> Parts | None:
        """The pieces of the axes of a view that strides cannot express, if there are such."""
        if node.op is PERMUTE:
            return tuple(self.split[below][a] for a in node.attrs["axes"])
        if node.op is RESHAPE and uses_native():
            return cut_alike(self.layout[below].shape, node.shape)
        return None

    def whole(self, i: int) -> int:
        """Node i as everybody can read it: one in pieces is copied."""
        if i not in self.split:
            return i
        node = self.nodes[i]
        dense = FNode(
            RESHAPE, (self.copy(self.fine[i]),), {"shape": node.shape}, node.shape, node.dtype,
            node.site, node.name,
        )  # fmt: skip
        return self.put(dense)

    def copy(self, i: int, *, fresh: bool = False) -> int:
        """A dense copy of node i; `fresh` ones are shared with nobody."""
        if i in self.split and not fresh:
            return self.whole(i)
        i = self.whole(i)
        node = self.nodes[i]
        new = FNode(COPY, (i,), {}, node.shape, node.dtype, node.site, node.name)
        if not fresh:
            return self.put(new)
        self.nodes.append(new)
        self.root.append(len(self.root))
        self.layout.append(contiguous(node.shape))
        self.guard.append(-1)
        self.after.append(-1)
        return len(self.nodes) - 1

    def in_buffer(self, i: int) -> bool:
        """Whether its elements lie in memory."""
        return not is_virtual(self.nodes[self.root[i]])

    def operand(self, node: FNode, position: int, i: int) -> int:
        """Input i as `node` can take it: itself or a dense copy."""
        if 0 in self.nodes[i].shape:
            return i
        kind = node.op.kind
        if kind is Kind.VIEW:
            assert node.op.view is not None
            if 0 in node.shape:
                return i
            plain = i not in self.split or node.op is RESHAPE
            if plain and node.op.view(self.layout[i], **node.attrs) is not None:
                return i
            if plain or node.op is PERMUTE:
                return i if self.parts(node, i) is not None else self.copy(i)
            return self.whole(i)
        if kind is not Kind.CONTRACT:
            i = self.whole(i)
            if node.op is not COPY and is_backward(self.layout[i]):
                i = self.copy(i)
        if kind in DENSE or (kind is Kind.ELEMENTWISE and node.op.scalar is None):
            reads = node.op.reads if uses_native() else "dense"
            good = self.in_buffer(i) and _READS[reads](self.layout[i])
            return i if good else self.copy(i)
        if kind is Kind.CONTRACT:
            if uses_native():  # reads any strides, with the same rounding
                flat = all(len(part) == 1 for part in self.split.get(i, ())[:-2])
                return i if self.in_buffer(i) and flat else self.copy(i)
            twice = position == 1 and self.root[i] == self.root[node.inputs[0]]
            good = self.in_buffer(i) and not twice and _readable_by_blas(self.layout[i])
            return i if good else self.copy(i)
        return i


def lay_out(frozen: FrozenGraph) -> Layouts:
    """Resolve views, insert copies, and decide which values live in outputs and writes."""
    to = _Arranger()
    bound = set(frozen.sources)
    new: list[int] = []
    for i, node in enumerate(frozen.nodes):
        if i in bound:
            new.append(to.put(node, source=True))
            continue
        mapped = node.over([new[j] for j in node.inputs])
        inputs = [to.operand(mapped, k, j) for k, j in enumerate(mapped.inputs)]
        new.append(to.put(mapped.over(inputs)))
    return _settle(frozen, to, new)


def _settle(frozen: FrozenGraph, to: _Arranger, new: list[int]) -> Layouts:
    """Give every kept value, output and write a home, with copies where one value has several."""
    homes: dict[int, Home] = {}
    effects = [i for i, n in enumerate(to.nodes) if n.op.kind is Kind.EFFECT]
    checked = ancestors(to.nodes, effects)

    def claim(i: int, home: Home) -> int:
        root = to.root[i]
        free = is_stored(to.nodes[root]) and root not in homes
        if free and home.place is not ARENA:
            free = covers(to.layout[i], to.nodes[root])
        if free and home.place is WRITE:
            free = root not in checked  # nothing is written before every check has run
        at = i if free or 0 in to.nodes[i].shape else to.copy(i, fresh=True)
        homes[to.root[at]] = home
        return at

    ends = {*frozen.kept, *frozen.outputs, *(j for _, j in frozen.writes)}
    new = [to.whole(i) if j in ends else i for j, i in enumerate(new)]
    kept = []
    written = {new[frozen.sources[at]] for at, _ in frozen.writes}
    for i in (new[j] for j in frozen.kept):
        root = to.root[i]
        if is_virtual(to.nodes[root]) or root in written:  # a rewrite may end at a source
            i = claim(i, Home(ARENA))
        elif is_stored(to.nodes[root]):
            homes.setdefault(root, Home(ARENA))
        kept.append(i)
    outputs = [claim(new[i], Home(OUTPUT, k)) for k, i in enumerate(frozen.outputs)]
    writes = [
        (at, claim(new[i], Home(WRITE, k))) for k, (at, i) in enumerate(frozen.writes)
    ]  # fmt: skip
    graph = frozen.replace(
        nodes=tuple(to.nodes), sources=tuple(new[i] for i in frozen.sources),
        outputs=tuple(outputs), kept=tuple(kept), writes=tuple(writes),
    )  # fmt: skip
    homes = {r: h for r, h in homes.items() if is_stored(to.nodes[r])}
    return Layouts(graph, to.root, to.layout, to.guard, to.after, to.split, homes)
