"""Kernels that break the rules of the IR are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lazygrad.dtypes import bool_, float32, float64, int64
from lazygrad.errors import InternalError
from lazygrad.ops.opdef import get_op
from lazygrad.ops.scalar_math import Instr
from lazygrad.runtime import kernel_verify
from lazygrad.runtime.kernel import Access, Body, Extern, Kernel, Map, Store
from lazygrad.runtime.kernel_verify import verify_kernel
from tests.runtime.building import Build


def refused(k: Build | Kernel, text: str) -> None:
    with pytest.raises(InternalError, match=text):
        verify_kernel(k.kernel() if isinstance(k, Build) else k)


def copy_kernel(load: Access, store: Access, chunk: int = 1, mode: str = "out") -> Build:
    """Rows 4 of 5 elements from one buffer to another (or the same)."""
    k = Build(4, chunk)
    x, y = k.param((20,), "inout"), k.param((20,), mode)
    k.map((4, 5), [(load, float32)], [(store, float32)])
    assert x.number == 0 and y.number == 1
    return k


def test_a_sound_kernel_passes() -> None:
    verify_kernel(copy_kernel(Access(0, (5, 1)), Access(1, (5, 1))).kernel())


@pytest.mark.parametrize(
    ("load", "store", "text"),
    [
        (Access(0, (5, 1), 1), Access(1, (5, 1)), "elements 1..20 of buffer 0 with 20 elements"),
        (Access(0, (5, 1)), Access(1, (5, -1)), "elements -4..15 of buffer 1"),
        (Access(0, (5, 1)), Access(2, (5, 1)), "buffer 2 does not exist"),
        (Access(0, (5,)), Access(1, (5, 1)), "strides"),
        (Access(0, (5, 1)), Access(1, (5, 0)), "several points store"),
        (Access(0, (5, 1)), Access(1, (4, 1)), "several points store|two chunks store"),
        (Access(0, (5, 0), 4), Access(0, (5, 1)), "a point loads from buffer 0"),
        (Access(0, (-5, 1), 15), Access(0, (5, 1)), "what another chunk stores"),
    ],
)
def test_accesses(load: Access, store: Access, text: str) -> None:
    refused(copy_kernel(load, store), text)


def test_an_input_is_read_only() -> None:
    refused(copy_kernel(Access(0, (5, 1)), Access(1, (5, 1)), mode="in"), "read only")


def test_in_place_across_stages() -> None:
    """One chunk's second stage must not overwrite what another's first stage loads."""
    for chunk, sound in ((1, False), (4, True)):
        k = Build(4, chunk)
        x, y = k.param((4, 5), "inout"), k.param((4, 5), "out")
        k.map((4, 5), [x.at((-5, 1), 15)], [y.at()])
        k.map((4, 5), [y.at()], [x.at()])
        if sound:
            verify_kernel(k.kernel())
        else:
            refused(k, "what another chunk stores")


def test_large_kernels_are_checked_by_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_verify, "EXACT", 0)
    verify_kernel(copy_kernel(Access(0, (5, 1)), Access(0, (5, 1))).kernel())
    refused(copy_kernel(Access(0, (-5, 1), 15), Access(0, (5, 1))), "other rows")
    k = Build(4, 2)
    s = k.scratch((5,))
    k.map((4, 5), [s.at()], [s.at()])
    refused(k, "read before it is written")


def test_scratch_is_written_before_it_is_read() -> None:
    k = Build(4, 2)
    out = k.param((4, 5), "out")
    s = k.scratch((5,))
    k.map((4, 4), [], [s.at((5, 1))], lambda m: m.emit(Instr("const", (), float32, 0.0)))
    k.map((4, 5), [s.at()], [out.at()])
    refused(k, "reads buffer 1 before it is written")


def test_an_output_is_no_input() -> None:
    k = Build(4)
    out = k.param((4,), "out")
    k.map((4,), [out.at()], [out.at()], lambda m, x: m.exp(x))
    refused(k, "reads buffer 0 before it is written")


def body(*instrs: Instr) -> Kernel:
    """A map whose body is written by hand."""
    k = Build(4)
    k.param((4,)), k.param((4,), "out")
    words = Body((Access(0, (1,)),), (float32,), instrs)
    stage = Map((4,), words, (Store(Access(1, (1,)), len(instrs)),))
    return replace(k.kernel(), stages=(stage,))


@pytest.mark.parametrize(
    ("instrs", "text"),
    [
        ((Instr("exp", (1,), float32),), "not there yet"),
        ((Instr("exp", (0,), float64),), "gives lazygrad.float32, not lazygrad.float64"),
        ((Instr("lt", (0, 0), float32),), "gives lazygrad.bool"),
        ((Instr("add", (0,), float32),), "add with 1 operands"),
        ((Instr("frobnicate", (0,), float32),), "no word 'frobnicate'"),
        ((Instr("where", (0, 0, 0), float32),), "where chooses by"),
        ((Instr("index", (), int64, 1), Instr("cast", (1,), float32)), "no axis 1"),
        ((Instr("cast", (0,), float64),), "lazygrad.float64 is stored to buffer 1"),
        (
            (Instr("const", (), float64, 1.0), Instr("add", (0, 1), float32)),
            "operands of different dtypes",
        ),
    ],
)
def test_bodies(instrs: tuple[Instr, ...], text: str) -> None:
    refused(body(*instrs), text)


def test_loads_have_the_dtype_of_their_buffer() -> None:
    k = Build(4)
    k.param((4,)), k.param((4,), "out")
    k.map((4,), [(Access(0, (1,)), float64)], [(Access(1, (1,)), float32)])
    refused(k, "lazygrad.float64 is loaded from buffer 0")


def test_indices() -> None:
    k = Build(4)
    x, i, out = k.param((9,)), k.param((4,), dtype=int64), k.param((4,), "out")
    gather = x.at((0,), index=0, index_stride=1, index_extent=9)
    k.map((4,), [i.at(), gather], [out.at()])
    verify_kernel(k.kernel())
    k.stages.clear()
    k.map((4,), [i.at(), x.at((0,), index=0, index_stride=1, index_extent=10)], [out.at()])
    refused(k, "elements 0..9 of buffer 0 with 9")
    k.stages.clear()
    k.map((4,), [x.at((1,)), gather], [out.at()])
    refused(k, "no integer loaded before")
    k.stages.clear()
    k.map((4,), [i.at(), x.at((1,))], [out.at((0,), index=0, index_stride=1, index_extent=4)])
    refused(k, "a store through an index")


def test_grids() -> None:
    k = Build(4, 2)
    x, out = k.param((4, 4)), k.param((4, 4), "out")
    k.map((2, 4), [x.at()], [out.at()])
    refused(k, "does not begin with the grid's 4 rows")
    k.stages.clear()
    k.contract((), (4, 4, 4), x.at(), x.at(), [out.at()])
    refused(k, "has not the grid's 4 rows")
    k.stages.clear()
    access = x.at()[0], (4, 4), float32
    k.stages.append(Extern(get_op("exp"), (), (access,), (out.at()[0], (4, 4), float32)))
    refused(k, "cannot be cut")


def test_reductions() -> None:
    k = Build(4)
    x, out, at = k.param((4, 4)), k.param((4,), "out"), k.param((4,), "out", bool_)
    k.reduce((4, 4), (1,), "add", [x.at()], out.at((1, 1)))
    refused(k, "moves along a reduced axis")
    k.stages.clear()
    k.reduce((4, 4), (1, 1), "add", [x.at()], out.over(0, None))
    refused(k, "axes")
    k.stages.clear()
    k.reduce((4, 4), (1,), "argmax", [x.at()], at.over(0, None))
    refused(k, "positions are int64")
