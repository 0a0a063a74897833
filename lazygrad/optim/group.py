"""Parameter groups: dictionaries whose numbers live in cells that programs read.

A hyper-parameter is a 0-d float64 state tensor. Reading `group["lr"]` gives its value as a Python
float, assigning writes the cell; a captured training step reads the cell at each replay, so no
schedule ever traces anything again. What does shape the update is the set `on`: the switches
(momentum, weight decay) that are not zero and the flags that are true; captured functions notice
when it changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from lazygrad.config import config
from lazygrad.dtypes import float64
from lazygrad.engine.modes import capturing
from lazygrad.engine.tensor import Tensor, state
from lazygrad.errors import ArgumentError, ArgumentTypeError, CaptureError, nearest

Rule = tuple[Callable[[float], bool], str]
AT_LEAST_0: Rule = (lambda x: 0 <= x < math.inf, "a finite number >= 0")
BELOW_1: Rule = (lambda x: 0 <= x < 1, "in [0, 1)")
FINITE: Rule = (math.isfinite, "a finite number")
UP_TO_1: Rule = (lambda x: 0 <= x <= 1, "in [0, 1]")
RULES: dict[str, Rule] = {"betas": BELOW_1, "dampening": FINITE, "rho": UP_TO_1}


def checked(name: str, value: Any) -> float | tuple[float, ...]:
    """The number (or numbers) of a hyper-parameter, or an error that says what it must be."""
    if isinstance(value, tuple | list):
        return tuple(_number(name, v) for v in value)
    return _number(name, value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool | str) or value is None:
        raise ArgumentTypeError(f"{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"{name} must be a number, got {value!r}") from None
    holds, text = RULES.get(name, AT_LEAST_0)
    if not holds(number):
        what = "learning rate (lr)" if name == "lr" else name
        raise ArgumentError(f"the {what} must be {text}, got {number}")
    return number


def _many(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


class ParamGroup(MutableMapping[str, Any]):
    """Parameters that share hyper-parameters; reads and writes like PyTorch's dictionaries.

    >>> import lazygrad as lg
    >>> opt = lg.optim.SGD([lg.nn.Parameter([1.0])], lr=0.1)
    >>> opt.param_groups[0]["lr"] *= 0.5
    >>> opt.param_groups[0]["lr"]
    0.05
    """

    def __init__(
        self,
        params: list[Tensor],
        values: Mapping[str, Any],
        numeric: Sequence[str],
        switches: Sequence[str],
    ) -> None:
        self.params = params
        self.counter: Tensor | None = None  # how many steps each parameter has had
        self.tallies: dict[str, Tensor] = {}  # other numbers of each parameter
        numbers = {name: checked(name, values[name]) for name in numeric}
        self._pairs = frozenset(k for k, v in numbers.items() if isinstance(v, tuple))
        self.cells: dict[str, tuple[Tensor, ...]] = {
            name: tuple(state(x, float64, name) for x in _many(number))
            for name, number in numbers.items()
        }
        self.options = {k: v for k, v in values.items() if k not in numbers and k != "params"}
        self._switches = switches
        self.on = self._switched_on()

    def _switched_on(self) -> tuple[str, ...]:
        numbers = {name for name in self._switches if self.cells[name][0].item() != 0}
        return tuple(sorted(numbers | {k for k, v in self.options.items() if v is True}))

    def numbers(self, name: str, value: Any) -> tuple[float, ...]:
        """What the cells of a hyper-parameter would be set to; raises where that makes no sense."""
        found = _many(checked(name, value))
        if len(found) != len(self.cells[name]):
            raise ArgumentError(f"{name} takes {len(self.cells[name])} numbers, got {value!r}")
        return found

    @property
    def sizes(self) -> tuple[tuple[str, int], ...]:
        """Each hyper-parameter and how many numbers it has."""
        return tuple((name, len(cells)) for name, cells in self.cells.items())

    def tensors(self) -> list[Tensor]:
        """The cells in a fixed order."""
        return [cell for cells in self.cells.values() for cell in cells]

    def __getitem__(self, name: str) -> Any:
        if name == "params":
            return self.params
        if name in self.cells:
            if capturing():
                raise CaptureError(
                    f"reading param_groups[...][{name!r}] inside a captured function would freeze "
                    "its value; read it outside and pass it as an argument"
                )
            values = tuple(cell.item() for cell in self.cells[name])
            return values if name in self._pairs else values[0]
        if name in self.options:
            return self.options[name]
        raise KeyError(f"{name!r}{nearest(name, self)}")

    def __setitem__(self, name: str, value: Any) -> None:
        if capturing():
            raise CaptureError(
                f"param_groups[...][{name!r}] = ... inside a captured function would run only "
                "while it is traced; schedules step outside"
            )
        if name == "params":
            raise ArgumentError("params of a group are fixed; use add_param_group")
        if name in self.cells:
            for cell, number in zip(self.cells[name], self.numbers(name, value), strict=True):
                cell.data = number
        else:
            self.options[name] = value
        on = self._switched_on()
        if on != self.on:
            self.on = on
            config.bump()

    def __delitem__(self, name: str) -> None:
        del self.options[name]

    def __iter__(self) -> Iterator[str]:
        yield from ("params", *self.cells, *self.options)

    def __len__(self) -> int:
        return 1 + len(self.cells) + len(self.options)

    def __repr__(self) -> str:
        return repr({k: v for k, v in self.items() if k != "params"})
