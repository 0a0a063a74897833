"""What methods share: names, conversions, in-place forms, errors, precision."""

import math

import numpy as np
import pytest

import lazygrad as lg
from lazygrad.errors import (
    ArgumentError,
    AxisError,
    DeviceError,
    DTypeError,
    GradientError,
    ShapeError,
)  # fmt: skip
from lazygrad.ops.special import erf, power

X = np.arange(6.0).reshape(2, 3)


def x(dtype=None):
    return lg.tensor(X, dtype=dtype)


@pytest.mark.parametrize(
    "name",
    ["sum", "mean", "prod", "any", "all", "amax", "amin", "argmax", "argmin", "var", "std", "norm",
     "logsumexp", "count_nonzero"],
)  # fmt: skip
def test_both_names_of_dimensions(name):
    method = getattr(x(), name)
    expected = method(dim=1, keepdim=True)
    for result in (method(axis=1, keepdims=True), method(dim=-1, keepdims=True)):
        assert result.shape == expected.shape == (2, 1)
        assert np.array_equal(result.numpy(), expected.numpy())
    with pytest.raises(ArgumentError, match="got both dim= and axis="):
        method(dim=1, axis=1)


def test_axis_of_what_has_no_keepdim():
    for name in ("softmax", "log_softmax", "cumsum", "argsort"):
        method = getattr(x(), name)
        assert np.array_equal(method(axis=0).numpy(), method(dim=0).numpy())
    assert x().squeeze(axis=None).shape == x().unsqueeze(axis=0).squeeze(axis=0).shape
    assert [t.shape for t in x().split(2, axis=1)] == [(2, 2), (2, 1)]
    assert lg.stack([x(), x()], axis=1).shape == (2, 2, 3)


@pytest.mark.parametrize(
    "of", [lambda x: x.max(1), lambda x: x.sort(), lambda x: x.topk(2), lambda x: x.median(0)]
)
def test_positions_found_by_an_op_are_not_checked(of):
    """A check would hold up every write of state until it has passed."""
    x = lg.tensor([[3.0, 1.0, 2.0]]) * 2
    values = of(x).values
    ops, todo = set(), [values._node]
    while todo:
        node = todo.pop()
        ops.add(node.op.name)
        todo += node.inputs
    assert "gather" in ops and "check_index" not in ops


