"""New tensors: from data, by formula, from the random stream.

A formula is evaluated on the host, at once and into a tensor that belongs to no graph, or, inside
of a captured function, as nodes; both run the same lines on float64 positions, so the bits agree.
Random tensors are always nodes over the bits of the stream's next counters.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lazygrad.dtypes import (
    DType,
    DTypeLike,
    as_dtype,
    float64,
    get_default_dtype,
    int64,
    scalar_dtype,
)
from lazygrad.engine import distributions
from lazygrad.engine.apply import SCALARS, choose_graph
from lazygrad.engine.convert import to_array
from lazygrad.engine.device import check_device
from lazygrad.engine.graph import HOOKS
from lazygrad.engine.methods.base import fitting, ints
from lazygrad.engine.modes import STATE
from lazygrad.engine.random import Generator
from lazygrad.engine.storage import Storage
from lazygrad.engine.tensor import Tensor, apply
from lazygrad.errors import ArgumentError, DTypeError, ShapeError
from lazygrad.ops.source import IOTA
from lazygrad.shapes import Shape

__all__ = [
    "arange", "as_tensor", "bernoulli", "empty", "empty_like", "eye", "from_dlpack", "from_numpy",
    "full", "full_like", "linspace", "logspace", "meshgrid", "multinomial", "normal", "one_hot",
    "ones", "ones_like", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like",
    "randperm", "scalar", "tensor", "to_tensor", "tril_indices", "triu_indices", "zeros",
    "zeros_like",
]  # fmt: skip


def _lazy() -> bool:
    """Whether new tensors have to be nodes: a function is being traced."""
    return STATE.capture is not None or STATE.trace


def _line(n: int, rank: int = 1, axis: int = 0) -> Any:
    """0.0, 1.0, ... along `axis` of a shape of ones: an array, or a tensor while tracing."""
    shape = tuple(n if i == axis else 1 for i in range(rank))
    if _lazy():
        return apply(IOTA, shape=shape, dtype=float64, axis=axis)
    return np.arange(n, dtype=np.float64).reshape(shape)


def _made(value: Any, dtype: DType, requires_grad: bool, device: Any) -> Tensor:
    """The result of a formula as a tensor of `dtype`."""
    check_device(device)
    if isinstance(value, Tensor):
        made = value.to(dtype)
    else:
        made = Tensor._leaf(Storage(np.asarray(value, dtype.dtype, order="C")))
    return made.requires_grad_() if requires_grad else made


def _dtype(dtype: DTypeLike | None, *values: Any) -> DType:
    """The given dtype, else int64 for integers and the default dtype for the rest."""
    if dtype is not None:
        return as_dtype(dtype)
    return int64 if all(isinstance(v, int | np.integer) for v in values) else get_default_dtype()


def _sizes(size: tuple[Any, ...], named: Any = None) -> Shape:
    if size and named is not None:
        raise ArgumentError(f"the size is given twice, as {size} and as size={named}")
    shape = ints(size, named)
    if any(n < 0 for n in shape):
        raise ShapeError(f"a shape cannot be negative: {shape}")
    return shape


# From data.


def tensor(
    data: Any, *, dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False,
    graph: Any = None,
) -> Tensor:  # fmt: skip
    """A tensor with a copy of `data`; the dtype is inferred as PyTorch does.

    Python bools give bool, integers int64, floats the default dtype; arrays keep their dtype.
    Raises `ShapeError` on ragged lists and `DTypeError` on strings and objects.

    >>> tensor([1, 2]).dtype, tensor([1.0, 2.0]).dtype
    (lazygrad.int64, lazygrad.float32)
    """
    kind = None if dtype is None else as_dtype(dtype)
    if isinstance(data, Tensor):
        copy = data.detach().clone().to(data.dtype if kind is None else kind)
        return copy.requires_grad_() if requires_grad else copy
    if isinstance(data, list | tuple):
        data = _plain(data)
    array = to_array(data, kind, infer=True)
    return Tensor(array, requires_grad=requires_grad, device=device, graph=graph)


def _plain(data: Any) -> Any:
    """Nested lists with the tensors in them replaced by arrays."""
    if isinstance(data, list | tuple):
        return [_plain(item) for item in data] if any(
            isinstance(item, Tensor | list | tuple) for item in data
        ) else data  # fmt: skip
    return data.numpy() if isinstance(data, Tensor) else data


def to_tensor(x: Any, like: Tensor | None = None) -> Tensor:
    """`x` itself when it is a tensor, else a tensor of it; beside `like`, numbers stay weak."""
    if isinstance(x, Tensor):
        return x
    return tensor(x) if like is None else like._lift(x)


def as_tensor(data: Any, dtype: DTypeLike | None = None, device: Any = None) -> Tensor:
    """`data` as a tensor: itself when it is one of that dtype, else converted."""
    check_device(device)
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    return tensor(data, dtype=dtype)


def from_numpy(array: Any) -> Tensor:
    """A tensor over the memory of `array`, without a copy when that is C-contiguous.

    Changing the array afterwards changes the tensor; use `tensor(array)` for a copy.
    """
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"from_numpy takes a NumPy array, got {type(array).__name__}")
    dtype = as_dtype(array.dtype)
    if not array.flags.c_contiguous or not array.flags.writeable:
        array = array.copy()
    return Tensor._leaf(Storage(array, dtype))


def from_dlpack(external: Any) -> Tensor:
    """A tensor from anything that speaks DLPack and lies in CPU memory."""
    return from_numpy(np.from_dlpack(external))


def scalar(value: Any, dtype: DTypeLike | None = None) -> Tensor:
    """A 0-d tensor: an argument that changes from call to call without a new trace."""
    kind = scalar_dtype(value) if dtype is None else as_dtype(dtype)
    return Tensor(np.asarray(value), dtype=kind)


# Constants.


def _full(
    shape: Shape, value: Any, dtype: DType, requires_grad: bool, device: Any
) -> Tensor:  # fmt: skip
    if isinstance(value, SCALARS):
        value = fitting(value, dtype)
    elif not isinstance(value, Tensor):
        value = to_array(value)
        if value.ndim:
            raise ArgumentError(f"full: fill_value must be one number, got shape {value.shape}")
    if isinstance(value, Tensor):
        made: Any = value.to(dtype).expand(shape)
    elif _lazy():
        plain = np.asarray(value).astype(dtype.dtype).item()
        if dtype.is_floating_point:
            plain = float(plain)
        made = _constant(plain, dtype).expand(shape)
    else:
        made = np.full(shape, value, dtype.dtype)
    return _made(made, dtype, requires_grad, device)


def _constant(value: Any, dtype: DType) -> Tensor:
    return HOOKS.wrap(choose_graph(()).constant(value, dtype))


def zeros(
    *sizes: Any, size: Any = None, dtype: DTypeLike | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Zeros; the sizes as numbers or as one tuple.

    >>> zeros(2, 3).shape
    (2, 3)
    """
    return _full(_sizes(sizes, size), 0, _dtype(dtype, 0.0), requires_grad, device)


