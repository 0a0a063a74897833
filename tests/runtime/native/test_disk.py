"""The cache on disk: nothing in it can be wrong, and nothing around it can break the caller."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lazygrad.errors import ConfigError
from lazygrad.runtime.native import disk
from lazygrad.runtime.native.disk import MAGIC, Disk

A, B, C = (letter * 64 for letter in "abc")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def kept(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "made" / "lazygrad", 1 << 20)


def again(folder: Disk) -> Disk:
    """The same folder as another process opens it."""
    return Disk(folder.folder, folder.limit)


def test_what_is_written_is_read(kept: Disk) -> None:
    kept.write(A, b"code")
    kept.write(B, b"")
    kept.write(A, b"newer")
    found = again(kept)
    assert (found.read(A), found.read(B), found.read(C)) == (b"newer", b"", None)
    assert found.info() == (2, sum(p.stat().st_size for p in kept.folder.iterdir()))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
def test_a_pipe_is_no_entry(kept: Disk) -> None:
    kept.write(A, b"code")
    (kept.folder / A).unlink()
    os.mkfifo(kept.folder / A, 0o600)
    assert again(kept).read(A) is None
    again(kept).write(A, b"code")
    assert again(kept).read(A) == b"code"


@pytest.mark.skipif(sys.platform == "win32", reason="other permissions there")
def test_only_the_user_may_read_or_write(kept: Disk) -> None:
    kept.write(A, b"code")
    assert kept.folder.stat().st_mode & 0o777 == 0o700
    assert (kept.folder / A).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[: len(MAGIC)],
        lambda data: b"",
        lambda data: b"lazygrad0\n" + data[len(MAGIC) :],
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: os.urandom(len(data)),
    ],
)
def test_damaged_entries_are_not_there(kept: Disk, damage: object) -> None:
    kept.write(A, b"some code")
    path = kept.folder / A
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert again(kept).read(A) is None
    kept.write(A, b"some code")
    assert again(kept).read(A) == b"some code"


def test_an_entry_under_another_key_is_not_there(kept: Disk) -> None:
    kept.write(A, b"code")
    (kept.folder / A).rename(kept.folder / B)
    assert kept.read(B) is None


def test_a_folder_in_place_of_an_entry(kept: Disk) -> None:
    kept.write(A, b"code")
    (kept.folder / B).mkdir()
    assert kept.read(B) is None
    kept.write(B, b"code")
    assert kept.refused() and kept.read(A) is None  # nothing is believed any more


@pytest.mark.skipif(sys.platform == "win32", reason="other permissions there")
def test_what_others_may_write_is_not_believed(kept: Disk, tmp_path: Path) -> None:
    kept.write(A, b"code")
    (kept.folder / A).chmod(0o622)
    assert kept.read(A) is None
    kept.write(A, b"code")
    kept.folder.chmod(0o777)
    assert again(kept).refused() == "others may write there"
    assert again(kept).read(A) is None


def test_a_folder_that_cannot_be_made_or_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    below = Disk(file / "lazygrad", 1 << 20)
    below.write(A, b"code")
    assert below.read(A) is None and below.refused()
    assert (below.info(), below.clear()) == ((0, 0), 0)
    below.trim()
    if sys.platform != "win32" and os.geteuid():
        shut = tmp_path / "shut"
        shut.mkdir(0o500)
        closed = Disk(shut, 1 << 20)
        closed.write(A, b"code")
        assert closed.refused() and closed.read(A) is None


def test_a_folder_that_disappears(kept: Disk) -> None:
    kept.write(A, b"code")
    kept.clear()
    kept.folder.rmdir()
    assert kept.read(A) is None
    kept.write(A, b"code")
    kept.trim()
    assert kept.refused()


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path) -> None:
    kept = Disk(tmp_path, 10_000)
    keys = [f"{k:064x}" for k in range(12)]
    for k, key in enumerate(keys):
        kept.write(key, bytes(960))
        os.utime(tmp_path / key, (1e9 + k, 1e9 + k))
    assert kept.read(keys[0]) is not None  # which makes it the newest
    (tmp_path / "of-somebody-else").write_bytes(bytes(50_000))
    kept.trim()
    left = {k for k, key in enumerate(keys) if kept.read(key) is not None}
    assert left == {0, 6, 7, 8, 9, 10, 11}
    assert kept.info()[1] <= 8000
    kept.trim()
    assert kept.info()[0] == len(left)


def test_the_folder_is_looked_through_now_and_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks: list[None] = []
    trim = Disk.trim
    monkeypatch.setattr(Disk, "trim", lambda kept: (looks.append(None), trim(kept)))
    kept = Disk(tmp_path, 100_000)
    for k in range(2000):
        kept.keep({hashlib.sha256(bytes([k % 256, k // 256])).hexdigest(): bytes(1000)})
    assert 4 <= len(looks) <= 64  # not after each: a look costs as much as there are files
    assert kept.info()[1] < 1_000_000


def test_abandoned_files_go(kept: Disk) -> None:
    kept.write(A, b"code")
    old, new = kept.folder / "writing-old", kept.folder / "writing-new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    kept.trim()
    assert new.exists() and not old.exists() and kept.read(A) == b"code"


def test_clear_leaves_the_files_of_others(kept: Disk) -> None:
    for key in (A, B):
        kept.write(key, b"code")
    other = kept.folder / "notes.txt"
    other.write_text("mine")
    assert kept.clear() == 2
    assert other.read_text() == "mine" and kept.info() == (0, 0)


def test_where_the_folder_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAZYGRAD_CACHE_DIR", str(tmp_path / "a"))
    assert disk.cache().folder == tmp_path / "a"
    assert disk.cache() is disk.cache()
    monkeypatch.delenv("LAZYGRAD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert disk.cache().folder == tmp_path / "b" / "lazygrad"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert disk.cache().folder == Path.home() / ".cache" / "lazygrad"
    monkeypatch.setenv("HOME", "")  # not the root of the file system
    assert disk.cache().refused()


def test_how_large_it_may_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAZYGRAD_CACHE_DIR", str(tmp_path / "a"))
    monkeypatch.setenv("LAZYGRAD_CACHE_MB", "3")
    assert disk.cache().limit == 3 << 20
    monkeypatch.setenv("LAZYGRAD_CACHE_MB", "0")
    off = disk.cache()
    off.write(A, b"code")
    assert off.read(A) is None and off.refused() == "turned off"
    assert not (tmp_path / "a").exists()
    monkeypatch.setenv("LAZYGRAD_CACHE_MB", "many")
    with pytest.raises(ConfigError, match="many"):
        disk.cache()


WRITER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from lazygrad.runtime.native.disk import Disk
kept = Disk(Path(sys.argv[1]), 300_000)
for turn in range(20):
    for k in range(20):
        key = f"{{k:064x}}"
        found = kept.read(key)
        assert found is None or found == bytes([k]) * 10_000
        kept.write(key, bytes([k]) * 10_000)
    if turn % 5 == 4:
        kept.trim()
assert not kept.refused()
print("done")
"""


def test_processes_write_at_once(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    assert [writer.communicate(timeout=60)[0] for writer in writers] == ["done\n"] * 3
    kept = Disk(tmp_path, 1 << 20)
    assert kept.info()[0] == 20 == len(list(tmp_path.iterdir()))
    assert all(kept.read(f"{k:064x}") == bytes([k]) * 10_000 for k in range(20))
