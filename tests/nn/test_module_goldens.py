"""Layers and losses against 100 training steps of PyTorch 2.13; captured is uncaptured."""

from pathlib import Path

import numpy as np
import pytest

import lazygrad as lg
from tests.golden import cases_nn as cases

GOLDENS = np.load(Path(cases.__file__).with_name("goldens_nn.npz"))


@pytest.mark.parametrize("name", cases.RUNS)
def test_training_is_that_of_pytorch_captured_or_not(name: str) -> None:
    run, case = cases.RUNS[name]
    captured = run(lg, case, wrap=lg.compute_graph)
    for part, values in captured.items():
        wanted = GOLDENS[f"{name}/{part}"]
        np.testing.assert_allclose(values, wanted, rtol=1e-9, atol=1e-12)
    plain, again = run(lg, case, steps=3), run(lg, case, wrap=lg.compute_graph, steps=3)
    for part, values in plain.items():
        np.testing.assert_array_equal(again[part], values)