def ones(
    *sizes: Any, size: Any = None, dtype: DTypeLike | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Ones; the sizes as numbers or as one tuple."""
    return _full(_sizes(sizes, size), 1, _dtype(dtype, 0.0), requires_grad, device)


empty = zeros  # memory that was never written would make results depend on chance


def full(
    size: Any, fill_value: Any, *, dtype: DTypeLike | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor of one value; without `dtype` it is that of the value.

    >>> full((2,), 7), full((2,), 7.5).dtype
    (tensor([7, 7]), lazygrad.float32)
    """
    if dtype is None:
        kind = fill_value.dtype if isinstance(fill_value, Tensor) else scalar_dtype(fill_value)
    else:
        kind = as_dtype(dtype)
    return _full(_sizes((size,)), fill_value, kind, requires_grad, device)


def full_like(
    input: Any, fill_value: Any, *, dtype: DTypeLike | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """One value in the shape and dtype of `input`."""
    kind = as_dtype(input.dtype) if dtype is None else as_dtype(dtype)
    return _full(tuple(input.shape), fill_value, kind, requires_grad, device)


def zeros_like(input: Any, **options: Any) -> Tensor:
    """Zeros in the shape and dtype of `input`."""
    return full_like(input, 0, **options)


def ones_like(input: Any, **options: Any) -> Tensor:
    """Ones in the shape and dtype of `input`."""
    return full_like(input, 1, **options)


empty_like = zeros_like


# Formulas over positions.


def arange(
    start: float | None = None, end: float | None = None, step: float = 1, *,
    dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """start, start + step, ... before `end`; integers give int64.

    >>> arange(3), arange(1, 2, 0.5)
    (tensor([0, 1, 2]), tensor([1.0000, 1.5000]))
    """
    first, last = (0, start) if end is None else (start or 0, end)
    if last is None:
        raise ArgumentError("arange: the end is missing, as in arange(5)")
    kind = _dtype(dtype, first, last, step)
    if step == 0 or not math.isfinite((last - first) / step):
        raise ArgumentError(f"arange: no range from {first} to {last} by steps of {step}")
    if (last - first) / step < 0:
        raise ArgumentError(f"arange: steps of {step} never lead from {first} to {last}")
    count = math.ceil((last - first) / step)
    if kind is int64 and not _lazy():
        return _made(np.arange(first, last, step)[:count], kind, requires_grad, device)
    return _made(_line(count) * step + first, kind, requires_grad, device)


def _linear(start: float, end: float, steps: int) -> Any:
    """Both ends exact: the upper half counts from `end`."""
    if steps < 0:
        raise ArgumentError(f"linspace: steps must not be negative, got {steps}")
    i = _line(steps)
    step = (end - start) / max(steps - 1, 1)
    low, high = i * step + start, (i - (steps - 1.0)) * step + end
    lower_half = i < max(steps / 2, 1)
    return low.where(lower_half, high) if _lazy() else np.where(lower_half, low, high)


def linspace(
    start: float, end: float, steps: int, *, dtype: DTypeLike | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`steps` numbers from `start` to `end`, evenly apart, both ends included.

    >>> linspace(0, 1, 3)
    tensor([0.0000, 0.5000, 1.0000])
    """
    return _made(_linear(start, end, steps), _dtype(dtype, 0.0), requires_grad, device)


def logspace(
    start: float, end: float, steps: int, base: float = 10.0, *, dtype: DTypeLike | None = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`steps` powers of `base` with exponents from `start` to `end`."""
    powers = float(base) ** _linear(start, end, steps)
    return _made(powers, _dtype(dtype, 0.0), requires_grad, device)


def eye(
    n: int, m: int | None = None, *, dtype: DTypeLike | None = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Ones on the diagonal of an (n, m) matrix of zeros."""
    if n < 0 or (m is not None and m < 0):
        raise ShapeError(f"eye: sizes must not be negative, got {n} and {m}")
    diagonal = _line(n, 2, 0) == _line(n if m is None else m, 2, 1)
    return _made(diagonal, _dtype(dtype, 0.0), requires_grad, device)


def tril_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """The positions (2, n) of the lower triangle of a (row, col) matrix."""
    return tensor(np.stack(np.tril_indices(row, offset, col)).astype(np.int64))


def triu_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """The positions (2, n) of the upper triangle of a (row, col) matrix."""
    return tensor(np.stack(np.triu_indices(row, offset, col)).astype(np.int64))


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Each vector expanded along an axis of its own ("ij"; "xy" swaps the first two)."""
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else tensors
    lines = [to_tensor(t) for t in given]
    if any(line.ndim > 1 for line in lines):
        shapes = ", ".join(str(line.shape) for line in lines)
        raise ShapeError(f"meshgrid takes vectors, got shapes {shapes}")
    lines = [line.reshape(-1) for line in lines]
    if indexing not in ("ij", "xy"):
        raise ArgumentError(f"meshgrid: indexing {indexing!r} is not 'ij' or 'xy'")
    swap = indexing == "xy" and len(lines) > 1
    axes = list(range(len(lines)))
    if swap:
        axes[:2] = [1, 0]
    shape = [0] * len(lines)
    for line, axis in zip(lines, axes, strict=True):
        shape[axis] = line.shape[0]
    return tuple(
        line.reshape([-1 if i == axis else 1 for i in range(len(shape))]).expand(shape)
        for line, axis in zip(lines, axes, strict=True)
    )


def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """int64 rows with a 1 at the class of each element; -1 classes: one more than the largest.

    Raises `IndexOutOfRangeError` on a label outside [0, num_classes).
    """
    if num_classes < 0:
        num_classes = int(input.max().item()) + 1 if input.numel() else 0
    labels = input._checked(num_classes, "label").unsqueeze(-1)
    lanes = labels._iota((1,) * input.ndim + (num_classes,), input.ndim)
    return (labels == lanes).to(int64)


# Random.


def _options(dtype: DTypeLike | None, device: Any) -> DType:
    check_device(device)
    return _dtype(dtype, 0.0)


def _leafed(made: Tensor, requires_grad: bool) -> Tensor:
    return made.requires_grad_() if requires_grad else made


def rand(
    *sizes: Any, size: Any = None, generator: Generator | None = None,
    dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Uniform numbers in [0, 1)."""
    made = distributions.uniform(_sizes(sizes, size), _options(dtype, device), generator)
    return _leafed(made, requires_grad)


def randn(
    *sizes: Any, size: Any = None, generator: Generator | None = None,
    dtype: DTypeLike | None = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Standard normal numbers."""
    made = distributions.normal(_sizes(sizes, size), _options(dtype, device), generator)
    return _leafed(made, requires_grad)


def rand_like(input: Any, *, dtype: DTypeLike | None = None, **options: Any) -> Tensor:
    """Uniform numbers in the shape and dtype of `input`."""
    return rand(tuple(input.shape), dtype=input.dtype if dtype is None else dtype, **options)


def randn_like(input: Any, *, dtype: DTypeLike | None = None, **options: Any) -> Tensor:
    """Standard normal numbers in the shape and dtype of `input`."""
    return randn(tuple(input.shape), dtype=input.dtype if dtype is None else dtype, **options)


def randint(
    low: int | None = None, high: Any = None, size: Any = None, *,
    generator: Generator | None = None, dtype: DTypeLike | None = None, device: Any = None,
) -> Tensor:  # fmt: skip
    """Integers in [low, high), or [0, low) as `randint(low, size)`; int64 unless `dtype` is given.

    >>> randint(10, (3,)).shape, randint(2, 5, (3,)).dtype
    ((3,), lazygrad.int64)
    """
    if size is None and high is not None and not isinstance(high, int):
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    low = 0 if low is None else low
    if size is None:
        raise ShapeError("randint: size is missing, as in randint(0, 10, (2, 3))")
    check_device(device)
    kind = int64 if dtype is None else as_dtype(dtype)
    return distributions.integers(int(low), int(high), _sizes((size,)), kind, generator)


def randint_like(input: Any, low: int, high: int | None = None, **options: Any) -> Tensor:
    """Integers in [low, high) in the shape of `input`."""
    first, last = (0, low) if high is None else (low, high)
    return randint(first, last, tuple(input.shape), **options)


def randperm(
    n: int, *, generator: Generator | None = None, dtype: DTypeLike | None = None
) -> Tensor:
    """0 to n - 1 in random order; int64."""
    kind = int64 if dtype is None else as_dtype(dtype)
    return distributions.permutation(int(n), kind, generator)


def normal(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
    dtype: DTypeLike | None = None, device: Any = None,
) -> Tensor:  # fmt: skip
    """Normal numbers; `mean` and `std` may be tensors, then they give the shape."""
    given = [t for t in (mean, std) if isinstance(t, Tensor)]
    if isinstance(std, int | float) and std < 0:
        raise ArgumentError(f"normal: the deviation must not be negative, got {std}")
    if given:
        shape = (given[0] + given[-1]).shape
        kind = given[0].dtype
    elif size is None:
        raise ShapeError("normal: size is missing, as in normal(0.0, 1.0, (2, 3))")
    else:
        shape, kind = _sizes((size,)), _options(dtype, device)
    made: Tensor = distributions.normal(shape, kind, generator) * std + mean
    return made


def bernoulli(input: Tensor, p: float | None = None, *, generator: Any = None) -> Tensor:
    """1 with the probability in each element of `input` (or `p` everywhere), else 0."""
    return distributions.bernoulli(input if p is None else full_like(input, p), generator)


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None
) -> Tensor:
    """Positions drawn with the weights in the last axis of `input`; int64."""
    return distributions.multinomial(to_tensor(input), num_samples, replacement, generator)
