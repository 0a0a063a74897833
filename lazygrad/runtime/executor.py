"""What a runtime gives to a program: kernels lowered to statements of one flat function.

`lower(kernel)` (in `dispatch`) picks parallel mode and executor and returns a `Lowered`: it knows
how much workspace the kernel needs while it runs, so that the memory planner can place it, and
`emit` then appends the kernel's statements to a `Code`. All kernels of a program share one `Code`,
which compiles to one Python function over a list of prebound views: a replay is that one call,
and nothing in it is looked up, planned or allocated.

Storage is named by *slots*: whatever arrays the program binds (its arena, sources, outputs).
`make_view` makes the view that a `ViewSpec` describes over the bytes of a slot.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lazygrad.runtime.kernel import Kernel
from lazygrad.shapes import Shape


class Place(NamedTuple):
    """Where a buffer starts: a slot and an offset in bytes."""

    slot: int
    offset: int = 0


START = Place(0)


class ViewSpec(NamedTuple):
    """A view to prebind; offset and strides in bytes."""

    slot: int
    offset: int
    shape: Shape
    strides: tuple[int, ...]
    dtype: np.dtype[Any]


class Lowered(Protocol):
    """A kernel made ready for one executor and parallel mode."""

    @property
    def kernel(self) -> Kernel:
        """What was lowered."""
        ...

    @property
    def mode(self) -> str:
        """The parallel mode: "vectorized" or "chunked"."""
        ...

    @property
    def executor(self) -> str:
        """The executor: "reference", "numpy" or "native"."""
        ...

    @property
    def reason(self) -> str:
        """Why that mode, from the shapes."""
        ...

    @property
    def workspace(self) -> int:
        """Bytes that it needs while it runs, aligned; their content means nothing."""
        ...

    @property
    def local(self) -> int:
        """Bytes for each thread of the program, shared with the program's other kernels."""
        ...

    def emit(self, code: Code, places: Sequence[Place], workspace: Place) -> None:
        """Append the statements, with a place for each parameter of the kernel."""
        ...


class Bases(NamedTuple):
    """What the slots are in a call: the address of the arena, and the arrays of the others."""

    arena: int
    arrays: list[NDArray[Any]]


class Block(Protocol):
    """Kernels that run one after the other without Python: one statement of a flat function.

    `call(arena, arrays, threads)` is what runs them; it returns 0 or what `fail` understands.
    """

    call: Callable[[int, list[NDArray[Any]], int], int]
    threads: int

    @property
    def source(self) -> str:
        """The generated code, for people."""
        ...

    def run(self, bases: Bases) -> None:
        """Run them on these slots."""
        ...

    def fail(self, status: int, bases: Bases) -> None:
        """Raise the `KernelFailed` that a status stands for."""
        ...


class BlockBuilder(Protocol):
    """A block under construction."""

    def compile(self) -> Block:
        """Make it ready to run."""
        ...


class KernelFailed(Exception):
    """Carries which kernel of the program failed, and why."""

    def __init__(self, kernel: int, cause: BaseException) -> None:
        super().__init__(kernel, cause)
        self.kernel, self.cause = kernel, cause


def bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes of a C-contiguous array as a flat view (the base that `make_view` takes)."""
    if array.size == 0:
        return np.empty(0, np.uint8)
    return array.reshape(-1).view(np.uint8)


def make_view(base: NDArray[np.uint8], spec: ViewSpec) -> NDArray[Any]:
    """The view that `spec` describes over the bytes of its slot; read-only if they are."""
    if 0 in spec.shape:
        return np.empty(spec.shape, spec.dtype)
    return np.ndarray(spec.shape, spec.dtype, base, spec.offset, spec.strides)


def _silent_errors() -> tuple[contextvars.ContextVar[Any], Any] | None:
    """NumPy's own context variable for error handling, and its value for "ignore all".

    `np.errstate` costs a microsecond, as much as several small ufunc calls; setting the variable
    that it sets costs a tenth.
    """
    context = contextvars.copy_context()
    context.run(np.seterr, all="ignore")
    for variable in context:
        if variable.name == "numpy.ufunc.extobj":
            return variable, context[variable]
    return None


_SILENT = _silent_errors()


def quietly(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function with NumPy's floating-point warnings off, as kernels compute."""
    if _SILENT is None:
        with np.errstate(all="ignore"):
            function(*arguments)
        return
    variable, ignore = _SILENT
    token = variable.set(ignore)
    try:
        function(*arguments)
    finally:
        variable.reset(token)


