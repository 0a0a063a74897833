"""A `Tie`: a call over values that are in the graph already, with a gradient rule of its own.

A function with a vjp of its own, or one that is computed again for its gradient, is traced as
ordinary nodes; so it is fused, guarded and keyed like everything else. A `tie` behind them is a
`call` node that computes nothing: its first inputs are the results, the others what its gradient
reads, and its outputs are those results. Gradients that arrive at an output go to the tie's
`pull` instead of through the nodes that made the result. Freezing leaves nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lazygrad.dtypes import DType
from lazygrad.engine.graph import Graph, Node
from lazygrad.ops.source import CALL, PROJECT
from lazygrad.shapes import Shape

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


Copy = tuple[list[tuple[Node, "Tensor"]], dict[Node, Node]]


class Place:
    """An input or output of a tie: what a node looks like, without the node."""

    __slots__ = ("dtype", "id", "requires_grad", "shape", "weak")

    def __init__(self, index: int, spec: Node) -> None:
        self.id = index
        self.shape: Shape = spec.shape
        self.dtype: DType = spec.dtype
        self.weak = spec.weak
        self.requires_grad = spec.dtype.is_floating_point


class Tie:
    """The payload of a tying call: in place of a `Body`, which it resembles where it is inlined."""

    nodes: tuple[Node, ...] = ()
    effects: tuple[Node, ...] = ()
    grad_name = ""  # what `grad_fn` shows; "" for that of the value

    def __init__(self, uid: Any, values: Sequence[Node], reads: Sequence[Node]) -> None:
        self.uid = uid  # equal for ties whose gradients read the same
        self.inputs = tuple([Place(i, n) for i, n in enumerate([*values, *reads])])
        self.outputs = self.inputs[: len(values)]
        self.results = len(values)
        self.program: Any = None  # the program that ran it last

    def value(self, call: Node, index: int) -> Node:
        """The node that has the value of output `index`."""
        return call.inputs[index]

    def copy(self, call: Node, cotangents: dict[int, Tensor]) -> Copy | None:
        """Nodes to walk over instead of a `pull`: seeds, and who takes the gradient of an end."""
        return None

    def pull(
        self, call: Node, cotangents: dict[int, Tensor], needed: set[int],
        gathered: dict[int, Tensor],
    ) -> dict[int, Tensor]:  # fmt: skip
        """The gradients of inputs of the call, those in `gathered` added to what is there."""
        raise NotImplementedError


def tie(graph: Graph, payload: Tie, values: Sequence[Node], reads: Sequence[Node]) -> list[Node]:
    """Append a tie over `values`; returns a node for each of them."""
    call = graph.append(CALL, (*values, *reads), requires_grad=True, payload=payload)
    return [output(call, i) for i in range(payload.results)]


def output(call: Node, index: int) -> Node:
    """Output `index` of a tying call."""
    place = call.payload.outputs[index]
    return call.graph.project(PROJECT, call, index, place, place.requires_grad)


def through_ties(node: Node) -> Node | str:
    """What made a value: its node, or the name of its gradient."""
    while node.op is PROJECT:
        call = node.inputs[0]
        if isinstance(call.payload, Tie):
            if call.payload.grad_name:
                return call.payload.grad_name
            node = call.inputs[node.attrs["index"]]
        else:
            node = call.payload.outputs[node.attrs["index"]]
    return node
