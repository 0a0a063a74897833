"""The random stream: a seed and a counter.

A random node is a pure function of (seed, counter), and takes its counter when it is created, in
program order: the numbers do not depend on when or where anything is computed. A captured function
takes the counter as a hidden input and moves it on by what the trace consumed.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from lazygrad.dtypes import uint64
from lazygrad.engine.graph import HOOKS, Graph, Node, get_default_graph
from lazygrad.engine.modes import LOCK, STATE
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import CaptureError, DataError
from lazygrad.ops.opdef import Array
from lazygrad.ops.source import DATA


class Key:
    """A position in the stream; the value of a key source."""

    __slots__ = ("counter", "seed")

    def __init__(self, seed: int, counter: int) -> None:
        self.seed = seed
        self.counter = counter

    def array(self) -> Array:
        """The (seed, counter) pair."""
        return np.array([self.seed, self.counter], np.uint64)


def _refuse_in_capture(what: str) -> None:
    """Raise while a function is captured: its Python runs once, its random numbers every time."""
    if STATE.capture is not None:
        raise CaptureError(
            f"a random stream is made or {what} inside a captured function, which would happen once"
            " and not at every call: do it outside"
        )


class Generator:
    """A random stream.

    >>> g = Generator(1)
    >>> g.take(10), g.take(5)
    (0, 10)
    """

    def __init__(self, seed: int | None = None) -> None:
        self._seed = 0
        self._counter = 0
        self.seed(int.from_bytes(os.urandom(7), "little") if seed is None else seed)

    def seed(self, seed: int) -> Generator:
        """Start the stream of this seed from its beginning."""
        _refuse_in_capture("seeded")
        self._seed = int(seed) & 0xFFFF_FFFF_FFFF_FFFF
        self._counter = 0
        return self

    manual_seed = seed

    def initial_seed(self) -> int:
        """The seed."""
        return self._seed

    def take(self, n: int) -> int:
        """Reserve `n` numbers; returns the counter of the first."""
        with LOCK:
            first = self._counter
            self._counter += int(n)
            return first

    def host_seed(self) -> int:
        """A fresh 63-bit seed for code on the host, such as shuffling."""
        _refuse_in_capture("read")
        first = self.take(4)
        mixed = np.random.SeedSequence([self._seed, first]).generate_state(1, np.uint64)[0]
        return int(mixed >> np.uint64(1))

    def key(self, n: int) -> Tensor:
        """A (2,) uint64 source [seed, counter], good for `n` numbers."""
        capture = STATE.capture
        if capture is not None:
            return Tensor._of(capture.random_key(self, n))
        return Tensor._of(key_node(get_default_graph(), self._seed, self.take(n)))

    def get_state(self) -> Array:
        """Seed and counter, as a uint64 array."""
        _refuse_in_capture("read")
        return np.array([self._seed, self._counter], np.uint64)

    def set_state(self, state: Any) -> None:
        """Go to a state that `get_state` gave."""
        _refuse_in_capture("set")
        array = np.asarray(state).astype(np.uint64).reshape(-1)
        if array.size != 2:
            raise DataError(f"a random state has 2 numbers, got {array.size}")
        self._seed, self._counter = int(array[0]), int(array[1])


def key_node(graph: Graph, seed: int, counter: int) -> Node:
    """The source node of a key."""
    return graph.source(Key(seed, counter), (2,), uint64, DATA)


_DEFAULT = Generator()


def default_generator() -> Generator:
    """The generator behind `lazygrad.rand` and the rest."""
    return _DEFAULT


def manual_seed(seed: int) -> Generator:
    """Seed the default generator.

    >>> import lazygrad as lg
    >>> _ = lg.manual_seed(0); a = lg.rand(2).tolist()
    >>> _ = lg.manual_seed(0); a == lg.rand(2).tolist()
    True
    """
    return _DEFAULT.seed(seed)


def seed() -> int:
    """Seed the default generator from the operating system; returns the seed."""
    return _DEFAULT.seed(int.from_bytes(os.urandom(7), "little")).initial_seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return _DEFAULT.initial_seed()


def get_rng_state() -> Array:
    """The state of the default generator."""
    return _DEFAULT.get_state()


def set_rng_state(state: Any) -> None:
    """Restore a state of the default generator."""
    _DEFAULT.set_state(state)


HOOKS.generator = default_generator
