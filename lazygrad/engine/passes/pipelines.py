"""The pipelines, and the driver that runs one."""

from __future__ import annotations

import sys
from collections.abc import Callable

from lazygrad.config import config
from lazygrad.engine.frozen import FrozenGraph
from lazygrad.engine.passes.algebra import simplify
from lazygrad.engine.passes.cse import merge_equal
from lazygrad.engine.passes.dce import drop_dead
from lazygrad.engine.passes.expand import expand
from lazygrad.engine.passes.fold import fold
from lazygrad.engine.passes.verify import verify

Pass = Callable[[FrozenGraph], FrozenGraph]

PIPELINES: dict[str, list[Pass]] = {
    "O0": [expand],
    "O1": [expand, drop_dead, merge_equal, fold, simplify, drop_dead],
}


def listing(frozen: FrozenGraph) -> str:
    """The graph as text, one node a line."""
    lines = []
    for i, node in enumerate(frozen.nodes):
        inputs = ", ".join(f"%{j}" for j in node.inputs)
        attrs = "".join(f" {k}={v}" for k, v in node.attrs.items())
        name = f" '{node.name}'" if node.name else ""
        lines.append(
            f"%{i} = {node.op.name}({inputs}){attrs} : {node.shape} {node.dtype.name}{name}"
        )
    lines.append(f"outputs {frozen.outputs} kept {frozen.kept} writes {frozen.writes}")
    return "\n".join(lines)


def run_pipeline(frozen: FrozenGraph, level: str = "O1") -> FrozenGraph:
    """Run the passes of a pipeline in order; verified after each under `config.verify`."""
    checked = config.verify
    if checked:
        verify(frozen)
    for step in PIPELINES[level]:
        before = frozen
        frozen = step(frozen)
        if checked and frozen is not before:
            verify(frozen, step.__name__)
        if config.debug >= 3:
            state = "unchanged" if frozen is before else f"\n{listing(frozen)}"
            sys.stderr.write(f"after {step.__name__}: {state}\n")
    return frozen
