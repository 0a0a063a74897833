"""Sources and the other ops that the engine writes itself: versions, calls and their outputs.

They are the vocabulary of the engine, which may name them; every other op is known by its fields.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lazygrad.dtypes import DType, bool_
from lazygrad.errors import InternalError
from lazygrad.ops.opdef import Array, Kind, OpDef, register
from lazygrad.shapes import Shape


def _given(*, shape: Shape, dtype: DType, **attrs: Any) -> tuple[Shape, DType]:
    return shape, dtype


def _unbound(**attrs: Any) -> Array:
    raise InternalError("a source has no reference: its value is bound at each run")


def _literal(*, value: float, dtype: DType, **attrs: Any) -> Array:
    return np.asarray(value, dtype.dtype)


def _source(name: str, doc: str) -> OpDef:
    return register(OpDef(name, Kind.SOURCE, _given, _unbound, arity=0, doc=doc))


DATA = _source("data", "Data of the user: an input array or a realized tensor.")
PARAM = _source("param", "A parameter: a leaf that requires a gradient.")
STATE = _source("state", "State that programs write: moments, running statistics, buffers.")
CONST = _source("const", "A Python number met in an expression; its value is bound at each run.")
LITERAL = register(
    OpDef(
        "literal", Kind.SOURCE, _given, _literal, arity=0,
        doc="A constant that is part of the structure: `value` is one that rewrites name.",
    )
)  # fmt: skip
LITERAL_VALUES = frozenset({0.0, 1.0, -1.0, 2.0, 0.5})


def _iota_reference(*, shape: Shape, dtype: DType, axis: int) -> Array:
    line = np.arange(shape[axis], dtype=dtype.dtype)
    view = line.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return np.ascontiguousarray(np.broadcast_to(view, shape))


IOTA = register(
    OpDef(
        "iota", Kind.OPAQUE, _given, _iota_reference, arity=0,
        doc="The position along `axis`: 0, 1, 2, ... (a load that reads its own index).",
    )
)  # fmt: skip


def _identity(x: Any, **attrs: Any) -> Array:
    return np.asarray(x)


def _like(x: Any, **attrs: Any) -> tuple[Shape, DType]:
    return x.shape, x.dtype


VERSION = register(
    OpDef(
        "version", Kind.VIEW, _like, _identity, view=lambda s: s,
        doc="A later version of a leaf within one program; gradients of the leaf stop here.",
    )
)  # fmt: skip
DETACH = register(
    OpDef(
        "detach", Kind.VIEW, _like, _identity, view=lambda s: s,
        doc="The same value without a gradient.",
    )
)  # fmt: skip


def _first(x: Any, moment: Any) -> Array:
    return np.asarray(x)


AFTER = register(
    OpDef(
        "after", Kind.VIEW, lambda x, moment: (x.shape, x.dtype), _first, arity=2,
        vjp=lambda g, out, x, moment: (g, None), view=lambda s: s,
        doc="The first operand, for readers that must not run before the second is there.",
    )
)  # fmt: skip


def _call_infer(*inputs: Any, **attrs: Any) -> tuple[Shape, DType]:
    return (), bool_  # a call has no value of its own: its projections do


def _project_infer(*inputs: Any, shape: Shape, dtype: DType, **attrs: Any) -> tuple[Shape, DType]:
    return shape, dtype


CALL = register(
    OpDef(
        "call", Kind.CALL, _call_infer, _unbound, arity=None,
        doc="A captured graph as one node; inlined before compilation.",
    )
)  # fmt: skip
PROJECT = register(
    OpDef("project", Kind.PROJECT, _project_infer, _unbound, doc="Output `index` of a call.")
)
