"""`checkpoint`: inner values of a function are computed again for its gradient, not kept.

The function is traced as ordinary nodes, with a `Tie` behind them. A backward pass that comes to
the tie copies these nodes and walks over the copies. A copy reads its inputs through `after`: the
same values, for readers that wait for the gradient that arrives. So a copy is never merged with its
original, no kernel holds both, and none of it can be scheduled before it is needed; what only the
copies read is dead between the forward and the backward.

(Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lazygrad.config import config
from lazygrad.engine.apply import choose_graph
from lazygrad.engine.autodiff import is_leaf
from lazygrad.engine.body import between, copied
from lazygrad.engine.graph import Graph, Node, newest_id
from lazygrad.engine.handles import HANDLES
from lazygrad.engine.modes import STATE
from lazygrad.engine.pytree import flatten, unflatten
from lazygrad.engine.tensor import Tensor
from lazygrad.engine.tie import Copy, Tie, tie
from lazygrad.errors import ArgumentError, GradientError
from lazygrad.ops.opdef import Kind
from lazygrad.ops.source import AFTER, CONST, LITERAL


def checkpoint(
    function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None,
    preserve_rng_state: bool = True, **kwargs: Any,
) -> Any:  # fmt: skip
    """`function(*args, **kwargs)`, whose inner values are computed again in the backward pass.

    A result and its gradients have the bits that they have without it: random numbers (dropout) are
    the same ones again, running statistics are written once. What the function reads may come from
    anywhere: arguments, parameters of modules, closures. It may return any nesting of tensors;
    checkpoints may be nested. Tensors made inside have no gradient of their own: a hook on one
    raises `GradientError` in the backward pass.

    Memory is saved where several of them follow one another, as around the blocks of a deep
    network: one block at a time has its inner values. `use_reentrant` and `preserve_rng_state` are
    PyTorch's and change nothing.

    >>> import lazygrad as lg
    >>> x = lg.tensor([1.0, 2.0], requires_grad=True)
    >>> lg.checkpoint(lambda x: (x * x).exp(), x).sum().backward()
    >>> x.grad
    tensor([5.4366, 218.3926])
    """
    if not callable(function):
        raise ArgumentError(f"checkpoint takes a function, got {type(function).__name__}")
    leaves = [t for t in flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    if not STATE.grad:
        return function(*args, **kwargs)
    start = newest_id()
    returned = function(*args, **kwargs)
    results, tree = flatten(returned)
    graph = choose_graph([*leaves, *(t for t in results if isinstance(t, Tensor))])
    nodes = [t._node_in(graph) if isinstance(t, Tensor) else None for t in results]
    values = list({n.id: n for n in nodes if n is not None and n.requires_grad}.values())
    reads = _boundary(values, start)
    if not any(n.requires_grad for n in reads):
        return returned
    rule = _Again(("checkpoint", len(values)), values, reads)
    tied = dict(zip([n.id for n in values], tie(graph, rule, values, reads), strict=True))
    outs = [
        t if n is None or n.id not in tied else Tensor._of(tied[n.id])
        for t, n in zip(results, nodes, strict=True)
    ]
    if config.eager and STATE.capture is None and not STATE.trace:
        for t in outs:
            if isinstance(t, Tensor):
                t.realize()
    return unflatten(tree, outs)


def _boundary(values: Sequence[Node], start: int) -> list[Node]:
    """What was there before the function ran, or comes from outside, that the values depend on."""
    found: dict[int, Node] = {}
    seen: set[int] = set()
    stack = list(values)
    while stack:
        node = stack.pop()
        if node.id in seen:
            continue
        seen.add(node.id)
        if node.op is CONST or node.op is LITERAL:
            continue
        if node.id < start or is_leaf(node):
            found[node.id] = node
        else:
            stack.extend(node.inputs)
    return [found[i] for i in sorted(found)]


class _Again(Tie):
    """The tie of a checkpoint: a backward pass walks over a copy of what made the values."""

    def copy(self, call: Node, cotangents: dict[int, Tensor]) -> Copy:
        """Copy the nodes between the call's reads and its values."""
        graph = call.graph
        values, reads = call.inputs[: self.results], call.inputs[self.results :]
        moment = max((g._node_in(graph) for g in cotangents.values()), key=lambda n: n.id)
        env = {n.id: graph.append(AFTER, (n, moment), requires_grad=n.requires_grad) for n in reads}
        instead = {env[n.id]: n for n in reads}
        for node in between(reads, values):
            _check_hooks(node)
            env[node.id] = _again(graph, node, env)
        seeds = [(env[values[i].id], cotangents[i]) for i in sorted(cotangents)]
        return seeds, instead


def _check_hooks(node: Node) -> None:
    """Raise where somebody waits for the gradient of a value that is not differentiated itself."""
    ref = HANDLES.get(node.id)
    tensor = ref() if ref is not None else None
    if tensor is not None and (tensor._hooks or tensor._retains):
        raise GradientError(
            f"a tensor of shape {node.shape} made at {node.where} inside of checkpoint() has a hook"
            " or retain_grad(), but the gradient goes to a copy of it; hook an argument or a result"
        )


def _again(graph: Graph, node: Node, env: dict[int, Node]) -> Node:
    """The copy of a node; what comes from outside is itself, a check is not made twice."""
    if node.op.kind is Kind.SOURCE:
        return node
    inputs = [env[n.id] for n in node.inputs]
    return inputs[0] if node.op.kind is Kind.EFFECT else copied(graph, node, inputs)
