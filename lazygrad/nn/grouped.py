"""Normalization within a sample: over groups of channels, or over each channel."""

from __future__ import annotations

from typing import Any

from lazygrad.dtypes import DTypeLike
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn import functional as F
from lazygrad.nn import init
from lazygrad.nn.linear import blank, check_sizes
from lazygrad.nn.module import Module
from lazygrad.nn.normalization import BatchNorm
from lazygrad.nn.parameter import Parameter


class GroupNorm(Module):
    """Mean 0 and variance 1 over each group of channels of a sample (Wu and He 2018).

    >>> import lazygrad as lg
    >>> lg.nn.GroupNorm(2, 4)
    GroupNorm(2, 4, eps=1e-05, affine=True, bias=True)
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: DTypeLike | None = None,
        *,
        bias: bool = True,
    ) -> None:
        check_sizes("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        if num_groups < 1 or num_channels % num_groups:
            raise ArgumentError(
                f"GroupNorm: num_channels {num_channels} is no multiple of num_groups {num_groups}"
            )
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps, self.affine = eps, affine
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            made = blank(num_channels, dtype=dtype, device=device) if wanted else None
            self.register_parameter(name, made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each group of channels of (batch, channels, ...)."""
        if input.ndim < 2 or input.shape[1] != self.num_channels:
            raise ShapeError(
                f"GroupNorm({self.num_groups}, {self.num_channels}) takes (batch, "
                f"{self.num_channels}, ...), got {input.shape}"
            )
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class _InstanceNorm(BatchNorm):
    """What instance normalization is for any number of dimensions; the last one is unbatched."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: DTypeLike | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each channel of each sample."""
        batched, single = self.dimensions
        axis = 1 if input.ndim == batched else 0
        if input.ndim not in self.dimensions or input.shape[axis] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}({self.num_features}) takes (batch, {self.num_features}, "
                f"...) with {batched} dimensions, or {single} without the batch, got {input.shape}"
            )
        own = self.training or self.running_mean is None
        momentum = 0.0 if self.momentum is None else self.momentum
        out = F.instance_norm(
            input if axis else input.unsqueeze(0), self.running_mean, self.running_var,
            self.weight, self.bias, own, momentum, self.eps,
        )  # fmt: skip
        return out if axis else out.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    """Mean 0 and variance 1 of each channel of each sample of (batch, channels, length).

    (Ulyanov et al. 2016.) No scale and no running statistics unless asked for, as in PyTorch.

    >>> import lazygrad as lg
    >>> lg.nn.InstanceNorm1d(1, eps=0.0)(lg.tensor([[[1.0, 3.0]]]))
    tensor([[[-1., 1.]]])
    """

    dimensions = (3, 2)


class InstanceNorm2d(_InstanceNorm):
    """The same for (batch, channels, height, width)."""

    dimensions = (4, 3)


class InstanceNorm3d(_InstanceNorm):
    """The same for (batch, channels, depth, height, width)."""

    dimensions = (5, 4)
