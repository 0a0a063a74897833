"""What all normalizations are: values over the root mean square of the (centred) values."""

from __future__ import annotations

from typing import Any

from lazygrad.engine.tensor import Tensor
from lazygrad.nn.functional.two_ways import with_vjp
from lazygrad.shapes import numel, unbroadcast_axes

Axes = tuple[int, ...]


def _parts(
    axes: Axes, eps: float, centred: bool, x: Tensor, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """The result, the variance (and the mean, where it is subtracted), and what x is scaled by."""
    mean = x.mean(dim=axes, keepdim=True) if centred else None
    away = x if mean is None else x - mean
    variance = (away * away).mean(dim=axes, keepdim=True)
    scale = (variance + eps).rsqrt()
    if weight is not None and weight.shape == scale.shape:  # a number for each statistic
        out = away * (scale * weight)
    else:
        out = away * scale if weight is None else away * scale * weight
    statistics = (variance,) if mean is None else (variance, mean)
    return out if bias is None else out + bias, statistics, scale


def _results(out: Tensor, statistics: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return out, *[s.detach() for s in statistics]


def _forward(*args: Any) -> tuple[Any, Any]:
    out, statistics, scale = _parts(*args)
    return _results(out, statistics), (args[3:], statistics[1:], scale)


def _backward(axes: Axes, eps: float, centred: bool, kept: Any, gs: Any) -> tuple[Any, ...]:
    """The closed form; the statistics have no gradient."""
    (x, weight, bias), mean, scale = kept
    g = gs[0]
    if weight is None or weight.shape == scale.shape:
        return _by_statistic(axes, g, x - mean[0] if mean else x, weight, bias, bool(mean), scale)
    unit = (x - mean[0] if mean else x) * scale
    along = g * unit
    inner, both = g * weight, along * weight
    change = inner - unit * both.mean(dim=axes, keepdim=True)
    if mean:
        change = change - inner.mean(dim=axes, keepdim=True)
    return (
        scale * change,
        _summed(along, weight),
        None if bias is None else _summed(g, bias),
    )


def _by_statistic(
    axes: Axes, g: Tensor, away: Tensor, weight: Tensor | None, bias: Tensor | None, centred: bool,
    scale: Tensor,
) -> tuple[Any, ...]:  # fmt: skip
    """The closed form where `weight` has a number for each statistic, or is not there.

    Both sums are then gradients of parameters, too, and the rest are numbers for each statistic:
    two passes over g and x.
    """
    count = numel(g.shape) // max(numel(scale.shape), 1)
    along = (g * away).sum(dim=axes, keepdim=True) * scale
    total = g.sum(dim=axes, keepdim=True)
    by = scale if weight is None else scale * weight
    change = away * (by * scale * along / count)
    if centred:
        change = change + by * total / count
    return (
        g * by - change,
        None if weight is None else along.to(weight.dtype),
        None if bias is None else _summed(total, bias),
    )


def _summed(g: Tensor, like: Tensor) -> Tensor:
    """A gradient summed over the axes along which `like` was broadcast, in its dtype."""
    axes, _ = unbroadcast_axes(g.shape, like.shape)
    total = g.sum(dim=axes, keepdim=True) if axes else g
    return total.reshape(like.shape).to(like.dtype)


@with_vjp(_backward, forward=_forward, static=["axes", "eps", "centred"], auto=True)
def _normalization(
    axes: Axes, eps: float, centred: bool, x: Tensor, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, ...]:
    out, statistics, _ = _parts(axes, eps, centred, x, weight, bias)
    return _results(out, statistics)


def unit(
    x: Tensor, axes: Axes, eps: float, weight: Tensor | None = None, bias: Tensor | None = None, *,
    centred: bool = True, auto: bool | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Mean 0 (if `centred`) and variance 1 over `axes`, scaled and shifted.

    Also the variance and the mean that were, which have no gradient. `weight` and `bias` are shaped
    to meet x.
    """
    return _normalization(axes, eps, centred, x, weight, bias, auto=auto)
