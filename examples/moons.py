"""Two half moons told apart by a small network, as in micrograd's demo.

    python examples/moons.py

2 -> 16 -> 16 -> 1 with ReLU; max-margin ("SVM") loss with L2 regularization, gradient descent on
all points at once, learning rate 1.0 - 0.9 k / 100 at step k.
"""

import argparse
import time
from importlib import import_module

import lazygrad as lg
from lazygrad import Tensor, nn


class MLP(nn.Module):
    """Two hidden layers."""

    def __init__(self, hidden: int) -> None:
        self.fc1 = nn.Linear(2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, 1)
        for layer in (self.fc1, self.fc2, self.fc3):
            nn.init.uniform_(layer.weight, -1, 1)  # as micrograd does
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x).relu()
        x = self.fc2(x).relu()
        return self.fc3(x).squeeze(1)


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--save", metavar="FILE", help="write the weights here, as safetensors")
    parser.add_argument("--plot", metavar="FILE", help="draw the losses here (needs matplotlib)")
    args = parser.parse_args(argv)
    plt = import_module("matplotlib.pyplot") if args.plot else None

    lg.manual_seed(args.seed)
    points, classes = lg.data.moons(args.points, seed=args.seed).tensors
    labels = classes * 2 - 1  # -1 or 1
    model = MLP(args.hidden)
    optimizer = lg.optim.SGD(model.parameters(), lr=1.0)

    @lg.compute_graph
    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad()
        scores = model(x)
        data_loss = (1 - y * scores).relu().mean()
        decay = 1e-4 * sum((p * p).sum() for p in model.parameters())
        loss = data_loss + decay
        loss.backward()
        optimizer.step()
        return loss, ((scores > 0) == (y > 0)).float().mean()

    losses: list[float] = []
    accuracy = lg.tensor(0.0)
    started = time.perf_counter()
    for k in range(args.steps):
        optimizer.lr = max(1.0 - 0.9 * k / 100, 0.1)
        loss, accuracy = step(points, labels)
        losses.append(loss.item())
        if k % 10 == 0 or k == args.steps - 1:
            print(f"step {k} loss {losses[-1]:.4f}, accuracy {100 * accuracy.item():.1f}%")
    print(f"Training took {time.perf_counter() - started:.3f} seconds.")

    # Where the line between the moons lies.
    grid = lg.tensor([[x / 8, y / 4] for y in range(6, -5, -1) for x in range(-12, 21)])
    with lg.no_grad():
        inside = (model(grid) > 0).reshape(11, 33).tolist()
    print("\n".join("".join("*" if dot else "." for dot in row) for row in inside))
    if args.save:
        lg.save(model.state_dict(), args.save)
    if plt:
        plt.plot(losses)
        plt.savefig(args.plot)
    return accuracy.item()


if __name__ == "__main__":
    main()
