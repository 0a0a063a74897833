"""`custom_vjp`: functions of users with a gradient of their own.

The forward and the backward are traced like everything else: what they compute are ordinary nodes,
so they are captured, fused, planned and differentiated again. A `Tie` behind the forward sends the
gradient of its results to the backward, in place of the gradients of the nodes.

(After `jax.custom_vjp`; PyTorch's `autograd.Function` says the same with two static methods.)
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lazygrad.config import config
from lazygrad.engine.apply import choose_graph
from lazygrad.engine.autodiff import is_leaf
from lazygrad.engine.frozen import exact
from lazygrad.engine.graph import HOOKS, Graph, Node, newest_id
from lazygrad.engine.handles import HANDLES, register_handle
from lazygrad.engine.modes import STATE
from lazygrad.engine.pytree import Tree, flatten, unflatten
from lazygrad.engine.tensor import Tensor
from lazygrad.engine.tie import Place, Tie, output, tie
from lazygrad.errors import ArgumentError, DTypeError, GradientError, ShapeError
from lazygrad.ops.movement import EXPAND
from lazygrad.ops.opdef import Kind
from lazygrad.ops.source import CONST, LITERAL

Forward = Callable[..., tuple[Any, Any]]
Backward = Callable[..., Any]


class custom_vjp:
    """A function whose gradient is what `defvjp` says, and not what follows from its operations.

    `fwd(*args)` returns the result and *residuals*, whatever the gradient reads: tensors, and
    hashable Python values, in any nesting. `bwd(residuals, g)` gets them with the cotangent of the
    result (of its form) and returns a tuple with one gradient for each argument: a tensor of the
    argument's shape and dtype (of its form, where it is a container), or None for no gradient.
    Positions in `nondiff_argnums` have no gradient: `bwd` gets them as its first arguments, so they
    have to be hashable.

    Both directions are traced: a `bwd` may run whenever a gradient is planned, must not read
    values, and reads no tensors but its residuals and cotangents. A parameter that needs a gradient
    has to be an argument; other tensors may be read from a closure by `fwd`. A residual that is a
    result is differentiated again by `bwd`, any other one by what `fwd` made it with.

    Within `autocast` a gradient is cast to the dtype of its argument.

    Raises `GradientError`, `ShapeError` or `DTypeError` naming the function where `fwd` or `bwd`
    return what they must not.

    >>> import lazygrad as lg
    >>> @lg.custom_vjp
    ... def log1pexp(x):
    ...     return (1 + x.exp()).log()
    >>> def forward(x):
    ...     return log1pexp(x), x
    >>> def backward(x, g):
    ...     return (g * (1 - 1 / (1 + x.exp())),)
    >>> log1pexp.defvjp(forward, backward)
    >>> x = lg.tensor(100.0, requires_grad=True)
    >>> log1pexp(x).backward()
    >>> x.grad
    tensor(1.)
    """

    def __init__(self, fn: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        if not callable(fn):
            raise ArgumentError(f"custom_vjp takes a function, got {type(fn).__name__}")
        functools.update_wrapper(self, fn)
        self.name = getattr(fn, "__name__", type(fn).__name__)
        self.fn = fn
        self.static = tuple(nondiff_argnums)
        self.fwd: Forward | None = None
        self.bwd: Backward | None = None
        self._inside = _Inside()
        self._signature = inspect.signature(fn)
        count = len(self._signature.parameters)
        if any(not -count <= i < count for i in self.static):
            raise ArgumentError(f"{self.name}: nondiff_argnums {self.static} of {count} arguments")
        self.static = tuple(sorted({i % count for i in self.static}))

    def defvjp(self, fwd: Forward, bwd: Backward) -> None:
        """Set the forward that keeps residuals, and the backward that reads them."""
        for given in (fwd, bwd):
            if not callable(given):
                raise ArgumentError(f"{self.name}.defvjp takes functions, got {given!r}")
        self.fwd, self.bwd = fwd, bwd

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result; `fwd` runs in place of the function where a gradient may be asked for."""
        if self.fwd is None or self.bwd is None:
            raise GradientError(
                f"{self.name} has no gradient yet: call {self.name}.defvjp(fwd, bwd)"
            )
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = _Given(self, (*bound.args, *bound.kwargs.values()))
        if not STATE.grad or not given.wanted or self._inside.forward:
            return self.fn(*args, **kwargs)
        self._inside.forward = True
        try:
            return given.apply(self.fwd)
        finally:
            self._inside.forward = False


class _Inside(threading.local):
    """Whether this thread is in the forward of a function, which may call that function."""

    forward: bool = False


