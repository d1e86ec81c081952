"""Binary search in sorted rows, as LLVM IR: all values take the same number of steps, several at a time."""

from __future__ import annotations

from collections.abc import Callable

from tracejit.ir.types import DType
from tracejit.lower.llvm import Module, Val, i64
from tracejit.lower.routine import Routine
from tracejit.lower.scalar import S

ABREAST = 8  # values that are searched for together, so that their loads overlap
SEARCH = ("out sequence values", "size count row_step step value_row_step value_step piece pieces")


class _Search(Routine):
    """`out[o, k]` is the place of `values[o, k]` in `sequence[o, :]`. A task takes `piece` values of one o."""

    def __init__(self, module: Module, name: str, dtype: DType, right: bool, unit: bool) -> None:
        super().__init__(module, name, dtype, *SEARCH)
        self.right, self.unit = right, unit
        self.run(self.task)

    def task(self, t: Val) -> None:
        f = self.fn
        outer, piece = self.split(t, self["pieces"])
        self.row = self.element(self["sequence"], f.mul(outer, self["row_step"]))
        values = self.element(self["values"], f.mul(outer, self["value_row_step"]))
        out = f.gep(self["out"], f.mul(outer, self["count"]), "i64")
        first = f.mul(piece, self["piece"])

        def some(count: int) -> Callable[[Val], None]:
            def body(k: Val) -> None:
                at = [f.add(k, i64(j)) for j in range(count)]
                wanted = [self.m1.load(self.element(values, f.mul(j, self["value_step"])), self.dtype) for j in at]
                for j, place in zip(at, self.places(wanted), strict=True):
                    f.store(place, f.gep(out, j, "i64"))

            return body

        end = self.min(f.add(first, self["piece"]), self["count"])
        whole = f.add(first, f.and_(f.sub(end, first), i64(-ABREAST)))
        f.loop(first, whole, some(ABREAST), step=ABREAST)
        f.loop(whole, end, some(1))

    def places(self, values: list[S]) -> list[Val]:
        """For each value the elements before its `base` are before it; those from `base + left` on are not."""
        f = self.fn

        def step(left: Val, *bases: Val) -> list[Val]:
            half = f.op("lshr", left, i64(1))
            after = [f.add(base, half) for base in bases]
            lower = [self.before(f.sub(a, i64(1)), v) for a, v in zip(after, values, strict=True)]
            chosen = [f.select(c, a, base) for c, a, base in zip(lower, after, bases, strict=True)]
            return [f.sub(left, half), *chosen]

        left, *bases = f.while_([self["size"], *[i64(0)] * len(values)], lambda n, *b: f.cmp("sgt", n, i64(1)), step)

        def last() -> list[Val]:
            lower = [self.before(base, v) for base, v in zip(bases, values, strict=True)]
            return [f.add(base, f.cast("zext", c, "i64")) for base, c in zip(bases, lower, strict=True)]

        return list(f.if_(f.cmp("sgt", left, i64(0)), last, lambda: bases))

    def before(self, at: Val, v: S) -> Val:
        """Whether an element of the row is before the place of v; NaN comes after everything else."""
        x = self.m1.load(self.element(self.row, at if self.unit else self.fn.mul(at, self["step"])), self.dtype)
        return self.fn.not_(self.less(v, x)) if self.right else self.less(x, v)

    def less(self, a: S, b: S) -> Val:
        m = self.m1
        below = m.lt(a, b)
        if self.dtype.kind != "f":
            return below.v
        return m.logical_or(below, m.logical_and(m.isnan(b), m.logical_not(m.isnan(a)))).v


def emit(module: Module, name: str, dtype: DType, right: bool, unit: bool) -> None:
    """`unit`: the elements of a row lie next to each other."""
    _Search(module, name, dtype, right, unit)
