"""What a captured function can say about itself: its plan, its kernels, its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lazygrad.engine.compiler import program_for
from lazygrad.engine.freeze import freeze, is_input
from lazygrad.engine.graph import HOOKS

if TYPE_CHECKING:
    from lazygrad.engine.compute_graph import Entry
    from lazygrad.engine.graph import Graph, Node
    from lazygrad.engine.program import Program


def program_of(body: Any) -> Program:
    """The program that last ran a body, or one compiled for it alone."""
    ran: Program | None = body.program
    if ran is not None:
        return ran
    inputs = {n.id for n in body.inputs}
    nodes = [*body.inputs, *body.nodes]
    position = {n.id: i for i, n in enumerate(nodes)}

    def is_bound(node: Node) -> bool:
        return node.id in inputs or is_input(node)

    outputs = [position[n.id] for n in body.outputs[: body.results]]
    frozen, _ = freeze(nodes, outputs, (), (), (), is_bound)
    return program_for(frozen)


class Reports:
    """`explain()`, `memory_plan()` and `visualize()` of a captured function."""

    if TYPE_CHECKING:
        __name__: str

        @property
        def graph(self) -> Graph:
            """The frozen graph of the last signature."""
            ...

        def _latest(self) -> Entry: ...

    @property
    def program(self) -> Program:
        """The program that ran last with this function's graph in it."""
        return program_of(self._latest().replay.body)

    def explain(self) -> str:
        """A table: every node with its kernel, mode, the rule that chose it, and bytes."""
        return table(self.program.explain_rows())

    def memory_plan(self) -> Any:
        """The arena: naive bytes, planned peak, lower bound, and each buffer's life."""
        return self.program.memory

    def visualize(
        self, filename: str | None = None, view: bool = False, format: str = "svg",
        stage: str = "traced",
    ) -> Any:  # fmt: skip
        """A picture of the frozen graph (`traced`), or of the program that ran last with it."""
        if stage not in ("fused", "planned"):
            return self.graph.visualize(filename, view, format, stage)
        return HOOKS.visualize_program(self.program, self.__name__, filename, view, format, stage)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text with aligned columns.

    >>> print(table([{"op": "add", "bytes": 8}, {"op": "matmul", "bytes": 128}]))
    op     bytes
    add    8
    matmul 128
    """
    if not rows:
        return "(nothing is computed)"
    names = list(rows[0])
    cells = [names, *([_text(row.get(n)) for n in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = [
        " ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells
    ]
    return "\n".join(lines)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)
