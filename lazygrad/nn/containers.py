"""Containers: modules and parameters in sequence, list or dictionary."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Generic, Self, TypeVar, overload

from lazygrad.engine.tensor import Tensor
from lazygrad.errors import IndexOutOfRangeError, LazygradError
from lazygrad.nn.module import Module
from lazygrad.nn.parameter import Parameter

T = TypeVar("T")


class _Numbered(Module, Generic[T]):
    """What containers with numbered entries have in common; `_kind` is where the entries live."""

    _kind = "_modules"

    def _entries_of(self) -> dict[str, T]:
        found: dict[str, T] = self.__dict__[self._kind]
        return found

    def _position(self, index: int) -> int:
        size = len(self)
        position = operator.index(index)
        if not -size <= position < size:
            raise IndexOutOfRangeError(
                f"index {position} is out of range for a {type(self).__name__} of {size}"
            )
        return position % size

    def _key(self, index: int) -> str:
        return list(self._entries_of())[self._position(index)]

    def _renumber(self, values: Iterable[T]) -> None:
        found = list(values)
        for key in list(self._entries_of()):
            delattr(self, key)
        for i, value in enumerate(found):
            setattr(self, str(i), value)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> T | Self:
        if isinstance(index, slice):
            return self._like(list(self._entries_of().items())[index])
        return self._entries_of()[self._key(index)]

    def _like(self, entries: list[tuple[str, T]]) -> Self:
        return type(self)(value for _, value in entries)  # type: ignore[call-arg]

    def __setitem__(self, index: int, value: T) -> None:
        setattr(self, self._key(index), value)

    def __delitem__(self, index: int | slice) -> None:
        values = list(self._entries_of().values())
        del values[index]
        self._renumber(values)

    def __len__(self) -> int:
        return len(self._entries_of())

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._entries_of().values()))

    def __contains__(self, value: object) -> bool:
        return any(value is held for held in self)

    def __bool__(self) -> bool:
        return True

    def append(self, value: T) -> Self:
        """Add one at the end."""
        setattr(self, str(len(self)), value)
        return self

    def insert(self, index: int, value: T) -> Self:
        """Add one before a position."""
        values = list(self)
        values.insert(index, value)
        self._renumber(values)
        return self

    def extend(self, values: Iterable[T]) -> Self:
        """Add several at the end."""
        for value in list(values):
            self.append(value)
        return self

    __iadd__ = extend

    def __add__(self, other: Iterable[T]) -> Self:
        return self._like([("", v) for v in (*self, *other)])

    def pop(self, index: int = -1) -> T:
        """Take one out."""
        value = self[index]
        del self[index]
        return value


class Sequential(_Numbered[Module]):
    """Modules one after the other; an ordered dictionary gives them names.

    >>> import lazygrad as lg
    >>> net = lg.nn.Sequential(lg.nn.Linear(4, 3), lg.nn.ReLU(), lg.nn.Linear(3, 2))
    >>> net(lg.ones(5, 4)).shape, len(net)
    ((5, 2), 3)
    >>> net[:2]
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=True)
      (1): ReLU()
    )
    """

    def __init__(self, *args: Any) -> None:
        if len(args) == 1 and isinstance(args[0], Mapping):
            named = list(args[0].items())
        else:
            named = [(str(i), module) for i, module in enumerate(args)]
        for name, module in named:
            self.add_module(name, module)

    def _like(self, entries: list[tuple[str, Module]]) -> Self:
        named = {name or str(i): module for i, (name, module) in enumerate(entries)}
        return type(self)(named)

    def __delitem__(self, index: int | slice) -> None:
        keys = list(self._modules)
        for key in keys[index] if isinstance(index, slice) else [self._key(index)]:
            delattr(self, key)
        if all(key.isdigit() for key in keys):
            self._renumber(list(self))

    def forward(self, input: Any) -> Any:
        """Each module on what the one before returned; an error is told where it came up."""
        for name, module in self._entries_of().items():
            try:
                input = module(input)
            except LazygradError as error:
                error.add_note(f"in {name}: {type(module).__name__} of a {type(self).__name__}")
                raise
        return input


class ModuleList(_Numbered[Module]):
    """A list whose modules are registered.

    >>> import lazygrad as lg
    >>> layers = lg.nn.ModuleList(lg.nn.Linear(2, 2) for _ in range(3))
    >>> layers
    ModuleList(
      (0-2): 3 x Linear(in_features=2, out_features=2, bias=True)
    )
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        for i, module in enumerate(modules or ()):
            self.add_module(str(i), module)

    def __repr__(self) -> str:
        texts = [repr(m).replace("\n", "\n  ") for m in self]
        lines, start = [], 0
        for text, equal in groupby(texts):
            count = len(list(equal))
            last = start + count - 1
            name = f"({start}): " if count == 1 else f"({start}-{last}): {count} x "
            lines.append(f"\n  {name}{text}")
            start += count
        return f"{type(self).__name__}({''.join(lines)}{chr(10) if lines else ''})"


