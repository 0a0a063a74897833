"""From units to machine code at an address: once per process, and once per machine on disk.

What a process has compiled it finds by the unit's key; what any process has compiled, by a hash
of that key, of the host and of the code generator. Only what nobody has compiled yet goes through
LLVM, several units to a module and several modules at once; nothing else imports it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lazygrad.errors import InternalError
from lazygrad.runtime.native import disk, image
from lazygrad.runtime.native.llvm import Function, module
from lazygrad.runtime.native.target import binding, cores, host, llvm_version, machine
from lazygrad.runtime.native.unit import Unit

OPTIMIZE = 1  # 0: no passes; 1: those of `_PASSES`; 2, 3: LLVM's own pipelines
_MODULE = 60_000  # characters of a module: a few units share what every module costs

Key = tuple[Any, ...]

_addresses: dict[tuple[Key, int], int] = {}  # by key and level
_loaded: dict[str, int] = {}  # the same by digest


def compile_units(units: Iterable[Unit], optimize: int = OPTIMIZE) -> dict[Key, int]:
    """The addresses of the units' functions by their keys; equal keys are compiled once.

    Raises `InternalError` with the key of a unit whose code LLVM refuses.
    """
    wanted = {unit.key: unit for unit in units}
    new = {k: u for k, u in wanted.items() if (k, optimize) not in _addresses}
    if new:
        digests = {_digest(key, optimize): key for key in new}
        code = _read(d for d in digests if d not in _loaded)
        missing = {d: new[k] for d, k in digests.items() if d not in code and d not in _loaded}
        code |= _compile_missing(missing, optimize)
        _loaded.update(_load(code))
        _addresses.update({(key, optimize): _loaded[d] for d, key in digests.items()})
    return {key: _addresses[key, optimize] for key in wanted}


def digest_of(unit: Unit) -> str:
    """What the code of a unit is called on disk."""
    return _digest(unit.key, OPTIMIZE)


def find_code(digests: Iterable[str]) -> dict[str, int] | None:
    """Addresses of code by its names on disk; None where some of it is not there."""
    wanted = set(digests)
    code = _read(wanted - _loaded.keys())
    if len(code) < len(wanted - _loaded.keys()):
        return None
    _loaded.update(_load(code))
    return {d: _loaded[d] for d in wanted}


def compile_functions(text: str, names: Sequence[str]) -> list[int]:
    """The addresses of some functions of a module; each has its own copy of what it calls."""
    digests = [_digest((text, name), OPTIMIZE) for name in names]
    code = _read(digests)
    if len(code) < len(names):
        found = _compile(text, names, OPTIMIZE)
        code = {d: found[name] for d, name in zip(digests, names, strict=True)}
        disk.cache().keep(code)
    loaded = _load(code)
    return [loaded[d] for d in digests]


def listing(unit: Unit, optimize: int = OPTIMIZE) -> tuple[str, str]:
    """What a unit becomes: LLVM's text after its passes, and assembly."""
    with _own_context():
        parsed = _optimized(module(unit.build(_symbol(_digest(unit.key, optimize)))), optimize)
        return str(parsed), str(machine().emit_assembly(parsed))


# Names, and what is on disk ---------------------------------------------------------------------


@functools.cache
def generator() -> str:
    """What the code of a key depends on besides the key: host, LLVM, code generator."""
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.*")):
        if path.suffix in (".py", ".ll"):
            sources.update(path.read_bytes())
    return f"{host().key} {llvm_version()} {sources.hexdigest()}"


def _digest(key: Key, optimize: int) -> str:
    return hashlib.sha256(f"{generator()} {optimize} {key!r}".encode()).hexdigest()


def _symbol(digest: str) -> str:
    return f"lazygrad_{digest[:20]}"


def _read(digests: Iterable[str]) -> dict[str, bytes]:
    """The code that the disk has."""
    folder = disk.cache()
    found = ((d, folder.read(d)) for d in digests)
    return {d: content for d, content in found if content is not None}


def _load(code: dict[str, bytes]) -> dict[str, int]:
    """Addresses of code as `_compile` gives it."""
    if image.SUPPORTED:
        return dict(
            zip(code, image.load([image.Image.unpack(c) for c in code.values()]), strict=True)
        )
    found = {}
    for d, content in code.items():
        name, _, obj = content.partition(b"\n")
        (found[d],) = link(f"{next(_numbers)}", obj, [name.decode()]).values()
    return found


# Compiling --------------------------------------------------------------------------------------


