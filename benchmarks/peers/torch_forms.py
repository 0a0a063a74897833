"""PyTorch's step: eager with the fused optimizer, and the loss through `torch.compile`."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.models import MLP, Array, Images, Writer
from benchmarks.peers.forms import THREADS, Step
from benchmarks.peers.torch_models import network
from benchmarks.workloads import Workload

CHANNELS_LAST = True


def build(form: str, w: Workload) -> Step:
    """The step of a form: "eager" or "compile"."""
    torch.set_num_threads(THREADS)
    model = network(w.model)
    compiled = form == "compile"
    return writing(model, compiled) if isinstance(w.model, Writer) else training(w, model, compiled)


def training(w: Workload, model: torch.nn.Module, compiled: bool) -> Step:
    """A batch to the loss, after which the parameters are other ones."""
    images = isinstance(w.model, Images) and CHANNELS_LAST
    if images:
        model.to(memory_format=torch.channels_last)
    parameters = list(model.parameters())
    optimizer = getattr(torch.optim, w.optimizer)(parameters, **w.settings(), fused=True)
    hinge, penalty = (w.model.hinge, w.model.penalty) if isinstance(w.model, MLP) else (False, 0.0)

    def loss_of(x: Any, y: Any) -> Any:
        scores = model(x)
        if not hinge:
            return F.cross_entropy(scores.view(-1, scores.shape[-1]), y.view(-1))
        squares = sum((p * p).sum() for p in parameters)
        return (1 - y * scores).relu().mean() + penalty * squares

    forward = torch.compile(loss_of) if compiled else loss_of

    def step(x: Array, y: Array) -> float:
        batch = torch.from_numpy(x)
        if images:
            batch = batch.to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        loss = forward(batch, torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def writing(model: torch.nn.Module, compiled: bool) -> Step:
    """A token and its position to minus the log-probability of the likeliest next token."""

    def advance(token: Any, position: Any) -> Any:
        best, chosen = F.log_softmax(model(token, position)[0, -1], 0).max(0)
        return chosen.reshape(1, 1), -best

    move = torch.compile(advance) if compiled else advance
    token = torch.zeros(1, 1, dtype=torch.int64)

    @torch.inference_mode()
    def step(x: Array, y: Array) -> float:
        nonlocal token
        given = token if y else torch.from_numpy(x)
        token, surprise = move(given, torch.from_numpy(y) if compiled else int(y))
        return float(surprise.item())

    return step
