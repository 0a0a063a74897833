"""New tensors: from data and by formula, captured and not."""

import math

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.errors import ArgumentError, DeviceError, DTypeError, IndexOutOfRangeError, ShapeError


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        ([1, 2], lg.int64),
        ([1.0, 2], lg.float32),
        ([True, False], lg.bool),
        (3, lg.int64),
        (2.5, lg.float32),
        (True, lg.bool),
        ([], lg.float32),
        (np.zeros(2), lg.float64),
        (np.int8([1]), lg.int8),
        ([np.float32(1), np.float32(2)], lg.float32),
        ([lg.tensor(1.0), lg.tensor(2.0)], lg.float32),
    ],
)
def test_inferred_dtype(data, dtype):
    assert lg.tensor(data).dtype is dtype


def test_tensor_class_is_floating_by_default():
    assert lg.Tensor([1, 2]).dtype is lg.float32
    assert lg.Tensor(np.array([1, 2])).dtype is lg.int64


def test_tensor_copies():
    a = np.zeros(2)
    t = lg.tensor(a)
    a[0] = 5
    assert t.tolist() == [0, 0]
    x = lg.tensor([1.0], requires_grad=True)
    y = lg.tensor(x)
    assert not y.requires_grad


def test_from_numpy_borrows():
    a = np.zeros((2, 2), np.float32)
    t = lg.from_numpy(a)
    a[0] = 5
    assert t.tolist() == [[5, 5], [0, 0]]
    assert lg.from_numpy(a.T).tolist() == [[5, 0], [5, 0]]
    with pytest.raises(DTypeError, match="from_numpy takes a NumPy array, got list"):
        lg.from_numpy([1])


def test_as_tensor_keeps_tensors():
    t = lg.ones(2)
    assert lg.as_tensor(t) is t
    assert lg.as_tensor(t, dtype=lg.float64).dtype is lg.float64


def test_dlpack_round_trip():
    t = lg.tensor([1.0, 2.0])
    assert np.from_dlpack(t).tolist() == [1, 2]
    assert lg.from_dlpack(np.arange(3)).tolist() == [0, 1, 2]


def test_constants():
    assert lg.zeros(2, 3).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert lg.ones((2,), dtype=lg.int8).dtype is lg.int8
    assert lg.full((2,), 7).dtype is lg.int64
    assert lg.full([], 1.5).shape == ()
    assert lg.full((2,), True).dtype is lg.bool
    assert lg.full((2,), lg.tensor(3.0)).tolist() == [3, 3]
    like = lg.full_like(lg.ones(2, dtype=lg.float16), 3)
    assert (like.tolist(), like.dtype) == ([3, 3], lg.float16)
    assert lg.zeros_like(np.ones(2)).dtype is lg.float64
    assert lg.ones_like(lg.zeros(3), dtype=lg.bool).tolist() == [True] * 3
    assert lg.empty(2, 2).shape == (2, 2)
    assert lg.scalar(3).dtype is lg.int64


def test_leaves():
    w = lg.zeros(3, requires_grad=True)
    assert w.is_leaf
    assert w.requires_grad
    x = lg.eye(2)
    x[0, 0] = 5
    assert x.tolist() == [[5, 0], [0, 1]]


@pytest.mark.parametrize(
    "args", [(5,), (2, 7), (1, 10, 3), (5, 0, -2), (0.0, 1.0, 0.3), (1.5,), (3, 3), (0, 1, 0.1)]
)
def test_arange(args):
    expected = np.arange(*args)
    t = lg.arange(*args)
    assert t.dtype is (lg.int64 if expected.dtype == np.int64 else lg.float32)
    np.testing.assert_allclose(t.numpy(), expected, rtol=1e-6)


def test_linspace_and_logspace():
    np.testing.assert_allclose(lg.linspace(-1, 3, 9).numpy(), np.linspace(-1, 3, 9), rtol=1e-6)
    assert lg.linspace(0.1, 0.7, 7, dtype=lg.float64)[-1].item() == 0.7
    assert lg.linspace(2, 5, 1).tolist() == [2]
    assert lg.linspace(2, 5, 0).shape == (0,)
    np.testing.assert_allclose(lg.logspace(0, 3, 4).numpy(), [1, 10, 100, 1000], rtol=1e-6)
    np.testing.assert_allclose(lg.logspace(0, 3, 4, base=2.0).numpy(), [1, 2, 4, 8], rtol=1e-6)


def test_eye_and_triangles():
    assert lg.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert lg.eye(2, dtype=lg.int64).dtype is lg.int64
    assert lg.tril_indices(3, 3, -1).tolist() == np.stack(np.tril_indices(3, -1)).tolist()
    assert lg.triu_indices(2, 3).tolist() == np.stack(np.triu_indices(2, 0, 3)).tolist()


@pytest.mark.parametrize("indexing", ["ij", "xy"])
def test_meshgrid(indexing):
    a, b, c = np.arange(2), np.arange(3), np.arange(4)
    ours = lg.meshgrid(lg.tensor(a), lg.tensor(b), lg.tensor(c), indexing=indexing)
    for x, y in zip(ours, np.meshgrid(a, b, c, indexing=indexing), strict=True):
        assert np.array_equal(x.numpy(), y)


def test_one_hot():
    labels = lg.tensor([[0, 2], [1, 1]])
    assert lg.one_hot(labels).tolist() == np.eye(3, dtype=int)[labels.numpy()].tolist()
    assert lg.one_hot(labels, 5).shape == (2, 2, 5)
    with pytest.raises(IndexOutOfRangeError, match=r"label 2 at position \(0, 1\) .* \[0, 2\)"):
        lg.one_hot(labels, 2).numpy()