def _compile_missing(units: dict[str, Unit], optimize: int) -> dict[str, bytes]:
    """Compile units, by their digests, on all cores."""
    functions = {d: unit.build(_symbol(d)) for d, unit in units.items()}
    batches = _batches(functions)
    code: dict[str, bytes] = {}
    failed: list[BaseException] = []
    todo = iter(batches)  # `next` on it is atomic

    def work() -> None:
        try:
            for batch in todo:
                code.update(_compile_batch(batch, functions, units, optimize))
        except BaseException as error:
            failed.append(error)

    others = [threading.Thread(target=work) for _ in range(min(len(batches), cores()) - 1)]
    for thread in others:
        thread.start()
    work()
    for thread in others:
        thread.join()
    if code:
        disk.cache().keep(code)
    if failed:
        raise failed[0]
    return code


def _batches(functions: dict[str, Function]) -> list[list[str]]:
    """Modules of about equal length, at least one for each core."""
    sizes = {d: len(f.text()) for d, f in functions.items()}
    count = max(-(-sum(sizes.values()) // _MODULE), cores())
    if not image.SUPPORTED:
        count = len(sizes)
    loads = [0] * min(count, len(sizes))
    batches: list[list[str]] = [[] for _ in loads]
    for d in sorted(sizes, key=lambda d: -sizes[d]):
        least = loads.index(min(loads))
        loads[least] += sizes[d]
        batches[least].append(d)
    return batches


def _compile_batch(
    batch: list[str], functions: dict[str, Function], units: dict[str, Unit], optimize: int
) -> dict[str, bytes]:
    try:
        found = _compile(
            module(*(functions[d] for d in batch)), [_symbol(d) for d in batch], optimize
        )
    except RuntimeError as error:
        if len(batch) == 1:
            key = units[batch[0]].key
            raise InternalError(f"LLVM refuses the code of {key!r:.500}: {error}") from error
        parts = [_compile_batch([d], functions, units, optimize) for d in batch]
        return {d: content for part in parts for d, content in part.items()}
    return {d: found[_symbol(d)] for d in batch}


def _compile(text: str, names: Sequence[str], optimize: int) -> dict[str, bytes]:
    """The code of some functions of a module, as it is kept."""
    if not image.SUPPORTED:
        obj = compile_text(text, optimize)
        return {name: name.encode() + b"\n" + obj for name in names}
    obj = compile_text(_SEPARATE.sub(r'\1 section ".text.\2" {', text), optimize)
    return {name: image.extract(obj, name).pack() for name in names}


# The head of a definition: each function goes into a section of its own, to be taken out alone.
_SEPARATE = re.compile(r"^(define [^@\n]*@([\w.]+)\(.*) \{", re.MULTILINE)


def compile_text(text: str, optimize: int = OPTIMIZE) -> bytes:
    """An object file of a module; several threads may compile at once."""
    with _own_context():
        return bytes(machine().emit_object(_optimized(text, optimize)))


def _optimized(text: str, optimize: int) -> Any:
    llvm = binding()
    parsed = llvm.parse_assembly(text, llvm.create_context())
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=optimize)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine(), options)
    if optimize > 1:
        builder.getModulePassManager().run(parsed, builder)
    elif optimize:
        passes = llvm.create_new_module_pass_manager()
        for name in _PASSES:
            getattr(passes, f"add_{name}_pass")()
        passes.run(parsed, builder)
    return parsed


# Vectors, tiles and loops are written out already: LLVM's pipelines take three times as long as
# the code generation behind them and make nothing faster (measured on products of all shapes,
# softmax, losses and updates).
_PASSES = ("sroa", "simplify_cfg", "instruction_combine")


class _Alone:
    """llvmlite's lock, except for threads that work in a context of their own.

    llvmlite lets one thread at a time into LLVM. LLVM itself wants that only of threads that
    share a context, and compiles in several contexts side by side.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not getattr(_thread, "alone", False):
            self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        if not getattr(_thread, "alone", False):
            self._lock.__exit__(*error)


@contextmanager
def _own_context() -> Iterator[None]:
    """Within, the thread calls LLVM's long-running functions without llvmlite's lock."""
    _free_long_calls()
    _thread.alone = True
    try:
        yield
    finally:
        _thread.alone = False


@functools.cache
def _free_long_calls() -> None:
    library = binding().ffi.lib
    for name in ("ParseAssembly", "RunNewModulePassManager", "TargetMachineEmitToMemory"):
        function: Any = getattr(library, f"LLVMPY_{name}", None)
        if hasattr(function, "_lock"):  # else threads take turns
            function._lock = _Alone(function._lock)


_thread = threading.local()


# Linking through LLVM, where `image` does not know the format -----------------------------------

_lock = threading.Lock()
_numbers = itertools.count()
_libraries: list[Any] = []  # code lives as long as the process


@functools.cache
def _session() -> Any:
    return binding().create_lljit_compiler(machine())


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
