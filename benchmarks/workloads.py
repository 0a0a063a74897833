"""What is timed: a model, its batch, how it is trained, and what is to be reached."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from benchmarks import models
from benchmarks.models import GPT, LSTM, MLP, Array, ConvNet, Model, ResNet, Writer


@dataclass(frozen=True)
class Workload:
    """One row of the table; everything is float32."""

    name: str
    model: Model
    batch: int
    optimizer: str = "SGD"  # PyTorch's names and defaults
    lr: float = 0.01
    momentum: float = 0.0
    ratio: float = 1.0  # to reach: best peer over lazygrad
    on_numpy: float = 1.6  # to reach on the NumPy executor: lazygrad over NumPy by hand

    @property
    def by_hand(self) -> bool:
        """Whether somebody wrote the step in NumPy."""
        return isinstance(self.model, MLP)

    def settings(self) -> dict[str, float]:
        """The arguments of the optimizer."""
        return {"lr": self.lr} | ({"momentum": self.momentum} if self.momentum else {})

    def batches(self, count: int | None = None) -> list[tuple[Array, Array]]:
        """The first `count` batches, by default until they come again."""
        return self.model.batches(self.batch, count)

    def to_json(self) -> str:
        """For another process."""
        return json.dumps({"kind": type(self.model).__name__, **asdict(self)})

    @staticmethod
    def from_json(text: str) -> Workload:
        """What `to_json` wrote.

        >>> Workload.from_json(WORKLOADS[0].to_json()) == WORKLOADS[0]
        True
        """
        fields = json.loads(text)
        kind = getattr(models, fields.pop("kind"))
        sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.pop("model").items()}
        return Workload(model=kind(**sizes), **fields)


_BIGGER = MLP((64, 8192, 4096, 2048, 10))

WORKLOADS = (
    Workload("moons", MLP((2, 16, 16, 1), hinge=True), 100, ratio=4, on_numpy=2.5),
    Workload("digits normal", MLP((64, 64, 32, 10)), 32, ratio=3),
    Workload("digits longer", MLP((64, *([256] * 29), 10)), 32, ratio=1.5),
    Workload("digits bigger", _BIGGER, 8, lr=0.001, ratio=2.5),
    Workload("mnist", MLP((784, 1024, 1024, 1024, 10)), 64, ratio=1.2),
    Workload("convnet", ConvNet(), 64, "AdamW", lr=1e-3, ratio=1.4),
    Workload("gpt", GPT(), 16, "AdamW", lr=1e-3, ratio=1.3),
    Workload("resnet-18", ResNet(), 32, lr=0.01, momentum=0.9, ratio=1.1),
    Workload("lstm", LSTM(), 32, "Adam", lr=1e-3, ratio=1.3),
    Workload("gpt writes", Writer(), 1, ratio=2),
)


def find(name: str) -> Workload:
    """The workload of that name."""
    return next(w for w in WORKLOADS if w.name == name)
