"""A writer of LLVM's textual IR: typed values, functions, counted loops.

Text needs no object per instruction, is what `config.debug = 4` prints, and is all that the
compiler reads. Loop-carried values are stack slots (`variable`), which LLVM's `sroa` pass turns
into registers. No fast-math flag is ever written: rounding belongs to the op.

>>> f = Function("twice", [("ptr", "p"), ("i64", "n")], "i64")
>>> p, n = f.params
>>> with f.loop(0, n) as i:
...     at = f.gep("float", p, i)
...     x = f.load("float", at)
...     f.store(f.op("fadd float", x, x), at)
>>> f.ret(f.const("i64", 0))
>>> "fadd float" in f.text()
True
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple


class Value(NamedTuple):
    """A value: its text (a register or a literal) and its type."""

    text: str
    type: str

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


Index = Value | int  # a position or an extent: known now, or a register of type i64


def vector(element: str, lanes: int) -> str:
    """The type of `lanes` elements; of one, the element itself.

    >>> vector("float", 16), vector("float", 1)
    ('<16 x float>', 'float')
    """
    return f"<{lanes} x {element}>" if lanes > 1 else element


def element_of(type_: str) -> str:
    """The element type of a vector, or a scalar type itself."""
    return type_[1:-1].split(" x ")[1] if type_.startswith("<") else type_


def lanes_of(type_: str) -> int:
    """How many elements a type has."""
    return int(type_[1:].split(" x ")[0]) if type_.startswith("<") else 1


def literal(element: str, value: float | int | bool) -> str:
    """A scalar constant as LLVM writes it: floats by their bits.

    >>> literal("float", 0.5), literal("i32", -3), literal("i1", True)
    ('0x3FE0000000000000', '-3', 'true')
    """
    if element in ("float", "double"):
        if element == "float":
            value = struct.unpack("f", struct.pack("f", value))[0]
        return f"0x{struct.unpack('Q', struct.pack('d', value))[0]:016X}"
    if element == "half":
        return f"0xH{struct.unpack('H', struct.pack('e', value))[0]:04X}"
    if element == "i1":
        return "true" if value else "false"
    return str(int(value))


class Function:
    """One function under construction; instructions go to the end of the current block."""

    def __init__(
        self,
        name: str,
        params: Sequence[tuple[str, str]],
        result: str = "void",
        attributes: str = "nounwind",
        internal: bool = False,
    ) -> None:
        self.name = name
        self.result = result
        self.params = [Value(f"%{n}", t) for t, n in params]
        self._head = ", ".join(f"{t} %{n}" for t, n in params)
        self._attributes = attributes
        self._linkage = "internal " if internal else ""
        self._slots: list[str] = []  # stack slots, all in the entry block
        self._lines: list[str] = []
        self._count = 0
        self.declared: dict[str, None] = {}  # declarations that the module needs
        self.internals: dict[str, Function] = {}  # functions that it calls, of the same module

    # instructions ---------------------------------------------------------------------------

    def fresh(self, hint: str = "") -> str:
        """A new register name."""
        self._count += 1
        return f"%{hint or 'v'}{self._count}"

    def line(self, text: str) -> None:
        """Append an instruction without result."""
        self._lines.append("  " + text)

    def emit(self, text: str, type_: str) -> Value:
        """Append an instruction; its result has the given type."""
        name = self.fresh()
        self._lines.append(f"  {name} = {text}")
        return Value(name, type_)

    def op(self, word: str, *operands: Value) -> Value:
        """`op("fadd float", x, y)`: an instruction whose result has the type that it names."""
        type_ = word.split(" ", 1)[1] if " " in word else operands[0].type
        text = word if " " in word else f"{word} {type_}"
        return self.emit(f"{text} {', '.join(o.text for o in operands)}", type_)

    def bin(self, word: str, x: Value, y: Value) -> Value:
        """A binary instruction in the type of its first operand: `bin("fmul", x, y)`."""
        return self.emit(f"{word} {x.type} {x.text}, {y.text}", x.type)

    def cmp(self, predicate: str, x: Value, y: Value) -> Value:
        """A comparison: `cmp("icmp slt", x, y)`; gives i1 or a vector of i1."""
        return self.emit(f"{predicate} {x.type} {x.text}, {y.text}", vector("i1", lanes_of(x.type)))

    def select(self, c: Value, x: Value, y: Value) -> Value:
        """`x` where `c` holds, else `y`."""
        return self.emit(f"select {c}, {x}, {y}", x.type)

    def convert(self, word: str, x: Value, type_: str) -> Value:
        """A conversion: `convert("fpext", x, "double")`."""
        return self.emit(f"{word} {x} to {type_}", type_)

    def call(self, name: str, result: str, *operands: Value) -> Value:
        """Call a function by its symbol (with @); it is declared in the module."""
        types = ", ".join(o.type for o in operands)
        self.declared[f"declare {result} {name}({types})"] = None
        text = f"call {result} {name}({', '.join(str(o) for o in operands)})"
        if result == "void":
            self.line(text)
            return Value("", "void")
        return self.emit(text, result)

    def call_internal(self, function: Function, *operands: Value) -> Value:
        """Call a function that is written into the same module."""
        self.internals[function.name] = function
        text = f"call {function.result} @{function.name}({', '.join(str(o) for o in operands)})"
        if function.result == "void":
            self.line(text)
            return Value("", "void")
        return self.emit(text, function.result)

    def intrinsic(self, name: str, *operands: Value) -> Value:
        """An LLVM intrinsic overloaded on its first operand: `intrinsic("fma", x, y, z)`."""
        type_ = operands[0].type
        lanes, element = lanes_of(type_), element_of(type_)
        short = {"float": "f32", "double": "f64", "half": "f16"}.get(element, element)
        suffix = f"v{lanes}{short}" if lanes > 1 else short
        return self.call(f"@llvm.{name}.{suffix}", type_, *operands)

    def const(self, type_: str, value: float | int | bool) -> Value:
        """A constant, in every lane of a vector."""
        element = element_of(type_)
        text = literal(element, value)
        return Value(f"splat ({element} {text})" if type_.startswith("<") else text, type_)

    def splat(self, x: Value, lanes: int) -> Value:
        """A scalar in every lane."""
        if lanes == 1:
            return x
        type_ = vector(x.type, lanes)
        first = self.emit(f"insertelement {type_} poison, {x}, i64 0", type_)
        zeros = f"<{lanes} x i32> zeroinitializer"
        return self.emit(f"shufflevector {first}, {type_} poison, {zeros}", type_)

    def lane(self, x: Value, at: int) -> Value:
        """One element of a vector."""
        return self.emit(f"extractelement {x}, i64 {at}", element_of(x.type))

    def insert(self, x: Value, element: Value, at: int) -> Value:
        """A vector with one element replaced."""
        return self.emit(f"insertelement {x}, {element}, i64 {at}", x.type)

    def steps(self, lanes: int, type_: str = "i64") -> Value:
        """The vector 0, 1, 2, ..."""
        items = ", ".join(f"{type_} {k}" for k in range(lanes))
        return Value(f"<{items}>" if lanes > 1 else "0", vector(type_, lanes))

    # memory ---------------------------------------------------------------------------------

    def gep(self, element: str, base: Value, index: Index) -> Value:
        """The address of an element."""
        if isinstance(index, int) and index == 0:
            return base
        return self.emit(f"getelementptr {element}, {base}, {self.i64(index)}", "ptr")

    def load(self, type_: str, at: Value, align: int = 0) -> Value:
        """Load; `align` in bytes (0: that of the element)."""
        return self.emit(f"load {type_}, {at}, align {align or _align(type_)}", type_)

    def store(self, x: Value, at: Value, align: int = 0) -> None:
        """Store; `align` in bytes (0: that of the element)."""
        self.line(f"store {x}, {at}, align {align or _align(x.type)}")

    def masked_load(self, type_: str, at: Value, mask: Value) -> Value:
        """Load the lanes where `mask` holds; the others are 0."""
        suffix = _overload(type_)
        name = f"@llvm.masked.load.{suffix}.p0"
        self.declared[f"declare {type_} {name}(ptr, i32 immarg, {mask.type}, {type_})"] = None
        align = _align(type_)
        return self.emit(
            f"call {type_} {name}({at}, i32 {align}, {mask}, {type_} zeroinitializer)", type_
        )

    def masked_store(self, x: Value, at: Value, mask: Value) -> None:
        """Store the lanes where `mask` holds."""
        name = f"@llvm.masked.store.{_overload(x.type)}.p0"
        self.declared[f"declare void {name}({x.type}, ptr, i32 immarg, {mask.type})"] = None
        self.line(f"call void {name}({x}, {at}, i32 {_align(x.type)}, {mask})")

    def prefetch(self, at: Value, locality: int = 3, write: bool = False) -> None:
        """A hint that the cache line at an address is needed soon; 3: by the first level."""
        name = "@llvm.prefetch.p0"
        self.declared[f"declare void {name}(ptr, i32 immarg, i32 immarg, i32 immarg)"] = None
        self.line(f"call void {name}({at}, i32 {int(write)}, i32 {locality}, i32 1)")

    def variable(self, type_: str, value: Value | None = None) -> Value:
        """A stack slot for a loop-carried value; read with `load`, written with `store`."""
        name = self.fresh("slot")
        self._slots.append(f"  {name} = alloca {type_}")
        slot = Value(name, "ptr")
        if value is not None:
            self.line(f"store {value}, ptr {name}")
        return slot

    def stack(self, nbytes: int, align: int = 64) -> Value:
        """Bytes on the stack."""
        name = self.fresh("stack")
        self._slots.append(f"  {name} = alloca [{nbytes} x i8], align {align}")
        return Value(name, "ptr")

    # integers of positions and extents ----------------------------------------------------------

    def i64(self, x: Index) -> Value:
        """A position or extent as an i64 value."""
        return x if isinstance(x, Value) else Value(str(x), "i64")

    def add(self, x: Index, y: Index) -> Index:
        """X + y, folded where known."""
        if isinstance(x, int) and isinstance(y, int):
            return x + y
        if y == 0 or x == 0:
            return x if y == 0 else y
        return self.emit(f"add nsw i64 {self.i64(x).text}, {self.i64(y).text}", "i64")

    def sub(self, x: Index, y: Index) -> Index:
        """X - y, folded where known."""
        if isinstance(x, int) and isinstance(y, int):
            return x - y
        if y == 0:
            return x
        return self.emit(f"sub nsw i64 {self.i64(x).text}, {self.i64(y).text}", "i64")

    def mul(self, x: Index, y: Index) -> Index:
        """X * y, folded where known."""
        if isinstance(x, int) and isinstance(y, int):
            return x * y
        if x == 0 or y == 0:
            return 0
        if x == 1 or y == 1:
            return y if x == 1 else x
        return self.emit(f"mul nsw i64 {self.i64(x).text}, {self.i64(y).text}", "i64")

    def div(self, x: Index, y: Index) -> Index:
        """X / y for x, y >= 0, folded where known."""
        if isinstance(x, int) and isinstance(y, int):
            return x // y
        if y == 1:
            return x
        return self.emit(f"udiv i64 {self.i64(x).text}, {self.i64(y).text}", "i64")

    def rem(self, x: Index, y: Index) -> Index:
        """X % y for x, y >= 0, folded where known."""
        if isinstance(x, int) and isinstance(y, int):
            return x % y
        if y == 1:
            return 0
        return self.emit(f"urem i64 {self.i64(x).text}, {self.i64(y).text}", "i64")

    def min(self, x: Index, y: Index) -> Index:
        """The smaller of two positions."""
        if isinstance(x, int) and isinstance(y, int):
            return min(x, y)
        return self.intrinsic("smin", self.i64(x), self.i64(y))

    # control --------------------------------------------------------------------------------

    def label(self, hint: str) -> str:
        """A new block name."""
        self._count += 1
        return f"{hint}{self._count}"

    def block(self, label: str) -> None:
        """Begin a block; the one before must have ended."""
        self._lines.append(f"{label}:")

    def branch(self, label: str) -> None:
        """Go to a block."""
        self.line(f"br label %{label}")

    def branch_if(self, c: Value, then: str, other: str) -> None:
        """Go to one of two blocks."""
        self.line(f"br i1 {c.text}, label %{then}, label %{other}")

    @contextmanager
    def loop(self, start: Index, stop: Index, step: Index = 1) -> Iterator[Value]:
        """The body runs for start, start + step, ... while below stop; gives the counter."""
        counter = self.variable("i64", self.i64(start))
        head, body, done = self.label("loop"), self.label("body"), self.label("done")
        self.branch(head)
        self.block(head)
        i = self.load("i64", counter)
        self.branch_if(self.cmp("icmp slt", i, self.i64(stop)), body, done)
        self.block(body)
        yield i
        self.store(self.i64(self.add(i, step)), counter)
        self.branch(head)
        self.block(done)

    @contextmanager
    def when(self, c: Value) -> Iterator[None]:
        """The body runs where the condition holds."""
        then, done = self.label("then"), self.label("done")
        self.branch_if(c, then, done)
        self.block(then)
        yield
        self.branch(done)
        self.block(done)

    def ret(self, x: Value | None = None) -> None:
        """Return."""
        self.line("ret void" if x is None else f"ret {x}")

    # text -----------------------------------------------------------------------------------

    def text(self) -> str:
        """The definition alone."""
        head = f"define {self._linkage}{self.result} @{self.name}({self._head})"
        body = "\n".join(["entry:", *self._slots, *self._lines])
        return f"{head} {self._attributes} {{\n{body}\n}}\n"


def module(*functions: Function) -> str:
    """Functions, those that they call, and the declarations of both, as one module."""
    found: dict[str, Function] = {}
    stack = list(functions)
    while stack:
        f = stack.pop()
        if f.name not in found:
            found[f.name] = f
            stack.extend(f.internals.values())
    declared = dict.fromkeys(d for f in found.values() for d in f.declared)
    return "\n".join([*(f.text() for f in found.values()), *declared]) + "\n"


_BYTES = {"double": 8, "i64": 8, "ptr": 8, "float": 4, "i32": 4, "half": 2, "i16": 2}


def _align(type_: str) -> int:
    return _BYTES.get(element_of(type_), 1)


def _overload(type_: str) -> str:
    lanes, element = lanes_of(type_), element_of(type_)
    short = {"float": "f32", "double": "f64", "half": "f16"}.get(element, element)
    return f"v{lanes}{short}" if lanes > 1 else short
