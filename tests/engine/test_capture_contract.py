"""The contract of captured functions, pitfall by pitfall: each works, or raises a clear error.

The numbers are those of a catalogue of what users of capture frameworks stumble over: stale values,
shared buffers, forgotten writes, leaked tensors.
"""

import copy
import dataclasses
import pickle
import threading
import warnings
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import Tensor, compute_graph, nn
from lazygrad.errors import (
    CaptureError,
    EscapedTensorError,
    FrozenGraphError,
    GraphReleasedError,
    LazygradError,
    StaleCaptureError,
)

F = nn.functional


def t(*values: float) -> Tensor:
    return lg.tensor(list(values), dtype=lg.float32)


# P1: other shapes and dtypes ----------------------------------------------------------------


def test_p1_each_shape_gets_its_program_and_the_old_ones_stay() -> None:
    f = compute_graph(lambda x: x.sum() * 2)
    for _ in range(3):
        for n in (4, 3, 1, 0):
            assert f(np.ones(n, np.float32)).item() == 2 * n
    assert f.cache_info()[:3] == (8, 4, 4)
    assert len(f.graphs) == 4


def test_p1_a_ragged_last_batch_trains_on() -> None:
    w = lg.tensor([[1.0], [2.0]], requires_grad=True)
    forward = compute_graph(lambda x: (x @ w).mean())
    for n in (4, 4, 3, 4, 1):
        w.grad = None
        forward(np.ones((n, 2), np.float32)).backward()
        np.testing.assert_allclose(w.grad.numpy(), 1)
    assert forward.cache_info().size == 3


def test_p1_dtype_and_device_and_requires_grad_are_part_of_the_signature() -> None:
    f = compute_graph(lambda x: x * 2)
    assert f(np.ones(2, np.float32)).dtype is lg.float32
    assert f(np.ones(2, np.int64)).dtype is lg.int64
    assert f(np.ones(2, bool)).dtype is lg.int64
    assert not f(lg.ones(2)).requires_grad
    assert f(lg.ones(2, requires_grad=True)).requires_grad


# P2, P3: Python values ----------------------------------------------------------------------


def test_p2_floats_are_inputs() -> None:
    f = compute_graph(lambda x, k: x * k)
    assert [f(t(10), k).item() for k in (2.0, 3.0, 4.0, float("inf"))] == [20, 30, 40, np.inf]
    assert f.cache_info().misses == 1
    assert f(t(1), 2.0).dtype is lg.float32


def test_p2_ints_strings_and_enums_are_part_of_the_signature() -> None:
    class Mode(Enum):
        ADD = 1
        SUB = 2

    @compute_graph
    def f(x: Tensor, n: int, mode: Any = Mode.ADD, name: str = "a") -> Tensor:
        for _ in range(n):
            x = x + 1 if mode is Mode.ADD else x - 1
        return x * (2 if name == "b" else 1)

    assert [f(t(0), 2).item(), f(t(0), 3).item(), f(t(0), 2, Mode.SUB).item()] == [2, 3, -2]
    assert f(t(0), 2, name="b").item() == 4
    assert f.cache_info().misses == 4


def test_p2_a_step_counter_is_warned_about() -> None:
    f = compute_graph(lambda x, step: x * step)
    with pytest.warns(lg.LazygradWarning, match=r"'step' took 4 different values.*lg\.scalar"):
        for step in range(5):
            assert f(t(2), step).item() == 2 * step
    g = compute_graph(lambda x, step: x * step)
    for step in range(5):
        assert g(t(2), lg.scalar(step)).item() == 2 * step
    assert g.cache_info().misses == 1


def test_p2_a_float_whose_value_is_needed_becomes_static() -> None:
    @compute_graph
    def f(x: Tensor, threshold: float) -> Tensor:
        return x * 2 if threshold > 0.5 else x

    with pytest.warns(lg.LazygradWarning, match="float argument 'threshold' is needed"):
        assert f(t(3), 0.9).item() == 6
    assert f(t(3), 0.1).item() == 3
    assert f(t(3), 0.9).item() == 6


factor = 2.0


def test_p2_names_from_outside_are_guarded() -> None:
    global factor
    factor, offset = 2.0, 1

    @compute_graph
    def f(x: Tensor) -> Tensor:
        return x * factor + offset

    assert f(t(3)).item() == 7
    factor = 5.0
    with pytest.warns(lg.LazygradWarning, match="'factor'"):
        assert f(t(3)).item() == 16
    offset = 0
    with pytest.warns(lg.LazygradWarning, match="'offset'"):
        assert f(t(3)).item() == 15
    factor, offset = 2.0, 1
    assert f(t(3)).item() == 7


