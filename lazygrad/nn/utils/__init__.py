"""Clipping of gradients, parameters as one vector, and packed sequences (`rnn`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce

from lazygrad.dtypes import float64
from lazygrad.engine.functions import cat
from lazygrad.engine.modes import no_grad
from lazygrad.engine.subgraph import Subgraph
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, GradientError
from lazygrad.nn.utils import rnn
from lazygrad.shapes import numel

__all__ = [
    "clip_grad_norm_", "clip_grad_value_", "get_total_norm", "parameters_to_vector", "rnn",
    "vector_to_parameters",
]  # fmt: skip


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The parameters that have a gradient."""
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p for p in given if p.grad is not None]


def _norm(order: float, tensors: Sequence[Tensor]) -> Tensor:
    """The norm of all elements of all tensors."""
    if order == math.inf:
        return reduce(Tensor.maximum, [t.abs().amax() for t in tensors])
    if not 0 < order < math.inf:
        raise ArgumentError(f"norm_type must be a number above 0 or inf, got {order}")
    if order == 2:
        return reduce(Tensor.add, [(t * t).sum() for t in tensors]).sqrt()
    return reduce(Tensor.add, [t.abs().pow(order).sum() for t in tensors]).pow(1 / order)


def get_total_norm(tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """The norm of several tensors as if they were one vector.

    >>> import lazygrad as lg
    >>> lg.nn.utils.get_total_norm([lg.tensor([3.0]), lg.tensor([[4.0]])])
    tensor(5.)
    """
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    return _norm(float(norm_type), given) if given else Tensor(0.0)


_clip_subgraphs: dict[float, Subgraph] = {}


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float | Tensor,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients so that their total norm is at most `max_norm`; returns the norm before.

    With `error_if_nonfinite` the norm is computed at once, to raise where it is NaN or infinite.

    >>> import lazygrad as lg
    >>> w = lg.nn.Parameter([1.0, 1.0])
    >>> (w * lg.tensor([3.0, 4.0])).sum().backward()
    >>> lg.nn.utils.clip_grad_norm_([w], max_norm=1.0)
    tensor(5.)
    >>> [round(g, 4) for g in w.grad.tolist()]
    [0.6, 0.8]
    """
    limit = max_norm if isinstance(max_norm, Tensor) else Tensor(_bound(max_norm), dtype=float64)
    clipped = _gradients(parameters)
    if not clipped:
        return Tensor(0.0)
    order = float(norm_type)
    run = _clip_subgraphs.get(order)
    if run is None:
        run = _clip_subgraphs[order] = Subgraph(lambda *given: _clipped(order, *given))
    with no_grad():
        grads = [p.grad for p in clipped if p.grad is not None]
        total, *scaled = run(*grads, limit)
        if error_if_nonfinite and not math.isfinite(total.item()):
            raise GradientError(f"the norm of the gradients is {total.item()}; nothing was clipped")
        for p, grad in zip(clipped, scaled, strict=True):
            p.grad = grad
    return total


def _clipped(order: float, *given: Tensor) -> list[Tensor]:
    *grads, max_norm = given
    total = _norm(order, grads)
    scale = (max_norm.to(total.dtype) / (total + 1e-6)).clamp(max=1.0)
    return [total, *(g * scale.to(g.dtype) for g in grads)]


def _bound(value: float) -> float:
    if not value >= 0:
        raise ArgumentError(f"gradients are clipped to a number >= 0, got {value}")
    return float(value)


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Cut every element of the gradients to [-clip_value, clip_value]."""
    bound = _bound(clip_value)
    with no_grad():
        for p in _gradients(parameters):
            if p.grad is not None:
                p.grad = p.grad.clamp(-bound, bound)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters as one vector."""
    flat = [p.reshape(-1) for p in parameters]
    return cat(flat)


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write the pieces of a vector back into the parameters."""
    given = list(parameters)
    wanted = sum(numel(p.shape) for p in given)
    if vec.shape != (wanted,):
        raise ArgumentError(f"the parameters have {wanted} elements, the vector {vec.shape}")
    start = 0
    with no_grad():
        for p in given:
            stop = start + numel(p.shape)
            p.assign_(vec[start:stop].reshape(p.shape))
            start = stop
