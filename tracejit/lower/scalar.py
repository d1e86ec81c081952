"""Scalar operations on LLVM registers that need no polynomials: arithmetic, comparisons, bits, division, rare calls."""

from __future__ import annotations

import math
from collections.abc import Callable

from tracejit.ir.types import bool_
from tracejit.lower.llvm import FLOATS, Val, const, elem, lanes, vec
from tracejit.lower.scalarcast import CastScalar, S, literal, register

__all__ = ["S", "Scalar", "register"]


class Scalar(CastScalar):
    """Arithmetic, comparisons and logic on all element types."""

    def _pair(self, a: S, b: S) -> tuple[Val, Val]:
        n = max(lanes(a.v.ty), lanes(b.v.ty))
        return self.fn.splat(a.v, n), self.fn.splat(b.v, n)

    def _bin(self, name: str, a: S, b: S) -> S:
        f = self.fn
        x, y = self._pair(a, b)
        return S(f.op(("f" if elem(x.ty) in FLOATS else "") + name, x, y), a.dtype)

    def select(self, c: S, a: S, b: S) -> S:
        x, y = self._pair(a, b)
        if lanes(c.v.ty) > lanes(x.ty):
            x, y = self.fn.splat(x, lanes(c.v.ty)), self.fn.splat(y, lanes(c.v.ty))
        return S(self.fn.select(c.v, x, y), a.dtype)

    # --- arithmetic -------------------------------------------------------------------------------------------
    def add(self, a: S, b: S) -> S:
        return self.logical_or(a, b) if a.dtype is bool_ else self._bin("add", a, b)

    def sub(self, a: S, b: S) -> S:
        return self.logical_xor(a, b) if a.dtype is bool_ else self._bin("sub", a, b)

    def mul(self, a: S, b: S) -> S:
        return self.logical_and(a, b) if a.dtype is bool_ else self._bin("mul", a, b)

    def div(self, a: S, b: S) -> S:
        return self._bin("div", a, b)

    def neg(self, a: S) -> S:
        if a.dtype.kind == "f":
            return S(self.fn.fneg(a.v), a.dtype)
        return S(self.fn.sub(self.like(a.v, 0), a.v), a.dtype)

    def fma(self, a: S, b: S, c: S) -> S:
        """a*b + c, rounded once for floats."""
        if a.dtype.kind != "f":
            return self.add(self.mul(a, b), c)
        n = max(lanes(x.v.ty) for x in (a, b, c))
        return S(self.fn.fma(*(self.fn.splat(x.v, n) for x in (a, b, c))), a.dtype)

    def abs(self, a: S) -> S:
        if a.dtype.kind == "f":
            return S(self.fn.intrinsic("fabs", a.v), a.dtype)
        if a.dtype.kind in "ub":
            return a
        return self.select(self.lt(a, S(self.like(a.v, 0), a.dtype)), self.neg(a), a)

    def sign(self, a: S) -> S:
        """-1, 0 or 1; NaN stays."""
        f, v = self.fn, a.v
        if a.dtype.kind == "b":
            return a
        if a.dtype.kind == "f":
            one = f.intrinsic("copysign", self.like(v, 1.0), v)
            keep = f.cmp("ueq", v, self.like(v, 0.0))
            return S(f.select(keep, f.add(v, self.like(v, 0.0)), one), a.dtype)
        zero, one = self.like(v, 0), self.like(v, 1)
        nonzero = f.select(f.cmp("eq", v, zero), zero, one)
        if a.dtype.kind == "u":
            return S(nonzero, a.dtype)
        return S(f.select(f.cmp("slt", v, zero), self.like(v, -1), nonzero), a.dtype)

    def square(self, a: S) -> S:
        return self.mul(a, a)

    def reciprocal(self, a: S) -> S:
        one = S(self.like(a.v, 1), a.dtype)
        return self.div(one, a) if a.dtype.kind == "f" else self.truncdiv(one, a)

    def sqrt(self, a: S) -> S:
        return S(self.fn.intrinsic("sqrt", a.v), a.dtype)

    def rsqrt(self, a: S) -> S:
        return self.reciprocal(self.sqrt(a))

    def _extreme(self, a: S, b: S, order: str) -> S:
        """The operand that `order` ("lt": the greater, "gt": the smaller) prefers; NaN if one is NaN."""
        f = self.fn
        x, y = self._pair(a, b)
        if a.dtype.kind != "f":
            pred = order if a.dtype.kind == "i" else "u" + order
            return S(f.select(f.cmp(("s" if pred == order else "") + pred, x, y), y, x), a.dtype)
        if y[0] == "%":  # then of two zeros b counts, as in NumPy's loops; a number stays in the second place
            x, y = y, x
        m = f.select(f.cmp("o" + order, x, y), y, x)
        if y[0] != "%" and y != self.like(y, math.nan):
            return S(m, a.dtype)
        return S(f.select(f.cmp("uno", y, y), y, m), a.dtype)

    def maximum(self, a: S, b: S) -> S:
        return self.logical_or(a, b) if a.dtype.kind == "b" else self._extreme(a, b, "lt")

    def minimum(self, a: S, b: S) -> S:
        return self.logical_and(a, b) if a.dtype.kind == "b" else self._extreme(a, b, "gt")

    def copysign(self, a: S, b: S) -> S:
        return S(self.fn.intrinsic("copysign", *self._pair(a, b)), a.dtype)

    # --- rounding and classes ---------------------------------------------------------------------------------
    def _round(self, name: str, a: S) -> S:
        return S(self.fn.intrinsic(name, a.v), a.dtype) if a.dtype.kind == "f" else a

    def floor(self, a: S) -> S:
        return self._round("floor", a)

    def ceil(self, a: S) -> S:
        return self._round("ceil", a)

    def trunc(self, a: S) -> S:
        return self._round("trunc", a)

    def round(self, a: S) -> S:
        """To the nearest integer, halves to the even one."""
        return self._round("rint", a)

    def _class(self, a: S, test: Callable[[Val], Val], otherwise: bool) -> S:
        if a.dtype.kind != "f":
            return S(const(vec("i1", lanes(a.v.ty)), otherwise), bool_)
        return S(test(a.v), bool_)

    def isnan(self, a: S) -> S:
        return self._class(a, lambda v: self.fn.cmp("uno", v, v), False)

    def isinf(self, a: S) -> S:
        return self._class(a, lambda v: self.fn.cmp("oeq", self.fn.intrinsic("fabs", v), self.like(v, math.inf)), False)

    def isfinite(self, a: S) -> S:
        return self._class(a, lambda v: self.fn.cmp("olt", self.fn.intrinsic("fabs", v), self.like(v, math.inf)), True)

    # --- comparisons and logic --------------------------------------------------------------------------------
    def _compare(self, order: str, a: S, b: S) -> S:
        kind = a.dtype.kind
        if order in ("eq", "ne"):
            pred = order if kind != "f" else {"eq": "oeq", "ne": "une"}[order]
        else:
            pred = {"f": "o", "i": "s"}.get(kind, "u") + order
        return S(self.fn.cmp(pred, *self._pair(a, b)), bool_)

    def lt(self, a: S, b: S) -> S:
        return self._compare("lt", a, b)

    def le(self, a: S, b: S) -> S:
        return self._compare("le", a, b)

    def gt(self, a: S, b: S) -> S:
        return self._compare("gt", a, b)

    def ge(self, a: S, b: S) -> S:
        return self._compare("ge", a, b)

    def eq(self, a: S, b: S) -> S:
        return self._compare("eq", a, b)

    def ne(self, a: S, b: S) -> S:
        return self._compare("ne", a, b)

    def bit_and(self, a: S, b: S) -> S:
        return self._bin("and", a, b)

    def bit_or(self, a: S, b: S) -> S:
        return self._bin("or", a, b)

    def bit_xor(self, a: S, b: S) -> S:
        return self._bin("xor", a, b)

    def bit_not(self, a: S) -> S:
        return S(self.fn.not_(a.v), a.dtype)

    def logical_and(self, a: S, b: S) -> S:
        return self.bit_and(self.cast(a, bool_), self.cast(b, bool_))

    def logical_or(self, a: S, b: S) -> S:
        return self.bit_or(self.cast(a, bool_), self.cast(b, bool_))

    def logical_xor(self, a: S, b: S) -> S:
        return self.bit_xor(self.cast(a, bool_), self.cast(b, bool_))

    def logical_not(self, a: S) -> S:
        return self.bit_not(self.cast(a, bool_))

    def _within(self, amount: Val, bits: int) -> bool:
        n = literal(amount)
        return n is not None and 0 <= n < bits

    def shift_left(self, a: S, b: S) -> S:
        x, n = self._pair(a, b)
        if self._within(n, a.dtype.bits):
            return S(self.fn.op("shl", x, n), a.dtype)
        inside = self.fn.cmp("ult", n, self.like(n, a.dtype.bits))
        zero = self.like(x, 0)
        return S(self.fn.select(inside, self.fn.op("shl", x, self.fn.select(inside, n, zero)), zero), a.dtype)

    def shift_right(self, a: S, b: S) -> S:
        """Arithmetic for signed types. Amounts outside the word give 0, or the sign."""
        f = self.fn
        x, n = self._pair(a, b)
        if self._within(n, a.dtype.bits):
            return S(f.op("ashr" if a.dtype.kind == "i" else "lshr", x, n), a.dtype)
        inside = f.cmp("ult", n, self.like(n, a.dtype.bits))
        if a.dtype.kind == "i":
            return S(f.op("ashr", x, f.select(inside, n, self.like(n, a.dtype.bits - 1))), a.dtype)
        zero = self.like(x, 0)
        return S(f.select(inside, f.op("lshr", x, f.select(inside, n, zero)), zero), a.dtype)

    # --- division with rounding -------------------------------------------------------------------------------
    def _quotient(self, a: S, b: S) -> tuple[Val, Val, Val]:
        """Integers: the quotient rounded to zero (0 for a divisor of 0), and the operands."""
        f = self.fn
        x, y = self._pair(a, b)
        signed = a.dtype.kind == "i"
        if literal(y) not in (None, 0, -1):
            return f.op("sdiv" if signed else "udiv", x, y), x, y
        zero, one = self.like(y, 0), self.like(y, 1)
        by_zero = f.cmp("eq", y, zero)
        odd = by_zero
        if signed:
            by_minus = f.cmp("eq", y, self.like(y, -1))
            odd = f.or_(by_zero, by_minus)
        safe = f.select(odd, one, y)
        n = lanes(x.ty)
        if n > 1 and a.dtype.bits <= 32:  # vector division of integers exists nowhere: floats hold these exactly
            wide = vec("double" if a.dtype.bits == 32 else "float", n)
            up, down = ("sitofp", "fptosi") if signed else ("uitofp", "fptoui")
            q = f.cast(down, f.pure(f"fdiv {wide} {f.cast(up, x, wide)}, {f.cast(up, safe, wide)}", wide), x.ty)
        else:
            q = f.op("sdiv" if signed else "udiv", x, safe)
        if signed:
            q = f.select(by_minus, f.sub(zero, x), q)
        return f.select(by_zero, zero, q), x, y

    def truncdiv(self, a: S, b: S) -> S:
        """Division rounded to zero, as in C; integers: x/0 = 0."""
        if a.dtype.kind == "f":
            return self.trunc(self.div(a, b))
        return S(self._quotient(a, b)[0], a.dtype)

    def fmod(self, a: S, b: S) -> S:
        """The remainder of C, with the sign of `a`; integers: 0 for a divisor of 0."""
        if a.dtype.kind == "f":
            return S(self._fmod(*self._pair(a, b)), a.dtype)
        f = self.fn
        q, x, y = self._quotient(a, b)
        r = f.sub(x, f.mul(q, y))
        return S(f.select(f.cmp("eq", y, self.like(y, 0)), self.like(y, 0), r), a.dtype)

    def floordiv(self, a: S, b: S) -> S:
        f = self.fn
        if a.dtype.kind == "f":
            return S(self._floor_divide(*self._pair(a, b))[0], a.dtype)
        if (n := literal(b.v)) is not None and n > 0 and not n & (n - 1):
            shift = "ashr" if a.dtype.kind == "i" else "lshr"
            return S(f.op(shift, a.v, self.like(a.v, n.bit_length() - 1)), a.dtype)
        q, x, y = self._quotient(a, b)
        if a.dtype.kind != "i":
            return S(q, a.dtype)
        return S(f.select(self._crossed(q, x, y)[0], f.sub(q, self.like(q, 1)), q), a.dtype)

    def floormod(self, a: S, b: S) -> S:
        f = self.fn
        if a.dtype.kind == "f":
            return S(self._floor_divide(*self._pair(a, b))[1], a.dtype)
        if (n := literal(b.v)) is not None and n > 0 and not n & (n - 1):
            return S(f.and_(a.v, self.like(a.v, n - 1)), a.dtype)
        q, x, y = self._quotient(a, b)
        crossed, r = self._crossed(q, x, y)
        r = r if a.dtype.kind != "i" else f.select(crossed, f.add(r, y), r)
        return S(f.select(f.cmp("eq", y, self.like(y, 0)), self.like(y, 0), r), a.dtype)

    def _crossed(self, q: Val, x: Val, y: Val) -> tuple[Val, Val]:
        """Whether the floor is one below the quotient rounded to zero, and the remainder."""
        f = self.fn
        r = f.sub(x, f.mul(q, y))
        zero = self.like(r, 0)
        unlike = f.and_(f.cmp("slt", f.xor(r, y), zero), f.cmp("ne", y, zero))
        return f.and_(unlike, f.cmp("ne", r, zero)), r

    def _floor_divide(self, x: Val, y: Val) -> tuple[Val, Val]:
        """Floats: NumPy's floor_divide and mod."""
        f = self.fn
        zero = self.like(y, 0.0)
        m = self._fmod(x, y)
        nonzero = f.cmp("une", m, zero)
        crossed = f.and_(nonzero, f.xor(f.cmp("olt", y, zero), f.cmp("olt", m, zero)))
        mod = f.select(crossed, f.add(m, y), f.select(nonzero, m, f.intrinsic("copysign", zero, y)))
        q = f.fdiv(f.sub(x, m), y)
        q = f.select(crossed, f.sub(q, self.like(q, 1.0)), q)
        down = f.intrinsic("floor", q)
        down = f.select(f.cmp("ogt", f.sub(q, down), self.like(q, 0.5)), f.add(down, self.like(q, 1.0)), down)
        true = f.fdiv(x, y)
        down = f.select(f.cmp("oeq", q, zero), f.intrinsic("copysign", zero, true), down)
        return f.select(f.cmp("oeq", y, zero), true, down), mod

    def _fmod(self, x: Val, y: Val) -> Val:
        """Exact: one step where the quotient is below 2**digits, else the library's loop."""
        f = self.fn
        ax, ay = f.intrinsic("fabs", x), f.intrinsic("fabs", y)
        q = f.intrinsic("trunc", f.fdiv(ax, ay))
        r = f.fma(f.fneg(q), ay, ax)
        r = f.select(f.cmp("olt", r, self.like(r, 0.0)), f.add(r, ay), r)
        r = f.select(f.cmp("oeq", q, self.like(q, 0.0)), ax, r)
        r = f.intrinsic("copysign", r, x)
        digits = 24 if elem(x.ty) == "float" else 53
        return self.rare(f.cmp("oge", q, self.like(q, 2.0**digits)), "fmod", r, x, y)

    # --- calls on rare arguments ------------------------------------------------------------------------------
    def any(self, c: Val) -> Val:
        n = lanes(c.ty)
        return c if n == 1 else self.fn.cmp("ne", self.fn.cast("bitcast", c, f"i{n}"), Val("0", f"i{n}"))

    def rare(self, where: Val, name: str, usual: Val, *args: Val) -> Val:
        """`usual`, or the C library's `name` of `args` if any lane of `where` is set; a call per lane, out of line."""
        f = self.fn
        n, ty = lanes(usual.ty), elem(usual.ty)

        def call() -> list[Val]:
            buffers = [f.alloca(8 * n) for _ in args]
            for v, p in zip(args, buffers, strict=True):
                f.store(f.cast("fpext", v, vec("double", n)), p)
            f.call(self._lanewise(name, len(args), n), buffers)
            return [f.cast("fptrunc", f.load(vec("double", n), buffers[0]), usual.ty)]

        if ty == "double" and n == 1:
            return f.if_(where, lambda: [f.call(name, list(args), "double", declare=True)], lambda: [usual])[0]
        return f.if_(self.any(where), call, lambda: [usual])[0]

    def _lanewise(self, name: str, count: int, n: int) -> str:
        """A function that replaces the `n` doubles behind its first pointer by `name` of them."""
        module = self.fn.module
        own = f"lanes{n}.{name}"
        if not any(g.name == own for g in module.functions):
            g = module.function(own, [(f"p{i}", "ptr") for i in range(count)], internal=True, attrs="noinline cold")

            def body(i: Val) -> None:
                at = [g.gep(p, i, "double") for p in g.args]
                g.store(g.call(name, [g.load("double", a) for a in at], "double", declare=True), at[0])

            g.loop(0, n, body, nonempty=True)
            g.ret_()
        return own
