"""Files that are whole or absent: atomic writes, checksummed downloads, the user's cache."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.request import urlopen

from lazygrad.errors import DataError

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 30


@contextmanager
def atomic_write(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` when the block ends without an error, else never.

    `mode` holds the permissions of a new file, before the umask.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        handle = os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | _O_BINARY, mode)
        with open(handle, "wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


_O_BINARY = getattr(os, "O_BINARY", 0)  # only Windows has it, and needs it


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded; size in bytes and SHA-256 decide what is accepted."""

    name: str
    size: int
    sha256: str

    def download(self, mirrors: Sequence[str], folder: Path) -> None:
        """Write the file into `folder`, from the first mirror that has it unaltered.

        Raises `DataError` with the reason of each mirror; `folder` then holds nothing new.
        """
        folder.mkdir(parents=True, exist_ok=True)
        reasons = []
        for mirror in mirrors:
            try:
                with atomic_write(folder / self.name) as file:
                    self._fetch(mirror + self.name, file)
                return
            except (OSError, DataError) as error:
                reasons.append(f"{mirror}{self.name}: {error}")
        raise DataError(
            f"cannot download {self.name} ({self.size} bytes, sha256 {self.sha256}); put it into "
            f"{folder} by hand:\n  " + "\n  ".join(reasons)
        )

    def _fetch(self, url: str, file: BinaryIO) -> None:
        digest, size = hashlib.sha256(), 0
        with urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            # One byte more than expected is enough to know that it is not the file.
            while size <= self.size and (block := response.read(_BLOCK)):
                file.write(block)
                digest.update(block)
                size += len(block)
        if size != self.size:
            raise DataError(
                f"expected {self.size} bytes, got {'more' if size > self.size else size}"
            )
        if digest.hexdigest() != self.sha256:
            raise DataError(f"checksum mismatch: expected {self.sha256}, got {digest.hexdigest()}")


def user_cache() -> Path:
    """The user's folder for things that can be made again, readable by its owner alone.

    `$XDG_CACHE_HOME/lazygrad`, by default `~/.cache/lazygrad`.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "lazygrad"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder
