"""Products of integer matrices, as LLVM IR: tiles of the result in registers, sums that wrap around."""

from __future__ import annotations

from tracejit.ir.types import DType
from tracejit.lower.llvm import Module, Val, i64
from tracejit.lower.routine import Mask, Routine
from tracejit.lower.scalar import S

PRODUCT = ("out a b", "m n k a_batch a_m a_k b_batch b_k bands height pack")
ROWS = 8  # of a tile
VECTORS = 2  # of a row of a tile
DEPTH = 256  # summands that are added before the next columns' turn


class _Product(Routine):
    """`out[b, r, :] = Σ a[b, r, k] · b[b, k, :]`. A task owns `height` rows; rows of the right are contiguous.

    With `pack`, what a tile reads of the right operand is copied together first, for all tiles of the task.
    """

    def __init__(self, module: Module, name: str, dtype: DType) -> None:
        super().__init__(module, name, dtype, *PRODUCT)
        self.broad = self.width * VECTORS
        self.packed = self.fn.alloca(DEPTH * self.broad * dtype.size)
        self.run(self.task)

    def task(self, t: Val) -> None:
        f = self.fn
        batch, band = self.split(t, self["bands"])
        self.left = self.element(self["a"], f.mul(batch, self["a_batch"]))
        self.right = self.element(self["b"], f.mul(batch, self["b_batch"]))
        self.out = self.element(self["out"], f.mul(f.mul(batch, self["m"]), self["n"]))
        self.first = f.mul(band, self["height"])
        self.last = self.min(f.add(self.first, self["height"]), self["m"])
        end = f.and_(self["n"], i64(-self.broad))
        depth = f.intrinsic("smax", self["k"], i64(1))  # of no summands the sum is 0 and must be written

        def block(k: Val) -> None:
            count = self.min(f.sub(self["k"], k), i64(DEPTH))
            f.loop(0, end, lambda c: self.columns(k, count, c), step=self.broad)
            self.vectors(end, self["n"], lambda c, mask: self.rest(k, count, c, mask))

        f.loop(0, depth, block, step=DEPTH)

    def columns(self, k: Val, count: Val, c: Val) -> None:
        """A column of tiles, as broad as tiles are."""
        f, d = self.fn, self.dtype
        there = self.element(self.right, f.add(f.mul(k, self["b_k"]), c))

        def row(j: Val) -> None:
            for v in range(VECTORS):
                x = self.mv.load(self.element(self.element(there, f.mul(j, self["b_k"])), i64(v * self.width)), d)
                self.mv.store(x, self.element(self.packed, f.add(f.mul(j, i64(self.broad)), i64(v * self.width))))

        def pack() -> list[Val]:
            f.loop(0, count, row)
            return [self.packed, i64(self.broad)]

        y, step = f.if_(f.cmp("ne", self["pack"], i64(0)), pack, lambda: [there, self["b_k"]])
        whole = f.add(self.first, f.and_(f.sub(self.last, self.first), i64(-ROWS)))
        f.loop(self.first, whole, lambda r: self.tile(k, count, r, c, y, step, ROWS, VECTORS, None), step=ROWS)
        f.loop(whole, self.last, lambda r: self.tile(k, count, r, c, y, step, 1, VECTORS, None))

    def rest(self, k: Val, count: Val, c: Val, mask: Mask) -> None:
        """The last columns, one vector at a time."""
        f, step = self.fn, self["b_k"]
        y = self.element(self.right, f.add(f.mul(k, step), c))
        whole = f.add(self.first, f.and_(f.sub(self.last, self.first), i64(-ROWS)))
        f.loop(self.first, whole, lambda r: self.tile(k, count, r, c, y, step, ROWS, 1, mask), step=ROWS)
        f.loop(whole, self.last, lambda r: self.tile(k, count, r, c, y, step, 1, 1, mask))

    def tile(
        self, k: Val, count: Val, row: Val, column: Val, right: Val, step: Val, rows: int, vectors: int, mask: Mask
    ) -> None:
        """Add `count` summands from k on; `right` and `step`: where the right operand's elements for them lie."""
        f, d = self.fn, self.dtype
        numbers = [f.add(row, i64(r)) for r in range(rows)]
        lines = [self.element(self.left, f.add(f.mul(r, self["a_m"]), f.mul(k, self["a_k"]))) for r in numbers]
        places = [
            self.element(self.element(self.out, f.add(f.mul(r, self["n"]), column)), i64(c * self.width))
            for r in numbers for c in range(vectors)
        ]  # fmt: skip

        def add(j: Val, *sums: Val) -> list[Val]:
            at, along, out = self.element(right, f.mul(j, step)), f.mul(j, self["a_k"]), []
            ys = [self.mv.load(self.element(at, i64(c * self.width)), d, mask) for c in range(vectors)]
            for r, line in enumerate(lines):
                x = self.mv.broadcast(self.m1.load(self.element(line, along), d))
                for c, y in enumerate(ys):
                    out.append(self.mv.add(S(sums[r * vectors + c], d), self.mv.mul(x, y)).v)
            return out

        zero = self.mv.const(0, d).v
        start = f.if_(
            f.cmp("eq", k, i64(0)), lambda: [zero] * len(places), lambda: [self.mv.load(p, d, mask).v for p in places]
        )
        for s, p in zip(f.loop(0, count, add, start), places, strict=True):
            self.mv.store(S(s, d), p, mask)


def emit(module: Module, name: str, dtype: DType) -> None:
    """A routine for the product of matrices of an integer type."""
    _Product(module, name, dtype)
