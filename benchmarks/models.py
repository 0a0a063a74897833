"""The models that are timed: their sizes, first weights and batches. NumPy only.

Each kind is a record of sizes. Its parameters have the names that PyTorch and lazygrad give them,
so that every peer, in a process and an environment of its own, starts from the same weights and
sees the same batches; how a peer computes the model stands in the peer's own module.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Model(ABC):
    """What is computed; subclasses add its sizes."""

    gain: ClassVar[float] = 2.0  # as He et al. (2015) propose for ReLU

    @property
    def period(self) -> int:
        """How many batches there are before they come again."""
        return 16

    @abstractmethod
    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Name and shape of each parameter."""

    @abstractmethod
    def batch(self, rng: np.random.Generator, size: int, number: int) -> tuple[Array, Array]:
        """Batch `number`."""

    def weights(self) -> dict[str, Array]:
        """The first values: scales are 1, other vectors small, matrices by their fan-in."""
        rng = np.random.default_rng(7)
        found: dict[str, Array] = {}
        for name, shape in self.shapes():
            if len(shape) > 1:
                found[name] = rng.standard_normal(shape, np.float32)
                found[name] *= np.float32((self.gain / math.prod(shape[1:])) ** 0.5)
            elif name.endswith("weight"):
                found[name] = np.ones(shape, np.float32)
            else:
                found[name] = rng.uniform(-0.1, 0.1, shape).astype(np.float32)
        return found

    def batches(self, size: int, count: int | None = None) -> list[tuple[Array, Array]]:
        """The first `count` batches, by default until they come again."""
        rng = np.random.default_rng(0)
        return [self.batch(rng, size, i) for i in range(self.period if count is None else count)]


@dataclass(frozen=True)
class MLP(Model):
    """Linear layers with ReLU between them."""

    widths: Shape
    hinge: bool = False  # targets -1 and 1, and a penalty; else softmax cross entropy
    penalty: float = 1e-4  # times the sum of the squared parameters, with the hinge only

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """As in a `Sequential` in which each layer but the last has a ReLU behind it."""
        for i, (inputs, outputs) in enumerate(pairwise(self.widths)):
            yield f"{2 * i}.weight", (outputs, inputs)
            yield f"{2 * i}.bias", (outputs,)

    def batch(self, rng: np.random.Generator, size: int, number: int) -> tuple[Array, Array]:
        """Inputs (batch, features) with targets (batch, 1), or class indices (batch,)."""
        x = rng.standard_normal((size, self.widths[0]), np.float32)
        if self.hinge:
            return x, rng.choice(np.array([-1, 1], np.float32), (size, 1))
        return x, rng.integers(0, self.widths[-1], size)


class Images(Model):
    """What classifies square images."""

    channels: int
    size: int
    classes: int

    def batch(self, rng: np.random.Generator, size: int, number: int) -> tuple[Array, Array]:
        """Images (batch, channels, size, size) and class indices (batch,)."""
        x = rng.standard_normal((size, self.channels, self.size, self.size), np.float32)
        return x, rng.integers(0, self.classes, size)


@dataclass(frozen=True)
class ConvNet(Images):
    """Two 3x3 convolutions with ReLU and 2x2 max-pooling, and a linear layer."""

    size: int = 28
    channels: int = 1
    classes: int = 10
    features: ClassVar[tuple[int, int]] = (16, 32)

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Two convolutions and the linear layer."""
        inside = self.channels
        for i, outside in enumerate(self.features, start=1):
            yield f"conv{i}.weight", (outside, inside, 3, 3)
            yield f"conv{i}.bias", (outside,)
            inside = outside
        yield "fc.weight", (self.classes, inside * (self.size // 4) ** 2)
        yield "fc.bias", (self.classes,)


@dataclass(frozen=True)
class ResNet(Images):
    """Residual blocks (He et al. 2016) behind a 3x3 stem, the batch normalised."""

    size: int = 32
    width: int = 64
    blocks: Shape = (2, 2, 2, 2)
    channels: int = 3
    classes: int = 10

    def places(self) -> Iterator[tuple[str, int, int, int]]:
        """Name, channels in and out, and stride of each block."""
        inside = self.width
        for i, count in enumerate(self.blocks):
            outside = self.width * 2**i
            for j in range(count):
                yield f"layer{i + 1}.{j}", inside, outside, 2 if i and not j else 1
                inside = outside

    def convolutions(self) -> Iterator[tuple[str, str, Shape]]:
        """Name, name of the norm behind it and shape of each convolution."""
        yield "conv1", "bn1", (self.width, self.channels, 3, 3)
        for place, inside, outside, _ in self.places():
            yield f"{place}.conv1", f"{place}.bn1", (outside, inside, 3, 3)
            yield f"{place}.conv2", f"{place}.bn2", (outside, outside, 3, 3)
            if inside != outside:
                names = f"{place}.downsample.0", f"{place}.downsample.1"
                yield *names, (outside, inside, 1, 1)

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Torchvision's names."""
        for convolution, norm, shape in self.convolutions():
            yield f"{convolution}.weight", shape
            yield f"{norm}.weight", shape[:1]
            yield f"{norm}.bias", shape[:1]
        yield "fc.weight", (self.classes, self.width * 2 ** (len(self.blocks) - 1))
        yield "fc.bias", (self.classes,)


