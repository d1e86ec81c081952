"""The whole scalar protocol over LLVM registers: error functions and powers on top of the other parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tracejit.lower.celltables import ERF, ERFCX, ERFCX_PLACES
from tracejit.lower.coefficients import CELLS, FLOAT
from tracejit.lower.llvm import Val, elem, lanes
from tracejit.lower.scalarcast import S, literal
from tracejit.lower.scalarrandom import RandomScalar


class LLVMScalar(RandomScalar):
    """The whole scalar protocol over LLVM registers of `width` lanes.

    Operands are `S` values of equal dtype and, as a rule, `width` lanes; one-lane operands are broadcast. float16 and
    bfloat16 are computed as float and rounded by `rounded`, `store` and `cast`. Floating add and mul are neither
    contracted nor reassociated unless `fn.flags` says so; the elementary functions never look at those flags.
    """

    # --- error functions --------------------------------------------------------------------------------------
    def _erf(self, x: Val) -> Val:
        f, fmt = self.fn, self._format(x)
        if self._native(x):
            return self._signed(self._from_cells(self._abs(x), ERF[elem(x.ty)]), x)
        a = self._below(self._abs(x), fmt.erf_one)
        near = f.mul(a, self._poly(f.mul(a, a), fmt.erf))
        far = f.fneg(self._expm1_scaled(self._poly(a, fmt.erf_far), 0, small=True))
        return self._signed(f.select(f.cmp("ogt", a, self.like(x, fmt.erf_switch)), far, near), x)

    def _erfc(self, x: Val) -> Val:
        """1 - erf(x) near 0; exp(-a*a) times a function of a = |x| that changes little elsewhere."""
        f, fmt, one = self.fn, self._format(x), self.like(x, 1.0)
        a = self._below(self._abs(x), fmt.erfc_zero)
        z = f.mul(a, a)
        if fmt is FLOAT and self._native(x):
            g, e = self._erfcx_cells(a), self._exp(f.fneg(f.mul(x, x)))  # the derivative's own, computed once
            far = f.mul(e, f.fma(g, f.fma(a, f.fneg(a), z), g))
            return f.select(f.cmp("olt", x, self.like(x, 0.0)), f.sub(self.like(x, 2.0), far), far)
        q, n, t = self._exp_parts(f.fneg(z), f.fma(a, f.fneg(a), z))
        g = self._erfcx(a)
        far = self._scale(f.fma(g, q, g), n, t)
        far = f.select(f.cmp("olt", x, self.like(x, 0.0)), f.sub(self.like(x, 2.0), far), far)
        near = f.fma(f.fneg(x), self._poly(z, fmt.erf), one)
        return f.select(f.cmp("ogt", a, self.like(x, 0.5)), far, near)

    def _erfcx(self, a: Val) -> Val:
        """exp(a*a)*erfc(a), a >= 1/2. 1/(a+c) is taken to twice the digits: its error would count thrice."""
        f, fmt, one = self.fn, self._format(a), self.like(a, 1.0)
        c = self.like(a, fmt.erfcx_center)
        d = f.add(a, c)
        lost = f.sub(f.sub(d, c), a)
        s = f.fdiv(one, d)
        low = f.mul(s, f.fma(s, lost, f.fma(f.fneg(s), d, one)))
        twice = self.like(a, -2 * fmt.erfcx_center)
        p = self._poly(f.fma(low, twice, f.fma(s, twice, one)), fmt.erfcx)
        return f.fma(s, p, f.mul(low, p))

    def _erfcx_cells(self, a: Val) -> Val:
        """float: exp(a*a)*erfc(a), a >= 0."""
        f = self.fn
        index = f.op("lshr", f.bits(f.add(a, self.like(a, 1.0))), self._int(a, FLOAT.digits - 2))
        d = f.sub(a, self._lookup("erfcx_places", ERFCX_PLACES, index, a))
        r = self._lookup("", ERFCX[0], index, a)
        for row in ERFCX[1:]:
            r = f.fma(r, d, self._lookup("", row, index, a))
        return r

    # --- powers -----------------------------------------------------------------------------------------------
    def _long_log(self, x: Val) -> tuple[Val, Val]:
        """log(x) for x > 0 as an unevaluated sum of two numbers, good to about 10 bits more than one holds."""
        f, fmt = self.fn, self._format(x)
        k, m = self._exponent(x, 1.0)
        index = f.op("lshr", f.bits(m), self._int(x, fmt.digits - 4))
        r = f.fma(m, self._lookup("inverse", CELLS, index, x), self.like(x, -1.0))
        # k*log(2) and -log of the cell add up exactly
        top = f.fma(k, self.like(x, fmt.ln2[0]), self._lookup("high", fmt.cells_hi, index, x))
        low = f.fma(k, self.like(x, fmt.ln2[1]), self._lookup("low", fmt.cells_lo, index, x))
        s = f.add(top, r)
        low = f.add(low, f.add(f.sub(top, s), r))
        if fmt is FLOAT:
            low = f.fma(f.mul(r, r), self._poly(r, fmt.pow), low)
            high = f.add(s, low)
            return high, f.add(f.sub(s, high), low)
        half = f.mul(r, self.like(x, -0.5))
        square = f.mul(r, half)
        h = f.add(s, square)
        low = f.add(low, f.add(f.fma(r, half, f.fneg(square)), f.add(f.sub(s, h), square)))
        low = f.fma(f.mul(r, square), self._poly(r, fmt.pow), low)
        high = f.add(h, low)
        return high, f.add(f.sub(h, high), low)

    def _pow(self, x: Val, y: Val) -> Val:
        f, fmt = self.fn, self._format(x)
        high, low = self._long_log(self._abs(x))
        v = f.mul(y, high)
        rest = f.fma(y, low, f.fma(y, high, f.fneg(v)))
        # where v is clamped, `rest` means nothing; NaN becomes 1
        rest = f.select(f.cmp("olt", rest, self.like(x, 1.0)), rest, self.like(x, 1.0))
        rest = self._above(rest, -1.0)
        r = self._exp_bounded(self._clamp(v, fmt.exp_range[0] - 2, fmt.exp_range[1] + 2), rest)
        infinity = (fmt.bias * 2 + 1) << fmt.digits
        odd = f.or_(
            f.cmp("uge", f.sub(f.bits(x), self._int(x, 1)), self._int(x, infinity - 1)),
            f.cmp("uno", v, v),  # y is NaN, or infinite while x is 1
        )
        return f.if_(self.any(odd), lambda: [self._pow_special(x, y, r)], lambda: [r])[0]

    def _pow_special(self, x: Val, y: Val, r: Val) -> Val:
        """IEEE 754's results where x is not positive and finite or y not finite; `r` is |x|**y for finite ones."""
        f, zero, one, inf = self.fn, self.like(x, 0.0), self.like(x, 1.0), self.like(x, math.inf)
        a, ay = self._abs(x), self._abs(y)
        end = f.or_(f.or_(f.cmp("oeq", a, zero), f.cmp("oeq", a, inf)), f.cmp("oeq", ay, inf))
        grows = f.xor(f.cmp("ogt", a, one), f.cmp("olt", y, zero))
        r = f.select(end, f.select(grows, inf, zero), r)
        r = f.select(f.and_(f.cmp("oeq", a, one), f.cmp("oeq", ay, inf)), one, r)
        half = f.mul(y, self.like(y, 0.5))
        whole = f.cmp("oeq", f.intrinsic("trunc", y), y)
        odd = f.and_(whole, f.cmp("une", f.intrinsic("trunc", half), half))
        r = f.select(odd, self._signed(r, x), r)
        bad = f.and_(f.and_(f.cmp("olt", x, zero), f.cmp("one", a, inf)), f.not_(whole))
        r = f.select(f.or_(bad, f.cmp("uno", x, y)), self.like(x, math.nan), r)
        return f.select(f.or_(f.cmp("oeq", y, zero), f.cmp("oeq", x, one)), one, r)

    def _int_pow(self, x: S, y: S) -> S:
        """By squaring, modulo 2**bits. Negative exponents give what truncation leaves of the true value."""
        f, base, e = self.fn, *self._pair(x, y)
        one, zero = self.like(base, 1), self.like(base, 0)
        power = literal(e)
        if power is not None and power >= 0:
            r: Val | None = None
            while power:
                if power & 1:
                    r = base if r is None else f.mul(r, base)
                power >>= 1
                base = f.mul(base, base) if power else base
            return S(one if r is None else r, x.dtype)

        def step(r: Val, b: Val, p: Val) -> list[Val]:
            r = f.select(f.cmp("ne", f.and_(p, one), zero), f.mul(r, b), r)
            return [r, f.mul(b, b), f.op("lshr", p, one)]

        r = f.while_([one, base, e], lambda _r, _b, p: self.any(f.cmp("ne", p, zero)), step)[0]
        if x.dtype.kind == "i":
            minus = self.like(base, -1)
            alternate = f.select(f.cmp("eq", f.and_(e, one), zero), one, minus)
            unit = f.select(f.cmp("eq", base, one), one, f.select(f.cmp("eq", base, minus), alternate, zero))
            r = f.select(f.cmp("slt", e, zero), unit, r)
        return S(r, x.dtype)

    # --- the protocol -----------------------------------------------------------------------------------------
    def if_any(self, c: S, value: Callable[[], S], otherwise: S) -> S:
        """`value` in the lanes of c; it is computed only if there are any."""
        f, n = self.fn, max(lanes(c.v.ty), lanes(otherwise.v.ty))
        on, old = f.splat(c.v, n), f.splat(otherwise.v, n)
        new = f.if_(self.any(on), lambda: [f.select(on, f.splat(value().v, n), old)], lambda: [old])
        return S(new[0], otherwise.dtype)

    def iterate(
        self, state: Sequence[S], fixed: Sequence[S], going: Callable[..., S], step: Callable[..., Sequence[S]]
    ) -> list[S]:
        """`while going(*state, *fixed): state = step(*state, *fixed)` per lane; one that is done stays as it is."""
        f, dtypes = self.fn, [x.dtype for x in state]
        n = max(lanes(x.v.ty) for x in (*state, *fixed))

        def wrapped(values: Sequence[Val]) -> list[S]:
            return [S(v, d) for v, d in zip(values, dtypes, strict=True)]

        def test(values: Sequence[Val]) -> Val:
            return f.splat(going(*wrapped(values), *fixed).v, n)

        def body(on: Val, *old: Val) -> list[Val]:
            new = [f.splat(x.v, n) for x in step(*wrapped(old), *fixed)]
            now = [f.select(on, a, b) for a, b in zip(new, old, strict=True)]
            return [f.and_(on, test(now)), *now]

        start = [f.splat(x.v, n) for x in state]
        return wrapped(f.while_([test(start), *start], lambda on, *_: self.any(on), body)[1:])

    def erf(self, x: S) -> S:
        return self._map(self._erf, x)

    def erfc(self, x: S) -> S:
        return self._map(self._erfc, x)

    def pow(self, x: S, y: S) -> S:
        return self._map(self._pow, x, y) if x.dtype.kind == "f" else self._int_pow(x, y)
