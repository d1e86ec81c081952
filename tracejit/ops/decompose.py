"""Decompositions of matrices, batched over leading axes, with their derivatives, and what is written with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.autodiff.forward import by_double_vjp
from tracejit.context import activity
from tracejit.errors import ShapeError, locate
from tracejit.ir.op import Op
from tracejit.ir.sizes import known_equal
from tracejit.ir.types import TensorType, as_dtype, broadcast_shapes, int32, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import matrixkernels as K
from tracejit.ops import shape as S
from tracejit.ops.args import Size, operand
from tracejit.ops.array import concat, cut
from tracejit.ops.kernels import real_dtype
from tracejit.ops.linalg import diag, diag_part
from tracejit.ops.linalg import own_matmul as matmul
from tracejit.ops.quick import planned
from tracejit.ops.reductions import reduce_sum
from tracejit.ops.results import Lu, Qr
from tracejit.ops.select import argsort, gather
from tracejit.ops.solve import (
    adjoint,
    brought,
    check_matrices,
    check_square,
    given,
    identity_like,
    square,
    triangle,
    triangular_op,
)
from tracejit.tensor import Operand, Tensor


def with_jvp(op: Op) -> Op:
    """Forward mode as the transpose of a row's vjp, which is linear in the cotangent."""

    def jvp(t: tuple, y: Any, *x: Tensor, **attrs: Any) -> Any:
        outs = y if type(y) is tuple else (y,)
        made = by_double_vjp(op, t, outs, x, attrs)
        return made if len(outs) > 1 else made[0]

    op.jvp = jvp
    return op


def real_of(d: Any) -> Any:
    return real_dtype(d) if d.kind == "c" else d


# --- Cholesky ---------------------------------------------------------------------------------------------------------
def _cholesky_vjp(g: Tensor, y: Tensor, a: Tensor) -> tuple:
    """I. Murray, "Differentiation of the Cholesky decomposition" (2016); symmetric, as in TensorFlow."""
    m = triangle(matmul(y, g, adjoint_a=True), True, half=True)
    s = triangular_op(y, adjoint(triangular_op(y, m, lower=True, adjoint=True)), lower=True, adjoint=True)
    return (E.mul(E.add(s, adjoint(s)), 0.5),)


def _cholesky_jvp(t: tuple, y: Tensor, a: Tensor) -> Tensor:
    s = E.mul(E.add(t[0], adjoint(t[0])), 0.5)
    s = triangular_op(y, adjoint(triangular_op(y, s, lower=True, adjoint=False)), lower=True, adjoint=False)
    return matmul(y, triangle(s, True, half=True))


cholesky_op: Op = Op(
    "cholesky", "opaque", square, K.explained(np.linalg.cholesky, "is not positive definite"), vjp=_cholesky_vjp,
    jvp=_cholesky_jvp, dtypes="fc", doc="Lower triangles L with L Lᴴ = a, for positive definite matrices.",
)  # fmt: skip


def cholesky(input: Any, name: str | None = None) -> Tensor:
    """The lower triangle L with L · Lᴴ = input, of which only the lower triangle is read; upper elements are 0.

    Raises `ArgumentError` for a matrix that is not positive definite, `ShapeError` unless it is square. The gradient
    is symmetric. 16-bit floats are computed in float32.
    """
    (a,), d = brought(input)
    return given(cholesky_op(a), d)


def cholesky_solve(chol: Any, rhs: Any, name: str | None = None) -> Tensor:
    """x with A · x = rhs, from the lower triangle `chol` of A = chol · cholᴴ. `rhs` has shape (…, n, k)."""
    if not activity.busy and (quick := planned(cholesky_solve, chol, rhs)) is not None:
        return quick
    (c, b), d = brought(chol, rhs)
    return given(triangular_op(c, triangular_op(c, b, lower=True, adjoint=False), lower=True, adjoint=True), d)


def logdet(matrix: Any, name: str | None = None) -> Tensor:
    """The logarithm of the determinant of positive definite matrices."""
    if not activity.busy and (quick := planned(logdet, matrix)) is not None:
        return quick
    (a,), d = brought(matrix)
    return given(E.mul(reduce_sum(E.log(_real_part(diag_part(cholesky_op(a)))), -1), 2.0), d)


