"""From Python and NumPy data to an array of a known dtype, with errors that name what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from lazygrad.dtypes import DType, as_dtype, get_default_dtype
from lazygrad.errors import DTypeError, ShapeError
from lazygrad.ops.opdef import Array

_SUPPORTED = "float16, bfloat16, float32, float64, (u)int8 to (u)int64, bool"


def _ragged(data: Any) -> str:
    lengths = [len(row) if hasattr(row, "__len__") else "a number" for row in data]
    return f"ragged data: rows of different lengths {lengths[:8]}; all must be equal"


def to_array(data: Any, dtype: DType | None = None, *, infer: bool = False) -> Array:
    """A new C-contiguous array with the elements of `data`.

    Arrays and scalars of NumPy keep their dtype. Python data becomes the default dtype, or with
    `infer` what PyTorch infers: bool, int64 or the default dtype. Raises `ShapeError` on ragged
    lists and `DTypeError` on strings and objects.

    >>> to_array([[1, 2], [3, 4]]).dtype, to_array([1, 2], infer=True).dtype
    (dtype('float32'), dtype('int64'))
    """
    is_numpy = isinstance(data, np.ndarray | np.generic)
    try:
        array = np.asarray(data)
    except ValueError as error:
        if "inhomogeneous" in str(error):
            raise ShapeError(_ragged(data)) from None
        raise
    if array.dtype.kind in "USO" or array.dtype.kind in "cmMV":
        known = None if array.dtype.kind in "USOcmM" else _known(array.dtype)
        if known is None:
            kind = {"U": "strings", "S": "strings", "O": "objects"}.get(
                array.dtype.kind, str(array.dtype)
            )
            raise DTypeError(f"a tensor cannot hold {kind} ({data!r:.60}); it takes {_SUPPORTED}")
    if dtype is None:
        inferred = infer and array.dtype.kind in "bi" and array.size > 0
        if is_numpy or hasattr(data, "__array__") or inferred:
            dtype = as_dtype(array.dtype)
        else:
            dtype = get_default_dtype()
    target = dtype.dtype
    with np.errstate(all="ignore"):
        return np.array(array, target, order="C", copy=True)


def _known(dtype: Any) -> DType | None:
    try:
        return as_dtype(dtype)
    except DTypeError:
        return None
