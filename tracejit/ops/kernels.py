"""NumPy kernels that NumPy lacks: casts with defined results, sigmoid, erf and the like."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.ir.types import DType, as_dtype, complex64, complex128, float32, float64


def is_half(dtype: np.dtype) -> bool:
    """Whether elements are 16-bit floats, which are summed as float32."""
    return dtype.itemsize == 2 and dtype.kind in "fV"


_all = np.logical_and.reduce
_BEYOND = {bits: 2.0 ** (bits - 1) for bits in (8, 16, 32, 64)}


def cast(x: np.ndarray, *, dtype: DType, weak: bool = False) -> np.ndarray:
    """NumPy's conversion, except that floats outside an integer type's range saturate and NaN gives 0."""
    if x.dtype == dtype.np:
        return x
    if dtype.kind != "c" and x.dtype.kind == "c":
        x = x.real
    if dtype.kind in "iu" and x.dtype.kind in "fV":  # V: bfloat16
        if x.dtype.kind == "f" and dtype.kind == "i" and _all(np.abs(x) < _BEYOND[dtype.bits], None):
            return x.astype(dtype.np)
        info = np.iinfo(dtype.np)
        wide = x.astype(np.float64)
        out = np.nan_to_num(wide, nan=0.0, posinf=np.inf, neginf=-np.inf)
        low, high = out <= float(info.min), out >= float(info.max)
        r = np.where(low | high, 0.0, out).astype(dtype.np)
        return np.where(low, info.min, np.where(high, info.max, r)).astype(dtype.np)
    return x.astype(dtype.np)


def multiply_no_nan(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(y == 0, np.zeros((), y.dtype), x * y)


def truncdiv(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    q = np.floor_divide(a, b)
    return q + ((np.mod(a, b) != 0) & ((a < 0) ^ (b < 0)) & (b != 0)).astype(a.dtype)


def rsqrt(x: np.ndarray) -> np.ndarray:
    return np.reciprocal(np.sqrt(x))


def power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind in "iu":
        # a negative power of an integer is 0 except for ±1, as truncation has it
        if np.any(b < 0):
            safe = np.power(a, np.where(b < 0, 0, b).astype(b.dtype))
            odd = np.where(b % 2 != 0, a, 1)
            return np.where(b < 0, np.where(a == 1, 1, np.where(a == -1, odd, 0)), safe).astype(a.dtype)
    return np.power(a, b)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, _numbers(x.dtype)[0])


def _in_double(f: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Single precision by way of double, so that native code gives the same bits; 16 bits are rounded once, too."""

    def run(x: np.ndarray) -> np.ndarray:
        wide = np.float64 if x.dtype.char == "f" else np.float32 if is_half(x.dtype) else None
        return f(x) if wide is None else f(x.astype(wide)).astype(x.dtype)

    return run


def _complex_sigmoid(x: np.ndarray) -> np.ndarray:
    """From e^−|re x|, which does not overflow."""
    right = x.real >= 0
    w = np.exp(np.where(right, -x, x))
    return np.where(right, 1, w) / (1 + w)


