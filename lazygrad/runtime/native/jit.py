"""From LLVM text to machine code at an address."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from typing import Any

from lazygrad.runtime.native.llvm import module
from lazygrad.runtime.native.target import binding, machine
from lazygrad.runtime.native.unit import Unit

_lock = threading.Lock()


def compile_text(text: str, optimize: int = 2) -> bytes:
    """An object file of a module; LLVM works without the interpreter lock."""
    llvm = binding()
    module = llvm.parse_assembly(text)
    module.verify()
    if optimize:
        options = llvm.create_pipeline_tuning_options(speed_level=optimize)
        options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
        builder = llvm.create_pass_builder(machine(), options)
        builder.getModulePassManager().run(module, builder)
    return bytes(machine().emit_object(module))


@functools.cache
def _session() -> Any:
    llvm = binding()
    return llvm.create_lljit_compiler(machine())


def link(name: str, obj: bytes, symbols: list[str]) -> dict[str, int]:
    """Load an object file; the addresses of its symbols. `name` is unique to the process."""
    llvm = binding()
    with _lock:
        builder = llvm.JITLibraryBuilder().add_object_img(obj).add_current_process()
        for symbol in symbols:
            builder.export_symbol(symbol)
        library = builder.link(_session(), name)
        _libraries.append(library)
        return {s: library[s] for s in symbols}


_libraries: list[Any] = []
_addresses: dict[tuple[Any, ...], int] = {}


def compile_units(units: Iterable[Unit]) -> dict[tuple[Any, ...], int]:
    """The addresses of the units' functions by their keys; equal keys are compiled once."""
    wanted = {unit.key: unit for unit in units}
    missing = [unit for key, unit in wanted.items() if key not in _addresses]
    if missing:
        start = len(_addresses)
        names = [f"lazygrad_{start + i}" for i in range(len(missing))]
        built = [u.build(n) for u, n in zip(missing, names, strict=True)]
        found = link(f"units{start}", compile_text(module(*built)), names)
        _addresses.update((u.key, found[n]) for u, n in zip(missing, names, strict=True))
    return {key: _addresses[key] for key in wanted}
