"""Copies of parts of a matrix into the layout that a tile reads: rows, or their transpose."""

from __future__ import annotations

from lazygrad.runtime.native.llvm import Function, Index, Value, element_of, lanes_of, vector

_BITS = {"float": 32, "double": 64}
_PARAMS = [
    ("ptr", "source"), ("i64", "s_row"), ("ptr", "target"), ("i64", "t_row"), ("i64", "rows"),
    ("i64", "columns"),
]  # fmt: skip


def bits_of(element: str) -> int:
    """The width of an element."""
    return _BITS.get(element) or int(element[1:])


def copy(element: str, lanes: int) -> Function:
    """`copy(source, s_row, target, t_row, rows, columns)`: target[i, j] = source[i, j]."""
    f = Function(f"copy_{element}_{lanes}", _PARAMS, internal=True)
    source, s_row, target, t_row, rows, columns = f.params
    type_ = vector(element, lanes)
    whole = f.mul(f.div(columns, lanes), lanes)
    with f.loop(0, rows) as i:
        come, go = f.gep(element, source, f.mul(i, s_row)), f.gep(element, target, f.mul(i, t_row))
        with f.loop(0, whole, lanes) as j:
            f.store(f.load(type_, f.gep(element, come, j)), f.gep(element, go, j))
        with f.loop(whole, columns) as j:
            f.store(f.load(element, f.gep(element, come, j)), f.gep(element, go, j))
    f.ret()
    return f


def gather(element: str) -> Function:
    """`gather(..., s_column)`: as `copy`, of a source without any unit stride."""
    f = Function(f"gather_{element}", [*_PARAMS, ("i64", "s_column")], internal=True)
    source, s_row, target, t_row, rows, columns, s_column = f.params
    with f.loop(0, rows) as i:
        come, go = f.gep(element, source, f.mul(i, s_row)), f.gep(element, target, f.mul(i, t_row))
        with f.loop(0, columns) as j:
            x = f.load(element, f.gep(element, come, f.mul(j, s_column)))
            f.store(x, f.gep(element, go, j))
    f.ret()
    return f


def spread(element: str, lanes: int, step: int) -> Function:
    """`spread(source, places, target, t_row, rows, columns, s_column)`, at most `lanes` columns.

    target[i, j] = source[places[i] + j * step]; a `step` of 0 is that of the last parameter.
    """
    params = [
        ("ptr", "source"), ("ptr", "places"), ("ptr", "target"), ("i64", "t_row"),
        ("i64", "rows"), ("i64", "columns"), ("i64", "s_column"),
    ]  # fmt: skip
    f = Function(f"spread_{element}_{lanes}_{step}", params, internal=True)
    source, places, target, t_row, rows, columns, s_column = f.params
    type_ = vector(element, lanes)
    masks = [_below(f, lanes, columns)]
    if step == 2:  # the last of so many elements, two apart, is followed by none
        masks += [
            _below(f, lanes, f.i64(f.sub(f.sub(f.mul(columns, 2), 1), k * lanes))) for k in (0, 1)
        ]
    with f.loop(0, rows) as i:
        come = f.gep(element, source, f.load("i64", f.gep("i64", places, i)))
        go = f.gep(element, target, f.mul(i, t_row))
        if step == 0:
            with f.loop(0, columns) as j:
                x = f.load(element, f.gep(element, come, f.mul(j, s_column)))
                f.store(x, f.gep(element, go, j))
        elif step == 1:
            f.masked_store(f.masked_load(type_, come, masks[0]), go, masks[0])
        else:
            low = f.masked_load(type_, come, masks[1])
            high = f.masked_load(type_, f.gep(element, come, lanes), masks[2])
            x = shuffle(f, low, high, list(range(0, 2 * lanes, 2)))
            f.masked_store(x, go, masks[0])
    f.ret()
    return f


def _below(f: Function, lanes: int, count: Value) -> Value:
    """Which lanes are below a number."""
    wide = f.splat(f.convert("trunc", count, "i32"), lanes)
    return f.cmp("icmp slt", f.steps(lanes, "i32"), wide)


