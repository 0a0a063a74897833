"""The base class of optimizers: one pure update over all parameters per step.

A subclass says what an update is: `scalars` computes what all parameters of a group share, in
float64 and from the cells of the hyper-parameters; `update` maps one parameter, its gradient and
its state to their successors. `step` runs that as one subgraph over everything, assigns the
results, and realizes them together with whatever is pending; while a function is captured it only
records the writes. The formulas need no first-step case, so a traced step is the same program from
its first call on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypedDict

import numpy as np

from lazygrad.config import config
from lazygrad.engine.capture import note_module
from lazygrad.engine.gradients import Gradients, clear_gradients
from lazygrad.engine.modes import LOCK, STATE, capturing, enable_grad, no_grad
from lazygrad.engine.subgraph import Subgraph
from lazygrad.engine.tensor import Tensor, state
from lazygrad.errors import ArgumentError, ArgumentTypeError
from lazygrad.optim.group import ParamGroup
from lazygrad.optim.plan import Plan
from lazygrad.optim.state_dict import collect, restore

Hyper = dict[str, tuple[Tensor, ...]]
Scalars = dict[str, Tensor]
Moments = dict[str, Tensor]
On = tuple[str, ...]


_PATTERNS = 64  # of gradients that are there and not; an optimizer keeps so many updates


class Part(NamedTuple):
    """What one group contributes to a step; hashable, because a subgraph is made for it."""

    on: On
    cells: tuple[tuple[str, int], ...]  # each hyper-parameter and how many numbers it has
    moments: tuple[str, ...]
    counted: bool
    tallies: tuple[str, ...]
    active: tuple[int, ...]  # which parameters have a gradient
    total: int


class Implementation(TypedDict, total=False):
    """PyTorch's choices between implementations of a step.

    They are accepted and change nothing: every step is one fused program with the same bits.
    """

    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool


def _checked_flags(name: str, flags: Implementation) -> None:
    unknown = [f for f in flags if f not in Implementation.__annotations__]
    if unknown:
        raise TypeError(f"{name}() got an unexpected keyword argument {unknown[0]!r}")
    if flags.get("differentiable"):
        raise ArgumentError(f"{name}: steps are not differentiable; differentiable must be False")


class Optimizer:
    """Base class of optimizers.

    `params` are tensors, or mappings (groups) with hyper-parameters of their own. Parameters
    without a gradient are skipped. A subclass names the hyper-parameters that live in cells
    (`numeric`) and those whose being zero changes the formula (`switches`), and defines `moments`,
    `scalars` and `update`; `on` tells these which switches and flags are set. With the flag
    `maximize` they get the gradient with its sign turned.

    >>> import lazygrad as lg
    >>> class SignDescent(lg.optim.Optimizer):
    ...     def __init__(self, params, lr):
    ...         super().__init__(params, {"lr": lr})
    ...
    ...     def scalars(self, hyper, step, on):
    ...         return {"lr": hyper["lr"][0]}
    ...
    ...     def update(self, param, grad, state, s, on):
    ...         return param - s["lr"] * grad.sign(), {}
    >>> w = lg.nn.Parameter([1.0, -2.0])
    >>> opt = SignDescent([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.tolist()
    [0.5, -1.5]
    """

    numeric: ClassVar[tuple[str, ...]] = ("lr",)
    switches: ClassVar[tuple[str, ...]] = ()
    counter_name: ClassVar[str] = "step"

    def __init__(
        self, params: Iterable[Any], defaults: dict[str, Any], flags: Implementation | None = None
    ) -> None:
        _checked_flags(type(self).__name__, flags or {})
        if isinstance(params, Tensor | Mapping):
            raise ArgumentTypeError(
                "params must be an iterable of tensors or groups, got a single "
                f"{type(params).__name__}; write [params]"
            )
        if not isinstance(params, Iterable):
            raise ArgumentTypeError(
                f"params must be an iterable of tensors or groups, got {type(params).__name__};"
                " write model.parameters()"
            )
        self.defaults = defaults
        self.param_groups: list[ParamGroup] = []
        self.state: dict[Tensor, Moments] = {}
        self._subgraphs: dict[tuple[tuple[Part, ...], tuple[int, ...]], Subgraph] = {}
        self._plan: Plan | None = None
        # The gradients that parameters share, the other parameters, and when that was so.
        self._shared: tuple[Gradients, list[Tensor], int] | None = None
        self._masks: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        given = list(params)
        if not given:
            raise ArgumentError(f"{type(self).__name__} got an empty parameter list")
        groups = given if isinstance(given[0], Mapping) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    # --- what subclasses define ----------------------------------------------------------------

    def moments(self, on: On) -> tuple[str, ...]:
        """The names of the state tensors of a parameter."""
        return ()

    def counts(self, on: On) -> bool:
        """Whether `scalars` needs to know how many steps a parameter has had, or tallies."""
        return False

    def tallies(self, on: On) -> tuple[str, ...]:
        """The names of numbers that are kept for each parameter besides the step.

        `scalars` finds them in `hyper`, an entry per parameter, and returns their successors.
        """
        return ()

    def initial(self, group: ParamGroup, name: str) -> float:
        """The value that a moment or a tally begins with."""
        return 0.0

    def scalars(self, hyper: Hyper, step: Tensor | None, on: On) -> Scalars:
        """The float64 scalars of an update; `step` counts this one, an entry per parameter."""
        raise NotImplementedError

    def update(
        self, param: Tensor, grad: Tensor, state: Moments, s: Scalars, on: On
    ) -> tuple[Tensor, Moments]:
        """The next value of a parameter and of its state; `s` has the parameter's dtype."""
        raise NotImplementedError

    def validate(self, group: ParamGroup) -> None:
        """Raise on hyper-parameters that do not go together."""

    # --- groups --------------------------------------------------------------------------------

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add parameters, with hyper-parameters of their own where the mapping has some."""
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise ArgumentTypeError(f"a group is a mapping with 'params', got {param_group!r}")
        given = param_group["params"]
        params = [given] if isinstance(given, Tensor) else [_unnamed(p) for p in given]
        if not params:
            raise ArgumentError(f"{type(self).__name__} got an empty parameter list in a group")
        seen = {id(p) for group in self.param_groups for p in group.params}
        for p in params:
            if not isinstance(p, Tensor):
                raise ArgumentTypeError(f"an optimizer takes tensors, got {type(p).__name__}")
            if not p.is_leaf:
                raise ArgumentError("cannot optimize a tensor that is the result of operations")
            if id(p) in seen:
                raise ArgumentError(f"a parameter of shape {p.shape} appears twice")
            seen.add(id(p))
        group = ParamGroup(params, {**self.defaults, **param_group}, self.numeric, self.switches)
        self.validate(group)
        self.param_groups.append(group)
        config.bump()

    @property
    def lr(self) -> float:
        """The learning rate of the first group; assigning sets that of all groups."""
        found: float = self.param_groups[0]["lr"]
        return found

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, or set them to zero."""
        if set_to_none and STATE.capture is None:
            known = self._shared  # by all parameters, of late
            if known is not None and known[0].joined and known[2] == config.epoch:
                known[0].clear()
                for p in known[1]:
                    p.grad = None
            else:
                self._drop_gradients()
            return
        for group in self.param_groups:
            for p in group.params:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad = p.grad.new_zeros(p.shape)

    def _drop_gradients(self) -> None:
        found, others = clear_gradients(p for group in self.param_groups for p in group.params)
        self._shared = None if found is None else (found, others, config.epoch)

    # --- a step --------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters by their gradients; returns what `closure` returned, if given."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with LOCK:
            plan = self._plan
            if plan is None or not plan.run_again():
                self._update(plan)
        return loss

    def _update(self, plan: Plan | None) -> None:
        if plan is None or not plan.serves():
            plan = self._make_plan()
        if plan is not None:
            with no_grad():
                plan.run.update(plan.inputs_now(), plan.targets, plan.learn)

    def _step_unless(self, skip: Tensor) -> None:
        """A step, unless `skip` holds when it is computed: then every state stays as it is."""
        with LOCK, no_grad():
            layout, inputs, targets = self._gather()
            if not targets:
                return
            at = {id(t): i for i, t in enumerate(inputs)}
            before = tuple([at[id(t)] for t in targets])
            run = self._subgraph(layout, partial(self._run_unless, layout, before), before)
            run.update([*inputs, skip], targets)

    def _run_unless(
        self, layout: tuple[Part, ...], before: tuple[int, ...], *tensors: Tensor
    ) -> list[Tensor]:
        """The results of `_run`, or what was there before where the last tensor holds."""
        *given, skip = tensors
        new = self._run(layout, *given)
        return [given[i].where(skip, x) for i, x in zip(before, new, strict=True)]

    def _subgraph(
        self, layout: tuple[Part, ...], fn: Callable[..., list[Tensor]], key: tuple[int, ...] = ()
    ) -> Subgraph:
        """The update of a layout, traced once for each set of shapes."""
        run = self._subgraphs.get((layout, key))
        if run is None:
            if len(self._subgraphs) >= _PATTERNS:
                self._subgraphs.clear()
            run = self._subgraphs[layout, key] = Subgraph(fn)
        return run

    def _make_plan(self) -> Plan | None:
        """Gather what a step needs; None when no parameter has a gradient."""
        with no_grad():
            layout, inputs, targets = self._gather()
        if not targets:
            return None
        run = self._subgraph(layout, partial(self._run, layout))
        params = [p for group in self.param_groups for p in group.params]
        active = {id(t) for t in targets}
        plan = Plan(
            run, inputs, targets, [p for p in params if id(p) in active],
            [p for p in params if id(p) not in active],
        )  # fmt: skip
        if not capturing():
            self._plan = plan
        return plan

    def _gather(self) -> tuple[tuple[Part, ...], list[Tensor], list[Tensor]]:
        """The layout of a step, the tensors that it reads, and those that it writes."""
        parts: list[Part] = []
        inputs: list[Tensor] = []
        targets: list[Tensor] = []
        for group in self.param_groups:
            note_module(group)
            active = tuple([i for i, p in enumerate(group.params) if p.grad is not None])
            if not active:
                continue
            names = self.moments(group.on)
            part = Part(
                group.on, group.sizes, names, self.counts(group.on), self.tallies(group.on),
                active, len(group.params),
            )  # fmt: skip
            parts.append(part)
            inputs += group.tensors()
            if part.counted:
                counter = self.ensure_counter(group)
                inputs += [counter, self._mask(part)]
                targets.append(counter)
                tallies = self.ensure_tallies(group, part.tallies)
                inputs += tallies
                targets += tallies
            for i in active:
                p = group.params[i]
                held = self.ensure_state(group, p, names) if names else []
                inputs += [p, p.grad, *held]  # type: ignore[list-item]  # grads are not None here
                targets += [p, *held]
        return tuple(parts), inputs, targets

    def _run(self, layout: tuple[Part, ...], *tensors: Tensor) -> list[Tensor]:
        """The pure function behind `step`: the next values of what `_gather` says it writes."""
        given = iter(tensors)
        results: list[Tensor] = []
        for part in layout:
            hyper = {name: _take(given, size) for name, size in part.cells}
            step = None
            if part.counted:
                counter, mask = _take(given, 2)
                step = counter + mask
                results.append(step)
                before = _take(given, len(part.tallies))
                hyper.update({n: (t,) for n, t in zip(part.tallies, before, strict=True)})
            shared = self.scalars(hyper, step, part.on)
            if step is not None:
                results += [
                    shared[n].where(mask > 0, hyper[n][0]) for n in part.tallies
                ]  # those that are not stepped keep theirs
            for i in part.active:
                param, grad = _take(given, 2)
                held = dict(zip(part.moments, _take(given, len(part.moments)), strict=True))
                s = {name: _scalar(value, i, param) for name, value in shared.items()}
                if "maximize" in part.on:
                    grad = -grad
                param, new = self.update(param, grad, held, s, part.on)
                results += [param, *(new[name] for name in part.moments)]
        return results

    # --- state ---------------------------------------------------------------------------------

    def ensure_state(
        self, group: ParamGroup, param: Tensor, names: tuple[str, ...]
    ) -> list[Tensor]:
        """The moments of a parameter, made when it is first stepped, in its dtype."""
        own = self.state.setdefault(param, {})
        for name in names:
            if name not in own:
                value = np.full(param.shape, self.initial(group, name), param.dtype.dtype)
                own[name] = state(value, name=name)
            elif own[name].dtype is not param.dtype:  # the model was converted
                storage = own[name]._storage
                if storage is not None:
                    own[name] = state(storage.current(), param.dtype, name)
        return [own[name] for name in names]

    def ensure_counter(self, group: ParamGroup) -> Tensor:
        """How many steps each parameter of a group has had.

        One vector, so that what depends on it is computed for all parameters at once.
        """
        if group.counter is None:
            group.counter = state(np.zeros(len(group.params)), name=self.counter_name)
        return group.counter

    def ensure_tallies(self, group: ParamGroup, names: tuple[str, ...]) -> list[Tensor]:
        """The numbers that a group keeps for each parameter, made when it is first stepped."""
        for name in names:
            if name not in group.tallies:
                values = np.full(len(group.params), self.initial(group, name))
                group.tallies[name] = state(values, name=name)
        return [group.tallies[name] for name in names]

    def _mask(self, part: Part) -> Tensor:
        """1 for each parameter that is stepped, 0 for the others."""
        key = part.total, part.active
        if key not in self._masks:
            mask = np.zeros(part.total)
            mask[list(part.active)] = 1
            self._masks[key] = state(mask, name="stepped")
        return self._masks[key]

    def state_dict(self) -> dict[str, Any]:
        """State and hyper-parameters as plain data and tensors, in PyTorch's layout."""
        return collect(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state dict; everything is checked before anything is changed.

        Values go into the tensors that are there, so captured training steps stay valid.
        """
        restore(self, state_dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_subgraphs": {}, "_masks": {}, "_plan": None, "_shared": None}

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])


def _unnamed(param: Any) -> Any:
    """The tensor of a (name, tensor) pair, as `named_parameters()` gives them."""
    return param[1] if isinstance(param, tuple) and len(param) == 2 else param


def _take(tensors: Iterator[Tensor], count: int) -> tuple[Tensor, ...]:
    return tuple(next(tensors) for _ in range(count))


def _scalar(value: Tensor, index: int, param: Tensor) -> Tensor:
    """The scalar of one parameter, in its dtype."""
    cast = value.to(param.dtype)
    return cast[index] if cast.ndim else cast
