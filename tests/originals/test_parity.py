"""docs/parity.md names every block, and says of each what is true."""

import re
import shlex
from operator import attrgetter
from pathlib import Path

import pytest

import lazygrad as lg
from lazygrad.cli import main
from tests.originals.readme import ALL

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "parity.md").read_text()
ROWS = dict(re.findall(r"^\| (\w+ \| [\w ]+) \| (.+) \|$", DOC, re.MULTILINE))
STATES = {name.replace(" | ", ": "): state for name, state in ROWS.items()}
MISSING = {"mytorch: distributed": "data parallelism"}


def test_every_block_is_listed() -> None:
    assert set(STATES) - {"original: block"} == ALL


def test_every_block_that_cannot_run_has_its_reason() -> None:
    waiting = {name for name, state in STATES.items() if state.startswith("not yet: ")}
    assert waiting == set(MISSING)
    assert all(MISSING[name] in STATES[name] for name in waiting)
    running = {name for name, state in STATES.items() if state.startswith("runs")}
    assert running | waiting == ALL


def test_what_is_missing_is_still_missing() -> None:
    assert not hasattr(lg, "distributed"), "the block `distributed` can run now: move it"


def test_every_row_names_what_exists_and_the_tests_that_hold_it() -> None:
    table = DOC[DOC.index("| what there is | here | tests |") :]
    rows = re.findall(r"^\| (.+) \| (.+) \| (.*)\|$", table, re.MULTILINE)[2:]
    assert len(rows) > 30
    for there, here, tests in rows:
        assert here == "not yet" or tests.strip(), there
        for name in re.findall(r"`((?:nn|optim|data|linalg|amp)\.[\w.]+)`", here):
            assert attrgetter(name)(lg), name
        for path in re.findall(r"`((?:tests|examples)/[\w./]+)`", here + tests):
            assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("line", re.findall(r"\| `lazygrad (train [^`]+)` \|", DOC))
def test_the_commands_run(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*shlex.split(line), "--epochs=1"]) == 0  # the last one counts
    assert "Validation Epoch   0, loss" in capsys.readouterr().out
