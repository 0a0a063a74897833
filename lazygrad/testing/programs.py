"""Random small programs: the same lines for lazygrad tensors and, as a shadow, for NumPy.

An `Instruction` is a line of text in two spellings. A `RandomProgram` is a list of such lines with
the arrays they start from; it runs on tensors, runs on arrays, and prints as a script of its own,
so that a counterexample can be pasted into a bug report.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

import lazygrad as lg
from lazygrad.dtypes import float64
from lazygrad.engine.tensor import Tensor
from lazygrad.ops.opdef import Array
from lazygrad.shapes import Shape
from lazygrad.testing.strategies import hypothesis_strategies, shapes, values

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Draw = Callable[[Any], Any]
Fill = dict[str, str]  # what goes into the {names} of an instruction


@dataclass(frozen=True, slots=True)
class Instruction:
    """One kind of line: `{0}`, `{1}` stand for the operands, other names are filled by `fill`.

    `fill(draw, *shapes)` draws the rest of the line, or returns None when the operands do not fit.
    `smooth` says that it has a derivative everywhere; `view` that it only moves elements.
    """

    name: str
    arity: int
    tensor: str
    numpy: str
    fill: Callable[..., Fill | None] | None = None
    smooth: bool = True
    view: bool = False

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"{self.name}: {self.tensor}")


@functools.lru_cache(maxsize=4096)
def _code(text: str) -> CodeType:
    return compile(text, "<program>", "eval")


@dataclass(frozen=True, slots=True)
class Line:
    """An instruction on operands that are given by position."""

    instruction: Instruction
    operands: tuple[int, ...]
    fill: tuple[tuple[str, str], ...] = ()

    def text(self, names: Sequence[str], numpy: bool = False) -> str:
        """The line as source, over operands of these names."""
        form = self.instruction.numpy if numpy else self.instruction.tensor
        return form.format(*[names[i] for i in self.operands], **dict(self.fill))

    def on_tensors(self, known: Sequence[Tensor]) -> Tensor:
        """Run it on tensors."""
        names = [f"v{k}" for k in range(max(self.operands) + 1)]
        scope = {f"v{k}": known[k] for k in self.operands}
        result: Tensor = eval(_code(self.text(names)), {"lg": lg}, scope)
        return result

    def on_arrays(self, known: Sequence[Array]) -> Array:
        """Run it on arrays."""
        names = [f"v{k}" for k in range(max(self.operands) + 1)]
        scope = {f"v{k}": known[k] for k in self.operands}
        with np.errstate(all="ignore"):
            return np.asarray(eval(_code(self.text(names, numpy=True)), {"np": np}, scope))


# What the lines need besides their operands.


def _same(draw: Draw, a: Shape, b: Shape) -> Fill | None:
    try:
        shape = np.broadcast_shapes(a, b)
    except ValueError:
        return None
    return {} if np.prod(shape) <= 256 else None


def _axis(draw: Draw, shape: Shape) -> Fill | None:
    if not shape or 0 in shape:
        return None
    st = hypothesis_strategies()
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return {"axis": str(axis), "keep": str(draw(st.booleans()))}


def _reshape(draw: Draw, shape: Shape) -> Fill | None:
    st = hypothesis_strategies()
    size = int(np.prod(shape))
    if size == 0:
        return {"shape": "(0,)"}
    choices = [(size,), (1, size), (size, 1), *[(d, size // d) for d in (2, 3) if size % d == 0]]
    return {"shape": str(draw(st.sampled_from([*choices, *[()] * (size == 1)])))}


def _permutation(draw: Draw, shape: Shape) -> Fill | None:
    st = hypothesis_strategies()
    return {"axes": str(tuple(draw(st.permutations(range(len(shape)))) if shape else ()))}


def _slices(draw: Draw, shape: Shape) -> Fill | None:
    st = hypothesis_strategies()
    parts = []
    for n in shape:
        bound = st.none() | st.integers(-n - 1, n + 1)
        step = draw(st.sampled_from([None, 1, 2, -1, -2]))
        start, stop = draw(bound), draw(bound)
        parts.append(f"{_text(start)}:{_text(stop)}:{_text(step)}")
    return {"index": ", ".join([*parts, "..."])}


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _expand(draw: Draw, shape: Shape) -> Fill | None:
    st = hypothesis_strategies()
    wide = tuple(draw(st.integers(1, 3)) if n == 1 else n for n in shape)
    wide = (draw(st.integers(1, 3)), *wide) if len(wide) < 4 else wide
    return {"shape": str(wide)} if np.prod(wide) <= 256 else None


def _rows(draw: Draw, shape: Shape) -> Fill | None:
    if not shape or 0 in shape:
        return None
    st = hypothesis_strategies()
    rows = draw(st.lists(st.integers(-shape[0], shape[0] - 1), min_size=1, max_size=4))
    return {"rows": str(rows)}


def _joined(draw: Draw, a: Shape, b: Shape) -> Fill | None:
    fits = len(a) == len(b) >= 1 and a[1:] == b[1:] and sum(map(np.prod, (a, b))) <= 256
    return {} if fits else None


def _stacked(draw: Draw, a: Shape, b: Shape) -> Fill | None:
    return {} if a == b and len(a) < 4 and np.prod(a) <= 128 else None


def _product(draw: Draw, a: Shape, b: Shape) -> Fill | None:
    return {} if len(a) == len(b) == 2 and a[1] == b[0] else None


def _gram(draw: Draw, a: Shape, b: Shape) -> Fill | None:
    return {} if len(a) == len(b) == 2 and a[1] == b[1] else None


INSTRUCTIONS: tuple[Instruction, ...] = (
    Instruction("add", 2, "{0} + {1}", "{0} + {1}", _same),
    Instruction("sub", 2, "{0} - {1}", "{0} - {1}", _same),
    Instruction("mul", 2, "({0} * {1}).tanh()", "np.tanh({0} * {1})", _same),
    Instruction("div", 2, "{0} / ({1} * {1} + 1)", "{0} / ({1} * {1} + 1)", _same),
    Instruction("maximum", 2, "{0}.maximum({1})", "np.maximum({0}, {1})", _same, smooth=False),
    Instruction(
        "where", 2, "{0}.where({0} > 0, {1})", "np.where({0} > 0, {0}, {1})", _same, smooth=False
    ),
    Instruction("rsub", 1, "0.5 - {0} * 2", "0.5 - {0} * 2"),
    Instruction("neg", 1, "-{0}", "-{0}"),
    Instruction("square", 1, "({0} ** 2).sin()", "np.sin({0} ** 2)"),
    Instruction("exp", 1, "(-{0} * {0}).exp()", "np.exp(-{0} * {0})"),
    Instruction("tanh", 1, "{0}.tanh()", "np.tanh({0})"),
    Instruction("sigmoid", 1, "{0}.sigmoid()", "1 / (1 + np.exp(-{0}))"),
    Instruction("sqrt", 1, "({0} * {0} + 1).sqrt()", "np.sqrt({0} * {0} + 1)"),
    Instruction("relu", 1, "{0}.relu()", "np.maximum({0}, 0)", smooth=False),
    Instruction("abs", 1, "{0}.abs()", "np.abs({0})", smooth=False),
    Instruction("total", 1, "{0}.sum() * 0.1", "np.sum({0}) * 0.1"),
    Instruction(
        "sum", 1, "{0}.sum(dim={axis}, keepdim={keep})",
        "np.sum({0}, axis={axis}, keepdims={keep})", _axis,
    ),
    Instruction(
        "mean", 1, "{0}.mean(dim={axis}, keepdim={keep})",
        "np.mean({0}, axis={axis}, keepdims={keep})", _axis,
    ),
    Instruction(
        "amax", 1, "{0}.amax(dim={axis}, keepdim={keep})",
        "np.max({0}, axis={axis}, keepdims={keep})", _axis, smooth=False,
    ),
    Instruction(
        "softmax", 1, "{0}.softmax(dim={axis})",
        "np.exp({0} - {0}.max({axis}, keepdims=True))"
        " / np.exp({0} - {0}.max({axis}, keepdims=True)).sum({axis}, keepdims=True)", _axis,
    ),
    Instruction("cumsum", 1, "{0}.cumsum({axis})", "np.cumsum({0}, {axis})", _axis),
    Instruction("reshape", 1, "{0}.reshape({shape})", "{0}.reshape({shape})", _reshape, view=True),
    Instruction(
        "permute", 1, "{0}.permute({axes})", "{0}.transpose({axes})", _permutation, view=True
    ),
    Instruction("slice", 1, "{0}[{index}]", "{0}[{index}]", _slices, view=True),
    Instruction(
        "expand", 1, "{0}.expand({shape})", "np.broadcast_to({0}, {shape})", _expand, view=True
    ),
    Instruction("flip", 1, "{0}.flip({axis})", "np.flip({0}, {axis})", _axis, view=True),
    Instruction("unsqueeze", 1, "{0}[None]", "{0}[None]", view=True),
    Instruction("rows", 1, "{0}[{rows}]", "{0}[{rows}]", _rows),
    Instruction("cat", 2, "lg.cat([{0}, {1}])", "np.concatenate([{0}, {1}])", _joined),
    Instruction("stack", 2, "lg.stack([{0}, {1}])", "np.stack([{0}, {1}])", _stacked),
    Instruction("matmul", 2, "{0} @ {1}", "{0} @ {1}", _product),
    Instruction("gram", 2, "{0} @ {1}.T", "{0} @ {1}.T", _gram),
)  # fmt: skip


def draw_line(
    draw: Draw, sizes: Sequence[Shape], instructions: Sequence[Instruction] = INSTRUCTIONS
) -> Line | None:
    """A line over some of the values of these shapes, or None when the draw does not fit."""
    st = hypothesis_strategies()
    instruction = draw(st.sampled_from(instructions))
    at = st.integers(0, len(sizes) - 1)
    operands = tuple(draw(at) for _ in range(instruction.arity))
    if any(len(sizes[i]) > 4 for i in operands):
        return None
    fill = (instruction.fill or _nothing)(draw, *[sizes[i] for i in operands])
    return None if fill is None else Line(instruction, operands, tuple(fill.items()))


def tame(value: Array) -> bool:
    """Whether rounding has not been blown up: the shadow may be compared with a tolerance."""
    return value.size == 0 or bool(np.abs(value).max() < 1e3)


def _nothing(draw: Draw, *sizes: Shape) -> Fill:
    return {}


@dataclass(frozen=True, slots=True)
class RandomProgram:
    """Input arrays and lines; line k makes value `len(inputs) + k`, the last one is the result."""

    inputs: tuple[Array, ...]
    lines: tuple[Line, ...]

    def run(self, *inputs: Tensor) -> list[Tensor]:
        """Every value, as tensors; the inputs default to new tensors of the program's arrays."""
        known = list(inputs or [Tensor(a) for a in self.inputs])
        for line in self.lines:
            known.append(line.on_tensors(known))
        return known

    def shadow(self, *inputs: Array) -> list[Array]:
        """Every value, by NumPy."""
        known = list(inputs or self.inputs)
        for line in self.lines:
            known.append(line.on_arrays(known))
        return known

    @property
    def smooth(self) -> bool:
        """Whether it has a derivative everywhere."""
        return all(line.instruction.smooth for line in self.lines)

    def __repr__(self) -> str:
        names = [f"v{k}" for k in range(len(self.inputs) + len(self.lines))]
        text = ["import numpy as np, lazygrad as lg"]
        for name, array in zip(names, self.inputs, strict=False):
            data = f"np.array({array.tolist()!r}, {array.dtype.name!r})"
            text.append(f"{name} = lg.Tensor({data}.reshape({array.shape}))")
        for name, line in zip(names[len(self.inputs) :], self.lines, strict=True):
            text.append(f"{name} = {line.text(names)}")
        return "\n".join(text)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


