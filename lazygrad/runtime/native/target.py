"""The host as the code generator sees it: instruction set, vector width, registers, caches.

LLVM is imported here, at the first compile, and nowhere earlier: `llvmlite.binding` takes 50 to
250 milliseconds. What it says of the host is kept on disk, so that a process whose code is all
there never imports it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import threading
from contextlib import suppress
from dataclasses import astuple, dataclass
from typing import Any

from lazygrad.errors import ConfigError
from lazygrad.runtime.native import disk

LANES = 16  # of a reduction, on every host: rounding depends on the op's shape alone


@dataclass(frozen=True, slots=True)
class Host:
    """What decides the generated code. `lanes` counts float32 in one vector register."""

    cpu: str
    features: str
    lanes: int
    registers: int
    halves: bool = True  # whether it converts float16

    @property
    def key(self) -> str:
        """Everything that makes machine code of one host wrong on another."""
        return f"{self.cpu}:{self.features}"


@functools.cache
def binding() -> Any:
    """`llvmlite.binding`, initialised."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@functools.cache
def llvm_version() -> str:
    """The version of llvmlite, which is one of LLVM."""
    import llvmlite

    return str(llvmlite.__version__)


# What code may be generated for instead, to run what smaller processors would run.
_LEVELS = {
    "x86-64-v2": Host("x86-64-v2", "", 4, 16, False),  # SSE 4.2, no fused multiply-add
    "x86-64-v3": Host("x86-64-v3", "", 8, 16),  # AVX2
    "x86-64-v4": Host("x86-64-v4", "", 16, 32),  # AVX-512
}


@functools.cache
def host() -> Host:
    """The machine that this process runs on, or the lesser one that `LAZYGRAD_CPU` names."""
    found, level = _here(), os.environ.get("LAZYGRAD_CPU")
    if not level:
        return found
    chosen = _LEVELS.get(level) if platform.machine().lower() in ("x86_64", "amd64") else None
    if chosen is None or chosen.lanes > found.lanes:
        raise ConfigError(
            f"LAZYGRAD_CPU={level!r}: this processor, {found.cpu}, is taken as it is or as one of "
            f"{', '.join(n for n, h in _LEVELS.items() if h.lanes <= found.lanes)}"
        )
    return chosen


def _here() -> Host:
    key = hashlib.sha256(
        f"host {_processor()} {llvm_version()} {Host.__slots__}".encode()
    ).hexdigest()
    if _processor():
        known = disk.cache().read(key)
        if known is not None:
            return Host(*json.loads(known))
    found = _ask_llvm()
    if _processor():
        disk.cache().write(key, json.dumps(astuple(found)).encode())
    return found


def _ask_llvm() -> Host:
    llvm = binding()
    found = llvm.get_host_cpu_features()
    lanes, registers, halves = 4, 16, bool(found.get("f16c"))
    if found.get("avx512f") and found.get("avx512vl") and found.get("avx512dq"):
        lanes, registers = 16, 32
    elif found.get("avx2") and found.get("fma"):
        lanes, registers = 8, 16
    elif found.get("neon") or llvm.get_process_triple().startswith(("aarch64", "arm64")):
        lanes, registers, halves = 4, 32, True
    return Host(llvm.get_host_cpu_name(), found.flatten(), lanes, registers, halves)


_TELLING = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "flags",
    "Features",
    "CPU ",
)


@functools.cache
def _processor() -> str:
    """Which processor this is, as the system says; empty where it says too little."""
    lines: list[str] = []
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:  # of the first core alone: the file of a large machine is slow to read
            if not line.strip():
                break
            lines.append(line)
    telling = [line for line in lines if line.startswith(_TELLING)]
    features = any(line.startswith(("flags", "Features")) for line in telling)
    return f"{platform.machine()} {''.join(telling)}" if features else ""


_local = threading.local()


def machine() -> Any:
    """The `TargetMachine` of the thread; code may lie anywhere in memory."""
    found = getattr(_local, "machine", None)
    if found is None:
        llvm, here = binding(), host()
        found = _local.machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=here.cpu, features=here.features, opt=3, reloc="pic", codemodel="small", jit=True
        )
    return found


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
