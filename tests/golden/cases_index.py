"""Writes, sums and products at indices, scans: values and two gradients, for both libraries."""

import numpy as np

if __package__:
    from tests.golden.cases_linalg import differentiated
else:  # run beside it, by the script that has PyTorch
    from cases_linalg import differentiated

INDEX = [[0, 2, 2, 1], [1, 1, 0, 1]]
ROWS = [1, 1, 0]


def scatter_reduce(reduce, include_self, zero=False):
    def function(lib, x, v):
        source = v * lib.tensor(np.where(np.arange(8).reshape(2, 4) == 5, 0.0, 1.0)) if zero else v
        return x.scatter_reduce(0, lib.tensor(INDEX), source, reduce, include_self=include_self)

    return function


def index_reduce(reduce, include_self):
    def function(lib, x, v):
        return x.index_reduce(1, lib.tensor(ROWS), v, reduce, include_self=include_self)

    return function


def zeros_at(lib, x, places):
    keep = np.ones(tuple(x.shape))
    keep.reshape(-1)[places] = 0.0
    return x * lib.tensor(keep)


CASES = {
    "cumprod": ([(2, 4)], lambda lib, x: x.cumprod(1)),
    "cumprod_zero": ([(2, 4)], lambda lib, x: zeros_at(lib, x, [1, 6]).cumprod(1)),
    "cumprod_zeros": ([(2, 4)], lambda lib, x: zeros_at(lib, x, [1, 2, 4]).cumprod(1)),
    "cummax": ([(3, 4)], lambda lib, x: x.cummax(1).values),
    "cummin": ([(3, 4)], lambda lib, x: x.cummin(0).values),
    "diff": ([(3, 4)], lambda lib, x: x.diff(n=2, dim=1)),
    "index_fill": ([(3, 4)], lambda lib, x: x.index_fill(1, lib.tensor([0, 2]), 5.0)),
    "scatter_add_written": (
        [(3, 4), (2, 4)],
        lambda lib, x, v: x.scatter(0, lib.tensor([[0, 2, 2, 1], [1, 1, 0, 0]]), v * 1.0),
    ),
    "masked_scatter": (
        [(2, 3), (5,)],
        lambda lib, x, v: x.masked_scatter(
            lib.tensor([[True, False, True], [False, True, True]]), v
        ),
    ),
    "index_reduce_mean": ([(2, 3), (2, 3)], index_reduce("mean", True)),
    "index_reduce_amax": ([(2, 3), (2, 3)], index_reduce("amax", False)),
    "index_reduce_prod": ([(2, 3), (2, 3)], index_reduce("prod", True)),
    "scatter_reduce_zero": ([(3, 4), (2, 4)], scatter_reduce("prod", True, zero=True)),
}
for _reduce in ("sum", "prod", "mean", "amax", "amin"):
    for _own in (True, False):
        CASES[f"scatter_reduce_{_reduce}_{_own}"] = (
            [(3, 4), (2, 4)], scatter_reduce(_reduce, _own),
        )  # fmt: skip


def run(lib, name, wrap=None):
    """A case of this file."""
    return differentiated(lib, name, *CASES[name], wrap=wrap)


RUNS = {name: (run, name) for name in CASES}
