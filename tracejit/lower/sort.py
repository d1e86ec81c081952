"""The order of elements along lines, as LLVM IR: keys that carry their positions are sorted, so that equal ones stay.

Elements become unsigned integers in the same order: NaN after everything else, −0 equal to 0. Where a key and its
position fit in one word, words are sorted. Otherwise by radix, where digits that all elements share cost no pass, and
short lines by insertion.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from tracejit.ir.types import DType
from tracejit.lower import quicksort
from tracejit.lower.llvm import Module, Val, const, i64
from tracejit.lower.routine import Routine
from tracejit.lower.scalarcast import register

SORT = ("out x scratch", "size inner outer_step step inner_step lines groups")
SHORT = 40  # elements up to which insertion is faster
LONG = 1 << 32  # elements of a line up to which positions have 32 bits
BINS = 256
SPARE = 64  # bytes behind each set of keys


def key_bits(dtype: DType) -> int:
    """Bits of a key; 16-bit floats are compared as float32."""
    return 32 if dtype.kind == "f" and dtype.bits == 16 else 8 if dtype.kind == "b" else dtype.bits


def entry_bytes(dtype: DType, size: int) -> int:
    """Bytes of a key with its position: one word has room for both if they are short enough."""
    return 16 if key_bits(dtype) == 64 or size > LONG else 8


def in_words(dtype: DType, entry: int) -> bool:
    """Whether entries are sorted as words. A key of one byte takes one pass by radix, faster than any comparison."""
    return entry == 8 and key_bits(dtype) > 8


class _Sort(Routine):
    """`out[line]` are the positions of the line's elements in order. Task g of `groups` takes lines g, g + groups, …"""

    def __init__(self, module: Module, name: str, dtype: DType, descending: bool, size: int) -> None:
        super().__init__(module, name, dtype, *SORT)
        self.descending, self.bits, self.bytes = descending, key_bits(dtype), size
        self.digits = self.bits // 8
        self.words = in_words(dtype, size)
        self.quick = quicksort.sort(module, 64) if self.words else ""
        self.counts = self.fn.alloca(8 * BINS * self.digits)
        self.run(self.task)

    def task(self, g: Val) -> None:
        f = self.fn
        room = f.add(f.mul(self["size"], i64(self.bytes)), i64(SPARE))
        a = f.gep(self["scratch"], f.mul(f.mul(g, i64(2)), room))
        b = f.gep(a, room)
        short = f.cmp("sle", self["size"], i64(SHORT))

        def line(n: Val) -> None:
            outer, inner = self.split(n, self["inner"])
            at = f.add(f.mul(outer, self["outer_step"]), f.mul(inner, self["inner_step"]))
            x = self.element(self["x"], at)
            if self.words:
                ordered = self.quickly(x, a, b)
            else:
                (ordered,) = f.if_(short, lambda: self.insertion(x, a), lambda: self.radix(x, a, b))
            out = f.gep(self["out"], f.add(f.mul(f.mul(outer, self["size"]), self["inner"]), inner), "i64")

            def write(j: Val) -> None:
                to = f.gep(out, f.mul(j, self["inner"]), "i64")
                f.store(self.position_of(self.entry(ordered, j)), to)

            f.loop(0, self["size"], write)

        f.loop(g, self["lines"], line, step=self["groups"])

    # --- keys ---------------------------------------------------------------------------------------------------------
    def key(self, p: Val) -> Val:
        """The element as an i64 whose low bits are in the order of the elements."""
        f, d = self.fn, self.dtype
        v = self.m1.load(p, d).v
        if d.kind == "f":
            v = f.add(v, const(v.ty, 0.0))
            v = f.select(f.cmp("uno", v, v), const(v.ty, float("nan")), v)
            v = f.bits(v)
            v = f.xor(v, f.or_(f.op("ashr", v, const(v.ty, self.bits - 1)), const(v.ty, 1 << (self.bits - 1))))
        elif d.kind == "i":
            v = f.xor(v, const(register(d), 1 << (self.bits - 1)))
        elif d.kind == "b":
            v = f.cast("zext", v, "i8")
        v = f.not_(v) if self.descending else v
        return f.cast("zext", v, "i64")

    def pack(self, key: Val, j: Val) -> list[Val]:
        f = self.fn
        return [f.or_(f.op("shl", key, i64(32)), j)] if self.bytes == 8 else [key, j]

    def entry(self, p: Val, j: Val) -> list[Val]:
        f, words = self.fn, self.bytes // 8
        at = f.gep(p, f.mul(j, i64(words)), "i64")
        return [f.load("i64", f.gep(at, 8 * w)) for w in range(words)]

    def put(self, words: Sequence[Val], p: Val, j: Val) -> None:
        at = self.fn.gep(p, self.fn.mul(j, i64(len(words))), "i64")
        for w, v in enumerate(words):
            self.fn.store(v, self.fn.gep(at, 8 * w))

    def position_of(self, words: Sequence[Val]) -> Val:
        return words[1] if self.bytes == 16 else self.fn.and_(words[0], i64(0xFFFFFFFF))

    def digit(self, words: Sequence[Val], d: int) -> Val:
        shift = 8 * d + (32 if self.bytes == 8 else 0)
        return self.fn.and_(self.fn.op("lshr", words[0], i64(shift)), i64(BINS - 1))

    # --- sorting ------------------------------------------------------------------------------------------------------
    def quickly(self, x: Val, a: Val, b: Val) -> Val:
        f = self.fn

        def read(j: Val) -> None:
            key = self.key(self.element(x, f.mul(j, self["step"])))
            key = f.xor(key, i64(1 << (self.bits - 1))) if self.bits == 32 else key  # the words are signed
            self.put(self.pack(key, j), a, j)

        f.loop(0, self["size"], read)
        f.call(self.quick, [a, b, self["size"]])
        return a

    def insertion(self, x: Val, a: Val) -> list[Val]:
        f = self.fn

        def insert(j: Val) -> None:
            new = self.pack(self.key(self.element(x, f.mul(j, self["step"]))), j)

            def behind(k: Val, go: Val) -> Val:
                return go

            def shift(k: Val, go: Val) -> list[Val]:
                before = f.sub(k, i64(1))
                other = self.entry(a, before)
                larger = f.cmp("ugt", other[0], new[0])
                f.if_(larger, lambda: self.put(other, a, k))
                k = f.select(larger, before, k)
                return [k, f.and_(larger, f.cmp("sgt", k, i64(0)))]

            k, _ = f.while_([j, f.cmp("sgt", j, i64(0))], behind, shift)
            self.put(new, a, k)

        f.loop(0, self["size"], insert)
        return [a]

    def radix(self, x: Val, a: Val, b: Val) -> list[Val]:
        f = self.fn
        f.loop(0, BINS * self.digits, lambda c: f.store(i64(0), f.gep(self.counts, c, "i64")))

        def read(j: Val) -> None:
            words = self.pack(self.key(self.element(x, f.mul(j, self["step"]))), j)
            self.put(words, a, j)
            for d in range(self.digits):
                p = self.count(d, self.digit(words, d))
                f.store(f.add(f.load("i64", p), i64(1)), p)

        f.loop(0, self["size"], read)
        for d in range(self.digits):
            every = f.load("i64", self.count(d, self.digit(self.entry(a, i64(0)), d)))
            here, there = a, b
            move = functools.partial(self.scatter, here, there, d)
            a, b = f.if_(f.cmp("eq", every, self["size"]), functools.partial(list, (here, there)), move)
        return [a]

    def count(self, d: int, digit: Val) -> Val:
        return self.fn.gep(self.fn.gep(self.counts, 8 * BINS * d), digit, "i64")

    def scatter(self, a: Val, b: Val, d: int) -> list[Val]:
        """One pass: entries go where those with smaller digits end, in their order."""
        f = self.fn

        def start(c: Val, total: Val) -> list[Val]:
            p = self.count(d, c)
            n = f.load("i64", p)
            f.store(total, p)
            return [f.add(total, n)]

        f.loop(0, BINS, start, [i64(0)])

        def move(j: Val) -> None:
            words = self.entry(a, j)
            p = self.count(d, self.digit(words, d))
            to = f.load("i64", p)
            f.store(f.add(to, i64(1)), p)
            self.put(words, b, to)

        f.loop(0, self["size"], move)
        return [b, a]


def emit(module: Module, name: str, dtype: DType, descending: bool, size: int) -> None:
    """A routine that orders elements of a type; `size`: bytes of a key with its position."""
    _Sort(module, name, dtype, descending, size)
