"""Masks with a static size, distinct elements, writes and reductions at indices."""

from pathlib import Path

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.errors import (
    ArgumentError,
    CaptureError,
    DTypeError,
    IndexOutOfRangeError,
    ShapeError,
)
from tests.golden import cases_index as cases

GOLDENS = np.load(Path(cases.__file__).with_name("goldens_index.npz"))
X = np.array([[3.0, -1.0, 3.0], [0.0, 2.0, -1.0]])


def x():
    return lg.tensor(X)


@pytest.mark.parametrize("name", cases.RUNS)
def test_values_and_two_gradients_are_those_of_pytorch(name):
    with lg.config.override(executor="numpy"):  # formulas are compared, not machine code
        found = cases.run(lg, name)
    assert len(found) == len([key for key in GOLDENS.files if key.startswith(name + "/")])
    for part, values in found.items():
        np.testing.assert_allclose(values, GOLDENS[f"{name}/{part}"], rtol=1e-9, atol=1e-12)


def test_the_gradient_of_a_product_with_two_zeros_at_one_place():
    t, index = lg.ones(2, requires_grad=True), lg.tensor([0, 0, 0, 1, 1])
    source = lg.tensor([0.0, 0.0, 2.0, 0.0, 3.0], requires_grad=True)
    t.scatter_reduce(0, index, source, "prod").sum().backward()
    assert source.grad.tolist() == [0, 0, 0, 3, 0]
    assert t.grad.tolist() == [0, 0]


@pytest.mark.parametrize("name", ["scatter_reduce_amax_False", "cumprod_zeros", "masked_scatter"])
def test_captured_equals_uncaptured(name):
    plain, captured = cases.run(lg, name), cases.run(lg, name, wrap=lg.compute_graph)
    for part, values in plain.items():
        np.testing.assert_array_equal(captured[part], values)


# sizes that are structure

