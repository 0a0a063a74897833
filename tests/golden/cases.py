"""Small float64 training runs, written once for PyTorch and lazygrad.

`lib` is either library: the names are the same. `make_goldens.py` runs every case with PyTorch
2.13 and keeps the numbers in `goldens.npz`; the tests run them with lazygrad, captured and not.
"""

import math
import zlib

import numpy as np

STEPS = 100


def numbers(name, *shape):
    """Normal numbers that depend on a name only."""
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)


def fill(name, module, lib):
    """Parameters by formula, so that both libraries begin with the same ones."""
    for key, p in module.named_parameters():
        values = numbers(f"{name}.{key}", *p.shape) * 0.5
        p.data = lib.tensor(values)


def train(lib, model, optimizer, compute_loss, wrap=None, after=None, steps=STEPS):
    """Losses of a run; `wrap` decorates the training step, `after` follows each step."""

    def step():
        optimizer.zero_grad()
        loss = compute_loss()
        loss.backward()
        if hasattr(model, "clip"):
            model.clip()
        optimizer.step()
        return loss

    step = step if wrap is None else wrap(step)
    losses = []
    for k in range(steps):
        losses.append(step().item())
        if after is not None:
            after(k)
    return np.array(losses)


def flat(tensors):
    """All values in one vector."""
    return np.concatenate([np.asarray(t.detach().numpy(), np.float64).ravel() for t in tensors])


# Layers: a linear layer before and a smooth scalar behind, so that gradients flow through both.

LAYERS = {
    "relu": lambda nn: nn.ReLU(),
    "relu6": lambda nn: nn.ReLU6(),
    "leaky_relu": lambda nn: nn.LeakyReLU(0.1),
    "prelu": lambda nn: nn.PReLU(),
    "prelu_channels": lambda nn: nn.PReLU(4),
    "elu": lambda nn: nn.ELU(0.7),
    "selu": lambda nn: nn.SELU(),
    "silu": lambda nn: nn.SiLU(),
    "mish": lambda nn: nn.Mish(),
    "gelu": lambda nn: nn.GELU(),
    "gelu_tanh": lambda nn: nn.GELU("tanh"),
    "softplus": lambda nn: nn.Softplus(2.0, 3.0),
    "softsign": lambda nn: nn.Softsign(),
    "sigmoid": lambda nn: nn.Sigmoid(),
    "hardsigmoid": lambda nn: nn.Hardsigmoid(),
    "hardswish": lambda nn: nn.Hardswish(),
    "hardtanh": lambda nn: nn.Hardtanh(-0.5, 0.7),
    "log_sigmoid": lambda nn: nn.LogSigmoid(),
    "tanh": lambda nn: nn.Tanh(),
    "softmax": lambda nn: nn.Softmax(dim=1),
    "softmin": lambda nn: nn.Softmin(dim=1),
    "log_softmax": lambda nn: nn.LogSoftmax(dim=1),
    "layer_norm": lambda nn: nn.LayerNorm(4),
    "layer_norm_plain": lambda nn: nn.LayerNorm(4, eps=1e-3, elementwise_affine=False),
    "rms_norm": lambda nn: nn.RMSNorm(4),
    "batch_norm": lambda nn: nn.BatchNorm1d(4),
    "batch_norm_average": lambda nn: nn.BatchNorm1d(4, momentum=None),
    "batch_norm_plain": lambda nn: nn.BatchNorm1d(4, affine=False, track_running_stats=False),
    "flatten": lambda nn: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Tanh(), nn.Flatten()),
    "identity": lambda nn: nn.Identity(),
    "linear_without_bias": lambda nn: nn.Linear(4, 3, bias=False),
    "deep": lambda nn: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.ReLU()),
}


def run_layer(lib, name, wrap=None):
    """Losses, final parameters and buffers, and the output in evaluation mode."""
    model = lib.nn.Sequential(lib.nn.Linear(5, 4), LAYERS[name](lib.nn)).double()
    fill(name, model, lib)
    x = lib.tensor(numbers(name + ".x", 7, 5))
    c = numbers(name + ".c", 7, 6)

    def loss():
        y = model(x)
        return (y * lib.tensor(c[:, : y.shape[1]])).sum() * 0.1 + (y * y).mean()

    optimizer = lib.optim.SGD(model.parameters(), lr=0.02)
    losses = train(lib, model, optimizer, loss, wrap)
    model.eval()
    with lib.no_grad():
        y = model(x)
    return {"losses": losses, "end": flat([*model.parameters(), *model.buffers(), y])}


