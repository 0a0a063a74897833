"""Pooling layers."""

from __future__ import annotations

from typing import Any, ClassVar

from lazygrad.engine.tensor import Tensor
from lazygrad.nn import functional as F
from lazygrad.nn.functional.windows import Sizes
from lazygrad.nn.module import Module


class _MaxPool(Module):
    """The maximum of each window."""

    function: ClassVar[Any]

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size, self.padding, self.dilation = kernel_size, padding, dilation
        self.stride = kernel_size if stride is None else stride
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        """The maxima; with `return_indices` also where they were."""
        return type(self).function(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.return_indices,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The maximum of each window of (batch, channels, length)."""

    function = F.max_pool1d


class MaxPool2d(_MaxPool):
    """The maximum of each window of (batch, channels, height, width).

    >>> import lazygrad as lg
    >>> lg.nn.MaxPool2d(2)(lg.arange(16.0).reshape(1, 1, 4, 4))
    tensor([[[[5., 7.],
              [13., 15.]]]])
    """

    function = F.max_pool2d


class MaxPool3d(_MaxPool):
    """The maximum of each window of (batch, channels, depth, height, width)."""

    function = F.max_pool3d


class AvgPool1d(Module):
    """The mean of each window of (batch, channels, length)."""

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size = _alone(kernel_size)
        self.stride = self.kernel_size if stride is None else _alone(stride)
        self.padding = _alone(padding)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        """The means."""
        return F.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


def _alone(value: Sizes) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


class _AvgPool(Module):
    """The mean of each window."""

    function: ClassVar[Any]

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        """The means."""
        return type(self).function(  # type: ignore[no-any-return]
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad, self.divisor_override,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_AvgPool):
    """The mean of each window of (batch, channels, height, width).

    >>> import lazygrad as lg
    >>> lg.nn.AvgPool2d(2)(lg.arange(16.0).reshape(1, 1, 4, 4))
    tensor([[[[2.5000, 4.5000],
              [10.5000, 12.5000]]]])
    """

    function = F.avg_pool2d


class AvgPool3d(_AvgPool):
    """The mean of each window of (batch, channels, depth, height, width)."""

    function = F.avg_pool3d


class _Adaptive(Module):
    """Windows so many that the result has a given size."""

    function: ClassVar[Any]

    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size

    def forward(self, input: Tensor) -> Any:
        """Pool."""
        return type(self).function(input, self.output_size)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_Adaptive):
    """The means of `output_size` windows of (batch, channels, length)."""

    function = F.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_Adaptive):
    """The means of windows of (batch, channels, height, width), down to a given size.

    >>> import lazygrad as lg
    >>> lg.nn.AdaptiveAvgPool2d((1, None))(lg.ones(2, 3, 4, 5)).shape
    (2, 3, 1, 5)
    """

    function = F.adaptive_avg_pool2d


class AdaptiveAvgPool3d(_Adaptive):
    """The means of windows of (batch, channels, depth, height, width)."""

    function = F.adaptive_avg_pool3d


class _AdaptiveMax(_Adaptive):
    """With the places of the maxima, if asked for."""

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        """The maxima; with `return_indices` also where they were."""
        return type(self).function(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMax):
    """The maxima of `output_size` windows of (batch, channels, length)."""

    function = F.adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptiveMax):
    """The maxima of windows of (batch, channels, height, width)."""

    function = F.adaptive_max_pool2d


class AdaptiveMaxPool3d(_AdaptiveMax):
    """The maxima of windows of (batch, channels, depth, height, width)."""

    function = F.adaptive_max_pool3d
