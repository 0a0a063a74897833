"""Lanes name files that exist, and no test falls between them."""

from pathlib import Path

import pytest

from tests import lanes


def test_what_lanes_name_exists() -> None:
    named = [place for places in lanes.ONCE.values() for place in places]
    for place in (*named, *lanes.EXCEPT, *lanes.WITHOUT_LLVM):
        assert (lanes.ROOT / place).exists(), place
    assert len(named) == len(set(named))


def test_every_file_is_of_the_first_lane_and_most_of_all() -> None:
    files = sorted(lanes.ROOT.rglob("test_*.py"))
    assert not [path for path in files if lanes.is_left_out("native", path)]
    for lane in ("numpy", "reference"):
        kept = {path for path in files if not lanes.is_left_out(lane, path)}
        assert {lanes.ROOT / place for place in lanes.EXCEPT} <= kept
        assert len(kept) > len(files) / 3


class _Item:
    def __init__(self, *marks: str) -> None:
        self.marks = marks

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


@pytest.mark.parametrize(
    ("marks", "wanted"),
    [
        ((), ["native", "numpy", "reference", "no-llvm"]),
        (("compiled",), ["native", "numpy", "no-llvm"]),
        (("numpy_code",), ["numpy"]),
        (("compiled", "numpy_code"), ["numpy"]),
        (("slow",), []),
    ],
)
def test_marks(marks: tuple[str, ...], wanted: list[str]) -> None:
    item: object = _Item(*marks)
    assert [lane for lane in lanes.EXECUTORS if lanes.runs(lane, item)] == wanted


def test_what_is_outside_of_the_tests_is_not_left_out() -> None:
    assert not lanes.is_left_out("numpy", Path("/somewhere/else"))
    assert not lanes.is_left_out("numpy", lanes.ROOT)
    assert lanes.is_left_out("numpy", lanes.ROOT / "data")
    assert lanes.is_left_out("reference", lanes.ROOT / "runtime" / "native" / "test_gemm.py")
    assert not lanes.is_left_out("reference", lanes.ROOT / "runtime" / "native")
