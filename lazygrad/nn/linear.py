"""Linear layers, embeddings and the identity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lazygrad.dtypes import DTypeLike, as_dtype, get_default_dtype
from lazygrad.engine.device import check_device
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ArgumentTypeError
from lazygrad.nn import functional as F
from lazygrad.nn import init
from lazygrad.nn.module import Module
from lazygrad.nn.parameter import Parameter


def blank(*shape: int, dtype: DTypeLike | None = None, device: Any = None) -> Parameter:
    """A parameter that an initializer is going to fill."""
    check_device(device)
    kind = get_default_dtype() if dtype is None else as_dtype(dtype)
    return Parameter(np.zeros(shape, kind.dtype))


def check_sizes(owner: str, **sizes: Any) -> None:
    """Raise unless all of them are integers that are not negative."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not hasattr(size, "__index__"):
            raise ArgumentTypeError(f"{owner}: {name} must be an integer, got {size!r}")
        if size < 0:
            raise ArgumentError(f"{owner}: {name} must not be negative, got {size}")


class Identity(Module):
    """The input itself, whatever the arguments of the constructor are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def forward(self, input: Tensor) -> Tensor:
        """Return it."""
        return input


class Linear(Module):
    """y = x @ weight.T + bias; `weight` is (out_features, in_features).

    Both begin uniform within 1 / sqrt(in_features), as in PyTorch.

    >>> import lazygrad as lg
    >>> layer = lg.nn.Linear(3, 2)
    >>> layer(lg.ones(5, 3)).shape
    (5, 2)
    >>> layer
    Linear(in_features=3, out_features=2, bias=True)
    """

    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = blank(out_features, in_features, dtype=dtype, device=device)
        self.register_parameter("bias", blank(out_features, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return F.linear(input, self.weight, self.bias, auto=self.auto)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Bilinear(Module):
    """y[o] = x1 @ weight[o] @ x2 + bias[o]; `weight` is (out, in1, in2).

    >>> import lazygrad as lg
    >>> layer = lg.nn.Bilinear(3, 4, 2)
    >>> layer(lg.ones(5, 3), lg.ones(5, 4)).shape
    (5, 2)
    """

    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        check_sizes("Bilinear", in1_features=in1_features, in2_features=in2_features)
        check_sizes("Bilinear", out_features=out_features)
        if in1_features < 1:
            raise ArgumentError(f"Bilinear: in1_features must be positive, got {in1_features}")
        self.in1_features, self.in2_features = in1_features, in2_features
        self.out_features = out_features
        shape = out_features, in1_features, in2_features
        self.weight = blank(*shape, dtype=dtype, device=device)
        self.register_parameter("bias", blank(out_features, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """(..., in1) and (..., in2) to (..., out)."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        """PyTorch's."""
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


class Embedding(Module):
    """A table of vectors, looked up by index; begins standard normal.

    The row `padding_idx` begins at zero and gets no gradient.

    >>> import lazygrad as lg
    >>> lg.nn.Embedding(10, 4)(lg.tensor([[1, 2], [3, 9]])).shape
    (2, 2, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        name = type(self).__name__
        check_sizes(name, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(
                f"padding_idx {padding_idx} is outside of {num_embeddings} embeddings"
            )
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = blank(num_embeddings, embedding_dim, dtype=dtype, device=device)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            value = self.weight.numpy(copy=True)
            value[self.padding_idx] = 0
            self.weight.data = value

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None
    ) -> Embedding:
        """An embedding with a given table, frozen unless told otherwise."""
        table = embeddings if isinstance(embeddings, Tensor) else Tensor(embeddings)
        count, width = table.shape
        made = cls(count, width, padding_idx=padding_idx, dtype=table.dtype)
        made.weight.data = table
        made.weight.requires_grad_(not freeze)
        return made

    def forward(self, input: Tensor) -> Tensor:
        """Integer indices of any shape to vectors."""
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """PyTorch's."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class EmbeddingBag(Embedding):
    """An `Embedding` whose vectors are summed, averaged or maximized over bags of indices.

    `mode` is "mean", "sum" or "max"; see `functional.embedding_bag`. Gradients are dense.

    >>> import lazygrad as lg
    >>> layer = lg.nn.EmbeddingBag(10, 4, mode="sum")
    >>> layer(lg.tensor([1, 2, 4, 5]), lg.tensor([0, 3])).shape
    (2, 4)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        if sparse:
            raise ArgumentError("EmbeddingBag: gradients are dense; sparse must be False")
        super().__init__(num_embeddings, embedding_dim, padding_idx, device=device, dtype=dtype)
        self.mode, self.include_last_offset = mode, include_last_offset

    def forward(
        self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        """(bags, indices), or a vector and the places where bags begin, to (bags, width)."""
        return F.embedding_bag(
            input, self.weight, offsets, mode=self.mode, per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset, padding_idx=self.padding_idx,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """PyTorch's."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}{padding}"
