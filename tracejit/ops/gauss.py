"""Normal numbers in float64 from operations that IEEE 754 defines to the last bit: the same on every backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.errors import DTypeError
from tracejit.ir.op import Op
from tracejit.ir.types import TensorType, broadcast_shapes, float64
from tracejit.ops.frequent import count

_ATANH = [1.0 / (2 * k + 1) for k in range(12)]
_SINE = [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(9)]
_COSINE = [(-1.0) ** k / math.factorial(2 * k) for k in range(10)]
# M. Giles, "Approximating the erfinv function" (GPU Computing Gems, 2010): the middle of the double-precision form
_ERFINV = [
    1.6536545626831027356, 0.24015818242558961693, -0.0060336708714301490533, -0.00074070253416626697512,
    0.0001867342080340571352, -1.3882523362786468719e-05, -1.3654692000834678645e-06, 4.2347877827932403518e-07,
    -2.9070369957882005086e-08, -4.1126339803469836976e-09, 1.051212273321532285e-09, -5.4154120542946279317e-11,
    -1.2975133253453532498e-11, 2.6335093153082322977e-12, -8.1519341976054721522e-14, -4.0545662729752068639e-14,
    6.6376381343583238325e-15, 2.0972767875968561637e-17, -1.333171662854620906e-16, 1.115787767802518096e-17,
    1.2858480715256400167e-18, -1.685059138182016589e-19, -3.6444120640178196996e-21,
]  # fmt: skip


class _Arrays:
    """The part of the scalar protocol that is used here, on arrays."""

    const = staticmethod(lambda value, dtype: np.float64(value))
    add, sub, mul, div, neg = np.add, np.subtract, np.multiply, np.divide, np.negative
    sqrt, round, lt, eq = np.sqrt, np.rint, np.less, np.equal
    logical_or, select = np.logical_or, np.where


def _polynomial(m: Any, z: Any, coefficients: list[float]) -> Any:
    """Horner's rule without fused multiplication, which not every backend has."""
    p = m.const(coefficients[-1], float64)
    for c in reversed(coefficients[:-1]):
        p = m.add(m.mul(p, z), m.const(c, float64))
    return p


def _log(m: Any, x: Any, steps: tuple[int, ...]) -> Any:
    """The logarithm of a number from 2 to the power −Σ steps up to 1."""

    def c(v: float) -> Any:
        return m.const(v, float64)

    exponent = m.mul(x, c(0.0))
    for k, limit in [*[(k, 2.0**-k) for k in steps], (1, math.sqrt(0.5))]:
        small = m.lt(x, c(limit))
        x = m.select(small, m.mul(x, c(2.0**k)), x)
        exponent = m.select(small, m.sub(exponent, c(k)), exponent)
    s = m.div(m.sub(x, c(1.0)), m.add(x, c(1.0)))
    tail = m.mul(m.mul(s, c(2.0)), _polynomial(m, m.mul(s, s), _ATANH))
    return m.add(m.mul(exponent, c(math.log(2.0))), tail)


def _normal(m: Any, u: Any, turn: Any) -> Any:
    """√(−2 log u) · cos 2πt, for u in (0, 1] and t in [−¼, 1)."""

    def c(v: float) -> Any:
        return m.const(v, float64)

    four = m.mul(turn, c(4.0))
    q = m.round(four)
    r = m.mul(m.sub(four, q), c(math.pi / 2))
    z = m.mul(r, r)
    sine, cosine = m.mul(r, _polynomial(m, z, _SINE)), _polynomial(m, z, _COSINE)
    odd = m.logical_or(m.eq(q, c(1.0)), m.logical_or(m.eq(q, c(3.0)), m.eq(q, c(-1.0))))
    below = m.logical_or(m.eq(q, c(1.0)), m.eq(q, c(2.0)))
    y = m.select(odd, sine, cosine)
    radius = m.sqrt(m.mul(_log(m, u, (32, 16, 8, 4, 2, 1)), c(-2.0)))
    return m.mul(radius, m.select(below, m.neg(y), y))


def _quantile(m: Any, x: Any) -> Any:
    """The inverse of erf for |x| < 0.99."""
    one = m.const(1.0, float64)
    w = m.neg(_log(m, m.mul(m.sub(one, x), m.add(one, x)), (4, 2, 1)))
    return m.mul(_polynomial(m, m.sub(w, m.const(3.125, float64)), _ERFINV), x)


_BLOCK = 8192  # elements at a time: what is between stays in the cache


def _row(name: str, arity: int, formula: Callable[..., Any], domain: Any, doc: str) -> Op:
    def infer(*types: TensorType) -> TensorType:
        for t in types:
            if t.dtype is not float64:
                raise DTypeError(f"dtype {t.dtype.name}; it takes float64")
        return TensorType(float64, broadcast_shapes(*[t.shape for t in types]))

    def kernel(*arrays: np.ndarray) -> np.ndarray:
        shape = np.broadcast_shapes(*[a.shape for a in arrays])
        flat = [np.broadcast_to(a, shape).reshape(-1) for a in arrays]
        out = np.empty(flat[0].shape, np.float64)
        for at in range(0, out.size, _BLOCK):
            out[at : at + _BLOCK] = formula(_Arrays, *[a[at : at + _BLOCK] for a in flat])
        return out.reshape(shape)

    op = Op(
        name, "elementwise", infer, kernel, scalar=formula, arity=arity, dtypes="f", result="float64", domain=domain,
        doc=doc,
    )  # fmt: skip
    count(op)
    return op


normal64 = _row("random_normal64", 2, _normal, (0.01, 0.99), "√(−2 log u) · cos 2πt, the same bits everywhere.")
quantile64 = _row("random_quantile64", 1, _quantile, (-0.95, 0.95), "The inverse of erf, the same bits everywhere.")
