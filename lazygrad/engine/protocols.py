"""The protocols of Python, NumPy and other array libraries, and pickling."""

from __future__ import annotations

import copy as _copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.engine.modes import STATE
from lazygrad.engine.show import describe
from lazygrad.errors import GradientError, LazygradError, UnknownAttributeError, nearest
from lazygrad.ops.opdef import all_ops
from lazygrad.ops.scalar_math import WORDS

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor

_NAMES = {"multiply": "mul", "subtract": "sub", "divide": "div", "true_divide": "div",
          "power": "pow", "absolute": "abs", "negative": "neg", "remainder": "mod",
          "floor_divide": "floordiv", "greater": "gt", "greater_equal": "ge", "less": "lt",
          "less_equal": "le", "equal": "eq", "not_equal": "ne", "rint": "round"}  # fmt: skip


def _op_for(ufunc: Any) -> Any:
    """The op whose scalar word is this ufunc."""
    if not _UFUNC_OPS:
        by_name = {op.name: op for op in all_ops()}
        for word in WORDS.values():
            if isinstance(word.function, np.ufunc) and word.name in by_name:
                _UFUNC_OPS[word.function.__name__] = by_name[word.name]
        for ufunc_name, op_name in _NAMES.items():
            if op_name in by_name:
                _UFUNC_OPS[ufunc_name] = by_name[op_name]
    return _UFUNC_OPS.get(ufunc.__name__)


_UFUNC_OPS: dict[str, Any] = {}


def _as_tensor_op(ufunc: Any, inputs: tuple[Any, ...]) -> Any:
    """The result of a ufunc as an operation on tensors: the method of that name, or the op."""
    first = next(x for x in inputs if hasattr(x, "_node"))
    method = getattr(type(first), ufunc.__name__, None)
    if method is not None:
        return method(first._lift(inputs[0]), *inputs[1:])
    op = _op_for(ufunc)
    return None if op is None else type(first)._apply_any(op, *inputs)


class PythonProtocols:
    """What Python asks of an object: text, truth, length, conversion to numbers."""

    __slots__ = ()

    def __repr__(self: Any) -> str:
        return describe(self)

    def __format__(self: Any, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __round__(self: Any, digits: int | None = None) -> Any:
        return self.round() if digits is None else self.round(decimals=digits)

    def __hash__(self: Any) -> int:
        return id(self)

    def __getattr__(self: Any, name: str) -> Any:
        if name.startswith("__"):  # a protocol that somebody probes for
            raise AttributeError(name)
        known = [n for n in dir(type(self)) if not n.startswith("_")]
        raise UnknownAttributeError(f"Tensor has no attribute {name!r}{nearest(name, known)}")

    def __len__(self: Any) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return int(self.shape[0])

    def __iter__(self: Any) -> Iterator[Tensor]:
        if not self.shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter([self[i] for i in range(self.shape[0])])

    def __contains__(self: Any, element: Any) -> bool:
        return bool((self == element).any())

    def __bool__(self: Any) -> bool:
        if int(np.prod(self.shape)) != 1:
            raise ValueError(
                f"the truth of a tensor of shape {self.shape} is ambiguous; use .any() or .all()"
            )
        return bool(self.item())

    def __float__(self: Any) -> float:
        return float(self.item())

    def __int__(self: Any) -> int:
        return int(self.item())

    def __index__(self: Any) -> int:
        if self.dtype.is_floating_point:
            raise TypeError(f"only integer tensors can be an index, this one is {self.dtype}")
        return int(self.item())


class NumpyProtocols:
    """`np.asarray(t)`, `np.exp(t)`, `array * t`, DLPack, copy and pickle."""

    __slots__ = ()

    def __array__(self: Any, dtype: Any = None, copy: bool | None = None) -> Any:
        if STATE.capture is not None:
            STATE.capture.refuse_value(self)
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError("a conversion of dtype needs a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_ufunc__(self: Any, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        result = None
        if method == "__call__" and not kwargs:
            result = _as_tensor_op(ufunc, inputs)
        if result is not None:
            if out is None or (isinstance(out[0], np.ndarray) and not out[0].flags.writeable):
                return result  # `p.data -= t`: the array is read-only, the result is assigned
            if hasattr(out[0], "_node"):
                return out[0]._rebind(result)
            np.copyto(out[0], result.numpy(), casting="same_kind")
            return out[0]
        if STATE.grad and any(getattr(x, "requires_grad", False) for x in inputs):
            raise GradientError(
                f"np.{ufunc.__name__} in this form is no operation of lazygrad, so its gradient"
                " would be lost: pass tensor.detach(), or write it with tensor methods"
            )
        arrays = [x.numpy() if hasattr(x, "_node") else x for x in inputs]
        if out is not None:
            kwargs["out"] = out
        return getattr(ufunc, method)(*arrays, **kwargs)

    def __dlpack__(self: Any, **kwargs: Any) -> Any:
        return self.numpy(copy=True).__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        if self._node is not None and self.requires_grad:
            raise LazygradError("only leaves can be deep-copied; use .detach() or .clone()")
        found = memo.get(id(self))
        if found is None:
            found = self.__class__.__new__(self.__class__)
            found.__setstate__(self.__getstate__())
            memo[id(self)] = found
            if self._grad is not None:
                found._grad = _copy.deepcopy(self._grad, memo)
        return found

    def __getstate__(self: Any) -> Any:
        if STATE.capture is not None:
            STATE.capture.refuse_value(self)
        extra = dict(getattr(self, "__dict__", {}))
        op = self._storage.op.name if self._storage is not None else "data"
        return (np.array(self.numpy()), self.requires_grad, self._label, op, extra)

    def __setstate__(self: Any, state: Any) -> None:
        array, requires_grad, label, op, extra = state
        self._restore(array, requires_grad, label, op)
        if extra:
            self.__dict__.update(extra)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return (_blank, (type(self),), self.__getstate__())


def _blank(kind: type[Tensor]) -> Any:
    return kind.__new__(kind)
