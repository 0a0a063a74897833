"""micrograd's and momograd's names: scalars with a gradient, neurons, layers, a perceptron.

A `Value` is a handle on a 0-d float64 tensor that requires a gradient. Its operators append nodes
as every tensor's do; `data` and `grad` are Python floats and realize them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from lazygrad import Tensor, float64

__all__ = ["Value", "Module", "Neuron", "Layer", "MLP"]


def _operation(name: str) -> Callable[..., Value]:
    """The tensor method of that name, between values and numbers."""
    method = getattr(Tensor, name)
    return lambda *args: Value(method(*(getattr(a, "tensor", a) for a in args)))


class Value:
    """A number that remembers what it was computed from.

    >>> a, b = Value(3.0, "a"), Value(2.0, "b")
    >>> d = (a + b) ** a
    >>> d.backward()
    >>> print(d)
    <data: 125.0, grad: 1.0>
    """

    def __init__(self, data: float | Tensor, label: str = "") -> None:
        if isinstance(data, Tensor):
            self.tensor = data
            data.retain_grad()
        else:
            self.tensor = Tensor(float(data), dtype=float64, requires_grad=True)
        self.label = label or self.tensor.name

    @property
    def label(self) -> str:
        """A name for pictures."""
        return self.tensor.name

    @label.setter
    def label(self, text: str) -> None:
        self.tensor.name = text

    @property
    def data(self) -> float:
        """The number."""
        return float(self.tensor.item())

    @data.setter
    def data(self, value: float) -> None:
        self.tensor.data = value

    @property
    def grad(self) -> float:
        """How the result answers to a tiny change of this number; 0 before `backward()`."""
        return 0.0 if self.tensor.grad is None else float(self.tensor.grad.item())

    @grad.setter
    def grad(self, value: float) -> None:
        self.tensor.grad = Tensor(float(value), dtype=float64) if value else None

    def backward(self) -> None:
        """Add the gradients of this number to `grad` of everything it depends on."""
        self.tensor.backward(retain_graph=True)

    def print_branch(self) -> None:
        """Print what the number was computed from."""
        self.tensor.print_branch()

    relu, tanh, exp, log, __neg__ = map(_operation, ("relu", "tanh", "exp", "log", "__neg__"))
    __add__, __radd__ = map(_operation, ("__add__", "__radd__"))
    __sub__, __rsub__ = map(_operation, ("__sub__", "__rsub__"))
    __mul__, __rmul__ = map(_operation, ("__mul__", "__rmul__"))
    __truediv__, __rtruediv__ = map(_operation, ("__truediv__", "__rtruediv__"))
    __pow__, __rpow__ = map(_operation, ("__pow__", "__rpow__"))

    def __repr__(self) -> str:
        return f"<data: {self.data}, grad: {self.grad}>"


class Module:
    """What has parameters: values, or parts that have some."""

    parts: Sequence[Any]

    def parameters(self) -> list[Value]:
        """All weights and biases."""
        return [v for p in self.parts for v in ([p] if isinstance(p, Value) else p.parameters())]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters():
            p.grad = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__} of [{', '.join(map(str, self.parts))}]"


class Neuron(Module):
    """w . x + b, through ReLU unless `nonlin` is false."""

    def __init__(self, nin: int, nonlin: bool = True) -> None:
        self.w = [Value(random.uniform(-1, 1)) for _ in range(nin)]
        self.b = Value(0)
        self.nonlin = nonlin
        self.parts = [*self.w, self.b]

    def __call__(self, x: Sequence[Any]) -> Value:
        """The activation for a list of inputs."""
        act = sum((w * xi for w, xi in zip(self.w, x, strict=True)), self.b)
        return act.relu() if self.nonlin else act

    def __repr__(self) -> str:
        return f"{'ReLU' if self.nonlin else 'Linear'}Neuron({len(self.w)})"


class Layer(Module):
    """Several neurons that see the same inputs; a single one answers without a list."""

    def __init__(self, nin: int, nout: int, **kwargs: Any) -> None:
        self.parts = self.neurons = [Neuron(nin, **kwargs) for _ in range(nout)]

    def __call__(self, x: Sequence[Any]) -> Any:
        """What each neuron makes of the inputs."""
        out = [n(x) for n in self.neurons]
        return out[0] if len(out) == 1 else out


class MLP(Module):
    """A multi-layer perceptron with ReLU between its layers."""

    def __init__(self, nin: int, nouts: Sequence[int]) -> None:
        pairs = list(pairwise([nin, *nouts]))
        self.parts = self.layers = [Layer(*p, nonlin=p is not pairs[-1]) for p in pairs]

    def __call__(self, x: Any) -> Any:
        """The scores for a list of inputs."""
        for layer in self.layers:
            x = layer(x)
        return x
