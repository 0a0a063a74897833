"""Checking gradients against finite differences.

One number per input is compared: with u a random cotangent and v a random direction,
u · (f(x + eps v) - f(x - eps v)) / (2 eps) must be (vjp of u) · v. A wrong gradient passes with
probability zero, at the cost of two evaluations instead of two per element; only when an input
fails is every element differentiated, for the report. (The projection is that of PyTorch's fast
mode: https://pytorch.org/docs/stable/notes/gradcheck.html.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazygrad.dtypes import float64
from lazygrad.engine.backward import grad
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentError, LazygradError
from lazygrad.ops.opdef import Array

Outputs = Tensor | Sequence[Tensor]


class GradcheckError(LazygradError, AssertionError):
    """A gradient differs from the finite differences; the message shows where."""


@dataclass
class _Check:
    """One function on one set of inputs."""

    fn: Callable[..., Outputs]
    inputs: tuple[Any, ...]
    eps: float
    atol: float
    rtol: float
    skip_kinks: bool
    rng: np.random.Generator

    def run(self) -> None:
        """Compare the gradient of every input that requires one."""
        outputs = self._outputs(self.inputs)
        if not any(y.requires_grad for y in outputs):
            raise ArgumentError("gradcheck: no output depends on an input that requires grad")
        again = [y.numpy() for y in self._outputs(self.inputs)]
        for k, (y, other) in enumerate(zip(outputs, again, strict=True)):
            if not np.array_equal(y.numpy(), other, equal_nan=y.dtype.is_floating_point):
                raise GradcheckError(f"output {k} differs between two calls on the same inputs")
        roots = [y for y in outputs if y.requires_grad]
        cotangents = [self.rng.standard_normal(y.shape) for y in roots]
        checked = [i for i, x in enumerate(self.inputs) if _is_checked(x)]
        leaves = [self.inputs[i] for i in checked]
        found = grad(roots, leaves, [Tensor(u) for u in cotangents], allow_unused=True)
        scalar = self._projected([y.requires_grad for y in outputs], cotangents)
        for i, x, g in zip(checked, leaves, found, strict=True):
            analytic = np.zeros(x.shape) if g is None else self._checked_grad(i, x, g)
            self._compare(i, analytic, scalar)

    def _outputs(self, inputs: Sequence[Any]) -> list[Tensor]:
        result = self.fn(*inputs)
        outputs = [result] if isinstance(result, Tensor) else list(result)
        for k, y in enumerate(outputs):
            if not isinstance(y, Tensor):
                raise ArgumentError(f"gradcheck: output {k} is a {type(y).__name__}, no tensor")
        return outputs

    def _checked_grad(self, i: int, x: Tensor, g: Tensor) -> Array:
        if g.shape != x.shape or g.dtype is not x.dtype:
            raise GradcheckError(
                f"input {i} is {x.shape} {x.dtype}, its gradient is {g.shape} {g.dtype}"
            )
        found: Array = g.numpy(copy=True)
        return found

    def _projected(
        self, differentiable: list[bool], cotangents: list[Array]
    ) -> Callable[[int, Array], float]:
        """The product u · f with input i replaced."""

        def scalar(i: int, value: Array) -> float:
            inputs = list(self.inputs)
            inputs[i] = Tensor(value, requires_grad=True)
            outputs = self._outputs(inputs)
            kept = [y.numpy() for y, d in zip(outputs, differentiable, strict=True) if d]
            return float(sum(np.vdot(u, y) for u, y in zip(cotangents, kept, strict=True)))

        return scalar

    def _compare(self, i: int, analytic: Array, scalar: Callable[[int, Array], float]) -> None:
        x = self.inputs[i].numpy(copy=True)
        if x.size == 0:
            return
        v = self.rng.standard_normal(x.shape)
        v /= np.linalg.norm(v)
        up, down = scalar(i, x + self.eps * v), scalar(i, x - self.eps * v)
        numeric = (up - down) / (2 * self.eps)
        if self._close(float(np.vdot(analytic, v)), numeric):
            return
        slopes, kinks = self._slopes(i, x, scalar)
        wrong = ~(np.abs(analytic - slopes) <= self.atol + self.rtol * np.abs(slopes))
        if self.skip_kinks:
            wrong &= ~kinks
        if wrong.any():
            raise GradcheckError(_report(i, x, analytic, slopes, wrong, kinks))
        if not (self.skip_kinks and kinks.any()):  # no element alone is off by more than allowed
            raise GradcheckError(
                f"input {i} {x.shape}: the derivative along a random direction is {numeric:.10g},"
                f" the gradient says {np.vdot(analytic, v):.10g}"
            )

    def _close(self, a: float, b: float) -> bool:
        return abs(a - b) <= self.atol + self.rtol * abs(b)

    def _slopes(
        self, i: int, x: Array, scalar: Callable[[int, Array], float]
    ) -> tuple[Array, Array]:
        """The derivative by each element, and where the two one-sided ones differ.

        At a kink the difference of the one-sided slopes stays as eps shrinks; by curvature it
        shrinks with it.
        """
        slopes, kinks = np.empty(x.shape), np.zeros(x.shape, bool)
        middle = scalar(i, x)
        for at in np.ndindex(x.shape):
            gaps = []
            for eps in (self.eps, self.eps / 4):
                ends = []
                for step in (eps, -eps):
                    moved = x.copy()
                    moved[at] += step
                    ends.append(scalar(i, moved))
                gaps.append((ends[0] - 2 * middle + ends[1]) / eps)
                if eps == self.eps:
                    slopes[at] = (ends[0] - ends[1]) / (2 * eps)
            limit = self.atol + self.rtol * abs(slopes[at])
            kinks[at] = abs(gaps[0]) > limit and abs(gaps[1]) > 0.6 * abs(gaps[0])
        return slopes, kinks


def _is_checked(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _report(i: int, x: Array, analytic: Array, numeric: Array, wrong: Array, kinks: Array) -> str:
    """The worst elements of a wrong gradient."""
    off = np.where(wrong, np.abs(analytic - numeric), -1.0)
    off = np.where(np.isnan(off), np.inf, off)
    lines = [
        f"the gradient of input {i} {x.shape} is wrong in {int(wrong.sum())} of {x.size} elements:",
        "  position        value          gradient       numeric        ratio",
    ]
    for flat in np.argsort(off, axis=None)[::-1][: min(8, int(wrong.sum()))]:
        at = tuple(int(n) for n in np.unravel_index(flat, x.shape))
        ratio = analytic[at] / numeric[at] if numeric[at] else np.inf
        mark = "  (a kink)" if kinks[at] else ""
        lines.append(
            f"  {at!s:<14}  {x[at]:<13.6g}  {analytic[at]:<13.6g}  {numeric[at]:<13.6g}"
            f"  {ratio:.6g}{mark}"
        )
    if not (wrong & ~kinks).any():
        lines.append(
            "  all of them are kinks, where finite differences say nothing: skip_kinks=True"
        )
    return "\n".join(lines)


def gradcheck(
    fn: Callable[..., Outputs],
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    *,
    skip_kinks: bool = False,
    raise_exception: bool = True,
    seed: int = 0,
) -> bool:
    """Whether the gradients of `fn` agree with finite differences.

    `inputs` are the arguments of `fn`; those that require grad are checked and must be float64.
    `fn` returns a tensor or a sequence of tensors. A failure raises `GradcheckError`, which lists
    the worst elements, or gives False without `raise_exception`. `skip_kinks` leaves out elements
    whose one-sided derivatives differ, such as `relu` at 0.

    >>> import lazygrad as lg
    >>> x = lg.tensor([0.5, -1.5], dtype=lg.float64, requires_grad=True)
    >>> gradcheck(lambda x: (x * x).sin(), x)
    True
    """
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if not any(_is_checked(x) for x in arguments):
        raise ArgumentError("gradcheck: no input requires grad")
    for i, x in enumerate(arguments):
        if _is_checked(x) and x.dtype is not float64:
            raise ArgumentError(
                f"gradcheck: input {i} is {x.dtype}; finite differences need float64, use"
                " x.double()"
            )
    rng = np.random.default_rng(seed)
    try:
        _Check(fn, arguments, eps, atol, rtol, skip_kinks, rng).run()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    fn: Callable[..., Outputs],
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    *,
    skip_kinks: bool = False,
    raise_exception: bool = True,
    seed: int = 0,
) -> bool:
    """Whether the second derivatives of `fn` agree with finite differences of the first.

    The function that is checked maps the inputs and a random cotangent to the gradients.

    >>> import lazygrad as lg
    >>> x = lg.tensor([0.5, -1.5], dtype=lg.float64, requires_grad=True)
    >>> gradgradcheck(lambda x: (x * x).sin(), x)
    True
    """
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    which = [i for i, x in enumerate(arguments) if _is_checked(x)]
    first = fn(*arguments)
    outputs = [first] if isinstance(first, Tensor) else list(first)
    rng = np.random.default_rng(seed)
    cotangents = [
        Tensor(rng.standard_normal(y.shape), requires_grad=True) for y in outputs if y.requires_grad
    ]

    def gradients(*args: Any) -> list[Tensor]:
        given, seeds = args[: len(arguments)], args[len(arguments) :]
        result = fn(*given)
        roots = [result] if isinstance(result, Tensor) else list(result)
        found = grad(
            [y for y in roots if y.requires_grad], [given[i] for i in which], list(seeds),
            create_graph=True, allow_unused=True,
        )  # fmt: skip
        return [g for g in found if g is not None]

    return gradcheck(
        gradients, (*arguments, *cotangents), eps, atol, rtol, skip_kinks=skip_kinks,
        raise_exception=raise_exception, seed=seed,
    )  # fmt: skip
