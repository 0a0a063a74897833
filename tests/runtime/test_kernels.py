"""The first tests of the IR: whole kernels, written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lazygrad.dtypes import bool_, float32, float64, int64
from lazygrad.errors import IndexOutOfRangeError
from lazygrad.runtime.kernel import Kernel
from lazygrad.runtime.kernel_print import format_kernel
from tests.runtime.building import Build, index
from tests.runtime.running import run_all, source

pytestmark = pytest.mark.numpy_code

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def softmax_kernel(n: int, c: int, chunk: int = 1 << 30) -> Kernel:
    k = Build(n, chunk, "softmax")
    x, out = k.param((n, c)), k.param((n, c), "out")
    top, total = k.scratch(()), k.scratch(())
    k.reduce((n, c), (1,), "maximum", [x.at()], top.over(0, None))
    k.map((n, c), [x.at(), top.over(0, None)], [out.at()], lambda m, x, t: m.exp(m.sub(x, t)))
    k.reduce((n, c), (1,), "add", [out.at()], total.over(0, None))
    k.map((n, c), [out.at(), total.over(0, None)], [out.at()], lambda m, e, t: m.div(e, t))
    return k.kernel()


@pytest.mark.parametrize(("n", "c", "chunk"), [(7, 10, 3), (1, 5, 1), (64, 33, 10), (0, 3, 1)])
def test_softmax(n: int, c: int, chunk: int) -> None:
    x = normal(n, c)
    _, found = run_all(softmax_kernel(n, c, chunk), [x, np.full_like(x, np.nan)])
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(found, e / e.sum(1, keepdims=True), rtol=1e-6)


def test_softmax_is_one_call_a_stage() -> None:
    lines = source(softmax_kernel(7, 10))
    assert [line.split("(")[0] for line in lines] == [
        "maximum_reduce", "subtract", "exp", "add_reduce", "divide",
    ]  # fmt: skip


def cross_entropy_kernel(n: int, c: int, chunk: int) -> Kernel:
    """Mean loss and gradient of the logits; labels are gathered; the loss sums in partials."""
    k = Build(n, chunk, "cross_entropy")
    x, y = k.param((n, c)), k.param((n,), dtype=int64)
    grad, loss = k.param((n, c), "out"), k.param((1,), "out")
    top, total, own = k.scratch(()), k.scratch(()), k.scratch(())
    pieces = -(-n // chunk)
    partial = k.shared((pieces,))
    k.reduce((n, c), (1,), "maximum", [x.at()], top.over(0, None))
    k.map((n, c), [x.at(), top.over(0, None)], [grad.at()], lambda m, x, t: m.exp(m.sub(x, t)))
    k.reduce((n, c), (1,), "add", [grad.at()], total.over(0, None))
    label = x.at((c,), index=0, index_stride=1, index_extent=c)
    k.map(
        (n,), [y.at(), label, top.over(0), total.over(0)], [own.over(0)],
        lambda m, y, x, t, s: m.sub(m.log(s), m.sub(x, t)),
    )  # fmt: skip
    k.reduce((n,), (0,), "add", [own.over(0)], partial.at((0,), chunk_stride=1))

    def gradient(m: Any, e: Any, s: Any, y: Any) -> Any:
        hot = m.where(m.eq(index(m, 1, int64), y), m.const(1.0, e), m.const(0.0, e))
        return m.mul(m.sub(m.div(e, s), hot), m.const(1.0 / n, e))

    k.map((n, c), [grad.at(), total.over(0, None), y.over(0, None)], [grad.at()], gradient)
    k.reduce(
        (pieces,), (0,), "add", [partial.at()], loss.at((0,)), finish=True,
    )  # fmt: skip
    k.map((1,), [loss.at()], [loss.at()], lambda m, s: m.div(s, m.const(float(n), s)), finish=True)
    return k.kernel()


@pytest.mark.parametrize(("n", "chunk"), [(9, 4), (9, 9), (32, 5)])
def test_cross_entropy_with_its_gradient(n: int, chunk: int) -> None:
    x, y = normal(n, 10), RNG.integers(0, 10, n)
    none = np.full_like(x, np.nan), np.zeros(1, np.float32)
    _, _, grad, loss = run_all(cross_entropy_kernel(n, 10, chunk), [x, y, *none])
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(loss[0], -np.log(p[np.arange(n), y]).mean(), rtol=1e-5)
    np.testing.assert_allclose(grad, (p - np.eye(10)[y]) / n, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_outside_the_classes_raises(label: int) -> None:
    y = np.full(9, 3)
    y[5] = label
    with pytest.raises(IndexOutOfRangeError, match=f"index {label} is out of range for 10"):
        run_all(
            cross_entropy_kernel(9, 10, 4),
            [normal(9, 10), y, normal(9, 10), np.zeros(1, np.float32)],
        )


def layer_norm_kernel(n: int, c: int, chunk: int) -> Kernel:
    k = Build(n, chunk, "layer_norm")
    x, w, b = k.param((n, c)), k.param((c,)), k.param((c,))
    out = k.param((n, c), "out")
    mean, var = k.scratch(()), k.scratch(())
    k.reduce((n, c), (1,), "add", [x.at()], mean.over(0, None))
    k.map((n,), [mean.over(0)], [mean.over(0)], lambda m, s: m.div(s, m.const(float(c), s)))
    k.reduce(
        (n, c), (1,), "add", [x.at(), mean.over(0, None)], var.over(0, None),
        lambda m, x, u: m.mul(m.sub(x, u), m.sub(x, u)),
    )  # fmt: skip

    def normalize(m: Any, x: Any, u: Any, v: Any, w: Any, b: Any) -> Any:
        root = m.sqrt(m.add(m.div(v, m.const(float(c), v)), m.const(1e-5, v)))
        return m.add(m.mul(m.div(m.sub(x, u), root), w), b)

    rows = [x.at(), mean.over(0, None), var.over(0, None), w.over(None, 0), b.over(None, 0)]
    k.map((n, c), rows, [out.at()], normalize)
    return k.kernel()


@pytest.mark.parametrize(("n", "chunk"), [(6, 4), (33, 8)])
def test_layer_norm(n: int, chunk: int) -> None:
    x, w, b = normal(n, 24), normal(24), normal(24)
    out = run_all(layer_norm_kernel(n, 24, chunk), [x, w, b, np.full_like(x, np.nan)])[3]
    centred = x - x.mean(1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * w + b
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-6)


def adamw_kernel(n: int, chunk: int) -> Kernel:
    """One parameter's update in place; hyper-parameters are 0-d float64 cells."""
    k = Build(n, chunk, "adamw")
    p, g = k.param((n,), "inout"), k.param((n,))
    m1, m2 = k.param((n,), "inout"), k.param((n,), "inout")
    lr, decay, step = (k.param((), dtype=float64) for _ in range(3))

    def update(m: Any, p: Any, g: Any, m1: Any, m2: Any, lr: Any, decay: Any, step: Any) -> Any:
        def narrow(x: Any) -> Any:
            return m.cast(x, float32)

        one = m.const(1.0, lr)
        size = narrow(m.div(lr, m.sub(one, m.pow(m.const(0.9, lr), step))))
        scale = narrow(m.sqrt(m.sub(one, m.pow(m.const(0.999, lr), step))))
        p = m.mul(p, narrow(m.sub(one, m.mul(lr, decay))))
        m1 = m.add(m.mul(m1, 0.9), m.mul(g, 0.1))
        m2 = m.add(m.mul(m2, 0.999), m.mul(m.mul(g, g), 0.001))
        change = m.div(m.mul(size, m1), m.add(m.div(m.sqrt(m2), scale), 1e-8))
        return m.sub(p, change), m1, m2

    k.map(
        (n,), [p.at(), g.at(), m1.at(), m2.at(), *(c.over(None) for c in (lr, decay, step))],
        [p.at(), m1.at(), m2.at()], update,
    )  # fmt: skip
    return k.kernel()


