"""Hooks of modules in the backward pass: they see gradients of inputs and outputs together.

A hook of a tensor sees one gradient. A module has several arguments and results, whose gradients
arrive at different moments; so two ties (engine/tie.py) stand around a call of a module with such
hooks, one over its arguments and one over its results. They compute nothing. The gradients of the
results go through the pre-hooks on their way in and are kept; those of the arguments go through
the hooks on their way out, together with what was kept. Without an argument that needs a gradient
the hooks run on the way in, and get None for each argument. As with hooks of tensors, a hook may
compute: inside of a captured function that calls `backward()` it becomes part of the graph, and
where `backward()` is called outside of it, the capture is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazygrad.engine.apply import choose_graph
from lazygrad.engine.graph import Node
from lazygrad.engine.modes import STATE
from lazygrad.engine.tensor import Tensor
from lazygrad.engine.tie import Tie, tie
from lazygrad.engine.warn import warn
from lazygrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from lazygrad.nn.hooks import Hook

Grads = tuple[Tensor | None, ...]


class BackwardHooks:
    """The hooks around one call of a module."""

    def __init__(self, module: Any, before: Sequence[Hook], after: Sequence[Hook]) -> None:
        self.module = module
        self.before = before
        self.after = after
        self.inputs: _Side | None = None  # None where no argument needs a gradient
        self.given = 0  # how many arguments
        self.arrived: Grads | None = None  # gradients of the results, on their way

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, tied."""
        self.given = len(args)
        self.inputs = _Side.over(self, args, "grad_input")
        return args if self.inputs is None else self.inputs.tied(args)

    def leave(self, output: Any) -> Any:
        """The output, tied."""
        outputs = output if isinstance(output, tuple) else (output,)
        side = _Side.over(self, outputs, "grad_output")
        if side is None:
            if STATE.grad and not any(isinstance(t, Tensor) for t in outputs):
                warn(
                    "for its backward hooks to be called, a module returns a tensor or a tuple of"
                    f" tensors; {type(self.module).__name__} returned {type(output).__name__}"
                )
            return output
        tied = side.tied(outputs)
        return tied if isinstance(output, tuple) else tied[0]

    def through(self, side: _Side, grads: Grads) -> Grads:
        """Call the hooks of one side."""
        if side is not self.inputs:
            for hook in self.before:
                grads = side.checked(hook.call(self.module, grads), grads)
            self.arrived = grads
            if self.inputs is None:
                nothing: Grads = (None,) * self.given
                for hook in self.after:
                    self._ignored(hook.call(self.module, nothing, grads))
                self.arrived = None
            return grads
        if self.arrived is None:  # the gradient came by another way than the results
            return grads
        arrived, self.arrived = self.arrived, None
        for hook in self.after:
            grads = side.checked(hook.call(self.module, grads, arrived), grads)
        return grads

    def _ignored(self, returned: Any) -> None:
        """Raise if a hook replaces the gradient of an argument that has none."""
        if returned is None or (isinstance(returned, tuple) and set(returned) <= {None}):
            return
        raise ArgumentError(
            f"a backward hook of {type(self.module).__name__} returns None where no argument"
            f" requires grad, got {type(returned).__name__}"
        )


class _Side(Tie):
    """The tie over the arguments or over the results of one call."""

    def __init__(
        self, hooks: BackwardHooks, name: str, at: list[int], values: list[Tensor]
    ) -> None:
        self.graph = choose_graph(values)
        self.graph.settle_calls()
        self.values: Sequence[Node] = [t._node_in(self.graph) for t in values]
        super().__init__(("backward hooks", len(values)), self.values, [])
        self.hooks = hooks
        self.name = name
        self.at = at  # positions of those that require grad
        self.count = 0
        self.waiting: list[int] = []  # what a capture in progress holds until the gradient comes

    @classmethod
    def over(cls, hooks: BackwardHooks, given: tuple[Any, ...], name: str) -> _Side | None:
        """A tie over those that require grad; None if there are none."""
        at = [i for i, t in enumerate(given) if isinstance(t, Tensor) and t.requires_grad]
        if not at or not STATE.grad:
            return None
        side = cls(hooks, name, at, [given[i] for i in at])
        side.count = len(given)
        return side

    def tied(self, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """What was given, with the tied tensors in place of those that require grad."""
        outs = [Tensor._of(n) for n in tie(self.graph, self, self.values, [])]
        self.values = ()
        if STATE.capture is not None and self.name == "grad_output":
            self.waiting = [id(t) for t in outs]
            STATE.capture.hooked.update(zip(self.waiting, outs, strict=True))
        by_position = dict(zip(self.at, outs, strict=True))
        return tuple([by_position.get(i, t) for i, t in enumerate(given)])

    def pull(
        self, call: Node, cotangents: dict[int, Tensor], needed: set[int],
        gathered: dict[int, Tensor],
    ) -> dict[int, Tensor]:  # fmt: skip
        """The gradients as the hooks leave them; a pass that is only planned calls none."""
        found: dict[int, Tensor | None] = dict(cotangents)
        if not STATE.busy:
            if STATE.capture is not None:
                for key in self.waiting:
                    STATE.capture.hooked.pop(key, None)
            grads: list[Tensor | None] = [None] * self.count
            for i, at in enumerate(self.at):
                g = cotangents.get(i)
                if g is None and self.name == "grad_input":
                    g = next(iter(cotangents.values())).new_zeros(
                        self.outputs[i].shape, dtype=self.outputs[i].dtype
                    )
                grads[at] = g
            after = self.hooks.through(self, tuple(grads))
            found = {i: after[at] for i, at in enumerate(self.at)}
        return {
            i: gathered[i] + g if i in gathered else g
            for i, g in found.items()
            if g is not None and i in needed
        }

    def checked(self, returned: Any, grads: Grads) -> Grads:
        """What a hook returned, or what it was given if it returned None."""
        if returned is None:
            return grads
        who = f"a backward hook of {type(self.hooks.module).__name__}"
        if not isinstance(returned, tuple | list):
            raise ArgumentTypeError(
                f"{who} returns None or a tuple in place of {self.name},"
                f" got {type(returned).__name__}"
            )
        if len(returned) != len(grads):
            raise ArgumentError(
                f"{who} returned {len(returned)} gradients in place of the {len(grads)} of"
                f" {self.name}"
            )
        for i, at in enumerate(self.at):
            g, place = returned[at], self.outputs[i]
            if g is not None and not isinstance(g, Tensor):
                raise ArgumentTypeError(
                    f"{who} returned a {type(g).__name__} in place of {self.name}[{at}]"
                )
            if g is not None and g.shape != place.shape:
                raise ShapeError(
                    f"{who} returned a gradient of shape {g.shape} in place of {self.name}[{at}],"
                    f" which has shape {place.shape}"
                )
        return tuple(returned)
