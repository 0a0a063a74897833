"""MyTorch's names: `import mytorch` becomes `from lazygrad.compat import mytorch`.

`nn`, `optim` and `utils.data` are lazygrad's; a few classes have other arguments. `auto=` chose
there between derived and hand-written gradients: here both are the same program, so it is taken
and has no effect. CuPy arrays become NumPy arrays.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lazygrad as lg
from lazygrad import data, no_grad, optim
from lazygrad.dtypes import DTypeLike, float32

__all__ = ["Tensor", "no_grad", "nn", "optim", "utils", "save", "load"]

save, load = lg.save, lg.load
utils = SimpleNamespace(data=data)


class Tensor(lg.Tensor):
    """A tensor, of float32 unless `dtype` says otherwise."""

    def __init__(self, data: Any, requires_grad: bool = False, dtype: DTypeLike = float32) -> None:
        super().__init__(data, requires_grad=requires_grad, dtype=dtype)


class _Auto:
    """Takes `auto=`."""

    def __init__(self, *args: Any, auto: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Softmax(_Auto, lg.nn.Module):
    """Softmax along the dimension that the call names."""

    def forward(self, x: lg.Tensor, dim: int = -1) -> lg.Tensor:
        """Probabilities of the same shape."""
        return x.softmax(dim=dim)


class Dropout(lg.nn.Dropout):
    """Dropout whose probability is called `dropout_p`."""

    def __init__(self, dropout_p: float = 0.5) -> None:
        super().__init__(p=dropout_p)


class CrossEntropyLoss(_Auto, lg.nn.CrossEntropyLoss):
    """Cross entropy of scores and class labels, which may come as floats."""

    def forward(self, input: lg.Tensor, target: lg.Tensor) -> lg.Tensor:
        """The mean over the batch."""
        if target.ndim < input.ndim and target.dtype.is_floating_point:
            target = target.long()
        return super().forward(input, target)


def _with_auto(name: str) -> type:
    return type(name, (_Auto, getattr(lg.nn, name)), {})


nn = SimpleNamespace(**{name: getattr(lg.nn, name) for name in lg.nn.__all__})
for _name in (
    "Linear", "Embedding", "Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d", "MaxPool2d",
    "AvgPool2d", "AdaptiveAvgPool2d", "BatchNorm1d", "BatchNorm2d", "LayerNorm", "RMSNorm",
    "Sigmoid", "ReLU", "LeakyReLU", "GELU", "SiLU", "Tanh", "MSELoss",
):  # fmt: skip
    setattr(nn, _name, _with_auto(_name))
nn.Softmax, nn.Dropout, nn.CrossEntropyLoss = Softmax, Dropout, CrossEntropyLoss
