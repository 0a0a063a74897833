"""Compiling: once per process, once per machine, and never a wrong function."""

import ctypes
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lazygrad.errors import InternalError
from lazygrad.runtime.native import disk, image, jit
from lazygrad.runtime.native.driver import Command, Table
from lazygrad.runtime.native.jit import compile_functions, compile_units
from lazygrad.runtime.native.llvm import Function
from lazygrad.runtime.native.unit import Frame, Unit

ROOT = Path(__file__).parents[3]
CALL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
DOUBLE = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, and a process that knows nothing."""
    monkeypatch.setenv("LAZYGRAD_CACHE_DIR", str(tmp_path / "cache"))
    forget(monkeypatch)
    return tmp_path / "cache"


def adding(number: int, built: list[int] | None = None) -> Unit:
    """A unit that adds a number to the integers of a buffer."""

    def build(name: str) -> Function:
        if built is not None:
            built.append(number)
        frame = Frame(name, 1)
        f = frame.f
        data = frame.pointer(0)
        with f.loop(frame.lo, frame.hi) as i:
            x = f.load("i64", f.gep("i64", data, i))
            f.store(f.bin("add", x, f.const("i64", number)), f.gep("i64", data, i))
        return frame.finish()

    return Unit(("adding", number), build, (0,))


def added(address: int) -> int:
    """What such a unit adds."""
    data = np.zeros(1, np.int64)
    assert Table([Command(address, (1, 0))], 1).run(0, [data], 1) == 0
    return int(data[0])


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "_addresses", {})
    monkeypatch.setattr(jit, "_loaded", {})


# Units --------------------------------------------------------------------------------------------


def test_equal_keys_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    units = [adding(k % 5, built) for k in range(20)]
    found = compile_units(units)
    assert sorted(built) == [0, 1, 2, 3, 4]
    assert all(added(found[unit.key]) == unit.key[1] for unit in units)
    assert compile_units(units) == found and len(built) == 5
    forget(monkeypatch)  # another process
    again = compile_units(units)
    assert len(built) == 5
    assert all(added(again[unit.key]) == unit.key[1] for unit in units)
    compile_units([*units, adding(7, built)])
    assert built[5:] == [7]


def test_levels_are_different_code() -> None:
    unit = adding(3)
    (one,), (two,) = (compile_units([unit], level).values() for level in (0, 3))
    assert one != two and added(one) == added(two) == 3


def test_without_a_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAZYGRAD_CACHE_DIR", str(tmp_path / "file" / "below"))
    built: list[int] = []
    units = [adding(k, built) for k in range(3)]
    for times in (1, 2):
        for _ in range(2):
            found = compile_units(units)
            assert [added(a) for a in found.values()] == [0, 1, 2]
            assert len(built) == 3 * times
        forget(monkeypatch)


def test_damaged_entries_are_compiled_again(monkeypatch: pytest.MonkeyPatch, own: Path) -> None:
    built: list[int] = []
    unit = adding(4, built)
    compile_units([unit])
    for path in own.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    forget(monkeypatch)
    (address,) = compile_units([unit]).values()
    assert built == [4, 4] and added(address) == 4
    forget(monkeypatch)
    compile_units([unit])
    assert built == [4, 4]


def test_another_generator_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    compile_units([adding(4, built)])
    forget(monkeypatch)
    monkeypatch.setattr(jit, "generator", lambda: "of another version")
    compile_units([adding(4, built)])
    assert built == [4, 4]


def test_threads_compile_at_once() -> None:
    found: dict[int, int] = {}

    def compile_some(first: int) -> None:
        units = [adding(first + k) for k in range(4)]
        found.update((key[1], address) for key, address in compile_units(units).items())

    threads = [threading.Thread(target=compile_some, args=(3 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {k: added(address) for k, address in found.items()} == {k: k for k in range(13)}


@pytest.mark.parametrize("line", ["%x = add i64 %nowhere, 1", "nonsense", "ret i32 0"])
def test_refused_code_is_named(line: str, own: Path) -> None:
    def build(name: str) -> Function:
        frame = Frame(name, 0)
        frame.f.line(line)
        return frame.finish()

    bad = Unit(("bad", line), build, ())
    with pytest.raises(InternalError, match=r"LLVM refuses the code of .*bad"):
        compile_units([adding(1), bad, adding(2)])
    assert [added(a) for a in compile_units([adding(1), adding(2)]).values()] == [1, 2]


def test_a_function_that_does_not_exist() -> None:
    text = "declare void @no_such_function()\n"
    text += "define i64 @f(i64 %x) {\n call void @no_such_function()\n ret i64 %x\n}"
    with pytest.raises(InternalError, match="no_such_function"):
        compile_functions(text, ["f"])


def test_a_listing_has_text_and_assembly() -> None:
    text, assembly = jit.listing(adding(12345))
    assert "define" in text and "@lazygrad_" in text
    assert ".text" in assembly and "lazygrad_" in assembly


PROCESS = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from tests.runtime.native.units import command, pairs
from lazygrad.runtime.native.driver import Table
table = Table([command("sum", *pairs(1, 1, 1), rows=100, chunk=9, parallel=True)], 1)
found = np.zeros(100, np.int64)
assert table.run(0, [found], 2) == 0 and (found == 1).all()
print("llvmlite.binding" in sys.modules)
"""


