"""The code of docs/adding_an_op.md runs and says what it prints."""

import re
from pathlib import Path

from lazygrad.ops import opdef

PAGE = Path(__file__).parents[2] / "docs" / "adding_an_op.md"


def test_the_page(monkeypatch, capsys):
    monkeypatch.setattr(opdef, "_REGISTRY", dict(opdef._REGISTRY))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(blocks) == 4
    exec("\n".join(blocks), {"__name__": "page"})
    promised = re.findall(r"print\(.*\)  # (.*)", "\n".join(blocks))
    assert capsys.readouterr().out.splitlines() == promised
