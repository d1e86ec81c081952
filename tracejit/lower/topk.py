"""The positions of the largest elements of lines, as LLVM IR: what exceeds the least of those found is collected.

An entry is a key, falling where elements rise, above its position; entries are sorted when their buffer is full. So
equal elements come in the order of their positions.
"""

from __future__ import annotations

from tracejit.ir.types import DType
from tracejit.lower import quicksort
from tracejit.lower.llvm import Module, Val, const, i64
from tracejit.lower.sortvalues import Keyed

TOP = ("out x buffer spare", "size outer_step step lines groups k capacity")
LANES = 16
AT_ONCE = 4  # registers of elements that are compared before there is a branch


def capacity(k: int) -> int:
    """Entries that are collected before they are sorted."""
    return max(2 * k, 64)


class _Top(Keyed):
    """Task g of `groups` takes lines g, g + groups, …"""

    one_zero = True

    def __init__(self, module: Module, name: str, dtype: DType, unit: bool) -> None:
        super().__init__(module, name, dtype, True, TOP)
        self.unit = unit
        self.sort = quicksort.sort(module, 64)
        self.some = self.fn.alloca(4 * LANES)
        self.run(self.task)

    def task(self, g: Val) -> None:
        f = self.fn
        room = f.mul(f.add(self["capacity"], i64(AT_ONCE * LANES)), i64(8))
        buffer, spare = f.gep(self["buffer"], f.mul(g, room)), f.gep(self["spare"], f.mul(g, room))

        def line(n: Val) -> None:
            x = self.element(self["x"], f.mul(n, self["outer_step"]))
            count = self.collect(x, buffer, spare)
            f.call(self.sort, [buffer, spare, count])
            out = f.gep(self["out"], f.mul(n, self["k"]), "i64")

            def put(i: Val) -> None:
                at = f.and_(f.load("i64", f.gep(buffer, i, "i64")), i64(0xFFFFFFFF))
                f.store(at, f.gep(out, i, "i64"))

            f.loop(0, self["k"], put)

        f.loop(g, self["lines"], line, step=self["groups"])

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
            f.store(self.entry(key, i), f.gep(buffer, i, "i64"))

        f.loop(0, first, take)
        count, limit = f.if_(
            f.cmp("slt", first, n), lambda: self.compact(buffer, spare, first), lambda: [first, const("i32", 0)]
        )
        step = AT_ONCE * LANES
        main = f.add(first, f.and_(f.sub(n, first), i64(-step)))

        def many(i: Val, count: Val, limit: Val) -> list[Val]:
            keys = [self.keys(x, f.add(i, i64(LANES * c)), None) for c in range(AT_ONCE)]
            return self.add_some(keys, i, None, count, limit, buffer, spare)

        def rest(i: Val, count: Val, limit: Val) -> list[Val]:
            mask = f.mask(f.sub(n, i), LANES)
            return self.add_some([self.keys(x, i, mask)], i, mask, count, limit, buffer, spare)

        count, limit = f.loop(first, main, many, [count, limit], step=step)
        return f.loop(main, n, rest, [count, limit], step=LANES)[0]

    def entry(self, key: Val, i: Val) -> Val:
        f = self.fn
        return f.or_(f.op("shl", f.cast("zext", key, "i64"), i64(32)), i)

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
        line = f.splat(limit, LANES)
        hits = [f.cmp("slt", k, line) for k in keys]
        hits = hits if mask is None else [f.and_(h, mask) for h in hits]
        every = hits[0]
        for h in hits[1:]:
            every = f.or_(every, h)

        def add() -> list[Val]:
            now = count
            for c, (key, hit) in enumerate(zip(keys, hits, strict=True)):
                now = self.add_register(key, hit, f.add(i, i64(c * LANES)), now, buffer)
            full = f.cmp("sgt", now, self["capacity"])
            return f.if_(full, lambda: self.compact(buffer, spare, now), lambda: [now, limit])

        some = f.cmp("ne", f.cast("bitcast", every, f"i{LANES}"), const(f"i{LANES}", 0))
        return f.if_(some, add, lambda: [count, limit])

    def add_register(self, key: Val, hit: Val, i: Val, count: Val, buffer: Val) -> Val:
        """The entries of the lanes that hit."""
        f = self.fn

        def lanes() -> list[Val]:
            f.store(key, self.some)
            bits = f.cast("zext", f.cast("bitcast", hit, f"i{LANES}"), "i64")

            def one(bits: Val, count: Val) -> list[Val]:
                full = f.module.declare("llvm.cttz.i64", "i64", ["i64", "i1 immarg"])
                lane = f.pure(f"call i64 @{full}(i64 {bits}, i1 true)", "i64")
                e = self.entry(f.load("i32", f.gep(self.some, lane, "i32")), f.add(i, lane))
                f.store(e, f.gep(buffer, count, "i64"))
                return [f.and_(bits, f.sub(bits, i64(1))), f.add(count, i64(1))]

            return [f.while_([bits, count], lambda bits, _: f.cmp("ne", bits, i64(0)), one)[1]]

        some = f.cmp("ne", f.cast("bitcast", hit, f"i{LANES}"), const(f"i{LANES}", 0))
        return f.if_(some, lanes, lambda: [count])[0]


def emit(module: Module, name: str, dtype: DType, unit: bool) -> None:
    """A routine for the positions of the largest elements, of types whose keys have 32 bits."""
    _Top(module, name, dtype, unit)
