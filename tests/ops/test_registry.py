"""Every record of the registry against itself: each field is checked by what the others say."""

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.dtypes import ALL, as_dtype
from lazygrad.engine.tensor import apply
from lazygrad.errors import LazygradError
from lazygrad.ops import Kind, Strided, all_ops, get_op, register
from lazygrad.ops.scalar_math import NUMPY, WORDS, Recorder
from lazygrad.runtime.dispatch import uses_native
from lazygrad.shapes import contiguous_strides

INTERNAL = {"version", "detach", "after", "call", "project"}  # made by the engine, no samples
OPS = [op for op in all_ops() if op.kind is not Kind.SOURCE and op.name not in INTERNAL]
WITH_SAMPLES = [op for op in OPS if op.samples is not None]
SCALAR = [op for op in WITH_SAMPLES if op.scalar is not None]
# Machine code takes its time to compile; its integers of every width have tests of their own.
SOME = ("float16", "bfloat16", "float32", "float64", "int32", "uint8", "bool")
DTYPES = [d for d in ALL if d.name in SOME] if uses_native() else ALL
names = {"ids": lambda op: op.name}


class Spec:
    def __init__(self, array):
        self.shape = array.shape
        self.dtype = as_dtype(array.dtype)


def samples(op, seed=0):
    return list(op.samples(np.random.default_rng(seed)))


def same(a, b):
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def has_own_functions(op):
    """Whether the executor computes a function of the op itself: right to a few last places."""
    if not uses_native():
        return False
    if op.scalar is None:
        own = ("attention", "attention_back", "index_put", "scatter")  # their own order of sums
        return op.name in own
    sample = samples(op)[0]
    recorder = Recorder([as_dtype(a.dtype) for a in sample.arrays])
    op.scalar(recorder, *recorder.inputs, **sample.attrs)
    return any(WORDS[i.word].flops >= 10 for i in recorder.instrs if i.word in WORDS)


def test_all_ops_have_samples_and_words():
    assert [op.name for op in OPS if op.samples is None] == ["iota"]
    assert [op.name for op in OPS if not op.doc] == []
    assert [op.name for op in OPS if op.vjp is not None and not op.grad_name] == []


@pytest.mark.parametrize("op", WITH_SAMPLES, **names)
def test_reference_has_the_inferred_shape_and_dtype(op):
    for sample in samples(op):
        shape, dtype = op.infer(*map(Spec, sample.arrays), **sample.attrs)
        result = op.reference(*sample.arrays, **sample.attrs)
        assert isinstance(result, np.ndarray)
        assert (result.shape, result.dtype) == (shape, dtype.dtype)
        assert op.arity is None or op.arity == len(sample.arrays)


@pytest.mark.parametrize("op", WITH_SAMPLES, **names)
def test_reference_leaves_its_inputs_alone(op):
    for sample in samples(op):
        copies = [a.copy() for a in sample.arrays]
        op.reference(*sample.arrays, **sample.attrs)
        assert all(map(same, copies, sample.arrays))


@pytest.mark.parametrize("op", WITH_SAMPLES, **names)
def test_realized_equals_reference(op):
    for sample in samples(op):
        tensors = [lg.tensor(a) for a in sample.arrays]
        result = apply(op, *tensors, **sample.attrs)
        expected = op.reference(*sample.arrays, **sample.attrs)
        assert (result.shape, result.dtype.dtype) == (expected.shape, expected.dtype)
        if op.kind in (Kind.REDUCE, Kind.CONTRACT) or has_own_functions(op):
            np.testing.assert_allclose(result.numpy(), expected, rtol=1e-13, atol=1e-15)
        else:
            assert same(result.numpy(), expected)


def takes_floats(op):
    return any(a.dtype.kind == "f" for a in samples(op)[0].arrays)


def in_dtype(array, dtype):
    """Floating operands, and integer ones where they are values, in another dtype."""
    return array.astype(dtype.dtype) if array.dtype.kind == "f" else array


@pytest.mark.parametrize("op", [op for op in WITH_SAMPLES if takes_floats(op)], **names)
def test_every_dtype_is_computed_as_the_reference_computes_it(op):
    sample = samples(op)[0]
    for dtype in DTYPES:
        with np.errstate(all="ignore"):
            arrays = [in_dtype(a, dtype) for a in sample.arrays]
        try:
            _, inferred = op.infer(*map(Spec, arrays), **sample.attrs)
        except LazygradError:
            continue
        result = apply(op, *map(lg.tensor, arrays), **sample.attrs)
        if result.dtype is not inferred:  # promoted before the op saw them
            continue
        with np.errstate(all="ignore"):
            expected = op.reference(*arrays, **sample.attrs)
        assert result.dtype.dtype == expected.dtype
        ours, theirs = result.numpy().astype(np.float64), expected.astype(np.float64)
        if dtype.is_floating_point and has_own_functions(op):
            eps = lg.finfo(result.dtype).eps if result.dtype.is_floating_point else 0
            np.testing.assert_allclose(ours, theirs, rtol=4 * eps, atol=1e-7)
        elif op.kind in (Kind.REDUCE, Kind.CONTRACT) and dtype.is_floating_point:
            np.testing.assert_allclose(ours, theirs, rtol=2 * lg.finfo(dtype).eps, atol=1e-6)
        else:
            assert np.array_equal(ours, theirs, equal_nan=True), dtype


