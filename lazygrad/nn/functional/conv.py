"""Convolutions and their transposes, unfold and fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazygrad.engine.precision import HALF
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn.functional.windows import Sizes, batched, bordered, per_dimension, windows_of
from lazygrad.ops.conv import CONV, CONV_INPUT
from lazygrad.shapes import Shape, numel


def _grouped_weight(name: str, weight: Tensor, groups: int, ndim: int) -> None:
    if weight.ndim != ndim:
        raise ShapeError(f"{name}: weight must have {ndim} dimensions, got {weight.shape}")
    if groups < 1 or weight.shape[0] % groups:
        raise ArgumentError(
            f"{name}: the first dimension of weight {weight.shape} is no multiple of groups "
            f"{groups}"
        )


def same_padding(sizes: Shape, dilations: Shape) -> list[tuple[int, int]]:
    """What keeps the size at stride 1; an odd amount is larger at the end, as in PyTorch."""
    totals = [d * (k - 1) for k, d in zip(sizes, dilations, strict=True)]
    return [(n // 2, n - n // 2) for n in totals]


def _pads(
    name: str, padding: Sizes | str, sizes: Shape, steps: Shape, dilations: Shape
) -> list[tuple[int, int]]:  # fmt: skip
    if not isinstance(padding, str):
        return [(n, n) for n in per_dimension(name, "padding", padding, len(sizes), 0)]
    if padding == "valid":
        return [(0, 0)] * len(sizes)
    if padding != "same":
        raise ArgumentError(f"{name}: padding is a number, 'same' or 'valid', got {padding!r}")
    if any(s != 1 for s in steps):
        raise ArgumentError(f"{name}: padding='same' needs stride 1, got {steps}")
    return same_padding(sizes, dilations)


@HALF
def _conv(
    dimensions: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes,
    padding: Sizes | str, dilation: Sizes, groups: int,
) -> Tensor:  # fmt: skip
    """Any number of dimensions; `weight` is (out, in / groups, *kernel)."""
    name = f"conv{dimensions}d"
    _grouped_weight(name, weight, groups, dimensions + 2)
    steps = per_dimension(name, "stride", stride, dimensions)
    dilations = per_dimension(name, "dilation", dilation, dimensions)
    sizes = weight.shape[2:]
    x, has_batch = batched(name, input, dimensions)
    if x.shape[1] != weight.shape[1] * groups:
        raise ShapeError(
            f"{name}: input {input.shape} has {x.shape[1]} channels; weight {weight.shape} with "
            f"groups={groups} takes {weight.shape[1] * groups}"
        )
    _bias(name, bias, weight.shape[0])
    pads = _pads(name, padding, sizes, steps, dilations)
    _check_fit(name, x.shape, pads, sizes, dilations)
    out = x.apply(
        CONV, weight, steps=steps, dilations=dilations, pads=tuple(pads), groups=groups
    )  # fmt: skip
    out = out if bias is None else out + bias.reshape((-1, *[1] * dimensions))
    return out if has_batch else out.squeeze(0)


def _bias(name: str, bias: Tensor | None, channels: int) -> None:
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(f"{name}: bias must be ({channels},), one for each output channel, "
                         f"got {bias.shape}")  # fmt: skip


def _check_fit(
    name: str, shape: Shape, pads: Sequence[tuple[int, int]], sizes: Shape, dilations: Shape
) -> None:
    padded = [n + a + b for n, (a, b) in zip(shape[2:], pads, strict=True)]
    if any(d * (k - 1) + 1 > n for n, k, d in zip(padded, sizes, dilations, strict=True)):
        raise ShapeError(
            f"{name}: a kernel of {sizes} with dilation {dilations} does not fit into the padded "
            f"input {(*shape[:2], *padded)}"
        )


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """(batch, in, length) to (batch, out, length'); `weight` is (out, in / groups, kernel).

    >>> import lazygrad as lg
    >>> lg.nn.functional.conv1d(lg.tensor([[[1.0, 2.0, 4.0]]]), lg.tensor([[[-1.0, 1.0]]]))
    tensor([[[1., 2.]]])
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """(batch, in, height, width); `weight` is (out, in / groups, kernel height, kernel width).

    The input may lack the batch. `padding` is zeros around it: a number, one for each dimension,
    "same" or "valid".

    >>> import lazygrad as lg
    >>> lg.nn.functional.conv2d(lg.ones(1, 2, 5, 5), lg.ones(3, 2, 3, 3), padding=1).shape
    (1, 3, 5, 5)
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """(batch, in, depth, height, width); `weight` is (out, in / groups, *kernel)."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


@HALF
def _conv_transpose(
    dimensions: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes,
    padding: Sizes, output_padding: Sizes, groups: int, dilation: Sizes,
) -> Tensor:  # fmt: skip
    """The input gradient of a convolution; `weight` is (in, out / groups, *kernel)."""
    name = f"conv_transpose{dimensions}d"
    _grouped_weight(name, weight, groups, dimensions + 2)
    steps = per_dimension(name, "stride", stride, dimensions)
    pads = per_dimension(name, "padding", padding, dimensions, 0)
    extra = per_dimension(name, "output_padding", output_padding, dimensions, 0)
    dilations = per_dimension(name, "dilation", dilation, dimensions)
    if any(e >= max(s, d) for e, s, d in zip(extra, steps, dilations, strict=True)):
        raise ArgumentError(
            f"{name}: output_padding {extra} must be smaller than stride {steps} or dilation "
            f"{dilations}"
        )
    x, has_batch = batched(name, input, dimensions)
    if x.shape[1] != weight.shape[0]:
        raise ShapeError(
            f"{name}: input {input.shape} has {x.shape[1]} channels, weight {weight.shape} takes "
            f"{weight.shape[0]}"
        )
    per_group, sizes = weight.shape[1], weight.shape[2:]
    _bias(name, bias, groups * per_group)
    whole = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(x.shape[2:], steps, dilations, sizes, strict=True)
    ]
    border = [(-p, e - p) for p, e in zip(pads, extra, strict=True)]
    if any(n + a + b < 1 for n, (a, b) in zip(whole, border, strict=True)):
        raise ShapeError(f"{name}: padding {pads} leaves nothing of {tuple(whole)}")
    target = [n + a + b for n, (a, b) in zip(whole, border, strict=True)]
    out = x.apply(
        CONV_INPUT, weight, shape=(x.shape[0], groups * per_group, *target), steps=steps,
        dilations=dilations, pads=tuple((-a, -b) for a, b in border), groups=groups,
    )  # fmt: skip
    out = out if bias is None else out + bias.reshape((-1, *[1] * dimensions))
    return out if has_batch else out.squeeze(0)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of `conv1d`; `weight` is (in, out / groups, kernel).

    >>> import lazygrad as lg
    >>> F = lg.nn.functional
    >>> F.conv_transpose1d(lg.tensor([[[1.0, 2.0]]]), lg.tensor([[[1.0, 10.0]]]), stride=2)
    tensor([[[1., 10., 2., 20.]]])
    """
    return _conv_transpose(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )  # fmt: skip


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of `conv2d`; `weight` is (in, out / groups, kernel height, kernel width)."""
    return _conv_transpose(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )  # fmt: skip


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of `conv3d`; `weight` is (in, out / groups, *kernel)."""
    return _conv_transpose(
        3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )  # fmt: skip


def unfold(
    input: Tensor, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
) -> Tensor:
    """The windows of (batch, channels, height, width) as columns: (batch, channels * k * k, n).

    >>> import lazygrad as lg
    >>> lg.nn.functional.unfold(lg.ones(1, 3, 4, 4), 2).shape
    (1, 12, 9)
    """
    sizes = per_dimension("unfold", "kernel_size", kernel_size, 2)
    steps = per_dimension("unfold", "stride", stride, 2)
    dilations = per_dimension("unfold", "dilation", dilation, 2)
    pads = per_dimension("unfold", "padding", padding, 2, 0)
    x, has_batch = batched("unfold", input, 2)
    windows = windows_of("unfold", bordered(x, [(p, p) for p in pads]), sizes, steps, dilations)
    columns = windows.permute((0, 1, 4, 5, 2, 3)).reshape(
        (x.shape[0], x.shape[1] * numel(sizes), -1)
    )
    return columns if has_batch else columns.squeeze(0)


def fold(
    input: Tensor,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Tensor:
    """Columns, as `unfold` makes them, added up where they came from.

    >>> import lazygrad as lg
    >>> lg.nn.functional.fold(lg.ones(1, 4, 2), (2, 3), 2)
    tensor([[[[1., 2., 1.],
              [1., 2., 1.]]]])
    """
    target = per_dimension("fold", "output_size", output_size, 2)
    sizes = per_dimension("fold", "kernel_size", kernel_size, 2)
    steps = per_dimension("fold", "stride", stride, 2)
    dilations = per_dimension("fold", "dilation", dilation, 2)
    pads = per_dimension("fold", "padding", padding, 2, 0)
    whole = [n + 2 * p for n, p in zip(target, pads, strict=True)]
    counts = [
        (n - d * (k - 1) - 1) // s + 1
        for n, d, k, s in zip(whole, dilations, sizes, steps, strict=True)
    ]
    x, has_batch = (input, True) if input.ndim == 3 else (input.unsqueeze(0), False)
    if x.ndim != 3 or x.shape[1] % numel(sizes) or x.shape[2] != numel(counts):
        raise ShapeError(
            f"fold: input {input.shape} must be (batch, channels * {numel(sizes)}, "
            f"{numel(counts)}) for an output of {target}"
        )
    windows = x.reshape((x.shape[0], -1, *sizes, *counts)).permute((0, 1, 4, 5, 2, 3))
    out = windows._fold((*windows.shape[:2], *whole), (2, 3), steps, dilations)
    out = bordered(out, [(-p, -p) for p in pads])
    return out if has_batch else out.squeeze(0)


CONVS: dict[int, Any] = {1: conv1d, 2: conv2d, 3: conv3d}
TRANSPOSES: dict[int, Any] = {1: conv_transpose1d, 2: conv_transpose2d, 3: conv_transpose3d}
