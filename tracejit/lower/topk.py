"""The positions of the largest elements of lines, as LLVM IR: what exceeds the least of those found is collected.

An entry is a key, falling where elements rise, above its position; entries are sorted when their buffer is full. So
equal elements come in the order of their positions. Of types with 64 bits keys and positions lie apart, in the order of
the positions: a copy of the keys is sorted, which tells what stays and where it comes.
"""

from __future__ import annotations

from tracejit.ir.types import DType
from tracejit.lower import quicksort
from tracejit.lower.llvm import Module, Val, const, i64
from tracejit.lower.sortvalues import Keyed

TOP = ("out x buffer spare", "size outer_step step lines groups k capacity")
AT_ONCE = 64  # elements that are compared before there is a branch
REGISTER = 8  # entries that sorting writes behind the last


def capacity(k: int) -> int:
    """Entries that are collected before they are sorted."""
    return max(2 * k, 64)


def buffer_bytes(dtype: DType, k: int) -> int:
    """Memory for the entries of a line, and as much for sorting them."""
    return 8 * (capacity(k) + AT_ONCE + REGISTER) * (2 if dtype.bits == 64 else 1)


class _Top(Keyed):
    """Task g of `groups` takes lines g, g + groups, …"""

    one_zero = True

    def __init__(self, module: Module, name: str, dtype: DType, unit: bool) -> None:
        super().__init__(module, name, dtype, True, TOP)
        self.unit = unit
        self.sort = quicksort.sort(module, 64)
        self.some, self.at_once = self.fn.alloca(64), AT_ONCE // self.width
        self.room = self.fn.mul(self.fn.add(self["capacity"], i64(AT_ONCE + REGISTER)), i64(8))
        self.run(self.task)

    def task(self, g: Val) -> None:
        f = self.fn
        room = f.mul(g, self.room if self.bits == 32 else f.mul(self.room, i64(2)))
        buffer, spare = f.gep(self["buffer"], room), f.gep(self["spare"], room)

        def line(n: Val) -> None:
            x = self.element(self["x"], f.mul(n, self["outer_step"]))
            count = self.collect(x, buffer, spare)
            self.finish(buffer, spare, count, f.gep(self["out"], f.mul(n, self["k"]), "i64"))

        f.loop(g, self["lines"], line, step=self["groups"])

    def finish(self, buffer: Val, spare: Val, count: Val, out: Val) -> None:
        """The positions of the k largest of those that were collected."""
        f = self.fn
        f.call(self.sort, [buffer, spare, count])

        def put(i: Val) -> None:
            at = f.and_(f.load("i64", f.gep(buffer, i, "i64")), i64(0xFFFFFFFF))
            f.store(at, f.gep(out, i, "i64"))

        f.loop(0, self["k"], put)

    def keys(self, x: Val, i: Val, mask: Val | None) -> Val:
        at = self.element(x, self.fn.mul(i, self["step"]))
        if self.unit:
            return self.key(self.mv.load(at, self.dtype, mask))
        return self.key(self.mv.gather(at, self["step"], self.dtype, mask))

    def collect(self, x: Val, buffer: Val, spare: Val) -> Val:
        """Every element that may be among the largest; the result is how many."""
        f, n = self.fn, self["size"]
        first = self.min(n, self["capacity"])

        def take(i: Val) -> None:
            key = self.key(self.m1.load(self.element(x, self.fn.mul(i, self["step"])), self.dtype))
            self.put(key, i, buffer, i)

        f.loop(0, first, take)
        count, limit = f.if_(
            f.cmp("slt", first, n), lambda: self.compact(buffer, spare, first), lambda: [first, const(self.word, 0)]
        )
        main = f.add(first, f.and_(f.sub(n, first), i64(-AT_ONCE)))

        def many(i: Val, count: Val, limit: Val) -> list[Val]:
            keys = [self.keys(x, f.add(i, i64(self.width * c)), None) for c in range(self.at_once)]
            return self.add_some(keys, i, None, count, limit, buffer, spare)

        def rest(i: Val, count: Val, limit: Val) -> list[Val]:
            mask = f.mask(f.sub(n, i), self.width)
            return self.add_some([self.keys(x, i, mask)], i, mask, count, limit, buffer, spare)

        count, limit = f.loop(first, main, many, [count, limit], step=AT_ONCE)
        return f.loop(main, n, rest, [count, limit], step=self.width)[0]

    def put(self, key: Val, i: Val, buffer: Val, n: Val) -> None:
        """Entry n: the key of the element at position i."""
        f = self.fn
        f.store(f.or_(f.op("shl", f.cast("zext", key, "i64"), i64(32)), i), f.gep(buffer, n, "i64"))

    def compact(self, buffer: Val, spare: Val, count: Val) -> list[Val]:
        """Keep the k largest; the key that others have to be below."""
        f, k = self.fn, self["k"]
        f.call(self.sort, [buffer, spare, count])
        last = f.load("i64", f.gep(buffer, f.sub(k, i64(1)), "i64"))
        return [k, f.cast("trunc", f.op("lshr", last, i64(32)), "i32")]

    def add_some(
        self, keys: list[Val], i: Val, mask: Val | None, count: Val, limit: Val, buffer: Val, spare: Val
    ) -> list[Val]:
        f = self.fn
        line = f.splat(limit, self.width)
        hits = [f.cmp("slt", k, line) for k in keys]
        hits = hits if mask is None else [f.and_(h, mask) for h in hits]
        every = hits[0]
        for h in hits[1:]:
            every = f.or_(every, h)

        def add() -> list[Val]:
            now = count
            for c, (key, hit) in enumerate(zip(keys, hits, strict=True)):
                now = self.add_register(key, hit, f.add(i, i64(c * self.width)), now, buffer)
            full = f.cmp("sgt", now, self["capacity"])
            return f.if_(full, lambda: self.compact(buffer, spare, now), lambda: [now, limit])

        some = f.cmp("ne", self.bits_of(every), const(f"i{self.width}", 0))
        return f.if_(some, add, lambda: [count, limit])

    def add_register(self, key: Val, hit: Val, i: Val, count: Val, buffer: Val) -> Val:
        """The entries of the lanes that hit."""
        f = self.fn

        def lanes() -> list[Val]:
            f.store(key, self.some)
            bits = f.cast("zext", self.bits_of(hit), "i64")

            def one(bits: Val, count: Val) -> list[Val]:
                full = f.module.declare("llvm.cttz.i64", "i64", ["i64", "i1 immarg"])
                lane = f.pure(f"call i64 @{full}(i64 {bits}, i1 true)", "i64")
                self.put(f.load(self.word, self.word_at(self.some, lane)), f.add(i, lane), buffer, count)
                return [f.and_(bits, f.sub(bits, i64(1))), f.add(count, i64(1))]

            return [f.while_([bits, count], lambda bits, _: f.cmp("ne", bits, i64(0)), one)[1]]

        some = f.cmp("ne", self.bits_of(hit), const(f"i{self.width}", 0))
        return f.if_(some, lanes, lambda: [count])[0]

    def bits_of(self, mask: Val) -> Val:
        return self.fn.cast("bitcast", mask, f"i{self.width}")


