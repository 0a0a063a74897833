"""Random words as machine code: Philox4x32-10 on sixteen blocks at a time.

The numbers are those of `ops.random`: number p of a stream is word p % 4 of block p // 4, so a
piece of any length can begin anywhere, on any thread.
"""

from __future__ import annotations

from lazygrad.ops.random import MULTIPLIERS, WEYL
from lazygrad.runtime.kernel import Extern, Kernel
from lazygrad.runtime.native.llvm import Function, Value, vector
from lazygrad.runtime.native.pack import shuffle
from lazygrad.runtime.native.target import LANES
from lazygrad.runtime.native.unit import Frame, Unit, Unsupported
from lazygrad.shapes import contiguous_strides, numel

_GROUP = 4 * LANES  # numbers that are made together
_PIECE = 256  # groups that a thread takes at once
_WORDS = vector("i32", LANES)


def philox_units(kernel: Kernel, stage: Extern) -> list[Unit]:
    """The unit that fills a buffer with random words."""
    key, target, shape = stage.inputs[0][0], *stage.output[:2]
    if target.strides != contiguous_strides(shape):
        raise Unsupported("random words with strides")
    count = numel(shape)
    if not count:
        return []
    words = (key.offset, key.strides[0], target.offset, int(stage.attributes()["offset"]), count)
    groups = -(-(count + 3) // _GROUP)
    return [
        Unit(
            ("philox",), _build, (key.buffer, target.buffer), words, groups,
            min(groups, _PIECE), parallel=groups > _PIECE,
        )
    ]  # fmt: skip


def _build(name: str) -> Function:
    frame = Frame(name, 2)
    f = frame.f
    keys, target = frame.pointer(0), frame.pointer(1)
    at, stride, begin, offset, count = (frame.word(k) for k in range(5))
    keys = f.gep("i64", keys, at)
    seed = f.load("i64", keys)
    start = f.bin("add", f.load("i64", f.gep("i64", keys, stride)), offset)
    first = f.bin("lshr", start, f.const("i64", 2))
    skip = f.bin("and", start, f.const("i64", 3))
    out = f.gep("i32", target, begin)
    with f.loop(frame.lo, frame.hi) as group:
        block = f.bin("add", first, f.i64(f.mul(group, LANES)))
        blocks = f.bin("add", f.splat(block, LANES), f.steps(LANES))
        place = f.i64(f.sub(f.mul(group, _GROUP), skip))
        for part, words in enumerate(_interleaved(f, _cipher(f, blocks, seed))):
            low = f.i64(f.add(place, part * LANES))
            positions = f.bin("add", f.splat(low, LANES), f.steps(LANES))
            inside = f.cmp("icmp ult", positions, f.splat(count, LANES))
            f.masked_store(words, f.gep("i32", out, low), inside)
    return frame.finish()


def _cipher(f: Function, blocks: Value, seed: Value) -> list[Value]:
    """The four words of each block."""
    wide = blocks.type

    def low(x: Value) -> Value:
        return f.convert("trunc", x, _WORDS)

    def high(x: Value) -> Value:
        return low(f.bin("lshr", x, f.const(wide, 32)))

    zero = f.const(_WORDS, 0)
    c = [low(blocks), high(blocks), zero, zero]
    keys = [
        f.convert("trunc", seed, "i32"),
        f.convert("trunc", f.bin("lshr", seed, f.const("i64", 32)), "i32"),
    ]
    for _ in range(10):
        one, two = (
            f.bin("mul", f.convert("zext", x, wide), f.const(wide, int(m)))
            for x, m in zip((c[0], c[2]), MULTIPLIERS, strict=True)
        )
        k0, k1 = (f.splat(k, LANES) for k in keys)
        c = [
            f.bin("xor", f.bin("xor", high(two), c[1]), k0), low(two),
            f.bin("xor", f.bin("xor", high(one), c[3]), k1), low(one),
        ]  # fmt: skip
        keys = [f.bin("add", k, f.const("i32", w)) for k, w in zip(keys, WEYL, strict=True)]
    return c


def _interleaved(f: Function, words: list[Value]) -> list[Value]:
    """The words block after block, as four vectors."""
    halves = range(LANES // 2)
    pairs = [
        [
            shuffle(f, x, y, [k for e in halves for k in (at + e, LANES + at + e)])
            for at in (0, LANES // 2)
        ]
        for x, y in (words[:2], words[2:])
    ]
    found = []
    for first, second in zip(*pairs, strict=True):
        for at in (0, LANES // 2):
            order = [
                which + at + e + k
                for e in range(0, LANES // 2, 2) for which in (0, LANES) for k in (0, 1)
            ]  # fmt: skip
            found.append(shuffle(f, first, second, order))
    return found
