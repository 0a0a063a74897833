"""The graph: an append-only record of operations.

A `Node` is structure only: op, inputs, attributes, shape, dtype, the user's line. Values live in
side tables of the `Graph`, which lists its live nodes in creation order and holds them weakly:
tensors (and captured programs) keep nodes alive, and a node keeps its inputs alive.
"""

from __future__ import annotations

import itertools
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from importlib import import_module
from math import copysign
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from lazygrad.config import config
from lazygrad.dtypes import DType, iinfo
from lazygrad.engine.frozen import Site
from lazygrad.engine.handles import DOOMED, KEPT, KeyedRef, Saved
from lazygrad.engine.modes import STATE
from lazygrad.engine.storage import Ref, Storage
from lazygrad.errors import DTypeError, FrozenGraphError, GraphReleasedError, InternalError
from lazygrad.ops.opdef import Array, Kind, OpDef
from lazygrad.ops.source import CONST, DATA, LITERAL, LITERAL_VALUES, PARAM
from lazygrad.shapes import Shape

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

PACKAGE = os.path.dirname(os.path.dirname(__file__))  # as code objects name their files
_ids = itertools.count(1)
NO_ATTRS: Mapping[str, Any] = {}


class Hooks:
    """What later modules plug in: this one is imported by all of them."""

    wrap: Callable[[Node], Tensor]  # the tensor that stands for a node
    tensor: type[Tensor]
    generator: Callable[[], Any]  # the default random stream
    realize_graph: Callable[[Graph], None]

    if TYPE_CHECKING:
        visualize: Callable[..., Any]
        visualize_program: Callable[..., Any]
        mimebundle: Callable[..., dict[str, Any]]
        to_mermaid: Callable[..., str]
        listing: Callable[..., str]
        branch: Callable[..., str]

    else:

        def __getattr__(self, name: str) -> Any:
            """Drawing is imported when something is first drawn."""
            text = name in ("listing", "to_mermaid", "branch")
            module = import_module(f"lazygrad.engine.{'listing' if text else 'visualize'}")
            return getattr(module, name)


HOOKS = Hooks()


class Node:
    """One operation in a graph; immutable by convention."""

    __slots__ = (
        "__weakref__", "attrs", "dtype", "graph", "id", "inputs", "label", "op", "payload",
        "requires_grad", "shape", "site", "weak",
    )  # fmt: skip

    def __init__(
        self,
        graph: Graph,
        op: OpDef,
        inputs: tuple[Node, ...],
        attrs: Mapping[str, Any],
        shape: Shape,
        dtype: DType,
        requires_grad: bool,
        weak: bool,
        site: tuple[CodeType, int] | None,
        payload: Any,
    ) -> None:
        self.id = next(_ids)
        self.graph = graph
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.shape = shape
        self.dtype = dtype
        self.requires_grad = requires_grad
        self.weak = weak
        self.site = site
        self.payload = payload
        self.label = ""

    @property
    def where(self) -> Site | None:
        """The user's line that made it."""
        if self.site is None:
            return None
        code, line = self.site
        return Site(code.co_filename, line, code.co_name)

    @property
    def kind(self) -> str:
        """What a picture shows: param, data, const, state or computed."""
        if self.op.kind is not Kind.SOURCE:
            return "computed"
        return "const" if self.op is LITERAL else self.op.name

    def __repr__(self) -> str:
        return f"<node {self.id} {self.op.name} {self.shape} {self.dtype.name}>"


def user_site() -> tuple[CodeType, int] | None:
    """The innermost frame outside of lazygrad, as (code, line)."""
    if STATE.site is not None:
        return STATE.site
    frame = sys._getframe(3)  # append and its caller are always lazygrad's own
    while frame.f_code.co_filename.startswith(PACKAGE):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return frame.f_code, frame.f_lineno


def newest_id() -> int:
    """An id newer than every node there is."""
    return next(_ids)


