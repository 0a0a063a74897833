"""NumPy on the left: its functions and operators give tensors, and never drop a gradient."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.errors import GradientError


@pytest.mark.parametrize("left", [np.ones((3, 2)), np.ones(2), np.ones((4, 3, 2))])
def test_an_array_times_a_tensor_is_a_tensor(left: np.ndarray) -> None:
    w = lg.tensor(np.arange(4.0).reshape(2, 2), requires_grad=True)
    for product in (left @ w, np.matmul(left, w)):
        assert isinstance(product, lg.Tensor)
        w.grad = None
        product.sum().backward()
        wanted = left.reshape(-1, 2).sum(0)[:, None] * np.ones((2, 2))
        np.testing.assert_array_equal(w.grad.numpy(), wanted)


@pytest.mark.parametrize("name", ["square", "isnan", "logical_not", "exp", "sign", "reciprocal"])
def test_functions_of_numpy_give_tensors(name: str) -> None:
    x = lg.tensor([0.5, -2.0], requires_grad=True)
    found = getattr(np, name)(x)
    assert isinstance(found, lg.Tensor)
    np.testing.assert_allclose(found.numpy(), getattr(np, name)(x.numpy()), rtol=1e-6)


def test_what_has_no_counterpart_raises_instead_of_losing_the_gradient() -> None:
    x = lg.tensor([3.0], requires_grad=True)
    with pytest.raises(GradientError, match=r"np\.spacing .* lost: pass tensor\.detach\(\)"):
        np.spacing(x)
    assert np.spacing(x.detach()).tolist() == [2.0**-22]
    with lg.no_grad():
        assert np.spacing(x).tolist() == [2.0**-22]
