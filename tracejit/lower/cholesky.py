"""Cholesky factors as LLVM IR: the upper one in panels, a band of rows after the other; the lower one is written.

A pivot that rounding could have made positive, or negative, is refused: LAPACK decides what becomes of such a matrix.
"""

from __future__ import annotations

from tracejit.ir.types import DType
from tracejit.lower.llvm import Fn, Module, Val, const, i64
from tracejit.lower.matrixplan import CHOLESKY, HEIGHT, ROW, lanes_of
from tracejit.lower.pack import transpose
from tracejit.lower.panels import Panels, Tile, function
from tracejit.lower.scalar import S

BAND = 32  # rows that go through a panel together while it is in the cache
DOUBT = 4  # units in the last place of a diagonal element


def least(dtype: DType) -> tuple[float, float]:
    """The unit in the last place of 1, and the smallest number whose inverse is finite, with some room."""
    return (2.0**-23, 2.0**-120) if dtype.bits == 32 else (2.0**-52, 2.0**-1000)


def _beside(module: Module, dtype: DType) -> Fn:
    """The tile at row `depth` of a panel `b`; `a` is the first row of the columns of the diagonal's tile."""
    width = lanes_of(dtype)

    def body(f: Fn) -> None:
        c, a, b, depth = f.args
        tile = Tile(f, dtype, c, ROW)
        left = [f.gep(a, r, tile.ty) for r in range(HEIGHT)]
        tile.subtract(left, width, b, i64(0), depth, i64(0))
        tile.solve(lambda r, s: tile.number(left[r], f.mul(f.add(depth, i64(s)), i64(width))), True)
        tile.store()
        f.ret_()

    return function(module, dtype, "beside", "c a b depth", body)


def _diagonal(module: Module, dtype: DType, first: int) -> Fn:
    """The tile that holds the diagonal from row `depth` on, in the lanes from `first` on.

    The result is not 0 if one of the first `count` pivots is in doubt.
    """
    width = lanes_of(dtype)

    def body(f: Fn) -> None:
        c, a, b, depth, count = f.args
        tile = Tile(f, dtype, c, ROW)
        given = [f.extract(v, first + r) for r, v in enumerate(tile.rows)]
        tile.subtract([f.gep(a, r, tile.ty) for r in range(HEIGHT)], width, b, i64(0), depth, i64(0))
        rows, bad, unit = tile.rows, const("i1", 0), const(tile.ty, 1)
        eps, tiny = (const(tile.ty, v) for v in least(dtype))
        pivots = []
        for r in range(HEIGHT):
            pivot = f.extract(rows[r], first + r)
            low = f.fma(f.intrinsic("fabs", given[r]), f.mul(const(tile.ty, DOUBT), eps), tiny)
            doubt = f.not_(f.cmp("ogt", pivot, low))
            bad = f.or_(bad, f.and_(doubt, f.cmp("slt", i64(r), count)))
            pivots.append(pivot)
            scaled, below = f.mul(rows[r], f.splat(f.fdiv(unit, pivot), width)), f.fneg(rows[r])
            for s in range(r + 1, HEIGHT):
                rows[s] = f.fma(f.shuffle(scaled, scaled, [first + s] * width), below, rows[s])
        for r, pivot in enumerate(pivots):
            rows[r] = f.fdiv(rows[r], f.splat(f.intrinsic("sqrt", pivot), width))
        tile.store()
        f.ret_(f.cast("zext", bad, "i64"))

    return function(module, dtype, f"diagonal {first}", "c a b depth count", body, "i64")


