"""Modules: registration, walking, hooks, modes, conversion, printing, copies."""

import copy
import gc
import pickle
import weakref
from collections import OrderedDict

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    IndexOutOfRangeError,
    LazygradError,
)


class Net(nn.Module):
    """Registers without `super().__init__()`."""

    def __init__(self) -> None:
        self.fc1 = nn.Linear(4, 3)
        self.fc2 = nn.Linear(3, 2, bias=False)
        self.scale = nn.Parameter([2.0])
        self.register_buffer("mean", lg.zeros(2))
        self.register_buffer("scratch", lg.ones(1), persistent=False)

    def forward(self, x: lg.Tensor) -> lg.Tensor:
        return (self.fc2(self.fc1(x).relu()) - self.mean) * self.scale


class Called(nn.Module):
    """Defines `__call__` itself, as macrograd's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def __call__(self, x: lg.Tensor) -> lg.Tensor:
        return self.layer(x) + 1


# Registration and walking.


def test_everything_assigned_is_registered_without_calling_the_base_constructor() -> None:
    net = Net()
    names = ["scale", "fc1.weight", "fc1.bias", "fc2.weight"]
    assert [name for name, _ in net.named_parameters()] == names
    assert isinstance(net.parameters(), list)
    assert [id(p) for p in net.parameters()] == [id(p) for _, p in net.named_parameters()]
    assert [name for name, _ in net.named_buffers()] == ["mean", "scratch"]
    assert [name for name, _ in net.named_modules()] == ["", "fc1", "fc2"]
    assert [name for name, _ in net.named_children()] == ["fc1", "fc2"]
    assert list(net.children()) == [net.fc1, net.fc2]
    assert [p.shape for p in net.parameters(recurse=False)] == [(1,)]
    assert net.get_parameter("fc1.bias") is net.fc1.bias
    assert net.get_submodule("fc1") is net.fc1 and net.get_submodule("") is net
    assert net.get_buffer("mean") is net.mean
    assert {"fc1", "mean", "scale"} <= set(dir(net))


def test_shared_parameters_and_modules_count_once() -> None:
    net = Net()
    net.again = net.fc1
    net.tied = net.fc2.weight
    assert len(net.parameters()) == 4
    assert len(list(net.modules())) == 3
    names = [name for name, _ in net.named_parameters(remove_duplicate=False)]
    assert {"tied", "fc2.weight", "fc1.weight", "again.weight"} <= set(names)


def test_a_name_holds_one_kind_at_a_time() -> None:
    net = Net()
    net.scale = nn.Linear(1, 1)
    assert "scale" in net._modules and "scale" not in net._parameters
    net.scale = nn.Parameter([1.0])
    assert "scale" in net._parameters and "scale" not in net._modules
    net.scale = None
    assert net.scale is None and len(net.parameters()) == 3
    del net.fc1
    assert not hasattr(net, "fc1")
    net.plain = 3
    net.plain = nn.Linear(1, 1)
    assert "plain" not in vars(net)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("fc1", 3, r"Net.fc1 takes a Module or None, got int"),
        ("scale", lg.ones(1), r"Net.scale takes a Parameter or None, got Tensor"),
        ("mean", "x", r"Net.mean takes a Tensor or None, got str"),
    ],
)
def test_a_registered_name_refuses_other_kinds(name: str, value: object, text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=text):
        setattr(Net(), name, value)


def test_registering_refuses_what_is_no_leaf_no_tensor_or_no_name() -> None:
    net = Net()
    with pytest.raises(TypeError, match="parameter 'w' must be a Parameter or None, got Tensor"):
        net.register_parameter("w", lg.ones(1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="buffer 'b' must be a Tensor or None, got list"):
        net.register_buffer("b", [1.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="module 'm' must be a Module or None, got int"):
        net.add_module("m", 3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"got 'a\.b'"):
        net.register_buffer("a.b", lg.ones(1))


def test_a_misspelt_attribute_names_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"'Net' has no attribute 'fc3'; did you mean 'fc\d'"):
        _ = Net().fc3
    with pytest.raises(AttributeError, match=r"did you mean 'parameters'\?"):
        Net().paramters()
    with pytest.raises(LazygradError):
        _ = Net().nothing_like_it
    assert not hasattr(Net(), "fc3")


def test_parameters_work_outside_of_modules() -> None:
    w = nn.Parameter(np.array([1.0, 2.0]))
    assert w.requires_grad and w.is_leaf and w.dtype is lg.float64
    (w * w).sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), [2, 4])
    assert repr(w).startswith("Parameter containing:\ntensor([1., 2.]")
    assert not nn.Parameter([1], requires_grad=False).requires_grad


# Calling and hooks.


def test_a_module_without_forward_says_so() -> None:
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty defines neither forward nor __call__"):
        Empty()(1)


def test_a_module_may_define_call_itself_and_keeps_hooks() -> None:
    model = Called()
    seen: list[str] = []
    model.register_forward_pre_hook(lambda m, args: seen.append("before"))
    model.register_forward_hook(lambda m, args, out: out * 2)
    x = lg.ones(1, 2)
    np.testing.assert_allclose(model(x).numpy(), 2 * (model.layer(x) + 1).numpy())
    assert seen == ["before"]


def test_super_call_is_part_of_one_call() -> None:
    class Deeper(Called):
        def __call__(self, x: lg.Tensor) -> lg.Tensor:
            return super().__call__(x) * 3

    class Forwarding(nn.Module):
        def forward(self, x: int) -> int:
            return x + 1

        def __call__(self, x: int) -> int:
            return int(super().__call__(x)) * 10

    model = Deeper()
    calls: list[int] = []
    model.register_forward_hook(lambda m, args, out: calls.append(1))
    assert model(lg.ones(1, 2)).shape == (1, 2)
    assert calls == [1]
    assert Forwarding()(1) == 20


def test_hooks_see_and_replace_arguments_and_outputs() -> None:
    class Scale(nn.Module):
        def forward(self, x: int, *, by: int = 1) -> int:
            return x * by

    model = Scale()
    log: list[object] = []
    first = model.register_forward_pre_hook(lambda m, args: args[0] + 1)
    model.register_forward_pre_hook(
        lambda m, args, kwargs: (args, {"by": kwargs["by"] + 1}), with_kwargs=True
    )
    last = model.register_forward_hook(lambda m, args, out: log.append((args, out)))
    model.register_forward_hook(
        lambda m, args, kwargs, out: out + kwargs["by"], with_kwargs=True, prepend=True
    )
    assert model(1, by=2) == 2 * 3 + 3
    assert log == [((2,), 9)]
    first.remove()
    first.remove()
    with last:
        pass
    assert model(1, by=2) == 1 * 3 + 3 and len(log) == 1
    model.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(TypeError, match=r"returns None or \(args, kwargs\), got 3"):
        model(1, by=2)


def test_always_called_hooks_run_when_forward_raises() -> None:
    class Failing(nn.Module):
        def forward(self) -> None:
            raise RuntimeError("no")

    model = Failing()
    log: list[str] = []
    model.register_forward_hook(lambda m, a, o: log.append("plain"))
    model.register_forward_hook(lambda m, a, o: log.append("always"), always_call=True)
    with pytest.raises(RuntimeError, match="no"):
        model()
    assert log == ["always"]


def test_a_handle_does_not_keep_its_module_alive() -> None:
    model = Net()
    handle = model.register_forward_hook(lambda *a: None)
    ref = weakref.ref(model)
    del model
    gc.collect()
    assert ref() is None
    handle.remove()


# The whole tree.


def test_train_eval_apply_and_requires_grad_reach_everything() -> None:
    net = nn.Sequential(Net(), nn.Dropout(0.5))
    assert net.training and net.eval() is net
    assert not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())
    seen: list[str] = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Linear", "Net", "Dropout", "Sequential"]
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    with pytest.raises(TypeError, match=r"train\(mode\) takes a bool, got 1"):
        net.train(1)  # type: ignore[arg-type]


def test_zero_grad_drops_or_zeroes() -> None:
    net = Net()
    net(lg.ones(1, 4)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert all((p.grad.numpy() == 0).all() for p in net.parameters() if p.grad is not None)
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_conversion_keeps_the_tensors_and_their_values() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = net.parameters()
    values = [p.numpy(copy=True) for p in before]
    assert net.double() is net
    assert [p.dtype for p in net.parameters()] == [lg.float64] * 4
    assert all(p is q for p, q in zip(before, net.parameters(), strict=True))
    assert all(p.requires_grad for p in net.parameters())
    for p, v in zip(before, values, strict=True):
        np.testing.assert_array_equal(p.numpy(), v)
    assert net[1].num_batches_tracked.dtype is lg.int64
    assert net[1].running_mean.dtype is lg.float64
    assert net.half()[0].weight.dtype is lg.float16
    assert net.bfloat16()[0].weight.dtype is lg.bfloat16
    assert net.to("cpu", lg.float32)[0].weight.dtype is lg.float32
    assert net.to(lg.ones(1, dtype=lg.float64))[0].weight.dtype is lg.float64
    assert net.float().to("cpu") is net
    y = net(lg.ones(3, 2))
    y.sum().backward()
    assert net[0].weight.grad.dtype is lg.float32
    with pytest.raises(DTypeError, match="takes a floating dtype"):
        net.to(lg.int32)
    with pytest.raises(lg.errors.DeviceError, match="cuda"):
        net.cuda()
    with pytest.raises(TypeError, match="unexpected keyword 'tpye'"):
        net.to(tpye=lg.float32)


def test_conversion_is_noticed_by_captured_functions() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()

    @lg.compute_graph
    def forward(x: lg.Tensor) -> lg.Tensor:
        return net(x)

    x = lg.ones(3, 2)
    assert forward(x).dtype is lg.float32
    net.double()
    net[0].weight.data = np.ones((2, 2))
    y = forward(x.double())
    np.testing.assert_array_equal(y.numpy(), net(x.double()).numpy())
    y = forward(x)
    np.testing.assert_array_equal(y.numpy(), net(x).numpy())


# Copies.


def test_copies_are_independent_and_equal() -> None:
    net = nn.Sequential(Net(), nn.BatchNorm1d(2))
    net[0].tied = net[0].fc1.weight
    x = lg.randn(3, 4)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        twin.eval()
        net.eval()
        np.testing.assert_array_equal(twin(x).numpy(), net(x).numpy())
        assert twin[0].tied is twin[0].fc1.weight
        assert isinstance(twin[0].scale, nn.Parameter) and twin[0].scale.requires_grad
        twin[0].scale.data = [7.0]
        assert net[0].scale.item() == 2.0
        assert twin.state_dict().keys() == net.state_dict().keys()


# Containers.


def test_sequential_indexes_slices_and_grows() -> None:
    net = nn.Sequential(OrderedDict(a=nn.Linear(2, 3), b=nn.ReLU()))
    assert net.a is net[0] and net[-1] is net.b and len(net) == 2 and net.b in net
    assert list(net[:1]._modules) == ["a"]
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    net.append(nn.Linear(3, 1)).extend([nn.Tanh()])
    net.insert(1, nn.Identity())
    assert [type(m).__name__ for m in net] == ["Linear", "Identity", "ReLU", "Linear", "Tanh"]
    assert list(net._modules) == ["0", "1", "2", "3", "4"]
    del net[1]
    net[1] = nn.Sigmoid()
    assert isinstance(net.pop(), nn.Tanh)
    assert net(lg.ones(4, 2)).shape == (4, 1)
    with pytest.raises(IndexOutOfRangeError, match="index 5 is out of range for a Sequential of 3"):
        net[5]
    assert len(net + nn.ModuleList([nn.ReLU()])) == 4
    assert net[3:](lg.ones(1)).tolist() == [1.0]


def test_module_lists_and_dictionaries_register() -> None:
    layers = nn.ModuleList([nn.Linear(2, 2)])
    layers += [nn.Linear(2, 2), nn.ReLU()]
    layers.insert(0, nn.Tanh())
    assert len(layers.parameters()) == 4 and layers[-1] is layers[3]
    assert list(layers._modules) == ["0", "1", "2", "3"]
    heads = nn.ModuleDict({"a": nn.Linear(2, 1)})
    heads["b"] = nn.Linear(2, 3)
    assert list(heads) == ["a", "b"] and "b" in heads and len(heads.parameters()) == 4
    assert heads.pop("a").out_features == 1 and len(heads) == 1
    weights = nn.ParameterList([lg.ones(2), nn.Parameter([3.0])])
    weights.append(lg.zeros(1))
    assert len(weights.parameters()) == 3 and isinstance(weights[0], nn.Parameter)
    named = nn.ParameterDict({"w": lg.ones(2)})
    assert [n for n, _ in named.named_parameters()] == ["w"]


# Printing, to the letter as PyTorch.


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nn.ReLU(), "ReLU()"),
        (nn.ReLU(inplace=True), "ReLU(inplace=True)"),
        (nn.LeakyReLU(0.2), "LeakyReLU(negative_slope=0.2)"),
        (nn.Softplus(), "Softplus(beta=1.0, threshold=20.0)"),
        (nn.GELU(), "GELU(approximate='none')"),
        (nn.ELU(), "ELU(alpha=1.0)"),
        (nn.PReLU(), "PReLU(num_parameters=1)"),
        (nn.Hardtanh(), "Hardtanh(min_val=-1.0, max_val=1.0)"),
        (nn.Softmax(dim=1), "Softmax(dim=1)"),
        (nn.Dropout(0.2), "Dropout(p=0.2, inplace=False)"),
        (nn.Embedding(5, 3, padding_idx=0), "Embedding(5, 3, padding_idx=0)"),
        (nn.LayerNorm(4), "LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)"),
        (nn.RMSNorm(3), "RMSNorm((3,), eps=None, elementwise_affine=True)"),
        (
            nn.BatchNorm1d(3),
            "BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, "
            "track_running_stats=True)",
        ),
        (nn.Flatten(), "Flatten(start_dim=1, end_dim=-1)"),
        (nn.Unflatten(1, (2, 3)), "Unflatten(dim=1, unflattened_size=(2, 3))"),
        (nn.Identity(1, a=2), "Identity()"),
        (nn.CrossEntropyLoss(), "CrossEntropyLoss()"),
        (nn.Sequential(), "Sequential()"),
        (nn.ModuleList(), "ModuleList()"),
        (
            nn.Sequential(nn.Linear(2, 3, bias=False), nn.Sequential(nn.ReLU())),
            "Sequential(\n"
            "  (0): Linear(in_features=2, out_features=3, bias=False)\n"
            "  (1): Sequential(\n"
            "    (0): ReLU()\n"
            "  )\n"
            ")",
        ),
        (
            nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()]),
            "ModuleList(\n"
            "  (0-1): 2 x Linear(in_features=2, out_features=2, bias=True)\n"
            "  (2): ReLU()\n"
            ")",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_printing_is_that_of_pytorch(module: nn.Module, text: str) -> None:
    assert repr(module) == text