def run_process() -> str:
    found = subprocess.run(
        [sys.executable, "-c", PROCESS], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert not found.returncode, found.stderr
    return found.stdout.strip()


@pytest.mark.skipif(not image.SUPPORTED, reason="code is linked by LLVM there")
def test_a_process_whose_code_is_on_disk_has_no_llvm(own: Path) -> None:
    assert [run_process() for _ in range(2)] == ["True", "False"]
    for path in own.iterdir():
        path.write_bytes(b"damaged")
    assert [run_process() for _ in range(2)] == ["True", "False"]


# Whatever a function refers to --------------------------------------------------------------------

CONSTANTS = """
@table = private unnamed_addr constant [4 x i64] [i64 5, i64 7, i64 11, i64 13]
define i64 @f(i64 %x) {
  %at = getelementptr [4 x i64], ptr @table, i64 0, i64 %x
  %found = load i64, ptr %at
  ret i64 %found
}
"""

SWITCH = """
define i64 @f(i64 %x) {
  switch i64 %x, label %other [
    i64 0, label %a
    i64 1, label %b
    i64 2, label %c
    i64 3, label %d
    i64 4, label %e
  ]
a:
  %p = call i64 @g(i64 %x)
  ret i64 %p
b:
  %q = mul i64 %x, 100
  ret i64 %q
c:
  ret i64 -5
d:
  %r = call i64 @labs(i64 -9)
  ret i64 %r
e:
  %s = xor i64 %x, 77
  ret i64 %s
other:
  ret i64 99
}
define internal i64 @g(i64 %x) noinline {
  %y = add i64 %x, 1234
  ret i64 %y
}
declare i64 @labs(i64)
"""

POINTERS = """
@both = private constant [2 x ptr] [ptr @g, ptr @h]
@number = private constant i64 41
define i64 @f(i64 %x) {
  %at = getelementptr [2 x ptr], ptr @both, i64 0, i64 %x
  %function = load ptr, ptr %at
  %found = call i64 %function(i64 %x)
  ret i64 %found
}
define internal i64 @g(i64 %x) noinline {
  %n = load volatile i64, ptr @number
  ret i64 %n
}
define internal i64 @h(i64 %x) noinline { ret i64 8 }
"""

EXTERNAL_POINTER = """
declare i64 @labs(i64)
define i64 @f(i64 %x) {
  %at = alloca ptr
  store volatile ptr @labs, ptr %at
  %function = load volatile ptr, ptr %at
  %found = call i64 %function(i64 %x)
  ret i64 %found
}
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (CONSTANTS, {0: 5, 1: 7, 2: 11, 3: 13}),
        (SWITCH, {0: 1234, 1: 100, 2: -5, 3: 9, 4: 73, 5: 99}),
        (POINTERS, {0: 41, 1: 8}),
        (EXTERNAL_POINTER, {-3: 3, 4: 4}),
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_references(text: str, wanted: dict[int, int], times: int) -> None:
    for _ in range(times):  # compiled, then from disk
        (address,) = compile_functions(text, ["f"])
    assert {x: CALL(address)(x) for x in wanted} == wanted


def test_functions_of_the_mathematical_library() -> None:
    text = "declare double @sin(double)\n"
    text += "define double @f(double %x) {\n %y = call double @sin(double %x)\n"
    text += " %z = fmul double %y, 3.0\n ret double %z\n}"
    (address,) = compile_functions(text, ["f"])
    assert DOUBLE(address)(1.5) == np.sin(1.5) * 3


@pytest.mark.skipif(not image.SUPPORTED, reason="code is linked by LLVM there")
def test_code_has_no_state() -> None:
    text = "@n = internal global i64 3\n"
    text += "define i64 @f(i64 %x) {\n %old = load i64, ptr @n\n store i64 %x, ptr @n\n"
    text += " ret i64 %old\n}"
    with pytest.raises(InternalError, match="writes into"):
        compile_functions(text, ["f"])


@pytest.mark.parametrize("function", [compile_functions])
def test_linking_through_llvm(
    monkeypatch: pytest.MonkeyPatch, function: Callable[..., list[int]]
) -> None:
    """Where the object file's format is not known."""
    monkeypatch.setattr(image, "SUPPORTED", False)
    for _ in range(2):
        (address,) = function(SWITCH + "; linked", ["f"])
        assert [CALL(address)(x) for x in (0, 3)] == [1234, 9]
    units = [adding(k) for k in range(3)]
    assert [added(a) for a in compile_units(units).values()] == [0, 1, 2]


def test_an_image_that_is_none() -> None:
    for data in (b"", b"{}\n", b"[1, 2]\nx", b"\xff"):
        with pytest.raises((ValueError, TypeError)):
            image.Image.unpack(data)
    with pytest.raises(InternalError, match="object file"):
        image.extract(b"\x7fELF\x01\x01" + bytes(100), "f")
    assert image.load([]) == [] and disk.cache().info()[0] == 0
