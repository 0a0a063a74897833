"""PyTorch's training step: eager with the fused optimizer, and the loss through `torch.compile`."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.peers.forms import THREADS, Step
from benchmarks.workloads import Array, Workload, weights


def network(w: Workload) -> torch.nn.Module:
    """The network with the workload's first weights."""
    layers: list[torch.nn.Module] = []
    for weight, bias in weights(w):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def build(form: str, w: Workload) -> Step:
    """The step of a form: "eager" or "compile"."""
    torch.set_num_threads(THREADS)
    model = network(w)
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=w.lr, fused=True)

    def loss_of(x: Any, y: Any) -> Any:
        scores = model(x)
        if not w.hinge:
            return F.cross_entropy(scores, y)
        penalty = sum((p * p).sum() for p in parameters)
        return (1 - y * scores).relu().mean() + w.penalty * penalty

    forward = torch.compile(loss_of) if form == "compile" else loss_of

    def step(x: Array, y: Array) -> float:
        optimizer.zero_grad()
        loss = forward(torch.from_numpy(x), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step
