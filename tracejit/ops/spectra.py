"""Singular values and eigenvalues of matrices, with their derivatives; pseudo-inverses, ranks and least squares."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.context import activity
from tracejit.errors import ShapeError, locate
from tracejit.ir.op import Op
from tracejit.ir.sizes import known_equal
from tracejit.ir.types import DType, TensorType, int32, show_shape
from tracejit.ops import directlinalg
from tracejit.ops import elementwise as E
from tracejit.ops import matrixkernels as K
from tracejit.ops import shape as S
from tracejit.ops.args import Size, require
from tracejit.ops.array import cut, pad
from tracejit.ops.decompose import cholesky_op, cholesky_solve, one_gauge, real_of, smaller, with_jvp
from tracejit.ops.kernels import complex_dtype
from tracejit.ops.linalg import diag, diag_part, matmul
from tracejit.ops.quick import at_once
from tracejit.ops.reductions import reduce_max, reduce_sum
from tracejit.ops.solve import (
    adjoint,
    brought,
    check_matrices,
    check_square,
    column,
    given,
    identity_like,
    moved_along,
    row,
    solve_op,
    triangle,
)
from tracejit.tensor import Operand, Tensor, convert


def reciprocal(x: Tensor) -> Tensor:
    """1/x, and 0 for 0: equal eigenvalues and singular values have no slopes of their own."""
    zero = E.equal(x, 0)
    return E.where(zero, convert(0, x.dtype), E.div(1.0, E.where(zero, convert(1, x.dtype), x)))


def differences(x: Tensor) -> Tensor:
    """x_j − x_i for all pairs."""
    return E.sub(row(x), column(x))


# --- singular values --------------------------------------------------------------------------------------------------
def _svd_infer(a: TensorType, *, full: bool, vectors: bool, rank: Size) -> Any:
    check_matrices(a)
    (m, n), lead = a.shape[-2:], a.shape[:-2]
    s = TensorType(real_of(a.dtype), (*lead, rank))
    if not vectors:
        return s
    return s, TensorType(a.dtype, (*lead, m, m if full else rank)), TensorType(a.dtype, (*lead, n, n if full else rank))


def _svd_vjp(g: Any, y: Any, a: Tensor, *, full: bool, vectors: bool, rank: Size) -> tuple:
    """Giles (2008), section 3.7; for complex matrices Z.-Q. Wan, S.-X. Zhang, "Automatic differentiation for complex
    valued SVD" (2019), whose term for the vectors' common phases is left out where it does not matter.
    """
    m, n = a.shape[-2:]
    if not vectors:
        _, u, v = svd_op(a, full=False, vectors=True, rank=rank)
        return (matmul(E.mul(u, row(g)), v, adjoint_b=True),)
    (s, u, v), (gs, gu, gv) = y, g
    if full and not known_equal(m, rank):
        u, gu = one_gauge(u, gu, rank)
    if full and not known_equal(n, rank):
        v, gv = one_gauge(v, gv, rank)
    inverse, squares = reciprocal(s), E.square(s)
    uu, vv = matmul(u, gu, adjoint_a=True), matmul(v, gv, adjoint_a=True)
    f = reciprocal(differences(squares))
    inner = E.mul(f, E.add(E.mul(E.sub(uu, adjoint(uu)), row(s)), E.mul(column(s), E.sub(vv, adjoint(vv)))))
    on = gs
    if a.dtype.kind == "c":
        on = E.complex_(gs, E.mul(E.imag(diag_part(uu)), inverse))
    ga = matmul(u, matmul(E.add(inner, diag(on)), v, adjoint_b=True))
    if not known_equal(m, rank):
        outside = E.mul(E.sub(gu, matmul(u, uu)), row(inverse))
        ga = E.add(ga, matmul(outside, v, adjoint_b=True))
    if not known_equal(n, rank):
        outside = E.mul(E.sub(gv, matmul(v, vv)), row(inverse))
        ga = E.add(ga, matmul(u, outside, adjoint_b=True))
    return (ga,)


svd_op: Op = with_jvp(
    Op(
        "svd", "opaque", _svd_infer, K.explained(K.svd, "has no singular value decomposition: it did not converge"),
        vjp=_svd_vjp, dtypes="fc",
        doc="Singular values s, and orthogonal u and v with u diag(s) vᴴ = a; `rank` is the smaller size.",
    )
)  # fmt: skip


def svd(tensor: Any, full_matrices: bool = False, compute_uv: bool = True, name: str | None = None) -> Any:
    """(s, u, v) with tensor = u · diag(s) · vᴴ, the singular values in descending order; s alone unless `compute_uv`.

    u has shape (…, m, k) and v (…, n, k), where k is min(m, n), or m and n for `full_matrices`. The vectors' gradient
    is that of results that do not depend on their signs, or phases; where singular values are equal, it is that of
    results that do not depend on the choice among vectors. Raises `ArgumentError` for matrices that hold NaN.
    """
    (a,), d = brought(tensor)
    check_matrices(a.type)
    rank = smaller(*a.shape[-2:])
    y = svd_op(a, full=bool(full_matrices and compute_uv), vectors=bool(compute_uv), rank=rank)
    return tuple([given(x, d) for x in y]) if compute_uv else given(y, d)


def svdvals(x: Any) -> Tensor:
    """The singular values in descending order."""
    return svd(x, compute_uv=False)  # type: ignore[no-any-return]


def matrix_rank(a: Any, tol: Any = None, validate_args: bool = False, name: str | None = None) -> Tensor:
    """How many singular values are greater than `tol`, as int32; by default than max(m, n) · ε · the largest one."""
    (x,), d = brought(a)
    s = svdvals(x)
    limit = E.mul(reduce_max(s, -1, True), resolution(x, d)) if tol is None else column(convert(tol, s.dtype))
    return reduce_sum(E.cast(E.greater(s, limit), dtype=int32), -1)


def resolution(x: Operand, d: DType) -> Tensor:
    """max(m, n) · ε of a dtype: singular values below this, beside the largest one, are noise."""
    m, n = x.shape[-2:]
    larger = n if smaller(m, n) is m else m
    exponent = {"float16": -10, "bfloat16": -7}.get(d.name)
    eps = 2.0**exponent if exponent is not None else float(np.finfo(d.np).eps)
    return E.mul(E.cast(convert(larger), dtype=real_of(x.dtype)), eps)


def _pinv_infer(a: TensorType, rcond: TensorType) -> TensorType:
    check_matrices(a)
    return TensorType(a.dtype, (*a.shape[:-2], a.shape[-1], a.shape[-2]))


def _pinv_vjp(g: Tensor, y: Tensor, a: Tensor, rcond: Tensor) -> tuple:
    """G. H. Golub, V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate" (1973): for matrices whose rank does not change.
    """
    p, h = y, adjoint(y)
    gh = adjoint(g)
    ga = E.neg(matmul(h, matmul(g, h)))
    left = matmul(gh, matmul(p, h))  # of da ↦ p pᴴ daᴴ (1 − a p)
    right = matmul(matmul(h, p), gh)  # of da ↦ (1 − p a) daᴴ pᴴ p
    ga = E.add(ga, E.sub(left, matmul(a, matmul(p, left))))
    return E.add(ga, E.sub(right, matmul(matmul(right, p), a))), None


pinv_op: Op = with_jvp(
    Op(
        "pinv", "opaque", _pinv_infer, K.explained(K.pinv, "has no singular value decomposition: it did not converge"),
        vjp=_pinv_vjp, arity=2, dtypes="fc",
        doc="The pseudo-inverse; singular values up to rcond · the largest count as 0.",
    )
)  # fmt: skip


def pinv(a: Any, rcond: Any = None, validate_args: bool = False, name: str | None = None) -> Tensor:
    """The Moore–Penrose pseudo-inverses of the matrices in the last two axes.

    Singular values up to `rcond` · the largest one count as 0; by default that is 10 · max(m, n) · ε. The gradient is
    that of matrices whose rank does not change.
    """
    (x,), d = brought(a)
    check_matrices(x.type)
    real = real_of(x.dtype)
    if rcond is None:
        limit: Any = E.mul(resolution(x, d), 10.0)
    else:
        limit = convert(rcond, real)
    return given(pinv_op(x, S.broadcast_to(limit, shape=tuple(x.shape[:-2]))), d)


# --- eigenvalues ------------------------------------------------------------------------------------------------------
def _eigh_infer(a: TensorType, *, vectors: bool) -> Any:
    check_square(a)
    e = TensorType(real_of(a.dtype), a.shape[:-1])
    return (e, TensorType(a.dtype, a.shape)) if vectors else e


def _lower_only(g: Tensor) -> tuple:
    """The cotangent of the lower triangle, which alone is read: that of a Hermitian matrix."""
    return (triangle(E.add(g, adjoint(g)), True, half=True),)


def _eigh_vjp(g: Any, y: Any, a: Tensor, *, vectors: bool) -> tuple:
    """Giles (2008), section 3.1; 0 for the slopes between equal eigenvalues."""
    if not vectors:
        _, v = eigh_op(a, vectors=True)
        return _lower_only(matmul(E.mul(v, row(g)), v, adjoint_b=True))
    (e, v), (ge, gv) = y, g
    f = reciprocal(differences(e))
    inner = E.add(diag(ge), E.mul(f, matmul(v, gv, adjoint_a=True)))
    return _lower_only(matmul(v, matmul(inner, v, adjoint_b=True)))


eigh_op: Op = with_jvp(
    Op(
        "eigh", "opaque", _eigh_infer, K.explained(K.eigh, "has no eigenvalues: they did not converge"), vjp=_eigh_vjp,
        dtypes="fc", doc="The eigenvalues of Hermitian matrices, ascending, and orthonormal eigenvectors as columns.",
    )
)  # fmt: skip


def eigh(tensor: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """(e, v): the eigenvalues of Hermitian matrices, real and ascending, and orthonormal eigenvectors as columns.

    tensor · v = v · diag(e). Only the lower triangle is read, and has the gradient. Eigenvectors are determined up to
    a sign or phase; where eigenvalues are equal, the gradient is that of results that do not depend on the choice.
    """
    (a,), d = brought(tensor)
    e, v = eigh_op(a, vectors=True)
    return given(e, d), given(v, d)


def eigvalsh(tensor: Any, name: str | None = None) -> Tensor:
    """The eigenvalues of Hermitian matrices, real and ascending; only the lower triangle is read."""
    (a,), d = brought(tensor)
    return given(eigh_op(a, vectors=False), d)


def _eig_infer(a: TensorType, *, vectors: bool) -> Any:
    check_square(a)
    d = a.dtype if a.dtype.kind == "c" else complex_dtype(a.dtype)
    e = TensorType(d, a.shape[:-1])
    return (e, TensorType(d, a.shape)) if vectors else e


def _eig_vjp(g: Any, y: Any, a: Tensor, *, vectors: bool) -> tuple:
    """C. Boeddeker, P. Hanebrink, L. Drude, J. Heymann, R. Haeb-Umbach, "On the computation of complex-valued
    gradients with application to statistically optimum beamforming" (2017), for eigenvectors of length 1.
    """
    if not vectors:
        _, v = eig_op(a, vectors=True)
        inner = diag(g)
    else:
        (e, v), (ge, gv) = y, g
        vv = matmul(v, gv, adjoint_a=True)
        lengths = E.mul(v, row(E.real(diag_part(vv))))
        f = E.conj(reciprocal(differences(e)))
        inner = E.add(diag(ge), E.mul(f, E.sub(vv, matmul(v, lengths, adjoint_a=True))))
    ga = solve_op(adjoint(v), matmul(inner, v, adjoint_b=True))
    return (ga if a.dtype.kind == "c" else E.real(ga),)


eig_op: Op = with_jvp(
    Op(
        "eig", "opaque", _eig_infer, K.explained(K.eig, "has no eigenvalues: they did not converge"), vjp=_eig_vjp,
        dtypes="fc", doc="The complex eigenvalues of square matrices, and eigenvectors of length 1 as columns.",
    )
)  # fmt: skip


def eig(tensor: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """(e, v): complex eigenvalues in no particular order, and eigenvectors of length 1 as columns.

    tensor · v = v · diag(e). The gradient is that of results that do not depend on the vectors' phases, for matrices
    with a basis of eigenvectors. Raises `ArgumentError` for matrices that hold NaN or infinity.
    """
    (a,), _ = brought(tensor)
    return eig_op(a, vectors=True)  # type: ignore[no-any-return]


def eigvals(tensor: Any, name: str | None = None) -> Tensor:
    """The complex eigenvalues of square matrices, in no particular order."""
    (a,), _ = brought(tensor)
    return eig_op(a, vectors=False)  # type: ignore[no-any-return]


# --- least squares ----------------------------------------------------------------------------------------------------
def lstsq(matrix: Any, rhs: Any, l2_regularizer: Any = 0.0, fast: bool = True, name: str | None = None) -> Tensor:
    """x for which ‖matrix · x − rhs‖² + l2_regularizer · ‖x‖² is least.

    Parameters
    ----------
    matrix : shape (…, m, n)
    rhs : shape (…, m, k); leading axes are broadcast
    fast : by the Cholesky factors of the normal equations, for matrices of full rank, of which the smallest x is found
        if m < n; else by the pseudo-inverse, for any rank, and without the regularizer

    Raises `ArgumentError` for a `fast` solution of a matrix that has not full rank.
    """
    if not activity.busy and (quick := at_once(directlinalg.lstsq, matrix, rhs, l2_regularizer, fast)) is not None:
        return quick
    (a, b), d = brought(matrix, rhs)
    check_matrices(a.type, b.type)
    if not fast:
        return given(matmul(pinv(a), b), d)
    m, n = a.shape[-2:]
    deep = smaller(m, n) is n or known_equal(m, n)
    gram = matmul(a, a, adjoint_a=True) if deep else matmul(a, a, adjoint_b=True)
    if isinstance(l2_regularizer, Operand) or l2_regularizer:
        gram = E.add(gram, E.mul(identity_like(gram), convert(l2_regularizer, gram.dtype)))
    c = cholesky_op(gram)
    if deep:
        return given(cholesky_solve(c, matmul(a, b, adjoint_a=True)), d)
    return given(matmul(a, cholesky_solve(c, b), adjoint_a=True), d)


# --- three diagonals --------------------------------------------------------------------------------------------------
def eigh_tridiagonal(
    alpha: Any, beta: Any, eigvals_only: bool = True, select: str = "a", select_range: Any = None, tol: Any = None,
    name: str | None = None,
) -> Any:  # fmt: skip
    """The eigenvalues, ascending, of Hermitian matrices with three diagonals; with `eigvals_only=False` (e, v).

    Parameters
    ----------
    alpha : shape (…, n), the main diagonal
    beta : shape (…, n − 1), the diagonal below it; the one above is its conjugate
    select, select_range : "a" for all, or "i" for those from the first to the last of two numbers, counted from 0
    tol : is not needed
    """
    require(select in ("a", "i"), f"select is 'a' or 'i', not {select!r}", "pick from the result")
    (a, b), d = brought(alpha, beta)
    if not a.ndim or a.ndim != b.ndim or not known_equal(a.shape[-1], b.shape[-1] + 1):
        shapes = f"a diagonal of shape {show_shape(a.shape)} and one of {show_shape(b.shape)} below it"
        raise locate(ShapeError(f"{shapes}, which has one element less"))
    n, last = a.shape[-1], a.ndim
    full = E.add(diag(a), moved_along(diag(pad(b, [*[[0, 0]] * (b.ndim - 1), [0, 1]])), last - 1, 1))
    y = eigh_op(full, vectors=not eigvals_only)
    first, end = (0, n) if select == "a" else (int(select_range[0]), int(select_range[1]) + 1)
    made = [y] if eigvals_only else list(y)
    if select == "i":
        made = [cut(x, x.ndim - 1, first, end - first) for x in made]
    return given(made[0], d) if eigvals_only else tuple([given(x, d) for x in made])
