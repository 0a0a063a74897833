"""Every optimizer, schedule and clipping against 100 steps of PyTorch 2.13, captured and not."""

from pathlib import Path

import numpy as np
import pytest

import lazygrad as lg
from tests.golden import cases

GOLDENS = np.load(Path(cases.__file__).with_name("goldens.npz"))
NAMES = [name for name in cases.RUNS if name.startswith(("optimizer/", "schedule/", "clip/"))]


@pytest.mark.parametrize("name", NAMES)
def test_training_is_that_of_pytorch_captured_or_not(name: str) -> None:
    run, case = cases.RUNS[name]
    plain = run(lg, case)
    captured = run(lg, case, wrap=lg.compute_graph)
    for part, values in plain.items():
        np.testing.assert_array_equal(captured[part], values)
        wanted = GOLDENS[f"{name}/{part}"]
        np.testing.assert_allclose(values, wanted, rtol=1e-9, atol=1e-13)
