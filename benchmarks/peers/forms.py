"""The contestants: which process runs them, with which settings, in which form.

Each is a module with `build(form, workload) -> step`; a step takes one batch of NumPy arrays,
updates what it keeps and returns the loss as a Python float. The modules of the peers import what
only their environment has, so nothing here imports them: they are named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.models import Array
from benchmarks.workloads import Workload

Step = Callable[[Array, Array], float]
THREADS = 2


@dataclass(frozen=True)
class Form:
    """One column of the table; `{cache}` in `environment` is a folder of this form alone."""

    title: str
    module: str
    name: str
    environment: dict[str, str] = field(default_factory=dict)
    guest: bool = False  # needs the peers' environment

    @property
    def ours(self) -> bool:
        """Whether this is lazygrad."""
        return self.module == "lazygrad_forms"

    def has(self, w: Workload) -> bool:
        """Whether the workload was written in this form."""
        return w.by_hand or self.module != "numpy_forms"


def _threads() -> dict[str, str]:
    names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    return {f"{name}_NUM_THREADS": str(THREADS) for name in names}


def _openblas() -> dict[str, str]:
    """OpenBLAS in NumPy's wheels takes its AVX2 kernels on some CPUs that have AVX-512."""
    info = Path("/proc/cpuinfo")
    wide = info.exists() and "avx512f" in info.read_text()
    return {"OPENBLAS_CORETYPE": "SkylakeX"} if wide else {}


_JAX = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": "{cache}",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
_INDUCTOR = {"TORCHINDUCTOR_CACHE_DIR": "{cache}"}
_OURS = {"LAZYGRAD_CACHE_DIR": "{cache}", "LAZYGRAD_NUM_WORKERS": str(THREADS)}

FORMS = (
    Form("PyTorch eager", "torch_forms", "eager", _threads(), guest=True),
    Form("torch.compile", "torch_forms", "compile", _threads() | _INDUCTOR, guest=True),
    Form("JAX jit", "jax_forms", "jit", _threads() | _JAX, guest=True),
    Form("NumPy by hand", "numpy_forms", "by hand", _threads() | _openblas()),
    Form("lazygrad, whole step", "lazygrad_forms", "whole step", _threads() | _OURS),
    Form("lazygrad, forward", "lazygrad_forms", "forward", _threads() | _OURS),
)