class _Given:
    """The arguments of one call: which of their leaves are differentiable."""

    def __init__(self, function: custom_vjp, args: tuple[Any, ...]) -> None:
        self.function = function
        self.name = function.name
        self.args = args
        self.diff = [i for i in range(len(args)) if i not in function.static]
        self.trees: list[Tree] = []  # of each differentiable argument
        self.tensors: list[tuple[int, int, Tensor]] = []  # argument, leaf, tensor
        for i in self.diff:
            leaves, tree = flatten(args[i])
            self.trees.append(tree)
            self.tensors += [(i, k, t) for k, t in enumerate(leaves) if isinstance(t, Tensor)]
        self.wanted = any(t.requires_grad for _, _, t in self.tensors)

    def apply(self, fwd: Forward) -> Any:
        """Trace the forward and tie its results to the backward."""
        graph = choose_graph([t for _, _, t in self.tensors])
        graph.settle_calls()
        reads = [t._node_in(graph) for _, _, t in self.tensors]
        start = newest_id()
        returned = fwd(*self.args)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise GradientError(
                f"{self.name}: fwd must return (result, residuals), got {type(returned).__name__}"
            )
        results, tree = flatten(returned[0])
        for t in results:
            if not isinstance(t, Tensor):
                raise GradientError(
                    f"{self.name}: fwd must return tensors, its result has a {type(t).__name__}"
                )
        values = [t._node_in(graph) for t in results]
        self._check_closure(values, reads, start)
        kept = _Kept(self, graph, returned[1], values)
        statics = [self._key(self.args[i]) for i in self.function.static]
        what = (*statics, STATE.autocast, *self.trees, tree, kept.key(self), len(reads))
        uid = (self.function, what)
        rule = _Rule(uid, self, tree, kept, values, reads)
        outs = [Tensor._of(n) for n in tie(graph, rule, values, [*kept.nodes, *reads])]
        if config.eager and STATE.capture is None and not STATE.trace:
            outs = [t.realize() for t in outs]
        return unflatten(tree, outs)

    def _key(self, value: Any) -> Any:
        """A Python value that the backward reads, as part of the structure."""
        try:
            hash(value)
        except TypeError:
            raise GradientError(
                f"{self.name}: bwd reads a {type(value).__name__}, which is no tensor and cannot"
                " be hashed; make it a tensor or a tuple"
            ) from None
        return type(value), exact(value)

    def _check_closure(self, values: list[Node], reads: list[Node], start: int) -> None:
        """Raise if a gradient would be lost: a result reads it, and it is no argument."""
        seen = {n.id for n in reads}
        stack = list(values)
        while stack:
            node = stack.pop()
            if node.id in seen or not node.requires_grad:
                continue
            seen.add(node.id)
            if node.id < start or is_leaf(node):
                label = f" {node.label!r}" if node.label else ""
                raise GradientError(
                    f"{self.name}: fwd reads a tensor{label} of shape {node.shape} that requires"
                    " grad and is no argument, so its gradient would be lost; pass it as an"
                    " argument, or read tensor.detach()"
                )
            stack.extend(node.inputs)


class _Kept:
    """What a forward keeps for its backward: tensors as nodes or results, other values as such."""

    def __init__(self, given: _Given, graph: Graph, residuals: Any, values: list[Node]) -> None:
        leaves, self.tree = flatten(residuals)
        at = {n.id: i for i, n in reversed([*enumerate(values)])}
        self.nodes: list[Node] = []
        self.leaves: list[tuple[str, Any]] = []  # ("result" or "node", position) or ("value", it)
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                self.leaves.append(("value", leaf))
                continue
            node = leaf._node_in(graph)
            if node.id in at:
                self.leaves.append(("result", at[node.id]))
            else:
                self.leaves.append(("node", len(values) + len(self.nodes)))
                self.nodes.append(node)

    def key(self, given: _Given) -> Any:
        """What of it is structure."""
        held = [(k, given._key(v) if k == "value" else v) for k, v in self.leaves]
        return self.tree, tuple(held)


