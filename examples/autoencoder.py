"""A convolutional autoencoder: digits through a bottleneck of a few numbers and back.

    python examples/autoencoder.py --plot digits.png

The encoder is two strided convolutions, the decoder two transposed ones; Adam on the squared error.
"""

import argparse
from importlib import import_module

import lazygrad as lg
from lazygrad import Tensor, nn
from lazygrad.data import DataLoader, Digits, TensorDataset


class Autoencoder(nn.Module):
    """(batch, 1, 8, 8) to itself, by way of `code` numbers."""

    def __init__(self, code: int) -> None:
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 2 * 2, code),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(code, 16 * 2 * 2), nn.ReLU(), nn.Unflatten(1, (16, 2, 2)),
            nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def images(train: bool) -> TensorDataset:
    """(batch, 1, 8, 8), from 0 to 1."""
    return TensorDataset(Digits(train).data[:, None].astype("float32") / 16)


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--code", type=int, default=8, help="numbers in the bottleneck")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE", help="write the weights here, as safetensors")
    parser.add_argument("--plot", metavar="FILE", help="draw digits here (needs matplotlib)")
    args = parser.parse_args(argv)
    plt = import_module("matplotlib.pyplot") if args.plot else None

    lg.manual_seed(args.seed)
    train, test = images(True), images(False)
    model = Autoencoder(args.code)
    optimizer = lg.optim.Adam(model.parameters(), lr=args.lr)

    @lg.compute_graph
    def step(x: Tensor) -> Tensor:
        loss = nn.functional.mse_loss(model(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    error = 0.0
    for epoch in range(args.epochs):
        losses = [step(x).item() for (x,) in DataLoader(train, args.batch_size, shuffle=True)]
        with lg.no_grad():
            unseen = test.tensors[0]
            error = nn.functional.mse_loss(model(unseen), unseen).item()
        mean = sum(losses) / len(losses)
        print(f"epoch {epoch:3}  loss {mean:.4f}  error on unseen digits {error:.4f}", flush=True)
    if args.save:
        lg.save(model.state_dict(), args.save)
    if plt:
        shown = test.tensors[0][:8]
        with lg.no_grad():
            rows = lg.cat([shown, model(shown)]).reshape(2, 8, 8, 8)
        plt.imshow(rows.transpose(1, 2).reshape(16, 64).numpy(), cmap="gray")
        plt.savefig(args.plot)
    return error


if __name__ == "__main__":
    main()
