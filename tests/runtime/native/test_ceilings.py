"""`lazygrad machine` and `lazygrad cache`, and the figures behind them."""

from pathlib import Path

import numpy as np
import pytest

from lazygrad.cli import main
from lazygrad.runtime.native import ceilings as measured
from lazygrad.runtime.native import disk
from lazygrad.runtime.native.ceilings import Ceilings, ceilings
from lazygrad.runtime.native.driver import Command, Table


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, no patience, small memory."""
    monkeypatch.setenv("LAZYGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(measured, "_memory", {})
    monkeypatch.setattr(measured, "_PATIENCE", 0.0)
    monkeypatch.setattr(measured, "_memory_words", lambda: 1 << 20)
    return tmp_path


def rows(text: str) -> dict[str, str]:
    lines = (line.split("  ", 1) for line in text.splitlines())
    return {name: value.strip() for name, value in lines}


def test_figures_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ceilings()
    assert min(*found.flops, *found.read, *found.copy) > 1e6
    assert 1 <= found.workers <= found.threads
    assert ceilings() is found
    monkeypatch.setattr(measured, "_memory", {})
    assert ceilings() == found and ceilings() is not found  # from disk
    assert ceilings(again=True) is not found


def test_reading_and_copying_touch_everything() -> None:
    address = {key[1]: found for key, found in measured._compiled().items()}
    words = 3 * measured._PIECE // 4
    source, target = np.arange(words, dtype=np.float32), np.zeros(words, np.float32)
    copy = Table([Command(address["copy"], (1, 0, 2, 0), 3, parallel=True)], 2)
    assert copy.run(0, [source, target], 2) == 0
    np.testing.assert_array_equal(target, source)


def test_machine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Ceilings(8, (1.25e11, 9e11), (3e10, 8.25e10), (2e10, 6e10), 4)
    monkeypatch.setattr(measured, "_measure", lambda: figures)
    assert main(["machine", "--again"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["float32"] == "125 GFLOP/s on one core, 900 on all"
    assert found["memory read"] == "30.0 GB/s on one core, 82.5 on all"
    assert (found["cores"], found["recommended workers"]) == ("8", "4")
    assert found["vector width"].endswith("registers")


def test_cache(capsys: pytest.CaptureFixture[str], own: Path) -> None:
    disk.cache().write("a" * 64, bytes(3 << 20))
    assert main(["cache", "info"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["folder"] == str(own) and found["in use"] == "yes"
    assert (found["entries"], found["size"]) == ("1", "3.0 of at most 256 MB")
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out == "1 of 1 entries removed (3.0 MB)\n"
    assert disk.cache().info() == (0, 0)


def test_a_cache_that_is_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAZYGRAD_CACHE_MB", "0")
    assert main(["cache", "info"]) == 0
    assert rows(capsys.readouterr().out)["in use"] == "no: turned off"
