"""Every block of Python in README.md and docs/ runs, from top to bottom of its page."""

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

import lazygrad as lg
from lazygrad.engine import Graph, set_default_graph
from lazygrad.ops import opdef

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(page: Path) -> dict[str, Any]:
    """Run the blocks of a page one after the other, at their lines of the page."""
    text = page.read_text()
    names: dict[str, Any] = {"__name__": page.stem}
    for block in _BLOCK.finditer(text):
        above = text.count("\n", 0, block.start(1))
        exec(compile("\n" * above + block.group(1), str(page), "exec"), names)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what a page writes, it writes there
    if shutil.which("dot") is None:  # then pictures are saved as source, with a notice
        warnings.filterwarnings("ignore", ".*needs Graphviz's program", lg.LazygradWarning)
    monkeypatch.setattr(opdef, "_REGISTRY", dict(opdef._REGISTRY))  # and what it registers
    set_default_graph(Graph("page"))
    lg.manual_seed(0)
    try:
        run(page)
    finally:
        set_default_graph(Graph("default"))


def test_what_the_readme_says_is_so(capsys: pytest.CaptureFixture[str]) -> None:
    names = run(ROOT / "README.md")
    printed = capsys.readouterr().out
    assert names["accuracy"] > 0.95
    for line in re.findall(r"^print\(.*\)  # (tensor.*|False|2)", (ROOT / "README.md").read_text()):
        assert f"\n{line}\n" in printed
    assert names["y"].shape == (38,)  # the last batch of the last loop


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
