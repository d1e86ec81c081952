"""Exponentials, logarithms and what is made of them (hyperbolic functions, sigmoid), on LLVM registers."""

from __future__ import annotations

import math

from tracejit.lower.celltables import EXP_CELL, EXP_CELL_UP, INVERSES, LOG_CELL, LOGS, POWERS, POWERS_LOW
from tracejit.lower.coefficients import FLOAT
from tracejit.lower.llvm import Val, const, elem, lanes, vec
from tracejit.lower.scalarcast import S
from tracejit.lower.scalarcommon import CommonScalar


class ExpScalar(CommonScalar):
    """Adds exponentials and logarithms. Methods with an underscore work on float or double registers."""

    # --- exponentials -----------------------------------------------------------------------------------------
    def _exp_parts(
        self, x: Val, low: Val | None = None, small: bool = False, twice: bool = False, up: bool = False
    ) -> tuple[Val, Val, Val]:
        """exp(x + low) = 2**n * (1 + q): q, n, and n in the low bits of a register.

        `small`: large results need not be exact, one float for log(2) is enough. `twice`: exp(2x) = 2**n * (1 + 2q).
        `up`: q is not negative, so that nothing cancels in 2**n * (1 + q) - 1 for x >= 0.
        """
        f, fmt = self.fn, self._format(x)
        u = 2 if twice else 1
        t, n = self._round_to_int(x, fmt.log2e[0] * u, -0.5 if up else 0.0)
        r = x
        for part in (math.log(2),) if small and fmt is FLOAT else fmt.ln2:
            r = f.fma(n, self.like(x, -part / u), r)
        if low is not None:
            r = f.add(r, low)
        p = fmt.exp_up if up else fmt.exp
        coefficients = [c * u ** (len(p) - i) for i, c in enumerate(p)]
        return f.fma(self._poly(r, coefficients), f.mul(r, r), r), n, t

    def _scale(self, p: Val, n: Val, t: Val) -> Val:
        """p * 2**n, rounded once, through subnormal numbers and infinity."""
        if self._native(p):
            return self._avx512("scalef", p, n, self.like(p, 0.0))
        f, fmt = self.fn, self._format(p)
        i = f.sub(f.bits(t), f.bits(self.like(p, fmt.magic)))
        h = f.op("ashr", i, self._int(p, 1))
        return f.mul(f.mul(p, self._power(h)), self._power(f.sub(i, h)))

    def _power(self, n: Val, more: int = 0) -> Val:
        """2**(n + more), a normal number, for an n in the low bits of an integer or float register."""
        f = self.fn
        ty = vec("float" if elem(n.ty) in ("float", "i32") else "double", lanes(n.ty))
        b = n if elem(n.ty)[0] == "i" else f.bits(n)
        fmt = self._format(Val("", ty))
        one = const(b.ty, (fmt.bias + more) << fmt.digits)
        return f.cast("bitcast", f.add(f.op("shl", b, const(b.ty, fmt.digits)), one), ty)

    def _exp_cell(self, x: Val, low: Val | None, fine: bool, up: bool = False) -> tuple[Val, Val, Val, Val]:
        """exp(x + low) = 2**n * exp(r) = 2**w * p * exp(r), where n counts sixteenths and w is its whole part.

        r, n, p, and 16*n in the low bits of a register. `fine`: r knows how p was rounded. `up`: r is not negative.
        """
        f, fmt = self.fn, self._format(x)
        magic = self.like(x, fmt.magic / 16)
        t = f.fma(x, self.like(x, fmt.log2e[0]), self.like(x, -1 / 32) if up else magic)
        t = f.add(t, magic) if up else t
        n, bits = f.sub(t, magic), f.bits(t)
        if fine:
            low = self._lookup("powers_low", POWERS_LOW, bits, x)
        r, part = f.fma(n, self.like(x, -fmt.ln2[0]), x), self.like(x, -fmt.ln2[1])
        r = f.fma(n, part, r) if low is None else f.add(r, f.fma(n, part, low))
        return r, n, self._lookup("powers", POWERS, bits, x), bits

    def _exp_bounded(self, x: Val, low: Val | None = None, fine: bool = False) -> Val:
        """exp(x + low) for an x in range. `fine`: hardly more than the last rounding counts."""
        f = self.fn
        if self._native(x):
            r, n, p, _ = self._exp_cell(x, low, fine)
            q = f.fma(self._poly(r, EXP_CELL[elem(x.ty)]), f.mul(r, r), r)
            return self._avx512("scalef", f.fma(p, q, p), n, self.like(x, 0.0))  # by the whole part of n
        q, n, t = self._exp_parts(x, low)
        return self._scale(self.fn.add(q, self.like(x, 1.0)), n, t)

    def _exp(self, x: Val) -> Val:
        return self._exp_bounded(self._clamp(x, *self._format(x).exp_range))

    def _exp_negative(self, x: Val) -> Val:
        """exp(-|x|)."""
        fmt = self._format(x)
        return self._exp_bounded(self._above(self.fn.fneg(self._abs(x)), fmt.exp_range[0]), None, fmt is not FLOAT)

    def _exp2(self, x: Val) -> Val:
        f, fmt = self.fn, self._format(x)
        x = self._clamp(x, *fmt.exp2_range)
        magic = self.like(x, fmt.magic)
        t = f.add(x, magic)
        n = f.sub(t, magic)
        r = f.sub(x, n)
        return self._scale(f.fma(self._poly(r, fmt.exp2), r, self.like(x, 1.0)), n, t)

    def _expm1_scaled(self, x: Val, down: int, small: bool = False, twice: bool = False, up: bool = False) -> Val:
        """expm1(x) / 2**down, or expm1(2x) / 2**down, for an x in range."""
        f = self.fn
        q, _, t = self._exp_parts(x, None, small, twice, up)
        if twice:
            s = self._power(t)
            return f.fma(q, s, f.fma(s, self.like(x, 0.5), self.like(x, -(2.0**-down))))
        s = self._power(t, -down)
        return f.fma(q, s, f.sub(s, self.like(x, 2.0**-down)))

    def _expm1(self, x: Val) -> Val:
        half = self._expm1_scaled(self._clamp(x, *self._format(x).expm1_range), 1)
        return self._signed(self.fn.add(half, half), x)

    def _expm1_cells(self, x: Val) -> Val:
        """double: expm1(x) / 2 for an x >= 0 in range: nothing cancels."""
        f, fmt = self.fn, self._format(x)
        r, _, p, t = self._exp_cell(x, None, fine=True, up=True)
        q = f.fma(self._poly(r, EXP_CELL_UP), f.mul(r, r), r)
        whole = f.and_(f.op("shl", t, self._int(x, fmt.digits - 4)), self._int(x, -1 << fmt.digits))
        s = self._float(f.add(f.bits(p), f.add(whole, self._int(x, -1 << fmt.digits))), x)
        return f.fma(q, s, f.sub(s, self.like(x, 0.5)))

    def _tanh(self, x: Val) -> Val:
        """h/(h+1) with h = expm1(2*|x|)/2; for double b - b*b/(h+1) with b = min(h, 1): fewer roundings count."""
        f, fmt, one = self.fn, self._format(x), self.like(x, 1.0)
        a = self._below(self._abs(x), fmt.one_from)
        if fmt is FLOAT:
            h = self._expm1_scaled(a, 1, small=True, twice=True)
            return self._signed(f.fdiv(h, f.add(h, one)), x)
        table = self._native(x)
        h = self._expm1_cells(f.add(a, a)) if table else self._expm1_scaled(a, 1, twice=True, up=True)
        b = self._below(h, 1.0)
        return self._signed(f.fma(f.fneg(b), f.fdiv(b, f.add(h, one)), b), x)

    def _sinh(self, x: Val) -> Val:
        """With e = expm1(|x|): (e + e/(e+1)) / 2, on a quarter of e, for the sake of the largest arguments."""
        f = self.fn
        e = self._expm1_scaled(self._below(self._abs(x), self._format(x).exp_range[1] + 0.5), 2)
        r = f.add(e, f.fdiv(e, f.fma(e, self.like(x, 4.0), self.like(x, 1.0))))
        return self._signed(f.add(r, r), x)

    def _cosh(self, x: Val) -> Val:
        """With e = exp(|x|) / 4: 2*e + 1/(8*e)."""
        f, fmt = self.fn, self._format(x)
        q, _, t = self._exp_parts(self._below(self._abs(x), fmt.exp_range[1] + 0.5))
        s = self._power(t, -2)
        e = f.fma(q, s, s)
        r = f.add(e, f.fdiv(self.like(x, 1 / 16), e))
        return f.add(r, r)

    def _sigmoid(self, x: Val) -> Val:
        """1/(1+e) or e/(1+e) with e = exp(-|x|), as b - b*e/(1+e) with b = 1 or e: only the last rounding counts."""
        f, one = self.fn, self.like(x, 1.0)
        e = self._exp_negative(x)
        b = f.select(f.cmp("olt", x, self.like(x, 0.0)), e, one)
        return f.fma(f.fneg(b), f.fdiv(e, f.add(e, one)), b)

    def _softplus(self, x: Val) -> Val:
        return self.fn.add(self._above(x, 0.0), self._log1p_bounded(self._exp_negative(x)))

    # --- logarithms -------------------------------------------------------------------------------------------
    def _split(self, x: Val) -> tuple[Val, Val]:
        """x = 2**k * (1 + z) with k a float and -1/4 <= z < 1/2, for x > 0."""
        k, m = self._exponent(x, 0.75)
        return k, self.fn.sub(m, self.like(x, 1.0))

    def _exponent(self, x: Val, low: float) -> tuple[Val, Val]:
        """x = 2**k * m with k a float and `low` <= m < 2*low, for x > 0. `low` is 3/4 or 1."""
        f, fmt = self.fn, self._format(x)
        one = self.like(x, 1.0)
        if self._native(x):
            k, m = self._avx512("getexp", x, x), self._avx512("getmant", x, 3 if low < 1 else 0, x)
            return (f.select(f.cmp("olt", m, one), f.add(k, one), k) if low < 1 else k), m
        small = f.cmp("olt", x, self.like(x, fmt.tiny))
        b = f.bits(f.select(small, f.mul(x, self.like(x, 2.0 ** (fmt.digits + 2))), x))
        digits = self._int(x, fmt.digits)
        bottom = (fmt.bias << fmt.digits) - (1 << fmt.digits - 1 if low < 1 else 0)
        e = f.op("ashr", f.sub(b, self._int(x, bottom)), digits)
        m = self._float(f.sub(b, f.op("shl", e, digits)), x)
        k = f.cast("sitofp", e, x.ty)
        return f.add(k, f.select(small, self.like(x, -fmt.digits - 2.0), self.like(x, 0.0))), m

    def _log_near(self, z: Val) -> Val:
        """log(1+z) - z for z in [-1/4, 1/2)."""
        f, fmt = self.fn, self._format(z)
        if fmt is FLOAT:
            return f.mul(self._poly(z, fmt.log), f.mul(z, z))
        t = f.fdiv(z, f.add(z, self.like(z, 2.0)))  # 2*atanh(t) = 2t + R; z - 2t = t*z = z*z/2 - t*z*z/2
        w = f.mul(t, t)
        h = f.mul(f.mul(z, z), self.like(z, 0.5))
        return f.fma(t, f.fma(w, self._poly(w, fmt.log), h), f.fneg(h))

    def _log_fix(self, r: Val, x: Val) -> Val:
        """The logarithm of 0 is -inf, of inf and NaN themselves, of others below 0 NaN."""
        f = self.fn
        if self._native(x):
            # one nibble for NaN, signalling NaN, 0, 1, -inf, inf, negative, positive: what becomes of it
            return self._avx512("fixupimm", r, x, self._int(x, 0x03530422), 0)
        zero = self.like(x, 0.0)
        r = f.select(f.cmp("olt", x, self.like(x, math.inf)), r, x)
        r = f.select(f.cmp("olt", x, zero), self.like(x, math.nan), r)
        return f.select(f.cmp("oeq", x, zero), self.like(x, -math.inf), r)

    def _log_sum(self, k: Val, z: Val) -> Val:
        f, ln2 = self.fn, self._format(z).ln2
        r = f.add(z, f.fma(k, self.like(z, ln2[1]), self._log_near(z)))
        return f.fma(k, self.like(z, ln2[0]), r)

    def _log_cells(self, x: Val) -> Val:
        """float: log(2**k * m) = k*log(2) - log(1/c) + log(1+r) with 1+r = m/c, where 1/c comes from a table."""
        f, fmt = self.fn, self._format(x)
        k, m = self._exponent(x, 0.75)
        index = f.op("lshr", f.bits(m), self._int(x, fmt.digits - 4))
        r = f.fma(m, self._lookup("inverses", INVERSES, index, x), self.like(x, -1.0))
        top = f.fma(k, self.like(x, math.log(2)), self._lookup("logs", LOGS, index, x))
        return f.add(top, f.fma(f.mul(r, r), self._poly(r, LOG_CELL), r))

    def _log(self, x: Val) -> Val:
        table = self._native(x) and self._format(x) is FLOAT  # in double it is no quicker
        r = self._log_cells(x) if table else self._log_sum(*self._split(x))
        return self._log_fix(r, x)

    def _log_base(self, x: Val, base: tuple[float, float], two: tuple[float, float]) -> Val:
        """log(x) * base, where two = log(2) * base, each in a high and a low part."""
        f = self.fn
        k, z = self._split(x)
        c = self.like(x, base[0])
        low = f.mul(k, self.like(x, two[1])) if two[1] else None
        if elem(x.ty) == "double":
            part = self.like(x, base[1])
            low = f.fma(z, part, low) if low else f.mul(z, part)
        y = self._log_near(z)
        y = f.fma(z, c, f.fma(y, c, low) if low else f.mul(y, c))
        return self._log_fix(f.fma(k, self.like(x, two[0]), y) if two[0] != 1.0 else f.add(k, y), x)

    def _log2(self, x: Val) -> Val:
        return self._log_base(x, self._format(x).log2e, (1.0, 0.0))

    def _log10(self, x: Val) -> Val:
        fmt = self._format(x)
        return self._log_base(x, fmt.log10e, fmt.log10_2)

    def _log1p_bounded(self, w: Val, power: Val | None = None) -> Val:
        """log((1+w) * 2**power) up to a w of 2**-`shrink` times the largest number.

        1+w = 2**k * (1+m) with 2**-k = c, and 1+m = (1+s)/(1-s), whose logarithm is 2*atanh(s) = 2*s + R, where
        m - 2*s = s*m. k = 0 for -1/4 <= w < 1/2.
        """
        f, fmt, one, inf = self.fn, self._format(w), self.like(w, 1.0), self.like(w, math.inf)
        part = self.like(w, 4 / 3)
        u = f.fma(w, part, part)
        b = f.and_(f.bits(u), f.bits(inf))
        c = self._float(f.sub(self._int(w, 2 * fmt.bias << fmt.digits), b), w)
        m = f.fma(w, c, f.sub(c, one))
        s = f.fdiv(m, f.add(m, self.like(w, 2.0)))
        twice = [2 * p for p in fmt.atanh]
        z = f.mul(s, s)
        r = f.fma(s, f.fma(z, self._poly(z, twice), f.fneg(m)), m)
        k = self._binary_exponent(u, b)
        k = k if power is None else f.add(k, power)
        if fmt is FLOAT:
            return f.fma(k, self.like(w, math.log(2)), r)
        return f.fma(k, self.like(w, fmt.ln2[0]), f.fma(k, self.like(w, fmt.ln2[1]), r))

    def _atanh_near(self, s: Val) -> Val:
        f, z = self.fn, self.fn.mul(s, s)
        return f.fma(self._poly(z, self._format(s).atanh), f.mul(s, z), s)

    def _binary_exponent(self, x: Val, b: Val) -> Val:
        """The exponent of a normal number as a float; `b` has its bits alone."""
        if self._native(x):
            return self._avx512("getexp", x, x)
        f, fmt = self.fn, self._format(x)
        return f.cast("sitofp", f.sub(f.op("ashr", b, self._int(x, fmt.digits)), self._int(x, fmt.bias)), x.ty)

    def _log1p_shrunk(self, w: Val, a: Val, more: int) -> Val:
        """log1p(w), or log(2**more * a) for a huge `a`."""
        f, fmt = self.fn, self._format(a)
        huge = f.cmp("ogt", a, self.like(a, fmt.huge))
        power = f.select(huge, self.like(a, float(fmt.shrink + more)), self.like(a, 0.0))
        return self._log1p_bounded(f.select(huge, f.mul(a, self.like(a, 2.0**-fmt.shrink)), w), power)

    def _log1p(self, x: Val) -> Val:
        r = self._log1p_shrunk(x, x, 0)
        return self._signed(self._log_fix(r, self.fn.add(x, self.like(x, 1.0))), x)

    def _asinh(self, x: Val) -> Val:
        """log1p(a + a*a/(1 + sqrt(a*a + 1))); log(2a) for large a."""
        f, a, one = self.fn, self._abs(x), self.like(x, 1.0)
        s = f.mul(a, a)
        w = f.add(a, f.fdiv(s, f.add(one, f.intrinsic("sqrt", f.add(s, one)))))
        r = self._log1p_shrunk(w, a, 1)
        infinite = f.cmp("oeq", a, self.like(x, math.inf))
        return self._signed(f.select(infinite, a, r), x)

    def _acosh(self, x: Val) -> Val:
        """log1p(t + sqrt(t*t + 2t)) with t = x - 1; log(2x) for large x."""
        f, one = self.fn, self.like(x, 1.0)
        t = f.sub(x, one)
        w = f.add(t, f.intrinsic("sqrt", f.fma(t, t, f.add(t, t))))
        r = self._log1p_shrunk(w, x, 1)
        r = f.select(f.cmp("olt", x, one), self.like(x, math.nan), r)
        return f.select(f.cmp("oeq", x, self.like(x, math.inf)), x, r)

    def _atanh(self, x: Val) -> Val:
        """k*log(2)/2 + atanh(s), where (1+a)/(1-a) = 2**k * (1+s)/(1-s) and 2**-k = c; k = 0 up to a = 0.2."""
        f, fmt, a, one = self.fn, self._format(x), self._abs(x), self.like(x, 1.0)
        d = f.sub(one, a)
        inverse = f.mul(d, f.fma(a, self.like(x, -0.7), self.like(x, 1.4)))  # 1.4 to 1.6 times (1-a)/(1+a)
        b = f.and_(f.bits(inverse), f.bits(self.like(x, math.inf)))
        c = self._float(b, x)
        up, down = f.add(c, one), f.sub(c, one)
        s = f.fdiv(f.fma(a, up, down), f.fma(a, down, up))

        def beside_one() -> list[Val]:  # there 1+c is not exact, but d is
            t = f.fdiv(f.fma(c, a, f.sub(c, d)), f.fma(c, a, f.add(c, d)))
            return [f.select(f.cmp("ogt", a, self.like(x, 0.5)), t, s)]

        beside = f.cmp("ogt", a, self.like(x, 1 - 2.0 ** (3 - fmt.digits)))
        r = self._atanh_near(f.if_(self.any(beside), beside_one, lambda: [s])[0])
        r = f.fma(self._binary_exponent(inverse, b), self.like(x, -0.5 * math.log(2)), r)
        return self._signed(self._log_fix(r, d), x)

    # --- the protocol -----------------------------------------------------------------------------------------
    def exp(self, x: S) -> S:
        return self._map(self._exp, x)

    def exp2(self, x: S) -> S:
        return self._map(self._exp2, x)

    def expm1(self, x: S) -> S:
        return self._map(self._expm1, x)

    def log(self, x: S) -> S:
        return self._map(self._log, x)

    def log2(self, x: S) -> S:
        return self._map(self._log2, x)

    def log10(self, x: S) -> S:
        return self._map(self._log10, x)

    def log1p(self, x: S) -> S:
        return self._map(self._log1p, x)

    def tanh(self, x: S) -> S:
        return self._map(self._tanh, x)

    def sinh(self, x: S) -> S:
        return self._map(self._sinh, x)

    def cosh(self, x: S) -> S:
        return self._map(self._cosh, x)

    def asinh(self, x: S) -> S:
        return self._map(self._asinh, x)

    def acosh(self, x: S) -> S:
        return self._map(self._acosh, x)

    def atanh(self, x: S) -> S:
        return self._map(self._atanh, x)

    def sigmoid(self, x: S) -> S:
        return self._map(self._sigmoid, x)

    def softplus(self, x: S) -> S:
        return self._map(self._softplus, x)
