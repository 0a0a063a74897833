"""Programs on disk: they run as if they had been compiled here, and say as much when asked."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.config import config
from lazygrad.engine import Graph, program, set_default_graph, stored
from lazygrad.engine.executable import CompiledProgram
from lazygrad.engine.frozen import FrozenGraph
from lazygrad.engine.program import compile_graph
from lazygrad.errors import IndexOutOfRangeError
from lazygrad.runtime.native import disk

pytestmark = pytest.mark.compiled
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of one's own, where small programs are kept, too."""
    monkeypatch.setenv("LAZYGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(stored, "LEAST", 1)
    program.CACHE.clear()
    with config.override(executor="native"):
        yield tmp_path
    program.CACHE.clear()


class Run:
    """Three training steps of a network with an index check, dropout and running statistics."""

    def __init__(self, form: str = "step", steps: int = 3) -> None:
        program.CACHE.clear()  # as in a process that begins
        set_default_graph(Graph("default"))
        lg.manual_seed(3)
        self.model = nn.Sequential(
            nn.Embedding(9, 6), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(),
            nn.Dropout(0.3), nn.Linear(8, 4),
        )  # fmt: skip
        self.optimizer = lg.optim.AdamW(self.model.parameters(), lr=0.01)
        rng = np.random.default_rng(0)
        self.data = [(rng.integers(0, 9, 7), rng.integers(0, 4, 7)) for _ in range(steps)]
        self.fn = lg.compute_graph(self.forward if form == "forward" else self.step)
        self.losses = []
        for x, y in self.data:
            loss = self.fn(x, y)
            if form == "forward":
                self.advance(loss)
            self.losses.append(loss.item())

    def forward(self, x: Any, y: Any) -> Any:
        return nn.functional.cross_entropy(self.model(x), y)

    def advance(self, loss: Any) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def step(self, x: Any, y: Any) -> Any:
        loss = self.forward(x, y)
        self.advance(loss)
        return loss

    def state(self) -> list[np.ndarray[Any, Any]]:
        return [v.numpy().copy() for v in self.model.state_dict().values()]


def same(one: Run, other: Run) -> None:
    assert one.losses == other.losses
    for a, b in zip(one.state(), other.state(), strict=True):
        np.testing.assert_array_equal(a, b)


def no_compiler(*_: Any) -> Any:
    raise AssertionError("compiled, though it is on disk")


@pytest.mark.parametrize("form", ["step", "forward"])
def test_a_second_process_runs_what_the_first_compiled(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Run(form)
    monkeypatch.setattr(program, "compile_graph", no_compiler)
    same(Run(form), first)


def test_what_one_that_was_read_says_about_itself() -> None:
    first, second = Run().fn, Run().fn
    assert type(first.program) is CompiledProgram
    assert type(second.program) is stored.StoredProgram
    assert second.explain() == first.explain()
    assert str(second.memory_plan()) == str(first.memory_plan())
    assert second.program.order == first.program.order
    assert second.program.source == first.program.source


def test_a_failing_check_is_named_and_changes_nothing() -> None:
    Run()
    run = Run()
    before = run.state()
    assert isinstance(run.fn.program, stored.StoredProgram)
    with pytest.raises(IndexOutOfRangeError, match="9") as caught:
        run.fn(np.array([0, 1, 2, 3, 4, 5, 9]), run.data[0][1])
    assert "test_stored.py" in "".join(caught.value.__notes__)
    for a, b in zip(run.state(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(run.fn(*run.data[0]).item())


def test_long_programs_come_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazygrad.engine.emit.SEGMENT", 10)
    first = Run()
    assert isinstance(first.fn.program, CompiledProgram)
    assert len(first.fn.program.running.codes) > 2
    with pytest.raises(IndexOutOfRangeError) as named:
        first.fn(first.data[0][0] + 9, first.data[0][1])
    again = Run()
    same(again, first)
    assert isinstance(again.fn.program, stored.StoredProgram)
    with pytest.raises(IndexOutOfRangeError) as caught:
        again.fn(first.data[0][0] + 9, first.data[0][1])
    assert caught.value.__notes__ == named.value.__notes__


def test_where_code_is_missing_the_program_is_compiled_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Run()
    monkeypatch.setattr("lazygrad.runtime.native.jit._loaded", {})
    monkeypatch.setattr("lazygrad.runtime.native.jit._addresses", {})
    programs = [p for p in folder.iterdir() if b'"arena_bytes"' in p.read_bytes()[:80]]
    assert programs
    for path in folder.iterdir():
        if path not in programs:
            path.unlink()
    again = Run()
    assert type(again.fn.program) is CompiledProgram
    same(again, first)


def test_damage_is_compiled_over(folder: Path) -> None:
    first = Run()
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    again = Run()
    assert type(again.fn.program) is CompiledProgram
    same(again, first)
    assert type(Run().fn.program) is stored.StoredProgram


@pytest.mark.parametrize(
    "settings", [{"poison": True}, {"validate": True}, {"no_fuse": True}, {"num_workers": 1}]
)
def test_other_settings_are_other_programs(settings: dict[str, Any]) -> None:
    first = Run()
    with config.override(**settings):
        again = Run()
        assert type(again.fn.program) is CompiledProgram
    same(again, first)


def test_ops_of_users_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[FrozenGraph] = []
    monkeypatch.setattr(program, "compile_graph", lambda f: seen.append(f) or compile_graph(f))
    Run()
    frozen = seen[-1]
    assert stored.name_of(frozen) is not None
    last = frozen.nodes[-1]
    theirs = replace(last, op=replace(last.op))  # whatever its name: another record
    assert stored.name_of(frozen.replace(nodes=(*frozen.nodes[:-1], theirs))) is None


def test_the_cache_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZYGRAD_CACHE_MB", "0")
    first = Run()
    assert type(Run().fn.program) is CompiledProgram
    assert disk.cache().info() == (0, 0)
    same(Run(), first)


_SCRIPT = """
import numpy as np
import lazygrad as lg
from lazygrad import nn
lg.manual_seed(0)
model = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(20)])
optimizer = lg.optim.SGD(model.parameters(), lr=0.1)
@lg.compute_graph
def step(x):
    optimizer.zero_grad()
    loss = (model(x) ** 2).mean()
    loss.backward()
    optimizer.step()
    return loss
x = np.ones((4, 8), np.float32)
print(step(x).item(), step(x).item(), type(step.program).__name__)
"""


def test_in_another_process(folder: Path) -> None:
    env = os.environ | {"PYTHONHASHSEED": "random", "LAZYGRAD_EXECUTOR": "native"}
    runs = [
        subprocess.run(
            [sys.executable, "-c", _SCRIPT], cwd=ROOT, env=env, check=True, capture_output=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert runs[0][:2] == runs[1][:2]
    assert [run[2] for run in runs] == [b"CompiledProgram", b"StoredProgram"]
