"""Passes: total functions from frozen graph to frozen graph, and the pipelines made of them."""

from lazygrad.engine.passes.pipelines import PIPELINES, listing, run_pipeline
from lazygrad.engine.passes.verify import verify

__all__ = ["PIPELINES", "listing", "run_pipeline", "verify"]
