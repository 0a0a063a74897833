"""Methods whose results have as many elements as values say: masks, positions, distinct ones.

With `size=` that number is structure: the first elements, then `fill_value`, as in JAX. Then
nothing is read, so that form works in captured functions; without it the number is read.
"""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lazygrad.dtypes import INTEGER, bool_, int64
from lazygrad.engine import indexing
from lazygrad.engine.methods.base import Methods, in_place
from lazygrad.engine.modes import STATE
from lazygrad.errors import ArgumentError, CaptureError, DTypeError
from lazygrad.ops import index as ops
from lazygrad.ops.movement import CAT
from lazygrad.shapes import broadcast, numel

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


class UniqueInverse(NamedTuple):
    """Distinct elements, and which of them each element is."""

    output: Tensor
    inverse_indices: Tensor


class UniqueCounts(NamedTuple):
    """Distinct elements, and how often each occurs."""

    output: Tensor
    counts: Tensor


class Unique(NamedTuple):
    """Distinct elements, which of them each element is, and how often each occurs."""

    output: Tensor
    inverse_indices: Tensor
    counts: Tensor


def _size_of(name: str, count: Tensor, size: int | None) -> int:
    """The given size, or the count, which is read."""
    if size is None:
        if STATE.capture is not None:
            raise CaptureError(
                f"{name} inside a captured function: how many elements it has depends on values;"
                " say how many with size=n (and what follows them with fill_value=)"
            )
        return int(count.item())
    if isinstance(size, bool) or not hasattr(size, "__index__") or size < 0:
        raise ArgumentError(f"{name}: size must be an integer >= 0, got {size!r}")
    return int(size)


