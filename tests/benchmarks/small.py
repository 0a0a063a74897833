"""The rows of the table at tiny sizes, and the losses that they have there."""

from dataclasses import replace

from benchmarks.models import GPT, LSTM, MLP, ConvNet, Model, ResNet, Writer
from benchmarks.workloads import Workload, find

MARGIN = Workload("tiny margin", MLP((2, 5, 1), hinge=True), 6, ratio=4)
CLASSES = Workload("tiny classes", MLP((6, 7, 5, 3)), 4, lr=0.1)


def _small(name: str, model: Model) -> Workload:
    batch = min(find(name).batch, 4)
    return replace(find(name), name=f"tiny {name}", model=model, batch=batch, lr=0.05)


CONVNET = _small("convnet", ConvNet(size=8))
RESNET = _small("resnet-18", ResNet(size=8, width=4, blocks=(1, 1)))
LAYERED = _small("lstm", LSTM(inputs=3, hidden=4, time=5))
SMALL_GPT = _small("gpt", GPT(layers=1, heads=2, width=8, time=5, vocabulary=7))
WRITER = _small("gpt writes", Writer(layers=2, heads=2, width=8, time=4, vocabulary=7))

# What PyTorch 2.13 (eager and compiled) computes with `benchmarks.peers.torch_forms`; JAX 0.10.2
# agrees to five digits.
LOSSES = {
    CONVNET: (8.50859, 18.29817, 15.41550, 3.97952),
    RESNET: (2.50530, 2.38559, 2.96525, 2.25839),
    LAYERED: (2.32800, 2.31354, 2.27662, 2.17564),
    SMALL_GPT: (2.67484, 2.18967, 2.20946, 2.07558),
    WRITER: (1.20973, 0.35718, 0.60160, 0.74973),
}