@dataclass(frozen=True)
class LSTM(Model):
    """Layers of long short-term memory; the last output of the last one tells the class."""

    gain: ClassVar[float] = 1.0
    inputs: int = 64
    hidden: int = 128
    layers: int = 2
    time: int = 64
    classes: int = 10

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Those of `lstm` and of the linear layer `head`."""
        inside, rows = self.inputs, 4 * self.hidden
        for layer in range(self.layers):
            yield f"lstm.weight_ih_l{layer}", (rows, inside)
            yield f"lstm.weight_hh_l{layer}", (rows, self.hidden)
            yield f"lstm.bias_ih_l{layer}", (rows,)
            yield f"lstm.bias_hh_l{layer}", (rows,)
            inside = self.hidden
        yield "head.weight", (self.classes, self.hidden)
        yield "head.bias", (self.classes,)

    def batch(self, rng: np.random.Generator, size: int, number: int) -> tuple[Array, Array]:
        """Sequences (time, batch, inputs) and class indices (batch,)."""
        x = rng.standard_normal((self.time, size, self.inputs), np.float32)
        return x, rng.integers(0, self.classes, size)


@dataclass(frozen=True)
class GPT(Model):
    """GPT-2 (Radford et al. 2019): its head shares the weight of the embedding."""

    gain: ClassVar[float] = 1.0
    layers: int = 4
    heads: int = 4
    width: int = 128
    time: int = 64
    vocabulary: int = 65

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Hugging Face's names; weights are (in, out)."""
        width = self.width
        yield "transformer.wte.weight", (self.vocabulary, width)
        yield "transformer.wpe.weight", (self.time, width)
        linear = {
            "attn.c_attn": (width, 3 * width), "attn.c_proj": (width, width),
            "mlp.c_fc": (width, 4 * width), "mlp.c_proj": (4 * width, width),
        }  # fmt: skip
        for layer in range(self.layers):
            for name, shape in linear.items():
                yield f"transformer.h.{layer}.{name}.weight", shape
                yield f"transformer.h.{layer}.{name}.bias", shape[1:]
        norms = [f"h.{layer}.ln_{i}" for layer in range(self.layers) for i in (1, 2)]
        for norm in (*norms, "ln_f"):
            yield f"transformer.{norm}.weight", (width,)
            yield f"transformer.{norm}.bias", (width,)

    def batch(self, rng: np.random.Generator, size: int, number: int) -> tuple[Array, Array]:
        """Tokens (batch, time), and the same a token later."""
        text = rng.integers(0, self.vocabulary, (size, self.time + 1))
        return text[:, :-1].copy(), text[:, 1:].copy()


class Writer(GPT):
    """The same network writing: a step takes in one token and chooses the likeliest next one.

    Keys and values of earlier tokens are kept. A step is given a token, which counts at position 0
    only: each later step takes the token that the one before chose. What is read each step is minus
    the logarithm of the probability of the choice.
    """

    @property
    def period(self) -> int:
        """The length of a text."""
        return self.time

    def batch(self, rng: np.random.Generator, size: int, number: int) -> tuple[Array, Array]:
        """A token (batch, 1) and its position, 0-d."""
        return rng.integers(0, self.vocabulary, (size, 1)), np.array(number)
