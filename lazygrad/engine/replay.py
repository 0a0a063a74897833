"""Running a captured function again.

A function that took an optimizer step runs its program at once: bind arrays, run, move versions on.
Any other appends one `call` node, so that what follows (`backward()`, `step()`) can join it in one
program.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

import numpy as np

from lazygrad.engine.anomaly import inspect
from lazygrad.engine.apply import choose_graph
from lazygrad.engine.body import append_call, project
from lazygrad.engine.capture import Captured, Input
from lazygrad.engine.freeze import freeze
from lazygrad.engine.graph import PENDING, Graph, Node, storage_source
from lazygrad.engine.modes import STATE
from lazygrad.engine.program import Program, program_for, settings_key
from lazygrad.engine.random import key_node
from lazygrad.engine.realize import flush_writes, pinned_by_pending, realize_nodes, stage_write
from lazygrad.engine.signature import ARRAY, FLOAT, Argument
from lazygrad.engine.storage import Ref, Storage
from lazygrad.engine.tensor import Tensor
from lazygrad.ops.opdef import Array, Kind
from lazygrad.ops.source import LITERAL, VERSION

FREE = 3  # references to an array that only its pool holds, as sys.getrefcount sees it in a loop


class Replay:
    """A captured function ready to run."""

    def __init__(self, captured: Captured) -> None:
        self.captured = captured
        self.body = captured.body
        self._pools: dict[int, list[Array]] = {}
        self._program: Program | None = None
        self._settings: Any = None
        self._bound: list[Any] = []
        self._arguments = [i.index for i in captured.inputs if i.kind == "arg"]
        self._storages = {s for i in captured.inputs if (s := i.storage) is not None}
        self._storages.update(captured.writes)
        self._write_set = set(captured.writes)
        self._set_grads = [(t, n) for t, n in captured.grads if n is not None]
        self._fresh = not any(i.kind == "grad" for i in captured.inputs)
        self._last_grads: list[Tensor | None] = [None] * len(self._set_grads)
        self._specs = [
            (n.shape, n.dtype.dtype) for n in self.body.outputs[: captured.results]
        ]  # fmt: skip

    def run(self, arguments: list[Argument]) -> list[Tensor]:
        """One call; returns the tensors that the function returned."""
        generator = self.captured.generator
        if generator is None:
            return self._run(arguments, 0)
        state = generator.get_state()
        base = generator.take(self.captured.drawn)
        try:
            return self._run(arguments, base)
        except BaseException:
            generator.set_state(state)  # a failed call leaves the random state as it was
            raise

    def _run(self, arguments: list[Argument], base: int) -> list[Tensor]:
        if self.captured.eager and (self.captured.writes or self.captured.grads):
            return self._run_now(arguments, base)
        results = self._append(arguments, base)
        if self.captured.eager and results:
            realize_nodes([t._node for t in results if t._node is not None])
        return results

    def buffers(self) -> list[Array]:
        """The arrays that inputs are copied into."""
        return [pool[0] for _, pool in sorted(self._pools.items()) if pool]

    def _buffer(self, index: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """A buffer for an input that nothing else reads any more."""
        pool = self._pools.setdefault(index, [])
        for array in pool:
            if sys.getrefcount(array) <= FREE and array.shape == shape and array.dtype == dtype:
                return array
        array = np.empty(shape, dtype)
        pool.append(array)
        del pool[:-8]
        return array

    # at once ------------------------------------------------------------------------------

    def _compile(self) -> Program:
        body = self.body
        inputs = {n.id for n in body.inputs}
        nodes = [*body.inputs, *body.nodes]
        position = {n.id: i for i, n in enumerate(nodes)}
        captured = self.captured
        count = captured.results + len(captured.writes)
        shown = body.outputs[: captured.results] + body.outputs[count : body.results]
        sources = {i.storage: k for k, i in enumerate(captured.inputs) if i.storage is not None}
        writes = [
            (position[n.id], sources.get(s, -1), s)
            for n, s in zip(body.outputs[captured.results : count], captured.writes, strict=True)
        ]  # fmt: skip

        def is_bound(node: Node) -> bool:
            return node.id in inputs or (node.op.kind is Kind.SOURCE and node.op is not LITERAL)

        outputs = [position[n.id] for n in shown]
        frozen, bound = freeze(nodes, outputs, (), (), writes, is_bound)
        self._bound = [self._recipe(spec, nodes) for spec in bound]
        self._program = body.program = program_for(frozen)
        self._settings = settings_key()
        return self._program

    def _recipe(self, spec: Any, nodes: list[Node]) -> tuple[str, Any]:
        kind, what = spec
        if kind == "storage":
            return "storage", self.captured.writes[what]
        if what < len(self.body.inputs):
            source = self.captured.inputs[what]
            return source.kind, source.storage if source.kind == "storage" else source
        node = nodes[what]
        return "const", np.asarray(node.payload).astype(node.dtype.dtype)

    def _array(self, kind: str, what: Any, arguments: list[Argument], base: int) -> Array:
        if kind == "arg":
            return self._argument(arguments[what.index], what.index)
        if kind == "random":
            return np.array([what.what._seed, base + what.index], np.uint64)
        if kind == "grad":
            return _grad_of(what, arguments)._array()
        return what.what._array()  # type: ignore[no-any-return]  # a closed-over tensor

    def _argument(self, arg: Argument, index: int) -> Array:
        value = arg.value
        if arg.kind == ARRAY:
            buffer = self._buffer(index, value.shape, value.dtype)
            np.copyto(buffer, value)
            return buffer
        if arg.kind == FLOAT:
            buffer = self._buffer(index, (), np.float64)
            buffer[...] = value
            return buffer
        array = value._array()
        if value._storage in self._write_set:
            return array.copy()
        return array  # type: ignore[no-any-return]

    def _run_now(self, arguments: list[Argument], base: int) -> list[Tensor]:
        program = self._program
        if program is None or settings_key() != self._settings:
            program = self._compile()
        for s in self._storages:
            if s.pending is not None:
                flush_writes([s for s in self._storages])
                break
        arrays = [
            what.array if kind == "storage"
            else what if kind == "const"
            else self._array(kind, what, arguments, base)
            for kind, what in self._bound
        ]  # fmt: skip
        outputs = [np.empty(shape, dtype) for shape, dtype in self._specs]
        grads = [self._grad_array(k, arguments) for k in range(len(self._set_grads))]
        writes = self.captured.writes
        if PENDING:
            targets = [s.target(pinned_by_pending) for s in writes]
        else:
            targets = [
                s.array if s.exported is None and s.ref.pins == 0 and s.ref.shown is None
                else s.target(_free)
                for s in writes
            ]  # fmt: skip
        if STATE.anomaly:
            inspect(program.frozen, arrays)
        program.run(arrays, outputs + [a for a, _ in grads], targets)
        for s, array in zip(writes, targets, strict=True):
            if array is s.array and sys.getrefcount(s.ref) == 2:
                continue  # nothing refers to the old version: the same reference serves
            s.advance(array)
        self._apply_grads(grads, arguments)
        return [Tensor._leaf(Storage(a)) for a in outputs]

    def _grad_array(self, k: int, arguments: list[Argument]) -> tuple[Array, Tensor | None]:
        """The array for a gradient: the one of the last call when nobody else looks at it."""
        old = self._last_grads[k]
        if old is not None and self._fresh:
            storage = old._storage
            if (
                storage is not None
                and sys.getrefcount(old) <= 4
                and storage.array is not None
                and storage.pending is None
                and (storage.exported is None or storage.exported() is None)
                and storage.ref.pins == 0
                and sys.getrefcount(storage.ref) == 2
                and sys.getrefcount(storage) <= 3
            ):
                return storage.array, old
        node = self._set_grads[k][1]
        return np.empty(node.shape, node.dtype.dtype), None

    def _apply_grads(
        self, grads: list[tuple[Array, Tensor | None]], arguments: list[Argument]
    ) -> None:
        for k, ((target, _), (array, held)) in enumerate(zip(self._set_grads, grads, strict=True)):
            leaf = _leaf(target, arguments)
            if leaf is None:
                continue
            if held is None or leaf._grad is not held:
                held = self._last_grads[k] = Tensor._leaf(Storage(array))
                leaf._grad = held
        for target, node in self.captured.grads:
            if node is None and (leaf := _leaf(target, arguments)) is not None:
                leaf._grad = None

    # as a node ----------------------------------------------------------------------------

    def _append(self, arguments: list[Argument], base: int) -> list[Tensor]:
        captured = self.captured
        tensors = [a.value for a in arguments if isinstance(a.value, Tensor)]
        graph = choose_graph(tensors)
        transient: list[Storage] = []
        nodes = [
            self._input_node(graph, i, n, arguments, base, transient)
            for i, n in zip(captured.inputs, self.body.inputs, strict=True)
        ]  # fmt: skip
        requires = STATE.grad and any([n.requires_grad for n in nodes])
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
        self, graph: Graph, source: Input, inner: Node, arguments: list[Argument], base: int,
        transient: list[Storage],
    ) -> Node:  # fmt: skip
        kind = source.kind
        if kind == "storage":
            storage = source.storage
            assert storage is not None
            return _storage_node(graph, storage, inner)
        if kind == "random":
            return key_node(graph, source.what._seed, base + source.index)
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
                return pending  # type: ignore[no-any-return]
            owner = storage.owner() if storage.owner is not None else None
            return graph.versioned(VERSION, pending, owner)
        flush_writes([storage])
    return storage_source(graph, storage, inner.requires_grad, inner.weak)


def _free(ref: Ref) -> bool:
    return False


def _leaf(target: Any, arguments: list[Argument]) -> Any:
    """The tensor whose `.grad` an effect sets: an argument, or one held weakly."""
    return arguments[target].value if isinstance(target, int) else target()


def _grad_of(source: Input, arguments: list[Argument]) -> Tensor:
    leaf = arguments[source.index].value if source.index >= 0 else source.what
    grad: Tensor = leaf._grad
    return grad

