"""`detect_anomaly` names the first operation that made a NaN, in every floating dtype."""

import pytest

import lazygrad as lg
from lazygrad.dtypes import FLOATS
from lazygrad.errors import AnomalyError


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_first_nan_is_named_with_its_line(dtype: lg.dtype) -> None:
    x = lg.tensor([-1.0, 4.0], dtype=dtype)
    with lg.detect_anomaly(), pytest.raises(AnomalyError, match=r"log of .*test_anomaly.py:\d+"):
        (x.log() * 2).sum().numpy()


def test_a_nan_that_was_given_is_no_anomaly() -> None:
    x = lg.tensor([float("nan"), 1.0])
    with lg.detect_anomaly():
        assert (x * 2).tolist()[1] == 2.0


def test_backward_is_watched_too() -> None:
    x = lg.tensor([0.0], requires_grad=True)
    y = (x.sqrt() * 0).sum()  # the gradient is 0 / 0
    with lg.detect_anomaly(), pytest.raises(AnomalyError, match="div"):
        y.backward()
        assert x.grad is not None
        x.grad.numpy()
