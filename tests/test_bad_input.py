"""Bad input: an error at the user's line that says what is wrong, and nothing lost."""

import gzip
import struct
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import Tensor, compute_graph, errors, nn
from lazygrad.data import MNIST, DataLoader, TensorDataset

F = nn.functional


def captured() -> Any:
    """A captured function that has been called."""

    @compute_graph
    def double(x: Tensor) -> Tensor:
        return x * 2

    double(lg.ones(2))
    return double


def capture(body: Callable[[Tensor], Any]) -> Any:
    """Call a captured function with that body."""
    return compute_graph(lambda x: body(x))(lg.ones(3))


def leaf() -> Tensor:
    return lg.ones(3, requires_grad=True)


def train_with(**hyper: Any) -> Any:
    return lg.optim.SGD([leaf()], **hyper)


# name -> what the user writes, the error, the built-in that also catches it, the whole message
CASES: dict[str, tuple[Callable[[], Any], type[Exception], type[Exception], str]] = {
    "inner sizes": (
        lambda: lg.zeros(32, 784) @ lg.zeros(128, 784),
        errors.ShapeError,
        ValueError,
        "matmul: (32,784) @ (128,784): inner 784 != 128; did you mean w.T?",
    ),
    "a layer of another size": (
        lambda: nn.Linear(784, 10)(lg.ones(32, 64)),
        errors.ShapeError,
        ValueError,
        "linear: input (32, 64) does not fit weight (10, 784), which is (out, in): the last"
        " dimension of the input must be `in`",
    ),
    "a size that is no integer": (
        lambda: nn.Linear(2.5, 1),
        errors.ArgumentTypeError,
        TypeError,
        "Linear: in_features must be an integer, got 2.5",
    ),
    "a negative size": (
        lambda: nn.Embedding(-1, 2),
        errors.ArgumentError,
        ValueError,
        "Embedding: num_embeddings must not be negative, got -1",
    ),
    "a shape that is no integer": (
        lambda: nn.LayerNorm(2.5),
        errors.ArgumentTypeError,
        TypeError,
        "LayerNorm: normalized_shape must be an integer, got 2.5",
    ),
    "a kernel that is no integer": (
        lambda: nn.Conv2d(1, 2, 2.5),
        errors.ArgumentError,
        ValueError,
        "Conv2d: kernel_size must be an integer >= 1, or 2 of them, got 2.5",
    ),
    "a value that is no number": (
        lambda: lg.full((2,), "a"),
        errors.DTypeError,
        TypeError,
        "a tensor cannot hold strings ('a'); it takes float16, bfloat16, float32, float64,"
        " (u)int8 to (u)int64, bool",
    ),
    "values where one is needed": (
        lambda: lg.full((2,), [1, 2]),
        errors.ArgumentError,
        ValueError,
        "full: fill_value must be one number, got shape (2,)",
    ),
    "a correction that is no number": (
        lambda: lg.ones(3).std(correction="a"),
        errors.ArgumentTypeError,
        TypeError,
        "var: correction must be a number, got 'a'",
    ),
    "no broadcast": (
        lambda: lg.zeros(2, 3) + lg.zeros(4),
        errors.ShapeError,
        ValueError,
        "add: shapes (2, 3) and (4,) do not broadcast: 3 != 4",
    ),
    "reshape": (
        lambda: lg.ones(6).reshape(4, 2),
        errors.ShapeError,
        ValueError,
        "reshape: (6,) has 6 elements, (4, 2) needs 8",
    ),
    "cat": (
        lambda: lg.cat([lg.ones(2, 3), lg.ones(2, 4)]),
        errors.ShapeError,
        ValueError,
        "cat: shapes (2, 3) and (2, 4) differ outside of axis 0",
    ),
    "ragged list": (
        lambda: lg.tensor([[1, 2], [3]]),
        errors.ShapeError,
        ValueError,
        "ragged data: rows of different lengths [2, 1]; all must be equal",
    ),
    "unknown dtype": (
        lambda: lg.zeros(2, dtype="flaot32"),
        errors.DTypeError,
        TypeError,
        "unknown dtype 'flaot32'; did you mean 'float32'?",
    ),
    "axis": (
        lambda: lg.zeros(2, 3).sum(dim=2),
        errors.AxisError,
        IndexError,
        "sum: axis 2 is out of range for a tensor with 2 dimensions",
    ),
    "index": (
        lambda: lg.zeros(3)[5],
        errors.IndexOutOfRangeError,
        IndexError,
        "index 5 is out of range for axis 0 with 3 elements",
    ),
    "index that is data": (
        lambda: lg.zeros(3)[lg.tensor([0, 7])].tolist(),
        errors.IndexOutOfRangeError,
        IndexError,
        "index 7 at position 1 is out of range for axis 0 with 3 elements",
    ),
    "strings": (
        lambda: lg.tensor(["a", "b"]),
        errors.DTypeError,
        TypeError,
        "a tensor cannot hold strings (['a', 'b']); it takes float16, bfloat16, float32, float64,"
        " (u)int8 to (u)int64, bool",
    ),
    "objects": (
        lambda: Tensor(np.array([None, 1], dtype=object)),
        errors.DTypeError,
        TypeError,
        "a tensor cannot hold objects (array([None, 1], dtype=object)); it takes float16, bfloat16,"
        " float32, float64, (u)int8 to (u)int64, bool",
    ),
    "a frozen graph": (
        lambda: Tensor([1.0], graph=captured().graph) + 1,
        errors.FrozenGraphError,
        RuntimeError,
        "cannot append 'data' to a frozen graph; make a new Graph() or call the captured function"
        " again",
    ),
    "two graphs": (
        lambda: Tensor([1.0], graph=lg.Graph("a")) + Tensor([1.0], graph=lg.Graph("b")),
        errors.GraphMismatchError,
        ValueError,
        "operands of two different graphs (<Graph 'a': 1 nodes> and <Graph 'b': 1 nodes>); realize"
        " one of them first, or create both with the same graph=",
    ),
    "backward from a vector": (
        lambda: (leaf() * 2).backward(),
        errors.GradientError,
        RuntimeError,
        "backward() on a tensor of shape (3,): only one element needs no gradient; pass gradient=,"
        " or reduce it with .sum() or .mean()",
    ),
    "backward from nothing": (
        lambda: lg.ones(3).sum().backward(),
        errors.GradientError,
        RuntimeError,
        "backward(): the tensor does not require grad: nothing it was made from does"
        " (requires_grad=True), or it was made under no_grad()",
    ),
    "a label outside the classes": (
        lambda: F.cross_entropy(lg.zeros(2, 3), lg.tensor([0, 3])).item(),
        errors.IndexOutOfRangeError,
        IndexError,
        "cross_entropy: label 3 at position 1 is out of range [0, 3)",
    ),
    "labels that are no integers": (
        lambda: F.cross_entropy(lg.zeros(2, 3), lg.tensor([0.0, 1.0])),
        errors.DTypeError,
        TypeError,
        "cross_entropy: class indices must be integers, got lazygrad.float32; use target.long()",
    ),
    "empty dataset": (
        lambda: DataLoader(TensorDataset(np.zeros((0, 3))), batch_size=2),
        errors.DataError,
        ValueError,
        "DataLoader: the dataset is empty",
    ),
    "a rate that is no number": (
        lambda: train_with(lr=float("nan")),
        errors.ArgumentError,
        ValueError,
        "the learning rate (lr) must be a finite number >= 0, got nan",
    ),
    "a rate set to no number": (
        lambda: setattr(train_with(lr=0.1), "lr", float("nan")),
        errors.ArgumentError,
        ValueError,
        "the learning rate (lr) must be a finite number >= 0, got nan",
    ),
    "no parameters": (
        lambda: lg.optim.SGD([], lr=0.1),
        errors.ArgumentError,
        ValueError,
        "SGD got an empty parameter list",
    ),
    "a misspelt method": (
        lambda: lg.ones(2).reshpae(2, 1),
        errors.UnknownAttributeError,
        AttributeError,
        "Tensor has no attribute 'reshpae'; did you mean 'reshape'?",
    ),
    "a misspelt parameter": (
        lambda: nn.Linear(2, 3).wieght,
        errors.UnknownAttributeError,
        AttributeError,
        "'Linear' has no attribute 'wieght'; did you mean 'weight'?",
    ),
    "a misspelt setting": (
        lambda: lg.config.paralel,
        errors.ConfigError,
        AttributeError,
        "unknown setting 'paralel'; did you mean 'parallel'?",
    ),
    "a setting's value": (
        lambda: setattr(lg.config, "parallel", "no"),
        errors.ConfigError,
        ValueError,
        "parallel takes one of auto, vectorized, chunked, got 'no'",
    ),
    "workers": (
        lambda: lg.set_num_workers(0),
        errors.ConfigError,
        ValueError,
        'num_workers must be at least 1 or "auto", got 0',
    ),
    "workers of a loader": (
        lambda: DataLoader([1, 2], num_workers=-1),
        errors.ConfigError,
        ValueError,
        "num_workers must not be negative, got -1",
    ),
    "a device": (
        lambda: lg.ones(2).to("cuda"),
        errors.DeviceError,
        RuntimeError,
        "device 'cuda' is not available: this version computes on the CPU only",
    ),
    "a value of another shape": (
        lambda: setattr(leaf(), "data", np.ones(4)),
        errors.ShapeError,
        ValueError,
        "cannot assign (4,) to .data of shape (3,)",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_message_says_it(name: str) -> None:
    write, error, builtin, text = CASES[name]
    with pytest.raises(error) as caught:
        write()
    assert str(caught.value) == text
    assert isinstance(caught.value, builtin)
    assert isinstance(caught.value, errors.LazygradError)


@pytest.mark.parametrize("name", CASES)
def test_the_error_points_to_the_users_line(name: str) -> None:
    with pytest.raises(errors.LazygradError) as caught:
        CASES[name][0]()
    frames = [f for f in traceback.extract_tb(caught.value.__traceback__) if f.filename == __file__]
    assert len(frames) >= 2  # this test, and the line of the case
    for note in getattr(caught.value, "__notes__", []):  # it was found when values came
        assert f"{__file__}:" in note


READS = {
    "if": lambda x: x if x.sum() > 0 else -x,
    "float": lambda x: x * float(x.sum()),
    "item": lambda x: x * x.sum().item(),
    "numpy": lambda x: x * x.numpy()[0],
    "tolist": lambda x: x * x.tolist()[0],
}


@pytest.mark.parametrize("name", READS)
def test_reading_a_value_while_capturing(name: str) -> None:
    with pytest.raises(errors.CaptureError) as caught:
        capture(READS[name])
    text = str(caught.value)
    assert "was read inside a captured function, where it does not exist yet" in text
    assert "a branch needs lg.where(condition, a, b)" in text
    assert f"{__file__}:" in text or "(shape (3,))" in text


@pytest.mark.parametrize(
    ("make", "op"),
    [
        (lambda x: (x > 0).sum(), "gt"),
        (lambda x: (x * 2).detach().exp().sum(), "detach"),
        (lambda x: lg.no_grad()(lambda: (x * 2).sum())(), "mul"),
    ],
)
def test_backward_names_what_passes_no_gradient_on(make: Any, op: str) -> None:
    with pytest.raises(
        errors.GradientError, match=f"`{op}` .* made at .*{__name__.split('.')[-1]}"
    ):
        make(leaf()).backward()


def test_a_failed_capture_leaves_the_function_usable() -> None:
    broken = True

    @compute_graph
    def f(x: Tensor) -> Tensor:
        y = x * 2
        if broken:
            raise KeyError("mine")
        return y

    with pytest.raises(KeyError, match="mine"):
        f(lg.ones(2))
    broken = False
    assert f(lg.ones(2)).tolist() == [2.0, 2.0]
    assert (lg.ones(2) + 1).tolist() == [2.0, 2.0]


def undecorated(f: Any) -> Any:
    return f


@pytest.mark.parametrize(
    ("forward", "step"),
    [(undecorated, undecorated), (compute_graph, undecorated), (undecorated, compute_graph)],
    ids=["plain", "captured forward", "captured step"],
)
def test_a_label_outside_the_classes_leaves_everything_as_it_was(forward: Any, step: Any) -> None:
    lg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))
    optimizer = lg.optim.Adam(model.parameters(), lr=0.1)

    @forward
    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y)

    @step
    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss

    x = lg.randn(5, 4)
    good, bad = lg.tensor([0, 1, 2, 1, 0]), lg.tensor([0, 1, 3, 1, 0])
    for _ in range(3):
        step(x, good)

    def everything() -> list[Any]:
        moments = [t.tolist() for own in optimizer.state.values() for t in own.values()]
        return [[p.tolist() for p in model.parameters()], moments]

    before = everything()
    with pytest.raises(errors.IndexOutOfRangeError, match="label 3 at position 2") as caught:
        step(x, bad)
    assert any(f"{__file__}:" in note for note in caught.value.__notes__)
    assert everything() == before
    step(x, good)  # and training goes on
    assert everything() != before


