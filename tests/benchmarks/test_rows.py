"""Every row of the benchmark is machine code: a replay is one native call, nothing else."""

import pytest

from benchmarks.peers import lazygrad_forms
from benchmarks.workloads import WORKLOADS, Workload, batches
from lazygrad.config import config

pytest.importorskip("llvmlite", reason="machine code is made by LLVM")


@pytest.mark.parametrize("form", ["whole step", "forward"])
@pytest.mark.parametrize("w", WORKLOADS, ids=lambda w: w.name)
def test_a_replay_is_one_native_call(w: Workload, form: str) -> None:
    with config.override(executor="native"):
        step = lazygrad_forms.build(form, w)
        for x, y in batches(w, 3):
            step(x, y)
        captured = step.captured  # type: ignore[attr-defined]
        rows = captured.program.explain_rows()
    runs = {row["executor"] for row in rows if row["kernel"]}
    assert runs == {"native"}
    assert "Extern" not in str(captured.program)
    assert len(captured.program._codes) == 1