class _Cholesky(Panels):
    """`out[m]` is the factor of a[m]. Task g of `groups` takes matrices g, g + groups, … of `items`.

    lie   "rows": elements of a row of `a` lie next to each other; "columns": those of a column do; "" neither
    """

    def __init__(self, module: Module, name: str, dtype: DType, lie: str) -> None:
        super().__init__(module, name, dtype, *CHOLESKY)
        self.lie, self.beside = lie, _beside(module, dtype)
        self.diagonals = [_diagonal(module, dtype, at) for at in range(0, self.width, HEIGHT)]
        self.size = self["size"]
        self.iota = self.fn.iota(self.ints)
        self.run(self.task)

    def task(self, g: Val) -> None:
        f = self.fn
        wide = f.op("udiv", self["rows"], i64(self.width))
        panels = f.gep(self["scratch"], f.mul(g, f.mul(wide, self.size)))

        def one(m: Val) -> None:
            a = self.element(self["a"], f.mul(m, self["a_batch"]))
            f.loop(0, wide, lambda q: self.load(panels, q, a))
            f.loop(0, self["n"], lambda i: self.band(panels, i, wide), step=BAND)
            out = self.element(self["out"], f.mul(m, f.mul(self["n"], self["n"])))
            f.loop(0, wide, lambda q: self.write(panels, q, wide, out))

        f.loop(g, self["items"], one, step=self["groups"])

    def band(self, panels: Val, first: Val, wide: Val) -> None:
        """The rows from `first` on, BAND of them, a panel after the other."""
        f = self.fn

        def panel(q: Val) -> None:
            b = f.gep(panels, f.mul(q, self.size))
            behind = self.min(f.mul(f.add(q, i64(1)), i64(self.width)), self["n"])
            end = self.min(f.add(first, i64(BAND)), behind)
            f.loop(first, end, lambda i: self.tile(panels, b, q, i), step=HEIGHT)

        f.loop(f.op("udiv", first, i64(self.width)), wide, panel)

    def tile(self, panels: Val, b: Val, q: Val, i: Val) -> None:
        f = self.fn
        own, lane = self.split(i, i64(self.width))
        a, c = f.gep(f.gep(panels, f.mul(own, self.size)), lane, self.ty), f.gep(b, f.mul(i, i64(ROW)))

        def beside() -> None:
            f.call(self.beside.name, [c, a, b, i])

        def diagonal() -> None:
            def of(tile: Fn) -> list[Val]:
                return [f.call(tile.name, [c, a, b, i, f.sub(self["n"], i)], "i64")]

            first, *more = self.diagonals
            if more:
                (bad,) = f.if_(f.cmp("eq", lane, i64(0)), lambda: of(first), lambda: of(more[0]))
            else:
                (bad,) = of(first)
            self.refuse(f.cmp("ne", bad, i64(0)))

        f.if_(f.cmp("eq", own, q), diagonal, beside)

    # --- between memory and panels ------------------------------------------------------------------------------------
    def below(self, i: Val, column: Val) -> Val:
        """Which lanes, that are rows from i on, are in the triangle at a column."""
        f = self.fn
        rows = f.add(self.iota, f.splat(i, self.width))
        inside = f.cmp("slt", rows, f.splat(self["n"], self.width))
        return f.and_(inside, f.cmp("sge", rows, f.splat(column, self.width)))

    def load(self, panels: Val, q: Val, a: Val) -> None:
        """A panel of the transposed matrix, down to the diagonal, with zeros behind it."""
        f, n, w = self.fn, self["n"], self.width
        i, panel = f.mul(q, i64(w)), f.gep(panels, f.mul(q, self.size))
        zero = const(self.vector, 0)
        a = self.element(a, f.mul(i, self["a_row"]))

        def put(j: Val, v: Val) -> None:
            f.store(v, f.gep(panel, f.mul(j, i64(ROW))), ROW)

        def square(j: Val) -> None:
            p = self.element(a, f.mul(j, self["a_column"]))
            rows = self.block(p, self["a_row"], f.sub(n, i), f.mask(f.sub(n, j), w))
            for r, v in enumerate(rows):
                at = f.add(j, i64(r))
                put(at, f.select(self.below(i, at), v, zero))

        def line(j: Val) -> None:
            p = self.element(a, f.mul(j, self["a_column"]))
            put(j, self.row(p, self["a_row"], self.lie == "columns", self.below(i, j)))

        end = f.add(i, i64(w))
        f.loop(0, end, square, step=w) if self.lie == "rows" else f.loop(0, end, line)

    def write(self, panels: Val, q: Val, wide: Val, out: Val) -> None:
        """The rows of the result that are panel q's columns."""
        f, n, w = self.fn, self["n"], self.width
        i, panel = f.mul(q, i64(w)), f.gep(panels, f.mul(q, self.size))
        out = self.element(out, f.mul(i, n))

        def store(j: Val, rows: list[Val]) -> None:
            columns = f.add(self.iota, f.splat(j, w))
            inside = f.cmp("slt", columns, f.splat(n, w))
            for r, v in enumerate(rows):
                row = f.add(i, i64(r))
                kept = f.select(f.cmp("sle", columns, f.splat(row, w)), v, const(self.vector, 0))
                mask = f.and_(inside, f.splat(f.cmp("slt", row, n), w))
                self.mv.store(S(kept, self.dtype), self.element(out, f.add(f.mul(i64(r), n), j)), mask)

        def square(jq: Val) -> None:
            j = f.mul(jq, i64(w))
            first = f.gep(panel, f.mul(j, i64(ROW)))
            store(j, transpose(f, [f.load(self.vector, f.gep(first, r * ROW), ROW) for r in range(w)]))

        f.loop(0, f.add(q, i64(1)), square)
        f.loop(f.add(q, i64(1)), wide, lambda jq: store(f.mul(jq, i64(w)), [const(self.vector, 0)] * w))


def emit(module: Module, name: str, dtype: DType, lie: str) -> None:
    """`lie` says which elements of the matrices lie next to each other: "rows", "columns" or neither, ""."""
    _Cholesky(module, name, dtype, lie)