def test_p3_a_branch_on_a_flag() -> None:
    f = compute_graph(lambda x, flag: x * 2 if flag else x)
    assert [f(t(3), flag).item() for flag in (False, True, False)] == [3, 6, 3]
    assert [f(t(3), 1).item(), f(t(3), True).item()] == [6, 6]  # 1 and True are not the same


# P4: values that do not exist yet -------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: int(x.sum()),
        lambda x: x.tolist(),
        lambda x: np.asarray(x),
        lambda x: np.array(x.data),
        lambda x: x.data[0],
        lambda x: x.numpy().sum(),
        lambda x: x.sum() or x,
        lambda x: min(x.sum(), x.mean()),
        lambda x: x.realize(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
    ],
)
def test_p4_reading_a_value_raises_with_the_line(read: Any) -> None:
    f = compute_graph(read)
    with pytest.raises(CaptureError, match=r"value"):
        f(t(1, 2))
    assert not lg.engine.modes.capturing()
    assert compute_graph(lambda x: x + 1)(t(1)).item() == 2


def test_p4_the_message_names_the_line_and_the_way_out() -> None:
    @compute_graph
    def f(x: Tensor) -> Tensor:
        y = x * 2
        return y if y.sum() > 0 else x

    with pytest.raises(CaptureError) as caught:
        f(t(1))
    assert "lg.where" in str(caught.value)
    assert "test_capture_contract.py" in str(caught.value)


def test_p4_shapes_may_be_asked_for() -> None:
    @compute_graph
    def f(x: Tensor) -> Tensor:
        a = x.numpy()
        assert a.shape == x.data.shape == (2, 3) and a.ndim == 2 and a.size == 6 and len(a) == 2
        assert a.dtype == np.float32
        return x.reshape(a.size) / len(a)

    assert f(np.full((2, 3), 4, np.float32)).tolist() == [2] * 6


def test_p4_sized_forms_of_data_dependent_shapes() -> None:
    f = compute_graph(lambda x: x.masked_select(x > 0, size=3, fill_value=-1))
    assert f(t(1, -2, 3)).tolist() == [1, 3, -1]


# P5: side effects -----------------------------------------------------------------------------


def test_p5_python_effects_run_once() -> None:
    seen: list[int] = []

    @compute_graph
    def f(x: Tensor) -> Tensor:
        seen.append(1)
        return x + 1

    assert [f(t(k)).item() for k in range(3)] == [1, 2, 3]
    assert seen == [1]


def test_p5_verify_finds_hidden_state() -> None:
    state = {"deep": {"k": 0.0}}

    @compute_graph(verify=True)
    def f(x: Tensor) -> Tensor:
        state["deep"]["k"] += 1
        return x * 3 + state["deep"]["k"]

    f(t(1))
    with pytest.raises(StaleCaptureError, match=r"test_capture_contract\.py:\d+.*not an argument"):
        f(t(1))
    with lg.config.override(check=True):
        g = compute_graph(lambda x: x * state["deep"]["k"] if state["deep"]["k"] < 9 else -x)
        g(t(1))
        state["deep"]["k"] = 9.0
        with pytest.raises(StaleCaptureError):
            g(t(1))


@pytest.mark.filterwarnings("ignore::lazygrad.LazygradWarning")
def test_p5_state_one_step_inside_of_a_name_is_guarded() -> None:
    cfg, table, factors = SimpleNamespace(alpha=1.0), {"alpha": 1.0}, [1.0]

    @compute_graph
    def f(x: Tensor) -> Tensor:
        for factor in factors:
            x = x * factor
        return x * cfg.alpha + table["alpha"]

    assert f(t(1)).item() == 2.0
    cfg.alpha = 5.0
    assert f(t(1)).item() == 6.0
    table["alpha"] = 2.0
    assert f(t(1)).item() == 7.0
    factors.append(3.0)
    assert f(t(1)).item() == 17.0
    captures = f.cache_info().misses
    assert f(t(2)).item() == 32.0 and f.cache_info().misses == captures

    class Counter:
        n = 0

        @compute_graph
        def count(self, x: Tensor) -> Tensor:
            self.n += 1
            return x * self.n

    c = Counter()
    c.n = 0
    assert [c.count(t(1)).item() for _ in range(3)] == [1.0, 2.0, 3.0]


class Scale:
    """A class, read as one and through an instance."""

    factor = 1.0


@pytest.mark.filterwarnings("ignore::lazygrad.LazygradWarning")
def test_p5_attributes_of_classes_and_their_instances_are_guarded() -> None:
    scale = Scale()
    f = compute_graph(lambda x: x * Scale.factor + scale.factor)
    try:
        assert f(t(1)).item() == 2.0
        scale.factor = 3.0  # hides the default of the class
        assert f(t(1)).item() == 4.0
        Scale.factor = 5.0
        assert f(t(1)).item() == 8.0
    finally:
        Scale.factor = 1.0


