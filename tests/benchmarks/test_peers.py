"""The contest between training steps, at tiny size and with no timing asserted."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers import __main__ as command
from benchmarks.peers import contest, lazygrad_forms, numpy_forms
from benchmarks.peers.forms import FORMS, Form
from benchmarks.peers.report import duration, missed, ratio, step_times, tables
from benchmarks.workloads import WORKLOADS, Workload, find
from tests.benchmarks.small import CLASSES, LAYERED, LOSSES, MARGIN

OWN = [form for form in FORMS if not form.guest]
TINY = (MARGIN, CLASSES)
HOW = ("whole step", "forward", "undecorated")
PYTHONS = {False: sys.executable}


@pytest.mark.parametrize("w", TINY, ids=lambda w: w.name)
def test_all_forms_compute_the_same_losses(w: Workload) -> None:
    forms = [numpy_forms.build("by hand", w)]
    forms += [lazygrad_forms.build(form, w) for form in HOW]
    losses = [[step(x, y) for x, y in w.batches(4)] for step in forms]
    np.testing.assert_allclose(losses, [losses[0]] * len(losses), rtol=1e-5)


@pytest.mark.parametrize("form", HOW)
@pytest.mark.parametrize("w", LOSSES, ids=lambda w: w.name)
def test_they_are_the_losses_of_the_peers(w: Workload, form: str) -> None:
    step = lazygrad_forms.build(form, w)
    np.testing.assert_allclose([step(x, y) for x, y in w.batches(4)], LOSSES[w], rtol=2e-5)


def test_the_rows_are_those_of_the_table() -> None:
    rows = {(w.name, w.batch, w.optimizer, w.ratio) for w in WORKLOADS}
    assert ("digits bigger", 8, "SGD", 2.5) in rows
    assert ("resnet-18", 32, "SGD", 1.1) in rows
    assert len(rows) == 10
    count = sum(a.size for a in find("resnet-18").model.weights().values())
    assert count == 11_173_962  # torchvision's, with this stem and ten classes


@pytest.mark.parametrize("w", WORKLOADS, ids=lambda w: w.name)
def test_a_workload_goes_to_another_process(w: Workload) -> None:
    assert Workload.from_json(w.to_json()) == w


def test_a_contest(capsys: pytest.CaptureFixture[str]) -> None:
    broken = Form("broken", "no_such_forms", "none")
    w = TINY[1]
    row = contest.contest(w, [*OWN, broken], PYTHONS, rounds=2, seconds=1e-6)
    assert "broken: ModuleNotFoundError" in capsys.readouterr().err
    assert all(len(entry.found["rounds us"]) == 2 for entry in row[:-1])
    assert all(entry.found["first cold ms"] > 0 for entry in row[:-1])
    text = tables([row])
    assert "| tiny classes, batch 4 |" in text
    assert "Not measured:\n\n- tiny classes, broken: ModuleNotFoundError" in text
    assert text.splitlines()[4].count("| -") == 1  # what failed has an empty cell


def test_a_form_that_nobody_wrote_is_left_out() -> None:
    row = contest.contest(LAYERED, OWN[:1], PYTHONS, rounds=1)
    assert not row[0].found and not row[0].error
    assert step_times(row) == "| tiny lstm, batch 4 | - | - | - | >= 1.3 |"


def test_a_form_that_computes_something_else_is_found() -> None:
    w = TINY[0]
    entries = [contest.Entry(form, w, "", {}) for form in OWN[:2]]
    entries[0].found["losses"], entries[1].found["losses"] = [1.0, 0.5], [1.0, 0.6]
    with pytest.raises(contest.PeerError, match=r"lazygrad, whole step are \[1.0, 0.6\]"):
        contest.agree(entries)


def test_the_slower_form_counts_against_the_best_peer() -> None:
    entries = [contest.Entry(form, TINY[0], "", {}) for form in FORMS]
    figures = (300.0, 200.0, 80.0, 90.0, 10.0, 20.0)
    for entry, figure in zip(entries, figures, strict=True):
        entry.found["median us"] = figure
    assert ratio(entries, "median us") == 4.0
    assert ratio(entries, "best us") is None
    assert step_times(entries).endswith("| 20 us | 4.00 | - | >= 4 |")
    assert missed(entries) == []
    for entry, figure in zip(entries, figures, strict=True):
        entry.found |= {"peak MB": 400 - figure, "first cold ms": 2 * figure + 161}
    entries[-1].found["median us"] = 30.0
    assert missed(entries) == ["the ratio is 2.67", "peak memory 390, at most 100 allowed"]
    assert duration(12_345.0) == "12.3 ms"


def test_the_command_writes_its_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "WORKLOADS", TINY)
    monkeypatch.setattr(command, "FORMS", OWN)
    files = tmp_path / "peers.json", tmp_path / "peers.md"
    options = ["--only", "margin", "--form", "LAZYGRAD,jit", "--rounds", "1", "--seconds", "1e-6"]
    paths = ["--json", str(files[0]), "--markdown", str(files[1])]
    assert command.main([*options, *paths, "--executor", "numpy"]) == 0
    assert "| tiny margin, batch 6 |" in capsys.readouterr().out
    found: dict[str, Any] = json.loads(files[0].read_text())
    assert found["rows"]["tiny margin"]["lazygrad, forward"]["peak MB"] >= 0
    assert "machine" in found["about"]
    assert files[1].read_text().count("\n|") > 6


def test_unknown_rows_and_interpreters_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "nothing"]) == 2
    assert "no row or no form has that name" in capsys.readouterr().err
    options = ["--only", "moons", "--form", "jax", "--rounds", "1"]
    assert command.main([*options, "--peers-python", "/no/such/python"]) == 1
    assert "/no/such/python" in capsys.readouterr().err


def test_a_loss_that_is_no_number_ends_the_contest() -> None:
    w = replace(TINY[1], name="tiny wild", lr=1e30)
    with pytest.raises(contest.PeerError, match="the loss"):
        contest.contest(w, OWN[:1], PYTHONS, rounds=1, seconds=1e-3)