FORMULAS = {
    "zeros": lambda: lg.zeros(2, 2),
    "full": lambda: lg.full((2,), 0.1),
    "full_int": lambda: lg.full((2,), 3),
    "full_half": lambda: lg.full((2,), 0.1, dtype=lg.float16),
    "eye": lambda: lg.eye(3),
    "arange": lambda: lg.arange(5),
    "arange_float": lambda: lg.arange(0, 1, 0.1),
    "linspace": lambda: lg.linspace(0.3, 1.7, 11),
    "logspace": lambda: lg.logspace(0, 1, 7, dtype=lg.float64),
    "one_hot": lambda: lg.one_hot(lg.tensor([1, 0]), 3),
    "tensor": lambda: lg.tensor([1.0, 2.0]),
    "tril": lambda: lg.ones(3, 3).tril(),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_captured_bits_are_the_uncaptured_ones(name):
    make = FORMULAS[name]
    captured = lg.compute_graph(lambda x: make() + x)
    for value in (0, 1):
        x = lg.tensor(value)
        plain = make() + x
        result = captured(x)
        assert result.dtype is plain.dtype
        assert result.numpy().tobytes() == plain.numpy().tobytes()


def test_a_new_tensor_changed_in_place_is_new_at_each_call():
    @lg.compute_graph
    def f(x):
        total = lg.zeros(2)
        total += x
        total[0] = -1.0
        return total

    assert [f(lg.full((2,), float(i))).tolist() for i in range(3)] == [[-1, 0], [-1, 1], [-1, 2]]


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: lg.tensor([[1, 2], [3]]), ShapeError, r"ragged data: rows of .* lengths \[2, 1\]"),
        (lambda: lg.tensor("abc"), DTypeError, "cannot hold strings"),
        (lambda: lg.tensor(["a"]), DTypeError, "cannot hold strings"),
        (lambda: lg.tensor([object()]), DTypeError, "cannot hold objects"),
        (lambda: lg.tensor([1j]), DTypeError, "cannot hold"),
        (lambda: lg.zeros(2, dtype="flot32"), DTypeError, "did you mean 'float32'"),
        (lambda: lg.zeros(2, dtype=complex), DTypeError, "unknown dtype"),
        (lambda: lg.zeros(-1), ShapeError, "cannot be negative"),
        (lambda: lg.zeros(1.5), DTypeError, "integers are needed"),
        (lambda: lg.zeros(2, device="cuda"), DeviceError, "'cuda' is not available"),
        (lambda: lg.rand(2, device="cuda:1"), DeviceError, "'cuda:1' is not available"),
        (lambda: lg.arange(0, 5, 0), ArgumentError, "by steps of 0"),
        (lambda: lg.arange(0, 5, -1), ArgumentError, "never lead from 0 to 5"),
        (lambda: lg.linspace(0, 1, -2), ArgumentError, "must not be negative"),
        (lambda: lg.meshgrid(lg.ones(2), indexing="yx"), ArgumentError, "not 'ij' or 'xy'"),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize("value", [-1, 256, float("inf"), float("nan")])
def test_what_an_integer_dtype_does_not_hold_raises(value):
    x = lg.zeros(2, dtype=lg.uint8)
    for make in (
        lambda: lg.full((2,), value, dtype=lg.uint8),
        lambda: lg.full_like(x, value),
        lambda: x.new_full((2,), value),
        lambda: x.clone().fill_(value),
    ):
        for call in (make, lg.compute_graph(make)):
            with pytest.raises(DTypeError, match=f"{value} does not fit uint8"):
                call()


def test_a_refused_permutation_leaves_the_random_stream_as_it_was():
    lg.manual_seed(3)
    expected = lg.rand(2).tolist()
    lg.manual_seed(3)
    with pytest.raises(ArgumentError, match="randperm: n must not be negative, got -1"):
        lg.randperm(-1)
    assert lg.rand(2).tolist() == expected


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: lg.multinomial(lg.tensor([-1.0, 2.0]), 1), "weights that are negative or not"),
        (lambda: lg.multinomial(lg.tensor([math.nan, 2.0]), 1), "weights that are negative or"),
        (lambda: lg.multinomial(lg.zeros(2), 1, True), "rows with too few positive weights"),
        (lambda: lg.multinomial(lg.tensor([0.0, 1.0]), 2), "rows with too few positive weights"),
        (lambda: lg.bernoulli(lg.tensor([1.5])), r"probabilities outside of \[0, 1\], counted: 1"),
        (lambda: lg.bernoulli(lg.tensor([math.nan])), "probabilities outside of"),
    ],
)
def test_probabilities_are_checked_when_numbers_are_drawn(draw, message):
    for call in (draw, lg.compute_graph(draw)):
        with pytest.raises(IndexOutOfRangeError, match=message):
            call().numpy()


def test_sizes_and_ends_by_name():
    for make in (lg.zeros, lg.ones, lg.empty, lg.rand, lg.randn):
        assert make(size=(2, 3)).shape == (2, 3)
        with pytest.raises(ArgumentError, match="the size is given twice"):
            make(2, size=(2, 3))
    assert lg.arange(end=3).tolist() == [0, 1, 2]
    assert lg.randint(high=1, size=(2,)).tolist() == [0, 0]
    with pytest.raises(ArgumentError, match="arange: the end is missing"):
        lg.arange()


def test_a_tensor_says_where_it_is() -> None:
    x = lg.ones(2)
    assert x.device == "cpu" and x.device == lg.device("cpu") and isinstance(x.device, lg.device)
    assert (x.device.type, x.device.index, str(x.device)) == ("cpu", None, "cpu")
    assert lg.compute_graph(lambda x: lg.zeros(2, device=x.device) + x)(x).tolist() == [1.0, 1.0]
