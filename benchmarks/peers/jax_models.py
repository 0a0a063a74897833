"""The models in JAX, written by hand: functions of a dictionary of parameters.

Images are (batch, height, width, channels) and kernels (height, width, in, out), the layout in
which XLA's convolutions are fastest on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks import models

Scores = Callable[[Any, Any, Any], Any]  # parameters, state, x -> scores, new state


def mlp(sizes: models.MLP) -> Scores:
    """Linear layers and ReLU."""
    last = len(sizes.widths) - 2

    def scores(p: Any, state: Any, x: Any) -> Any:
        for i in range(last + 1):
            x = x @ p[f"{2 * i}.weight"].T + p[f"{2 * i}.bias"]
            x = jax.nn.relu(x) if i < last else x
        return x, state

    return scores


def _convolve(x: Any, kernel: Any, stride: int = 1) -> Any:
    edge = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((edge, edge), (edge, edge)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def _pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def convnet(sizes: models.ConvNet) -> Scores:
    """Two convolutions and a linear layer."""

    def scores(p: Any, state: Any, x: Any) -> Any:
        x = x.transpose(0, 2, 3, 1)
        for i in (1, 2):
            x = _pool(jax.nn.relu(_convolve(x, p[f"conv{i}.weight"]) + p[f"conv{i}.bias"]))
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        return x @ p["fc.weight"].T + p["fc.bias"], state

    return scores


def resnet(sizes: models.ResNet) -> Scores:
    """Torchvision's, with a 3x3 stem; the state is the running mean and variance of each norm."""

    def scores(p: Any, state: Any, x: Any) -> Any:
        kept = {}

        def block(x: Any, convolution: str, norm: str, stride: int = 1) -> Any:
            x = _convolve(x, p[f"{convolution}.weight"], stride)
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            count = x.size // x.shape[-1]
            new = {"mean": mean, "variance": variance * (count / (count - 1))}
            kept[norm] = {k: 0.9 * v + 0.1 * new[k] for k, v in state[norm].items()}
            scale = lax.rsqrt(variance + 1e-5) * p[f"{norm}.weight"]
            return (x - mean) * scale + p[f"{norm}.bias"]

        x = jax.nn.relu(block(x.transpose(0, 2, 3, 1), "conv1", "bn1"))
        for place, inside, outside, stride in sizes.places():
            around = x
            if inside != outside:
                around = block(x, f"{place}.downsample.0", f"{place}.downsample.1", stride)
            x = jax.nn.relu(block(x, f"{place}.conv1", f"{place}.bn1", stride))
            x = jax.nn.relu(block(x, f"{place}.conv2", f"{place}.bn2") + around)
        return x.mean((1, 2)) @ p["fc.weight"].T + p["fc.bias"], kept

    return scores


def lstm(sizes: models.LSTM) -> Scores:
    """`lax.scan` over the steps of each layer, behind one product of all its inputs."""

    def layer(p: Any, number: int, x: Any) -> Any:
        def part(kind: str) -> Any:
            return p[f"lstm.{kind}_l{number}"]

        ready = x @ part("weight_ih").T + (part("bias_ih") + part("bias_hh"))
        recurrent = part("weight_hh").T

        def step(state: Any, x: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(x + h @ recurrent, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((x.shape[1], sizes.hidden), x.dtype)
        return lax.scan(step, (zeros, zeros), ready)[1]

    def scores(p: Any, state: Any, x: Any) -> Any:
        for number in range(sizes.layers):
            x = layer(p, number, x)
        return x[-1] @ p["head.weight"].T + p["head.bias"], state

    return scores


def _norm(p: Any, name: str, x: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    scaled = (x - mean) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)
    return scaled * p[f"{name}.weight"] + p[f"{name}.bias"]


def gpt(sizes: models.GPT) -> Scores:
    """GPT-2; the state is empty, or the position and the keys and values of each layer."""
    depth = sizes.width // sizes.heads

    def attention(p: Any, name: str, x: Any, state: Any, kept: Any) -> Any:
        linear = x @ p[f"{name}.c_attn.weight"] + p[f"{name}.c_attn.bias"]
        shape = (*x.shape[:2], sizes.heads, depth)
        q, k, v = (t.reshape(shape).transpose(0, 2, 1, 3) for t in jnp.split(linear, 3, -1))
        if state:
            start = (0, 0, state["position"], 0)
            old = zip(state[name], (k, v), strict=True)
            k, v = kept[name] = tuple(lax.dynamic_update_slice(a, new, start) for a, new in old)
            seen = jnp.arange(sizes.time) <= state["position"]
        else:
            seen = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        weights = q @ k.swapaxes(2, 3) * depth**-0.5
        weights = jax.nn.softmax(jnp.where(seen, weights, -jnp.inf))
        out = (weights @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        return out @ p[f"{name}.c_proj.weight"] + p[f"{name}.c_proj.bias"]

    def scores(p: Any, state: Any, tokens: Any) -> Any:
        kept: dict[str, Any] = {}
        embedding, places = p["transformer.wte.weight"], p["transformer.wpe.weight"]
        here = places[state["position"]] if state else places[: tokens.shape[1]]
        x = embedding[tokens] + here
        for number in range(sizes.layers):
            layer = f"transformer.h.{number}"
            x = x + attention(p, f"{layer}.attn", _norm(p, f"{layer}.ln_1", x), state, kept)
            hidden = _norm(p, f"{layer}.ln_2", x) @ p[f"{layer}.mlp.c_fc.weight"]
            hidden = jax.nn.gelu(hidden + p[f"{layer}.mlp.c_fc.bias"])
            x = x + hidden @ p[f"{layer}.mlp.c_proj.weight"] + p[f"{layer}.mlp.c_proj.bias"]
        return _norm(p, "transformer.ln_f", x) @ embedding.T, kept

    return scores


NETWORKS: dict[type[models.Model], Callable[[Any], Scores]] = {
    models.MLP: mlp, models.ConvNet: convnet, models.ResNet: resnet, models.LSTM: lstm,
    models.GPT: gpt, models.Writer: gpt,
}  # fmt: skip


def first_weights(sizes: models.Model) -> dict[str, Any]:
    """The parameters, kernels in the layout of this module."""
    given = sizes.weights().items()
    return {k: jnp.asarray(a.transpose(2, 3, 1, 0) if a.ndim == 4 else a) for k, a in given}


def first_state(sizes: models.Model) -> dict[str, Any]:
    """Statistics of norms, keys and values of earlier tokens, or nothing."""
    if isinstance(sizes, models.ResNet):
        return {
            norm: {"mean": jnp.zeros(shape[0]), "variance": jnp.ones(shape[0])}
            for _, norm, shape in sizes.convolutions()
        }
    if isinstance(sizes, models.Writer):
        shape = (1, sizes.heads, sizes.time, sizes.width // sizes.heads)
        places = (f"transformer.h.{layer}.attn" for layer in range(sizes.layers))
        return {place: (jnp.zeros(shape), jnp.zeros(shape)) for place in places}
    return {}
