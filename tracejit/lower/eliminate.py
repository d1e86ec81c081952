"""Elimination with partial pivoting as LLVM IR, in panels, and what is made of its factors: solutions, determinants.

Columns are taken from the left, some panels at a time: what stands to their left is subtracted from them tile by tile,
then each panel is eliminated column by column. A matrix with a pivot that rounding could have made 0, or anything but
0, is refused, and so is one that holds NaN or infinity: LAPACK decides what becomes of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tracejit.ir.types import DType, float64, int32
from tracejit.lower.cholesky import least
from tracejit.lower.llvm import Module, Val, const, i64
from tracejit.lower.matrixplan import ELIMINATE, HEIGHT, ROW
from tracejit.lower.panels import Panels, within_panels
from tracejit.lower.routine import Mask
from tracejit.lower.scalar import S

TOGETHER = 4  # panels that read what stands to their left together
DOUBT = 8  # units in the last place of a row's sum


class _Eliminate(Panels):
    """Task g of `groups` takes matrices g, g + groups, … of `items`.

    A matrix in panels has its place in `scratch`, and in `orders` are which row stands where, and the rows exchanged;
    a task has `strip` panels of right sides in `sides`.

    kind   "solve", "inv", "lu" with the rows' order in `more`, "det", or "slogdet" with the logarithm in `more`
    part   "whole": the places are tasks'; "factors": they are matrices', which stay there; "solutions": what follows
           from those, for items of which each is one of the `strips` strips of a matrix's right sides
    """

    def __init__(
        self, module: Module, name: str, dtype: DType, kind: str, unit: bool, unit_b: bool, part: str
    ) -> None:
        super().__init__(module, name, dtype, *ELIMINATE)
        self.kind, self.unit, self.unit_b, self.part = kind, unit, unit_b, part
        self.tiles = {k: within_panels(module, dtype, k).name for k in ("update", "forward", "backward")}
        self.size = self["size"]
        self.iota = self.fn.iota(self.ints)
        self.word = "i32" if dtype.bits == 32 else "i64"
        self.finish: Callable[[Val], None] = self.number_of if kind in ("det", "slogdet") else self.solved
        if kind == "lu":
            self.finish = self.factors
        self.run(self.task)

    def task(self, g: Val) -> None:
        f = self.fn
        self.sides = f.gep(self["sides"], f.mul(g, f.mul(self["strip"], self.size)))

        def one(item: Val) -> None:
            if self.part == "solutions":
                m, strip = self.split(item, self["strips"])
                self.take(m)
                self.strip(m, f.mul(strip, f.mul(self["strip"], i64(self.width))))
                return
            self.take(g if self.part == "whole" else item)
            self.low = self.load(self.element(self["a"], f.mul(item, self["a_batch"])))
            f.loop(0, self["wide"], self.together, step=TOGETHER)
            if self.part == "whole":
                self.finish(item)

        f.loop(g, self["items"], one, step=self["groups"])

    def take(self, place: Val) -> None:
        """Work with the matrix at a place."""
        f = self.fn
        self.panels = f.gep(self["scratch"], f.mul(place, f.add(f.mul(self["wide"], self.size), i64(ROW))))
        self.order = f.gep(self["orders"], f.mul(place, f.mul(self["rows"], i64(16))))
        self.exchanged = f.gep(self.order, f.mul(self["rows"], i64(8)))

    def panel(self, q: Val) -> Val:
        return self.fn.gep(self.panels, self.fn.mul(q, self.size))

    def line(self, panel: Val, i: Val) -> Val:
        return self.fn.gep(panel, self.fn.mul(i, i64(ROW)))

    def tile(self, kind: str, c: Val, a: Val, b: Val, depth: Val) -> None:
        self.fn.call(self.tiles[kind], [c, a, b, depth, self.size])

    def word_at(self, p: Val, i: Val) -> Val:
        return self.fn.gep(p, i, "i64")

    # --- the matrix ---------------------------------------------------------------------------------------------------
    def load(self, a: Val) -> Val:
        """The matrix in panels, with ones on the diagonal behind it; the result is the least pivot without doubt."""
        f, n = self.fn, self["n"]
        total = f.alloca(ROW)
        f.store(const(self.vector, 0), total, ROW)

        def columns(q: Val, j: Val, mask: Mask) -> None:
            panel, left = self.panel(q), self.element(a, f.mul(j, self["a_column"]))

            def one(i: Val, sums: Val) -> list[Val]:
                v = self.row(self.element(left, f.mul(i, self["a_row"])), self["a_column"], self.unit, mask)
                f.store(v, self.line(panel, i), ROW)
                return [f.add(sums, f.intrinsic("fabs", v))]

            (sums,) = f.loop(0, n, one, [f.load(self.vector, total, ROW)])
            f.store(sums, total, ROW)
            self.clear(panel, n, self["rows"])

        self.columns(n, columns)
        f.loop(n, self["rows"], lambda i: f.store(self.number(1), self.place(self.panels, self.size, i, i)))
        f.loop(0, n, lambda i: f.store(i, self.word_at(self.order, i), 8))
        total_of = self.mv.reduce("sum", S(f.load(self.vector, total, ROW), self.dtype)).v
        eps, tiny = (self.number(v) for v in least(self.dtype))
        mean = f.fdiv(total_of, f.cast("sitofp", n, self.ty))
        return f.fma(mean, f.mul(self.number(DOUBT), eps), tiny)

    # --- elimination --------------------------------------------------------------------------------------------------
    def together(self, first: Val) -> None:
        """The panels from `first` on, TOGETHER of them."""
        f, n = self.fn, self["n"]
        last = self.min(f.add(first, i64(TOGETHER)), self["wide"])
        left = f.mul(first, i64(self.width))

        def rows(kind: str, lo: Val, hi: Val, depth: Callable[[Val], Val]) -> None:
            def one(i: Val) -> None:
                def of(q: Val) -> None:
                    b = self.panel(q)
                    self.tile(kind, self.line(b, i), self.line(self.panels, i), b, depth(i))

                f.loop(first, last, of)

            f.loop(lo, hi, one, step=HEIGHT)

        rows("forward", i64(0), left, lambda i: i)
        f.if_(f.cmp("sgt", left, i64(0)), lambda: rows("update", left, n, lambda i: left))

        def own(p: Val) -> None:
            panel, top = self.panel(p), f.mul(p, i64(self.width))
            a, b, depth = self.panel(first), self.line(panel, left), f.sub(top, left)

            def forward(i: Val) -> None:
                self.tile("forward", self.line(panel, i), self.line(a, i), b, f.sub(i, left))

            def update(i: Val) -> None:
                self.tile("update", self.line(panel, i), self.line(a, i), b, depth)

            f.loop(left, top, forward, step=HEIGHT)
            f.if_(f.cmp("sgt", depth, i64(0)), lambda: f.loop(top, n, update, step=HEIGHT) and None)
            self.eliminate(panel, top)
            f.loop(0, p, lambda q: self.exchange(self.panel(q), top))
            f.loop(f.add(p, i64(1)), self["wide"], lambda q: self.exchange(self.panel(q), top))

        f.loop(first, last, own)

    def size_bits(self, v: Val) -> Val:
        """The bits of a number without its sign: greater for greater numbers, greatest for NaN."""
        return self.fn.bits(self.fn.intrinsic("fabs", v))

    def better(self, v: Val, i: Val, best: Val, at: Val) -> list[Val]:
        f = self.fn
        bits = self.size_bits(v)
        more = f.cmp("ugt", bits, best)
        return [f.select(more, bits, best), f.select(more, i, at)]

    def eliminate(self, panel: Val, top: Val) -> None:
        """A panel whose first row with a pivot is `top`."""
        f, n = self.fn, self["n"]
        count = self.min(i64(self.width), f.sub(n, top))
        none = [const(self.word, 0), top]
        _, first = f.loop(top, n, lambda i, *best: self.better(self.read(self.line(panel, i)), i, *best), none)
        f.loop(0, count, lambda c, at: [self.column(panel, top, c, at)], [first])

    def column(self, panel: Val, top: Val, c: Val, at: Val) -> Val:
        """One column, whose pivot is in row `at`; the result is where that of the next column is."""
        f, n, w = self.fn, self["n"], self.width
        k = f.add(top, c)
        after = f.add(k, i64(1))
        line, other = self.line(panel, k), self.line(panel, at)
        x, y = f.load(self.vector, other, ROW), f.load(self.vector, line, ROW)
        pivot = self.read(f.gep(other, c, self.ty))
        beside = self.read(f.gep(other, f.add(c, i64(1)), self.ty))
        f.store(x, line, ROW)
        f.store(y, other, ROW)
        places = [self.word_at(self.order, i) for i in (k, at)]
        numbers = [f.load("i64", p, 8) for p in places]
        for p, number in zip(places, reversed(numbers), strict=True):
            f.store(number, p, 8)
        f.store(at, self.word_at(self.exchanged, k), 8)
        self.refuse(f.not_(f.cmp("ogt", f.intrinsic("fabs", pivot), self.low)))
        lane = f.splat(c, w)
        here = f.cmp("eq", self.iota, lane)
        rest = f.fneg(f.select(f.cmp("sgt", self.iota, lane), x, const(self.vector, 0)))
        inverse = f.fdiv(self.number(1), pivot)

        def row(i: Val, best: Val, found: Val) -> list[Val]:
            p = self.line(panel, i)
            factor = f.mul(self.read(f.gep(p, c, self.ty)), inverse)
            following = f.fma(f.fneg(factor), beside, self.read(f.gep(p, f.add(c, i64(1)), self.ty)))
            many = f.splat(factor, w)
            f.store(f.select(here, many, f.fma(many, rest, f.load(self.vector, p, ROW))), p, ROW)
            return self.better(following, i, best, found)

        return f.loop(after, n, row, [const(self.word, 0), after])[1]

    def exchange(self, panel: Val, top: Val) -> None:
        """The exchanges of rows that the panel at row `top` made, in another panel."""
        f = self.fn

        def one(k: Val) -> None:
            at = f.load("i64", self.word_at(self.exchanged, k), 8)
            line, other = self.line(panel, k), self.line(panel, at)
            x, y = f.load(self.vector, other, ROW), f.load(self.vector, line, ROW)
            f.store(x, line, ROW)
            f.store(y, other, ROW)

        f.loop(top, self.min(f.add(top, i64(self.width)), self["n"]), one)

    # --- right sides --------------------------------------------------------------------------------------------------
    def solved(self, m: Val) -> None:
        """The solutions for all right sides, some panels of them at a time."""
        f = self.fn
        f.loop(0, self["k"], lambda first: self.strip(m, first), step=f.mul(self["strip"], i64(self.width)))

    def strip(self, m: Val, first: Val) -> None:
        """The solutions for right sides from `first` on, `strip` panels of them."""
        f, n, k = self.fn, self["n"], self["k"]
        out = self.element(self["out"], f.add(f.mul(m, f.mul(n, k)), first))
        count = self.min(f.sub(k, first), f.mul(self["strip"], i64(self.width)))

        def panel(q: Val) -> Val:
            return f.gep(self.sides, f.mul(q, self.size))

        def fill(q: Val, j: Val, mask: Mask) -> None:
            (self.ones if self.kind == "inv" else self.side)(m, panel(q), f.add(first, j), mask)

        self.columns(count, fill)
        self.substitute(panel, f.op("udiv", f.add(count, i64(self.width - 1)), i64(self.width)))
        self.columns(count, lambda q, j, mask: self.put(n, panel(q), self.element(out, j), k, mask))

    def side(self, m: Val, panel: Val, j: Val, mask: Mask) -> None:
        """The columns from j on, with rows in the order of the pivots."""
        f = self.fn
        left = self.element(self["b"], f.add(f.mul(m, self["b_batch"]), f.mul(j, self["b_column"])))

        def one(i: Val) -> None:
            p = self.element(left, f.mul(f.load("i64", self.word_at(self.order, i), 8), self["b_row"]))
            f.store(self.row(p, self["b_column"], self.unit_b, mask), self.line(panel, i), ROW)

        f.loop(0, self["n"], one)
        self.clear(panel, self["n"], self["rows"])

    def ones(self, m: Val, panel: Val, j: Val, mask: Mask) -> None:
        """The columns from j on of the identity, with rows in that order."""
        f = self.fn

        def one(i: Val) -> None:
            column = f.splat(f.sub(f.load("i64", self.word_at(self.order, i), 8), j), self.width)
            on = f.cmp("eq", self.iota, column)
            f.store(f.select(on, const(self.vector, 1), const(self.vector, 0)), self.line(panel, i), ROW)

        f.loop(0, self["n"], one)
        self.clear(panel, self["n"], self["rows"])

    def substitute(self, panel: Callable[[Val], Val], count: Val) -> None:
        """Solve by both factors for `count` panels."""
        f, n = self.fn, self["n"]

        def down(i: Val) -> None:
            def of(q: Val) -> None:
                self.tile("forward", self.line(panel(q), i), self.line(self.panels, i), panel(q), i)

            f.loop(0, count, of)

        f.loop(0, n, down, step=HEIGHT)
        f.loop(0, count, lambda q: self.clear(panel(q), n, self["rows"]))
        bottom = f.sub(self["rows"], i64(1))
        high = f.and_(f.add(n, i64(HEIGHT - 1)), i64(-HEIGHT))
        corner = f.gep(self.panel(f.sub(self["wide"], i64(1))), i64(self.width - 1), self.ty)

        def up(t: Val) -> None:
            i = f.sub(f.sub(high, i64(1)), t)

            def of(q: Val) -> None:
                b = panel(q)
                self.tile("backward", self.line(b, i), self.line(corner, i), self.line(b, bottom), f.sub(bottom, i))

            f.loop(0, count, of)

        f.loop(0, high, up, step=HEIGHT)

    # --- other results ------------------------------------------------------------------------------------------------
    def factors(self, m: Val) -> None:
        """Both factors in one matrix, and the order of the rows."""
        f, n = self.fn, self["n"]
        out = self.element(self["out"], f.mul(m, f.mul(n, n)))
        order = self.element(self["more"], f.mul(m, n), int32)
        self.columns(n, lambda q, j, mask: self.put(n, self.panel(q), self.element(out, j), n, mask))

        def one(i: Val) -> None:
            number = f.load("i64", self.word_at(self.order, i), 8)
            f.store(f.cast("trunc", number, "i32"), self.element(order, i, int32), 4)

        f.loop(0, n, one)

    def number_of(self, m: Val) -> None:
        """The product of the pivots as a number between 1 and 2, with its sign, and a power of 2."""
        f = self.fn
        whole = [const("i64", 0x7FF << 52), const("i64", 1023 << 52)]

        def apart(v: Val) -> tuple[Val, Val]:
            bits = f.bits(v)
            power = f.sub(f.op("lshr", f.and_(bits, whole[0]), i64(52)), i64(1023))
            return f.cast("bitcast", f.or_(f.and_(bits, f.not_(whole[0])), whole[1]), "double"), power

        def one(i: Val, number: Val, power: Val) -> list[Val]:
            pivot = self.read(self.place(self.panels, self.size, i, i))
            own, more = apart(f.cast("fpext", pivot, "double"))
            exchanged = f.cmp("ne", f.load("i64", self.word_at(self.exchanged, i), 8), i)
            number, rest = apart(f.mul(number, f.select(exchanged, f.fneg(own), own)))
            return [number, f.add(power, f.add(more, rest))]

        number, power = f.loop(0, self["n"], one, [const("double", 1), i64(0)])
        if self.kind == "slogdet":
            log = self.m1.log(S(f.intrinsic("fabs", number), float64)).v
            log = f.fma(f.cast("sitofp", power, "double"), const("double", math.log(2)), log)
            self.result("out", m, f.intrinsic("copysign", const("double", 1), number))
            self.result("more", m, log)
            return
        power = f.intrinsic("smax", self.min(power, i64(1500)), i64(-1500))
        half = f.op("sdiv", power, i64(2))
        for part in (half, f.sub(power, half)):
            scale = f.cast("bitcast", f.op("shl", f.add(part, i64(1023)), i64(52)), "double")
            number = f.mul(number, scale)
        self.result("out", m, number)

    def result(self, name: str, m: Val, v: Val) -> None:
        f = self.fn
        v = v if self.ty == "double" else f.cast("fptrunc", v, self.ty)
        f.store(v, self.element(self[name], m), self.dtype.size)


def emit(module: Module, name: str, dtype: DType, kind: str, unit: bool, unit_b: bool, part: str) -> None:
    """`unit`, `unit_b`: elements of a row of the matrices, and of the right sides, lie next to each other."""
    _Eliminate(module, name, dtype, kind, unit, unit_b, part)
