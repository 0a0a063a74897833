"""Function forms of methods: `lazygrad.exp(x)` for `x.exp()`.

The first argument may be a tensor, an array, nested lists or a number.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from lazygrad.engine.apply import SCALARS
from lazygrad.engine.creation import to_tensor
from lazygrad.engine.tensor import Tensor, apply
from lazygrad.ops import elementwise as ops
from lazygrad.ops import logic
from lazygrad.ops.opdef import OpDef

__all__ = [
    "abs", "absolute", "acos", "acosh", "add", "addbmm", "addcdiv", "addcmul", "addmm", "addmv",
    "addr", "all", "allclose", "amax", "amin", "aminmax", "any", "arccos", "arccosh", "arcsin",
    "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin", "argsort", "argwhere",
    "asin", "asinh", "atan", "atan2", "atanh", "baddbmm", "bincount", "bitwise_and",
    "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "bmm", "ceil", "cholesky", "chunk", "clamp", "clamp_max", "clamp_min", "clip", "clone",
    "copysign", "corrcoef", "cos", "cosh", "count_nonzero", "cov", "cross", "cummax", "cummin",
    "cumprod", "cumsum", "deg2rad", "det", "diag", "diag_embed", "diagflat", "diagonal", "diff",
    "dist", "div", "divide", "dot", "dsplit", "eq", "equal", "erf", "exp", "exp2", "expm1",
    "fix", "flatten", "flip", "fliplr", "flipud", "float_power", "floor", "floor_divide",
    "fmax", "fmin", "fmod", "frac", "gather", "ge", "ger", "greater", "greater_equal", "gt",
    "heaviside", "histc", "hsplit", "hypot", "index_add", "index_copy", "index_fill",
    "index_put", "index_reduce", "index_select", "inner", "inverse", "is_complex", "is_nonzero",
    "is_signed", "isclose", "isfinite", "isinf", "isnan", "isneginf", "isposinf", "isreal",
    "kron", "kthvalue", "ldexp", "le", "lerp", "less", "less_equal", "log", "log10", "log1p",
    "log2", "log_softmax", "logaddexp", "logaddexp2", "logdet", "logical_not", "logit",
    "logsumexp", "lt", "masked_fill", "masked_scatter", "masked_select", "matmul",
    "matrix_power", "max", "maximum", "mean", "median", "min", "minimum", "mm", "mode",
    "moveaxis", "movedim", "msort", "mul", "multiply", "mv", "nan_to_num", "nanmean",
    "nanmedian", "nanquantile", "nansum", "narrow", "ne", "neg", "negative", "nonzero", "norm",
    "not_equal", "numel", "outer", "permute", "pinverse", "positive", "prod", "qr", "quantile",
    "rad2deg", "ravel", "reciprocal", "relu", "remainder", "renorm", "repeat_interleave",
    "reshape", "roll", "rot90", "round", "rsqrt", "scatter", "scatter_add", "scatter_reduce",
    "select", "select_scatter", "sgn", "sigmoid", "sign", "signbit", "sin", "sinc", "sinh",
    "slice_scatter", "slogdet", "softmax", "sort", "split", "split_with_sizes", "sqrt", "square",
    "squeeze", "std", "sub", "subtract", "sum", "svd",
    "swapaxes", "swapdims", "t", "take", "take_along_dim", "tan", "tanh", "tensor_split",
    "tile", "topk", "trace", "transpose", "tril", "triu", "true_divide", "trunc", "unbind",
    "unflatten", "unique", "unique_consecutive", "unsqueeze", "var", "vdot", "vsplit", "xlogy",
]  # fmt: skip


def _method(name: str) -> Callable[..., Any]:
    """The function form of a method."""
    method = getattr(Tensor, name)

    @functools.wraps(method)
    def function(input: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(to_tensor(input), name)(*args, **kwargs)

    function.__qualname__ = function.__name__ = name
    return function


def _binary(name: str, op: OpDef) -> Callable[[Any, Any], Tensor]:
    """The function form of a binary op; either operand may be a number."""

    def function(input: Any, other: Any) -> Tensor:
        numbers = isinstance(input, SCALARS) and isinstance(other, SCALARS)
        if numbers or isinstance(input, list | tuple):
            input = to_tensor(input)
        return apply(op, input, to_tensor(other) if isinstance(other, list | tuple) else other)

    function.__qualname__ = function.__name__ = name
    function.__doc__ = op.doc
    return function


abs = _method("abs")
absolute = _method("absolute")
acos = _method("acos")
acosh = _method("acosh")
add = _method("add")
addbmm = _method("addbmm")
addcdiv = _method("addcdiv")
addcmul = _method("addcmul")
addmm = _method("addmm")
addmv = _method("addmv")
addr = _method("addr")
all = _method("all")
allclose = _method("allclose")
amax = _method("amax")
amin = _method("amin")
aminmax = _method("aminmax")
any = _method("any")
arccos = _method("arccos")
arccosh = _method("arccosh")
arcsin = _method("arcsin")
arcsinh = _method("arcsinh")
arctan = _method("arctan")
arctan2 = _method("arctan2")
arctanh = _method("arctanh")
argmax = _method("argmax")
argmin = _method("argmin")
argsort = _method("argsort")
argwhere = _method("argwhere")
asin = _method("asin")
asinh = _method("asinh")
atan = _method("atan")
atan2 = _binary("atan2", ops.ATAN2)
atanh = _method("atanh")
baddbmm = _method("baddbmm")
bincount = _method("bincount")
bitwise_and = _binary("bitwise_and", logic.BIT_AND)
bitwise_left_shift = _method("bitwise_left_shift")
bitwise_not = _method("bitwise_not")
bitwise_or = _binary("bitwise_or", logic.BIT_OR)
bitwise_right_shift = _method("bitwise_right_shift")
bitwise_xor = _binary("bitwise_xor", logic.BIT_XOR)
bmm = _method("bmm")
ceil = _method("ceil")
cholesky = _method("cholesky")
chunk = _method("chunk")
clamp = _method("clamp")
clamp_max = _method("clamp_max")
clamp_min = _method("clamp_min")
clip = _method("clip")
clone = _method("clone")
copysign = _binary("copysign", ops.COPYSIGN)
corrcoef = _method("corrcoef")
cos = _method("cos")
cosh = _method("cosh")
count_nonzero = _method("count_nonzero")
cov = _method("cov")
cross = _method("cross")
cummax = _method("cummax")
cummin = _method("cummin")
cumprod = _method("cumprod")
cumsum = _method("cumsum")
deg2rad = _method("deg2rad")
det = _method("det")
diag = _method("diag")
diag_embed = _method("diag_embed")
diagflat = _method("diagflat")
diagonal = _method("diagonal")
diff = _method("diff")
dist = _method("dist")
div = _method("div")
divide = _method("divide")
dot = _method("dot")
dsplit = _method("dsplit")
eq = _binary("eq", logic.EQ)
equal = _method("equal")
erf = _method("erf")
exp = _method("exp")
exp2 = _method("exp2")
expm1 = _method("expm1")
fix = _method("fix")
flatten = _method("flatten")
flip = _method("flip")
fliplr = _method("fliplr")
flipud = _method("flipud")
float_power = _method("float_power")
floor = _method("floor")
floor_divide = _binary("floor_divide", ops.FLOORDIV)
fmax = _method("fmax")
fmin = _method("fmin")
fmod = _binary("fmod", ops.FMOD)
frac = _method("frac")
gather = _method("gather")
ge = _binary("ge", logic.GE)
ger = _method("ger")
greater = _method("greater")
greater_equal = _method("greater_equal")
gt = _binary("gt", logic.GT)
heaviside = _method("heaviside")
histc = _method("histc")
hsplit = _method("hsplit")
hypot = _method("hypot")
index_add = _method("index_add")
index_copy = _method("index_copy")
index_fill = _method("index_fill")
index_put = _method("index_put")
index_reduce = _method("index_reduce")
index_select = _method("index_select")
inner = _method("inner")
inverse = _method("inverse")
is_complex = _method("is_complex")
is_nonzero = _method("is_nonzero")
is_signed = _method("is_signed")
isclose = _method("isclose")
isfinite = _method("isfinite")
isinf = _method("isinf")
isnan = _method("isnan")
isneginf = _method("isneginf")
isposinf = _method("isposinf")
isreal = _method("isreal")
kron = _method("kron")
kthvalue = _method("kthvalue")
ldexp = _method("ldexp")
le = _binary("le", logic.LE)
lerp = _method("lerp")
less = _method("less")
less_equal = _method("less_equal")
log = _method("log")
log10 = _method("log10")
log1p = _method("log1p")
log2 = _method("log2")
log_softmax = _method("log_softmax")
logaddexp = _method("logaddexp")
logaddexp2 = _method("logaddexp2")
logdet = _method("logdet")
logical_not = _method("logical_not")
logit = _method("logit")
logsumexp = _method("logsumexp")
lt = _binary("lt", logic.LT)
masked_fill = _method("masked_fill")
masked_scatter = _method("masked_scatter")
masked_select = _method("masked_select")
matmul = _method("matmul")
matrix_power = _method("matrix_power")
max = _method("max")
maximum = _binary("maximum", ops.MAXIMUM)
mean = _method("mean")
median = _method("median")
min = _method("min")
minimum = _binary("minimum", ops.MINIMUM)
mm = _method("mm")
mode = _method("mode")
moveaxis = _method("moveaxis")
movedim = _method("movedim")
msort = _method("msort")
mul = _binary("mul", ops.MUL)
multiply = _binary("multiply", ops.MUL)
mv = _method("mv")
nan_to_num = _method("nan_to_num")
nanmean = _method("nanmean")
nanmedian = _method("nanmedian")
nanquantile = _method("nanquantile")
nansum = _method("nansum")
narrow = _method("narrow")
ne = _binary("ne", logic.NE)
neg = _method("neg")
negative = _method("negative")
nonzero = _method("nonzero")
norm = _method("norm")
not_equal = _method("not_equal")
numel = _method("numel")
outer = _method("outer")
permute = _method("permute")
pinverse = _method("pinverse")
positive = _method("positive")
prod = _method("prod")
qr = _method("qr")
quantile = _method("quantile")
rad2deg = _method("rad2deg")
ravel = _method("ravel")
reciprocal = _method("reciprocal")
relu = _method("relu")
remainder = _binary("remainder", ops.MOD)
renorm = _method("renorm")
repeat_interleave = _method("repeat_interleave")
reshape = _method("reshape")
roll = _method("roll")
rot90 = _method("rot90")
round = _method("round")
rsqrt = _method("rsqrt")
scatter = _method("scatter")
scatter_add = _method("scatter_add")
scatter_reduce = _method("scatter_reduce")
select = _method("select")
select_scatter = _method("select_scatter")
sgn = _method("sgn")
sigmoid = _method("sigmoid")
sign = _method("sign")
signbit = _method("signbit")
sin = _method("sin")
sinc = _method("sinc")
sinh = _method("sinh")
slice_scatter = _method("slice_scatter")
slogdet = _method("slogdet")
softmax = _method("softmax")
sort = _method("sort")
split = _method("split")
split_with_sizes = _method("split_with_sizes")
sqrt = _method("sqrt")
square = _method("square")
squeeze = _method("squeeze")
std = _method("std")
sub = _method("sub")
subtract = _method("subtract")
sum = _method("sum")
svd = _method("svd")
swapaxes = _method("swapaxes")
swapdims = _method("swapdims")
t = _method("t")
take = _method("take")
take_along_dim = _method("take_along_dim")
tan = _method("tan")
tanh = _method("tanh")
tensor_split = _method("tensor_split")
tile = _method("tile")
topk = _method("topk")
trace = _method("trace")
transpose = _method("transpose")
tril = _method("tril")
triu = _method("triu")
true_divide = _binary("true_divide", ops.DIV)
trunc = _method("trunc")
unbind = _method("unbind")
unflatten = _method("unflatten")
unique = _method("unique")
unique_consecutive = _method("unique_consecutive")
unsqueeze = _method("unsqueeze")
var = _method("var")
vdot = _method("vdot")
vsplit = _method("vsplit")
xlogy = _method("xlogy")