def run_embedding(lib, name="embedding", wrap=None):
    """An embedding with a padding row, trained by class."""
    model = lib.nn.Embedding(6, 3, padding_idx=2).double()
    fill(name, model, lib)
    index = lib.tensor(np.array([[0, 2, 5], [1, 1, 2]]))
    target = lib.tensor(numbers(name + ".t", 2, 3, 3))
    optimizer = lib.optim.SGD(model.parameters(), lr=0.2)
    losses = train(
        lib, model, optimizer, lambda: lib.nn.functional.mse_loss(model(index), target), wrap
    )
    return {"losses": losses, "end": flat(model.parameters())}


# Losses: of a linear layer.


def _classes(name, *shape):
    return np.random.default_rng(zlib.crc32(name.encode())).integers(0, 4, shape)


def _some_ignored(value):
    target = _classes("ignored", 7)
    target[[1, 4]] = value
    return target


def _probabilities():
    p = np.exp(numbers("p", 7, 4))
    return p / p.sum(1, keepdims=True)


_WEIGHT = np.array([0.3, 1.0, 2.0, 0.7])
_LABELS = _classes("labels", 7)
_SIGNS = np.where(numbers("signs", 7, 4) > 0, 1.0, -1.0)
_BITS = (_SIGNS + 1) / 2
_REAL = numbers("real", 7, 4)

LOSSES = {
    "cross_entropy": lambda lib, w: (lib.nn.CrossEntropyLoss(), _LABELS),
    "cross_entropy_sum": lambda lib, w: (lib.nn.CrossEntropyLoss(reduction="sum"), _LABELS),
    "cross_entropy_none": lambda lib, w: (lib.nn.CrossEntropyLoss(reduction="none"), _LABELS),
    "cross_entropy_weight": lambda lib, w: (lib.nn.CrossEntropyLoss(weight=w), _LABELS),
    "cross_entropy_ignore": lambda lib, w: (lib.nn.CrossEntropyLoss(), _some_ignored(-100)),
    "cross_entropy_ignore_class": lambda lib, w: (
        lib.nn.CrossEntropyLoss(weight=w, ignore_index=3, label_smoothing=0.1),
        _some_ignored(3),
    ),
    "cross_entropy_smooth": lambda lib, w: (
        lib.nn.CrossEntropyLoss(label_smoothing=0.2),
        _LABELS,
    ),
    "cross_entropy_smooth_weight": lambda lib, w: (
        lib.nn.CrossEntropyLoss(weight=w, label_smoothing=0.2),
        _LABELS,
    ),
    "cross_entropy_probabilities": lambda lib, w: (lib.nn.CrossEntropyLoss(), _probabilities()),
    "cross_entropy_probabilities_smooth": lambda lib, w: (
        lib.nn.CrossEntropyLoss(weight=w, label_smoothing=0.1),
        _probabilities(),
    ),
    "nll": lambda lib, w: (
        lib.nn.Sequential(lib.nn.LogSoftmax(dim=1), _Bound(lib, lib.nn.NLLLoss(), _LABELS)),
        None,
    ),
    "nll_weight": lambda lib, w: (
        lib.nn.Sequential(
            lib.nn.LogSoftmax(dim=1),
            _Bound(lib, lib.nn.NLLLoss(weight=w, ignore_index=3), _some_ignored(3)),
        ),
        None,
    ),
    "mse": lambda lib, w: (lib.nn.MSELoss(), _REAL),
    "mse_sum": lambda lib, w: (lib.nn.MSELoss(reduction="sum"), _REAL),
    "l1": lambda lib, w: (lib.nn.L1Loss(), _REAL),
    "smooth_l1": lambda lib, w: (lib.nn.SmoothL1Loss(beta=0.5), _REAL),
    "huber": lambda lib, w: (lib.nn.HuberLoss(delta=0.7), _REAL),
    "bce_logits": lambda lib, w: (lib.nn.BCEWithLogitsLoss(), _BITS),
    "bce_logits_weight": lambda lib, w: (
        lib.nn.BCEWithLogitsLoss(weight=w, pos_weight=w),
        _BITS,
    ),
    "bce": lambda lib, w: (
        lib.nn.Sequential(lib.nn.Sigmoid(), _Bound(lib, lib.nn.BCELoss(), _BITS)),
        None,
    ),
    "kl_div": lambda lib, w: (
        lib.nn.Sequential(
            lib.nn.LogSoftmax(dim=1),
            _Bound(lib, lib.nn.KLDivLoss(reduction="batchmean"), _probabilities()),
        ),
        None,
    ),
    "hinge": lambda lib, w: (
        (lib.nn.HingeLoss() if hasattr(lib.nn, "HingeLoss") else _hinge),
        _SIGNS,
    ),
}


