"""The command `lazygrad`."""

import re
import runpy
import sys
from pathlib import Path

import pytest

import lazygrad as lg
from lazygrad.cli import main
from lazygrad.cli.trainer import ProgressLine, Score


def scores(printed: str, which: str) -> list[tuple[float, float]]:
    """Loss and accuracy of each epoch."""
    found = re.findall(rf"{which} Epoch +(\d+), loss (\d+\.\d{{4}}), accuracy (.+)%", printed)
    assert [int(epoch) for epoch, _, _ in found] == list(range(len(found)))
    return [(float(loss), float(accuracy)) for _, loss, accuracy in found]


def test_digits_reach_97_percent(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--epochs", "30"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("digits: 1438 examples to train, 359 to validate\n")
    assert "network 64 -> 64 -> 32 -> 10, adamw with lr 0.002, batches of 32" in printed
    training, validation = scores(printed, "Training"), scores(printed, "Validation")
    assert len(training) == len(validation) == 30
    assert training[-1][0] < training[0][0] / 10
    assert validation[-1][1] >= 97
    assert re.search(r"^Training took \d+\.\d{3} seconds\.$", printed, re.MULTILINE)


def test_moons_with_the_loss_of_micrograd(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "moons", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert "80 examples to train, 20 to validate" in printed
    assert "network 2 -> 16 -> 16 -> 1, sgd with lr 1" in printed
    assert scores(printed, "Validation")[-1][1] >= 90


def test_mnist_saves_its_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "weights.safetensors"
    length = ["--length", "1500", "--epochs", "3"]
    assert main(["train", "mnist", *length, "--optimizer", "adam", "--save", str(path)]) == 0
    assert scores(capsys.readouterr().out, "Validation")[-1][1] > 60
    assert lg.load(path)["0.weight"].shape == (64, 784)


def test_a_place_that_cannot_be_written_is_known_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for option in ("--save", "--visualize"):
        assert main(["train", "moons", option, str(tmp_path / "file" / "weights")]) == 1
        printed = capsys.readouterr()
        assert "Epoch" not in printed.out
        assert printed.err.startswith("lazygrad: error: ")


def test_every_size_trains(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--length", "40", "--epochs", "1", "--batch-size", "16"]
    assert main(["train", "moons", "--size", "longer", *small]) == 0
    assert "2 -> (16)x29 -> 1" in capsys.readouterr().out
    assert main(["train", "moons", "--size", "bigger", *small, "--lr", "0.1"]) == 0
    assert "with lr 0.1, batches of 16, 66,817 parameters" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_run(capsys: pytest.CaptureFixture[str]) -> None:
    runs = []
    for seed in ("5", "5", "6"):
        main(["train", "digits", "--epochs", "2", "--length", "200", "--seed", seed])
        runs.append(scores(capsys.readouterr().out, "Training"))
    assert runs[0] == runs[1] != runs[2]


def test_a_picture_with_or_without_graphviz(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no program `dot` there
    picture = tmp_path / "new" / "folder" / "digits.svg"
    main(["train", "digits", "--length", "40", "--epochs", "1", "--visualize", str(picture)])
    source = picture.with_suffix(".gv")
    assert f"{source} is saved; the picture needs Graphviz" in capsys.readouterr().out
    text = source.read_text()
    assert "digraph" in text
    assert "(64, 64)" in text


BAD = {
    "no command": ([], "the following arguments are required: command"),
    "no task": (["train"], "the following arguments are required: task"),
    "unknown task": (["train", "cats"], "invalid choice: 'cats'"),
    "no epochs": (["train", "digits", "--epochs", "0"], "argument --epochs: 0 is below 1"),
    "word": (
        ["train", "digits", "--batch-size", "x"],
        "argument --batch-size: 'x' is not a number",
    ),
    "too few": (["train", "moons", "--length", "3"], "argument --length: 3 is below 5"),
    "nan": (["train", "digits", "--lr", "nan"], "argument --lr: nan must be above 0 and finite"),
    "negative": (["train", "digits", "--seed", "-1"], "argument --seed: -1 is below 0"),
    "size": (["train", "digits", "--size", "huge"], "argument --size: invalid choice: 'huge'"),
    "misspelt": (["train", "digits", "--epoch", "1", "--bacth", "2"], "unrecognized arguments"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = BAD[name]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_errors_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--length", "5000"]) == 1
    assert "4000 examples asked for, the dataset has 1438" in capsys.readouterr().err
    assert main(["train", "mnist", "--data", str(tmp_path)]) == 1
    assert "neither train-images-idx3-ubyte nor" in capsys.readouterr().err
    assert main(["train", "moons", "--data", str(tmp_path)]) == 2
    assert "--data goes with mnist only" in capsys.readouterr().err


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names[:3] == ["lazygrad", "Python", "NumPy"]
    assert {"dot", "cores", "executor", "parallel", "num_workers"} <= set(names)


def test_python_m_lazygrad(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["lazygrad", "--version"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("lazygrad", run_name="__main__")
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("lazygrad ")


class Terminal:
    """Keeps what is written to it."""

    def __init__(self, tty: bool) -> None:
        self.tty, self.text = tty, ""

    def isatty(self) -> bool:
        return self.tty

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("tty", [True, False])
def test_the_progress_line_is_for_terminals(tty: bool) -> None:
    screen = Terminal(tty)
    line = ProgressLine(screen)  # type: ignore[arg-type]  # what a stream has to do
    line.show(f"epoch 1/2, {Score(0.25, 0.5)}")
    line.show("short")
    line.clear()
    assert screen.text.startswith("\repoch 1/2, loss 0.2500, accuracy 50.00%\rshort  ") is tty
    assert (screen.text == "") is not tty
