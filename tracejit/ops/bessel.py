"""Bessel functions of orders 0 and 1: of the first and second kind, modified ones, and these scaled by eˣ."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.op import Op
from tracejit.ops import cephes as T
from tracejit.ops import elementwise as E
from tracejit.ops.forms import Form, row
from tracejit.tensor import Tensor

_ROOTS0 = (5.78318596294678452118, 30.4712623436620863991)  # squares of the first zeros of J0
_ROOTS1 = (14.6819706421238932572, 49.2184563216946036703)  # and of J1


# --- modified, first kind ---------------------------------------------------------------------------------------------
def _growing(m: Any, a: Any, near: tuple, far: tuple, odd: bool) -> Any:
    """e^−a·I(a), a ≥ 0; for I1 the first approximation is of a quotient by a."""
    f = Form(m)
    t = m.minimum(a, f.c(8.0))
    low = f.chebyshev(m.sub(m.mul(t, f.c(0.5)), f.c(2.0)), near)

    def high() -> Any:
        u = m.maximum(a, f.c(8.0))
        return m.div(f.chebyshev(m.sub(m.div(f.c(32.0), u), f.c(2.0)), far), m.sqrt(u))

    return m.if_any(m.gt(a, f.c(8.0)), high, m.mul(low, t) if odd else low)


def _i0e(m: Any, x: Any) -> Any:
    r = _growing(m, m.abs(x), T.I0_A, T.I0_B, False)
    return m.select(m.isnan(x), x, r)


def _i1e(m: Any, x: Any) -> Any:
    r = _growing(m, m.abs(x), T.I1_A, T.I1_B, True)
    return m.select(m.isnan(x), x, m.copysign(r, x))


def _unscaled(m: Any, x: Any, scaled: Any) -> Any:
    """e^|x| times a number; in two steps, since the first factor may overflow before the product does."""
    e = m.exp(m.mul(m.abs(x), Form(m).c(0.5)))
    r = m.mul(m.mul(scaled, e), e)
    return m.select(m.isinf(x), m.copysign(m.abs(x), scaled), r)


def _i0(m: Any, x: Any) -> Any:
    return _unscaled(m, x, _i0e(m, x))


def _i1(m: Any, x: Any) -> Any:
    return _unscaled(m, x, _i1e(m, x))


# --- modified, second kind --------------------------------------------------------------------------------------------
def _falling(m: Any, x: Any, order: int, scaled: bool) -> Any:
    """K(x), or eˣ·K(x); infinite at 0 and NaN below."""
    f = Form(m)
    r = m.if_any(m.le(x, f.c(2.0)), lambda: _falling_near(m, m.minimum(x, f.c(2.0)), order, scaled), x)

    def high() -> Any:
        u = m.maximum(x, f.c(2.0))
        y = m.div(f.chebyshev(m.sub(m.div(f.c(8.0), u), f.c(2.0)), T.K1_B if order else T.K0_B), m.sqrt(u))
        return y if scaled else m.mul(y, m.exp(m.neg(u)))

    r = m.if_any(m.gt(x, f.c(2.0)), high, r)
    r = m.select(m.eq(x, f.c(0.0)), f.c(math.inf), r)
    return m.select(m.lt(x, f.c(0.0)), f.c(math.nan), r)


def _falling_near(m: Any, t: Any, order: int, scaled: bool) -> Any:
    """A series, and the logarithm of t / 2 times I(t), 0 < t ≤ 2."""
    f = Form(m)
    half, e = m.log(m.mul(t, f.c(0.5))), m.exp(t)
    square = m.fma(t, t, f.c(-2.0))
    series = m.mul(f.chebyshev(m.sub(m.mul(t, f.c(0.5)), f.c(2.0)), T.I1_A if order else T.I0_A), e)
    if order:
        low = m.fma(half, m.mul(series, t), m.div(f.chebyshev(square, T.K1_A), t))
    else:
        low = m.sub(f.chebyshev(square, T.K0_A), m.mul(half, series))
    return m.mul(low, e) if scaled else low


# --- first and second kind --------------------------------------------------------------------------------------------
def _waves(m: Any, u: Any, order: int) -> tuple[Any, Any]:
    """Hankel's expansion for u ≥ 5: J(u) and Y(u). cos(u − π/4) is (cos u + sin u) / √2, without a rounded angle."""
    f = Form(m)
    s = m.div(f.c(25.0), m.mul(u, u))
    pp, pq, qp, qq = (T.J1_PP, T.J1_PQ, T.J1_QP, T.J1_QQ) if order else (T.J0_PP, T.J0_PQ, T.J0_QP, T.J0_QQ)
    p, q = f.ratio(s, pp, pq), m.mul(m.div(f.c(5.0), u), f.ratio(s, qp, qq))
    sine, cosine = m.sin(u), m.cos(u)
    total, gap = m.add(sine, cosine), m.sub(sine, cosine)
    along, across = (gap, m.neg(total)) if order else (total, gap)
    size = m.div(f.c(1.0 / math.sqrt(math.pi)), m.sqrt(u))
    first = m.sub(m.mul(p, along), m.mul(q, across))
    second = m.add(m.mul(p, across), m.mul(q, along))
    return m.mul(first, size), m.mul(second, size)


def _bounded(m: Any, x: Any) -> tuple[Any, Any]:
    """The argument for the two ways of computing; infinity is taken out, where the functions are 0."""
    f = Form(m)
    return m.minimum(x, f.c(5.0)), m.maximum(m.select(m.isinf(x), f.c(5.0), x), f.c(5.0))


