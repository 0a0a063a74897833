"""JAX's step: one jitted function that gives what it replaces away (donation)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.models import MLP, Array, Writer
from benchmarks.peers.forms import Step
from benchmarks.peers.jax_models import NETWORKS, first_state, first_weights
from benchmarks.workloads import Workload

# A step is short, and its loss is read at once: handing it to another thread only costs.
jax.config.update("jax_cpu_enable_async_dispatch", False)

Update = Callable[[Any, Any, Any], Any]  # parameters, gradients, moments -> new ones


def sgd(w: Workload, params: Any) -> tuple[Any, Update]:
    """The first moments and the update of stochastic gradient descent."""

    def update(params: Any, grads: Any, velocity: Any) -> Any:
        if w.momentum:
            velocity = grads = jax.tree.map(lambda v, g: w.momentum * v + g, velocity, grads)
        return jax.tree.map(lambda p, g: p - w.lr * g, params, grads), velocity

    return (jax.tree.map(jnp.zeros_like, params) if w.momentum else None), update


def adam(w: Workload, params: Any, decay: float = 0.0) -> tuple[Any, Update]:
    """Adam with PyTorch's defaults; with a decay, AdamW."""

    def update(params: Any, grads: Any, moments: Any) -> Any:
        first, second, count = moments
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grads)
        count = count + 1
        size, root = w.lr / (1 - 0.9**count), jnp.sqrt(1 - 0.999**count)

        def moved(p: Any, m: Any, v: Any) -> Any:
            return p * (1 - w.lr * decay) - size * m / (jnp.sqrt(v) / root + 1e-8)

        return jax.tree.map(moved, params, first, second), (first, second, count)

    zeros = partial(jax.tree.map, jnp.zeros_like)
    return (zeros(params), zeros(params), jnp.zeros(())), update


OPTIMIZERS: dict[str, Callable[..., tuple[Any, Update]]] = {
    "SGD": sgd,
    "Adam": adam,
    "AdamW": partial(adam, decay=0.01),
}


def build(form: str, w: Workload) -> Step:
    """The step; `form` is "jit"."""
    return writing(w) if isinstance(w.model, Writer) else training(w)


def training(w: Workload) -> Step:
    """A batch to the loss, after which the parameters are other ones."""
    scores_of = NETWORKS[type(w.model)](w.model)
    hinge, penalty = (w.model.hinge, w.model.penalty) if isinstance(w.model, MLP) else (False, 0.0)

    def loss_of(params: Any, state: Any, x: Any, y: Any) -> Any:
        scores, state = scores_of(params, state, x)
        if not hinge:
            rows = jax.nn.one_hot(y, scores.shape[-1])
            return -(rows * jax.nn.log_softmax(scores)).sum(-1).mean(), state
        squares = sum((p * p).sum() for p in params.values())
        return jax.nn.relu(1 - y * scores).mean() + penalty * squares, state

    params = first_weights(w.model)
    moments, changed = OPTIMIZERS[w.optimizer](w, params)
    kept = params, moments, first_state(w.model)

    @partial(jax.jit, donate_argnums=0)
    def update(kept: Any, x: Any, y: Any) -> Any:
        params, moments, state = kept
        find = jax.value_and_grad(loss_of, has_aux=True)
        (loss, state), grads = find(params, state, x, y)
        return (*changed(params, grads, moments), state), loss

    def step(x: Array, y: Array) -> float:
        nonlocal kept
        kept, loss = update(kept, x, y)
        return float(loss)

    return step


def writing(w: Workload) -> Step:
    """A token and its position to minus the log-probability of the likeliest next token."""
    scores_of = NETWORKS[type(w.model)](w.model)
    params, state = first_weights(w.model), first_state(w.model)
    token: Any = None

    @partial(jax.jit, donate_argnums=1)
    def advance(params: Any, state: Any, token: Any, position: Any) -> Any:
        scores, state = scores_of(params, state | {"position": position}, token)
        logs = jax.nn.log_softmax(scores[0, -1])
        return state, logs.argmax().reshape(1, 1), -logs.max()

    def step(x: Array, y: Array) -> float:
        nonlocal state, token
        state, token, surprise = advance(params, state, token if y else x, y)
        return float(surprise)

    return step
