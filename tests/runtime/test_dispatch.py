"""Modes, executors, reasons; the flat function that a program runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lazygrad.config import config
from lazygrad.dtypes import bfloat16, float32
from lazygrad.errors import IndexOutOfRangeError, InternalError
from lazygrad.ops.opdef import get_op
from lazygrad.runtime import validate
from lazygrad.runtime.dispatch import lower
from lazygrad.runtime.executor import Bases, Code, Place, ViewSpec, bytes_of, make_view
from lazygrad.runtime.kernel import Extern, Kernel
from tests.runtime.building import Build, with_chunk
from tests.runtime.running import execute, lower_as, run_all
from tests.runtime.test_kernels import cross_entropy_kernel, normal, softmax_kernel, sweep_kernel

pytestmark = pytest.mark.numpy_code


def test_the_mode_follows_from_the_shapes() -> None:
    whole = lower(softmax_kernel(8, 10))
    assert (whole.mode, whole.executor, whole.reason) == (
        "vectorized",
        "numpy",
        "0.64 kB in one piece",
    )
    short = lower(softmax_kernel(8, 10, 2))
    assert (short.mode, short.reason) == (
        "chunked", "4 chunks for the cache, too short for threads",
    )  # fmt: skip
    long = lower(replace(softmax_kernel(8, 10, 2), nbytes=10**8))
    assert (long.mode, long.reason) == ("chunked", "4 chunks, 100 MB over the workers")


def test_the_mode_can_be_forced() -> None:
    assert lower_as(softmax_kernel(8, 10), "chunked").mode == "chunked"
    assert lower_as(softmax_kernel(8, 10, 2), "vectorized").mode == "vectorized"
    partial = lower_as(cross_entropy_kernel(8, 10, 2), "vectorized")
    assert (partial.mode, partial.reason) == ("chunked", "one worker, 4 partial results by shape")
    with config.override(executor="reference"):
        assert lower(softmax_kernel(8, 10)).executor == "reference"


def test_workspace_is_reused_between_stages() -> None:
    """Two scratch values that are never live together share their bytes."""
    k = Build(1)
    x, out = k.param((1, 1000)), k.param((1, 1000), "out")
    first, second, third = k.scratch((1000,)), k.scratch((1000,)), k.scratch((1000,))
    for a, b in ((x, first), (first, second), (second, third), (third, out)):
        k.map((1, 1000), [a.at()], [b.at()], lambda m, x: m.exp(x))
    assert lower(k.kernel()).workspace == 2 * 4032


def test_validation_finds_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = softmax_kernel(8, 10)
    arrays = [normal(8, 10), normal(8, 10)]
    with config.override(validate=True):
        execute(lower(kernel), arrays)
        sweep = [normal(3, 11), normal(3, 12), normal(12, 11), normal(3, 11), np.asarray(0.1)]
        execute(lower(sweep_kernel(3, 12, 11, 5)), sweep)
        monkeypatch.setattr(validate, "interpret", lambda kernel, params: params[1].fill(0.5))
        with pytest.raises(InternalError, match="softmax: parameter 1 differs"):
            execute(lower(kernel), arrays)


def extern(name: str, n: int, **attrs: object) -> Kernel:
    k = Build(1)
    x, out = k.param((n, n)), k.param((n, n), "out")
    steps = (x.at((1, n))[0], (n, n), float32), (out.at()[0], (n, n), float32)
    k.stages.append(Extern(get_op(name), tuple(attrs.items()), steps[:1], steps[1]))
    return k.kernel()


def test_an_op_without_stages_runs_on_its_reference() -> None:
    x = normal(4, 4)
    found = run_all(extern("exp", 4), [x, x])[1]
    np.testing.assert_array_equal(found, np.exp(np.ascontiguousarray(x.T)))


def test_a_failing_kernel_is_named() -> None:
    code = Code()
    kernels = [softmax_kernel(2, 10), cross_entropy_kernel(2, 10, 2)]
    arrays = [normal(2, 10), normal(2, 10), np.array([3, 11]), normal(2, 10), normal(1)]
    for k, slots in enumerate(((0, 1), (0, 2, 3, 4))):
        code.begin(k)
        lower(kernels[k]).emit(code, [Place(s) for s in slots], Place(5))
    flat = code.compile()
    slots = [bytes_of(a) for a in [*arrays, np.empty(10_000, np.uint8)]]
    with pytest.raises(IndexOutOfRangeError) as caught:
        flat.run([make_view(slots[s.slot], s) for s in flat.specs], Bases(0, []))
    assert flat.culprit(caught.value, caught.value.__traceback__) == 1
    assert "take" in flat.source


def test_views_of_every_kind_of_array() -> None:
    spec = ViewSpec(0, 2, (3,), (4,), np.dtype(bfloat16.dtype))
    values = np.arange(8).astype(bfloat16.dtype)
    assert make_view(bytes_of(values), spec).tolist() == [1, 3, 5]
    assert bytes_of(np.array(1.0)).size == 8
    empty = ViewSpec(0, 0, (0, 3), (24, 8), np.dtype("f8"))
    assert make_view(bytes_of(np.empty((0, 3))), empty).shape == (0, 3)
    frozen = np.arange(3.0)
    frozen.setflags(write=False)
    line = make_view(bytes_of(frozen), ViewSpec(0, 0, (3,), (8,), np.dtype("f8")))
    assert not line.flags.writeable


def test_an_empty_program_runs() -> None:
    Code().compile().run([], Bases(0, []))


def test_keys_tell_apart_what_computes_differently() -> None:
    def scaled(factor: float, name: str = "k") -> Kernel:
        k = Build(4, name=name)
        x = k.param((4,), "inout")
        k.map((4,), [x.at()], [x.at()], lambda m, x: m.mul(x, factor))
        return k.kernel()

    key = scaled(0.0).key()
    assert key == scaled(0.0, "other").key() and hash(key)
    assert len({scaled(f).key() for f in (0.0, -0.0, 1.0, 1, float("nan"))}) == 5
    assert scaled(float("nan")).key() == scaled(float("nan")).key()
    assert with_chunk(scaled(0.0), 2).key() != key
