"""`Gradients`: what one backward pass leaves in `.grad` of its leaves, as one thing.

A training loop fills the gradients of all parameters at once, drops them at once and never looks at
one. So the leaves share an object: clearing it, announcing a backward pass and having it computed
cost the same for four parameters and for four hundred. The first look at (or write to) any `.grad`
settles it: every leaf gets a gradient of its own, and the next pass starts from those.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from sys import getrefcount
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.config import config
from lazygrad.engine.latent import Held
from lazygrad.engine.light import ValueTensor, value_tensor
from lazygrad.engine.methods.gradient import SharedGradient
from lazygrad.engine.modes import LOCK
from lazygrad.engine.tensor import Tensor
from lazygrad.ops.opdef import Array

if TYPE_CHECKING:
    from lazygrad.engine.storage import Storage


class Gradients(SharedGradient):
    """The gradients of some leaves: computed, cleared, or waiting for a backward pass.

    While it is `joined` every leaf refers to it, and nobody has seen a gradient.
    """

    __slots__ = (
        "_tensors",
        "arrays",
        "cleared",
        "held",
        "joined",
        "leaves",
        "plain_at",
        "version",
        "waiting",
    )  # fmt: skip

    def __init__(self, leaves: Sequence[Callable[[], Any]], held: Held) -> None:
        self.leaves = tuple(leaves)
        self.held = held
        self.arrays: list[Array] = []  # as `held` says
        self.joined = False
        self.cleared = False
        self.waiting: Any = None  # the backward pass that will compute them
        self.version = 0  # of what is in `arrays`, and whether it is joined
        self.plain_at = -1  # the epoch in which no leaf had a hook
        self._tensors: list[Tensor | None] = []  # those that were given out

    @staticmethod
    def over(leaves: Sequence[Callable[[], Any]], held: Held, mine: Gradients | None) -> Gradients:
        """What the leaves share already, else `mine`, else a new object."""
        if mine is not None and mine.held != held:
            mine = None
        if mine is not None and mine.joined:
            return mine
        first = leaves[0]() if leaves else None
        found = None if first is None else first._gradient
        if isinstance(found, Gradients):
            same = len(found.leaves) == len(leaves) and found.held == held
            if same and all(a is b for a, b in zip(found.leaves, leaves, strict=True)):
                return found
        return Gradients(leaves, held) if mine is None else mine

    def reform(self, held: Held) -> None:
        """The next run leaves the gradients in another form."""
        if held != self.held:
            self.held, self.arrays, self._tensors = held, [], []
            self.version += 1

    # what a run does ----------------------------------------------------------------------

    def take(self, back: Any = None) -> list[Array]:
        """Arrays for the next values: the old ones, where nobody has a gradient any more.

        `back` is the backward pass whose values they will be, if these were waited for.
        """
        if self.waiting is not back:
            self.settle()
        if not self.arrays:
            return self.held.empty()
        return [
            array if owner < 0 or self._is_free(owner) else np.empty_like(array)
            for array, owner in zip(self.arrays, self.held.owners(), strict=True)
        ]

    def hold(self, arrays: list[Array]) -> None:
        """These are the gradients of the leaves from now on."""
        with LOCK:
            self._join()
            if list(map(id, arrays)) != list(map(id, self.arrays)):
                self.version += 1
            self.arrays = arrays
            self._tensors = []
            self.cleared, self.waiting = False, None

    def awaits(self, assign: bool) -> bool:
        """Whether a backward pass may begin, which finds no gradients or, with `assign`, some."""
        return (
            self.joined
            and (self.cleared or assign)
            and self.waiting is None
            and self.plain_at == config.epoch
        )

    def wait(self, back: Any) -> None:
        """The gradients of the leaves are what this backward pass will compute."""
        if not self.joined:
            self._join()
        self.cleared, self.waiting = False, back

    def hand_over(self, arrays: list[Array], handles: Sequence[Any]) -> None:
        """These are the values of lazy gradients that were given out (weak references)."""
        self.arrays = arrays
        self.version += 1
        self._tensors = [ref() for ref in handles]
        for array, t in zip(self.held.values(arrays), self._tensors, strict=True):
            if t is not None:
                t._become(array)

    def clear(self) -> None:
        """Drop the gradients; the arrays are for the next ones."""
        if self.waiting is None and self.joined:
            self.cleared = True  # at once: whoever looks meanwhile, looks before or after
            return
        with LOCK:
            if self.waiting is not None:
                self.settle()
                for leaf in self._alive():
                    leaf._gradient = None
            elif self.joined:
                self.cleared = True

    def drop(self) -> None:
        """The gradients of the leaves are None from now on."""
        self.clear()
        self._join()
        self.cleared = True

    # what a look does ---------------------------------------------------------------------

    def settle(self) -> None:
        """Give every leaf a gradient of its own."""
        with LOCK:
            if not self.joined:
                return
            self.joined = False
            self.version += 1
            back, self.waiting = self.waiting, None
            given: list[Any]
            if back is not None:
                given = back.give_out()
            elif self.cleared:
                given = [None] * len(self.leaves)
            else:
                given = self._tensors = [value_tensor(a) for a in self.held.values(self.arrays)]
            for ref, gradient in zip(self.leaves, given, strict=True):
                leaf = ref()
                if leaf is not None and leaf._gradient is self:
                    leaf._gradient = gradient

    @property
    def is_none(self) -> bool:
        """Whether the gradients are None."""
        return self.cleared

    def _alive(self) -> Iterable[Any]:
        return [leaf for ref in self.leaves if (leaf := ref()) is not None]

    def _join(self) -> None:
        if self.joined:
            return
        for leaf in self._alive():
            held = leaf._gradient
            if held is not self and isinstance(held, SharedGradient):
                held.settle()
            leaf._gradient = self
        self.joined = True
        self.version += 1

    # arrays that are used again -----------------------------------------------------------

    def _is_free(self, k: int) -> bool:
        """Whether nobody but its leaf refers to a gradient, its storage, version or a view."""
        if not self._tensors or self._tensors[k] is None:
            return True
        held, owned, seen = self.counts(k)
        leaf = self.leaves[k]()
        if leaf is None or leaf._gradient is not self._tensors[k]:
            held += 1  # the leaf has dropped it: who else holds it is somebody else
        if held > _HELD or owned > _OWNED or seen > _SEEN:
            return False
        given: Any = self._tensors[k]
        storage: Storage | None = given._storage if owned else None
        return storage is None or (storage.exported is None and storage.pending is None)

    def counts(self, k: int) -> tuple[int, int, int]:
        """How often gradient `k`, its storage and its version are referred to (no storage: 0)."""
        given: Any = self._tensors[k]
        if type(given) is ValueTensor:
            return getrefcount(given), 0, 0
        storage: Storage = given._storage
        return getrefcount(given), getrefcount(storage), storage.references()


def _baseline() -> tuple[int, int, int]:
    """The counts of a gradient that only its leaf and this table hold; interpreters differ."""
    leaf = Tensor(0.0)
    sample = Gradients([weakref.ref(leaf)], Held((((), np.dtype(np.float32)),), (0,)))
    sample.hold(sample.take())
    sample.settle()
    assert leaf.grad is not None and leaf.grad._storage is not None
    return sample.counts(0)


_HELD, _OWNED, _SEEN = _baseline()


def clear_gradients(leaves: Iterable[Any]) -> tuple[Gradients | None, list[Any]]:
    """Set `.grad` of the leaves to None.

    Returns what they share, if that is one thing and of these leaves only, and the other leaves.
    """
    parts: dict[Gradients, list[Any]] = {}
    others = []
    for leaf in {id(leaf): leaf for leaf in leaves}.values():
        shared = leaf._gradient
        if isinstance(shared, Gradients):
            parts.setdefault(shared, []).append(leaf)
        else:
            leaf.grad = None
            others.append(leaf)
    whole = [shared for shared, part in parts.items() if len(part) == len(shared.leaves)]
    for shared, part in parts.items():
        if shared in whole:
            shared.clear()
        else:
            for leaf in part:
                leaf.grad = None
    return (whole[0] if len(parts) == len(whole) == 1 else None), others