SIZED = {
    "nonzero": (lambda t, **k: (t > 0).nonzero(**k), [[0, 0], [0, 2], [1, 1]], [7, 7]),
    "argwhere": (lambda t, **k: lg.argwhere(t > 0, **k), [[0, 0], [0, 2], [1, 1]], [7, 7]),
    "where": (lambda t, **k: lg.where(t > 0, **k)[1], [0, 2, 1], 7),
    "masked_select": (lambda t, **k: t.masked_select(t > 0, **k), [3, 3, 2], 7),
    "unique": (lambda t, **k: lg.unique(t, **k), [-1, 0, 2, 3], 7),
    "unique_consecutive": (
        lambda t, **k: t.sort().values.unique_consecutive(**k), [-1, 3, -1, 0, 2], 7,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZED)
@pytest.mark.parametrize("captured", [False, True])
def test_a_size_cuts_and_fills(name, captured):
    function, expected, fill = SIZED[name]
    for size in (0, 2, 7):
        call = lambda t, n=size: function(t, size=n, fill_value=7)  # noqa: E731
        found = (lg.compute_graph(call) if captured else call)(x())
        assert found.tolist() == (expected + [fill] * 9)[:size]


@pytest.mark.parametrize("name", SIZED)
def test_without_a_size_the_number_is_read(name):
    function, expected, _ = SIZED[name]
    assert function(x()).tolist() == expected
    with pytest.raises(CaptureError, match=r"(?s)depends on values; .*size=n"):
        lg.compute_graph(function)(x())


def test_a_captured_size_serves_other_values():
    @lg.compute_graph
    def positive(t):
        return t.masked_select(t > 0, size=3)

    assert positive(x()).tolist() == [3, 3, 2]
    assert positive(-x()).tolist() == [1, 1, 0]
    assert positive.cache_info().misses == 1


def test_indexing_with_a_mask_while_capturing_names_the_ways_out():
    @lg.compute_graph
    def read(t):
        return t[t > 0]

    with pytest.raises(CaptureError, match=r"masked_select\(mask, size=n\).*nonzero\(size=n\)"):
        read(x())

    @lg.compute_graph
    def rows(t):
        return t[(t[:, 0] > 0).nonzero(size=1)[:, 0]]

    assert rows(x()).tolist() == [X[0].tolist()]


def test_sizes_that_make_no_sense():
    for size in (-1, 1.5, True):
        with pytest.raises(ArgumentError, match="size must be"):
            x().nonzero(size=size)
    with pytest.raises(ShapeError, match="size="):
        lg.where(x() > 0, 1.0, 0.0, size=2)


# distinct elements


def test_unique():
    values = np.array([[3, 1, 3], [2, 1, 1]])
    output, inverse, counts = lg.tensor(values).unique(return_inverse=True, return_counts=True)
    expected = np.unique(values, return_inverse=True, return_counts=True)
    assert output.tolist() == expected[0].tolist()
    assert inverse.tolist() == expected[1].reshape(values.shape).tolist()
    assert counts.tolist() == expected[2].tolist()
    assert inverse.dtype is lg.int64
    assert lg.unique(lg.tensor([np.nan, 1.0, np.nan])).shape == (3,)  # as in PyTorch
    assert lg.tensor([True, False, True]).unique().tolist() == [False, True]
    assert lg.zeros(0).unique().shape == (0,)
    padded = lg.tensor([5, 5]).unique(return_counts=True, size=3)
    assert (padded.output.tolist(), padded.counts.tolist()) == ([5, 5, 5], [2, 0, 0])
    cut = lg.tensor([5, 4, 5]).unique(return_inverse=True, size=1)
    assert (cut.output.tolist(), cut.inverse_indices.tolist()) == ([4], [1, 0, 1])
    with pytest.raises(ArgumentError, match="dim=None"):
        x().unique(dim=0)


def test_unique_consecutive():
    t = lg.tensor([1, 1, 2, 2, 2, 1])
    found = t.unique_consecutive(return_inverse=True, return_counts=True)
    assert [part.tolist() for part in found] == [[1, 2, 1], [0, 0, 1, 1, 1, 2], [2, 3, 1]]


def test_bincount():
    t = lg.tensor([1, 3, 1])
    assert t.bincount().tolist() == [0, 2, 0, 1]
    assert t.bincount(minlength=6).tolist() == [0, 2, 0, 1, 0, 0]
    assert t.bincount(lg.tensor([0.5, 1.0, 2.0])).tolist() == [0, 2.5, 0, 1]
    assert lg.compute_graph(lambda t: t.bincount(size=5))(t).tolist() == [0, 2, 0, 1, 0]
    with pytest.raises(DTypeError, match="vector of integers"):
        x().bincount()


# masked writes


@pytest.mark.parametrize("captured", [False, True])
def test_values_written_through_a_mask(captured):
    def write(t, mask, values):
        t = t + 0
        t[mask] = values
        return t

    call = lg.compute_graph(write) if captured else write
    t, mask, values = x(), lg.tensor(X > 0), lg.tensor([10.0, 20.0, 30.0], dtype=lg.float64)
    expected = X.copy()
    expected[X > 0] = [10, 20, 30]
    assert call(t, mask, values).tolist() == expected.tolist()
    rows = lg.tensor([[7.0, 8.0, 9.0]], dtype=lg.float64)
    assert call(t, lg.tensor([False, True]), rows).tolist() == [X[0].tolist(), [7, 8, 9]]
    if captured:
        with pytest.raises(IndexOutOfRangeError, match=r"masked write of 3 values: .* elements 6"):
            call(t, mask | True, values).numpy()
        with pytest.raises(IndexOutOfRangeError, match=r"masked write of 3 values: .* elements 0"):
            call(t, mask & False, values).numpy()


def test_masked_scatter_needs_enough_values():
    mask = lg.tensor(X > 0)
    assert x().masked_scatter(mask, lg.tensor([1.0, 2.0, 3.0, 4.0], dtype=lg.float64)).tolist() == [
        [1, -1, 2], [0, 3, -1],
    ]  # fmt: skip
    with pytest.raises(IndexOutOfRangeError, match="masked write of 2 values"):
        x().masked_scatter(mask, lg.ones(2, dtype=lg.float64)).numpy()
    with pytest.raises(DTypeError, match="bool"):
        x().masked_scatter(x(), x())


# writes and reductions at indices


def test_forms_of_scatter():
    t, index = lg.ones(2, 3), lg.tensor([[0, 2], [1, 1]])
    assert t.scatter(1, index, 4.0, reduce="add").tolist() == [[5, 1, 5], [1, 9, 1]]
    assert t.scatter(1, index, 4.0, reduce="multiply").tolist() == [[4, 1, 4], [1, 16, 1]]
    t.scatter_reduce_(1, index, 4.0 * lg.ones(2, 2), "amax")
    assert t.tolist() == [[4, 1, 4], [1, 4, 1]]
    whole = lg.tensor([5, 1]).scatter_reduce(0, lg.tensor([0, 0]), lg.tensor([2, 2]), "mean")
    assert (whole.tolist(), whole.dtype) == ([3, 1], lg.int64)
    low = lg.tensor([5, 1]).scatter_reduce(
        0, lg.tensor([0, 0]), lg.tensor([-2, -3]), "amax", include_self=False
    )
    assert low.tolist() == [-2, 1]
    assert lg.zeros(2, 2).index_fill(1, lg.tensor([1]), 3).tolist() == [[0, 3], [0, 3]]


@pytest.mark.parametrize("dtype", [lg.float16, lg.bfloat16])
def test_half_precision_rounds_once(dtype):
    ones = lg.full((64,), 1.01, dtype=dtype)
    found = lg.ones(1, dtype=dtype).scatter_reduce(0, ones.long() * 0, ones, "prod")
    exact = float(ones[0].item()) ** 64
    assert abs(found.item() - exact) <= exact * lg.finfo(dtype).eps


def test_errors_of_scatters():
    t, index = lg.ones(2, 3), lg.tensor([[0, 2], [1, 1]])
    with pytest.raises(ArgumentError, match="did you mean 'amax'"):
        t.scatter_reduce(1, index, t, "max")
    with pytest.raises(ArgumentError, match="'add' or 'multiply'"):
        t.scatter(1, index, t, reduce="sum")
    with pytest.raises(DTypeError, match="scatter_reduce: a"):
        t.scatter_reduce(1, index, t.double(), "prod")
    with pytest.raises(IndexOutOfRangeError, match="scatter_reduce: index 3"):
        t.scatter_reduce(1, index + 1, t, "prod").numpy()
    with pytest.raises(ShapeError, match="0-d"):
        t.index_fill(1, lg.tensor([1]), t)


def test_running_extremes():
    t = lg.tensor([[1.0, 3.0, 2.0, 3.0, np.nan, 5.0]])
    values, indices = t.cummax(1)
    assert indices.tolist() == [[0, 1, 1, 3, 4, 4]]
    assert np.isnan(values.numpy()[0, 4:]).all()
    assert t.cummin(dim=1).indices.tolist() == [[0, 0, 0, 0, 4, 4]]
    assert lg.diff(lg.tensor([1, 4, 9])).tolist() == [3, 5]
    assert lg.tensor([True, True, False]).diff().tolist() == [False, True]
