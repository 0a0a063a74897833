"""Downloads and atomic writes: a file is whole or absent."""

import hashlib
import stat
from pathlib import Path

import pytest

from lazygrad.data import files
from lazygrad.data.files import RemoteFile, atomic_write, user_cache
from lazygrad.errors import DataError

CONTENT = b"some bytes" * 1000


def remote(content: bytes = CONTENT) -> RemoteFile:
    return RemoteFile("part.bin", len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A folder that serves files."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    return folder


def url(folder: Path) -> str:
    return folder.as_uri() + "/"


def test_a_download_is_verified_and_written(tmp_path: Path, mirror: Path) -> None:
    (mirror / "part.bin").write_bytes(CONTENT)
    target = tmp_path / "new" / "folder"
    remote().download([url(tmp_path / "absent"), url(mirror)], target)
    assert [path.name for path in target.iterdir()] == ["part.bin"]
    assert (target / "part.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("served", "text"),
    [
        (CONTENT[:-1] + b"!", "checksum mismatch: expected [0-9a-f]{64}, got [0-9a-f]{64}"),
        (CONTENT[:-1], "expected 10000 bytes, got 9999"),
        (CONTENT + b"!", "expected 10000 bytes, got more"),
        (None, "No such file"),
    ],
)
def test_a_bad_download_leaves_nothing(tmp_path, mirror, served, text) -> None:
    if served is not None:
        (mirror / "part.bin").write_bytes(served)
    target = tmp_path / "target"
    with pytest.raises(DataError, match=text) as caught:
        remote().download([url(mirror)], target)
    assert "by hand" in str(caught.value)
    assert url(mirror) + "part.bin" in str(caught.value)
    assert list(target.iterdir()) == []


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr(files, "urlopen", unreachable)
    with pytest.raises(
        DataError, match=r"(?s)cannot download part\.bin.*name resolution"
    ) as caught:
        remote().download(["https://example.org/"], tmp_path)
    assert isinstance(caught.value, ValueError)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_cache_belongs_to_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = user_cache()
    assert folder == tmp_path / "lazygrad"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with atomic_write(folder / "file", mode=0o600) as file:
        file.write(b"x")
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o600
