"""Autocast: which dtype each operation has, inside of captures and outside."""

from pathlib import Path

import numpy as np
import pytest

import lazygrad as lg
from lazygrad import nn
from lazygrad.errors import ArgumentTypeError, DeviceError, DTypeError
from lazygrad.ops import Kind, all_ops
from lazygrad.ops.opdef import Precision
from tests.golden import cases_amp as cases

F = nn.functional
GOLDENS = np.load(Path(cases.__file__).with_name("goldens_amp.npz"))
HALF, SINGLE, DOUBLE = lg.bfloat16, lg.float32, lg.float64
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


def x(dtype=SINGLE):
    return lg.tensor(X, dtype=dtype)


IMAGE = lg.tensor(np.ones((1, 2, 4, 4), np.float32))
LABELS = [0, 1]

# name: (function of a float32 and a bfloat16 tensor, the dtype of its result)
RESULTS = {
    "matmul": (lambda a, h: a @ a.T, HALF),
    "mm": (lambda a, h: lg.mm(a, a.T), HALF),
    "bmm": (lambda a, h: lg.bmm(a[None], a.T[None]), HALF),
    "mv": (lambda a, h: a.mv(a[0]), HALF),
    "addmm": (lambda a, h: lg.ones(2, 2).addmm(a, a.T), HALF),
    "einsum": (lambda a, h: lg.einsum("ij,kj->ik", a, a), HALF),
    "linear": (lambda a, h: F.linear(a, a, lg.ones(2)), HALF),
    "conv": (lambda a, h: F.conv2d(IMAGE, lg.ones(3, 2, 2, 2), lg.ones(3)), HALF),
    "conv_transpose": (lambda a, h: F.conv_transpose2d(IMAGE, lg.ones(2, 3, 2, 2)), HALF),
    "attention": (lambda a, h: F.scaled_dot_product_attention(a, a, a), HALF),
    "sum": (lambda a, h: h.sum(), SINGLE),
    "mean": (lambda a, h: h.mean(0), SINGLE),
    "var": (lambda a, h: h.var(), SINGLE),
    "norm": (lambda a, h: h.norm(), SINGLE),
    "prod": (lambda a, h: h.prod(), SINGLE),
    "cumsum": (lambda a, h: h.cumsum(0), SINGLE),
    "exp": (lambda a, h: h.exp(), SINGLE),
    "log": (lambda a, h: h.abs().log(), SINGLE),
    "pow": (lambda a, h: h**2, SINGLE),
    "rsqrt": (lambda a, h: h.abs().rsqrt(), SINGLE),
    "softmax": (lambda a, h: h.softmax(1), SINGLE),
    "log_softmax": (lambda a, h: F.log_softmax(h, 1), SINGLE),
    "layer_norm": (lambda a, h: F.layer_norm(h, (4,)), SINGLE),
    "group_norm": (lambda a, h: F.group_norm(h, 2), SINGLE),
    "cross_entropy": (lambda a, h: F.cross_entropy(h, lg.tensor(LABELS)), SINGLE),
    "mse": (lambda a, h: F.mse_loss(h, h), SINGLE),
    "softplus": (lambda a, h: F.softplus(h), SINGLE),
    "cosine": (lambda a, h: F.cosine_similarity(h, h), SINGLE),
    "det": (lambda a, h: (h[:, :2] + lg.eye(2)).to(HALF).det(), SINGLE),
    "relu": (lambda a, h: h.relu(), HALF),
    "tanh": (lambda a, h: h.tanh(), HALF),
    "gelu": (lambda a, h: F.gelu(h, "tanh"), HALF),
    "elu": (lambda a, h: F.elu(h), HALF),
    "mish": (lambda a, h: F.mish(h), HALF),
    "max_pool": (lambda a, h: F.max_pool2d(IMAGE.to(HALF), 2), HALF),
    "avg_pool": (lambda a, h: F.avg_pool2d(IMAGE.to(HALF), 2), HALF),
    "batch_norm": (
        lambda a, h: F.batch_norm(h, None, None, lg.ones(4), lg.zeros(4), training=True),
        HALF,
    ),
    "dropout": (lambda a, h: F.dropout(h, 0.5), HALF),
    "add": (lambda a, h: a + h, SINGLE),
    "add_halves": (lambda a, h: h + h, HALF),
    "times_number": (lambda a, h: h * 2.0, HALF),
    "cat": (lambda a, h: lg.cat([a, h]), SINGLE),
    "stack": (lambda a, h: lg.stack([h, a]), SINGLE),
    "where": (lambda a, h: lg.where(a > 0, a, h), SINGLE),
    "scatter_add": (lambda a, h: a.scatter_add(1, lg.tensor([[0], [1]]), h), SINGLE),
    "relu_single": (lambda a, h: a.relu(), SINGLE),
    "integers": (lambda a, h: lg.ones(2, 2, dtype=lg.int64).sum(), lg.int64),
}