class Graph:
    """An explicit computational graph.

    >>> from lazygrad import Tensor, Graph
    >>> g = Graph()
    >>> y = Tensor([1.0, 2.0], graph=g).exp()
    >>> [node.op.name for node in g.nodes]
    ['data', 'exp']
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.frozen = False
        self.flush_at: int = config.flush_nodes
        self.inlined = 0  # nodes inside the calls appended since the last flush
        self.calls: list[weakref.ref[Any]] = []  # differentiable calls that are no nodes yet
        self.values: dict[int, Array | Ref] = {}  # realized nodes
        self.leases: dict[int, Any] = {}  # keeps the arena of a value
        self.saved: dict[int, Saved] = {}
        self._refs: dict[int, KeyedRef] = {}
        self._sources: dict[Any, KeyedRef] = {}
        self._entered: list[Graph | None] = []

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The live nodes in creation order."""
        return tuple(n for r in list(self._refs.values()) if (n := r()) is not None)

    def __len__(self) -> int:
        return len(self._refs)

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Self:
        self._entered.append(STATE.graph)
        STATE.graph = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        STATE.graph = self._entered.pop()

    def _died(self, ref: KeyedRef) -> None:
        key = ref.key
        self._refs.pop(key, None)
        KEPT.pop(key, None)
        self.forget(key)
        self.saved.pop(key, None)

    def forget(self, node_id: int) -> None:
        """Drop the value of a node."""
        DOOMED.pop(node_id, None)
        if self.values.pop(node_id, None) is not None:
            self.leases.pop(node_id, None)

    def append(
        self,
        op: OpDef,
        inputs: tuple[Node, ...],
        attrs: Mapping[str, Any] = NO_ATTRS,
        *,
        requires_grad: bool = False,
        weak: bool = False,
        payload: Any = None,
    ) -> Node:
        """Append a node; its shape and dtype come from `op.infer`, which raises on bad ones."""
        if self.frozen:
            raise FrozenGraphError(
                f"cannot append {op.name!r} to a frozen graph; make a new Graph() or call the"
                " captured function again"
            )
        shape, dtype = op.infer(*inputs, **attrs)
        node = Node(
            self, op, inputs, attrs, shape, dtype, requires_grad, weak, user_site(), payload
        )
        ref = KeyedRef(node, self._died)
        ref.key = node.id
        self._refs[node.id] = ref
        return node

    def clone(self, node: Node, inputs: tuple[Node, ...], payload: Any = None) -> Node:
        """Append a copy of a node (of another graph) over other inputs; nothing is re-inferred."""
        new = Node(
            self, node.op, inputs, node.attrs, node.shape, node.dtype, node.requires_grad,
            node.weak, node.site, node.payload if payload is None else payload,
        )  # fmt: skip
        new.label = node.label
        ref = KeyedRef(new, self._died)
        ref.key = new.id
        self._refs[new.id] = ref
        return new

    def settle_calls(self, last: Any = None) -> list[weakref.ref[Any]]:
        """Make nodes of the calls before `last`; returns those after it.

        Gradients are added up in the order of the nodes, so calls become nodes before anything
        else that is differentiable does.
        """
        calls, self.calls = self.calls, []
        for k, ref in enumerate(calls):
            call = ref()
            if call is not None and call is last:
                return calls[k + 1 :]
            if call is not None:
                call.settle()
        return []

    # sources ------------------------------------------------------------------------------

    def _find(self, key: Any) -> Node | None:
        ref = self._sources.get(key)
        return None if ref is None else ref()

    def _intern(self, key: Any, node: Node) -> Node:
        table = self._sources

        def drop(ref: KeyedRef) -> None:
            if table.get(ref.key) is ref:
                del table[ref.key]

        ref = KeyedRef(node, drop)
        ref.key = key
        table[key] = ref
        return node

    def source(
        self, payload: Any, shape: Shape, dtype: DType, op: OpDef,
        requires_grad: bool = False, weak: bool = False,
    ) -> Node:  # fmt: skip
        """The source node of a payload (a `Ref`, an input of a capture), interned per graph."""
        key = (payload, requires_grad)
        found = self._find(key)
        if found is None:
            found = self.append(
                PARAM if requires_grad else op, (), {"shape": shape, "dtype": dtype},
                requires_grad=requires_grad, weak=weak, payload=payload,
            )  # fmt: skip
            storage = getattr(payload, "storage", None)
            if storage is not None and storage.label:
                found.label = storage.label
            self._intern(key, found)
        return found

    def constant(self, value: float | int | bool, dtype: DType, weak: bool = False) -> Node:
        """A 0-d constant; the few values that rewrites name are part of the structure."""
        if type(value) is int and not dtype.is_floating_point:
            _check_range(value, dtype)
        minus_zero = value == 0 and type(value) is float and copysign(1.0, value) < 0
        key = (value, type(value), dtype, weak, minus_zero)
        found = self._find(key)
        if found is None:
            attrs: dict[str, Any] = {"shape": (), "dtype": dtype}
            is_literal = type(value) is bool or (value in LITERAL_VALUES and not minus_zero)
            if is_literal:
                attrs["value"] = value
            found = self.append(
                LITERAL if is_literal else CONST, (), attrs, weak=weak,
                payload=None if is_literal else value,
            )  # fmt: skip
            self._intern(key, found)
        return found

    def versioned(self, op: OpDef, node: Node, leaf: Any) -> Node:
        """The interned `version` node of a leaf over its pending value."""
        key = ("version", node.id)
        found = self._find(key)
        if found is None:
            found = self.append(op, (node,), requires_grad=True, payload=leaf)
            self._intern(key, found)
        return found

    def project(self, op: OpDef, call: Node, index: int, spec: Any, requires_grad: bool) -> Node:
        """The interned projection `index` of a call."""
        key = (call.id, index)
        found = self._find(key)
        if found is None:
            found = self.append(
                op, (call,), {"index": index, "shape": spec.shape, "dtype": spec.dtype},
                requires_grad=requires_grad, weak=spec.weak,
            )  # fmt: skip
            self._intern(key, found)
        return found

    # values -------------------------------------------------------------------------------

    def value(self, node: Node) -> Array:
        """The array of a realized node."""
        held = self.values.get(node.id)
        if held is None:
            raise InternalError(f"{node} has no value")
        return held.array() if isinstance(held, Ref) else held

    def freeze(self) -> Self:
        """No node can be appended any more."""
        self.frozen = True
        return self

    # what users do with a graph -----------------------------------------------------------

    def realize(self) -> Self:
        """Compute every live tensor of this graph."""
        HOOKS.realize_graph(self)
        return self

    def visualize(
        self, filename: str | None = None, view: bool = False, format: str = "svg",
        stage: str = "traced", max_nodes: int = 300,
    ) -> Any:  # fmt: skip
        """A `graphviz.Digraph` of the live nodes; saved to `filename` when one is given.

        `stage` is `traced`, `fused` (one box per kernel) or `planned` (one colour per buffer).
        Beyond `max_nodes` there is one node for each line of code. Nothing is computed.
        """
        return HOOKS.visualize(self, filename, view, format, stage, max_nodes)

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart, which needs no program to be drawn."""
        return HOOKS.to_mermaid(self)

    def __str__(self) -> str:
        return HOOKS.listing(self)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return HOOKS.mimebundle(self, **kwargs)

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"<Graph{name}: {len(self)} nodes{', frozen' if self.frozen else ''}>"


def _check_range(value: int, dtype: DType) -> None:
    """Raise where a Python integer would wrap around."""
    if dtype.dtype.kind not in "iu":
        return
    info, bits = iinfo(dtype), value.bit_length()
    if not info.min <= value <= info.max:
        what = str(value) if bits <= 128 else f"an integer of {bits} bits"
        raise DTypeError(
            f"{what} does not fit {dtype.name} ({info.min} to {info.max}); convert the tensor to a"
            " wider dtype first"
        )


class _Gone:
    """Stands for a value that was dropped and whose history was cut."""

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what

    def array(self) -> Array:
        """Raises."""
        raise GraphReleasedError(
            f"the value of {self.what} that this needs was released by an earlier backward pass;"
            " run the forward again, or call backward(retain_graph=True)"
        )


def cut(node: Node, keep: bool = False) -> None:
    """Forget what a realized node was made from: it is data from now on.

    With `keep` its value, which cannot be computed again, stays for as long as the node lives.
    """
    if node.inputs:
        node.payload = _Gone(f"{node.op.name} {node.shape} made at {node.where}")
        node.op, node.attrs, node.inputs = DATA, {"shape": node.shape, "dtype": node.dtype}, ()
        if keep:
            KEPT[node.id] = KEPT.get(node.id, 0) + 1


def get_default_graph() -> Graph:
    """The graph that new nodes of this thread go to, unless a tensor brings its own."""
    graph = STATE.graph
    if graph is None:
        if STATE.default is None:
            STATE.default = Graph("default")
        graph = STATE.default
    return graph


def set_default_graph(graph: Graph) -> None:
    """Make `graph` the default graph of this thread."""
    if not isinstance(graph, Graph):
        raise TypeError(f"set_default_graph takes a Graph, got {type(graph).__name__}")
    STATE.default = graph


def storage_source(graph: Graph, storage: Storage, requires_grad: bool, weak: bool) -> Node:
    """The source node of the current version of a storage."""
    return graph.source(storage.ref, storage.shape, storage.dtype, storage.op, requires_grad, weak)
