"""macrograd's README, run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.compat import macrograd
from lazygrad.engine import Graph, set_default_graph
from tests.golden import make_first_hour as golden
from tests.originals.readme import ported, run

GOLDENS = json.loads((Path(golden.__file__).parent / "first_hour.json").read_text())
TENSOR = {"from macrograd import Tensor": "from lazygrad.compat.macrograd import Tensor"}
ROWS = [[0.0320586, 0.08714432, 0.23688282, 0.64391426]] * 2


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """What the first block leaves behind, on a default graph of its own."""
    set_default_graph(Graph("readme"))
    yield run(ported("macrograd", "realize", TENSOR))
    set_default_graph(Graph("default"))


def test_realize_a_tensor(names: dict[str, Any]) -> None:
    np.testing.assert_allclose(names["logits"].data, ROWS, rtol=1e-5)


def test_realize_the_default_graph(names: dict[str, Any]) -> None:
    imports = TENSOR | {
        "from macrograd.engine import get_default_graph": (
            "from lazygrad.engine import get_default_graph"
        )
    }
    run(ported("macrograd", "default graph", imports), names)
    assert names["logits"].is_realized
    assert names["logits"].graph is names["default_graph"]
    np.testing.assert_allclose(names["logits"].data, ROWS, rtol=1e-5)


def test_realize_a_custom_graph(names: dict[str, Any]) -> None:
    imports = TENSOR | {
        "from macrograd.engine import Graph": "from lazygrad.compat.macrograd import Graph"
    }
    run(ported("macrograd", "custom graph", imports), names)
    assert names["logits"].is_realized
    assert names["logits"].graph is names["my_graph"]
    np.testing.assert_allclose(names["logits"].data, ROWS, rtol=1e-5)


class Linear(macrograd.Linear):
    """A layer that starts from the weights that PyTorch started from."""

    left: list[Any]

    def __init__(self, in_dims: int, out_dims: int) -> None:
        super().__init__(in_dims, out_dims)
        self.weight.data = self.left.pop(0)


def train(names: dict[str, Any], text: str) -> tuple[list[float], float]:
    """Run the MNIST block; returns what it printed and the accuracy of its model."""
    Linear.left = golden.weights()
    x, y = golden.images(True, golden.IMAGES)
    one_hot = np.eye(10, dtype=np.float32)[y]
    printed: list[Any] = []
    names |= {name: getattr(macrograd, name) for name in ("Model", "SGD_Momentum", "compute_graph")}
    names |= {"Linear": Linear, "print": printed.append}
    names["train_minibatches"] = [
        (x[i : i + golden.BATCH], one_hot[i : i + golden.BATCH])
        for i in range(0, golden.IMAGES, golden.BATCH)
    ]
    run(text, names)
    x, y = golden.images(False, golden.TEST_IMAGES)
    accuracy = (names["model"](lg.tensor(x)).argmax(dim=1).numpy() == y).mean()
    return [float(loss) for loss in printed], accuracy


def test_mnist_as_printed_gives_pytorchs_losses(names: dict[str, Any]) -> None:
    losses, _ = train(names, ported("macrograd", "mnist", {}))
    np.testing.assert_allclose(losses, GOLDENS["printed"]["losses"], rtol=1e-4)
    graph = names["forward"].graph
    before = len(graph.nodes)
    names["forward"](*names["train_minibatches"][0])
    assert len(names["forward"].graph.nodes) == before


def test_mnist_with_another_rate_and_more_epochs_learns_as_well_as_in_pytorch(
    names: dict[str, Any],
) -> None:
    epochs, rate = golden.RUNS["trained"]
    text = ported("macrograd", "mnist", {})
    for old, new in (("epochs = 1", f"epochs = {epochs}"), ("rate = 0.001", f"rate = {rate}")):
        assert old in text
        text = text.replace(old, new)
    losses, accuracy = train(names, text)
    assert losses[-1] < losses[0] / 5
    assert accuracy == pytest.approx(GOLDENS["trained"]["accuracy"], abs=0.003)
