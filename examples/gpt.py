"""GPT-2 (Radford et al. 2019) over characters: trains on a text file, then writes.

    python examples/gpt.py --text FILE --generate 300

Without `--text` it learns its own source. The modules have the names of Hugging Face's GPT-2, so
`--load FILE` takes a checkpoint in that layout (safetensors). Generation feeds one token at a time
through one captured function: keys and values of earlier tokens are kept in buffers that are
written in place, and the position is a 0-d tensor, so nothing is traced again.
"""

import argparse
import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np

import lazygrad as lg
from lazygrad import Tensor, nn

F = nn.functional


class Conv1D(nn.Module):
    """A linear layer whose weight is (in, out), as GPT-2's checkpoints have it."""

    def __init__(self, outside: int, inside: int) -> None:
        self.weight = nn.Parameter(lg.randn(inside, outside) * 0.02)
        self.bias = nn.Parameter(lg.zeros(outside))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Attention(nn.Module):
    """Causal self-attention; with a position it continues from the keys and values kept."""

    def __init__(self, width: int, heads: int, context: int, dropout: float) -> None:
        self.heads = heads
        self.c_attn = Conv1D(3 * width, width)
        self.c_proj = Conv1D(width, width)
        self.dropout, self.resid_dropout = dropout, nn.Dropout(dropout)
        depth = width // heads
        keys, values = lg.zeros(1, heads, depth, context), lg.zeros(1, heads, context, depth)
        self.register_buffer("keys", keys, persistent=False)  # turned: read along the positions
        self.register_buffer("values", values, persistent=False)

    def forward(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        shape = (*x.shape[:2], self.heads, -1)
        q, k, v = (t.reshape(shape).transpose(1, 2) for t in self.c_attn(x).chunk(3, dim=-1))
        if position is None:
            drop = self.dropout if self.training else 0.0
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=drop, is_causal=True)
        else:
            self.keys[:, :, :, position] = k[:, :, 0]
            self.values[:, :, position] = v[:, :, 0]
            seen = (lg.arange(self.keys.shape[3]) <= position).reshape(1, -1)
            out = F.scaled_dot_product_attention(q, self.keys.mT, self.values, seen)
        return self.resid_dropout(self.c_proj(out.transpose(1, 2).reshape(x.shape)))


class MLP(nn.Module):
    """Two linear layers around the tanh form of gelu."""

    def __init__(self, width: int, dropout: float) -> None:
        self.c_fc = Conv1D(4 * width, width)
        self.c_proj = Conv1D(width, 4 * width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x), approximate="tanh")))


