"""What a replay costs, in things that can be counted: op calls, kernels, copies, buffers."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.config import config
from lazygrad.engine import executable
from lazygrad.engine.graph import Graph
from lazygrad.engine.pending import WRITES
from lazygrad.engine.replay import Pool

pytestmark = pytest.mark.compiled

F = nn.functional
apply = sys.modules["lazygrad.engine.apply"]  # `lazygrad.engine.apply` is the function of that name
BATCH, FEATURES, CLASSES = 8, 6, 3


class Counts(Counter[str]):
    """Events by name."""


@contextmanager
def counting() -> Iterator[Counts]:
    """Counts appended ops and nodes, program runs, and bytes copied from the caller's arrays."""
    counts = Counts()
    append, node, copyto, copy = apply.append, Graph.append, np.copyto, Pool.copy
    run, bound = executable.CompiledProgram.run, executable.CompiledProgram.bound

    def counted_append(*args: Any, **kwargs: Any) -> Any:
        counts["ops"] += 1
        return append(*args, **kwargs)

    def counted_node(self: Graph, *args: Any, **kwargs: Any) -> Any:
        counts["nodes"] += 1
        return node(self, *args, **kwargs)

    def counted_copy(target: Any, source: Any, *args: Any, **kwargs: Any) -> Any:
        counts["copied"] += target.nbytes
        return copyto(target, source, *args, **kwargs)

    def counted_own(self: Pool, array: Any) -> Any:
        counts["copied"] += array.nbytes
        return copy(self, array)

    def counted_run(self: Any, *args: Any, **kwargs: Any) -> Any:
        counts["programs"] += 1
        counts["kernels"] += len(self.kernels)
        return run(self, *args, **kwargs)

    def counted_bound(self: Any, arrays: Any) -> Any:
        call = bound(self, arrays)
        if getattr(call, "__func__", None) is executable.Program.run_list:
            return call  # goes through `run`

        def counted(arrays: Any) -> Any:
            counts["programs"] += 1
            counts["kernels"] += len(self.kernels)
            return call(arrays)

        return counted

    config.bump()  # what is bound already is bound again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executable.CompiledProgram, "bound", counted_bound)
        patch.setattr(apply, "append", counted_append)
        patch.setattr(Graph, "append", counted_node)
        patch.setattr(np, "copyto", counted_copy)
        patch.setattr(Pool, "copy", counted_own)
        patch.setattr(executable.CompiledProgram, "run", counted_run)
        yield counts


class Task:
    """A small classifier and its batches."""

    def __init__(self) -> None:
        lg.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(FEATURES, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, CLASSES)
        )
        self.optimizer = lg.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((BATCH, FEATURES)).astype(np.float32)
        self.y = rng.integers(0, CLASSES, BATCH)

    def loss(self, x: Any, y: Any) -> Any:
        return F.cross_entropy(self.model(x), y)

    def step(self, x: Any, y: Any) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss(x, y)
        loss.backward()
        self.optimizer.step()
        return loss


def test_a_whole_step_is_one_program_and_no_op_call() -> None:
    task = Task()
    step = lg.compute_graph(task.step)
    for _ in range(3):
        step(task.x, task.y)
    nodes = len(step.graph.nodes)
    with counting() as counts:
        step(task.x, task.y)
        counts.clear()
        for _ in range(5):
            step(task.x, task.y)
    assert counts["ops"] == counts["nodes"] == 0
    assert counts["programs"] == 5
    assert counts["kernels"] == 5 * len(step.program.kernels)
    assert counts["copied"] == 0  # arrays are read where they are
    assert len(step.graph.nodes) == nodes
    assert step.cache_info().misses == 1


@pytest.mark.parametrize("read", ["never", "before backward", "after step"])
def test_forward_backward_and_step_join_in_one_program(read: str) -> None:
    task = Task()
    forward = lg.compute_graph(task.loss)

    def turn() -> None:
        loss = forward(task.x, task.y)
        task.optimizer.zero_grad()
        if read == "before backward":
            loss.item()
        loss.backward()
        task.optimizer.step()
        if read == "after step":
            loss.item()

    for _ in range(3):
        turn()
    nodes = len(forward.graph.nodes)
    with counting() as counts:
        for _ in range(4):
            turn()
    assert counts["ops"] == 0
    assert counts["programs"] == 4 * (2 if read == "before backward" else 1)
    assert counts["copied"] == 4 * (task.x.nbytes + task.y.nbytes)
    assert len(forward.graph.nodes) == nodes


