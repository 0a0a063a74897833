"""Configurations drawn at random: output and gradients of layers with many settings.

Each tensor is kept as its inner products with three fixed random ones.
"""

import numpy as np

KINDS = (
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "max_pool1d",
    "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d",
    "unfold", "pad", "interpolate",
)  # fmt: skip
DRAWS = 12


def _pick(rng, *choices):
    return choices[rng.integers(len(choices))]


def _each(rng, count, low, high):
    return tuple(int(n) for n in rng.integers(low, high, count))


def _conv(rng, dims, transposed):
    groups = _pick(rng, 1, 1, 2, 3)
    inside, outside = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    kernel, stride = _each(rng, dims, 1, 4), _each(rng, dims, 1, 3)
    dilation, padding = _each(rng, dims, 1, 3), _each(rng, dims, 0, 2 if transposed else 3)
    least = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    shape = [n + int(rng.integers(0, 4)) for n in least]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if transposed:
        shape = [n + 2 for n in shape]
        pairs = zip(stride, dilation, strict=True)
        options["output_padding"] = tuple(int(rng.integers(max(pair))) for pair in pairs)
        weight = (inside, outside // groups, *kernel)
    else:
        weight = (outside, inside // groups, *kernel)
        if rng.random() < 0.3:
            options |= {"padding": "same", "stride": (1,) * dims}
    return [(2, inside, *shape), weight, (outside,)], options


def _pool(rng, dims, average):
    kernel, stride = _each(rng, dims, 1, 4), _each(rng, dims, 1, 4)
    padding = tuple(int(rng.integers(k // 2 + 1)) for k in kernel)
    dilation = (1,) * dims if average else _each(rng, dims, 1, 3)
    shape = [
        d * (k - 1) + 1 + int(rng.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True)
    ]
    options = {
        "kernel_size": kernel, "stride": stride, "padding": padding,
        "ceil_mode": bool(rng.integers(2)),
    }  # fmt: skip
    if average:
        options["count_include_pad"] = bool(rng.integers(2))
    else:
        options["dilation"] = dilation
    return [(2, 2, *shape)], options


def _adaptive(rng):
    return [(1, 2, *_each(rng, 2, 1, 8))], {"output_size": _each(rng, 2, 1, 6)}


def _unfold(rng):
    kernel, dilation = _each(rng, 2, 1, 4), _each(rng, 2, 1, 3)
    shape = [
        d * (k - 1) + 1 + int(rng.integers(0, 3)) for k, d in zip(kernel, dilation, strict=True)
    ]
    options = {
        "kernel_size": kernel, "dilation": dilation, "stride": _each(rng, 2, 1, 3),
        "padding": _each(rng, 2, 0, 2),
    }  # fmt: skip
    return [(2, 2, *shape)], options


def _pad(rng):
    return [(1, 2, *_each(rng, 2, 3, 6))], {
        "pad": _each(rng, 4, 0, 3),
        "mode": _pick(rng, "constant", "reflect", "replicate", "circular"),
    }


def _interpolate(rng):
    shape = (1, 2, *_each(rng, 2, 2, 6))
    mode = _pick(rng, "nearest", "nearest-exact", "bilinear", "bilinear")
    options = {"mode": mode}
    if mode == "bilinear":
        options["align_corners"] = bool(rng.integers(2))
    if rng.integers(2):
        options["size"] = _each(rng, 2, 1, 9)
    else:
        options["scale_factor"] = tuple(float(_pick(rng, 0.5, 1.0, 1.5, 2.0, 3.0)) for _ in "hw")
    return [shape], options


def draw(kind, i):
    """The shapes of the operands and the settings of draw `i`."""
    rng = np.random.default_rng([KINDS.index(kind), i])
    if kind.startswith("conv"):
        return _conv(rng, int(kind[-2]), "transpose" in kind)
    if kind.startswith(("max", "avg")):
        return _pool(rng, int(kind[-2]), kind.startswith("avg"))
    return {"unfold": _unfold, "pad": _pad, "interpolate": _interpolate}.get(kind, _adaptive)(rng)


def _projected(array, rng):
    return [float((array * rng.normal(size=array.shape)).sum()) for _ in range(3)]


def run_draws(lib, kind):
    """Projections of output and gradients, a row for each tensor of each draw."""
    rows = []
    for i in range(DRAWS):
        shapes, options = draw(kind, i)
        rng = np.random.default_rng(i)
        operands = [lib.tensor(rng.normal(size=s), requires_grad=True) for s in shapes]
        y = getattr(lib.nn.functional, kind)(*operands, **options)
        (y * lib.tensor(rng.normal(size=tuple(y.shape)))).sum().backward()
        for t in (y.detach(), *(x.grad for x in operands)):
            rows.append([*_projected(t.numpy(), rng), float(np.prod(t.shape))])
    return {"rows": np.array(rows)}


RUNS = {f"drawn/{kind}": (run_draws, kind) for kind in KINDS}
