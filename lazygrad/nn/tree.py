"""The tree of a module: finding what is registered in it and below it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from lazygrad.engine.tensor import Tensor
from lazygrad.errors import UnknownAttributeError
from lazygrad.nn.parameter import Parameter

if TYPE_CHECKING:
    from lazygrad.nn.module import Module


class Entry(NamedTuple):
    """A place in a module tree that holds a tensor."""

    name: str
    module: Module
    key: str
    persistent: bool


class Tree:
    """The part of `Module` that walks."""

    if TYPE_CHECKING:
        _parameters: dict[str, Parameter | None]
        _buffers: dict[str, Tensor | None]
        _modules: dict[str, Module | None]
        _transient: set[str]

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """The module itself and all below it, parents first, each once."""
        seen: set[Any] = set() if memo is None else memo
        if self in seen:
            return
        if remove_duplicate:
            seen.add(self)
        yield prefix, cast("Module", self)
        for name, child in self._modules.items():
            if child is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from child.named_modules(seen, path, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """The module itself and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below, each once."""
        seen: set[Module] = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Module]:
        """The modules directly below, each once."""
        return (child for _, child in self.named_children())

    def _entries(
        self, *kinds: str, prefix: str = "", recurse: bool = True, every: bool = False
    ) -> Iterator[Entry]:
        """The places of tensors below, in order; a module used twice counts once unless `every`."""
        found = self.named_modules(prefix=prefix, remove_duplicate=not every)
        for path, module in found if recurse else [(prefix, cast("Module", self))]:
            for kind in kinds:
                for key, value in module.__dict__[kind].items():
                    if value is not None:
                        name = f"{path}.{key}" if path else key
                        yield Entry(name, module, key, key not in module._transient)

    def _named(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        entries = self._entries(kind, prefix=prefix, recurse=recurse, every=not remove_duplicate)
        for entry in entries:
            value = entry.module.__dict__[kind][entry.key]
            if id(value) not in seen:
                if remove_duplicate:
                    seen.add(id(value))
                yield entry.name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Dotted names and parameters, each parameter once."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> list[Parameter]:
        """The parameters, each once, as a list."""
        return [p for _, p in self.named_parameters(recurse=recurse)]

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Dotted names and buffers, each buffer once."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> list[Tensor]:
        """The buffers, each once, as a list."""
        return [b for _, b in self.named_buffers(recurse=recurse)]

    def get_submodule(self, target: str) -> Module:
        """The module with a dotted name; the empty name is this module."""
        found: Any = self
        for part in target.split(".") if target else ():
            found = getattr(found, part)
            if not isinstance(found, Tree):
                raise UnknownAttributeError(f"{target!r}: {part!r} is not a Module")
        return found  # type: ignore[no-any-return]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with a dotted name."""
        path, _, name = target.rpartition(".")
        found = getattr(self.get_submodule(path), name)
        if not isinstance(found, Parameter):
            raise UnknownAttributeError(f"{target!r} is not a Parameter")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with a dotted name."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if name not in module._buffers:
            raise UnknownAttributeError(f"{target!r} is not a buffer")
        found: Tensor = getattr(module, name)
        return found
