"""Every row of the benchmark is machine code: a replay is one native call, nothing else."""

import pytest

from benchmarks.peers import lazygrad_forms
from benchmarks.workloads import WORKLOADS, Workload
from lazygrad.config import config
from tests.benchmarks.small import LAYERED, SMALL_GPT, WRITER

pytest.importorskip("llvmlite", reason="machine code is made by LLVM")


ROWS = [*(w for w in WORKLOADS if w.by_hand), LAYERED, SMALL_GPT, WRITER]  # large ones are slow


@pytest.mark.parametrize("form", ["whole step", "forward"])
@pytest.mark.parametrize("w", ROWS, ids=lambda w: w.name)
def test_a_replay_is_one_native_call(w: Workload, form: str) -> None:
    with config.override(executor="native"):
        step = lazygrad_forms.build(form, w)
        for x, y in w.batches(3):
            step(x, y)
        program = step.captured.program
        rows = program.explain_rows()
    runs = {row["executor"] for row in rows if row["kernel"]}
    assert runs == {"native"}
    assert "Extern" not in str(program)
    assert len(program._codes) == 1
