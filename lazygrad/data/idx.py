"""The IDX format: MNIST's container for arrays, plain or compressed with gzip.

Two zero bytes, one for the dtype, one for the number of axes; each axis as a big-endian uint32;
then the elements in row-major order, big-endian.
Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazygrad.errors import DataError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: str | Path, magic: int | None = None) -> NDArray[Any]:
    """The array in an IDX file, read-only, in the machine's byte order.

    `magic` is the number that the file must begin with (2051 for MNIST's images, 2049 for its
    labels). Raises `DataError` for a wrong one and for a file that is too short or too long.
    """
    path = Path(path)
    content, whole = _read_bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES:
        raise DataError(
            f"{path}: not an IDX file: it begins with {content[:4].hex(' ') or 'nothing'}"
        )
    found = int.from_bytes(content[:4], "big")
    if magic is not None and found != magic:
        raise DataError(f"{path}: magic number {found}, expected {magic}")
    dtype, ndim = np.dtype(_DTYPES[content[2]]), content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(f"{path}: expected a header of {start} bytes, the file has {len(content)}")
    shape = tuple(np.frombuffer(content, ">u4", ndim, offset=4).tolist())
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        fault = "truncated" if len(content) < expected else "too long"
        raise DataError(
            f"{path}: {fault}: expected {expected} bytes for shape {shape}, found {len(content)}"
        )
    if not whole:
        raise DataError(f"{path}: truncated: the end of the gzip stream is missing")
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    array = array.astype(dtype.newbyteorder("="), copy=False)
    array.flags.writeable = False
    return array


def _read_bytes(path: Path) -> tuple[bytes, bool]:
    """The content of a file, decompressed as far as it goes, and whether that is all of it."""
    content = path.read_bytes()
    if not content.startswith(_GZIP_MAGIC):
        return content, True
    stream = zlib.decompressobj(wbits=31)
    try:
        return stream.decompress(content), stream.eof
    except zlib.error as error:
        raise DataError(f"{path}: damaged gzip stream ({error})") from error
