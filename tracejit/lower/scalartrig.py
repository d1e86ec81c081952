"""Sines, tangents and their inverses on LLVM registers."""

from __future__ import annotations

import math

from tracejit.lower.coefficients import FLOAT, SIN_HALF
from tracejit.lower.llvm import FLOATS, Val, elem
from tracejit.lower.scalarcast import S
from tracejit.lower.scalarexp import ExpScalar


class TrigScalar(ExpScalar):
    """Adds trigonometric functions. Arguments beyond `Format.trig_limit` go to the C library, lane by lane."""

    def _reduce(self, a: Val) -> tuple[Val, Val]:
        """a = q*pi/2 + r with |r| <= pi/4: r, and a register whose low bits hold q."""
        f, fmt = self.fn, self._format(a)
        t, n = self._round_to_int(a, 2 / math.pi)
        r = a
        for part in fmt.half_pi:
            r = f.fma(n, self.like(a, -part), r)
        return r, f.bits(t)

    def _sin_poly(self, r: Val, z: Val) -> Val:
        return self.fn.fma(self._poly(z, self._format(r).sin), self.fn.mul(z, r), r)

    def _cos_poly(self, z: Val) -> Val:
        f = self.fn
        low = f.fma(z, self.like(z, -0.5), self.like(z, 1.0))
        return f.fma(self._poly(z, self._format(z).cos), f.mul(z, z), low)

    def _odd(self, q: Val) -> Val:
        f = self.fn
        return f.cmp("ne", f.and_(q, self.like(q, 1)), self.like(q, 0))

    def _flip(self, v: Val, q: Val, bit: int) -> Val:
        """Change the sign of `v` where that bit of `q` is set."""
        f = self.fn
        top = FLOATS[elem(v.ty)] - 1
        sign = f.and_(f.op("shl", q, self.like(q, top - bit)), self.like(q, 1 << top))
        return self._float(f.xor(f.bits(v), sign), v)

    def _beyond(self, a: Val) -> Val:
        return self.fn.cmp("ogt", a, self.like(a, self._format(a).trig_limit))

    def _sin_half(self, a: Val, n: Val) -> Val:
        """float: the sine of a - n*pi, which is between -pi/2 and pi/2."""
        f = self.fn
        for part in FLOAT.half_pi:
            a = f.fma(n, self.like(a, -2 * part), a)
        z = f.mul(a, a)
        return f.fma(self._poly(z, SIN_HALF), f.mul(z, a), a)

    def _sin(self, x: Val) -> Val:
        f, a = self.fn, self._abs(x)
        if self._format(x) is FLOAT:
            t, n = self._round_to_int(a, 1 / math.pi)
            v = self._flip(self._sin_half(a, n), f.bits(t), 0)
        else:
            r, q = self._reduce(a)
            z = f.mul(r, r)
            v = self._flip(f.select(self._odd(q), self._cos_poly(z), self._sin_poly(r, z)), q, 1)
        negative = f.and_(f.bits(x), f.bits(self.like(x, -0.0)))
        return self.rare(self._beyond(a), "sin", self._float(f.xor(f.bits(v), negative), x), x)

    def _cos(self, x: Val) -> Val:
        """For float the sine of |x| - (n + 1/2)*pi, with the other sign where n is even."""
        f, a = self.fn, self._abs(x)
        if self._format(x) is FLOAT:
            t, n = self._round_to_int(a, 1 / math.pi, -0.5)
            v = self._flip(self._sin_half(a, f.add(n, self.like(x, 0.5))), f.not_(f.bits(t)), 0)
        else:
            r, q = self._reduce(a)
            z = f.mul(r, r)
            v = f.select(self._odd(q), self._sin_poly(r, z), self._cos_poly(z))
            v = self._flip(v, f.add(q, self.like(q, 1)), 1)
        return self.rare(self._beyond(a), "cos", v, x)

    def _tan(self, x: Val) -> Val:
        f, a = self.fn, self._abs(x)
        r, q = self._reduce(a)
        z = f.mul(r, r)
        s, c, odd = self._sin_poly(r, z), self._cos_poly(z), self._odd(q)
        v = self._flip(f.fdiv(f.select(odd, c, s), f.select(odd, s, c)), q, 0)
        negative = f.and_(f.bits(x), f.bits(self.like(x, -0.0)))
        return self.rare(self._beyond(a), "tan", self._float(f.xor(f.bits(v), negative), x), x)

    # --- inverses ---------------------------------------------------------------------------------------------
    def _asin_parts(self, x: Val) -> tuple[Val, Val]:
        """Whether |x| > 1/2, and the arc sine of |x|, or of sqrt((1 - |x|) / 2) there."""
        f, a = self.fn, self._abs(x)
        half = self.like(x, 0.5)
        far = f.cmp("ogt", a, half)
        z = f.select(far, f.fma(a, self.like(x, -0.5), half), f.mul(a, a))
        y = f.select(far, f.intrinsic("sqrt", z), a)
        return far, f.fma(self._poly(z, self._format(x).asin), f.mul(y, z), y)

    def _asin(self, x: Val) -> Val:
        f, (high, low, _) = self.fn, self._format(x).half_pi
        far, p = self._asin_parts(x)
        other = f.add(f.fma(p, self.like(x, -2.0), self.like(x, high)), self.like(x, low))
        return self._signed(f.select(far, other, p), x)

    def _acos(self, x: Val) -> Val:
        """pi/2 - p, and beyond 1/2 2p or pi - 2p, where p has the sign of x."""
        f, (high, low, _) = self.fn, self._format(x).half_pi
        far, p = self._asin_parts(x)
        p, zero = self._signed(p, x), self.like(x, 0.0)
        negative = f.cmp("olt", x, zero)

        def place(c: float) -> Val:
            return f.select(far, f.select(negative, self.like(x, 2 * c), zero), self.like(x, c))

        r = f.fma(f.select(far, self.like(x, 2.0), self.like(x, -1.0)), p, place(high))
        return f.add(r, place(low))

    def _atan_ratio(self, n: Val, d: Val, swapped: Val) -> Val:
        """The arc tangent of n/d for 0 <= n <= d, or of d/n."""
        f, (high, low, _) = self.fn, self._format(n).half_pi
        t = f.fdiv(n, d)
        z = f.mul(t, t)
        p = f.fma(self._poly(z, self._format(n).atan), f.mul(z, t), t)
        return f.select(swapped, f.add(f.sub(self.like(n, high), p), self.like(n, low)), p)

    def _atan(self, x: Val) -> Val:
        f, a, one = self.fn, self._abs(x), self.like(x, 1.0)
        big = f.cmp("ogt", a, one)
        return self._signed(self._atan_ratio(f.select(big, one, a), f.select(big, a, one), big), x)

    def _atan2(self, y: Val, x: Val) -> Val:
        """The angle of the first octant, mirrored. inf/inf counts as 1, 0/0 as 0."""
        f, one, inf = self.fn, self.like(x, 1.0), self.like(x, math.inf)
        ax, ay = self._abs(x), self._abs(y)
        steep = f.cmp("ogt", ay, ax)
        n, d = f.select(steep, ax, ay), f.select(steep, ay, ax)
        infinite = f.cmp("oeq", n, inf)
        d = f.select(f.and_(infinite, f.cmp("oeq", d, inf)), one, d)
        n = f.select(infinite, one, n)
        p = self._atan_ratio(n, self._above(d, self._format(x).tiny * 2.0 ** -self._format(x).digits), steep)
        high, low, _ = self._format(x).half_pi
        left = f.cmp("slt", f.bits(x), self._int(x, 0))
        p = f.select(left, f.add(f.sub(self.like(x, 2 * high), p), self.like(x, 2 * low)), p)
        return self._signed(p, y)

    # --- the protocol -----------------------------------------------------------------------------------------
    def sin(self, x: S) -> S:
        return self._map(self._sin, x)

    def cos(self, x: S) -> S:
        return self._map(self._cos, x)

    def tan(self, x: S) -> S:
        return self._map(self._tan, x)

    def asin(self, x: S) -> S:
        return self._map(self._asin, x)

    def acos(self, x: S) -> S:
        return self._map(self._acos, x)

    def atan(self, x: S) -> S:
        return self._map(self._atan, x)

    def atan2(self, y: S, x: S) -> S:
        return self._map(self._atan2, y, x)
