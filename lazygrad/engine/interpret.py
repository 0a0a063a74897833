"""The reference executor: a frozen graph node by node through each op's own `reference`.

It is the oracle of every other executor (`config.executor = "reference"`) and plans nothing: each
value is a fresh array that dies with its last reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lazygrad.engine.frozen import FNode, FrozenGraph
from lazygrad.errors import InternalError
from lazygrad.ops.opdef import Array, Kind

Arrays = Sequence[np.ndarray[Any, Any]]


def blame(error: BaseException, node: FNode, shapes: Sequence[Any]) -> None:
    """Say on `error` which op failed, on which shapes, and where the user wrote it."""
    operands = ", ".join(str(tuple(s)) for s in shapes)
    error.add_note(f"while computing `{node.op.name}` ({operands}) created at {node.site}")


def evaluate(node: FNode, inputs: Arrays) -> Array:
    """The value of one node, checked against the node's shape and dtype."""
    try:
        with np.errstate(all="ignore"):  # infinities and NaN are values, as on other executors
            value = np.asarray(node.op.reference(*inputs, **node.attrs))
    except Exception as error:
        blame(error, node, [x.shape for x in inputs])
        raise
    if value.shape != node.shape or value.dtype != node.dtype.dtype:
        raise InternalError(
            f"reference of {node.op.name!r} gave {value.shape} {value.dtype}, "
            f"its shape rule says {node.shape} {node.dtype} (created at {node.site})"
        )
    return value


def last_uses(frozen: FrozenGraph) -> list[list[int]]:
    """For each node the values that nobody reads after it; roots are never among them."""
    held = {*frozen.roots, *frozen.sources}
    last: dict[int, int] = {}
    for i, node in enumerate(frozen.nodes):
        last[i] = i
        for j in node.inputs:
            last[j] = i
    dying: list[list[int]] = [[] for _ in frozen.nodes]
    for j, i in last.items():
        if j not in held:
            dying[i].append(j)
    return dying


def interpret(
    frozen: FrozenGraph,
    dying: list[list[int]],
    sources: Arrays,
    outputs: Arrays,
    writes: Arrays,
) -> list[Array]:
    """Run a graph on arrays, store its outputs and writes, return its kept values."""
    values: list[Any] = [None] * len(frozen.nodes)
    for i, array in zip(frozen.sources, sources, strict=True):
        values[i] = array
    for i, node in enumerate(frozen.nodes):
        if values[i] is None:
            inputs = [values[j] for j in node.inputs]
            if node.op.kind in (Kind.REDUCE, Kind.CONTRACT):  # NumPy's order of adding up
                inputs = [np.asarray(x, order="C") for x in inputs]  # follows the strides
            values[i] = evaluate(node, inputs)
        for j in dying[i]:
            values[j] = None
    for out, i in zip(outputs, frozen.outputs, strict=True):
        np.copyto(out, values[i])
    # What views a state that is overwritten first is copied.
    news = [_own(frozen.nodes[i], values[i]) for _, i in frozen.writes]
    kept = [_own(frozen.nodes[i], values[i]) for i in frozen.kept]
    for array, new in zip(writes, news, strict=True):
        np.copyto(array, new)
    return kept


def _own(node: FNode, value: Array) -> Array:
    """The value, copied if it may be memory of another one."""
    return value.copy() if node.op.kind in (Kind.SOURCE, Kind.VIEW, Kind.EFFECT) else value
