"""What the mixins stand on: the core of `Tensor`, and names that both PyTorch and NumPy use.

NumPy's `axis` and `keepdims` are accepted wherever PyTorch's `dim` and `keepdim` are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lazygrad.dtypes import DType, float64, int64, result_type, scalar_dtype
from lazygrad.engine.apply import SCALARS, choose_graph, rank
from lazygrad.engine.convert import to_array
from lazygrad.engine.graph import HOOKS
from lazygrad.errors import ArgumentError, DTypeError, ShapeError
from lazygrad.ops.elementwise import MUL
from lazygrad.ops.opdef import OpDef
from lazygrad.ops.source import IOTA
from lazygrad.shapes import Shape

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])


def fitting(value: Any, dtype: DType) -> Any:
    """A number as one of `dtype`; raises if an integer dtype does not hold it."""
    try:
        return dtype.dtype.type(value).item()
    except (OverflowError, ValueError) as error:  # too large, infinite, NaN
        raise DTypeError(f"{value} does not fit {dtype.name}") from error


class Methods:
    """Base of the mixins; `Tensor` provides what is declared here."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def shape(self) -> Shape: ...  # noqa: D102
        @property
        def dtype(self) -> DType: ...  # noqa: D102
        @property
        def ndim(self) -> int: ...  # noqa: D102
        def apply(self, op: OpDef, *others: Any, **attrs: Any) -> Tensor: ...  # noqa: D102
        @staticmethod
        def _apply_any(op: OpDef, *operands: Any, **attrs: Any) -> Tensor: ...
        def detach(self) -> Tensor: ...  # noqa: D102
        def item(self) -> Any: ...  # noqa: D102
        def numpy(self, copy: bool = False) -> Any: ...  # noqa: D102
        def _rebind(self, new: Tensor) -> Tensor: ...

    @property
    def _self(self) -> Tensor:
        return self  # type: ignore[return-value]  # every instance is a Tensor

    def _lift(self, other: Any) -> Tensor:
        """Another operand as a tensor; a Python number stays weak."""
        if isinstance(other, Methods):
            return other._self
        if isinstance(other, SCALARS):
            return self._number(other)  # type: ignore[arg-type]  # NumPy's scalars are numbers too
        listed = isinstance(other, Iterable) and not isinstance(other, np.ndarray)
        if listed and any(isinstance(x, Methods) for x in other):
            raise DTypeError("a list of tensors is no operand; use stack() or cat()")
        return HOOKS.tensor(to_array(other, infer=True))

    def _alike(self, other: Any) -> Tensor:
        """Another operand as a tensor of the dtype of this one."""
        if isinstance(other, SCALARS):
            return self._number(other, self.dtype)  # type: ignore[arg-type]
        return self._lift(other).cast(self.dtype)

    def _common(self, *others: Any) -> list[Tensor]:
        """The tensor and other operands in the dtype that they promote to."""
        tensors = [self._self, *[self._lift(x) for x in others]]
        graph = choose_graph(tensors)
        dtype = result_type((t.dtype, rank(t._node_in(graph))) for t in tensors)
        return [t.cast(dtype) for t in tensors]

    def _times(self, factor: float) -> Tensor:
        """Its product with a number, in its own dtype unless that has no fractions."""
        whole = not self.dtype.is_floating_point and not isinstance(factor, float)
        return self.apply(MUL, self._alike(factor) if whole else factor)

    def _number(self, value: float, dtype: DType | None = None) -> Tensor:
        """A 0-d constant beside this tensor: of a dtype, or weak as a Python number is."""
        if isinstance(value, np.generic):
            value = value.item()
        kind = scalar_dtype(value) if dtype is None else dtype
        if dtype is None and kind.is_floating_point:
            kind = float64  # all of its digits, until it meets a tensor
        converted = value if dtype is None else fitting(value, kind)
        graph = choose_graph((self._self,))
        return HOOKS.wrap(graph.constant(converted, kind, dtype is None))

    def _iota(self, shape: Shape, axis: int) -> Tensor:
        """0, 1, 2, ... along `axis`, int64, beside this tensor."""
        attrs = {"shape": shape, "dtype": int64, "axis": axis}
        node = choose_graph((self._self,)).append(IOTA, (), attrs)
        return HOOKS.wrap(node)


OPERANDS = (Methods, bool, int, float, np.ndarray, np.generic)

_ALIASES = {"axis": "dim", "axes": "dim", "keepdims": "keepdim"}


def numpy_names(method: F) -> F:
    """Let a method with `dim` and `keepdim` be called with `axis` and `keepdims` too.

    `out=None`, which NumPy's own functions pass on, is dropped.
    """

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            for name, real in _ALIASES.items():
                if name in kwargs:
                    value = kwargs.pop(name)
                    if real in kwargs:
                        raise ArgumentError(f"{method.__name__} got both {real}= and {name}=")
                    kwargs[real] = value
            if "out" in kwargs and kwargs.pop("out") is not None:
                raise ArgumentError(f"{method.__name__} takes no out=: results are new tensors")
        return method(*args, **kwargs)

    return wrapped  # type: ignore[return-value]  # wraps keeps the signature


def in_place(name: str) -> Callable[..., Tensor]:
    """The method `name_`: compute `name`, then let this handle stand for the result."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return write_back(self, getattr(self, name)(*args, **kwargs), name + "_")

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"`{name}` in place: this tensor becomes the result."
    return method


def write_back(tensor: Any, new: Any, name: str) -> Any:
    """Make `tensor` stand for `new`, which must have its shape and a dtype that fits into its."""
    if new.shape != tensor.shape:
        raise ShapeError(
            f"{name}: the result has shape {new.shape}, the tensor in place {tensor.shape}"
        )
    if new.dtype is not tensor.dtype:
        if new.dtype.category > tensor.dtype.category:
            raise DTypeError(f"{name}: a {new.dtype} result does not fit into {tensor.dtype}")
        new = new.to(tensor.dtype)
    return tensor._rebind(new)


def ints(args: Sequence[Any], keyword: Any = None) -> tuple[int, ...]:
    """Sizes or axes given as `f(1, 2)`, `f((1, 2))` or by keyword, as a tuple of ints."""
    given: Any = args if keyword is None else keyword
    if len(args) == 1 and isinstance(args[0], list | tuple):
        given = args[0]
    if not isinstance(given, list | tuple):
        given = (given,)
    try:
        return tuple(n if type(n) is int else n.__index__() for n in given)
    except AttributeError:
        raise DTypeError(f"integers are needed, got {tuple(given)!r}") from None
