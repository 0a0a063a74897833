"""Recurrent networks: layers of cells, in one or both directions, over padded or packed input.

The steps are unrolled into the graph, so they fuse and differentiate as anything else does; a
packed sequence only makes later steps smaller. The product with the input is one for all steps, and
so are the gradients of all weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from lazygrad.dtypes import DTypeLike
from lazygrad.engine.functions import cat, stack
from lazygrad.engine.shared import share_products
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn import functional as F
from lazygrad.nn import init
from lazygrad.nn.cells import (
    NONLINEARITIES,
    State,
    Step,
    Weights,
    from_hidden,
    from_input,
    gru_step,
    lstm_step,
    plain_step,
)
from lazygrad.nn.linear import blank, check_sizes
from lazygrad.nn.module import Module
from lazygrad.nn.utils.rnn import PackedSequence


def walk(
    step: Step, weights: Weights, joined: Tensor, inputs: Sequence[Tensor], state: State
) -> tuple[list[Tensor], State]:
    """Run a cell over steps whose number of rows may fall (forwards) or grow (backwards).

    `inputs` are the parts of `joined` that each step adds to its gates. Rows of `state` enter when
    their first step comes and leave with their last one.
    """
    begin, full, rows = state, state, inputs[0].shape[0]
    state = tuple(_top(s, rows) for s in state)
    outputs: list[Tensor] = []
    finished: list[State] = []
    before: list[Tensor] = []
    products: list[Tensor] = []
    for x in inputs:
        now = x.shape[0]
        if now < rows:
            finished.append(tuple(s[now:] for s in state))
            state = tuple(s[:now] for s in state)
        elif now > rows:
            state = tuple(cat([s, f[rows:now]]) for s, f in zip(state, full, strict=True))
        rows = now
        before.append(state[0])
        products.append(from_hidden(state[0], weights))
        state = step(x, products[-1], state, weights)
        outputs.append(state[0])
    if finished:
        parts = [state, *reversed(finished)]
        state = tuple(cat(list(pieces)) for pieces in zip(*parts, strict=True))
    weight, projection = weights[1], [w for w in weights[4:] if w is not None]
    assert weight is not None
    reads = [joined, *begin, *projection]
    tied = share_products(weight, weights[3], before, products, reads, [*outputs, *state])
    return tied[: len(outputs)], tuple(tied[len(outputs) :])


def _top(x: Tensor, rows: int) -> Tensor:
    return x if x.shape[0] == rows else x[:rows]


class _Recurrent(Module):
    """Layers of cells."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1
    proj_size = 0

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        name = type(self).__name__
        check_sizes(name, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if hidden_size < 1 or num_layers < 1:
            raise ArgumentError(f"{name}: hidden_size and num_layers must be positive")
        if not 0 <= dropout <= 1:
            raise ArgumentError(f"{name}: dropout must be a probability, got {dropout}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional = bidirectional
        width = self.proj_size or hidden_size
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            inside = input_size if layer == 0 else width * len(self._suffixes(0))
            for suffix in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, inside), "weight_hh": (rows, width)
                }  # fmt: skip
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
                shapes |= {"weight_hr": (self.proj_size, hidden_size)} if self.proj_size else {}
                for kind, shape in shapes.items():
                    parameter = blank(*shape, dtype=dtype, device=device)
                    self.register_parameter(kind + suffix, parameter)
        self.reset_parameters()

    def _suffixes(self, layer: int) -> tuple[str, ...]:
        """What the names of a layer's parameters end in, for each direction."""
        forwards = f"_l{layer}"
        return (forwards, forwards + "_reverse") if self.bidirectional else (forwards,)

    def reset_parameters(self) -> None:
        """Draw all of them uniform within 1 / sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: where parameters lie is for the memory planner to decide."""

    def _step(self) -> Step:
        raise NotImplementedError

    def _weights(self, suffix: str) -> Weights:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return tuple(self._parameters.get(kind + suffix) for kind in kinds)

    def _widths(self) -> tuple[int, ...]:
        """The width of each part of the state."""
        return (self.proj_size or self.hidden_size, self.hidden_size)[: self.states]

    def _start(self, hx: State | None, like: Tensor, batch: int, has_batch: bool) -> State:
        """The state before the first step, (layers * directions, batch, width) each."""
        count = self.num_layers * len(self._suffixes(0))
        if hx is None:
            return tuple(like.new_zeros((count, batch, width)) for width in self._widths())
        found = tuple(h if has_batch else h.unsqueeze(1) for h in hx)
        for h, width in zip(found, self._widths(), strict=True):
            if h.shape != (count, batch, width):
                raise ShapeError(
                    f"{type(self).__name__}: the state must be {(count, batch, width)} "
                    f"(layers * directions, batch, width), got {h.shape}"
                )
        return found

    def _layers(self, x: Tensor, sizes: Sequence[int], start: State) -> tuple[Tensor, State]:
        """All layers over the rows of all steps; the outputs of the last one, all final states.

        `sizes` are the numbers of rows of the steps, which stand one after the other.
        """
        step = self._step()
        ends: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = F.dropout(x, self.dropout)
            found = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                state = tuple(h[len(ends)] for h in start)
                weights, way = self._weights(suffix), -1 if direction else 1
                joined = from_input(x, weights)
                outputs, end = walk(step, weights, joined, joined.split(list(sizes))[::way], state)
                found.append(cat(outputs[::way]))
                ends.append(end)
            x = cat(found, 1) if len(found) == 2 else found[0]
        return x, tuple(stack(list(parts)) for parts in zip(*ends, strict=True))

    def _run(self, input: Tensor | PackedSequence, hx: State | None) -> tuple[Any, State]:
        name = type(self).__name__
        data = input.data if isinstance(input, PackedSequence) else input
        packed = isinstance(input, PackedSequence)
        if data.ndim not in ((2,) if packed else (2, 3)) or data.shape[-1] != self.input_size:
            raise ShapeError(
                f"{name}: input must be (time, batch, {self.input_size}), batch first with "
                f"batch_first=True, or (time, {self.input_size}), got {data.shape}"
            )
        if isinstance(input, PackedSequence):
            start = self._start(hx, data, input.batch_sizes[0], True)
            first = _ordered(start, input.sorted_indices)
            rows, end = self._layers(data, input.batch_sizes, first)
            return input._replace(data=rows), _ordered(end, input.unsorted_indices)
        has_batch = input.ndim == 3
        x = input if has_batch else input.unsqueeze(1)
        x = x.transpose(0, 1) if self.batch_first and has_batch else x
        if not x.shape[0]:
            raise ShapeError(f"{name}: input {input.shape} has no steps")
        time, batch = x.shape[:2]
        rows, end = self._layers(
            x.flatten(0, 1), [batch] * time, self._start(hx, x, batch, has_batch)
        )  # fmt: skip
        if not has_batch:
            return rows, tuple(h.squeeze(1) for h in end)
        output = rows.reshape((time, batch, rows.shape[1]))
        return (output.transpose(0, 1) if self.batch_first else output), end

    def forward(self, input: Any, hx: Any = None) -> Any:
        """(time, batch, input_size) to the outputs of the last layer and the final state."""
        output, end = self._run(input, None if hx is None else (hx,))
        return output, end[0]

    def extra_repr(self) -> str:
        """PyTorch's."""
        usual = {
            "proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0,
            "bidirectional": False,
        }  # fmt: skip
        parts = [f"{n}={getattr(self, n)}" for n, v in usual.items() if getattr(self, n) != v]
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *parts])


