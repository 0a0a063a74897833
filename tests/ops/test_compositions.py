"""Methods and functions that are compositions, against PyTorch 2.13."""

import math
from pathlib import Path

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.errors import ArgumentError, AxisError, CaptureError, GradientError, ShapeError
from tests.golden import cases_methods as cases

GOLDENS = np.load(Path(cases.__file__).with_name("goldens_methods.npz"))


@pytest.mark.parametrize("name", cases.RUNS)
def test_values_and_gradients_are_those_of_pytorch(name: str) -> None:
    found = cases.run(lg, name)
    for part, values in found.items():
        wanted = GOLDENS[f"{name}/{part}"]
        np.testing.assert_allclose(np.asarray(values, float), wanted, rtol=1e-10, atol=1e-12)


def test_shapes_in_place() -> None:
    for leaf in (True, False):
        x = lg.ones(2, 1, 3) if leaf else lg.ones(2, 1, 3) + 1
        same = x
        assert x.squeeze_(1) is same and x.shape == (2, 3)
        assert x.unsqueeze_(0).shape == (1, 2, 3)
        assert x.transpose_(0, 2).shape == (3, 2, 1)
        assert (x.sum() / (1 if leaf else 2)).item() == 6
    m = lg.tensor([[1.0, 2.0, 3.0]])
    assert m.t_().tolist() == [[1], [2], [3]]
    assert m.add_(1).tolist() == [[2], [3], [4]]
    w = lg.ones(3, requires_grad=True)
    with pytest.raises(GradientError, match="cannot change its shape"):
        w.unsqueeze_(0)
    y = w * 2
    y.unsqueeze_(0)[0, 1].backward()
    assert w.grad.tolist() == [0, 2, 0]
    with pytest.raises(CaptureError, match="make a new tensor"):
        lg.compute_graph(lambda x: x.t_())(lg.ones(2, 2))


def test_fill_diagonal_in_place() -> None:
    assert lg.zeros(2, 3).fill_diagonal_(5).tolist() == [[5, 0, 0], [0, 5, 0]]
    assert lg.zeros(2, 2, 2).fill_diagonal_(1).sum().item() == 2
    with pytest.raises(AxisError, match="fill_diagonal_ takes a matrix"):
        lg.zeros(2, 3, 2).fill_diagonal_(1)


def test_elementwise_in_place_forms() -> None:
    x = lg.tensor([4.0, -1.0])
    held = x
    x.clamp_min_(0).sin_()
    assert held is x
    np.testing.assert_allclose(x.numpy(), np.sin([4.0, 0.0]).astype(np.float32), rtol=1e-6)
    assert lg.tensor([0.0, 2.0]).logical_not_().tolist() == [1, 0]
    assert lg.ones(2, 2).triu_().tolist() == [[1, 1], [0, 1]]


def test_constants_and_questions() -> None:
    assert (lg.pi, lg.e, lg.inf) == (np.pi, np.e, np.inf) and lg.nan != lg.nan
    assert lg.ones(2)[:, lg.newaxis].shape == (2, 1)
    assert lg.broadcast_shapes((2, 1), (3,), 1) == (2, 3)
    assert lg.can_cast(lg.int32, lg.float32) and not lg.can_cast(lg.float32, lg.int32)
    assert lg.tensor([2]).is_nonzero() and not lg.tensor(0.0).is_nonzero()
    assert lg.is_signed(lg.ones(1)) and not lg.ones(1, dtype=lg.uint8).is_signed()
    assert lg.scalar_tensor(2).dtype is lg.float32
    x = lg.ones(2)
    assert lg.asarray(x) is x and lg.asarray([1, 2]).dtype is lg.int64
    assert lg.get_num_threads() >= 1


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: x.quantile(1.5), ArgumentError, "must lie in"),
        (lambda x: x.quantile(0.5, interpolation="cubic"), ArgumentError, "'cubic' is not one of"),
        (lambda x: x.kthvalue(4), ShapeError, "k=4 of 3 elements"),
        (lambda x: x.hsplit(2), ShapeError, "no 2 parts"),
        (lambda x: x.histc(0), ArgumentError, "0 bins"),
        (lambda x: x[0].fliplr(), AxisError, "fliplr needs 2 dimensions"),
        (lambda x: lg.cdist(x, lg.ones(2, 2)), ShapeError, "cdist"),
        (lambda x: x.inner(lg.ones(2)), ShapeError, "last dimensions"),
        (lambda x: lg.combinations(x), AxisError, "takes a vector"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, error, text) -> None:
    with pytest.raises(error, match=text):
        call(lg.ones(2, 3))


def test_operands_of_two_dtypes_meet_before_anything_is_computed():
    small, wide = lg.tensor([250, 3], dtype=lg.uint8), lg.tensor([-3.0, 2.0], dtype=lg.float64)
    assert wide.add(small, alpha=2).tolist() == [497.0, 8.0]
    assert wide.sub(small, alpha=2).tolist() == [-503.0, -4.0]
    assert wide.addcmul(small, small).tolist() == [62497.0, 11.0]
    assert wide.xlogy(small).tolist() == pytest.approx([-3 * math.log(250), 2 * math.log(3)], 1e-14)
    assert wide.ldexp(small).tolist() == [-3.0 * 2.0**250, 16.0]
    assert wide.hypot(wide > 0).tolist() == pytest.approx([3.0, math.sqrt(5)], 1e-14)
    assert wide.half().xlogy(small).dtype is lg.float16
    flags = lg.tensor([True, False])
    assert flags.add(flags, alpha=2).dtype is lg.bool
    assert flags.int().add(flags, alpha=2).dtype is lg.int32
    assert small.logit().isnan().all()  # no logarithm of 250 / (1 - 250), whatever that is in uint8


def test_the_slope_of_logit_at_its_ends():
    x = lg.tensor([0.0, 0.25, 1.0], requires_grad=True)
    x.logit().sum().backward()
    assert x.grad.tolist() == pytest.approx([math.inf, 16 / 3, math.inf])


def test_arrays_without_dimensions_are_operands():
    assert lg.tensor([3.0]).hypot(np.array(4.0)).tolist() == [5.0]
    assert lg.tensor([3.0]).fmax(np.array(4.0)).tolist() == [4.0]
