"""The host as the code generator sees it: instruction set, vector width, registers, caches.

LLVM is imported here, at the first compile, and nowhere earlier: `llvmlite.binding` takes 50 to
130 milliseconds.
"""

from __future__ import annotations

import functools
import os
import threading
from dataclasses import dataclass
from typing import Any

LANES = 16  # of a reduction, on every host: rounding depends on the op's shape alone


@dataclass(frozen=True, slots=True)
class Host:
    """What decides the generated code. `lanes` counts float32 in one vector register."""

    cpu: str
    features: str
    lanes: int
    registers: int

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
def host() -> Host:
    """The machine that this process runs on."""
    llvm = binding()
    found = llvm.get_host_cpu_features()
    lanes, registers = 4, 16
    if found.get("avx512f") and found.get("avx512vl") and found.get("avx512dq"):
        lanes, registers = 16, 32
    elif found.get("avx2") and found.get("fma"):
        lanes, registers = 8, 16
    elif found.get("neon") or llvm.get_process_triple().startswith(("aarch64", "arm64")):
        lanes, registers = 4, 32
    return Host(llvm.get_host_cpu_name(), found.flatten(), lanes, registers)


_local = threading.local()


def machine() -> Any:
    """This thread's `TargetMachine`; code may lie anywhere in memory."""
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
