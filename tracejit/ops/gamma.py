"""The logarithm of the gamma function, its derivatives, and Hurwitz's zeta function, of which these are made."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.op import Op
from tracejit.ops import elementwise as E
from tracejit.ops.define import underivable
from tracejit.ops.forms import Form, row
from tracejit.tensor import Tensor

HALF_LOG_2PI = 0.9189385332046727
# Minimax fits. lgamma(2 + t) = t·P(t) / Q(t), |t| ≤ 1/2, error 7e-19
_LGAMMA_P = (
    6.963683877231752e-05, 0.0035417655955063466, 0.04907052206056562, 0.28263340924803826, 0.7656277692590396,
    0.9513770883953081, 0.42278433509846713,
)  # fmt: skip
_LGAMMA_Q = (
    1.5027199094047242e-05, 0.0013079864688431003, 0.026874287682362392, 0.21943828332913526, 0.8356420232331162,
    1.4875434181465612, 1.0,
)  # fmt: skip
# lgamma(x) = (x − 1/2)·log x − x + log(2π)/2 + P(1/x²)/x, x ≥ 8, error 7e-18
_STIRLING = (
    0.005069244253820121, -0.0018905398389384466, 0.0008414728495168573, -0.0005952366069750761,
    0.0007936507898350415, -0.0027777777777740994, 0.08333333333333333,
)  # fmt: skip
# digamma(u + 3/2) = (u + 3/2 − root)·P(u) / Q(u), |u| ≤ 1/2, error 2e-20
_DIGAMMA_P = (
    4.335696442817883e-07, 0.0002301050536156836, 0.008383206720894413, 0.10043644434422573, 0.5154438063852702,
    1.1679427852863784, 0.9510558760318328,
)  # fmt: skip
_DIGAMMA_Q = (
    4.7493278261761154e-05, 0.002532841485427179, 0.04169091066066367, 0.2991684591131778, 1.0344629850181168,
    1.6734770760351911, 1.0,
)  # fmt: skip
_DIGAMMA_ROOT = (1.4616321449683622, 9.549995429965697e-17)
# digamma(x) = log x − 1/(2x) − P(1/x²)/x², x ≥ 8, error 2e-18
_DIGAMMA_FAR = (
    -0.29981065552987224, 0.08004449601034926, -0.021051515992142885, 0.0075754647853719815, -0.004166665528235582,
    0.0039682539660696545, -0.008333333333331734, 0.08333333333333333,
)  # fmt: skip
# B₂ₖ / (2k)! for k from 1
_BERNOULLI = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600,
    -3617 / 10670622842880000, 43867 / 5109094217170944000, -174611 / 802857662698291200000,
    77683 / 14101100039391805440000, -236364091 / 1693824136731743669452800000,
)  # fmt: skip
_STEPS = 1e6  # terms below 0 that zeta adds one by one


# --- the logarithm of gamma -------------------------------------------------------------------------------------------
def stirling(m: Any, x: Any) -> Any:
    """What Stirling's formula leaves: lgamma(x) − ((x − 1/2)·log x − x + log(2π)/2), x ≥ 8."""
    return m.div(Form(m).horner(m.div(Form(m).c(1.0), m.mul(x, x)), _STIRLING), x)


def lgamma_of_positive(m: Any, x: Any) -> Any:
    """Below 8 through the recurrence from [3/2, 5/2), so that both zeros keep their digits; else Stirling's formula."""
    f = Form(m)
    s, big = m.minimum(x, f.c(8.0)), m.maximum(x, f.c(8.0))
    large = m.ge(x, f.c(8.0))
    t, q = m.sub(s, f.c(2.0)), f.c(1.0)
    for k in range(1, 7):
        d = m.sub(s, f.c(float(k)))
        on = m.ge(d, f.c(1.5))
        t, q = m.select(on, m.sub(s, f.c(k + 2.0)), t), m.select(on, m.mul(q, d), q)
    low, lower = m.lt(s, f.c(1.5)), m.lt(s, f.c(0.5))
    t = m.select(lower, s, m.select(low, m.sub(s, f.c(1.0)), t))
    q = m.select(lower, m.fma(s, s, s), m.select(low, s, q))
    log = m.log(m.select(large, big, q))
    near = m.add(m.mul(t, f.ratio(t, _LGAMMA_P, _LGAMMA_Q)), m.select(low, m.neg(log), log))
    rest = m.add(stirling(m, big), f.c(HALF_LOG_2PI - 0.5))
    return m.select(large, m.fma(m.sub(big, f.c(0.5)), m.sub(log, f.c(1.0)), rest), near)