def transpose(element: str) -> Function:
    """`transpose(source, s_row, target, t_row, rows, columns)`: target[j, i] = source[i, j].

    Squares go through registers, of 256 bits on every host: wider ones cost twice the code, and
    their many rows fall into the same cache sets where the stride is a power of two.
    """
    side = 256 // max(bits_of(element), 32)
    f = Function(f"transpose_{element}", _PARAMS, internal=True)
    source, s_row, target, t_row, rows, columns = f.params
    type_ = vector(element, side)
    down, across = f.mul(f.div(rows, side), side), f.mul(f.div(columns, side), side)

    def addresses(i: Index, j: Index) -> tuple[Value, Value]:
        return (
            f.gep(element, source, f.add(f.mul(i, s_row), j)),
            f.gep(element, target, f.add(f.mul(j, t_row), i)),
        )

    def one_by_one(i: Value, first: Index) -> None:
        with f.loop(first, columns) as j:
            come, go = addresses(i, j)
            f.store(f.load(element, come), go)

    with f.loop(0, down, side) as i, f.loop(0, across, side) as j:
        come, go = addresses(i, j)
        lines = [f.gep(element, come, f.mul(r, s_row)) for r in range(side)]
        for r, x in enumerate(transposed(f, [f.load(type_, line) for line in lines])):
            f.store(x, f.gep(element, go, f.mul(r, t_row)))
    with f.loop(0, rows) as i:
        inside = f.cmp("icmp slt", i, f.i64(down))
        one_by_one(i, f.select(inside, f.i64(across), f.i64(0)))
    f.ret()
    return f


def transposed(f: Function, square: list[Value]) -> list[Value]:
    """The columns of a square of vectors.

    Squares inside of 128 bits first, which take cheap instructions, then blocks of 128 bits.
    """
    type_ = square[0].type
    lanes, bits = lanes_of(type_), bits_of(element_of(type_))
    if bits < 32 or lanes * bits < 128:
        return _blocks(f, square, 1)
    size = 128 // bits
    groups = [_squares(f, square[k : k + size], 1, size) for k in range(0, lanes, size)]
    columns = [_blocks(f, [group[c] for group in groups], size) for c in range(size)]
    return [columns[c % size][c // size] for c in range(lanes)]


def _squares(f: Function, rows: list[Value], step: int, size: int) -> list[Value]:
    """Transpose each square of `size` by `size` elements; pieces of `step` are done."""
    if len(rows) == 1:
        return rows
    lanes = lanes_of(rows[0].type)
    halves: list[list[Value]] = []
    for half in (0, size // 2):
        order = [
            group + half + piece + which + e
            for group in range(0, lanes, size)
            for piece in range(0, size // 2, step)
            for which in (0, lanes)
            for e in range(step)
        ]
        halves.append([shuffle(f, x, y, order) for x, y in zip(rows[::2], rows[1::2], strict=True)])
    return [v for half in halves for v in _squares(f, half, 2 * step, size)]


def _blocks(f: Function, rows: list[Value], block: int) -> list[Value]:
    """Vector b of the result: block b of every row."""
    if len(rows) == 1:
        return rows
    lanes = lanes_of(rows[0].type)
    even = [e for e in range(2 * lanes) if e // block % 2 == 0]
    odd = [e for e in range(2 * lanes) if e // block % 2]
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    first = _blocks(f, [shuffle(f, x, y, even) for x, y in pairs], block)
    second = _blocks(f, [shuffle(f, x, y, odd) for x, y in pairs], block)
    return [v for both in zip(first, second, strict=True) for v in both]


def shuffle(f: Function, x: Value, y: Value, lanes: list[int]) -> Value:
    """Lanes of two vectors, those of the second counted on."""
    mask = ", ".join(f"i32 {k}" for k in lanes)
    return f.emit(f"shufflevector {x}, {y}, <{len(lanes)} x i32> <{mask}>", x.type)