def test_a_tensor_that_cannot_be_computed_does_not_stop_the_training_around_it() -> None:
    layer = nn.Linear(4, 3)
    optimizer = lg.optim.SGD(layer.parameters(), lr=0.1)
    x = lg.randn(2, 4)
    bad = F.cross_entropy(layer(x), lg.tensor([0, 3]))  # held, as a notebook holds what it showed
    before = layer.weight.tolist()
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(layer(x), lg.tensor([0, 2])).backward()
        optimizer.step()
    assert layer.weight.tolist() != before
    with pytest.raises(errors.IndexOutOfRangeError):
        bad.item()


def test_a_state_dict_lists_all_that_does_not_fit_and_loads_nothing() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = [p.tolist() for p in model.parameters()]
    entries = dict(model.state_dict())
    del entries["1.bias"]
    entries |= {"extra": lg.ones(1), "0.bias": lg.ones(7), "0.weight": lg.ones(3, 2)}
    with pytest.raises(errors.StateDictError) as caught:
        model.load_state_dict(entries)
    assert str(caught.value) == (
        "the state dict does not fit Sequential; nothing was loaded:\n"
        "  missing: 1.bias; did you mean '0.bias'?\n"
        "  unexpected: extra\n"
        "  0.bias: shape (7,) where the module has (3,)"
    )
    assert isinstance(caught.value, RuntimeError)
    assert [p.tolist() for p in model.parameters()] == before


@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_idx_file(tmp_path: Path, compressed: bool) -> None:
    images = struct.pack(">IIII", 2051, 100, 28, 28) + bytes(3)
    name = tmp_path / ("train-images-idx3-ubyte" + ".gz" * compressed)
    name.write_bytes(gzip.compress(images) if compressed else images)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 100) + bytes(100))
    with pytest.raises(errors.DataError) as caught:
        MNIST(tmp_path)
    assert str(caught.value) == (
        f"{name}: truncated: expected 78416 bytes for shape (100, 28, 28), found 19"
    )


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(errors.DataError, match="use download=True, or DigitsAsMNIST"):
        MNIST(tmp_path)


def test_a_truncated_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    lg.save({"w": lg.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(errors.DataError) as caught:
        lg.load(path)
    assert str(caught.value).startswith(f"{path} is truncated or no safetensors file: ")
