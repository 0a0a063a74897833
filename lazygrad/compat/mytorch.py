"""MyTorch's names: `import mytorch` becomes `from lazygrad.compat import mytorch`.

`nn`, `optim` and `utils.data` are lazygrad's; a few classes have other arguments. `auto=` chooses
between derived and hand-written gradients as there; layers that are one or two operations have
those of the operations either way. CuPy arrays become NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

import lazygrad as lg
from lazygrad import data, is_grad_enabled, no_grad, optim
from lazygrad.dtypes import DTypeLike, float32
from lazygrad.engine.apply import choose_graph
from lazygrad.engine.graph import Node
from lazygrad.engine.tie import Tie, tie
from lazygrad.nn import functional as F

__all__ = ["Tensor", "no_grad", "nn", "optim", "utils", "save", "load"]

save, load = lg.save, lg.load
utils = SimpleNamespace(data=data)


class _Closure(Tie):
    """The tie of a tensor whose gradient is a closure that adds to `.grad` of its parents."""

    def __init__(self, value: Node, parents: Sequence[lg.Tensor], reads: Sequence[Node], fn: Any):
        super().__init__(fn.__code__, [value], reads)
        self.parents, self.fn = parents, fn

    def pull(
        self, call: Node, cotangents: dict[int, lg.Tensor], needed: set[int],
        gathered: dict[int, lg.Tensor],
    ) -> dict[int, lg.Tensor]:  # fmt: skip
        """Let the closure write, and take what it wrote: planning calls it more than once."""
        before = [parent.grad for parent in self.parents]
        for parent in self.parents:
            parent.grad = None
        try:
            self.fn(cotangents[0])
            found = {i: g for i, p in enumerate(self.parents, 1) if (g := p.grad) is not None}
        finally:
            for parent, grad in zip(self.parents, before, strict=True):
                parent.grad = grad
        return {i: gathered[i] + g if i in gathered else g for i, g in found.items()}


class Tensor(lg.Tensor):
    """A tensor, of float32 unless `dtype` says otherwise.

    With `grad_fn` it is the result of a function whose gradient that is: a closure which gets the
    gradient of this tensor and adds to `.grad` of those that `_add_parents` names.
    """

    def __init__(
        self, data: Any, requires_grad: bool = False, dtype: DTypeLike = float32,
        grad_fn: Callable[[lg.Tensor], None] | None = None, grad_fn_name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(data, requires_grad=requires_grad and grad_fn is None, dtype=dtype)
        self._closure = grad_fn, grad_fn_name

    @staticmethod
    def build_graph_enabled() -> bool:
        """Whether operations record gradients."""
        return is_grad_enabled()

    def _add_parents(self, *parents: lg.Tensor) -> None:
        fn, name = self._closure
        graph = choose_graph(parents)
        value, reads = self._node_in(graph), [p._node_in(graph) for p in parents]
        payload = _Closure(value, parents, reads, fn)
        payload.grad_name = (name or "").strip("<>")
        self._rebind(lg.Tensor._of(tie(graph, payload, [value], reads)[0]))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "grad" and isinstance(value, np.ndarray):
            value = lg.Tensor(value) * 1
        super().__setattr__(name, value)


class _Auto(lg.nn.Module):
    """Takes `auto=`: the gradient derived from the operations (True) or written by hand."""

    def __init__(self, *args: Any, auto: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auto = auto


class Softmax(_Auto):
    """Softmax along the dimension that the call names."""

    def forward(self, x: lg.Tensor, dim: int = -1) -> lg.Tensor:
        """Probabilities of the same shape."""
        return F.softmax(x, dim, auto=self.auto)


class Dropout(_Auto, lg.nn.Dropout):
    """Dropout whose probability is called `dropout_p`."""

    def __init__(self, dropout_p: float = 0.5, *, auto: bool = False) -> None:
        super().__init__(p=dropout_p, auto=auto)


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
    "Sigmoid", "ReLU", "LeakyReLU", "GELU", "SiLU", "Tanh", "MSELoss", "RNNCell", "LSTMCell",
    "GRUCell", "Upsample",
):  # fmt: skip
    setattr(nn, _name, _with_auto(_name))
nn.Softmax, nn.Dropout, nn.CrossEntropyLoss = Softmax, Dropout, CrossEntropyLoss
