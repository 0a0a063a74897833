"""Loading state dicts: look at everything first, then copy everything in.

What is missing, unexpected, misshapen or no array at all is collected and reported together, so a
failed load leaves the module as it was. Values are copied into the storage that is there: tensors
keep their identity, optimizers and captured programs stay valid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentTypeError, StateDictError, nearest
from lazygrad.ops.opdef import Array


class LoadReport(NamedTuple):
    """What a load that is not strict left out, under PyTorch's names."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"LoadReport(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"
        )


def load_entries(owner: str, targets: Mapping[str, Tensor], given: Any, strict: bool) -> LoadReport:
    """Copy the entries of `given` into `targets`, all or nothing."""
    if not isinstance(given, Mapping):
        raise ArgumentTypeError(f"a state dict is a mapping, got {type(given).__name__}")
    missing = [name for name in targets if name not in given]
    unexpected = [name for name in given if name not in targets]
    arrays: dict[str, Array] = {}
    problems = []
    for name, target in targets.items():
        if name in given:
            array, problem = _fitting(given[name], target)
            arrays[name] = array
            problems += [f"{name}: {problem}"] if problem else []
    if strict:
        names = _listed("missing", missing, given) + _listed("unexpected", unexpected, targets)
        problems = names + problems
    if problems:
        lines = "".join(f"\n  {line}" for line in problems)
        raise StateDictError(f"the state dict does not fit {owner}; nothing was loaded:{lines}")
    for name, array in arrays.items():
        targets[name].data = array
    return LoadReport(missing, unexpected)


def _listed(what: str, names: list[str], others: Iterable[str]) -> list[str]:
    others = [str(name) for name in others]
    return [f"{what}: {name}{nearest(str(name), others)}" for name in names]


def _fitting(value: Any, target: Tensor) -> tuple[Array, str]:
    """The value as an array, and what is wrong with it (or an empty string)."""
    try:
        array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
    except ValueError as error:  # ragged lists
        return np.empty(0), str(error)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        return array, f"not a numeric array but {type(value).__name__} of dtype {array.dtype}"
    if array.shape != target.shape:
        return array, f"shape {array.shape} where the module has {target.shape}"
    return array, ""
