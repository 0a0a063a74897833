"""Blocks of native kernels as bytes: what a process compiled runs in the next one as it is.

A command table holds numbers and addresses. The numbers are the same in every process; addresses of
functions are found again through the names of their code on disk, those of arrays come with each
call. So nothing has to be lowered or bound again, and no unit is known any more: what a failed
check means is for the program to say, which compiles itself for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from lazygrad.runtime.executor import Bases
from lazygrad.runtime.native.driver import Table, Words
from lazygrad.runtime.native.jit import digest_of, find_code
from lazygrad.runtime.native.lowered import NativeBlock

Fail = Callable[[Bases], NoReturn]


class Record(NamedTuple):
    """A block: numbers of its table, names of its code, which of them each command calls."""

    threads: int
    digests: list[str]
    calls: list[int]
    words: Words

    @staticmethod
    def of(block: NativeBlock) -> Record:
        """The record of a block that has not run yet."""
        names = [digest_of(unit) for unit in block.units]
        digests = list(dict.fromkeys(names))
        place = {d: i for i, d in enumerate(digests)}
        return Record(block.threads, digests, [place[n] for n in names], block.table.still())

    def header(self) -> dict[str, Any]:
        """All but the numbers, for JSON."""
        return self._asdict() | {"words": len(self.words)}


class StoredBlock:
    """A block that an earlier process compiled; `fail` raises what a failed check found."""

    source = ""

    def __init__(self, record: Record, addresses: dict[str, int], fail: Fail) -> None:
        functions = [addresses[d] for d in record.digests]
        self.table = Table.restored(record.words, [functions[i] for i in record.calls])
        self.threads = record.threads
        self.call = self.table.run
        self._fail = fail

    def run(self, bases: Bases) -> None:
        """Run the commands on these slots."""
        if self.call(bases.arena, bases.arrays, self.threads):
            self._fail(bases)

    def fail(self, status: int, bases: Bases) -> None:
        """Raise what a check found."""
        self._fail(bases)


def pack(records: Sequence[Record]) -> bytes:
    """The numbers of the records, one after the other."""
    return b"".join(r.words.astype("<i8").tobytes() for r in records)


def unpack(headers: Sequence[dict[str, Any]], numbers: bytes) -> list[Record]:
    """The records of these headers and numbers; raises `ValueError` where they do not fit."""
    words = np.frombuffer(numbers, "<i8").astype(np.int64)
    records, start = [], 0
    for head in headers:
        end = start + head["words"]
        records.append(Record(**(head | {"words": words[start:end]})))
        start = end
    if start != len(words):
        raise ValueError("not the numbers of these records")
    return records


def restore(records: Sequence[Record], fail: Fail) -> list[StoredBlock] | None:
    """Blocks ready to run, or None where some of their code is not on disk any more."""
    addresses = find_code(d for r in records for d in r.digests)
    if addresses is None:
        return None
    return [StoredBlock(r, addresses, fail) for r in records]