@dataclass(frozen=True, slots=True, eq=False)
class CompiledCode:
    """A flat function: `function(views, bases)`, with `views` made in the order of `specs`.

    `blocks` are those among its statements; `block` is set where the whole of it is one.
    """

    function: Callable[[Sequence[NDArray[Any]], Bases], None]
    specs: tuple[ViewSpec, ...]
    source: str
    _owners: tuple[int, ...]  # line - 1 -> number of the kernel in the program, or -1
    _code: CodeType
    blocks: tuple[Block, ...] = ()
    block: Block | None = None

    @staticmethod
    def of_block(block: Block) -> CompiledCode:
        """The function that runs a block and nothing else."""

        def function(views: Sequence[NDArray[Any]], bases: Bases) -> None:
            block.run(bases)

        return CompiledCode(function, (), "", (-1,), function.__code__, (block,), block)

    def run(self, views: Sequence[NDArray[Any]], bases: Bases) -> None:
        """Run it with floating-point warnings off."""
        quietly(self.function, views, bases)

    def culprit(self, error: BaseException, traceback: TracebackType | None) -> int | None:
        """The number of the kernel that raised, if it is one of these."""
        if isinstance(error, KernelFailed):
            return error.kernel
        while traceback is not None:
            if traceback.tb_frame.f_code is self._code:
                owner = self._owners[traceback.tb_lineno - 1]
                return owner if owner >= 0 else None
            traceback = traceback.tb_next
        return None


class Code:
    """A flat function under construction: prebound views, constants, statements.

    >>> code = Code()
    >>> a = code.view(Place(0), (3,), (1,), 0, np.dtype("f4"))
    >>> code.line(f"{code.constant(np.add, 'add')}({a}, {a}, {a})")
    >>> print(code.compile("double").source)
    def double(v, bases):
        a0, = v
        add(a0, a0, a0)
    """

    def __init__(
        self,
        arrays: int = 0,
        local: Place = START,
        threads: int = 1,
        aliases: Mapping[int, int] | None = None,
    ) -> None:
        self.arrays = arrays  # slots beside the arena
        self.aliases = aliases or {}  # slots that may be the same array as an earlier one
        self.local = local  # where the private memory of the program's threads begins
        self.threads = threads
        self._block: BlockBuilder | None = None
        self._blocks: list[Block] = []
        self._views: dict[ViewSpec, str] = {}
        self._globals: dict[str, Any] = {}
        self._names: dict[Hashable, str] = {}
        self._functions: list[str] = []
        self._lines: list[str] = []
        self._owners: list[int] = []
        self._kernel = -1

    def begin(self, kernel: int) -> None:
        """The next lines belong to this kernel of the program."""
        self._kernel = kernel

    def view(
        self, place: Place, shape: Shape, strides: Sequence[int], offset: int, dtype: np.dtype[Any]
    ) -> str:
        """The local name of a prebound view; `strides` and `offset` in elements from `place`."""
        size = dtype.itemsize
        spec = ViewSpec(
            place.slot, place.offset + offset * size, shape,
            tuple(s * size if n > 1 else 0 for s, n in zip(strides, shape, strict=True)), dtype,
        )  # fmt: skip
        return self._views.setdefault(spec, f"a{len(self._views)}")

    def constant(self, value: Any, name: str, key: Hashable = None) -> str:
        """The global name of an object; the same object (or equal `key`) has one name."""
        known = ("key", key) if key is not None else ("id", id(value))
        found = self._names.get(known)
        if found is None:
            found = name
            while found in self._globals:
                found = f"{name}_{len(self._globals)}"
            self._globals[found] = value
            self._names[known] = found
        return found

    @property
    def kernel(self) -> int:
        """The number of the kernel that is being emitted."""
        return self._kernel

    def block(self, make: Callable[[Code], BlockBuilder]) -> Any:
        """The block that the next kernels go to; any statement ends it."""
        if self._block is None:
            self._block = make(self)
        return self._block

    def _end_block(self) -> None:
        if self._block is not None:
            block, self._block = self._block.compile(), None
            self._blocks.append(block)
            self.line(f"{self.constant(block, 'block')}.run(bases)")

    def line(self, text: str) -> None:
        """Append one statement (one line)."""
        self._end_block()
        self._lines.append(text)
        self._owners.append(self._kernel)

    def function(self, name: str, parameters: str, lines: Sequence[str]) -> str:
        """Define a further function beside the flat one; returns its name."""
        name = f"{name}_{len(self._functions)}"
        body = "\n".join("    " + line for line in lines) or "    pass"
        self._functions.append(f"def {name}({parameters}):\n{body}\n\n")
        return name

    def compile(self, name: str = "program") -> CompiledCode:
        """The function."""
        self._end_block()
        names = ", ".join(self._views.values())
        head = "".join(self._functions) + f"def {name}(v, bases):\n"
        unpack = [f"{names}{',' if len(self._views) == 1 else ''} = v"] if names else []
        body = [*unpack, *self._lines] or ["pass"]
        source = head + "\n".join("    " + line for line in body)
        space = dict(self._globals)
        exec(compile(source, f"<lazygrad {name}>", "exec"), space)
        function = space[name]
        skipped = head.count("\n") + len(unpack)
        owners = (*(-1 for _ in range(skipped)), *self._owners)
        alone = len(self._blocks) == len(self._lines) == 1
        return CompiledCode(
            function, tuple(self._views), source, owners or (-1,), function.__code__,
            tuple(self._blocks), self._blocks[0] if alone else None,
        )  # fmt: skip
