"""Training by captured functions against the same training without: every sequence, every bit.

A `Trainer` has a model with dropout and running statistics, an optimizer, and one of several ways
of decorating its step. A sequence of events (batches of any size, switches, precisions, new
learning rates, seeds, checkpoints, exceptions while tracing, outputs held or fed back) is played to
a plain trainer and to a captured one. Losses, outputs, parameters, gradients, buffers, optimizer
state and the random state must agree bitwise, as far as each event lets them be seen.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lazygrad as lg
from lazygrad import nn

F = nn.functional
FEATURES, CLASSES = 5, 3
STYLES = ("whole step", "forward", "forward and backward", "loss only", "update only")
CAPTURED_FORWARD = STYLES[:3]
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: lg.optim.SGD(p, lr=0.1),
    "momentum": lambda p: lg.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: lg.optim.Adam(p, lr=0.01),
    "adamw": lambda p: lg.optim.AdamW(p, lr=0.01),
}


class Net(nn.Module):
    def __init__(self, batch_norm: bool) -> None:
        super().__init__()
        self.inner = nn.Linear(FEATURES, 6)
        self.norm = nn.BatchNorm1d(6) if batch_norm else nn.LayerNorm(6)
        self.drop = nn.Dropout(0.3)
        self.outer = nn.Linear(6, CLASSES)

    def forward(self, x: lg.Tensor) -> lg.Tensor:
        return self.outer(self.drop(self.norm(self.inner(x)).relu()))


class Boom(Exception):
    """Raised by the user's code in the middle of a step."""


class Trainer:
    """One model in training; `wrap` decorates what its style decorates."""

    def __init__(self, style: str, optimizer: str, batch_norm: bool, zero: str, wrap: Any) -> None:
        lg.manual_seed(0)
        self.model = model = Net(batch_norm)
        self.optimizer = opt = OPTIMIZERS[optimizer](model.parameters())
        self.style, self.zero = style, zero
        self.plain = wrap is None
        wrap = wrap or (lambda fn: fn)
        self.log: list[np.ndarray] = []
        self.held: list[tuple[lg.Tensor, np.ndarray | None]] = []
        self.saved: Any = None
        self.last: lg.Tensor | None = None
        self.half: lg.dtype | None = None  # the type of products under autocast

        def loss_of(x: Any, y: Any, boom: bool) -> Any:
            out = model(x)
            if boom:
                raise Boom
            return F.cross_entropy(out, y, reduction="sum") * 0.1, out

        def whole(x: Any, y: Any, boom: bool = False) -> Any:
            if zero == "inside":
                opt.zero_grad()
            loss, out = loss_of(x, y, boom)
            if loss.requires_grad:
                loss.backward()
                opt.step()
            return loss, out

        def forward_backward(x: Any, y: Any, boom: bool = False) -> Any:
            if zero == "inside":
                opt.zero_grad()
            loss, out = loss_of(x, y, boom)
            if loss.requires_grad:
                loss.backward()
            return loss, out

        def forward(x: Any, y: Any, boom: bool = False) -> Any:
            return loss_of(x, y, boom)

        def update() -> None:
            opt.step()

        self.whole, self.forward_backward, self.forward = whole, forward_backward, forward
        self.update = wrap(update) if style == "update only" else update
        self.network: Any = model
        if style == "whole step":
            self.whole = wrap(whole)
        elif style == "forward and backward":
            self.forward_backward = wrap(forward_backward)
        elif style == "forward":
            self.forward = wrap(forward)
        elif style == "loss only":
            inner = wrap(lambda out, y: F.cross_entropy(out, y, reduction="sum") * 0.1)

            def mixed(x: Any, y: Any, boom: bool = False) -> Any:
                out = model(x)
                if boom:
                    raise Boom
                return inner(out, y), out

            self.forward = mixed

    # events -------------------------------------------------------------------------------

    def step(self, x: Any, y: Any, boom: bool) -> None:
        if self.zero == "outside":
            self.optimizer.zero_grad()
        if boom and self.plain and self.style in CAPTURED_FORWARD:
            if self.style == "forward" and self.zero == "inside":
                self.optimizer.zero_grad()
            raise Boom  # a captured call that fails leaves everything as it was
        if self.style == "whole step":
            loss, out = self.whole(x, y, boom)
        elif self.style == "forward and backward":
            loss, out = self.forward_backward(x, y, boom)
            self.update()
        else:
            if self.zero == "inside":
                self.optimizer.zero_grad()
            loss, out = self.forward(x, y, boom)
            if loss.requires_grad:
                loss.backward()
                self.update()
        self.last = out
        self.held.append((loss, None))

    def play(self, event: tuple[Any, ...], rng: np.random.Generator) -> None:
        if event[0] == "autocast":
            self.half = event[1]
            return
        with lg.autocast("cpu", self.half, enabled=self.half is not None):
            self._play(event, rng)

    def _play(self, event: tuple[Any, ...], rng: np.random.Generator) -> None:
        kind, *rest = event
        if kind in ("batch", "boom"):
            size, as_tensor = rest
            x = rng.standard_normal((size, FEATURES)).astype(np.float32)
            y = rng.integers(0, CLASSES, size)
            given: Any = (lg.Tensor(x), lg.Tensor(y)) if as_tensor or self.plain else (x, y)
            try:
                self.step(*given, kind == "boom")
            except Boom:
                assert kind == "boom"
            x[...], y[...] = np.nan, 0  # the loader uses its buffers again
        elif kind == "feed back" and self.last is not None:
            x = (self.last.detach() @ lg.ones(CLASSES, FEATURES)).tanh()
            self.step(x, lg.zeros(x.shape[0], dtype=lg.int64), False)
        elif kind == "mode":
            self.model.train(rest[0])
        elif kind == "freeze":
            list(self.model.children())[rest[0]].requires_grad_(rest[1])
        elif kind == "lr":
            self.optimizer.param_groups[0]["lr"] = rest[0]
        elif kind == "seed":
            lg.manual_seed(rest[0])
        elif kind == "grad":
            self.see_grads()
        elif kind == "zero":
            self.optimizer.zero_grad(set_to_none=rest[0])
        elif kind == "save":
            self.saved = self.model.state_dict(), self.optimizer.state_dict()
        elif kind == "load" and self.saved is not None:
            self.model.load_state_dict(self.saved[0])
            self.optimizer.load_state_dict(self.saved[1])
        elif kind == "write":
            p = self.model.parameters()[rest[0]]
            p.data = p.numpy() * 0.9
        elif kind == "read":
            self.log.append(self.held[-1][0].numpy(copy=True) if self.held else np.zeros(0))
        elif kind == "hold" and self.held:
            loss = self.held[-1][0]
            self.held[-1] = (loss, loss.numpy())
            self.log.append(loss.numpy(copy=True))
        elif kind == "evaluate":
            with lg.no_grad():
                x = rng.standard_normal((4, FEATURES)).astype(np.float32)
                self.log.append(self.model(lg.Tensor(x)).numpy(copy=True))

    def see_grads(self) -> None:
        for p in self.model.parameters():
            self.log.append(np.zeros(0) if p.grad is None else p.grad.numpy(copy=True))

    def finish(self) -> list[np.ndarray]:
        """Everything that there is to see."""
        self.see_grads()
        self.log += [loss.numpy(copy=True) for loss, _ in self.held]
        for loss, array in self.held:
            assert array is None or array.tobytes() == loss.numpy().tobytes()
        self.log += [t.numpy(copy=True) for t in self.model.state_dict().values()]
        state = self.optimizer.state_dict()["state"]
        for key in sorted(state):
            self.log += [np.array(v) for _, v in sorted(state[key].items())]
        self.log.append(np.array(lg.get_rng_state()))
        return self.log