def lgamma_form(m: Any, x: Any) -> Any:
    """By reflection below 0: |Γ(−a)| = π / (a·|sin πa|·Γ(a)). At the poles and at −∞ it is ∞."""
    f = Form(m)
    a = m.abs(x)
    r = lgamma_of_positive(m, a)

    def back() -> Any:
        turn = m.sin(m.mul(m.sub(a, m.round(a)), f.c(math.pi)))
        y = m.sub(m.neg(m.log(m.mul(a, m.mul(m.abs(turn), f.c(1.0 / math.pi))))), r)
        return m.select(m.lt(a, f.c(1e-30)), r, y)  # there the product of two small numbers may be lost

    return m.select(m.isinf(x), a, m.if_any(m.lt(x, f.c(0.0)), back, r))


# --- digamma ----------------------------------------------------------------------------------------------------------
def digamma_of_positive(m: Any, x: Any) -> Any:
    """Below 8 through the recurrence from [1, 2), where the zero is a factor; else the asymptotic series."""
    f = Form(m)
    s, big = m.minimum(x, f.c(8.0)), m.maximum(x, f.c(8.0))
    z, num, den = s, f.c(0.0), f.c(1.0)
    for k in range(1, 8):
        d = m.sub(s, f.c(float(k)))
        on = m.ge(d, f.c(1.0))
        num, den, z = (
            m.select(on, m.fma(num, d, den), num), m.select(on, m.mul(den, d), den), m.select(on, d, z)
        )  # fmt: skip
    low = m.lt(s, f.c(1.0))
    num, den, z = m.select(low, f.c(-1.0), num), m.select(low, s, den), m.select(low, m.add(s, f.c(1.0)), z)
    u = m.select(low, m.sub(s, f.c(0.5)), m.sub(z, f.c(1.5)))
    factor = m.sub(m.sub(z, f.c(_DIGAMMA_ROOT[0])), f.c(_DIGAMMA_ROOT[1]))
    near = m.add(m.mul(factor, f.ratio(u, _DIGAMMA_P, _DIGAMMA_Q)), m.div(num, den))
    w = m.div(f.c(1.0), big)
    w2 = m.mul(w, w)
    far = m.sub(m.sub(m.log(big), m.mul(w, f.c(0.5))), m.mul(w2, f.horner(w2, _DIGAMMA_FAR)))
    return m.select(m.ge(x, f.c(8.0)), far, near)


def digamma_form(m: Any, x: Any) -> Any:
    """By reflection below 0: ψ(−a) = ψ(a) + 1/a + π / tan πa. ∓∞ at ±0, NaN at the other poles and at −∞."""
    f = Form(m)
    a = m.abs(x)
    r = digamma_of_positive(m, a)

    def back() -> Any:
        rest = m.sub(a, m.round(a))
        y = m.add(m.add(r, m.div(f.c(1.0), a)), m.div(f.c(math.pi), m.tan(m.mul(rest, f.c(math.pi)))))
        return m.select(m.logical_or(m.eq(rest, f.c(0.0)), m.isinf(x)), f.c(math.nan), y)

    r = m.if_any(m.lt(x, f.c(0.0)), back, r)
    return m.select(m.eq(x, f.c(0.0)), m.copysign(f.c(math.inf), m.neg(x)), r)