def _real_part(x: Tensor) -> Tensor:
    return E.real(x) if x.dtype.kind == "c" else x


# --- QR ---------------------------------------------------------------------------------------------------------------
def smaller(m: Size, n: Size) -> Size:
    return m if m is n or known_equal(m, n) or m <= n else n


def _qr_infer(a: TensorType, *, full: bool, rank: Size) -> tuple[TensorType, TensorType]:
    check_matrices(a)
    (m, n), lead = a.shape[-2:], a.shape[:-2]
    k = m if full else rank
    return TensorType(a.dtype, (*lead, m, k)), TensorType(a.dtype, (*lead, k, n))


def one_gauge(x: Tensor, g: Tensor, rank: Size) -> tuple[Tensor, Tensor]:
    """The first columns of an orthogonal matrix, and their cotangent with that of the columns that complete them."""
    n, axis = x.shape[-1], x.ndim - 1
    first, g1 = cut(x, axis, 0, rank), cut(g, axis, 0, rank)
    rest, g2 = cut(x, axis, rank, n - rank), cut(g, axis, rank, n - rank)
    return first, E.sub(g1, matmul(rest, matmul(g2, first, adjoint_a=True)))


def _deep(q: Tensor, r: Tensor, gq: Tensor, gr: Tensor) -> Tensor:
    """The cotangent of a matrix with at least as many rows as columns."""
    m = triangle(E.sub(matmul(gr, r, adjoint_b=True), matmul(q, gq, adjoint_a=True)), False, half=True)
    back = adjoint(E.add(gq, matmul(q, E.add(m, adjoint(m)))))  # the diagonal of r is real
    return adjoint(triangular_op(r, back, lower=False, adjoint=False))


def _qr_vjp(g: tuple, y: tuple, a: Tensor, *, full: bool, rank: Size) -> tuple:
    """S. F. Walter, L. Lehmann, "Algorithmic differentiation of linear algebra functions with application in optimum
    experimental design" (2010), sections 3.2 and 3.3; D. A. O. Roberts, L. R. Roberts, "QR and LQ decomposition matrix
    backpropagation algorithms for square, wide, and deep matrices" (2020).
    """
    (q, r), (gq, gr) = y, g
    m, n = a.shape[-2:]
    if full and not known_equal(m, rank):
        q, gq = one_gauge(q, gq, rank)
        r, gr = cut(r, r.ndim - 2, 0, rank), cut(gr, r.ndim - 2, 0, rank)
    if known_equal(n, rank):
        return (_deep(q, r, gq, gr),)
    last = a.ndim - 1  # a = [x y], r = [u v]: q and u are those of x, and v = qᴴ y
    gv = cut(gr, last, rank, n - rank)
    gq = E.add(gq, matmul(cut(a, last, rank, n - rank), gv, adjoint_b=True))
    gx = _deep(q, cut(r, last, 0, rank), gq, cut(gr, last, 0, rank))
    return (concat([gx, matmul(q, gv)], -1),)


qr_op: Op = with_jvp(
    Op(
        "qr", "opaque", _qr_infer, K.qr, vjp=_qr_vjp, dtypes="fc",
        doc="Orthogonal q and upper triangular r with q r = a; `rank` is the smaller size.",
    )
)  # fmt: skip


def qr(input: Any, full_matrices: bool = False, name: str | None = None) -> Qr:
    """(q, r) with q · r = input, columns of q that are orthonormal, and r upper triangular.

    q has shape (…, m, k) and r (…, k, n), where k is min(m, n), or m for `full_matrices`. The gradient is that of
    matrices whose first min(m, n) columns are independent; columns that complete q have one where the result does not
    depend on their choice.
    """
    (a,), d = brought(input)
    check_matrices(a.type)
    q, r = qr_op(a, full=bool(full_matrices), rank=smaller(*a.shape[-2:]))
    return Qr(given(q, d), given(r, d))


