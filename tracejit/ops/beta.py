"""The beta function, the incomplete beta function, and their derivatives."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.op import Op
from tracejit.ops import elementwise as E
from tracejit.ops.forms import Form, exponential, integral, row
from tracejit.ops.gamma import HALF_LOG_2PI, digamma, digamma_of_positive, lgamma_of_positive, polygamma, psi, stirling
from tracejit.ops.incomplete import CLOSE, LIMIT, TINY, known_slope, log_power, log_rest, power
from tracejit.tensor import Tensor


def _log_beta(m: Any, a: Any, b: Any) -> Any:
    """log B(a, b) for positive a and b, by Stirling's formula where it holds: then large terms cancel by hand."""
    f = Form(m)
    eight = f.c(8.0)
    lo, hi = m.minimum(a, b), m.maximum(a, b)
    s, t = m.minimum(lo, eight), m.minimum(hi, eight)
    big, both = m.maximum(hi, eight), m.add(m.maximum(hi, eight), lo)

    def small() -> Any:
        return m.add(lgamma_of_positive(m, s), m.sub(lgamma_of_positive(m, t), lgamma_of_positive(m, m.add(s, t))))

    def bend() -> Any:
        tail = m.sub(stirling(m, big), stirling(m, both))
        return m.sub(tail, m.mul(m.sub(big, f.c(0.5)), m.log1p(m.div(lo, big))))

    def mixed() -> Any:
        return m.add(lgamma_of_positive(m, s), m.sub(bend(), m.mul(lo, m.sub(m.log(both), f.c(1.0)))))

    def large() -> Any:
        low = m.maximum(lo, eight)
        first = m.fma(m.sub(low, f.c(0.5)), m.log(m.div(low, both)), stirling(m, low))
        return m.add(m.add(first, bend()), m.fma(f.c(-0.5), m.log(both), f.c(HALF_LOG_2PI)))

    below = m.lt(hi, eight)
    r = m.if_any(below, small, lo)
    r = m.if_any(m.logical_and(m.logical_not(below), m.lt(lo, eight)), mixed, r)
    return m.if_any(m.ge(lo, eight), large, r)


def _betaln(m: Any, a: Any, b: Any) -> Any:
    """∞ where one is 0, NaN below, −∞ at infinity."""
    f = Form(m)
    zero, inf = f.c(0.0), f.c(math.inf)
    bad = m.logical_or(m.lt(a, zero), m.lt(b, zero))
    pole = m.logical_or(m.eq(a, zero), m.eq(b, zero))
    far = m.logical_or(m.eq(a, inf), m.eq(b, inf))
    out = m.logical_or(bad, m.logical_or(pole, far))
    r = _log_beta(m, m.select(out, f.c(1.0), a), m.select(out, f.c(1.0), b))
    r = m.select(pole, inf, m.select(far, m.neg(inf), r))
    r = m.select(m.logical_or(bad, m.logical_and(pole, far)), f.c(math.nan), r)
    return m.select(m.logical_or(m.isnan(a), m.isnan(b)), m.add(a, b), r)


def _logs(m: Any, s: Any, t: Any) -> tuple[Any, Any]:
    """The logarithms of s and of t = 1 − s, each from the smaller one."""
    low = m.lt(s, Form(m).c(0.5))
    log, other = m.log(m.select(low, s, t)), m.log1p(m.neg(m.select(low, s, t)))
    return m.select(low, log, other), m.select(low, other, log)


