"""A variational autoencoder (Kingma and Welling 2014) on handwritten digits.

    python examples/vae.py --plot samples.png

The encoder gives mean and log-variance of a normal distribution for each image; a draw from it,
by the reparametrization trick, is decoded. The loss is the reconstruction plus the divergence from
a standard normal distribution, per image.
"""

import argparse
from importlib import import_module

import lazygrad as lg
from lazygrad import Tensor, nn
from lazygrad.data import DataLoader, digits


class VAE(nn.Module):
    """Rows of 64 pixels to scores of pixels, means and log-variances."""

    def __init__(self, hidden: int, latent: int) -> None:
        self.encoder = nn.Sequential(
            nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent)
        )
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        draw = mean + (log_variance * 0.5).exp() * lg.randn_like(mean)
        return self.decoder(draw), mean, log_variance


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--latent", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE", help="write the weights here, as safetensors")
    parser.add_argument("--plot", metavar="FILE", help="draw samples here (needs matplotlib)")
    args = parser.parse_args(argv)
    plt = import_module("matplotlib.pyplot") if args.plot else None

    lg.manual_seed(args.seed)
    batches = DataLoader(digits(train=True), args.batch_size, shuffle=True)
    model = VAE(args.hidden, args.latent)
    optimizer = lg.optim.Adam(model.parameters(), lr=args.lr)

    @lg.compute_graph
    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        scores, mean, log_variance = model(x)
        pixels = nn.functional.binary_cross_entropy_with_logits(scores, x, reduction="sum")
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum()
        loss = (pixels + divergence) / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss, divergence / len(x)

    reached = 0.0
    for epoch in range(args.epochs):
        found = [tuple(t.item() for t in step(x)) for x, _ in batches]
        reached, divergence = (sum(column) / len(found) for column in zip(*found, strict=True))
        print(f"epoch {epoch:3}  loss {reached:.3f}  of it divergence {divergence:.3f}", flush=True)
    if args.save:
        lg.save(model.state_dict(), args.save)
    if plt:
        with lg.no_grad():
            samples = model.decoder(lg.randn(32, args.latent)).sigmoid().reshape(4, 8, 8, 8)
        plt.imshow(samples.transpose(1, 2).reshape(32, 64).numpy(), cmap="gray")
        plt.savefig(args.plot)
    return reached


if __name__ == "__main__":
    main()
