"""Values in LLVM registers, literals, and conversions: between element types, and between register and memory form."""

from __future__ import annotations

import re

from tracejit.ir.types import DType, as_dtype
from tracejit.lower.llvm import Fn, Val, const, elem, lanes, suffix, vec
from tracejit.runtime.cache import host

Literal = float | int | bool
_INTEGER = re.compile(r"(?:splat \(i\d+ )?(-?\d+)\)?")


class S:
    """A value in a register (`v`: one lane or several) and the element type that it stands for."""

    __slots__ = ("v", "dtype")

    def __init__(self, v: Val, dtype: DType) -> None:
        self.v, self.dtype = v, dtype

    def __repr__(self) -> str:
        return f"S({self.v.ty} {self.v}: {self.dtype})"


def register(dtype: DType) -> str:
    """The lane type that `dtype` is computed in: i1 for bool, float for the 16-bit floats, else its memory type."""
    if dtype.kind == "b":
        return "i1"
    return "float" if dtype.kind == "f" and dtype.bits == 16 else dtype.llvm


def literal(v: Val) -> int | None:
    """The integer that a register holds in every lane, if it is a literal."""
    m = _INTEGER.fullmatch(v)
    return int(m[1]) if m else None


class CastScalar:
    """Literals and conversions. Widths follow the operands' registers.

    `avx512` allows that extension's special instructions, `half` conversions of float16 in one instruction; both
    default to what the host can do.
    """

    def __init__(self, fn: Fn, width: int, avx512: bool | None = None, half: bool | None = None) -> None:
        self.fn, self.width = fn, width
        self.packed: dict[str, Val] = {}  # the memory form of 16-bit floats that have been rounded
        features = host()[1] if avx512 is None or half is None else ""
        self.avx512 = "+avx512f" in features and "+avx512vl" in features if avx512 is None else avx512
        self.half = ("+f16c" in features or "+sse2" not in features) if half is None else half

    # --- values -----------------------------------------------------------------------------------------------
    def const(self, value: Literal, dtype: object) -> S:
        d = as_dtype(dtype)
        if d.kind == "f" and d.bits == 16:
            value = float(d.np.type(value))
        if d.kind in "iu" and isinstance(value, float):
            value = int(value)
        return S(const(vec(register(d), self.width), bool(value) if d.kind == "b" else value), d)

    def broadcast(self, x: S) -> S:
        """A one-lane value in every lane."""
        return S(self.fn.splat(x.v, self.width), x.dtype)

    def like(self, v: Val, value: Literal) -> Val:
        """A literal of the type of `v`."""
        return const(v.ty, value)

    # --- casts ------------------------------------------------------------------------------------------------
    def cast(self, x: S, dtype: object) -> S:
        """Conversion as in C and NumPy, except that floats outside an integer's range saturate and NaN gives 0."""
        to = as_dtype(dtype)
        if to is x.dtype:
            return x
        f, n = self.fn, lanes(x.v.ty)
        reg = vec(register(to), n)
        kind = x.dtype.kind
        if to.kind == "b":
            return S(f.cmp("une" if kind == "f" else "ne", x.v, self.like(x.v, 0)), to)
        if to.kind == "f":
            if kind != "f":
                v = f.cast("sitofp" if kind == "i" else "uitofp", x.v, reg)
                return S(self.narrow(v, to), to)
            if to.bits == 16:
                return S(self.narrow(x.v, to), to)
            return S(f.cast("fpext" if reg.endswith(("double", "double>")) else "fptrunc", x.v, reg), to)
        if kind == "f":
            return S(self._to_int(x.v, to), to)
        if to.bits > x.dtype.bits or kind == "b":
            return S(f.cast("sext" if kind == "i" else "zext", x.v, reg), to)
        return S(f.cast("trunc", x.v, reg), to)

    def _to_int(self, v: Val, to: DType) -> Val:
        f, n = self.fn, lanes(v.ty)
        ty = vec(to.llvm, n)
        full = f"llvm.fpto{'u' if to.kind == 'u' else 's'}i.sat.{suffix(ty)}.{suffix(v.ty)}"
        f.module.declare(full, ty, [v.ty])
        return f.pure(f"call {ty} @{full}({v.ty} {v})", ty)

    def narrow(self, v: Val, to: DType) -> Val:
        """Round a float register to what `to` can hold. 16-bit floats stay in a `float` register."""
        if to.bits != 16:
            return v
        packed = self.pack(v, to)
        out = self.widen(packed, to)
        self.packed[out] = packed
        return out

    def rounded(self, x: S) -> S:
        """The nearest number that the element type has, for what has been computed with more digits."""
        return S(self.narrow(x.v, x.dtype), x.dtype) if x.dtype.kind == "f" else x

    def pack(self, v: Val, to: DType) -> Val:
        """A register as it lies in memory: 16-bit floats are rounded to nearest even, as i16 (bfloat16) or half."""
        f, n = self.fn, lanes(v.ty)
        if to.kind == "b":
            return f.cast("zext", v, vec("i8", n))
        if to.bits != 16 or to.kind != "f":
            return v
        if v in self.packed and self.packed[v].ty == vec(self.memory(to), n):
            return self.packed[v]
        if elem(v.ty) == "double":
            v = self._round_to_odd(v)
        if to.name == "float16":
            return f.cast("fptrunc", v, vec("half", n)) if self.half else self._soft_half(v)
        b = f.bits(v)
        odd = f.and_(f.op("lshr", b, self.like(b, 16)), self.like(b, 1))
        up = f.add(f.add(b, self.like(b, 0x7FFF)), odd)
        up = f.select(f.cmp("uno", v, v), f.or_(b, self.like(b, 0x400000)), up)
        return f.cast("trunc", f.op("lshr", up, self.like(b, 16)), vec("i16", n))

    def _round_to_odd(self, v: Val) -> Val:
        """double → float such that a second rounding, to fewer bits, is right."""
        f, n = self.fn, lanes(v.ty)
        t = f.cast("fptrunc", v, vec("float", n))
        back = f.cast("fpext", t, v.ty)
        b = f.bits(t)
        away = f.cmp("ogt", f.intrinsic("fabs", back), f.intrinsic("fabs", v))
        b = f.select(away, f.sub(b, self.like(b, 1)), b)
        b = f.select(f.cmp("one", back, v), f.or_(b, self.like(b, 1)), b)
        return f.cast("bitcast", b, t.ty)

    def _soft_half(self, v: Val) -> Val:
        """float → half by integers: adding a power of two lets the adder round the subnormal ones."""
        f, n = self.fn, lanes(v.ty)
        b = f.bits(v)
        sign = f.and_(b, self.like(b, -(1 << 31)))
        a = f.xor(b, sign)
        magic = self.like(b, 126 << 23)
        small = f.sub(f.bits(f.add(f.cast("bitcast", a, v.ty), self.like(v, 0.5))), magic)
        odd = f.and_(f.op("lshr", a, self.like(b, 13)), self.like(b, 1))
        normal = f.op("lshr", f.add(f.add(a, self.like(b, 0xFFF - (112 << 23))), odd), self.like(b, 13))
        nan = f.cmp("ugt", a, self.like(b, 0x7F800000))
        big = f.select(nan, self.like(b, 0x7E00), self.like(b, 0x7C00))
        r = f.select(f.cmp("ult", a, self.like(b, 113 << 23)), small, normal)
        r = f.select(f.cmp("uge", a, self.like(b, 143 << 23)), big, r)
        r = f.or_(r, f.op("lshr", sign, self.like(b, 16)))
        return f.cast("trunc", r, vec("i16", n))

    def widen(self, v: Val, dtype: DType) -> Val:
        """Memory → register, the inverse of `pack`."""
        f, n = self.fn, lanes(v.ty)
        if dtype.kind == "b":
            return f.cmp("ne", v, self.like(v, 0))
        if dtype.bits != 16 or dtype.kind != "f":
            return v
        ty = vec("float", n)
        if dtype.name == "float16" and self.half:
            return f.cast("fpext", v, ty)
        b = f.cast("zext", v, vec("i32", n))
        if dtype.name == "bfloat16":
            return f.cast("bitcast", f.op("shl", b, self.like(b, 16)), ty)
        sign = f.op("shl", f.and_(b, self.like(b, 0x8000)), self.like(b, 16))
        a = f.op("shl", f.and_(b, self.like(b, 0x7FFF)), self.like(b, 13))
        scaled = f.bits(f.mul(f.cast("bitcast", a, ty), const(ty, 2.0**112)))
        top = f.cmp("uge", a, self.like(b, 0x0F800000))
        r = f.select(top, f.or_(a, self.like(b, 0x7F800000)), scaled)
        return f.cast("bitcast", f.or_(r, sign), ty)

    def memory(self, dtype: DType) -> str:
        """The lane type in memory that `pack` gives and `widen` takes."""
        if dtype.name == "bfloat16" or (dtype.name == "float16" and not self.half):
            return "i16"
        return dtype.llvm
