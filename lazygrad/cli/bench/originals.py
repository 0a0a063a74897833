"""The figures of the originals' READMEs, as printed there: seconds of whole runs.

momograd (Mojo) and its micrograd baseline: 100 epochs of micrograd's demo on an unnamed machine.
Mocrograd (Mojo) and Pycrograd (Python): digits on a MacBook Pro M1 with 32 GB; their scripts train
10 epochs, Mocrograd's on 100 examples unless told otherwise.
"""

from __future__ import annotations

# samples: micrograd, momograd, momograd.x, and the three speed-ups between them
MOMOGRAD = {
    20: (5.64, 0.15, 0.13, 36.6, 44.9, 1.2),
    40: (18.37, 0.31, 0.23, 59.1, 79.8, 1.3),
    60: (35.06, 0.48, 0.35, 72.7, 100.1, 1.4),
    80: (53.93, 0.63, 0.48, 86.1, 112.6, 1.3),
    100: (73.91, 0.82, 0.61, 90.5, 122.0, 1.3),
    120: (94.01, 0.97, 0.71, 96.8, 132.3, 1.4),
    140: (113.46, 1.16, 0.84, 97.7, 134.4, 1.4),
    160: (131.64, 1.28, 0.91, 102.5, 144.6, 1.4),
    180: (149.30, 1.46, 1.01, 102.6, 148.5, 1.4),
    200: (168.71, 1.70, 1.28, 99.1, 131.7, 1.3),
}

# size: without any optimization, then by number of workers, "auto" being its dynamic workers
MOCROGRAD: dict[str, dict[int | str, float]] = {
    "normal": {
        "reference": 20.281, 1: 20.587, 10: 20.907, 64: 23.513, 256: 30.205, "auto": 21.602,
    },
    "longer": {
        "reference": 56.842, 1: 56.849, 10: 55.059, 64: 56.790, 256: 59.224, "auto": 58.162,
    },
    "bigger": {
        "reference": 94.953, 1: 92.970, 10: 78.058, 64: 80.794, 256: 79.919, "auto": 87.143,
    },
}  # fmt: skip

PYCROGRAD = {"normal": 121.291, "longer": 4610.141, "bigger": 13484.485}

# `train_mlp --epochs=10 --length=100`
MICROGRAD_MOONS, PYCROGRAD_MOONS = 94.781, 8.716