def interpret(recorder, inputs):
    """The recorded instructions on arrays."""
    values = list(inputs)
    for instr in recorder.instrs:
        args = [values[i] for i in instr.args]
        if instr.word == "const":
            values.append(instr.dtype.dtype.type(instr.value))
        elif instr.word == "cast":
            values.append(NUMPY.cast(args[0], instr.dtype))
        else:
            values.append(WORDS[instr.word].function(*args))
    return values


@pytest.mark.parametrize("op", SCALAR, **names)
def test_recorded_body_equals_reference(op):
    for sample in samples(op):
        recorder = Recorder([as_dtype(a.dtype) for a in sample.arrays])
        result = op.scalar(recorder, *recorder.inputs, **sample.attrs)
        _, dtype = op.infer(*map(Spec, sample.arrays), **sample.attrs)
        assert result.dtype is dtype
        with np.errstate(all="ignore"):
            found = np.asarray(interpret(recorder, sample.arrays)[result.index])
        assert same(found, op.reference(*sample.arrays, **sample.attrs))


@pytest.mark.parametrize("op", SCALAR, **names)
def test_recorded_dtypes_are_those_of_numpy(op):
    """Over every dtype that the op takes: no word leaves the dtype of its operands."""
    sample = samples(op)[0]
    for dtype in ALL:
        arrays = [
            a if a.dtype == bool and i == 0 and op.arity == 3 else np.ones_like(a, dtype.dtype)
            for i, a in enumerate(sample.arrays)
        ]
        try:
            _, inferred = op.infer(*map(Spec, arrays), **sample.attrs)
        except LazygradError:
            continue
        recorder = Recorder([as_dtype(a.dtype) for a in arrays])
        result = op.scalar(recorder, *recorder.inputs, **sample.attrs)
        with np.errstate(all="ignore"):
            values = interpret(recorder, arrays)[len(arrays) :]
        assert [as_dtype(v.dtype) for v in values] == [i.dtype for i in recorder.instrs]
        assert result.dtype is inferred


@pytest.mark.parametrize("op", [op for op in WITH_SAMPLES if op.view is not None], **names)
def test_view_addresses_the_reference(op):
    """A view of positions 0, 1, 2, ... shows the offsets that it addresses."""
    for sample in samples(op):
        x = np.arange(sample.arrays[0].size).reshape(sample.arrays[0].shape)
        view = op.view(Strided(x.shape, contiguous_strides(x.shape)), **sample.attrs)
        assert view is not None  # of a contiguous operand
        expected = op.reference(x, **sample.attrs)
        assert view.shape == expected.shape
        addresses = np.full(view.shape, view.offset)
        for axis, stride in enumerate(view.strides):
            line = np.arange(view.shape[axis]) * stride
            addresses += line.reshape([-1 if i == axis else 1 for i in range(len(view.shape))])
        assert np.array_equal(addresses, expected)


def test_reshape_of_a_transposed_view_needs_a_copy():
    assert get_op("reshape").view(Strided((3, 2), (1, 3)), shape=(6,)) is None


@pytest.mark.parametrize("op", [op for op in SCALAR if op.commutative], **names)
def test_commutative(op):
    for sample in samples(op):
        x, y = sample.arrays
        assert same(op.reference(x, y), op.reference(y, x))


@pytest.mark.parametrize("op", [op for op in SCALAR if op.idempotent], **names)
def test_idempotent(op):
    for sample in samples(op):
        x, *rest = sample.arrays
        if op.name.startswith("clamp"):
            once = op.reference(x, *rest)
            assert same(op.reference(once, *rest), once)
        elif rest:
            assert same(op.reference(x, x), x)
        else:
            assert same(op.reference(op.reference(x)), op.reference(x))


@pytest.mark.parametrize("op", [op for op in SCALAR if op.involution], **names)
def test_involution(op):
    for sample in samples(op):
        (x,) = sample.arrays
        assert same(op.reference(op.reference(x)), x)


@pytest.mark.parametrize("op", [op for op in SCALAR if op.unit is not None], **names)
def test_unit(op):
    special = np.array([0.0, -0.0, 1.5, np.inf, -np.inf, np.nan, 5e-324])
    result = op.reference(special, np.array(op.unit))
    assert result.tobytes() == special.tobytes()  # bit for bit, -0.0 included


def test_names():
    assert get_op("exp").name == "exp"
    with pytest.raises(LazygradError, match="unknown op 'expp'; did you mean 'exp'"):
        get_op("expp")
    with pytest.raises(LazygradError, match="registered twice"):
        register(get_op("exp"))
