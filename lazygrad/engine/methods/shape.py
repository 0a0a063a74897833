"""Methods that move elements without changing them."""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.dtypes import bool_
from lazygrad.engine.methods.base import Methods, ints, numpy_names
from lazygrad.errors import ArgumentError, AxisError, DTypeError, ShapeError
from lazygrad.ops import movement as ops
from lazygrad.ops.windows import FOLD, WINDOWS
from lazygrad.shapes import (
    existing_axis,
    normalize_axes,
    normalize_axis,
    numel,
    resolve_reshape,
)

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


# Which elements stand before and after those of an axis of some size.
_BORDERS: dict[str, Callable[[int, int, int], tuple[slice, slice]]] = {
    "constant": lambda size, before, after: (slice(0, 0), slice(0, 0)),
    "reflect": lambda size, before, after: (
        slice(before, 0, -1), slice(size - 2, size - 2 - after if after < size - 1 else None, -1)
    ),
    "replicate": lambda size, before, after: (slice(0, 1), slice(size - 1, size)),
    "circular": lambda size, before, after: (slice(size - before, size), slice(0, after)),
}  # fmt: skip


class ShapeMethods(Methods):
    """Reshapes, permutations, repetitions, cuts."""

    __slots__ = ()

    # Views of all elements.

    def reshape(self, *sizes: Any, shape: Any = None) -> Tensor:
        """The elements in C order under another shape; one size may be -1."""
        target = resolve_reshape(self.shape, ints(sizes, shape))
        return self.apply(ops.RESHAPE, shape=target)

    def view(self, *shape: Any) -> Tensor:
        """`reshape` (there is no difference: nothing is ever written through a view)."""
        return self.reshape(*shape)

    def reshape_as(self, other: Tensor) -> Tensor:
        """In the shape of `other`."""
        return self.reshape(other.shape)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Dimensions start_dim to end_dim as one."""
        first = normalize_axis(start_dim, self.ndim, "flatten: start_dim")
        last = normalize_axis(end_dim, self.ndim, "flatten: end_dim")
        if first > last:
            raise AxisError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
        if not self.ndim:
            return self.reshape(1)
        middle = numel(self.shape[first : last + 1])
        return self.reshape((*self.shape[:first], middle, *self.shape[last + 1 :]))

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Tensor:
        """Dimension `dim` as several; one size may be -1."""
        axis = existing_axis(dim, self.ndim, "unflatten: dim")
        inner = resolve_reshape((self.shape[axis],), sizes)
        return self.reshape((*self.shape[:axis], *inner, *self.shape[axis + 1 :]))

    def permute(self, *order: Any, dims: Any = None) -> Tensor:
        """The dimensions in the given order."""
        given = ints(order, dims)
        axes = tuple(normalize_axis(a, self.ndim, "permute: axis") for a in given)
        if len(set(axes)) != len(axes) or len(axes) != self.ndim:
            raise AxisError(f"permute: {given} is no permutation of {self.ndim} dimensions")
        return self.apply(ops.PERMUTE, axes=axes)

    def transpose(self, *axes: Any, dim0: int | None = None, dim1: int | None = None) -> Tensor:
        """`transpose()` reverses the dimensions, `transpose(a, b)` swaps two, a tuple permutes."""
        axes += tuple(a for a in (dim0, dim1) if a is not None)
        if not axes or (len(axes) == 1 and axes[0] is None):
            return self.permute(tuple(reversed(range(self.ndim))))
        if len(axes) == 2 and not isinstance(axes[0], tuple | list):
            first = normalize_axis(axes[0], self.ndim, "transpose: axis")
            second = normalize_axis(axes[1], self.ndim, "transpose: axis")
            order = list(range(self.ndim))
            if order:
                order[first], order[second] = order[second], order[first]
            return self.permute(order)
        return self.permute(*axes)

    swapaxes = swapdims = transpose

    @property
    def T(self) -> Tensor:
        """The dimensions reversed."""
        return self.transpose()

    @property
    def mT(self) -> Tensor:
        """The last two dimensions swapped."""
        if self.ndim < 2:
            raise AxisError(f"mT needs at least two dimensions, this tensor has shape {self.shape}")
        return self.transpose(-2, -1)

    @property
    def mH(self) -> Tensor:
        """`mT`: there are no complex numbers."""
        return self.mT

    @property
    def is_transposed(self) -> bool:
        """Whether it is a view of another tensor with the last two dimensions swapped."""
        node = self._node
        if node is None or node.op is not ops.PERMUTE:
            return False
        n = self.ndim
        return node.attrs["axes"] == (*range(n - 2), n - 1, n - 2)

    def t(self) -> Tensor:
        """The transpose of a matrix."""
        if self.ndim > 2:
            raise AxisError(f"t() takes at most two dimensions, this tensor has shape {self.shape}")
        return self.transpose()

    def movedim(self, source: Any, destination: Any) -> Tensor:
        """The dimensions `source` moved to the places `destination`."""
        old = [normalize_axis(a, self.ndim, "movedim: source") for a in ints((source,))]
        new = [normalize_axis(a, self.ndim, "movedim: destination") for a in ints((destination,))]
        if len(old) != len(new):
            raise AxisError(f"movedim: {source} and {destination} differ in length")
        order = [a for a in range(self.ndim) if a not in old]
        for place, axis in sorted(zip(new, old, strict=True)):
            order.insert(place, axis)
        return self.permute(order) if self.ndim else self._self

    moveaxis = movedim

    @numpy_names
    def squeeze(self, dim: Any = None) -> Tensor:
        """Without the dimensions of size 1 (or only those in `dim`)."""
        axes = normalize_axes(dim, self.ndim, "squeeze: axis")
        kept = [n for i, n in enumerate(self.shape) if n != 1 or i not in axes]
        return self.reshape(kept)

    @numpy_names
    def unsqueeze(self, dim: int) -> Tensor:
        """With a new dimension of size 1 at `dim`."""
        axis = normalize_axis(dim, self.ndim + 1, "unsqueeze: axis")
        return self.reshape((*self.shape[:axis], 1, *self.shape[axis:]))

    def expand(self, *shape: Any) -> Tensor:
        """Dimensions of size 1 repeated to `shape` without a copy; -1 keeps a size."""
        given = ints(shape)
        lead = len(given) - self.ndim
        sizes = tuple(
            self.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(given)
        )
        return self.apply(ops.EXPAND, shape=sizes)

    def expand_as(self, other: Tensor) -> Tensor:
        """Expanded to the shape of `other`."""
        return self.expand(other.shape)

    def broadcast_to(self, shape: Sequence[int]) -> Tensor:
        """Expanded to `shape`."""
        return self.expand(shape)

    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
        """The elements [i, i + offset] of two dimensions, as a new last one."""
        first = normalize_axis(dim1, self.ndim, "diagonal: dim1")
        second = normalize_axis(dim2, self.ndim, "diagonal: dim2")
        return self.apply(ops.DIAGONAL, offset=int(offset), axis1=first, axis2=second)

    def contiguous(self) -> Tensor:
        """Itself: every value is stored in C order."""
        return self._self

    def ravel(self) -> Tensor:
        """All elements in one dimension."""
        return self.reshape(-1)

    # Parts.

    def _slice(self, index: Sequence[slice]) -> Tensor:
        return self.apply(ops.SLICE, **ops.slice_attrs(tuple(index), self.shape))

    def _part(self, axis: int, part: slice) -> Tensor:
        """A slice of one axis."""
        return self._slice([part if i == axis else slice(None) for i in range(self.ndim)])

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """`length` elements of `dim` from `start` on."""
        axis = normalize_axis(dim, self.ndim, "narrow: axis")
        size = self.shape[axis] if self.shape else 0
        first = start + size if start < 0 else start
        if length < 0 or not 0 <= first <= first + length <= size:
            raise ShapeError(f"narrow: [{start}, {start + length}) of {size} elements")
        return self._part(axis, slice(first, first + length))

    def select(self, dim: int, index: int) -> Tensor:
        """Element `index` of `dim`, which disappears."""
        axis = normalize_axis(dim, self.ndim, "select: axis")
        return self[(slice(None),) * axis + (index,)]

    @numpy_names
    def split(self, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces of `split_size` elements (the last may be smaller) or of the sizes in a list."""
        axis = existing_axis(dim, self.ndim, "split: axis")
        total = self.shape[axis]
        if isinstance(split_size, int):
            if split_size <= 0:
                raise ShapeError(f"split: the size must be positive, got {split_size}")
            sizes = [min(split_size, total - i) for i in range(0, total, split_size)] or [0]
        else:
            sizes = list(ints(tuple(split_size)))
        if sum(sizes) != total or min(sizes, default=0) < 0:
            raise ShapeError(f"split: sizes {sizes} do not add up to {total}")
        ends = np.cumsum(sizes).tolist()
        return tuple(
            self._part(axis, slice(b - n, b)) for n, b in zip(sizes, ends, strict=True)
        )  # fmt: skip

    @numpy_names
    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most `chunks` pieces of equal size (the last may be smaller)."""
        if chunks <= 0:
            raise ShapeError(f"chunk: the number must be positive, got {chunks}")
        axis = existing_axis(dim, self.ndim, "chunk: axis")
        if not self.shape[axis]:
            return (self._self,) * chunks  # as PyTorch: so many empty ones
        return self.split(max(-(-self.shape[axis] // chunks), 1), axis)

    @numpy_names
    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """The elements of `dim`, one tensor each."""
        axis = existing_axis(dim, self.ndim, "unbind: axis")
        return tuple(self.select(axis, i) for i in range(self.shape[axis]))

    # Rearranged copies.

    def flip(self, *args: Any, dims: Any = None, axis: Any = None) -> Tensor:
        """The order of the elements of some dimensions (all when none is named) reversed."""
        named = dims if axis is None else axis
        given = ints(args) if args else range(self.ndim) if named is None else ints((), named)
        axes = normalize_axes(tuple(given), self.ndim, "flip: axis")
        back = slice(None, None, -1)
        return self._slice([back if i in axes else slice(None) for i in range(self.ndim)])

    @numpy_names
    def roll(self, shifts: Any, dim: Any = None, *, dims: Any = None) -> Tensor:
        """Elements moved by `shifts` along `dim`; those that leave come in at the other end."""
        dim = dims if dim is None else dim
        if dim is None:
            return self.reshape(-1).roll(shifts, 0).reshape(self.shape)
        amounts, axes = ints((shifts,)), ints((dim,))
        if len(amounts) != len(axes):
            raise AxisError(f"roll: {len(amounts)} shifts for {len(axes)} axes")
        result = self._self
        for amount, a in zip(amounts, axes, strict=True):
            axis = existing_axis(a, self.ndim, "roll: axis")
            size = self.shape[axis]
            cut = -amount % size if size else 0
            if cut:
                parts = result._part(axis, slice(cut, size)), result._part(axis, slice(0, cut))
                result = parts[0].apply(ops.CAT, parts[1], axis=axis)
        return result

    def repeat(self, *sizes: Any) -> Tensor:
        """The whole tensor repeated `sizes` times along each dimension (new ones lead)."""
        counts = ints(sizes)
        if len(counts) < self.ndim:
            raise ShapeError(f"repeat: {counts} for a tensor with {self.ndim} dimensions")
        shape = (1,) * (len(counts) - self.ndim) + self.shape
        paired = [n for pair in zip(counts, shape, strict=True) for n in pair]
        spread = self.reshape([m for n in shape for m in (1, n)]).expand(paired)
        return spread.reshape([c * n for c, n in zip(counts, shape, strict=True)])

    def tile(self, *times: Any, dims: Any = None) -> Tensor:
        """As `repeat`, but missing leading counts are 1."""
        counts = ints(times, dims)
        return self.repeat((1,) * (self.ndim - len(counts)) + counts)

    @numpy_names
    def repeat_interleave(
        self, repeats: Any, dim: int | None = None, *, output_size: int | None = None
    ) -> Tensor:
        """Each element of `dim` repeated; counts in a tensor are read (not while capturing)."""
        if dim is None:
            return self.reshape(-1).repeat_interleave(repeats, 0, output_size=output_size)
        axis = existing_axis(dim, self.ndim, "repeat_interleave: axis")
        size = self.shape[axis]
        if isinstance(repeats, int):
            if repeats < 0:
                raise ArgumentError(f"repeat_interleave: repeats must be >= 0, got {repeats}")
            new = self.unsqueeze(axis + 1)
            spread = new.expand((*new.shape[: axis + 1], repeats, *new.shape[axis + 2 :]))
            return spread.flatten(axis, axis + 1)
        counts = np.asarray(repeats.numpy() if isinstance(repeats, Methods) else repeats)
        if counts.dtype.kind not in "iu" or counts.min(initial=0) < 0:
            raise DTypeError("repeat_interleave: counts must be integers >= 0")
        if counts.shape not in ((), (1,), (size,)):
            raise ShapeError(f"repeat_interleave: {counts.shape} counts for {size} elements")
        return self.index_select(axis, np.repeat(np.arange(size), counts))

    def pad(self, pads: Any, mode: str = "constant", value: float = 0.0) -> Tensor:
        """`value` around the elements, or elements of its own.

        `pads` is PyTorch's flat list, last dimension first (left, right, top, bottom, ...), or one
        (before, after) pair per dimension. Negative amounts cut. Modes are "constant", "reflect"
        (mirrored, without the edge), "replicate" (the edge again) and "circular" (from the other
        end).
        """
        if mode not in _BORDERS:
            raise ArgumentError(f"pad: mode is one of {', '.join(_BORDERS)}, got {mode!r}")
        pads = list(pads)
        if pads and isinstance(pads[0], list | tuple):
            pairs = [(int(a), int(b)) for a, b in pads]
        elif len(pads) % 2 or len(pads) > 2 * self.ndim:
            raise ShapeError(f"pad: {len(pads)} amounts for a tensor of shape {self.shape}")
        else:
            flat = ints(tuple(pads))
            last = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]
            pairs = [(0, 0)] * (self.ndim - len(last)) + last[::-1]
        if len(pairs) != self.ndim:
            raise ShapeError(f"pad: {len(pairs)} pairs for a tensor of shape {self.shape}")
        if mode != "constant":
            return self._bordered(pairs, mode)
        grow = tuple((max(a, 0), max(b, 0)) for a, b in pairs)
        inner = self._cut(pairs)
        return inner.apply(ops.PAD, pads=grow, value=value) if any(map(any, grow)) else inner

    def _cut(self, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """Without as many elements at each border as the amounts are below zero."""
        for axis, (a, b) in enumerate(pairs):
            if max(-a, 0) + max(-b, 0) > self.shape[axis]:
                raise ShapeError(f"pad: ({a}, {b}) cuts more than axis {axis} of {self.shape} has")
        return self._slice(
            [slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(self.shape, pairs, strict=True)]
        )

    def _bordered(self, pairs: Sequence[tuple[int, int]], mode: str) -> Tensor:
        """A border made of the elements themselves; those that are cut take part in mirrors."""
        if mode == "circular" and any(min(pair) < 0 for pair in pairs):
            return self._cut(pairs)._bordered([(max(a, 0), max(b, 0)) for a, b in pairs], mode)
        result = self._self
        for axis, pair in enumerate(pairs):
            before, after = max(pair[0], 0), max(pair[1], 0)
            if not before and not after:
                continue
            size = self.shape[axis]
            largest = {"reflect": size - 1, "circular": size}.get(mode, max(before, after))
            if max(before, after) > largest or not size:
                raise ShapeError(
                    f"pad: ({before}, {after}) along axis {axis} with {size} elements: "
                    f"{mode!r} takes 0 to {largest}"
                )
            ends = _BORDERS[mode](size, before, after)
            parts = [result._part(axis, end) for end in ends]
            if mode == "replicate":
                shape = result.shape
                parts = [
                    part.expand((*shape[:axis], count, *shape[axis + 1 :]))
                    for part, count in zip(parts, (before, after), strict=True)
                ]
            pieces = [p for p in (parts[0], result, parts[1]) if p.shape[axis]]
            result = pieces[0].apply(ops.CAT, *pieces[1:], axis=axis)
        return result._cut(pairs) if any(min(pair) < 0 for pair in pairs) else result

    def unfold(self, dimension: int, size: int, step: int) -> Tensor:
        """All windows of `size` elements, `step` apart, of a dimension, as a new last one."""
        axis = existing_axis(dimension, self.ndim, "unfold: dimension")
        if size < 1 or step < 1 or self.shape[axis] < size:
            raise ShapeError(f"unfold: size {size}, step {step} of {self.shape[axis]} elements")
        return self._windows((axis,), (size,), (step,), (1,))

    def _windows(
        self, axes: Sequence[int], sizes: Sequence[int], steps: Sequence[int],
        dilations: Sequence[int],
    ) -> Tensor:  # fmt: skip
        """All windows over some (sorted) axes; positions within a window are new last axes."""
        attrs = {"axes": axes, "sizes": sizes, "steps": steps, "dilations": dilations}
        return self.apply(WINDOWS, **{name: tuple(value) for name, value in attrs.items()})

    def _fold(
        self, shape: Sequence[int], axes: Sequence[int], steps: Sequence[int],
        dilations: Sequence[int],
    ) -> Tensor:  # fmt: skip
        """Windows added up to a tensor of `shape`: the transpose of `_windows`."""
        attrs = {"shape": shape, "axes": axes, "steps": steps, "dilations": dilations}
        return self.apply(FOLD, **{name: tuple(value) for name, value in attrs.items()})

    # Triangles and diagonals.

    def _triangle(self, offset: int, lower: bool) -> Tensor:
        if self.ndim < 2:
            raise AxisError(f"tril/triu need two dimensions, this tensor has shape {self.shape}")
        rows, columns = self._iota((self.shape[-2], 1), 0), self._iota((1, self.shape[-1]), 1)
        keep = (columns - rows <= offset) if lower else (columns - rows >= offset)
        return self.where(keep, self._number(0, self.dtype))

    def tril(self, diagonal: int = 0) -> Tensor:
        """The lower triangle, zero above diagonal `diagonal`."""
        return self._triangle(diagonal, True)

    def triu(self, diagonal: int = 0) -> Tensor:
        """The upper triangle, zero below diagonal `diagonal`."""
        return self._triangle(diagonal, False)

    def diag(self, diagonal: int = 0) -> Tensor:
        """The diagonal of a matrix, or the matrix with this vector on its diagonal."""
        if self.ndim == 2:
            return self.diagonal(diagonal)
        if self.ndim != 1:
            raise AxisError(f"diag takes a vector or a matrix, not shape {self.shape}")
        return self.diag_embed(diagonal)

    def diag_embed(self, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
        """Matrices, in two dimensions of the result, with the last dimension on their diagonals."""
        before, after = max(offset, 0), max(-offset, 0)
        size = self.shape[-1] + abs(offset)
        columns = self.pad([(0, 0)] * (self.ndim - 1) + [(before, after)])
        wide = columns.unsqueeze(-2).expand((*self.shape[:-1], size, size))
        made = wide.where(self.new_eye(size, size, offset).to(bool_), self._number(0, self.dtype))
        return made if (dim1, dim2) == (-2, -1) else made.movedim((-2, -1), (dim1, dim2))

    def trace(self) -> Tensor:
        """The sum of the diagonal of a matrix."""
        if self.ndim != 2:
            raise AxisError(f"trace takes a matrix, this tensor has shape {self.shape}")
        return self.diagonal().sum()
