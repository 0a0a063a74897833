"""Nested containers as a flat list of leaves and a hashable description of the nesting."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import Any

Tree = Any  # nested tuples: ("leaf",) | (kind, type or keys, children)
LEAF = ("leaf",)


def flatten(value: Any) -> tuple[list[Any], Tree]:
    """The leaves of nested dicts, lists, tuples, named tuples and dataclasses, and their tree.

    >>> flatten({"a": 1, "b": [2, 3]})[0]
    [1, 2, 3]
    """
    leaves: list[Any] = []
    return leaves, _flatten(value, leaves)


def _flatten(value: Any, leaves: list[Any]) -> Tree:
    kind = type(value)
    if kind is tuple or kind is list:
        return (kind, None, tuple([_flatten(v, leaves) for v in value]))
    if kind is dict or kind is OrderedDict:
        return (kind, tuple(value), tuple([_flatten(v, leaves) for v in value.values()]))
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return (kind, "named", tuple([_flatten(v, leaves) for v in value]))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = tuple(f.name for f in dataclasses.fields(value))
        children = tuple([_flatten(getattr(value, n), leaves) for n in names])
        return (kind, ("fields", names), children)
    leaves.append(value)
    return LEAF


def unflatten(tree: Tree, leaves: list[Any]) -> Any:
    """The inverse of `flatten`.

    >>> leaves, tree = flatten((1, {"k": 2}))
    >>> unflatten(tree, [10, 20])
    (10, {'k': 20})
    """
    return _unflatten(tree, iter(leaves))


def _unflatten(tree: Tree, leaves: Any) -> Any:
    if tree is LEAF or tree == LEAF:
        return next(leaves)
    kind: Any
    kind, keys, children = tree
    values = [_unflatten(child, leaves) for child in children]
    if keys is None:
        return kind(values)
    if keys == "named":
        return kind(*values)
    if keys and keys[0] == "fields":
        return kind(**dict(zip(keys[1], values, strict=True)))
    return kind(zip(keys, values, strict=True))


def paths(tree: Tree, names: tuple[str, ...] = ()) -> list[str]:
    """A readable name for each leaf, for messages."""
    if tree == LEAF:
        return ["".join(names) or "result"]
    _, keys, children = tree
    if isinstance(keys, tuple) and keys and keys[0] == "fields":
        labels = [f".{k}" for k in keys[1]]
    elif isinstance(keys, tuple):
        labels = [f"[{k!r}]" for k in keys]
    else:
        labels = [f"[{i}]" for i in range(len(children))]
    return [
        path
        for label, child in zip(labels, children, strict=True)
        for path in paths(child, (*names, label))
    ]
