"""MyTorch's README, run: CuPy becomes NumPy."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.compat import mytorch
from lazygrad.data import Digits
from tests.originals.readme import ported, run

CUPY = {"import cupy as cp": "import numpy as cp"}
MYTORCH = "from lazygrad.compat import mytorch"


@pytest.mark.parametrize("auto", [True, False])
def test_relu(auto: bool) -> None:
    relu = run(ported("mytorch", "relu", {}), {"Tensor": mytorch.Tensor, "cp": np})["relu"]
    x = mytorch.Tensor(np.array([-1.0, 2.0], np.float32), requires_grad=True)
    y = relu(x, auto=auto)
    assert y.tolist() == [0.0, 2.0]
    assert repr(y.grad_fn) == ("<MulBackward>" if auto else "<ReLUBackward>")
    for turn in (1.0, 2.0):  # it adds up
        (y * 3 + x).sum().backward(retain_graph=True)
        assert x.grad.tolist() == [1.0 * turn, 4.0 * turn]
    with lg.no_grad():
        assert not relu(x, auto=auto).requires_grad


def test_autograd(capsys: pytest.CaptureFixture[str]) -> None:
    imports = {"from mytorch import Tensor": "from lazygrad.compat.mytorch import Tensor"}
    text = ported("mytorch", "autograd", imports | {"import cupy as cp ": "import numpy as cp"})
    # What the README prints below the code is not code.
    text = text.replace("\n[9.], grad_fn", "\n# [9.], grad_fn").replace("\n[6.]", "\n# [6.]")
    run(text)
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["tensor([9.], grad_fn=<PowBackward>)", "tensor([6.])"]


def test_a_tensor_of_integers_that_requires_a_gradient() -> None:
    tensor = run(ported("mytorch", "tensor", CUPY | {"import mytorch": MYTORCH}))["tensor"]
    assert tensor.requires_grad
    assert tensor.dtype is lg.float32


def test_mnist(capsys: pytest.CaptureFixture[str]) -> None:
    imports = CUPY | {
        "import mytorch ": MYTORCH,
        "import mytorch.nn as nn": "from lazygrad.compat.mytorch import nn",
        "import mytorch.optim as optim": "from lazygrad.compat.mytorch import optim",
        "from mytorch.utils.data import DataLoader": "from lazygrad.data import DataLoader",
    }

    def standin(root: str, train: bool, download: bool) -> Any:
        data = Digits(train)
        enlarged = np.repeat(np.repeat(data.data, 4, axis=1), 4, axis=2)[:, 2:-2, 2:-2] * 15
        return list(zip(enlarged, data.targets.tolist(), strict=True))[:640]

    accuracies: list[float] = []

    def watched(batches: Any) -> Any:
        """What `tqdm` does, and a look at the model after each pass."""
        yield from batches
        images, labels = next(iter(batches))
        found = names["model"](images).argmax(dim=1)
        accuracies.append((found == labels.long()).float().mean().item())

    names = {"MNIST": standin, "tqdm": watched}
    names["args"] = SimpleNamespace(batch_size=32, lr=5e-3, epochs=10)
    lg.manual_seed(0)
    run(ported("mytorch", "mnist", imports), names)
    printed = capsys.readouterr().out
    assert "(fc1): Linear(in_features=784, out_features=128, bias=True)" in printed
    assert printed.count("Training Epoch") == 10
    assert accuracies[-1] > 0.85


def test_convnet() -> None:
    lg.manual_seed(0)
    net = run(ported("mytorch", "convnet", {}), {"nn": mytorch.nn})["ConvNet"]()
    x = lg.randn(2, 3, 8, 8)
    first = net.drop1(net.bn1(net.conv1(x)))
    assert first.shape == (2, 32, 4, 4)
    assert [name for name, _ in net.named_children()] == [
        "conv1", "bn1", "drop1", "conv2", "bn2", "drop2"
    ]  # fmt: skip
    pooled = mytorch.nn.AdaptiveAvgPool2d(1, auto=True)(mytorch.nn.MaxPool2d(2)(first))
    pooled.sum().backward()
    assert net.conv1.weight.grad.shape == (32, 3, 3, 3)


def test_attention() -> None:
    lg.manual_seed(0)
    attention = run(ported("mytorch", "attention", {}), {"nn": mytorch.nn})["Attention"](8, 2)
    attention.eval()
    x = lg.randn(3, 5, 8, requires_grad=True)
    mask = lg.full((5, 5), -1e9).triu(1)
    y = attention(x, mask)
    assert y.shape == (3, 5, 8)
    y[:, 0].sum().backward()  # with the mask the first place sees itself only
    assert (x.grad[:, 1:] == 0).all()
    assert (x.grad[:, 0] != 0).any()
    attention.train()
    assert not np.array_equal(attention(x).numpy(), attention(x).numpy())


def test_auto_chooses_the_gradient() -> None:
    x = lg.randn(3, 4, requires_grad=True)
    gelu = [mytorch.nn.GELU(auto=auto)(x) for auto in (True, False)]
    assert gelu[0].tolist() == gelu[1].tolist()
    assert [repr(y.grad_fn) for y in gelu] == ["<MulBackward>", "<GeluBackward>"]
    scores = lg.tensor([[2.0, 0.0], [0.0, 1.0]])
    losses = [
        mytorch.nn.CrossEntropyLoss(auto=auto)(scores, mytorch.Tensor([0, 1]))
        for auto in (False, True)
    ]
    assert losses[0].item() == losses[1].item()


IMAGES = np.random.default_rng(0).standard_normal((2, 3, 6, 6), np.float32)
LAYERS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "Linear": ((6, 4), IMAGES),
    "Embedding": ((5, 3), np.array([[0, 4], [1, 1]])),
    "Conv1d": ((6, 4, 3), IMAGES[0]),
    "Conv2d": ((3, 4, 3), IMAGES),
    "ConvTranspose1d": ((6, 4, 3), IMAGES[0].reshape(3, 6, 6)),
    "ConvTranspose2d": ((3, 4, 3), IMAGES),
    "MaxPool2d": ((2,), IMAGES),
    "AvgPool2d": ((2,), IMAGES),
    "AdaptiveAvgPool2d": ((2,), IMAGES),
    "BatchNorm1d": ((3,), IMAGES[:, :, 0]),
    "BatchNorm2d": ((3,), IMAGES),
    "LayerNorm": ((6,), IMAGES),
    "RMSNorm": ((6,), IMAGES),
    "Dropout": ((0.5,), IMAGES),
    "Upsample": ((None, 2), IMAGES),
    "RNNCell": ((6, 4), IMAGES[0, 0]),
    "LSTMCell": ((6, 4), IMAGES[0, 0]),
    "GRUCell": ((6, 4), IMAGES[0, 0]),
    **dict.fromkeys(
        ("Sigmoid", "ReLU", "LeakyReLU", "GELU", "SiLU", "Tanh", "Softmax"), ((), IMAGES)
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_takes_auto(name: str) -> None:
    args, given = LAYERS[name]
    found = []
    for auto in (True, False):
        lg.manual_seed(0)
        layer = getattr(mytorch.nn, name)(*args, auto=auto)
        floating = given.dtype == np.float32
        x = lg.tensor(given, requires_grad=floating)
        y = layer(x)[0] if name == "LSTMCell" else layer(x)
        leaves = [*layer.parameters(), *([x] if floating else [])]
        lg.realize(*layer.buffers())
        found.append([y.numpy(), *(g.numpy() for g in lg.grad((y * y).sum(), leaves))])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
