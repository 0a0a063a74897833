"""One training step of lazygrad, PyTorch, JAX and hand-written NumPy, each in its own process.

    python -m benchmarks.peers [--only ROW,...] [--form TITLE,...] [--rounds N] [--executor NAME]
                               [--peers-python PATH|none] [--json FILE] [--markdown FILE]

Float32, two threads for everybody, a new batch of NumPy arrays each step, the loss read as a Python
float each step. Every form starts from the same weights, must compute the same losses,
and is timed in turns with all others. Each runs in two fresh processes: the first finds no cache
of compiled code, the second that of the first.
"""