SETTINGS: tuple[dict[str, Any], ...] = (
    {}, {}, {"check": True}, {"poison": True, "verify": True}, {"no_fuse": True},
    {"no_planner": True}, {"parallel": "chunked", "num_workers": 7}, {"flush_nodes": 60},
    {"eager": True}, {"capture_limit": 2},
)  # fmt: skip
SIZES = st.sampled_from([4, 4, 4, 7, 1, 0])
EVENTS = st.one_of(
    st.tuples(st.just("batch"), SIZES, st.booleans()),
    st.tuples(st.just("batch"), SIZES, st.booleans()),
    st.tuples(st.just("batch"), st.just(4), st.just(False)),
    st.tuples(st.just("boom"), SIZES, st.booleans()),
    st.tuples(st.just("feed back")),
    st.tuples(st.just("mode"), st.booleans()),
    st.tuples(st.just("freeze"), st.sampled_from([0, 1, 3]), st.booleans()),
    st.tuples(st.just("lr"), st.sampled_from([0.0, 0.01, 0.3])),
    st.tuples(st.just("seed"), st.integers(0, 3)),
    st.tuples(st.just("grad")),
    st.tuples(st.just("zero"), st.booleans()),
    st.tuples(st.just("save")),
    st.tuples(st.just("load")),
    st.tuples(st.just("write"), st.integers(0, 5)),
    st.tuples(st.just("read")),
    st.tuples(st.just("hold")),
    st.tuples(st.just("evaluate")),
    st.tuples(st.just("autocast"), st.sampled_from([None, lg.bfloat16, lg.float16])),
)


def trajectory(setup: tuple[Any, ...], events: list[Any], wrap: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    trainer = Trainer(*setup, wrap)
    for event in events:
        trainer.play(event, rng)
    return trainer.finish()


@settings(max_examples=settings().max_examples)
@given(
    style=st.sampled_from(STYLES),
    optimizer=st.sampled_from(list(OPTIMIZERS)),
    batch_norm=st.booleans(),
    zero=st.sampled_from(["inside", "outside", "absent"]),
    setting=st.sampled_from(SETTINGS),
    events=st.lists(EVENTS, min_size=3, max_size=14),
)
@example("update only", "sgd", True, "inside", {}, [("batch", 4, True)] * 3)
def test_captured_training_equals_plain_training(
    style: str, optimizer: str, batch_norm: bool, zero: str, setting: Any, events: list[Any]
) -> None:
    # A batch of one has no variance: BatchNorm raises in both, so it is not drawn for it.
    if batch_norm:
        sized = ("batch", "boom")
        events = [(e[0], 4, e[2]) if e[0] in sized and e[1] < 2 else e for e in events]
    setup = (style, optimizer, batch_norm, zero)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that something is captured again is the point here
        plain = trajectory(setup, events, None)
        with lg.config.override(**setting):  # in eager mode nothing is captured
            wrap = None if "eager" in setting else lg.compute_graph
            captured = trajectory(setup, events, wrap)
    assert len(plain) == len(captured)
    for k, (a, b) in enumerate(zip(plain, captured, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"observation {k}"
        np.testing.assert_array_equal(b, a, err_msg=f"observation {k}, captured against plain")
