"""Pure rules on shapes: broadcasting, axes, reductions, views. No tensors, no arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from lazygrad.errors import AxisError, ShapeError

Shape = tuple[int, ...]
Axes = int | Sequence[int] | None

__all__ = [
    "Axes", "Shape", "broadcast", "contiguous_strides", "existing_axis", "normalize_axes",
    "normalize_axis", "numel", "reduced", "resolve_reshape", "reshape_strides", "unbroadcast_axes",
]  # fmt: skip


def numel(shape: Sequence[int]) -> int:
    """The number of elements.

    >>> numel((2, 3)), numel(()), numel((0, 3))
    (6, 1, 0)
    """
    return prod(shape)


def broadcast(*shapes: Shape) -> Shape:
    """The shape that several shapes broadcast to, by NumPy's rule.

    >>> broadcast((3, 1), (4,), ())
    (3, 4)
    """
    first = shapes[0]
    if all(s == first for s in shapes[1:]):
        return first
    out = [1] * max(len(s) for s in shapes)
    for shape in shapes:
        shift = len(out) - len(shape)
        for i, n in enumerate(shape):
            m = out[shift + i]
            if m == n or n == 1:
                continue
            if m != 1:
                text = " and ".join(str(s) for s in shapes)
                raise ShapeError(f"shapes {text} do not broadcast: {m} != {n}")
            out[shift + i] = n
    return tuple(out)


def unbroadcast_axes(shape: Shape, target: Shape) -> tuple[tuple[int, ...], bool]:
    """The axes of `shape` to sum so that it becomes `target`, and whether leading axes drop.

    >>> unbroadcast_axes((2, 3, 4), (3, 1))
    ((0, 2), True)
    """
    lead = len(shape) - len(target)
    inner = tuple(lead + i for i, n in enumerate(target) if n == 1 and shape[lead + i] != 1)
    return tuple(range(lead)) + inner, lead > 0


def normalize_axis(axis: int, ndim: int, what: str = "axis") -> int:
    """A non-negative axis; a 0-d tensor takes 0 and -1, as in PyTorch.

    >>> normalize_axis(-1, 3)
    2
    """
    if not isinstance(axis, int) or isinstance(axis, bool):
        try:
            axis = axis.__index__()
        except AttributeError:
            raise AxisError(f"{what} must be an int, got {axis!r}") from None
    bound = ndim or 1
    if not -bound <= axis < bound:
        raise AxisError(f"{what} {axis} is out of range for a tensor with {ndim} dimensions")
    return axis % bound


def existing_axis(axis: int, ndim: int, what: str = "axis") -> int:
    """As `normalize_axis`, for what a 0-d tensor does not allow."""
    if not ndim:
        raise AxisError(f"{what} {axis}: a 0-d tensor has no dimension")
    return normalize_axis(axis, ndim, what)


def normalize_axes(axes: Axes, ndim: int, what: str = "axis") -> tuple[int, ...]:
    """Sorted non-negative axes; None means all of them. Repeated axes raise."""
    if axes is None:
        return tuple(range(ndim))
    given = axes if isinstance(axes, Iterable) else (axes,)
    found = sorted(normalize_axis(a, ndim, what) for a in given)
    if len(set(found)) != len(found):
        raise AxisError(f"repeated {what} in {axes}")
    return tuple(a for a in found if a < ndim)


def reduced(shape: Shape, axes: tuple[int, ...], keepdim: bool) -> Shape:
    """The shape after reducing `axes` (normalized).

    >>> reduced((2, 3, 4), (1,), True), reduced((2, 3, 4), (0, 2), False)
    ((2, 1, 4), (3,))
    """
    if keepdim:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def resolve_reshape(shape: Shape, target: Sequence[int]) -> Shape:
    """`target` with its -1 replaced; raises when the number of elements differs.

    >>> resolve_reshape((2, 6), (3, -1))
    (3, 4)
    """
    out = tuple(int(n) for n in target)
    total, unknown = numel(shape), out.count(-1)
    if unknown > 1:
        raise ShapeError(f"reshape: only one dimension can be -1, got {out}")
    if any(n < -1 for n in out):
        raise ShapeError(f"reshape: negative dimension in {out}")
    if unknown:
        known = numel([n for n in out if n != -1])
        if known == 0 or total % known:
            raise ShapeError(f"reshape: {shape} with {total} elements does not fit {out}")
        out = tuple(total // known if n == -1 else n for n in out)
    if numel(out) != total:
        raise ShapeError(f"reshape: {shape} has {total} elements, {out} needs {numel(out)}")
    return out


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a C-contiguous array.

    >>> contiguous_strides((2, 3, 4))
    (12, 4, 1)
    """
    strides, step = [0] * len(shape), 1
    for i in range(len(shape) - 1, -1, -1):
        strides[i] = step
        step *= shape[i]
    return tuple(strides)


def reshape_strides(shape: Shape, strides: Sequence[int], target: Shape) -> tuple[int, ...] | None:
    """Strides of a reshaped view, or None when the reshape needs a copy.

    >>> reshape_strides((2, 3), (3, 1), (6,)), reshape_strides((3, 2), (1, 3), (6,))
    ((1,), None)
    """
    if numel(shape) == 0 or numel(target) == 0:
        return contiguous_strides(target)
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    out = [0] * len(target)
    i, j = len(old) - 1, len(target) - 1
    while j >= 0 and i >= 0:
        if target[j] == 1:
            out[j] = 1
            j -= 1
            continue
        block, step = old[i][0], old[i][1]
        left = i
        need, right = target[j], j
        while block != need:  # grow the smaller side until both hold the same elements
            if block < need:
                left -= 1
                if left < 0 or old[left][1] != old[left + 1][0] * old[left + 1][1]:
                    return None
                block *= old[left][0]
            else:
                right -= 1
                if right < 0:
                    return None
                need *= target[right]
        for k in range(j, right - 1, -1):
            out[k] = step
            step *= target[k]
        i, j = left - 1, right - 1
    for k in range(j, -1, -1):
        out[k] = 1
    return tuple(out)
