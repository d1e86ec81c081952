"""The incomplete gamma functions, and their derivatives."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.op import Op
from tracejit.ops import elementwise as E
from tracejit.ops.forms import Form, exponential, integral, row
from tracejit.ops.gamma import (
    _LGAMMA_P,
    _LGAMMA_Q,
    HALF_LOG_2PI,
    digamma,
    digamma_of_positive,
    lgamma,
    lgamma_of_positive,
    polygamma,
    psi,
    stirling,
)
from tracejit.tensor import Tensor

_EPSILON = 2.0**-54
CLOSE = 1.5 * 2.0**-52  # the factors of a continued fraction are no closer to 1 than their roundings
TINY = 1e-300
LIMIT = 50000.0  # steps of a series or a continued fraction
_LARGE = 200.0  # from here on Temme's expansion holds where x is within 30% of a
# N. M. Temme, "The asymptotic expansion of the incomplete gamma functions" (SIAM J. Math. Anal. 10, 1979): for each
# power of 1/a a polynomial in eta; the coefficients follow from DLMF 8.12.
_TEMME = (
    (-5.830772132550426e-11, -2.5514193994946248e-11, 9.14769958223679e-10, -4.382036018453353e-09,
        1.0261809784240309e-08, 6.707853543401498e-09, -1.7665952736826078e-07, 8.296711340953087e-07,
        -1.85406221071516e-06, -2.185448510679992e-06, 3.919263178522438e-05, -0.0001787551440329218,
        0.0003527336860670194, 0.0011574074074074073, -0.014814814814814815, 0.08333333333333333,
        -0.3333333333333333),
    (1.1951628599778148e-08, -5.752545603517705e-08, 1.378633446915721e-07, 4.647127802807434e-09,
        -1.6120900894563446e-06, 7.64916091608111e-06, -1.8098550334489977e-05, -4.018775720164609e-07,
        0.00020576131687242798, -0.0009902263374485596, 0.0026455026455026454, -0.003472222222222222,
        -0.001851851851851852),
    (1.4280614206064242e-07, -6.298992138380055e-07, 1.3721957309062934e-06, 3.423578734096138e-08,
        -1.2760635188618728e-05, 5.2923448829120125e-05, -0.0001073665322636516, 2.0093878600823047e-06,
        0.0007716049382716049, -0.0026813271604938273, 0.004133597883597883),
    (1.4230900732435883e-06, -5.6749528269915965e-06, 1.1082654115347302e-05, -2.396505113867297e-07,
        -7.561801671883977e-05, 0.00026772063206283885, -0.0004691894943952557, 0.00022947209362139917,
        0.0006494341563786008),
    (1.1375726970678419e-05, -3.968365047179435e-05, 6.641498215465122e-05, -1.4638452578843418e-06,
        -0.0002990724803031902, 0.0007840392217200666, -0.0008618882909167117),
    (6.797780477937208e-05, -0.00019932570516188847, 0.0002772753244959392, -6.972813758365857e-05,
        -0.00033679855336635813),
    (-0.0005921664373536939, 0.0005313079364639922),
    (0.00034436760689237765,),
)  # fmt: skip


def log_rest(m: Any, x: Any, ratio: Any) -> Any:
    """log(1 + x) − x with all digits where x is small; `ratio` is 1 + x."""
    f = Form(m)
    t = m.maximum(m.minimum(x, f.c(0.6)), f.c(-0.4))
    r = m.div(t, m.add(t, f.c(2.0)))
    z = m.mul(r, r)
    series = f.horner(z, [2.0 / k for k in range(29, 1, -2)])
    near = m.sub(m.mul(m.mul(r, z), series), m.mul(r, t))
    return m.select(m.eq(t, x), near, m.sub(m.log(ratio), x))


def _lgamma1p(m: Any, a: Any) -> Any:
    """log Γ(1 + a) for 0 ≤ a ≤ 3/2."""
    f = Form(m)
    low = m.lt(a, f.c(0.5))
    t = m.select(low, a, m.sub(a, f.c(1.0)))
    r = m.mul(t, f.ratio(t, _LGAMMA_P, _LGAMMA_Q))
    return m.select(low, m.sub(r, m.log1p(a)), r)


# --- gamma ------------------------------------------------------------------------------------------------------------
class _Gamma:
    """What the functions of a and x share. `a` and `x` are made harmless where the result is known without them."""

    def __init__(self, m: Any, a: Any, x: Any) -> None:
        f = self.form = Form(m)
        self.m, zero, one, inf = m, f.c(0.0), f.c(1.0), f.c(math.inf)
        bad = m.logical_or(m.lt(a, zero), m.lt(x, zero))
        bad = m.logical_or(bad, m.logical_and(m.eq(a, x), m.logical_or(m.eq(a, zero), m.eq(a, inf))))
        self.bad = m.logical_or(bad, m.logical_or(m.isnan(a), m.isnan(x)))
        self.none = m.logical_or(m.eq(x, zero), m.eq(a, inf))  # P = 0
        self.all = m.logical_or(m.eq(a, zero), m.eq(x, inf))  # P = 1
        known = m.logical_or(self.bad, m.logical_or(self.none, self.all))
        self.known = known
        self.a, self.x = m.select(known, one, a), m.select(known, one, x)
        self.sigma = m.div(m.sub(self.x, self.a), self.a)
        self.phi = log_rest(m, self.sigma, m.div(self.x, self.a))  # log λ − (λ − 1), λ = x / a
        near = m.lt(m.abs(self.sigma), f.c(0.3))
        self.temme = m.logical_and(m.ge(self.a, f.c(_LARGE)), near)
        self.factor = self._factor()

    def _factor(self) -> Any:
        """x^a·e^−x / Γ(a + 1)."""
        f, m, a, x = self.form, self.m, self.a, self.x
        big = m.maximum(a, f.c(8.0))
        high = m.sub(m.mul(big, self.phi), m.add(stirling(m, big), m.fma(f.c(0.5), m.log(big), f.c(HALF_LOG_2PI))))

        def low() -> Any:
            small = m.minimum(a, f.c(8.0))
            return m.sub(m.sub(m.mul(small, m.log(x)), x), lgamma_of_positive(m, m.add(small, f.c(1.0))))

        return m.exp(m.if_any(m.lt(a, f.c(8.0)), low, high))

    def ends(self, r: Any, none: float, all_: float) -> Any:
        m, c = self.m, self.form.c
        r = m.select(self.all, c(all_), m.select(self.none, c(none), r))
        return m.select(self.bad, c(math.nan), r)

    def series(self, wanted: Any) -> Any:
        """P / factor = Σ xᵏ / ((a + 1) … (a + k)), where `wanted`."""
        f, m = self.form, self.m

        def going(r: Any, c: Any, s: Any, x: Any) -> Any:
            return m.gt(c, m.mul(s, f.c(_EPSILON)))

        def step(r: Any, c: Any, s: Any, x: Any) -> tuple:
            r = m.add(r, f.c(1.0))
            c = m.mul(c, m.div(x, r))
            return r, c, m.add(s, c)

        start = (self.a, m.select(wanted, f.c(1.0), f.c(0.0)), f.c(1.0))
        return m.iterate(start, (self.x,), going, step)[2]

    def series_grad(self, wanted: Any) -> tuple[Any, Any]:
        """The series and its derivative along a."""
        f, m = self.form, self.m
        eps = f.c(_EPSILON)

        def going(r: Any, c: Any, s: Any, dc: Any, ds: Any, x: Any) -> Any:
            return m.logical_or(m.gt(c, m.mul(s, eps)), m.gt(m.abs(dc), m.mul(m.abs(ds), eps)))

        def step(r: Any, c: Any, s: Any, dc: Any, ds: Any, x: Any) -> tuple:
            r = m.add(r, f.c(1.0))
            t = m.div(x, r)
            dc, c = m.mul(t, m.sub(dc, m.div(c, r))), m.mul(c, t)
            return r, c, m.add(s, c), dc, m.add(ds, dc)

        start = (self.a, m.select(wanted, f.c(1.0), f.c(0.0)), f.c(1.0), f.c(0.0), f.c(0.0))
        _, _, s, _, ds = m.iterate(start, (self.x,), going, step)
        return s, ds

    def fraction(self, wanted: Any) -> Any:
        """Q / (a·factor) by Legendre's continued fraction (DLMF 8.9.2, Lentz's method), where `wanted`."""
        f, m = self.form, self.m
        one = f.c(1.0)
        b = m.select(wanted, m.add(m.sub(self.x, self.a), one), one)

        def going(i: Any, b: Any, c: Any, d: Any, h: Any, miss: Any, a: Any) -> Any:
            return m.logical_and(m.gt(miss, f.c(CLOSE)), m.lt(i, f.c(LIMIT)))

        def step(i: Any, b: Any, c: Any, d: Any, h: Any, miss: Any, a: Any) -> tuple:
            i, b = m.add(i, one), m.add(b, f.c(2.0))
            n = m.mul(i, m.sub(a, i))
            d = m.div(one, m.fma(n, d, b))
            c = m.add(b, m.div(n, c))
            e = m.mul(c, d)
            return i, b, c, d, m.mul(h, e), m.abs(m.sub(e, one))

        d = m.div(one, b)
        start = (f.c(0.0), b, f.c(1.0 / TINY), d, d, m.select(wanted, one, f.c(0.0)))
        return m.iterate(start, (self.a,), going, step)[4]

    def fraction_grad(self, wanted: Any) -> tuple[Any, Any]:
        """The continued fraction and its derivative along a."""
        f, m = self.form, self.m
        one = f.c(1.0)
        b = m.select(wanted, m.add(m.sub(self.x, self.a), one), one)

        def going(i: Any, b: Any, c: Any, dc: Any, d: Any, dd: Any, h: Any, dh: Any, miss: Any, a: Any) -> Any:
            return m.logical_and(m.gt(miss, f.c(4 * CLOSE)), m.lt(i, f.c(LIMIT)))

        def step(i: Any, b: Any, c: Any, dc: Any, d: Any, dd: Any, h: Any, dh: Any, miss: Any, a: Any) -> tuple:
            i, b = m.add(i, one), m.add(b, f.c(2.0))
            n = m.mul(i, m.sub(a, i))
            slope = m.fma(i, d, m.fma(n, dd, f.c(-1.0)))
            d = m.div(one, m.fma(n, d, b))
            dd = m.neg(m.mul(m.mul(d, d), slope))
            q = m.div(n, c)
            dc = m.add(m.div(m.sub(i, m.mul(q, dc)), c), f.c(-1.0))
            c = m.add(b, q)
            e, de = m.mul(c, d), m.fma(dc, d, m.mul(c, dd))
            more = m.mul(h, de)
            dh, h = m.fma(dh, e, more), m.mul(h, e)
            miss = m.add(m.abs(m.sub(e, one)), m.div(m.abs(more), m.add(m.abs(dh), f.c(TINY))))
            return i, b, c, dc, d, dd, h, dh, miss

        d = m.div(one, b)
        zero, dd = f.c(0.0), m.mul(d, d)
        start = (zero, b, f.c(1.0 / TINY), zero, d, dd, d, dd, m.select(wanted, one, zero))
        end = m.iterate(start, (self.a,), going, step)
        return end[6], end[7]

    def expansion(self) -> tuple[Any, Any, Any]:
        """Temme's: eta, e^(−a·eta²/2), and the sum of the polynomials."""
        f, m = self.form, self.m
        eta = m.copysign(m.sqrt(m.mul(f.c(-2.0), self.phi)), self.sigma)
        eta = m.select(self.temme, eta, f.c(0.0))
        w, total = m.div(f.c(1.0), self.a), f.c(0.0)
        for p in reversed(_TEMME):
            total = m.fma(total, w, f.horner(eta, p))
        return eta, m.exp(m.mul(self.a, self.phi)), total