# --- zeta -------------------------------------------------------------------------------------------------------------
def zeta_form(m: Any, x: Any, q: Any) -> Any:
    """The sum of (q + k)^−x: ten terms or more, up to 9, one by one, and the rest by Euler and Maclaurin's formula.

    Beyond its definition: ∞ for x = 1 and at the poles q = 0, −1, …; below 0 only for whole x, and NaN where that
    would take more than a million terms; NaN for x < 1.
    """
    f = Form(m)
    nine, one = f.c(9.0), f.c(1.0)
    whole_q, whole_x = m.eq(m.floor(q), q), m.eq(m.floor(x), x)
    pole = m.logical_and(m.le(q, f.c(0.0)), whole_q)
    bad = m.logical_or(m.lt(x, one), m.lt(q, f.c(-_STEPS)))
    undefined = m.logical_not(m.logical_or(whole_x, whole_q))
    bad = m.logical_or(bad, m.logical_and(m.lt(q, f.c(0.0)), undefined))
    a = m.select(m.logical_or(pole, m.logical_or(bad, m.isinf(q))), nine, q)
    first = m.pow(a, m.neg(x))

    def going(i: Any, a: Any, b: Any, s: Any, x: Any) -> Any:
        return m.logical_or(m.lt(i, nine), m.le(a, nine))

    def step(i: Any, a: Any, b: Any, s: Any, x: Any) -> Any:
        a = m.add(a, one)
        b = m.pow(a, m.neg(x))
        return m.add(i, one), a, b, m.add(s, b)

    _, a, b, s = m.iterate((f.c(0.0), a, first, first), (x,), going, step)
    rest = m.sub(m.div(m.mul(b, a), m.sub(x, one)), m.mul(b, f.c(0.5)))
    t = m.div(m.mul(b, x), a)
    w = m.div(one, m.mul(a, a))
    for k, c in enumerate(_BERNOULLI):
        rest = m.fma(t, f.c(c), rest)
        if k + 1 < len(_BERNOULLI):
            up = m.mul(m.add(x, f.c(2.0 * k + 1)), m.add(x, f.c(2.0 * k + 2)))
            t = m.mul(t, m.mul(up, w))
    r = m.select(m.eq(b, f.c(0.0)), s, m.add(s, rest))
    r = m.select(m.eq(q, f.c(math.inf)), f.c(0.0), r)
    r = m.select(m.logical_or(m.eq(x, one), pole), f.c(math.inf), r)
    r = m.select(bad, f.c(math.nan), r)
    return m.select(m.logical_or(m.isnan(x), m.isnan(q)), m.add(x, q), r)


def zeta_grad_x_form(m: Any, x: Any, q: Any) -> Any:
    """The derivative along x, −Σ log(q + k)·(q + k)^−x, of the same terms one by one."""
    f = Form(m)
    nine, one, zero = f.c(9.0), f.c(1.0), f.c(0.0)
    bad = m.logical_or(m.lt(x, one), m.lt(q, zero))
    far = m.logical_or(m.eq(q, f.c(math.inf)), m.eq(x, f.c(math.inf)))
    a = m.select(m.logical_or(m.le(q, zero), far), nine, q)

    def term(a: Any, x: Any) -> tuple[Any, Any]:
        b = m.pow(a, m.neg(x))
        return b, m.neg(m.mul(m.log(a), b))

    def going(i: Any, a: Any, b: Any, db: Any, s: Any, x: Any) -> Any:
        return m.logical_or(m.lt(i, nine), m.le(a, nine))

    def step(i: Any, a: Any, b: Any, db: Any, s: Any, x: Any) -> tuple:
        a = m.add(a, one)
        b, db = term(a, x)
        return m.add(i, one), a, b, db, m.add(s, db)

    b, db = term(a, x)
    _, a, b, db, s = m.iterate((zero, a, b, db, db), (x,), going, step)
    v = m.div(one, m.sub(x, one))
    rest = m.sub(m.mul(m.mul(a, v), m.sub(db, m.mul(b, v))), m.mul(db, f.c(0.5)))
    t, dt = m.div(m.mul(b, x), a), m.div(m.fma(db, x, b), a)
    w = m.div(one, m.mul(a, a))
    for k, c in enumerate(_BERNOULLI):
        rest = m.fma(dt, f.c(c), rest)
        if k + 1 < len(_BERNOULLI):
            p, r = m.add(x, f.c(2.0 * k + 1)), m.add(x, f.c(2.0 * k + 2))
            up = m.mul(p, r)
            t, dt = m.mul(t, m.mul(up, w)), m.mul(m.fma(dt, up, m.mul(t, m.add(p, r))), w)
    r = m.select(m.eq(b, zero), s, m.add(s, rest))
    r = m.select(far, zero, r)
    r = m.select(m.eq(x, one), f.c(-math.inf), m.select(m.eq(q, zero), f.c(math.inf), r))
    r = m.select(bad, f.c(math.nan), r)
    return m.select(m.logical_or(m.isnan(x), m.isnan(q)), m.add(x, q), r)


