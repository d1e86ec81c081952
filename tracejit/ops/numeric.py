"""Elementwise rows that NumPy has beyond TensorFlow, and functions of its protocol that are made of other rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracejit.ir.op import Op
from tracejit.ops import bessel
from tracejit.ops import elementwise as E
from tracejit.ops.args import floating, operand
from tracejit.ops.define import elementwise, numpy_name
from tracejit.ops.elementwise import F
from tracejit.tensor import NUMPY_UFUNCS, Tensor

_SMALLEST = {"float64": 5e-324, "float32": 1.401298464324817e-45, "float16": 2.0**-24, "bfloat16": 2.0**-133}
_DIGITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
_LARGEST = {
    "float64": 1.7976931348623157e308, "float32": 3.4028234663852886e38, "float16": 65504.0,
    "bfloat16": 3.3895313892515355e38,
}  # fmt: skip


def _hypot(m: Any, a: Any, b: Any) -> Any:
    """The larger one is taken out, so that squares neither overflow nor vanish."""
    d = a.dtype
    a, b = m.abs(a), m.abs(b)
    high, low = m.maximum(a, b), m.minimum(a, b)
    r = m.div(low, m.select(m.eq(high, m.const(0.0, d)), m.const(1.0, d), high))
    r = m.mul(high, m.sqrt(m.fma(r, r, m.const(1.0, d))))
    infinite = m.const(math.inf, d)
    return m.select(m.logical_or(m.eq(a, infinite), m.eq(b, infinite)), infinite, r)


def _cbrt(m: Any, x: Any) -> Any:
    """A step of Newton's method after a power, which has lost digits by the rounding of 1/3."""
    d = x.dtype
    a = m.abs(x)
    r = m.pow(a, m.const(1.0 / 3.0, d))
    usual = m.logical_and(m.gt(a, m.const(0.0, d)), m.lt(a, m.const(math.inf, d)))
    s = m.select(usual, r, m.const(1.0, d))
    s = m.sub(s, m.div(m.sub(s, m.div(a, m.mul(s, s))), m.const(3.0, d)))
    return m.copysign(m.select(usual, s, r), x)


def _nextafter(m: Any, x: Any, y: Any) -> Any:
    """x and between 5/8 and 5/4 of the distance of floats: rounded, that is the next one. Small ones are scaled, since
    this must not be rounded to whole denormals.
    """
    d = x.dtype
    a, up = m.abs(x), m.gt(y, x)
    tiny = m.le(a, m.const(_SMALLEST[d.name] * 2.0 ** (_DIGITS[d.name] - 1), d))  # the smallest normal number
    small = m.lt(a, m.const(1e-5, d))
    scale = 2.0**60 if d.bits > 16 else 1.0  # 16-bit floats are computed with more digits
    far = m.mul(x, m.select(small, m.const(scale, d), m.const(1.0, d)))
    move = m.mul(m.abs(far), m.const(1.25 * 2.0 ** -_DIGITS[d.name], d))
    far = m.select(up, m.add(far, move), m.sub(far, move))
    far = m.mul(far, m.select(small, m.const(1.0 / scale, d), m.const(1.0, d)))
    step = m.const(_SMALLEST[d.name], d)
    r = m.select(tiny, m.select(up, m.add(x, step), m.sub(x, step)), far)
    r = m.select(m.eq(r, m.const(0.0, d)), m.copysign(r, x), r)
    r = m.select(m.isinf(x), m.copysign(m.const(_LARGEST[d.name], d), x), r)
    r = m.select(m.eq(x, y), y, r)
    return m.select(m.logical_or(m.isnan(x), m.isnan(y)), m.const(math.nan, d), r)


hypot: Op = elementwise(
    "hypot", np.hypot, _hypot, lambda y, a, b: _shares(y, a, b), arity=2, np_names="hypot",
    doc="√(a² + b²), without overflow.", **F,
)  # fmt: skip
cbrt: Op = elementwise(
    "cbrt", np.cbrt, _cbrt, lambda y, x: (1.0 / (3.0 * y * y),), np_names="cbrt", domain=(0.1, 4.0), singular=True,
    doc="The real cube root.", **F,
)  # fmt: skip
nextafter: Op = elementwise(
    "nextafter", lambda a, b: _next(a, b), _nextafter, lambda y, a, b: (1.0, 0.0), arity=2, np_names="nextafter",
    doc="The float next to a towards b.", **F,
)  # fmt: skip


def _next(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    r = np.nextafter(a, b)
    return np.where(a == b, b, r) if a.dtype.itemsize == 2 else r  # of 0 and −0, the second, as for other floats


def _shares(y: Tensor, a: Tensor, b: Tensor) -> tuple:
    safe = E.where(E.equal(y, 0), 1.0, y)
    return (a / safe, b / safe)



# --- names of NumPy's protocol ----------------------------------------------------------------------------------------
def heaviside(x1: Any, x2: Any) -> Tensor:
    """0 below 0, 1 above, x2 at 0; NaN stays."""
    x = floating(x1)
    r = E.where(E.equal(x, 0), x2, E.where(E.less(x, 0), 0.0, 1.0))
    return E.where(E.isnan(x), x, r)


def logaddexp2(x1: Any, x2: Any) -> Tensor:
    """log₂(2^x1 + 2^x2) without overflow."""
    high, low = E.maximum(x1, x2), E.minimum(x1, x2)
    gap = E.where(E.equal(high, low), 0.0, E.sub(low, high))
    return E.add(high, E.mul(E.softplus(E.mul(gap, math.log(2.0))), 1.0 / math.log(2.0)))


def signbit(x: Any) -> Tensor:
    """Whether the sign is negative, that of −0 and of NaN too."""
    x = operand(x)
    return E.less(x, 0) if x.dtype.kind != "f" else E.less(E.copysign(E.cast(1.0, dtype=x.dtype), x), 0)


def _least_nan(choose: Any) -> Any:
    """The choice between two numbers; where one is NaN, the other."""

    def f(x1: Any, x2: Any) -> Tensor:
        r = choose(x1, x2)
        return r if r.dtype.kind != "f" else E.where(E.not_equal(x1, x1), x2, E.where(E.not_equal(x2, x2), x1, r))

    return f


@numpy_name("sinc")
def sinc(x: Any) -> Tensor:
    """sin(πx) / (πx), and 1 at 0."""
    x = floating(x)
    zero = E.equal(x, 0)
    angle = E.mul(E.where(zero, 1.0, x), math.pi)
    return E.where(zero, 1.0, E.div(E.sin(angle), angle))


@numpy_name("i0")
def i0(x: Any) -> Tensor:
    return bessel.i0(x)


NUMPY_UFUNCS |= {"heaviside": heaviside, "logaddexp2": logaddexp2, "signbit": signbit}
NUMPY_UFUNCS |= {"fmax": _least_nan(E.maximum), "fmin": _least_nan(E.minimum)}
