"""Reverse mode as graph -> graph: a backward pass is ordinary nodes.

`pullback` walks the nodes from the roots in reverse creation order (inputs always have smaller
ids, so that is a reverse topological order) and writes each op's vjp with tensor handles. The
backward of a backward is the same walk over the nodes that the first one appended.
"""

from __future__ import annotations

import weakref
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from itertools import pairwise
from operator import add
from typing import TYPE_CHECKING, Any

from lazygrad.engine.graph import HOOKS, Node
from lazygrad.engine.handles import HANDLES
from lazygrad.engine.modes import STATE
from lazygrad.ops.movement import CAT, SLICE_SET
from lazygrad.ops.opdef import Kind, Patch
from lazygrad.ops.source import VERSION
from lazygrad.shapes import Shape, unbroadcast_axes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lazygrad.engine.tensor import Tensor

NOTHING: Mapping[int, Any] = {}


@contextmanager
def written_for(node: Node, grad: bool) -> Iterator[None]:
    """Nodes appended inside get the user's line of `node` and the given gradient mode.

    Gradients have the dtypes of the forward pass: nothing is cast but what that has cast.
    """
    before = STATE.site, STATE.grad, STATE.autocast
    STATE.site, STATE.grad, STATE.autocast = node.site, grad, None
    try:
        yield
    finally:
        STATE.site, STATE.grad, STATE.autocast = before


def is_leaf(node: Node) -> bool:
    """Whether gradients stop at this node."""
    return node.op.kind is Kind.SOURCE or node.op is VERSION


def owner_of(leaf: Node) -> Any:
    """The tensor whose gradient a leaf node stands for, or None when it is gone."""
    payload = leaf.payload
    if leaf.op is VERSION:
        return payload() if isinstance(payload, weakref.ref) else payload
    return payload.owner() if hasattr(payload, "owner") else None


def reachable(roots: Iterable[Node], ends: Container[int] = ()) -> list[Node]:
    """The nodes that need a gradient and that the roots depend on, newest first.

    What the nodes `ends` (their ids) are made of is not among them.
    """
    seen: dict[int, Node] = {}
    stack = [n for n in roots if n.requires_grad]
    while stack:
        node = stack.pop()
        if node.id in seen:
            continue
        seen[node.id] = node
        if not is_leaf(node) and node.id not in ends:
            stack.extend(n for n in node.inputs if n.requires_grad and n.id not in seen)
    return [seen[i] for i in sorted(seen, reverse=True)]


def _useful(nodes: list[Node], wanted: set[int]) -> set[int]:
    """Those of `nodes` (newest first) through which a gradient reaches a wanted node."""
    useful: set[int] = set()
    for node in reversed(nodes):
        if node.id in wanted or (
            not is_leaf(node) and any(n.id in useful for n in node.inputs if n.requires_grad)
        ):
            useful.add(node.id)
    return useful


def sum_to(g: Tensor, node: Node) -> Tensor:
    """Bring a cotangent to the shape and dtype of the node: undo broadcasting and casts."""
    if g.shape != node.shape:
        axes, _ = unbroadcast_axes(g.shape, node.shape)
        if axes:
            g = g.sum(dim=axes, keepdim=True)
        if g.shape != node.shape:
            g = g.reshape(node.shape)
    return g if g.dtype is node.dtype else g.to(node.dtype)


def pullback(
    seeds: Sequence[tuple[Node, Tensor]], wanted: Iterable[Node], create_graph: bool = False,
    gathered: Mapping[int, Tensor] = NOTHING,
) -> dict[int, Tensor]:  # fmt: skip
    """The gradients of `sum(root * seed)` with respect to the wanted nodes, by node id.

    A wanted node that no root depends on is absent from the result. What is `gathered` for a node
    already is what its gradient begins with: sums keep the order of a walk over all nodes.
    """
    return _Walk(seeds, wanted, create_graph, gathered).run()


def _spread(patch: Patch, shape: Shape) -> Tensor:
    """A patch in zeros of `shape`."""
    where = {"starts": patch.starts, "stops": patch.stops, "steps": patch.steps}
    spread: Tensor = patch.value.new_zeros(shape).apply(SLICE_SET, patch.value, **where)
    return spread


def assembled(patches: Sequence[Patch], shape: Shape) -> Tensor:
    """The sum of patches of a tensor of `shape`.

    Those that are pieces of one axis become one concatenation instead of a sum of tensors that are
    mostly zero. Every element is added up in the order in which the patches came, and its zeros are
    positive, so the bits do not depend on which patches come together.
    """
    line = _line(patches, shape) if len(patches) > 1 else None
    if line is None:
        total: Tensor = reduce(add, (_spread(p, shape) for p in patches))
        return total
    axis, pieces = line
    parts: list[Tensor] = []
    end = 0
    for start, stop, value in [*pieces, (shape[axis], shape[axis], None)]:
        if start > end:
            like = patches[0].value
            parts.append(like.new_zeros((*shape[:axis], start - end, *shape[axis + 1 :])))
        if value is not None:
            parts.append(value)
        end = stop
    return parts[0].apply(CAT, *parts[1:], axis=axis) + 0.0


