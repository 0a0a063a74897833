"""The structural key of a kernel: equal keys mean that one compiled form serves both."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from lazygrad.dtypes import DType
from lazygrad.ops.opdef import OpDef
from lazygrad.runtime.kernel import Kernel

_LABELS = frozenset({"name", "nodes", "reason", "flops", "nbytes"})


def structural_key(kernel: Kernel) -> tuple[Any, ...]:
    """A hashable description of all that the kernel computes, without its labels.

    Numbers are told apart as Python does not: 0.0 from -0.0, 1 from 1.0 and True, and NaN equals
    itself.
    """
    described = (
        _describe(getattr(kernel, f.name)) for f in fields(kernel) if f.name not in _LABELS
    )
    return tuple(described)


def _describe(item: Any) -> Any:
    if isinstance(item, float):
        return ("float", item.hex())
    if isinstance(item, bool):
        return ("bool", int(item))
    if isinstance(item, DType | OpDef):
        return item.name
    if isinstance(item, tuple):
        return tuple(map(_describe, item))
    if is_dataclass(item):
        return (type(item).__name__, *(_describe(getattr(item, f.name)) for f in fields(item)))
    return item
