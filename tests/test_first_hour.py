"""What a newcomer tries first, word for word; a script for PyTorch with its imports changed."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import Tensor, compute_graph, nn
from lazygrad.data import DataLoader, TensorDataset

GOLDEN = Path(__file__).parent / "golden"
GOLDENS = json.loads((GOLDEN / "first_hour.json").read_text())

SOFTMAX = """
import numpy as np, lazygrad as lg
from lazygrad import Tensor, compute_graph
from lazygrad.engine import Graph, get_default_graph

def softmax(x): e = x.exp(); return e / e.sum(axis=1, keepdims=True)
t = Tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
y = softmax(t); assert y.shape == (2, 4); y.realize(); np.testing.assert_allclose(y.data[0], [0.0320586, 0.08714432, 0.23688282, 0.64391426], rtol=1e-5)
g = Graph(); z = softmax(Tensor([[1, 2, 3, 4]], graph=g)); g.realize(); g.visualize()
"""  # noqa: E501

SCALARS = """
a = lg.tensor(-4.0, requires_grad=True); b = lg.tensor(2.0, requires_grad=True)
c = a + b; d = a * b + b**3; c += c + 1; c += 1 + c + (-a); d += d * 2 + (b + a).relu(); d += 3 * d + (b - a).relu()
e = c - d; f = e**2; o = f / 2.0; o += 10.0 / f; o.backward()
assert abs(o.item() - 24.7041) < 1e-3 and abs(a.grad.item() - 138.8338) < 1e-3 and abs(b.grad.item() - 645.5773) < 1e-3
"""  # noqa: E501

FORWARD = """
@compute_graph
def forward(x, y): return lg.nn.functional.cross_entropy(model(x), y)
for xb, yb in loader:                       # the last batch is smaller
    loss = forward(xb, yb); optimizer.zero_grad(); loss.backward(); optimizer.step()
"""

TRAIN_STEP = """
@compute_graph
def train_step(x, y):
    optimizer.zero_grad(); loss = loss_fn(model(x), y); loss.backward(); optimizer.step(); return loss
losses = [train_step(xb, yb) for xb, yb in loader]     # all distinct, none overwritten
"""  # noqa: E501

BY_HAND = """
for p in model.parameters(): p.data -= 0.1 * p.grad     # works, and frozen programs see it
"""


def script(text: str, name: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a text as a file would run; `inspect` finds no source, as in a console."""
    exec(compile(text, name, "exec"), names)
    return names


@pytest.fixture
def setting() -> dict[str, Any]:
    """A model, an optimizer and 50 examples in batches of 16: the last has two."""
    lg.manual_seed(0)
    rng = np.random.RandomState(0)
    x, y = rng.randn(50, 4).astype(np.float32), rng.randint(0, 3, 50)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    return {
        "lg": lg,
        "compute_graph": compute_graph,
        "model": model,
        "optimizer": lg.optim.SGD(model.parameters(), lr=0.1),
        "loss_fn": nn.CrossEntropyLoss(),
        "loader": DataLoader(TensorDataset(x, y), batch_size=16),
    }


