"""Sums, means and maxima over bags of embeddings."""

from __future__ import annotations

from lazygrad.engine.functions import cat
from lazygrad.engine.indexing import checked
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, ShapeError
from lazygrad.nn.functional.layers import embedding

_MODES = ("sum", "mean", "max")


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    *,
    mode: str = "mean",
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The rows of `weight` at the indices of each bag, reduced by `mode` to (bags, width).

    The rows of a (bags, indices) input are the bags; a vector is cut at `offsets`, with the end as
    their last one if `include_last_offset`. Empty bags are zero, `padding_idx` does not count, and
    `per_sample_weights`, one for each index, go with mode "sum".

    >>> import lazygrad as lg
    >>> table = lg.tensor([[1.0], [10.0], [100.0]])
    >>> lg.nn.functional.embedding_bag(lg.tensor([0, 2, 1]), table, lg.tensor([0, 2]), mode="sum")
    tensor([[101.],
            [10.]])
    """
    if mode not in _MODES:
        raise ArgumentError(f"embedding_bag: mode {mode!r} is not 'sum', 'mean' or 'max'")
    if per_sample_weights is not None and mode != "sum":
        raise ArgumentError(f"embedding_bag: per_sample_weights go with mode 'sum', not {mode!r}")
    if per_sample_weights is not None and per_sample_weights.shape != input.shape:
        raise ShapeError(
            f"embedding_bag: weights {per_sample_weights.shape} for input {input.shape}"
        )
    count, bag = _bags(input, offsets, include_last_offset)
    rows = embedding(input.reshape(-1), weight, padding_idx)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape((-1, 1))
    real = rows.new_ones((rows.shape[0], 1))
    if padding_idx is not None:
        padding = input.reshape((-1, 1)) == padding_idx % weight.shape[0]
        real = real.masked_fill(padding, 0.0)
    sizes = rows.new_zeros((count, 1)).index_add(0, bag, real)
    nothing = rows.new_zeros((count, weight.shape[1]))
    if mode == "max":
        shown = rows.masked_fill(real == 0, float("-inf"))
        largest = nothing.index_reduce(0, bag, shown, "amax", include_self=False)
        return largest.masked_fill(sizes == 0, 0.0)
    total = nothing.index_add(0, bag, rows.masked_fill(real == 0, 0.0))
    return total / sizes.clamp(min=1) if mode == "mean" else total


def _bags(input: Tensor, offsets: Tensor | None, include_last: bool) -> tuple[int, Tensor]:
    """The number of bags, and the bag of each index."""
    if input.ndim == 2:
        if offsets is not None:
            raise ShapeError("embedding_bag: offsets are for an input that is a vector")
        count, size = input.shape
        return count, input._iota((count, size), 0).reshape(-1)
    if input.ndim != 1 or offsets is None or offsets.ndim != 1:
        raise ShapeError(
            f"embedding_bag: input {input.shape} must be (bags, indices), or a vector with offsets"
        )
    starts = _starts(offsets, input.shape[0], include_last)
    places = input._iota((input.shape[0],), 0)
    return starts.shape[0], starts.searchsorted(places, right=True) - 1


def _starts(offsets: Tensor, count: int, include_last: bool) -> Tensor:
    """Where each bag begins: at 0, in order, within the input; the last offset may be its end."""
    name = "embedding_bag: offset"
    if include_last and not offsets.shape[0]:
        raise ShapeError("embedding_bag: include_last_offset needs at least one offset")
    offsets = checked(offsets, count + 1, name)
    first = checked(offsets[:1], 1, name, of="where the first bag begins, which is 0")
    steps = checked(offsets[1:] - offsets[:-1], count + 1, f"{name}s in order, step")
    starts = cat([first, first + steps.cumsum(0)], 0)
    if not include_last:
        return starts
    end = checked(starts[-1:], count + 1, name, count, f"where the last bag ends, which is {count}")
    return starts[:-1] + (end - count)
