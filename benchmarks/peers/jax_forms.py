"""JAX's training step: one jitted function that gives its parameters away (donation)."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.peers.forms import Step
from benchmarks.workloads import Array, Workload, weights

# A step is short, and its loss is read at once: handing it to another thread only costs.
jax.config.update("jax_cpu_enable_async_dispatch", False)


def build(form: str, w: Workload) -> Step:
    """The step; `form` is "jit"."""
    params: Any = [tuple(map(jnp.asarray, pair)) for pair in weights(w)]

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        for weight, bias in params[:-1]:
            x = jax.nn.relu(x @ weight.T + bias)
        weight, bias = params[-1]
        scores = x @ weight.T + bias
        if not w.hinge:
            rows = jax.nn.one_hot(y, w.sizes[-1])
            return -(rows * jax.nn.log_softmax(scores)).sum(axis=1).mean()
        penalty = sum((p * p).sum() for pair in params for p in pair)
        return jax.nn.relu(1 - y * scores).mean() + w.penalty * penalty

    @partial(jax.jit, donate_argnums=0)
    def update(params: Any, x: Any, y: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        return jax.tree.map(lambda p, g: p - w.lr * g, params, grads), loss

    def step(x: Array, y: Array) -> float:
        nonlocal params
        params, loss = update(params, x, y)
        return float(loss)

    return step
