"""Each test is a program that once went wrong, as small as it could be made."""

import copy
import os
import pickle
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.engine.modes import LOCK
from lazygrad.engine.pending import WRITES
from lazygrad.errors import InternalError
from lazygrad.runtime.dispatch import uses_native


@pytest.mark.parametrize("executor", ["auto", "reference"])
def test_a_kept_view_of_a_parameter_is_of_its_own_version(executor: str) -> None:
    with lg.config.override(executor=executor):
        w = nn.Parameter([[1.0, 2.0], [3.0, 4.0]])
        turned = w.detach().T
        one, two = turned.sum(dim=0), turned * 2
        del turned
        one.realize()
        w.data = np.zeros((2, 2))
        assert two.tolist() == [[2.0, 6.0], [4.0, 8.0]]


def test_what_a_realized_tensor_keeps_depends_on_which_leaves_need_a_gradient() -> None:
    for needy in (1, 0):  # the same structure, first with the other leaf
        a = lg.tensor([1.0, 2.0, 0.5], requires_grad=needy == 0)
        b = lg.tensor([3.0, 4.0, 1.0], requires_grad=needy == 1)
        slopes = (a.detach().cos() * b.detach().exp(), a.detach().sin() * b.detach().exp())
        lg.realize(*slopes)
        y = (a.sin() * b.exp()).sum().realize()
        a.data, b.data = np.full(3, 9.0), np.full(3, 9.0)
        y.backward()
        np.testing.assert_allclose((a, b)[needy].grad.numpy(), slopes[needy].numpy(), rtol=1e-5)


def test_two_backward_passes_through_a_call_on_an_array() -> None:
    w = nn.Parameter(np.ones((3, 4)))

    def losses(x: Any) -> Any:
        out = (x @ w.T).tanh()
        return out.sum(), (out**2).mean()

    captured = lg.compute_graph(losses)
    x = np.linspace(-1, 1, 20).reshape(5, 4)
    found = []
    for fn, given in ((losses, lg.tensor(x)), (captured, x), (captured, x)):
        w.grad = None
        one, two = fn(given)
        one.backward(retain_graph=True)
        two.backward()
        found.append(w.grad.numpy())
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_a_leaf_made_inside_a_captured_function() -> None:
    w = nn.Parameter(np.linspace(-1, 1, 9).reshape(3, 3))

    def penalty(x: Any) -> Any:
        x = x.detach().clone().requires_grad_()
        assert x.is_leaf
        (g,) = lg.grad(((x @ w).tanh() ** 2).sum(), [x], create_graph=True)
        return (g**2).sum()

    x, found = np.ones((2, 3)), []
    for fn in (penalty, lg.compute_graph(penalty)):
        w.grad = None
        loss = fn(lg.tensor(x))
        loss.backward()
        found.append((loss.item(), w.grad.tolist()))
    assert found[0] == found[1]


def test_the_gradient_of_a_leaf_made_inside_can_be_returned() -> None:
    @lg.compute_graph
    def slope(x: Any) -> Any:
        x = x.clone().requires_grad_()
        (x**3).sum().backward()
        return x.grad

    assert slope(lg.tensor([1.0, 2.0])).tolist() == [3.0, 12.0]
    assert slope(lg.tensor([3.0, 4.0])).tolist() == [27.0, 48.0]


@pytest.mark.parametrize(
    "fails",
    [
        lambda t: t.split(1),
        lambda t: t.chunk(2),
        lambda t: t.unbind(),
        lambda t: t.roll(1, 0),
        lambda t: t.unflatten(0, (1, 1)),
        lambda t: t.repeat_interleave(2, dim=0),
    ],
)
def test_what_needs_a_dimension_says_so(fails: Any) -> None:
    with pytest.raises(lg.errors.AxisError, match="a 0-d tensor has no dimension"):
        fails(lg.tensor(1.0))


def test_movedim_of_a_number() -> None:
    assert lg.tensor(3.0).movedim(0, -1).item() == 3.0


def test_the_backward_pass_of_a_captured_function_may_be_long() -> None:
    @lg.compute_graph
    def power(x: Any) -> Any:
        for _ in range(60):
            x = x * 1.01
        return x

    with lg.config.override(flush_nodes=50):
        x = lg.tensor(1.0, requires_grad=True)
        y = power(x)
        y.backward()
        assert y.item() == pytest.approx(1.01**60)
        assert x.grad.item() == pytest.approx(1.01**60)


@pytest.mark.parametrize(
    ("name", "value"), [("int8", 300), ("uint8", -1), ("uint8", -3), ("int64", 2**63)]
)
def test_an_integer_that_does_not_fit_is_an_error_at_its_line(name: str, value: int) -> None:
    x = lg.ones(2, dtype=getattr(lg, name))
    for use in (lambda: x + value, lambda: value * x, lambda: x == value):
        with pytest.raises(lg.errors.DTypeError, match=f"{value} does not fit {name}"):
            use()
    with pytest.raises(lg.errors.DTypeError, match="an integer of 1661 bits does not fit"):
        x + 10**500


