"""What a captured function reads besides its arguments, when somebody exchanges it."""

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import lazygrad as lg
from lazygrad import Tensor, compute_graph, nn
from lazygrad.errors import EscapedTensorError


class Holder(nn.Module):
    """Adds a tensor, a number or whatever it holds."""

    def __init__(self) -> None:
        self.register_buffer("kept", lg.zeros(2))
        self.plain: Any = lg.zeros(2)
        self.change: Callable[[Holder, Tensor], object] = lambda self, x: None
        self.read: Callable[[Holder], Any] = lambda self: self.plain

    def forward(self, x: Tensor) -> Tensor:
        self.change(self, x)
        return x + self.read(self)


@pytest.mark.filterwarnings("ignore::lazygrad.engine.warn.LazygradWarning")
@pytest.mark.parametrize("kind", ["dict", "list", "attribute", "module", "buffer"])
def test_a_tensor_that_is_exchanged_is_seen_wherever_it_lies_in_memory(kind: str) -> None:
    """The new one often has the address of the one before the last."""
    table: dict[str, Any] = {"h": None}
    row: list[Any] = [None]
    space = SimpleNamespace(h=lg.zeros(2))
    module = Holder()
    put, function = {
        "dict": (lambda v: table.__setitem__("h", v), lambda x: x + table["h"]),
        "list": (lambda v: row.__setitem__(0, v), lambda x: x + row[0]),
        "attribute": (lambda v: setattr(space, "h", v), lambda x: x + space.h),
        "module": (lambda v: setattr(module, "plain", v), lambda x: module(x)),
        "buffer": (lambda v: setattr(module, "kept", v), lambda x: x + module.kept),
    }[kind]
    call = compute_graph(function)
    for i in range(12):
        put(lg.tensor([float(i), 1.0]))
        assert call(lg.zeros(2)).tolist() == [i, 1]


@pytest.mark.filterwarnings("ignore::lazygrad.engine.warn.LazygradWarning")
def test_a_method_sees_the_tensor_that_its_object_has_now() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.batch = lg.zeros(2)

        @compute_graph
        def step(self) -> Tensor:
            return self.batch * 2

    trainer = Trainer()
    for i in range(3):
        trainer.batch = lg.full((2,), float(i))
        assert trainer.step().tolist() == [2 * i, 2 * i]


@pytest.mark.filterwarnings("ignore::lazygrad.engine.warn.LazygradWarning")
def test_a_method_calls_the_model_that_its_object_has_now() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.model = nn.Linear(1, 1, bias=False)
            self.seen: list[int] = []

        @compute_graph
        def step(self, x: Tensor) -> Tensor:
            self.seen = [1]  # an object of each trace
            return self.model(x)

    trainer = Trainer()
    for i in range(4):
        trainer.model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(trainer.model.weight, float(i))
        assert [trainer.step(lg.ones(1)).item() for _ in range(3)] == [i] * 3
    assert Trainer.step.cache_info().misses == 4


def add(module: Holder, name: str) -> None:
    setattr(module, name, getattr(module, name) + 1)


@pytest.mark.parametrize("name", ["kept", "plain"])
def test_a_module_that_assigns_a_tensor_which_it_reads_raises(name: str) -> None:
    module = Holder()
    module.change = lambda self, x: add(self, name)
    module.read = lambda self: getattr(self, name)
    call = compute_graph(module)
    assert call(lg.zeros(2)).tolist() == [1, 1]
    with pytest.raises(EscapedTensorError, match=r"buffer is written: buffer\.copy_\(value\)"):
        call(lg.zeros(2))


