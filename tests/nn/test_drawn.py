"""Layers with many settings against PyTorch 2.13, in configurations drawn at random."""

from pathlib import Path

import numpy as np
import pytest

import lazygrad as lg
from tests.golden import cases_drawn as cases

GOLDENS = np.load(Path(cases.__file__).with_name("goldens_drawn.npz"))


@pytest.mark.parametrize("name", cases.RUNS)
def test_output_and_gradients_are_those_of_pytorch(name: str) -> None:
    run, kind = cases.RUNS[name]
    found, wanted = run(lg, kind)["rows"], GOLDENS[f"{name}/rows"]
    for i in range(cases.DRAWS):
        here = slice(i * len(found) // cases.DRAWS, (i + 1) * len(found) // cases.DRAWS)
        message = f"{kind}{cases.draw(kind, i)}"
        np.testing.assert_allclose(found[here], wanted[here], 1e-9, 1e-11, err_msg=message)
