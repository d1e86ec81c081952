"""NumPy forms of public functions of linear algebra, for a few eager operands of the usual kind."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tracejit.ops.direct import SUMMED, Refused
from tracejit.ops.elementwise import square

_matmul, _where, _sum, _square, _sqrt = np.matmul, np.where, np.add.reduce, np.square, np.sqrt
_solve, _cholesky = np.linalg.solve, np.linalg.cholesky
_SMALL = 64  # unknowns


# --- products and norms -----------------------------------------------------------------------------------------------
def product(a: Any, b: Any, ta: Any, tb: Any) -> np.ndarray:
    x, y = a._a, b._a
    if x.dtype is not y.dtype or x.dtype.char not in SUMMED or x.ndim < 2 or y.ndim < 2:
        raise Refused
    return _matmul(x.swapaxes(-1, -2) if ta else x, y.swapaxes(-1, -2) if tb else y)  # type: ignore[no-any-return]


def folded(a: Any, b: Any, axes: Any) -> np.ndarray:
    """Sums over the last axis of one and the first of the other."""
    x, y = a._a, b._a
    if type(axes) is not int or axes != 1 or x.dtype is not y.dtype or x.dtype.char not in SUMMED:
        raise Refused
    if not 0 < x.ndim <= 2 or not 0 < y.ndim <= 2:
        raise Refused
    return _matmul(x, y)  # type: ignore[no-any-return]


def matvec(a: Any, b: Any, ta: Any) -> np.ndarray:
    x, y = a._a, b._a
    if x.dtype is not y.dtype or x.dtype.char not in SUMMED or x.ndim < 2 or not y.ndim:
        raise Refused
    z = _matmul(x.swapaxes(-1, -2) if ta else x, y.reshape((*y.shape, 1)))
    return z.reshape(z.shape[:-1])  # type: ignore[no-any-return]


def euclidean_norm(tensor: Any) -> np.ndarray:
    """√Σx² over all elements."""
    a = tensor._a
    if a.dtype.char not in "fd":
        raise Refused
    native: Any = square.native
    y = _square(a) if native is None or (r := native(tensor)) is NotImplemented else r._a
    return np.asarray(_sqrt(_sum(y) if y.ndim == 1 else _sum(y, None)))


# --- equations --------------------------------------------------------------------------------------------------------
@functools.lru_cache(2 * _SMALL)
def _triangle(n: int, lower: bool) -> np.ndarray:
    """Where a triangle of a matrix is."""
    return np.tri(n, n, 0, bool) if lower else np.tri(n, n, 0, bool).T


def _matrices(matrix: Any, rhs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices of one type, with as many rows."""
    a, b = matrix._a, rhs._a
    if a.dtype is not b.dtype or a.dtype.char not in "fd" or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[0]:
        raise Refused
    if not a.size or not b.size:
        raise Refused
    return a, b


def triangular_solve(matrix: Any, rhs: Any, lower: Any, adjoint: Any) -> np.ndarray:
    """The kernel's steps for one small matrix."""
    a, b = _matrices(matrix, rhs)
    n = a.shape[0]
    if a.shape[1] != n or n > _SMALL or type(lower) is not bool or type(adjoint) is not bool:
        raise Refused
    t = _where(_triangle(n, lower), a, a.dtype.type(0))
    if 0 in t.diagonal().tolist():
        raise Refused
    if adjoint:
        t = t.T
    return _solve(t[::-1, ::-1], b[::-1])[::-1] if lower != adjoint else _solve(t, b)


def lstsq(matrix: Any, rhs: Any, l2_regularizer: Any, fast: Any) -> np.ndarray:
    """By the normal equations, whose matrix has to have Cholesky factors."""
    a, b = _matrices(matrix, rhs)
    if fast is not True or type(l2_regularizer) is not float or l2_regularizer or a.shape[0] < a.shape[1]:
        raise Refused
    t = a.T
    gram = _matmul(t, a)
    _cholesky(gram)
    return _solve(gram, _matmul(t, b))  # type: ignore[no-any-return]
