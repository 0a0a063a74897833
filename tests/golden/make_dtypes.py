"""Write `dtypes.txt`: the dtype of every operation on every pair of operands in PyTorch 2.13.

One line for each operation: its name and a string with one letter per pair of operands, in the
order of `product(OPERANDS, OPERANDS)` (unary operations: one letter per dtype). `!` stands for an
error. Run by hand: `python tests/golden/make_dtypes.py` where torch 2.13 is installed.
"""

import operator
from itertools import product
from pathlib import Path

DTYPES = {
    "h": "float16", "b": "bfloat16", "f": "float32", "d": "float64", "1": "int8", "2": "int16",
    "4": "int32", "8": "int64", "u": "uint8", "o": "bool",
}  # fmt: skip
SCALARS = {"bool": True, "int": 1, "float": 1.0}
# A tensor with a dimension, a 0-d tensor, a Python number.
OPERANDS = [
    *((name, 1) for name in DTYPES.values()), *((name, 0) for name in DTYPES.values()),
    *((name, None) for name in SCALARS),
]  # fmt: skip
OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
    "//": operator.floordiv, "%": operator.mod, "**": operator.pow, "==": operator.eq,
    "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "&": operator.and_, "|": operator.or_, "^": operator.xor, "<<": operator.lshift,
    ">>": operator.rshift,
}  # fmt: skip
BINARY = ["maximum", "minimum", "atan2", "fmod", "copysign", "logical_and", "logical_or"]
UNARY = [
    "abs", "acos", "acosh", "all", "amax", "any", "argmax", "argsort", "asin", "asinh", "atan",
    "atanh", "ceil", "cos", "cosh", "cumsum", "erf", "exp", "exp2", "expm1", "floor", "isfinite",
    "isinf", "isnan", "log", "log10", "log1p", "log2", "log_softmax", "logical_not", "logsumexp",
    "mean", "neg", "norm", "prod", "reciprocal", "relu", "round", "rsqrt", "sigmoid", "sign",
    "sin", "sinh", "softmax", "sqrt", "square", "std", "sum", "tan", "tanh", "trunc", "var",
]  # fmt: skip
WITH_DIM = {"cumsum", "log_softmax", "logsumexp", "softmax"}


def operand(lib, name, rank):
    """The value 1 as a tensor of rank 1 or 0, or as a Python number."""
    if rank is None:
        return SCALARS[name]
    kind = getattr(lib, name)
    return lib.ones((1,) * rank, dtype=kind)


def letter(compute):
    """The letter of the dtype of a result, or `!`."""
    try:
        result = compute()
    except Exception:
        return "!"
    name = str(result.dtype).rpartition(".")[2]
    return {v: k for k, v in DTYPES.items()}[name]


def table(lib):
    """{operation: letters}."""
    rows = {}
    for name, function in OPERATORS.items():
        rows[name] = function
    for name in BINARY:
        rows[name] = getattr(lib, name)
    found = {}
    for name, function in rows.items():
        letters = []
        for left, right in product(OPERANDS, OPERANDS):
            if left[1] is None and right[1] is None:
                letters.append(".")
                continue
            a, b = operand(lib, *left), operand(lib, *right)
            letters.append(letter(lambda: function(a, b)))  # noqa: B023  called at once
        found[name] = "".join(letters)
    for name in UNARY:
        function = getattr(lib, name)
        args = (0,) if name in WITH_DIM else ()
        found[name] = "".join(
            letter(lambda: function(operand(lib, d, 1), *args))  # noqa: B023
            for d in DTYPES.values()
        )
    return found


if __name__ == "__main__":
    import torch

    lines = [f"{name} {letters}\n" for name, letters in table(torch).items()]
    Path(__file__).with_name("dtypes.txt").write_text("".join(lines))
