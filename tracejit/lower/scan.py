"""Running sums and products along an axis, as LLVM IR: across the other axes in vectors, or along a line in pieces.

A line is divided by its length alone: the pieces' totals come first, then each piece starts from those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracejit.ir.types import DType, int64
from tracejit.lower.llvm import Module, Val, i64
from tracejit.lower.routine import Mask, Routine
from tracejit.lower.scalar import S

COLUMNS = ("out x", "size width outer_step step inner_step strip strips")
LINES = ("out x start", "size outer_step step piece pieces")
ABREAST = 4  # vectors of columns that are walked down together


class _Columns(Routine):
    """`out[o, j, :]` is the running result down j. A task owns `strip` columns of one o."""

    def __init__(
        self, module: Module, name: str, dtype: DType, kind: str, exclusive: bool, reverse: bool, unit: bool
    ) -> None:
        super().__init__(module, name, dtype, *COLUMNS)
        self.kind, self.exclusive, self.reverse, self.unit = kind, exclusive, reverse, unit
        self.run(self.task)

    def task(self, t: Val) -> None:
        f = self.fn
        outer, strip = self.split(t, self["strips"])
        self.x = self.element(self["x"], f.mul(outer, self["outer_step"]))
        self.out = self.element(self["out"], f.mul(f.mul(outer, self["size"]), self["width"]))
        left = f.mul(strip, self["strip"])
        right = self.min(f.add(left, self["strip"]), self["width"])
        broad = self.width * ABREAST
        end = f.add(left, f.and_(f.sub(right, left), i64(-broad)))
        f.loop(left, end, lambda q: self.down(q, None, ABREAST), step=broad)
        self.vectors(end, right, lambda q, mask: self.down(q, mask, 1))

    def down(self, q: Val, mask: Mask, count: int) -> None:
        f = self.fn

        def row(j: Val, *sums: Val) -> list[Val]:
            at = f.sub(f.sub(self["size"], i64(1)), j) if self.reverse else j
            x, to = f.mul(at, self["step"]), f.mul(at, self["width"])
            out = []
            for c, v in enumerate(sums):
                column = f.add(q, i64(c * self.width))
                new = self.mv.combiner(self.kind)(S(v, self.dtype), self.load(x, column, mask))
                self.mv.store(
                    S(v, self.dtype) if self.exclusive else new, self.element(self.out, f.add(to, column)), mask
                )
                out.append(new.v)
            return out

        f.loop(0, self["size"], row, [self.mv.neutral(self.kind, self.dtype).v] * count)

    def load(self, row: Val, column: Val, mask: Mask) -> S:
        f = self.fn
        if self.unit:
            return self.mv.load(self.element(self.x, f.add(row, column)), self.dtype, mask)
        step = self["inner_step"]
        return self.mv.gather(self.element(self.x, f.add(row, f.mul(column, step))), step, self.dtype, mask)


class _Lines(Routine):
    """`out[o, j]` is the running result along j. A task takes one of `pieces` pieces of one line.

    mode   "whole": a piece is a line; "total": only the results of pieces, `out[o, piece]`; "rest": pieces start from
           `start[o, piece]`
    """

    def __init__(
        self, module: Module, name: str, dtype: DType, kind: str, exclusive: bool, reverse: bool, unit: bool, mode: str
    ) -> None:
        super().__init__(module, name, dtype, *LINES)
        self.kind, self.exclusive, self.reverse, self.unit, self.mode = kind, exclusive, reverse, unit, mode
        self.combine = self.mv.combiner(kind)
        self.neutral = self.mv.neutral(kind, dtype)
        self.run(self.task)

    def task(self, t: Val) -> None:
        f = self.fn
        outer, piece = self.split(t, self["pieces"])
        self.x = self.element(self["x"], f.mul(outer, self["outer_step"]))
        self.out = self.element(self["out"], f.mul(outer, self["size"]))
        lo = f.mul(piece, self["piece"])
        hi = self.min(f.add(lo, self["piece"]), self["size"])
        if self.mode == "total":
            total = self.loop(lo, hi, self.neutral, self.collect)
            self.m1.store(self.mv.reduce(self.kind, total), self.element(self["out"], t))
            return
        start = self.neutral
        if self.mode == "rest":
            start = self.mv.broadcast(self.m1.load(self.element(self["start"], t), self.dtype))
        self.loop(lo, hi, start, self.advance)

    def loop(self, lo: Val, hi: Val, start: S, body: Callable[[Val, S, Mask], S]) -> S:
        f = self.fn
        end = f.add(lo, f.and_(f.sub(hi, lo), i64(-self.width)))

        def whole(j: Val, v: Val) -> list[Val]:
            return [body(j, S(v, self.dtype), None).v]

        def rest(v: Val) -> Callable[[], Sequence[Val]]:
            return lambda: [body(end, S(v, self.dtype), f.mask(f.sub(hi, end), self.width)).v]

        (v,) = f.loop(lo, end, whole, [start.v], step=self.width)
        (v,) = f.if_(f.cmp("slt", end, hi), rest(v), lambda: [v])
        return S(v, self.dtype)

    def collect(self, j: Val, total: S, mask: Mask) -> S:
        return self.combine(total, self.load(j, mask))

    def advance(self, j: Val, carry: S, mask: Mask) -> S:
        """The next vector's results, and the carry behind it in every lane."""
        f, w = self.fn, self.width
        x = self.load(j, mask)
        by = 1
        while by < w:
            moved = f.shuffle(self.neutral.v, x.v, [w - by + i if i < by else w + i - by for i in range(w)])
            x = self.combine(S(moved, self.dtype), x)
            by *= 2
        last = S(f.shuffle(x.v, x.v, [w - 1] * w), self.dtype)
        if self.exclusive:
            x = S(f.shuffle(self.neutral.v, x.v, [w - 1, *range(w, 2 * w - 1)]), self.dtype)
        self.store(j, self.combine(carry, x), mask)
        return self.combine(carry, last)

    def backwards(self, v: Val) -> Val:
        return self.fn.shuffle(v, v, list(reversed(range(self.width))))

    def load(self, j: Val, mask: Mask) -> S:
        """The elements from j on in the order of the walk; lanes outside the mask are neutral."""
        f, step = self.fn, self["step"]
        at = f.sub(f.sub(self["size"], i64(1)), j) if self.reverse else j
        if self.unit and self.reverse and mask is None:
            low = f.sub(at, i64(self.width - 1))
            return S(self.backwards(self.mv.load(self.element(self.x, low), self.dtype).v), self.dtype)
        if self.unit and not self.reverse:
            x = self.mv.load(self.element(self.x, at), self.dtype, mask)
        else:
            along = f.sub(i64(0), step) if self.reverse else step
            x = self.mv.gather(self.element(self.x, f.mul(at, step)), along, self.dtype, mask)
        return x if mask is None else S(f.select(mask, x.v, self.neutral.v), self.dtype)

    def store(self, j: Val, x: S, mask: Mask) -> None:
        f = self.fn
        if not self.reverse:
            self.mv.store(x, self.element(self.out, j), mask)
            return
        at = f.sub(f.sub(self["size"], i64(1)), j)
        if mask is None:
            low = f.sub(at, i64(self.width - 1))
            self.mv.store(S(self.backwards(x.v), self.dtype), self.element(self.out, low))
            return
        steps = f.sub(f.splat(i64(0), self.width), f.iota(f"<{self.width} x i64>"))
        self.mv.scatter(x, self.element(self.out, at), S(steps, int64), mask)


def emit_columns(
    module: Module, name: str, dtype: DType, kind: str, exclusive: bool, reverse: bool, unit: bool
) -> None:
    """`kind` is "sum" or "prod"; `unit`: columns lie next to each other."""
    _Columns(module, name, dtype, kind, exclusive, reverse, unit)


def emit_lines(
    module: Module, name: str, dtype: DType, kind: str, exclusive: bool, reverse: bool, unit: bool, mode: str
) -> None:
    """`unit`: a line's elements lie next to each other."""
    _Lines(module, name, dtype, kind, exclusive, reverse, unit, mode)
