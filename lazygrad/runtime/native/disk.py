"""What was compiled, kept on disk for the next process: one file per entry, named by its key.

An entry is only ever believed if its checksum says that it is whole and belongs to its key; what
is not is written again. Files appear by renaming, so that any number of processes may share the
folder. It holds machine code, therefore it must belong to the user and be writable by nobody else;
where it is not, cannot be made or cannot be written, there is no cache and nothing else changes.

The folder is `$LAZYGRAD_CACHE_DIR`, else `lazygrad` in `$XDG_CACHE_HOME` or `~/.cache`. When it
grows over `$LAZYGRAD_CACHE_MB` megabytes (256; 0 turns the cache off), the entries that nobody has
read for the longest time go.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from lazygrad.errors import ConfigError

MAGIC = b"lazygrad1\n"
_NAME = re.compile(r"[0-9a-f]{64}|writing-\w+")
_SELDOM = ("00", "80")  # keys that are followed by a look at the folder: 1 of 128 starts so
_TOUCH = 3600  # seconds after which a read entry is marked as used once more
_ABANDONED = 3600  # seconds after which nobody is still writing a file


class Disk:
    """Entries of one folder; `limit` in bytes.

    >>> Disk(Path("/nowhere"), 0).read("0" * 64) is None
    True
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._refused: str | None = None if limit > 0 else "turned off"
        self._made = False

    def refused(self) -> str:
        """Why nothing is kept, or an empty string; makes the folder."""
        if self._refused is None and not self._made:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._refused = _unsafe(os.stat(self.folder))
            except OSError as error:
                self._refused = f"{error.strerror}"
            self._made = True
        return self._refused or ""

    def read(self, key: str) -> bytes | None:
        """The entry of a key (64 hexadecimal digits), or None."""
        if self.refused():
            return None
        path = self.folder / key
        try:
            with open(path, "rb", opener=_at_once) as file:
                state = os.fstat(file.fileno())
                if _unsafe(state) or not stat.S_ISREG(state.st_mode):
                    return None
                data = file.read()
                if time.time() - state.st_mtime > _TOUCH:
                    with suppress(OSError):
                        os.utime(path)
        except OSError:
            return None
        start = len(MAGIC) + 32
        content = data[start:]
        return content if data[:start] == MAGIC + _checksum(key, content) else None

    def write(self, key: str, content: bytes) -> None:
        """Keep an entry; where that fails nothing is written from now on."""
        if self.refused():
            return
        name = self.folder / f"writing-{os.urandom(12).hex()}"
        try:
            with open(name, "xb", opener=_private) as file:
                file.write(MAGIC + _checksum(key, content) + content)
            os.replace(name, self.folder / key)
        except OSError as error:
            self._refused = f"{error.strerror}"
            with suppress(OSError):
                name.unlink()

    def keep(self, entries: Mapping[str, bytes]) -> None:
        """Write entries, and trim now and then: that looks at every file of the folder."""
        for key, content in entries.items():
            self.write(key, content)
        if any(key.startswith(_SELDOM) for key in entries):
            self.trim()

    def trim(self) -> None:
        """Remove what was not used for the longest time until a fifth of the limit is free."""
        found = sorted(self._entries(), key=lambda entry: entry[1].st_mtime)
        size = sum(state.st_size for _, state in found)
        over = size > self.limit
        for path, state in found:
            partial = path.name.startswith("writing-")
            old = time.time() - state.st_mtime > _ABANDONED
            if (partial and old) or (over and not partial and size > self.limit * 4 // 5):
                with suppress(OSError):
                    path.unlink()
                    size -= state.st_size

    def info(self) -> tuple[int, int]:
        """The number of entries and their bytes."""
        sizes = [state.st_size for _, state in self._entries()]
        return len(sizes), sum(sizes)

    def clear(self) -> int:
        """Remove all entries; how many there were. Files of others stay."""
        count = 0
        for path, _ in self._entries():
            with suppress(OSError):
                path.unlink()
                count += 1
        return count

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        with suppress(OSError), os.scandir(self.folder) as found:
            for entry in found:
                if _NAME.fullmatch(entry.name):
                    with suppress(OSError):  # another process removed it
                        yield Path(entry.path), entry.stat(follow_symlinks=False)


def _unsafe(state: os.stat_result) -> str:
    """Why a file or folder may hold code of somebody else, or an empty string."""
    if hasattr(os, "geteuid"):
        if state.st_uid != os.geteuid():
            return "belongs to another user"
        if state.st_mode & 0o022:
            return "others may write there"
    return ""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for a writer


def _checksum(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()


_ENVIRONMENT = ("LAZYGRAD_CACHE_DIR", "LAZYGRAD_CACHE_MB", "XDG_CACHE_HOME", "HOME")
_open: dict[tuple[str | None, ...], Disk] = {}


def cache() -> Disk:
    """The folder that the environment names.

    Raises `ConfigError` where `LAZYGRAD_CACHE_MB` is not a number.
    """
    settings = tuple(map(os.environ.get, _ENVIRONMENT))
    found = _open.get(settings)
    if found is None:
        size = settings[1] or "256"
        if not size.isdecimal():
            raise ConfigError(f"LAZYGRAD_CACHE_MB={size!r} is not a number of megabytes")
        found = _open[settings] = Disk(_folder(), int(size) << 20)
    return found


def _folder() -> Path:
    where = os.environ.get("LAZYGRAD_CACHE_DIR", "")
    if where:
        return Path(where).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # a relative one is to be ignored, says the XDG specification
        return Path(base) / "lazygrad"
    with suppress(RuntimeError):
        if os.environ.get("HOME") != "":
            return Path.home() / ".cache" / "lazygrad"
    return Path(os.devnull) / "lazygrad"  # no home: no folder can be made there
