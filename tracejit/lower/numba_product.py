"""Matrix products as Numba source: plain loops, with the fused epilogue on each element of the result."""

from __future__ import annotations

from tracejit.ir.graph import Value
from tracejit.ir.types import DType
from tracejit.lower.emit_numba import KernelPrinter
from tracejit.lower.kernel import ROW, SCALAR
from tracejit.lower.numba_access import Placement, Size, place, place_parts, same
from tracejit.lower.numba_args import Setting, Written
from tracejit.lower.numba_expr import Expr, Scope
from tracejit.lower.program import ProductUnit
from tracejit.passes.layout import Layout, contiguous

LETTERS = ("p", "q", "i")
SIZES = ("blocks", "batch", "rows")


class ProductPrinter(KernelPrinter):
    """Writes a product. Loops: over the batch, rows, columns, depth."""

    def __init__(self, setting: Setting, unit: ProductUnit) -> None:
        self.unit, inst = unit, unit.instance
        levels = unit.walk.levels()
        if inst is None:
            self.outer: list[Size] = [*[d for d, _, _ in levels], unit.m]
            self.factors: list[list[Size]] = [
                [*[s for _, s, _ in levels], unit.ra[0]],
                [*[t for _, _, t in levels], 0],
            ]
        else:
            self.outer, self.factors = inst.domain[:-1], inst.factors
        n = len(self.outer)
        self.columns, self.depth = n, n + 1
        names = [LETTERS[max(i - n, -3)] + (str(i) if i < n - 3 else "") for i in range(n)]
        super().__init__(setting, inst, [*self.outer, unit.n, unit.k], range(n + 1), (*names, "j", "k"))

    def place_operands(self) -> None:
        u, (left, right) = self.unit, self.factors
        self.left = self._factor(u.a, [*left, 0, u.ra[1]])
        self.right = self._factor(u.b, [*right, u.rb[1], u.rb[0]])
        super().place_operands()

    def _factor(self, lay: Layout, strides: list[Size]) -> tuple[Value, Placement, int | None, DType]:
        put = place if lay.part is None else place_parts
        p = put(lay.base.shape, self.sizes, strides, lay.offset - (lay.part or 0))
        self.args.add(lay.base, p)
        return lay.base, p, lay.part, self.unit.dtype

    def run(self) -> Written:
        u = self.unit
        whole = place(u.node.out.shape, self.sizes, [*contiguous((*self.outer, u.n)), 0], 0)
        if u.instance is None:
            self.args.add(u.node.out, whole, True)
        left, right = self.load(*self.left), self.load(*self.right)
        n = len(self.outer)
        names = [SIZES[max(i - n, -3)] for i in range(n)]
        self.args.open(self.out, [*names, "columns", "depth"])
        self.outer_values()
        self.top.count(self.deeper(SCALAR))
        self.name_outer(self.top, SCALAR)
        with self.s.dialect.tasks(self.out, self.loops[0], self.args.counts[0]), self.nest(range(1, n)):
            self.row = Scope(self.out, self.names, self.top)
            ends = [(i, x) for i, x in self.k.stores if self.store_level(x) == ROW]
            self.row.count([*self.deeper(ROW), *[self.env[i] for i, _ in ends]])
            self.name_outer(self.row, ROW)
            if self.s.dialect.row_buffers and same(u.rb[1], 1):
                self._by_rows(left, right, whole)
            else:
                self._by_dots(left, right, whole)
            for i, x in ends:
                self.write(x, self.env[i], self.row)
        return self.written()

    def _by_rows(self, a: Expr, b: Expr, whole: Placement) -> None:
        """A row of the result as a sum of rows of the right factor."""
        d, loc = self.unit.dtype, self.unit.node.loc
        line = self.names.new("line")
        self.row.at(loc)
        self.out.line(f"{line} = np.zeros({self.args.counts[self.columns]}, {self.m.kept(d)})")
        element = Expr(d, f"{line}[{self.loops[self.columns]}]")
        with self.nest([self.depth]):
            scope = Scope(self.out, self.names, self.row)
            scope.count([a])
            left = scope.name(a)
            with self.nest([self.columns]):
                self.m.label, self.m.line = "product", loc
                product = self.m.mul(Expr(d, left), b)
                self.update(Scope(self.out, self.names, scope), element.template, "sum", product, loc)
        with self.nest([self.columns]):
            self._store(element, whole)

    def _by_dots(self, a: Expr, b: Expr, whole: Placement) -> None:
        """Each element of the result as the sum of products along the depth."""
        d, loc = self.unit.dtype, self.unit.node.loc
        total = Expr(d, self.names.new("total"))
        self.row.at(loc)
        with self.nest([self.columns]):
            self.out.line(f"{total.template} = {self.m.const(0, d).template}")
            with self.nest([self.depth]):
                self.m.label, self.m.line = "product", loc
                self.update(Scope(self.out, self.names, self.row), total.template, "sum", self.m.mul(a, b), loc)
            self._store(total, whole)

    def _store(self, product: Expr, whole: Placement) -> None:
        if self.instance is None:
            out = self.element(self.unit.node.out, whole)
            self.out.line(f"{out} = {self.stored(product, Scope(self.out, self.names, self.row))}")
        else:
            acc = next(s.id for s in self.k.stmts if s.kind == "acc")
            self.body(0, {}, {}, {acc: self.m.rounded(product)})


def emit_product(setting: Setting, unit: ProductUnit) -> Written:
    """The text of a product's function."""
    return ProductPrinter(setting, unit).run()
