"""NumPy's training step, written by hand."""

from __future__ import annotations

from benchmarks.baselines.numpy_steps import ClassifierStep, MarginStep
from benchmarks.peers.forms import Step
from benchmarks.workloads import Workload, weights


def build(form: str, w: Workload) -> Step:
    """The step; `form` is "by hand"."""
    pairs = list(weights(w))
    kind = MarginStep if w.hinge else ClassifierStep
    return kind([a for a, _ in pairs], [b for _, b in pairs], w.batch, w.lr).step
