"""An op of your own: define it, register it, check it.

    python examples/check_your_op.py

The op is the pseudo-Huber function `d*d * (sqrt(1 + (x/d)**2) - 1)`: a parabola near 0, a straight
line far away. One record says all that lazygrad has to know; `lazygrad.testing` then compares the
values with NumPy and the gradients, first and second, with finite differences. With Hypothesis
installed it does so on random inputs in every memory layout.
"""

import argparse
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

import lazygrad as lg
from lazygrad.ops.elementwise import FLOATS, elementwise
from lazygrad.ops.opdef import OpDef, Promotion, Sample
from lazygrad.testing import GradcheckError, gradcheck, gradgradcheck, op_cases


def body(m: Any, x: Any, *, d: float) -> Any:
    """What it computes, in the words of `lazygrad/ops/scalar_math.py`; NumPy is one reading."""
    ratio = m.div(x, m.const(d, x))
    root = m.sqrt(m.add(m.mul(ratio, ratio), m.const(1.0, x)))
    return m.mul(m.sub(root, m.const(1.0, x)), m.const(d * d, x))


def gradient(g: Any, out: Any, x: Any, *, d: float) -> tuple[Any]:
    """One cotangent for each input, written with tensor methods: it can be differentiated again."""
    return (g * x * (1 + (x / d) ** 2).rsqrt(),)


def wrong_gradient(g: Any, out: Any, x: Any, *, d: float) -> tuple[Any]:
    """The kind of mistake that is easily made: the square root is missing."""
    return (g * x / (1 + (x / d) ** 2),)


def samples(rng: np.random.Generator) -> Iterator[Sample]:
    """Inputs and attributes to try it on; empty and 0-d ones belong to them."""
    for shape in [(), (4,), (2, 3), (0, 2)]:
        for d in (0.5, 2.0):
            yield Sample((rng.uniform(-3, 3, shape),), {"d": d})


def define(name: str, vjp: Any) -> OpDef:
    """Register the op under a name."""
    return elementwise(
        name, body, vjp, takes=FLOATS, promotion=Promotion.FLOAT, samples=samples, flops=8,
        grad_name="PseudoHuberBackward", doc="d*d * (sqrt(1 + (x/d)**2) - 1) (Charbonnier 1997).",
    )  # fmt: skip


def check(op: OpDef) -> None:
    """Values, first and second derivatives on the op's own samples."""
    for sample in samples(np.random.default_rng(0)):
        x = lg.tensor(sample.arrays[0], requires_grad=True)
        d = sample.attrs["d"]
        wanted = d * d * (np.sqrt(1 + (x.numpy() / d) ** 2) - 1)
        np.testing.assert_allclose(x.apply(op, d=d).numpy(), wanted, rtol=1e-12, atol=1e-12)
        gradcheck(lambda x, d=d: x.apply(op, d=d), x)
        gradgradcheck(lambda x, d=d: x.apply(op, d=d), x)


def check_random_cases(op: OpDef) -> None:
    """The same over whatever Hypothesis thinks of."""
    from hypothesis import given, settings

    @settings(max_examples=50, database=None, deadline=None)
    @given(op_cases(op))
    def values_and_gradients(case: Any) -> None:
        np.testing.assert_allclose(case.apply().numpy(), case.reference(), rtol=1e-12)
        gradcheck(case.apply, [lg.tensor(a, requires_grad=True) for a in case.arrays])

    values_and_gradients()


def main(argv: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    pseudo_huber = define("pseudo_huber", gradient)

    x = lg.tensor([-3.0, 0.0, 0.1, 4.0], requires_grad=True)
    y = x.apply(pseudo_huber, d=1.0)
    y.sum().backward()
    print(f"value    {y}\ngradient {x.grad}")

    check(pseudo_huber)
    print("values, gradients and their gradients are right")

    captured = lg.compute_graph(lambda x: x.apply(pseudo_huber, d=1.0).mean())
    assert captured(x).item() == x.apply(pseudo_huber, d=1.0).mean().item()
    print("captured, it gives the same bits")

    if find_spec("hypothesis") is not None:
        check_random_cases(pseudo_huber)
        print("50 random cases agree")

    print("\nwith a mistake in the gradient:")
    try:
        check(define("pseudo_huber_with_a_mistake", wrong_gradient))
    except GradcheckError as error:
        print(error)


if __name__ == "__main__":
    main()
