"""The inverse of the error function: its NumPy kernel and its scalar form."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.ops import elementwise as E
from tracejit.ops import kernels as K
from tracejit.ops.define import elementwise

# M. Giles, "Approximating the erfinv function" (GPU Computing Gems, 2010): relative error below 4e-7
_MIDDLE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip
_SLOPE = 1.1283791670955126  # of erf at 0


def _numpy(x: np.ndarray) -> np.ndarray:
    y = np.abs(x.astype(np.float64))
    w = -np.log((1.0 - y) * (1.0 + y))
    middle = w < 5.0
    t = np.where(middle, w - 2.5, np.sqrt(w) - 3.0)
    p = np.where(middle, _MIDDLE[0], _TAIL[0])
    for a, b in zip(_MIDDLE[1:], _TAIL[1:]):
        p = p * t + np.where(middle, a, b)
    r = p * y
    # one step of Halley's method; for large values through erfc, which keeps the digits there
    miss = np.where(y < 0.5, K.erf(r) - y, (1.0 - y) - K.erfc(r))
    u = miss / (_SLOPE * np.exp(-r * r))
    r = r - u / (1.0 + r * u)
    return np.copysign(np.where(y == 1.0, np.inf, r), x.astype(np.float64)).astype(x.dtype)


def _scalar(m: Any, x: Any) -> Any:
    def c(v: float) -> Any:
        return m.const(v, x.dtype)

    y = m.abs(x)
    w = m.neg(m.log(m.mul(m.sub(c(1.0), y), m.add(c(1.0), y))))
    middle = m.lt(w, c(5.0))
    t = m.select(middle, m.sub(w, c(2.5)), m.sub(m.sqrt(w), c(3.0)))
    p = m.select(middle, c(_MIDDLE[0]), c(_TAIL[0]))
    for a, b in zip(_MIDDLE[1:], _TAIL[1:]):
        p = m.fma(p, t, m.select(middle, c(a), c(b)))
    r = m.mul(p, y)
    if x.dtype.bits == 64:
        miss = m.select(m.lt(y, c(0.5)), m.sub(m.erf(r), y), m.sub(m.sub(c(1.0), y), m.erfc(r)))
        u = m.div(miss, m.mul(c(_SLOPE), m.exp(m.neg(m.mul(r, r)))))
        r = m.sub(r, m.div(u, m.add(c(1.0), m.mul(r, u))))
    return m.copysign(m.select(m.eq(y, c(1.0)), c(float("inf")), r), x)


erfinv = elementwise(
    "erfinv", E.of_reals(_numpy), _scalar, lambda y, x: (0.886226925452758 * E.exp(y * y),), singular=True,
    promote="float", dtypes="f", domain=(-0.9, 0.9), doc="The inverse of erf.",
)  # fmt: skip
