"""Einstein summation as diagonals, permutations, sums and matrix products.

Operands are contracted from left to right: an index that no later operand and not the result
needs is summed as soon as the last two operands that have it meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lazygrad.errors import ShapeError
from lazygrad.shapes import numel

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

Term = tuple["Tensor", str]  # an operand and its index letters
_SPARE = "".join(map(chr, range(0x391, 0x3D0)))  # letters that stand for the axes of "..."


def parse(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, with "..." spelt out.

    >>> parse("ij,jk", [2, 2])
    (['ij', 'jk'], 'ik')
    """
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ShapeError(f"einsum: {len(terms)} terms in {equation!r} for {len(ranks)} operands")
    for term in (*terms, right):
        letters = term.replace("...", "")
        if not all(c.isalpha() for c in letters) or term.count("...") > 1:
            raise ShapeError(f"einsum: {term!r} in {equation!r} is no list of index letters")
    extra = [n - len(t.replace("...", "")) for t, n in zip(terms, ranks, strict=True)]
    for term, n, rank in zip(terms, extra, ranks, strict=True):
        if n < 0 or (n > 0 and "..." not in term):
            raise ShapeError(f"einsum: {term!r} for an operand with {rank} dimensions")
    widest = max((n for t, n in zip(terms, extra, strict=True) if "..." in t), default=0)
    dots = _SPARE[:widest]
    spelt = [
        t.replace("...", dots[widest - n :] if n else "") for t, n in zip(terms, extra, strict=True)
    ]
    if not arrow:
        used = "".join(spelt)
        right = dots + "".join(sorted(c for c in set(used) - set(dots) if used.count(c) == 1))
    else:
        right = right.replace("...", dots)
    if len(set(right)) != len(right) or not set(right) <= set("".join(spelt)):
        raise ShapeError(
            f"einsum: the result {right!r} of {equation!r} repeats or invents an index"
        )
    return spelt, right


def _diagonals(x: Tensor, letters: str) -> Term:
    """Without repeated letters: an index used twice runs along a diagonal."""
    for c in dict.fromkeys(letters):
        while letters.count(c) > 1:
            i = letters.index(c)
            j = letters.index(c, i + 1)
            x = x.diagonal(0, i, j)
            letters = letters[:i] + letters[i + 1 : j] + letters[j + 1 :] + c
    return x, letters


def _summed(term: Term, wanted: set[str]) -> Term:
    x, letters = term
    gone = tuple(i for i, c in enumerate(letters) if c not in wanted)
    if gone:
        x = x.sum(gone)
        letters = "".join(c for c in letters if c in wanted)
    return x, letters


def _ordered(term: Term, letters: str) -> Tensor:
    return term[0].permute([term[1].index(c) for c in letters])


def _pair(a: Term, b: Term, wanted: set[str], sizes: dict[str, int]) -> Term:
    """The product of two terms, summed over what only they have."""
    shared = [c for c in a[1] if c in b[1]]
    a, b = _summed(a, wanted | set(shared)), _summed(b, wanted | set(shared))
    batch = "".join(c for c in shared if c in wanted)
    inner = "".join(c for c in shared if c not in wanted)
    rows = "".join(c for c in a[1] if c not in shared)
    columns = "".join(c for c in b[1] if c not in shared)
    x, y = _ordered(a, batch + rows + inner), _ordered(b, batch + inner + columns)
    lead = x.shape[: len(batch)]
    count = {part: numel([sizes[c] for c in part]) for part in (rows, inner, columns)}
    if not inner:
        product = x.reshape((*lead, count[rows], 1)) * y.reshape((*lead, 1, count[columns]))
    else:
        product = x.reshape((*lead, count[rows], count[inner])).matmul(
            y.reshape((*lead, count[inner], count[columns]))
        )
    letters = batch + rows + columns
    return product.reshape([sizes[c] for c in letters]), letters


def einsum(equation: str, operands: Sequence[Tensor]) -> Tensor:
    """The sum of products that `equation` describes, as `torch.einsum`."""
    spelt, result = parse(equation, [x.ndim for x in operands])
    sizes: dict[str, int] = {}
    for x, letters in zip(operands, spelt, strict=True):
        for c, n in zip(letters, x.shape, strict=True):
            held = sizes.get(c, 1)
            if n != held and 1 not in (n, held):
                raise ShapeError(f"einsum: index {c!r} of {equation!r} is {held} and {n}")
            sizes[c] = n if held == 1 else held
    terms = [
        _diagonals(x.expand([sizes[c] for c in letters]), letters)
        for x, letters in zip(operands, spelt, strict=True)
    ]
    total = terms[0]
    for i, term in enumerate(terms[1:], 2):
        later = {c for _, letters in terms[i:] for c in letters}
        total = _pair(total, term, later | set(result), sizes)
    return _ordered(_summed(total, set(result)), result)
