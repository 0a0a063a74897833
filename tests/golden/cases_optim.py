"""More optimizers, schedules and averages; see `cases` for how they are used."""

import numpy as np

if __package__:
    from tests.golden.cases import flat, network, train
else:  # run beside it, by the script that has PyTorch
    from cases import flat, network, train


def _lion(optim, params, **options):
    """Lion, of which PyTorch has none: algorithm 2 of Chen et al. 2023, line by line."""
    if hasattr(optim, "Lion"):
        return optim.Lion(params, **options)

    class Lion(optim.Optimizer):
        def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
            super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

        def step(self):
            for group in self.param_groups:
                beta1, beta2 = group["betas"]
                for p in group["params"]:
                    m = self.state[p].setdefault("exp_avg", p.detach() * 0)
                    update = (beta1 * m + (1 - beta1) * p.grad).sign()
                    p.data = (
                        p.data * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * update
                    )
                    self.state[p]["exp_avg"] = beta2 * m + (1 - beta2) * p.grad

    return Lion(params, **options)


OPTIMIZERS = {
    "nadam": lambda o, p: o.NAdam(p, lr=0.02),
    "nadam_decay": lambda o, p: o.NAdam(
        p, lr=0.01, betas=(0.8, 0.95), weight_decay=0.1, momentum_decay=0.02
    ),
    "nadam_decoupled": lambda o, p: o.NAdam(
        p, lr=0.01, eps=1e-3, weight_decay=0.2, decoupled_weight_decay=True
    ),
    "adadelta": lambda o, p: o.Adadelta(p),
    "adadelta_all": lambda o, p: o.Adadelta(p, lr=0.7, rho=0.8, eps=1e-4, weight_decay=0.1),
    "adamax": lambda o, p: o.Adamax(p, lr=0.02),
    "adamax_all": lambda o, p: o.Adamax(p, lr=0.01, betas=(0.8, 0.9), eps=1e-4, weight_decay=0.1),
    "radam": lambda o, p: o.RAdam(p, lr=0.02),
    "radam_decay": lambda o, p: o.RAdam(p, lr=0.02, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1),
    "radam_decoupled": lambda o, p: o.RAdam(
        p, lr=0.02, weight_decay=0.2, decoupled_weight_decay=True
    ),
    "rprop": lambda o, p: o.Rprop(p),
    "rprop_all": lambda o, p: o.Rprop(p, lr=0.02, etas=(0.6, 1.1), step_sizes=(1e-3, 0.05)),
    "asgd": lambda o, p: o.ASGD(p, lr=0.05),
    "asgd_all": lambda o, p: o.ASGD(
        p, lr=0.05, lambd=0.01, alpha=0.6, t0=5.0, weight_decay=0.1, maximize=False
    ),
    "lion": lambda o, p: _lion(o, p, lr=0.002),
    "lion_decay": lambda o, p: _lion(o, p, lr=0.001, betas=(0.8, 0.9), weight_decay=0.5),
}


def run_optimizer(lib, name, wrap=None):
    """Losses and final parameters under an optimizer; one layer is frozen for a while."""
    model, loss = network(lib, "optimizers")
    optimizer = OPTIMIZERS[name](lib.optim, list(model.parameters()))

    def after(k):
        if name == "nadam_decay" and k in (20, 40):
            model[0].requires_grad_(k == 40)
            optimizer.zero_grad()

    before = lib.get_default_dtype()
    lib.set_default_dtype(lib.float64)  # else PyTorch keeps NAdam's product of momenta in float32
    losses = train(lib, model, optimizer, loss, wrap, after)
    lib.set_default_dtype(before)
    return {"losses": losses, "end": flat(model.parameters())}


LBFGS = {
    "plain": {"lr": 0.1, "max_iter": 4, "history_size": 3},
    "wolfe": {"max_iter": 5, "history_size": 4, "line_search_fn": "strong_wolfe"},
    "wolfe_ridge": {"max_iter": 5, "history_size": 4, "line_search_fn": "strong_wolfe"},
    "wolfe_limits": {"lr": 4.0, "max_iter": 6, "max_eval": 7, "line_search_fn": "strong_wolfe"},
}


# Without a penalty a line search magnifies differences of rounding in the parameters from step to
# step: 1e-14 after the first, 1e-9 after the eighth, on every executor. They are compared early.
EARLY = {"wolfe": 5}


