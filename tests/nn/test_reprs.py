"""Modules print as PyTorch's do."""

import json
from pathlib import Path

import pytest

from lazygrad import nn
from tests.golden import cases

REPRS = json.loads(Path(cases.__file__).with_name("reprs.json").read_text())


@pytest.mark.parametrize("text", REPRS)
def test_repr(text: str) -> None:
    assert repr(eval("nn." + text, {"nn": nn})) == REPRS[text]
