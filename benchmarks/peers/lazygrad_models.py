"""The models in lazygrad: those of `examples/` where one is there."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from benchmarks import models
from examples.convnet import ConvNet
from examples.gpt import GPT
from examples.resnet import ResNet
from lazygrad import Tensor, nn


def mlp(sizes: models.MLP) -> nn.Module:
    """Linear layers and ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes.widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convnet(sizes: models.ConvNet) -> nn.Module:
    """The example's."""
    return ConvNet(sizes.channels, sizes.size)


def resnet(sizes: models.ResNet) -> nn.Module:
    """The example's, with a 3x3 stem."""
    return ResNet(sizes.blocks, sizes.classes, sizes.channels, sizes.width, stem=3)


def gpt(sizes: models.GPT) -> nn.Module:
    """The example's, without dropout."""
    return GPT(sizes.vocabulary, sizes.time, sizes.layers, sizes.heads, sizes.width, 0.0)


class LSTM(nn.Module):
    """The layers, and a linear one on the last output."""

    def __init__(self, sizes: models.LSTM) -> None:
        self.lstm = nn.LSTM(sizes.inputs, sizes.hidden, sizes.layers)
        self.head = nn.Linear(sizes.hidden, sizes.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][-1])


NETWORKS: dict[type[models.Model], Any] = {
    models.MLP: mlp, models.ConvNet: convnet, models.ResNet: resnet, models.LSTM: LSTM,
    models.GPT: gpt, models.Writer: gpt,
}  # fmt: skip


def network(sizes: models.Model) -> nn.Module:
    """The model with its first weights."""
    found: nn.Module = NETWORKS[type(sizes)](sizes)
    left_out = found.load_state_dict(sizes.weights(), strict=False)
    buffers = {name for name, _ in found.named_buffers()}
    assert buffers.issuperset(left_out.missing_keys) and not left_out.unexpected_keys, left_out
    return found