def plain_losses(setting: dict[str, Any], epochs: int = 1) -> list[float]:
    """What the loop gives without the decorator."""
    model, optimizer = setting["model"], setting["optimizer"]
    losses = []
    for _ in range(epochs):
        for x, y in setting["loader"]:
            loss = setting["loss_fn"](model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def test_softmax_on_the_default_and_on_a_custom_graph() -> None:
    script(SOFTMAX, "softmax", {})


def test_the_scalars_of_micrograd() -> None:
    script(SCALARS, "scalars", {"lg": lg})


def weights(setting: dict[str, Any]) -> list[Any]:
    return [p.numpy(copy=True) for p in setting["model"].parameters()]


def test_decorated_forward_with_backward_and_step_outside(setting: dict[str, Any]) -> None:
    start = {name: t.numpy(copy=True) for name, t in setting["model"].state_dict().items()}
    script(FORWARD, "forward", setting)
    captured = weights(setting)
    setting["model"].load_state_dict({name: lg.tensor(v) for name, v in start.items()})
    plain_losses(setting)
    for a, b in zip(captured, weights(setting), strict=True):
        np.testing.assert_array_equal(a, b)
    assert setting["forward"].cache_info().size == 2  # full batches, and the last


def test_a_whole_step_captured(setting: dict[str, Any]) -> None:
    start = {name: t.numpy(copy=True) for name, t in setting["model"].state_dict().items()}
    losses = [loss.item() for loss in script(TRAIN_STEP, "step", setting)["losses"]]
    assert len(set(losses)) == len(losses) == 4
    setting["model"].load_state_dict({name: lg.tensor(v) for name, v in start.items()})
    assert losses == plain_losses(setting)


def test_the_first_call_sees_weights_whose_initial_values_are_still_pending() -> None:
    def first_loss(decorate: Any) -> float:
        lg.manual_seed(3)
        layer = nn.Linear(4, 3)
        nn.init.normal_(layer.weight)  # not read before the step
        optimizer = lg.optim.SGD(layer.parameters(), lr=0.1)

        def step(x: Tensor, y: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(layer(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return decorate(step)(lg.ones(2, 4), lg.tensor([0, 2])).item()

    assert first_loss(compute_graph) == first_loss(lambda step: step)


def test_parameters_updated_by_hand_are_seen_by_frozen_programs(setting: dict[str, Any]) -> None:
    script(FORWARD, "forward", setting)
    forward, model = setting["forward"], setting["model"]
    x, y = next(iter(setting["loader"]))
    before = forward(x, y).item()
    old = weights(setting)
    grads = [p.grad.numpy(copy=True) for p in model.parameters()]
    script(BY_HAND, "by_hand", setting)
    for p, w, g in zip(model.parameters(), old, grads, strict=True):
        np.testing.assert_allclose(p.numpy(), w - 0.1 * g, rtol=1e-6, atol=1e-7)
    assert forward(x, y).item() != before
    assert forward(x, y).item() == nn.functional.cross_entropy(model(x), y).item()


IMPORTS = {
    "import torch": "import lazygrad as torch",
    "import torch.nn as nn": "import lazygrad.nn as nn",
    "import torch.nn.functional as F": "import lazygrad.nn.functional as F",
    "from torch.utils.data import DataLoader, TensorDataset": (
        "from lazygrad.data import DataLoader, TensorDataset"
    ),
}


def with_imports_changed(text: str) -> str:
    lines = text.splitlines()
    assert set(IMPORTS) <= set(lines)
    return "\n".join(IMPORTS.get(line, line) for line in lines)


@pytest.mark.parametrize("decorated", ["nothing", "loss_of", "train_step", "both"])
def test_a_pytorch_script_gives_pytorchs_losses(decorated: str) -> None:
    text = with_imports_changed((GOLDEN / "mlp_script.txt").read_text())
    for name in ("loss_of", "train_step") if decorated == "both" else (decorated,):
        text = re.sub(rf"^(?=def {name}\()", "@torch.compute_graph\n", text, flags=re.MULTILINE)
    assert text.count("compute_graph") == {"nothing": 0, "both": 2}.get(decorated, 1)
    names = script(text, "mlp", {})
    np.testing.assert_allclose(names["losses"], GOLDENS["mlp"]["losses"], rtol=2e-4, atol=2e-5)
    assert names["accuracy"] == pytest.approx(GOLDENS["mlp"]["accuracy"], abs=0.003)


def test_the_arguments_of_scripts_for_a_gpu(tmp_path: Path) -> None:
    device = lg.device("cuda" if lg.cuda.is_available() else "cpu")
    lg.cuda.manual_seed_all(0)
    data = TensorDataset(lg.arange(4))
    loader = DataLoader(data, 2, pin_memory=True, num_workers=1, persistent_workers=True)
    assert [x.tolist() for (x,) in loader] == [[0, 1], [2, 3]]
    path = tmp_path / "weights.pt"
    lg.save({"w": lg.ones(2)}, path)
    assert lg.load(path, map_location=device, weights_only=True)["w"].tolist() == [1, 1]
    with pytest.raises(lg.errors.DeviceError, match="'cuda:0'"):
        lg.load(path, map_location="cuda:0")
    with pytest.raises(lg.errors.ConfigError, match="weights_only"):
        lg.load(path, weights_only=False)


def test_methods_of_tensors_on_data_say_what_to_write_instead() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(AttributeError, match=r"use the tensor: .*no_grad\(\): p.zero_\(\)"):
        layer.bias.data.zero_()
    for init in (nn.init.zeros_, nn.init.normal_):
        with pytest.raises(TypeError, match=r"the parameter itself, not its \.data"):
            init(layer.bias.data)
    layer.bias.data = np.zeros(2)
    assert layer.bias.tolist() == [0, 0]

    @lg.compute_graph
    def captured(x: lg.Tensor) -> lg.Tensor:
        w.data.clamp_(-1, 1)
        return x

    w = lg.nn.Parameter([1.0])
    with pytest.raises(AttributeError, match=r"has no 'clamp_'; use the tensor"):
        captured(lg.ones(1))


def test_an_error_inside_of_a_sequential_says_where() -> None:
    inner = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(6, 2))
    with pytest.raises(lg.errors.ShapeError) as caught:
        nn.Sequential(nn.Linear(4, 3), inner)(lg.ones(1, 4))
    assert caught.value.__notes__ == [
        "in 2: Linear of a Sequential",
        "in 1: Sequential of a Sequential",
    ]