class _WideTop(_Top):
    """The same for keys of 64 bits: the positions lie behind the keys, where sorting writes behind the sorted copy."""

    def put(self, key: Val, i: Val, buffer: Val, n: Val) -> None:
        f = self.fn
        f.store(key, f.gep(buffer, n, "i64"))
        f.store(i, f.gep(f.gep(buffer, self.room), n, "i64"))

    def ordered(self, buffer: Val, spare: Val, count: Val) -> None:
        """A sorted copy of the keys."""
        f = self.fn
        f.loop(0, count, lambda j: f.store(f.load("i64", f.gep(buffer, j, "i64")), f.gep(spare, j, "i64")))
        f.call(self.sort, [spare, f.gep(spare, self.room), count])

    def compact(self, buffer: Val, spare: Val, count: Val) -> list[Val]:
        f, k = self.fn, self["k"]
        self.ordered(buffer, spare, count)
        limit = f.load("i64", f.gep(spare, f.sub(k, i64(1)), "i64"))
        equal = f.sub(k, self.below(spare, k, limit))  # so many that equal the last stay, the first of them

        def keep(j: Val, to: Val, left: Val) -> list[Val]:
            key = f.load("i64", f.gep(buffer, j, "i64"))
            same = f.and_(f.cmp("eq", key, limit), f.cmp("sgt", left, i64(0)))
            self.put(key, f.load("i64", f.gep(f.gep(buffer, self.room), j, "i64")), buffer, to)
            stays = f.cast("zext", f.or_(same, f.cmp("slt", key, limit)), "i64")
            return [f.add(to, stays), f.sub(left, f.cast("zext", same, "i64"))]

        f.loop(0, count, keep, [i64(0), equal])
        return [k, limit]

    def below(self, keys: Val, count: Val, key: Val) -> Val:
        """How many of `count` sorted keys are less."""
        f = self.fn

        def halve(base: Val, left: Val) -> list[Val]:
            half = f.op("lshr", left, i64(1))
            less = f.cmp("slt", f.load("i64", f.gep(keys, f.add(base, half), "i64")), key)
            above = f.sub(f.sub(left, half), i64(1))
            return [f.select(less, f.add(f.add(base, half), i64(1)), base), f.select(less, above, half)]

        return f.while_([i64(0), count], lambda _, left: f.cmp("sgt", left, i64(0)), halve)[0]

    def finish(self, buffer: Val, spare: Val, count: Val, out: Val) -> None:
        f, k = self.fn, self["k"]
        self.ordered(buffer, spare, count)
        seen = f.gep(spare, self.room)  # how many there were of the keys that begin here
        f.loop(0, count, lambda j: f.store(i64(0), f.gep(seen, j, "i64")))

        def place(j: Val) -> None:
            first = self.below(spare, count, f.load("i64", f.gep(buffer, j, "i64")))
            p = f.gep(seen, first, "i64")
            before = f.load("i64", p)
            f.store(f.add(before, i64(1)), p)
            to = f.add(first, before)
            at = f.load("i64", f.gep(f.gep(buffer, self.room), j, "i64"))
            f.if_(f.cmp("slt", to, k), lambda: f.store(at, f.gep(out, to, "i64")))

        f.loop(0, count, place)


def emit(module: Module, name: str, dtype: DType, unit: bool) -> None:
    """A routine for the positions of the largest elements."""
    (_WideTop if dtype.bits == 64 else _Top)(module, name, dtype, unit)
