"""The frozen graph: what the compiler reads.

`FrozenGraph` is a flat, immutable list of nodes in topological order whose inputs are indices.
Freezing interns nodes (equal op, inputs and attributes are one node: that is common-subexpression
elimination) and separates structure from values: data, parameters, state and most constants are
*sources*, bound at each run, so that one program serves every graph of the same structure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from lazygrad.dtypes import DType
from lazygrad.ops.opdef import Attrs, Kind, OpDef
from lazygrad.shapes import Shape, numel


class Site(NamedTuple):
    """A line of the user's code."""

    filename: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}"


def exact(value: Any) -> Any:
    """What stands for a value in a key, equal for equal bits: -0.0 is not 0.0, NaN is NaN."""
    return value.hex() if value.__class__ is float else value


@dataclass(frozen=True, slots=True, eq=False)
class FNode:
    """A node of a frozen graph; `inputs` are indices of earlier nodes.

    Source nodes have kind SOURCE: `data`, `param`, `state` and `const` are bound at each run,
    `literal` carries its value in `attrs["value"]` and is part of the structure.
    """

    op: OpDef
    inputs: tuple[int, ...]
    attrs: Attrs
    shape: Shape
    dtype: DType
    site: Site | None = None
    name: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of its value."""
        return numel(self.shape) * self.dtype.itemsize

    def over(self, inputs: Sequence[int]) -> FNode:
        """The same operation on other inputs; itself if they are equal."""
        new = tuple(inputs)
        if new == self.inputs:
            return self
        return FNode(self.op, new, self.attrs, self.shape, self.dtype, self.site, self.name)

    def local_key(self) -> tuple[Any, ...]:
        """What makes it the same computation as another node."""
        attrs = tuple([(k, exact(v)) for k, v in sorted(self.attrs.items())])
        return (self.op.name, self.inputs, attrs, self.shape, self.dtype)


@dataclass(frozen=True, eq=False)
class FrozenGraph:
    """Nodes in topological order, and what goes in and out.

    `sources`: the nodes bound at each run, in binding order. `outputs`: values written to arrays
    that the caller gives. `kept`: values that stay readable in the arena until its lease ends
    (what a later backward pass reads). `writes`: (position in `sources`, node): the new value of
    that source's storage, which may be the very array bound as source: it is written only after
    every read of the old value.
    """

    nodes: tuple[FNode, ...]
    sources: tuple[int, ...]
    outputs: tuple[int, ...]
    kept: tuple[int, ...] = ()
    writes: tuple[tuple[int, int], ...] = ()

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """The structural key: equal keys mean that one program serves both."""
        return (
            tuple(n.local_key() for n in self.nodes),
            self.sources, self.outputs, self.kept, self.writes,
        )  # fmt: skip

    @property
    def roots(self) -> tuple[int, ...]:
        """Every node that must be computed: outputs, kept values, new states, effects."""
        effects = tuple(i for i, n in enumerate(self.nodes) if n.op.kind is Kind.EFFECT)
        return (*self.outputs, *self.kept, *(n for _, n in self.writes), *effects)

    def replace(self, **changes: Any) -> FrozenGraph:
        """A copy with other fields."""
        return replace(self, **changes)


def ancestors(nodes: Sequence[FNode], roots: Iterable[int]) -> set[int]:
    """The nodes that the roots need, themselves included."""
    found: set[int] = set()
    stack = list(roots)
    while stack:
        i = stack.pop()
        if i not in found:
            found.add(i)
            stack.extend(nodes[i].inputs)
    return found


class Builder:
    """Builds a `FrozenGraph` node by node, interning equal ones.

    Random nodes and effects are never merged with anything that is not the same call: a random
    node is a pure function of its counter input, so equal inputs mean equal numbers.
    """

    def __init__(self) -> None:
        self.nodes: list[FNode] = []
        self.sources: list[int] = []
        self._interned: dict[tuple[Any, ...], int] = {}

    def add(self, node: FNode) -> int:
        """The index of `node`, or of the equal node that is there already."""
        key = node.local_key()
        found = self._interned.get(key)
        if found is None:
            found = len(self.nodes)
            self.nodes.append(node)
            self._interned[key] = found
        return found

    def add_source(self, node: FNode) -> int:
        """Append a source that is bound at each run; never merged with another."""
        index = len(self.nodes)
        self.nodes.append(node)
        self.sources.append(index)
        return index

    def finish(
        self,
        outputs: Sequence[int],
        kept: Iterable[int] = (),
        writes: Iterable[tuple[int, int]] = (),
    ) -> FrozenGraph:
        """The graph; it holds exactly the nodes that were added."""
        return FrozenGraph(
            tuple(self.nodes), tuple(self.sources), tuple(outputs), tuple(kept), tuple(writes)
        )
