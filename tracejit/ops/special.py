"""Inverses of the error functions, and integrals without an elementary form: Dawson's, Fresnel's and others."""

from __future__ import annotations

import math
from typing import Any

from tracejit.ir.op import Op
from tracejit.ops import cephes as T
from tracejit.ops import elementwise as E
from tracejit.ops.forms import Form, row

# M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution" (Applied Statistics 37, 1988)
_CENTRAL = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125,
     1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077,
     687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
_TAIL = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip
_FAR_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
     0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0),
)  # fmt: skip
# Minimax fits: E1(x) = −log x − γ + x·P(x) / Q(x) up to 1, error 2e-21; x·eˣ·E1(x) = P(1/x) / Q(1/x) up to 4 and
# beyond, errors 7e-18 and 2e-18
_E1_NEAR = (
    (7.047741947285998e-10, -3.184618309001333e-08, 7.776827273411276e-07, -1.3232039436766364e-05,
     0.00017061181769089737, -0.0017096549991366086, 0.016705024679935548, -0.013320036416080235, 1.0),
    (0.0006379898068544847, 0.020319460020359184, 0.2366799635839198, 1.0),
)  # fmt: skip
_E1_MIDDLE = (
    (0.022073912579784166, 3.626627881827128, 39.415795934114165, 120.99282384031733, 141.73795810473283,
     70.17763903298217, 14.464618206089565, 0.9999997208597353),
    (1.0729094628133353, 21.160283812292562, 110.54005040644131, 223.0682488223297, 200.44306386015296,
     83.64267100682284, 15.464602901653395, 1.0),
)  # fmt: skip
_E1_FAR = (
    (105.46748908094015, 5182.487568563198, 21255.645901848107, 27725.323525454533, 15641.413302592173,
     4311.973436829772, 600.0559808803549, 39.961819826292384, 1.0),
    (2052.777026225601, 17209.8942206361, 40851.03934197662, 40406.42765590962, 19460.216218212183,
     4875.067597882723, 639.0178007066506, 40.96181982629238, 1.0),
)  # fmt: skip
_EI = (
    (4.0, T.EXPINT_A6, T.EXPINT_B6), (8.0, T.EXPINT_A5, T.EXPINT_B5), (16.0, T.EXPINT_A2, T.EXPINT_B2),
    (32.0, T.EXPINT_A4, T.EXPINT_B4), (64.0, T.EXPINT_A7, T.EXPINT_B7),
)  # fmt: skip
_EULER = 0.5772156649015329
_EI_ROOT = (0.3725074107813666, 1.3140183414386028e-17)
_EI_AT_ROOT = (  # Taylor's series there
    4743.765650402431, -1943.7966457234988, 804.5318399821382, -337.1558271787469, 143.5349488096751,
    -62.37880152891542, 27.88629796294205, -12.969697383536516, 6.522376145438925, -3.2816078663985615,
    3.8962157339071672,
)  # fmt: skip


# --- inverses of the error functions ----------------------------------------------------------------------------------
def _quantile(m: Any, half: Any, tail: Any) -> Any:
    """The inverse of erf at 2·half, 0 ≤ half ≤ 1/2, with tail = 1/2 − half; infinite for a tail of 0."""
    f = Form(m)
    r = m.sub(f.c(0.180625), m.mul(half, half))
    central = m.mul(half, f.ratio(r, *_CENTRAL))

    def outer() -> Any:
        r = m.sqrt(m.neg(m.log(tail)))
        near = f.ratio(m.sub(r, f.c(1.6)), *_TAIL)
        y = m.if_any(m.gt(r, f.c(5.0)), lambda: f.ratio(m.sub(r, f.c(5.0)), *_FAR_TAIL), near)
        return m.select(m.eq(tail, f.c(0.0)), f.c(math.inf), y)

    return m.mul(m.if_any(m.gt(half, f.c(0.425)), outer, central), f.c(math.sqrt(0.5)))


def _erfinv(m: Any, x: Any) -> Any:
    f = Form(m)
    half = m.mul(m.abs(x), f.c(0.5))
    r = _quantile(m, half, m.sub(f.c(0.5), half))
    return m.select(m.isnan(r), f.c(math.nan), m.copysign(r, x))


def _erfcinv(m: Any, x: Any) -> Any:
    f = Form(m)
    tail = m.mul(m.select(m.gt(x, f.c(1.0)), m.sub(f.c(2.0), x), x), f.c(0.5))
    r = _quantile(m, m.sub(f.c(0.5), tail), tail)
    return m.select(m.gt(x, f.c(1.0)), m.neg(r), r)