def test_a_state_that_begins_with_none_or_in_a_list_raises_as_well() -> None:
    module = Holder()
    module.plain = None
    module.change = lambda self, x: setattr(
        self, "plain", x if self.plain is None else self.plain + 1
    )
    call = compute_graph(module)
    assert call(lg.zeros(2)).tolist() == [0, 0]
    with pytest.raises(EscapedTensorError):
        call(lg.zeros(2))

    row = [lg.zeros(2)]

    def total(x: Tensor) -> Tensor:
        row[0] = row[0] + x
        return row[0] * 1

    call = compute_graph(total)
    assert call(lg.ones(2)).tolist() == [1, 1]
    with pytest.warns(lg.LazygradWarning, match="'row'"), pytest.raises(EscapedTensorError):
        call(lg.ones(2))


def test_a_buffer_that_is_written_goes_on() -> None:
    module = Holder()
    module.change = lambda self, x: self.kept.copy_(self.kept + 1)
    module.read = lambda self: self.kept
    call = compute_graph(module)
    assert [call(lg.zeros(2)).tolist()[0] for _ in range(4)] == [1, 2, 3, 4]
    assert call.cache_info().misses == 1


def test_what_a_module_only_leaves_behind_costs_one_more_trace() -> None:
    module = Holder()
    module.change = lambda self, x: setattr(self, "plain", x * 2)
    module.read = lambda self: self.kept
    call = compute_graph(module)
    for _ in range(5):
        call(lg.zeros(2))
    assert call.cache_info().misses == 2


def test_a_tensor_that_is_returned_and_kept_has_no_value_either() -> None:
    row = [lg.zeros(2)]

    def total(x: Tensor) -> Tensor:
        row[0] = row[0] + x
        return row[0]

    call = compute_graph(total)
    assert call(lg.ones(2)).tolist() == [1, 1]
    with pytest.warns(lg.LazygradWarning, match="'row'"), pytest.raises(EscapedTensorError):
        call(lg.ones(2))


def test_an_argument_that_is_kept_has_no_value_either() -> None:
    row: list[Tensor] = []

    @compute_graph
    def double(x: Tensor) -> Tensor:
        row.append(x)
        return x * 2

    assert double(lg.ones(2)).tolist() == [2, 2]
    assert "captured" in repr(row[0])
    for use in (lambda x: x.tolist(), lambda x: x + 1, lambda x: x.sum()):
        with pytest.raises(EscapedTensorError, match="this tensor stands for an argument inside"):
            use(row[0])
    assert double(lg.ones(2)).tolist() == [2, 2]
    assert len(row) == 1


@pytest.mark.filterwarnings("ignore::lazygrad.engine.warn.LazygradWarning")
def test_constants_that_a_module_makes_when_it_needs_them_stay() -> None:
    module = Holder()
    module.plain = None

    def mask(self: Holder, x: Tensor) -> None:
        if self.plain is None or len(self.plain) < len(x):
            self.plain = lg.arange(len(x)) * 2 + 1

    module.change = mask
    module.read = lambda self: self.plain[:2].sum()
    call = compute_graph(module)
    for size in (2, 2, 3, 2, 3, 2, 3):
        assert call(lg.zeros(size)).tolist() == [4] * size
    assert module.plain.tolist() == [1, 3, 5]
    assert call.cache_info().hits > 0


def test_a_mode_that_a_function_sets_is_set_whenever_it_was_another() -> None:
    model = nn.Dropout(0.5)

    @compute_graph
    def train(x: Tensor) -> Tensor:
        model.train()
        return model(x)

    for _ in range(3):
        model.eval()
        for _ in range(3):
            assert set(train(lg.ones(64)).tolist()) == {0, 2}
            assert model.training


def test_a_number_that_a_module_counts_is_captured_in_each_call() -> None:
    module = Holder()
    module.plain = 0
    module.change = lambda self, x: add(self, "plain")
    call = compute_graph(module)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [call(lg.zeros(2)).tolist()[0] for _ in range(4)] == [1, 2, 3, 4]
    assert [str(w.message).split(",")[0] for w in caught] == ["Holder: 'Holder.plain'"]
    assert module.plain == 4