def run_lbfgs(lib, name, wrap=None):
    """Losses and later parameters; the closure is what is captured."""
    model, loss = network(lib, "lbfgs")
    optimizer = lib.optim.LBFGS(model.parameters(), **LBFGS[name])

    def closure():
        optimizer.zero_grad()
        value = loss()
        if name == "wolfe_ridge":
            value = value + 0.03 * sum((p**2).sum() for p in model.parameters())
        value.backward()
        return value

    closure = closure if wrap is None else wrap(closure)
    losses = []
    for step in range(1, 9):
        losses.append(float(optimizer.step(closure)))
        if step == EARLY.get(name, 8):
            end = flat(model.parameters())
    return {"losses": np.array(losses), "end": end}


AVERAGES = {
    "swa": lambda u: {},
    "ema": lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.9)},
    "ema_buffers": lambda u: {"avg_fn": u.get_ema_avg_fn(0.8), "use_buffers": True},
}


def run_average(lib, name, wrap=None):
    """The averaged parameters and buffers of a run, from step 20 on."""
    nn, utils = lib.nn, lib.optim.swa_utils
    model, _ = network(lib, "averages")
    model = nn.Sequential(model, nn.BatchNorm1d(2).double())
    x = lib.tensor(np.random.default_rng(3).normal(size=(9, 3)))
    y = lib.tensor(np.random.default_rng(4).normal(size=(9, 2)))
    averaged = utils.AveragedModel(model, **AVERAGES[name](utils))
    optimizer = lib.optim.SGD(model.parameters(), lr=0.1)
    schedule = utils.SWALR(optimizer, 0.02, anneal_epochs=30)

    def step():
        optimizer.zero_grad()
        loss = lib.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        averaged.update_parameters(model)
        return loss

    step = step if wrap is None else wrap(step)
    losses = []
    for _ in range(50):
        losses.append(step().item())
        schedule.step()
    end = flat([*averaged.parameters(), *(b.double() for b in averaged.buffers())])
    utils.update_bn([x, (y[:, :1] + x, 0)], averaged)
    refreshed = flat([averaged.module[1].running_mean, averaged.module[1].running_var])
    return {"losses": np.array(losses), "end": end, "refreshed": refreshed}


def run_accumulation(lib, name="accumulation", wrap=None):
    """Gradients of three batches added up before each step."""
    model, loss = network(lib, name)
    optimizer = lib.optim.AdamW(model.parameters(), lr=0.01)

    def step():
        optimizer.zero_grad()
        total = 0
        for _ in range(3):
            part = loss() / 3
            part.backward()
            total = total + part.detach()
        optimizer.step()
        return total

    step = step if wrap is None else wrap(step)
    losses = [step().item() for _ in range(40)]
    return {"losses": np.array(losses), "end": flat(model.parameters())}


SCHEDULES = {
    "cyclic": lambda s, o: s.CyclicLR(o, 0.01, 0.1, 13),
    "cyclic_halved": lambda s, o: s.CyclicLR(o, [0.01, 0.02], 0.1, 7, 5, mode="triangular2"),
    "cyclic_shrunk": lambda s, o: s.CyclicLR(
        o, 0.01, 0.1, 9, mode="exp_range", gamma=0.97, cycle_momentum=False
    ),
    "chained": lambda s, o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 20), s.ExponentialLR(o, 0.9)]),
}


def run_schedule(lib, name, wrap=None):
    """The learning rates and momenta of 60 epochs."""
    params = [lib.nn.Parameter(lib.tensor([1.0])) for _ in range(2)]
    optimizer = lib.optim.SGD([{"params": [p]} for p in params], lr=0.08, momentum=0.5)
    schedule = SCHEDULES[name](lib.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(60):
        rates.append([(g["lr"], g["momentum"]) for g in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return {"rates": np.array(rates)}


RUNS = {
    **{f"optimizer/{n}": (run_optimizer, n) for n in OPTIMIZERS},
    **{f"lbfgs/{n}": (run_lbfgs, n) for n in LBFGS},
    **{f"average/{n}": (run_average, n) for n in AVERAGES},
    **{f"schedule/{n}": (run_schedule, n) for n in SCHEDULES},
    "optimizer/accumulation": (run_accumulation, "accumulation"),
}
