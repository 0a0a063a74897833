"""Methods that fill a tensor from the random stream."""

from __future__ import annotations

# A mixin sees only its own methods; the class that mixes all of them has the rest.
# mypy: disable-error-code="attr-defined,no-any-return,operator,index"
from typing import TYPE_CHECKING, Any

from lazygrad.engine import distributions
from lazygrad.engine.methods.base import Methods
from lazygrad.errors import ArgumentError

if TYPE_CHECKING:
    from lazygrad.engine.tensor import Tensor


class RandomMethods(Methods):
    """In-place distributions, as initialisation uses them."""

    __slots__ = ()

    def uniform_(self, a: float = 0.0, b: float = 1.0, *, generator: Any = None) -> Tensor:
        """Uniform numbers in [a, b), in place."""
        if a > b:
            raise ArgumentError(f"uniform_: [{a}, {b}) is empty")
        unit = distributions.uniform(self.shape, self.dtype, generator)
        return self._rebind(unit * (b - a) + a)

    def normal_(self, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
        """Normal numbers, in place."""
        if std < 0:
            raise ArgumentError(f"normal_: the deviation must not be negative, got {std}")
        return self._rebind(distributions.normal(self.shape, self.dtype, generator) * std + mean)

    def bernoulli_(self, p: float = 0.5, *, generator: Any = None) -> Tensor:
        """1 with probability `p`, else 0, in place."""
        chance = distributions.uniform(self.shape, distributions.float32, generator) < p
        return self._rebind(chance.to(self.dtype))

    def exponential_(self, lambd: float = 1.0, *, generator: Any = None) -> Tensor:
        """Exponential numbers of rate `lambd`, in place."""
        drawn = distributions.exponential(self.shape, self.dtype, generator)
        return self._rebind(drawn / lambd)

    def bernoulli(self, p: float | None = None, *, generator: Any = None) -> Tensor:
        """1 with the probability in each element (or `p` everywhere), else 0."""
        chances = self._self if p is None else self.new_full(self.shape, p)
        return distributions.bernoulli(chances, generator)

    def multinomial(
        self, num_samples: int, replacement: bool = False, *, generator: Any = None
    ) -> Tensor:
        """Positions drawn with the weights in the last axis; int64."""
        return distributions.multinomial(self._self, num_samples, replacement, generator)
