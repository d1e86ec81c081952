"""Dimensions that may be unknown: integer polynomials in symbols, with equal, different and unknown as answers."""

from __future__ import annotations

import math
import numbers
import operator
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tracejit.errors import acts_for_users
from tracejit.ir.hooks import hooks
from tracejit.ir.integer import Integer, is_numpy, whole

Monomial = tuple[str, ...]  # sorted names of symbols and of opaque terms, with repetition
FOUND = "found_"  # what the symbols of sizes that a program finds out begin with


class Dim(Integer):
    """A dimension whose size is not known while tracing: a polynomial with integer coefficients.

    `hint` is the size seen when the trace was made; decisions that cannot be made for all sizes follow it, through
    `hooks.decision`, which records a guard. Immutable. `n // k`, `n % k`, `n.upto(k)` and `n.beside(m)` become opaque
    terms; a symbol with an upper bound is listed among them as "<=".
    """

    __slots__ = ("terms", "hint", "opaque", "_hash")

    def __init__(
        self, terms: Mapping[Monomial, int], hint: int, opaque: Mapping[str, tuple[str, Any, Any]] | None = None
    ) -> None:
        self.terms = {m: c for m, c in sorted(terms.items()) if c}
        self.hint = hint
        self.opaque = dict(opaque or {})
        self._hash = hash(tuple(self.terms.items()))

    @staticmethod
    def symbol(name: str, hint: int, most: int | Dim | None = None) -> Dim:
        """A size of its own, which is never above `most`."""
        return Dim({(name,): 1}, hint, None if most is None else {name: ("<=", most, 0)})

    @property
    def symbols(self) -> set[str]:
        out: set[str] = set()
        for m in self.terms:
            for n in m:
                kind, inner, k = self.opaque.get(n, _BOUNDED)
                out |= {n} if kind == "<=" else inner.symbols | (k.symbols if isinstance(k, Dim) else set())
        return out

    @property
    def is_found(self) -> bool:
        """Whether the program has to run for this size to be known."""
        return any(s.startswith(FOUND) for s in self.symbols)

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The size for given sizes of the symbols."""

        def term(n: str) -> int:
            kind, d, k = self.opaque.get(n, _BOUNDED)
            if kind == "<=":
                return values[n]
            v: int = d.evaluate(values)
            if kind == "with":
                return int(k.evaluate(values) if v == 1 else v)
            other: int = k
            return v // other if kind == "//" else v % other if kind == "%" else min(v, other)

        return sum(c * math.prod(term(n) for n in m) for m, c in self.terms.items())

    # --- arithmetic: another Dim, or an int when the symbols cancel ---------------------------------------------
    def _combine(self, other: int | Dim, sign: int) -> int | Dim:
        o = other if isinstance(other, Dim) else Dim({(): other}, other)
        t = dict(self.terms)
        for m, c in o.terms.items():
            t[m] = t.get(m, 0) + sign * c
        return _settle(t, self.hint + sign * o.hint, self.opaque | o.opaque)

    def __add__(self, other: object) -> Any:
        return self._combine(other, 1) if isinstance(other, (int, Dim)) else _compute("add", self, other)

    def __radd__(self, other: object) -> Any:
        return self._combine(other, 1) if isinstance(other, (int, Dim)) else _compute("add", other, self)

    def __sub__(self, other: object) -> Any:
        return self._combine(other, -1) if isinstance(other, (int, Dim)) else _compute("sub", self, other)

    def __rsub__(self, other: object) -> Any:
        return (-self) + other if isinstance(other, (int, Dim)) else _compute("sub", other, self)

    def __neg__(self) -> Dim:
        return Dim({m: -c for m, c in self.terms.items()}, -self.hint, self.opaque)

    def __pos__(self) -> Dim:
        return self

    def __abs__(self) -> Dim:
        return self if self >= 0 else -self

    def __mul__(self, other: object) -> Any:
        if not isinstance(other, (int, Dim)):
            return _compute("mul", self, other)
        o = other if isinstance(other, Dim) else Dim({(): other}, other)
        t: dict[Monomial, int] = {}
        for m1, c1 in self.terms.items():
            for m2, c2 in o.terms.items():
                m = tuple(sorted(m1 + m2))
                t[m] = t.get(m, 0) + c1 * c2
        return _settle(t, self.hint * o.hint, self.opaque | o.opaque)

    def __rmul__(self, other: object) -> Any:
        return self * other if isinstance(other, (int, Dim)) else _compute("mul", other, self)

    def __pow__(self, other: object, modulus: int | None = None) -> Any:
        if modulus is not None or isinstance(other, Dim):
            return pow(int(self), other if isinstance(other, int) else int(other), modulus)  # type: ignore[call-overload]
        if not isinstance(other, int):
            return _compute("pow", self, other)
        return math.prod((self,) * other) if 0 <= other <= 8 else int(self) ** other

    def __rpow__(self, other: object) -> Any:
        return other ** int(self) if isinstance(other, int) else _compute("pow", other, self)

    def _quotient(self, k: Dim) -> int | Dim | None:
        """self / k where every term has the one monomial of k as a factor."""
        if len(k.terms) != 1:
            return 1 if k == self else None
        ((mk, ck),) = k.terms.items()
        t: dict[Monomial, int] = {}
        for m, c in self.terms.items():
            rest = list(m)
            for n in mk:
                if n not in rest:
                    return None
                rest.remove(n)
            if c % ck:
                return None
            t[tuple(rest)] = c // ck
        return _settle(t, self.hint // k.hint if k.hint else 0, self.opaque)

    def __floordiv__(self, other: object) -> Any:
        if isinstance(other, Dim):
            _refuse_zero(other)
            q = self._quotient(other)
            return q if q is not None else int(self) // int(other)
        if not isinstance(other, int):
            return _compute("floordiv", self, other)
        if other == 0:
            raise ZeroDivisionError("integer division or modulo by zero")
        if other == 1:
            return self
        if other > 1 and all(c % other == 0 for c in self.terms.values()):
            return _settle({m: c // other for m, c in self.terms.items()}, self.hint // other, self.opaque)
        return self._opaque("//", other, self.hint // other)

    def __rfloordiv__(self, other: object) -> Any:
        """Of a number by a size: what it is now, which becomes a guard."""
        if not isinstance(other, int):
            return _compute("floordiv", other, self)
        _refuse_zero(self)
        if self.hint <= 0:
            return other // int(self)
        q = other // self.hint
        rest = other - q * self
        return q if 0 <= rest < self else other // int(self)

    def __mod__(self, other: object) -> Any:
        if isinstance(other, Dim):
            _refuse_zero(other)
            return 0 if self._quotient(other) is not None else int(self) % int(other)
        if not isinstance(other, int):
            return _compute("floormod", self, other)
        if other == 0:
            raise ZeroDivisionError("integer division or modulo by zero")
        if all(c % other == 0 for c in self.terms.values()):
            return 0
        return self._opaque("%", other, self.hint % other)

    def __rmod__(self, other: object) -> Any:
        return other - (other // self) * self if isinstance(other, int) else _compute("floormod", other, self)

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        return other // self, other % self

    def upto(self, k: int) -> int | Dim:
        """The smaller of this, which is not negative, and of a number, which is not either."""
        if self.compare(k, "<=") is True:
            return self
        return k if self.compare(k, ">=") is True else self._opaque("min", k, min(self.hint, k))

    def beside(self, other: Dim) -> Dim:
        """The size that an axis has after broadcasting: this one, or the other one where this one is 1."""
        parts = {repr(p): p for d in (self, other) for p in d._beside_each_other()}
        (name, out), *rest = sorted(parts.items())
        for _, p in rest:
            name = f"({out!r})with({p!r})"
            hint = p.hint if out.hint == 1 else out.hint
            out = Dim({(name,): 1}, hint, {**out.opaque, **p.opaque, name: ("with", out, p)})
        return out

    def _beside_each_other(self) -> list[Dim]:
        if len(self.terms) == 1:
            ((m, c),) = self.terms.items()
            kind, a, b = self.opaque.get(m[0], _BOUNDED) if len(m) == 1 and c == 1 else _BOUNDED
            if kind == "with":
                return [*a._beside_each_other(), b]
        return [self]

    def _opaque(self, kind: str, k: int, hint: int) -> Dim:
        name = f"({self}){kind}{k}"
        return Dim({(name,): 1}, hint, {**self.opaque, name: (kind, self, k)})

    def __truediv__(self, other: object) -> Any:
        return _compute("div", self, other)

    def __rtruediv__(self, other: object) -> Any:
        return _compute("div", other, self)

    # --- decisions ------------------------------------------------------------------------------------------------
    def _counts(self) -> bool:
        """Whether no term is negative for any sizes ≥ 0, apart from its coefficient."""
        parts = [d for kind, d, _ in self.opaque.values() if kind in ("//", "min", "with")]
        parts += [k for kind, _, k in self.opaque.values() if kind == "with"]
        return all(d.compare(0, ">=") is True for d in parts)

    def compare(self, other: int | Dim, relation: str) -> bool | None:
        """`self relation other` for all sizes ≥ 0: True, False, or None when it depends."""
        d = self - other
        if isinstance(d, int):
            return {"==": d == 0, "<": d < 0, "<=": d <= 0, ">": d > 0, ">=": d >= 0}[relation]
        if d.opaque and not d._counts():
            return None
        low = d._least()
        if low is not None:
            if relation == "==" and low > 0:
                return False
            if (relation == ">" and low > 0) or (relation == ">=" and low >= 0):
                return True
            if (relation == "<" and low >= 0) or (relation == "<=" and low > 0):
                return False
        high = (-d)._least()
        if high is not None:  # -d >= high
            if relation == "==" and high > 0:
                return False
            if (relation == "<" and high > 0) or (relation == "<=" and high >= 0):
                return True
            if (relation == ">" and high >= 0) or (relation == ">=" and high > 0):
                return False
        return None

    @property
    def least(self) -> int | None:
        """What this is never below for any sizes ≥ 0, if that is known."""
        return None if self.opaque and not self._counts() else self._least()

    def _least(self, deep: int = 4) -> int | None:
        """What this is never below, if its symbols and their bounds tell it."""
        if all(c > 0 for m, c in self.terms.items() if m):
            return self.terms.get((), 0)
        below = {n for m, c in self.terms.items() if c < 0 for n in m}
        known: list[int] = []
        for n in sorted(below & self.opaque.keys()) if deep else ():
            kind, most, k = self.opaque[n]
            of = self._divided(n, k) if kind == "//" else self
            for bound in (most,) if kind in ("<=", "//") else (most, k) if kind == "min" else ():
                d = None if of is None else of._with_bound(n, bound)
                low = d._least(deep - 1) if isinstance(d, Dim) else d
                known += [] if low is None else [low]
        return max(known, default=None)

    def _divided(self, name: str, k: int) -> Dim | None:
        """This with the multiples of a term divided by k, where they are such multiples, and are subtracted."""
        held = {m: c for m, c in self.terms.items() if name in m}
        if k < 1 or any(c > 0 or c % k or m.count(name) > 1 for m, c in held.items()):
            return None
        return Dim(self.terms | {m: c // k for m, c in held.items()}, self.hint, self.opaque)

    def _with_bound(self, name: str, bound: int | Dim) -> int | Dim:
        """This, or less: a term's bound in its place where it is subtracted."""
        out: int | Dim = 0
        for m, c in self.terms.items():
            term: int | Dim = c
            for n in m:
                one = Dim({(n,): 1}, 1, {n: self.opaque[n]} if n in self.opaque else None)
                term = term * (bound if n == name and c < 0 else one)
            out = out + term
        return out

    def _decide(self, other: object, relation: str) -> bool:
        if isinstance(other, np.integer):
            other = int(other)
        elif isinstance(other, (float, np.floating)):
            return self._beside(float(other), relation)
        if not isinstance(other, (int, Dim)):
            return NotImplemented  # type: ignore[no-any-return]  # Python asks the other operand then
        known = self.compare(other, relation)
        if known is not None:
            return known
        d = self - other
        assert isinstance(d, Dim)
        answer = {
            "==": d.hint == 0, "<": d.hint < 0, "<=": d.hint <= 0, ">": d.hint > 0, ">=": d.hint >= 0,
        }[relation]  # fmt: skip
        if hooks.decision is not None:
            hooks.decision(relation, d, 0, answer)
        return answer

    def _beside(self, x: float, relation: str) -> bool:
        """The comparison with a number that may be no integer."""
        if math.isnan(x):
            return False
        if math.isinf(x):
            return relation in ("<", "<=") if x > 0 else relation in (">", ">=")
        if relation == "==" and x != int(x):
            return False
        return self._decide(math.ceil(x) if relation in ("<", ">=") else math.floor(x), relation)

    def same(self, other: object) -> bool:
        """Equal as polynomials, without deciding anything."""
        return isinstance(other, Dim) and self.terms == other.terms

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Dim) and self.terms == other.terms:
            return True
        # for the user's Python, equality is a decision; within this package it is one only where `equals` is called
        if hooks.decision is None or not isinstance(other, (int, Dim, float, np.number)) or type(other) is bool:
            return False
        return _asked_by_user() and self._decide(other, "==")

    def __hash__(self) -> int:
        """Of a size in the user's dictionaries the number's: the size must be known there."""
        return hash(int(self)) if hooks.freeze is not None and _asked_by_user() else self._hash

    def equals(self, other: int | Dim) -> bool:
        """Whether the sizes are equal; where that is not known it follows the hint and becomes a guard."""
        return self._decide(other, "==")

    def fits(self, other: int | Dim) -> bool:
        """Whether the sizes are equal where they have to be."""
        d = self - other
        return d.has_to("==") if isinstance(d, Dim) else d == 0

    def has_to(self, relation: str) -> bool:
        """Whether `self relation 0` where it has to hold: of a size that the program finds out it is taken to hold, and
        checked when that is found."""
        if not self.is_found or self.compare(0, relation) is not None:
            return self._decide(0, relation)
        if hooks.decision is not None:
            hooks.decision(relation, self, 0, True)
        return True

    def __lt__(self, other: object) -> bool:
        return self._decide(other, "<")

    def __le__(self, other: object) -> bool:
        return self._decide(other, "<=")

    def __gt__(self, other: object) -> bool:
        return self._decide(other, ">")

    def __ge__(self, other: object) -> bool:
        return self._decide(other, ">=")

    def __bool__(self) -> bool:
        return not self._decide(0, "==")

    def __int__(self) -> int:
        """Freeze: the trace from here on holds for this size only."""
        return hooks.freeze(self) if hooks.freeze is not None else self.hint

    __index__ = __int__

    # --- what else Python does with numbers -------------------------------------------------------------------------
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """For the user's `isinstance` a size is an int."""
        return int if hooks.freeze is not None and _asked_by_user() else Dim

    def __getattr__(self, name: str) -> Any:
        """`bit_length`, `numerator` and the like: those of the number."""
        if name.startswith("_") or not hasattr(int, name):
            raise AttributeError(f"a size has no attribute {name!r}")
        return getattr(int(self), name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if _asked_by_user():
            return np.asarray(int(self), dtype)
        boxed = np.empty((), object)
        boxed[()] = self
        return boxed

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **options: Any) -> Any:
        if method == "__call__" and not options:
            r = hooks.ufunc(ufunc.__name__, operands)
            if r is not NotImplemented:
                return r
        return getattr(ufunc, method)(*[int(x) if isinstance(x, Dim) else x for x in operands], **options)

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return Dim, (self.terms, self.hint, self.opaque)

    def __str__(self) -> str:
        return str(int(self)) if hooks.freeze is not None and _asked_by_user() else repr(self)

    def __format__(self, spec: str) -> str:
        return format(int(self), spec) if hooks.freeze is not None and _asked_by_user() else format(repr(self), spec)

    def __repr__(self) -> str:
        parts = []
        for m, c in sorted(self.terms.items(), key=lambda t: (not t[0], t[0])):
            factors = [*([str(c)] if c != 1 or not m else []), *m]
            parts.append("*".join(factors))
        return "+".join(parts).replace("+-", "-") or "0"


