"""Gradients of slices are put side by side: few nodes, and the bits of a plain sum."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.engine.autodiff import assembled
from lazygrad.ops.opdef import Patch


def patch(start: int, stop: int, *values: float, width: int = 2) -> Patch:
    rows = lg.tensor(np.array(values).reshape(stop - start, 1).repeat(width, 1))
    return Patch(rows, (start, 0), (stop, width), (1, 1))


@pytest.mark.parametrize(
    ("patches", "wanted"),
    [
        ([patch(1, 2, 5.0)], [0, 5, 0, 0]),
        ([patch(3, 4, 1.0), patch(0, 2, 2.0, 3.0)], [2, 3, 0, 1]),
        ([patch(0, 2, 1.0, 2.0), patch(2, 4, 3.0, 4.0), patch(0, 2, 5.0, 6.0)], [6, 8, 3, 4]),
        ([patch(0, 3, 1.0, 2.0, 3.0), patch(2, 4, 4.0, 5.0)], [1, 2, 7, 5]),
    ],
)
def test_patches_add_up(patches, wanted) -> None:
    found = assembled(patches, (4, 2))
    np.testing.assert_array_equal(found.numpy(), np.array(wanted, float)[:, None].repeat(2, 1))


def test_the_gradient_of_all_parts_is_one_concatenation() -> None:
    x = lg.ones(6, 3, requires_grad=True)
    total = sum((part * k).sum() for k, part in enumerate(x.unbind(0)))
    (grad,) = lg.grad(total, x)
    names, pending = [], [grad._node]
    while pending:
        node = pending.pop()
        names.append(node.op.name)
        pending += node.inputs
    assert names.count("cat") == 1 and "slice_set" not in names
    assert grad[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_zeros_are_positive_whichever_patches_meet() -> None:
    x = lg.ones(4, requires_grad=True)
    f = lg.compute_graph(lambda x: x[:2] * -0.0)
    g = lg.compute_graph(lambda x: x[2:] * -0.0)
    signs = []
    for first, second in ((f, g), (lambda x: x[:2] * -0.0, lambda x: x[2:] * -0.0)):
        x.grad = None
        (first(x).sum() + second(x).sum()).backward()
        signs.append(np.signbit(x.grad.numpy()).tolist())
    assert signs[0] == signs[1]