def _gamma_ratio(m: Any, a: Any, x: Any, upper: bool) -> Any:
    """P(a, x), or Q = 1 − P: series for P below a, a continued fraction for Q above, Temme's expansion for both."""
    g, f = _Gamma(m, a, x), Form(m)
    one = f.c(1.0)
    a, x = g.a, g.x
    short = m.le(x, f.c(1.1))
    plain = m.logical_not(g.temme)
    below = m.logical_or(m.le(x, a), short)
    rest = m.logical_and(plain, m.logical_not(below))
    low = m.mul(g.factor, g.series(m.logical_and(plain, below)))
    high = m.mul(m.mul(g.factor, a), g.fraction(rest))
    if upper:
        few = m.select(m.le(x, f.c(0.5)), m.lt(m.mul(a, m.log(x)), f.c(-0.4)), m.lt(m.mul(x, f.c(1.1)), a))
        whole = m.logical_and(short, m.logical_not(few))
        low = m.if_any(whole, lambda: _upper_series(m, a, x), m.sub(one, low))
    else:
        high = m.sub(one, high)
    r = m.if_any(g.temme, lambda: _expansion(g, upper), m.select(below, low, high))
    return g.ends(r, 1.0, 0.0) if upper else g.ends(r, 0.0, 1.0)


