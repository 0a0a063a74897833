"""Latent gradients: the two factors of a product instead of the product.

The gradient of a large weight in a small batch is far larger than what it is made of, and in a
training loop nobody looks at it: the update reads it where it is computed. Then a step leaves the
factors behind, and `.grad` is multiplied out when somebody does look: by the same product, so with
the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lazygrad.engine.compiler import program_for
from lazygrad.engine.frozen import Builder, FNode, FrozenGraph
from lazygrad.ops.opdef import Array, Kind
from lazygrad.ops.source import DATA

Spec = tuple[tuple[int, ...], Any]


@dataclass(frozen=True)
class Latent:
    """A gradient as the product of the held arrays `left` and `right`."""

    left: int
    right: int
    key: tuple[Any, ...]
    product: FrozenGraph = field(compare=False)

    def value(self, held: Sequence[Array]) -> Array:
        """Multiply."""
        node = self.product.nodes[self.product.outputs[0]]
        out = np.empty(node.shape, node.dtype.dtype)
        places = dict.fromkeys((self.left, self.right))
        program_for(self.product).run([held[i] for i in places], [out])
        return out


Form = Latent | int  # an int: the held array itself


@dataclass(frozen=True)
class Held:
    """What a step leaves behind of its gradients: arrays, and how each gradient follows."""

    specs: tuple[Spec, ...] = ()
    forms: tuple[Form, ...] = ()

    @staticmethod
    def plain(values: Sequence[Any]) -> Held:
        """Every gradient as it is; `values` have a shape and a dtype."""
        specs = tuple((v.shape, v.dtype.dtype) for v in values)
        return Held(specs, tuple(range(len(specs))))

    def values(self, arrays: Sequence[Array]) -> list[Array]:
        """The gradients."""
        return [arrays[f] if isinstance(f, int) else f.value(arrays) for f in self.forms]

    def empty(self) -> list[Array]:
        """Arrays for a run to fill."""
        return [np.empty(shape, dtype) for shape, dtype in self.specs]

    def owners(self) -> list[int]:
        """For each held array the gradient that it is, or -1."""
        found = [-1] * len(self.specs)
        for k, form in enumerate(self.forms):
            if isinstance(form, int):
                found[form] = k
        return found


def hold_factors(frozen: FrozenGraph, first: int) -> tuple[FrozenGraph, Held]:
    """Replace the outputs from `first` on (the gradients) by their factors where that is less."""
    readers: dict[int, list[int]] = {}
    for i, node in enumerate(frozen.nodes):
        for j in node.inputs:
            readers.setdefault(j, []).append(i)
    kept = {*frozen.outputs[:first], *frozen.kept, *(i for _, i in frozen.writes)}
    out: list[int] = []  # the nodes that come out
    places: dict[int, int] = {}  # factor -> its place among them
    forms: list[Form] = []
    for i in frozen.outputs[first:]:
        roots = _factors(frozen, i, readers) if i not in kept else None
        if roots is None:
            forms.append(len(out))
            out.append(i)
            continue
        for r in roots:
            if r not in places:
                places[r] = len(out)
                out.append(r)
        graph = _product(frozen, i, roots)
        forms.append(Latent(places[roots[0]], places[roots[1]], graph.key, graph))
    specs = tuple((frozen.nodes[i].shape, frozen.nodes[i].dtype.dtype) for i in out)
    outputs = (*frozen.outputs[:first], *out)
    return frozen.replace(outputs=outputs), Held(specs, tuple(forms))


def _factors(
    frozen: FrozenGraph, i: int, readers: Mapping[int, Sequence[int]]
) -> tuple[int, int] | None:
    """The two stored values that gradient `i` is the product of, if it need not be stored."""
    node = frozen.nodes[i]
    for r in readers.get(i, ()):
        reader = frozen.nodes[r]
        if reader.op.kind is not Kind.ELEMENTWISE or reader.shape != node.shape:
            return None
    while node.op.kind is Kind.VIEW:  # a transposed product
        i = node.inputs[0]
        if len(readers[i]) > 1 or frozen.nodes[i].nbytes != node.nbytes:
            return None
        node = frozen.nodes[i]
    if node.op.kind is not Kind.CONTRACT:
        return None
    left, right = (_root(frozen, j) for j in node.inputs)
    if left < 0 or right < 0:
        return None
    size = sum(frozen.nodes[j].nbytes for j in {left, right})
    return (left, right) if 2 * size <= node.nbytes else None


def _root(frozen: FrozenGraph, i: int) -> int:
    """What a chain of views is a view of; -1 if that is not a plain value."""
    while frozen.nodes[i].op.kind is Kind.VIEW:
        i = frozen.nodes[i].inputs[0]
    node = frozen.nodes[i]
    if node.op.kind is Kind.EFFECT or (node.op.kind is Kind.SOURCE and i not in frozen.sources):
        return -1
    return i


def _product(frozen: FrozenGraph, i: int, roots: tuple[int, int]) -> FrozenGraph:
    """The product alone, its roots as sources."""
    builder = Builder()
    new: dict[int, int] = {}
    for r in dict.fromkeys(roots):
        node = frozen.nodes[r]
        attrs = {"shape": node.shape, "dtype": node.dtype}
        new[r] = builder.add_source(FNode(DATA, (), attrs, node.shape, node.dtype, node.site))
    needed = [i]
    for j in needed:
        needed += [k for k in _operands(frozen.nodes[j]) if k not in new]
    for j in sorted(set(needed)):
        node = frozen.nodes[j]
        inputs = [new[k] for k in _operands(node)]
        new[j] = builder.add(node.over(inputs)) if len(inputs) == len(node.inputs) else inputs[0]
    return builder.finish([new[i]])


def _operands(node: FNode) -> tuple[int, ...]:
    """The inputs whose values it is made of: those of a view that say when are of no use here."""
    return node.inputs[:1] if node.op.kind is Kind.VIEW else node.inputs
