"""Attention forward and backward as units.

Forward, a unit of work is a tile of queries: it walks the keys that they see, tile by tile, with a
running maximum and sum (see `attention_tiles`), and keeps the result turned, so that queries are
lanes all the way. Backward it is a head of keys with all heads of queries that share it, so that
each gradient is added up by one thread, in one order; the weights of a tile are computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lazygrad.ops.attention import ATTENTION
from lazygrad.runtime.kernel import Extern, Kernel
from lazygrad.runtime.native.attention_tiles import (
    TILE,
    Form,
    Matrix,
    Queries,
    Tiles,
    Triangle,
    numbers_of,
)  # fmt: skip
from lazygrad.runtime.native.llvm import Function, Value
from lazygrad.runtime.native.pack import transpose
from lazygrad.runtime.native.unit import Unit, Unsupported
from lazygrad.shapes import contiguous_strides

_CHUNK = 1 << 18  # products of elements that a thread takes at a time, at least
_ROOMS: dict[str, int | str] = {"top": 1, "sum": 1, "less": 1, "p": TILE, "q": "width"}
_FORWARD: dict[str, int | str] = {**_ROOMS, "y": "depth"}
_BACKWARD: dict[str, int | str] = {**_ROOMS, "inner": 1, "ds": TILE, "g": "depth", "out": "depth"}


def attention_units(kernel: Kernel, stage: Extern) -> list[Unit]:
    """The unit of attention, or of its gradients."""
    forward = stage.op is ATTENTION
    target, shape, dtype = stage.output
    if target.strides != contiguous_strides(shape):
        raise Unsupported("attention into a result with strides")
    names: tuple[str, ...] = (
        ("q", "k", "v", "mask") if forward else ("g", "out", "q", "k", "v", "mask")
    )
    names = names[: len(stage.inputs)]
    words = numbers_of(stage, names)
    batch, time = stage.inputs[names.index("q")][1][0], words["time"]
    results = _result(words, target.offset) if forward else _results(words, target.offset, batch)
    rooms = dict(_FORWARD if forward else _BACKWARD)
    mask, still = None, (False, False)
    if "mask" in names:
        _, mask_shape, mask = stage.inputs[-1]
        still = mask_shape[2] == 1, mask_shape[3] == 1
        rooms["mask"] = TILE
    words |= results
    attrs = stage.attributes()
    form = Form(
        (*names, "result"), tuple(words), dtype, attrs["causal"], attrs["scale"], mask, still,
        tuple(rooms.items()),
    )  # fmt: skip
    build: Callable[[Form, str], Function] = _forward if forward else _backward
    blocks = batch * (words["heads"] * -(-time // TILE) if forward else words["shared"])
    work = min(time, TILE) * words["source"] * (words["width"] + words["depth"])
    work = work if forward else work * -(-time // TILE) * words["group"]
    chunk = max(1, min(blocks, _CHUNK // max(work, 1)))
    local = sum(words[rows] if isinstance(rows, str) else rows for rows in rooms.values())
    return [
        Unit(
            ("attention", forward, form), partial(build, form),
            (*(a.buffer for a, _, _ in stage.inputs), target.buffer), tuple(words.values()),
            blocks, chunk, local * TILE * dtype.itemsize, parallel=blocks > chunk,
        )
    ]  # fmt: skip


def _dense(name: str, offset: int, time: int, heads: int, width: int) -> dict[str, int]:
    """The numbers of a dense (batch, time, heads, width) matrix."""
    row = heads * width
    return {name: offset, f"{name}_b": time * row, f"{name}_h": width, f"{name}_t": row}


def _result(words: dict[str, int], offset: int) -> dict[str, int]:
    return _dense("result", offset, words["time"], words["heads"], words["depth"])


def _results(words: dict[str, int], offset: int, batch: int) -> dict[str, int]:
    """The numbers of the three gradients, which lie one after the other."""
    found: dict[str, int] = {}
    for name, time, heads, width in (
        ("dq", "time", "heads", "width"), ("dk", "source", "shared", "width"),
        ("dv", "source", "shared", "depth"),
    ):  # fmt: skip
        found |= _dense(name, offset, words[time], words[heads], words[width])
        offset += batch * words[time] * words[heads] * words[width]
    return found


def _forward(form: Form, name: str) -> Function:
    """Each tile of queries by itself."""
    t = Tiles(form, name)
    f, w = t.f, t.words
    tiles = f.div(f.add(w["time"], TILE - 1), TILE)
    with f.loop(t.frame.lo, t.frame.hi) as number:
        rest = f.div(number, tiles)
        first = f.mul(f.rem(number, tiles), TILE)
        queries = t.queries(f.div(rest, w["heads"]), f.rem(rest, w["heads"]), first)
        t.turn("q", queries, "width", "q")
        t.begin(queries)
        with f.when(f.cmp("icmp eq", w["source"], f.i64(0))):
            _clear(t, t.room("y"), w["depth"], f.i64(TILE))
        with t.keys(queries) as (key, keys):
            more = f.cmp("icmp ne", key, f.i64(0))
            t.scores(queries, key, keys)
            t.soften(queries, key, keys)
            with f.when(more):
                _shrink(t, queries)
            v = t.at("v", queries.batch, queries.shared, key)
            part = Triangle(across=f.sub(first, key))
            y = t.room("y")
            t.multiply(v.turned, t.room("p"), y, w["depth"], queries.lanes, keys, more, part)
        _finish(t, queries)
    return t.frame.finish()


def _shrink(t: Tiles, queries: Queries) -> None:
    """What has been added up is relative to the new largest score from here on."""
    with t.columns(queries) as column:
        less = t.load("less", 0, column)
        with t.f.loop(0, t.words["depth"]) as d:
            t.store(t.math.mul(t.load("y", d, column), less), "y", d, column)


def _finish(t: Tiles, queries: Queries) -> None:
    """Divide by the sums, and write the rows of the result; 0 where no key was seen."""
    f, m = t.f, t.math
    with t.columns(queries) as column:
        total = t.load("sum", 0, column)
        total = m.where(m.eq(total, 0.0), t.number(1.0), total)
        with f.loop(0, t.words["depth"]) as d:
            t.store(m.div(t.load("y", d, column), total), "y", d, column)
    out = t.at("result", queries.batch, queries.head, queries.first)
    f.call_internal(
        transpose(t.element), t.rooms["y"], f.i64(TILE), out.pointer, f.i64(out.row),
        t.words["depth"], queries.rows,
    )  # fmt: skip


def _backward(form: Form, name: str) -> Function:
    """Each head of keys by itself, for all queries of all heads that share it."""
    t = Tiles(form, name)
    for gradient in ("dq", "dk", "dv"):
        t.bases[gradient] = t.bases["result"]
    f, w = t.f, t.words
    with f.loop(t.frame.lo, t.frame.hi) as number:
        batch, shared = f.div(number, w["shared"]), f.rem(number, w["shared"])
        for gradient, width in (("dk", "width"), ("dv", "depth")):
            _clear(t, t.at(gradient, batch, shared, 0), w["source"], w[width])
        start = f.mul(shared, w["group"])
        with (
            f.loop(start, f.add(start, w["group"])) as head,
            f.loop(0, w["time"], TILE) as first,
        ):
            _back_tile(t, t.queries(batch, head, first))
    return t.frame.finish()


def _clear(t: Tiles, target: Matrix, rows: Value, columns: Value) -> None:
    """Zeros."""
    f = t.f
    zero = f.const(t.element, 0)
    with f.loop(0, rows) as i:
        row = f.gep(t.element, target.pointer, f.mul(i, target.row))
        with f.loop(0, columns) as j:
            f.store(zero, f.gep(t.element, row, j))


def _back_tile(t: Tiles, queries: Queries) -> None:
    """All that comes from a tile of queries."""
    f, w = t.f, t.words
    t.turn("q", queries, "width", "q")
    t.turn("g", queries, "depth", "g")
    t.turn("out", queries, "depth", "out")
    _inner(t, queries)
    t.begin(queries)
    with t.keys(queries) as (key, keys):
        t.scores(queries, key, keys)
        t.soften(queries, key, keys)
    with t.columns(queries) as column:
        total = t.load("sum", 0, column)
        total = t.math.where(t.math.eq(total, 0.0), t.number(1.0), total)
        t.store(t.math.div(t.number(1.0), total), "sum", 0, column)
    several = f.cmp("icmp sgt", t.seen(queries), f.i64(TILE))
    where = queries.batch, queries.head, queries.first
    q, g, dq = t.at("q", *where), t.at("g", *where), t.at("dq", *where)
    with f.when(f.cmp("icmp eq", w["source"], f.i64(0))):
        _clear(t, dq, queries.rows, w["width"])
    with t.keys(queries) as (key, keys):
        with f.when(several):  # else the weights of the only tile are still there
            t.scores(queries, key, keys)
            _weigh(t, queries, key, keys)
        there = queries.batch, queries.shared, key
        k, v, dk, dv = (t.at(n, *there) for n in ("k", "v", "dk", "dv"))
        ahead = f.sub(queries.first, key)
        behind = f.sub(0, ahead)
        p, ds = t.room("p"), t.room("ds")
        t.multiply(v, t.room("g"), ds, keys, queries.lanes, w["depth"], part=Triangle(left=behind))
        _differentiate(t, queries, key, keys)
        t.multiply(p, g, dv, keys, w["depth"], queries.rows, True, Triangle(low=behind))
        t.multiply(ds, q, dk, keys, w["width"], queries.rows, True, Triangle(low=behind))
        more, part = f.cmp("icmp ne", key, f.i64(0)), Triangle(down=ahead)
        t.multiply(ds.turned, k, dq, queries.rows, w["width"], keys, more, part)


def _inner(t: Tiles, queries: Queries) -> None:
    """The inner product of each row of the result with its gradient."""
    f, m = t.f, t.math
    with t.columns(queries) as column:
        slot = f.variable(t.type, t.number(0.0).value)
        with f.loop(0, t.words["depth"]) as d:
            x, y = t.load("g", d, column), t.load("out", d, column)
            f.store(m.fma(x, y, x._replace(value=f.load(t.type, slot))).value, slot)
        t.store(t.number(0.0)._replace(value=f.load(t.type, slot)), "inner", 0, column)


def _weigh(t: Tiles, queries: Queries, first: Value, keys: Value) -> None:
    """Scores become exp(score - the largest of all)."""
    m = t.math
    with t.columns(queries) as column:
        ahead = t.ahead(queries, first, column)
        base = t.base(t.load("top", 0, column))
        with t.rows(queries, first, keys, column, "p") as j:
            t.store(m.exp(m.sub(t.score(j, column, ahead), base)), "p", j, column)


def _differentiate(t: Tiles, queries: Queries, first: Value, keys: Value) -> None:
    """The weights of a tile, and the gradient of its products from that of the weights."""
    m = t.math
    with t.columns(queries) as column:
        share, inner = t.load("sum", 0, column), t.load("inner", 0, column)
        with t.rows(queries, first, keys, column, "ds") as j:
            p = m.mul(t.load("p", j, column), share)
            t.store(p, "p", j, column)
            change = m.sub(t.load("ds", j, column), inner)
            t.store(m.mul(m.mul(p, change), t.number(t.form.scale)), "ds", j, column)