class Block(nn.Module):
    """Attention and a feed-forward network, each behind a norm and with a way around it."""

    def __init__(self, width: int, heads: int, context: int, dropout: float) -> None:
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, context, dropout)
        self.mlp = MLP(width, dropout)

    def forward(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), position)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """(batch, time) tokens to (batch, time, vocabulary) scores; the head shares its weight."""

    def __init__(
        self, vocabulary: int, context: int, layers: int, heads: int, width: int, dropout: float
    ) -> None:
        self.context = context
        blocks = [Block(width, heads, context, dropout) for _ in range(layers)]
        for block in blocks:  # the sum of all blocks should not grow with their number
            for projection in (block.attn.c_proj, block.mlp.c_proj):
                projection.weight.data = projection.weight.numpy() / math.sqrt(2 * layers)
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocabulary, width),
                "wpe": nn.Embedding(context, width),
                "drop": nn.Dropout(dropout),
                "h": nn.ModuleList(blocks),
                "ln_f": nn.LayerNorm(width),
            }
        )
        for name in ("wte", "wpe"):
            nn.init.normal_(self.transformer[name].weight, std=0.02)

    def forward(self, tokens: Tensor, position: Tensor | None = None) -> Tensor:
        parts = self.transformer
        places = lg.arange(tokens.shape[1]) if position is None else position.reshape(1)
        x = parts["drop"](parts["wte"](tokens) + parts["wpe"](places))
        for block in parts["h"]:
            x = block(x, position)
        return parts["ln_f"](x) @ parts["wte"].weight.T

    def load(self, path: str) -> None:
        """Take over a checkpoint in Hugging Face's layout, with or without `transformer.`."""
        extra = (".attn.bias", ".attn.masked_bias", "lm_head.weight")  # masks and the shared head
        found = {
            f"transformer.{name.removeprefix('transformer.')}": tensor
            for name, tensor in lg.load(path).items()
            if not name.endswith(extra)
        }
        self.load_state_dict(found)

    def generate(
        self, prompt: list[int], count: int, temperature: float = 1.0, top_k: int | None = None
    ) -> Iterator[int]:
        """Token after token, each drawn from the `top_k` likeliest; the likeliest at 0.

        A text may be longer than the context: the model then sees the latest part of it.
        """

        @lg.compute_graph
        def advance(token: Tensor, position: Tensor, warmth: Tensor) -> Tensor:
            scores = self(token, position)[0, -1]
            if temperature == 0:
                return scores.argmax().reshape(1, 1)
            if top_k:
                least = scores.topk(min(top_k, len(scores))).values[-1]
                scores = scores.where(scores >= least, -math.inf)
            return (scores / warmth).softmax(0).multinomial(1).reshape(1, 1)

        if not prompt or temperature < 0:
            raise ValueError(f"a token to begin with and a temperature >= 0, got {temperature}")
        self.eval()
        warmth = lg.scalar(float(temperature))
        window, place, written = list(prompt), 0, 0
        while written < count:
            if len(window) > self.context:  # no place is left: the later half begins anew
                window, place = window[-max(self.context // 2, 1) :], 0
            with lg.no_grad():
                token = advance(lg.tensor([[window[place]]]), lg.scalar(place), warmth)
            place += 1
            if place == len(window):
                window.append(int(token.item()))
                written += 1
                yield window[-1]


def batch(
    text: np.ndarray, rng: np.random.Generator, size: int, length: int
) -> tuple[Tensor, Tensor]:
    """Random pieces of a text, and the same ones a character later."""
    starts = rng.integers(0, len(text) - length, (size, 1))
    pieces = text[starts + np.arange(length + 1)]
    return lg.tensor(pieces[:, :-1].copy()), lg.tensor(pieces[:, 1:].copy())


def main(argv: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", default=__file__, metavar="FILE", help="what to learn")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--context", type=int, default=64, help="characters seen at once")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--generate", type=int, default=48, metavar="N", help="characters to write")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: the likeliest")
    parser.add_argument("--top-k", type=int, default=20, help="0: all characters")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--load", metavar="FILE", help="begin with these weights (safetensors)")
    parser.add_argument("--save", metavar="FILE", help="write the weights here, as safetensors")
    parser.add_argument("--plot", metavar="FILE", help="draw the losses here (needs matplotlib)")
    args = parser.parse_args(argv)
    plt = import_module("matplotlib.pyplot") if args.plot else None

    lg.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    text = Path(args.text).read_text(encoding="utf-8")
    if len(text) <= args.context:
        parser.error(f"{args.text} has {len(text)} characters: pass a --context below that")
    characters = sorted(set(text))
    numbers = {c: i for i, c in enumerate(characters)}
    tokens = np.array([numbers[c] for c in text])
    model = GPT(len(characters), args.context, args.layers, args.heads, args.width, args.dropout)
    if args.load:
        model.load(args.load)
    optimizer = lg.optim.AdamW(model.parameters(), lr=args.lr)

    @lg.compute_graph
    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    losses: list[float] = []
    for k in range(1, args.steps + 1):
        losses.append(step(*batch(tokens, rng, args.batch_size, args.context)).item())
        if k % max(args.steps // 10, 1) == 0:
            print(f"step {k:5}  loss {losses[-1]:.4f}", flush=True)
    if args.generate:
        prompt = [int(tokens[0])]
        written = model.generate(prompt, args.generate, args.temperature, args.top_k)
        print("".join(characters[i] for i in [*prompt, *written]))
    if args.save:
        lg.save(model.state_dict(), args.save)
    if plt:
        plt.plot(losses)
        plt.savefig(args.plot)
    return sum(losses[-10:]) / max(len(losses[-10:]), 1)


if __name__ == "__main__":
    main()
