"""An LSTM that has to remember: which symbol came first, after a long row of distractions.

    python examples/lstm.py --length 20

Each sequence begins with one of the symbols 0 to 3 and goes on with others at random; the class is
the first one. Adam, gradients clipped by norm; the lengths differ, so batches are packed.
"""

import argparse
from importlib import import_module

import numpy as np

import lazygrad as lg
from lazygrad import Tensor, nn
from lazygrad.nn.utils.rnn import pack_padded_sequence

SYMBOLS, CLASSES = 8, 4


class Recall(nn.Module):
    """(time, batch) symbols to the scores of the classes."""

    def __init__(self, hidden: int, layers: int) -> None:
        self.embedding = nn.Embedding(SYMBOLS, 8)
        self.lstm = nn.LSTM(8, hidden, layers)
        self.head = nn.Linear(hidden, CLASSES)

    def forward(self, symbols: Tensor, lengths: tuple[int, ...]) -> Tensor:
        packed = pack_padded_sequence(self.embedding(symbols), lengths)
        _, (h, _) = self.lstm(packed)
        return self.head(h[-1])


def batch(rng: np.random.Generator, length: int, size: int) -> tuple[Tensor, Tensor]:
    """Sequences and the symbol that each begins with."""
    symbols = rng.integers(CLASSES, SYMBOLS, (length, size))
    symbols[0] = rng.integers(0, CLASSES, size)
    return lg.tensor(symbols), lg.tensor(symbols[0].copy())


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE", help="write the weights here, as safetensors")
    parser.add_argument("--plot", metavar="FILE", help="draw the losses here (needs matplotlib)")
    args = parser.parse_args(argv)
    plt = import_module("matplotlib.pyplot") if args.plot else None

    lg.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    half = args.batch_size // 2  # half of the sequences stop a little earlier
    lengths = (args.length,) * (args.batch_size - half) + (args.length * 3 // 4,) * half
    model = Recall(args.hidden, args.layers)
    optimizer = lg.optim.Adam(model.parameters(), lr=args.lr)

    @lg.compute_graph
    def step(symbols: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        scores = model(symbols, lengths)
        loss = nn.functional.cross_entropy(scores, first)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss, (scores.argmax(dim=1) == first).float().mean()

    losses: list[float] = []
    hits: list[float] = []
    for k in range(1, args.steps + 1):
        loss, hit = step(*batch(rng, args.length, args.batch_size))
        losses.append(loss.item())
        hits.append(hit.item())
        if k % max(args.steps // 10, 1) == 0:
            recent = hits[-20:]
            shown = f"loss {losses[-1]:.4f}  accuracy {sum(recent) / len(recent):.2%}"
            print(f"step {k:5}  {shown}", flush=True)
    if args.save:
        lg.save(model.state_dict(), args.save)
    if plt:
        plt.plot(losses)
        plt.savefig(args.plot)
    return sum(hits[-20:]) / max(len(hits[-20:]), 1)


if __name__ == "__main__":
    main()
