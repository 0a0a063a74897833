"""Mixed precision on a CPU: training under autocast, and with a GradScaler that overflows.

Products of half precision round in their last place as each library adds them up, so the numbers
agree to half precision; the scales, and which steps are skipped, agree exactly.
"""

import numpy as np

if __package__:
    from tests.golden.cases import flat, numbers
else:  # run beside it, by the script that has PyTorch
    from cases import flat, numbers


def _model(lib, name):
    nn = lib.nn
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)).float()
    for key, p in model.named_parameters():
        p.data = lib.tensor(numbers(f"{name}.{key}", *p.shape).astype(np.float32) * 0.5)
    return model


def train(lib, name, wrap=None):
    """30 steps of a classifier whose products are in the half type `name`."""
    model = _model(lib, name)
    optimizer = lib.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = lib.tensor(numbers("x", 16, 6).astype(np.float32))
    y = lib.tensor(np.arange(16) % 3)
    dtype = getattr(lib, name)

    def step():
        optimizer.zero_grad()
        with lib.autocast("cpu", dtype=dtype):
            loss = lib.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step = step if wrap is None else wrap(step)
    losses = [step().item() for _ in range(30)]
    return {"losses": np.array(losses), "parameters": flat(model.parameters())}


def scaled(lib, clip, wrap=None):
    """40 steps with float16 products from a scale that overflows at first, and again later."""
    model = _model(lib, "float16")
    optimizer = lib.optim.AdamW(model.parameters(), lr=0.01)
    scaler = lib.amp.GradScaler("cpu", init_scale=2.0**22, growth_interval=5)
    x = lib.tensor(numbers("x", 16, 6).astype(np.float32))
    y = lib.tensor(np.arange(16) % 3)

    def step(factor):
        optimizer.zero_grad()
        with lib.autocast("cpu", dtype=lib.float16):
            loss = lib.nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss * factor).backward()
        if clip:
            scaler.unscale_(optimizer)
            lib.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
        return loss

    step = step if wrap is None else wrap(step)
    losses, scales = [], []
    for k in range(40):
        factor = np.float32(1e9 if k == 20 else 1.0)
        losses.append(step(lib.tensor(factor)).item())
        scales.append(scaler.get_scale())
    return {
        "losses": np.array(losses), "scales": np.array(scales),
        "parameters": flat(model.parameters()),
    }  # fmt: skip


RUNS = {
    "bfloat16": (train, "bfloat16"),
    "float16": (train, "float16"),
    "scaled": (scaled, False),
    "clipped": (scaled, True),
}
