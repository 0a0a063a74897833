"""The signature of a call: what must be equal for a captured graph to serve.

Per leaf shape, dtype and requires_grad for tensors and arrays, nothing for floats (they are 0-d
float64 inputs), the value for other Python values; which arguments are the same object; gradient
mode, default dtype and autocast.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from lazygrad.dtypes import as_dtype, float64, get_default_dtype
from lazygrad.engine.convert import to_array
from lazygrad.engine.modes import STATE
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import CaptureError

Signature = tuple[Any, ...]
TENSOR, ARRAY, FLOAT, STATIC = "tensor", "array", "float", "static"


class Argument:
    """One leaf of a call's arguments."""

    __slots__ = ("alias", "counts", "key", "kind", "value")

    def __init__(self, kind: str, value: Any, key: tuple[Any, ...], counts: bool = False) -> None:
        self.kind = kind
        self.value = value
        self.key = key
        self.counts = counts  # an int: a step counter would be captured at each value
        self.alias = -1

    def stand_in(self, capture: Any, index: int, leaf: Any) -> Any:
        """What the function gets while it is traced."""
        if self.kind == STATIC:
            return leaf
        index = index if self.alias < 0 else self.alias
        spec = self.value if self.kind != FLOAT else _FLOAT
        dtype = as_dtype(spec.dtype)
        requires = self.kind == TENSOR and self.value.requires_grad
        return capture.argument(index, self.value, spec.shape, dtype, requires, self._weak())

    def _weak(self) -> bool:
        if self.kind == FLOAT:
            return True
        return self.kind == TENSOR and self.value._node is not None and self.value._node.weak


class _FloatSpec:
    shape = ()
    dtype = float64


_FLOAT = _FloatSpec()


def classify(
    leaves: list[Any], tree: Any, static_floats: set[str], path: Callable[[Any, int], str]
) -> tuple[list[Argument], Signature]:
    """The arguments of a call and its signature."""
    arguments = []
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            key: tuple[Any, ...] = (TENSOR, leaf.shape, leaf.dtype, leaf.requires_grad)
            arguments.append(Argument(TENSOR, leaf, key))
        elif isinstance(leaf, np.ndarray):
            if leaf.dtype.kind in "OUSmM":
                to_array(leaf)  # raises, naming what is wrong
            if not leaf.dtype.isnative:  # a file's byte order
                leaf = leaf.astype(leaf.dtype.newbyteorder("="))
            key = (TENSOR, leaf.shape, as_dtype(leaf.dtype), False)
            arguments.append(Argument(ARRAY, leaf, key))
        elif isinstance(leaf, float | np.floating):
            if static_floats and path(tree, i) in static_floats:
                arguments.append(Argument(STATIC, leaf, (STATIC, repr(float(leaf)))))
            else:
                arguments.append(Argument(FLOAT, leaf, (FLOAT,)))
        else:
            arguments.append(_static(leaf, tree, i, path))
    signature = (
        tree, tuple([a.key for a in arguments]), _aliases(arguments),
        STATE.grad, get_default_dtype(), STATE.autocast,
    )  # fmt: skip
    return arguments, signature


def _static(leaf: Any, tree: Any, i: int, path: Callable[[Any, int], str]) -> Argument:
    if not isinstance(leaf, Hashable):
        raise CaptureError(
            f"argument {path(tree, i)!r} of type {type(leaf).__name__} is neither a tensor, an"
            " array nor hashable, so a captured function cannot tell its values apart"
        )
    counts = isinstance(leaf, int) and not isinstance(leaf, bool)
    return Argument(STATIC, leaf, (STATIC, leaf, type(leaf)), counts)


def _aliases(arguments: list[Argument]) -> tuple[int, ...]:
    """For each argument the first one that is the same object; empty when all differ."""
    if len(arguments) < 2:
        return ()
    seen: dict[int, int] = {}
    found = False
    for i, arg in enumerate(arguments):
        if arg.kind in (STATIC, FLOAT):
            continue
        value = arg.value
        what = value if arg.kind == ARRAY else (value._node or value._storage)
        first = seen.setdefault(id(what), i)
        if first != i and arg.key == arguments[first].key:
            arg.alias = first
            found = True
    return tuple([a.alias for a in arguments]) if found else ()
