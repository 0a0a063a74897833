"""`backward()` and `grad()`: from roots to the leaves that collect gradients."""

from __future__ import annotations

import functools
import operator
import weakref
from collections.abc import Iterable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from lazygrad.engine.autodiff import is_leaf, owner_of, pullback, reachable
from lazygrad.engine.body import one_like
from lazygrad.engine.graph import HOOKS, Node, cut
from lazygrad.engine.handles import HANDLES, Saved
from lazygrad.engine.modes import STATE, serialised
from lazygrad.engine.pending import is_bound, pending_set, value_of
from lazygrad.engine.realize import realize_nodes
from lazygrad.errors import GradientError, ShapeError
from lazygrad.ops.opdef import Kind
from lazygrad.ops.source import DETACH

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


def _seed(root: Tensor, gradient: Tensor | None) -> Tensor:
    if gradient is not None:
        gradient = gradient if hasattr(gradient, "_node") else type(root)(gradient)
        if gradient.shape != root.shape:
            raise ShapeError(
                f"backward: the gradient has shape {gradient.shape}, the tensor {root.shape}"
            )
        return gradient
    if prod(root.shape) != 1:
        raise GradientError(
            f"backward() on a tensor of shape {root.shape}: only one element needs no gradient;"
            " pass gradient=, or reduce it with .sum() or .mean()"
        )
    graph = _graph_of(root)
    return HOOKS.wrap(one_like(graph, root))


def _graph_of(t: Tensor) -> Any:
    return t.graph if STATE.capture is None else STATE.capture.graph


def _checked_roots(roots: Sequence[Tensor], what: str) -> None:
    for root in roots:
        if not root.requires_grad:
            raise GradientError(f"{what}: the tensor does not require grad: {_why_no_grad(root)}")


def _why_no_grad(root: Tensor) -> str:
    """Where the way back to a tensor that requires grad is cut, if there is one."""
    todo = [] if root._node is None else [root._node]
    seen = set(todo)
    while todo:
        node = todo.pop()
        if any(source.requires_grad for source in node.inputs):
            return (
                f"`{node.op.name}` ({node.shape}) made at {node.where} passes no gradient on: it"
                " has none, or it was made under no_grad()"
            )
        new = [source for source in node.inputs if source not in seen]
        seen.update(new)
        todo += new
    return "nothing it was made from does (requires_grad=True), or it was made under no_grad()"


