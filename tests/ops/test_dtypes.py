"""Promotion against PyTorch's: operation x dtype x dtype x {tensor, 0-d, number} x side."""

from itertools import product
from pathlib import Path

import pytest

import lazygrad as lg
from tests.golden.make_dtypes import BINARY, DTYPES, OPERANDS, OPERATORS, UNARY, table

GOLDEN = dict(
    line.rsplit(" ", 1)
    for line in (Path(__file__).parents[1] / "golden" / "dtypes.txt").read_text().splitlines()
)


@pytest.fixture(scope="module")
def found():
    return table(lg)


NUMBERS_TOO = {"maximum", "minimum", "atan2", "fmod", "copysign", "logical_and", "logical_or"}


def accepted(name, left, right, ours, theirs):
    """The differences that are meant."""
    number = left[1] is None or right[1] is None
    if theirs == "!" and name in NUMBERS_TOO:
        return number  # these functions take numbers as the operators do
    if theirs == "!" and name == "-":
        return {left[0], right[0]} != {"bool"}  # only bool - bool has no meaning
    return name == "**" and ours == "!" and {left[0], right[0]} == {"bool"}  # nor has bool ** bool


@pytest.mark.parametrize("name", [*OPERATORS, *BINARY])
def test_binary(found, name):
    pairs = list(product(OPERANDS, OPERANDS))
    wrong = [
        f"{left} {name} {right}: {ours}, PyTorch {theirs}"
        for (left, right), ours, theirs in zip(pairs, found[name], GOLDEN[name], strict=True)
        if ours != theirs and not accepted(name, left, right, ours, theirs)
    ]
    assert not wrong, wrong[:20]


# PyTorch's any and all of uint8 are uint8, ours are bool.
MEANT = {("any", "uint8"), ("all", "uint8")}


@pytest.mark.parametrize("name", UNARY)
def test_unary(found, name):
    wrong = [
        f"{name}({kind}): {ours}, PyTorch {theirs}"
        for kind, ours, theirs in zip(DTYPES.values(), found[name], GOLDEN[name], strict=True)
        if ours != theirs and (name, kind) not in MEANT
    ]
    assert not wrong, wrong