class ParameterList(_Numbered[Any]):
    """A list whose tensors are registered; plain tensors become parameters."""

    _kind = "_parameters"

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        self.extend(values or ())

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor) and not isinstance(value, Parameter):
            value = Parameter(value, requires_grad=value.dtype.is_floating_point)
        super().__setattr__(name, value)

    def extra_repr(self) -> str:
        """One line for each parameter."""
        return "\n".join(
            f"({i}): Parameter containing: [{p.dtype} of size {'x'.join(map(str, p.shape))}]"
            for i, p in enumerate(self)
        )


class _Keyed(Module, Generic[T]):
    """What containers with named entries have in common."""

    _kind = "_modules"

    def __init__(self, entries: Mapping[str, T] | Iterable[tuple[str, T]] | None = None) -> None:
        self.update(entries or {})

    def _entries_of(self) -> dict[str, T]:
        found: dict[str, T] = self.__dict__[self._kind]
        return found

    def __getitem__(self, key: str) -> T:
        return self._entries_of()[key]

    def __setitem__(self, key: str, value: T) -> None:
        self._register(key, value)

    def _register(self, key: str, value: T) -> None:
        raise NotImplementedError

    def __delitem__(self, key: str) -> None:
        if key not in self._entries_of():
            raise KeyError(key)
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._entries_of())

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._entries_of()))

    def __contains__(self, key: object) -> bool:
        return key in self._entries_of()

    def __bool__(self) -> bool:
        return True

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._entries_of().keys()

    def values(self) -> Iterable[T]:
        """What is held."""
        return self._entries_of().values()

    def items(self) -> Iterable[tuple[str, T]]:
        """Names and what is held."""
        return self._entries_of().items()

    def update(self, entries: Mapping[str, T] | Iterable[tuple[str, T]]) -> None:
        """Add or replace several."""
        for key, value in entries.items() if isinstance(entries, Mapping) else entries:
            self[key] = value

    def pop(self, key: str) -> T:
        """Take one out."""
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        """Take all out."""
        for key in list(self):
            del self[key]


class ModuleDict(_Keyed[Module]):
    """A dictionary whose modules are registered.

    >>> import lazygrad as lg
    >>> heads = lg.nn.ModuleDict({"a": lg.nn.Linear(2, 1), "b": lg.nn.ReLU()})
    >>> heads["b"], list(heads)
    (ReLU(), ['a', 'b'])
    """

    def _register(self, key: str, value: Module) -> None:
        self.add_module(key, value)


class ParameterDict(_Keyed[Any]):
    """A dictionary whose tensors are registered; plain tensors become parameters."""

    _kind = "_parameters"

    def _register(self, key: str, value: Any) -> None:
        if isinstance(value, Tensor) and not isinstance(value, Parameter):
            value = Parameter(value, requires_grad=value.dtype.is_floating_point)
        self.register_parameter(key, value)

    def extra_repr(self) -> str:
        """One line for each parameter."""
        return "\n".join(
            f"({name}): Parameter containing: [{p.dtype} of size {'x'.join(map(str, p.shape))}]"
            for name, p in self.items()
        )
