"""Frozen graphs written by hand: `g = GraphBuilder(); x = g.data((2, 3)); y = g(EXP, x)`."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lazygrad.dtypes import DType, float32
from lazygrad.engine.frozen import Builder, FNode, FrozenGraph
from lazygrad.engine.program import Program
from lazygrad.ops.contract import MATMUL
from lazygrad.ops.movement import EXPAND, PERMUTE, RESHAPE
from lazygrad.ops.opdef import OpDef
from lazygrad.ops.reduce import SUM
from lazygrad.ops.source import DATA, IOTA, LITERAL, PARAM, STATE
from lazygrad.shapes import Shape

Array = np.ndarray[Any, Any]


class GraphBuilder(Builder):
    """A builder that infers shapes and dtypes."""

    def data(self, shape: Shape, dtype: DType = float32, op: OpDef = DATA) -> int:
        return self.add_source(
            FNode(
                op, (), {"shape": shape, "dtype": dtype}, shape, dtype, None, f"s{len(self.nodes)}"
            )
        )

    def param(self, shape: Shape, dtype: DType = float32) -> int:
        return self.data(shape, dtype, PARAM)

    def state(self, shape: Shape, dtype: DType = float32) -> int:
        return self.data(shape, dtype, STATE)

    def literal(self, value: float, dtype: DType = float32) -> int:
        attrs = {"shape": (), "dtype": dtype, "value": value}
        return self.add(FNode(LITERAL, (), attrs, (), dtype))

    def iota(self, shape: Shape, axis: int, dtype: DType) -> int:
        attrs = {"shape": shape, "dtype": dtype, "axis": axis}
        return self.add(FNode(IOTA, (), attrs, shape, dtype))

    def __call__(self, op: OpDef, *inputs: int, **attrs: Any) -> int:
        shape, dtype = op.infer(*[self.nodes[i] for i in inputs], **attrs)
        return self.add(FNode(op, inputs, attrs, shape, dtype))

    def shape(self, i: int) -> Shape:
        return self.nodes[i].shape

    def t(self, i: int) -> int:
        """The transpose of a matrix."""
        return self(PERMUTE, i, axes=(1, 0))

    def matmul(self, a: int, b: int) -> int:
        return self(MATMUL, a, b)

    def sum(self, i: int, *axes: int, keepdim: bool = False) -> int:
        return self(SUM, i, axes=axes, keepdim=keepdim)

    def reshape(self, i: int, *shape: int) -> int:
        return self(RESHAPE, i, shape=shape)

    def expand(self, i: int, *shape: int) -> int:
        return self(EXPAND, i, shape=shape)

    def __getitem__(self, i: int) -> FNode:
        return self.nodes[i]


def arrays_for(frozen: FrozenGraph, seed: int = 0) -> list[Array]:
    """Random arrays for the sources of a graph."""
    rng = np.random.default_rng(seed)
    found = []
    for i in frozen.sources:
        node = frozen.nodes[i]
        if node.dtype.is_floating_point:
            found.append(np.asarray(rng.normal(size=node.shape)).astype(node.dtype.dtype))
        else:
            found.append(np.asarray(rng.integers(0, 2, node.shape)).astype(node.dtype.dtype))
    return found


def evaluate(
    program: Program,
    sources: Sequence[Array],
    fresh: Iterable[int] = (),
) -> list[Array]:
    """Run on copies: outputs, kept values, writes (those in `fresh` go to new arrays)."""
    frozen = program.frozen
    bound = [s.copy() for s in sources]
    outputs = [
        np.full_like(np.empty(frozen.nodes[i].shape, frozen.nodes[i].dtype.dtype), 0)
        for i in frozen.outputs
    ]
    new = set(fresh)
    writes = [
        np.zeros_like(bound[at]) if k in new else bound[at]
        for k, (at, _) in enumerate(frozen.writes)
    ]
    lease = program.run(bound, outputs, writes)
    kept = [np.array(a) for a in lease.kept] if lease is not None else []
    if lease is not None:
        lease.release()
    for k, (at, _) in enumerate(frozen.writes):
        if k in new:
            assert bound[at].tobytes() == sources[at].tobytes(), "the old version was touched"
    written = {at for k, (at, _) in enumerate(frozen.writes) if k not in new}
    for at, (before, after) in enumerate(zip(sources, bound, strict=True)):
        assert at in written or before.tobytes() == after.tobytes(), f"source {at} was touched"
    return [*outputs, *kept, *writes]