class MaskMethods(Methods):
    """Masks, positions, distinct elements."""

    __slots__ = ()

    def nonzero(
        self, *, size: int | None = None, fill_value: int = 0, as_tuple: bool = False
    ) -> Any:
        """The positions of the non-zero elements, (n, ndim) int64; reads the values.

        With `size` the result has that many rows (the first ones, then `fill_value`), and nothing
        is read: that form works while capturing.

        >>> import lazygrad as lg
        >>> lg.tensor([0.0, 2.0, 3.0]).nonzero(size=3, fill_value=-1).tolist()
        [[1], [2], [-1]]
        """
        mask = self._self.to(bool_)
        rows = _size_of("nonzero()", mask.sum(), size)
        found = mask.apply(ops.NONZERO, size=rows, fill_value=int(fill_value))
        return tuple(found.unbind(1)) if as_tuple else found

    def argwhere(self, *, size: int | None = None, fill_value: int = 0) -> Tensor:
        """`nonzero`, by NumPy's name."""
        return self.nonzero(size=size, fill_value=fill_value)

    def masked_select(
        self, mask: Any, *, size: int | None = None, fill_value: float = 0.0
    ) -> Tensor:
        """The elements where `mask` holds, as a vector; reads the mask.

        With `size` the result has that many elements (the first ones, then `fill_value`), and
        nothing is read: that form works while capturing.
        """
        mask = self._lift(mask)
        if mask.dtype is not bool_:
            raise DTypeError(f"masked_select: the mask must be bool, got {mask.dtype}")
        shape = broadcast(self.shape, mask.shape)
        x, flags = self.expand(shape).reshape(-1), mask.expand(shape).reshape(-1)
        count = _size_of("masked_select()", flags.sum(), size)
        padded = x.pad([(0, 1)], value=fill_value)
        found = flags.nonzero(size=count, fill_value=numel(shape)).reshape(-1)
        return padded.apply(ops.INDEX, found)

    def masked_scatter(self, mask: Any, source: Any) -> Tensor:
        """A copy with the elements of `source`, in order, where `mask` holds.

        `source` has at least as many elements as the mask has true ones, which is checked when the
        program runs.
        """
        flags, values = self._lift(mask), self._lift(source)
        if flags.dtype is not bool_:
            raise DTypeError(f"masked_scatter: the mask must be bool, got {flags.dtype}")
        if values.dtype is not self.dtype:
            raise DTypeError(
                f"masked_scatter: a {values.dtype} source for a {self.dtype} tensor"
            )  # fmt: skip
        flags = flags.expand(self.shape).reshape(-1)
        return indexing.placed(self.reshape(-1), flags, values.reshape(-1)).reshape(self.shape)

    def unique(
        self, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
        dim: int | None = None, *, size: int | None = None, fill_value: float | None = None,
    ) -> Any:  # fmt: skip
        """The distinct elements of the flat tensor, ascending; reads how many there are.

        With `return_inverse` also which of them each element is, in the shape of the tensor; with
        `return_counts` how often each occurs. With `size` there are that many: the first ones, then
        `fill_value` (the smallest element unless given), which occurs 0 times.

        >>> import lazygrad as lg
        >>> lg.tensor([3, 1, 3]).unique(return_counts=True).counts.tolist()
        [1, 2]
        """
        if dim is not None:
            raise ArgumentError("unique: only of the flat tensor (dim=None)")
        order = self.reshape(-1).argsort(0)
        found = self.reshape(-1).gather(0, order)._runs("unique()", size, fill_value)
        place = order.new_zeros(order.shape).scatter(0, order, found.inverse_indices)
        found = found._replace(inverse_indices=place.reshape(self.shape))
        return _asked(found, return_inverse, return_counts)

    def unique_consecutive(
        self, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None,
        *, size: int | None = None, fill_value: float | None = None,
    ) -> Any:  # fmt: skip
        """The elements of the flat tensor that differ from the one before; forms as in `unique`."""
        if dim is not None:
            raise ArgumentError("unique_consecutive: only of the flat tensor (dim=None)")
        found = self.reshape(-1)._runs("unique_consecutive()", size, fill_value)
        found = found._replace(inverse_indices=found.inverse_indices.reshape(self.shape))
        return _asked(found, return_inverse, return_counts)

    def _runs(self, name: str, size: int | None, fill_value: float | None) -> Unique:
        """The runs of equal elements of a vector."""
        total = self.shape[0]
        if not total:
            count = _size_of(name, self.new_zeros((), dtype=int64), size)
            filled = self.new_full((count,), 0 if fill_value is None else fill_value)
            nothing = self.new_zeros((0,), dtype=int64)
            return Unique(filled, nothing, nothing.new_zeros((count,)))
        changes = self.narrow(0, 1, total - 1).ne(self.narrow(0, 0, total - 1))
        first = changes.pad([(1, 0)], value=True)
        run = first.cumsum(0) - 1
        count = _size_of(name, first.sum(), size)
        places = first.nonzero(size=count, fill_value=total).reshape(-1)
        if fill_value is None:
            padded = self.apply(CAT, self.narrow(0, 0, 1), axis=0)
        else:
            padded = self.pad([(0, 1)], value=fill_value)
        counts = run.new_zeros((max(count, total) + 1,)).scatter_add(0, run, run.new_ones(total))
        return Unique(padded.apply(ops.INDEX, places), run, counts.narrow(0, 0, count))

    def bincount(
        self, weights: Any = None, minlength: int = 0, *, size: int | None = None
    ) -> Tensor:  # fmt: skip
        """How often each of 0, 1, 2, ... occurs in a vector of integers, or the sums of `weights`.

        Reads the largest element; with `size` only numbers below that may occur, and nothing is
        read.
        """
        if self.ndim != 1 or self.dtype.category != INTEGER:
            raise DTypeError(
                f"bincount takes a vector of integers, got shape {self.shape} of {self.dtype}"
            )
        top = self.amax() + 1 if self.shape[0] else self.new_zeros(())
        count = max(_size_of("bincount()", top, size), minlength if size is None else 0)
        ones = self.new_ones(self.shape, dtype=int64) if weights is None else self._lift(weights)
        return ones.new_zeros((count,)).index_add(0, self, ones)

    masked_scatter_ = in_place("masked_scatter")


def _asked(found: Unique, inverse: bool, counts: bool) -> Any:
    """The parts that were asked for."""
    if inverse and counts:
        return found
    if inverse:
        return UniqueInverse(found.output, found.inverse_indices)
    return UniqueCounts(found.output, found.counts) if counts else found.output
