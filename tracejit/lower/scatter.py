"""Sums, products, extremes and writes at positions that are data, as LLVM IR. Each element has one task.

A task goes through all positions in order, so that a result depends neither on the number of tasks nor on who takes
them. Positions outside the axis are passed over. Sums of many may be kept in a wider type, `kept`.
"""

from __future__ import annotations

from collections.abc import Callable

from tracejit.ir.types import DType
from tracejit.lower.llvm import Module, Val, i64
from tracejit.lower.routine import Mask, Routine
from tracejit.lower.scalar import S
from tracejit.lower.scalarmath import LLVMScalar

PIECE = 1024  # positions that are sorted out at a time
ROWS = (
    "out values places", "size count width outer_step place_step inner_step index_step height blocks strip strips"
)  # fmt: skip
BINS = ("out values places", "size count outer_step place_step index_step piece pieces")


def _combiner(m: LLVMScalar, mode: str) -> Callable[[S, S], S] | None:
    """What is made of the value that is there and another; None: the other takes its place."""
    return None if mode == "put" else m.combiner({"add": "sum", "mul": "prod"}.get(mode, mode))


class _Rows(Routine):
    """`out[o, places[k], :] += values[o, k, :]`. A task owns `height` rows of one o, and `strip` columns of them."""

    def __init__(
        self, module: Module, name: str, dtype: DType, index: DType, mode: str, unit: bool, kept: DType
    ) -> None:
        super().__init__(module, name, dtype, *ROWS)
        self.index, self.begin, self.unit, self.kept = index, mode == "sum", unit, kept
        self.combine = _combiner(self.mv, mode)
        self.numbers, self.rows = self.fn.alloca(8 * PIECE), self.fn.alloca(8 * PIECE)
        self.run(self.task)

    def task(self, t: Val) -> None:
        f = self.fn
        rest, strip = self.split(t, self["strips"])
        outer, block = self.split(rest, self["blocks"])
        self.left = f.mul(strip, self["strip"])
        self.right = self.min(f.add(self.left, self["strip"]), self["width"])
        self.top = f.mul(block, self["height"])
        self.bottom = self.min(f.add(self.top, self["height"]), self["size"])
        self.out = self.element(self["out"], f.mul(f.mul(outer, self["size"]), self["width"]), self.kept)
        self.values = self.element(self["values"], f.mul(outer, self["outer_step"]))
        if self.begin:
            self.clear()
        f.loop(0, self["count"], self.piece, step=PIECE)

    def clear(self) -> None:
        f, zero, width = self.fn, self.mv.const(0, self.kept), self["width"]

        def row(d: Val) -> None:
            self.fill(self.element(self.out, f.mul(d, width), self.kept), self.left, self.right, zero)

        def whole() -> None:
            self.fill(self.out, f.mul(self.top, width), f.mul(self.bottom, width), zero)

        f.if_(f.cmp("eq", self["strips"], i64(1)), whole, lambda: f.loop(self.top, self.bottom, row) and None)

    def piece(self, first: Val) -> None:
        """Which of the next positions are the task's own, then their rows."""
        f = self.fn
        height = f.sub(self.bottom, self.top)

        def choose(k: Val, found: Val) -> list[Val]:
            at = self.position(self["places"], f.mul(k, self["index_step"]), self.index, self["size"])
            f.store(k, f.gep(self.numbers, found, "i64"))
            f.store(at, f.gep(self.rows, found, "i64"))
            own = f.cmp("ult", f.sub(at, self.top), height)
            return [f.add(found, f.cast("zext", own, "i64"))]

        (found,) = f.loop(first, self.min(f.add(first, i64(PIECE)), self["count"]), choose, [i64(0)])
        f.loop(0, found, self.one)

    def one(self, j: Val) -> None:
        f = self.fn
        k, row = f.load("i64", f.gep(self.numbers, j, "i64")), f.load("i64", f.gep(self.rows, j, "i64"))
        source = self.element(self.values, f.mul(k, self["place_step"]))
        target = self.element(self.out, f.mul(row, self["width"]), self.kept)

        def columns(q: Val, mask: Mask) -> None:
            to = self.element(target, q, self.kept)
            if self.unit:
                x = self.mv.load(self.element(source, q), self.dtype, mask)
            else:
                step = self["inner_step"]
                x = self.mv.gather(self.element(source, f.mul(q, step)), step, self.dtype, mask)
            x = self.mv.cast(x, self.kept)
            self.mv.store(self.combine(self.mv.load(to, self.kept, mask), x) if self.combine else x, to, mask)

        self.vectors(self.left, self.right, columns)


class _Bins(Routine):
    """`out[o, places[k]] += values[o, k]`. A task adds up one of `pieces` pieces of k into bins of its own."""

    def __init__(self, module: Module, name: str, dtype: DType, index: DType, mode: str, kept: DType) -> None:
        super().__init__(module, name, dtype, *BINS)
        self.index, self.begin, self.kept = index, mode == "sum", kept
        self.combine = _combiner(self.m1, mode)
        self.run(self.task)

    def task(self, t: Val) -> None:
        f = self.fn
        outer, piece = self.split(t, self["pieces"])
        out = self.element(self["out"], f.mul(t, self["size"]), self.kept)
        values = self.element(self["values"], f.mul(outer, self["outer_step"]))
        if self.begin:
            self.fill(out, i64(0), self["size"], self.mv.const(0, self.kept))
        first = f.mul(piece, self["piece"])

        def one(k: Val) -> None:
            at = self.position(self["places"], f.mul(k, self["index_step"]), self.index, self["size"])

            def put() -> None:
                to = self.element(out, at, self.kept)
                x = self.m1.load(self.element(values, f.mul(k, self["place_step"])), self.dtype)
                x = self.m1.cast(x, self.kept)
                self.m1.store(self.combine(self.m1.load(to, self.kept), x) if self.combine else x, to)

            f.if_(f.cmp("ult", at, self["size"]), put)

        f.loop(first, self.min(f.add(first, self["piece"]), self["count"]), one)


def emit_rows(
    module: Module, name: str, dtype: DType, index: DType, mode: str, unit: bool, kept: DType | None = None
) -> None:
    """`unit`: the inner elements of the values lie next to each other.

    Values are summed into zeros ("sum"), are added to what is there, multiply it, are compared with it ("add", "mul",
    "max", "min"), or replace it ("put").
    """
    _Rows(module, name, dtype, index, mode, unit, kept or dtype)


def emit_bins(
    module: Module, name: str, dtype: DType, index: DType, mode: str, kept: DType | None = None
) -> None:
    """The same for single elements."""
    _Bins(module, name, dtype, index, mode, kept or dtype)