def _ordered(state: State, order: tuple[int, ...] | None) -> State:
    """The rows of a batch in another order."""
    return state if order is None else tuple(h.index_select(1, list(order)) for h in state)


class RNN(_Recurrent):
    """Layers of h' = tanh(W x + b + U h + c), or relu (Elman 1990).

    Called with (time, batch, input_size), (batch, time, input_size) under `batch_first`, or a
    `PackedSequence`; returns the outputs of the last layer and the final state of all of them.

    >>> import lazygrad as lg
    >>> output, h = lg.nn.RNN(3, 4, num_layers=2)(lg.ones(5, 2, 3))
    >>> output.shape, h.shape
    ((5, 2, 4), (2, 2, 4))
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        if nonlinearity not in NONLINEARITIES:
            raise ArgumentError(f"nonlinearity is 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device,
            dtype,
        )  # fmt: skip

    def _step(self) -> Step:
        return plain_step(self.nonlinearity)


class LSTM(_Recurrent):
    """Layers of long short-term memory (Hochreiter and Schmidhuber 1997); the state is (h, c).

    `proj_size` multiplies h by a matrix that makes it smaller (Sak et al. 2014).

    >>> import lazygrad as lg
    >>> output, (h, c) = lg.nn.LSTM(3, 4, bidirectional=True)(lg.ones(5, 2, 3))
    >>> output.shape, h.shape, c.shape
    ((5, 2, 8), (2, 2, 4), (2, 2, 4))
    """

    gates, states = 4, 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        if not 0 <= proj_size < hidden_size:
            raise ArgumentError(
                f"LSTM: proj_size {proj_size} must be smaller than hidden_size {hidden_size}"
            )
        self.proj_size = proj_size
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device,
            dtype,
        )  # fmt: skip

    def _step(self) -> Step:
        return lstm_step

    def forward(self, input: Any, hx: Any = None) -> Any:
        """(time, batch, input_size) to the outputs of the last layer and the final (h, c)."""
        return self._run(input, hx)


class GRU(_Recurrent):
    """Layers of gated recurrent units (Cho et al. 2014)."""

    gates = 3

    def _step(self) -> Step:
        return gru_step
