"""Splits, flips and products under PyTorch's less frequent names; in-place changes of shape."""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.dtypes import bool_
from lazygrad.engine.methods.base import Methods, ints, numpy_names
from lazygrad.engine.modes import STATE
from lazygrad.engine.storage import Storage
from lazygrad.errors import ArgumentError, AxisError, CaptureError, GradientError, ShapeError
from lazygrad.shapes import broadcast, existing_axis, normalize_axis

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


class PieceMethods(Methods):
    """Compositions of views and products."""

    __slots__ = ()

    # Turned.

    def fliplr(self) -> Tensor:
        """The second dimension reversed."""
        self._at_least("fliplr", 2)
        return self.flip(1)

    def flipud(self) -> Tensor:
        """The first dimension reversed."""
        self._at_least("flipud", 1)
        return self.flip(0)

    def rot90(self, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
        """Turned `k` times by 90 degrees, from the first of two dimensions to the second."""
        self._at_least("rot90", 2)
        first, second = (normalize_axis(d, self.ndim, "rot90: axis") for d in dims)
        if first == second:
            raise AxisError(f"rot90: the two dimensions must differ, got {tuple(dims)}")
        if k % 4 == 2:
            return self.flip((first, second))
        if k % 4 == 1:
            return self.flip(second).transpose(first, second)
        return self.transpose(first, second).flip(second) if k % 4 else self._self

    def _at_least(self, name: str, count: int) -> None:
        if self.ndim < count:
            raise AxisError(f"{name} needs {count} dimensions, this tensor has {self.shape}")

    # Cut, and put in.

    def slice_scatter(
        self, src: Any, dim: int = 0, start: int | None = None, end: int | None = None,
        step: int = 1,
    ) -> Tensor:  # fmt: skip
        """A copy with `src` in the place of a slice of `dim`."""
        axis = normalize_axis(dim, self.ndim, "slice_scatter: axis")
        return self._with((slice(None),) * axis + (slice(start, end, step),), src, "slice_scatter")

    def select_scatter(self, src: Any, dim: int, index: int) -> Tensor:
        """A copy with `src` in the place of element `index` of `dim`."""
        axis = normalize_axis(dim, self.ndim, "select_scatter: axis")
        return self._with((slice(None),) * axis + (index,), src, "select_scatter")

    def _with(self, key: Any, src: Any, name: str) -> Tensor:
        place, source = self[key].shape, self._alike(src)
        if source.shape != place:
            raise ShapeError(f"{name}: a source of shape {source.shape} in the place of {place}")
        return self.index_put(key, source)

    def split_with_sizes(self, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """`split` into pieces of the sizes in a list."""
        return self.split(list(split_sizes), dim)

    def sum_to_size(self, *size: Any) -> Tensor:
        """The sums over dimensions that broadcasting `size` to this shape would spread."""
        target = ints(size)
        lead = self.ndim - len(target)
        spread = [
            lead + i for i, n in enumerate(target)
            if lead >= 0 and n == 1 and self.shape[lead + i] != 1
        ]  # fmt: skip
        kept = self.sum(spread, keepdim=True) if spread else self._self
        if lead < 0 or kept.shape[lead:] != target:
            raise ShapeError(f"sum_to_size: {target} does not broadcast to {self.shape}")
        return kept.sum(tuple(range(lead))) if lead else kept

    @numpy_names
    def tensor_split(self, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
        """That many pieces, the first ones longer by 1 if need be, or cut at the given places."""
        axis = existing_axis(dim, self.ndim, "tensor_split: axis")
        total = self.shape[axis]
        if isinstance(indices_or_sections, int):
            count = indices_or_sections
            if count <= 0:
                raise ShapeError(f"tensor_split: the number must be positive, got {count}")
            sizes = [total // count + (i < total % count) for i in range(count)]
            ends = np.cumsum(sizes).tolist()
        else:
            ends = [*ints(tuple(indices_or_sections)), total]
        starts = [0, *ends[:-1]]
        return tuple(self._part(axis, slice(a, b)) for a, b in zip(starts, ends, strict=True))

    def hsplit(self, indices_or_sections: Any) -> tuple[Tensor, ...]:
        """Cut along the second dimension (a vector along its only one)."""
        self._at_least("hsplit", 1)
        return self._equal_parts(indices_or_sections, 0 if self.ndim == 1 else 1)

    def vsplit(self, indices_or_sections: Any) -> tuple[Tensor, ...]:
        """Cut along the first dimension."""
        self._at_least("vsplit", 2)
        return self._equal_parts(indices_or_sections, 0)

    def dsplit(self, indices_or_sections: Any) -> tuple[Tensor, ...]:
        """Cut along the third dimension."""
        self._at_least("dsplit", 3)
        return self._equal_parts(indices_or_sections, 2)

    def _equal_parts(self, where: Any, axis: int) -> tuple[Tensor, ...]:
        if isinstance(where, int) and (where <= 0 or self.shape[axis] % where):
            raise ShapeError(f"{self.shape[axis]} elements along axis {axis} are no {where} parts")
        return self.tensor_split(where, axis)

    def diagflat(self, offset: int = 0) -> Tensor:
        """The matrix with all elements on its diagonal."""
        return self.reshape(-1).diag_embed(offset)

    def view_as(self, other: Tensor) -> Tensor:
        """In the shape of `other`."""
        return self.reshape(other.shape)

    # Products.

    def inner(self, other: Any) -> Tensor:
        """The sums of products over the last dimensions of both."""
        other = self._lift(other)
        if not self.ndim or not other.ndim:
            return self * other
        if self.shape[-1] != other.shape[-1]:
            raise ShapeError(f"inner: last dimensions of {self.shape} and {other.shape} differ")
        flat = self.reshape((-1, self.shape[-1])) @ other.reshape((-1, other.shape[-1])).T
        return flat.reshape((*self.shape[:-1], *other.shape[:-1]))

    def vdot(self, other: Any) -> Tensor:
        """`dot`."""
        return self.dot(other)

    def ger(self, vec2: Any) -> Tensor:
        """`outer`."""
        return self.outer(vec2)

    def kron(self, other: Any) -> Tensor:
        """The Kronecker product: each element of this tensor times the whole other one."""
        other = self._lift(other)
        rank = max(self.ndim, other.ndim)
        mine = (1,) * (rank - self.ndim) + self.shape
        theirs = (1,) * (rank - other.ndim) + other.shape
        left = self.reshape([m for n in mine for m in (n, 1)])
        right = other.reshape([m for n in theirs for m in (1, n)])
        return (left * right).reshape([a * b for a, b in zip(mine, theirs, strict=True)])

    def addmv(self, mat: Any, vec: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """`beta * self + alpha * mat @ vec`."""
        return self._scaled_sum("addmv", self._lift(mat).mv(vec), beta, alpha)

    def addr(self, vec1: Any, vec2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """`beta * self + alpha * outer(vec1, vec2)`."""
        return self._scaled_sum("addr", self._lift(vec1).outer(vec2), beta, alpha)

    def addbmm(self, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """`beta * self + alpha * ` the sum of the products of a batch of matrices."""
        return self._scaled_sum("addbmm", self._lift(batch1).bmm(batch2).sum(0), beta, alpha)

    def _scaled_sum(self, name: str, product: Tensor, beta: float, alpha: float) -> Tensor:
        """`beta * self + alpha * product`; the product is not broadcast."""
        if self.ndim > product.ndim or broadcast(self.shape, product.shape) != product.shape:
            raise ShapeError(
                f"{name}: shape {self.shape} is added to a product of shape {product.shape}, and"
                " does not broadcast to it"
            )
        scaled = product if alpha == 1 else product * alpha
        if beta == 0:
            return scaled
        return scaled + (self if beta == 1 else self * beta)

    # In place.

    def unsqueeze_(self, dim: int) -> Tensor:
        """`unsqueeze` in place."""
        return self._reshaped(self.unsqueeze(dim))

    def squeeze_(self, dim: Any = None) -> Tensor:
        """`squeeze` in place."""
        return self._reshaped(self.squeeze(dim))

    def t_(self) -> Tensor:
        """`t` in place."""
        return self._reshaped(self.t())

    def transpose_(self, dim0: int, dim1: int) -> Tensor:
        """`transpose` in place."""
        return self._reshaped(self.transpose(dim0, dim1))

    swapaxes_ = swapdims_ = transpose_

    def _reshaped(self, new: Tensor) -> Tensor:
        """Let this handle stand for `new`, which may have another shape."""
        if self._storage is None:
            return self._rebind(new)
        if self.requires_grad:
            raise GradientError("a leaf that requires grad cannot change its shape in place")
        if STATE.capture is not None:
            raise CaptureError(
                "an argument or a buffer cannot change its shape inside a captured function; "
                "use the form without _"
            )
        self._become_leaf(Storage(new.numpy(copy=True)))
        return self._self

    def fill_diagonal_(self, fill_value: float, wrap: bool = False) -> Tensor:
        """`fill_value` on the main diagonal, in place."""
        if wrap:
            raise ArgumentError("fill_diagonal_: wrap=True is not supported")
        if self.ndim < 2 or (self.ndim > 2 and len(set(self.shape)) > 1):
            raise AxisError(f"fill_diagonal_ takes a matrix, or equal sizes, not {self.shape}")
        lines = [self._iota((n,), 0).reshape([-1 if i == a else 1 for i in range(self.ndim)])
                 for a, n in enumerate(self.shape)]  # fmt: skip
        on = (lines[0] == lines[1]).to(bool_)
        for line in lines[2:]:
            on = on & (line == lines[0])
        return self._rebind(self.masked_fill(on, fill_value))
