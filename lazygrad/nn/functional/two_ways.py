"""`with_vjp`: a function with two gradients, derived from its operations or written by hand.

A composite (softmax, layer normalization) can be differentiated operation by operation. Where its
gradient is known in closed form, that reads less of the forward: one rule beside the composite says
so, and `auto=` chooses, as in MyTorch: True derives, False takes the rule, None what is better. The
rule is a `custom_vjp`, or for a function that is an operation, the gradient in the op's record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, Generic, TypeVar

from lazygrad.engine.custom_vjp import custom_vjp
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError

R = TypeVar("R")
TWO_WAYS: dict[str, TwoWays[Any]] = {}  # what the tests hold to the equality of both


class TwoWays(Generic[R]):
    """A composite, and the same function with a gradient of its own."""

    def __init__(self, composite: Callable[..., R], own: Callable[..., R], auto: bool) -> None:
        self.composite = composite
        self.own = own
        self.auto = auto  # the default: which of the two is better, as measured
        TWO_WAYS[composite.__name__.strip("_")] = self

    def __call__(self, *args: Any, auto: bool | None = None) -> R:
        """The function; `auto` chooses its gradient."""
        if auto is None:
            auto = self.auto
        elif not isinstance(auto, bool):
            raise ArgumentError(f"auto must be True, False or None, got {auto!r}")
        return (self.composite if auto else self.own)(*args)


def with_vjp(
    backward: Callable[..., Any], *, keeps: Callable[..., Any] | None = None,
    forward: Callable[..., Any] | None = None, static: Sequence[str] = (), auto: bool = False,
) -> Callable[[Callable[..., R]], TwoWays[R]]:  # fmt: skip
    """Give a composite a gradient of its own; `backward` is as in `custom_vjp`.

    Its residuals are `keeps(result, *args)`, or those of a `forward` that returns (result,
    residuals). `static` names the arguments that are no tensors; `auto` is the default.
    """

    def decorate(composite: Callable[..., R]) -> TwoWays[R]:
        def kept(*args: Any) -> tuple[R, Any]:
            result = composite(*args)
            return result, None if keeps is None else keeps(result, *args)

        names = list(signature(composite).parameters)
        own = custom_vjp(composite, [names.index(name) for name in static])
        own.defvjp(forward or kept, backward)
        return TwoWays(composite, own, auto)

    return decorate


def with_op(own: Callable[..., R]) -> Callable[[Callable[..., R]], TwoWays[R]]:
    """Stand for an operation, whose record has the gradient: the composite says what it is."""
    return lambda composite: TwoWays(composite, own, auto=False)


def chosen(module: Any) -> dict[str, bool]:
    """The `auto` of a module, as an argument of its function; most have none."""
    return {} if module.auto is None else {"auto": module.auto}


def wide(x: Tensor) -> Tensor:
    """Half precision as float32: squares of 256 overflow in float16."""
    return x.float() if x.dtype.is_floating_point and x.dtype.itemsize == 2 else x
