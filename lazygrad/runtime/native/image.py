"""Machine code that can be mapped anywhere: one function out of an object file, relocated.

LLVM emits relocatable object files. Linking them through LLVM would mean to import LLVM in every
process, also where all code comes from the disk cache, which costs more than everything else
there. So an `Image` is made right after the compile: the function's section and those that it
refers to, one behind the other, with all relative relocations applied. What is left for the load
are a few words: absolute addresses, and those of functions of the C library, which a small table
at the end of the image jumps through.

Known are the ELF object files of x86-64 (`SUPPORTED`); elsewhere `jit` links through LLVM. The
numbers are those of the System V ABI: https://gitlab.com/x86-psABIs/x86-64-ABI (relocations) and
https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html (everything else).
"""

from __future__ import annotations

import ctypes
import functools
import json
import platform
import struct
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from lazygrad.errors import InternalError

SUPPORTED = sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 2**32

_SYMTAB, _RELA, _NOBITS = 2, 4, 8  # sh_type
_WRITE, _ALLOC = 1, 2  # sh_flags
_ABS64, _PC32, _PLT32, _GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX = 1, 2, 4, 9, 41, 42  # R_X86_64_*
_GOT = (_GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX)
_JUMP = b"\xff\x25\x02\x00\x00\x00\xcc\xcc"  # jmp *2(%rip): through the word behind these 8 bytes


class Image(NamedTuple):
    """Code whose first byte is the function's; `names` and `bases` are words to write at load.

    `names`: (offset, symbol of the process); `bases`: (offset, distance from the image's start).
    """

    code: bytes
    names: tuple[tuple[int, str], ...] = ()
    bases: tuple[tuple[int, int], ...] = ()

    def pack(self) -> bytes:
        """The image as bytes."""
        return json.dumps([self.names, self.bases]).encode() + b"\n" + self.code

    @staticmethod
    def unpack(data: bytes) -> Image:
        """The image of `pack`; raises `ValueError` for anything else.

        >>> Image.unpack(Image(b"code", ((8, "sin"),)).pack())
        Image(code=b'code', names=((8, 'sin'),), bases=())
        """
        head, _, code = data.partition(b"\n")
        names, bases = json.loads(head)
        return Image(
            code,
            tuple((int(at), str(name)) for at, name in names),
            tuple((int(at), int(distance)) for at, distance in bases),
        )


class _Section(NamedTuple):
    number: int
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


class _Symbol(NamedTuple):
    name: str
    section: int  # 0: undefined
    value: int


class _Relocation(NamedTuple):
    at: int
    type: int
    symbol: _Symbol
    addend: int


