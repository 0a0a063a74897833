"""Automatic differentiation on single numbers, as in micrograd's demo.

    python examples/scalars.py

A scalar is a tensor without dimensions. Every operation appends a node to a graph; nothing is
computed until a value is asked for. `backward()` appends the nodes of the gradients.
"""

import argparse

import lazygrad as lg


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", metavar="FILE", help="draw the graph, e.g. scalars.svg")
    args = parser.parse_args(argv)

    a = lg.tensor(-4.0, requires_grad=True)
    b = lg.tensor(2.0, requires_grad=True)
    a.name, b.name = "a", "b"

    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    g.name = "g"

    print(f"g = {g.item():.4f}")  # the outcome of this forward pass
    g.backward()
    print(f"dg/da = {a.grad.item():.4f}")  # how g answers to a tiny change of a
    print(f"dg/db = {b.grad.item():.4f}")

    # A gradient is a tensor like any other, so it has gradients of its own.
    x = lg.tensor(2.0, requires_grad=True)
    (first,) = lg.grad(x**3, x, create_graph=True)
    (second,) = lg.grad(first, x)
    print(f"x**3 at 2: slope {first.item():g}, curvature {second.item():g}")

    small = a * b + 10.0
    small.print_branch()
    if args.picture:
        stem, _, suffix = args.picture.rpartition(".")
        g.graph.visualize(stem, format=suffix)


if __name__ == "__main__":
    main()
