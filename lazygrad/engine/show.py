"""How tensors are shown: PyTorch's form, values when they may be computed, structure when not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.dtypes import get_default_dtype
from lazygrad.engine.graph import Node
from lazygrad.engine.modes import STATE
from lazygrad.engine.tie import through_ties

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


class GradFn:
    """What made a tensor that requires grad; shown as `<PowBackward>`."""

    __slots__ = ("node",)

    def __init__(self, node: Node) -> None:
        self.node = node

    def name(self) -> str:
        """The name, such as `PowBackward`."""
        node = through_ties(self.node)
        if isinstance(node, str):
            return node
        given: str = node.op.grad_name
        return given or "".join(p.capitalize() for p in node.op.name.split("_")) + "Backward"

    def __repr__(self) -> str:
        return f"<{self.name()}>"


def _suffix(t: Tensor, values: bool) -> str:
    parts = []
    inferred = t.dtype in (get_default_dtype(),) or t.dtype.name in ("int64", "bool")
    if values and (not inferred or 0 in t.shape):
        parts.append(f"dtype={t.dtype!r}")
    if t._node is not None and t._node.requires_grad:
        parts.append(f"grad_fn=<{GradFn(t._node).name()}>")
    elif t.requires_grad:
        parts.append("requires_grad=True")
    return "".join(f", {p}" for p in parts)


def format_array(array: Any, prefix: str = "") -> str:
    """NumPy's text with PyTorch's spacing: commas, four digits.

    >>> format_array(np.array([1.0, 2.5]))
    '[1.0000, 2.5000]'
    """
    if array.dtype.kind not in "fiub":
        array = array.astype(np.float32)
    floating = array.dtype.kind == "f"
    whole = floating and np.all(np.isfinite(array)) and np.all(array == np.rint(array))
    style: Any = None
    if floating and array.size:
        finite = np.abs(array[np.isfinite(array)])
        top = float(finite.max(initial=0.0))
        low = float(finite[finite > 0].min(initial=np.inf))
        if top < 1e8 and (low >= 1e-4 or not np.isfinite(low)) and (top < 1e3 * low or top < 1e3):
            style = {"float_kind": (lambda v: f"{v:.0f}." if whole else f"{v:.4f}")}
        else:
            style = {"float_kind": (lambda v: f"{v:.4e}")}
    if array.dtype.kind == "b" and array.all():
        style = {"bool": str}  # NumPy leaves room for a False
    return np.array2string(
        array, separator=", ", prefix=prefix, threshold=1000, max_line_width=80, formatter=style
    )


def describe(t: Tensor) -> str:
    """The repr of a tensor; realizes it, except while a function is being captured."""
    if STATE.capture is not None or t._escaped is not None:
        return f"Tensor(shape={t.shape}, {t.dtype.name}, captured)"
    array = t._array()
    if array.ndim == 0:
        text = format_array(array.reshape(1))[1:-1]
    else:
        text = format_array(array, "tensor(")
    name = "Parameter containing:\n" if type(t).__name__ == "Parameter" else ""
    return f"{name}tensor({text}{_suffix(t, True)})"