def test_an_undecorated_loop_compiles_once() -> None:
    task = Task()
    x, y = lg.tensor(task.x), lg.tensor(task.y)
    for _ in range(2):
        task.step(x, y)
    before = lg.engine.run._ENTRIES.copy()
    with counting() as counts:
        for _ in range(5):
            task.step(x, y)
    assert counts["programs"] == 5
    assert counts["ops"] > 50
    assert set(before) == set(lg.engine.run._ENTRIES)


def test_inference_makes_no_op_call() -> None:
    task = Task()
    predict = lg.compute_graph(lambda x: task.model(x).argmax(dim=1))
    with lg.no_grad():
        for _ in range(3):
            predict(task.x).numpy()
        with counting() as counts:
            for _ in range(4):
                predict(task.x).numpy()
    assert counts["ops"] == 0
    assert counts["programs"] == 4
    assert counts["copied"] == 4 * task.x.nbytes


def addresses(fn: Any) -> list[int]:
    return [a.__array_interface__["data"][0] for a in fn.buffers]


@pytest.mark.parametrize("style", ["step", "forward"])
def test_data_buffers_keep_their_addresses(style: str) -> None:
    task = Task()
    fn = lg.compute_graph(task.step if style == "step" else task.loss)
    seen = []
    for _ in range(6):
        loss = fn(task.x, task.y)
        if style == "forward":
            task.optimizer.zero_grad()
            loss.backward()
            task.optimizer.step()
        assert np.isfinite(loss.item())
        seen.append(addresses(fn))
    assert len(seen[0]) == 2
    assert all(s == seen[0] for s in seen)


def test_parameters_and_moments_are_written_in_place() -> None:
    task = Task()
    step = lg.compute_graph(task.step)
    step(task.x, task.y)

    def places() -> list[int]:
        leaves = [*task.model.parameters()]
        leaves += [t for s in task.optimizer.state.values() for t in s.values()]
        return [leaf._storage.array.__array_interface__["data"][0] for leaf in leaves]

    before = places()
    for _ in range(4):
        step(task.x, task.y)
    assert places() == before
    view = task.model[0].weight.numpy()  # somebody looks: the next version lives elsewhere
    copy = view.copy()
    step(task.x, task.y)
    np.testing.assert_array_equal(view, copy)
    assert places()[0] != before[0]


def test_schedules_and_switches_of_numbers_never_retrace() -> None:
    task = Task()
    step = lg.compute_graph(task.step)
    schedule = lg.optim.lr_scheduler.StepLR(task.optimizer, step_size=1, gamma=0.9)
    for k in range(10):
        step(task.x, task.y)
        schedule.step()
        task.optimizer.param_groups[0]["momentum"] = 0.9 - 0.01 * k
    assert step.cache_info().misses == 1


def test_fusion_makes_fewer_kernels_and_the_planner_less_memory() -> None:
    task = Task()
    sizes = {}
    for name, settings in {"plain": {}, "no_fuse": {"no_fuse": True}}.items():
        with lg.config.override(**settings):
            step = lg.compute_graph(task.step)
            step(task.x, task.y)
            sizes[name] = len(step.program.kernels)
            plan = step.memory_plan()
    assert sizes["plain"] < sizes["no_fuse"] / 2
    assert plan.lower_bound <= plan.arena_bytes < plan.naive_bytes


def test_explain_names_every_kernel_with_a_reason() -> None:
    task = Task()
    step = lg.compute_graph(task.step)
    step(task.x, task.y)
    text = step.explain()
    rows = step.program.explain_rows()
    assert {r["kernel"] for r in rows} - {""} == {k.name for k in step.program.kernels}
    assert all(r["reason"] for r in rows)
    assert "matmul" in text and "test_structure.py" in text


def test_a_step_carries_out_writes_that_another_model_left() -> None:
    task = Task()
    step = lg.compute_graph(task.step)
    for _ in range(3):
        step(task.x, task.y)
    other = nn.BatchNorm1d(FEATURES)
    other(lg.tensor(task.x))  # nobody reads its running statistics
    assert WRITES
    step(task.x, task.y)
    assert not WRITES
    expected = 0.1 * task.x.mean(0)
    assert np.allclose(other.running_mean.numpy(), expected, rtol=1e-5)
