"""`lazygrad bench` at tiny size; no timing is asserted."""

import csv
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from lazygrad.cli import main
from lazygrad.cli.bench import charts, measure, numbers, originals
from lazygrad.cli.bench.measure import BenchError, Run, Seconds, seconds
from lazygrad.cli.bench.table import Table, speedup


def written(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of a CSV file; the markdown beside it has as many."""
    with (folder / f"{name}.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert (folder / f"{name}.md").read_text().count("\n|") == len(rows) + 2
    return rows


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


@pytest.mark.usefixtures("no_matplotlib")
def test_momograd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--samples", "4,6", "--epochs", "2", "--rounds", "1", "--out", str(tmp_path)]
    assert main(["bench", "momograd", *options]) == 0
    rows = written(tmp_path, "momograd")
    assert [row["samples"] for row in rows] == ["4", "6"]
    gains = [title for title in rows[0] if title.startswith("Speedup")]
    assert len(gains) == 3
    assert all(float(row[title]) > 0 for row in rows for title in gains)
    assert rows[0]["README momo (s)"] == ""  # its figures are of 100 epochs
    assert "Charts need matplotlib: pip install 'lazygrad[plot]'" in capsys.readouterr().out


@pytest.mark.usefixtures("no_matplotlib")
def test_mocrograd(tmp_path: Path) -> None:
    options = ["--only", "normal", "--length", "10", "--workers", "10", "--out", str(tmp_path)]
    assert main(["bench", "mocrograd", *options]) == 0
    rows = written(tmp_path, "mocrograd")
    hows = ["reference", "vectorized", "chunk-parallel, 10 workers", "automatic"]
    assert [row["how"] for row in rows] == hows
    assert [row["Mocrograd (s)"] for row in rows] == ["20.281", "", "20.907", "21.602"]


@pytest.mark.usefixtures("no_matplotlib")
def test_pycrograd_with_a_forced_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def taken(run: Run, settings: dict[str, str]) -> Seconds:
        asked.append((run, settings))
        return Seconds(2.0, 1.0)

    monkeypatch.setattr("lazygrad.cli.bench.common.seconds", taken)
    options = ["--only", "bigger", "--workers", "1", "--executor", "numpy", "--rounds", "3"]
    assert main(["bench", "pycrograd", *options, "--out", str(tmp_path)]) == 0
    assert len(asked) == 2 * 4 * 3  # lengths, ways, rounds
    assert asked[0] == (Run("digits", "bigger", 10, 10), {"executor": "reference"})
    assert asked[-1][1] == {"executor": "numpy", "parallel": "auto", "num_workers": "0"}
    row = written(tmp_path, "pycrograd")[-1]
    assert row["Pycrograd (s)"] == "13484.485"
    assert float(row["Speedup over Mocrograd"]) == pytest.approx(87.143 / 2)


@pytest.mark.usefixtures("no_matplotlib")
def test_micrograd_reaches_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tmp_path / "engine.py"
    engine.write_text("""print('{"error": "RecursionError"}')""")
    monkeypatch.setattr(measure, "BASELINE", engine)
    options = ["--epochs", "10", "--length", "100", "--out", str(tmp_path)]
    assert main(["bench", "micrograd", *options]) == 0
    (row,) = written(tmp_path, "micrograd")
    assert (row["micrograd (s)"], row["Speedup"]) == ("RecursionError", "")
    assert float(row["lazygrad (s)"]) > 0
    assert (row["README micrograd (s)"], row["README Pycrograd (s)"]) == ("94.781", "8.716")


def test_without_a_checkout_there_is_no_scalar_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "BASELINE", Path("nowhere.py"))
    assert measure.baseline_seconds(10, 1) is None


def test_a_run_that_fails_says_why() -> None:
    with pytest.raises(BenchError, match="no-such-task"):
        seconds(Run("no-such-task"), {})
    with pytest.raises(BenchError, match="executor takes one of"):
        seconds(Run("demo"), {"executor": "abacus"})


def test_numbers() -> None:
    assert numbers("20,40,...,200") == tuple(range(20, 201, 20)) == tuple(originals.MOMOGRAD)
    for bad in ("", "a", "0,1", "3,2,...,9", "1,2,..."):
        with pytest.raises((ValueError, ArgumentTypeError)):
            numbers(bad)


def test_cells_of_a_table() -> None:
    table = Table("t", "A caption.", ("n", "a (s)", "Speedup"))
    assert table.add(3, 0.5, 12.25) == "| 3 | 0.500 | 12.2x |"
    assert table.add(4, "RecursionError", speedup("RecursionError", 1.0)).endswith("Error | - |")
    assert table.markdown().startswith("A caption.\n\n| n | a (s) | Speedup |\n|---|---|---|\n")


def test_charts(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="an optional extra draws the charts")
    table = Table("t", "", ("n", "a (s)", "b (s)"), [(1, 0.5, "none"), (2, 2.0, 0.1)])
    columns = ["a (s)", "b (s)"]
    drawn = [
        charts.lines(table, columns, tmp_path / "lines.png", "seconds"),
        charts.dots(table, ["one", "two"], columns, tmp_path / "dots.png"),
    ]
    assert all(path and path.read_bytes().startswith(b"\x89PNG") for path in drawn)
