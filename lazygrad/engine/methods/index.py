"""Methods that read and write at positions."""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.dtypes import INTEGER, bool_, promote
from lazygrad.engine import indexing
from lazygrad.engine.methods.base import Methods, in_place, numpy_names
from lazygrad.engine.modes import STATE
from lazygrad.errors import DTypeError, ShapeError
from lazygrad.ops import index as ops
from lazygrad.ops.effect import CHECK_INDEX
from lazygrad.shapes import broadcast, normalize_axis, numel

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


class IndexMethods(Methods):
    """Indexing, gather and scatter, masks."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Tensor:
        return indexing.read(self._self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._rebind(indexing.write(self._self, key, self._alike(value)))

    def _checked(self, size: int, what: str, low: int = 0) -> Tensor:
        """These indices, after a check at run time that they lie in [low, size)."""
        if self.dtype.category != INTEGER:
            raise DTypeError(f"{what} must be integers, got {self.dtype}")
        return self.apply(CHECK_INDEX, low=low, high=size, what=what)

    def _along(self, name: str, dim: int, index: Any) -> tuple[int, Tensor]:
        """The axis, and the checked index tensor of a gather or scatter."""
        axis = normalize_axis(dim, self.ndim, f"{name}: axis")
        size = self.shape[axis] if self.shape else 1
        return axis, indexing.checked(self._lift(index), size, f"{name}: index")

    @numpy_names
    def gather(self, dim: int, index: Any) -> Tensor:
        """out[i][j] = self[i][index[i][j]] (for dim 1)."""
        axis, positions = self._along("gather", dim, index)
        if not self.ndim:
            return self.reshape(1).gather(0, positions.reshape(-1)).reshape(positions.shape)
        return self.apply(ops.GATHER, positions, axis=axis)

    @numpy_names
    def take_along_dim(self, index: Any, dim: int | None = None) -> Tensor:
        """`gather` whose index broadcasts over the other dimensions."""
        if dim is None:
            return self.reshape(-1).gather(0, self._lift(index).reshape(-1))
        axis = normalize_axis(dim, self.ndim, "take_along_dim: axis")
        index = self._lift(index)
        if index.ndim != self.ndim:
            raise ShapeError(f"take_along_dim: index {index.shape} for a tensor of {self.shape}")
        mine = tuple(1 if i == axis else n for i, n in enumerate(self.shape))
        theirs = tuple(1 if i == axis else n for i, n in enumerate(index.shape))
        common = broadcast(mine, theirs)
        source = self.expand(
            tuple(self.shape[axis] if i == axis else n for i, n in enumerate(common))
        )
        wide = index.expand(
            tuple(index.shape[axis] if i == axis else n for i, n in enumerate(common))
        )
        return source.gather(axis, wide)

    @numpy_names
    def scatter(self, dim: int, index: Any, src: Any) -> Tensor:
        """A copy with out[i][index[i][j]] = src[i][j] (for dim 1); src may be a number."""
        return self._scatter("scatter", dim, index, src, False)

    @numpy_names
    def scatter_add(self, dim: int, index: Any, src: Any) -> Tensor:
        """A copy with out[i][index[i][j]] += src[i][j] (for dim 1)."""
        return self._scatter("scatter_add", dim, index, src, True)

    def _scatter(self, name: str, dim: int, index: Any, src: Any, accumulate: bool) -> Tensor:
        axis, positions = self._along(name, dim, index)
        source = self._lift(src)
        if source.ndim == 0:
            source = self._alike(src).expand(positions.shape)
        elif source.dtype is not self.dtype and STATE.autocast is not None:
            common = promote(self.dtype, source.dtype)
            return self.cast(common)._scatter(name, dim, index, source.cast(common), accumulate)
        elif source.dtype is not self.dtype:
            raise DTypeError(f"{name}: a {source.dtype} source for a {self.dtype} tensor")
        cut = source._slice([slice(n) for n in positions.shape])
        return self.apply(ops.SCATTER, positions, cut, axis=axis, accumulate=accumulate)

    @numpy_names
    def index_select(self, dim: int, index: Any) -> Tensor:
        """The elements of `dim` at the positions in a vector."""
        axis = normalize_axis(dim, self.ndim, "index_select: axis")
        return self[(slice(None),) * axis + (index,)]

    def take(self, index: Any) -> Tensor:
        """Elements of the flat tensor."""
        return self.reshape(-1)[self._lift(index)]

    def _add_at(self, dim: int, index: Any, source: Any, accumulate: bool) -> Tensor:
        axis = normalize_axis(dim, self.ndim, "index_add: axis")
        rows = indexing.checked(self._lift(index), self.shape[axis], "index_add: index")
        values = self._alike(source).movedim(axis, 0)
        front = self.movedim(axis, 0).apply(ops.INDEX_PUT, values, rows, accumulate=accumulate)
        return front.movedim(0, axis)

    @numpy_names
    def index_add(self, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Tensor:
        """A copy with `alpha * source` added at positions of `dim`."""
        scaled = source if alpha == 1 else self._lift(source) * alpha
        return self._add_at(dim, index, scaled, True)

    @numpy_names
    def index_copy(self, dim: int, index: Any, source: Any) -> Tensor:
        """A copy with `source` written at positions of `dim`."""
        return self._add_at(dim, index, source, False)

    def index_put(self, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
        """A copy with `values` written (or added) where `self[indices]` reads."""
        return indexing.write(self._self, tuple(indices), self._alike(values), accumulate)

    def nonzero(
        self, *, size: int | None = None, fill_value: int = 0, as_tuple: bool = False
    ) -> Any:
        """The positions of the non-zero elements, (n, ndim) int64; reads the values.

        With `size` the result has that many rows (the first ones, then `fill_value`), and nothing
        is read: that form works while capturing.
        """
        mask = self._self.to(bool_)
        if size is None:
            size = int(np.count_nonzero(mask.numpy()))
        found = mask.apply(ops.NONZERO, size=int(size), fill_value=int(fill_value))
        return tuple(found.unbind(1)) if as_tuple else found

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
        if size is None:
            return x[flags]
        padded = x.pad([(0, 1)], value=fill_value)
        found = flags.nonzero(size=size, fill_value=numel(shape)).reshape(-1)
        return padded.apply(ops.INDEX, found)

    index_add_ = in_place("index_add")
    index_copy_ = in_place("index_copy")
    index_put_ = in_place("index_put")
    scatter_ = in_place("scatter")
    scatter_add_ = in_place("scatter_add")
