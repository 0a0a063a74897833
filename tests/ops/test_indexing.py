"""Reading and writing by index, against NumPy."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import lazygrad as lg
from lazygrad.errors import CaptureError, DTypeError, IndexOutOfRangeError, ShapeError

X = np.arange(60.0).reshape(3, 4, 5)
ROWS = np.array([2, 0, -1])
rng = np.random.default_rng(5)
MASK = X[:, :, 0] % 3 == 0

READS = [
    0, -1, (1, 2), (1, 2, 3), (slice(None), -2), slice(1, 3), slice(None, None, -1),
    (slice(None), slice(3, 0, -2)), (..., 0), (0, ..., slice(1, 4, 2)), None, (None, 1, None),
    (slice(None), None), Ellipsis, (), slice(5, 9), (slice(2, 1), 0), [0, 2], ROWS, (ROWS, ROWS),
    (slice(None), ROWS), (slice(None), ROWS, ROWS), (ROWS, slice(None), ROWS), (ROWS, 1),
    (slice(1, 3), [0, 1, 1]), (ROWS[:, None], [0, 3]), (..., ROWS), (None, ROWS, None), MASK,
    (MASK, 2), (0, X[0, :, 0] > 3), X > 30, [True, False, True], np.int64(1), (ROWS, None),
    (np.array(1), 2), [[0, 1], [1, 2]], range(2), (slice(None, None, 2), [1, 3], slice(0, 2)),
    np.zeros(0, np.int64), [],
]  # fmt: skip


def as_tensors(key):
    """The same key with tensors in the place of arrays."""
    items = key if isinstance(key, tuple) else (key,)
    made = tuple(lg.tensor(i) if isinstance(i, np.ndarray) else i for i in items)
    return made if isinstance(key, tuple) else made[0]


@pytest.mark.parametrize("key", READS, ids=str)
def test_read(key):
    expected = X[np.asarray(key) if isinstance(key, range) else key]
    for form in (key, as_tensors(key)):
        result = lg.tensor(X)[form]
        assert result.shape == expected.shape
        assert np.array_equal(result.numpy(), expected)


@pytest.mark.parametrize("key", READS, ids=str)
def test_write(key):
    base = X[np.asarray(key) if isinstance(key, range) else key]
    region = base.shape
    values = [np.float64(-7.0)]
    if len(np.unique(base)) == base.size:  # which of several values stays is not defined
        values += [-np.arange(1.0, base.size + 1).reshape(region)]
        values += [np.full(region[-1:], -5.0)] if region else []
    for value in values:
        expected = X.copy()
        expected[list(key) if isinstance(key, range) else key] = value
        for form in (key, as_tensors(key)):
            result = lg.tensor(X)
            result[form] = lg.tensor(value) if form is key else value
            assert np.array_equal(result.numpy(), expected)


@given(st.data())
def test_basic_indices(data):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True, max_dims=6))
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    expected = x[key]
    result = lg.tensor(x)[key]
    assert result.shape == expected.shape
    assert np.array_equal(result.numpy(), expected)
    written, copy = lg.tensor(x), x.copy()
    written[key] = -1
    copy[key] = -1
    assert np.array_equal(written.numpy(), copy)


@given(st.data())
@example(None)
def test_integer_arrays(data):
    if data is None:
        return
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
    key = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2)))
    x = np.arange(np.prod(shape)).reshape(shape)
    assert np.array_equal(lg.tensor(x)[key].numpy(), x[key])
    written = lg.zeros(shape, dtype=lg.int64).index_put(key, 1, accumulate=True)
    counted = np.zeros(shape, int)
    np.add.at(counted, key, 1)
    assert np.array_equal(written.numpy(), counted)


def test_an_integer_beside_arrays_selects_first():
    """As in PyTorch; NumPy would put the axis of the arrays first."""
    assert lg.tensor(X)[0, :, [1, 2, 3]].shape == (4, 3)


def test_a_written_tensor_is_a_new_version():
    x = lg.tensor([1.0, 2.0])
    y = x * 2
    x[0] = 9
    assert (x.tolist(), y.tolist()) == ([9, 2], [2, 4])


def test_writing_converts_to_the_dtype():
    x = lg.zeros(2, dtype=lg.int64)
    x[0] = 2.7
    assert (x.tolist(), x.dtype) == ([2, 0], lg.int64)


def test_augmented_assignment_at_an_index():
    x = lg.tensor([1.0, 2.0, 3.0])
    x[1:] += 10
    x[[0]] *= 5
    assert x.tolist() == [5, 12, 13]


@pytest.mark.parametrize("index", [np.array([0, 7]), [0, 7]])
def test_out_of_range_on_the_host_raises_at_once(index):
    with pytest.raises(IndexOutOfRangeError, match=r"index 7 at position 1 is out of range for"
                       r" axis 1 with 4 elements"):  # fmt: skip
        lg.tensor(X)[:, index]


def test_out_of_range_in_a_tensor_raises_when_it_is_read():
    y = lg.tensor(X)[lg.tensor([0, -4])]
    with pytest.raises(IndexOutOfRangeError, match=r"index -4 at position 1 .* axis 0 with 3"):
        y.numpy()


@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (3, IndexOutOfRangeError, "index 3 is out of range for axis 0 with 3 elements"),
        ((0, 0, 0, 0), IndexOutOfRangeError, "too many indices: the tensor has 3 dimensions, 4"),
        ("x", DTypeError, "str cannot index a tensor"),
        (1.0, DTypeError, "float cannot index a tensor"),
        ([0.5], DTypeError, "arrays of integers or bools can index, got float64"),
        (np.ones(4, bool), ShapeError, r"a mask of shape \(4,\) for axes of shape \(3,\)"),
        (slice(None, None, 0), ShapeError, "step of a slice cannot be 0"),
    ],
)
def test_errors(key, error, text):
    with pytest.raises(error, match=text):
        lg.tensor(X)[key]
    with pytest.raises(error, match=text):
        lg.tensor(X)[key] = 0


def test_leading_ones_of_a_value_are_dropped():
    x = lg.zeros(2, 3)
    x[0] = lg.ones(1, 1, 3)
    assert x.tolist() == [[1, 1, 1], [0, 0, 0]]


def test_value_that_does_not_fit():
    x = lg.tensor(X)
    with pytest.raises(ShapeError, match=r"a value of shape \(3,\) does not fit into \(4, 5\)"):
        x[0] = lg.zeros(3)
    with pytest.raises(ShapeError, match="does not fit"):
        x[[0, 1]] = lg.zeros(3, 4, 5)


def test_fixed_size_forms_read_nothing():
    mask = lg.tensor([[True, False], [True, True]])
    assert mask.nonzero(size=4, fill_value=-1).tolist() == [[0, 0], [1, 0], [1, 1], [-1, -1]]
    assert mask.nonzero(size=2).tolist() == [[0, 0], [1, 0]]
    x = lg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert x.masked_select(mask, size=4, fill_value=9).tolist() == [1, 3, 4, 9]
    assert [p.tolist() for p in mask.nonzero(as_tuple=True)] == [[0, 1, 1], [0, 0, 1]]


def test_scatter():
    x = lg.zeros(2, 3)
    index = lg.tensor([[0, 2], [1, 1]])
    assert x.scatter(1, index, 5.0).tolist() == [[5, 0, 5], [0, 5, 0]]
    assert x.scatter_add(1, index, lg.ones(2, 2)).tolist() == [[1, 0, 1], [0, 2, 0]]
    assert x.index_add(0, [1, 1], lg.ones(2, 3), alpha=2).tolist() == [[0] * 3, [4] * 3]
    assert x.index_copy(1, [2], lg.ones(2, 1)).tolist() == [[0, 0, 1], [0, 0, 1]]


def test_scatter_errors():
    x = lg.zeros(2, 3)
    with pytest.raises(ShapeError, match=r"index of shape \(3, 1\) does not fit .* \(2, 3\)"):
        x.gather(1, lg.zeros(3, 1, dtype=lg.int64))
    with pytest.raises(DTypeError, match="must be integers, got"):
        x.gather(1, lg.zeros(1, 1))
    with pytest.raises(IndexOutOfRangeError, match="gather: index 3 at position"):
        x.gather(1, lg.tensor([[3]])).numpy()
    with pytest.raises(DTypeError, match=r"float64 source for a \S*float32"):
        x.scatter_add(1, lg.tensor([[0]]), lg.ones(1, 1, dtype=lg.float64))


def test_a_0d_index_tensor_selects_as_an_integer_does():
    x, one = lg.tensor(np.arange(120.0).reshape(4, 3, 2, 5)), lg.tensor(1)
    for key, same in [
        ((one, slice(None), [1, 0]), (1, slice(None), [1, 0])),
        ((slice(None), one, slice(None), [4, 0]), (slice(None), 1, slice(None), [4, 0])),
        (([0, 3], slice(None), one, slice(1, None)), ([0, 3], slice(None), 1, slice(1, None))),
    ]:
        wanted = x[same]
        assert wanted.shape[0] == (2 if isinstance(key[0], list) else wanted.shape[0])
        np.testing.assert_array_equal(x[key].numpy(), wanted.numpy())
        written, expected = x.clone(), x.clone()
        written[key] = expected[same] = lg.tensor(rng.normal(size=wanted.shape))
        np.testing.assert_array_equal(written.numpy(), expected.numpy())


def test_nothing_is_written_to_an_empty_region():
    x = lg.ones(4, 4, requires_grad=True)
    y = x * 1
    y[[2, 0], -2:1:3] = lg.ones(2, 0)
    y.sum().backward()
    assert x.grad.tolist() == np.ones((4, 4)).tolist()


@pytest.mark.parametrize("name", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64"])
def test_integers_of_every_width_index(name):
    x, index = lg.tensor(X), lg.tensor([2, 0], dtype=getattr(lg, name))
    assert np.array_equal(x[index].numpy(), X[[2, 0]])
    assert np.array_equal(lg.nn.functional.embedding(index, x[0]).numpy(), X[0][[2, 0]])
    with pytest.raises(IndexOutOfRangeError, match="index 3 at position 0 is out of range"):
        x[index + 1].numpy()


@pytest.mark.parametrize("flag", [True, False])
def test_a_flag_without_dimensions_adds_an_axis(flag):
    for form in (flag, lg.tensor(flag), np.array(flag)):
        assert np.array_equal(lg.tensor(X)[form].numpy(), X[flag])
        assert np.array_equal(lg.tensor(X)[0, form].numpy(), X[0, flag])
        for value in (5.0, np.ones(5)):
            y, expected = lg.tensor(X), X.copy()
            y[form] = value
            expected[flag] = value
            assert np.array_equal(y.numpy(), expected)
        with pytest.raises(ShapeError, match=r"a value of shape \(7,\) does not fit into"):
            y[form] = np.ones(7)
    with pytest.raises(CaptureError, match="whether it has elements depends on a value"):
        lg.compute_graph(lambda x, f: x[f])(lg.tensor(X), lg.tensor(flag))


def test_index_select_takes_a_vector():
    x = lg.tensor(X)
    assert x.index_select(1, lg.tensor(2)).shape == (3, 1, 5)
    with pytest.raises(ShapeError, match=r"index must be a vector, got shape \(1, 2\)"):
        x.index_select(1, [[0, 1]])


def test_an_empty_axis_has_no_position_0():
    empty, first = lg.zeros(0, 2), lg.tensor([0])
    for read in (
        lambda x: x[first],
        lambda x: x.index_select(0, first),
        lambda x: x.gather(0, lg.tensor([[0, 0]])),
        lambda x: x.index_fill(0, first, 1.0),
        lambda x: lg.nn.functional.embedding(first, x),
        lambda x: x.take(first),
    ):
        for call in (read, lg.compute_graph(read)):
            with pytest.raises(IndexOutOfRangeError, match=r"0 at position .* is out of range"):
                call(empty).numpy()


def test_writes_into_a_tensor_without_dimensions():
    x, at, two = lg.tensor(3.0), lg.tensor(0), lg.tensor(2.0)
    assert x.scatter(0, at, two).item() == x.scatter(-1, at, 2.0).item() == 2
    assert x.scatter_add(0, at, two).item() == x.index_add(0, at, two).item() == 5
    assert x.scatter_reduce(0, at, two, "amax").item() == 3
    assert x.scatter_reduce(0, lg.tensor([0, 0]), lg.tensor([1.0, 2.0]), "sum").item() == 6
    assert x.scatter_reduce(0, at, two, "mean").item() == 2.5
    assert x.index_fill(0, at, 7.0).item() == 7 and x.index_copy(0, at, two).item() == 2
    assert x.index_reduce(0, at, two, "prod").shape == ()
    with pytest.raises(IndexOutOfRangeError, match="scatter: index 1 at position 0 is out of"):
        x.scatter(0, at + 1, two).numpy()


def test_a_second_ellipsis_stands_for_no_axis() -> None:
    x = lg.arange(6).reshape(3, 2)
    assert x[..., ...].tolist() == x.tolist()
    assert x[..., 0, ...].tolist() == [0, 2, 4]
    assert x[0, ..., ...].tolist() == [0, 1]
    assert x[..., None, ...].shape == (3, 2, 1)