# --- Dawson's integral ------------------------------------------------------------------------------------------------
def _dawsn(m: Any, x: Any) -> Any:
    f = Form(m)
    a = m.abs(x)
    t, u = m.minimum(a, f.c(3.25)), m.maximum(a, f.c(3.25))
    near = m.mul(t, f.ratio(m.mul(t, t), T.DAWSN_AN, T.DAWSN_AD))

    def tail() -> Any:
        w = m.div(f.c(1.0), u)
        z = m.mul(w, w)
        middle, far = f.ratio(z, T.DAWSN_BN, T.DAWSN_BD), f.ratio(z, T.DAWSN_CN, T.DAWSN_CD)
        return m.mul(m.mul(f.c(0.5), w), m.fma(z, m.select(m.lt(u, f.c(6.25)), middle, far), f.c(1.0)))

    r = m.if_any(m.ge(a, f.c(3.25)), tail, near)
    return m.select(m.isnan(x), x, m.copysign(r, x))


# --- the exponential integral -----------------------------------------------------------------------------------------
def _expint(m: Any, x: Any) -> Any:
    """Ei; −E1(−x) below 0. The factor eˣ is taken in two steps, since it overflows before the result does."""
    f = Form(m)
    log, half = m.log(m.abs(x)), m.exp(m.mul(x, f.c(0.5)))
    t = m.minimum(m.maximum(x, f.c(0.0)), f.c(2.0))
    root = m.sub(m.sub(t, f.c(_EI_ROOT[0])), f.c(_EI_ROOT[1]))
    near = m.add(m.add(m.mul(t, f.ratio(t, T.EXPINT_A, T.EXPINT_B)), f.c(_EULER)), log)
    near = m.select(m.lt(m.abs(root), f.c(0.01)), m.mul(root, f.horner(root, _EI_AT_ROOT)), near)

    def far() -> Any:
        u = m.maximum(x, f.c(2.0))
        w = m.div(f.c(1.0), u)
        rest = f.ratio(w, T.EXPINT_A3, T.EXPINT_B3)
        for end, p, q in reversed(_EI):
            rest = m.if_any(m.lt(u, f.c(end)), lambda p=p, q=q: f.ratio(w, p, q), rest)
        return m.select(m.isinf(x), x, m.mul(m.mul(half, m.mul(w, m.fma(w, rest, f.c(1.0)))), half))

    def below() -> Any:
        a = m.neg(x)
        s, b = m.minimum(a, f.c(1.0)), m.maximum(a, f.c(1.0))
        small = m.sub(m.add(log, f.c(_EULER)), m.mul(s, f.ratio(s, *_E1_NEAR)))
        w = m.div(f.c(1.0), b)
        large = m.select(m.lt(b, f.c(4.0)), f.ratio(w, *_E1_MIDDLE), f.ratio(w, *_E1_FAR))
        return m.select(m.lt(a, f.c(1.0)), small, m.neg(m.mul(m.mul(half, m.mul(w, large)), half)))

    return m.if_any(m.lt(x, f.c(0.0)), below, m.if_any(m.ge(x, f.c(2.0)), far, near))


# --- Fresnel's integrals ----------------------------------------------------------------------------------------------
def _fresnel(m: Any, x: Any, sine: bool) -> Any:
    f = Form(m)
    a = m.abs(x)
    t, u = m.minimum(a, f.c(1.6)), m.minimum(m.maximum(a, f.c(1.6)), f.c(1e8))
    z = m.mul(t, t)
    z4 = m.mul(z, z)
    if sine:
        near = m.mul(m.mul(t, z), f.ratio(z4, T.FRESNEL_SN, T.FRESNEL_SD))
    else:
        near = m.mul(t, f.ratio(z4, T.FRESNEL_CN, T.FRESNEL_CD))

    def far() -> Any:
        w = m.div(f.c(1.0 / math.pi), m.mul(u, u))
        v = m.mul(w, w)
        p = m.sub(f.c(1.0), m.mul(v, f.ratio(v, T.FRESNEL_FN, T.FRESNEL_FD)))
        q = m.mul(w, f.ratio(v, T.FRESNEL_GN, T.FRESNEL_GD))
        s, c = _quarter_turns(m, u)
        wave = m.neg(m.add(m.mul(p, c), m.mul(q, s))) if sine else m.sub(m.mul(p, s), m.mul(q, c))
        y = m.fma(wave, m.div(f.c(1.0 / math.pi), u), f.c(0.5))
        return m.select(m.gt(a, f.c(1e8)), f.c(0.5), y)

    r = m.if_any(m.ge(a, f.c(1.6)), far, near)
    return m.select(m.isnan(x), x, m.copysign(r, x))


