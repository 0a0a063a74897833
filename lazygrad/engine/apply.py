"""Appending an operation: operands become nodes, dtypes are promoted, errors are raised here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.config import config
from lazygrad.dtypes import DType, get_default_dtype, result_type, scalar_dtype
from lazygrad.engine.graph import Graph, Node, get_default_graph
from lazygrad.engine.modes import STATE
from lazygrad.engine.precision import autocast_operands
from lazygrad.engine.realize import flush_old
from lazygrad.errors import DTypeError, GraphMismatchError
from lazygrad.ops.elementwise import CAST
from lazygrad.ops.opdef import OpDef, Precision, Promotion

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

SCALARS = (bool, int, float, np.bool_, np.integer, np.floating)


def choose_graph(tensors: Sequence[Tensor]) -> Graph:
    """The graph that an operation on these tensors goes to."""
    capture = STATE.capture
    if capture is not None:
        return capture.graph
    if STATE.trace and STATE.graph is not None:
        return STATE.graph
    graph: Graph | None = None
    for t in tensors:
        home = t._home()
        if home is None or home is graph:
            continue
        if graph is not None:
            return _bound_graph(tensors)
        graph = home
    return get_default_graph() if graph is None else graph


def _bound_graph(tensors: Sequence[Tensor]) -> Graph:
    """The one graph that was asked for: what is pending in the default one is computed for it.

    Only values can be brought over, so a gradient holds a tensor in its graph.
    """
    default = get_default_graph()
    homes = [
        home for t in tensors
        if (home := t._home()) is not None and (home is not default or t.requires_grad)
    ]  # fmt: skip
    for home in homes[1:]:
        if home is not homes[0]:
            raise GraphMismatchError(
                f"operands of two different graphs ({homes[0]!r} and {home!r}); realize one of them"
                " first, or create both with the same graph="
            )
    return homes[0]


def _scalar(value: Any) -> bool | int | float:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return int(value) if isinstance(value, int | np.integer) else float(value)


def _convert(value: bool | int | float, dtype: DType) -> bool | int | float:
    if dtype.is_floating_point:
        return float(value)
    return bool(value) if dtype.name == "bool" else int(value)


def rank(node: Node) -> int:
    """How much a node's dtype counts in promotion: 2 dimensions, 1 0-d, 0 like a Python scalar."""
    if node.shape:
        return 2
    return 0 if node.weak else 1


def cast(graph: Graph, node: Node, dtype: DType) -> Node:
    """The node in another dtype."""
    if node.dtype is dtype:
        return node
    grad = STATE.grad and node.requires_grad and dtype.is_floating_point
    return graph.append(CAST, (node,), {"dtype": dtype}, requires_grad=grad)


def promoted(graph: Graph, op: OpDef, operands: Sequence[Any]) -> tuple[Node, ...]:
    """The operands as nodes of the dtype that the op computes in."""
    if op.promotion is _TAIL:
        first, *rest = operands
        return (_alone(graph, first), *common_dtype(graph, op, rest))
    return common_dtype(graph, op, operands)


def _alone(graph: Graph, x: Any) -> Node:
    """An operand in the dtype that it has by itself."""
    if isinstance(x, SCALARS):
        return graph.constant(_scalar(x), scalar_dtype(_scalar(x)))
    return x._node_in(graph)  # type: ignore[no-any-return]


def common_dtype(graph: Graph, op: OpDef, operands: Sequence[Any]) -> tuple[Node, ...]:
    """The operands as nodes of one dtype."""
    if len(operands) == 2:
        quick = _tensor_and_number(graph, op, operands[0], operands[1])
        if quick is not None:
            return quick
    nodes = [None if isinstance(x, SCALARS) else x._node_in(graph) for x in operands]
    pairs = [
        (scalar_dtype(_scalar(x)), 0) if n is None else (n.dtype, rank(n))
        for n, x in zip(nodes, operands, strict=True)
    ]
    first = pairs[0][0]
    if None not in nodes and all(d is first for d, _ in pairs):
        common = first
    else:
        common = result_type(pairs)
    if op.promotion is Promotion.FLOAT and not common.is_floating_point:
        common = get_default_dtype()
    return tuple([
        graph.constant(_convert(_scalar(x), common), common) if n is None
        else n if n.dtype is common else cast(graph, n, common)
        for n, x in zip(nodes, operands, strict=True)
    ])  # fmt: skip


def _tensor_and_number(graph: Graph, op: OpDef, x: Any, y: Any) -> tuple[Node, ...] | None:
    """The commonest case at once: a tensor with a number that does not raise its category."""
    kind = type(y)
    if kind is float or kind is int:
        node = x._node_in(graph) if type(x) not in _NUMBERS else None
        if node is not None and node.dtype.is_floating_point and (node.shape or not node.weak):
            return node, graph.constant(float(y), node.dtype)
    elif kind not in _NUMBERS and type(x) not in _NUMBERS:
        a, b = x._node_in(graph), y._node_in(graph)
        if a.dtype is b.dtype and (a.dtype.is_floating_point or op.promotion is not _FLOAT):
            return a, b
    return None


_FLOAT = Promotion.FLOAT
_KEEP = Precision.KEEP
_NONE = Promotion.NONE
_TAIL = Promotion.TAIL
_NUMBERS = frozenset({bool, int, float, np.float32, np.float64, np.bool_})


def _as_operand(x: Any, tensor_type: type, op: OpDef) -> Any:
    if isinstance(x, (tensor_type, *SCALARS)):
        return x
    if isinstance(x, np.ndarray) or hasattr(x, "__array__"):
        return tensor_type(x)
    raise DTypeError(
        f"{op.name}: operands must be tensors, arrays or numbers, got {type(x).__name__}"
    )


def append(
    tensor_type: type[Tensor], op: OpDef, operands: Sequence[Any], attrs: Mapping[str, Any]
) -> Tensor:
    """Append a node of `op`; the heart of every operation."""
    tensors = []
    for x in operands:
        if isinstance(x, tensor_type):
            tensors.append(x)
        elif type(x) not in _NUMBERS:
            operands = [_as_operand(x, tensor_type, op) for x in operands]
            tensors = [x for x in operands if isinstance(x, tensor_type)]
            break
    if STATE.autocast is not None and op.autocast is not _KEEP:
        operands = autocast_operands(operands, op.autocast)
    graph = choose_graph(tensors)
    if graph.calls and STATE.grad and any(t.requires_grad for t in tensors):
        graph.settle_calls()
    if op.promotion is _NONE:
        nodes = tuple([_alone(graph, x) for x in operands])
    else:
        nodes = promoted(graph, op, operands)
    wants = False
    for n in nodes:
        if n.requires_grad:
            wants = STATE.grad and op.vjp is not None
            break
    weak = op.promotion is not _NONE and not nodes[0].shape and _all_weak(nodes, operands)
    node = graph.append(op, nodes, attrs, requires_grad=wants, weak=weak)
    if wants and not node.dtype.is_floating_point:
        node.requires_grad = False
    tensor = tensor_type._fresh(node)
    if STATE.capture is not None:
        STATE.capture.born(tensor)
        if op.observable:
            STATE.capture.effects.append(node)
    elif (config.eager or len(graph._refs) > graph.flush_at) and not (STATE.trace or STATE.busy):
        if config.eager:
            tensor.realize()
        else:
            flush_old(graph)
    return tensor


def _all_weak(nodes: Sequence[Node], operands: Sequence[Any]) -> bool:
    for n, x in zip(nodes, operands, strict=True):
        if n.shape or not (n.weak or isinstance(x, SCALARS)):
            return False
    return bool(nodes)