def test_max_forms():
    t = lg.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]])
    values, indices = t.max(dim=1)
    assert (values.tolist(), indices.tolist(), indices.dtype) == ([3, 2], [1, 0], lg.int64)
    assert t.max(1).values.tolist() == [3, 2]
    assert t.max(1, keepdim=True).indices.shape == (2, 1)
    assert t.max(axis=1).tolist() == [3, 2]  # NumPy's name, NumPy's meaning
    assert t.max().item() == 3
    assert t.max(lg.tensor(2.0)).tolist() == [[2, 3, 3], [2, 2, 2]]
    assert t.min(other=lg.zeros(3)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert lg.tensor(4.0).max(0).indices.item() == 0


def test_nan_wins():
    t = lg.tensor([1.0, math.nan, 3.0])
    assert math.isnan(t.max().item())
    assert t.argmax().item() == t.argmin().item() == 1
    assert t.sort().indices.tolist() == [0, 2, 1]
    assert t.sort(descending=True).indices.tolist() == [1, 2, 0]
    assert math.isnan(t.maximum(0.0).tolist()[1])


def test_median():
    t = lg.tensor([[3.0, 1.0, 2.0, 4.0], [math.nan, 1.0, 2.0, 0.0]])
    values, indices = t.median(1)
    assert (values.tolist()[0], indices.tolist()) == (2, [2, 0])
    assert math.isnan(values.tolist()[1])
    assert math.isnan(t.median().item())
    with pytest.raises(ShapeError, match="median: shape"):
        lg.zeros(2, 0).median(1)


def test_logaddexp_of_infinities():
    inf = lg.tensor([math.inf, -math.inf])
    assert inf.logaddexp(inf).tolist() == [math.inf, -math.inf]
    assert inf.logaddexp(0.0).tolist() == [math.inf, 0]


def test_truncated_division():
    t = lg.tensor([7, -7, 6])
    assert t.div(2, rounding_mode="trunc").tolist() == [3, -3, 3]
    assert t.div(-2, rounding_mode="floor").tolist() == [-4, 3, -3]
    assert t.div(2, rounding_mode="trunc").dtype is lg.int64
    assert lg.tensor([math.inf]).div(2, rounding_mode="trunc").item() == math.inf


def test_bools_where_only_order_counts():
    t = lg.tensor([[False, True], [True, True]])
    assert [p.tolist() for p in t.max(1)] == [[True, True], [1, 0]]
    assert t.masked_fill(t, 0).tolist() == [[False, False], [False, False]]
    assert t.allclose(t)
    assert t.sign() is t.nan_to_num() is t


def test_sort_is_stable():
    t = lg.tensor([1, 0, 1, 0])
    assert t.argsort().tolist() == [1, 3, 0, 2]
    assert t.argsort(descending=True).tolist() == [0, 2, 1, 3]
    assert t.topk(3).indices.tolist() == [0, 2, 1]


@pytest.mark.parametrize("dtype", [lg.float16, lg.bfloat16])
def test_half_precision_accumulates_in_float32(dtype):
    ones = lg.full((10_000,), 0.1, dtype=dtype)
    exact = float(ones[0].item()) * 10_000
    for result in (ones.sum(), ones.mean() * 10_000, ones @ lg.ones(10_000, dtype=dtype)):
        assert result.dtype is dtype
        assert abs(result.item() - exact) <= exact * 2**-8
    large = lg.full((4,), 30_000.0, dtype=dtype)
    assert large.mean().item() == large[0].item()  # the sum would overflow float16
    assert math.isfinite(large.norm().item()) == (dtype is lg.float16) or dtype is lg.bfloat16


def test_sums_of_small_integers_do_not_wrap():
    assert lg.full((300,), 100, dtype=lg.int8).sum().item() == 30_000
    assert lg.ones(300, dtype=lg.bool).sum().item() == 300
    assert lg.full((2,), 200, dtype=lg.uint8).prod().item() == 40_000


def test_precision_of_float32():
    rng = np.random.default_rng(0)
    values = rng.uniform(-3, 3, 1000)
    narrow = lg.tensor(values.astype(np.float32))
    for name in ("exp", "tanh", "sigmoid", "erf", "sin", "softplus", "expm1"):
        exact = getattr(lg.tensor(values.astype(np.float32).astype(np.float64)), name)().numpy()
        error = np.abs(getattr(narrow, name)().numpy() - exact)
        assert (error / np.spacing(np.abs(exact).astype(np.float32))).max() < 4, name


def test_erf_to_the_last_digit():
    points = np.concatenate([np.linspace(-7, 7, 2001), [1e-300, -0.0, np.inf, -np.inf]])
    exact = np.array([math.erf(v) for v in points])
    assert np.all(np.abs(erf(points) - exact) <= 2 * np.spacing(np.abs(exact)))
    assert math.copysign(1, erf(np.float64(-0.0))) == -1
    assert math.isnan(erf(np.float64("nan")))
    out = np.empty(3, np.float32)
    assert erf(np.ones(3, np.float32), out=out) is out


def test_integer_powers():
    base, exponent = np.array([2, -1, -1, 1, 3]), np.array([-1, -3, -2, -5, 2])
    assert power(base, exponent).tolist() == [0, -1, 1, 1, 9]
    assert lg.tensor(base).pow(lg.tensor(exponent)).tolist() == [0, -1, 1, 1, 9]
    assert (lg.tensor([3], dtype=lg.int8) ** 3).dtype is lg.int8
    assert (lg.tensor([2]) ** 0.5).dtype is lg.float32
    with pytest.raises(ArgumentError, match="negative integer power -1"):
        lg.tensor([2]) ** -1


def test_conversions():
    t = lg.tensor([1.7, -1.7, 0.0])
    assert t.int().tolist() == [1, -1, 0]
    assert t.bool().tolist() == [True, True, False]
    made = {
        "float": lg.float32, "double": lg.float64, "half": lg.float16, "bfloat16": lg.bfloat16,
        "long": lg.int64, "int": lg.int32, "short": lg.int16, "char": lg.int8, "byte": lg.uint8,
        "bool": lg.bool,
    }  # fmt: skip
    for name, dtype in made.items():
        assert getattr(t.abs(), name)().dtype is dtype
    assert t.to(lg.float64).dtype is t.to("float64").dtype is t.to(dtype=np.float64).dtype
    assert t.to("cpu") is t.to(t) is t.cpu() is t.float() is t
    assert t.to("cpu", lg.int64).dtype is t.type(lg.int64).dtype is t.astype(int).dtype is lg.int64
    assert t.to(lg.ones(1, dtype=lg.int8)).dtype is t.type_as(lg.ones(1, dtype=lg.int8)).dtype
    assert t.to(lg.float32, copy=True) is not t
    for call in (lambda: t.to("cuda"), t.cuda, lambda: t.to(device="cuda:0"), lambda: t.to("mps")):
        with pytest.raises(DeviceError, match="not available"):
            call()
    with pytest.raises(TypeError, match="unexpected keyword 'dtyp'"):
        t.to(dtyp=lg.int8)
    with pytest.raises(DTypeError, match="unknown dtype 'flot'"):
        t.to("flot")


def test_inspection():
    t = lg.zeros(2, 3, dtype=lg.float16)
    assert (t.size(), t.size(0), t.size(-1), t.dim(), t.numel()) == ((2, 3), 2, 3, 2, 6)
    assert (t.element_size(), t.itemsize, t.nbytes) == (2, 2, 12)
    assert t.is_floating_point()
    assert not t.long().is_floating_point()
    assert (t.T.shape, t.mT.shape, t.t().shape) == ((3, 2),) * 3


def test_new_tensors_of_the_same_dtype():
    t = lg.ones(2, dtype=lg.float64)
    assert t.new_zeros(2, 3).dtype is lg.float64
    assert t.new_ones((2,)).tolist() == [1, 1]
    assert t.new_full((2,), 7, dtype=lg.int8).dtype is lg.int8
    assert t.new_tensor([1]).dtype is lg.float64


def test_clone_lets_gradients_through():
    w = lg.tensor([2.0], requires_grad=True)
    (w.clone() * 3).backward()
    assert w.grad.tolist() == [3]


IN_PLACE = {
    "add_": ((1,), [2, 3]), "sub_": ((1,), [0, 1]), "mul_": ((3,), [3, 6]),
    "div_": ((2,), [0.5, 1]), "pow_": ((2,), [1, 4]), "neg_": ((), [-1, -2]),
    "zero_": ((), [0, 0]), "fill_": ((9,), [9, 9]),
    "clamp_": ((1.5,), [1.5, 2]), "square_": ((), [1, 4]), "addcmul_": ((2, 3), [7, 8]),
    "lerp_": ((3.0, 0.5), [2, 2.5]), "masked_fill_": ([[True, False], 5], [5, 2]),
    "relu_": ((), [1, 2]), "remainder_": ((2,), [1, 0]), "reciprocal_": ((), [1, 0.5]),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name):
    args, expected = IN_PLACE[name]
    t = lg.tensor([1.0, 2.0])
    before = t * 1
    assert getattr(t, name)(*args) is t
    assert (t.tolist(), before.tolist()) == (expected, [1, 2])


def test_augmented_operators():
    t = lg.tensor([5.0, 7.0])
    same = t
    t += 1
    t -= 2
    t *= 3
    t /= 2
    t **= 2
    t //= 4
    t %= 5
    assert t is same
    assert t.tolist() == [4, 0]
    bits = lg.tensor([6])
    bits &= 3
    bits |= 8
    bits ^= 1
    bits <<= 2
    bits >>= 1
    assert bits.tolist() == [22]
    m = lg.eye(2)
    m @= lg.full((2, 2), 2.0)
    assert m.tolist() == [[2, 2], [2, 2]]


def test_in_place_refuses_what_does_not_fit():
    with pytest.raises(DTypeError, match=r"float32 result does not fit into \S*int64"):
        lg.tensor([1]).add_(0.5)
    with pytest.raises(ShapeError, match=r"result has shape \(2, 2\), the tensor in place \(2,\)"):
        lg.ones(2).add_(lg.ones(2, 2))
    w = lg.ones(2, requires_grad=True)
    with pytest.raises(GradientError, match="use no_grad"):
        w.add_(1)
    with lg.no_grad():
        w.add_(1)
    assert w.tolist() == [2, 2]


def test_reflected_operators():
    t = lg.tensor([2, 3])
    assert (10 - t).tolist() == [8, 7]
    assert (1 / t.double()).tolist() == [0.5, 1 / 3]
    assert (7 // t).tolist() == [3, 2]
    assert (7 % t).tolist() == [1, 1]
    assert (2**t).tolist() == [4, 8]
    assert (1 << t).tolist() == [4, 8]
    assert (6 & t).tolist() == [2, 2]
    assert (np.ones((2, 2)) @ t.double()).tolist() == [5, 5]
    assert (t == None).__class__ is bool  # noqa: E711


def test_comparison_as_python_bool():
    a = lg.tensor([1.0, 2.0])
    assert a.equal(lg.tensor([1.0, 2.0]))
    assert not a.equal(lg.ones(3))
    assert a.allclose(a + 1e-9)
    assert not a.allclose(a + 1)
    nan = lg.tensor([math.nan])
    assert not nan.allclose(nan)
    assert nan.allclose(nan, equal_nan=True)
    inf = lg.tensor([math.inf])
    assert inf.allclose(inf)
    assert not inf.allclose(-inf)


def test_nan_to_num():
    t = lg.tensor([math.nan, math.inf, -math.inf, 1.0])
    top = lg.finfo(lg.float32).max
    assert t.nan_to_num().tolist() == [0, top, -top, 1]
    assert t.nan_to_num(5, 6, 7).tolist() == [5, 6, 7, 1]


def test_transpose_forms():
    t = lg.zeros(2, 3, 4)
    assert t.transpose().shape == (4, 3, 2)
    assert t.transpose(0, -1).shape == (4, 3, 2)
    assert t.transpose((1, 0, 2)).shape == (3, 2, 4)
    assert t.transpose(dim0=0, dim1=1).shape == (3, 2, 4)
    assert t.swapaxes(1, 2).shape == (2, 4, 3)
    assert t.permute(2, 0, 1).shape == t.permute((2, 0, 1)).shape == (4, 2, 3)


def test_splits():
    t = lg.arange(10)
    assert [p.tolist() for p in t.split([3, 7])] == [[0, 1, 2], list(range(3, 10))]
    assert [len(p) for p in t.split(4)] == [4, 4, 2]
    assert [len(p) for p in t.chunk(4)] == [3, 3, 3, 1]
    assert [p.item() for p in t[:3].unbind()] == [0, 1, 2]
    assert t.narrow(0, -3, 2).tolist() == [7, 8]


def test_repeat_interleave_by_counts():
    t = lg.tensor([5, 6, 7])
    assert t.repeat_interleave(lg.tensor([2, 0, 1])).tolist() == [5, 5, 7]
    assert t.repeat_interleave([1, 1, 2]).tolist() == [5, 6, 7, 7]


def test_searchsorted():
    edges = lg.tensor([1.0, 3.0, 5.0])
    assert edges.searchsorted(lg.tensor([0.0, 3.0, 9.0])).tolist() == [0, 1, 3]
    assert lg.searchsorted(edges, lg.tensor([3.0]), right=True).tolist() == [2]


ERRORS = {
    "matmul": (
        lambda: lg.zeros(32, 784) @ lg.zeros(128, 784),
        ShapeError,
        r"^matmul: \(32,784\) @ \(128,784\): inner 784 != 128; did you mean w.T\?$",
    ),
    "matmul_left": (
        lambda: lg.zeros(784, 32) @ lg.zeros(784, 10),
        ShapeError,
        r"inner 32 != 784; did you mean x.T @ w\?",
    ),
    "matmul_neither": (lambda: lg.zeros(2, 3) @ lg.zeros(4, 5), ShapeError, "inner 3 != 4$"),
    "matmul_vector": (
        lambda: lg.zeros(2, 3) @ lg.zeros(4),
        ShapeError,
        r"matmul: \(2,3\) @ \(4,\): inner 3 != 4",
    ),
    "matmul_0d": (lambda: lg.zeros(2, 3) @ lg.tensor(1.0), ShapeError, "no 0-d operands"),
    "matmul_batch": (
        lambda: lg.zeros(2, 3, 4) @ lg.zeros(5, 4, 3),
        ShapeError,
        r"matmul: \(2,3,4\) @ \(5,4,3\): batch",
    ),
    "matmul_bool": (lambda: lg.ones(2, 2).bool() @ lg.ones(2, 2).bool(), DTypeError, "got bool"),
    "mm": (lambda: lg.zeros(2).mm(lg.zeros(2, 2)), ShapeError, "mm: .* operands of 2 and 2"),
    "bmm": (lambda: lg.zeros(2, 3, 4).bmm(lg.zeros(3, 4, 5)), ShapeError, "batches differ"),
    "dot": (lambda: lg.zeros(2, 2).dot(lg.zeros(2)), ShapeError, "dot: "),
    "broadcast": (
        lambda: lg.zeros(2, 3) + lg.zeros(2),
        ShapeError,
        r"add: shapes \(2, 3\) and \(2,\) do not broadcast: 3 != 2",
    ),
    "axis": (
        lambda: x().sum(dim=2),
        AxisError,
        "sum: axis 2 is out of range for a tensor with 2 dimensions",
    ),
    "axis_twice": (lambda: x().sum((0, -2)), AxisError, "repeated sum: axis"),
    "axis_float": (lambda: x().sum(0.5), AxisError, "sum: axis must be an int, got 0.5"),
    "mean_int": (
        lambda: lg.arange(3).mean(),
        DTypeError,
        r"mean takes floating tensors, got \S*int64; use .float\(\) first",
    ),
    "softmax_int": (lambda: lg.arange(3).softmax(0), DTypeError, "softmax takes floating"),
    "max_empty": (lambda: lg.zeros(0).max(), ShapeError, "max: shape .* has no elements"),
    "argmax_empty": (lambda: lg.zeros(2, 0).argmax(1), ShapeError, "argmax: shape"),
    "bool_minus": (lambda: (x() > 1) - (x() > 2), DTypeError, "sub takes integer or floating"),
    "bits_of_floats": (lambda: x() & 1.0, DTypeError, "bit_and takes bool or integer"),
    "reshape": (lambda: x().reshape(4, 2), ShapeError, r"reshape: \(2, 3\) has 6 elements"),
    "reshape_two": (lambda: x().reshape(-1, -1), ShapeError, "only one dimension can be -1"),
    "view": (lambda: x().view(5, -1), ShapeError, "does not fit"),
    "permute": (lambda: x().permute(0, 0), AxisError, "no permutation"),
    "expand": (lambda: x().expand(2, 4), ShapeError, r"\(2, 3\) does not broadcast to \(2, 4\)"),
    "squeeze": (lambda: x().squeeze(5), AxisError, "squeeze: axis 5"),
    "unsqueeze": (lambda: x().unsqueeze(4), AxisError, "unsqueeze: axis 4"),
    "split": (lambda: x().split([1, 3]), ShapeError, r"sizes \[1, 3\] do not add up to 2"),
    "topk": (lambda: x().topk(4), ShapeError, "topk: k=4"),
    "clamp": (lambda: x().clamp(), ArgumentError, "at least one of min and max"),
    "gelu": (lambda: x().gelu("tan"), ArgumentError, "is not none or tanh"),
    "div": (lambda: x().div(2, rounding_mode="up"), ArgumentError, "is not floor or trunc"),
    "norm": (lambda: x().norm("nuclear"), ArgumentError, "norm: p 'nuclear'"),
    "pad": (lambda: x().pad((1, 1, 1, 1, 1, 1)), ShapeError, "pad: 6 amounts"),
    "repeat": (lambda: x().repeat(2), ShapeError, r"repeat: \(2,\) for a tensor with 2"),
    "tril": (lambda: lg.zeros(2).tril(), AxisError, "tril/triu need two dimensions"),
    "narrow": (lambda: x().narrow(0, 1, 5), ShapeError, r"narrow: \[1, 6\) of 2 elements"),
    "out": (lambda: x().sum(out=np.zeros(())), ArgumentError, "sum takes no out="),
    "masked_fill": (
        lambda: lg.arange(2).masked_fill(lg.tensor([True, False]), 0.5),
        DTypeError,
        "masked_fill",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, error, text = ERRORS[name]
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_border_may_be_cut_on_one_side(mode):
    t = lg.tensor([1.0, 2.0, 3.0, 4.0])
    wanted = {  # PyTorch 2.13
        "reflect": [2, 3, 4, 3, 2], "replicate": [2, 3, 4, 4, 4], "circular": [2, 3, 4, 2, 3],
    }[mode]  # fmt: skip
    assert t.pad((-1, 2), mode).tolist() == wanted


def test_what_pytorch_does_at_the_edges():
    assert [t.shape for t in lg.zeros(0, 2).chunk(3)] == [(0, 2)] * 3
    with pytest.raises(AxisError, match="trace takes a matrix"):
        lg.zeros(2, 2, 2).trace()
    a, b = lg.tensor(np.arange(9.0).reshape(3, 3)), lg.tensor(np.eye(3))
    assert np.array_equal(a.cross(b).numpy(), np.cross(a.numpy(), b.numpy(), axis=0))
    assert np.array_equal(a.cross(b, 1).numpy(), np.cross(a.numpy(), b.numpy()))
    row = lg.nn.functional.cosine_similarity(a, b[0])
    assert np.allclose(row.numpy(), a.numpy()[:, 0] / np.linalg.norm(a.numpy(), axis=1))


def test_flags_print_as_in_pytorch():
    assert repr(lg.tensor(True)) == "tensor(True)"
    assert repr(lg.tensor([True, True])) == "tensor([True, True])"
    assert repr(lg.tensor([True, False])) == "tensor([ True, False])"


def test_slices_and_elements_are_put_in():
    x = lg.tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    row = lg.tensor(np.full((3, 2), 7.0), requires_grad=True)
    y = x.slice_scatter(row, 1, 0, 4, 2)
    assert y.tolist()[0] == [7.0, 1.0, 7.0, 3.0]
    (y * 2).sum().backward()
    assert row.grad.tolist() == [[2.0, 2.0]] * 3 and x.grad.tolist() == [[0.0, 2.0, 0.0, 2.0]] * 3
    assert lg.select_scatter(x, row[:, 0], -1, 1)[:, 1].tolist() == [7.0] * 3
    with pytest.raises(ShapeError, match=r"a source of shape \(3, 2\) in the place of \(3, 4\)"):
        x.slice_scatter(row, 1)
    assert [p.shape for p in lg.split_with_sizes(x, (1, 2))] == [(1, 4), (2, 4)]
    assert x.mH.shape == (4, 3)


def test_sums_undo_broadcasting():
    x = lg.tensor(np.arange(24.0).reshape(2, 3, 4))
    assert np.array_equal(x.sum_to_size(3, 1).numpy(), x.numpy().sum((0, 2))[:, None])
    assert x.sum_to_size((2, 3, 4)) is x and x.sum_to_size(1).shape == (1,)
    for size in ((2,), (1, 2, 3, 4), (3, 2)):
        with pytest.raises(ShapeError, match=r"sum_to_size: .* does not broadcast to \(2, 3, 4\)"):
            x.sum_to_size(size)


def test_a_tensor_contains_its_elements():
    x = lg.tensor([[1, 2], [3, 4]])
    assert 4 in x and 5 not in x and lg.tensor(1) in x


def test_functions_of_layers_are_found_where_they_are():
    with pytest.raises(AttributeError, match=r"'conv2d'; see lazygrad\.nn\.functional\.conv2d"):
        _ = lg.conv2d


def test_pytorch_names_of_sizes_and_dimensions():
    x = lg.tensor(np.arange(6.0).reshape(2, 3))
    assert x.reshape(shape=(3, 2)).shape == x.permute(dims=(1, 0)).shape == (3, 2)
    assert x.roll(shifts=1, dims=0).tolist() == x.roll(1, 0).tolist()
    assert x.tile(dims=(2, 1)).shape == (4, 3)
