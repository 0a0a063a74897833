"""lazygrad's step in its two decorated forms, and undecorated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import lazygrad as lg
from benchmarks.models import MLP, Array, Writer
from benchmarks.peers.lazygrad_models import network
from benchmarks.workloads import Workload
from lazygrad import nn, optim
from lazygrad.nn import functional as F


class Reading:
    """A step whose result is read as a Python float; `captured` is the decorated function."""

    __slots__ = ("_step", "captured")

    def __init__(self, step: Callable[[Any, Any], Any], captured: Any) -> None:
        self._step, self.captured = step, captured

    def __call__(self, x: Array, y: Array) -> float:
        """Take a batch."""
        return float(self._step(x, y).item())


def build(form: str, w: Workload) -> Reading:
    """The step of a form: "whole step", "forward" or "undecorated"."""
    model = network(w.model)
    return writing(form, model) if isinstance(w.model, Writer) else training(form, w, model)


def loss_of(sizes: Any, model: nn.Module, x: Any, y: Any) -> Any:
    """The loss of a batch."""
    scores = model(x)
    if not (isinstance(sizes, MLP) and sizes.hinge):
        return F.cross_entropy(scores.flatten(0, -2), y.flatten())
    squares = sum((p * p).sum() for p in model.parameters())
    return (1 - y * scores).relu().mean() + sizes.penalty * squares


def training(form: str, w: Workload, model: nn.Module) -> Reading:
    """A batch to the loss, after which the parameters are other ones."""
    optimizer = getattr(optim, w.optimizer)(model.parameters(), **w.settings())

    def forward(x: Any, y: Any) -> Any:
        return loss_of(w.model, model, lg.as_tensor(x), lg.as_tensor(y))

    if form == "forward":
        forward = lg.compute_graph(forward)

    def step(x: Any, y: Any) -> Any:
        loss = forward(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    if form == "whole step":
        step = lg.compute_graph(step)
    return Reading(step, {"forward": forward, "whole step": step}.get(form))


def writing(form: str, model: nn.Module) -> Reading:
    """A token and its position to minus the log-probability of the likeliest next token.

    With the forward alone decorated the scores are read, and the choice is made with NumPy.
    """
    model.eval()

    def scores_of(token: Any, position: Any) -> Any:
        return model(token, lg.as_tensor(position))[0, -1]

    def advance(token: Any, position: Any) -> Any:
        best, chosen = scores_of(token, position).log_softmax(0).max(0)
        return chosen.reshape(1, 1), -best

    captured = {"forward": lg.compute_graph(scores_of), "whole step": lg.compute_graph(advance)}

    def host(token: Any, position: Any) -> Any:
        scores = captured["forward"](token, position).numpy()
        chosen = scores.argmax()
        return chosen.reshape(1, 1), np.log(np.exp(scores - scores[chosen]).sum())

    run = {"forward": host, "whole step": captured["whole step"]}.get(form, advance)
    begin = np.asarray if form == "forward" else lg.tensor
    token: Any = None

    def step(x: Any, y: Any) -> Any:
        nonlocal token
        with lg.no_grad():
            token, surprise = run(token if y else begin(x), y)
        return surprise

    return Reading(step, captured.get(form))