def _expansion(g: _Gamma, upper: bool) -> Any:
    """Half of erfc of what eta says, and the sum of the polynomials."""
    f, m = g.form, g.m
    eta, e, total = g.expansion()
    z = m.mul(eta, m.sqrt(m.mul(g.a, f.c(0.5))))
    near = m.mul(f.c(0.5), m.erfc(z if upper else m.neg(z)))
    more = m.div(m.mul(e, total), m.sqrt(m.mul(g.a, f.c(2.0 * math.pi))))
    return m.add(near, more) if upper else m.sub(near, more)


def _upper_series(m: Any, a: Any, x: Any) -> Any:
    """Q for small a and x ≤ 1.1, where 1 − P would lose digits: DLMF 8.7.3 with the first term apart."""
    f = Form(m)
    a, x = m.minimum(a, f.c(1.3)), m.minimum(x, f.c(1.1))
    total, term = f.c(0.0), f.c(1.0)
    for n in range(1, 22):
        term = m.mul(term, m.mul(x, f.c(-1.0 / n)))
        total = m.add(total, m.div(term, m.add(a, f.c(float(n)))))
    power = m.sub(m.mul(a, m.log(x)), _lgamma1p(m, a))
    return m.sub(m.neg(m.expm1(power)), m.mul(m.mul(a, m.exp(power)), total))


