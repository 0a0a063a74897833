"""A scalar engine as micrograd has it, written anew: one object per number, backward by recursion.

`python micrograd.py SAMPLES EPOCHS` trains 2-16-16-1 on two half circles and prints its seconds and
its last loss as JSON: what `lazygrad bench` sets beside lazygrad. It needs nothing but Python.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Sequence
from itertools import pairwise


class Value:
    """A number, what it was made from, and the derivative with respect to each of those."""

    def __init__(self, data: float, sources: Sequence[tuple[Value, float]] = ()) -> None:
        self.data, self.grad, self.sources = data, 0.0, sources

    def __add__(self, other: Value | float) -> Value:
        o = other if isinstance(other, Value) else Value(other)
        return Value(self.data + o.data, ((self, 1.0), (o, 1.0)))

    def __mul__(self, other: Value | float) -> Value:
        o = other if isinstance(other, Value) else Value(other)
        return Value(self.data * o.data, ((self, o.data), (o, self.data)))

    __radd__, __rmul__ = __add__, __mul__

    def relu(self) -> Value:
        return Value(max(self.data, 0.0), ((self, float(self.data > 0)),))

    def backward(self) -> None:
        """Add to `grad` of all sources; the longest path has to fit the interpreter's stack."""
        order: list[Value] = []
        seen: set[Value] = set()

        def visit(value: Value) -> None:
            if value not in seen:
                seen.add(value)
                for source, _ in value.sources:
                    visit(source)
                order.append(value)

        visit(self)
        self.grad = 1.0
        for value in reversed(order):
            for source, slope in value.sources:
                source.grad += slope * value.grad


Layers = Sequence[list[list[Value]]]  # of each neuron its weights and, last, its bias


def network(sizes: Sequence[int], seed: int) -> Layers:
    """Weights between -1 and 1, biases 0."""
    draw = random.Random(seed).uniform
    return [
        [[Value(draw(-1, 1) if i < n else 0.0) for i in range(n + 1)] for _ in range(m)]
        for n, m in pairwise(sizes)
    ]


def parameters(layers: Layers) -> list[Value]:
    """All weights and biases."""
    return [p for layer in layers for neuron in layer for p in neuron]


def score(layers: Layers, point: Sequence[float]) -> Value:
    """What the network says about a point."""
    row = [Value(x) for x in point]
    for layer in layers:
        row = [sum((w * x for w, x in zip(n, row, strict=False)), n[-1]) for n in layer]
        row = row if layer is layers[-1] else [x.relu() for x in row]
    return row[0]


def loss_of(layers: Layers, points: Sequence[Sequence[float]], y: Sequence[int]) -> Value:
    """Mean hinge loss for targets -1 and 1, plus 1e-4 times the squared parameters."""
    margins = [(score(layers, p) * -t + 1).relu() for p, t in zip(points, y, strict=True)]
    squares = [p * p for p in parameters(layers)]
    return sum(margins, Value(0.0)) * (1 / len(points)) + sum(squares, Value(0.0)) * 1e-4


def moons(samples: int, seed: int) -> tuple[list[tuple[float, float]], list[int]]:
    """Points on two half circles with some noise, and their side, -1 or 1."""
    rng = random.Random(seed)
    sides = [1 if i % 2 else -1 for i in range(samples)]
    angles = [rng.uniform(0, math.pi) for _ in sides]
    clean = [(math.cos(a), math.sin(a)) for a in angles]
    moved = [(1 - u, 0.5 - v) if s > 0 else (u, v) for (u, v), s in zip(clean, sides, strict=True)]
    return [(u + rng.gauss(0, 0.1), v + rng.gauss(0, 0.1)) for u, v in moved], sides


def train(samples: int, epochs: int, seed: int = 0) -> float:
    """The loss before the last of so many steps."""
    points, sides = moons(samples, seed)
    layers = network((2, 16, 16, 1), seed)
    for epoch in range(epochs):
        loss = loss_of(layers, points, sides)
        loss.backward()
        for p in parameters(layers):
            p.data -= (1.0 - 0.9 * epoch / 100) * p.grad
            p.grad = 0.0
    return loss.data


if __name__ == "__main__":
    begun = time.perf_counter()
    try:
        last = train(*map(int, sys.argv[1:]))
        found: dict[str, object] = {"seconds": time.perf_counter() - begun, "loss": last}
    except RecursionError:
        found = {"error": "RecursionError"}
    print(json.dumps(found))
