"""0.0 and -0.0 are equal in Python and differ in bits: no cache may take one for the other."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn


def signs(t: lg.Tensor) -> list[bool]:
    return np.signbit(t.numpy()).tolist()


def test_attributes_in_the_key_of_a_realization() -> None:
    x = lg.ones(1)
    assert signs(x.pad((1, 0), value=0.0)) == [False, False]
    assert signs(x.pad((1, 0), value=-0.0)) == [True, False]


def test_static_arguments() -> None:
    @lg.compute_graph
    def padded(x: lg.Tensor, value: float) -> lg.Tensor:
        return x.pad((1, 0), value=float(value))

    x = lg.ones(1)
    with pytest.warns(lg.LazygradWarning, match="'value' is needed"):
        assert signs(padded(x, 0.0)) == [False, False]
    assert signs(padded(x, -0.0)) == [True, False]


def test_names_from_outside() -> None:
    value = 0.0

    @lg.compute_graph
    def padded(x: lg.Tensor) -> lg.Tensor:
        return x.pad((1, 0), value=value)

    x = lg.ones(1)
    assert signs(padded(x)) == [False, False]
    value = -0.0
    with pytest.warns(lg.LazygradWarning, match="'value'"):
        assert signs(padded(x)) == [True, False]


def test_attributes_of_modules() -> None:
    class Pad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = 0.0

        def forward(self, x: lg.Tensor) -> lg.Tensor:
            return x.pad((1, 0), value=self.value)

    module, x = Pad(), lg.ones(1)
    captured = lg.compute_graph(lambda x: module(x))
    assert signs(captured(x)) == [False, False]
    module.value = -0.0
    assert signs(captured(x)) == [True, False]
