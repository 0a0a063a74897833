"""What a step of an optimizer reads and writes, gathered once for many steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazygrad.config import config
from lazygrad.engine.body import Vjp
from lazygrad.engine.chain import Chain, run_known
from lazygrad.engine.modes import capturing
from lazygrad.engine.subgraph import Subgraph
from lazygrad.engine.tensor import Tensor
from lazygrad.engine.waiting import BackCall


class Plan:
    """What a step reads and writes, until the configuration or the set of gradients changes."""

    __slots__ = ("chains", "epoch", "idle", "inputs", "params", "places", "run", "targets")

    def __init__(
        self, run: Subgraph, inputs: list[Tensor], targets: list[Tensor], params: list[Tensor],
        idle: list[Tensor],
    ) -> None:  # fmt: skip
        self.run = run
        self.inputs = inputs
        self.targets = targets
        self.params = params  # those with a gradient
        self.idle = idle
        index = {id(t): i for i, t in enumerate(inputs)}
        self.places = [index[id(p)] + 1 for p in params]  # a gradient follows its parameter
        for place in self.places:
            inputs[place] = inputs[place - 1]  # hold no gradient of this step
        self.epoch = config.epoch
        self.chains: dict[Vjp, Chain] = {}  # what has run up to this step as one program

    def run_again(self) -> bool:
        """Run what waits for this step, if that has happened before and nothing has changed."""
        if not self.chains or self.epoch != config.epoch:
            return False
        return run_known(self.chains, self.params[0], self.idle)

    def learn(self, chain: Chain, back: BackCall, inputs: Sequence[Tensor]) -> None:
        """Remember a chain in which every parameter has its own gradient."""
        grads = [inputs[place] for place in self.places]
        own = [back.owner(t) for t in grads]
        if all(a is b for a, b in zip(own, self.params, strict=True)):
            self.chains[back.vjp] = chain

    def serves(self) -> bool:
        """Whether a step can use it: nothing changed, and the same parameters have gradients."""
        if self.epoch != config.epoch or capturing():
            return False
        for p in self.params:
            if not p._has_grad:
                return False
        return not any(p._has_grad for p in self.idle)

    def inputs_now(self) -> list[Tensor]:
        """The inputs with the gradients of this step."""
        found: list[Any] = self.inputs.copy()
        for place, p in zip(self.places, self.params, strict=True):
            found[place] = p.grad
        return found
