"""Functions of several tensors, and the function forms of methods."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.engine import creation, forms, functions
from lazygrad.errors import ArgumentError, AxisError, DTypeError, ShapeError

rng = np.random.default_rng(11)


@pytest.mark.parametrize("module", [forms, functions, creation], ids=lambda m: m.__name__)
def test_every_name_is_public_and_documented(module):
    for name in module.__all__:
        assert getattr(lg, name) is getattr(module, name)
        assert getattr(lg, name).__doc__, name
    assert len(set(module.__all__)) == len(module.__all__)


def test_forms_take_anything_array_like():
    assert lg.exp(0.0).item() == 1
    assert lg.sum([1, 2, 3]).item() == 6
    assert lg.maximum([1, 5], 3).tolist() == [3, 5]
    assert lg.add(np.ones(2), 1).tolist() == [2, 2]
    assert lg.pow(2, lg.tensor([1.0, 3.0])).tolist() == [2, 8]
    assert lg.max(lg.tensor([[1.0, 4.0]]), dim=1).indices.tolist() == [1]
    assert lg.where(np.array([True, False]), 1, lg.tensor([5.0, 6.0])).tolist() == [1, 6]


EQUATIONS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)),
    ("bij,bjk->bik", (5, 2, 3), (5, 3, 4)),
    ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("ij->j", (2, 3)), ("ii->i", (3, 3)), ("ii", (3, 3)),
    ("i,j->ij", (2,), (3,)), ("i,i->", (3,), (3,)), ("i,i->i", (3,), (3,)),
    ("ijk,jil->kl", (2, 3, 4), (3, 2, 5)), ("...ij,...jk->...ik", (5, 2, 3), (3, 4)),
    ("...i->...", (2, 3, 4)), ("b...,b...->b...", (2, 3, 4), (2, 3, 4)),
    ("ab,bc,cd->ad", (2, 3), (3, 4), (4, 5)), ("ij,kj,lj->ikl", (2, 3), (4, 3), (5, 3)),
    ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)), ("ij,ij->ij", (2, 3), (2, 3)),
    ("iij->j", (2, 2, 3)), ("i,->i", (3,), ()), ("ba", (2, 3)), ("ij,k->ijk", (1, 2), (3,)),
    ("ijk,k->ij", (2, 0, 3), (3,)), ("aij,ajk->ik", (4, 2, 3), (4, 3, 2)),
]  # fmt: skip


@pytest.mark.parametrize("case", EQUATIONS, ids=lambda c: c[0])
def test_einsum(case):
    equation, *shapes = case
    arrays = [rng.normal(size=s) for s in shapes]
    expected = np.einsum(equation, *arrays)
    result = lg.einsum(equation, *map(lg.tensor, arrays))
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.numpy(), expected, 1e-12, 1e-13)
    assert np.array_equal(lg.einsum(equation, arrays).numpy(), result.numpy())


def test_einsum_sums_the_dots_that_the_result_leaves_out():
    """As PyTorch; NumPy refuses."""
    assert lg.einsum("b...,b...->b", lg.ones(2, 3, 4), lg.ones(2, 3, 4)).tolist() == [12, 12]


@pytest.mark.parametrize(
    ("equation", "shapes", "text"),
    [
        ("ij,jk->ik", [(2, 3), (4, 5)], "index 'j' of 'ij,jk->ik' is 3 and 4"),
        ("ij->ik", [(2, 3)], "repeats or invents an index"),
        ("ij->ii", [(2, 3)], "repeats or invents an index"),
        ("ijk", [(2, 3)], "'ijk' for an operand with 2 dimensions"),
        ("i", [(2, 3)], "'i' for an operand with 2 dimensions"),
        ("i,j", [(2,)], "2 terms in 'i,j' for 1 operands"),
        ("i1->i", [(2,)], "no list of index letters"),
    ],
)
def test_einsum_errors(equation, shapes, text):
    with pytest.raises(ShapeError, match=text):
        lg.einsum(equation, *map(lg.ones, shapes))


def test_tensordot():
    a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 3, 5))
    ours = lg.tensordot(lg.tensor(a), lg.tensor(b), ([1, 2], [1, 0]))
    np.testing.assert_allclose(ours.numpy(), np.tensordot(a, b, ([1, 2], [1, 0])), 1e-12)
    c = rng.normal(size=(3, 4, 5))
    np.testing.assert_allclose(lg.tensordot(a, c).numpy(), np.tensordot(a, c), 1e-12)


def test_cat_and_stack():
    a, b = lg.tensor([[1, 2]]), lg.tensor([[3.5, 4.5]])
    assert lg.cat([a, b]).tolist() == [[1, 2], [3.5, 4.5]]
    assert lg.cat((a, b), dim=-1).shape == (1, 4)
    assert lg.concatenate([a, b], axis=1).dtype is lg.float32
    assert lg.cat([lg.zeros(0), b]).shape == (1, 2)
    assert lg.stack([a, a], dim=-1).tolist() == [[[1, 1], [2, 2]]]
    assert lg.hstack([lg.ones(2), lg.zeros(1)]).tolist() == [1, 1, 0]
    assert lg.vstack([lg.ones(2), lg.zeros(2)]).shape == (2, 2)
    assert lg.cat(lg.ones(2, 3)).shape == (6,)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: lg.cat([]), ShapeError, "cat: at least one tensor"),
        (lambda: lg.cat([lg.ones(2, 3), lg.ones(2, 4)]), ShapeError, r"\(2, 3\) and \(2, 4\)"),
        (lambda: lg.cat([lg.ones(2), lg.ones(2)], 1), AxisError, "cat: axis 1 is out of range"),
        (lambda: lg.cat([lg.tensor(1.0)]), ShapeError, "0-d tensors cannot be concatenated"),
        (
            lambda: lg.stack([lg.ones(2), lg.ones(3)]),
            ShapeError,
            r"stack: shapes \(2,\) and \(3,\)",
        ),
        (lambda: lg.where(lg.ones(2) > 0, 1), ShapeError, "a condition and two values"),
        (lambda: lg.broadcast_tensors(lg.ones(2), lg.ones(3)), ShapeError, "do not broadcast"),
        (lambda: lg.ones(2) - [1, 2], TypeError, "unsupported operand"),
        (lambda: lg.ones(2).add([lg.ones(2)]), DTypeError, "add: operands must be tensors"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_dtype_questions():
    assert lg.result_type(lg.ones(2, dtype=lg.int8), 1.5) is lg.float32
    assert lg.result_type(lg.ones(2, dtype=lg.float16), lg.tensor(1.0)) is lg.float16
    assert lg.promote_types(lg.int8, "uint8") is lg.int16
    assert lg.is_tensor(lg.ones(1))
    assert not lg.is_tensor(np.ones(1))
    assert lg.is_floating_point(lg.ones(1))


def test_numpy_functions_take_tensors():
    a = rng.normal(size=(3, 4))
    t = lg.tensor(a, requires_grad=True)
    for function in (np.sum, np.mean, np.max, np.min, np.prod, np.std, np.var, np.argmax):
        np.testing.assert_allclose(function(t.detach()), function(a), rtol=1e-12)
        np.testing.assert_allclose(function(t, axis=1), function(a, axis=1), rtol=1e-12)
    np.testing.assert_allclose(np.cumsum(t, axis=0), np.cumsum(a, axis=0))
    np.testing.assert_allclose(np.transpose(t), a.T)
    np.testing.assert_allclose(np.reshape(t, (4, 3)), a.reshape(4, 3))
    assert isinstance(np.float64(2) * t, lg.Tensor)
    assert (np.ones((3, 4)) * t).requires_grad
    assert isinstance(np.exp(t), lg.Tensor)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x.index_add(0, [0, 1], x[:1]), r"source of shape \(1, 4\) for 2 positions"),
        (lambda x: x.index_copy(0, [0, 1], x[:2, :1]), r"where \(2, 4\) is needed"),
        (lambda x: x.index_copy(0, [[0, 1]], x[:2]), r"index must be a vector, got shape \(1, 2\)"),
        (lambda x: x.repeat_interleave(-1), "repeats must be >= 0, got -1"),
        (lambda x: lg.eye(-1), "eye: sizes must not be negative, got -1"),
        (lambda x: lg.meshgrid(x, x), r"meshgrid takes vectors, got shapes \(3, 4\)"),
        (lambda x: lg.tensordot(x, x, 3), r"tensordot: 3 axes of tensors of shapes \(3, 4\)"),
        (lambda x: lg.bucketize(x, x), r"boundaries must be a vector, got shape \(3, 4\)"),
        (lambda x: lg.cdist(x, x, p=-1), "cdist: p must not be negative, got -1"),
        (lambda x: x.pad((-3, -2)), r"pad: \(-3, -2\) cuts more than axis 1 of \(3, 4\) has"),
    ],
)
def test_what_pytorch_refuses(call, message):
    with pytest.raises((ShapeError, ArgumentError, AxisError), match=message):
        call(lg.ones(3, 4))
