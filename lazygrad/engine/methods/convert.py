"""dtype, device, copies, and new tensors beside this one."""

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

from lazygrad import dtypes as dt
from lazygrad.dtypes import DType, DTypeLike, as_dtype
from lazygrad.engine.device import check_device, looks_like_device
from lazygrad.engine.graph import HOOKS
from lazygrad.engine.methods.base import Methods, ints
from lazygrad.errors import DTypeError
from lazygrad.ops.elementwise import CAST
from lazygrad.shapes import normalize_axis, numel

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


class ConvertMethods(Methods):
    """`to`, `float`, `cpu`, `clone`, `new_zeros` and the like."""

    __slots__ = ()

    def cast(self, dtype: DTypeLike) -> Tensor:
        """The elements as another dtype; floating to integer truncates."""
        target = as_dtype(dtype)
        return self._self if target is self.dtype else self.apply(CAST, dtype=target)

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """As another dtype and/or on another device: `to(dtype)`, `to("cpu")`, `to(other)`."""
        dtype = kwargs.pop("dtype", None)
        check_device(kwargs.pop("device", None))
        copy = kwargs.pop("copy", False)
        kwargs.pop("non_blocking", None)
        if kwargs:
            raise TypeError(f"to() got an unexpected keyword {next(iter(kwargs))!r}")
        for value in args:
            if isinstance(value, Methods):
                dtype = value.dtype
            elif looks_like_device(value):
                check_device(value)
            elif not isinstance(value, bool) and value is not None:
                dtype = value
        result = self._self if dtype is None else self.cast(dtype)
        return result.clone() if copy and result is self else result

    astype = cast

    def type(self, dtype: DTypeLike | None = None) -> Any:
        """As `dtype`; without one the name of the present dtype."""
        return repr(self.dtype) if dtype is None else self.cast(dtype)

    def type_as(self, other: Tensor) -> Tensor:
        """As the dtype of `other`."""
        return self.cast(other.dtype)

    def float(self) -> Tensor:
        """As float32."""
        return self.cast(dt.float32)

    def double(self) -> Tensor:
        """As float64."""
        return self.cast(dt.float64)

    def half(self) -> Tensor:
        """As float16."""
        return self.cast(dt.float16)

    def bfloat16(self) -> Tensor:
        """As bfloat16."""
        return self.cast(dt.bfloat16)

    def long(self) -> Tensor:
        """As int64."""
        return self.cast(dt.int64)

    def int(self) -> Tensor:
        """As int32."""
        return self.cast(dt.int32)

    def short(self) -> Tensor:
        """As int16."""
        return self.cast(dt.int16)

    def char(self) -> Tensor:
        """As int8."""
        return self.cast(dt.int8)

    def byte(self) -> Tensor:
        """As uint8."""
        return self.cast(dt.uint8)

    def bool(self) -> Tensor:
        """As bool: whether an element is not zero."""
        return self.cast(dt.bool_)

    def cpu(self) -> Tensor:
        """On the CPU, where it is."""
        return self._self

    def cuda(self, device: Any = None) -> Tensor:
        """On a GPU: raises `DeviceError` for now."""
        check_device("cuda" if device is None else f"cuda:{device}")
        return self._self

    # Inspection.

    def size(self, dim: builtins.int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        if dim is None:
            return self.shape
        return self.shape[normalize_axis(dim, self.ndim, "size: axis")]

    def dim(self) -> builtins.int:
        """The number of dimensions."""
        return self.ndim

    ndimension = dim

    def numel(self) -> builtins.int:
        """The number of elements."""
        return numel(self.shape)

    nelement = numel

    def element_size(self) -> builtins.int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def itemsize(self) -> builtins.int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> builtins.int:
        """Bytes of all elements."""
        return numel(self.shape) * self.dtype.itemsize

    def is_floating_point(self) -> builtins.bool:
        """Whether the dtype is a floating one."""
        return self.dtype.is_floating_point

    def is_contiguous(self) -> builtins.bool:
        """Always: every value is stored in C order."""
        return True

    # New tensors of this dtype.

    def clone(self) -> Tensor:
        """A tensor of its own with the same value; gradients flow through."""
        return self.apply(CAST, dtype=self.dtype)

    def new_full(
        self, size: Any, fill_value: builtins.float, *, dtype: DTypeLike | None = None
    ) -> Tensor:
        """A tensor of `fill_value` with the dtype of this one."""
        kind: DType = self.dtype if dtype is None else as_dtype(dtype)
        return self._number(fill_value, kind).expand(ints((size,)))

    def new_zeros(self, *size: Any, dtype: DTypeLike | None = None) -> Tensor:
        """Zeros with the dtype of this tensor."""
        return self.new_full(ints(size), 0, dtype=dtype)

    def new_ones(self, *size: Any, dtype: DTypeLike | None = None) -> Tensor:
        """Ones with the dtype of this tensor."""
        return self.new_full(ints(size), 1, dtype=dtype)

    new_empty = new_zeros

    def new_tensor(self, data: Any, *, dtype: DTypeLike | None = None) -> Tensor:
        """A tensor of `data` with the dtype of this one."""
        return HOOKS.tensor(data, dtype=self.dtype if dtype is None else dtype)

    def new_eye(self, n: builtins.int, m: builtins.int, offset: builtins.int = 0) -> Tensor:
        """An (n, m) matrix with ones at [i, i + offset]."""
        return (self._iota((1, m), 1) - self._iota((n, 1), 0) == offset).to(self.dtype)

    def zero_(self) -> Tensor:
        """Zeros in place."""
        return self.fill_(0)

    def copy_(self, src: Any) -> Tensor:
        """The values of `src`, broadcast and converted, in place."""
        return self._rebind(self._alike(src).expand(self.shape))

    def fill_(self, value: Any) -> Tensor:
        """`value` everywhere, in place."""
        new = self._alike(value)
        if new.ndim:
            raise DTypeError(f"fill_ takes a number or a 0-d tensor, got shape {new.shape}")
        return self._rebind(new.expand(self.shape))