def test_p5_attributes_of_a_module_whose_method_is_captured_are_guarded() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            self.beta = 1.0

        @compute_graph
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 1.0, training=self.training)

        @compute_graph
        def weighted(self, x: Tensor) -> Tensor:
            return x * self.beta

    m = Noisy()
    assert [m.train(on)(t(1)).item() for on in (True, False, True)] == [0.0, 1.0, 0.0]
    assert m.forward.cache_info().size == 2
    assert m.weighted(t(2)).item() == 2.0
    m.beta = 5.0
    with pytest.warns(lg.LazygradWarning, match=r"'self\.beta'"):
        assert m.weighted(t(2)).item() == 10.0


def test_p5_random_numbers_are_fresh_on_every_call() -> None:
    f = compute_graph(lambda x: x + lg.rand(3))
    lg.manual_seed(5)
    captured = [f(lg.zeros(3)).tolist() for _ in range(3)]
    lg.manual_seed(5)
    assert captured == [lg.rand(3).tolist() for _ in range(3)]
    assert captured[0] != captured[1]
    lg.manual_seed(5)
    assert f(lg.zeros(3)).tolist() == captured[0]  # a seed between replays takes effect


def test_p5_every_generator_has_its_own_stream() -> None:
    own = lg.Generator(5)

    def f(x: Tensor, other: lg.Generator) -> Any:
        noise = [lg.rand(2), lg.rand(2, generator=own), lg.rand(2, generator=other), lg.rand(1)]
        return [x + n.sum() for n in noise]

    def run(fn: Any) -> Any:
        lg.manual_seed(1)
        own.manual_seed(5)
        others = [lg.Generator(7), lg.Generator(8)]
        drawn = [[y.item() for y in fn(lg.zeros(1), others[k % 2])] for k in range(5)]
        return drawn, [g.get_state().tolist() for g in (own, *others)]

    assert run(f) == run(compute_graph(f))


@pytest.mark.parametrize(
    "use",
    [
        lambda: lg.manual_seed(0),
        lambda: lg.Generator(1),
        lambda: lg.get_rng_state(),
        lambda: lg.set_rng_state([0, 0]),
        lambda: lg.Generator(),
    ],
)
def test_p5_streams_are_not_seeded_inside(use: Any) -> None:
    lg.manual_seed(3)
    before = lg.get_rng_state().tolist()
    f = compute_graph(lambda x: (use(), x + lg.rand(1))[1])
    with pytest.raises(CaptureError, match=r"inside a captured function.*do it outside"):
        f(t(1))
    assert lg.get_rng_state().tolist() == before


# P6: tensors that escape ----------------------------------------------------------------------


def test_p6_an_escaped_tensor_raises_where_it_is_used() -> None:
    log: list[Tensor] = []

    @compute_graph
    def f(x: Tensor) -> Tensor:
        y = x * 2
        log.append(y)
        return y + 1

    assert f(t(1)).item() == 3
    for use in (lambda y: y.item(), lambda y: y + 1, lambda y: y.numpy(), lambda y: y.sum().item()):
        with pytest.raises(EscapedTensorError, match=r"test_capture_contract\.py:\d+.*return it"):
            use(log[0])
    assert "captured" in repr(log[0])
    assert f(t(2)).item() == 5


# P7: closed-over tensors ----------------------------------------------------------------------


def test_p7_closed_over_tensors_are_read_at_every_call() -> None:
    w = t(2, 3)
    f = compute_graph(lambda x: (x * w).sum())
    assert f(t(1, 1)).item() == 5
    w.data = [10.0, 20.0]
    assert f(t(1, 1)).item() == 30
    w.data -= np.ones(2, np.float32)
    assert f(t(1, 1)).item() == 28
    w += 1
    assert f(t(1, 1)).item() == 30


def test_p7_computed_tensors_from_outside() -> None:
    w = lg.tensor([1.0, 2.0], requires_grad=True)
    h = w * 3  # pending, and has history
    f = compute_graph(lambda x: (x * h).sum())
    f(t(1, 2)).backward()
    assert w.grad.tolist() == [3, 6]


