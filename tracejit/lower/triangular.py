"""Triangular systems of equations as LLVM IR: right sides in panels, solved for tile by tile from the first row on.

A triangle is read where it lies, so that all its forms are this one: an upper one is a lower one that is read from its
end, and a transposed one has its strides exchanged.
"""

from __future__ import annotations

from tracejit.ir.types import DType
from tracejit.lower.llvm import Fn, Module, Val, i64
from tracejit.lower.matrixplan import HEIGHT, ROW, TRIANGULAR
from tracejit.lower.panels import Panels, Tile, function
from tracejit.lower.routine import Mask


def _tile(module: Module, dtype: DType) -> Fn:
    """The tile at row `depth` beside a triangle anywhere in memory; rows behind `last` are like that one."""

    def body(f: Fn) -> None:
        c, a, b, depth, last, down, along = f.args
        tile = Tile(f, dtype, c, ROW)
        lines = [f.intrinsic("smin", i64(r), last) for r in range(HEIGHT)]
        left = [f.gep(a, f.mul(line, down), tile.ty) for line in lines]
        tile.subtract(left, along, b, i64(0), depth, i64(0))
        tile.solve(lambda r, s: tile.number(left[r], f.mul(f.add(depth, lines[s]), along)), True)
        tile.store()
        f.ret_()

    return function(module, dtype, "anywhere", "c a b depth last down along", body)


class _Triangular(Panels):
    """`out[m]` is x with t[m] x = b[m]. Task g of `groups` takes items g, g + groups, …

    An item is one of the `strips` strips of a matrix's right sides, `strip` panels of them.
    """

    def __init__(self, module: Module, name: str, dtype: DType, unit: bool) -> None:
        super().__init__(module, name, dtype, *TRIANGULAR)
        self.unit, self.tile = unit, _tile(module, dtype)
        f = self.fn
        self.rows = f.and_(f.add(self["n"], i64(HEIGHT - 1)), i64(-HEIGHT))
        self.size = self["size"]
        self.run(self.task)

    def task(self, g: Val) -> None:
        f = self.fn
        panels = f.gep(self["scratch"], f.mul(g, f.mul(self["strip"], self.size)))
        f.loop(g, self["items"], lambda item: self.item(panels, item), step=self["groups"])

    def item(self, panels: Val, item: Val) -> None:
        f, n = self.fn, self["n"]
        m, strip = self.split(item, self["strips"])
        first = f.mul(strip, f.mul(self["strip"], i64(self.width)))
        count = self.min(f.sub(self["k"], first), f.mul(self["strip"], i64(self.width)))
        t = self.element(self["t"], f.mul(m, self["t_batch"]))
        b = self.element(self["b"], f.add(f.mul(m, self["b_batch"]), f.mul(first, self["b_column"])))
        out = self.element(self["out"], f.add(f.mul(m, self["out_batch"]), first))
        f.if_(f.cmp("eq", strip, i64(0)), lambda: self.look(t))
        self.columns(count, lambda q, j, mask: self.load(f.gep(panels, f.mul(q, self.size)), b, j, mask))
        wide = f.op("udiv", f.add(count, i64(self.width - 1)), i64(self.width))

        def rows(i: Val) -> None:
            a = self.element(t, f.mul(i, self["t_row"]))
            last = f.sub(f.sub(n, i), i64(1))

            def one(q: Val) -> None:
                b = f.gep(panels, f.mul(q, self.size))
                c = f.gep(b, f.mul(i, i64(ROW)))
                f.call(self.tile.name, [c, a, b, i, last, self["t_row"], self["t_column"]])

            f.loop(0, wide, one)

        f.loop(0, n, rows, step=HEIGHT)

        def put(q: Val, j: Val, mask: Mask) -> None:
            self.put(n, f.gep(panels, f.mul(q, self.size)), self.element(out, j), self["out_row"], mask)

        self.columns(count, put)

    def look(self, t: Val) -> None:
        """Whether the diagonal has a zero."""
        f = self.fn
        step = f.add(self["t_row"], self["t_column"])

        def one(i: Val, bad: Val) -> list[Val]:
            zero = f.cmp("oeq", self.read(self.element(t, f.mul(i, step))), self.number(0))
            return [f.or_(bad, f.cast("zext", zero, "i64"))]

        (bad,) = f.loop(0, self["n"], one, [i64(0)])
        self.refuse(f.cmp("ne", bad, i64(0)))

    def load(self, panel: Val, b: Val, j: Val, mask: Mask) -> None:
        f = self.fn

        def one(i: Val) -> None:
            p = self.element(b, f.add(f.mul(i, self["b_row"]), f.mul(j, self["b_column"])))
            f.store(self.row(p, self["b_column"], self.unit, mask), f.gep(panel, f.mul(i, i64(ROW))), ROW)

        f.loop(0, self["n"], one)
        self.clear(panel, self["n"], self.rows)


def emit(module: Module, name: str, dtype: DType, unit: bool) -> None:
    """`unit`: elements of a row of right sides lie next to each other."""
    _Triangular(module, name, dtype, unit)
