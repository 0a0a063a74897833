"""Convolutions, their transposes, and windows as columns, as layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from lazygrad.dtypes import DTypeLike
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn import functional as F
from lazygrad.nn import init
from lazygrad.nn.functional.conv import CONVS, TRANSPOSES, same_padding
from lazygrad.nn.functional.windows import Sizes, bordered, per_dimension
from lazygrad.nn.linear import blank, check_sizes
from lazygrad.nn.module import Module
from lazygrad.nn.parameter import Parameter

_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What convolutions and their transposes have in common; `dimensions` slide."""

    dimensions: ClassVar[int]
    transposed: ClassVar[bool] = False
    bias: Parameter | None

    def _set(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes,
        padding: Sizes | str, dilation: Sizes, output_padding: Sizes, groups: int, bias: bool,
        padding_mode: str, device: Any, dtype: DTypeLike | None,
    ) -> None:  # fmt: skip
        name, n = type(self).__name__, self.dimensions
        check_sizes(name, in_channels=in_channels, out_channels=out_channels, groups=groups)
        for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if groups < 1 or channels < 1 or channels % groups:
                raise ArgumentError(f"{name}: {what} {channels} is no multiple of groups {groups}")
        if padding_mode not in _MODES:
            raise ArgumentError(f"{name}: padding_mode is one of {_MODES}, got {padding_mode!r}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = per_dimension(name, "kernel_size", kernel_size, n)
        self.stride = per_dimension(name, "stride", stride, n)
        self.dilation = per_dimension(name, "dilation", dilation, n)
        self.padding: str | tuple[int, ...] = padding if isinstance(padding, str) else (
            per_dimension(name, "padding", padding, n, 0)
        )  # fmt: skip
        if padding == "same" and any(s != 1 for s in self.stride):
            raise ArgumentError(f"{name}: padding='same' needs stride 1, got {self.stride}")
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ArgumentError(f"{name}: padding is a number, 'same' or 'valid', got {padding!r}")
        self.output_padding = per_dimension(name, "output_padding", output_padding, n, 0)
        self.padding_mode = padding_mode
        first, second = out_channels, in_channels // groups
        if self.transposed:
            first, second = in_channels, out_channels // groups
        self.weight = blank(first, second, *self.kernel_size, dtype=dtype, device=device)
        self.register_parameter("bias", blank(out_channels, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        fan_in, _ = init.fan_in_and_out(self.weight)
        if self.bias is not None and fan_in:
            bound = 1 / math.sqrt(fan_in)
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """PyTorch's."""
        one, zero = (1,) * self.dimensions, (0,) * self.dimensions
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}",
            f"stride={self.stride}",
        ]
        for name, usual in (
            ("padding", zero), ("dilation", one), ("output_padding", zero), ("groups", 1)
        ):  # fmt: skip
            value = getattr(self, name)
            parts += [f"{name}={value}"] if value != usual else []
        parts += ["bias=False"] if self.bias is None else []
        parts += [f"padding_mode={self.padding_mode}"] if self.padding_mode != "zeros" else []
        return ", ".join(parts)


class _Conv(_Convolution):
    """A convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self._set(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        """Slide the kernel over the dimensions after the channels."""
        padding = self.padding
        if self.padding_mode != "zeros" and padding != "valid":
            if isinstance(padding, str):
                border = same_padding(self.kernel_size, self.dilation)
            else:
                border = [(p, p) for p in padding]
            input, padding = bordered(input, border, self.padding_mode), 0  # type: ignore[assignment]
        return CONVS[self.dimensions](  # type: ignore[no-any-return]
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class _ConvTranspose(_Convolution):
    """The transpose of a convolution."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ArgumentError(f"{type(self).__name__}: padding_mode can only be 'zeros'")
        self._set(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding,
            groups, bias, padding_mode, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Add up the kernel times each element; `output_size` chooses among possible sizes."""
        extra = self.output_padding
        if output_size is not None:
            extra = self._extra(input, tuple(output_size)[-self.dimensions :])
        return TRANSPOSES[self.dimensions](  # type: ignore[no-any-return]
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups,
            self.dilation,
        )  # fmt: skip

    def _extra(self, input: Tensor, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """The output padding that gives a size."""
        pads = self.padding if not isinstance(self.padding, str) else (0,) * self.dimensions
        extra = []
        for n, target, s, p, d, k in zip(
            input.shape[-self.dimensions :], wanted, self.stride, pads, self.dilation,
            self.kernel_size, strict=True,
        ):  # fmt: skip
            least = (n - 1) * s - 2 * p + d * (k - 1) + 1
            if not least <= target < least + s:
                raise ShapeError(
                    f"{type(self).__name__}: output_size {wanted}: {target} is not between "
                    f"{least} and {least + s - 1}, which input {input.shape} can become"
                )
            extra.append(target - least)
        return tuple(extra)


class Conv1d(_Conv):
    """(batch, in, length) to (batch, out, length').

    >>> import lazygrad as lg
    >>> lg.nn.Conv1d(2, 4, 3, padding="same")(lg.ones(5, 2, 8)).shape
    (5, 4, 8)
    """

    dimensions = 1


class Conv2d(_Conv):
    """(batch, in, height, width) to (batch, out, height', width'); the batch may be missing.

    `padding` is a number, one for each dimension, "same" or "valid"; `padding_mode` says what it is
    filled with. Weight and bias begin uniform within 1 / sqrt(fan in), as in PyTorch.

    >>> import lazygrad as lg
    >>> layer = lg.nn.Conv2d(3, 8, 3, stride=2, padding=1)
    >>> layer
    Conv2d(3, 8, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    >>> layer(lg.ones(4, 3, 32, 32)).shape
    (4, 8, 16, 16)
    """

    dimensions = 2


class Conv3d(_Conv):
    """(batch, in, depth, height, width) to (batch, out, depth', height', width')."""

    dimensions = 3


class ConvTranspose1d(_ConvTranspose):
    """The transpose of `Conv1d`."""

    dimensions = 1


class ConvTranspose2d(_ConvTranspose):
    """The transpose of `Conv2d`: from small images to large ones.

    >>> import lazygrad as lg
    >>> layer = lg.nn.ConvTranspose2d(8, 3, 3, stride=2, padding=1, output_padding=1)
    >>> layer(lg.ones(4, 8, 16, 16)).shape
    (4, 3, 32, 32)
    """

    dimensions = 2


class ConvTranspose3d(_ConvTranspose):
    """The transpose of `Conv3d`."""

    dimensions = 3


class Unfold(Module):
    """The windows of images as columns: (batch, channels * kernel, number of windows)."""

    def __init__(
        self, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
    ) -> None:
        self.kernel_size, self.dilation = kernel_size, dilation
        self.padding, self.stride = padding, stride

    def forward(self, input: Tensor) -> Tensor:
        """Images to columns."""
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Unfold):
    """Columns added up where `Unfold` took them from."""

    def __init__(
        self,
        output_size: Sizes,
        kernel_size: Sizes,
        dilation: Sizes = 1,
        padding: Sizes = 0,
        stride: Sizes = 1,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        """Columns to images."""
        return F.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )  # fmt: skip

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"output_size={self.output_size}, {super().extra_repr()}"
