"""Programs: sources in, outputs, kept values and writes out."""

import gc

import numpy as np

from lazygrad.dtypes import float32
from lazygrad.engine.frozen import Builder, FNode
from lazygrad.engine.program import compile_graph
from lazygrad.ops.opdef import Kind, OpDef, infer_elementwise
from lazygrad.ops.source import DATA

ADD = OpDef("t_add", Kind.ELEMENTWISE, infer_elementwise, np.add, 2, lambda m, x, y: m.add(x, y))


def test_slice() -> None:
    b = Builder()
    x = b.add_source(FNode(DATA, (), {}, (3,), float32))
    y = b.add_source(FNode(DATA, (), {}, (3,), float32))
    z = b.add(FNode(ADD, (x, y), {}, (3,), float32))
    w = b.add(FNode(ADD, (z, y), {}, (3,), float32))
    g = b.finish([w, w], kept=[z], writes=[(0, z)])
    program = compile_graph(g)
    sx, sy = np.ones(3, np.float32), np.full(3, 2, np.float32)
    o1, o2 = np.empty(3, np.float32), np.empty(3, np.float32)
    lease = program.run([sx, sy], [o1, o2], [sx])
    assert lease is not None
    np.testing.assert_array_equal(sx, 3)
    np.testing.assert_array_equal(o2, 5)
    np.testing.assert_array_equal(lease.kept[0], 3)
    lease.release()
    gc.collect()