def _quarter_turns(m: Any, u: Any) -> tuple[Any, Any]:
    """sin and cos of π/2·u², where u² is taken modulo 4 in two parts without an error: u = n + r, n even, |r| ≤ 1."""
    f = Form(m)
    n = m.mul(m.round(m.mul(u, f.c(0.5))), f.c(2.0))
    r = m.sub(u, n)
    turns = m.mul(m.mul(n, f.c(2.0)), r)  # n² is a multiple of 4
    turns = m.sub(turns, m.mul(m.round(m.mul(turns, f.c(0.25))), f.c(4.0)))
    angle = m.mul(m.fma(r, r, turns), f.c(0.5 * math.pi))
    return m.sin(angle), m.cos(angle)


# --- Spence's integral ------------------------------------------------------------------------------------------------
def _spence(m: Any, x: Any) -> Any:
    """∫ from 1 to x of log t / (1 − t); NaN below 0."""
    f = Form(m)
    one, half = f.c(1.0), f.c(0.5)
    far = m.gt(x, f.c(2.0))
    y = m.select(far, m.div(one, x), x)
    high, low = m.gt(y, f.c(1.5)), m.lt(y, half)
    w = m.select(high, m.sub(m.div(one, y), one), m.select(low, m.neg(y), m.sub(y, one)))
    r = m.mul(m.neg(w), f.ratio(w, T.SPENCE_A, T.SPENCE_B))
    log = m.log(y)
    mirrored = m.sub(m.sub(f.c(math.pi**2 / 6), m.mul(log, m.log1p(m.neg(m.select(low, y, half))))), r)
    r = m.select(low, mirrored, r)
    turned = m.sub(m.mul(m.mul(log, log), f.c(-0.5)), r)
    r = m.select(m.logical_or(far, high), turned, r)
    r = m.select(m.eq(x, f.c(0.0)), f.c(math.pi**2 / 6), m.select(m.isinf(x), m.neg(x), r))
    return m.select(m.lt(x, f.c(0.0)), f.c(math.nan), r)


# --- rows -------------------------------------------------------------------------------------------------------------
erfinv: Op = row(
    "erfinv", _erfinv, lambda y, x: (0.886226925452758 * E.exp(y * y),), singular=True, domain=(-0.9, 0.9),
    doc="The inverse of erf.",
)  # fmt: skip
erfcinv: Op = row(
    "erfcinv", _erfcinv, lambda y, x: (-0.886226925452758 * E.exp(y * y),), singular=True, domain=(0.1, 1.9),
    doc="The inverse of erfc, accurate for small x.",
)  # fmt: skip
dawsn: Op = row("dawsn", _dawsn, lambda y, x: (1.0 - 2.0 * x * y,), doc="Dawson's integral, e^−x²·∫₀ˣ e^t² dt.")
expint: Op = row(
    "expint", _expint, lambda y, x: (E.exp(x) / x,), domain=(0.1, 4.0), singular=True,
    doc="The exponential integral Ei(x), the integral of eᵗ / t from −∞ to x; −∞ at 0.",
)  # fmt: skip
fresnel_sin: Op = row(
    "fresnel_sin", lambda m, x: _fresnel(m, x, True), lambda y, x: (E.sin(x * x * (0.5 * math.pi)),),
    doc="Fresnel's integral S(x) = ∫₀ˣ sin(πt²/2) dt.",
)  # fmt: skip
fresnel_cos: Op = row(
    "fresnel_cos", lambda m, x: _fresnel(m, x, False), lambda y, x: (E.cos(x * x * (0.5 * math.pi)),),
    doc="Fresnel's integral C(x) = ∫₀ˣ cos(πt²/2) dt.",
)  # fmt: skip
spence: Op = row(
    "spence", _spence, lambda y, x: (_spence_slope(x),), domain=(0.1, 4.0), singular=True,
    doc="Spence's integral, ∫ log t / (1 − t) dt from 1 to x; NaN below 0.",
)  # fmt: skip


def _spence_slope(x: Any) -> Any:
    """log x / (1 − x); near 1, where its derivatives lose their digits, by its series."""
    near = E.less(E.abs_(x - 1.0), 0.1)
    u = E.where(near, x - 1.0, 0.0)
    series = E.cast(0.0, dtype=x.dtype)
    for k in range(17, -1, -1):
        series = series * u + (-1.0) ** (k + 1) / (k + 1)
    far = E.where(near, 2.0, x)
    return E.where(near, series, E.log(far) / (1.0 - far))
