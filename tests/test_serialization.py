"""Saving and loading: round trips, interoperability, damage."""

import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import lazygrad as lg
from lazygrad import nn
from lazygrad.dtypes import ALL
from lazygrad.errors import ArgumentTypeError, DataError


def test_a_state_dict_round_trips_and_is_plain_safetensors(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    path = tmp_path / "model.safetensors"
    lg.save(model.state_dict(), path)
    loaded = lg.load(path)
    assert list(loaded) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(loaded[name].numpy(), tensor.numpy())
        np.testing.assert_array_equal(load_file(path)[name], tensor.numpy())
    nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).load_state_dict(loaded)


def test_files_of_other_programs_load(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file({"w": np.arange(3.0)}, path, metadata={"format": "pt"})
    assert lg.load(path)["w"].tolist() == [0, 1, 2]


def test_other_programs_read_the_file_as_theirs(tmp_path: Path) -> None:
    lg.save({"w": lg.ones(2)}, tmp_path / "f")
    with safe_open(tmp_path / "f", framework="numpy") as file:
        assert file.metadata()["format"] == "pt"  # without it `transformers` refuses the file


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    def mode(name: str) -> int:
        return stat.S_IMODE((tmp_path / name).stat().st_mode)

    (tmp_path / "ordinary").touch()
    lg.save({"w": lg.ones(2)}, tmp_path / "f")
    assert mode("f") == mode("ordinary")
    (tmp_path / "f").chmod(0o640)
    lg.save({"w": lg.zeros(2)}, tmp_path / "f")
    assert mode("f") == 0o640


def test_nested_structures_keep_keys_and_kinds(tmp_path: Path) -> None:
    given = {
        "epoch": 3,
        2: {"best": 0.1, "lists": [1, (2.5, "x", None), True, []], "inf": float("inf")},
        "a/b": lg.ones(1),
        "a": {"b": lg.zeros(2), "array": np.arange(3), "number": np.float64(0.5)},
        "big": 2**80,
        "": "empty",
    }
    lg.save(given, tmp_path / "f")
    found = lg.load(str(tmp_path / "f"))
    assert list(found) == list(given)
    assert found["epoch"] == 3 and found["big"] == 2**80 and found[""] == "empty"
    assert found[2] == given[2] and isinstance(found[2]["lists"][1], tuple)
    assert found["a/b"].tolist() == [1] and found["a"]["b"].tolist() == [0, 0]
    assert isinstance(found["a"]["array"], np.ndarray) and found["a"]["number"] == 0.5
    lg.save([lg.ones(1)], tmp_path / "f")
    assert lg.load(tmp_path / "f")[0].tolist() == [1]
    lg.save(lg.tensor(2.0), tmp_path / "f")
    assert lg.load(tmp_path / "f").item() == 2


@pytest.mark.parametrize("dtype", ALL, ids=lambda d: d.name)
def test_every_dtype_and_layout_round_trips(dtype: lg.dtype, tmp_path: Path) -> None:
    base = lg.tensor(np.arange(6).reshape(2, 3)).to(dtype)
    given = {"t": base, "T": base.T, "zero": base[:0], "scalar": base[0, 1]}
    lg.save(given, tmp_path / "f")
    for name, tensor in lg.load(tmp_path / "f").items():
        assert tensor.dtype is dtype and tensor.shape == given[name].shape
        np.testing.assert_array_equal(tensor.numpy(), given[name].numpy())


def test_saving_realizes_what_is_pending(tmp_path: Path) -> None:
    lg.save({"y": lg.ones(2) * 3}, tmp_path / "f")
    assert lg.load(tmp_path / "f")["y"].tolist() == [3, 3]


@pytest.mark.parametrize("cut", [0, 4, 30, -1])
def test_a_truncated_file_says_so(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    lg.save({"w": lg.ones(50)}, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"cut.safetensors is truncated or no safetensors file"):
        lg.load(path)


def test_a_damaged_structure_says_so(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for structure in ("{", '["tensor", "gone"]', "[]", '["what", 3]'):
        save_file({"w": np.ones(1)}, path, metadata={"lazygrad.structure": structure})
        with pytest.raises(DataError, match="has a damaged structure"):
            lg.load(path)
    with pytest.raises(FileNotFoundError):
        lg.load(tmp_path / "nothing")


def test_what_cannot_be_saved_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "f"
    lg.save({"w": lg.ones(1)}, path)
    with pytest.raises(ArgumentTypeError, match="save: a/1 is a function, which is neither"):
        lg.save({"a": [1, lambda: 0]}, path)
    with pytest.raises(ArgumentTypeError, match=r"is a Linear.*pass its state_dict"):
        lg.save(nn.Linear(1, 1), path)
    with pytest.raises(ArgumentTypeError, match="save: w has dtype object"):
        lg.save({"w": np.array([None])}, path)
    with pytest.raises(ArgumentTypeError, match=r"a key of the object is \(1, 2\)"):
        lg.save({(1, 2): 1}, path)
    assert lg.load(path)["w"].tolist() == [1]
    assert os.listdir(tmp_path) == ["f"]


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    lg.save({"w": lg.ones(1)}, path)

    def full(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        lg.save({"w": lg.zeros(1)}, path)
    assert lg.load(path)["w"].tolist() == [1]
    assert os.listdir(tmp_path) == ["f"]


def test_files_that_are_open_and_buffers_in_memory(tmp_path: Path) -> None:
    kept = {"epoch": 3, "w": lg.tensor([1.0, 2.0]), "half": lg.ones(2, dtype=lg.bfloat16)}
    buffer = io.BytesIO()
    lg.save(kept, buffer)
    buffer.seek(0)
    with (tmp_path / "open.pt").open("wb") as file:
        lg.save(kept, file)
    with (tmp_path / "open.pt").open("rb") as file:
        for loaded in (lg.load(buffer), lg.load(file), lg.load(tmp_path / "open.pt")):
            assert loaded["epoch"] == 3 and loaded["w"].tolist() == [1, 2]
            assert loaded["half"].dtype is lg.bfloat16
    with pytest.raises(DataError, match="truncated"):
        lg.load(io.BytesIO(buffer.getvalue()[:-3]))
    with pytest.raises(ArgumentTypeError, match="neither a path nor a file"):
        lg.save(kept, 3)
