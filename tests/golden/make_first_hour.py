"""Write `first_hour.json`: what PyTorch 2.13 (CPU) makes of the scripts that newcomers bring.

Run by hand where torch 2.13 and lazygrad (for its data) are installed:
`python tests/golden/make_first_hour.py`. The tests only read the result.
"""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np

from lazygrad.data import DigitsAsMNIST

HERE = Path(__file__).parent
WIDTHS = (784, 1024, 1024, 1024, 10)  # macrograd's network
IMAGES, TEST_IMAGES, BATCH = 2560, 2000, 64
ALPHA = 0.8
RUNS = {"printed": (1, 0.001), "trained": (3, 0.01)}  # epochs and learning rate


def images(train: bool, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of float32 between 0 and 1 from the stand-in, and their classes."""
    data = DigitsAsMNIST(train, size)
    return data.data.reshape(size, -1) / np.float32(255), data.targets


def weights() -> list[np.ndarray]:
    """The (in, out) weights that every run of macrograd's network starts from."""
    rng = np.random.RandomState(0)
    return [(rng.randn(i, o) * np.sqrt(2 / i)).astype(np.float32) for i, o in pairwise(WIDTHS)]


def main() -> None:
    """Run the scripts and write the numbers."""
    import torch

    assert torch.__version__.startswith("2.13.0"), torch.__version__
    torch.set_num_threads(1)
    script: dict = {}
    exec((HERE / "mlp_script.txt").read_text(), script)
    goldens = {
        "mlp": {"losses": script["losses"], "accuracy": script["accuracy"]},
        **{name: macrograd_net(torch, *run) for name, run in RUNS.items()},
    }
    (HERE / "first_hour.json").write_text(json.dumps(goldens, indent=1) + "\n")


def macrograd_net(torch, epochs: int, lr: float) -> dict:
    """Losses and test accuracy of macrograd's MNIST loop, written in PyTorch."""
    ws = [torch.tensor(w, requires_grad=True) for w in weights()]
    bs = [torch.zeros(w.shape[1], requires_grad=True) for w in ws]
    optimizer = torch.optim.SGD([*ws, *bs], lr=lr, momentum=ALPHA)

    def model(x):
        for w, b in zip(ws[:-1], bs[:-1], strict=True):
            x = (x @ w + b).relu()
        return x @ ws[-1] + bs[-1]

    x, y = map(torch.tensor, images(True, IMAGES))
    losses = []
    for _ in range(epochs):
        for i in range(0, IMAGES, BATCH):
            loss = torch.nn.functional.cross_entropy(model(x[i : i + BATCH]), y[i : i + BATCH])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    x, y = map(torch.tensor, images(False, TEST_IMAGES))
    with torch.no_grad():
        accuracy = (model(x).argmax(dim=1) == y).float().mean().item()
    return {"losses": losses, "accuracy": accuracy}


if __name__ == "__main__":
    main()
