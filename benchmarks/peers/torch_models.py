"""The models in PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import models


def mlp(sizes: models.MLP) -> nn.Module:
    """Linear layers and ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes.widths, sizes.widths[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class ConvNet(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, sizes: models.ConvNet) -> None:
        super().__init__()
        first, second = sizes.features
        self.conv1 = nn.Conv2d(sizes.channels, first, 3, padding=1)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.fc = nn.Linear(second * (sizes.size // 4) ** 2, sizes.classes)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.flatten(1))


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = None
        if inside != outside:
            around = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(around, nn.BatchNorm2d(outside))

    def forward(self, x: Any) -> Any:
        around = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)) + around, inplace=True)


class ResNet(nn.Module):
    """Torchvision's, with a 3x3 stem."""

    def __init__(self, sizes: models.ResNet) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(sizes.channels, sizes.width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(sizes.width)
        self.groups: list[str] = []
        outside = sizes.width
        for place, inside, outside, stride in sizes.places():
            group, number = place.split(".")
            if number == "0":
                self.add_module(group, nn.Sequential())
                self.groups.append(group)
            getattr(self, group).append(Block(inside, outside, stride))
        self.fc = nn.Linear(outside, sizes.classes)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        for group in self.groups:
            x = getattr(self, group)(x)
        return self.fc(x.mean((2, 3)))


class LSTM(nn.Module):
    """PyTorch's layers, and a linear one on the last output."""

    def __init__(self, sizes: models.LSTM) -> None:
        super().__init__()
        self.lstm = nn.LSTM(sizes.inputs, sizes.hidden, sizes.layers)
        self.head = nn.Linear(sizes.hidden, sizes.classes)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][-1])


class Conv1D(nn.Module):
    """A linear layer whose weight is (in, out)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inside, outside))
        self.bias = nn.Parameter(torch.zeros(outside))

    def forward(self, x: Any) -> Any:
        flat = torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight)
        return flat.view(*x.shape[:-1], -1)


class Attention(nn.Module):
    """Causal attention; with a position it continues from the keys and values kept."""

    def __init__(self, sizes: models.GPT) -> None:
        super().__init__()
        width, self.heads = sizes.width, sizes.heads
        self.c_attn, self.c_proj = Conv1D(width, 3 * width), Conv1D(width, width)
        kept = torch.zeros(1, sizes.heads, sizes.time, width // sizes.heads)
        self.register_buffer("keys", kept, persistent=False)
        self.register_buffer("values", kept.clone(), persistent=False)

    def forward(self, x: Any, position: Any) -> Any:
        shape = (*x.shape[:2], self.heads, -1)
        q, k, v = (t.reshape(shape).transpose(1, 2) for t in self.c_attn(x).chunk(3, -1))
        if position is None:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        elif isinstance(position, int):
            self.keys[:, :, position : position + 1] = k
            self.values[:, :, position : position + 1] = v
            keys, values = self.keys[:, :, : position + 1], self.values[:, :, : position + 1]
            out = F.scaled_dot_product_attention(q, keys, values)
        else:  # shapes that stay, for `torch.compile`
            here = position.reshape(1)
            self.keys.index_copy_(2, here, k)
            self.values.index_copy_(2, here, v)
            seen = torch.arange(self.keys.shape[2]) <= position
            out = F.scaled_dot_product_attention(q, self.keys, self.values, seen.reshape(1, -1))
        return self.c_proj(out.transpose(1, 2).reshape(x.shape))


class Layer(nn.Module):
    """Attention and a feed-forward network."""

    def __init__(self, sizes: models.GPT) -> None:
        super().__init__()
        width = sizes.width
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(sizes)
        self.mlp = nn.ModuleDict(
            {"c_fc": Conv1D(width, 4 * width), "c_proj": Conv1D(4 * width, width)}
        )

    def forward(self, x: Any, position: Any) -> Any:
        x = x + self.attn(self.ln_1(x), position)
        hidden = F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        return x + self.mlp["c_proj"](hidden)


class GPT(nn.Module):
    """Tokens (batch, time) to scores (batch, time, vocabulary)."""

    def __init__(self, sizes: models.GPT) -> None:
        super().__init__()
        parts = {
            "wte": nn.Embedding(sizes.vocabulary, sizes.width),
            "wpe": nn.Embedding(sizes.time, sizes.width),
            "h": nn.ModuleList(Layer(sizes) for _ in range(sizes.layers)),
            "ln_f": nn.LayerNorm(sizes.width),
        }
        self.transformer = nn.ModuleDict(parts)

    def forward(self, tokens: Any, position: Any = None) -> Any:
        parts, places = self.transformer, self.transformer["wpe"].weight
        if position is None:
            here = places[: tokens.shape[1]]
        elif isinstance(position, int):
            here = places[position]
        else:
            here = parts["wpe"](position.reshape(1))
        x = parts["wte"](tokens) + here
        for layer in parts["h"]:
            x = layer(x, position)
        return F.linear(parts["ln_f"](x), parts["wte"].weight)


NETWORKS: dict[type[models.Model], Any] = {
    models.MLP: mlp, models.ConvNet: ConvNet, models.ResNet: ResNet, models.LSTM: LSTM,
    models.GPT: GPT, models.Writer: GPT,
}  # fmt: skip


def network(sizes: models.Model) -> nn.Module:
    """The model with its first weights."""
    found: nn.Module = NETWORKS[type(sizes)](sizes)
    given = {name: torch.from_numpy(a) for name, a in sizes.weights().items()}
    left_out = found.load_state_dict(given, strict=False)
    buffers = {name for name, _ in found.named_buffers()}
    assert buffers.issuperset(left_out.missing_keys) and not left_out.unexpected_keys, left_out
    return found
