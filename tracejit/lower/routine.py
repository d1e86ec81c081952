"""What native functions outside the loop IR share: named operands, positions that are data, loops in vectors."""

from __future__ import annotations

from collections.abc import Callable

from tracejit.ir.types import DType, int64
from tracejit.lower.gemm import operand
from tracejit.lower.llvm import Module, Val, i64
from tracejit.lower.scalar import S
from tracejit.lower.scalarmath import LLVMScalar

Mask = Val | None


class Routine:
    """A function `void name(ptr frame, ptr idx, i64 lo, i64 hi)` whose operands are known by name.

    pointers, sizes   names of the operands, in order
    dtype             what is computed; a register holds up to 64 bytes of it
    """

    def __init__(self, module: Module, name: str, dtype: DType, pointers: str, sizes: str) -> None:
        self.fn = f = module.function(
            name, [("frame", "ptr noalias readonly"), ("idx", "ptr noalias readonly"), ("lo", "i64"), ("hi", "i64")]
        )
        frame, idx, self.lo, self.hi = f.args
        names = [*pointers.split(), *sizes.split()]
        first = len(pointers.split())
        self.at = {n: operand(f, frame, idx, k, "ptr" if k < first else "i64") for k, n in enumerate(names)}
        self.dtype = dtype
        self.width = 8 if dtype.bits == 64 else 16
        self.m1, self.mv = LLVMScalar(f, 1), LLVMScalar(f, self.width)

    def __getitem__(self, name: str) -> Val:
        return self.at[name]

    def element(self, p: Val, index: Val, dtype: DType | None = None) -> Val:
        """Pointer to an element."""
        return self.fn.gep(p, index, self.m1.memory(dtype or self.dtype))

    def min(self, a: Val, b: Val) -> Val:
        return self.fn.intrinsic("smin", a, b)

    def split(self, t: Val, count: Val) -> tuple[Val, Val]:
        """Quotient and remainder of a task's number."""
        q = self.fn.op("udiv", t, count)
        return q, self.fn.sub(t, self.fn.mul(q, count))

    def vectors(self, lo: Val, hi: Val, body: Callable[[Val, Mask], None]) -> None:
        """`body` for each whole vector between, then for the rest under a mask."""
        f = self.fn
        end = f.add(lo, f.and_(f.sub(hi, lo), i64(-self.width)))
        f.loop(lo, end, lambda i: body(i, None), step=self.width)
        f.if_(f.cmp("slt", end, hi), lambda: body(end, f.mask(f.sub(hi, end), self.width)))

    def fill(self, p: Val, lo: Val, hi: Val, value: S) -> None:
        self.vectors(lo, hi, lambda i, mask: self.mv.store(value, self.element(p, i, value.dtype), mask))

    def position(self, p: Val, index: Val, dtype: DType, size: Val) -> Val:
        """The position that element `index` of `p` holds; negative ones count from the end."""
        f = self.fn
        i = self.m1.cast(self.m1.load(self.element(p, index, dtype), dtype), int64).v
        return f.select(f.cmp("slt", i, i64(0)), f.add(i, size), i) if dtype.kind == "i" else i

    def run(self, task: Callable[[Val], None]) -> None:
        """The tasks, one after the other, and the end of the function."""
        self.fn.loop(self.lo, self.hi, task)
        self.fn.ret_()