def polygamma_form(m: Any, n: Any, x: Any) -> Any:
    """(−1)^(n+1)·n!·ζ(n + 1, x); digamma for n = 0, NaN for an n that is negative or not whole."""
    f = Form(m)
    half = m.mul(n, f.c(0.5))
    s = m.add(n, f.c(1.0))
    r = m.mul(m.exp(lgamma_of_positive(m, m.maximum(s, f.c(1.0)))), zeta_form(m, m.maximum(s, f.c(2.0)), x))
    r = m.select(m.eq(m.floor(half), half), m.neg(r), r)
    r = m.if_any(m.eq(n, f.c(0.0)), lambda: digamma_form(m, x), r)
    bad = m.logical_or(m.lt(n, f.c(0.0)), m.logical_not(m.eq(m.floor(n), n)))
    return m.select(bad, f.c(math.nan), r)


def zeta_slope_form(m: Any, x: Any, q: Any, *, order: int) -> Any:
    """The derivative of an order along x: each term of the same formula by its Taylor coefficients in x."""
    f = Form(m)
    nine, one, zero, orders = f.c(9.0), f.c(1.0), f.c(0.0), range(order + 1)
    bad = m.logical_or(m.lt(x, one), m.lt(q, zero))
    far = m.logical_or(m.eq(q, f.c(math.inf)), m.eq(x, f.c(math.inf)))
    out = m.logical_or(m.logical_or(far, bad), m.logical_or(m.eq(x, one), m.le(q, zero)))
    a, x0, x = m.select(out, nine, q), x, m.select(out, f.c(2.0), x)

    def last(a: Any, x: Any) -> Any:
        log, b = m.neg(m.log(a)), m.pow(a, m.neg(x))
        for k in range(order):
            b = m.mul(b, m.mul(log, f.c(1.0 / (k + 1))))
        return b

    def going(i: Any, a: Any, s: Any, x: Any) -> Any:
        return m.logical_or(m.lt(i, nine), m.le(a, nine))

    def step(i: Any, a: Any, s: Any, x: Any) -> tuple:
        a = m.add(a, one)
        return m.add(i, one), a, m.add(s, last(a, x))

    _, a, s = m.iterate((zero, a, last(a, x)), (x,), going, step)
    b, log = [m.pow(a, m.neg(x))], m.neg(m.log(a))
    for k in range(order):
        b.append(m.mul(b[-1], m.mul(log, f.c(1.0 / (k + 1)))))
    v, w, up = m.div(one, m.sub(x, one)), m.div(one, m.mul(a, a)), zero  # of 1 / (x − 1): ∓1 / (x − 1)^(k + 1)
    for k in orders:
        up = m.mul(v, m.sub(b[k], up))
    rest = m.fma(a, up, m.mul(b[order], f.c(-0.5)))
    t = [m.div(m.fma(b[k], x, b[k - 1]) if k else m.mul(b[0], x), a) for k in orders]
    for k, c in enumerate(_BERNOULLI):
        rest = m.fma(t[order], f.c(c), rest)
        for p in (2.0 * k + 1, 2.0 * k + 2):
            by = m.add(x, f.c(p))
            t = [m.fma(t[i], by, t[i - 1]) if i else m.mul(t[0], by) for i in orders]
        t = [m.mul(u, w) for u in t]
    r = m.mul(m.add(s, rest), f.c(float(math.factorial(order))))
    r = m.select(far, zero, r)
    end = math.inf if order % 2 == 0 else -math.inf
    r = m.select(m.eq(x0, one), f.c(end), m.select(m.eq(q, zero), f.c(math.inf), r))
    r = m.select(bad, f.c(math.nan), r)
    return m.select(m.logical_or(m.isnan(x0), m.isnan(q)), m.add(x0, q), r)