def _hinge(score, y):
    return (1 - y * score).relu().mean()


def _Bound(lib, loss, target):
    """A loss of one argument, so that it can end a `Sequential`."""

    class Bound(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.loss = loss

        def forward(self, x):
            return self.loss(x, lib.tensor(target))

    return Bound()


def run_loss(lib, name, wrap=None):
    """Losses and final parameters of a linear layer under a loss."""
    model = lib.nn.Linear(5, 4).double()
    fill(name, model, lib)
    x = lib.tensor(numbers(name + ".x", 7, 5))
    loss_fn, target = LOSSES[name](lib, lib.tensor(_WEIGHT))

    def loss():
        value = loss_fn(model(x)) if target is None else loss_fn(model(x), lib.tensor(target))
        return value if value.ndim == 0 else (value * value).sum()

    optimizer = lib.optim.SGD(model.parameters(), lr=0.05)
    losses = train(lib, model, optimizer, loss, wrap)
    return {"losses": losses, "end": flat(model.parameters())}


# Optimizers: a small network with tanh, regression.

OPTIMIZERS = {
    "sgd": lambda o, p: o.SGD(p, lr=0.05),
    "sgd_decay": lambda o, p: o.SGD(p, lr=0.05, weight_decay=0.1),
    "sgd_momentum": lambda o, p: o.SGD(p, lr=0.05, momentum=0.8),
    "sgd_dampening": lambda o, p: o.SGD(p, lr=0.05, momentum=0.8, dampening=0.3, weight_decay=0.01),
    "sgd_nesterov": lambda o, p: o.SGD(p, lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.01),
    "sgd_maximize": lambda o, p: o.SGD(p, lr=0.002, momentum=0.5, maximize=True),
    "adam": lambda o, p: o.Adam(p, lr=0.01),
    "adam_decay": lambda o, p: o.Adam(p, lr=0.01, weight_decay=0.1, betas=(0.4, 0.7), eps=1e-4),
    "adam_amsgrad": lambda o, p: o.Adam(p, lr=0.01, amsgrad=True),
    "adam_maximize": lambda o, p: o.Adam(p, lr=0.002, maximize=True),
    "adamw": lambda o, p: o.AdamW(p, lr=0.01),
    "adamw_amsgrad": lambda o, p: o.AdamW(p, lr=0.01, weight_decay=0.2, amsgrad=True),
    "adamw_maximize": lambda o, p: o.AdamW(p, lr=0.002, maximize=True),
    "rmsprop": lambda o, p: o.RMSprop(p, lr=0.005),
    "rmsprop_all": lambda o, p: o.RMSprop(
        p, lr=0.002, alpha=0.9, weight_decay=0.1, momentum=0.5, centered=True
    ),
    "adagrad": lambda o, p: o.Adagrad(p, lr=0.05),
    "adagrad_all": lambda o, p: o.Adagrad(
        p, lr=0.05, lr_decay=0.02, weight_decay=0.1, initial_accumulator_value=0.3
    ),
    "groups": lambda o, p: o.AdamW(
        [
            {"params": p[:2], "lr": 0.02, "betas": (0.8, 0.9)},
            {"params": p[2:], "weight_decay": 0.3, "amsgrad": True},
        ],
        lr=0.01,
    ),
}


def network(lib, name):
    """A network, its loss, and the data."""
    model = lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.Tanh(), lib.nn.Linear(4, 2)).double()
    fill(name, model, lib)
    x, y = lib.tensor(numbers(name + ".x", 9, 3)), lib.tensor(numbers(name + ".y", 9, 2))
    return model, lambda: lib.nn.functional.mse_loss(model(x), y)


def run_optimizer(lib, name, wrap=None):
    """Losses and final parameters under an optimizer."""
    model, loss = network(lib, "optimizers")
    optimizer = OPTIMIZERS[name](lib.optim, list(model.parameters()))
    losses = train(lib, model, optimizer, loss, wrap)
    return {"losses": losses, "end": flat(model.parameters())}


def run_clipping(lib, name, wrap=None):
    """The same with clipped gradients."""
    model, loss = network(lib, "clipping")
    params = list(model.parameters())
    if name == "value":
        model.clip = lambda: lib.nn.utils.clip_grad_value_(params, 0.1)
    else:
        order = {"norm": 2.0, "norm1": 1.0, "norm_inf": math.inf}[name]
        model.clip = lambda: lib.nn.utils.clip_grad_norm_(params, 0.3, norm_type=order)
    optimizer = lib.optim.SGD(params, lr=0.1, momentum=0.5)
    losses = train(lib, model, optimizer, loss, wrap)
    return {"losses": losses, "end": flat(model.parameters())}


