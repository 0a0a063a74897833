"""A generative adversarial network (Goodfellow et al. 2014) that learns a ring of points.

    python examples/gan.py --plot ring.png

Two networks, two optimizers: each step first improves the discriminator with the generator frozen,
then the generator with the discriminator frozen. What is reported is how far generated points are
from the ring, on average.
"""

import argparse
from importlib import import_module

import lazygrad as lg
from lazygrad import Tensor, nn

RADIUS = 2.0


def network(inside: int, hidden: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inside, hidden), nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden), nn.LeakyReLU(0.2),
        nn.Linear(hidden, outside),
    )  # fmt: skip


def ring(count: int) -> Tensor:
    """Points near a circle."""
    angle = lg.rand(count, 1) * 6.283185307179586
    radius = RADIUS + 0.05 * lg.randn(count, 1)
    return lg.cat([angle.cos() * radius, angle.sin() * radius], 1)


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--noise", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE", help="write the weights here, as safetensors")
    parser.add_argument("--plot", metavar="FILE", help="draw points here (needs matplotlib)")
    args = parser.parse_args(argv)
    plt = import_module("matplotlib.pyplot") if args.plot else None

    lg.manual_seed(args.seed)
    generator = network(args.noise, args.hidden, 2)
    discriminator = network(2, args.hidden, 1)
    betas = (0.5, 0.9)
    improve_generator = lg.optim.Adam(generator.parameters(), lr=args.lr, betas=betas)
    improve_discriminator = lg.optim.Adam(discriminator.parameters(), lr=args.lr, betas=betas)
    judge = nn.BCEWithLogitsLoss()
    real, fake = lg.ones(args.batch_size, 1), lg.zeros(args.batch_size, 1)

    @lg.compute_graph
    def discriminate() -> Tensor:
        made = generator(lg.randn(args.batch_size, args.noise))
        found = ring(args.batch_size)
        loss = judge(discriminator(found), real) + judge(discriminator(made), fake)
        improve_discriminator.zero_grad()
        loss.backward()
        improve_discriminator.step()
        return loss

    @lg.compute_graph
    def generate() -> Tensor:
        loss = judge(discriminator(generator(lg.randn(args.batch_size, args.noise))), real)
        improve_generator.zero_grad()
        loss.backward()
        improve_generator.step()
        return loss

    distance = 0.0
    for step in range(1, args.steps + 1):
        generator.requires_grad_(False)
        first = discriminate()
        generator.requires_grad_(True)
        discriminator.requires_grad_(False)
        second = generate()
        discriminator.requires_grad_(True)
        if step % max(args.steps // 10, 1) == 0:
            with lg.no_grad():
                points = generator(lg.randn(512, args.noise))
            distance = (points.norm(dim=1) - RADIUS).abs().mean().item()
            losses = f"discriminator {first.item():.3f}  generator {second.item():.3f}"
            print(f"step {step:5}  {losses}  distance from the ring {distance:.3f}", flush=True)
    if args.save:
        state = {"generator": generator.state_dict(), "discriminator": discriminator.state_dict()}
        lg.save(state, args.save)
    if plt:
        with lg.no_grad():
            points = generator(lg.randn(512, args.noise))
        plt.scatter(*points.T.numpy(), s=4)
        plt.savefig(args.plot)
    return distance


if __name__ == "__main__":
    main()