def _igamma_grad_a(m: Any, a: Any, x: Any) -> Any:
    """The derivative of P along a: of the series, of the continued fraction, or of Temme's expansion, term by term."""
    f = Form(m)
    nought = m.eq(a, f.c(0.0))  # there it is −E₁(x)
    nowhere = m.logical_and(nought, m.eq(x, f.c(0.0)))
    g = _Gamma(m, m.select(nought, f.c(TINY), a), x)
    one = f.c(1.0)
    a, x = g.a, g.x
    plain, below = m.logical_not(g.temme), m.logical_or(m.le(x, a), m.le(x, one))
    log = m.log(x)
    psi = digamma_of_positive(m, m.add(a, one))  # ψ(a) + 1/a
    s, ds = g.series_grad(m.logical_and(plain, below))
    low = m.mul(g.factor, m.fma(s, m.sub(log, psi), ds))
    h, dh = g.fraction_grad(m.logical_and(plain, m.logical_not(below)))
    high = m.neg(m.mul(g.factor, m.fma(h, m.fma(a, m.sub(log, psi), one), m.mul(a, dh))))
    r = m.if_any(g.temme, lambda: _expansion_grad(g), m.select(below, low, high))
    return m.select(nowhere, f.c(math.nan), g.ends(r, 0.0, 0.0))