@pytest.mark.parametrize("kind", [">f8", ">f4", ">i4", ">i2"])
def test_arrays_in_the_byte_order_of_another_machine(kind: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(kind)
    native = array.astype(array.dtype.newbyteorder("="))
    double = lg.compute_graph(lambda x: x * 2)
    for use in (lg.tensor, lg.Tensor, double, lambda x: lg.zeros_like(lg.tensor(native)) + x):
        assert use(array).dtype is use(native).dtype
        assert use(array).tolist() == use(native).tolist()
    assert double.cache_info().misses == 1


def test_a_tensor_that_escaped_from_a_trace_is_never_computed() -> None:
    kept: list[lg.Tensor] = []

    @lg.compute_graph
    def f(x: lg.Tensor) -> lg.Tensor:
        kept.append(x * 2)
        return x + 1

    f(lg.ones(2))
    w = lg.nn.Parameter(np.ones(2, np.float32))
    optimizer = lg.optim.SGD([w], lr=0.5)
    total: Any = 0
    for _ in range(700):  # long enough for what is pending to be computed in between
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
        total = total + w.detach().sum()
    assert np.isfinite(total.item()) and len(kept) == 1


def test_a_copied_module_captures_with_its_own_parameters() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            self.linear = nn.Linear(2, 2)
            self.captured = lg.compute_graph(self.run)

        def run(self, x: Any) -> Any:
            return self.linear(x)

    model = Model()
    x = lg.ones(1, 2)
    before = model.captured(x).tolist()
    twin = copy.deepcopy(model)
    for p in twin.parameters():
        p.data = np.zeros(p.shape)
    assert twin.captured(x).tolist() == [[0.0, 0.0]]
    assert model.captured(x).tolist() == before


@lg.compute_graph
def doubled(x: Any) -> Any:
    return x * 2


def test_a_decorated_function_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(doubled)) is doubled


def _train(seed: int, capture: bool) -> list[float]:
    rng = np.random.default_rng(seed)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    for p in net.parameters():
        p.data = rng.standard_normal(p.shape)
    optimizer = lg.optim.Adam(net.parameters(), lr=0.01)

    def loss_of(x: Any) -> Any:
        return (net(x) ** 2).mean()

    forward = lg.compute_graph(loss_of) if capture else loss_of
    losses = []
    for _ in range(25):
        loss = forward(lg.tensor(rng.standard_normal((4, 3)).astype(np.float32)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_threads_train_beside_each_other() -> None:
    seeds = range(6)
    alone = [_train(k, k % 2 == 0) for k in seeds]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda k: _train(k, k % 2 == 0), seeds))
    finally:
        sys.setswitchinterval(before)
    assert together == alone


def _classifier() -> tuple[nn.Module, Any]:
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    return net, lg.optim.SGD(net.parameters(), lr=0.1)


@pytest.mark.parametrize("reads", [False, True])
def test_a_failed_captured_call_does_not_fail_the_next_one(reads: bool) -> None:
    net, optimizer = _classifier()
    loss_of = lg.compute_graph(lambda x, y: nn.functional.cross_entropy(net(x), y))
    x = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)

    def step(label: int) -> None:
        optimizer.zero_grad()
        loss = loss_of(x, np.array([0, 1, 2, 0, label]))
        if reads:
            loss.item()
        loss.backward()
        optimizer.step()

    step(1)
    before = {k: v.numpy(copy=True) for k, v in net.state_dict().items()}
    for _ in range(2):
        with pytest.raises(lg.errors.IndexOutOfRangeError, match="label 7"):
            step(7)
        for k, v in net.state_dict().items():
            assert np.array_equal(v.numpy(), before[k]), k
    step(1)
    assert net[1].num_batches_tracked.item() == 2


def test_a_flush_does_not_fail_for_a_tensor_that_nobody_reads() -> None:
    with lg.config.override(flush_nodes=20):
        graph = lg.Graph()
        scores = lg.Tensor(np.zeros((2, 3)), graph=graph)
        bad = nn.functional.cross_entropy(scores, lg.Tensor([0, 7], dtype=lg.int64, graph=graph))
        total = lg.Tensor(0.0, graph=graph)
        for _ in range(50):
            total = total + 1
        assert total.item() == 50
        with pytest.raises(lg.errors.IndexOutOfRangeError, match="label 7"):
            bad.item()


