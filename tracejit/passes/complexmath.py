"""Functions of complex numbers as ordinary code over their real and imaginary parts.

Special values are those of C's Annex G, as NumPy has them. Errors are small against the size of the result, as with
NumPy: one of its parts alone may lose digits where the other is far larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tracejit.ops import elementwise as E
from tracejit.tensor import Tensor

Real = Any  # a tensor of parts
Pair = tuple[Any, Any]
INFINITY = math.inf


class _Range:
    """Where squares leave the range of a type, factors that bring them back, and limits of the exponential."""

    def __init__(self, high: int, down: int, low: int, up: int, exp: float, tanh: float) -> None:
        self.high, self.down, self.low, self.up = 2.0**high, 2.0**down, 2.0**low, 2.0**up
        self.exp, self.tanh = exp, tanh  # eˣ is finite up to here; tanh x is 1 from here on


_RANGES = {
    "float32": _Range(60, -70, -50, 100, 88.0, 11.0),
    "float64": _Range(500, -600, -450, 700, 709.0, 22.0),
}


def _range(a: Tensor) -> _Range:
    return _RANGES[a.dtype.name]


def _number(x: float, like: Tensor) -> Real:
    return E.cast(x, dtype=like.dtype)


def _either(p: Tensor, *more: Tensor) -> Real:
    for q in more:
        p = E.logical_or(p, q)
    return p


def _both(p: Tensor, q: Tensor) -> Real:
    return E.logical_and(p, q)


def _infinite(a: Tensor, b: Tensor) -> Real:
    return _either(E.isinf(a), E.isinf(b))


def _no_number(b: Tensor) -> Real:
    return E.logical_not(E.isfinite(b))


def _by_size(m: Tensor, f: Callable[[float], float]) -> Real:
    """f of the factor by which numbers of size m are multiplied before they are squared."""
    r = _range(m)
    return E.where(m > r.high, f(r.down), E.where(m < r.low, f(r.up), _number(f(1.0), m)))


def sign(a: Tensor, b: Tensor) -> Pair:
    """z / |z|, and 0 of 0."""
    p, q = E.isinf(a), E.isinf(b)
    s = absolute(a, b)
    s = E.where(E.equal(s, 0.0), 1.0, E.where(_both(p, q), math.nan, s))
    return E.where(_both(p, E.logical_not(q)), E.copysign(1.0, a), E.where(q, 0.0, a) / s), (
        E.where(_both(q, E.logical_not(p)), E.copysign(1.0, b), E.where(p, 0.0, b) / s)
    )


# --- arithmetic -------------------------------------------------------------------------------------------------------
def mul(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Pair:
    return a * c - b * d, a * d + b * c


def square(a: Tensor, b: Tensor) -> Pair:
    p = a * b
    return a * a - b * b, p + p


def div(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Pair:
    """Smith's method: nothing overflows that need not."""
    x, y = E.abs_(c), E.abs_(d)
    first = x >= y
    p, q = E.where(first, c, d), E.where(first, d, c)
    ratio = q / p
    scale = 1.0 / (p + q * ratio)
    re = (E.where(first, a, b) + E.where(first, b, a) * ratio) * scale
    im = E.where(first, b - a * ratio, b * ratio - a) * scale
    zero = _both(E.equal(x, 0.0), E.equal(y, 0.0))
    return E.where(zero, a / x, re), E.where(zero, b / x, im)


def reciprocal(a: Tensor, b: Tensor) -> Pair:
    first = E.abs_(b) <= E.abs_(a)
    p, q = E.where(first, a, b), E.where(first, b, a)
    ratio = q / p
    d = p + q * ratio
    return E.where(first, 1.0, ratio) / d, -E.where(first, ratio, 1.0) / d