class _Object:
    """What `extract` reads of an ELF file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        (table,) = struct.unpack_from("<Q", data, 40)
        size, count, names = struct.unpack_from("<HHH", data, 58)
        rows = [struct.unpack_from("<IIQQQQIIQQ", data, table + k * size) for k in range(count)]
        texts = rows[names][4]
        self.sections = [
            _Section(k, _text(data, texts + r[0]), r[1], r[2], r[4], r[5], r[6], r[7], max(r[8], 1))
            for k, r in enumerate(rows)
        ]
        self.symbols = self._read_symbols()
        self.relocations: dict[int, list[_Relocation]] = {}
        for section in self.sections:
            if section.type == _RELA:
                self.relocations[section.info] = self._read_relocations(section)

    def _read_symbols(self) -> list[_Symbol]:
        found = []
        for section in self.sections:
            if section.type == _SYMTAB:
                texts = self.sections[section.link].offset
                for at in range(section.offset, section.offset + section.size, 24):
                    name, _, _, number, value, _ = struct.unpack_from("<IBBHQQ", self.data, at)
                    found.append(_Symbol(_text(self.data, texts + name), number, value))
        return found

    def _read_relocations(self, section: _Section) -> list[_Relocation]:
        found = []
        for at in range(section.offset, section.offset + section.size, 24):
            where, info, addend = struct.unpack_from("<QQq", self.data, at)
            symbol = self.symbols[info >> 32]
            found.append(_Relocation(where, info & 0xFFFFFFFF, symbol, addend))
        return found

    def content(self, section: _Section) -> bytes:
        """The bytes of a section."""
        if section.type == _NOBITS:
            return bytes(section.size)
        return self.data[section.offset : section.offset + section.size]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def extract(obj: bytes, name: str) -> Image:
    """The function `name` of an object file, with everything that it refers to.

    The function must be alone in its section. Raises `InternalError` for what is not known here.
    """
    relocatable, x86_64 = 1, 62
    if obj[:6] != b"\x7fELF\x02\x01" or obj[16:20] != struct.pack("<HH", relocatable, x86_64):
        raise InternalError("not a relocatable object file of this processor")
    file = _Object(obj)
    start = next(s for s in file.symbols if s.name == name and s.section)
    offsets, size = _lay_out(file, start)
    code = bytearray(size)
    outside: dict[_Symbol, int] = {}  # the jumps and addresses at the end
    bases: list[tuple[int, int]] = []

    def entry(symbol: _Symbol) -> int:
        if symbol not in outside:
            outside[symbol] = len(code)
            code.extend(_JUMP + bytes(8))
        return outside[symbol]

    for number, offset in offsets.items():
        section = file.sections[number]
        code[offset : offset + section.size] = file.content(section)
        for r in file.relocations.get(number, ()):
            at, local = offset + r.at, r.symbol.section != 0
            if r.type in (_PC32, _PLT32):
                base = offsets[r.symbol.section] + r.symbol.value if local else entry(r.symbol)
                struct.pack_into("<i", code, at, base + r.addend - at)
            elif r.type in _GOT:
                struct.pack_into("<i", code, at, entry(r.symbol) + 8 + r.addend - at)
            elif r.type == _ABS64 and local:
                bases.append((at, offsets[r.symbol.section] + r.symbol.value + r.addend))
            else:
                raise InternalError(f"relocation {r.type} of {r.symbol.name} in {section.name}")
    names = []
    for symbol, at in outside.items():
        if symbol.section:
            bases.append((at + 8, offsets[symbol.section] + symbol.value))
        else:
            names.append((at + 8, symbol.name))
    return Image(bytes(code), tuple(names), tuple(bases))


def _lay_out(file: _Object, start: _Symbol) -> tuple[dict[int, int], int]:
    """The offsets of all sections that a function reaches, its own first, and their end."""
    offsets: dict[int, int] = {}
    end, todo = 0, [start]
    while todo:
        symbol = todo.pop()
        if not symbol.section or symbol.section in offsets:
            continue
        section = file.sections[symbol.section] if symbol.section < 0xFF00 else None
        if section is None or not section.flags & _ALLOC:
            raise InternalError(f"symbol {symbol.name!r} has no bytes")
        if section.flags & _WRITE and not section.name.startswith(".data.rel.ro"):
            raise InternalError(f"code writes into {section.name}")
        offsets[section.number] = end = end + -end % section.align
        end += section.size
        todo.extend(r.symbol for r in file.relocations.get(section.number, ()))
    if start.value or offsets[start.section]:
        raise InternalError(f"{start.name} does not begin its section")
    return offsets, end + -end % 16


def load(images: Sequence[Image]) -> list[int]:
    """Map images into memory, executable and never freed; the addresses of their functions.

    Raises `OSError` where the system refuses. Threads may run the code until the process ends,
    so nothing is unmapped.
    """
    starts, size = [], 0
    for image in images:
        starts.append(size)
        size += len(image.code) + -len(image.code) % 64
    if not size:
        return []
    base = _map(size)
    for start, image in zip(starts, images, strict=True):
        code = bytearray(image.code)
        for at, name in image.names:
            struct.pack_into("<Q", code, at, symbol_address(name))
        for at, distance in image.bases:
            struct.pack_into("<Q", code, at, base + start + distance)
        ctypes.memmove(base + start, bytes(code), len(code))
    read_execute = 1 | 4
    if _libc().mprotect(base, size, read_execute):
        raise OSError(ctypes.get_errno(), "memory cannot be made executable")
    return [base + start for start in starts]


def _map(size: int) -> int:
    """Fresh private memory."""
    read_write, private, anonymous = 1 | 2, 2, 0x20  # of Linux
    found = _libc().mmap(None, size, read_write, private | anonymous, -1, 0)
    if found is None or found == 2**64 - 1:
        raise OSError(ctypes.get_errno(), "no memory for machine code")
    return int(found)


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    size, number, address = ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p
    libc.mmap.restype, libc.mmap.argtypes = (
        address, [address, size, number, number, number, ctypes.c_long],
    )  # fmt: skip
    libc.mprotect.argtypes = [address, size, number]
    return libc


@functools.cache
def symbol_address(name: str) -> int:
    """The address of a function of the process: the C library's and Python's."""
    try:
        function = getattr(_libc(), name)
    except AttributeError:
        raise InternalError(f"generated code calls {name!r}, which does not exist here") from None
    return ctypes.cast(function, ctypes.c_void_p).value or 0
