"""Sequences of different lengths: padded to one tensor, or packed without the padding.

Lengths are structure, not data: they are read when a batch is packed, and a captured function
keeps a program for each pattern of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lazygrad.engine.functions import cat, stack
from lazygrad.engine.modes import capturing
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, CaptureError, ShapeError

__all__ = [
    "PackedSequence", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence",
    "pad_sequence",
]  # fmt: skip


class PackedSequence(NamedTuple):
    """The steps of sequences one after the other: all first elements, all second ones...

    `data` is (total of the lengths, ...), `batch_sizes` says how many sequences reach each step.
    The sequences stand longest first; `sorted_indices` brought them into that order.
    """

    data: Tensor
    batch_sizes: tuple[int, ...]
    sorted_indices: tuple[int, ...] | None = None
    unsorted_indices: tuple[int, ...] | None = None


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack (time, batch, ...) or (batch, time, ...) by the length of each sequence.

    >>> import lazygrad as lg
    >>> packed = pack_padded_sequence(lg.tensor([[1.0, 3.0], [2.0, 0.0]]), [2, 1])
    >>> packed.data.tolist(), packed.batch_sizes
    ([1.0, 3.0, 2.0], (2, 1))
    """
    if isinstance(lengths, Tensor) and capturing():
        raise CaptureError(
            "pack_padded_sequence: lengths shape the program: inside a captured function they are "
            "a list or tuple of integers; pass it lengths.tolist()"
        )
    sizes = np.asarray(lengths.numpy() if isinstance(lengths, Tensor) else lengths)
    x = input.transpose(0, 1) if batch_first else input
    steps, batch = x.shape[:2]
    if sizes.shape != (batch,) or sizes.dtype.kind not in "iu":
        raise ShapeError(
            f"pack_padded_sequence: lengths must be {batch} integers for input {input.shape}, got "
            f"shape {sizes.shape}"
        )
    if sizes.min(initial=1) < 1 or sizes.max(initial=0) > steps:
        raise ArgumentError(f"pack_padded_sequence: lengths are from 1 to {steps}, got {lengths}")
    order = np.argsort(-sizes, kind="stable")
    if enforce_sorted:
        if (np.diff(sizes) > 0).any():
            raise ArgumentError(
                "pack_padded_sequence: lengths must fall; pass enforce_sorted=False to sort them"
            )
        order = np.arange(batch)
    kept = np.arange(steps)[:, None] < sizes[order]
    rows = (np.arange(steps)[:, None] * batch + order)[kept]
    data = x.reshape((steps * batch, *x.shape[2:])).index_select(0, rows)
    batch_sizes = tuple(n for n in kept.sum(1).tolist() if n)
    if enforce_sorted:
        return PackedSequence(data, batch_sizes)
    return PackedSequence(
        data, batch_sizes, tuple(order.tolist()), tuple(np.argsort(order).tolist())
    )  # fmt: skip


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(time, batch, ...) or (batch, time, ...) with `padding_value` behind the ends; the lengths.

    >>> import lazygrad as lg
    >>> packed = pack_padded_sequence(lg.tensor([[1.0, 3.0], [2.0, 0.0]]), [2, 1])
    >>> padded, lengths = pad_packed_sequence(packed, padding_value=-1.0)
    >>> padded.tolist(), lengths.tolist()
    ([[1.0, 3.0], [2.0, -1.0]], [2, 1])
    """
    sizes = np.asarray(sequence.batch_sizes)
    steps = len(sizes) if total_length is None else total_length
    if steps < len(sizes):
        raise ArgumentError(
            f"pad_packed_sequence: total_length {total_length} is less than the {len(sizes)} steps"
        )
    batch = int(sizes[0])
    order = np.arange(batch)
    if sequence.unsorted_indices is not None:
        order = np.asarray(sequence.unsorted_indices)
    sizes = np.pad(sizes, (0, steps - len(sizes)))
    kept = order < sizes[:, None]
    rows = np.where(kept, (np.cumsum(sizes) - sizes)[:, None] + order, 0)
    data = sequence.data
    out = data.index_select(0, rows.reshape(-1)).reshape((steps, batch, *data.shape[1:]))
    mask = Tensor(kept.reshape((steps, batch, *[1] * (data.ndim - 1))))
    out = out.where(mask, padding_value)
    return (out.transpose(0, 1) if batch_first else out), Tensor(kept.sum(0))


def pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:  # fmt: skip
    """Tensors (time, ...) of different lengths as one (time, batch, ...) or (batch, time, ...).

    `padding_side` is "right", after the last step, or "left", before the first.

    >>> import lazygrad as lg
    >>> pad_sequence([lg.tensor([1.0, 2.0]), lg.tensor([3.0])], batch_first=True)
    tensor([[1., 2.],
            [3., 0.]])
    """
    if not sequences or padding_side not in ("right", "left"):
        raise ArgumentError(
            f"pad_sequence takes at least one sequence, and padding_side 'right' or 'left'; got "
            f"{len(sequences)} and {padding_side!r}"
        )
    steps = max(s.shape[0] for s in sequences)
    padded = []
    for s in sequences:
        missing = steps - s.shape[0]
        ends = (0, missing) if padding_side == "right" else (missing, 0)
        padded.append(s.pad([ends, *[(0, 0)] * (s.ndim - 1)], value=padding_value))
    return stack(padded, 0 if batch_first else 1)


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Tensors (time, ...) of different lengths, packed."""
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, False, enforce_sorted)


def steps_of(packed: PackedSequence) -> list[Tensor]:
    """The rows of each step."""
    return list(packed.data.split(list(packed.batch_sizes)))


def joined(steps: Sequence[Tensor], like: PackedSequence) -> PackedSequence:
    """Rows for each step as a packed sequence with the order of another."""
    return like._replace(data=cat(list(steps)))
