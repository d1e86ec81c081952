"""The public special functions, under TensorFlow's names."""

from __future__ import annotations

from typing import Any

from tracejit.context import activity
from tracejit.ops import bessel, beta, gamma, incomplete, numeric, special
from tracejit.ops import elementwise as E
from tracejit.ops.args import floating
from tracejit.ops.define import public
from tracejit.ops.quick import traced
from tracejit.ops.reductions import reduce_sum
from tracejit.tensor import Tensor

lgamma, digamma = public(gamma.lgamma), public(gamma.digamma)
erfcinv = public(special.erfcinv)
bessel_i0, bessel_i1 = public(bessel.i0), public(bessel.i1)
bessel_i0e, bessel_i1e = public(bessel.i0e), public(bessel.i1e)
bessel_k0, bessel_k1 = public(bessel.k0), public(bessel.k1)
bessel_k0e, bessel_k1e = public(bessel.k0e), public(bessel.k1e)
bessel_j0, bessel_j1 = public(bessel.j0), public(bessel.j1)
bessel_y0, bessel_y1 = public(bessel.y0), public(bessel.y1)
dawsn, expint, spence = public(special.dawsn), public(special.expint), public(special.spence)
fresnel_cos, fresnel_sin = public(special.fresnel_cos), public(special.fresnel_sin)
_zeta, _polygamma, _nextafter = public(gamma.zeta), public(gamma.polygamma), public(numeric.nextafter)
_igamma, _igammac, _betaln = public(incomplete.igamma), public(incomplete.igammac), public(beta.betaln)


def zeta(x: Any, q: Any, name: str | None = None) -> Tensor:
    """Hurwitz's zeta function, the sum of (q + k)^−x over k ≥ 0, with broadcasting.

    It is ∞ for x = 1 and for q = 0, −1, −2, …; NaN for x < 1, and for q < 0 unless x is a whole number. Differentiable
    along both, where TensorFlow's is along q only; the derivative along x, which is NaN for q < 0, is differentiable
    along q only and raises `GradientError` along x.
    """
    return _zeta(x, q)


def polygamma(a: Any, x: Any, name: str | None = None) -> Tensor:
    """The a-th derivative of digamma at x, with broadcasting; NaN where a is negative or not a whole number.

    Differentiable along x. There is no derivative along a: asking for one raises `GradientError`, where TensorFlow's
    gradient is None.
    """
    return _polygamma(a, x)


def igamma(a: Any, x: Any, name: str | None = None) -> Tensor:
    """The regularized lower incomplete gamma function P(a, x) = ∫₀ˣ t^(a−1)·e^−t dt / Γ(a), with broadcasting.

    NaN for negative operands. Differentiable along both; the derivative along a is differentiable along x only, and
    raises `GradientError` along a.
    """
    return _igamma(a, x)


def igammac(a: Any, x: Any, name: str | None = None) -> Tensor:
    """The regularized upper incomplete gamma function Q(a, x) = 1 − P(a, x), accurate where it is small."""
    return _igammac(a, x)


def betainc(a: Any, b: Any, x: Any, name: str | None = None) -> Tensor:
    """The regularized incomplete beta function I_x(a, b) = ∫₀ˣ t^(a−1)·(1−t)^(b−1) dt / B(a, b), with broadcasting.

    NaN for negative a and b and outside 0 ≤ x ≤ 1. Differentiable along all three, where TensorFlow's is along x only;
    the derivatives along a and b are differentiable along x only, and raise `GradientError` along a and b.
    """
    return beta.betainc(a, b, x)


def betaln(a: Any, b: Any, name: str | None = None) -> Tensor:
    """log B(a, b) = lgamma(a) + lgamma(b) − lgamma(a + b) for a and b ≥ 0, accurate where these nearly cancel."""
    return _betaln(a, b)


def lbeta(x: Any, name: str | None = None) -> Tensor:
    """log |B(x)| = Σ lgamma(xᵢ) − lgamma(Σ xᵢ) along the last axis; −∞ where that is empty.

    Raises `ShapeError` for a 0-d x, which has no axis.
    """
    x = floating(x)
    return E.sub(reduce_sum(lgamma(x), -1), lgamma(reduce_sum(x, -1)))


def nextafter(x1: Any, x2: Any, name: str | None = None) -> Tensor:
    """The float next to x1 in the direction of x2, with broadcasting. Its slope along x1 is 1, along x2 0."""
    if not activity.busy and (quick := traced(nextafter, x1, x2)) is not None:
        return quick
    return _nextafter(x1, x2)


def reciprocal_no_nan(x: Any, name: str | None = None) -> Tensor:
    """1 / x, and 0 where x is 0; integers give floating results."""
    if not activity.busy and (quick := traced(reciprocal_no_nan, x)) is not None:
        return quick
    x = floating(x)
    zero = E.equal(x, 0)
    return E.where(zero, 0, E.reciprocal(E.where(zero, 1, x)))