def _refuse_zero(d: Dim) -> None:
    if d.equals(0):
        raise ZeroDivisionError("integer division or modulo by zero")


def _asked_by_user() -> bool:
    """Whether the caller of the method that asks is code outside this package."""
    return acts_for_users(sys._getframe(2).f_code.co_filename)


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "pow": operator.pow,
    "floordiv": operator.floordiv, "floormod": operator.mod,
}  # fmt: skip


def _compute(name: str, a: Any, b: Any) -> Any:
    """A number that a size is an operand of and that is no size: a value of the trace, which holds for every size."""
    if not all(isinstance(x, (int, float, complex, Dim)) for x in (a, b)) or any(map(is_numpy, (a, b))):
        return NotImplemented  # arrays and tensors have operators of their own
    r = hooks.compute(name, (a, b))
    return whole(_OPERATORS[name], a, b) if r is NotImplemented else r


def _settle(terms: Mapping[Monomial, int], hint: int, opaque: Mapping[str, tuple[str, Any, Any]]) -> int | Dim:
    t = {m: c for m, c in terms.items() if c}
    if not t:
        return 0
    if len(t) == 1 and () in t:
        return t[()]
    used = {n for m in t for n in m}
    return Dim(t, hint, {k: v for k, v in opaque.items() if k in used})


_BOUNDED: tuple[str, Any, Any] = ("<=", 0, 0)
numbers.Integral.register(Dim)
