"""Running a captured function again.

A function that took an optimizer step, or writes state where no gradient flows (a cache of keys and
values), runs its program at once: bind arrays, run, move versions on.
Any other waits as a `Call`, so that what follows (`backward()`, `step()`) can join it in one
program, or appends one `call` node where something speaks against that.
"""

from __future__ import annotations

import itertools
import weakref
from sys import getrefcount
from typing import Any

import numpy as np

from lazygrad.engine.apply import choose_graph
from lazygrad.engine.body import append_call, project
from lazygrad.engine.capture import Captured, Input
from lazygrad.engine.gradients import Gradients
from lazygrad.engine.graph import Graph, Node, storage_source
from lazygrad.engine.latent import Held
from lazygrad.engine.light import value_tensor
from lazygrad.engine.modes import STATE
from lazygrad.engine.pending import WRITES, stage_write
from lazygrad.engine.random import key_node
from lazygrad.engine.realize import flush_old, flush_writes, realize_nodes
from lazygrad.engine.signature import ARRAY, FLOAT, Argument
from lazygrad.engine.step import Steady, Step
from lazygrad.engine.storage import Storage
from lazygrad.engine.tensor import Tensor
from lazygrad.engine.waiting import Call
from lazygrad.ops.opdef import Array
from lazygrad.ops.source import VERSION

Bases = dict[Any, int]  # for each random stream the first number of a call


