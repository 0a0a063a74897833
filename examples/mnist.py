"""MNIST with macrograd's network: a decorated forward pass, SGD with momentum 0.8.

    python examples/mnist.py                  on the stand-in made from the bundled digits
    python examples/mnist.py --data DIR       on the real files; --download fetches them

784 -> 1024 -> 1024 -> 1024 -> 10. The first call of `forward` records its graph, later calls
replay it; `backward()` and `step()` join it in one program from the second batch on.
"""

import argparse
import time
from importlib import import_module

import lazygrad as lg
from lazygrad import Tensor, compute_graph, nn
from lazygrad.data import MNIST, DataLoader, TensorDataset, mnist_standin


class MNISTModel(nn.Module):
    def __init__(self, in_dims: int, hidden: int, out_dims: int) -> None:
        self.input_layer = nn.Linear(in_dims, hidden)
        self.hidden_1 = nn.Linear(hidden, hidden)
        self.hidden_2 = nn.Linear(hidden, hidden)
        self.output_layer = nn.Linear(hidden, out_dims)

    def forward(self, data: Tensor) -> Tensor:
        data = self.input_layer(data).relu()
        data = self.hidden_1(data).relu()
        data = self.hidden_2(data).relu()
        return self.output_layer(data)


def load(args: argparse.Namespace, train: bool, size: int) -> TensorDataset:
    """`size` images as rows of numbers between 0 and 1, with their labels."""
    if args.data is None:
        return mnist_standin(train, size)
    files = MNIST(args.data, train=train, download=args.download)
    pixels = files.data[:size].reshape(-1, 784).astype("float32") / 255
    return TensorDataset(pixels, files.targets[:size])


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="where MNIST's files are")
    parser.add_argument("--download", action="store_true", help="fetch missing files to DIR")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=60_000, help="images to train with")
    parser.add_argument("--test-images", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE", help="write the weights here, as safetensors")
    parser.add_argument("--plot", metavar="FILE", help="draw the losses here (needs matplotlib)")
    args = parser.parse_args(argv)
    plt = import_module("matplotlib.pyplot") if args.plot else None

    lg.manual_seed(args.seed)
    train_minibatches = DataLoader(
        load(args, True, args.images), args.batch_size, shuffle=True, num_workers=1
    )
    test_minibatches = DataLoader(load(args, False, args.test_images), args.batch_size)

    model = MNISTModel(784, args.hidden, 10)
    optimizer = lg.optim.SGD(model.parameters(), lr=args.lr, momentum=0.8)

    @compute_graph
    def forward(x_batch: Tensor, y_batch: Tensor) -> Tensor:
        y_pred = model(x_batch)
        return nn.functional.cross_entropy(y_pred, y_batch)

    @compute_graph
    def predict(x_batch: Tensor) -> Tensor:
        return model(x_batch).argmax(dim=1)

    losses: list[float] = []
    accuracy = 0.0
    started = time.perf_counter()
    for epoch in range(args.epochs):
        for i, (x_batch, y_batch) in enumerate(train_minibatches):
            loss = forward(x_batch, y_batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if i % 100 == 0:
                print(f"epoch {epoch} batch {i}/{len(train_minibatches)} loss {losses[-1]:.4f}")

        right = sum((predict(x) == y).sum().item() for x, y in test_minibatches)
        accuracy = right / len(test_minibatches.dataset)
        print(f"epoch {epoch} test accuracy {accuracy:.2%}")
    print(f"Training took {time.perf_counter() - started:.3f} seconds.")
    if args.save:
        lg.save(model.state_dict(), args.save)
    if plt:
        plt.plot(losses)
        plt.savefig(args.plot)
    return accuracy


if __name__ == "__main__":
    main()
