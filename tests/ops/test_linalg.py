"""`linalg` against PyTorch 2.13 to second order, against NumPy, and where there is no answer."""

import math
from pathlib import Path

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    GradientError,
    LinalgError,
    ShapeError,
)
from lazygrad.testing import gradcheck
from tests.golden import cases_linalg as cases

GOLDENS = np.load(Path(cases.__file__).with_name("goldens_linalg.npz"))
CAPTURED = ("inv_batch", "solve", "cholesky", "qr_wide", "svd_tall", "eigh", "pinv_tall", "det")
X = np.random.default_rng(2).normal(size=(2, 3, 4))
SINGULAR = np.array([np.eye(2), np.ones((2, 2))])


@pytest.mark.parametrize("name", cases.RUNS)
def test_values_and_two_gradients_are_those_of_pytorch(name):
    with lg.config.override(executor="numpy"):  # formulas are compared, not machine code
        found = cases.run(lg, name)
    parts = [key for key in GOLDENS.files if key.startswith(name + "/")]
    assert len(parts) == len(found)
    for part, values in found.items():
        np.testing.assert_allclose(values, GOLDENS[f"{name}/{part}"], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_equals_uncaptured(name):
    plain, captured = cases.run(lg, name), cases.run(lg, name, wrap=lg.compute_graph)
    for part, values in plain.items():
        np.testing.assert_array_equal(captured[part], values)


def test_factors_rebuild_the_matrix():
    x = lg.tensor(X)
    for full in (False, True):
        u, s, vh = lg.linalg.svd(x, full_matrices=full)
        assert (u.shape, vh.shape) == ((2, 3, 3), (2, 4, 4) if full else (2, 3, 4))
        assert (u @ s.diag_embed() @ vh[:, :3]).allclose(x)
        assert (vh @ vh.mT).allclose(lg.eye(vh.shape[1], dtype=lg.float64))
    q, r = lg.linalg.qr(x.mT, mode="complete")
    assert (q.shape, r.shape) == ((2, 4, 4), (2, 4, 3))
    assert (q @ r).allclose(x.mT)
    assert lg.linalg.qr(x, mode="r").Q.shape == (0,)
    u, s, v = x.svd()  # the older form has V
    assert (u * s.unsqueeze(-2) @ v.mT).allclose(x)


@pytest.mark.parametrize("dtype", [lg.float32, lg.float64])
def test_dtype_is_kept(dtype):
    square = lg.tensor(X[0] @ X[0].T, dtype=dtype)
    results = [
        square.inverse(), square.det(), *square.slogdet(), square.cholesky(), *square.svd(),
        *square.qr(), *lg.linalg.eigh(square), square.pinverse(), lg.linalg.solve(square, square),
    ]  # fmt: skip
    assert {t.dtype for t in results} == {dtype}
    assert np.array_equal(square.inverse().numpy(), np.linalg.inv(square.numpy()))


def test_numbers_that_follow():
    low = lg.tensor([[1.0, 2.0], [2.0, 4.0]])
    assert lg.linalg.matrix_rank(low).item() == 1
    assert lg.linalg.matrix_rank(low, atol=10.0).item() == 0
    assert lg.linalg.matrix_rank(lg.tensor(X)).tolist() == [3, 3]
    assert low.slogdet().logabsdet.item() in (-math.inf, pytest.approx(-36, abs=3))
    assert math.isnan(lg.tensor([[-1.0]]).logdet().item())
    assert lg.linalg.cond(lg.tensor([[2.0, 0.0], [0.0, -4.0]])).item() == 2
    assert lg.linalg.cond(lg.tensor([[2.0, 0.0], [0.0, -4.0]]), 1).item() == 2
    assert lg.linalg.matrix_power(low, 0).tolist() == [[1, 0], [0, 1]]


# where there is no answer


def test_a_singular_matrix_raises_and_names_its_line():
    x = lg.tensor(SINGULAR)
    y = lg.linalg.inv(x)  # the line that is blamed
    with pytest.raises(LinalgError, match=r"batch element \(1,\) is singular") as raised:
        y.numpy()
    assert "test_linalg.py" in raised.value.__notes__[0]
    with pytest.raises(LinalgError, match=r"linalg.solve: the matrix is singular"):
        lg.linalg.solve(x[1], lg.ones(2, dtype=lg.float64)).numpy()
    with pytest.raises(LinalgError, match=r"linalg.cholesky: .* is not positive-definite"):
        (-x).cholesky().numpy()
    with pytest.raises(LinalgError, match="did not converge"):
        lg.linalg.svdvals(x * math.nan).numpy()


def test_the_forms_that_do_not_raise():
    inverse, info = lg.linalg.inv_ex(lg.tensor(SINGULAR))
    assert (info.tolist(), info.dtype) == ([0, 1], lg.int32)
    assert inverse[0].tolist() == [[1, 0], [0, 1]]
    assert lg.linalg.cholesky_ex(lg.tensor(-SINGULAR)).info.tolist() == [1, 1]
    with pytest.raises(LinalgError):
        lg.linalg.inv_ex(lg.tensor(SINGULAR), check_errors=True).inverse.numpy()


def test_a_failed_step_changes_nothing():
    w = lg.nn.Parameter(np.eye(2))
    other = lg.nn.Parameter([1.0])
    optimizer = lg.optim.SGD([w, other], lr=0.1, momentum=0.9)

    @lg.compute_graph
    def step(x):
        optimizer.zero_grad()
        loss = (w.to(lg.float64) @ x).inverse().sum() + other.sum()
        loss.backward()
        optimizer.step()
        return loss

    step(lg.tensor(SINGULAR[0]))
    before = w.tolist(), other.tolist(), optimizer.state[other]["momentum_buffer"].tolist()
    with pytest.raises(LinalgError):
        step(lg.tensor(np.zeros((2, 2))))
    after = w.tolist(), other.tolist(), optimizer.state[other]["momentum_buffer"].tolist()
    assert after == before


def test_gradients_where_values_are_equal():
    """Of what does not tell equal singular values apart the gradient is there."""
    x = lg.tensor(np.eye(3), requires_grad=True)
    assert lg.grad(lg.linalg.svdvals(x).sum(), x)[0].tolist() == np.eye(3).tolist()
    assert lg.grad(lg.linalg.eigvalsh(x).sum(), x)[0].tolist() == np.eye(3).tolist()
    flat = lg.tensor(np.diag([2.0, 0.0, 0.0]), requires_grad=True)
    assert lg.grad(flat.det(), flat)[0].tolist() == np.zeros((3, 3)).tolist()
    nearly = lg.tensor(np.diag([2.0, 3.0, 0.0]), requires_grad=True)
    gradcheck(lambda x: x.det(), nearly)
    zero = lg.zeros(3, requires_grad=True)
    for order in (0.5, 1.5, 2, 3):
        assert lg.grad(lg.linalg.vector_norm(zero, order), zero)[0].tolist() == [0, 0, 0]


def test_gradients_that_do_not_exist_are_refused():
    x = lg.tensor(X[0], requires_grad=True)
    with pytest.raises(GradientError, match="full_matrices=True"):
        lg.linalg.svd(x).Vh.sum().backward()
    with pytest.raises(GradientError, match="mode='complete'"):
        lg.linalg.qr(x.mT, mode="complete").Q.sum().backward()


def test_errors():
    x = lg.tensor(X[0])
    for function in (lg.linalg.inv, lg.linalg.det, lg.linalg.cholesky, lg.linalg.eigh):
        with pytest.raises(ShapeError, match=r"must be square, got shape \(3, 4\)"):
            function(x)
        with pytest.raises(ShapeError, match="two dimensions"):
            function(x[0])
        with pytest.raises(DTypeError, match=r"takes float32 or .*, got lazygrad\.int64"):
            function(lg.eye(2, dtype=lg.int64))
        with pytest.raises(DTypeError, match=r"got lazygrad\.float16"):
            function(lg.eye(2, dtype=lg.float16))
    with pytest.raises(ShapeError, match="3 != 2"):
        lg.linalg.solve(lg.eye(3), lg.ones(2, 2))
    with pytest.raises(ArgumentError, match="mode is"):
        lg.linalg.qr(x, mode="full")
    with pytest.raises(ArgumentError, match="ord is one of"):
        lg.linalg.matrix_norm(x, 3)
    with pytest.raises(ArgumentError, match="UPLO"):
        lg.linalg.eigh(x @ x.mT, "M")
    with pytest.raises(ShapeError, match="1 or 2 dimensions"):
        lg.linalg.norm(lg.tensor(X), "fro")
    with pytest.raises(ArgumentError, match="a norm of matrices"):
        lg.linalg.norm(x, "nuc", dim=1)
    with pytest.raises(ArgumentError, match="'fro', 'nuc'"):
        x.norm("no")
    with pytest.raises(ArgumentTypeError, match="takes tensors"):
        lg.linalg.inv([[1.0]])
    with pytest.raises(ShapeError, match="three elements"):
        lg.linalg.cross(x, x)
    with pytest.raises(AttributeError, match="complex"):
        _ = lg.linalg.eig
    with pytest.raises(AttributeError, match="did you mean 'cholesky'"):
        _ = lg.linalg.cholesk


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0, 0)])
def test_matrices_without_elements_have_norms_and_a_rank_of_zero(shape: tuple[int, ...]) -> None:
    x, nothing = lg.ones(shape), np.zeros(shape[:-2])
    for order in ("fro", "nuc", 1, 2, math.inf):
        np.testing.assert_array_equal(lg.linalg.matrix_norm(x, order).numpy(), nothing)
    with pytest.raises(ShapeError, match="no elements"):
        lg.linalg.matrix_norm(x, -2)
    np.testing.assert_array_equal(lg.linalg.matrix_rank(x).numpy(), nothing)
    assert lg.linalg.matrix_rank(x).dtype is lg.int64
    for order in (None, -2) if shape == (0, 3) else (None, -2, "fro", -1):
        np.testing.assert_array_equal(lg.linalg.cond(x, order).numpy(), nothing)


def test_what_is_added_to_a_product_does_not_widen_it() -> None:
    m, v = lg.ones(3, 3), lg.ones(3)
    assert v.sum().addmv(m, v).shape == (3,) and v.addmm(m, m).shape == (3, 3)
    for call in (
        lambda: m.addmv(m, v),
        lambda: lg.ones(1, 3).addmv(m, v),
        lambda: lg.ones(2, 3, 3).addmm(m, m),
        lambda: lg.ones(3, 3).addmm(m[:1], m),
        lambda: lg.ones(1, 2, 3, 3).baddbmm(lg.ones(2, 3, 3), lg.ones(2, 3, 3)),
        lambda: lg.ones(1, 3, 3).addr(v, v),
    ):
        with pytest.raises(ShapeError, match="does not broadcast to it"):
            call()
