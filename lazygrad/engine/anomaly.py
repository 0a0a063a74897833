"""`detect_anomaly()`: which operation made the first NaN, and on which line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from lazygrad.dtypes import BOOL, as_dtype
from lazygrad.engine.modes import STATE
from lazygrad.errors import AnomalyError
from lazygrad.ops.opdef import Array, Kind

if TYPE_CHECKING:
    from lazygrad.engine.frozen import FrozenGraph


@contextmanager
def detect_anomaly(check_nan: bool = True) -> Iterator[None]:
    """Inside, every program is first run node by node and the first NaN raises `AnomalyError`.

    Forward and backward nodes, captured functions included; much slower, for debugging.

    >>> import lazygrad as lg
    >>> with lg.detect_anomaly():
    ...     (lg.tensor([-1.0]).log() * 2).numpy()
    Traceback (most recent call last):
    ...
    lazygrad.errors.AnomalyError: log of shape (1,) made a NaN ... inputs between -1 and -1
    """
    before = STATE.anomaly
    STATE.anomaly = check_nan
    try:
        yield
    finally:
        STATE.anomaly = before


def _range(array: Array) -> str:
    if array.size == 0 or as_dtype(array.dtype).category == BOOL:
        return "of other kinds"
    return f"between {np.nanmin(array):g} and {np.nanmax(array):g}"


def inspect(graph: FrozenGraph, sources: Sequence[Array]) -> None:
    """Evaluate a graph by references; raise at the first node that makes a NaN."""
    values: list[Array | None] = [None] * len(graph.nodes)
    for index, array in zip(graph.sources, sources, strict=True):
        values[index] = array
    for i, node in enumerate(graph.nodes):
        if values[i] is not None:
            continue
        inputs = [v for j in node.inputs if (v := values[j]) is not None]
        if node.op.kind is Kind.EFFECT:
            values[i] = inputs[0]
            continue
        with np.errstate(all="ignore"):
            out = np.asarray(node.op.reference(*inputs, **node.attrs))
        values[i] = out
        if _has_nan(out) and not any(_has_nan(a) for a in inputs):
            where = f" at {node.site}" if node.site else ""
            spans = ", ".join(_range(a) for a in inputs)
            raise AnomalyError(
                f"{node.op.name} of shape {node.shape} made a NaN{where}; inputs {spans}"
            )


def _has_nan(array: Array) -> bool:
    return as_dtype(array.dtype).is_floating_point and bool(np.isnan(array).any())