def _expansion_grad(g: _Gamma) -> Any:
    f, m, a = g.form, g.m, g.a
    eta, e, total = g.expansion()
    half, w = f.c(0.5), m.div(f.c(1.0), a)
    along, value = f.c(0.0), f.c(0.0)  # of the sum along eta and along 1/a
    for k in range(len(_TEMME) - 1, -1, -1):
        p = _TEMME[k]
        slope = [c * (len(p) - 1 - i) for i, c in enumerate(p[:-1])]
        along = m.fma(along, w, f.horner(eta, slope)) if slope else m.mul(along, w)
        if k:
            value = m.fma(value, w, m.mul(f.c(float(k)), f.horner(eta, p)))
    still = m.eq(eta, f.c(0.0))
    ratio = m.select(still, f.c(1.0), m.div(g.sigma, m.select(still, f.c(1.0), eta)))
    d_eta = m.neg(m.mul(ratio, w))  # σ / η, by −1 / a
    root = m.sqrt(m.mul(a, half))
    bend = m.div(m.mul(eta, f.c(0.25)), root)
    front = m.mul(f.c(1.0 / math.sqrt(math.pi)), m.fma(d_eta, root, bend))
    d_log = m.sub(m.add(g.phi, g.sigma), m.mul(half, w))
    inner = m.add(m.mul(total, d_log), m.sub(m.mul(along, d_eta), m.mul(value, m.mul(w, w))))
    return m.mul(e, m.sub(front, m.div(inner, m.sqrt(m.mul(a, f.c(2.0 * math.pi))))))


def igamma_slope_form(m: Any, a: Any, x: Any, *, order: int) -> Any:
    """The derivative of P along a of an order, by quadrature: ∫ ∂ⁿ t^(a−1)·e^−t / Γ(a) over 0…x, or less it over x…∞.

    With t = x·e^∓v; 1 / Γ(a) is a / Γ(a + 1), and below 1 P(a, x) is P(a + 1, x) + x^a·e^−x / Γ(a + 1), so that nothing
    cancels for small a.
    """
    f = Form(m)
    one, zero = f.c(1.0), f.c(0.0)
    nought = m.eq(a, zero)
    nowhere = m.logical_and(nought, m.eq(x, zero))
    g = _Gamma(m, m.select(nought, f.c(TINY), a), x)
    a, x = g.a, g.x
    few = m.lt(a, one)
    below = m.lt(x, m.select(few, one, a))
    less = m.logical_and(few, below)
    above = m.add(a, one)
    log, first = m.log(x), [psi(m, k, above) for k in range(order)]
    b, factor = m.select(less, above, a), m.select(less, m.div(m.mul(g.factor, x), above), g.factor)
    more = [m.div(f.c(math.factorial(k) * (-1.0) ** k), power(m, above, k + 1)) for k in range(order)]
    second = [m.select(less, m.add(u, v), u) for u, v in zip(first, more, strict=True)]  # ψ of b + 1
    scale = m.div(one, m.add(m.abs(m.sub(b, x)), m.sqrt(x)))
    sign = m.select(below, f.c(-1.0), one)

    def value(v: Any, sign: Any, scale: Any, b: Any, x: Any, log: Any, *psi: Any) -> Any:
        v = m.mul(m.mul(v, scale), sign)
        slopes = {(1, 0): m.sub(m.add(log, v), psi[0])} | {(k + 1, 0): m.neg(psi[k]) for k in range(1, order)}
        high, low = (exponential(m, f.c, slopes, k) for k in (order, order - 1))
        total = m.fma(b, high, m.mul(f.c(float(order)), low))
        return m.mul(total, m.exp(m.sub(m.mul(b, v), m.mul(x, m.expm1(v)))))

    area = integral(m, m.logical_not(g.known), value, (sign, scale, b, x, log, *second))
    r = m.mul(m.mul(factor, m.neg(m.mul(sign, scale))), area)
    slopes = {(1, 0): m.sub(log, first[0])} | {(k + 1, 0): m.neg(first[k]) for k in range(1, order)}
    r = m.add(r, m.select(less, m.mul(g.factor, exponential(m, f.c, slopes, order)), zero))
    return m.select(nowhere, f.c(math.nan), g.ends(r, 0.0, 0.0))