def test_labels_and_masks_come_to_the_graph_of_the_scores() -> None:
    graph = lg.Graph()
    scores = lg.Tensor(np.zeros((2, 3)), graph=graph, requires_grad=True)
    loss = nn.functional.cross_entropy(scores, lg.tensor([0, 1]))
    assert loss.graph is graph
    assert nn.functional.dropout(scores).graph is graph
    loss.backward()
    assert scores.grad.sum().item() == pytest.approx(0)
    elsewhere = nn.Parameter(np.ones(3)) * 2  # its gradient cannot follow
    with pytest.raises(lg.errors.GraphMismatchError):
        scores + elsewhere


def test_what_a_check_needs_runs_in_order() -> None:
    """A kernel behind a product takes no operand from one that runs after it."""
    values = np.linspace(0.5, 2, 4)

    def checked(fused: bool) -> list[Any]:
        with lg.config.override(no_fuse=not fused):
            x, m = lg.tensor(values[:2]), lg.tensor(values.reshape(2, 2))
            joined = (x.sin() + x.cos() * x).reshape(2, 1)
            solved = lg.linalg.solve(m, joined + m @ lg.ones(2, 1, dtype=lg.float64))
            return list(solved.reshape(-1).tolist())

    assert checked(True) == pytest.approx(checked(False))


def test_an_opaque_value_that_only_an_empty_one_reads() -> None:
    padded = lg.ones(3).pad((1, 1))
    assert padded[lg.zeros(0, dtype=lg.int64)].tolist() == []
    assert lg.zeros(3).masked_select(lg.tensor([True, False, True]), size=0).tolist() == []


def test_an_assigned_tensor_takes_the_place_of_a_pending_write() -> None:
    layer = lg.nn.Linear(2, 3)  # its initial values are pending
    before = layer.weight * 1.0
    for p in layer.parameters():
        assert p._storage.pending is not None
        p.data = lg.tensor(np.full(p.shape, 0.5, np.float32))
    written = [storage.pending for storage in WRITES.values()]
    assert all(node is not None and WRITES[node.id].pending is node for node in written)
    assert layer.weight.tolist() == [[0.5, 0.5]] * 3
    assert (np.abs(before.numpy()) < 0.7072).all() and before.numpy().std() > 0
    assert layer.weight.tolist() == [[0.5, 0.5]] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_waits_for_what_another_thread_realizes() -> None:
    begun = threading.Event()

    def realize() -> None:
        with LOCK:
            begun.set()
            time.sleep(0.1)

    other = threading.Thread(target=realize)
    other.start()
    begun.wait()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # rather than wait for ever for a thread that it does not have
        os._exit(0 if lg.ones(3).sum().item() == 3 else 1)
    other.join()
    assert os.waitpid(child, 0)[1] == 0
    assert lg.ones(3).sum().item() == 3


def test_the_lines_of_a_call_grow_with_its_arguments_not_with_their_pairs() -> None:
    @lg.compute_graph
    def total(values: list[Any]) -> Any:
        return lg.stack(values).sum()

    values = [np.float32(k) * np.ones(2, np.float32) for k in range(200)]
    for _ in range(2):
        assert total(values).item() == 2 * 199 * 100
    binder = total._binder
    assert binder is not None and len(binder.source) < 200 * 400
    assert total(values).item() == 2 * 199 * 100 and binder.hits
    values[7] = values[150]  # one array under two names
    assert total(values).item() == 2 * (199 * 100 - 7 + 150)
    values[7] = np.full(2, 7, np.float32)
    assert total(values).item() == 2 * 199 * 100


@pytest.mark.parametrize("executor", ["auto", "reference", "numpy"])
def test_a_sum_that_only_an_empty_value_reads_is_not_computed(executor: str) -> None:
    with lg.config.override(executor=executor):
        doubled = lg.ones(7).cumsum(0) * 2  # is kept: the sum is a part of its kernel
        empty = lg.zeros(0) % doubled.sum(0, keepdim=True)
        assert empty.tolist() == []
        assert doubled.tolist() == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]


@pytest.mark.compiled
@pytest.mark.parametrize("broken", ["engine.emit.build_kernel", "engine.emit.lower", "LLVM"])
def test_a_kernel_that_does_not_compile_is_named_with_its_lines(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("out of order")

    monkeypatch.setenv("LAZYGRAD_CACHE_MB", "0")
    x = lg.ones(3).realize()
    y = (x.cos() + 0.25).realize()
    for _ in range(len(broken)):  # a kernel that no other test has
        y = (y.sigmoid() * 3.25).sin()
    if broken == "LLVM":
        if not uses_native():
            pytest.skip("on this executor nothing goes through LLVM")
        broken = "runtime.native.jit._compile"
    with monkeypatch.context() as patch:
        patch.setattr(f"lazygrad.{broken}", fail)
        with pytest.raises(InternalError, match=r"kernel k0 cannot be compiled: .*order") as found:
            y.tolist()
    assert "test_regressions.py" in "".join(found.value.__notes__)
    assert y.shape == (3,) and np.isfinite(y.numpy()).all()
