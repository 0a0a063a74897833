"""Methods that read at positions, and `x[key] = value`."""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lazygrad.dtypes import INTEGER
from lazygrad.engine import indexing
from lazygrad.engine.methods.base import Methods, numpy_names
from lazygrad.errors import DTypeError, ShapeError
from lazygrad.ops import index as ops
from lazygrad.ops.effect import CHECK_INDEX
from lazygrad.shapes import broadcast, normalize_axis

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


class IndexMethods(Methods):
    """Indexing and gathers."""

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
        return self._picked(*self._along("gather", dim, index))

    def _picked(self, axis: int, positions: Tensor) -> Tensor:
        """`gather` at positions that are known to be right, because an op has found them here."""
        if not self.ndim:
            flat = self.reshape(1).apply(ops.GATHER, positions.reshape(-1), axis=0)
            return flat.reshape(positions.shape)
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
    def index_select(self, dim: int, index: Any) -> Tensor:
        """The elements of `dim` at the positions in a vector."""
        axis = normalize_axis(dim, self.ndim, "index_select: axis")
        index = self._lift(index)
        if index.ndim > 1:
            raise ShapeError(f"index_select: the index must be a vector, got shape {index.shape}")
        return self[(slice(None),) * axis + (index.reshape(-1),)]

    def take(self, index: Any) -> Tensor:
        """Elements of the flat tensor."""
        return self.reshape(-1)[self._lift(index)]