CLIPPING = ("norm", "norm1", "norm_inf", "value")


def run_freezing(lib, name="freezing", wrap=None):
    """One layer is frozen every other 10 steps: Adam counts steps per parameter."""
    model, loss = network(lib, name)
    optimizer = lib.optim.Adam(model.parameters(), lr=0.02)

    def after(k):
        model[0].requires_grad_((k // 10) % 2 == 1)

    losses = train(lib, model, optimizer, loss, wrap, after)
    return {"losses": losses, "end": flat(model.parameters())}


# Schedules: two groups, SGD; the learning rates of each step are kept too.


def _sequential(s, o):
    parts = [
        s.ConstantLR(o, 0.1, 20),
        s.LinearLR(o, 0.2, 1.0, 30),
        s.ExponentialLR(o, 0.97),
    ]
    return s.SequentialLR(o, parts, [20, 50])


SCHEDULES = {
    "lambda": lambda s, o: s.LambdaLR(o, [lambda k: 1 - 0.9 * k / 100, lambda k: 0.95**k]),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda k: 0.98),
    "step": lambda s, o: s.StepLR(o, 17, 0.5),
    "multi_step": lambda s, o: s.MultiStepLR(o, [10, 40, 40, 70], 0.4),
    "constant": lambda s, o: s.ConstantLR(o, 0.25, 30),
    "linear": lambda s, o: s.LinearLR(o, 0.3, 0.8, 60),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.96),
    "polynomial": lambda s, o: s.PolynomialLR(o, 80, 1.7),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 40, 0.001),
    "cosine_to_zero": lambda s, o: s.CosineAnnealingLR(o, 25),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 12, 2, 0.002),
    "one_cycle": lambda s, o: s.OneCycleLR(o, [0.1, 0.05], total_steps=101),
    "one_cycle_linear": lambda s, o: s.OneCycleLR(
        o, 0.1, epochs=11, steps_per_epoch=10, anneal_strategy="linear", cycle_momentum=False
    ),
    "sequential": _sequential,
    "two_at_once": lambda s, o: _Both(s.LinearLR(o, 0.1, 1.0, 20), s.StepLR(o, 30, 0.5)),
}


class _Both:
    """Two schedules of one optimizer multiply."""

    def __init__(self, *parts):
        self.parts = parts

    def step(self):
        for part in self.parts:
            part.step()


def run_schedule(lib, name, wrap=None):
    """Losses, learning rates and final parameters under a schedule."""
    model, loss = network(lib, "schedules")
    p = list(model.parameters())
    groups = [{"params": p[:2]}, {"params": p[2:], "lr": 0.03}]
    optimizer = lib.optim.SGD(groups, lr=0.08, momentum=0.5)
    schedule = SCHEDULES[name](lib.optim.lr_scheduler, optimizer)
    rates = [[g["lr"] for g in optimizer.param_groups]]

    def after(k):
        schedule.step()
        rates.append([g["lr"] for g in optimizer.param_groups])

    losses = train(lib, model, optimizer, loss, wrap, after)
    return {"losses": losses, "rates": np.array(rates), "end": flat(p)}


def run_plateau(lib, name="plateau", wrap=None):
    """A schedule that follows a metric with bumps."""
    out = []
    for mode, threshold_mode in (("min", "rel"), ("min", "abs"), ("max", "rel"), ("max", "abs")):
        optimizer = lib.optim.SGD([lib.nn.Parameter(lib.tensor([1.0]))], lr=1.0)
        schedule = lib.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode, 0.5, 3, 0.01, threshold_mode, cooldown=2, min_lr=0.001
        )
        for k in range(STEPS):
            schedule.step(3 + math.sin(k / 5) + k / 100 * (-1 if mode == "min" else 1))
            out.append(optimizer.param_groups[0]["lr"])
    return {"losses": np.array(out)}


RUNS = {
    **{f"layer/{n}": (run_layer, n) for n in LAYERS},
    "layer/embedding": (run_embedding, "embedding"),
    **{f"loss/{n}": (run_loss, n) for n in LOSSES},
    **{f"optimizer/{n}": (run_optimizer, n) for n in OPTIMIZERS},
    **{f"clip/{n}": (run_clipping, n) for n in CLIPPING},
    **{f"schedule/{n}": (run_schedule, n) for n in SCHEDULES},
    "optimizer/freezing": (run_freezing, "freezing"),
    "schedule/plateau": (run_plateau, "plateau"),
}