def _near(m: Any, t: Any, order: int) -> Any:
    """J0(t), or J1(t) / t, for 0 ≤ t ≤ 5: the zeros are factors."""
    f = Form(m)
    z = m.mul(t, t)
    a, b = _ROOTS1 if order else _ROOTS0
    p, q = (T.J1_RP, T.J1_RQ) if order else (T.J0_RP, T.J0_RQ)
    return m.mul(m.mul(m.sub(z, f.c(a)), m.sub(z, f.c(b))), f.ratio(z, p, q))


def _ends(m: Any, x: Any, low: Any, high: Any) -> Any:
    f = Form(m)
    r = m.if_any(m.gt(x, f.c(5.0)), high, m.select(m.isnan(x), x, low))
    return m.select(m.eq(x, f.c(math.inf)), f.c(0.0), r)


def _j0(m: Any, x: Any) -> Any:
    a = m.abs(x)
    t, u = _bounded(m, a)
    return _ends(m, a, _near(m, t, 0), lambda: _waves(m, u, 0)[0])


def _j1(m: Any, x: Any) -> Any:
    a = m.abs(x)
    t, u = _bounded(m, a)
    r = _ends(m, a, m.mul(t, _near(m, t, 1)), lambda: _waves(m, u, 1)[0])
    return m.select(m.lt(x, Form(m).c(0.0)), m.neg(r), r)


def _second_kind(m: Any, x: Any, order: int) -> Any:
    """−∞ at 0, NaN below."""
    f = Form(m)
    t, u = _bounded(m, x)
    z, first = m.mul(t, t), m.mul(_near(m, t, order), f.c(2.0 / math.pi))
    if order:
        low = m.mul(t, m.add(f.ratio(z, T.Y1_YP, T.Y1_YQ), m.mul(first, m.log(t))))
        low = m.sub(low, m.div(f.c(2.0 / math.pi), t))
    else:
        low = m.add(f.ratio(z, T.Y0_YP, T.Y0_YQ), m.mul(first, m.log(t)))
    r = _ends(m, x, low, lambda: _waves(m, u, order)[1])
    r = m.select(m.eq(x, f.c(0.0)), f.c(-math.inf), r)
    return m.select(m.lt(x, f.c(0.0)), f.c(math.nan), r)


# --- rows -------------------------------------------------------------------------------------------------------------
def _over(y: Tensor, x: Tensor, sign: float) -> Tensor:
    """y / x for y = I₁(x) (sign 1) or J₁(x) (−1); near 0, where its derivatives lose their digits, by its series."""
    near = E.less(E.abs_(x), 1.0)
    small = E.where(near, x, 0.0)
    z = small * small * (0.25 * sign)
    series = E.cast(0.0, dtype=x.dtype)
    for k in range(10, -1, -1):
        series = series * z + 0.5 / (math.factorial(k) * math.factorial(k + 1))
    return E.where(near, series, y / E.where(near, 1.0, x))


def _scaled_slope(y: Tensor, x: Tensor) -> Tensor:
    zero = E.equal(x, 0)
    safe = E.where(zero, 1.0, x)
    return E.where(zero, 0.5, i0e(x) - y * (E.sign(safe) + 1.0 / safe))


POS: dict[str, Any] = {"domain": (0.1, 4.0), "singular": True}
i0: Op = row(
    "bessel_i0", _i0, lambda y, x: (i1(x),), singular=True,
    doc="The modified Bessel function of the first kind, I₀(x).",
)  # fmt: skip
i1: Op = row(
    "bessel_i1", _i1, lambda y, x: (i0(x) - _over(y, x, 1.0),), singular=True,
    doc="The modified Bessel function of the first kind, I₁(x).",
)  # fmt: skip
i0e: Op = row("bessel_i0e", _i0e, lambda y, x: (i1e(x) - E.sign(x) * y,), doc="e^−|x|·I₀(x).")
i1e: Op = row("bessel_i1e", _i1e, lambda y, x: (_scaled_slope(y, x),), doc="e^−|x|·I₁(x).")
k0: Op = row(
    "bessel_k0", lambda m, x: _falling(m, x, 0, False), lambda y, x: (-k1(x),),
    doc="The modified Bessel function of the second kind, K₀(x); NaN below 0.", **POS,
)  # fmt: skip
k1: Op = row(
    "bessel_k1", lambda m, x: _falling(m, x, 1, False), lambda y, x: (-k0(x) - y / x,),
    doc="The modified Bessel function of the second kind, K₁(x); NaN below 0.", **POS,
)  # fmt: skip
k0e: Op = row("bessel_k0e", lambda m, x: _falling(m, x, 0, True), lambda y, x: (y - k1e(x),), doc="eˣ·K₀(x).", **POS)
k1e: Op = row(
    "bessel_k1e", lambda m, x: _falling(m, x, 1, True), lambda y, x: (y - y / x - k0e(x),), doc="eˣ·K₁(x).", **POS
)
j0: Op = row("bessel_j0", _j0, lambda y, x: (-j1(x),), doc="The Bessel function of the first kind, J₀(x).")
j1: Op = row(
    "bessel_j1", _j1, lambda y, x: (j0(x) - _over(y, x, -1.0),), doc="The Bessel function of the first kind, J₁(x)."
)
y0: Op = row(
    "bessel_y0", lambda m, x: _second_kind(m, x, 0), lambda y, x: (-y1(x),),
    doc="The Bessel function of the second kind, Y₀(x); NaN below 0.", **POS,
)  # fmt: skip
y1: Op = row(
    "bessel_y1", lambda m, x: _second_kind(m, x, 1), lambda y, x: (y0(x) - y / x,),
    doc="The Bessel function of the second kind, Y₁(x); NaN below 0.", **POS,
)  # fmt: skip