def _beta_density(m: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """x^a·y^b / B(a, b), y = 1 − x. For large a and b the exponents are differences from the density's peak."""
    f = Form(m)
    eight = f.c(8.0)

    def large() -> Any:
        s = m.add(a, b)
        delta = m.sub(m.mul(x, b), m.mul(a, y))
        first = log_rest(m, m.div(delta, a), m.mul(m.div(s, a), x))
        second = log_rest(m, m.div(m.neg(delta), b), m.mul(m.div(s, b), y))
        peak = m.fma(a, first, m.mul(b, second))
        p, q = m.maximum(a, eight), m.maximum(b, eight)
        tail = m.sub(stirling(m, m.add(p, q)), m.add(stirling(m, p), stirling(m, q)))
        return m.mul(m.sqrt(m.div(m.mul(m.div(a, s), b), f.c(2.0 * math.pi))), m.exp(m.add(peak, tail)))

    def small() -> Any:
        log_x, log_y = _logs(m, x, y)
        return m.exp(m.sub(m.add(m.mul(a, log_x), m.mul(b, log_y)), _log_beta(m, a, b)))

    few = m.lt(m.minimum(a, b), eight)
    return m.if_any(m.logical_not(few), large, m.if_any(few, small, x))


def _beta_fraction(m: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """x^a·y^b / B(a, b) by I_x(a, b): the even part of the continued fraction DLMF 8.17.22, by Lentz's method."""
    f = Form(m)
    one, two, tiny = f.c(1.0), f.c(2.0), f.c(TINY)
    lead = m.add(m.sub(m.mul(a, y), m.mul(b, x)), one)  # a + 1 − (a + b)·x

    def safe(v: Any) -> Any:
        return m.select(m.lt(m.abs(v), tiny), tiny, v)

    def going(i: Any, c: Any, d: Any, h: Any, miss: Any, a: Any, b: Any, x: Any, lead: Any) -> Any:
        return m.logical_and(m.gt(miss, f.c(CLOSE)), m.lt(i, f.c(LIMIT)))

    def step(i: Any, c: Any, d: Any, h: Any, miss: Any, a: Any, b: Any, x: Any, lead: Any) -> tuple:
        i = m.add(i, one)
        at = m.add(a, m.add(i, i))
        before = m.sub(at, one)
        w = m.div(m.mul(m.mul(i, m.sub(b, i)), x), before)
        n = m.mul(w, m.mul(m.div(m.mul(m.sub(m.add(a, i), one), m.sub(m.add(m.add(a, b), i), one)), before), x))
        t = m.div(m.mul(m.add(a, i), m.fma(i, m.sub(two, x), lead)), m.add(at, one))
        k = m.add(m.add(i, w), t)
        d = m.div(one, safe(m.fma(n, d, k)))
        c = safe(m.add(k, m.div(n, c)))
        e = m.mul(c, d)
        return i, c, d, m.mul(h, e), m.abs(m.sub(e, one))

    start = m.div(m.mul(a, lead), m.add(a, one))
    return m.iterate((f.c(0.0), start, f.c(0.0), start, one), (a, b, x, lead), going, step)[3]


def _log_fraction_slope(m: Any, a: Any, b: Any, x: Any, y: Any, da: Any, db: Any) -> tuple[Any, Any]:
    """That fraction by a, g, and the derivative of log g along (da, db): the recurrences term by term.

    R. J. Boik and J. F. Robison-Cox, "Derivatives of the incomplete beta function" (J. Stat. Software 3, 1998).
    """
    f = Form(m)
    one, tiny = f.c(1.0), f.c(TINY)
    lead = m.add(m.sub(m.mul(a, y), m.mul(b, x)), one)
    d_lead = m.sub(m.mul(da, y), m.mul(db, x))

    def safe(v: Any) -> Any:
        return m.select(m.lt(m.abs(v), tiny), tiny, v)

    def going(i: Any, *rest: Any) -> Any:
        return m.logical_and(m.gt(rest[6], f.c(4 * CLOSE)), m.lt(i, f.c(LIMIT)))

    def step(
        i: Any, c: Any, dc: Any, d: Any, dd: Any, h: Any, dh: Any, miss: Any, a: Any, b: Any, x: Any, da: Any,
        db: Any, lead: Any, d_lead: Any,
    ) -> tuple:  # fmt: skip
        i = m.add(i, one)
        n, dn, k, dk = _term(m, i, a, b, x, da, db, lead, d_lead)
        slope = m.add(m.fma(dn, d, m.mul(n, dd)), dk)
        d = m.div(one, safe(m.fma(n, d, k)))
        dd = m.neg(m.mul(m.mul(d, d), slope))
        q = m.div(n, c)
        dc = m.add(dk, m.div(m.sub(dn, m.mul(q, dc)), c))
        c = safe(m.add(k, q))
        e, de = m.mul(c, d), m.fma(dc, d, m.mul(c, dd))
        more = m.mul(h, de)
        dh, h = m.fma(dh, e, more), m.mul(h, e)
        miss = m.add(m.abs(m.sub(e, one)), m.div(m.abs(more), m.add(m.abs(dh), m.abs(h))))
        return i, c, dc, d, dd, h, dh, miss

    h = m.div(lead, m.add(a, one))
    dh = m.div(m.sub(d_lead, m.mul(h, da)), m.add(a, one))
    zero = f.c(0.0)
    end = m.iterate((zero, h, dh, zero, zero, h, dh, one), (a, b, x, da, db, lead, d_lead), going, step)
    return end[5], m.div(end[6], end[5])


def _term(m: Any, i: Any, a: Any, b: Any, x: Any, da: Any, db: Any, lead: Any, d_lead: Any) -> tuple[Any, ...]:
    """The i-th partial numerator and denominator of the fraction by a, each with its derivative along (da, db)."""
    f = Form(m)
    one, first = f.c(1.0), m.eq(i, f.c(1.0))
    at = m.add(a, m.add(i, i))
    before = m.sub(at, one)
    w = m.div(m.mul(m.mul(i, m.sub(b, i)), x), before)
    dw = m.div(m.sub(m.mul(m.mul(i, x), db), m.mul(w, da)), before)
    p, dp = m.select(first, one, m.sub(m.add(a, i), one)), m.select(first, f.c(0.0), da)
    s = m.sub(m.add(m.add(a, b), i), one)
    r = m.mul(m.div(m.mul(p, s), before), x)
    dr = m.div(m.sub(m.mul(m.add(m.mul(dp, s), m.mul(p, m.add(da, db))), x), m.mul(r, da)), before)
    ahead, over = m.fma(i, m.sub(f.c(2.0), x), lead), m.add(at, one)
    t = m.div(m.mul(m.add(a, i), ahead), over)
    dt = m.div(m.sub(m.add(m.mul(da, ahead), m.mul(m.add(a, i), d_lead)), m.mul(t, da)), over)
    return m.mul(w, r), m.add(m.mul(dw, r), m.mul(w, dr)), m.add(m.add(i, w), t), m.add(dw, dt)


def _sides(m: Any, a: Any, b: Any, x: Any) -> tuple[Any, ...]:
    """Where the slopes are unknown and where they are 0; the shapes and the ends in the order in which x is small."""
    f = Form(m)
    zero, one, inf = f.c(0.0), f.c(1.0), f.c(math.inf)
    bad, _, _ = _known(m, a, b, x)
    flat = m.logical_or(m.logical_or(m.eq(x, zero), m.eq(x, one)), m.logical_or(m.eq(a, inf), m.eq(b, inf)))
    out = m.logical_or(bad, flat)
    p, q, u = (m.select(out, one, m.maximum(v, f.c(TINY))) for v in (a, b, x))
    u = m.select(out, f.c(0.5), u)
    v = m.sub(one, u)
    swap = m.gt(u, m.div(m.add(p, one), m.add(m.add(p, q), f.c(2.0))))
    return bad, flat, m.select(swap, q, p), m.select(swap, p, q), m.select(swap, v, u), m.select(swap, u, v), swap


def _betainc_slope(m: Any, a: Any, b: Any, x: Any, of_b: bool) -> Any:
    """The derivative along a or b: of the logarithms of the density and of the fraction. 0 where x is 0 or 1."""
    f = Form(m)
    zero, one = f.c(0.0), f.c(1.0)
    bad, flat, first, second, s, t, swap = _sides(m, a, b, x)
    p, q = m.select(swap, second, first), m.select(swap, first, second)
    u = m.select(swap, t, s)
    own, other = (swap, m.logical_not(swap)) if of_b else (m.logical_not(swap), swap)
    da, db = m.select(own, one, zero), m.select(other, one, zero)
    g, dg = _log_fraction_slope(m, first, second, s, t, da, db)
    shape = q if of_b else p
    log = m.log1p(m.neg(u)) if of_b else m.log(u)
    psi = digamma_of_positive(m, m.add(shape, da))  # of the first, ψ(a) + 1/a, in which the fraction's a is
    along = m.sub(m.add(m.sub(log, psi), digamma_of_positive(m, m.add(p, q))), dg)
    r = m.mul(m.div(m.div(_beta_density(m, first, second, s, t), first), g), along)
    r = m.select(flat, zero, m.select(swap, m.neg(r), r))
    return m.select(bad, f.c(math.nan), r)


def _known(m: Any, a: Any, b: Any, x: Any) -> tuple[Any, Any, Any]:
    """Where the incomplete beta function is not defined, and where it is 0 and 1 by definition."""
    f = Form(m)
    zero, one, inf = f.c(0.0), f.c(1.0), f.c(math.inf)
    bad = m.logical_or(m.logical_or(m.lt(a, zero), m.lt(b, zero)), m.logical_or(m.lt(x, zero), m.gt(x, one)))
    bad = m.logical_or(bad, m.logical_and(m.eq(a, b), m.logical_or(m.eq(a, zero), m.eq(a, inf))))
    bad = m.logical_or(bad, m.logical_or(m.isnan(a), m.logical_or(m.isnan(b), m.isnan(x))))
    none = m.logical_or(m.eq(x, zero), m.logical_or(m.eq(b, zero), m.eq(a, inf)))
    all_ = m.logical_or(m.eq(x, one), m.logical_or(m.eq(a, zero), m.eq(b, inf)))
    return bad, m.logical_and(none, m.logical_not(m.eq(x, one))), all_


def _betainc(m: Any, a: Any, b: Any, x: Any) -> Any:
    f = Form(m)
    zero, one = f.c(0.0), f.c(1.0)
    bad, none, all_ = _known(m, a, b, x)
    known = m.logical_or(bad, m.logical_or(none, all_))
    p, q, u = m.select(known, one, a), m.select(known, one, b), m.select(known, f.c(0.5), x)
    v = m.sub(one, u)
    swap = m.gt(u, m.div(m.add(p, one), m.add(m.add(p, q), f.c(2.0))))
    first, second = m.select(swap, q, p), m.select(swap, p, q)
    s, t = m.select(swap, v, u), m.select(swap, u, v)
    r = m.div(_beta_density(m, first, second, s, t), _beta_fraction(m, first, second, s, t))
    r = m.select(swap, m.sub(one, r), r)
    r = m.select(none, zero, m.select(all_, one, r))
    return m.select(bad, f.c(math.nan), r)


def _log_slopes(m: Any, logs: tuple[Any, Any], psi: list[list[Any]], top: int) -> dict[tuple[int, int], Any]:
    """The derivatives of log(t^p·u^q·Γ(p + q) / (Γ(p)·Γ(q))) along p and q; `psi` are digamma's of p, q and p + q."""
    slopes = {}
    for i in range(top + 1):
        for j in range(top + 1 - i):
            if i + j:
                s = psi[2][i + j - 1]
                if not (i and j):
                    s = m.sub(s, psi[0][i - 1] if i else psi[1][j - 1])
                slopes[i, j] = m.add(s, logs[0] if i else logs[1]) if i + j == 1 else s
    return slopes


def _with_factor(m: Any, q: Any, slopes: dict[tuple[int, int], Any], i: int, j: int) -> Any:
    """What differentiating q·e^G gives, by e^G."""
    f = Form(m)
    r = m.mul(q, exponential(m, f.c, slopes, i, j))
    return m.add(r, m.mul(f.c(float(j)), exponential(m, f.c, slopes, i, j - 1))) if j else r


def _betainc_slope_of(m: Any, a: Any, b: Any, x: Any, *, orders: tuple[int, int]) -> Any:
    """The derivative of these orders along a and b by quadrature of the density's, on the side where x is.

    With t = s·e^−v; 1 / Γ(q) is q / Γ(q + 1), and I(p, q) is I(p + 1, q) + s^p·(1 − s)^q / (p·B(p, q)) for p < 1, so
    that nothing cancels for small p or q.
    """
    f = Form(m)
    one, top = f.c(1.0), sum(orders)
    bad, flat, p, q, s, t, swap = _sides(m, a, b, x)
    few = m.lt(p, one)
    shifted, both, second = m.select(few, m.add(p, one), p), m.add(p, q), m.add(q, one)
    whole = m.add(shifted, q)
    psis = [[psi(m, k, v) for k in range(top)] for v in (shifted, second, whole)]
    bend = m.sub(q, one)
    rate = m.add(m.abs(m.sub(shifted, m.div(m.mul(bend, s), t))), m.div(m.sqrt(m.mul(m.abs(bend), s)), t))
    scale = m.div(one, m.minimum(rate, shifted))
    logs = _logs(m, s, t)

    def value(v: Any, scale: Any, p: Any, q: Any, odds: Any, log_s: Any, log_t: Any, swap: Any, *rest: Any) -> Any:
        v = m.mul(v, scale)
        gain = m.log1p(m.neg(m.mul(odds, m.expm1(m.neg(v)))))  # log (1 − t) less that of 1 − s
        each = [list(rest[i * top : (i + 1) * top]) for i in range(3)]
        slopes = _log_slopes(m, (m.sub(log_s, v), m.add(log_t, gain)), each, top)
        r = _chosen(m, swap, lambda i, j: _with_factor(m, q, slopes, i, j), orders)
        return m.mul(r, m.exp(m.sub(m.mul(m.sub(q, one), gain), m.mul(p, v))))

    fixed = (scale, shifted, q, m.div(s, t), *logs, m.select(swap, one, f.c(0.0)), *psis[0], *psis[1], *psis[2])
    area = integral(m, m.logical_not(m.logical_or(bad, flat)), value, fixed)
    front = m.div(_beta_density(m, shifted, second, s, t), m.mul(m.mul(t, t), whole))
    r = m.mul(m.mul(front, scale), area)

    def rest() -> Any:
        more = [m.div(f.c(math.factorial(k) * (-1.0) ** (k + 1)), power(m, both, k + 1)) for k in range(top)]
        sums = [m.add(u, v) for u, v in zip(psis[2], more, strict=True)]  # of both, which is one less than `whole`
        slopes = _log_slopes(m, logs, [psis[0], psis[1], sums], top)
        first = _beta_density(m, m.add(p, one), second, s, t)
        first = m.div(first, m.mul(m.mul(s, t), m.mul(both, m.add(both, one))))
        turn = m.select(swap, one, f.c(0.0))
        return m.mul(first, _chosen(m, turn, lambda i, j: _with_factor(m, q, slopes, i, j), orders))

    r = m.if_any(few, lambda: m.add(r, rest()), r)
    r = m.select(flat, f.c(0.0), m.select(swap, m.neg(r), r))
    return m.select(bad, f.c(math.nan), r)


def _chosen(m: Any, swap: Any, value: Any, orders: tuple[int, int]) -> Any:
    """The value for the orders along p and q, which are those along b and a where `swap` is 1."""
    i, j = orders
    return value(i, j) if i == j else m.select(m.eq(swap, Form(m).c(0.0)), value(i, j), value(j, i))


# --- rows -------------------------------------------------------------------------------------------------------------
def _beta_slope(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    return E.exp(log_power(E.log, x, a, 1.0) + log_power(E.log1p, -x, b, 0.0) - betaln(a, b))


_OF_THREE: dict[str, Any] = {"arity": 3, "domain": ((0.3, 4.0), (0.3, 4.0), (0.05, 0.95)), "singular": True}
betaln: Op = row(
    "betaln", _betaln, lambda y, a, b: (digamma(a) - digamma(a + b), digamma(b) - digamma(a + b)), arity=2,
    domain=(0.3, 6.0), singular=True, doc="log B(a, b), the logarithm of the beta function, for a and b ≥ 0.",
)  # fmt: skip
betainc: Op = row(
    "betainc", _betainc,
    lambda y, a, b, x: (
        lambda: betainc_grad_a(a, b, x), lambda: betainc_grad_b(a, b, x),
        lambda: known_slope(y, x, _beta_slope(a, b, x), a, b),
    ),
    doc="The regularized incomplete beta function I_x(a, b).", **_OF_THREE,
)  # fmt: skip
betainc_grad_a: Op = row(
    "betainc_grad_a", lambda m, a, b, x: _betainc_slope(m, a, b, x, False),
    lambda y, a, b, x: _slopes(y, a, b, x, (1, 0)),
    doc="The derivative of betainc along its first operand.", **_OF_THREE,
)  # fmt: skip
betainc_grad_b: Op = row(
    "betainc_grad_b", lambda m, a, b, x: _betainc_slope(m, a, b, x, True),
    lambda y, a, b, x: _slopes(y, a, b, x, (0, 1)),
    doc="The derivative of betainc along its second operand.", **_OF_THREE,
)  # fmt: skip
betainc_slope: Op = row(
    "betainc_slope", _betainc_slope_of, lambda y, a, b, x, orders: _slopes(y, a, b, x, orders),
    doc="The derivative of betainc of `orders` along its first two operands.", with_attrs=True, **_OF_THREE,
)  # fmt: skip


def _slopes(y: Tensor, a: Tensor, b: Tensor, x: Tensor, orders: tuple[int, int]) -> tuple:
    """The partial derivatives of a derivative of betainc."""
    n, k = orders

    def along_x() -> Tensor:
        whole, top = a + b, n + k
        psis = [[digamma(v), *[polygamma(float(i), v) for i in range(1, top)]] for v in (a, b, whole)]
        slopes = _log_slopes(E, (E.log(x), E.log1p(-x)), psis, top)
        return known_slope(y, x, _beta_slope(a, b, x) * exponential(E, float, slopes, n, k), a, b)

    return (
        lambda: betainc_slope(a, b, x, orders=(n + 1, k)), lambda: betainc_slope(a, b, x, orders=(n, k + 1)), along_x
    )  # fmt: skip
