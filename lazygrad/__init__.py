"""lazygrad: tensors that never compute until asked, captured into one program and replayed.

>>> import lazygrad as lg
>>> w = lg.tensor([1.0, 2.0], requires_grad=True)
>>> loss = (w * w).sum()
>>> loss.backward()
>>> w.grad
tensor([2., 4.])
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lazygrad import dtypes, errors
from lazygrad.config import config
from lazygrad.dtypes import DType as dtype
from lazygrad.dtypes import (
    bfloat16,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    set_default_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from lazygrad.dtypes import bool_ as bool
from lazygrad.engine import combine, creation, debug, forms, functions
from lazygrad.engine.anomaly import detect_anomaly
from lazygrad.engine.backward import grad
from lazygrad.engine.checkpoint import checkpoint
from lazygrad.engine.combine import *  # noqa: F403
from lazygrad.engine.compute_graph import compute_graph
from lazygrad.engine.creation import *  # noqa: F403  its __all__ is part of ours
from lazygrad.engine.custom_vjp import custom_vjp
from lazygrad.engine.device import cuda, device
from lazygrad.engine.forms import *  # noqa: F403
from lazygrad.engine.functions import *  # noqa: F403
from lazygrad.engine.graph import Graph, get_default_graph, set_default_graph
from lazygrad.engine.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from lazygrad.engine.precision import (
    autocast,
    get_autocast_dtype,
    is_autocast_available,
    is_autocast_enabled,
)
from lazygrad.engine.random import (
    Generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from lazygrad.engine.tensor import Tensor
from lazygrad.engine.tools import benchmark, memory_stats, realize, synchronize
from lazygrad.engine.warn import LazygradWarning
from lazygrad.runtime.workers import num_workers, set_num_workers

if TYPE_CHECKING:
    from lazygrad import amp, data, linalg, nn, optim
    from lazygrad.runtime.profiling import profile
    from lazygrad.serialization import load, save

__version__ = "0.1.0"

double = float64
half = float16
long = int64
float = float32
int = int32
short = int16
set_num_threads = set_num_workers
get_num_threads = num_workers
e, pi, inf, nan, newaxis = math.e, math.pi, math.inf, math.nan, None

__all__ = [
    "Generator", "Graph", "LazygradWarning", "Tensor", "amp", "autocast", "benchmark",
    "bfloat16", "bool", "checkpoint", "compute_graph", "config", "cuda", "custom_vjp", "data",
    "debug", "detect_anomaly", "device", "double", "dtype", "dtypes", "e", "enable_grad",
    "errors", "finfo", "float", "float16", "float32", "float64", "get_autocast_dtype",
    "get_default_dtype", "get_default_graph", "get_num_threads", "get_rng_state", "grad",
    "half", "iinfo", "inf", "inference_mode", "initial_seed", "int", "int16", "int32", "int64",
    "int8", "is_autocast_available", "is_autocast_enabled", "is_grad_enabled", "linalg", "load",
    "long", "manual_seed", "memory_stats", "nan", "newaxis", "nn", "no_grad", "num_workers",
    "optim", "pi", "profile", "realize", "save", "seed", "set_default_dtype",
    "set_default_graph", "set_grad_enabled", "set_num_threads", "set_num_workers",
    "set_rng_state", "short", "synchronize", "uint16", "uint32", "uint64", "uint8",
]  # fmt: skip
_LATER = {  # imported when first named: `import lazygrad` costs little more than NumPy
    "profile": ("lazygrad.runtime.profiling", "profile"),
    "linalg": ("lazygrad.linalg", ""), "amp": ("lazygrad.amp", ""),
    "data": ("lazygrad.data", ""), "nn": ("lazygrad.nn", ""), "optim": ("lazygrad.optim", ""),
    "testing": ("lazygrad.testing", ""),
    "load": ("lazygrad.serialization", "load"), "save": ("lazygrad.serialization", "save"),
}  # fmt: skip


_ELSEWHERE = {  # where PyTorch has a name and this package has it in another place
    "utils": "lazygrad.data, lazygrad.nn.utils and lazygrad.checkpoint",
    "autograd": "lazygrad.grad, and lazygrad.custom_vjp for autograd.Function",
    "jit": "lazygrad.compute_graph", "compile": "lazygrad.compute_graph",
    "Parameter": "lazygrad.nn.Parameter", "DataLoader": "lazygrad.data.DataLoader",
    "backends": "lazygrad.config: there is one device, the CPU",
    "mps": "lazygrad.config: there is one device, the CPU",
    "FloatTensor": "lazygrad.tensor and its dtype", "LongTensor": "lazygrad.tensor and its dtype",
    "func": "lazygrad.grad: there are no function transforms",
    "vmap": "lazygrad.grad: there are no function transforms",
    "distributed": "lazygrad.set_num_workers: there is no data parallelism",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is used later; a misspelt name gets the nearest one."""
    if name not in _LATER:
        known = [n for n in (*__all__, *_LATER) if n[0] != "_"]
        place = _ELSEWHERE.get(name)
        if place is None and name in import_module("lazygrad.nn.functional").__all__:
            place = f"lazygrad.nn.functional.{name}"
        hint = f"; see {place}" if place else errors.nearest(name, known)
        raise AttributeError(f"module 'lazygrad' has no attribute {name!r}{hint}")
    module, attribute = _LATER[name]
    found = import_module(module)
    value = globals()[name] = getattr(found, attribute) if attribute else found
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_LATER, "__version__"})


__all__ += combine.__all__
__all__ += creation.__all__
__all__ += forms.__all__
__all__ += functions.__all__