def test_p7_rebinding_a_name_is_noticed() -> None:
    w = t(2)
    f = compute_graph(lambda x: x * w)
    assert f(t(3)).item() == 6
    w = t(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert f(t(3)).item() == 15


def test_p7_loading_a_state_dict_is_seen() -> None:
    model = nn.Linear(2, 1)
    f = compute_graph(lambda x: model(x))
    x = t(1, 1).reshape(1, 2)
    f(x)
    model.load_state_dict({"weight": np.array([[3.0, 4.0]]), "bias": np.array([5.0])})
    assert f(x).item() == 12
    assert f.cache_info().misses == 1


# P8, P9: switches (more in tests/nn/test_capture.py) ------------------------------------------


def test_p8_train_and_eval_are_two_programs() -> None:
    model = nn.Dropout(0.5)
    f = compute_graph(lambda x: model(x))
    for k in range(20):
        model.train(k % 2 == 0)
        y = f(lg.ones(64))
        assert (y.numpy() == 0).any() == (k % 2 == 0)
    assert f.cache_info().misses == 2


def test_p9_freezing_parameters_between_calls() -> None:
    a, b = lg.tensor([2.0], requires_grad=True), lg.tensor([3.0], requires_grad=True)
    f = compute_graph(lambda x: (x * a * b).sum())
    for k in range(6):
        a.grad = b.grad = None
        a.requires_grad_(k % 2 == 0)
        f(t(1)).backward()
        assert b.grad.item() == 2
        assert (a.grad is None) == (k % 2 == 1)
    assert f.cache_info().misses == 2
    with lg.no_grad():
        assert not f(t(1)).requires_grad
    assert f(t(1)).requires_grad


# P10: recompile storms ------------------------------------------------------------------------


def test_p10_values_are_compared_not_identities() -> None:
    f = compute_graph(lambda x, name: x + len(name))
    for _ in range(5):
        assert f(t(1), "".join(["a", "b"])).item() == 3
    assert f.cache_info().misses == 1


def test_p10_an_argument_without_a_hash_is_an_error() -> None:
    f = compute_graph(lambda x, options: x)
    with pytest.raises(CaptureError, match=r"'options' of type set .* hashable"):
        f(t(1), {1, 2})


def test_p10_many_signatures_are_bounded_and_warned_about() -> None:
    f = compute_graph(lambda x: x.sum())
    with lg.config.override(capture_limit=4):
        with pytest.warns(lg.LazygradWarning, match="'x' took 8 different shapes"):
            for n in range(1, 12):
                assert f(np.ones(n, np.float32)).item() == n
        assert f.cache_info().size == 4
        assert f.cache_info().limit == 4
    f.clear_cache()
    assert f.cache_info().size == 0
    assert f(np.ones(3, np.float32)).item() == 3


# P11: methods ---------------------------------------------------------------------------------


def test_p11_methods_capture_for_each_instance() -> None:
    class Model:
        def __init__(self, w: float) -> None:
            self.w = t(w)

        @compute_graph
        def __call__(self, x: Tensor) -> Tensor:
            return x * self.w

        @compute_graph
        def with_default(self, x: Tensor, k: float = 2.0) -> Tensor:
            return x * self.w * k

    a, b = Model(2), Model(3)
    assert [a(t(1)).item(), b(t(1)).item(), a(t(2)).item()] == [2, 3, 4]
    assert [a.with_default(t(1)).item(), b.with_default(x=t(1), k=1.0).item()] == [4, 3]


# P12: forms of calls --------------------------------------------------------------------------


def test_p12_arguments_in_every_form() -> None:
    @compute_graph
    def f(x: Tensor, /, y: Any, *more: Any, scale: float = 1.0, **named: Any) -> Tensor:
        return (x + y) * scale + sum(more) + sum(named.values())

    assert f(t(1), t(2)).item() == 3
    assert f(t(1), y=t(2), scale=2.0).item() == 6
    assert f(t(1), t(2), t(3), t(4), z=t(5)).item() == 15
    with pytest.raises(TypeError, match="y"):
        f(t(1))


def test_p12_containers_in_and_out() -> None:
    @dataclasses.dataclass
    class Batch:
        x: Any
        tag: str

    @compute_graph
    def f(batch: Any, pair: Any) -> Any:
        x = batch.x["left"] + batch.x["right"][0]
        return {"sum": x, "rest": [pair[0] * 2, None, batch.tag, 7], "none": None}

    for k in range(3):
        out = f(Batch({"left": t(k), "right": [t(1)]}, "hello"), (t(5), 3))
        assert out["sum"].item() == k + 1
        assert out["rest"][0].item() == 10
        assert out["rest"][1:] == [None, "hello", 7] and out["none"] is None
    assert f.cache_info().misses == 1


def test_p12_the_same_tensor_twice() -> None:
    f = compute_graph(lambda x, y: x * 2 + y)
    x = lg.tensor([1.0], requires_grad=True)
    assert f(x, x).item() == 3
    assert f(x, t(5)).item() == 7
    f(x, x).sum().backward()
    assert x.grad.item() == 3
    array = np.ones(1, np.float32)
    assert f(array, array).item() == 3


def test_p12_views_empty_and_zero_dimensional_inputs() -> None:
    f = compute_graph(lambda x: x * 2)
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    for view in (base.T, base[::-1, ::2], base[:0], base[1, 2], np.broadcast_to(base[0], (2, 4))):
        np.testing.assert_array_equal(f(view).numpy(), view * 2)
    x = lg.tensor(base)
    for lazy in (x.T, x[::-1, ::2], x[:0], x[1, 2]):
        np.testing.assert_array_equal(f(lazy).numpy(), lazy.numpy() * 2)


def test_p12_captured_functions_inside_captured_functions() -> None:
    inner = compute_graph(lambda x: x.exp() * 2)
    outer = compute_graph(lambda x: inner(x) + inner(x * 0))
    for k in range(3):
        np.testing.assert_allclose(outer(t(k)).item(), 2 * np.exp(k) + 2, rtol=1e-6)
    assert inner.cache_info().misses == 0


def test_p12_what_is_wrapped_stays_visible() -> None:
    @compute_graph
    def documented(x: Tensor) -> Tensor:
        """Twice."""
        return x * 2

    assert documented.__name__ == "documented" and documented.__doc__ == "Twice."
    assert copy.deepcopy(documented)(t(2)).item() == 4
    assert "documented" in repr(documented)
    with pytest.raises(TypeError, match="takes a function"):
        compute_graph(3)


def test_p12_a_captured_function_pickles_without_its_programs() -> None:
    restored = pickle.loads(pickle.dumps(twice))
    assert restored(t(4)).item() == 8
    assert restored.cache_info().misses == 1


def _twice(x: Tensor) -> Tensor:
    return x * 2


twice = compute_graph(_twice)


def test_p12_what_goes_through_comes_out_as_itself() -> None:
    w = lg.tensor([1.0], requires_grad=True)
    h = w * 2
    f = compute_graph(lambda x, k, a: (x, k, a, w, h, x))
    x = t(1, 2)
    for _ in range(3):
        same, k, array, ours, computed, again = f(x, 0.5, np.ones(2, np.float32))
        assert same is x and again is x and k == 0.5 and ours is w and computed is h
        assert array.tolist() == [1, 1]
    g = compute_graph(lambda x: x)
    assert g(x) is x and g(x) is x
    twin = compute_graph(lambda x: (lambda y: (y, {"y": y}))(x * 2))
    for k in range(3):
        first, named = twin(t(k))
        assert first is named["y"] and first.item() == 2 * k


def test_p12_computed_tensors_from_outside_cannot_be_changed_in_place() -> None:
    y = t(1) * 1
    f = compute_graph(lambda x: y.__iadd__(x))
    with pytest.raises(CaptureError, match=r"computed outside .* changed in place"):
        f(t(1))
    assert y.item() == 1
    z = t(1)
    g = compute_graph(lambda x: z.__iadd__(x))  # a leaf is state
    for k in range(3):
        assert g(t(1)) is z
        assert z.item() == k + 2


# P13: exceptions while tracing ----------------------------------------------------------------


def test_p13_a_failed_trace_leaves_no_trace() -> None:
    w = lg.tensor([1.0], requires_grad=True)
    momentum = lg.engine.tensor.state([0.0])
    lg.manual_seed(0)
    before = lg.get_rng_state().tolist()

    @compute_graph
    def f(x: Tensor, fail: bool) -> Tensor:
        y = (x * w * lg.rand(1)).sum()
        y.backward()
        momentum.assign_(w.grad)
        w.assign_(w.detach() * 2)
        if fail:
            raise KeyError("user code")
        return y

    with pytest.raises(KeyError, match="user code"):
        f(t(2), True)
    assert not lg.engine.modes.capturing()
    assert w.item() == 1 and w.grad is None and momentum.item() == 0
    assert lg.get_rng_state().tolist() == before
    assert f.cache_info().size == 0
    f(t(2), False).item()
    assert w.item() == 2


# P14: outputs and activations -----------------------------------------------------------------


def test_p14_outputs_are_never_overwritten() -> None:
    f = compute_graph(lambda x: x * 2)
    outputs = [f(np.full(3, k, np.float32)) for k in range(10)]
    arrays = [y.numpy() for y in outputs]
    assert [a[0] for a in arrays] == [2 * k for k in range(10)]
    f(np.full(3, 99, np.float32)).numpy()
    assert [y.tolist()[0] for y in outputs] == [2 * k for k in range(10)]
    a = t(1, 2)
    assert (f(a) == f(a)).all().item()
    assert f(f(a)).tolist() == [4, 8]


def test_p14_losses_in_a_list_are_all_distinct() -> None:
    w = lg.tensor([1.0], requires_grad=True)
    optimizer = lg.optim.SGD([w], lr=0.1)

    @compute_graph
    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = ((x - w) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(t(5)) for _ in range(8)]
    values = [loss.item() for loss in losses]
    assert values == sorted(set(values), reverse=True)
    assert len(values) == 8


def test_p14b_activations_belong_to_the_call() -> None:
    w = lg.tensor([1.0, 2.0], requires_grad=True)
    f = compute_graph(lambda x: (x * w).exp().sum())

    def grad_of(x: Tensor) -> np.ndarray:
        return lg.grad((x * w).exp().sum(), w)[0].numpy(copy=True)

    a, b = t(0.1, 0.2), t(0.3, 0.4)
    wanted = grad_of(a) + grad_of(b)
    (f(a) + f(b)).backward()
    np.testing.assert_allclose(w.grad.numpy(), wanted, rtol=1e-6)
    for realize in (False, True):  # backward after a later forward
        w.grad = None
        first, second = f(a), f(b)
        if realize:
            lg.realize(first, second)
        with lg.no_grad():
            f(b).item()
        first.backward()
        np.testing.assert_array_equal(w.grad.numpy(), grad_of(a))
        second.backward()
        np.testing.assert_allclose(w.grad.numpy(), wanted, rtol=1e-6)


def test_p14b_two_models_against_each_other() -> None:
    results = []
    for wrap in (lambda fn: fn, compute_graph):
        lg.manual_seed(0)
        maker, judge = nn.Linear(2, 2), nn.Linear(2, 1)
        opts = [lg.optim.SGD(m.parameters(), lr=0.1) for m in (maker, judge)]
        make = wrap(lambda z, maker=maker: maker(z))
        score = wrap(lambda x, judge=judge: judge(x).sum())
        for _ in range(4):
            z = lg.randn(3, 2)
            fake = make(z)
            opts[1].zero_grad()
            (score(fake.detach()) - score(z)).backward()
            opts[1].step()
            opts[0].zero_grad()
            (-score(fake)).backward()
            opts[0].step()
        results.append([p.numpy(copy=True) for m in (maker, judge) for p in m.parameters()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


# P15: outputs fed back ------------------------------------------------------------------------


def test_p15_ping_pong() -> None:
    f = compute_graph(lambda a, b: (b + 1, a * 2))
    for _ in range(2):  # two sessions
        a, b, x, y = t(1), t(2), 1.0, 2.0
        for _ in range(6):
            a, b = f(a, b)
            x, y = y + 1, x * 2
        assert (a.item(), b.item()) == (x, y)


def test_p15_state_carried_through_replays() -> None:
    f = compute_graph(lambda h, x: (h * 0.5 + x).tanh())
    h, wanted = lg.zeros(3), np.zeros(3, np.float32)
    for k in range(12):
        h = f(h, np.full(3, k, np.float32))
        wanted = np.tanh(wanted * np.float32(0.5) + np.float32(k))
        if k % 5 == 0:
            np.testing.assert_allclose(h.numpy(), wanted, rtol=1e-6)
    np.testing.assert_allclose(h.numpy(), wanted, rtol=1e-6)


# P16: what the planner may free ---------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"poison": True}, {"no_planner": True}])
def test_p16_gradients_read_late(settings: dict[str, Any]) -> None:
    with lg.config.override(**settings):
        w = lg.tensor(np.ones((3, 3), np.float32), requires_grad=True)
        f = compute_graph(lambda x: ((x @ w).relu() @ w).sum())
        grads = []
        for k in range(4):
            w.grad = None
            f(np.full((2, 3), k, np.float32)).backward()
            grads.append(w.grad)
        f(np.ones((2, 3), np.float32)).item()
        for k, g in enumerate(grads):
            np.testing.assert_array_equal(g.numpy(), np.full((3, 3), 12.0 * k))


# P17: accumulation ----------------------------------------------------------------------------


@pytest.mark.parametrize("zero", ["inside", "outside", "absent"])
def test_p17_micro_batches(zero: str) -> None:
    results = []
    for wrap in (lambda fn: fn, compute_graph):
        w = lg.tensor([1.0, -1.0], requires_grad=True)

        @wrap
        def micro(x: Tensor, first: bool, w: Tensor = w) -> Tensor:
            if zero == "inside" and first:
                w.grad = None
            loss = ((x * w) ** 2).sum()
            loss.backward()
            return loss

        seen = []
        for _ in range(3):
            if zero == "outside":
                w.grad = None
            for k in range(3):
                micro(t(k, 1), k == 0)
            seen.append(w.grad.tolist())
        results.append(seen)
    assert results[0] == results[1]
    if zero != "absent":
        assert results[1] == [[10.0, -6.0]] * 3


def test_p17_a_gradient_is_not_stolen() -> None:
    b = lg.tensor([0.0], requires_grad=True)
    f = compute_graph(lambda x: (x + b).sum())
    f(t(1)).backward()
    held = b.grad
    f(t(1)).backward()
    assert held.item() == 1 and b.grad.item() == 2


# P18: backward twice --------------------------------------------------------------------------


def test_p18_gradients_of_leaves_add_up_and_others_are_not_kept() -> None:
    w = lg.tensor([2.0], requires_grad=True)
    f = compute_graph(lambda x: (w * w * x).sum())
    y = f(t(1))
    y.backward(retain_graph=True)
    y.backward()
    assert w.grad.item() == 8
    assert y.grad is None
    h = w * 3
    h.retain_grad()
    (h * h).sum().backward()
    assert h.grad.item() == 12


def test_p18_a_second_backward_of_a_call_works_or_raises() -> None:
    w = lg.tensor([2.0], requires_grad=True)
    f = compute_graph(lambda x: (w * w * x).sum())
    y = f(t(1))
    y.backward()
    assert w.grad.item() == 4
    held = w.grad
    try:
        y.backward()
        assert w.grad.item() == 8
    except GraphReleasedError as error:
        assert "retain_graph=True" in str(error)
        assert w.grad is held


# P19: writes are roots ------------------------------------------------------------------------


def test_p19_writes_that_nobody_reads_happen() -> None:
    count = lg.engine.tensor.state([0.0])

    @compute_graph
    def f(x: Tensor) -> Tensor:
        count.assign_(count + 1)
        return x * 2

    for k in range(5):
        f(t(k))
    assert count.item() == 5
    f(t(1)).item()
    assert count.item() == 6


# P20: in place --------------------------------------------------------------------------------


def test_p20_in_place_operations_make_versions() -> None:
    x = lg.tensor([1.0, 2.0], requires_grad=True)

    def body(x: Tensor) -> Tensor:
        y = x * 2
        z = y * y
        y += 1  # z has read the old y
        y[0] = 10.0
        return (z + y).sum()

    body(x).backward()
    wanted, x.grad = x.grad.tolist(), None
    compute_graph(body)(x).backward()
    assert x.grad.tolist() == wanted == [8.0, 18.0]
    with pytest.raises(LazygradError, match="leaf that requires grad"):
        x += 1
    with pytest.raises(LazygradError, match="leaf that requires grad"):
        compute_graph(lambda: x.__iadd__(1))()


def test_p20_in_place_changes_of_arguments_are_refused() -> None:
    """The caller sees a change of its tensor, which a replay would not do: it is refused."""

    @compute_graph
    def f(options: Any, x: Tensor) -> Tensor:
        x *= 2
        return x + 1

    x = t(3)
    with pytest.raises(
        CaptureError, match=r"argument 'x' is changed in place at .*contract\.py:\d+"
    ):
        f(None, x)
    assert x.item() == 3


# P21: arrays of the caller --------------------------------------------------------------------


def test_p21_arrays_are_copied_at_the_call() -> None:
    f = compute_graph(lambda x: x * 2)
    a = np.ones(2, np.float32)
    y = f(a)
    a[...] = 7
    assert y.tolist() == [2, 2]
    z = Tensor(a)
    a[...] = 0
    assert (z + 0).tolist() == [7, 7]


def test_p21_numpy_gives_a_read_only_view_that_pins() -> None:
    w = t(1, 2)
    view = w.numpy()
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 5
    w.data = [3.0, 4.0]
    assert view.tolist() == [1, 2]
    own = w.numpy(copy=True)
    own[0] = 9
    assert w.tolist() == [3, 4]


def test_p21_arithmetic_on_data_is_assigned_back() -> None:
    w = lg.tensor([1.0, 2.0], requires_grad=True)
    (w * w).sum().backward()
    w.data -= 0.5 * w.grad
    assert w.tolist() == [0, 0]
    w.data += w.grad.data
    assert w.tolist() == [2, 4]
    w.data *= np.array([2.0, 0.5], np.float32)
    assert w.tolist() == [4, 2]
    held = w.data
    with pytest.raises(ValueError, match="read-only"):
        w.data[0] = 1
    mine = w.data.copy()
    same = mine
    mine += 1
    assert same is mine and mine.tolist() == [5, 3] and held.tolist() == [4, 2]
    assert type(held * 2) is type(pickle.loads(pickle.dumps(held))) is np.ndarray
    assert repr(held) == "array([4., 2.], dtype=float32)"


# P22: nothing is donated behind the user's back -------------------------------------------------


def test_p22_inputs_can_be_used_again() -> None:
    f = compute_graph(lambda x, y: (x * 2, y + 1))
    x = t(1, 2) * 1
    for _ in range(3):
        a, b = f(x, x)
        assert (a.tolist(), b.tolist(), x.tolist()) == ([2, 4], [2, 3], [1, 2])
        del a, b


# The rest of the contract -----------------------------------------------------------------------


def test_a_captured_graph_is_frozen() -> None:
    f = compute_graph(lambda x: x * 2)
    f(t(1))
    nodes = len(f.graph.nodes)
    with pytest.raises(FrozenGraphError, match="frozen graph"):
        Tensor([1.0], graph=f.graph) + 1
    for k in range(3):
        f(t(k)).item()
    assert len(f.graph.nodes) == nodes
    with pytest.raises(CaptureError, match="not been called"):
        _ = compute_graph(lambda x: x).graph


def test_no_capture_and_eager_call_the_plain_function() -> None:
    calls = []

    @compute_graph
    def f(x: Tensor) -> Tensor:
        calls.append(1)
        return x * 2

    for settings in ({"no_capture": True}, {"eager": True}):
        with lg.config.override(**settings):
            assert [f(t(k)).item() for k in range(2)] == [0, 2]
    assert len(calls) == 4
    assert f.cache_info().misses == 0


def test_printing_inside_shows_structure() -> None:
    texts = []

    @compute_graph
    def f(x: Tensor) -> Tensor:
        texts.append(f"{x!r} {x * 2}")
        return x

    f(t(1, 2))
    assert texts == ["Tensor(shape=(2,), float32, captured) Tensor(shape=(2,), float32, captured)"]


def test_threads_take_turns() -> None:
    w = lg.tensor([2.0], requires_grad=True)
    f = compute_graph(lambda x: (x * w).sum())
    results: dict[int, list[float]] = {}

    def work(k: int) -> None:
        results[k] = [f(t(k * 100 + i)).item() for i in range(20)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {k: [2.0 * (k * 100 + i) for i in range(20)] for k in range(4)}


def test_what_cannot_be_computed_is_not_tried_for_ever() -> None:
    """Hundreds of pending tensors, one of which fails whenever it is asked for."""
    labels = lg.tensor([0, 9])
    bad = F.cross_entropy(lg.zeros(2, 3), labels)
    with lg.Graph():
        x = lg.ones(1)
        many = [x * float(k) for k in range(700)]
        w = lg.tensor([1.0], requires_grad=True)
        for _ in range(3):
            (w * w).sum().backward()
            lg.optim.SGD([w], lr=0.1).step()
            assert np.isfinite(w.item())
        assert many[5].item() == 5
    with pytest.raises(IndexError, match="label 9"):
        bad.item()


# hooks --------------------------------------------------------------------------------------------


def test_planning_a_backward_pass_calls_no_hooks() -> None:
    seen = []
    w = lg.tensor([1.0, 2.0], requires_grad=True)
    w.register_hook(lambda g: seen.append(g))
    h = w * 3
    h.register_hook(lambda g: seen.append(g))
    loss = (h * h).sum()
    assert loss.item() == 45
    assert seen == []
    loss.backward()
    assert [g.tolist() for g in seen] == [[6, 12], [18, 36]]


def test_hooks_inside_work_with_backward_inside() -> None:
    w = lg.tensor([2.0], requires_grad=True)

    def step(x: Tensor) -> Tensor:
        w.grad = None
        h = x * w
        h.register_hook(lambda g: g * 10)
        loss = (h * h).sum()
        loss.backward()
        return loss

    step(t(3))
    assert w.grad.item() == 360
    captured = compute_graph(step)
    for k in (1, 2, 3):
        captured(t(k))
        assert w.grad.item() == 40 * k * k


def test_hooks_that_would_be_lost_are_refused() -> None:
    w = lg.tensor([2.0], requires_grad=True)

    @compute_graph
    def forward(x: Tensor) -> Tensor:
        h = x * w
        h.register_hook(lambda g: g * 10)
        return (h * h).sum()

    with pytest.raises(CaptureError, match=r"a hook .* made at .*\.py:\d+ .* would be lost"):
        forward(t(3))
    f = compute_graph(lambda x: (x * w).sum())
    w.register_hook(lambda g: g * 10)
    y = f(t(3))
    y.register_hook(lambda g: g * 2)
    y.backward()
    assert w.grad.item() == 60


def test_escaped_tensors_disturb_nothing() -> None:
    kept = []

    @compute_graph
    def f(x: Tensor, fail: bool) -> Tensor:
        kept.append(x.exp())
        if fail:
            raise KeyError
        return x + 1

    f(t(1), False)
    with pytest.raises(KeyError):
        f(t(1), True)
    with lg.config.override(flush_nodes=50), lg.Graph() as g:
        s = lg.zeros(1)
        for _ in range(300):
            s = s + 1
        g.realize()
        assert s.item() == 300
        lg.engine.realize.flush_old(g)
    lg.engine.pending.BACKLOG.overdue = True
    w = lg.tensor([1.0], requires_grad=True)
    (w * w).sum().backward()
    lg.optim.SGD([w], lr=0.1).step()
    assert abs(w.item() - 0.8) < 1e-6