class Pool:
    """Arrays of one shape and dtype; one is free when nobody but the pool refers to it."""

    __slots__ = ("arrays", "dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype
        self.arrays: list[Array] = []

    def copy(self, array: Array) -> Array:
        """The values of an array of this shape and dtype, in memory of our own."""
        mine = self.take()
        mine[...] = array
        return mine

    def take(self) -> Array:
        """A free array, or a new one (a pool remembers the last few)."""
        for array in self.arrays:
            if getrefcount(array) <= _FREE:
                return array
        array = np.empty(self.shape, self.dtype)
        self.arrays.append(array)
        del self.arrays[:-8]
        return array


def _baseline() -> int:
    """What getrefcount says of an array that only its pool holds; interpreters differ."""
    pool = Pool((1,), np.float32)
    pool.take()
    for array in pool.arrays:
        return getrefcount(array)
    return 0


_FREE = _baseline()


class Replay:
    """A captured function ready to run."""

    def __init__(self, captured: Captured, grad: bool = True) -> None:
        self.captured = captured
        self.body = captured.body
        self._pools: dict[int, Pool] = {}
        self._step: Step | None = None
        self._set_grads = [t for t, n in captured.grads if n is not None]
        self._clear_grads = [t for t, n in captured.grads if n is None]
        self._fresh = not any(i.kind == "grad" for i in captured.inputs)
        self._alone: Step | None = None
        self.chains: dict[Any, Any] = {}
        flows = grad and any(n.requires_grad for n in captured.body.inputs)
        # What writes state and has no backward pass has nothing to wait for.
        waits = flows and not captured.eager
        self.at_once = not waits and bool(captured.writes or captured.grads)
        self.simple = not (captured.writes or captured.grads or captured.eager) and not any(
            i.kind in ("grad", "tensor") for i in captured.inputs
        )
        differentiable = [
            (i, source.storage) for i, (source, n) in
            enumerate(zip(captured.inputs, captured.body.inputs, strict=True))
            if n.requires_grad and source.storage is not None
        ]  # fmt: skip
        self.leaf_inputs = tuple([i for i, _ in differentiable])
        self._leaf_storages = [s for _, s in differentiable]
        self.steady: Steady | None = None  # the next run has to bind its arguments only
        self.gradients: Gradients | None = None  # what a run at once leaves in `.grad`
        self.cleared: Gradients | None = None  # the leaves whose `.grad` it leaves empty
        # Of a pending call: the gradients, for the results from which a backward pass has begun.
        self.shared: dict[int, Any] = {}
        self.read = [i.storage for i in captured.inputs if i.storage is not None]

    def run(self, arguments: list[Argument]) -> list[Tensor]:
        """One call; returns the tensors that the function returned."""
        drawn = self.captured.drawn
        if not drawn:
            return self._run(arguments, drawn)
        states = [g.get_state() for g in drawn]
        bases = {g: g.take(n) for g, n in drawn.items()}
        try:
            return self._run(arguments, bases)
        except BaseException:
            for g, state in zip(drawn, states, strict=True):
                g.set_state(state)  # a failed call leaves the random state as it was
            raise

    def _run(self, arguments: list[Argument], bases: Bases) -> list[Tensor]:
        if self.at_once:
            return self._run_now(arguments, bases)
        results = self._append(arguments, bases)
        if self.captured.eager and results:
            realize_nodes([t._node for t in results if t._node is not None])
        return results

    def buffers(self) -> list[Array]:
        """The arrays that inputs are copied into."""
        return [pool.arrays[0] for _, pool in sorted(self._pools.items()) if pool.arrays]

    def pool(self, arg: Argument, index: int) -> Pool:
        """The buffers of an argument, which is an array or a float."""
        found = self._pools.get(index)
        if found is None:
            shape, dtype = ((), _F64) if arg.kind == FLOAT else (arg.value.shape, arg.value.dtype)
            found = self._pools[index] = Pool(shape, dtype)
        return found

    # at once ------------------------------------------------------------------------------

    def _make_step(self) -> Step:
        body, captured = self.body, self.captured
        nodes = [*body.inputs, *body.nodes]
        position = {n.id: i for i, n in enumerate(nodes)}
        feeds = {
            i: ("storage", source.storage) if source.storage is not None else (source.kind, source)
            for i, source in enumerate(captured.inputs)
        }
        split = captured.results + len(captured.writes)
        shown = body.outputs[: captured.results] + body.outputs[split : body.results]
        written = body.outputs[captured.results : split]
        step = Step(
            nodes, feeds, [position[n.id] for n in shown],
            [(position[n.id], s) for n, s in zip(written, captured.writes, strict=True)],
            captured.results,
        )  # fmt: skip
        body.program = step.program
        return step

    def _array(self, kind: str, what: Any, arguments: list[Argument], bases: Bases) -> Array:
        if kind == "arg":
            return self._argument(arguments[what.index], what.index)
        if kind == "random":
            return np.array([what.what._seed, bases[what.what] + what.index], np.uint64)
        if kind == "grad":
            return _grad_of(what, arguments)._array()
        return what.what._array()  # type: ignore[no-any-return]  # a closed-over tensor

    def _argument(self, arg: Argument, index: int) -> Array:
        value = arg.value
        if arg.kind == ARRAY:
            return self.pool(arg, index).copy(value)
        if arg.kind == FLOAT:
            buffer = self.pool(arg, index).take()
            buffer[...] = value
            return buffer
        array: Array = value._array()
        if self._step is not None and value._storage in self._step.write_set:
            return array.copy()
        return array

    def _run_now(self, arguments: list[Argument], bases: Bases) -> list[Tensor]:
        step = self._step
        if step is None:
            step = self._step = self._make_step()
        outputs = [np.empty(shape, dtype) for shape, dtype in step.results]
        gradients = self._share(step.held)
        if gradients is None or not self._fresh:  # an old gradient is an input: others go elsewhere
            grads = step.held.empty()
        else:
            grads = gradients.take()
        step.run(lambda kind, what: self._array(kind, what, arguments, bases), outputs + grads)
        if gradients is not None:
            gradients.hold(grads)
        else:
            for target, array in zip(self._set_grads, step.held.values(grads), strict=True):
                leaf = _leaf(target, arguments)
                if leaf is not None:
                    leaf._grad = value_tensor(array)
        self._clear(arguments)
        self.steady = step.steady(self.steady, gradients, True) if self._repeats() else None
        return [value_tensor(a) for a in outputs]

    def _repeats(self) -> bool:
        """Whether the next run does the same: only what arguments are may differ."""
        captured = self.captured
        targets = [target for target, _ in captured.grads]
        targets += [target for target, was_none in captured.grad_reads if was_none]
        return (
            self._fresh
            and all(was_none for _, was_none in captured.grad_reads)
            and not any(isinstance(target, int) for target in targets)
            and all(i.kind in ("storage", "arg", "random") for i in captured.inputs)
        )

    def _share(self, held: Held) -> Gradients | None:
        """What the leaves share; None where they are arguments, which change."""
        targets = self._set_grads
        if not targets or any(isinstance(target, int) for target in targets):
            return None
        self.gradients = Gradients.over(targets, held, self.gradients)
        return self.gradients

    def _clear(self, arguments: list[Argument]) -> None:
        """Drop the gradients that the function leaves empty."""
        targets = self._clear_grads
        if any(isinstance(target, int) for target in targets):
            for target in targets:
                _leaf(target, arguments)._grad = None
        elif targets:
            self.cleared = Gradients.over(targets, Held(), self.cleared)
            self.cleared.drop()

    # as a node ----------------------------------------------------------------------------

    def leaves(self) -> list[Storage]:
        """The storages whose owners a backward pass gives gradients to."""
        return self._leaf_storages

    def alone(self) -> Step:
        """The results as a step without gradients."""
        if self._alone is None:
            body = self.body
            nodes = [*body.inputs, *body.nodes]
            position = {n.id: i for i, n in enumerate(nodes)}
            places = itertools.count()
            feeds: dict[int, Any] = {
                i: ("storage", source.storage) if source.storage else ("feed", next(places))
                for i, source in enumerate(self.captured.inputs)
            }
            shown = body.outputs[: self.captured.results]
            self._alone = Step(nodes, feeds, [position[n.id] for n in shown], [])
            body.program = self._alone.program
        return self._alone

    def _call(self, graph: Graph, arguments: list[Argument], bases: Bases) -> Call | None:
        """A call that is no node yet, where nothing speaks against it."""
        if not self.simple:
            return None
        if WRITES and any(s.pending is not None for s in self.read):
            return None
        given: list[Any] = []
        for source in self.captured.inputs:
            if source.kind == "random":
                given.append((source.what._seed, bases[source.what] + source.index))
            elif source.kind == "arg":
                arg = arguments[source.index]
                if arg.kind in (ARRAY, FLOAT):
                    given.append(self._argument(arg, source.index))
                    continue
                storage = arg.value._storage
                if storage is None or arg.value.requires_grad or storage.pending is not None:
                    return None
                given.append(storage.ref)
        plain = all(type(what) is np.ndarray for what in given)
        return Call(self, given, plain, graph, STATE.grad and bool(self.leaf_inputs))

    def _append(self, arguments: list[Argument], bases: Bases) -> list[Tensor]:
        captured = self.captured
        tensors = [a.value for a in arguments if isinstance(a.value, Tensor)]
        graph = choose_graph(tensors)
        if len(graph) + graph.inlined > graph.flush_at and not STATE.busy:
            flush_old(graph)
        lazy = self._call(graph, arguments, bases)
        if lazy is not None:
            return lazy.results()
        if graph.calls and STATE.grad:
            graph.settle_calls()
        transient: list[Storage] = []
        nodes = [
            self._input_node(graph, i, n, arguments, bases, transient)
            for i, n in zip(captured.inputs, self.body.inputs, strict=True)
        ]  # fmt: skip
        requires = STATE.grad and any(n.requires_grad for n in nodes)
        call = append_call(graph, self.body, nodes, requires)
        ref = weakref.ref(call)
        for storage in transient:
            storage.call = ref
        results = [Tensor._of(project(call, i)) for i in range(captured.results)]
        at = captured.results
        for s in captured.writes:
            stage_write(s, project(call, at))
            at += 1
        for target, node in captured.grads:
            leaf = _leaf(target, arguments)
            if node is not None:
                if leaf is not None:
                    leaf._grad = Tensor._of(project(call, at))
                at += 1
            elif leaf is not None:
                leaf._grad = None
        return results

    def _input_node(
        self, graph: Graph, source: Input, inner: Node, arguments: list[Argument], bases: Bases,
        transient: list[Storage],
    ) -> Node:  # fmt: skip
        kind = source.kind
        if kind == "storage":
            storage = source.storage
            assert storage is not None
            return _storage_node(graph, storage, inner)
        if kind == "random":
            return key_node(graph, source.what._seed, bases[source.what] + source.index)
        if kind == "tensor":
            return source.what._node_in(graph)  # type: ignore[no-any-return]
        if kind == "grad":
            return _grad_of(source, arguments)._node_in(graph)
        arg = arguments[source.index]
        if arg.kind not in (ARRAY, FLOAT):
            return arg.value._node_in(graph)  # type: ignore[no-any-return]
        storage = Storage(self._argument(arg, source.index), inner.dtype)
        transient.append(storage)
        return graph.source(
            storage.ref, storage.shape, storage.dtype, storage.op, False, inner.weak
        )


def _storage_node(graph: Graph, storage: Storage, inner: Node) -> Node:
    pending = storage.pending
    if pending is not None:
        if pending.graph is graph:
            if not inner.requires_grad:
                return pending
            return graph.versioned(VERSION, pending, storage.leaf())
        flush_writes([storage])
    return storage_source(graph, storage, inner.requires_grad, inner.weak)


_F64 = np.dtype(np.float64)


def _leaf(target: Any, arguments: list[Argument]) -> Any:
    """The tensor whose `.grad` an effect sets: an argument, or one held weakly."""
    return arguments[target].value if isinstance(target, int) else target()


def _grad_of(source: Input, arguments: list[Argument]) -> Tensor:
    leaf = arguments[source.index].value if source.index >= 0 else source.what
    grad: Tensor = leaf._grad
    return grad