@pytest.mark.parametrize("name", RESULTS)
def test_dtypes_are_those_of_the_list(name):
    function, dtype = RESULTS[name]
    with lg.autocast("cpu"):
        assert function(x(), x(HALF)).dtype is dtype


def test_float64_is_left_alone():
    a = x(DOUBLE)
    with lg.autocast("cpu"):
        for result in (a @ a.T, a.sum(), a.exp(), F.linear(a, a), F.cross_entropy(a, LABELS)):
            assert result.dtype is DOUBLE


def test_arrays_of_numpy_are_operands_like_others():
    with lg.autocast("cpu"):
        assert nn.Linear(4, 3)(X).dtype is HALF
        assert F.linear(X, x()).dtype is HALF
        assert lg.einsum("ij,kj->ik", X, x()).dtype is HALF
        assert F.mse_loss(x(HALF), X).dtype is SINGLE
        assert (x() @ X.T).dtype is HALF


def test_every_product_and_sum_of_the_registry_says_what_it_wants():
    wants = {op.name: op.autocast for op in all_ops()}
    products = {op.name for op in all_ops() if op.kind is Kind.CONTRACT}
    assert products == {name for name, p in wants.items() if p is Precision.HALF}
    single = {name for name, p in wants.items() if p is Precision.SINGLE}
    assert {"sum", "prod", "cumsum", "cumprod", "exp", "log", "pow", "linalg_inv"} <= single
    assert not {"add", "mul", "max", "cast", "relu", "tanh", "sigmoid", "sqrt"} & single


def test_contexts_nest_and_end():
    a = x()
    with lg.autocast("cpu", dtype=lg.float16):
        assert (a @ a.T).dtype is lg.float16
        with lg.autocast("cpu", enabled=False):
            assert (a @ a.T).dtype is SINGLE
            assert not lg.is_autocast_enabled("cpu")
        with lg.amp.autocast("cpu", lg.bfloat16):
            assert (a @ a.T).dtype is HALF
            assert lg.get_autocast_dtype("cpu") is HALF
        assert (a @ a.T).dtype is lg.float16
        with pytest.raises(ZeroDivisionError), lg.autocast("cpu"):
            raise ZeroDivisionError
        assert lg.is_autocast_enabled()
    assert (a @ a.T).dtype is SINGLE
    assert not lg.is_autocast_enabled()


def test_as_a_decorator():
    @lg.autocast("cpu")
    def product(a, depth=1):
        return product(a, 0) if depth else a @ a.T

    assert product(x()).dtype is HALF
    assert (x() @ x().T).dtype is SINGLE
    assert product.__name__ == "product"


def test_arguments():
    assert lg.get_autocast_dtype("cpu") is HALF
    assert lg.get_autocast_dtype("cuda") is lg.float16
    assert lg.is_autocast_available("cpu")
    with pytest.raises(DTypeError, match="bfloat16 or float16"):
        lg.autocast("cpu", dtype=lg.float32)
    with pytest.raises(DeviceError, match="device_type"):
        lg.autocast("tpu")
    with pytest.raises(ArgumentTypeError, match="device_type"):
        lg.autocast(lg.float16)
    with pytest.warns(lg.LazygradWarning, match="nothing is cast"), lg.autocast("cuda"):
        assert (x() @ x().T).dtype is SINGLE


# gradients


def test_masters_stay_float32_and_so_do_their_gradients():
    layer = nn.Linear(4, 3)
    with lg.autocast("cpu"):
        out = layer(x())
        assert out.dtype is HALF
        loss = out.sum()
    loss.backward()
    assert {p.dtype for p in layer.parameters()} == {SINGLE}
    assert {p.grad.dtype for p in layer.parameters()} == {SINGLE}
    rows = x(HALF).to(SINGLE).numpy().sum(0)
    np.testing.assert_allclose(layer.weight.grad.numpy(), np.tile(rows, (3, 1)), atol=2**-8)


