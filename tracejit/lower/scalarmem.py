"""How registers and memory exchange values: loads, stores, strided access, and the reduction of a register's lanes."""

from __future__ import annotations

from collections.abc import Callable

from tracejit.ir.types import DType
from tracejit.lower.llvm import Val, const, lanes, suffix, vec
from tracejit.lower.scalar import Scalar
from tracejit.lower.scalarcast import S, register


class MemoryScalar(Scalar):
    """Scalar operations with access to memory; elements lie there as NumPy keeps them."""

    def load(self, ptr: Val, dtype: DType, mask: Val | None = None, align: int | None = None) -> S:
        """`width` elements from `ptr` on; lanes outside `mask` are not read and hold zero."""
        return self._load(ptr, dtype, self.width, mask, align)

    def _load(self, ptr: Val, dtype: DType, width: int, mask: Val | None, align: int | None) -> S:
        f, ty = self.fn, vec(self.memory(dtype), width)
        if mask is None:
            v = f.load(ty, ptr, align or dtype.size)
        elif width == 1:
            v = f.if_(mask, lambda: [f.load(ty, ptr, align or dtype.size)], lambda: [const(ty, 0)])[0]
        else:
            v = f.masked_load(ty, ptr, mask, align or dtype.size)
        return S(self.widen(v, dtype), dtype)

    def store(
        self, x: S, ptr: Val, mask: Val | None = None, nontemporal: bool = False, align: int | None = None
    ) -> None:
        """Write the lanes in `mask`. Non-temporal stores need `ptr` aligned to the register (or `align` given)."""
        f, v = self.fn, self.pack(self.fn.splat(x.v, self.width), x.dtype)
        if mask is None:
            f.store(v, ptr, align or x.dtype.size * (self.width if nontemporal else 1), nontemporal)
        elif self.width == 1:
            f.if_(mask, lambda: f.store(v, ptr, align or x.dtype.size))
        else:
            f.masked_store(v, ptr, mask, align or x.dtype.size)

    # --- strided ----------------------------------------------------------------------------------------------
    def _pointers(self, base: Val, index: S | Val, dtype: DType) -> Val:
        """One pointer per lane. `index` counts elements: an int64 value per lane, or one stride (i64) for all."""
        f, n = self.fn, self.width
        if isinstance(index, S):
            i = index.v
        elif n == 1:
            i = const("i64", 0)
        else:
            ty = vec("i64", n)
            i = f.mul(f.iota(ty), f.splat(index, n))
        return f.pure(f"getelementptr inbounds {self.memory(dtype)}, ptr {base}, {i.ty} {i}", vec("ptr", lanes(i.ty)))

    def gather(self, base: Val, index: S | Val, dtype: DType, mask: Val | None = None) -> S:
        """Elements at `base + index`; lanes outside `mask` are not read and hold zero."""
        f, p = self.fn, self._pointers(base, index, dtype)
        n = lanes(p.ty)
        if n == 1:
            return self._load(p, dtype, 1, mask, None)
        ty = vec(self.memory(dtype), n)
        every = const(vec("i1", n), True)
        if mask is not None and dtype.bits < 32:  # no such gather exists: masked ones would become a branch per lane
            spare = f.alloca(8, 8)
            f.store(const("i64", 0), spare)
            p, mask = f.select(mask, p, f.splat(spare, n)), None
        name = f"llvm.masked.gather.{suffix(ty)}.v{n}p0"
        f.module.declare(name, ty, [p.ty, "i32 immarg", every.ty, ty])  # newer LLVMs read this older form too
        args = f"{p.ty} {p}, i32 {dtype.size}, {every.ty} {mask or every}, {ty} zeroinitializer"
        return S(self.widen(f.emit(f"call {ty} @{name}({args})", ty), dtype), dtype)

    def scatter(self, x: S, base: Val, index: S | Val, mask: Val | None = None) -> None:
        """Write lanes to `base + index`; of lanes with equal indices the last one stays."""
        f, n = self.fn, self.width
        p = self._pointers(base, index, x.dtype)
        if n == 1:
            self.store(x, p, mask)
            return
        v = self.pack(f.splat(x.v, n), x.dtype)
        every = const(vec("i1", n), True)
        name = f"llvm.masked.scatter.{suffix(v.ty)}.v{n}p0"
        f.module.declare(name, "void", [v.ty, p.ty, "i32 immarg", every.ty])
        f.line(f"call void @{name}({v.ty} {v}, {p.ty} {p}, i32 {x.dtype.size}, {every.ty} {mask or every})")

    # --- reductions -------------------------------------------------------------------------------------------
    def reduce(self, kind: str, x: S) -> S:
        """All lanes to one, by halves: `sum`, `prod`, `max`, `min` (NaN wins), `and`, `or`; 2**n lanes."""
        combine = self.combiner(kind)
        f, n = self.fn, lanes(x.v.ty)
        while n > 1:
            n //= 2
            low, high = (f.shuffle(x.v, x.v, range(at, at + n)) if n > 1 else f.extract(x.v, at) for at in (0, n))
            x = combine(S(low, x.dtype), S(high, x.dtype))
        return x

    def combiner(self, kind: str) -> Callable[[S, S], S]:
        """The two-operand function that a reduction repeats."""
        return {
            "sum": self.add, "prod": self.mul, "max": self.maximum, "min": self.minimum,
            "and": self.bit_and, "or": self.bit_or,
        }[kind]  # fmt: skip

    def neutral(self, kind: str, dtype: DType) -> S:
        """The value that changes nothing in a reduction of that kind, in every lane."""
        low: float | int | bool = float("-inf") if dtype.kind == "f" else dtype.min
        high: float | int | bool = float("inf") if dtype.kind == "f" else dtype.max
        values = {"sum": 0, "prod": 1, "max": low, "min": high, "and": -1, "or": 0}
        value = values[kind] if (kind, dtype.kind) != ("and", "b") else True
        return S(const(vec(register(dtype), self.width), value), dtype)
