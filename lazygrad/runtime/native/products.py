"""Contractions in canonical form: batch axes dropped, merged, or folded into rows or columns.

Axes of extent 1 go, batch axes that all accesses walk as one merge, and a batch along which one
operand stands still becomes rows or columns of the product, in pieces where it has to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

from lazygrad.dtypes import DType
from lazygrad.runtime.kernel import Access, Contract, Kernel, Param, Scratch
from lazygrad.runtime.native.lines import Pieces, joined
from lazygrad.runtime.native.unit import Unsupported
from lazygrad.shapes import Shape

_SHORT = 512  # columns of a batch entry, up to which several are walked together


@dataclass(frozen=True, slots=True)
class Walked:
    """An access as strides over the batch and pieces along its two axes (outer before inner)."""

    access: Access
    dtype: DType
    batch: tuple[int, ...]
    outer: Pieces
    inner: Pieces


@dataclass(frozen=True, slots=True)
class Product:
    """A contraction in canonical form. `left`, `right`, `loads` and `stores` are its accesses."""

    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    left: tuple[Walked, ...]
    right: tuple[Walked, ...]  # outer is its column axis, inner that of the sum
    loads: tuple[Walked, ...]
    stores: tuple[Walked, ...]

    def every(self) -> tuple[Walked, ...]:
        """All accesses."""
        return (*self.left, *self.right, *self.loads, *self.stores)

    @property
    def results(self) -> tuple[Walked, ...]:
        """What the epilogue reads and writes at the points of the result."""
        return (*self.loads, *self.stores)


def canonical_product(kernel: Kernel, stage: Contract) -> Product:
    """A contraction with as few axes as its accesses allow; raises `Unsupported`."""
    held: tuple[Param | Scratch, ...] = (*kernel.params, *kernel.scratch)
    m, n, k = stage.m, stage.n, stage.k

    def walked(access: Access, rows: int, columns: int, turned: bool = False) -> Walked:
        batch, outer, inner = _pieces(access, (*stage.batch, rows, columns))
        if turned:
            outer, inner = inner, outer
        return Walked(access, held[access.buffer].dtype, batch, outer, inner)

    product = Product(
        stage.batch, m, n, k,
        tuple(walked(a, m, k) for a in stage.a.loads),
        tuple(walked(a, k, n, True) for a in stage.b.loads),
        tuple(walked(a, m, n) for a in stage.epilogue.loads),
        tuple(walked(s.access, m, n) for s in stage.stores),
    )  # fmt: skip
    bodies = (stage.a, stage.b, stage.epilogue)
    if any(i.word == "index" for b in bodies for i in b.instrs):
        return product
    return _joined(_folded(_merged(product)))


def _pieces(access: Access, domain: Shape) -> tuple[tuple[int, ...], Pieces, Pieces]:
    """The strides over the batch, and the pieces along the last two axes."""
    if not access.split:
        row, column = access.strides[-2:]
        return access.strides[:-2], ((domain[-2], row),), ((domain[-1], column),)
    if any(len(part) != 1 for part in access.split[:-2]):
        raise Unsupported("a batch in pieces")
    rank = len(domain) - 2
    batch, rest = access.strides[:rank], access.strides[rank:]
    rows = len(access.split[-2])
    outer = tuple(zip(access.split[-2], rest[:rows], strict=True))
    return batch, outer, tuple(zip(access.split[-1], rest[rows:], strict=True))


def _merged(product: Product) -> Product:
    """Without batch axes of extent 1, neighbours that all accesses walk as one merged."""
    p = product
    groups: list[list[int]] = []
    for axis, n in enumerate(p.batch):
        if n == 1:
            continue
        if groups and all(w.batch[groups[-1][-1]] == n * w.batch[axis] for w in p.every()):
            groups[-1].append(axis)
        else:
            groups.append([axis])

    def fewer(w: Walked) -> Walked:
        return replace(w, batch=tuple(w.batch[g[-1]] for g in groups))

    batch = tuple(prod(p.batch[i] for i in g) for g in groups)
    return _changed(replace(p, batch=batch), fewer, fewer, fewer)


def _changed(
    p: Product, left: Callable[[Walked], Walked], right: Callable[[Walked], Walked],
    result: Callable[[Walked], Walked],
) -> Product:  # fmt: skip
    """A product whose accesses are changed."""
    return replace(
        p, left=tuple(map(left, p.left)), right=tuple(map(right, p.right)),
        loads=tuple(map(result, p.loads)), stores=tuple(map(result, p.stores)),
    )  # fmt: skip


def _folded(product: Product) -> Product:
    """With batch axes as rows (or columns), where the other operand ignores them.

    The last one and the axis behind it may be one to all accesses. Else there are pieces, which
    pay where the axis is short or in pieces anyway.
    """
    p = product
    axis = len(p.batch) - 1
    while axis >= 0:
        n, last = p.batch[axis], axis == len(p.batch) - 1
        shorter = partial(_shorter, axis=axis)
        outer, inner = (partial(_shorter, axis=axis, extent=n, into=i) for i in ("outer", "inner"))
        batch = p.batch[:axis] + p.batch[axis + 1 :]
        down = [(w.batch[axis], w.outer) for w in (*p.left, *p.results)]
        across = [(w.batch[axis], w.outer) for w in p.right]
        across += [(w.batch[axis], w.inner) for w in p.results]
        if all(w.batch[axis] == 0 for w in p.right) and last and _follows(p.m, down):
            p = _changed(replace(p, batch=batch, m=n * p.m), outer, shorter, outer)
        elif all(w.batch[axis] == 0 for w in p.left) and (
            (last and _follows(p.n, across)) or _in_pieces(p)
        ):
            p = _changed(replace(p, batch=batch, n=n * p.n), shorter, outer, inner)
        axis -= 1
    return p


def _in_pieces(p: Product) -> bool:
    """Whether columns of several batch entries are better walked as one axis."""
    return p.n <= _SHORT or any(len(w.outer) > 1 for w in p.right)


def _shorter(w: Walked, axis: int, extent: int = 1, into: str = "") -> Walked:
    """Without a batch axis, which one of the other axes may take as its outermost piece."""
    stride = w.batch[axis]
    w = replace(w, batch=w.batch[:axis] + w.batch[axis + 1 :])
    if into == "outer":
        return replace(w, outer=((extent, stride), *w.outer))
    return replace(w, inner=((extent, stride), *w.inner)) if into else w


def _follows(extent: int, strides: Sequence[tuple[int, Pieces]]) -> bool:
    """Whether a batch axis and the axis behind it are one to all accesses."""
    return extent == 1 or all(
        len(pieces) == 1 and big == extent * pieces[0][1] for big, pieces in strides
    )


def _joined(p: Product) -> Product:
    """With as few pieces as the accesses of each operand, and of the result, allow."""

    def together(accesses: tuple[Walked, ...]) -> tuple[Walked, ...]:
        if not accesses:
            return ()
        try:
            outer = joined([w.outer for w in accesses])
            inner = joined([w.inner for w in accesses])
        except ValueError as error:
            raise Unsupported("operands in different pieces") from error
        return tuple(
            replace(w, outer=a, inner=b) for w, a, b in zip(accesses, outer, inner, strict=True)
        )

    results = together(p.results)
    return replace(
        p, left=together(p.left), right=together(p.right),
        loads=results[: len(p.loads)], stores=results[len(p.loads) :],
    )  # fmt: skip