def psi(m: Any, k: int, x: Any) -> Any:
    """The k-th derivative of digamma, for positive x."""
    if k == 0:
        return digamma_of_positive(m, x)
    size = math.factorial(k) * (1.0 if k % 2 else -1.0)
    return m.mul(Form(m).c(size), zeta_form(m, Form(m).c(k + 1.0), x))


# --- rows -------------------------------------------------------------------------------------------------------------
lgamma: Op = row(
    "lgamma", lgamma_form, lambda y, x: (digamma(x),), domain=(0.2, 6.0), singular=True,
    doc="log |Γ(x)|; ∞ at the poles.",
)  # fmt: skip
digamma: Op = row(
    "digamma", digamma_form, lambda y, x: (polygamma(1.0, x),), domain=(0.2, 6.0), singular=True,
    doc="The derivative of lgamma.",
)  # fmt: skip
zeta: Op = row(
    "zeta", zeta_form, lambda y, x, q: (lambda: zeta_grad_x(x, q), lambda: _known(y, -x * zeta(x + 1.0, q))), arity=2,
    domain=((1.2, 6.0), (0.2, 4.0)), singular=True,
    doc="Hurwitz's zeta function: the sum of (q + k)^−x over k ≥ 0.",
)  # fmt: skip
zeta_grad_x: Op = row(
    "zeta_grad_x", zeta_grad_x_form,
    lambda y, x, q: (
        lambda: zeta_slope(x, q, order=2), lambda: _known(y, -zeta(x + 1.0, q) - x * zeta_grad_x(x + 1.0, q))
    ),
    arity=2, domain=((1.2, 6.0), (0.2, 4.0)), singular=True, doc="The derivative of zeta along its first operand.",
)  # fmt: skip
zeta_slope: Op = row(
    "zeta_slope", zeta_slope_form,
    lambda y, x, q, order: (
        lambda: zeta_slope(x, q, order=order + 1),
        lambda: _known(y, -float(order) * _zeta_slope(x + 1.0, q, order - 1) - x * _zeta_slope(x + 1.0, q, order)),
    ),
    arity=2, domain=((1.2, 6.0), (0.2, 4.0)), singular=True, with_attrs=True,
    doc="The derivative of zeta along its first operand of an `order`.",
)  # fmt: skip


def _zeta_slope(x: Tensor, q: Tensor, order: int) -> Tensor:
    return zeta_grad_x(x, q) if order == 1 else zeta_slope(x, q, order=order)  # type: ignore[no-any-return]


def _known(y: Tensor, slope: Tensor) -> Tensor:
    """NaN where the function is."""
    return E.where(E.isnan(y), math.nan, slope)  # type: ignore[no-any-return]


polygamma: Op = row(
    "polygamma", polygamma_form,
    lambda y, n, x: (underivable("polygamma", "its order a"), lambda: polygamma(n + 1.0, x)), arity=2,
    domain=((1.0, 1.0), (0.2, 6.0)), singular=True, doc="The n-th derivative of digamma. Differentiable along x.",
)  # fmt: skip
