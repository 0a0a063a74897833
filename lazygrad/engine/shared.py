"""Products that share a weight: its gradient is one product, not a sum of as many.

A network that is unrolled in time multiplies by the same weight at each step. The gradient of that
weight is a sum over the steps of products of few rows each; it is also one product over the rows of
all steps, which reads and writes the weight's gradient once. A `Tie` behind the steps gathers the
cotangents of their products and multiplies them out together.
"""

from __future__ import annotations

from collections.abc import Sequence

from lazygrad.config import config
from lazygrad.engine.apply import choose_graph
from lazygrad.engine.autodiff import pullback
from lazygrad.engine.functions import cat
from lazygrad.engine.graph import HOOKS, Node
from lazygrad.engine.modes import STATE
from lazygrad.engine.tensor import Tensor
from lazygrad.engine.tie import Tie, tie


def share_products(
    weight: Tensor,
    bias: Tensor | None,
    rows: Sequence[Tensor],
    products: Sequence[Tensor],
    reads: Sequence[Tensor],
    results: Sequence[Tensor],
) -> list[Tensor]:
    """The results, with a gradient in which the products `rows[i] @ weight.T + bias` are one.

    `results` depend on weight and bias through `products` only; `reads` are all other tensors that
    need a gradient through the results. Values, and gradients of any order, are those of the
    operations; sums are added up in another order.

    >>> import lazygrad as lg
    >>> w = lg.tensor([[2.0]], requires_grad=True)
    >>> x = lg.tensor([[3.0]], requires_grad=True)
    >>> first = x @ w.T
    >>> second = first @ w.T
    >>> y, = share_products(w, None, [x, first], [first, second], [x], [second])
    >>> y.sum().backward()
    >>> w.grad, x.grad
    (tensor([[12.]]), tensor([[4.]]))
    """
    learned = [weight, *([] if bias is None else [bias])]
    if not STATE.grad or not any(t.requires_grad for t in (*learned, *reads)):
        return list(results)
    graph = choose_graph([*results, *reads, *learned])
    values = [t._node_in(graph) for t in results]
    read = [t._node_in(graph) for t in (*learned, *reads, *rows, *products)]
    rule = _Shared(values, read, len(learned), len(reads), len(products))
    outs = [Tensor._of(n) for n in tie(graph, rule, values, read)]
    if config.eager and STATE.capture is None and not STATE.trace:
        outs = [t.realize() for t in outs]
    return outs


class _Shared(Tie):
    """The tie: its inputs are results, weight (and bias), other reads, rows, products."""

    def __init__(
        self, values: Sequence[Node], reads: Sequence[Node], learned: int, others: int, steps: int
    ) -> None:
        super().__init__(("shared", len(values), learned, others, steps), values, reads)
        self.learned, self.others, self.steps = learned, others, steps

    def pull(
        self, call: Node, cotangents: dict[int, Tensor], needed: set[int],
        gathered: dict[int, Tensor],
    ) -> dict[int, Tensor]:  # fmt: skip
        """Differentiate down to the products; the gradient of the weight from all of theirs."""
        inputs, weight = call.inputs, self.results
        others = weight + self.learned
        rows = others + self.others
        products = inputs[rows + self.steps :]
        first = {n.id: i for i, n in reversed([*enumerate(inputs[:rows])])}
        wanted = [n for i, n in enumerate(inputs[:rows]) if i >= others and first[n.id] == i]
        wanted = [n for n in wanted if first[n.id] in needed]
        found = pullback(
            [(inputs[i], g) for i, g in sorted(cotangents.items())],
            [*wanted, *products],
            create_graph=STATE.grad,
            gathered={n.id: g for n in wanted if (g := gathered.get(first[n.id])) is not None},
        )
        made = {first[n.id]: found[n.id] for n in wanted if n.id in found}
        steps = [i for i, n in enumerate(products) if n.id in found]
        if steps:
            g = cat([found[products[i].id] for i in steps])
            for i in range(weight, others):
                if i in needed:
                    x = cat([HOOKS.wrap(inputs[rows + k]) for k in steps])
                    own = g.mT @ x if i == weight else g.sum(0)
                    made[i] = gathered[i] + own if i in gathered else own
        return made
