"""The random bits against published vectors, the distributions against their own functions."""

import math

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.errors import ArgumentError, DTypeError, ShapeError
from lazygrad.ops.random import PHILOX, philox

N = 20_000


@pytest.fixture(autouse=True)
def seed():
    lg.manual_seed(1234)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_known_answers(counter, key, expected):
    """The vectors published with Random123 (Salmon et al. 2011)."""
    out = philox(np.array(counter, np.uint64)[:, None], key)
    assert " ".join(f"{int(word):08x}" for word in out[:, 0]) == expected


def test_a_number_depends_on_its_position_only():
    def bits(counter, n, offset=0):
        key = np.array([99, counter], np.uint64)
        return PHILOX.reference(key, shape=(n,), offset=offset).tolist()

    stream = bits(0, 40)
    assert bits(7, 11) == stream[7:18]
    assert bits(3, 5, offset=6) == stream[9:14]
    assert bits(2**34, 4) != stream[:4]  # the upper half of the counter counts


def test_realize_order_does_not_matter():
    a, b = lg.rand(5), lg.rand(5)
    second, first = b.tolist(), a.tolist()
    lg.manual_seed(1234)
    assert (lg.rand(5).tolist(), lg.rand(5).tolist()) == (first, second)
    assert first != second


def test_state_round_trip():
    lg.randn(3)
    state = lg.get_rng_state()
    first = lg.randn(4).tolist()
    lg.set_rng_state(state)
    assert lg.randn(4).tolist() == first


def test_generators_are_streams_of_their_own():
    g = lg.Generator().manual_seed(5)
    first = lg.rand(3, generator=g).tolist()
    lg.rand(3)
    assert lg.rand(3, generator=g.manual_seed(5)).tolist() == first


def kolmogorov(sample, distribution):
    """The Kolmogorov-Smirnov distance, in units of 1 / sqrt(n): above 1.95 once in 1000 seeds."""
    x = np.sort(np.asarray(sample, np.float64))
    f = np.array([distribution(v) for v in x])
    n = len(x)
    steps = np.arange(n + 1) / n
    return max((steps[1:] - f).max(), (f - steps[:-1]).max()) * math.sqrt(n)


def normal_cdf(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


@pytest.mark.parametrize("dtype", [lg.float32, lg.float64])
def test_uniform(dtype):
    x = lg.rand(N, dtype=dtype)
    assert x.dtype is dtype
    values = x.numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert kolmogorov(values, lambda v: v) < 1.95


@pytest.mark.parametrize("dtype", [lg.float16, lg.bfloat16])
def test_uniform_in_half_precision_stays_below_one(dtype):
    values = lg.rand(N, dtype=dtype).numpy().astype(np.float32)
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.01


@pytest.mark.parametrize("dtype", [lg.float32, lg.float64])
def test_normal(dtype):
    x = lg.randn(N, dtype=dtype)
    assert kolmogorov(x.numpy(), normal_cdf) < 1.95
    shifted = lg.normal(3.0, 2.0, (N,), dtype=dtype)
    assert kolmogorov((shifted.numpy() - 3) / 2, normal_cdf) < 1.95


def test_normal_of_tensors():
    mean = lg.tensor([0.0, 100.0])
    assert lg.normal(mean, 0.0).tolist() == [0, 100]
    assert lg.normal(mean, lg.tensor([1.0, 1.0])).shape == (2,)


def test_exponential():
    x = lg.empty(N).exponential_(2.0)
    assert kolmogorov(x.numpy(), lambda v: 1 - math.exp(-2 * v)) < 1.95


def chi_square(counts, expected):
    """The statistic minus its mean in units of its deviation."""
    freedom = len(counts) - 1
    statistic = ((np.asarray(counts) - expected) ** 2 / expected).sum()
    return (statistic - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize("span", [(0, 7), (-3, 4)])
def test_randint(span):
    x = lg.randint(*span, (N,))
    assert x.dtype is lg.int64
    counts = np.bincount(x.numpy() - span[0], minlength=7)
    assert chi_square(counts, N / 7) < 4


def test_randint_forms():
    assert lg.randint(5, (2, 3)).shape == (2, 3)
    assert lg.randint(0, 2**40, (100,)).numpy().max() > 2**32
    assert lg.randint(0, 3, (4,), dtype=lg.int8).dtype is lg.int8
    assert lg.randint_like(lg.zeros(3), 5).shape == (3,)
    with pytest.raises(ArgumentError, match=r"nothing lies in \[3, 3\)"):
        lg.randint(3, 3, (1,))
    with pytest.raises(ShapeError, match="size is missing"):
        lg.randint(0, 3)


def test_randperm():
    x = lg.randperm(1000)
    assert sorted(x.tolist()) == list(range(1000))
    assert x.tolist() != list(range(1000))
    firsts = np.bincount([lg.randperm(4).tolist()[0] for _ in range(200)], minlength=4)
    assert chi_square(firsts, 50) < 4


def test_bernoulli():
    assert abs(lg.bernoulli(lg.full((N,), 0.3)).mean().item() - 0.3) < 0.015
    assert lg.bernoulli(lg.tensor([0.0, 1.0])).tolist() == [0, 1]
    assert abs(lg.zeros(N).bernoulli_(0.7).mean().item() - 0.7) < 0.015


def test_multinomial_with_replacement():
    weights = lg.tensor([1.0, 0.0, 3.0, 6.0])
    counts = np.bincount(lg.multinomial(weights, N, replacement=True).numpy(), minlength=4)
    assert counts[1] == 0
    assert chi_square(counts[[0, 2, 3]], np.array([0.1, 0.3, 0.6]) * N) < 4


def test_multinomial_without_replacement():
    rows = lg.multinomial(lg.tensor([1.0, 3.0, 6.0]).expand(3000, 3), 2)
    assert rows.shape == (3000, 2)
    assert (rows[:, 0] != rows[:, 1]).all().item()
    counts = np.bincount(rows[:, 0].numpy(), minlength=3)
    assert chi_square(counts, np.array([0.1, 0.3, 0.6]) * 3000) < 4
    with pytest.raises(ShapeError, match="4 draws without replacement from 3"):
        lg.multinomial(lg.ones(3), 4)


def test_in_place():
    w = lg.zeros(N)
    w.uniform_(-2, 3)
    assert kolmogorov((w.numpy() + 2) / 5, lambda v: v) < 1.95
    w.normal_(1, 2)
    assert kolmogorov((w.numpy() - 1) / 2, normal_cdf) < 1.95


def test_a_leaf_that_requires_grad():
    w = lg.randn(3, requires_grad=True)
    assert w.is_leaf
    (w * w).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * w.numpy())


def test_captured_stream_is_the_uncaptured_one():
    def step(x):
        return x + lg.rand(2), lg.randn(2), lg.randint(0, 9, (2,))

    lg.manual_seed(3)
    plain = [[t.tolist() for t in step(lg.zeros(2))] for _ in range(4)]
    captured = lg.compute_graph(step)
    lg.manual_seed(3)
    assert [[t.tolist() for t in captured(lg.zeros(2))] for _ in range(4)] == plain


def test_errors():
    with pytest.raises(DTypeError, match="rand makes floating tensors"):
        lg.rand(3, dtype=lg.int64)
    with pytest.raises(ArgumentError, match="deviation must not be negative"):
        lg.normal(0.0, -1.0, (3,))
    with pytest.raises(ShapeError, match="cannot be negative"):
        lg.rand(-1)
