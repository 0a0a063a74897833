"""Pools by norms, pools undone, and local response normalization, as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from lazygrad.engine.tensor import Tensor
from lazygrad.nn import functional as F
from lazygrad.nn.functional.windows import Sizes, per_dimension
from lazygrad.nn.module import Module


class _LPPool(Module):
    """(sum of x ** p) ** (1 / p) of each window."""

    function: ClassVar[Any]

    def __init__(
        self, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None,
        ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        self.norm_type, self.kernel_size = norm_type, kernel_size
        self.stride, self.ceil_mode = stride, ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        """The norms of the windows."""
        found: Tensor = type(self).function(
            input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode
        )
        return found

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """The p-norm of each window of (batch, channels, length)."""

    function = F.lp_pool1d


class LPPool2d(_LPPool):
    """The p-norm of each window of (batch, channels, height, width)."""

    function = F.lp_pool2d


class LPPool3d(_LPPool):
    """The p-norm of each window of (batch, channels, depth, height, width)."""

    function = F.lp_pool3d


class _MaxUnpool(Module):
    """Maxima back where they were."""

    function: ClassVar[Any]
    dimensions: ClassVar[int]

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0
    ) -> None:  # fmt: skip
        name, count = type(self).__name__, self.dimensions
        self.kernel_size = per_dimension(name, "kernel_size", kernel_size, count)
        self.stride = self.kernel_size
        if stride is not None:
            self.stride = per_dimension(name, "stride", stride, count)
        self.padding = per_dimension(name, "padding", padding, count, least=0)

    def forward(
        self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None
    ) -> Tensor:
        """`indices` are those of the pool; `output_size` chooses among sizes that it maps alike."""
        found: Tensor = type(self).function(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )
        return found

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """Undoes `MaxPool1d`, but for what was not a maximum."""

    function, dimensions = F.max_unpool1d, 1


class MaxUnpool2d(_MaxUnpool):
    """Undoes `MaxPool2d`, but for what was not a maximum.

    >>> import lazygrad as lg
    >>> pooled, places = lg.nn.MaxPool2d(2, return_indices=True)(lg.tensor([[[1.0, 2], [3, 4]]]))
    >>> lg.nn.MaxUnpool2d(2)(pooled, places)
    tensor([[[0., 0.],
             [0., 4.]]])
    """

    function, dimensions = F.max_unpool2d, 2


class MaxUnpool3d(_MaxUnpool):
    """Undoes `MaxPool3d`, but for what was not a maximum."""

    function, dimensions = F.max_unpool3d, 3


class LocalResponseNorm(Module):
    """Each channel divided by a power of the mean square of its neighbours (AlexNet)."""

    def __init__(
        self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
    ) -> None:  # fmt: skip
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        """The same shape."""
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