class _Rule(Tie):
    """The tie of one call: its pullback is the user's `bwd`."""

    def __init__(
        self, uid: Any, given: _Given, tree: Tree, kept: _Kept, values: list[Node],
        reads: list[Node],
    ) -> None:  # fmt: skip
        super().__init__(uid, values, [*kept.nodes, *reads])
        self.name = given.name
        words = self.name.strip("_").split("_")
        self.grad_name = "".join(w[:1].upper() + w[1:] for w in words) + "Backward"
        self.bwd = given.function.bwd
        self.static = tuple([given.args[i] for i in given.function.static])
        self.trees = given.trees
        self.names = [f"argument {i}" for i in given.diff]
        self.tree = tree
        self.autocast = STATE.autocast is not None  # it chose dtypes that bwd knows nothing of
        self.kept_tree, self.kept = kept.tree, kept.leaves
        first = len(values) + len(kept.nodes)
        # where the gradient of a leaf of an argument goes: (argument, leaf) -> input of the call
        self.places = {
            (given.diff.index(i), k): first + at for at, (i, k, _) in enumerate(given.tensors)
        }

    def pull(
        self, call: Node, cotangents: dict[int, Tensor], needed: set[int],
        gathered: dict[int, Tensor],
    ) -> dict[int, Tensor]:  # fmt: skip
        """Trace `bwd`; the gradients of the arguments."""
        graph = call.graph
        given = [self._cotangent(graph, i, cotangents.get(i)) for i in range(self.results)]
        residuals = [self._residual(call, kind, what) for kind, what in self.kept]
        known = [t._node_in(graph) for t in (*given, *residuals) if isinstance(t, Tensor)]
        start = newest_id()
        with _traced(graph, self.name):
            assert self.bwd is not None
            returned = self.bwd(
                *self.static, unflatten(self.kept_tree, residuals), unflatten(self.tree, given)
            )
            found = self._gradients(returned)
            self._check_reads([t._node_in(graph) for t in found.values()], known, start)
        return {
            i: gathered[i] + _waited_for(found[i]) if i in gathered else _waited_for(found[i])
            for i in sorted(found) if i in needed
        }  # fmt: skip

    def _cotangent(self, graph: Graph, index: int, g: Tensor | None) -> Tensor | None:
        place = self.outputs[index]
        if g is not None or not place.requires_grad:
            return g
        zero = graph.constant(0.0, place.dtype)
        if place.shape:
            zero = graph.append(EXPAND, (zero,), {"shape": place.shape})
        zeros: Tensor = HOOKS.wrap(zero)
        return zeros

    def _residual(self, call: Node, kind: str, what: Any) -> Any:
        if kind == "value":
            return what
        return HOOKS.wrap(output(call, what) if kind == "result" else call.inputs[what])

    def _gradients(self, returned: Any) -> dict[int, Tensor]:
        """The gradients that came back, by input of the call."""
        count = len(self.trees)
        if isinstance(returned, Tensor) and count == 1:
            returned = (returned,)
        if not isinstance(returned, tuple | list) or len(returned) != count:
            many = len(returned) if isinstance(returned, tuple | list) else type(returned).__name__
            raise GradientError(
                f"{self.name}: bwd must return a tuple with one gradient (or None) for each of its"
                f" {count} arguments, got {many}"
            )
        found: dict[int, Tensor] = {}
        for i, (gradient, tree) in enumerate(zip(returned, self.trees, strict=True)):
            if gradient is None:
                continue
            leaves, form = flatten(gradient)
            if form != tree:
                raise GradientError(
                    f"{self.name}: the gradient that bwd returns for {self.names[i]} has another"
                    " form (nesting, types, keys) than the argument"
                )
            for k, g in enumerate(leaves):
                at = self.places.get((i, k))
                if g is not None and at is not None and self.inputs[at].requires_grad:
                    found[at] = self._checked(g, self.inputs[at], self.names[i])
        return found

    def _checked(self, g: Any, place: Place, name: str) -> Tensor:
        if not isinstance(g, Tensor):
            raise GradientError(
                f"{self.name}: bwd must return tensors, it gave a {type(g).__name__} for {name}"
            )
        if g.shape != place.shape:
            raise ShapeError(
                f"{self.name}: the gradient that bwd returns for {name} has shape {g.shape}, the"
                f" argument {place.shape}"
            )
        dtype = g.dtype
        if self.autocast and dtype.is_floating_point:
            return g.cast(place.dtype)
        if dtype is not place.dtype:
            raise DTypeError(
                f"{self.name}: the gradient that bwd returns for {name} is {dtype}, the argument"
                f" {place.dtype}"
            )
        return g

    def _check_reads(self, found: list[Node], known: list[Node], start: int) -> None:
        """Raise if the gradients read anything but residuals and cotangents.

        A backward pass that is traced once would go on with the values of its first time.
        """
        seen = {n.id for n in known}
        stack = list(found)
        while stack:
            node = stack.pop()
            if node.id in seen or node.op is CONST or node.op is LITERAL:
                continue
            seen.add(node.id)
            if node.id < start or node.op.kind is Kind.SOURCE:
                raise GradientError(
                    f"{self.name}: bwd reads a tensor of shape {node.shape} ({node.op.name}) that"
                    " is neither a residual nor a cotangent; return it from fwd among the residuals"
                )
            stack.extend(node.inputs)


def _waited_for(g: Tensor) -> Tensor:
    """A tensor of a trace that is over: what it reads has to stay until it is computed."""
    node = g._node
    if node is not None and node.id in HANDLES and HANDLES[node.id]() is g:
        register_handle(node, g)
    return g


@contextmanager
def _traced(graph: Graph, name: str) -> Iterator[None]:
    """Values cannot be read inside; errors say whose backward it was."""
    before = STATE.graph, STATE.trace
    STATE.graph, STATE.trace = graph, True
    try:
        yield
    except Exception as error:
        error.add_note(f"in the bwd of {name}")
        raise
    finally:
        STATE.graph, STATE.trace = before
