"""A machine that does at random what users do, beside a shadow in NumPy float64.

Gradients have a shadow too: every value is kept at the leaves' values, and for each leaf k also at
plus and minus a small step along a fixed random direction v_k. After any number of backward passes,
<grad of leaf k, v_k> must be the sum of the slopes of what was differentiated.
"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import lazygrad as lg
from lazygrad.engine.handles import HANDLES, PENDING
from lazygrad.engine.pending import WRITES
from lazygrad.engine.realize import flush_old
from lazygrad.errors import GraphReleasedError
from lazygrad.testing.programs import INSTRUCTIONS, Line, draw_line, tame
from lazygrad.testing.strategies import shapes

STEP = 1e-6
LEAVES = 2
MOST = 10  # tensors alive
DATA = st.data()
SEED = st.integers(0, 2**32 - 1)
SHAPES = shapes(max_dims=3, max_side=4)
VIEWS = [i for i in INSTRUCTIONS if i.view]

Shadow = list[np.ndarray]  # at the leaves; then at plus and minus for each leaf


@dataclass
class Value:
    tensor: lg.Tensor
    shadow: Shadow
    born: int  # the clock when the oldest value that it was made from was made

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shadow[0].shape

    def check(self) -> None:
        np.testing.assert_allclose(self.tensor.numpy(), self.shadow[0], rtol=1e-9, atol=1e-9)


def still(array: np.ndarray) -> Shadow:
    """A shadow that no leaf moves."""
    return [array] * (1 + 2 * LEAVES)


class Programs(RuleBasedStateMachine):
    @initialize(seed=SEED, sizes=st.lists(shapes(1, 3, 1, 3), min_size=LEAVES, max_size=LEAVES))
    def begin(self, seed: int, sizes: list[tuple[int, ...]]) -> None:
        gc.collect()
        self.rng = np.random.default_rng(seed)
        self.graph = lg.Graph()
        self.graph.__enter__()
        self.live: list[Value] = []
        self.leaves: list[Value] = []
        self.directions = [self.rng.standard_normal(size) for size in sizes]
        self.slopes = [0.0] * LEAVES  # what <grad, direction> must be
        self.kinked = [False] * LEAVES
        self.exports: list[tuple[np.ndarray, np.ndarray]] = []
        self.captured: dict[str, Callable[..., Any]] = {}
        self.last: Value | None = None  # what was differentiated last
        self.clock = self.written = self.released = 0
        for k, size in enumerate(sizes):
            start = self.rng.uniform(-1, 1, size)
            leaf = lg.tensor(start, requires_grad=True)
            leaf.name = f"w{k}"
            self.leaves.append(Value(leaf, self.moved(k, start), 0))

    def moved(self, k: int, value: np.ndarray) -> Shadow:
        """The shadow of leaf k at a value."""
        shadow = still(value)
        shadow[1 + 2 * k] = value + STEP * self.directions[k]
        shadow[2 + 2 * k] = value - STEP * self.directions[k]
        return shadow

    def teardown(self) -> None:
        if hasattr(self, "live"):
            for value in [*self.leaves, *self.live]:
                value.check()
            for k in range(LEAVES):
                self.check_grad(k)
            self.graph.__exit__(None, None, None)

    # tools --------------------------------------------------------------------------------

    def pick(self, data: Any, with_grad: bool = False) -> Value:
        known = [*self.leaves, *self.live]
        if with_grad:
            known = [v for v in known if v.tensor.requires_grad]
        return known[len(known) - 1 - data.draw(st.integers(0, len(known) - 1))]

    def keep(self, tensor: lg.Tensor, shadow: Shadow, made_from: Sequence[Value] = ()) -> Value:
        self.clock += 1
        assert tensor.shape == shadow[0].shape
        assert tensor.dtype is lg.float64
        value = Value(tensor, shadow, min([self.clock, *self.births(made_from)]))
        self.live.append(value)
        if len(self.live) > MOST:
            self.live.pop(0)
        return value

    def changed(self, value: Value, *others: Value) -> None:
        """It is a new value from now on, made from itself and others."""
        value.born = min([value.born, *self.births(others)])
        if self.last is value:
            self.last = None

    def births(self, values: Sequence[Value]) -> list[int]:
        """When these were made; leaves are read as they are now."""
        return [self.clock if any(v is leaf for leaf in self.leaves) else v.born for v in values]

    def line(self, data: Any, instructions: Any = INSTRUCTIONS) -> Any:
        """A line over live values, its operands, and the shadow of its result."""
        known = [*self.leaves, *self.live, *self.leaves]
        line = draw_line(data.draw, [v.shape for v in known], instructions)
        if line is None:
            return None
        shadow = [line.on_arrays([v.shadow[i] for v in known]) for i in range(1 + 2 * LEAVES)]
        if not tame(shadow[0]):
            return None
        return line, [v.tensor for v in known], shadow, [known[i] for i in line.operands]

    # making tensors -----------------------------------------------------------------------

    @rule(seed=SEED, shape=SHAPES)
    def new(self, seed: int, shape: tuple[int, ...]) -> None:
        array = np.random.default_rng(seed).uniform(-1, 1, shape)
        given = array.copy()
        self.keep(lg.Tensor(given), still(array))
        given[...] = 7  # what happens to the caller's array later does not matter

    @rule(data=DATA, count=st.integers(1, 4))
    def op(self, data: Any, count: int) -> None:
        for _ in range(count):
            if found := self.line(data):
                line, tensors, shadow, made_from = found
                self.keep(line.on_tensors(tensors), shadow, made_from)

    @rule(data=DATA)
    def view(self, data: Any) -> None:
        if found := self.line(data, VIEWS):
            line, tensors, shadow, made_from = found
            self.keep(line.on_tensors(tensors), shadow, made_from)

    @rule(data=DATA)
    def op_without_grad(self, data: Any) -> None:
        if found := self.line(data):
            line, tensors, shadow, _ = found
            with lg.no_grad():
                self.keep(line.on_tensors(tensors), still(shadow[0]))

    @rule(data=DATA)
    def captured_op(self, data: Any) -> None:
        if found := self.line(data):
            line, tensors, shadow, made_from = found
            names = [f"v{k}" for k in range(len(tensors))]
            key = line.text(names)
            if key not in self.captured:
                self.captured[key] = capture(line)
            operands = [tensors[i] for i in line.operands]
            self.keep(self.captured[key](*operands), shadow, made_from)

    @rule(data=DATA)
    def detach(self, data: Any) -> None:
        value = self.pick(data)
        self.keep(value.tensor.detach(), still(value.shadow[0]))

    @rule(shape=SHAPES, seed=st.none() | st.integers(0, 3))
    def random(self, shape: tuple[int, ...], seed: int | None) -> None:
        if seed is not None:
            lg.manual_seed(seed)
        same = lg.Generator(0)
        same.set_state(lg.get_rng_state())
        drawn = lg.rand(shape, dtype=lg.float64)
        expected = lg.rand(shape, dtype=lg.float64, generator=same).numpy()
        self.keep(drawn, still(expected.copy()))

    # changing tensors ---------------------------------------------------------------------

    @rule(data=DATA, factor=st.sampled_from([0.5, -1.0]))
    def in_place(self, data: Any, factor: float) -> None:
        if not self.live:
            return
        value = self.live[data.draw(st.integers(0, len(self.live) - 1))]
        other = self.pick(data)
        fits = np.broadcast_shapes(value.shape, other.shape) if _fits(value, other) else None
        if fits != value.shape:
            value.tensor *= factor
            self.changed(value)
            value.shadow = [a * factor for a in value.shadow]
            return
        shadow = [a + factor * b for a, b in zip(value.shadow, other.shadow, strict=True)]
        if tame(shadow[0]):
            value.tensor += factor * other.tensor
            self.changed(value, other)
            value.shadow = shadow

    @rule(data=DATA)
    def set_item(self, data: Any) -> None:
        if not self.live:
            return
        value = self.live[data.draw(st.integers(0, len(self.live) - 1))]
        other = self.pick(data)
        if not value.shape or value.shape[0] == 0:
            return
        i = data.draw(st.integers(-value.shape[0], value.shape[0] - 1))
        if other.shape != value.shape[1:]:
            value.tensor[i] = 0.25
            values: Shadow = still(np.array(0.25))
        else:
            value.tensor[i] = other.tensor
            values = other.shadow
        self.changed(value, other)
        shadow = [a.copy() for a in value.shadow]
        for array, new in zip(shadow, values, strict=True):
            array[i] = new
        value.shadow = shadow

    @rule(
        k=st.integers(0, LEAVES - 1),
        how=st.sampled_from(["data", "in place", "step", "item"]),
        settled=st.booleans(),
    )
    def write_leaf(self, k: int, how: str, settled: bool) -> None:
        leaf = self.leaves[k]
        if settled:  # then nothing pending needs the old version
            self.graph.realize()
        value = leaf.shadow[0]
        if how == "data":
            value = self.rng.uniform(-1, 1, value.shape)
            leaf.tensor.data = value
        elif how == "in place":
            with lg.no_grad():
                leaf.tensor *= 0.5
            value = value * 0.5
        elif how == "item":
            with lg.no_grad():
                leaf.tensor[0] = 0.125
            value = value.copy()
            value[0] = 0.125
        elif leaf.tensor.grad is not None:
            step = np.tanh(leaf.tensor.grad.numpy())
            leaf.tensor.data -= 0.1 * lg.tanh(leaf.tensor.grad)
            value = value - 0.1 * step
        if settled:
            leaf.tensor.realize()
        leaf.shadow = self.moved(k, value)
        self.clock += 1
        self.written = self.clock

    # reading ------------------------------------------------------------------------------

    @rule(data=DATA)
    def export(self, data: Any) -> None:
        value = self.pick(data)
        array = value.tensor.numpy()
        value.check()
        self.exports = [*self.exports[-4:], (array, array.copy())]

    @rule(picks=st.lists(st.integers(0, MOST + LEAVES), max_size=4), at_once=st.booleans())
    def realize(self, picks: list[int], at_once: bool) -> None:
        known = [*self.leaves, *self.live]
        chosen = [known[i].tensor for i in picks if i < len(known)]
        if at_once:
            lg.realize(*chosen)
        for tensor in chosen:
            assert tensor.realize() is tensor
            assert tensor.is_realized

    @rule(how=st.sampled_from(["realize", "flush", "show", "zero_grad", "check_grad"]))
    def keep_house(self, how: str) -> None:
        if how == "realize":
            self.graph.realize()
        elif how == "flush":
            flush_old(self.graph)
        elif how == "show":
            self.show()
        else:
            for k in range(LEAVES):
                self.check_grad(k)
                if how == "zero_grad":
                    self.leaves[k].tensor.grad = None
                    self.slopes[k], self.kinked[k] = 0.0, False

    @rule(data=DATA)
    def drop(self, data: Any) -> None:
        if self.live:
            self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))

    def show(self) -> None:
        """Pictures change nothing."""
        before = [(n.id, n.op, len(n.inputs)) for n in self.graph.nodes]
        pending, known = len(PENDING), len(self.graph.values)
        assert str(self.graph)
        assert self.graph.visualize().source
        assert self.graph.to_mermaid()
        assert before == [(n.id, n.op, len(n.inputs)) for n in self.graph.nodes]
        assert (pending, known) == (len(PENDING), len(self.graph.values))

    # gradients ----------------------------------------------------------------------------

    @rule(data=DATA, retain=st.booleans(), weight=st.sampled_from([1.0, -0.5]))
    def backward(self, data: Any, retain: bool, weight: float) -> None:
        again = self.last is not None and data.draw(st.booleans())
        value = self.last if again else self.pick(data, with_grad=True)
        self.last = value
        loss = value.tensor.sum() * weight
        before = [leaf.tensor.grad for leaf in self.leaves]
        try:
            loss.backward(retain_graph=retain)
            if data.draw(st.booleans()):
                lg.realize(*[g for leaf in self.leaves if (g := leaf.tensor.grad) is not None])
        except GraphReleasedError:  # allowed only where a released pass reads an old version
            assert self.released > 0 and self.written >= value.born
            for leaf, grad in zip(self.leaves, before, strict=True):
                assert leaf.tensor.grad is grad
            return
        for k in range(LEAVES):
            up, down = value.shadow[1 + 2 * k].sum(), value.shadow[2 + 2 * k].sum()
            middle = value.shadow[0].sum()
            right, left = (up - middle) / STEP, (middle - down) / STEP
            if abs(right - left) > 1e-2 * (1 + abs(right)):
                self.kinked[k] = True
            self.slopes[k] += weight * (up - down) / (2 * STEP)
        if not retain:
            self.clock += 1
            self.released = self.clock

    def check_grad(self, k: int) -> None:
        grad = self.leaves[k].tensor.grad
        if grad is None:
            assert self.kinked[k] or abs(self.slopes[k]) < 1e-4
            return
        assert grad.shape == self.leaves[k].shape
        found = float(np.vdot(grad.numpy(), self.directions[k]))
        if not self.kinked[k]:
            np.testing.assert_allclose(found, self.slopes[k], rtol=1e-3, atol=1e-3)

    # what must hold after every step ------------------------------------------------------

    @invariant()
    def held_values_never_change(self) -> None:
        for array, copy in getattr(self, "exports", ()):
            np.testing.assert_array_equal(array, copy)
        for value in getattr(self, "live", ()):
            if value.tensor.is_realized:
                value.check()

    @invariant()
    def tables_agree(self) -> None:
        for node_id, ref in list(PENDING.items()):
            assert HANDLES.get(node_id) is ref
            tensor = ref()
            assert tensor is not None and not tensor.is_realized
        for node_id, storage in WRITES.items():
            assert storage.pending is not None and storage.pending.id == node_id

    @invariant()
    @precondition(lambda self: hasattr(self, "graph"))
    def nodes_are_in_order(self) -> None:
        nodes = self.graph.nodes
        ids = [n.id for n in nodes]
        assert ids == sorted(ids)
        assert all(i.id < n.id for n in nodes for i in n.inputs)


def _fits(a: Value, b: Value) -> bool:
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return False
    return True


def capture(line: Line) -> Callable[..., Any]:
    """The line as a captured function of its operands."""
    local = Line(line.instruction, tuple(range(len(line.operands))), line.fill)
    return lg.compute_graph(lambda *operands: local.on_tensors(operands))


TestPrograms = Programs.TestCase
TestPrograms.settings = settings(max_examples=settings().max_examples, stateful_step_count=30)


def test_a_view_of_the_same_shape_is_another_tensor() -> None:
    """Writing to it in place leaves the first one as it was, as with any other view."""
    x = lg.ones(2, 3)
    for view in (x.reshape(2, 3), x.permute(0, 1), x.expand(2, 3), x[:], x.flatten(1), x.flip(())):
        view += 1
        assert view is not x
        np.testing.assert_array_equal(x.numpy(), 1)


def test_a_second_backward_works_or_raises_before_anything_changes() -> None:
    w = lg.tensor([1.0, 2.0], requires_grad=True)
    y = (w * w).exp().realize()
    y.sum().backward()
    once = w.grad.numpy(copy=True)
    y.sum().backward()  # nothing has been written: what was released is computed again
    np.testing.assert_array_equal(w.grad.numpy(), 2 * once)
    held = w.grad
    w.data = [3.0, 4.0]
    with pytest.raises(GraphReleasedError, match=r"overwritten at .*test_random_programs.py"):
        y.sum().backward()
    with pytest.raises(GraphReleasedError, match="overwritten"):
        lg.grad(y.sum(), w)
    assert w.grad is held
    np.testing.assert_array_equal(held.numpy(), 2 * once)


def test_a_retained_backward_survives_writes() -> None:
    w = lg.tensor([1.0, 2.0], requires_grad=True)
    y = (w * w).exp().realize()
    y.sum().backward(retain_graph=True)
    once = w.grad.numpy(copy=True)
    w.data = [3.0, 4.0]
    y.sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), 2 * once)


def test_gradients_of_a_leaf_that_was_written_in_between() -> None:
    """What was made before the write has the derivative at the old value, and both add up."""
    w = lg.tensor([2.0], requires_grad=True)
    old = w * w
    w.data = [5.0]
    new = w * w
    (slope,) = lg.grad(old.sum(), w)
    assert slope.tolist() == [4.0]
    (both,) = lg.grad((old + new).sum(), w)
    assert both.tolist() == [14.0]
    (old + new).sum().backprop()
    assert w.grad.tolist() == [14.0]


def test_a_second_backward_works_after_a_flush() -> None:
    with lg.Graph() as g:
        x = lg.tensor([1.0, 2.0]) * 3
        w = lg.tensor([1.0, 1.0], requires_grad=True)
        y = (x * w * w).realize()
        del x
        flush_old(g)
        y.sum().backward()
        assert w.grad.tolist() == [6, 12]
        g.realize()
        lg.ones(1).exp().realize()  # drops what nobody can read
        y.sum().backward()
        assert w.grad.tolist() == [12, 24]
        assert str(g)
