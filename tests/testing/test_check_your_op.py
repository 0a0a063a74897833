"""The example for users: it runs, and it finds the mistake that it makes on purpose."""

import pytest

from examples import check_your_op
from lazygrad.ops import opdef


def test_the_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(opdef, "_REGISTRY", dict(opdef._REGISTRY))
    check_your_op.main([])
    printed = capsys.readouterr().out
    for text in (
        "gradient tensor([-0.9487, 0.0000, 0.0995, 0.9701])",
        "values, gradients and their gradients are right",
        "captured, it gives the same bits",
        "50 random cases agree",
        "the gradient of input 0 () is wrong in 1 of 1 elements",
    ):
        assert text in printed
