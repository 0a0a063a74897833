"""A small convolutional network on handwritten digits, or on CIFAR-10 from its files.

    python examples/convnet.py                     8x8 digits, bundled
    python examples/convnet.py --cifar DIR         32x32 photographs; --download fetches them

Two 3x3 convolutions (16 and 32 channels), each with ReLU and 2x2 max-pooling, and a linear layer;
AdamW. The whole training step is one captured function.
"""

import argparse
from importlib import import_module

import lazygrad as lg
from lazygrad import Tensor, nn
from lazygrad.data import CIFAR10, DataLoader, Digits, TensorDataset


class ConvNet(nn.Module):
    """(batch, channels, size, size) to a score for each of ten classes."""

    def __init__(self, channels: int, size: int) -> None:
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(32 * (size // 4) ** 2, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv1(x).relu())
        x = self.pool(self.conv2(x).relu())
        return self.fc(x.flatten(1))


def load(args: argparse.Namespace, train: bool) -> TensorDataset:
    """Images (batch, channels, size, size) of numbers from 0 to 1, and their labels."""
    if args.cifar is None:
        source = Digits(train)
        pixels = source.data[:, None].astype("float32") / 16
    else:
        source = CIFAR10(args.cifar, train, download=args.download)
        pixels = source.data.transpose(0, 3, 1, 2).astype("float32") / 255
    return TensorDataset(pixels[: args.images], source.targets[: args.images])


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar", metavar="DIR", help="where CIFAR-10's binary files are")
    parser.add_argument("--download", action="store_true", help="fetch missing files to DIR")
    parser.add_argument("--images", type=int, default=None, help="images to use (all)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE", help="write the weights here, as safetensors")
    parser.add_argument("--plot", metavar="FILE", help="draw the losses here (needs matplotlib)")
    args = parser.parse_args(argv)
    plt = import_module("matplotlib.pyplot") if args.plot else None

    lg.manual_seed(args.seed)
    train, test = load(args, True), load(args, False)
    _, channels, size, _ = train.tensors[0].shape
    model = ConvNet(channels, size)
    optimizer = lg.optim.AdamW(model.parameters(), lr=args.lr)

    @lg.compute_graph
    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    @lg.compute_graph
    def correct(x: Tensor, y: Tensor) -> Tensor:
        return (model(x).argmax(dim=1) == y).sum()

    losses: list[float] = []
    accuracy = 0.0
    for epoch in range(args.epochs):
        model.train()
        for x, y in DataLoader(train, args.batch_size, shuffle=True):
            losses.append(step(x, y).item())
        model.eval()
        with lg.no_grad():
            hits = sum(correct(x, y).item() for x, y in DataLoader(test, args.batch_size))
        accuracy = hits / len(test)
        print(f"epoch {epoch:3}  loss {losses[-1]:.4f}  test accuracy {accuracy:.2%}", flush=True)
    if args.save:
        lg.save(model.state_dict(), args.save)
    if plt:
        plt.plot(losses)
        plt.savefig(args.plot)
    return accuracy


if __name__ == "__main__":
    main()
