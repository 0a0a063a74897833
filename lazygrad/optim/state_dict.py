"""State dicts of optimizers, in PyTorch's layout.

`{"state": {0: {"step": ..., "exp_avg": ...}}, "param_groups": [{"lr": ..., "params": [0]}]}`:
parameters are numbered over the groups. Restoring looks at everything first; then it writes into
the cells and moments that are there, so that captured training steps stay valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lazygrad.engine.tensor import Tensor
from lazygrad.errors import LazygradError, StateDictError
from lazygrad.ops.opdef import Array
from lazygrad.optim.group import ParamGroup

if TYPE_CHECKING:
    from lazygrad.optim.optimizer import Optimizer


def collect(optimizer: Optimizer) -> dict[str, Any]:
    """The state dict: snapshots that later steps do not change."""
    state: dict[int, dict[str, Tensor]] = {}
    groups: list[dict[str, Any]] = []
    number = 0
    for group in optimizer.param_groups:
        numbers = range(number, number + len(group.params))
        number = numbers.stop
        steps = None if group.counter is None else group.counter.numpy(copy=True)
        tallies = {name: t.numpy(copy=True) for name, t in group.tallies.items()}
        for i, p in zip(numbers, group.params, strict=True):
            entry = {k: Tensor(moment) for k, moment in optimizer.state.get(p, {}).items()}
            if steps is not None and steps[i - numbers.start] > 0:
                entry[optimizer.counter_name] = Tensor(steps[i - numbers.start])
                entry.update({name: Tensor(t[i - numbers.start]) for name, t in tallies.items()})
            if entry:
                state[i] = entry
        groups.append({**{k: v for k, v in group.items() if k != "params"}, "params": [*numbers]})
    return {"state": state, "param_groups": groups}


def restore(optimizer: Optimizer, given: Mapping[str, Any]) -> None:
    """Take over a state dict, all or nothing."""
    problems, plans = _plan(optimizer, given)
    if problems:
        lines = "".join(f"\n  {line}" for line in problems)
        name = type(optimizer).__name__
        raise StateDictError(f"the state dict does not fit {name}; nothing was loaded:{lines}")
    for group, values, entries in plans:
        for key, value in values.items():
            group[key] = value
        _fill(optimizer, group, entries)


def _fill(optimizer: Optimizer, group: ParamGroup, entries: list[dict[str, Array]]) -> None:
    """Write moments and step counts; what the state dict lacks goes back to its beginning."""
    steps = np.zeros(len(group.params))
    tallies = {
        name: np.full(len(group.params), optimizer.initial(group, name))
        for name in optimizer.tallies(group.on)
    }
    for i, (p, entry) in enumerate(zip(group.params, entries, strict=True)):
        steps[i] = float(entry.pop(optimizer.counter_name, 0))
        for name, values in tallies.items():
            values[i] = float(entry.pop(name, values[i]))
        names = tuple({**optimizer.state.get(p, {}), **entry})
        for name, moment in zip(names, optimizer.ensure_state(group, p, names), strict=True):
            value = entry.get(name, optimizer.initial(group, name))
            moment.data = np.broadcast_to(value, moment.shape)
    if optimizer.counts(group.on):
        optimizer.ensure_counter(group).data = steps
    for held, values in zip(
        optimizer.ensure_tallies(group, tuple(tallies)), tallies.values(), strict=True
    ):
        held.data = values


Plan = tuple[ParamGroup, dict[str, Any], list[dict[str, Array]]]


def _plan(optimizer: Optimizer, given: Any) -> tuple[list[str], list[Plan]]:
    """What is wrong with a state dict, and what would be written."""
    if not isinstance(given, Mapping) or not {"state", "param_groups"} <= set(given):
        return ["it has no 'state' and 'param_groups'"], []
    groups, own = given["param_groups"], optimizer.param_groups
    if len(groups) != len(own):
        return [f"{len(groups)} parameter groups where there are {len(own)}"], []
    problems: list[str] = []
    plans: list[Plan] = []
    state = {int(number): entry for number, entry in given["state"].items()}
    for i, (group, new) in enumerate(zip(own, groups, strict=True)):
        numbers = new.get("params", [])
        if len(numbers) != len(group.params):
            problems.append(
                f"param_groups[{i}]: {len(numbers)} parameters where there are {len(group.params)}"
            )
            continue
        values = {k: v for k, v in new.items() if k != "params"}
        for name in values.keys() & group.cells.keys():
            try:
                group.numbers(name, values[name])
            except LazygradError as error:
                problems.append(f"param_groups[{i}]: {error}")
        entries = []
        everything = (*optimizer.switches, *group.options)
        single = (optimizer.counter_name, *optimizer.tallies(everything))
        known = (*optimizer.moments(everything), *single)
        for number, p in zip(numbers, group.params, strict=True):
            found = state.get(number, {})
            entry, wrong = _entry(known, single, f"state[{number}]", found, p)
            entries.append(entry)
            problems += wrong
        plans.append((group, values, entries))
    return problems, plans


def _entry(
    known: tuple[str, ...],
    single: tuple[str, ...],
    where: str,
    given: Mapping[str, Any],
    param: Tensor,
) -> tuple[dict[str, Array], list[str]]:
    """The arrays of one parameter's state, and what is wrong with them."""
    entry: dict[str, Array] = {}
    problems = []
    for name, value in given.items():
        if value is None:  # PyTorch writes so for a moment that does not exist yet
            continue
        array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
        wanted = () if name in single else param.shape
        if name not in known:
            problems.append(f"{where}: unexpected {name!r}")
        elif array.shape != wanted:
            problems.append(f"{where}: {name} has shape {array.shape} where {wanted} is needed")
        entry[name] = array
    return entry, problems
