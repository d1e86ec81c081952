"""NumPy's functions of matrices on tensors: `np.linalg.inv(t)` and its like come here, and give what NumPy gives.

An argument that a function below does not take raises TypeError, upon which NumPy's own function runs on the values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tracejit.ir.types import int64
from tracejit.ops import decompose as F
from tracejit.ops import diagonals, einsum, linalg
from tracejit.ops import elementwise as E
from tracejit.ops import matrixfun as M
from tracejit.ops import shape as S
from tracejit.ops import solve as V
from tracejit.ops import spectra as P
from tracejit.ops.args import as_axis, operand
from tracejit.ops.array import cut, moveaxis
from tracejit.ops.creation import counter
from tracejit.ops.define import numpy_name
from tracejit.ops.reductions import reduce_max, reduce_sum
from tracejit.tensor import Operand, Tensor, convert


class QRResult(NamedTuple):
    Q: Tensor
    R: Tensor


class SVDResult(NamedTuple):
    U: Tensor
    S: Tensor
    Vh: Tensor


class EighResult(NamedTuple):
    eigenvalues: Tensor
    eigenvectors: Tensor


class EigResult(NamedTuple):
    eigenvalues: Tensor
    eigenvectors: Tensor


class SlogdetResult(NamedTuple):
    sign: Tensor
    logabsdet: Tensor


def _one(f: Callable[..., Any], *names: str) -> None:
    numpy_name(*names)(lambda a: f(a))


_one(V.inv, "inv")
_one(V.det, "det")
_one(P.svdvals, "svdvals")
_one(P.eigvals, "eigvals")
numpy_name("eig")(lambda a: EigResult(*P.eig(a)))
numpy_name("slogdet")(lambda a: SlogdetResult(*V.slogdet(a)))
numpy_name("kron")(lambda a, b: linalg.kron(a, b))
numpy_name("linalg.matmul")(lambda x1, x2: linalg.matmul(x1, x2))
numpy_name("linalg.outer")(lambda x1, x2: linalg.outer(x1, x2))
numpy_name("linalg.vecdot")(lambda x1, x2, *, axis=-1: linalg.vecdot(x1, x2, axis))
numpy_name("vector_norm")(lambda x, *, axis=None, keepdims=False, ord=2: linalg.vector_norm(x, axis, keepdims, ord))
numpy_name("matrix_norm")(lambda x, *, keepdims=False, ord="fro": linalg.matrix_norm(x, ord, keepdims))


@numpy_name("cholesky")
def cholesky(a: Any, *, upper: bool = False) -> Tensor:
    return V.adjoint(F.cholesky(V.adjoint(a))) if upper else F.cholesky(a)


@numpy_name("solve")
def solve(a: Any, b: Any) -> Tensor:
    x = operand(b)
    if x.ndim != 1:
        return V.solve(a, x)
    y = V.solve(a, V.column(x))
    return S.reshape(y, shape=tuple(y.shape[:-1]))


@numpy_name("qr")
def qr(a: Any, mode: str = "reduced") -> Any:
    if mode == "r":
        return F.qr(a)[1]
    if mode not in ("reduced", "complete"):
        raise TypeError("left to NumPy")
    return QRResult(*F.qr(a, mode == "complete"))


@numpy_name("svd")
def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    if not compute_uv:
        return P.svdvals(a)
    s, u, v = P.svd(a, full_matrices)
    return SVDResult(u, s, V.adjoint(v))


def _lower(a: Any, uplo: str) -> Any:
    return V.adjoint(a) if uplo.upper() == "U" else a


@numpy_name("eigh")
def eigh(a: Any, UPLO: str = "L") -> EighResult:
    return EighResult(*P.eigh(_lower(a, UPLO)))


@numpy_name("eigvalsh")
def eigvalsh(a: Any, UPLO: str = "L") -> Tensor:
    return P.eigvalsh(_lower(a, UPLO))


@numpy_name("pinv")
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue) -> Tensor:
    if rcond is None and rtol is not np._NoValue:
        (x,), d = V.brought(a)
        rcond = P.resolution(x, d) if rtol is None else rtol
    return P.pinv(a, 1e-15 if rcond is None else rcond)


@numpy_name("matrix_rank")
def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Tensor:
    if tol is None and rtol is not None:
        tol = E.mul(reduce_max(P.svdvals(A), -1), rtol)
    return E.cast(P.matrix_rank(A, tol), dtype=int64)


@numpy_name("matrix_power")
def matrix_power(a: Any, n: int) -> Tensor:
    return M.matrix_power(a, n)


@numpy_name("cond")
def cond(x: Any, p: Any = None) -> Tensor:
    if p is None or p in (2, -2):
        s = P.svdvals(x)
        last, n = s.ndim - 1, s.shape[-1]
        ends = [S.reshape(cut(s, last, i, 1), shape=tuple(s.shape[:-1])) for i in (0, n - 1)]
        return E.div(*(ends if p != -2 else ends[::-1]))
    return E.mul(linalg.norm(x, p, (-2, -1)), linalg.norm(V.inv(x), p, (-2, -1)))


@numpy_name("multi_dot")
def multi_dot(arrays: Any) -> Tensor:
    parts = [operand(a) for a in arrays]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    terms = [letters[i : i + 2] for i in range(len(parts))]
    if parts[0].ndim == 1:
        terms[0] = terms[0][1:]
    if parts[-1].ndim == 1:
        terms[-1] = terms[-1][:1]
    first, last = "" if parts[0].ndim == 1 else terms[0][0], "" if parts[-1].ndim == 1 else terms[-1][-1]
    return einsum.einsum(f"{','.join(terms)}->{first}{last}", *parts)


# --- diagonals and triangles ------------------------------------------------------------------------------------------
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    x = operand(a)
    if (as_axis(axis1, x.ndim), as_axis(axis2, x.ndim)) != (x.ndim - 2, x.ndim - 1):
        x = moveaxis(x, (axis1, axis2), (-2, -1))
    return diagonals.diag_part(x, k=int(offset))


numpy_name("diagonal")(diagonal)
numpy_name("linalg.diagonal")(lambda x, *, offset=0: diagonal(x, offset, -2, -1))


def _sum(x: Tensor, dtype: Any) -> Tensor:
    return reduce_sum(x if dtype is None else operand(x, dtype), -1)


numpy_name("trace")(lambda a, offset=0, axis1=0, axis2=1, dtype=None: _sum(diagonal(a, offset, axis1, axis2), dtype))
numpy_name("linalg.trace")(lambda x, *, offset=0, dtype=None: _sum(diagonal(x, offset, -2, -1), dtype))


@numpy_name("diag")
def diag(v: Any, k: int = 0) -> Tensor:
    x = operand(v)
    if x.ndim not in (1, 2):
        raise TypeError("left to NumPy, whose error it is")
    return diagonals.diag(x, k=int(k)) if x.ndim == 1 else diagonals.diag_part(x, k=int(k))


def _triangle(m: Any, k: int, lower: bool) -> Tensor:
    x = operand(m)
    if x.ndim < 2:
        raise TypeError("left to NumPy")
    away = E.sub(counter(x.shape[-1], 2, 1), counter(x.shape[-2], 2, 0))
    inside = E.less_equal(away, int(k)) if lower else E.greater_equal(away, int(k))
    return E.where(inside, x, convert(0, x.dtype))


numpy_name("tril")(lambda m, k=0: _triangle(m, k, True))
numpy_name("triu")(lambda m, k=0: _triangle(m, k, False))


def cross(a: Any, b: Any, *, axis: int = -1) -> Tensor:
    x, y = operand(a), operand(b)
    if not (_threes(x, axis) and _threes(y, axis)):
        raise TypeError("left to NumPy, which takes vectors of two elements")
    return linalg.cross(x, y, axis=axis)


def _threes(x: Operand, axis: int) -> bool:
    return bool(x.ndim) and isinstance(n := x.shape[as_axis(axis, x.ndim)], int) and n == 3


numpy_name("cross")(cross)
