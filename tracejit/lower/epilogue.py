"""A fusion group as the epilogue of a matrix product: it runs over the tile while that is in registers or cache."""

from __future__ import annotations

from tracejit.lower.emit_body import BodyEmitter
from tracejit.lower.kernel import FULL, ROW, SCALAR, Kernel, Stride
from tracejit.lower.llvm import Fn, Val, i64
from tracejit.lower.matmul import FINISH
from tracejit.lower.microkernel import prefetch, tiles
from tracejit.lower.scalar import S
from tracejit.lower.scalarmath import LLVMScalar


class GroupEpilogue(BodyEmitter):
    """Emits a group's body for each vector of sums. Its operands come after the product's own, from `first` on."""

    def __init__(self, kernel: Kernel, first: int) -> None:
        self.k, self.first = kernel, first
        self.last, self.unroll = 0, 1
        self.kept: dict[int, Val] = {}
        self.crowded = kernel.crowded()
        self.acc = next(s.id for s in kernel.stmts if s.kind == "acc")

    def prepare(self, fn: Fn) -> None:
        self.fn = fn
        self.m1 = LLVMScalar(fn, 1)
        self.ops = {}
        self.env = {}
        self.load_operands()
        self.outer_statements(SCALAR, 0, [None] * len(self.k.axes))
        self.matrix = self.unravelled(fn.args[FINISH.index("batch")], range(self.k.outer - self.k.rows))

    def operand(self, i: int, ty: str) -> Val:
        return super().operand(i + self.first if i >= 0 else i, ty)

    def emit(self, fn: Fn, acc: Val, batch: Val, row: Val, col: Val, mask: Val | None, width: int) -> None:
        self.width = width
        self.mv = LLVMScalar(fn, width)
        before = dict(self.env)
        index = [*self.matrix, *self.unravelled(row, range(self.k.outer - self.k.rows, self.k.outer)), col]
        self.outer_statements(ROW, 0, index)
        self.fetch_ahead(index)
        memo = {self.acc: self.mv.rounded(S(acc, self.k.stmts[self.acc].dtype))}
        for i, a in self.k.stores:
            self.write(self.stored(i, lambda j: self.element(j, memo, index, mask, 0)), a, index, mask)
        self.env = before

    def fetch_ahead(self, index: list[Val | None]) -> None:
        """Fetch what the tiles below and on the right will read, while their sums are made."""
        if self.k.rows != 1:
            return
        fn, t = self.fn, tiles(self.k.stmts[self.acc].dtype)
        row, col = index[-2:]
        assert row is not None and col is not None
        below = [*index[:-2], fn.add(row, i64(t.rows[0])), col]
        right = [*index[:-1], fn.add(col, i64(t.vectors * t.width))]
        for s in self.k.stmts:
            a = s.access
            if s.kind == "load" and s.level == FULL and a is not None and a.strides[-1] == Stride.UNIT:
                if any(x != Stride.ZERO for x in a.strides[:-1]):
                    for at in (below, right):
                        prefetch(fn, self.address(a, s.dtype, at))

    def destination(self, fn: Fn) -> tuple[Val, Val, Val] | None:
        return None


__all__ = ["FULL", "GroupEpilogue"]
