"""lazygrad's training step in its two decorated forms."""

from __future__ import annotations

from typing import Any

import lazygrad as lg
from benchmarks.peers.forms import Step
from benchmarks.workloads import Array, Workload, weights
from lazygrad import nn, optim
from lazygrad.nn import functional as F


def network(w: Workload) -> nn.Sequential:
    """The network with the workload's first weights."""
    layers: list[nn.Module] = []
    for weight, bias in weights(w):
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight.data = weight
        assert linear.bias is not None
        linear.bias.data = bias
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def loss_of(w: Workload, model: nn.Module, x: Any, y: Any) -> Any:
    """The loss of a batch."""
    scores = model(x)
    if not w.hinge:
        return F.cross_entropy(scores, y)
    penalty = sum((p * p).sum() for p in model.parameters())
    return (1 - y * scores).relu().mean() + w.penalty * penalty


def build(form: str, w: Workload) -> Step:
    """The step of a form: "whole step", "forward" or "undecorated"."""
    model = network(w)
    optimizer = optim.SGD(model.parameters(), lr=w.lr)

    def forward(x: Any, y: Any) -> Any:
        return loss_of(w, model, x, y)

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

    def read(x: Array, y: Array) -> float:
        return float(step(x, y).item())

    read.captured = {"forward": forward, "whole step": step}.get(form)  # type: ignore[attr-defined]
    return read
