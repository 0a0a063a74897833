"""What a picture of a graph shows: one `Item` per node, whatever it is drawn with.

Taking a picture is pure: nothing is computed, appended or stored. Calls of captured functions are
shown by the nodes of their body, a value where there is one, a gradient as `-` where there is none
yet. The same items become a drawing, a Mermaid flowchart, a listing or a text tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazygrad.dtypes import DType
from lazygrad.engine.autodiff import owner_of
from lazygrad.engine.body import between
from lazygrad.engine.frozen import FrozenGraph, Site
from lazygrad.engine.graph import Graph, Node
from lazygrad.engine.handles import HANDLES
from lazygrad.engine.storage import Ref
from lazygrad.errors import GraphReleasedError
from lazygrad.ops.opdef import Array, Kind, OpDef
from lazygrad.ops.source import CONST, LITERAL
from lazygrad.shapes import Shape

INLINE = 6  # elements of a value that is shown in full
SUMMED_UP = 1_000_000  # elements of a value whose extremes are looked for

# An Okabe-Ito palette, tinted: it stays apart for colour-blind readers, and each kind is also
# written on its nodes.
COLOURS = {
    "param": "#8ec5f0",  # blue
    "data": "#f0907c",  # red
    "const": "#7fcca4",  # green
    "state": "#f3dd72",  # yellow
    "computed": "#dcdcdc",  # grey
}


@dataclass(slots=True)
class Item:
    """One box of a picture; `inputs` are positions of earlier items."""

    op: str
    kind: str  # a key of COLOURS
    inputs: tuple[int, ...]
    shape: Shape
    dtype: DType
    attrs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    site: Site | None = None
    node: Node | None = None
    array: Array | None = None
    grad: str = ""
    note: str = ""

    @property
    def value(self) -> str:
        """Its value as text, empty when there is none or when it is too large."""
        return brief(self.array)

    @property
    def type(self) -> str:
        """Shape and dtype, such as `(2, 3) float32`."""
        return f"{self.shape} {self.dtype.name}"

    @property
    def title(self) -> str:
        """The name and what makes it: `w1: param`, `matmul`."""
        what = self.op + attributes(self.attrs)
        return f"{self.name}: {what}" if self.name else what


def kind_of(op: OpDef) -> str:
    """The key of COLOURS for the nodes of an op."""
    if op.kind is not Kind.SOURCE:
        return "computed"
    return "const" if op is LITERAL else op.name


def attributes(attrs: Mapping[str, Any]) -> str:
    """The attributes that shape and dtype do not tell already.

    >>> attributes({"axes": (1,), "keepdim": False, "shape": (2, 3)})
    '(axes=(1,))'
    """
    told = ("shape", "dtype", "value", "index")
    parts = [f"{k}={v!r}" for k, v in attrs.items() if k not in told and v not in (None, False)]
    text = ", ".join(parts)
    return f"({text if len(text) <= 60 else text[:57] + '...'})" if parts else ""


def peek(node: Node) -> Array | None:
    """The value of a node if it has one; computes nothing."""
    if node.op is CONST:
        return np.asarray(node.payload, node.dtype.dtype)
    if node.op is LITERAL:
        return np.asarray(node.attrs["value"], node.dtype.dtype)
    held: Any = node.graph.values.get(node.id)
    if held is None and node.op.kind is Kind.SOURCE:
        held = node.payload
        storage = getattr(held, "storage", None)
        if not isinstance(held, Ref) and storage is not None:  # what a captured graph will read
            held = storage.ref if storage.pending is None else None
    if held is None or isinstance(held, np.ndarray):
        return held
    try:
        return held.array() if hasattr(held, "array") else None
    except GraphReleasedError:
        return None


def peek_tensor(t: Any) -> Array | None:
    """The value of a tensor if it has one; computes nothing."""
    if t._node is not None:
        return peek(t._node)
    storage = t._storage
    return None if storage.pending is not None else storage.array


def brief(array: Array | None) -> str:
    """A small value in full, a large one by its extremes and mean.

    >>> brief(np.array([1.0, 2.5])), brief(np.zeros((2, 9)))
    ('[1.0, 2.5]', '0.0 .. 0.0, mean 0.0')
    """
    if array is None or array.size == 0:
        return ""
    if array.dtype.kind not in "fiub":  # a dtype that NumPy cannot print or average by itself
        array = array.astype(np.float32)
    if array.size <= INLINE:
        style: Any = {"all": number}
        text = np.array2string(array, separator=", ", formatter=style)
        return " ".join(text.split())
    if array.size > SUMMED_UP or array.dtype.kind == "b":
        return ""
    with np.errstate(all="ignore"):
        low, high, mean = array.min(), array.max(), array.mean(dtype=np.float64)
    return f"{number(low)} .. {number(high)}, mean {number(mean)}"


def number(value: Any) -> str:
    """A number in few digits; a float keeps its point.

    >>> number(125.0), number(1 / 3), number(7)
    ('125.0', '0.33333', '7')
    """
    if not isinstance(value, float | np.floating):
        return str(value)
    text = f"{value:.5g}"
    return f"{text}.0" if text.lstrip("-").isdigit() else text


def leaf_of(node: Node) -> Any:
    """The tensor whose `.grad` a node shows, or None."""
    if node.op.kind is Kind.SOURCE:
        return owner_of(node) if node.requires_grad else None
    ref = HANDLES.get(node.id)
    tensor = ref() if ref is not None else None
    return tensor if tensor is not None and tensor._retains else None


def grad_text(leaf: Any) -> str:
    """The gradient of a leaf: `-` before any backward pass, `pending` before it is computed."""
    grad = leaf._grad
    if grad is None:
        return "-"
    array = peek_tensor(grad)
    return "pending" if array is None else brief(array) or f"{grad.shape}"


def name_of(node: Node) -> str:
    """The label of a node, or that of the leaf that it stands for."""
    if node.label:
        return node.label
    storage = getattr(node.payload, "storage", None)
    if storage is not None and storage.label:
        return str(storage.label)
    leaf = owner_of(node) if node.op.kind is Kind.SOURCE else None
    return str(getattr(leaf, "_label", ""))


class _Layout:
    """Nodes as items; calls are replaced by the nodes of their bodies."""

    def __init__(self) -> None:
        self.items: list[Item] = []

    def add(self, nodes: Iterable[Node]) -> list[Item]:
        """Lay out nodes, oldest first; an input that is not among them is left out."""
        self._place(nodes, {}, 0)
        return self.items

    def _place(self, nodes: Iterable[Node], env: dict[int, int], call: int) -> None:
        outputs: dict[int, list[int]] = {}
        for node in nodes:
            kind = node.op.kind
            if kind is Kind.CALL:
                outputs[node.id] = self._inline(node, env)
            elif kind is Kind.PROJECT and node.inputs[0].id in outputs:
                at = env[node.id] = outputs[node.inputs[0].id][node.attrs["index"]]
                if call == 0:  # what is known about the node outside holds for the one inside
                    self._refine(self.items[at], node)
            else:
                inputs = tuple(env[n.id] for n in node.inputs if n.id in env)
                env[node.id] = len(self.items)
                self.items.append(item_of(node, inputs))

    def _inline(self, call: Node, env: dict[int, int]) -> list[int]:
        body = call.payload
        inner = {
            n.id: env[outer.id]
            for n, outer in zip(body.inputs, call.inputs, strict=True)
            if outer.id in env
        }
        self._place(between(body.inputs, [*body.outputs, *body.effects]), inner, call.id)
        return [inner.get(n.id, -1) for n in body.outputs]

    def _refine(self, item: Item, node: Node) -> None:
        item.node = node
        item.name = item.name or name_of(node)
        item.array = peek(node) if item.array is None else item.array
        leaf = leaf_of(node)
        if leaf is not None and not item.grad:
            item.grad = grad_text(leaf)


def item_of(node: Node, inputs: tuple[int, ...]) -> Item:
    """The box of one node."""
    leaf = leaf_of(node)
    op = node.op.name if node.op.kind is not Kind.SOURCE else node.kind
    return Item(
        op, node.kind, inputs, node.shape, node.dtype, node.attrs, name_of(node),
        node.where, node, peek(node), "" if leaf is None else grad_text(leaf),
    )  # fmt: skip


def items_of(graph: Graph) -> list[Item]:
    """The items of the live nodes of a graph, in creation order."""
    return _Layout().add(graph.nodes)


def items_above(root: Node) -> list[Item]:
    """The items of everything that a node is made from, itself last."""
    return _Layout().add(between((), [root]))


def items_of_frozen(frozen: FrozenGraph) -> list[Item]:
    """The items of a frozen graph; positions are those of its nodes."""
    return [
        Item(
            node.op.name if kind == "computed" else kind, kind, node.inputs, node.shape, node.dtype,
            node.attrs, node.name, node.site,
            array=np.asarray(node.attrs["value"]) if node.op is LITERAL else None,
        )
        for node in frozen.nodes
        for kind in [kind_of(node.op)]
    ]  # fmt: skip


def collapse(items: Sequence[Item]) -> list[Item]:
    """One item per line of the user's code and kind: what is left of a graph too large to draw."""
    places: dict[Any, int] = {}
    members: list[list[Item]] = []
    where: list[int] = []
    for item in items:
        key = (item.site, item.kind)
        at = places.setdefault(key, len(places))
        if at == len(members):
            members.append([])
        members[at].append(item)
        where.append(at)
    edges: list[set[int]] = [set() for _ in members]
    for item, at in zip(items, where, strict=True):
        edges[at].update(where[j] for j in item.inputs if where[j] != at)
    return [_merged(group, tuple(sorted(edges[i]))) for i, group in enumerate(members)]


def _merged(group: list[Item], inputs: tuple[int, ...]) -> Item:
    first, last = group[0], group[-1]
    if len(group) == 1:
        alone = Item(last.op, last.kind, inputs, last.shape, last.dtype, last.attrs, last.name)
        alone.site, alone.array, alone.grad = last.site, last.array, last.grad
        return alone
    counts = Counter(item.op for item in group).most_common()
    text = ", ".join(f"{n} {op}" for op, n in counts[:4]) + (", ..." if counts[4:] else "")
    note = f"{len(group)} nodes: {text}"
    return Item(
        f"line {first.site.line}" if first.site else "elsewhere", first.kind, inputs, last.shape,
        last.dtype, site=first.site, note=note,
    )  # fmt: skip
