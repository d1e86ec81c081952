"""Counter-based random numbers on LLVM registers: Philox 4x32-10, uniform and normal values."""

from __future__ import annotations

import math

from tracejit.ir.types import DType, float32, uint32, uint64
from tracejit.lower.llvm import Val, const, lanes, vec
from tracejit.lower.scalarcast import S
from tracejit.lower.scalartrig import TrigScalar

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = 0xFFFFFFFF


class RandomScalar(TrigScalar):
    """Adds random numbers."""

    def philox(self, key0: S, key1: S, low: S, high: S | None = None) -> tuple[S, S, S, S]:
        """Four uint32 values of Philox 4x32-10 per counter. Keys are uint32, the counter's two halves uint64."""
        f = self.fn
        n = max(lanes(x.v.ty) for x in (key0, key1, low))
        ty = vec("i64", n)

        def wide(v: Val) -> Val:  # 32-bit words in 64-bit lanes: products need no shuffles
            return f.splat(v, n) if v.ty.endswith(("i64", "i64>")) else f.cast("zext", f.splat(v, n), ty)

        bits, word = const(ty, 32), const(ty, LOW)
        c0, c1 = f.and_(wide(low.v), word), f.op("lshr", wide(low.v), bits)
        c2 = const(ty, 0) if high is None else f.and_(wide(high.v), word)
        c3 = const(ty, 0) if high is None else f.op("lshr", wide(high.v), bits)
        keys = [wide(key0.v), wide(key1.v)]
        for _ in range(10):
            p0 = f.mul(f.and_(c0, word), const(ty, MULTIPLIERS[0]))
            p1 = f.mul(f.and_(c2, word), const(ty, MULTIPLIERS[1]))
            c0 = f.xor(f.xor(f.op("lshr", p1, bits), c1), keys[0])
            c2 = f.xor(f.xor(f.op("lshr", p0, bits), c3), keys[1])
            c1, c3 = f.and_(p1, word), f.and_(p0, word)
            keys = [f.and_(f.add(k, const(ty, w)), word) for k, w in zip(keys, WEYL, strict=True)]
        a, b, c, d = (S(f.cast("trunc", v, vec("i32", n)), uint32) for v in (c0, c1, c2, c3))
        return a, b, c, d

    def uniform01(self, word: S, dtype: DType, second: S | None = None) -> S:
        """In [0, 1): 24 bits of a uint32 for float32 (as many as a 16-bit float holds), 53 bits of two for float64."""
        f = self.fn
        if dtype.bits == 64:
            if second is None:
                raise ValueError("a float64 takes two words")
            high = f.op("lshr", self.cast(word, uint64).v, const(vec("i64", lanes(word.v.ty)), 5))
            low = f.op("lshr", self.cast(second, uint64).v, const(high.ty, 6))
            whole = f.or_(f.op("shl", high, const(high.ty, 26)), low)
            v = f.cast("sitofp", whole, vec("double", lanes(high.ty)))
            return S(f.mul(v, self.like(v, 2.0**-53)), dtype)
        digits = {"float32": 24, "float16": 11, "bfloat16": 8}[dtype.name]
        v = f.cast("sitofp", f.op("lshr", word.v, self.like(word.v, 32 - digits)), vec("float", lanes(word.v.ty)))
        return S(f.mul(v, self.like(v, 2.0**-digits)), dtype)

    def box_muller(self, u: S, v: S) -> tuple[S, S]:
        """Two independent normal values from two uniform ones in [0, 1)."""
        radius = self._map(self._radius, u)
        sine, cosine = self._map(self._turn_sin, v), self._map(self._turn_cos, v)
        return self.mul(radius, cosine), self.mul(radius, sine)

    def normal(self, dtype: DType, *words: S) -> tuple[S, S]:
        """Two normal values from two uint32 words, four for float64."""
        if dtype.bits == 64:
            a, b, c, d = words
            return self.box_muller(self.uniform01(a, dtype, b), self.uniform01(c, dtype, d))
        x, y = self.box_muller(*(self.uniform01(w, float32) for w in words))
        return S(self.narrow(x.v, dtype), dtype), S(self.narrow(y.v, dtype), dtype)

    def _radius(self, u: Val) -> Val:
        """sqrt(-2*log(1-u))."""
        f = self.fn
        k, z = self._split(f.sub(self.like(u, 1.0), u))
        return f.intrinsic("sqrt", f.mul(self._log_sum(k, z), self.like(u, -2.0)))

    def _turn(self, v: Val) -> tuple[Val, Val, Val]:
        """The sine and cosine of 2*pi*v before the quadrants are told apart, and the quadrant."""
        f = self.fn
        four = f.mul(v, self.like(v, 4.0))
        magic = self.like(v, self._format(v).magic)
        t = f.add(four, magic)
        r = f.mul(f.sub(four, f.sub(t, magic)), self.like(v, math.pi / 2))
        z = f.mul(r, r)
        return self._sin_poly(r, z), self._cos_poly(z), f.bits(t)

    def _turn_sin(self, v: Val) -> Val:
        s, c, q = self._turn(v)
        return self._flip(self.fn.select(self._odd(q), c, s), q, 1)

    def _turn_cos(self, v: Val) -> Val:
        s, c, q = self._turn(v)
        return self._flip(self.fn.select(self._odd(q), s, c), self.fn.add(q, self.like(q, 1)), 1)