@pytest.mark.parametrize(("n", "chunk"), [(10, 10), (103, 25), (1, 1)])
def test_adamw(n: int, chunk: int) -> None:
    p, g, m1, m2 = normal(n), normal(n), normal(n), normal(n) ** 2
    lr, decay, step = 1e-3, 1e-2, 3.0
    cells = [np.float64(v) for v in (lr, decay, step)]
    found = run_all(adamw_kernel(n, chunk), [p, g, m1, m2, *map(np.asarray, cells)])
    m1 = 0.9 * m1 + 0.1 * g
    m2 = 0.999 * m2 + 0.001 * g**2
    root = np.sqrt(m2 / (1 - 0.999**step)) + 1e-8
    expected = p * (1 - lr * decay) - lr * (m1 / (1 - 0.9**step)) / root
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    np.testing.assert_allclose(found[2], m1, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[3], m2, rtol=1e-5)


def sweep_kernel(batch: int, out: int, inner: int, chunk: int) -> Kernel:
    """One pass over W (out, inner): dX = dY W in partials, and W -= lr dY^T X in place."""
    k = Build(out, chunk, "sweep")
    x, dy = k.param((batch, inner)), k.param((batch, out))
    w, dx = k.param((out, inner), "inout"), k.param((batch, inner), "out")
    lr = k.param((), dtype=float64)
    pieces = -(-out // chunk)
    partial = k.shared((pieces, batch, inner))
    k.contract(
        (), (batch, inner, out), dy.at(), w.at(),
        [partial.at((inner, 1), chunk_stride=batch * inner)], grid="k",
    )  # fmt: skip
    k.contract(
        (), (out, inner, batch), dy.at((1, out)), x.at(), [w.at()],
        loads=[w.at(), lr.over(None, None)], grid="m",
        epilogue=lambda m, acc, w, lr: m.sub(w, m.mul(m.cast(lr, float32), acc)),
    )  # fmt: skip
    k.reduce((pieces, batch, inner), (0,), "add", [partial.at()], dx.at((0, inner, 1)), finish=True)
    return k.kernel()


@pytest.mark.parametrize(("out", "chunk"), [(12, 5), (12, 12), (7, 1)])
def test_skinny_sweep(out: int, chunk: int) -> None:
    x, dy, w = normal(3, 11), normal(3, out), normal(out, 11)
    kernel = sweep_kernel(3, out, 11, chunk)
    found = run_all(kernel, [x, dy, w, normal(3, 11), np.asarray(0.1)], exact=False)
    np.testing.assert_allclose(found[2], w - 0.1 * dy.T @ x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[3], dy @ w, rtol=1e-4, atol=1e-5)


def test_linear_with_bias_and_relu_and_its_mask() -> None:
    k = Build(1, name="linear")
    x, w, b = k.param((5, 8)), k.param((6, 8)), k.param((6,))
    out, mask = k.param((5, 6), "out"), k.param((5, 6), "out", bool_)

    def relu(m: Any, acc: Any, b: Any) -> Any:
        y = m.maximum(m.add(acc, b), 0.0)
        return y, m.gt(y, 0.0)

    k.contract((), (5, 6, 8), x.at(), w.at((1, 8)), [out.at(), mask.at()],
               loads=[b.over(None, 0)], epilogue=relu)  # fmt: skip
    arrays = [normal(5, 8), normal(6, 8), normal(6), normal(5, 6), np.zeros((5, 6), bool)]
    found = run_all(k.kernel(), arrays, exact=False)
    expected = np.maximum(arrays[0] @ arrays[1].T + arrays[2], 0)
    np.testing.assert_allclose(found[3], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[4], found[3] > 0)


def test_listing_reads_like_loops() -> None:
    assert (
        format_kernel(softmax_kernel(7, 10, 3))
        == """\
kernel softmax(in p0: float32[70], out p1: float32[70])
  rows 7 in 3 chunks of 3
  scratch s0: float32[1] a row
  scratch s1: float32[1] a row
  reduce i<7 j<10
    v0 = p0[10i + j]
    s0[i] = maximum[j] v0 as float32
  map i<7 j<10
    v0 = p0[10i + j]
    v1 = s0[i]
    v2 = sub(v0, v1)
    v3 = exp(v2)
    p1[10i + j] = v3
  reduce i<7 j<10
    v0 = p1[10i + j]
    s1[i] = add[j] v0 as float32
  map i<7 j<10
    v0 = p1[10i + j]
    v1 = s1[i]
    v2 = div(v0, v1)
    p1[10i + j] = v2"""
    )
    text = format_kernel(sweep_kernel(3, 12, 11, 5))
    assert "contract m 3, n 11, k 12 in float32, rows along k" in text
    assert "s0[11i + j + 33chunk] = v0" in text
    assert "finish" in text
