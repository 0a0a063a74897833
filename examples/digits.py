"""Real handwritten digits, 8x8 pixels, with the three networks that Mocrograd is measured with.

    python examples/digits.py --size normal

normal   64 -> 64 -> 32 -> 10
longer   64 (-> 256) x 29 -> 10
bigger   64 -> 8192 -> 4096 -> 2048 -> 10

Log-softmax and cross entropy, SGD with learning rate 0.01, batches of 32.
"""

import argparse
import time
from importlib import import_module
from itertools import pairwise

import lazygrad as lg
from lazygrad import Tensor, nn
from lazygrad.data import DataLoader, Subset, digits

SIZES = {
    "normal": (64, 64, 32, 10),
    "longer": (64, *[256] * 29, 10),
    "bigger": (64, 8192, 4096, 2048, 10),
}


class Digits(nn.Module):
    """Linear layers with ReLU between them; answers with log-probabilities."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        pairs = pairwise(widths)
        self.layers = nn.ModuleList([nn.Linear(i, o) for i, o in pairs])
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x).relu()
        return last(x).log_softmax(dim=1)


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="normal")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--length", type=int, default=1000, help="images, of which 20%% validate")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--shrink", type=int, default=1, help="divide hidden widths by this")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE", help="write the weights here, as safetensors")
    parser.add_argument("--plot", metavar="FILE", help="draw the losses here (needs matplotlib)")
    args = parser.parse_args(argv)
    plt = import_module("matplotlib.pyplot") if args.plot else None

    lg.manual_seed(args.seed)
    held_out = args.length // 5
    train = Subset(digits(train=True), range(args.length - held_out))
    validation = Subset(digits(train=False), range(held_out))
    train_batches = DataLoader(train, args.batch_size, shuffle=True)
    validation_batches = DataLoader(validation, args.batch_size)

    first, *hidden, last = SIZES[args.size]
    model = Digits((first, *(width // args.shrink for width in hidden), last))
    optimizer = lg.optim.SGD(model.parameters(), lr=args.lr)

    @lg.compute_graph
    def forward(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        log_probabilities = model(x)
        loss = nn.functional.nll_loss(log_probabilities, y)
        return loss, (log_probabilities.argmax(dim=1) == y).float().mean()

    losses: list[float] = []
    reached = 0.0
    started = time.perf_counter()
    for epoch in range(args.epochs):
        scores = []
        for x, y in train_batches:
            loss, accuracy = forward(x, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scores.append((loss.item(), accuracy.item()))
        losses += [loss for loss, _ in scores]
        report("Training Epoch  ", epoch, scores)

        with lg.no_grad():
            scores = [tuple(t.item() for t in forward(x, y)) for x, y in validation_batches]
        reached = report("Validation Epoch", epoch, scores)
    print(f"Training took {time.perf_counter() - started:.3f} seconds.")
    if args.save:
        lg.save(model.state_dict(), args.save)
    if plt:
        plt.plot(losses)
        plt.savefig(args.plot)
    return reached


def report(title: str, epoch: int, scores: list[tuple[float, ...]]) -> float:
    """Print the means over the batches of an epoch; returns the accuracy."""
    loss, accuracy = (sum(column) / len(scores) for column in zip(*scores, strict=True))
    print(f"{title} {epoch:3}, loss {loss:.4f}, accuracy {accuracy:.2%}")
    return accuracy


if __name__ == "__main__":
    main()