def test_a_backward_pass_inside_casts_nothing():
    """Neither the products of a forward pass in float32, nor exponentials of one in half."""

    def gradients(inside):
        w, h = lg.tensor(X, requires_grad=True), lg.tensor(X, dtype=HALF, requires_grad=True)
        loss = (w @ (w * w).T).sum() + h.erf().sum()
        with lg.autocast("cpu", enabled=inside):
            loss.backward()
        return w.grad, h.grad

    for inside, outside in zip(gradients(True), gradients(False), strict=True):
        assert inside.dtype is outside.dtype
        assert np.array_equal(inside.numpy(), outside.numpy())


def test_a_backward_pass_inside_is_the_same():
    def gradients(inside):
        w = lg.tensor(X, requires_grad=True)
        with lg.autocast("cpu"):
            loss = ((w @ w.T).softmax(1) ** 2).sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        return w.grad

    inside, outside = gradients(True), gradients(False)
    assert inside.dtype is SINGLE
    assert np.array_equal(inside.numpy(), outside.numpy())


@pytest.mark.parametrize("captured", [False, True])
def test_a_checkpoint_is_computed_again_in_the_same_precision(captured):
    def gradient(saved):
        w = lg.tensor(X, requires_grad=True)

        def forward():
            return ((w @ w.T).relu() @ w).exp()

        def loss():
            with lg.autocast("cpu"):
                return (forward() if saved else lg.checkpoint(forward)).sum()

        (lg.compute_graph(loss) if captured else loss)().backward()
        return w.grad.numpy()

    assert np.array_equal(gradient(True), gradient(False))


@pytest.mark.parametrize("dtype", [SINGLE, HALF])
def test_an_optimizer_inside_steps_in_the_dtype_of_its_parameters(dtype):
    def trained(inside):
        w = nn.Parameter(x(dtype))
        optimizer = lg.optim.AdamW([w], lr=0.1)
        w.grad = x(dtype)
        with lg.autocast("cpu", enabled=inside):
            norm = nn.utils.clip_grad_norm_([w], 0.1)
            assert norm.dtype is dtype
            optimizer.step()
        return w.tolist()

    assert trained(True) == trained(False)


def test_a_weight_is_cast_once_in_a_program():
    w = nn.Parameter(np.ones((4, 4), np.float32))

    @lg.compute_graph
    def forward(a):
        with lg.autocast("cpu"):
            return F.linear(F.linear(a, w), w)

    forward(x()).numpy()
    nodes = forward._last.replay.alone().program.frozen.nodes
    assert [n.op.name for n in nodes].count("cast") == 2  # of the input and of the weight


# captures


def test_the_setting_is_part_of_a_signature():
    @lg.compute_graph
    def product(a):
        return a @ a.T

    for _ in range(4):  # often enough for the fast way
        assert product(x()).dtype is SINGLE
        with lg.autocast("cpu"):
            assert product(x()).dtype is HALF
        with lg.autocast("cpu", lg.float16):
            assert product(x()).dtype is lg.float16
    assert product.cache_info().misses == 3


def test_the_same_signature_again_and_again_after_another():
    @lg.compute_graph
    def product(a):
        return a @ a.T

    for _ in range(4):
        product(X)
    with lg.autocast("cpu"):
        for _ in range(4):
            assert product(X).dtype is HALF
    assert product(X).dtype is SINGLE


def test_names_inside_of_a_decorated_function_are_guarded():
    factor = 2.0

    @lg.compute_graph
    @lg.autocast("cpu")
    def scaled(a):
        return a * factor

    assert scaled(lg.ones(1)).item() == 2
    factor = 3.0
    with pytest.warns(lg.LazygradWarning, match="'factor'"):
        assert scaled(lg.ones(1)).item() == 3


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_training_follows_pytorch_captured_or_not(name):
    run, case = cases.RUNS[name]
    plain, captured = run(lg, case), run(lg, case, wrap=lg.compute_graph)
    for part, values in plain.items():
        assert np.array_equal(captured[part], values)
        atol = {"bfloat16": 2**-7, "float16": 2**-10}[name]
        np.testing.assert_allclose(values, GOLDENS[f"{name}/{part}"], rtol=0, atol=atol)
    assert plain["losses"][-1] < plain["losses"][0] * 0.8
