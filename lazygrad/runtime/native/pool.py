"""The threads that run a program together: their shared memory, how they start, and `fork`.

Everything that happens in a run is in `driver.ll`. Here is what happens once: the pool's memory is
made (it is never freed: threads may look at it until the process ends), and threads are started
when a program first asks for them. They are plain POSIX threads that never touch Python, sleep
when there is nothing to do and take no signals. A forked child begins with an empty pool.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading

# Words of 64 bits; `driver.ll` says what they are.
_ASKED, _GROW, _PAUSES, _IDLE_YIELDS, _RUN_YIELDS = range(113, 118)
_MUTEX, _WORKERS, _WORKER = 128, 160, 48
CAPACITY = 256  # threads, the caller included

# An idle worker spins for about as long as waking it would take, within a run ten times longer;
# a yield takes some 0.5 microseconds where nobody else wants the core.
_SPIN = (150, 150, 1500)

_SYNCHRONOUS = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGABRT", "SIGPROF")


class Pool:
    """Memory of a pool and the threads that were started for it.

    `worker` is the address of the function that a thread runs.
    """

    def __init__(self, worker: int) -> None:
        words = _WORKERS + _WORKER * CAPACITY
        raw = ctypes.pythonapi.PyMem_RawCalloc
        raw.restype, raw.argtypes = ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_size_t]
        memory = raw(words + 16, 8)
        if memory is None:
            raise MemoryError("no memory for the worker pool")
        self.address = memory + -memory % 128
        self._words = (ctypes.c_int64 * words).from_address(self.address)
        self._worker = worker
        self._libc = ctypes.CDLL(None)
        self._lock = threading.Lock()
        self._callback = ctypes.CFUNCTYPE(None, ctypes.c_int64)(self.grow)  # kept alive here
        self._prepare()
        os.register_at_fork(after_in_child=self._prepare)

    def _prepare(self) -> None:
        """An empty pool: at the start, and in a forked child, which has no threads but its own."""
        self._lock = threading.Lock()
        ctypes.memset(self.address, 0, ctypes.sizeof(self._words))
        own = (_WORKERS + k * _WORKER + 16 for k in range(CAPACITY))
        for mutex in (_MUTEX, *own):
            at = self.address + 8 * mutex
            self._libc.pthread_mutex_init(ctypes.c_void_p(at), None)
            self._libc.pthread_cond_init(ctypes.c_void_p(at + 128), None)
        self._words[_GROW] = ctypes.cast(self._callback, ctypes.c_void_p).value or 0
        self._words[_PAUSES], self._words[_IDLE_YIELDS], self._words[_RUN_YIELDS] = _SPIN

    def grow(self, workers: int) -> None:
        """Start threads until there are so many workers; where none can be had, go on without."""
        with self._lock:
            missing = min(workers, CAPACITY - 1) - self._words[_ASKED]
            self._words[_ASKED] = max(workers, self._words[_ASKED])
            unblocked = {getattr(signal, name, None) for name in _SYNCHRONOUS}
            before = signal.pthread_sigmask(
                signal.SIG_SETMASK,
                signal.valid_signals() - unblocked,
            )
            try:
                for _ in range(missing):
                    handle = ctypes.c_void_p()
                    failed = self._libc.pthread_create(
                        ctypes.byref(handle),
                        None,
                        ctypes.c_void_p(self._worker),
                        ctypes.c_void_p(self.address),
                    )
                    if failed:
                        break
                    self._libc.pthread_detach(handle)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @property
    def workers(self) -> int:
        """How many workers are up."""
        return self._words[112]

    @property
    def asleep(self) -> int:
        """How many of them sleep."""
        return sum(self._words[_WORKERS + k * _WORKER] for k in range(1, CAPACITY))
