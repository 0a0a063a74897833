"""The worker pool: chunks of one program at a time, spread over threads.

`set_num_workers(n)` sets the number of logical workers. Chunks are dealt to them in contiguous
shares, and as many threads as the process may use cores run the shares, the caller being one of
them. Neither number reaches a result: chunk borders depend on shapes alone. NumPy releases the
interpreter lock inside its loops, so the threads do run at the same time; waking one costs about
50 microseconds, which is why the dispatcher sends only larger kernels here.

Threads start with the first kernel that needs them. A child process made by `fork` has none of
them and starts its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np

from lazygrad.config import config
from lazygrad.errors import ConfigError

Task = Callable[[int], None]
ChunkFunction = Callable[[Any, Any, int, int, int], None]
Borders = Sequence[tuple[int, int]]


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_num_workers(workers: int | str) -> None:
    """Set the number of logical workers, or "auto" for one per core.

    Raises `ConfigError` (a `ValueError`) for anything below 1.

    >>> set_num_workers(4); num_workers()
    4
    >>> set_num_workers("auto")
    """
    if workers == "auto":
        config.num_workers = 0
    elif isinstance(workers, int) and not isinstance(workers, bool) and workers >= 1:
        config.num_workers = workers
    else:
        raise ConfigError(f'num_workers must be at least 1 or "auto", got {workers!r}')


def num_workers() -> int:
    """The number of logical workers."""
    return int(config.num_workers) or cores()


class _Pool:
    """Threads that wait for tasks; `run` is for one caller at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._inboxes: list[SimpleQueue[Callable[[], None]]] = []

    def run(self, task: Task, count: int) -> None:
        """Call task(0) here and task(1) .. task(count - 1) on threads; returns when all have."""
        while len(self._inboxes) < count - 1:
            self._start()
        done = threading.Semaphore(0)
        for i in range(1, count):
            self._inboxes[i - 1].put(_reporting(task, i, done))
        try:
            task(0)
        finally:
            _wait(done, count - 1)

    def _start(self) -> None:
        inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        name = f"lazygrad-worker-{len(self._inboxes) + 1}"
        threading.Thread(target=_serve, args=(inbox,), name=name, daemon=True).start()
        self._inboxes.append(inbox)


def _reporting(task: Task, number: int, done: threading.Semaphore) -> Callable[[], None]:
    def call() -> None:
        try:
            task(number)
        finally:
            done.release()

    return call


def _wait(done: threading.Semaphore, count: int) -> None:
    """Wait for all, also when the user interrupts: threads still write into the buffers."""
    interrupted: KeyboardInterrupt | None = None
    while count:
        try:
            done.acquire()
            count -= 1
        except KeyboardInterrupt as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted


def _serve(inbox: SimpleQueue[Callable[[], None]]) -> None:
    np.seterr(all="ignore")  # a thread has its own setting
    while True:
        inbox.get()()


_pool = _Pool()


def _forget_threads() -> None:
    """A forked child has no threads but its own."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def shares(chunks: int, workers: int) -> list[range]:
    """Contiguous, nearly equal shares of chunks for the logical workers, none empty.

    >>> shares(5, 2), shares(2, 64)
    ([range(0, 2), range(2, 5)], [range(0, 1), range(1, 2)])
    """
    count = min(chunks, workers)
    return [range(i * chunks // count, (i + 1) * chunks // count) for i in range(count)]


def run_chunks(function: ChunkFunction, borders: Borders, whole: Any, own: Sequence[Any]) -> None:
    """Run `function(whole, own[thread], chunk, lo, hi)` for every chunk.

    With one set of worker memory in `own`, one logical worker or a pool that is busy with
    another program, the caller runs them all. Of several errors the first chunk's is raised.
    """
    threads = min(len(own), num_workers(), len(borders))
    if threads > 1 and _pool.lock.acquire(blocking=False):
        try:
            _run_parallel(function, borders, whole, own, threads)
        finally:
            _pool.lock.release()
        return
    memory = own[0] if own else ()
    for chunk, (lo, hi) in enumerate(borders):
        function(whole, memory, chunk, lo, hi)


def _run_parallel(
    function: ChunkFunction, borders: Borders, whole: Any, own: Sequence[Any], threads: int
) -> None:
    todo = iter(shares(len(borders), num_workers()))  # `next` on it is atomic
    failed: dict[int, BaseException] = {}

    def work(thread: int) -> None:
        for share in todo:
            for chunk in share:
                if failed and chunk > min(tuple(failed)):
                    return
                lo, hi = borders[chunk]
                try:
                    function(whole, own[thread], chunk, lo, hi)
                except BaseException as error:
                    failed[chunk] = error
                    return

    _pool.run(work, threads)
    if failed:
        raise failed[min(failed)]
