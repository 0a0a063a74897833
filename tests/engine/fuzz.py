"""Random graphs: elementwise, reductions, views, products, shared values, state, checks."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from lazygrad.config import config
from lazygrad.dtypes import bool_, float16, float32, float64, int64
from lazygrad.engine.frozen import FrozenGraph
from lazygrad.ops.effect import CHECK_INDEX
from lazygrad.ops.elementwise import ABS, ADD, CAST, EXP, MAXIMUM, MUL, NEG, RELU, SUB, TANH
from lazygrad.ops.logic import EQ, LT, WHERE
from lazygrad.ops.movement import CAT, EXPAND, PERMUTE, RESHAPE, SLICE, slice_attrs
from lazygrad.ops.reduce import ALL, ARGMAX, MAX, SUM
from lazygrad.ops.sort import CUMSUM
from lazygrad.shapes import Shape, broadcast, numel
from tests.engine.build import GraphBuilder

UNARY = (NEG, TANH, RELU, ABS, EXP)
BINARY = (ADD, SUB, MUL, MAXIMUM)
EXTENTS = (1, 2, 3, 5, 8)

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no_fuse": {"no_fuse": True},
    "no_planner": {"no_planner": True},
    "vectorized": {"parallel": "vectorized"},
    "chunked": {"parallel": "chunked"},
    "one worker": {"parallel": "chunked", "num_workers": 1},
    "seven workers": {"parallel": "chunked", "num_workers": 7},
    "poison": {"poison": True},
}


@contextmanager
def variant(name: str) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(config.override(verify=True, **VARIANTS[name]))
        yield


class Fuzzer:
    """Grows a graph by random steps; every step takes values that exist and adds one."""

    def __init__(self, seed: int, scale: int = 1) -> None:
        self.rng = random.Random(seed)
        self.g = GraphBuilder()
        self.scale = scale
        self.values: list[int] = []  # of floating dtype
        self.params: list[int] = []
        self.effects = 0

    def extent(self) -> int:
        return self.rng.choice(EXTENTS) * self.rng.choice((1, self.scale))

    def grow(self, steps: int) -> FrozenGraph:
        rng, g = self.rng, self.g
        dtype = rng.choice((float32, float32, float64, float16))
        for _ in range(rng.randint(1, 3)):
            shape = tuple(self.extent() for _ in range(rng.randint(0, 3)))
            make: Callable[..., int] = rng.choice((g.data, g.param))
            i = make(shape, dtype)
            if make == g.param:
                self.params.append(i)
            self.values.append(i)
        moves = (
            self.unary, self.binary, self.binary, self.reduce, self.reduce, self.permute,
            self.reshape, self.slice, self.matmul, self.expand, self.where, self.literal,
            self.opaque, self.flip, self.scalar, self.hot, self.check,
        )  # fmt: skip
        for _ in range(steps):
            found = rng.choice(moves)()
            if found is not None:
                self.values.append(found)
        return self.finish()

    def pick(self) -> int:
        recent = self.values[-6:]
        return self.rng.choice(recent if self.rng.random() < 0.7 else self.values)

    def unary(self) -> int:
        x = self.pick()
        op = self.rng.choice(UNARY)
        return self.g(op, x if op is not EXP else self.g(TANH, x))

    def partner(self, x: int) -> int | None:
        """A value that broadcasts with x."""
        shape, dtype = self.g.shape(x), self.g[x].dtype
        fits = [
            v for v in self.values
            if self.g[v].dtype is dtype and _fits(shape, self.g.shape(v))
        ]  # fmt: skip
        return self.rng.choice(fits) if fits else None

    def binary(self) -> int | None:
        x = self.pick()
        y = self.partner(x)
        if y is None:
            return None
        pair = (x, y) if self.rng.random() < 0.5 else (y, x)
        return self.g(self.rng.choice(BINARY), *pair)

    def where(self) -> int | None:
        x = self.pick()
        y = self.partner(x)
        if y is None:
            return None
        test = self.g(LT, x, y)
        a, b = (x, y) if self.rng.random() < 0.5 else (y, x)
        return self.g(WHERE, test, a, b)

    def literal(self) -> int:
        x = self.pick()
        value = self.rng.choice((0.0, 1.0, -1.0, 2.0, 0.5))
        return self.g(self.rng.choice(BINARY), x, self.g.literal(value, self.g[x].dtype))

    def reduce(self) -> int | None:
        x = self.pick()
        rank = len(self.g.shape(x))
        axes = tuple(sorted(self.rng.sample(range(rank), self.rng.randint(0, rank))))
        keepdim = self.rng.random() < 0.6
        if self.rng.random() < 0.15 and rank:
            best = self.g(ARGMAX, x, axes=(self.rng.randrange(rank),), keepdim=keepdim)
            return self.g(CAST, best, dtype=self.g[x].dtype)
        op = self.rng.choice((SUM, MAX))
        return self.g(op, x, axes=axes, keepdim=keepdim)

    def permute(self) -> int:
        x = self.pick()
        axes = list(range(len(self.g.shape(x))))
        self.rng.shuffle(axes)
        return self.g(PERMUTE, x, axes=tuple(axes))

    def reshape(self) -> int:
        x = self.pick()
        shape = list(self.g.shape(x))
        if len(shape) > 1 and self.rng.random() < 0.6:
            at = self.rng.randrange(len(shape) - 1)
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
        elif shape and len(shape) < 4:
            at = self.rng.randrange(len(shape))
            part = self.rng.choice([k for k in range(1, shape[at] + 1) if shape[at] % k == 0])
            shape[at : at + 1] = [part, shape[at] // part]
        else:
            shape.insert(0, 1)
        return self.g(RESHAPE, x, shape=tuple(shape))

    def slice(self) -> int:
        x = self.pick()
        index = []
        for n in self.g.shape(x):
            start = self.rng.randrange(n)
            stop = self.rng.randint(start + 1, n)
            index.append(slice(start, stop, self.rng.choice((1, 1, 2))))
        return self.g(SLICE, x, **slice_attrs(tuple(index), self.g.shape(x)))

    def flip(self) -> int:
        x = self.pick()
        shape = self.g.shape(x)
        index = tuple(slice(None, None, self.rng.choice((1, -1))) for _ in shape)
        return self.g(SLICE, x, **slice_attrs(index, shape))

    def expand(self) -> int | None:
        x = self.pick()
        shape = [n if n > 1 else self.rng.choice((1, 3)) for n in self.g.shape(x)]
        if len(shape) < 3:
            shape.insert(0, self.rng.choice((1, 2)))
        return self.g(EXPAND, x, shape=tuple(shape)) if numel(shape) < 5000 else None

    def matmul(self) -> int | None:
        x = self.pick()
        if len(self.g.shape(x)) < 2:
            return None
        fits = [
            v for v in self.values
            if len(s := self.g.shape(v)) >= 2 and self.g[v].dtype is self.g[x].dtype
            and s[-2] == self.g.shape(x)[-1] and _fits(s[:-2], self.g.shape(x)[:-2])
        ]  # fmt: skip
        if fits:
            y = self.rng.choice(fits)
        else:
            axes = (*range(len(self.g.shape(x)) - 2), -1, -2)
            y = self.g(PERMUTE, x, axes=tuple(a % len(axes) for a in axes))
        found = self.g.matmul(x, y)
        return self.g(MUL, found, self.g.literal(0.5, self.g[x].dtype))

    def opaque(self) -> int | None:
        x = self.pick()
        rank = len(self.g.shape(x))
        if not rank:
            return None
        axis = self.rng.randrange(rank)
        if self.rng.random() < 0.5:
            return self.g(CUMSUM, x, axis=axis)
        return self.g(CAT, x, x, axis=axis)

    def scalar(self) -> int:
        """A step size: float64, 0-d, state, cast to the dtype of what it scales."""
        x = self.pick()
        rate = self.g.state((), float64)
        return self.g(MUL, x, self.g(CAST, self.g(TANH, rate), dtype=self.g[x].dtype))

    def hot(self) -> int | None:
        """Compare positions with labels, as cross entropy does."""
        x = self.pick()
        shape = self.g.shape(x)
        if not shape:
            return None
        labels = self.g.data((*shape[:-1], 1), int64)
        test = self.g(EQ, self.g.iota(shape[-1:], 0, int64), labels)
        return self.g(MUL, x, self.g(CAST, test, dtype=self.g[x].dtype))

    def check(self) -> int | None:
        if self.effects:
            return None
        self.effects += 1
        labels = self.g.data((3,), int64)
        checked = self.g(CHECK_INDEX, labels, low=0, high=2, what="label")
        x = self.pick()
        weight = self.g(CAST, self.g.sum(checked, 0), dtype=self.g[x].dtype)
        return self.g(ADD, x, weight)

    def finish(self) -> FrozenGraph:
        """Roots: some outputs, kept values, and new values of parameters."""
        rng, g = self.rng, self.g
        outputs = [self.values[-1], *rng.sample(self.values, min(2, len(self.values)))]
        if rng.random() < 0.3:
            outputs.append(outputs[0])
        outputs.append(g(ALL, g(LT, self.values[-1], self.values[-1]), axes=(), keepdim=False))
        assert g[outputs[-1]].dtype is bool_
        stored = set(self.params)
        kept = [v for v in rng.sample(self.values, min(2, len(self.values))) if v not in stored]
        writes = []
        for p in self.params:
            fits = [v for v in self.values if g.shape(v) == g.shape(p) and g[v].dtype is g[p].dtype]
            if rng.random() < 0.8:
                new = rng.choice(fits)
                if rng.random() < 0.6:
                    new = g(SUB, p, g(MUL, new, g.literal(0.5, g[p].dtype)))
                writes.append((g.sources.index(p), new))
        written = {g.sources[at] for at, _ in writes}
        kept = [v for v in kept if not _views(g, v) & written]
        return g.finish(outputs, kept, writes)


def _views(g: GraphBuilder, i: int) -> set[int]:
    """The source that a chain of views ends at."""
    while g[i].op.kind.value == "view":
        i = g[i].inputs[0]
    return {i}


def _fits(a: Shape, b: Shape) -> bool:
    try:
        return numel(broadcast(a, b)) < 20_000
    except ValueError:
        return False


def random_graph(seed: int, steps: int = 20, scale: int = 1) -> FrozenGraph:
    """The graph of a seed."""
    return Fuzzer(seed, scale).grow(steps)


def names(frozen: FrozenGraph, nodes: Sequence[int]) -> list[str]:
    return [frozen.nodes[i].op.name for i in nodes]
