"""A kernel as text, the way people write loops down."""

from __future__ import annotations

from lazygrad.ops.scalar_math import Instr
from lazygrad.runtime.kernel import (
    Access,
    Body,
    Contract,
    Extern,
    Kernel,
    Map,
    Reduce,
    Stage,
    Store,
)  # fmt: skip
from lazygrad.shapes import Shape

_AXES = "ijklmnopqrstuvwxyz"


def format_kernel(kernel: Kernel) -> str:
    """A readable listing: parameters, scratch, grid, stages.

    >>> from lazygrad.dtypes import float32
    >>> from lazygrad.runtime.kernel import Grid, Param
    >>> x = Access(0, (4, 1))
    >>> body = Body((x,), (float32,), (Instr("exp", (0,), float32),))
    >>> stage = Map((2, 4), body, (Store(x, 1),))
    >>> print(format_kernel(Kernel("e", (Param(float32, 8, "inout"),), (), Grid(2, 2), (stage,))))
    kernel e(inout p0: float32[8])
      rows 2
      map i<2 j<4
        v0 = p0[4i + j]
        v1 = exp(v0)
        p0[4i + j] = v1
    """
    params = ", ".join(
        f"{p.mode} p{i}: {p.dtype.name}[{p.size}]" for i, p in enumerate(kernel.params)
    )
    chunks = len(kernel.grid.borders())
    cut = f" in {chunks} chunks of {kernel.grid.chunk}" if chunks > 1 else ""
    lines = [f"kernel {kernel.name}({params})", f"  rows {kernel.grid.rows}{cut}"]
    for i, s in enumerate(kernel.scratch):
        size = f"[{s.size}] shared" if s.shared else f"[{s.row_size}] a row"
        lines.append(f"  scratch s{i}: {s.dtype.name}{size}")
    for stage in kernel.stages:
        lines += ["  " + line for line in _stage(kernel, stage)]
    if kernel.finish:
        lines.append("  finish")
        for stage in kernel.finish:
            lines += ["    " + line for line in _stage(kernel, stage)]
    return "\n".join(lines)


def _stage(kernel: Kernel, stage: Stage) -> list[str]:
    match stage:
        case Map():
            lines = [f"map {_domain(stage.domain)}", *_body(kernel, stage.body)]
            return lines + _stores(kernel, stage.stores)
        case Reduce():
            over = ", ".join(_AXES[a] for a in stage.axes)
            target = _access(kernel, stage.store)
            return [
                f"reduce {_domain(stage.domain)}",
                *_body(kernel, stage.body),
                f"  {target} = {stage.combine}[{over}] v{stage.value} as {stage.dtype.name}",
            ]
        case Contract():
            return _contract(kernel, stage)
        case Extern():
            inputs = ", ".join(f"{_access(kernel, a)}{s}" for a, s, _ in stage.inputs)
            access, shape, _ = stage.output
            attrs = "".join(f", {k}={v!r}" for k, v in stage.attrs)
            return [f"{_access(kernel, access)}{shape} = {stage.op.name}({inputs}{attrs})"]


def _contract(kernel: Kernel, stage: Contract) -> list[str]:
    batch = f"batch {stage.batch}, " if stage.batch else ""
    cut = f", rows along {stage.grid}" if stage.grid else ""
    lines = [f"contract {batch}m {stage.m}, n {stage.n}, k {stage.k} in {stage.dtype.name}{cut}"]
    for name, body in (("a", stage.a), ("b", stage.b)):
        lines.append(f"  {name}:")
        lines += ["  " + line for line in _body(kernel, body)]
    lines.append("  epilogue, v0 = sum:")
    lines += ["  " + line for line in _body(kernel, stage.epilogue, 1)]
    return lines + ["  " + line for line in _stores(kernel, stage.stores)]


def _domain(domain: Shape) -> str:
    return " ".join(f"{_AXES[i]}<{n}" for i, n in enumerate(domain)) or "once"


def _body(kernel: Kernel, body: Body, first: int = 0) -> list[str]:
    lines = [f"  v{first + i} = {_access(kernel, a)}" for i, a in enumerate(body.loads)]
    start = first + len(body.loads)
    return lines + [f"  v{start + i} = {_instr(instr)}" for i, instr in enumerate(body.instrs)]


def _instr(instr: Instr) -> str:
    if instr.word == "const":
        return f"{instr.dtype.name} {instr.value!r}"
    if instr.word == "index":
        return f"{instr.dtype.name} {_AXES[int(instr.value or 0)]}"
    args = ", ".join(f"v{a}" for a in instr.args)
    return f"{instr.word}({args}{f', {instr.dtype.name}' if instr.word == 'cast' else ''})"


def _stores(kernel: Kernel, stores: tuple[Store, ...]) -> list[str]:
    return [f"  {_access(kernel, s.access)} = v{s.value}" for s in stores]


def _access(kernel: Kernel, access: Access) -> str:
    inputs = len(kernel.params)
    number = access.buffer
    name = f"p{number}" if number < inputs else f"s{number - inputs}"
    terms = [
        f"{'' if s == 1 else '-' if s == -1 else s}{_AXES[i]}"
        for i, s in enumerate(access.strides)
        if s
    ]
    if access.split:
        pieces = "; ".join(" ".join(map(str, part)) for part in access.split)
        terms = [f"pieces {pieces}, strides {' '.join(map(str, access.strides))}"]
    if access.index is not None:
        step = "" if access.index_stride == 1 else access.index_stride
        terms.append(f"{step}v{access.index}")
    if access.chunk_stride:
        terms.append(f"{access.chunk_stride}chunk")
    if access.offset or not terms:
        terms.append(str(access.offset))
    return f"{name}[{' + '.join(terms).replace('+ -', '- ')}]"