def multiply_no_nan(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Pair:
    re, im = mul(a, b, c, d)
    zero = _both(E.equal(c, 0.0), E.equal(d, 0.0))
    return E.where(zero, 0.0, re), E.where(zero, 0.0, im)


def absolute(a: Tensor, b: Tensor) -> Real:
    x, y = E.abs_(a), E.abs_(b)
    m = E.maximum(x, y)
    s = _by_size(m, lambda f: f)
    h = E.sqrt(E.square(x * s) + E.square(y * s)) * _by_size(m, lambda f: 1 / f)
    return E.where(_infinite(a, b), INFINITY, h)


# --- roots, exponentials and logarithms -------------------------------------------------------------------------------
def sqrt(a: Tensor, b: Tensor) -> Pair:
    x, y = E.abs_(a), E.abs_(b)
    m = E.maximum(x, y)
    s = _by_size(m, lambda f: f)
    p, q = x * s, y * s
    h = E.where(_infinite(a, b), INFINITY, E.sqrt(E.square(p) + E.square(q)))
    t = E.sqrt((p + h) * 0.5) * _by_size(m, lambda f: 1 / math.sqrt(f))
    right, other = a >= 0.0, 0.5 * (y / t)
    zero, vertical = E.equal(m, 0.0), E.isinf(b)
    re = E.where(vertical, INFINITY, E.where(zero, 0.0, E.where(right, t, other)))
    return re, E.where(_either(vertical, zero), b, E.copysign(E.where(right, other, t), b))


def rsqrt(a: Tensor, b: Tensor) -> Pair:
    return reciprocal(*sqrt(a, b))


def _growing(a: Tensor) -> tuple[Real, Real]:
    """eᵃ as a product of two numbers, of which the first stays finite a little longer."""
    r = _range(a)
    large = a > r.exp
    return E.exp(E.where(large, a - r.exp, a)), E.where(large, math.exp(r.exp), _number(1.0, a))


def exp(a: Tensor, b: Tensor) -> Pair:
    e, f = _growing(a)
    re, im = e * E.cos(b) * f, E.where(E.equal(b, 0.0), b, e * E.sin(b) * f)
    end = _both(E.isinf(a), _no_number(b))
    nothing = _both(end, a < 0.0)
    return E.where(end, E.where(nothing, 0.0, a), re), E.where(nothing, 0.0, im)


def sigmoid(a: Tensor, b: Tensor) -> Pair:
    """From e^−|a|, which does not overflow."""
    right = a >= 0.0
    p, q = exp(E.where(right, -a, a), E.where(right, -b, b))
    return div(E.where(right, 1.0, p), E.where(right, 0.0, q), 1.0 + p, q)


def exp2(a: Tensor, b: Tensor) -> Pair:
    return exp(a * math.log(2), b * math.log(2))


def expm1(a: Tensor, b: Tensor) -> Pair:
    half = E.sin(b * 0.5)
    return E.expm1(a) * E.cos(b) - 2.0 * half * half, E.exp(a) * E.sin(b)


def _log_size(a: Tensor, b: Tensor) -> Real:
    """log |a + bi|."""
    x, y = E.abs_(a), E.abs_(b)
    m, n = E.maximum(x, y), E.minimum(x, y)
    s = _by_size(m, lambda f: f)
    far = 0.5 * E.log(E.square(x * s) + E.square(y * s)) - _by_size(m, math.log)
    near = 0.5 * E.log1p((m - 1.0) * (m + 1.0) + n * n)
    size = E.where(_both(m >= 0.5, m < 2.0), near, far)
    return E.where(_infinite(a, b), INFINITY, size)


def log(a: Tensor, b: Tensor) -> Pair:
    return _log_size(a, b), E.atan2(b, a)


def log2(a: Tensor, b: Tensor) -> Pair:
    re, im = log(a, b)
    return re * math.log2(math.e), im * math.log2(math.e)


def log10(a: Tensor, b: Tensor) -> Pair:
    re, im = log(a, b)
    return re * math.log10(math.e), im * math.log10(math.e)


def log1p(a: Tensor, b: Tensor) -> Pair:
    small = _both(E.abs_(a) < 0.5, E.abs_(b) < 0.5)
    near = 0.5 * E.log1p(a * (a + 2.0) + b * b)
    return E.where(small, near, _log_size(a + 1.0, b)), E.atan2(b, a + 1.0)


def power(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Pair:
    """zʷ for any w."""
    p, q = log(a, b)
    re, im = exp(c * p - d * q, c * q + d * p)
    zero, no_exponent = _both(E.equal(a, 0.0), E.equal(b, 0.0)), _both(E.equal(c, 0.0), E.equal(d, 0.0))
    at_zero = E.where(c > 0.0, 0.0, _number(math.nan, c))
    re = E.where(no_exponent, 1.0, E.where(zero, at_zero, re))
    return re, E.where(no_exponent, 0.0, E.where(zero, at_zero, im))


def integer_power(n: int) -> Callable[[Tensor, Tensor], Pair]:
    """zⁿ by squaring and multiplying."""

    def run(a: Tensor, b: Tensor) -> Pair:
        total: Pair | None = None
        p: Pair = (a, b)
        left = abs(n)
        while left:
            if left & 1:
                total = p if total is None else mul(*total, *p)
            left >>= 1
            p = square(*p) if left else p
        assert total is not None
        if n > 0:
            return total
        return div(_number(1.0, a), _number(0.0, a), *total)

    return run


# --- trigonometry and hyperbolas --------------------------------------------------------------------------------------
def _hyperbolic(a: Tensor) -> tuple[Real, Real, Real]:
    """cosh a and sinh a, and a factor by which both are to be multiplied."""
    r = _range(a)
    x = E.abs_(a)
    large = x > r.exp
    u = E.expm1(E.where(large, x - r.exp, x))
    e = u + 1.0
    cosh = E.where(large, e, 0.5 * (e + 1.0 / e))
    sinh = E.where(large, e, E.where(E.isinf(u), u, 0.5 * (u + u / e)))
    return cosh, E.copysign(sinh, a), E.where(large, 0.5 * math.exp(r.exp), _number(1.0, a))


def sinh(a: Tensor, b: Tensor) -> Pair:
    ch, sh, f = _hyperbolic(a)
    kept = _both(_no_number(b), _either(E.isinf(a), E.equal(a, 0.0)))
    re = E.where(kept, E.where(E.isinf(a), INFINITY, a), sh * E.cos(b) * f)
    return re, E.where(E.equal(b, 0.0), b, ch * E.sin(b) * f)


def cosh(a: Tensor, b: Tensor) -> Pair:
    ch, sh, f = _hyperbolic(a)
    re, im = ch * E.cos(b) * f, sh * E.sin(b) * f
    zero = _both(_either(E.equal(a, 0.0), E.equal(b, 0.0)), E.isnan(im))
    return E.where(_both(_no_number(b), E.isinf(a)), INFINITY, re), E.where(zero, 0.0, im)


def tanh(a: Tensor, b: Tensor) -> Pair:
    """Kahan's formula, from tan b and sinh a."""
    end = _range(a).tanh
    x, t = E.abs_(a), E.tan(b)
    s = E.sinh(E.minimum(x, end))
    beta, ss = 1.0 + t * t, s * s
    d = 1.0 + beta * ss
    large = _both(x > end, _either(E.isinf(a), E.isfinite(b)))
    far = E.where(_both(E.isinf(a), _no_number(b)), 0.0, 4.0 * (t / beta) * E.exp(-2.0 * x))
    re = E.where(large, 1.0, E.where(E.equal(a, 0.0), 0.0, beta * E.sqrt(1.0 + ss) * s / d))
    return E.copysign(re, a), E.where(large, far, E.where(E.equal(b, 0.0), b, t / d))


def sin(a: Tensor, b: Tensor) -> Pair:
    p, q = sinh(b, -a)
    return -q, p


def cos(a: Tensor, b: Tensor) -> Pair:
    return cosh(-b, a)


def tan(a: Tensor, b: Tensor) -> Pair:
    p, q = tanh(-b, a)
    return q, -p


def asin(a: Tensor, b: Tensor) -> Pair:
    """Kahan's formulas, as all the inverse functions."""
    (p, q), (r, s) = sqrt(1.0 - a, -b), sqrt(1.0 + a, b)
    end = _infinite(a, b)
    re = E.where(end, E.atan2(a, E.abs_(b)), E.atan2(a, p * r - q * s))
    im = E.where(end, E.copysign(INFINITY, b), E.asinh(p * s - q * r))
    return E.where(E.equal(a, 0.0), a, re), im


def acos(a: Tensor, b: Tensor) -> Pair:
    (p, q), (r, s) = sqrt(1.0 - a, -b), sqrt(1.0 + a, b)
    end = _infinite(a, b)
    re = E.where(end, E.atan2(E.abs_(b), a), 2.0 * E.atan2(p, r))
    im = E.where(end, E.copysign(INFINITY, -b), E.asinh(r * q - s * p))
    return E.where(E.equal(a, 0.0), math.pi / 2, re), im


def atanh(a: Tensor, b: Tensor) -> Pair:
    x = E.abs_(a)
    u = 1.0 - x
    h = absolute(u, b)
    tiny = 2.0 / _range(a).high
    re = E.where(h < tiny, 0.5 * (math.log(2) - E.log(h)), 0.25 * E.log1p(x / h / h * 4.0))
    re = E.where(_either(_infinite(a, b), E.equal(a, 0.0)), 0.0, re)
    im = 0.5 * E.atan2(b, 0.5 * (u * (1.0 + x) - b * b))
    half = E.copysign(E.where(E.isnan(b), b, math.pi / 2), b)
    return E.copysign(re, a), E.where(_infinite(a, b), half, im)


def asinh(a: Tensor, b: Tensor) -> Pair:
    p, q = asin(-b, a)
    return q, -p


def acosh(a: Tensor, b: Tensor) -> Pair:
    p, q = acos(a, b)
    return E.abs_(q), E.copysign(p, b)


def atan(a: Tensor, b: Tensor) -> Pair:
    p, q = atanh(-b, a)
    return q, -p


# --- questions --------------------------------------------------------------------------------------------------------
def equal(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Real:
    return _both(E.equal(a, c), E.equal(b, d))


def not_equal(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Real:
    return _either(E.not_equal(a, c), E.not_equal(b, d))


def isnan(a: Tensor, b: Tensor) -> Real:
    return _either(E.isnan(a), E.isnan(b))


def isinf(a: Tensor, b: Tensor) -> Real:
    return _infinite(a, b)


def isfinite(a: Tensor, b: Tensor) -> Real:
    return _both(E.isfinite(a), E.isfinite(b))


FORMULAS: dict[str, Callable[..., Any]] = {
    "mul": mul, "square": square, "div": div, "reciprocal": reciprocal, "multiply_no_nan": multiply_no_nan, "abs":
    absolute, "sqrt": sqrt, "rsqrt": rsqrt, "exp": exp, "exp2": exp2, "expm1": expm1, "log": log, "log2": log2, "sign":
    sign, "sigmoid": sigmoid, "log10": log10, "log1p": log1p, "pow": power, "sin": sin, "cos": cos, "tan": tan, "asin":
    asin, "acos": acos, "atan": atan, "sinh": sinh, "cosh": cosh, "tanh": tanh, "asinh": asinh, "acosh": acosh,
    "atanh": atanh, "equal": equal, "not_equal": not_equal, "isnan": isnan, "isinf": isinf, "isfinite": isfinite,
}  # fmt: skip
