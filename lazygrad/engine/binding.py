"""Binding: from the arrays of a call to the views that a program's code runs on.

Code refers to *slots*: the arena, then sources, outputs and writes. A `Frame` holds the prebound
views of one program over one arena. Parameters, state and writes are usually the same arrays call
after call, so their views are kept and only remade for another array; they are made from the bare
address and own nothing, and a weak reference tells when an array dies. Views of data and outputs
are made for each call and dropped after it, so a frame keeps no user's array alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any
from weakref import ref

import numpy as np

from lazygrad.engine.frozen import FrozenGraph
from lazygrad.ops.opdef import Array
from lazygrad.ops.source import PARAM, STATE
from lazygrad.runtime.executor import CompiledCode, ViewSpec, bytes_of, make_view
from lazygrad.shapes import Shape, contiguous_strides, numel

Arrays = Sequence[np.ndarray[Any, Any]]
SAME, RESHAPED, STRIDED = 0, 1, 2  # how a view follows from the bound array


class _Address:
    """A block of memory that belongs to somebody else."""

    __slots__ = ("__array_interface__",)

    def __init__(self, array: Array) -> None:
        address, read_only = array.__array_interface__["data"]
        self.__array_interface__ = {
            "data": (address, read_only), "shape": (array.nbytes,), "typestr": "|u1", "version": 3,
        }  # fmt: skip


def borrowed_bytes(array: Array) -> Array:
    """The bytes of an array without a reference to it."""
    return np.asarray(_Address(array))


class _Slot:
    """One array of a call: which views are made of it."""

    __slots__ = ("kind", "position", "views")

    def __init__(self, kind: int, position: int) -> None:
        self.kind, self.position = kind, position
        self.views: list[tuple[int, int, ViewSpec, int]] = []  # (segment, index, spec, how)


def _how(spec: ViewSpec, shape: Shape, dtype: Any) -> int:
    """Whether a view is the array itself, a reshape of it, or something else."""
    steps = tuple(s * spec.dtype.itemsize for s in contiguous_strides(spec.shape))
    dense = all(n <= 1 or s == t for n, s, t in zip(spec.shape, spec.strides, steps, strict=True))
    if spec.dtype != dtype or spec.offset or not dense or numel(spec.shape) != numel(shape):
        return STRIDED
    return SAME if spec.shape == shape else RESHAPED


SOURCE, OUTPUT, WRITE = 0, 1, 2


class Binding:
    """For one program: its slots, and which views follow from each."""

    def __init__(self, frozen: FrozenGraph, segments: Sequence[CompiledCode]) -> None:
        counts = len(frozen.sources), len(frozen.outputs), len(frozen.writes)
        nodes = frozen.nodes
        specs = [nodes[i] for i in (*frozen.sources, *frozen.outputs)]
        specs += [nodes[i] for _, i in frozen.writes]
        slots = [_Slot(kind, k) for kind, n in enumerate(counts) for k in range(n)]
        self.arena: list[tuple[int, int, ViewSpec]] = []
        self.sizes = [len(code.specs) for code in segments]
        for at, code in enumerate(segments):
            for index, spec in enumerate(code.specs):
                if spec.slot == 0:
                    self.arena.append((at, index, spec))
                    continue
                node = specs[spec.slot - 1]
                how = _how(spec, node.shape, node.dtype.dtype)
                slots[spec.slot - 1].views.append((at, index, spec, how))
        steady = {k for k, i in enumerate(frozen.sources) if nodes[i].op in (PARAM, STATE)}
        self.steady = [
            s for s in slots
            if s.views and (s.kind == WRITE or (s.kind == SOURCE and s.position in steady))
        ]  # fmt: skip
        self.passing = [s for s in slots if s.views and s not in self.steady]
        self.pick_sources = _picker([s.position for s in self.steady if s.kind == SOURCE])
        self.pick_writes = _picker([s.position for s in self.steady if s.kind == WRITE])


def _picker(positions: list[int]) -> Any:
    """A function that takes these items of a sequence, as a tuple."""
    if len(positions) > 1:
        return itemgetter(*positions)
    if positions:
        at = positions[0]
        return lambda items: (items[at],)
    return lambda items: ()


class Frame:
    """The views of one program over one arena."""

    def __init__(self, binding: Binding, memory: Array) -> None:
        self.binding = binding
        self.views: list[list[Any]] = [[None] * n for n in binding.sizes]
        for at, index, spec in binding.arena:
            self.views[at][index] = make_view(memory, spec)
        self.ids = [0] * len(binding.steady)  # of the arrays that the steady views show
        self.alive: list[ref[Any] | None] = [None] * len(binding.steady)

    def bind(self, sources: Arrays, outputs: Arrays, writes: Arrays) -> None:
        """Make the views of this call's arrays."""
        binding = self.binding
        held = binding.pick_sources(sources) + binding.pick_writes(writes)
        if list(map(id, held)) != self.ids:
            self._bind_steady(held)
        arrays = (sources, outputs, writes)
        for slot in binding.passing:
            array = arrays[slot.kind][slot.position]
            for at, index, spec, how in slot.views:
                if how == SAME:
                    self.views[at][index] = array
                elif how == RESHAPED:
                    self.views[at][index] = array.reshape(spec.shape)
                else:
                    self.views[at][index] = make_view(bytes_of(array), spec)

    def release(self) -> None:
        """Let go of this call's arrays."""
        for slot in self.binding.passing:
            for at, index, _, _ in slot.views:
                self.views[at][index] = None

    def _bind_steady(self, arrays: tuple[Array, ...]) -> None:
        for k, (slot, array) in enumerate(zip(self.binding.steady, arrays, strict=True)):
            if id(array) == self.ids[k]:
                continue
            base = borrowed_bytes(array)
            for at, index, spec, _ in slot.views:
                self.views[at][index] = make_view(base, spec)
            self.alive[k] = ref(array, self._forget)
            self.ids[k] = id(array)

    def _forget(self, dead: ref[Any]) -> None:
        """An array died: its address may come back as that of another one."""
        for k, life in enumerate(self.alive):
            if life is dead:
                self.ids[k] = 0
