"""Statistics composed of sorting and sums: quantiles, modes, histograms, what skips NaN."""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lazygrad.dtypes import DTypeLike, int64
from lazygrad.engine.methods.base import Methods, numpy_names
from lazygrad.engine.methods.reduce import ValuesIndices
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.ops.index import INDEX_PUT
from lazygrad.shapes import Axes, normalize_axis

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

_INTERPOLATIONS = ("linear", "lower", "higher", "nearest", "midpoint")


class StatisticsMethods(Methods):
    """What is known of many elements."""

    __slots__ = ()

    # Without NaN.

    @numpy_names
    def nansum(
        self, dim: Axes = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The sum over `dim` of what is not NaN."""
        return self.masked_fill(self.isnan(), 0).sum(dim, keepdim, dtype=dtype)

    @numpy_names
    def nanmean(
        self, dim: Axes = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The mean over `dim` of what is not NaN."""
        total = self.nansum(dim, keepdim, dtype=dtype)
        return total / (~self.isnan()).sum(dim, keepdim).to(total.dtype)

    @numpy_names
    def nanmedian(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """`median` of what is not NaN."""
        if dim is None:
            return self.reshape(-1).nanmedian(0).values
        axis, size = self._line_of("nanmedian", dim)
        missing = self.isnan().sum(axis, keepdim=True)  # they come last
        place = ((size - 1 - missing) // 2).clamp(min=0)
        return self._ranked(axis, place, keepdim)

    # By rank.

    def _line_of(self, name: str, dim: int) -> tuple[int, int]:
        """The axis and its size, which must not be 0."""
        axis = normalize_axis(dim, self.ndim, f"{name}: axis")
        size = self.shape[axis] if self.shape else 1
        if size == 0:
            raise ShapeError(f"{name}: shape {self.shape} has no elements along {axis}")
        return axis, size

    def _ranked(self, axis: int, place: Tensor, keepdim: bool) -> ValuesIndices:
        """What stands at a place of the sorted order, and where it was."""
        indices = self.argsort(axis).gather(axis, place)
        values = self.gather(axis, indices)
        if not keepdim:
            values, indices = values.squeeze(axis), indices.squeeze(axis)
        return ValuesIndices(values, indices)

    @numpy_names
    def kthvalue(self, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
        """The k-th smallest element along `dim`, counted from 1, and where it is."""
        axis, size = self._line_of("kthvalue", dim)
        if not 1 <= k <= size:
            raise ShapeError(f"kthvalue: k={k} of {size} elements along axis {axis}")
        shape = tuple(1 if i == axis else n for i, n in enumerate(self.shape))
        return self._ranked(axis, self.new_full(shape, k - 1, dtype=int64), keepdim)

    @numpy_names
    def mode(self, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
        """The most frequent element along `dim` (of several the smallest), and its last place."""
        axis, _ = self._line_of("mode", dim)
        if not self.ndim:
            return ValuesIndices(self._self, self.new_zeros((), dtype=int64))
        lines = self.detach().sort(axis).values.movedim(axis, -1)
        ends = lines.searchsorted(lines, right=True)
        counts = ends - lines.searchsorted(lines)
        last = ends.gather(-1, counts.argmax(-1, keepdim=True)) - 1
        return self._ranked(axis, last.movedim(-1, axis), keepdim)

    def msort(self) -> Tensor:
        """Sorted along the first dimension."""
        return self.sort(0).values

    @numpy_names
    def quantile(
        self, q: Any, dim: int | None = None, keepdim: bool = False, *,
        interpolation: str = "linear",
    ) -> Tensor:  # fmt: skip
        """The value below which the share `q` of the elements lies; NaN where there is a NaN.

        `q` is a number, or a vector, which becomes the first dimension of the result.
        `interpolation` between neighbours is "linear", "lower", "higher", "nearest" or "midpoint".
        """
        return self._quantile(q, dim, keepdim, interpolation, False)

    @numpy_names
    def nanquantile(
        self, q: Any, dim: int | None = None, keepdim: bool = False, *,
        interpolation: str = "linear",
    ) -> Tensor:  # fmt: skip
        """`quantile` of what is not NaN."""
        return self._quantile(q, dim, keepdim, interpolation, True)

    def _quantile(
        self, q: Any, dim: int | None, keepdim: bool, interpolation: str, skip: bool
    ) -> Tensor:
        if interpolation not in _INTERPOLATIONS:
            raise ArgumentError(f"quantile: interpolation {interpolation!r} is not one of "
                                f"{', '.join(_INTERPOLATIONS)}")  # fmt: skip
        if isinstance(q, int | float) and not 0 <= q <= 1:
            raise ArgumentError(f"quantile: q must lie in [0, 1], got {q}")
        if dim is None:
            found = self.reshape(-1)._quantile(q, 0, False, interpolation, skip)
            ones = [1] * self.ndim if keepdim else []
            return found.reshape([*found.shape, *ones])
        axis, size = self._line_of("quantile", dim)
        shares = self._alike(q)
        lines = self.reshape([1]) if not self.ndim else self.movedim(axis, -1)
        valid = size - lines.isnan().sum(-1, keepdim=True)
        most = valid - 1 if skip else (valid - 1).where(valid == size, size - 1)
        ranks = shares.reshape(-1) * most.to(self.dtype)
        if not skip:
            ranks = ranks.where(valid == size, float(size - 1))  # there the NaN stands
        found = _between(lines.sort(-1).values, ranks.clamp(min=0), interpolation)
        found = found.movedim(-1, 0).reshape((*shares.shape, *lines.shape[:-1]))
        return found.unsqueeze(shares.ndim + axis) if keepdim and self.ndim else found

    # Relations between elements.

    def cov(self, *, correction: int = 1) -> Tensor:
        """The covariances of the rows; a vector is one row."""
        if self.ndim > 2:
            raise ShapeError(f"cov takes at most two dimensions, not shape {self.shape}")
        x = self.reshape((1, -1)) if self.ndim < 2 else self._self
        x = x - x.mean(1, keepdim=True)
        found = x @ x.T / float(max(x.shape[1] - correction, 0))
        return found if x.shape[0] > 1 else found.reshape(())

    def corrcoef(self) -> Tensor:
        """The correlations of the rows, within [-1, 1]."""
        found = self.cov()
        if not found.ndim:
            return found / found
        spread = found.diagonal().sqrt()
        return (found / spread.unsqueeze(1) / spread.unsqueeze(0)).clamp(-1, 1)

    def dist(self, other: Any, p: float = 2) -> Tensor:
        """The p-norm of the difference."""
        return (self - self._lift(other)).norm(p)

    def renorm(self, p: float, dim: int, maxnorm: float) -> Tensor:
        """The slices along `dim`, those of a larger p-norm shrunk to `maxnorm`."""
        axis = normalize_axis(dim, self.ndim, "renorm: axis")
        others = tuple(i for i in range(self.ndim) if i != axis)
        size = self.norm(p, others, keepdim=True)
        return self * (maxnorm / (size + 1e-7)).where(size > maxnorm, 1.0)

    def histc(self, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
        """How many elements lie in each of `bins` equal parts of [min, max].

        Equal borders stand for the smallest and the largest element. What lies outside is not
        counted; the last part has its right border.
        """
        if bins < 1 or min > max:
            raise ArgumentError(f"histc: {bins} bins of [{min}, {max}]")
        x = self.detach().reshape(-1)
        low, high = x._number(min, x.dtype), x._number(max, x.dtype)
        if min == max and x.shape[0]:
            low, high = x.amin(), x.amax()
        flat = low == high
        low, high = (low - 1).where(flat, low), (high + 1).where(flat, high)
        inside = (x >= low) & (x <= high)
        place = ((x - low) / (high - low) * bins).masked_fill(~inside, 0).to(int64)
        place = place.clamp(0, bins - 1)
        counts = x.new_zeros(bins)
        return counts.apply(INDEX_PUT, inside.to(x.dtype), place, accumulate=True)


def _between(lines: Tensor, ranks: Tensor, interpolation: str) -> Tensor:
    """The elements of the sorted last axis at ranks that need not be integers."""
    below, above = ranks.floor(), ranks.ceil()
    if interpolation == "nearest":
        below = above = ranks.round()
    elif interpolation == "lower":
        above = below
    elif interpolation == "higher":
        below = above
    low, high = (lines.gather(-1, r.detach().to(int64)) for r in (below, above))
    if interpolation == "linear":
        return low + (high - low) * (ranks - below)
    return (low + high) / 2 if interpolation == "midpoint" else low
