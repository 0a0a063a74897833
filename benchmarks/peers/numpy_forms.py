"""NumPy's training step, written by hand."""

from __future__ import annotations

from benchmarks.baselines.numpy_steps import ClassifierStep, MarginStep
from benchmarks.models import MLP
from benchmarks.peers.forms import Step
from benchmarks.workloads import Workload


def build(form: str, w: Workload) -> Step:
    """The step; `form` is "by hand"."""
    if not isinstance(w.model, MLP):
        raise NotImplementedError(f"nobody wrote {type(w.model).__name__} in NumPy")
    kind = MarginStep if w.model.hinge else ClassifierStep
    arrays = list(w.model.weights().values())
    return kind(arrays[::2], arrays[1::2], w.batch, w.lr).step
