"""Comparisons, logic, bits, and the choice between two values: elementwise ops about bools."""

from __future__ import annotations

from typing import Any

from lazygrad.dtypes import BOOL, INTEGER, bool_
from lazygrad.ops.elementwise import BITS, elementwise, samples_of
from lazygrad.ops.opdef import OpDef, Promotion

_BOOLS = frozenset({BOOL})


def _bools(arity: int) -> Any:
    return samples_of(lambda rng, shapes: tuple(rng.random(s) > 0.5 for s in shapes[:arity]))


def _integers(arity: int) -> Any:
    return samples_of(lambda rng, shapes: tuple(rng.integers(0, 6, s) for s in shapes[:arity]))


def _comparison(name: str, symbol: str, **facts: Any) -> OpDef:
    def compare(m: Any, x: Any, y: Any) -> Any:
        return getattr(m, name)(x, y)

    return elementwise(name, compare, arity=2, result=bool_, doc=f"x {symbol} y, as bool.", **facts)


EQ = _comparison("eq", "==", commutative=True)
NE = _comparison("ne", "!=", commutative=True)
LT = _comparison("lt", "<")
LE = _comparison("le", "<=")
GT = _comparison("gt", ">")
GE = _comparison("ge", ">=")


def _logic(name: str, takes: frozenset[int], doc: str, **facts: Any) -> OpDef:
    def combine(m: Any, x: Any, y: Any) -> Any:
        return getattr(m, name)(x, y)

    return elementwise(
        name, combine, arity=2, takes=takes, doc=doc, commutative=True, associative=True,
        samples=_bools(2) if takes is _BOOLS else _integers(2), **facts,
    )  # fmt: skip


LOGICAL_AND = _logic("logical_and", _BOOLS, "x and y, on bools.", idempotent=True)
LOGICAL_OR = _logic("logical_or", _BOOLS, "x or y, on bools.", idempotent=True)
LOGICAL_XOR = _logic("logical_xor", _BOOLS, "Either x or y, not both, on bools.")
LOGICAL_NOT = elementwise(
    "logical_not", lambda m, x: m.logical_not(x), takes=_BOOLS, involution=True, samples=_bools(1),
    doc="not x, on bools.",
)  # fmt: skip
BIT_AND = _logic("bit_and", BITS, "x & y on the bits of integers and bools.", idempotent=True)
BIT_OR = _logic("bit_or", BITS, "x | y on the bits of integers and bools.", idempotent=True)
BIT_XOR = _logic("bit_xor", BITS, "x ^ y on the bits of integers and bools.")
BIT_NOT = elementwise(
    "bit_not", lambda m, x: m.bit_not(x), takes=BITS, involution=True, samples=_integers(1),
    doc="~x: every bit flipped; logical not on bools.",
)  # fmt: skip
SHL = elementwise(
    "shl", lambda m, x, y: m.shl(x, y), arity=2, takes=frozenset({INTEGER}), samples=_integers(2),
    doc="x << y on integers.",
)  # fmt: skip
SHR = elementwise(
    "shr", lambda m, x, y: m.shr(x, y), arity=2, takes=frozenset({INTEGER}), samples=_integers(2),
    doc="x >> y on integers (arithmetic on signed ones).",
)  # fmt: skip


def _predicate(name: str, doc: str) -> OpDef:
    return elementwise(name, lambda m, x: getattr(m, name)(x), result=bool_, doc=doc)


ISNAN = _predicate("isnan", "Whether an element is NaN.")
ISINF = _predicate("isinf", "Whether an element is an infinity.")
ISFINITE = _predicate("isfinite", "Whether an element is neither NaN nor an infinity.")

WHERE = elementwise(
    "where", lambda m, c, x, y: m.where(c, x, y),
    lambda g, out, c, x, y: (
        None, lambda: g.where(c, 0.0), lambda: g.masked_fill(c, 0.0)
    ),
    arity=3, promotion=Promotion.TAIL,
    samples=samples_of(
        lambda rng, s: (rng.random(s[0]) > 0.5, rng.uniform(-2, 2, s[1]), rng.uniform(-2, 2, s[2]))
    ),
    grad_name="WhereBackward", doc="x where c holds, else y.",
)  # fmt: skip
