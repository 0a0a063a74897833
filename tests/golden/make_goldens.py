"""Run every case with PyTorch 2.13 (CPU) and keep the numbers: `python make_goldens.py`.

Needs an environment with torch==2.13.0 and numpy; the tests only read the result.
"""

import warnings
from pathlib import Path

import cases
import numpy as np
import torch

HERE = Path(__file__).parent


def main() -> None:
    assert torch.__version__.startswith("2.13.0"), torch.__version__
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    kept = {}
    for name, (run, case) in cases.RUNS.items():
        for part, values in run(torch, case).items():
            kept[f"{name}/{part}"] = np.asarray(values, np.float64)
    np.savez_compressed(HERE / "goldens.npz", **kept)
    print(f"{len(cases.RUNS)} cases, {(HERE / 'goldens.npz').stat().st_size} bytes")


if __name__ == "__main__":
    main()
