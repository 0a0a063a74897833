"""Reductions, statistics, and what is composed of them: softmax, norms, sorting."""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from lazygrad.dtypes import DTypeLike, bool_, float32, uint8
from lazygrad.engine import norms
from lazygrad.engine.methods.base import Methods, numpy_names
from lazygrad.engine.precision import SINGLE
from lazygrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from lazygrad.ops import reduce as ops
from lazygrad.ops import sort
from lazygrad.ops.opdef import OpDef, common_float
from lazygrad.shapes import Axes, existing_axis, normalize_axes, normalize_axis, reduced

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


class ValuesIndices(NamedTuple):
    """What `max`, `min`, `sort`, `topk` along a dimension return."""

    values: Tensor
    indices: Tensor


def safe_sqrt(x: Tensor) -> Tensor:
    """The square root whose gradient at 0 is 0, as norms and deviations have it."""
    zero = x == 0
    return x.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


class ReduceMethods(Methods):
    """Reductions; every `dim` may be called `axis`, every `keepdim` `keepdims`."""

    __slots__ = ()

    def _reduce(self, op: OpDef, dim: Axes, keepdim: bool) -> Tensor:
        axes = normalize_axes(dim, self.ndim, f"{op.name}: axis")
        return self.apply(op, axes=axes, keepdim=bool(keepdim))

    def _wide(self) -> Tensor:
        """In float32 when it is float16 or bfloat16: composites round once, at their end."""
        return self.to(float32) if self.dtype.itemsize == 2 else self._self

    def _floating(self, name: str) -> Tensor:
        if not self.dtype.is_floating_point:
            raise DTypeError(f"{name} takes floating tensors, got {self.dtype}; use .float() first")
        return self._self

    @numpy_names
    def sum(
        self, dim: Axes = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The sum over `dim` (all of them when None); integers and bools add up in int64."""
        x = self if dtype is None else self.to(dtype)
        total = x._reduce(ops.SUM, dim, keepdim)
        return total if dtype is None else total.to(dtype)

    @numpy_names
    @SINGLE
    def mean(
        self, dim: Axes = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The mean over `dim`; integer tensors raise unless `dtype` is given."""
        given = self if dtype is None else self.to(dtype)
        x = given._floating("mean")._wide()
        axes = normalize_axes(dim, self.ndim, "mean: axis")
        count = math.prod(self.shape[a] for a in axes)
        return (x._reduce(ops.SUM, axes, keepdim) / float(count)).to(given.dtype)

    @numpy_names
    def prod(
        self, dim: Axes = None, keepdim: bool = False, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The product over `dim`."""
        x = self if dtype is None else self.to(dtype)
        return x._reduce(ops.PROD, dim, keepdim)

    @numpy_names
    def any(self, dim: Axes = None, keepdim: bool = False) -> Tensor:
        """Whether some element is non-zero."""
        return self._reduce(ops.ANY, dim, keepdim)

    @numpy_names
    def all(self, dim: Axes = None, keepdim: bool = False) -> Tensor:
        """Whether every element is non-zero."""
        return self._reduce(ops.ALL, dim, keepdim)

    @numpy_names
    def amax(self, dim: Axes = None, keepdim: bool = False) -> Tensor:
        """The largest element over `dim`; equal ones share the gradient."""
        return self._reduce(ops.MAX, dim, keepdim)

    @numpy_names
    def amin(self, dim: Axes = None, keepdim: bool = False) -> Tensor:
        """The smallest element over `dim`; equal ones share the gradient."""
        return self._reduce(ops.MIN, dim, keepdim)

    def max(self, *args: Any, **kwargs: Any) -> Any:
        """The largest element, along one dimension, or of two tensors.

        `max()` is a 0-d tensor; `max(dim)` a named tuple (values, indices), where the first of
        equal elements counts; `max(other)` elementwise. NumPy's `max(axis=)` gives values alone.
        """
        return self._extreme("max", args, kwargs)

    def min(self, *args: Any, **kwargs: Any) -> Any:
        """The smallest element; forms as in `max`."""
        return self._extreme("min", args, kwargs)

    def _extreme(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args and isinstance(args[0], Methods):
            return getattr(self, name + "imum")(*args, **kwargs)
        if "other" in kwargs:
            return getattr(self, name + "imum")(kwargs["other"])
        keepdim = bool(kwargs.get("keepdim", kwargs.get("keepdims", False)))
        if "axis" in kwargs or not (args or "dim" in kwargs):
            return getattr(self, "a" + name)(kwargs.get("axis"), keepdim)
        dim, *rest = args if args else (kwargs["dim"],)
        if dim is None or isinstance(dim, tuple | list):
            return getattr(self, "a" + name)(dim, bool(rest[0]) if rest else keepdim)
        ranked = self.to(uint8) if self.dtype is bool_ else self
        indices = getattr(ranked, "arg" + name)(dim, True)
        values = self._picked(normalize_axis(dim, self.ndim, f"{name}: axis"), indices)
        if not (rest[0] if rest else keepdim):
            values, indices = values.squeeze(dim), indices.squeeze(dim)
        return ValuesIndices(values, indices)

    @numpy_names
    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """The position of the (first) largest element along `dim`, or in the flat tensor; int64."""
        return self._position(ops.ARGMAX, dim, keepdim)

    @numpy_names
    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """The position of the (first) smallest element along `dim`, or in the flat tensor."""
        return self._position(ops.ARGMIN, dim, keepdim)

    def _position(self, op: OpDef, dim: int | None, keepdim: bool) -> Tensor:
        if dim is None or self.ndim == 0:
            if dim is not None:
                normalize_axis(dim, 0, f"{op.name}: axis")
            flat = self.reshape(-1).apply(op, axes=(0,), keepdim=False)
            return flat.reshape((1,) * self.ndim) if keepdim else flat
        axis = normalize_axis(dim, self.ndim, f"{op.name}: axis")
        return self.apply(op, axes=(axis,), keepdim=bool(keepdim))

    @numpy_names
    def count_nonzero(self, dim: Axes = None, keepdim: bool = False) -> Tensor:
        """How many elements are not zero."""
        return self.to(bool_).sum(dim, keepdim)

    # Statistics.

    @numpy_names
    @SINGLE
    def var(
        self, dim: Axes | bool = None, unbiased: bool | None = None, keepdim: bool = False,
        *, correction: float | None = None, ddof: float | None = None,
        dtype: DTypeLike | None = None,
    ) -> Tensor:  # fmt: skip
        """The variance over `dim`, divided by n - correction (1 unless `unbiased` is False)."""
        given = (self if dtype is None else self.to(dtype))._floating("var")
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        if correction is None:
            correction = ddof if ddof is not None else 0 if unbiased is False else 1
        if not isinstance(correction, Real):
            raise ArgumentTypeError(f"var: correction must be a number, got {correction!r}")
        x = given._wide()
        axes = normalize_axes(dim, self.ndim, "var: axis")
        count = math.prod(self.shape[a] for a in axes)
        centred = x - x.mean(axes, keepdim=True)
        total = (centred * centred)._reduce(ops.SUM, axes, keepdim)
        return (total / max(float(count - correction), 0.0)).to(given.dtype)

    @numpy_names
    @SINGLE
    def std(
        self, dim: Axes | bool = None, unbiased: bool | None = None, keepdim: bool = False,
        *, correction: float | None = None, ddof: float | None = None,
        dtype: DTypeLike | None = None,
    ) -> Tensor:  # fmt: skip
        """The standard deviation over `dim`, as `var`; its gradient at 0 is 0."""
        given = (self if dtype is None else self.to(dtype))._floating("std")
        spread = given._wide().var(dim, unbiased, keepdim, correction=correction, ddof=ddof)
        return safe_sqrt(spread).to(given.dtype)

    @numpy_names
    @SINGLE
    def norm(
        self, p: float | str | None = "fro", dim: Axes = None, keepdim: bool = False
    ) -> Tensor:
        """The p-norm over `dim`; p may be 2 ("fro"), 1, 0, inf, -inf or any number.

        "nuc" is the sum of the singular values of a matrix, or over two dimensions.
        """
        x = self._floating("norm")._wide()
        if p == "nuc":
            axes = normalize_axes(dim, self.ndim, "norm: axis")
            return norms.matrix_norm(x, "nuc", axes, keepdim).to(self.dtype)
        if isinstance(p, str) and p != "fro":
            raise ArgumentError(f"norm: p {p!r} is not 'fro', 'nuc' or a number")
        order = 2.0 if p is None or isinstance(p, str) else p
        if order == 2:
            result = safe_sqrt((x * x).sum(dim, keepdim))
        elif order == 1:
            result = x.abs().sum(dim, keepdim)
        elif order == math.inf:
            result = x.abs().amax(dim, keepdim)
        elif order == -math.inf:
            result = x.abs().amin(dim, keepdim)
        elif order == 0:
            counted = x.masked_fill(x == 0, 0.0).masked_fill(x != 0, 1.0)  # its gradient is 0
            result = counted.sum(dim, keepdim)
        else:
            result = x._power_norm(float(order), dim, keepdim)
        return result.to(self.dtype)

    def _power_norm(self, order: float, dim: Axes, keepdim: bool) -> Tensor:
        """sum(|x|^p)^(1/p); where |x| or the sum is 0 the gradient is 0."""
        if order < 0:
            return self.abs().pow(order).sum(dim, keepdim).pow(1.0 / order)
        nothing = self.eq(0)
        powers = self.masked_fill(nothing, 1.0).abs().pow(order).masked_fill(nothing, 0.0)
        total = powers.sum(dim, keepdim)
        empty = total == 0
        return total.masked_fill(empty, 1.0).pow(1.0 / order).masked_fill(empty, 0.0)

    # Softmax and its relatives.

    def _top(self, dim: Axes) -> Tensor:
        """The largest element, by which exponents are shifted; no gradient goes through it."""
        axes = normalize_axes(dim, self.ndim, "softmax: axis")
        if math.prod(self.shape[a] for a in axes) == 0:
            return self.new_zeros(reduced(self.shape, axes, True))
        return self.detach().amax(axes, keepdim=True)

    @numpy_names
    @SINGLE
    def softmax(self, dim: int = -1, *, dtype: DTypeLike | None = None) -> Tensor:
        """exp(x) / sum(exp(x)) along `dim`, for any size of x."""
        given = (self if dtype is None else self.to(dtype))._floating("softmax")
        x = given._wide()
        e = (x - x._top(dim)).exp()
        return (e / e.sum(dim, keepdim=True)).to(given.dtype)

    @numpy_names
    @SINGLE
    def log_softmax(self, dim: int = -1, *, dtype: DTypeLike | None = None) -> Tensor:
        """log(softmax(x)) along `dim`, without the rounding of that."""
        given = (self if dtype is None else self.to(dtype))._floating("log_softmax")
        x = given._wide()
        shifted = x - x._top(dim)
        return (shifted - shifted.exp().sum(dim, keepdim=True).log()).to(given.dtype)

    @numpy_names
    @SINGLE
    def logsumexp(self, dim: Axes = None, keepdim: bool = False) -> Tensor:
        """log(sum(exp(x))) over `dim`, for any size of x."""
        given = self.to(common_float(self.dtype))
        x = given._wide()
        top = x._top(dim)
        top = top.masked_fill(~top.isfinite(), 0.0)
        result = (x - top).exp().sum(dim, keepdim=True).log() + top
        if not keepdim:
            axes = normalize_axes(dim, self.ndim, "logsumexp: axis")
            result = result.reshape([n for i, n in enumerate(self.shape) if i not in axes])
        return result.to(given.dtype)

    # Scans and orders.

    @numpy_names
    def cumsum(self, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
        """The sums of the elements up to each position of `dim`."""
        x = self if dtype is None else self.to(dtype)
        return x.apply(sort.CUMSUM, axis=normalize_axis(dim, self.ndim, "cumsum: axis"))

    @numpy_names
    def cumprod(self, dim: int, *, dtype: DTypeLike | None = None) -> Tensor:
        """The products of the elements up to each position of `dim`."""
        x = self if dtype is None else self.to(dtype)
        return x.apply(sort.CUMPROD, axis=normalize_axis(dim, self.ndim, "cumprod: axis"))

    @numpy_names
    def cummax(self, dim: int) -> ValuesIndices:
        """The largest elements up to each position of `dim`, and where they are: the last ones."""
        return self._running(dim, "cummax", True)

    @numpy_names
    def cummin(self, dim: int) -> ValuesIndices:
        """The smallest elements up to each position of `dim`, and where they are: the last ones."""
        return self._running(dim, "cummin", False)

    def _running(self, dim: int, name: str, largest: bool) -> ValuesIndices:
        axis = normalize_axis(dim, self.ndim, f"{name}: axis")
        indices = self.apply(sort.CUMULATIVE_EXTREME, axis=axis, largest=largest)
        return ValuesIndices(self.gather(axis, indices), indices)

    @numpy_names
    def diff(self, n: int = 1, dim: int = -1) -> Tensor:
        """The differences of neighbours along `dim`, `n` times."""
        axis = existing_axis(dim, self.ndim, "diff: axis")
        x = self._self
        for _ in range(n):
            size = max(x.shape[axis] - 1, 0)
            if not size:
                return x.narrow(axis, 0, 0)
            later, earlier = x.narrow(axis, 1, size), x.narrow(axis, 0, size)
            x = later.ne(earlier) if x.dtype is bool_ else later - earlier
        return x

    @numpy_names
    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
        """The positions that sort along `dim`; equal elements keep their order."""
        axis = normalize_axis(dim, self.ndim, "argsort: axis")
        return self.apply(sort.ARGSORT, axis=axis, descending=bool(descending))

    @numpy_names
    def sort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> ValuesIndices:
        """The elements in order along `dim` and where they were: (values, indices)."""
        axis = normalize_axis(dim, self.ndim, "sort: axis")
        indices = self.argsort(axis, descending)
        return ValuesIndices(self._picked(axis, indices), indices)

    @numpy_names
    def topk(
        self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
    ) -> ValuesIndices:
        """The k largest (or smallest) elements along `dim`, in order: (values, indices)."""
        axis = normalize_axis(dim, self.ndim, "topk: axis")
        if not 0 <= k <= (self.shape[axis] if self.shape else 1):
            raise ShapeError(f"topk: k={k} of the {self.shape} tensor's axis {axis}")
        indices = self.argsort(axis, descending=largest)
        if self.ndim:
            indices = indices.narrow(axis, 0, k)
        return ValuesIndices(self._picked(axis, indices), indices)

    @numpy_names
    def median(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The lower median: of all elements, or (values, indices) along `dim`; NaN wins."""
        if dim is None:
            return self.reshape(-1).median(0).values
        axis = normalize_axis(dim, self.ndim, "median: axis")
        size = self.shape[axis] if self.shape else 1
        if size == 0:
            raise ShapeError(f"median: shape {self.shape} has no elements along {axis}")
        order = self.argsort(axis)
        missing = self.isnan().sum(axis, keepdim=True)  # they come last
        place = (size - missing).where(missing > 0, (size - 1) // 2)
        indices = order._picked(axis, place)
        values = self._picked(axis, indices)
        if not keepdim:
            values, indices = values.squeeze(axis), indices.squeeze(axis)
        return ValuesIndices(values, indices)

    def searchsorted(self, values: Any, *, right: bool = False) -> Tensor:
        """The first positions in this sorted tensor whose element is >= (or >) `values`."""
        return self.apply(sort.SEARCHSORTED, values, right=bool(right))

    @numpy_names
    def aminmax(self, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
        """(smallest, largest) element over `dim`."""
        return self.amin(dim, keepdim), self.amax(dim, keepdim)
