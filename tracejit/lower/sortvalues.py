"""Elements in order along lines, as LLVM IR: they become integers in the same order, are sorted, and turned back.

NaN comes after everything else, −0 before 0. A long line is sorted in pieces, which are merged.
"""

from __future__ import annotations

from tracejit.ir.types import DType
from tracejit.lower import quicksort
from tracejit.lower.llvm import Module, Val, const, i64, lanes, vec
from tracejit.lower.routine import Routine
from tracejit.lower.scalar import S
from tracejit.lower.scalarcast import register

LINES = ("out x keys spare", "size inner outer_step step inner_step lines groups")
PIECES = ("keys x spare", "size piece step")
MERGE = ("out x", "size run parts part")


def key_bits(dtype: DType) -> int:
    """Bits of a key."""
    return max(dtype.bits, 32)


def room(dtype: DType, size: int) -> int:
    """Bytes for the keys of a line and one register more."""
    return (-(-size * key_bits(dtype) // 512) + 1) * 64


class Keyed(Routine):
    """A routine on elements of a type as signed integers in the same order; `one_zero`: −0 counts as 0."""

    one_zero = False

    def __init__(
        self, module: Module, name: str, dtype: DType, descending: bool, operands: tuple[str, str]
    ) -> None:
        super().__init__(module, name, dtype, *operands)
        self.descending, self.bits = descending, key_bits(dtype)
        self.word = f"i{self.bits}"

    def sign(self, v: Val) -> Val:
        """Floats' bits to signed integers in their order, and back."""
        f = self.fn
        negative = f.op("ashr", v, const(v.ty, self.bits - 1))
        return f.xor(v, f.and_(negative, const(v.ty, (1 << (self.bits - 1)) - 1)))

    def key(self, x: S) -> Val:
        f, d, v = self.fn, self.dtype, x.v
        ty = vec(self.word, lanes(v.ty))
        if d.kind == "f":
            v = f.add(v, const(v.ty, 0.0)) if self.one_zero else v
            v = self.sign(f.bits(f.select(f.cmp("uno", v, v), const(v.ty, float("nan")), v)))
        else:
            v = f.cast("sext" if d.kind == "i" else "zext", v, ty)
        if d.kind == "u" and d.bits == self.bits:
            v = f.xor(v, const(ty, 1 << (self.bits - 1)))
        return f.not_(v) if self.descending else v

    def value(self, v: Val) -> S:
        """The element that a key stands for."""
        f, d, n = self.fn, self.dtype, lanes(v.ty)
        v = f.not_(v) if self.descending else v
        if d.kind == "f":
            return S(f.cast("bitcast", self.sign(v), vec(register(d), n)), d)
        if d.kind == "u" and d.bits == self.bits:
            v = f.xor(v, const(v.ty, 1 << (self.bits - 1)))
        return S(f.cast("trunc", v, vec(register(d), n)), d)

    def word_at(self, p: Val, i: Val) -> Val:
        return self.fn.gep(p, i, self.word)

    def read(self, x: Val, step: Val, unit: bool, n: Val, keys: Val) -> None:
        """The keys of n elements."""
        f = self.fn

        def some(i: Val, mask: Val | None) -> None:
            if unit:
                v = self.mv.load(self.element(x, i), self.dtype, mask)
            else:
                v = self.mv.gather(self.element(x, f.mul(i, step)), step, self.dtype, mask)
            to, key = self.word_at(keys, i), self.key(v)
            if mask is None:
                f.store(key, to, self.bits // 8)
            else:
                f.masked_store(key, to, mask, self.bits // 8)

        self.vectors(i64(0), n, some)


class _Lines(Keyed):
    """Task g of `groups` sorts lines g, g + groups, …; `direct`: where the result lies there is room for the keys."""

    def __init__(
        self, module: Module, name: str, dtype: DType, descending: bool, unit: bool, direct: bool
    ) -> None:
        super().__init__(module, name, dtype, descending, LINES)
        self.unit, self.direct = unit, direct
        self.sort = quicksort.sort(module, self.bits)
        self.run(self.task)

    def task(self, g: Val) -> None:
        f, size = self.fn, self["size"]
        bytes_ = f.mul(f.add(f.op("lshr", f.add(f.mul(size, i64(self.bits)), i64(511)), i64(9)), i64(1)), i64(64))
        spare = f.gep(self["spare"], f.mul(g, bytes_))

        def line(n: Val) -> None:
            outer, inner = self.split(n, self["inner"])
            at = f.add(f.mul(outer, self["outer_step"]), f.mul(inner, self["inner_step"]))
            first = f.add(f.mul(f.mul(outer, size), self["inner"]), inner)
            out = self.element(self["out"], first)
            keys = out if self.direct else f.gep(self["keys"], f.mul(g, bytes_))
            self.read(self.element(self["x"], at), self["step"], self.unit, size, keys)
            f.call(self.sort, [keys, spare, size])
            self.write(keys, out)

        f.loop(g, self["lines"], line, step=self["groups"])

    def write(self, keys: Val, out: Val) -> None:
        f, inner = self.fn, self["inner"]

        def some(i: Val, mask: Val | None) -> None:
            ty, at = vec(self.word, self.width), self.word_at(keys, i)
            v = f.load(ty, at, self.bits // 8) if mask is None else f.masked_load(ty, at, mask, self.bits // 8)
            self.mv.store(self.value(v), self.element(out, i), mask)

        def one(i: Val) -> None:
            v = f.load(self.word, self.word_at(keys, i))
            self.m1.store(self.value(v), self.element(out, f.mul(i, inner)))

        f.if_(
            f.cmp("eq", inner, i64(1)),
            lambda: self.vectors(i64(0), self["size"], some),
            lambda: f.loop(0, self["size"], one) and None,
        )


class _Pieces(Keyed):
    """Task p puts the keys of piece p of a line in order."""

    def __init__(self, module: Module, name: str, dtype: DType, descending: bool, unit: bool) -> None:
        super().__init__(module, name, dtype, descending, PIECES)
        sort = quicksort.sort(module, self.bits)
        f = self.fn

        def task(p: Val) -> None:
            first = f.mul(p, self["piece"])
            n = self.min(self["piece"], f.sub(self["size"], first))
            keys, spare = self.word_at(self["keys"], first), f.gep(self["spare"], f.mul(p, i64(64)))
            self.read(self.element(self["x"], f.mul(first, self["step"])), self["step"], unit, n, keys)
            f.call(sort, [keys, self.word_at(spare, first), n])

        self.run(task)


class _Merge(Keyed):
    """Merges runs of keys two by two: task p writes part p of a pair's `parts`; `last`: elements instead of keys."""

    def __init__(self, module: Module, name: str, dtype: DType, descending: bool, last: bool) -> None:
        super().__init__(module, name, dtype, descending, MERGE)
        self.last = last
        self.run(self.task)

    def load(self, p: Val, i: Val) -> Val:
        return self.fn.load(self.word, self.word_at(p, i))

    def put(self, key: Val, i: Val) -> None:
        if self.last:
            self.m1.store(self.value(key), self.element(self["out"], i))
        else:
            self.fn.store(key, self.word_at(self["out"], i))

    def task(self, t: Val) -> None:
        f, run = self.fn, self["run"]
        pair, part = self.split(t, self["parts"])
        first = f.mul(f.mul(pair, run), i64(2))
        middle, end = (self.min(f.add(first, f.mul(run, i64(k))), self["size"]) for k in (1, 2))
        lo = self.min(f.add(first, f.mul(part, self["part"])), end)
        hi = self.min(f.add(lo, self["part"]), end)
        a, z = (self.border(first, middle, end, f.sub(k, first)) for k in (lo, hi))
        b, y = (f.add(middle, f.sub(f.sub(k, first), f.sub(i, first))) for k, i in ((lo, a), (hi, z)))
        x = self["x"]

        def both(k: Val, i: Val, j: Val) -> Val:
            return f.and_(f.cmp("slt", i, z), f.cmp("slt", j, y))

        def step(k: Val, i: Val, j: Val) -> list[Val]:
            u, v = self.load(x, i), self.load(x, j)
            own = f.cmp("sle", u, v)
            self.put(f.select(own, u, v), k)
            one = f.cast("zext", own, "i64")
            return [f.add(k, i64(1)), f.add(i, one), f.sub(f.add(j, i64(1)), one)]

        k, i, j = f.while_([lo, a, b], both, step)
        f.loop(i, z, lambda m: self.put(self.load(x, m), f.add(k, f.sub(m, i))))
        k = f.add(k, f.sub(f.intrinsic("smax", i, z), i))
        f.loop(j, y, lambda m: self.put(self.load(x, m), f.add(k, f.sub(m, j))))

    def border(self, first: Val, middle: Val, end: Val, count: Val) -> Val:
        """Where the left run ends among the `count` least elements of both."""
        f, x = self.fn, self["x"]
        low = f.intrinsic("smax", first, f.sub(f.add(first, count), f.sub(end, middle)))
        high = self.min(middle, f.add(first, count))

        def halve(low: Val, high: Val) -> list[Val]:
            at = f.op("sdiv", f.add(low, high), i64(2))
            other = f.sub(f.add(middle, count), f.add(f.sub(at, first), i64(1)))
            more = f.cmp("sle", self.load(x, at), self.load(x, other))
            return [f.select(more, f.add(at, i64(1)), low), f.select(more, high, at)]

        return f.while_([low, high], lambda low, high: f.cmp("slt", low, high), halve)[0]


def emit_lines(module: Module, name: str, dtype: DType, descending: bool, unit: bool, direct: bool) -> None:
    """A routine that sorts lines; `unit`: elements of a line lie side by side."""
    _Lines(module, name, dtype, descending, unit, direct)


def emit_pieces(module: Module, name: str, dtype: DType, descending: bool, unit: bool) -> None:
    """A routine that sorts pieces of one line as keys."""
    _Pieces(module, name, dtype, descending, unit)


def emit_merge(module: Module, name: str, dtype: DType, descending: bool, last: bool) -> None:
    """A routine that merges sorted runs of keys."""
    _Merge(module, name, dtype, descending, last)
