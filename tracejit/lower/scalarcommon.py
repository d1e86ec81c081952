"""What elementary functions are made of, on LLVM registers: polynomials, limits, lookups, AVX-512 instructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracejit.ir.types import float32, float64, int32, int64
from tracejit.lower.celltables import Cells
from tracejit.lower.coefficients import DOUBLE, FLOAT, Format
from tracejit.lower.llvm import FLOATS, Val, const, elem, lanes, vec
from tracejit.lower.scalarcast import S
from tracejit.lower.scalarmem import MemoryScalar


class CommonScalar(MemoryScalar):
    """Methods with an underscore work on float or double registers."""

    def _map(self, function: Callable[..., Val], *args: S) -> S:
        """Apply without fast-math flags: this code relies on every rounding."""
        n = max(lanes(x.v.ty) for x in args)
        flags, self.fn.flags = self.fn.flags, ""
        try:
            return S(function(*(self.fn.splat(x.v, n) for x in args)), args[0].dtype)
        finally:
            self.fn.flags = flags

    def _format(self, v: Val) -> Format:
        return FLOAT if elem(v.ty) == "float" else DOUBLE

    def _poly(self, x: Val, coefficients: Sequence[float]) -> Val:
        """Horner's scheme, highest power first."""
        r = self.like(x, coefficients[0])
        for c in coefficients[1:]:
            r = self.fn.fma(r, x, self.like(x, c))
        return r

    def _below(self, x: Val, high: float) -> Val:
        """The smaller one; NaN stays."""
        h = self.like(x, high)
        return self.fn.select(self.fn.cmp("ogt", x, h), h, x)

    def _above(self, x: Val, low: float) -> Val:
        h = self.like(x, low)
        return self.fn.select(self.fn.cmp("olt", x, h), h, x)

    def _clamp(self, x: Val, low: float, high: float) -> Val:
        return self._below(self._above(x, low), high)

    def _abs(self, x: Val) -> Val:
        return self.fn.intrinsic("fabs", x)

    def _round_to_int(self, x: Val, factor: float, shift: float = 0.0) -> tuple[Val, Val]:
        """x*factor + shift + magic, whose low bits hold the nearest integer, and that integer as a float."""
        f, magic = self.fn, self.like(x, self._format(x).magic)
        t = f.fma(x, self.like(x, factor), self.like(x, shift) if shift else magic)
        t = f.add(t, magic) if shift else t
        return t, f.sub(t, magic)

    def _signed(self, r: Val, x: Val) -> Val:
        """`r` with the sign of `x`."""
        return self.fn.intrinsic("copysign", r, x)

    def _int(self, v: Val, value: int) -> Val:
        return const(vec(self._format(v).integer, lanes(v.ty)), value)

    def _float(self, b: Val, like: Val) -> Val:
        """The float with these bits."""
        return self.fn.cast("bitcast", b, like.ty)

    def _native(self, v: Val) -> bool:
        """Whether AVX-512 has its special instructions for this register."""
        return self.avx512 and lanes(v.ty) * FLOATS[elem(v.ty)] >= 128

    def _avx512(self, name: str, *args: Val | int) -> Val:
        """`llvm.x86.avx512.mask.<name>` of any number of registers; the mask and rounding operands are added."""
        f, x = self.fn, args[0]
        assert isinstance(x, Val)
        bits, n = FLOATS[elem(x.ty)], lanes(x.ty)
        step = min(n, 512 // bits)
        kind = "ps" if bits == 32 else "pd"
        tail = [Val("-1", f"i{max(step, 8)}")] + ([const("i32", 4)] if step * bits == 512 else [])
        full = f"llvm.x86.avx512.mask.{name}.{kind}.{step * bits}"
        parts = []
        for at in range(0, n, step):
            part = [
                const("i32", a) if isinstance(a, int) else a if n == step else f.shuffle(a, a, range(at, at + step))
                for a in args
            ] + tail
            ty = part[0].ty
            f.module.declare(full, ty, [p.ty for p in part])
            parts.append(f.pure(f"call {ty} @{full}({', '.join(f'{p.ty} {p}' for p in part)})", ty))
        return self._concat(parts)

    def _concat(self, parts: list[Val]) -> Val:
        while len(parts) > 1:
            n = 2 * lanes(parts[0].ty)
            parts = [self.fn.shuffle(a, b, range(n)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    # --- lookups ----------------------------------------------------------------------------------------------
    def _lookup(self, name: str, table: Sequence[float], index: Val, like: Val) -> Val:
        """table[index % 16] per lane."""
        f, n, e = self.fn, lanes(like.ty), elem(like.ty)
        step = 512 // FLOATS[e]
        if self._native(like):
            lanes_of = [[min(j, n - 1) for j in range(i, i + step)] for i in range(0, n, step)]
            parts = [index if n == step else f.shuffle(index, index, at) for at in lanes_of]
            found = self._concat([self._permute(table, i, vec(e, step)) for i in parts])
            return found if n >= step else f.shuffle(found, found, range(n))
        text = f"internal constant [16 x {e}] [{', '.join(f'{e} {const(e, c)}' for c in table)}], align 64"
        at = f"cells.{e}.{name}"
        if not any(g.startswith(f"@{at} ") for g in f.module.globals):
            f.module.global_(at, text)
        place = S(f.and_(index, self.like(index, 15)), int32 if e == "float" else int64)
        return self.gather(Val(f"@{at}", "ptr"), place, float32 if e == "float" else float64).v

    def _permute(self, table: Sequence[float], index: Val, ty: str) -> Val:
        """One AVX-512 instruction that looks up sixteen values in one or two registers."""
        f, e, n = self.fn, elem(ty), lanes(ty)
        halves = [
            Val("<" + ", ".join(f"{e} {const(e, c)}" for c in table[at : at + n]) + ">", ty) for at in range(0, 16, n)
        ]
        name = "llvm.x86.avx512.permvar.sf.512" if n == 16 else "llvm.x86.avx512.vpermi2var.pd.512"
        args = [halves[0], index, *halves[1:]]
        f.module.declare(name, ty, [a.ty for a in args])
        return f.pure(f"call {ty} @{name}({', '.join(f'{a.ty} {a}' for a in args)})", ty)

    def _from_cells(self, a: Val, cells: Cells) -> Val:
        """A function of a >= 0 that is flat from the last place on."""
        f = self.fn
        a = self._below(a, 15 * cells.step)
        t, n = self._round_to_int(a, 1 / cells.step)
        d = f.fma(n, self.like(a, -cells.step), a)
        index = f.bits(t)
        r: Val | None = None
        for row in cells.rows:
            c = self._lookup("", row, index, a)
            r = c if r is None else f.fma(r, d, c)
        assert r is not None
        return r
