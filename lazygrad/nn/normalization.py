"""Normalization layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lazygrad.dtypes import DTypeLike, as_dtype, get_default_dtype, int64
from lazygrad.engine.modes import no_grad
from lazygrad.engine.tensor import Tensor, state
from lazygrad.errors import ShapeError
from lazygrad.nn import functional as F
from lazygrad.nn import init
from lazygrad.nn.linear import blank, check_sizes
from lazygrad.nn.module import Module
from lazygrad.nn.parameter import Parameter


def _sizes(shape: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(shape) if isinstance(shape, Iterable) else (shape,)


class LayerNorm(Module):
    """Mean 0 and variance 1 over the last dimensions, then scale and shift (Ba et al. 2016).

    >>> import lazygrad as lg
    >>> y = lg.nn.LayerNorm(4)(lg.tensor([[1.0, 2.0, 3.0, 4.0]]))
    >>> [round(v, 3) for v in y[0].tolist()]
    [-1.342, -0.447, 0.447, 1.342]
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.normalized_shape, self.eps = _sizes(normalized_shape), eps
        self.elementwise_affine = elementwise_affine
        shape = self.normalized_shape
        for size in shape:
            check_sizes("LayerNorm", normalized_shape=size)
        shift = elementwise_affine and bias
        weight = blank(*shape, dtype=dtype, device=device) if elementwise_affine else None
        self.register_parameter("weight", weight)
        offset = blank(*shape, dtype=dtype, device=device) if shift else None
        self.register_parameter("bias", offset)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each sample."""
        shape, auto = self.normalized_shape, self.auto
        return F.layer_norm(input, shape, self.weight, self.bias, self.eps, auto=auto)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Divides by the root mean square over the last dimensions (Zhang and Sennrich 2019)."""

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.normalized_shape, self.eps = _sizes(normalized_shape), eps
        self.elementwise_affine = elementwise_affine
        shape = self.normalized_shape
        for size in shape:
            check_sizes("RMSNorm", normalized_shape=size)
        weight = blank(*shape, dtype=dtype, device=device) if elementwise_affine else None
        self.register_parameter("weight", weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each sample."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps, auto=self.auto)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class BatchNorm(Module):
    """What batch normalization is for any number of dimensions."""

    dimensions: tuple[int, ...] = ()
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: DTypeLike | None = None,
        *,
        bias: bool = True,
    ) -> None:
        check_sizes(type(self).__name__, num_features=num_features)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            made = blank(num_features, dtype=dtype, device=device) if wanted else None
            self.register_parameter(name, made)
        kind = get_default_dtype() if dtype is None else as_dtype(dtype)
        zeros = np.zeros(num_features, kind.dtype)
        tracked = track_running_stats
        self.register_buffer("running_mean", state(zeros) if tracked else None)
        self.register_buffer("running_var", state(zeros + 1) if tracked else None)
        self.register_buffer("num_batches_tracked", state(0, int64) if tracked else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batch seen."""
        for name, value in (("running_mean", 0), ("running_var", 1), ("num_batches_tracked", 0)):
            buffer = self._buffers[name]
            if buffer is not None:
                buffer.data = np.full(buffer.shape, value)

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, fresh statistics."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each channel; while training the running statistics move."""
        if input.ndim not in self.dimensions or input.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}({self.num_features}) takes (batch, {self.num_features}, "
                f"...) with {' or '.join(map(str, self.dimensions))} dimensions, got {input.shape}"
            )
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            with no_grad():
                count = self.num_batches_tracked + 1
                self.num_batches_tracked.assign_(count)
                if self.momentum is None:  # the plain average of all batches
                    momentum = 1.0 / count.double()
        own = self.training or self.running_mean is None
        mean, var = (self.running_mean, self.running_var)
        weight, bias, auto = self.weight, self.bias, self.auto
        return F.batch_norm(input, mean, var, weight, bias, own, momentum, self.eps, auto=auto)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(BatchNorm):
    """Mean 0 and variance 1 of each channel of (batch, channels) or (batch, channels, length).

    While training the statistics are those of the batch and the running ones follow (with
    `momentum=None` as the plain average); in evaluation mode the running ones are used
    (Ioffe and Szegedy 2015).

    >>> import lazygrad as lg
    >>> layer = lg.nn.BatchNorm1d(2)
    >>> y = layer(lg.tensor([[1.0, 2.0], [3.0, 6.0]]))
    >>> layer.running_mean
    tensor([0.2000, 0.4000])
    """

    dimensions = (2, 3)


class BatchNorm2d(BatchNorm):
    """The same for (batch, channels, height, width)."""

    dimensions = (4,)


class BatchNorm3d(BatchNorm):
    """The same for (batch, channels, depth, height, width)."""

    dimensions = (5,)
