"""Initializers: bounds, moments, seeds, names."""

import math

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import ArgumentError, ShapeError

init = nn.init


def sample(fill, *args, **options) -> np.ndarray:
    tensor = lg.zeros(300, 200)
    assert fill(tensor, *args, **options) is tensor
    return tensor.numpy().astype(np.float64)


def test_constants() -> None:
    assert (sample(init.ones_) == 1).all() and (sample(init.zeros_) == 0).all()
    assert (sample(init.constant_, 0.5) == 0.5).all()
    np.testing.assert_array_equal(init.eye_(lg.zeros(2, 3)).numpy(), np.eye(2, 3))


@pytest.mark.parametrize(
    ("fill", "options", "bound"),
    [
        (init.uniform_, {"a": -2.0, "b": 2.0}, 2.0),
        (init.xavier_uniform_, {"gain": 2.0}, 2 * math.sqrt(6 / 500)),
        (init.kaiming_uniform_, {}, math.sqrt(2) * math.sqrt(3 / 200)),
        (init.kaiming_uniform_, {"a": math.sqrt(5)}, 1 / math.sqrt(200)),
        (init.kaiming_uniform_, {"mode": "fan_out", "nonlinearity": "linear"}, math.sqrt(3 / 300)),
    ],
)
def test_uniform_fills_its_interval(fill, options, bound) -> None:
    lg.manual_seed(0)
    values = sample(fill, **options)
    assert values.min() >= -bound * (1 + 1e-6) and values.max() <= bound * (1 + 1e-6)
    assert values.min() < -0.999 * bound and values.max() > 0.999 * bound
    assert abs(values.mean()) < 0.02 * bound
    assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize(
    ("fill", "options", "mean", "std"),
    [
        (init.normal_, {"mean": 1.0, "std": 0.5}, 1.0, 0.5),
        (init.xavier_normal_, {}, 0.0, math.sqrt(2 / 500)),
        (init.kaiming_normal_, {"nonlinearity": "relu"}, 0.0, math.sqrt(2 / 200)),
        (init.kaiming_normal_, {"a": 1.0, "mode": "fan_out"}, 0.0, math.sqrt(1 / 300)),
    ],
)
def test_normal_has_its_moments(fill, options, mean, std) -> None:
    lg.manual_seed(0)
    values = sample(fill, **options)
    assert abs(values.mean() - mean) < 0.02 * std
    assert values.std() == pytest.approx(std, rel=0.02)


def test_truncated_normal_stays_inside() -> None:
    lg.manual_seed(0)
    values = sample(init.trunc_normal_, 0.0, 1.0, -0.5, 1.5)
    assert values.min() >= -0.5 and values.max() <= 1.5 and values.max() > 1.4
    with pytest.raises(ArgumentError, match=r"\[50.0, 51.0\] is out of reach"):
        init.trunc_normal_(lg.zeros(2), a=50.0, b=51.0)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (2, 2, 2)])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...]) -> None:
    q = init.orthogonal_(lg.zeros(*shape, dtype=lg.float64), gain=3.0).numpy()
    q = q.reshape(shape[0], -1) / 3
    gram = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "param", "gain"),
    [
        ("linear", None, 1), ("conv2d", None, 1), ("sigmoid", None, 1), ("tanh", None, 5 / 3),
        ("relu", None, math.sqrt(2)), ("selu", None, 0.75), ("leaky_relu", 0.2, 1.3867504905630728),
        ("leaky_relu", None, math.sqrt(2 / 1.0001)),
    ],
)  # fmt: skip
def test_gains_are_those_of_pytorch(name: str, param: float | None, gain: float) -> None:
    assert init.calculate_gain(name, param) == pytest.approx(gain, rel=1e-15)


def test_errors_name_the_nearest() -> None:
    with pytest.raises(ArgumentError, match="unknown nonlinearity 'rleu'; did you mean 'relu'"):
        init.calculate_gain("rleu")
    with pytest.raises(ArgumentError, match="mode is 'fan_in' or 'fan_out', got 'fan'"):
        init.kaiming_normal_(lg.zeros(2, 2), mode="fan")
    with pytest.raises(ShapeError, match=r"need two dimensions, got \(3,\)"):
        init.xavier_uniform_(lg.zeros(3))
    with pytest.raises(ShapeError, match=r"eye_ takes a matrix, got \(3,\)"):
        init.eye_(lg.zeros(3))


def test_the_seed_decides_a_whole_model() -> None:
    def build() -> list[np.ndarray]:
        lg.manual_seed(5)
        model = nn.Sequential(nn.Linear(4, 3), nn.Embedding(3, 2))
        init.orthogonal_(model[0].weight)
        return [p.numpy(copy=True) for p in model.parameters()]

    for a, b in zip(build(), build(), strict=True):
        np.testing.assert_array_equal(a, b)
    lg.manual_seed(6)
    assert not np.array_equal(nn.Linear(4, 3).bias.numpy(), build()[1])


def test_a_generator_of_ones_own() -> None:
    g = lg.Generator(3)
    first = init.normal_(lg.zeros(4), generator=g).numpy()
    g.manual_seed(3)
    np.testing.assert_array_equal(init.normal_(lg.zeros(4), generator=g).numpy(), first)


def test_names_without_underscore_are_the_same_functions() -> None:
    for name in (
        "zeros", "ones", "constant", "eye", "uniform", "normal", "trunc_normal", "orthogonal",
        "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal",
    ):  # fmt: skip
        assert getattr(init, name) is getattr(init, name + "_")


def test_the_default_of_linear_is_that_of_pytorch() -> None:
    lg.manual_seed(0)
    layer = nn.Linear(400, 300)
    for p in layer.parameters():
        assert abs(p.numpy()).max() == pytest.approx(1 / 20, rel=0.02)
    assert nn.Linear(2, 3, dtype=lg.float64).weight.dtype is lg.float64