@_in_double
def sigmoid(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "c":
        return _complex_sigmoid(x.astype(np.complex128)).astype(x.dtype)
    zero, one, minus = _numbers(x.dtype)
    return np.exp(np.minimum(x, zero)) / (np.exp(np.copysign(x, minus)) + one)


@functools.cache
def _numbers(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """0, 1 and −1."""
    return np.zeros((), dtype), np.ones((), dtype), -np.ones((), dtype)


@_in_double
def softplus(x: np.ndarray) -> np.ndarray:
    zero, _, minus = _numbers(x.dtype)
    return np.maximum(x, zero) + np.log1p(np.exp(np.copysign(x, minus)))


# erf(x) = x + x P(x²) / Q(x²) up to 0.84375, error below 1 ulp: the coefficients of FreeBSD's s_erf.c (Sun, 1993).
_NEAR = 0.84375
_P1 = (
    -2.37630166566501626084e-05, -5.77027029648944159157e-03, -2.84817495755985104766e-02,
    -3.25042107247001499370e-01, 1.28379167095512558561e-01,
)  # fmt: skip
_Q1 = (
    -3.96022827877536812320e-06, 1.32494738004321644526e-04, 5.08130628187576562776e-03, 6.50222499887672944485e-02,
    3.97917223959155352819e-01, 1.0,
)  # fmt: skip
# Beyond, rational approximations of erfc by W. J. Cody (Math. Comp. 23, 1969), relative error below 1.2e-16.
_P2 = (
    5.64188496988670089e-1, 8.88314979438837594e00, 6.61191906371416295e01, 2.98635138197400131e02,
    8.81952221241769090e02, 1.71204761263407058e03, 2.05107837782607147e03, 1.23033935479799725e03,
    2.15311535474403846e-8,
)  # fmt: skip
_Q2 = (
    1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02, 1.62138957456669019e03,
    3.29079923573345963e03, 4.36261909014324716e03, 3.43936767414372164e03, 1.23033935480374942e03,
)  # fmt: skip
_P3 = (
    3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1, 1.60837851487422766e-2,
    6.58749161529837803e-4, 1.63153871373020978e-2,
)  # fmt: skip
_Q3 = (
    2.56852019228982242e00, 1.87295284992346725e00, 5.27905102951428412e-1, 6.05183413124413191e-2,
    2.33520497626869185e-3,
)  # fmt: skip


def _columns() -> np.ndarray:
    """The coefficients in Horner's order, a column for each step: of numerators and denominators, near 0, then up to 4,
    then beyond. Steps before a polynomial's first have zeros."""
    rows = [list(_P1), list(_Q1)]
    for numerator, denominator in ((_P2, _Q2), (_P3, _Q3)):
        *middle, last = numerator[:-1]
        rows += [[numerator[-1], *middle, last], [1.0, *denominator]]
    steps = max(map(len, rows))
    return np.array([[0.0] * (steps - len(row)) + row for row in rows]).T[:, :, None].copy()


_COEFFICIENTS = _columns()


_FEW = 32  # elements up to which the coefficients are kept once for each


@functools.cache
def _spread(n: int) -> np.ndarray:
    return np.repeat(_COEFFICIENTS, n, 2)


def _parts(w: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """erf for |w| ≤ 0.84375, and erfc of y = |w| above 0.46875."""
    small = np.minimum(np.maximum(w, -_NEAR), _NEAR)
    y = np.minimum(np.maximum(y, 0.4), 30.0)
    v = np.empty((6, w.size))
    v[:2], v[2:4], v[4:] = small * small, y, 1.0 / (y * y)
    first, *middle, last = _COEFFICIENTS if w.size > _FEW else _spread(w.size)
    r = first * v
    for c in middle:
        r += c
        r *= v
    r += last
    far = (0.56418958354775628695 - v[4] * r[4] / r[5]) / y
    tail = np.where(y <= 4.0, r[2] / r[3], far)
    cut = np.trunc(y * 16.0) / 16.0
    return small + small * (r[0] / r[1]), np.exp(-cut * cut) * np.exp(-(y - cut) * (y + cut)) * tail


_BLOCK = 2048  # elements at a time: what is computed of them stays in the cache


def _in_blocks(f: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """An elementwise function of lines of float64 as one of arrays of any floating type."""

    def run(x: np.ndarray) -> np.ndarray:
        w = x.reshape(-1).astype(np.float64)
        for at in range(0, w.size, _BLOCK):
            w[at : at + _BLOCK] = f(w[at : at + _BLOCK])
        return w.reshape(x.shape).astype(x.dtype, copy=False)

    return run


@_in_blocks
def erf(w: np.ndarray) -> np.ndarray:
    y = np.abs(w)
    small, tail = _parts(w, y)
    return np.where(np.isnan(w), w, np.where(y <= _NEAR, small, np.copysign(1.0 - tail, w)))


@_in_blocks
def erfc(w: np.ndarray) -> np.ndarray:
    y = np.abs(w)
    small, tail = _parts(w, y)
    return np.where(np.isnan(w), w, np.where(y <= 0.46875, 1.0 - small, np.where(w < 0, 2.0 - tail, tail)))


def on_integers_identity(f: Callable[..., Any]) -> Callable[..., Any]:
    """Rounding leaves integers as they are."""
    return lambda x: x if x.dtype.kind in "iub" else f(x)


def scalar_on_integers_identity(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda m, x, **attrs: x if x.dtype.kind in "iub" else f(m, x, **attrs)


def real_dtype(d: DType) -> DType:
    return float32 if d is complex64 else float64


def complex_dtype(d: DType) -> DType:
    return complex64 if d is float32 else complex128


def join(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The complex numbers with these parts; a sum would make NaN of infinite ones."""
    if a.dtype != b.dtype or a.dtype.char not in "fd":
        raise TypeError("no complex type has such parts")  # the row's types explain it
    out = np.empty(np.broadcast_shapes(a.shape, b.shape), complex_dtype(as_dtype(a.dtype)).np)
    out.real, out.imag = a, b
    return out


def result_dtype(d: DType, kind: str) -> DType:
    return as_dtype("bool") if kind == "bool" else d