def power(m: Any, x: Any, n: int) -> Any:
    return x if n == 1 else m.mul(x, power(m, x, n - 1))


# --- rows -------------------------------------------------------------------------------------------------------------
def _density(a: Tensor, x: Tensor) -> Tensor:
    """x^(a−1)·e^−x / Γ(a); below 1 by the power itself, whose derivatives at 0 are right."""
    small = E.less(x, 1.0)
    power = E.pow_(E.where(small, x, 1.0), a - 1.0) * E.exp(-x - lgamma(a))
    return E.where(small, power, E.exp((a - 1.0) * E.log(E.where(small, 1.0, x)) - x - lgamma(a)))


def log_power(log: Op, x: Tensor, a: Tensor, unit: float) -> Tensor:
    """(a − 1)·log x for a logarithm that is 0 at `unit`; 0 where a is 1 and x is at the pole, as 0⁰ is 1."""
    pole = E.logical_and(E.equal(a, 1.0), E.equal(x, unit - 1.0))
    return (a - 1.0) * log(E.where(pole, unit, x))  # type: ignore[no-any-return]


def _density_slope(y: Tensor, a: Tensor, x: Tensor, order: int) -> Tensor:
    """The derivative of the density along a of an order."""
    slopes = {(1, 0): E.log(x) - digamma(a)} | {(k + 1, 0): -polygamma(float(k), a) for k in range(1, order)}
    return known_slope(y, x, _density(a, x) * exponential(E, float, slopes, order), a)


def known_slope(y: Tensor, x: Tensor, slope: Tensor, *shapes: Tensor) -> Tensor:
    """NaN where the function y is, and 0 where an operand is infinite, at which the function is constant."""
    for v in (x, *shapes):
        slope = E.where(E.isinf(v), 0.0, slope)
    return E.where(E.isnan(y), math.nan, slope)  # type: ignore[no-any-return]


BOTH: dict[str, Any] = {"arity": 2, "domain": ((0.3, 4.0), (0.2, 5.0)), "singular": True}
igamma: Op = row(
    "igamma", lambda m, a, x: _gamma_ratio(m, a, x, False),
    lambda y, a, x: (lambda: igamma_grad_a(a, x), lambda: known_slope(y, x, _density(a, x), a)),
    doc="The regularized lower incomplete gamma function P(a, x).", **BOTH,
)  # fmt: skip
igammac: Op = row(
    "igammac", lambda m, a, x: _gamma_ratio(m, a, x, True),
    lambda y, a, x: (lambda: -igamma_grad_a(a, x), lambda: -known_slope(y, x, _density(a, x), a)),
    doc="The regularized upper incomplete gamma function Q(a, x).", **BOTH,
)  # fmt: skip
igamma_grad_a: Op = row(
    "igamma_grad_a", _igamma_grad_a,
    lambda y, a, x: (lambda: igamma_slope(a, x, order=2), lambda: _density_slope(y, a, x, 1)),
    doc="The derivative of igamma along its first operand.", **BOTH,
)  # fmt: skip
igamma_slope: Op = row(
    "igamma_slope", igamma_slope_form,
    lambda y, a, x, order: (
        lambda: igamma_slope(a, x, order=order + 1), lambda: _density_slope(y, a, x, order)
    ),
    doc="The derivative of igamma along its first operand of an `order`.", with_attrs=True, **BOTH,
)  # fmt: skip