# --- LU ---------------------------------------------------------------------------------------------------------------
def _lu_infer(a: TensorType) -> tuple[TensorType, TensorType]:
    check_square(a)
    return TensorType(a.dtype, a.shape), TensorType(int32, a.shape[:-1])


def _unit_lower(f: Operand) -> Tensor:
    low = E.sub(triangle(f, True), diag(diag_part(f)))
    return E.add(low, identity_like(f))


def _lu_vjp(g: tuple, y: tuple, a: Tensor) -> tuple:
    """Walter, Lehmann (2010), section 3.1."""
    (f, p), gf = y, g[0]
    low = _unit_lower(f)
    below = matmul(low, E.sub(triangle(gf, True), diag(diag_part(gf))), adjoint_a=True)
    above = triangle(matmul(triangle(gf, False), triangle(f, False), adjoint_b=True), False)
    m = E.add(E.sub(triangle(below, True), diag(diag_part(below))), above)
    left = triangular_op(low, m, lower=True, adjoint=True)
    back = adjoint(triangular_op(f, adjoint(left), lower=False, adjoint=False))
    return (_rows(back, argsort(p)),)


lu_op: Op = with_jvp(
    Op(
        "lu", "opaque", _lu_infer, K.explained(K.lu, "is singular"), vjp=_lu_vjp, dtypes="fc",
        doc="The factors of a[p] = L U in one matrix, and p.",
    )
)  # fmt: skip


def _rows(x: Operand, p: Operand) -> Tensor:
    """The rows in another order, which each matrix has for itself."""
    return gather(x, p, axis=x.ndim - 2, batch_dims=p.ndim - 1)


def lu(input: Any, output_idx_type: Any = int32, name: str | None = None) -> Lu:
    """(lu, p): both factors of the square matrices with their rows in the order p, and p.

    The strict lower triangle of `lu` is that of L, whose diagonal is 1; the upper one is U; input[p] = L · U. Raises
    `ArgumentError` for a singular matrix.
    """
    (a,), d = brought(input)
    f, p = lu_op(a)
    t = as_dtype(output_idx_type)
    return Lu(given(f, d), p if t is int32 else E.cast(p, dtype=t))


def _factors(lower_upper: Any, perm: Any, *others: Any) -> tuple[list[Operand], Operand, Any]:
    (f, *more), d = brought(lower_upper, *others)
    p = operand(perm)
    check_square(f.type)
    if p.ndim != f.ndim - 1:
        raise locate(ShapeError(f"factors of shape {show_shape(f.shape)} and a permutation {show_shape(p.shape)}"))
    return [f, *more], p, d


def lu_reconstruct(lower_upper: Any, perm: Any, validate_args: bool = False, name: str | None = None) -> Tensor:
    """The matrix whose factors `tj.linalg.lu` gave."""
    (f,), p, d = _factors(lower_upper, perm)
    return given(_rows(matmul(_unit_lower(f), triangle(f, False)), argsort(p)), d)


def lu_solve(lower_upper: Any, perm: Any, rhs: Any, validate_args: bool = False, name: str | None = None) -> Tensor:
    """x with A · x = rhs, from the factors of A that `tj.linalg.lu` gave; `rhs` has shape (…, n, k)."""
    (f, b), p, d = _factors(lower_upper, perm, rhs)
    lead, last = tuple(p.shape[:-1]), p.shape[-1]
    if lead and tuple(b.shape[:-2]) != lead:
        lead = broadcast_shapes(lead, tuple(b.shape[:-2]))
        b, p = S.broadcast_to(b, shape=(*lead, *b.shape[-2:])), S.broadcast_to(p, shape=(*lead, last))
    y = triangular_op(_unit_lower(f), _rows(b, p), lower=True, adjoint=False)
    return given(triangular_op(f, y, lower=False, adjoint=False), d)


def lu_matrix_inverse(lower_upper: Any, perm: Any, validate_args: bool = False, name: str | None = None) -> Tensor:
    """The inverse of the matrix whose factors `tj.linalg.lu` gave."""
    (f,), p, d = _factors(lower_upper, perm)
    return given(lu_solve(f, p, identity_like(f)), d)
