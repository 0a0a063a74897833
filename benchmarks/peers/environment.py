"""The peers' own environment: made once, on demand, beside the other build products."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "build" / "peers"
PACKAGES = ("torch==2.13.0", "jax")


def python(chosen: str | None) -> str:
    """The interpreter that has the peers: the chosen one, or that of the environment made here."""
    if chosen is not None:
        subprocess.run([chosen, "-c", "import torch, jax"], check=True)
        return chosen
    folder = FOLDER / ("Scripts" if os.name == "nt" else "bin")
    ready = FOLDER / ".ready"
    if not ready.exists():
        print(f"Installing {' and '.join(PACKAGES)} into {FOLDER} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
        install = [str(folder / "python"), "-m", "pip", "install", "--quiet", *PACKAGES]
        subprocess.run(install, check=True)
        ready.touch()
    return str(folder / "python")


def versions(interpreter: str, *packages: str) -> dict[str, str]:
    """The versions of packages that an interpreter would import."""
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    found = subprocess.check_output([interpreter, "-c", code, *packages], text=True)
    return dict(zip(packages, found.split(), strict=True))
