"""The ops: one record per operation, in files by idea. Importing this package registers all."""

from lazygrad.ops import (
    attention,
    contract,
    conv,
    effect,
    elementwise,
    index,
    linalg,
    logic,
    movement,
    pool,
    random,
    reduce,
    scatter,
    sort,
    source,
    windows,
)
from lazygrad.ops.opdef import Kind, OpDef, Promotion, Sample, Strided, all_ops, get_op, register

__all__ = [
    "Kind", "OpDef", "Promotion", "Sample", "Strided", "all_ops", "get_op", "register",
    "attention", "contract", "conv", "effect", "elementwise", "index", "linalg", "logic",
    "movement", "pool", "random", "reduce", "scatter", "sort", "source", "windows",
]  # fmt: skip