def programs(
    max_inputs: int = 3, max_lines: int = 12, smooth: bool = False, min_side: int = 0
) -> SearchStrategy[RandomProgram]:
    """Random programs on small float64 arrays; `smooth` ones have derivatives everywhere.

    >>> from hypothesis import given
    >>> @given(programs())
    ... def test(program):
    ...     for y, expected in zip(program.run(), program.shadow()):
    ...         np.testing.assert_allclose(y.numpy(), expected, atol=1e-9)
    """
    st = hypothesis_strategies()
    usable = [i for i in INSTRUCTIONS if i.smooth or not smooth]

    @st.composite  # type: ignore[untyped-decorator]
    def draw_program(draw: Draw) -> RandomProgram:
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        sizes = shapes(max_dims=3, min_side=min_side, max_side=4)
        count = draw(st.integers(1, max_inputs))
        inputs = tuple(values(rng, draw(sizes), float64, -2, 2, False) for _ in range(count))
        known: list[Array] = list(inputs)
        lines: list[Line] = []
        for _ in range(draw(st.integers(1, max_lines))):
            line = draw_line(draw, [a.shape for a in known], usable)
            value = None if line is None else line.on_arrays(known)
            if line is not None and value is not None and tame(value):
                lines.append(line)
                known.append(value)
        return RandomProgram(inputs, tuple(lines))

    return draw_program()  # type: ignore[no-any-return]
