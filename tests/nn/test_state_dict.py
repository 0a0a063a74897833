"""State dicts: all or nothing, copies, in place."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import ArgumentTypeError, StateDictError


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


NAMES = [
    "0.weight", "0.bias", "1.weight", "1.bias",
    "1.running_mean", "1.running_var", "1.num_batches_tracked",
]  # fmt: skip


def test_names_are_those_of_pytorch_captured_or_not() -> None:
    net = network()
    assert list(net.state_dict()) == NAMES
    assert next(iter(net.state_dict(prefix="net."))) == "net.0.weight"
    captured = lg.compute_graph(lambda x: net(x))
    captured(lg.ones(4, 3))
    assert list(net.state_dict()) == NAMES


def test_loading_copies_in_place_and_captured_functions_see_it() -> None:
    net, other = network(), network()
    net(lg.randn(5, 3))
    captured = lg.compute_graph(lambda x: net(x))
    net.eval()
    x = lg.randn(4, 3)
    captured(x)
    weight = net[0].weight
    report = net.load_state_dict(other.state_dict())
    assert repr(report) == "<All keys matched successfully>"
    assert net[0].weight is weight
    other.eval()
    np.testing.assert_array_equal(captured(x).numpy(), other(x).numpy())
    assert captured.cache_info().misses == 1


def test_loading_takes_arrays_lists_and_other_dtypes() -> None:
    net = nn.Linear(2, 1)
    net.load_state_dict({"weight": np.array([[1.0, 2.0]]), "bias": [3]})
    assert net.weight.dtype is lg.float32
    assert net(lg.ones(1, 2)).item() == 6


def test_a_state_dict_is_a_copy_that_training_does_not_change() -> None:
    net = network()
    optimizer = lg.optim.SGD(net.parameters(), lr=0.5)
    best = net.state_dict()
    kept = {name: t.numpy(copy=True) for name, t in best.items()}
    for _ in range(3):
        optimizer.zero_grad()
        (net(lg.randn(4, 3)) ** 2).sum().backward()
        optimizer.step()
    for name, values in kept.items():
        np.testing.assert_array_equal(best[name].numpy(), values)
    assert not np.array_equal(net[0].weight.numpy(), kept["0.weight"])
    net.load_state_dict(best)
    np.testing.assert_array_equal(net[0].weight.numpy(), kept["0.weight"])


def test_every_problem_is_listed_and_nothing_is_loaded() -> None:
    net = network()
    before = {name: t.numpy(copy=True) for name, t in net.state_dict().items()}
    given = {name: np.full(t.shape, 9.0) for name, t in net.state_dict().items()}
    del given["1.bias"]
    del given["0.bias"]
    given["0.biass"] = np.zeros(2)
    given["0.weight"] = np.zeros((2, 4))
    given["1.running_mean"] = np.array(["a", "b"])
    given["1.running_var"] = [[1.0], [1.0, 2.0]]
    with pytest.raises(StateDictError) as caught:
        net.load_state_dict(given)
    text = str(caught.value)
    for line in (
        "the state dict does not fit Sequential; nothing was loaded:",
        "missing: 0.bias; did you mean '0.biass'?",
        "missing: 1.bias",
        "unexpected: 0.biass; did you mean '0.bias'?",
        "0.weight: shape (2, 4) where the module has (2, 3)",
        "1.running_mean: not a numeric array but ndarray of dtype <U1",
        "1.running_var: ",
    ):
        assert line in text
    for name, values in before.items():
        np.testing.assert_array_equal(net.state_dict()[name].numpy(), values)
    with pytest.raises((RuntimeError, KeyError)):
        net.load_state_dict(given)
    with pytest.raises(ArgumentTypeError, match="a state dict is a mapping, got list"):
        net.load_state_dict([1])


def test_a_load_that_is_not_strict_reports_the_rest() -> None:
    net = network()
    report = net.load_state_dict({"0.bias": [5.0, 6.0], "new": [1.0]}, strict=False)
    assert report.unexpected_keys == ["new"] and "0.weight" in report.missing_keys
    assert net[0].bias.tolist() == [5.0, 6.0]
    with pytest.raises(StateDictError, match=r"0.bias: shape \(3,\)"):
        net.load_state_dict({"0.bias": [5.0, 6.0, 7.0]}, strict=False)


def test_shared_and_transient_tensors() -> None:
    net = nn.Module()
    net.a = nn.Linear(2, 2)
    net.b = net.a
    net.register_buffer("kept", lg.ones(1))
    net.register_buffer("lost", lg.ones(1), persistent=False)
    names = ["kept", "a.weight", "a.bias", "b.weight", "b.bias"]
    assert list(net.state_dict()) == names
    net.load_state_dict(net.state_dict())