def _line(patches: Sequence[Patch], shape: Shape) -> tuple[int, list[tuple[int, int, Any]]] | None:
    """The axis along which patches lie side by side, and the pieces in order; None otherwise."""
    whole = [(0, n, 1) for n in shape]
    axes = {
        i
        for p in patches
        for i, cut in enumerate(zip(p.starts, p.stops, p.steps, strict=True))
        if cut != whole[i]
    }
    if len(axes) > 1 or any(p.steps[a] != 1 for p in patches for a in axes):
        return None
    axis = axes.pop() if axes else 0
    if not shape:
        return None
    found: dict[tuple[int, int], Any] = {}
    for p in patches:
        key = p.starts[axis], p.stops[axis]
        found[key] = found[key] + p.value if key in found else p.value
    pieces = [(*key, found[key]) for key in sorted(found)]
    apart = all(a[1] <= b[0] for a, b in pairwise(pieces))
    return (axis, pieces) if apart and all(b > a for a, b, _ in pieces) else None


class _Walk:
    """One reverse walk: the cotangents gathered so far, and those of each call's outputs.

    A walk over copied nodes is part of an `outer` one: `instead` of some nodes it gives their
    cotangents to nodes of that.
    """

    def __init__(
        self, seeds: Sequence[tuple[Node, Tensor]], wanted: Iterable[Node], create_graph: bool,
        gathered: Mapping[int, Tensor], outer: _Walk | None = None,
        instead: Mapping[int, Node] = NOTHING,
    ) -> None:  # fmt: skip
        self.wanted = {n.id for n in wanted}
        self.order = reachable((root for root, _ in seeds), instead)
        self.useful = _useful(self.order, self.wanted)
        self.create_graph = create_graph
        self.instead = instead
        self.grads: dict[int, Tensor] = dict(gathered) if outer is None else outer.grads
        # what comes after those cotangents
        self.patches: dict[int, list[Patch]] = {} if outer is None else outer.patches
        self.calls: dict[int, dict[int, Tensor]] = {}
        for root, seed in seeds:
            with written_for(root, create_graph):
                self.accumulate(root, seed)

    def accumulate(self, node: Node, g: Tensor | Patch) -> None:
        """Add a cotangent to what has arrived at `node`."""
        node = self.instead.get(node.id, node)
        if isinstance(g, Patch):
            self.patches.setdefault(node.id, []).append(g)
            return
        self.settle(node)
        g = sum_to(g, node)
        held = self.grads.get(node.id)
        self.grads[node.id] = g if held is None else held + g

    def settle(self, node: Node) -> None:
        """Add the patches that wait for a node."""
        patches = self.patches.pop(node.id, None)
        if patches is not None:
            self.accumulate(node, assembled(patches, node.shape))

    def run(self) -> dict[int, Tensor]:
        """Visit the nodes newest first, so that every cotangent is complete when it is used."""
        found: dict[int, Tensor] = {}
        for node in self.order:
            if node.id not in self.useful:
                continue
            if node.op.kind is Kind.CALL:  # older than its projections, so they are all done
                with written_for(node, self.create_graph):
                    self.through_call(node)
                continue
            if node.id in self.patches:
                with written_for(node, self.create_graph):
                    self.settle(node)
            g = self.grads.pop(node.id, None)
            if g is None:
                continue
            g = _run_hooks(node, g)
            if node.id in self.wanted:
                found[node.id] = g
            if is_leaf(node):
                continue
            if node.op.kind is Kind.PROJECT:
                self.calls.setdefault(node.inputs[0].id, {})[node.attrs["index"]] = g
                continue
            with written_for(node, self.create_graph):
                self.through_op(node, g)
        return found

    def through_op(self, node: Node, g: Tensor) -> None:
        """Append the vjp of an op."""
        vjp = node.op.vjp
        if vjp is None:
            return
        wrap = HOOKS.wrap
        cotangents = vjp(g, wrap(node), *[wrap(n) for n in node.inputs], **node.attrs)
        for source, cotangent in zip(node.inputs, cotangents, strict=True):
            if cotangent is None or not source.requires_grad or source.id not in self.useful:
                continue
            self.accumulate(source, cotangent() if callable(cotangent) else cotangent)

    def through_call(self, call: Node) -> None:
        """Append the backward call of a call."""
        cotangents = self.calls.pop(call.id, None)
        if not cotangents:
            return
        copy = call.payload.copy(call, cotangents)
        if copy is not None:
            seeds, instead = copy
            wanted = [n for n, there in instead.items() if there.id in self.useful]
            inside = {n.id: self.instead.get(t.id, t) for n, t in instead.items()}
            _Walk(seeds, wanted, self.create_graph, NOTHING, self, inside).run()
            return
        needed = {i for i, n in enumerate(call.inputs) if n.requires_grad and n.id in self.useful}
        first = {n.id: i for i, n in reversed([*enumerate(call.inputs)]) if i in needed}
        for i in needed:
            self.settle(call.inputs[i])
        gathered = {i: self.grads[n] for n, i in first.items() if n in self.grads}
        for i, g in call.payload.pull(call, cotangents, needed, gathered).items():
            if i in gathered:
                self.grads[call.inputs[i].id] = g
            else:
                self.accumulate(call.inputs[i], g)


def _run_hooks(node: Node, g: Tensor) -> Tensor:
    """Pass a complete cotangent through the hooks of the tensor that stands for the node.

    A pass that is only planned calls no hooks: what they do besides would be seen.
    """
    if STATE.busy:
        return g
    ref = HANDLES.get(node.id)
    tensor = ref() if ref is not None else None
    if tensor is None and is_leaf(node):
        tensor = owner_of(node)
    if tensor is None:
        return g
    if STATE.capture is not None:
        STATE.capture.hooked.pop(id(tensor), None)
    hooked: Tensor = tensor._run_hooks(g)
    return hooked
