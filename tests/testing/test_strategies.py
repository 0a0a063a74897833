"""The Hypothesis strategies: what they give is what they say."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

import lazygrad as lg
from lazygrad.errors import ArgumentError
from lazygrad.ops.opdef import Kind, all_ops, get_op
from lazygrad.testing import (
    OpCase,
    RandomProgram,
    arrays,
    gradcheck,
    gradgradcheck,
    op_cases,
    programs,
    shapes,
    tensors,
)
from lazygrad.testing.programs import INSTRUCTIONS
from lazygrad.testing.strategies import LAYOUTS, arranged, has_cases, layouts_of, viewed


@given(shapes(1, 3, 2, 4))
def test_shapes_keep_their_limits(shape: tuple[int, ...]) -> None:
    assert 1 <= len(shape) <= 3 and all(2 <= n <= 4 for n in shape)


def test_shapes_reach_the_edges() -> None:
    assert find(shapes(), lambda s: s == ()) == ()
    assert 0 in find(shapes(), lambda s: 0 in s)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_holds_the_values(layout: str) -> None:
    base = np.arange(12.0).reshape(3, 4)
    wanted = np.broadcast_to(base[:1], base.shape) if layout == "broadcast" else base
    np.testing.assert_array_equal(arranged(base, layout), wanted)
    leaf, view = viewed(base, layout, requires_grad=True)
    np.testing.assert_array_equal(view.numpy(), wanted)
    view.sum().backward()
    assert leaf.grad.sum().item() == 12
    assert (layout == "plain") == (arranged(base, layout).flags.c_contiguous)


def test_layouts_are_really_found() -> None:
    assert find(arrays((2, 3)), lambda a: min(a.strides) < 0) is not None
    assert find(arrays((2, 3)), lambda a: 0 in a.strides) is not None
    assert find(arrays((2, 3)), lambda a: a.strides[0] < a.strides[1]) is not None
    assert layouts_of(()) == ("plain",)


@given(arrays(shapes(max_dims=2), dtype=lg.float32, special=True))
def test_special_values(array: np.ndarray) -> None:
    assert array.dtype == np.float32


@given(arrays(dtype=lg.uint8, low=-5, high=5), arrays(dtype=lg.bool), arrays((2, 2), lg.int64))
def test_other_dtypes(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    assert (a.dtype, b.dtype, c.dtype) == (np.uint8, np.bool_, np.int64)
    assert c.shape == (2, 2) and abs(c).max() <= 2


@given(tensors(shapes(1, 2, 1, 3), requires_grad=True))
def test_tensors_require_grad(t: lg.Tensor) -> None:
    assert t.requires_grad and t.dtype is lg.float64
    (t * t).sum().backward()


# ops ------------------------------------------------------------------------------------------


@settings(max_examples=2 * settings().max_examples)
@given(op_cases())
def test_ops_equal_their_references(case: OpCase) -> None:
    wanted = case.reference()
    found = case.apply()
    assert found.shape == wanted.shape
    assert found.dtype.dtype == wanted.dtype, repr(case)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12, atol=1e-12)


DIFFERENTIABLE = [
    op for op in all_ops()
    if op.differentiable and has_cases(op) and op.kind is Kind.ELEMENTWISE
]  # fmt: skip


@settings(max_examples=settings().max_examples)
@given(op_cases(DIFFERENTIABLE))
def test_gradients_of_elementwise_ops(case: OpCase) -> None:
    inputs = [lg.tensor(a, requires_grad=a.dtype == np.float64) for a in case.arrays]
    if case.reference().dtype != np.float64:
        return  # finite differences need the precision
    if any(t.requires_grad for t in inputs) and case.apply(*inputs).requires_grad:
        assert gradcheck(case.apply, inputs, skip_kinks=True)


def test_cases_of_one_op_and_of_none() -> None:
    assert find(op_cases(get_op("exp")), lambda c: True).op is get_op("exp")
    with pytest.raises(ArgumentError, match=r"none of the ops \(call\)"):
        op_cases(get_op("call"))
    missing = {op.name for op in all_ops() if not has_cases(op)}
    assert missing <= {op.name for op in all_ops() if op.kind is not Kind.ELEMENTWISE}
    assert not {op for op in all_ops() if op.kind is Kind.REDUCE and not has_cases(op)}


# programs -------------------------------------------------------------------------------------


@settings(max_examples=settings().max_examples)
@given(programs())
def test_programs_equal_their_shadows(program: RandomProgram) -> None:
    for found, wanted in zip(program.run(), program.shadow(), strict=True):
        assert found.shape == wanted.shape and found.dtype is lg.float64
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9, atol=1e-9)


@settings(max_examples=settings().max_examples)
@given(programs(smooth=True, min_side=1, max_lines=6))
def test_smooth_programs_have_right_gradients(program: RandomProgram) -> None:
    assert program.smooth
    leaves = [lg.tensor(a, requires_grad=True) for a in program.inputs]
    last = program.run(*leaves)[-1]
    if last.requires_grad:
        assert gradcheck(lambda *x: program.run(*x)[-1], leaves, atol=1e-4)


@settings(max_examples=15)
@given(programs(smooth=True, min_side=1, max_lines=4))
def test_smooth_programs_have_right_second_derivatives(program: RandomProgram) -> None:
    leaves = [lg.tensor(a, requires_grad=True) for a in program.inputs]
    if program.run(*leaves)[-1].requires_grad:
        assert gradgradcheck(lambda *x: program.run(*x)[-1], leaves, atol=1e-3)


@settings(max_examples=10)
@given(programs(max_lines=5), st.integers(0, 100))
def test_a_program_prints_as_a_script(program: RandomProgram, seed: int) -> None:
    scope: dict[str, object] = {}
    exec(repr(program), scope)
    last = scope[f"v{len(program.inputs) + len(program.lines) - 1}"]
    np.testing.assert_array_equal(last.numpy(), program.run()[-1].numpy())  # type: ignore[attr-defined]


def test_every_instruction_is_drawn() -> None:
    drawn: set[str] = set()

    @settings(max_examples=200, database=None)
    @given(programs(max_lines=15))
    def collect(program: RandomProgram) -> None:
        drawn.update(line.instruction.name for line in program.lines)

    collect()
    assert drawn == {i.name for i in INSTRUCTIONS}


def test_without_hypothesis_the_message_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from lazygrad.testing import gradcheck, shapes\n"
        "try: shapes()\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("need Hypothesis: pip install hypothesis")
