"""Methods that write, add and reduce at positions."""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lazygrad.dtypes import BOOL, FLOATING, iinfo, promote
from lazygrad.engine import indexing
from lazygrad.engine.methods.base import Methods, in_place, numpy_names
from lazygrad.engine.modes import STATE
from lazygrad.errors import ArgumentError, DTypeError, ShapeError, nearest
from lazygrad.ops import index as ops
from lazygrad.ops.scatter import SCATTER_REDUCE
from lazygrad.shapes import normalize_axis

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

_REDUCES = ("sum", "prod", "mean", "amax", "amin")
_WRITES = {"add": "sum", "multiply": "prod"}  # the names that `scatter` has for them


class ScatterMethods(Methods):
    """Scatters, and writes along an index."""

    __slots__ = ()

    @numpy_names
    def scatter(self, dim: int, index: Any, src: Any, *, reduce: str | None = None) -> Tensor:
        """A copy with out[i][index[i][j]] = src[i][j] (for dim 1); src may be a number.

        `reduce` "add" or "multiply" adds to, or multiplies, what is there.
        """
        if reduce is None:
            return self._scatter("scatter", dim, index, src, False)
        if reduce not in _WRITES:
            raise ArgumentError(f"scatter: reduce is 'add' or 'multiply', got {reduce!r}")
        return self._reduced_at("scatter", dim, index, src, _WRITES[reduce], True)

    @numpy_names
    def scatter_add(self, dim: int, index: Any, src: Any) -> Tensor:
        """A copy with out[i][index[i][j]] += src[i][j] (for dim 1)."""
        return self._scatter("scatter_add", dim, index, src, True)

    @numpy_names
    def scatter_reduce(
        self, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
    ) -> Tensor:
        """A copy with src[i][j] reduced into out[i][index[i][j]] (for dim 1).

        `reduce` is "sum", "prod", "mean", "amax" or "amin"; without `include_self` what was at
        those places does not count. Equal extremes share the gradient.

        >>> import lazygrad as lg
        >>> x, index = lg.zeros(2), lg.tensor([0, 0, 1])
        >>> x.scatter_reduce(0, index, lg.tensor([1.0, 3.0, -1.0]), "mean", include_self=False)
        tensor([2., -1.])
        """
        return self._reduced_at("scatter_reduce", dim, index, src, reduce, include_self)

    def _source(self, name: str, index: Tensor, src: Any) -> Tensor:
        """The part of a source that the index uses, in the dtype of this tensor."""
        source = self._lift(src)
        if source.ndim == 0:
            return self._alike(src).expand(index.shape)
        if source.dtype is not self.dtype:
            raise DTypeError(f"{name}: a {source.dtype} source for a {self.dtype} tensor")
        return source._slice([slice(n) for n in index.shape])

    def _in_common(self, src: Any) -> tuple[Tensor, Any]:
        """Both in one dtype, where autocast has given them different ones."""
        if STATE.autocast is None or not isinstance(src, Methods):
            return self._self, src
        common = promote(self.dtype, src.dtype)
        return self.cast(common), src._self.cast(common)

    def _row(self, index: Any) -> tuple[Tensor, Tensor]:
        """A tensor without dimensions, and an index into it, as vectors."""
        return self.reshape(1), self._lift(index).reshape(-1)

    def _scatter(self, name: str, dim: int, index: Any, src: Any, accumulate: bool) -> Tensor:
        if not self.ndim:
            row, index = self._row(index)
            return row._scatter(name, dim, index, src, accumulate).reshape(())
        x, src = self._in_common(src)
        axis, positions = x._along(name, dim, index)
        source = x._source(name, positions, src)
        return x.apply(ops.SCATTER, positions, source, axis=axis, accumulate=accumulate)

    def _reduced_at(
        self, name: str, dim: int, index: Any, src: Any, reduce: str, include_self: bool
    ) -> Tensor:
        if reduce not in _REDUCES:
            hint = nearest(str(reduce), _REDUCES)
            raise ArgumentError(f"{name}: reduce is one of {_REDUCES}, got {reduce!r}{hint}")
        if not self.ndim:
            row, index = self._row(index)
            return row._reduced_at(name, dim, index, src, reduce, include_self).reshape(())
        x, src = self._in_common(src)
        axis, positions = x._along(name, dim, index)
        source = x._source(name, positions, src)
        if not include_self:
            x = x._scatter(name, axis, positions, x._identity(reduce), False)
        if reduce in ("sum", "mean"):
            total = x.apply(ops.SCATTER, positions, source, axis=axis, accumulate=True)
            return total if reduce == "sum" else total._over_counts(axis, positions, include_self)
        return x.apply(SCATTER_REDUCE, positions, source, axis=axis, reduce=reduce)

    def _identity(self, reduce: str) -> float:
        """What a reduction of this dtype begins with."""
        if reduce not in ("amax", "amin"):
            return 1 if reduce == "prod" else 0
        category = self.dtype.category
        limits = (
            (False, True) if category == BOOL
            else (-float("inf"), float("inf")) if category == FLOATING
            else (iinfo(self.dtype).min, iinfo(self.dtype).max)
        )  # fmt: skip
        return limits[reduce == "amin"]

    def _over_counts(self, axis: int, index: Tensor, include_self: bool) -> Tensor:
        """Sums divided by how many elements came to each place; integers are rounded down."""
        ones = self.new_ones(index.shape)
        count = self.new_ones(self.shape)
        if not include_self:
            count = count._scatter("scatter_reduce", axis, index, 0, False)
        count = count.apply(ops.SCATTER, index, ones, axis=axis, accumulate=True).clamp(min=1)
        return self / count if self.dtype.is_floating_point else self // count

    def _add_at(
        self, name: str, dim: int, index: Any, source: Any, accumulate: bool
    ) -> Tensor:  # fmt: skip
        if not self.ndim:
            row, index = self._row(index)
            return row._add_at(name, dim, index, source, accumulate).reshape(())
        axis = normalize_axis(dim, self.ndim, f"{name}: axis")
        rows = indexing.checked(self._lift(index), self.shape[axis], f"{name}: index")
        values = self._alike(source)
        if rows.ndim > 1:
            raise ShapeError(f"{name}: the index must be a vector, got shape {rows.shape}")
        if values.ndim:
            line = (*self.shape[:axis], *(rows.shape or (1,)), *self.shape[axis + 1 :])
            if values.shape != line:
                raise ShapeError(
                    f"{name}: a source of shape {values.shape} for {line[axis]} positions along "
                    f"axis {axis} of {self.shape}, where {line} is needed"
                )
            values = values.movedim(axis, 0)
        front = self.movedim(axis, 0).apply(ops.INDEX_PUT, values, rows, accumulate=accumulate)
        return front.movedim(0, axis)

    @numpy_names
    def index_add(self, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Tensor:
        """A copy with `alpha * source` added at positions of `dim`."""
        scaled = source if alpha == 1 else self._lift(source) * alpha
        return self._add_at("index_add", dim, index, scaled, True)

    @numpy_names
    def index_copy(self, dim: int, index: Any, source: Any) -> Tensor:
        """A copy with `source` written at positions of `dim`."""
        return self._add_at("index_copy", dim, index, source, False)

    @numpy_names
    def index_fill(self, dim: int, index: Any, value: Any) -> Tensor:
        """A copy with a number written at positions of `dim`."""
        if self._lift(value).ndim:
            raise ShapeError("index_fill: the value must be a number or a 0-d tensor")
        return self._add_at("index_fill", dim, index, value, False)

    @numpy_names
    def index_reduce(
        self, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True
    ) -> Tensor:
        """A copy with the slices of `source` reduced into those at positions of `dim`.

        `reduce` is "prod", "mean", "amax" or "amin", as in `scatter_reduce`.
        """
        axis = normalize_axis(dim, self.ndim, "index_reduce: axis")
        values = self._lift(source)
        line = [-1 if i == axis else 1 for i in range(values.ndim)]
        rows = self._lift(index).reshape(line).expand(values.shape)
        return self._reduced_at("index_reduce", axis, rows, values, reduce, include_self)

    def index_put(self, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
        """A copy with `values` written (or added) where `self[indices]` reads."""
        return indexing.write(self._self, tuple(indices), self._alike(values), accumulate)

    index_add_ = in_place("index_add")
    index_copy_ = in_place("index_copy")
    index_fill_ = in_place("index_fill")
    index_put_ = in_place("index_put")
    index_reduce_ = in_place("index_reduce")
    scatter_ = in_place("scatter")
    scatter_add_ = in_place("scatter_add")
    scatter_reduce_ = in_place("scatter_reduce")