def _seeds(
    roots: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> list[tuple[Node, Tensor]]:
    return [(r._node_in(_graph_of(r)), _seed(r, g)) for r, g in zip(roots, gradients, strict=True)]


@serialised
def run_backward(
    roots: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    retain_graph: bool | None,
    create_graph: bool,
    assign: bool = False,
) -> None:
    """Accumulate (or assign) the gradients of the roots into the leaves they depend on."""
    _checked_roots(roots, "backward()")
    seeds = _seeds(roots, gradients)
    order = reachable(n for n, _ in seeds)
    wanted = [n for n in order if is_leaf(n)]
    kept = {n.id: t for n in order if (t := _retaining(n)) is not None}
    found = pullback(seeds, [*wanted, *(n for n in order if n.id in kept)], create_graph)
    _check_released(order, found.values())
    used: set[int] = {id(g) for g in gradients if g is not None}
    leaves = _by_leaf(wanted)
    if not assign and STATE.capture is None and not STATE.trace:
        pending = [g._node for leaf, _ in leaves.values() if (g := leaf._grad) is not None]
        realize_nodes([n for n in pending if n is not None])
    for leaf, nodes in leaves.values():
        g = _total([found[n.id] for n in nodes if n.id in found])
        if g is not None:
            _collect(leaf, _own(g, used), create_graph, assign)
    for node_id, tensor in kept.items():
        if node_id in found:
            _collect(tensor, _own(found[node_id], used), create_graph, assign)
    _group([leaf._grad for leaf, _ in leaves.values()] + [t._grad for t in kept.values()])
    if not (create_graph if retain_graph is None else retain_graph):
        release(order)


def _group(grads: Sequence[Tensor | None]) -> None:
    """Let the gradients of one backward pass be computed together when one of them is read."""
    alive = [g for g in grads if g is not None]
    if len(alive) > 1:
        group = [weakref.ref(g) for g in alive]
        for g in alive:
            g._group = group


def _by_leaf(nodes: Iterable[Node]) -> dict[int, tuple[Any, list[Node]]]:
    """The nodes of each leaf, by its id: there are several when it was written in between."""
    found: dict[int, tuple[Any, list[Node]]] = {}
    for node in nodes:
        leaf = owner_of(node) if is_leaf(node) else None
        if leaf is not None:
            found.setdefault(id(leaf), (leaf, []))[1].append(node)
    return found


def _total(parts: Sequence[Tensor]) -> Tensor | None:
    """The sum of the gradients of several versions."""
    return functools.reduce(operator.add, parts) if parts else None


def _check_released(order: Iterable[Node], grads: Iterable[Tensor]) -> None:
    """Raise `GraphReleasedError` if a second pass would read versions that are gone.

    No gradient has been assigned yet when it does.
    """
    if any(n.id in n.graph.saved for n in order):
        for node in pending_set([g._node for g in grads if g._node is not None]):
            if is_bound(node):
                value_of(node)


def _retaining(node: Node) -> Any:
    ref = HANDLES.get(node.id)
    tensor = ref() if ref is not None else None
    return tensor if tensor is not None and tensor._retains else None


def _own(g: Tensor, used: set[int]) -> Tensor:
    """A handle that no other leaf shares: `a + b` has one cotangent for both."""
    if g._node is not None:
        g = type(g)._of(g._node)
    if id(g) in used or g._node is None or g._node.op.kind is Kind.SOURCE:
        before = STATE.grad
        STATE.grad = before and g.requires_grad
        try:
            g = g.apply(DETACH) if not g.requires_grad else g * 1
        finally:
            STATE.grad = before
    used.add(id(g))
    return g


def _collect(leaf: Tensor, g: Tensor, create_graph: bool, assign: bool) -> None:
    old = leaf.grad
    if assign or old is None:
        leaf.grad = g
        return
    before = STATE.grad
    STATE.grad = create_graph
    try:
        leaf.grad = old + g
    finally:
        STATE.grad = before
    if old._node is not None and old.is_realized and not old.requires_grad:
        cut(old._node)  # the passes before are over: let their nodes die


def release(order: Iterable[Node]) -> None:
    """Values saved for this backward pass may go once the pending gradients have read them."""
    for node in order:
        if is_leaf(node):
            continue
        saved = node.graph.saved
        if node.id in saved or node.id in HANDLES or node.op.kind is Kind.CALL:
            saved[node.id] = Saved([], [])


@serialised
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of the outputs with respect to the inputs; `.grad` is not touched.

    `create_graph=True` makes them differentiable again. An input that the outputs do not depend
    on raises `GradientError` unless `allow_unused`, then its gradient is None.

    >>> import lazygrad as lg
    >>> x = lg.tensor(3.0, requires_grad=True)
    >>> (dy,) = lg.grad(x ** 3, x, create_graph=True)
    >>> lg.grad(dy, x)[0].item()
    18.0
    """
    roots: list[Any] = [outputs] if hasattr(outputs, "_node") else list(outputs)
    leaves: list[Any] = [inputs] if hasattr(inputs, "_node") else list(inputs)
    if grad_outputs is None:
        gradients: list[Any] = [None] * len(roots)
    else:
        gradients = [grad_outputs] if hasattr(grad_outputs, "_node") else list(grad_outputs)
    _checked_roots(roots, "grad()")
    for leaf in leaves:
        if not leaf.requires_grad:
            raise GradientError("grad(): one of the inputs does not require grad")
    seeds = _seeds(roots, gradients)
    order = reachable(n for n, _ in seeds)
    versions = _by_leaf(order)
    graph = seeds[0][0].graph
    wanted = [
        versions[id(leaf)][1] if id(leaf) in versions else [leaf._node_in(graph)]
        for leaf in leaves
    ]  # fmt: skip
    found = pullback(seeds, [n for nodes in wanted for n in nodes], create_graph)
    _check_released(order, found.values())
    results: list[Any] = []
    for nodes in wanted:
        g = _total([found[n.id] for n in nodes if n.id in found])
        if g is None and not allow_unused:
            raise GradientError(
                "grad(): one of the inputs is not used by the outputs; pass allow_unused=True to"
                " get None for it"
            )
        results.append(g if g is None or g._node is None else type(g)._of(g._node))
    if not (create_graph if retain_graph is None else retain_graph):
        release(order)
    return tuple(results)
