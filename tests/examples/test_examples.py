"""Each example at a small size: it runs, says what it does, and reaches a stated accuracy."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lazygrad as lg

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: str) -> float:
    """Call `main` of an example as its command line does."""
    reached: float = import_module(f"examples.{name}").main(list(arguments))
    return reached


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.stem)
def test_help(path: Path) -> None:
    command = [sys.executable, str(path), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.startswith("usage:")


TRAINED = sorted({path.stem for path in EXAMPLES.glob("*.py")} - {"scalars", "check_your_op"})


@pytest.mark.parametrize("name", TRAINED)
def test_none_trains_for_a_plot_that_cannot_be_drawn(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="matplotlib"):
        run(name, "--plot", "losses.png")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", TRAINED)
def test_each_saves_weights_and_takes_no_steps_at_all(name: str, tmp_path: Path) -> None:
    steps = "--steps" if name in ("gan", "gpt", "lstm", "moons") else "--epochs"
    small = {"resnet": ["--width", "4"], "mnist": ["--images", "9", "--test-images", "9"]}
    saved = tmp_path / "weights.safetensors"
    assert run(name, steps, "0", "--save", str(saved), *small.get(name, [])) == 0
    assert lg.load(saved)


def test_scalars(capsys: pytest.CaptureFixture[str]) -> None:
    run("scalars")
    printed = capsys.readouterr().out
    for line in ("g = 24.7041", "dg/da = 138.8338", "dg/db = 645.5773", "slope 12, curvature 12"):
        assert line in printed


def test_moons(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("moons") == 1.0
    assert "step 99 loss 0.0" in capsys.readouterr().out


def test_digits_normal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("digits", "--epochs", "25", "--length", "1797", "--lr", "0.1") > 0.95
    printed = capsys.readouterr().out
    assert "Validation Epoch  24, loss 0." in printed
    assert "Training took" in printed


def test_digits_longer_learns_through_thirty_layers() -> None:
    sizes = ("--size", "longer", "--epochs", "2", "--length", "200", "--batch-size", "16")
    assert run("digits", *sizes, "--lr", "0.005") > 0.2


def test_digits_bigger() -> None:
    sizes = ("--size", "bigger", "--shrink", "32", "--epochs", "10", "--length", "600")
    assert run("digits", *sizes) > 0.7


def test_mnist_on_the_standin(capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--images", "3000", "--test-images", "1000", "--hidden", "64", "--lr", "0.1")
    assert run("mnist", *small, "--epochs", "4") > 0.85
    assert "epoch 3 test accuracy" in capsys.readouterr().out
