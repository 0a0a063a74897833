"""The engine: graph, tensor, autodiff, freezing, compilation, capture."""

from lazygrad.engine.backward import grad
from lazygrad.engine.compute_graph import compute_graph
from lazygrad.engine.graph import Graph, Node, get_default_graph, set_default_graph
from lazygrad.engine.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from lazygrad.engine.random import (
    Generator,
    default_generator,
    get_rng_state,
    manual_seed,
    set_rng_state,
)
from lazygrad.engine.realize import flush_writes, realize_graph, realize_nodes
from lazygrad.engine.subgraph import Subgraph
from lazygrad.engine.tensor import Tensor, apply, state

__all__ = [
    "Generator", "Graph", "Node", "Subgraph", "Tensor", "apply", "compute_graph",
    "default_generator", "enable_grad", "flush_writes", "get_default_graph", "get_rng_state",
    "grad", "inference_mode", "is_grad_enabled", "manual_seed", "no_grad", "realize_graph",
    "realize_nodes", "set_default_graph", "set_grad_enabled", "set_rng_state", "state",
]  # fmt: skip
