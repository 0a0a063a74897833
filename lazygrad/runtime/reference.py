"""The oracle: a kernel interpreted chunk by chunk, stage by stage, in plain NumPy.

It follows the words of the IR and nothing else: every access becomes an array of element
numbers, every value an array over the whole domain. Slow, and short enough to be checked by
reading it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygrad.errors import IndexOutOfRangeError
from lazygrad.ops.scalar_math import WORDS
from lazygrad.runtime.executor import Code, Place
from lazygrad.runtime.kernel import (
    Access,
    Body,
    Contract,
    Extern,
    Kernel,
    Map,
    Reduce,
    Stage,
    Store,
)  # fmt: skip
from lazygrad.shapes import Shape

Array = NDArray[Any]


class Reference:
    """A kernel that is interpreted."""

    mode = "vectorized"
    executor = "reference"
    local = 0
    workspace = 0

    def __init__(self, kernel: Kernel, reason: str) -> None:
        self.kernel = kernel
        self.reason = reason

    def emit(self, code: Code, places: Sequence[Place], workspace: Place) -> None:
        """Append a call of the interpreter on the flat parameters."""
        names = flat_params(code, self.kernel, places)
        run, kernel = code.constant(interpret, "interpret"), code.constant(self.kernel, "kernel")
        code.line(f"{run}({kernel}, ({''.join(n + ', ' for n in names)}))")


def flat_params(code: Code, kernel: Kernel, places: Sequence[Place]) -> list[str]:
    """Names of the parameters as flat arrays."""
    return [
        code.view(place, (p.size,), (1,), 0, p.dtype.dtype)
        for p, place in zip(kernel.params, places, strict=True)
    ]


def interpret(kernel: Kernel, params: Sequence[Array]) -> None:
    """Run a kernel on its parameters, given as flat arrays."""
    borders = kernel.grid.borders()
    rows = max((hi - lo for lo, hi in borders), default=0)
    scratch = [
        np.zeros(s.size if s.shared else s.row_size * rows, s.dtype.dtype) for s in kernel.scratch
    ]
    run = _Interpreter(kernel, [*params, *scratch])
    with np.errstate(all="ignore"):
        for run.chunk, (run.lo, run.hi) in enumerate(borders):
            for stage in kernel.stages:
                run.stage(stage, cut=True)
        for stage in kernel.finish:
            run.stage(stage, cut=False)


class _Interpreter:
    """The buffers of a run, and the chunk that runs: its number, its rows lo..hi."""

    def __init__(self, kernel: Kernel, buffers: list[Array]) -> None:
        self.kernel, self.buffers = kernel, buffers
        self.chunk = self.lo = self.hi = 0

    def stage(self, stage: Stage, cut: bool) -> None:
        """Run one stage for the chunk (`cut`), or once as a whole."""
        match stage:
            case Map():
                points = _Points(self, stage.domain, 0 if cut else None)
                points.store(stage.stores, points.values(stage.body))
            case Reduce():
                self.reduce(stage, cut)
            case Contract():
                self.contract(stage, cut)
            case Extern():
                inputs = [_Points(self, s, None).load(a, []) for a, s, _ in stage.inputs]
                result = np.asarray(stage.op.reference(*inputs, **stage.attributes()))
                access, shape, _ = stage.output
                _Points(self, shape, None).store((Store(access, 0),), [result])

    def reduce(self, stage: Reduce, cut: bool) -> None:
        """Combine a value over axes; the result keeps them with extent 1."""
        points = _Points(self, stage.domain, 0 if cut else None)
        value = points.over(points.values(stage.body)[stage.value])
        operand = np.ascontiguousarray(value.astype(stage.dtype.dtype))
        if stage.is_position:
            method = getattr(operand, stage.combine)
            result = method(axis=stage.axes[0], keepdims=True)
        else:
            combine: Any = WORDS[stage.combine].function
            result = combine.reduce(operand, axis=stage.axes, keepdims=True)
        kept = tuple(1 if i in stage.axes else n for i, n in enumerate(stage.domain))
        points = _Points(self, kept, 0 if cut and 0 not in stage.axes else None)
        points.store((Store(stage.store, 0),), [result])

    def contract(self, stage: Contract, cut: bool) -> None:
        """Multiply matrices, then the epilogue."""
        shapes = (stage.m, stage.k), (stage.k, stage.n), (stage.m, stage.n)
        left, right, result = (
            _Points(self, (*stage.batch, *shape), axis)
            for shape, axis in zip(shapes, stage.row_axes(cut), strict=True)
        )
        a, b = (
            np.array(points.over(points.values(body)[-1]), stage.dtype.dtype, order="C")
            for points, body in ((left, stage.a), (right, stage.b))
        )
        result.store(stage.stores, result.values(stage.epilogue, [np.matmul(a, b)]))


class _Points:
    """The points of a domain that the chunk covers; the grid cuts `row_axis`."""

    def __init__(self, run: _Interpreter, shape: Shape, row_axis: int | None) -> None:
        self.run = run
        self.first = [run.lo if i == row_axis else 0 for i in range(len(shape))]
        self.shape = tuple(run.hi - run.lo if i == row_axis else n for i, n in enumerate(shape))
        self.row_axis = row_axis

    def line(self, axis: int, start: int) -> Array:
        """start, start + 1, ... along an axis, to be broadcast over the domain."""
        line = np.arange(start, start + self.shape[axis])
        return line.reshape([-1 if i == axis else 1 for i in range(len(self.shape))])

    def over(self, value: Array) -> Array:
        """A value at every point."""
        return np.broadcast_to(value, self.shape)

    def elements(self, access: Access, values: Sequence[Array]) -> Array:
        """The element number of every point."""
        run, inputs = self.run, len(self.run.kernel.params)
        scratch = None if access.buffer < inputs else run.kernel.scratch[access.buffer - inputs]
        own = scratch is not None and not scratch.shared
        if access.split:
            return self.pieces(access)
        found = np.full(self.shape, access.offset + run.chunk * access.chunk_stride)
        for axis, stride in enumerate(access.strides):
            found += self.line(axis, 0 if own else self.first[axis]) * stride
        if access.index is not None:
            index = self.over(values[access.index]).astype(np.int64)
            wrong = index[(index < 0) | (index >= access.index_extent)]
            if wrong.size:
                raise IndexOutOfRangeError(
                    f"index {wrong[0]} is out of range for {access.index_extent} elements"
                )
            found += index * access.index_stride
        return found

    def pieces(self, access: Access) -> Array:
        """The element number of every point, of an access that walks its axes in pieces."""
        lines = np.ix_(*(np.arange(n) * s for n, s in
                         zip(access.points(self.shape), access.strides, strict=True)))  # fmt: skip
        return np.asarray(access.offset + sum(lines)).reshape(self.shape)

    def load(self, access: Access, values: Sequence[Array]) -> Array:
        """The elements that an access reads."""
        return self.run.buffers[access.buffer][self.elements(access, values)]

    def store(self, stores: Sequence[Store], values: Sequence[Array]) -> None:
        """Write values through their accesses."""
        for store in stores:
            buffer = self.run.buffers[store.access.buffer]
            buffer[self.elements(store.access, values)] = self.over(values[store.value])

    def values(self, body: Body, first: Sequence[Array] = ()) -> list[Array]:
        """All values of a body; constants and positions stay as small as they are."""
        values = list(first)
        for access in body.loads:
            values.append(self.load(access, values))
        for instr in body.instrs:
            args = [values[a] for a in instr.args]
            if instr.word == "const":
                result = np.asarray(instr.value).astype(instr.dtype.dtype)
            elif instr.word == "index":
                axis = int(instr.value or 0)
                result = self.line(axis, self.first[axis]).astype(instr.dtype.dtype)
            elif instr.word == "cast":
                result = args[0].astype(instr.dtype.dtype)
            elif instr.word == "where":
                result = np.where(*args)
            else:
                result = np.asarray(WORDS[instr.word].function(*args)).astype(instr.dtype.dtype)
            values.append(result)
        return values
