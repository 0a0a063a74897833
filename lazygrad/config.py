"""Typed settings: environment `LAZYGRAD_*`, attributes of `config`, and `with config.override()`.

>>> from lazygrad.config import config
>>> with config.override(parallel="vectorized"):
...     config.parallel
'vectorized'

`config.epoch` counts every change: a captured function compares one integer instead of all
settings. Per-thread overrides are not offered: settings describe the process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from lazygrad.errors import ConfigError, UnknownSettingError, nearest

_CHOICES = {
    "parallel": ("auto", "vectorized", "chunked"),
    "executor": ("auto", "reference", "numpy", "native"),
}


@dataclass
class _Settings:
    """One field per setting; the comment is its documentation."""

    eager: bool = False  # realize each op as it is appended
    no_capture: bool = False  # @compute_graph calls the plain function
    no_fuse: bool = False  # one kernel per node
    no_planner: bool = False  # one buffer per kernel output, nothing is reused
    poison: bool = False  # fill freed buffers with NaN / 0xFF
    check: bool = False  # re-trace a capture on its second call and compare
    validate: bool = False  # run every kernel on the reference too and compare
    verify: bool = False  # verify the graph after each pass
    executor: str = "auto"  # auto | reference | numpy | native
    parallel: str = "auto"  # auto | vectorized | chunked
    num_workers: int = 0  # logical workers; 0 = one per core
    debug: int = 0  # 1 plan summary, 2 kernels, 3 graph after each pass, 4 generated code
    profile: int = 0  # set by `profile()`: which one times the kernels; 0 none
    flush_nodes: int = 10_000  # pending or realized nodes before an automatic flush
    capture_limit: int = 32  # signatures kept by one captured function


def _parse(name: str, kind: type, text: str) -> Any:
    if kind is bool:
        return text.strip().lower() not in ("", "0", "false", "no", "off")
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(
            f"LAZYGRAD_{name.upper()}={text!r} is not of type {kind.__name__}"
        ) from None


_FIELDS = {f.name: f for f in fields(_Settings)}


class Config:
    """The settings of the process, with attribute access and checks."""

    __slots__ = (*_FIELDS, "epoch")
    _kinds: ClassVar[dict[str, type]] = {name: type(f.default) for name, f in _FIELDS.items()}

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        object.__setattr__(self, "epoch", 0)
        for name, f in _FIELDS.items():
            object.__setattr__(self, name, f.default)
        source = os.environ if environ is None else environ
        for name, kind in self._kinds.items():
            text = source.get("LAZYGRAD_" + name.upper())
            if text is not None and text.strip():
                setattr(self, name, _parse(name, kind, text))

    if TYPE_CHECKING:
        epoch: int

        def __getattr__(self, name: str) -> Any: ...

    else:  # slots are read at C speed; only a misspelt name comes here

        def __getattr__(self, name: str) -> Any:
            raise UnknownSettingError(f"unknown setting {name!r}{nearest(name, Config._kinds)}")

    def __setattr__(self, name: str, value: Any) -> None:
        kind = Config._kinds.get(name)
        if kind is None:
            raise UnknownSettingError(f"unknown setting {name!r}{nearest(name, Config._kinds)}")
        if type(value) is not kind:
            raise ConfigError(f"{name} takes {kind.__name__}, got {value!r}")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ConfigError(f"{name} takes one of {', '.join(_CHOICES[name])}, got {value!r}")
        if name == "num_workers" and isinstance(value, int) and value < 0:
            raise ConfigError(f"num_workers must be at least 1 (or 0 = automatic), got {value}")
        object.__setattr__(self, name, value)
        self.bump()

    def __dir__(self) -> list[str]:
        return [*Config._kinds, "epoch", "override", "bump"]

    def bump(self) -> None:
        """Count a change that captured functions have to look at."""
        object.__setattr__(self, "epoch", self.epoch + 1)

    @contextmanager
    def override(self, **settings: Any) -> Iterator[None]:
        """Set some settings for the duration of a `with` block (restored on errors too)."""
        before = {}
        try:
            for name, value in settings.items():
                old = getattr(self, name)
                setattr(self, name, value)
                before[name] = old
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in Config._kinds)
        return f"config({values})"


config = Config()
