"""The elementary functions as straight-line code on LLVM registers, for float and double lanes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tracejit.lower.llvm import Val, const, elem, lanes, vec
from tracejit.lower.scalar import S
from tracejit.lower.scalarmem import MemoryScalar


class Format(NamedTuple):
    """What the code for a float type needs to know of its bits, and the polynomials for its precision.

    Polynomials are minimax fits (Remez exchange, tools/minimax.py), highest power first.
    """

    integer: str
    digits: int  # of the significand without the hidden one
    bias: int
    magic: float  # 1.5 * 2**digits: adding it rounds to an integer and leaves that in the low bits
    tiny: float  # the smallest normal number
    exp_range: tuple[float, float]
    ln2: tuple[float, float]
    exp: Sequence[float]
    half_root: int  # the bits of sqrt(1/2)
    log_ln2: tuple[float, float]
    log: Sequence[float]


FLOAT = Format(
    integer="i32",
    digits=23,
    bias=127,
    magic=1.5 * 2.0**23,
    tiny=2.0**-126,
    exp_range=(-104.0, 89.0),
    ln2=(0.693145751953125, 1.428606820309417e-06),
    exp=(0.00019790248655262996, 0.0013944759164253142, 0.0083334976685421995, 0.041666293624809725, 0.16666665864594596, 0.50000000680408263),
    half_root=0x3F2AAAAB,
    log_ln2=(0.693359375, -2.12194440e-4),
    log=(0.1402625090001843, -0.15388558549032211, 0.13995828126461732, -0.16415957075598503, 0.20011167507480521, -0.25007819098713707, 0.33333198151323373, -0.4999993607617898),
)
DOUBLE = Format(
    integer="i64",
    digits=52,
    bias=1023,
    magic=1.5 * 2.0**52,
    tiny=2.0**-1022,
    exp_range=(-746.0, 710.0),
    ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
    exp=(2.4999882353898612191e-8, 2.7630376935914422642e-7, 2.7557587611663235748e-6, 0.000024801492768252585633, 0.00019841269504469458, 0.0013888888943916510514, 0.0083333333334957653587, 0.041666666666529215978, 0.16666666666666410022, 0.50000000000000107171),
    half_root=0x3FE6A09E667F3BCD,
    log_ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
    log=(0.14797108384382754471, 0.15313946160394462469, 0.18183567914285666163, 0.2222219851485310008, 0.28571428742833428152, 0.39999999999413363868, 0.66666666666667344638),
)


class LLVMScalar(MemoryScalar):
    """The whole scalar protocol over LLVM registers of `width` lanes."""

    # --- helpers ----------------------------------------------------------------------------------------------
    def _format(self, v: Val) -> Format:
        return FLOAT if elem(v.ty) == "float" else DOUBLE

    def _poly(self, x: Val, coefficients: Sequence[float]) -> Val:
        """Horner's scheme, highest power first."""
        r = self.like(x, coefficients[0])
        for c in coefficients[1:]:
            r = self.fn.fma(r, x, self.like(x, c))
        return r

    def _clamp(self, x: Val, low: float, high: float) -> Val:
        """Into [low, high]; NaN stays."""
        f = self.fn
        lo, hi = self.like(x, low), self.like(x, high)
        x = f.select(f.cmp("olt", x, lo), lo, x)
        return f.select(f.cmp("ogt", x, hi), hi, x)

    def _strict(self, function: Callable[..., Val], *args: Val) -> Val:
        """Apply with no fast-math flags: the code relies on every rounding."""
        flags, self.fn.flags = self.fn.flags, ""
        try:
            return function(*args)
        finally:
            self.fn.flags = flags

    def _map(self, function: Callable[..., Val], x: S) -> S:
        return S(self._strict(function, x.v), x.dtype)

    def _int(self, v: Val, value: int) -> Val:
        return const(vec(self._format(v).integer, lanes(v.ty)), value)

    def _as_float(self, b: Val, like: Val) -> Val:
        return self.fn.cast("bitcast", b, like.ty)

    def _scale(self, p: Val, n: Val) -> Val:
        """p * 2**n for an integer register n, through subnormal numbers and infinity."""
        f, fmt = self.fn, self._format(p)
        if self.scalef:
            i = f.cast("trunc", n, vec("i32", lanes(n.ty)))
            name = f"llvm.ldexp.{_suffix(p.ty)}.{_suffix(i.ty)}"
            f.module.declare(name, p.ty, [p.ty, i.ty])
            return f.pure(f"call {p.ty} @{name}({p.ty} {p}, {i.ty} {i})", p.ty)
        h = f.op("ashr", n, self._int(p, 1))
        for part in (h, f.sub(n, h)):
            b = f.op("shl", f.add(part, self._int(p, fmt.bias)), self._int(p, fmt.digits))
            p = f.mul(p, self._as_float(b, p))
        return p

    # --- exponentials and logarithms --------------------------------------------------------------------------
    def _exp(self, x: Val) -> Val:
        f, fmt = self.fn, self._format(x)
        x = self._clamp(x, *fmt.exp_range)
        magic = self.like(x, fmt.magic)
        t = f.fma(x, self.like(x, 1 / math.log(2)), magic)
        n = f.sub(t, magic)
        r = f.fma(n, self.like(x, -fmt.ln2[0]), x)
        r = f.fma(n, self.like(x, -fmt.ln2[1]), r)
        p = f.fma(self._poly(r, fmt.exp), f.mul(r, r), r)
        return self._scale(f.add(p, self.like(x, 1.0)), f.sub(f.bits(t), f.bits(magic)))

    def _log(self, x: Val) -> Val:
        f, fmt = self.fn, self._format(x)
        small = f.cmp("olt", x, self.like(x, fmt.tiny))
        scaled = f.select(small, f.mul(x, self.like(x, 2.0 ** (fmt.digits + 2))), x)
        b = f.bits(scaled)
        e = f.op("ashr", f.sub(b, self._int(x, fmt.half_root)), self._int(x, fmt.digits))
        m = self._as_float(f.sub(b, f.op("shl", e, self._int(x, fmt.digits))), x)
        z = f.sub(m, self.like(x, 1.0))
        k = f.cast("sitofp", e, x.ty)
        k = f.add(k, f.select(small, self.like(x, -fmt.digits - 2.0), self.like(x, 0.0)))
        r = self._log_float(z, k) if fmt is FLOAT else self._log_double(z, k)
        r = f.select(f.cmp("oeq", x, self.like(x, math.inf)), x, r)
        r = f.select(f.cmp("oeq", x, self.like(x, 0.0)), self.like(x, -math.inf), r)
        return f.select(f.cmp("oge", x, self.like(x, 0.0)), r, self.like(x, math.nan))

    def _log_float(self, z: Val, k: Val) -> Val:
        f = self.fn
        y = f.mul(self._poly(z, FLOAT.log), f.mul(z, z))
        y = f.fma(k, self.like(z, FLOAT.log_ln2[1]), y)
        return f.fma(k, self.like(z, FLOAT.log_ln2[0]), f.add(z, y))

    def _log_double(self, z: Val, k: Val) -> Val:
        f = self.fn
        t = f.fdiv(z, f.add(z, self.like(z, 2.0)))
        w = f.mul(t, t)
        p = f.mul(w, self._poly(w, DOUBLE.log))
        h = f.mul(f.mul(z, z), self.like(z, 0.5))
        low = f.fma(t, f.add(h, p), f.mul(k, self.like(z, DOUBLE.log_ln2[1])))
        return f.sub(f.mul(k, self.like(z, DOUBLE.log_ln2[0])), f.sub(f.sub(h, low), z))

    def _tanh(self, x: Val) -> Val:
        f = self.fn
        if elem(x.ty) == "double":
            return self._tanh_double(x)
        c = self._clamp(x, -9.01, 9.01)
        z = f.mul(c, c)
        p = self._poly(z, (-1.2224957976683994e-11, 3.0614005328697776e-08, 2.80195123603507e-05, 0.0038689251489103884, 0.13680391824042659, 0.99999999871174272))
        q = self._poly(z, (1.2882087311153992e-06, 0.00039396843869165822, 0.027248025191302525, 0.47013723902671772, 1.0))
        return self._clamp(f.fdiv(f.mul(c, p), q), -1.0, 1.0)

    def _tanh_double(self, x: Val) -> Val:
        f = self.fn
        a, z = f.intrinsic("fabs", x), f.mul(x, x)
        p = self._poly(z, (0.000051099564491222254808, -0.00021042037938752371838, 0.00057921273808779246068, -0.0014532436434662264194, 0.0035917254594543251673, -0.0088631952666794619228, 0.021869486035992331982, -0.053968253878874270625, 0.13333333333175038892, -0.33333333333332363932))
        near = f.fma(f.mul(p, z), x, x)
        one = self.like(x, 1.0)
        far = f.sub(one, f.fdiv(self.like(x, 2.0), f.add(self._exp(f.add(a, a)), one)))
        return f.select(f.cmp("olt", a, self.like(x, 0.55)), near, f.intrinsic("copysign", far, x))

    def _sigmoid(self, x: Val) -> Val:
        one = self.like(x, 1.0)
        return self.fn.fdiv(one, self.fn.add(one, self._exp(self.fn.fneg(x))))

    def exp(self, x: S) -> S:
        return self._map(self._exp, x)

    def log(self, x: S) -> S:
        return self._map(self._log, x)

    def tanh(self, x: S) -> S:
        return self._map(self._tanh, x)

    def sigmoid(self, x: S) -> S:
        return self._map(self._sigmoid, x)


def _suffix(ty: str) -> str:
    from tracejit.lower.llvm import suffix

    return suffix(ty)
