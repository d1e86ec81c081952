"""Reductions over rows as Numba source: a partial result per chunk of rows, then their combination."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracejit.errors import ArgumentError, Location
from tracejit.ir.types import DType
from tracejit.lower.kernel import Late
from tracejit.lower.numba_expr import Expr, Scope

if TYPE_CHECKING:
    from tracejit.lower.emit_numba import KernelPrinter

LABELS = {"sum": "total", "prod": "product", "max": "largest", "min": "smallest", "and": "every", "or": "some"}
CHUNKS = 64


class Chunks:
    """The two stages of late reductions: a partial result per chunk of rows, then their combination."""

    def __init__(self, printer: KernelPrinter) -> None:
        self.p, self.k, self.out = printer, printer.k, printer.out
        self.accs: dict[int, str] = {}
        self.partials: dict[int, str] = {}

    def run(self) -> None:
        p, k = self.p, self.k
        if not p.s.dialect.chunks:
            raise ArgumentError(f"reductions over rows have no form in Numba's {p.s.dialect.name} source")
        if k.outer == 0 and not k.flat:
            self._start()
            p.one_row(self.accs, {})
            for x in k.lates:
                p.finish(x, self._acc(x))
            return
        n = p.args.counts[0]
        columns = [x for x in k.lates if x.over == "columns"]
        least = f"{n} // 1024" if k.flat else f"{n} // 16" if columns else n
        chunks, chunk, c = p.names.new("chunks"), p.names.new("chunk"), p.names.new("c")
        self.out.line("# one result per chunk, so that the number of threads makes no difference")
        self.out.line(f"{chunks} = max(1, min({CHUNKS}, {least}))")
        self.out.line(f"{chunk} = -(-{n} // {chunks})")
        self._allocate(chunks)
        with p.s.dialect.tasks(self.out, c, chunks):
            self._start()
            into = {x.partial: f"{self.partials[x.partial]}[{self._at(c)}]" for x in columns}
            last = f"min({n}, ({c} + 1) * {chunk})"
            with self.out.block(f"for {p.loops[0]} in range({c} * {chunk}, {last}):"):
                if k.flat:
                    p.body(0, self.accs, {})
                else:
                    with p.nest(range(1, k.outer)):
                        p.one_row(self.accs, into)
            for x in self._scalars():
                self.out.line(f"{self.partials[x.partial]}[{c}] = {self.accs[x.partial]}")
        for x in k.lates:
            self._combine(x, c, chunks)

    def _scalars(self) -> list[Late]:
        return [x for x in self.k.lates if x.over != "columns"]

    def _dtype(self, x: Late) -> DType:
        return self.k.stmts[x.stmt].dtype

    def _neutral(self, x: Late) -> str:
        return self.p.m.neutral(x.kind, self._dtype(x)).template

    def _acc(self, x: Late, name: str | None = None) -> Expr:
        return Expr(self._dtype(x), name or self.accs[x.partial])

    def _start(self) -> None:
        for x in self._scalars():
            self.accs[x.partial] = self.p.names.new(LABELS[x.kind])
            self.out.line(f"{self.accs[x.partial]} = {self._neutral(x)}")

    def _inner(self) -> list[int]:
        return list(range(self.k.outer, len(self.k.axes)))

    def _at(self, c: str) -> str:
        return ", ".join([c, *[self.p.loops[a] for a in self._inner()]])

    def _allocate(self, chunks: str) -> None:
        for x in self.k.lates:
            d = self._dtype(x)
            kept = self.p.m.kept(d) if d.kind != "b" else "np.bool_"
            name = self.partials[x.partial] = self.p.names.new(f"partial_{LABELS[x.kind]}")
            if x.over != "columns":
                self.out.line(f"{name} = np.empty({chunks}, {kept})")
                continue
            shape = f"({', '.join([chunks, *[self.p.args.counts[a] for a in self._inner()]])})"
            filled = f"np.zeros({shape}, {kept})" if x.kind == "sum" else f"np.full({shape}, {self._neutral(x)})"
            self.out.line(f"{name} = {filled}")

    def _combine(self, x: Late, c: str, chunks: str) -> None:
        p = self.p
        name = p.names.new(LABELS[x.kind])

        def add(at: str) -> None:
            self.out.line(f"{name} = {self._neutral(x)}")
            with self.out.block(f"for {c} in range({chunks}):"):
                part = Expr(self._dtype(x), f"{self.partials[x.partial]}[{at}]")
                p.update(Scope(self.out, p.names, p.top), name, x.kind, part)
            p.finish(x, self._acc(x, name))

        if x.over == "columns":
            first, *rest = self._inner()
            with p.s.dialect.tasks(self.out, p.loops[first], p.args.counts[first]), p.nest(rest):
                add(self._at(c))
        else:
            add(c)


def line_of(x: Late) -> Location | None:
    return x.out.node.loc if x.out.node else None
