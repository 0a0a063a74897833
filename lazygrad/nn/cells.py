"""One step of a recurrent network: the cells, as functions of tensors and as layers.

A step begins behind the products with the input, which is one for all steps, and with the state
before: `given` and `own` are what they contribute to the gates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from lazygrad.dtypes import DTypeLike
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn import functional as F
from lazygrad.nn import init
from lazygrad.nn.linear import blank, check_sizes
from lazygrad.nn.module import Module
from lazygrad.nn.parameter import Parameter

State = tuple[Tensor, ...]
Weights = tuple[Tensor | None, ...]  # input, hidden, their biases, and the projection
Step = Callable[[Tensor, Tensor, State, Weights], State]
NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {"tanh": F.tanh, "relu": F.relu}


def from_input(x: Tensor, weights: Weights) -> Tensor:
    """What rows of input contribute to the gates."""
    weight, bias = weights[0], weights[2]
    assert weight is not None
    return F.linear(x, weight, bias)


def from_hidden(h: Tensor, weights: Weights) -> Tensor:
    """What the state before contributes to them."""
    weight, bias = weights[1], weights[3]
    assert weight is not None
    return F.linear(h, weight, bias)


def plain_step(nonlinearity: str) -> Step:
    """The step h' = f(W x + U h) (Elman 1990)."""
    function = NONLINEARITIES[nonlinearity]

    def step(given: Tensor, own: Tensor, state: State, weights: Weights) -> State:
        return (function(given + own),)

    return step


def lstm_step(given: Tensor, own: Tensor, state: State, weights: Weights) -> State:
    """Input, forget, cell and output gates (Hochreiter and Schmidhuber 1997, Gers et al. 2000).

    c' = f c + i g, h' = o tanh(c'), with a projection of h' if there is one (Sak et al. 2014).
    """
    c = state[1]
    i, f, g, o = (given + own).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    projection = weights[4] if len(weights) > 4 else None
    return (h if projection is None else F.linear(h, projection)), c


def gru_step(given: Tensor, own: Tensor, state: State, weights: Weights) -> State:
    """Reset, update and new gates (Cho et al. 2014): h' = n + z (h - n)."""
    h = state[0]
    reset_x, update_x, new_x = given.chunk(3, 1)
    reset_h, update_h, new_h = own.chunk(3, 1)
    reset, update = (reset_x + reset_h).sigmoid(), (update_x + update_h).sigmoid()
    new = (new_x + reset * new_h).tanh()
    return (new + update * (h - new),)


class _Cell(Module):
    """One step; `gates` vectors of the hidden size are computed from input and state."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1
    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        check_sizes(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        if hidden_size < 1:
            raise ArgumentError(f"{type(self).__name__}: hidden_size must be positive")
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = self.gates * hidden_size
        self.weight_ih = blank(rows, input_size, dtype=dtype, device=device)
        self.weight_hh = blank(rows, hidden_size, dtype=dtype)
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, blank(rows, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all of them uniform within 1 / sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _step(self) -> Step:
        raise NotImplementedError

    def _advance(self, input: Tensor, state: State | None) -> State:
        """The next state; all (batch, size), or without the batch."""
        name = type(self).__name__
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{name}: input must be (batch, {self.input_size}) or ({self.input_size},), "
                f"got {input.shape}"
            )
        lead = input.shape[:-1]
        if state is None:
            state = (input.new_zeros((*lead, self.hidden_size)),) * self.states
        for s in state:
            if s.shape != (*lead, self.hidden_size):
                raise ShapeError(
                    f"{name}: the state must be {(*lead, self.hidden_size)} for input "
                    f"{input.shape}, got {s.shape}"
                )
        weights = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        step = self._step()
        if not lead:
            input, state = input.unsqueeze(0), tuple(s.unsqueeze(0) for s in state)
        given, own = from_input(input, weights), from_hidden(state[0], weights)
        after = step(given, own, state, weights)
        return after if lead else tuple(s.squeeze(0) for s in after)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """(batch, input_size) and the state before to the state after."""
        return self._advance(input, None if hx is None else (hx,))[0]

    def extra_repr(self) -> str:
        """PyTorch's."""
        bias = "" if self.bias else ", bias=False"
        return f"{self.input_size}, {self.hidden_size}{bias}"


class RNNCell(_Cell):
    """h' = tanh(W x + b + U h + c), or relu (Elman 1990).

    >>> import lazygrad as lg
    >>> lg.nn.RNNCell(3, 4)(lg.ones(2, 3)).shape
    (2, 4)
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        if nonlinearity not in NONLINEARITIES:
            raise ArgumentError(f"nonlinearity is 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def _step(self) -> Step:
        return plain_step(self.nonlinearity)

    def extra_repr(self) -> str:
        """PyTorch's."""
        usual = self.nonlinearity == "tanh"
        return super().extra_repr() + ("" if usual else f", nonlinearity={self.nonlinearity}")


class LSTMCell(_Cell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997); the state is (h, c).

    >>> import lazygrad as lg
    >>> h, c = lg.nn.LSTMCell(3, 4)(lg.ones(2, 3))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    gates, states = 4, 2

    def _step(self) -> Step:
        return lstm_step

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """(batch, input_size) and (h, c) to the next (h, c)."""
        return self._advance(input, hx)


class GRUCell(_Cell):
    """The gated recurrent unit (Cho et al. 2014)."""

    gates = 3

    def _step(self) -> Step:
        return gru_step
