"""Functions written once over the scalar protocol: NumPy's arrays as its values, and rows made from such functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tracejit.ir.op import Op
from tracejit.ir.types import float64
from tracejit.ops import kernels as K
from tracejit.ops.define import elementwise
from tracejit.ops.frequent import count

FORMS: set[str] = set()  # the rows that are made here: their code is long
_BLOCK = 4096  # elements that are computed at a time, so that the many steps of a formula stay in the cache


class Arrays:
    """The scalar protocol on arrays of float64 and truth values."""

    add, sub, mul, div, neg, abs, sqrt = np.add, np.subtract, np.multiply, np.divide, np.negative, np.abs, np.sqrt
    lt, le, gt, ge, eq, ne = np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal
    logical_and, logical_or, logical_not = np.logical_and, np.logical_or, np.logical_not
    exp, expm1, log, log1p, sin, cos, tan, pow = np.exp, np.expm1, np.log, np.log1p, np.sin, np.cos, np.tan, np.power
    floor, round, copysign, select = np.floor, np.rint, np.copysign, np.where
    isnan, isinf, maximum, minimum = np.isnan, np.isinf, np.maximum, np.minimum
    erfc = staticmethod(K.erfc)

    @staticmethod
    def const(value: Any, dtype: Any) -> Any:
        return np.float64(value)

    @staticmethod
    def fma(a: Any, b: Any, c: Any) -> Any:
        return a * b + c

    @staticmethod
    def if_any(c: Any, value: Callable[[], Any], otherwise: Any) -> Any:
        """Chosen by c; `value` is computed only where that is true of an element."""
        if not c.any():
            return otherwise
        return value() if c.all() else np.where(c, value(), otherwise)

    @staticmethod
    def iterate(state: Sequence[Any], fixed: Sequence[Any], going: Callable[..., Any], step: Callable[..., Any]) -> Any:
        """Steps are computed for the elements that are still going alone."""
        all_ = np.broadcast_arrays(*state, *fixed)
        shape, n = all_[0].shape, len(state)
        done = [a.reshape(-1).copy() for a in all_[:n]]
        now, rest = done, [a.reshape(-1) for a in all_[n:]]
        at, on = np.arange(done[0].size), going(*now, *rest)
        while on.any():
            if not on.all():
                at, now, rest = at[on], [a[on] for a in now], [a[on] for a in rest]
            now = [a + np.zeros(at.shape) for a in step(*now, *rest)]
            on = going(*now, *rest)
            if not on.all():
                for a, b in zip(done, now, strict=True):
                    a[at] = b
        return [a.reshape(shape) for a in done]


class Form:
    """A formula in float64 over the protocol, with a short way to write constants."""

    def __init__(self, m: Any) -> None:
        self.m = m

    def c(self, value: float) -> Any:
        return self.m.const(value, float64)

    def horner(self, x: Any, coefficients: Sequence[float]) -> Any:
        """The polynomial with these coefficients, the highest power first."""
        r = self.c(coefficients[0])
        for a in coefficients[1:]:
            r = self.m.fma(r, x, self.c(a))
        return r

    def ratio(self, x: Any, p: Sequence[float], q: Sequence[float]) -> Any:
        return self.m.div(self.horner(x, p), self.horner(x, q))

    def chebyshev(self, x: Any, coefficients: Sequence[float]) -> Any:
        """Half the sum of cᵢ·Tᵢ(x / 2), the highest order first and the last one halved (Clenshaw's recurrence)."""
        m = self.m
        b0, b1, b2 = self.c(coefficients[0]), self.c(0.0), self.c(0.0)
        for a in coefficients[1:]:
            b0, b1, b2 = m.add(m.fma(x, b0, m.neg(b1)), self.c(a)), b0, b1
        return m.mul(m.sub(b0, b2), self.c(0.5))


def exponential(m: Any, c: Callable[[float], Any], g: Mapping[tuple[int, int], Any], n: int, k: int = 0) -> Any:
    """∂ⁿ∂ᵏ exp(G) / exp(G), g[i, j] = ∂ⁱ∂ʲ G: the complete Bell polynomials in two variables.

    `m` is the scalar protocol, or the rows on tensors; `c` makes a constant for it.
    """
    if n + k == 0:
        return c(1.0)
    first = (1, 0) if n else (0, 1)
    rest, total = (n - first[0], k - first[1]), None
    for i in range(rest[0] + 1):
        for j in range(rest[1] + 1):
            if (slope := g.get((i + first[0], j + first[1]))) is not None:
                times = math.comb(rest[0], i) * math.comb(rest[1], j)
                term = slope if times == 1 else m.mul(slope, c(float(times)))
                if (i, j) != rest:
                    term = m.mul(term, exponential(m, c, g, rest[0] - i, rest[1] - j))
                total = term if total is None else m.add(total, term)
    return total


NODES = 128
_STEP, _FIRST = 1.0 / 16.0, -3.6


def integral(m: Any, wanted: Any, value: Callable[..., Any], fixed: Sequence[Any]) -> Any:
    """∫₀^∞ value(v, *fixed) dv of a smooth function that decreases as e^−v or faster, where `wanted`.

    By the trapezoidal rule after v = exp(u − e^−u): H. Takahasi and M. Mori, "Double exponential formulas for numerical
    integration" (Publ. RIMS 9, 1974).
    """
    f = Form(m)

    def going(i: Any, s: Any, *fixed: Any) -> Any:
        return m.lt(i, f.c(float(NODES)))

    def step(i: Any, s: Any, *fixed: Any) -> tuple:
        u = m.fma(i, f.c(_STEP), f.c(_FIRST))
        e = m.exp(m.neg(u))
        v = m.exp(m.sub(u, e))
        weight = m.mul(m.mul(v, f.c(_STEP)), m.add(e, f.c(1.0)))
        return m.add(i, f.c(1.0)), m.fma(weight, value(v, *fixed), s)

    start = (m.select(wanted, f.c(0.0), f.c(float(NODES))), f.c(0.0))
    return m.iterate(start, fixed, going, step)[1]


def kernel(form: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """NumPy's kernel from a formula over the protocol."""

    def run(*arrays: np.ndarray, **attrs: Any) -> np.ndarray:
        dtype = arrays[-1].dtype
        if dtype.kind not in "fV":
            raise TypeError("operands that are not floating")  # the row's types explain it
        shape = np.broadcast_shapes(*[a.shape for a in arrays])
        wide = [a.astype(np.float64) for a in arrays]
        if len(shape) == 0 or np.prod(shape) <= _BLOCK:
            return np.asarray(form(Arrays, *wide, **attrs)).astype(dtype)
        out = np.empty(int(np.prod(shape)), dtype)
        flat = [a if a.ndim == 0 else np.broadcast_to(a, shape).reshape(-1) for a in wide]
        for i in range(0, out.size, _BLOCK):
            out[i : i + _BLOCK] = form(Arrays, *[a if a.ndim == 0 else a[i : i + _BLOCK] for a in flat], **attrs)
        return out.reshape(shape)

    return run


def row(
    name: str, form: Callable[..., Any], partials: Callable[..., tuple] | None = None, *, with_attrs: bool = False,
    **more: Any,
) -> Op:  # fmt: skip
    """A row whose kernel and scalar form are one formula, computed in float64 for every floating type."""

    def scalar(m: Any, *x: Any, **attrs: Any) -> Any:
        return m.cast(form(m, *[m.cast(v, float64) for v in x], **attrs), x[-1].dtype)

    FORMS.add(name)
    op = elementwise(name, kernel(form), scalar, partials, promote="float", dtypes="f", **more)
    if not with_attrs:
        count(op)
    return op
