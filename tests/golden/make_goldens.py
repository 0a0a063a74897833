"""Run every case with PyTorch 2.13 (CPU) and keep the numbers: `python make_goldens.py [module]`.

Each module of cases has its numbers in a file beside it.

Needs an environment with torch==2.13.0 and numpy; the tests only read the result.
"""

import sys
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


FILES = {"cases": "goldens.npz", "cases_optim": "goldens_optim.npz", "cases_nn": "goldens_nn.npz",
         "cases_drawn": "goldens_drawn.npz", "cases_linalg": "goldens_linalg.npz",
         "cases_methods": "goldens_methods.npz",
         "cases_amp": "goldens_amp.npz", "cases_index": "goldens_index.npz"}  # fmt: skip


def main(module: str) -> None:
    assert torch.__version__.startswith("2.13.0"), torch.__version__
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    runs = import_module(module).RUNS
    kept = {}
    for name, (run, case) in runs.items():
        for part, values in run(torch, case).items():
            kept[f"{name}/{part}"] = np.asarray(values, np.float64)
    target = HERE / FILES[module]
    np.savez_compressed(target, **kept)
    print(f"{len(runs)} cases, {target.stat().st_size} bytes")


if __name__ == "__main__":
    for name in sys.argv[1:] or FILES:
        main(name)
