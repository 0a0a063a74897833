"""Small units whose only purpose is to be run."""

from lazygrad.runtime.native import jit
from lazygrad.runtime.native.driver import Command
from lazygrad.runtime.native.llvm import Function
from lazygrad.runtime.native.unit import Frame, Unit


def _sum(name: str) -> Function:
    """out[i] = a[i] + b[i] + 1 for the rows of a chunk."""
    frame = Frame(name, 3)
    f = frame.f
    out, a, b = (frame.pointer(k) for k in range(3))
    with f.loop(frame.lo, frame.hi) as i:
        x, y = f.load("i64", f.gep("i64", a, i)), f.load("i64", f.gep("i64", b, i))
        total = f.bin("add", f.bin("add", x, y), f.const("i64", 1))
        f.store(total, f.gep("i64", out, i))
    return frame.finish()


def _mean(name: str) -> Function:
    """out[0] += the wrapped sum of a[0..rows): a serial command."""
    frame = Frame(name, 2)
    f = frame.f
    out, a = frame.pointer(0), frame.pointer(1)
    with f.loop(frame.lo, frame.hi) as i:
        x, y = f.load("i64", out), f.load("i64", f.gep("i64", a, i))
        f.store(f.bin("add", x, y), out)
    return frame.finish()


def _check(name: str) -> Function:
    """Mark the chunk in out; the code of a chunk is the word of that number."""
    frame = Frame(name, 1)
    f = frame.f
    out = frame.pointer(0)
    f.store(f.const("i64", 1), f.gep("i64", out, frame.chunk))
    f.ret(f.load("i64", f.gep("i64", frame.args, f.add(frame.chunk, 2))))
    return f


def _scratch(name: str) -> Function:
    """Write the chunk's number all over the own memory, wait, see whether it is still there."""
    frame = Frame(name, 1)
    f = frame.f
    out = frame.pointer(0)
    with f.loop(0, 8) as i:
        f.store(frame.chunk, f.gep("i64", frame.local, i))
    waited = f.variable("i64", f.const("i64", 0))
    with f.loop(0, 300) as i:
        f.line(f"store volatile {i}, ptr {waited.text}")
    same = f.variable("i64", f.const("i64", 1))
    with f.loop(0, 8) as i:
        at = f.gep("i64", frame.local, i)
        found = f.emit(f"load volatile i64, {at}", "i64")
        equal = f.convert("zext", f.cmp("icmp eq", found, frame.chunk), "i64")
        f.store(f.bin("and", f.load("i64", same), equal), same)
    f.store(f.load("i64", same), f.gep("i64", out, frame.chunk))
    return frame.finish()


def _halve(name: str) -> Function:
    """out[i] = a[i] / 2 in float32."""
    frame = Frame(name, 2)
    f = frame.f
    out, a = frame.pointer(0), frame.pointer(1)
    with f.loop(frame.lo, frame.hi) as i:
        x = f.load("float", f.gep("float", a, i))
        f.store(f.bin("fmul", x, f.const("float", 0.5)), f.gep("float", out, i))
    return frame.finish()


UNITS = {
    word: Unit(("test", word), build, buffers)
    for word, build, buffers in (
        ("sum", _sum, (0, 1, 2)),
        ("mean", _mean, (0, 1)),
        ("check", _check, (0,)),
        ("scratch", _scratch, (0,)),
        ("halve", _halve, (0, 1)),
    )
}


def command(word: str, *args: int, **fields: int) -> Command:
    """A command of one of the units; `args` are its words."""
    address = jit.compile_units(UNITS.values())[UNITS[word].key]
    return Command(address, args, **fields)  # type: ignore[arg-type]


def pairs(*slots: int) -> tuple[int, ...]:
    """The words of buffers that begin where the slot does."""
    return tuple(word for slot in slots for word in (slot, 0))
