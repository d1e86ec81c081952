"""Systems of equations, inverses and determinants, batched over leading axes, with their derivatives.

The rules are those of M. B. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation" (2008), for complex matrices too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.context import activity
from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.op import Op
from tracejit.ir.sizes import fit, known_equal
from tracejit.ir.types import DType, TensorType, broadcast_shapes, float32, show_shape
from tracejit.ops import directlinalg
from tracejit.ops import elementwise as E
from tracejit.ops import matrixkernels as K
from tracejit.ops import shape as S
from tracejit.ops.args import operand, require
from tracejit.ops.array import cut, pad, stack, swapaxes
from tracejit.ops.creation import counter
from tracejit.ops.define import sum_to
from tracejit.ops.kernels import real_dtype
from tracejit.ops.linalg import diag, diag_part, matrix_transpose
from tracejit.ops.linalg import own_matmul as matmul
from tracejit.ops.quick import at_once
from tracejit.ops.reductions import reduce_sum
from tracejit.ops.results import LogMatrixDeterminant
from tracejit.tensor import Operand, Tensor, _floating, check, common_dtype, convert


# --- what rows and functions of matrices share ------------------------------------------------------------------------
def check_matrices(*types: TensorType) -> None:
    """Refuse what LAPACK has no function for."""
    for t in types:
        if t.dtype.kind not in "fc" or t.dtype.bits == 16:
            raise DTypeError(f"dtype {t.dtype.name} is not supported; it takes float32, float64, complex64, complex128")
        if t.rank < 2:
            raise ShapeError(f"shape {show_shape(t.shape)}: a matrix has two axes, a batch of them more")
        if t.dtype is not types[0].dtype:
            raise DTypeError(f"the operands have dtypes {', '.join(t.dtype.name for t in types)}")


def check_square(t: TensorType) -> None:
    check_matrices(t)
    if not fit(*t.shape[-2:]):
        raise ShapeError(f"shape {show_shape(t.shape)}: a square matrix is wanted, the last two sizes differ")


def square(t: TensorType, **attrs: Any) -> TensorType:
    """The type rule of functions from square matrices to such of the same size."""
    check_square(t)
    return TensorType(t.dtype, t.shape)


def brought(*xs: Any) -> tuple[list[Operand], DType]:
    """Operands in the dtype that they are computed in, and the one that results are to have.

    Integers become floating; 16-bit floats are computed in float32.
    """
    if len(xs) == 1 and type(xs[0]) is Tensor and xs[0].dtype.kind in "fc" and xs[0].dtype.bits != 16:
        return [xs[0]], xs[0].dtype
    d = _floating(*common_dtype(xs))
    wide = float32 if d.bits == 16 else d
    return [operand(x, wide) for x in xs], d


def given(y: Tensor, d: DType) -> Tensor:
    """A result in the dtype of the operands, where that is one of 16 bits."""
    return E.cast(y, dtype=d) if d.bits == 16 and y.dtype is float32 else y


def adjoint(matrix: Any, name: str | None = None) -> Tensor:
    """The last two axes exchanged, and complex numbers conjugated."""
    if type(matrix) is Tensor and matrix.dtype.kind != "c":
        return matrix_transpose(matrix)
    return matrix_transpose(matrix, conjugate=True)


def column(x: Operand) -> Tensor:
    """Vectors as matrices of one column."""
    return S.reshape(x, shape=(*x.shape, 1))


def row(x: Operand) -> Tensor:
    """Vectors as matrices of one row."""
    return S.reshape(x, shape=(*x.shape[:-1], 1, x.shape[-1]))


def identity_like(x: Operand) -> Tensor:
    """One identity matrix of the size of the last axis."""
    ones = S.broadcast_to(convert(1, x.dtype), shape=(x.shape[-1],))
    return diag(ones)


# --- general systems --------------------------------------------------------------------------------------------------
def _solve_infer(a: TensorType, b: TensorType, **attrs: Any) -> TensorType:
    check_matrices(a, b)
    check_square(a)
    if not fit(a.shape[-1], b.shape[-2]):
        shapes = f"matrix {show_shape(a.shape)}, right side {show_shape(b.shape)}"
        raise ShapeError(f"{shapes}: they differ in the number of rows")
    return TensorType(a.dtype, (*broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:]))


def _solve_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple:
    back = solve_op(adjoint(a), g)
    return sum_to(E.neg(matmul(back, y, adjoint_b=True)), a), sum_to(back, b)


def _solve_jvp(t: tuple, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    moved = None if t[0] is None else matmul(t[0], y)
    right = E.neg(moved) if t[1] is None else t[1] if moved is None else E.sub(t[1], moved)
    return solve_op(a, right)


solve_op: Op = Op(
    "solve", "opaque", _solve_infer, K.explained(np.linalg.solve, "is singular"), vjp=_solve_vjp, jvp=_solve_jvp,
    promote="common", arity=2, dtypes="fc", doc="x with a x = b, batched over leading axes.",
)  # fmt: skip


def solve(matrix: Any, rhs: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """x with matrix · x = rhs, or with matrixᴴ · x = rhs.

    Parameters
    ----------
    matrix : shape (…, n, n)
    rhs : shape (…, n, k); leading axes are broadcast

    Raises `ArgumentError` for a singular matrix, `ShapeError` for sizes that do not fit. 16-bit floats are computed in
    float32, integers as floating numbers.
    """
    (a, b), d = brought(matrix, rhs)
    if b.ndim == 1:  # which NumPy would take for a column
        check(solve_op, [a.type, b.type], {})
    return given(solve_op(matrix_transpose(a, conjugate=True) if adjoint else a, b), d)


# --- triangular systems -----------------------------------------------------------------------------------------------
def triangle(x: Operand, lower: bool, half: bool = False) -> Tensor:
    """The lower or upper triangle with zeros elsewhere; `half` halves the diagonal."""
    n, m = x.shape[-2:]
    rows, columns = counter(n, 2, 0), counter(m, 2, 1)
    if not half:
        return E.where((E.greater_equal if lower else E.less_equal)(rows, columns), x, convert(0, x.dtype))
    inside = (E.greater if lower else E.less)(rows, columns)
    return E.where(inside, x, E.where(E.equal(rows, columns), E.mul(x, 0.5), convert(0, x.dtype)))


def _triangular_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor, *, lower: bool, adjoint: bool) -> tuple:
    back = triangular_op(a, g, lower=lower, adjoint=not adjoint)
    ga = matmul(y, back, adjoint_b=True) if adjoint else matmul(back, y, adjoint_b=True)
    return sum_to(triangle(E.neg(ga), lower), a), sum_to(back, b)


def _triangular_jvp(t: tuple, y: Tensor, a: Tensor, b: Tensor, *, lower: bool, adjoint: bool) -> Tensor:
    moved = None if t[0] is None else matmul(triangle(t[0], lower), y, adjoint_a=adjoint)
    right = E.neg(moved) if t[1] is None else t[1] if moved is None else E.sub(t[1], moved)
    return triangular_op(a, right, lower=lower, adjoint=adjoint)


triangular_op: Op = Op(
    "triangular_solve", "opaque", _solve_infer, K.explained(K.triangular_solve, "is singular: its diagonal has a zero"),
    vjp=_triangular_vjp, jvp=_triangular_jvp, promote="common", arity=2, dtypes="fc",
    doc="x with a x = b, or aᴴ x = b for `adjoint`, where a is a triangle; the other one is not read.",
)  # fmt: skip


def triangular_solve(
    matrix: Any, rhs: Any, lower: bool = True, adjoint: bool = False, name: str | None = None
) -> Tensor:
    """x with T · x = rhs, or Tᴴ · x = rhs, for the lower or upper triangle T of `matrix`; leading axes are broadcast.

    Eagerly computed in blocks with LAPACK's general solver, which for triangles does no more than substitute; natively
    where traced. Raises `ArgumentError` when the diagonal has a zero. 16-bit floats are computed in float32.
    """
    if not activity.busy and (quick := at_once(directlinalg.triangular_solve, matrix, rhs, lower, adjoint)) is not None:
        return quick
    (a, b), d = brought(matrix, rhs)
    return given(triangular_op(a, b, lower=bool(lower), adjoint=bool(adjoint)), d)


# --- inverse, determinant ---------------------------------------------------------------------------------------------
def _inv_vjp(g: Tensor, y: Tensor, a: Tensor) -> tuple:
    return (E.neg(matmul(matmul(y, g, adjoint_a=True), y, adjoint_b=True)),)


def _inv_jvp(t: tuple, y: Tensor, a: Tensor) -> Tensor:
    return E.neg(matmul(matmul(y, t[0]), y))


inv_op: Op = Op(
    "inv", "opaque", square, K.explained(np.linalg.inv, "is singular"), vjp=_inv_vjp, jvp=_inv_jvp, dtypes="fc",
    doc="The inverses of square matrices.",
)  # fmt: skip


def inv(input: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """The inverses of the square matrices in the last two axes, or of their adjoints.

    Raises `ArgumentError` for a singular matrix. 16-bit floats are computed in float32.
    """
    (a,), d = brought(input)
    return given(inv_op(matrix_transpose(a, conjugate=True) if adjoint else a), d)


def _adjugate_vjp(g: Tensor, y: Tensor, a: Tensor) -> tuple:
    """That of det(a) · a⁻¹, for matrices that have an inverse."""
    i, size = inv_op(a), det_op(a)
    along = reduce_sum(E.mul(g, E.conjugate(i)), (-2, -1), True)
    turned = matmul(matmul(i, g, adjoint_a=True), i, adjoint_b=True)
    return (E.mul(column(column(E.conjugate(size))), E.sub(E.mul(along, adjoint(i)), turned)),)


def _adjugate_jvp(t: tuple, y: Tensor, a: Tensor) -> Tensor:
    i, size = inv_op(a), det_op(a)
    moved = matmul(i, t[0])
    along = column(column(reduce_sum(diag_part(moved), -1)))
    return E.mul(column(column(size)), E.sub(E.mul(along, i), matmul(moved, i)))


adjugate: Op = Op(
    "adjugate", "opaque", square, K.adjugate, vjp=_adjugate_vjp, jvp=_adjugate_jvp, dtypes="fc",
    doc="det(a) · a⁻¹, also of singular matrices: the slopes of the determinant.",
)  # fmt: skip


def _number(a: TensorType) -> TensorType:
    check_square(a)
    return TensorType(a.dtype, a.shape[:-2])


def _det_vjp(g: Tensor, y: Tensor, a: Tensor) -> tuple:
    return (E.mul(column(column(g)), adjoint(adjugate(a))),)


def _det_jvp(t: tuple, y: Tensor, a: Tensor) -> Tensor:
    return reduce_sum(E.mul(matrix_transpose(adjugate(a)), t[0]), (-2, -1))


det_op: Op = Op(
    "det", "opaque", _number, lambda a: np.asarray(np.linalg.det(a), a.dtype), vjp=_det_vjp, jvp=_det_jvp, dtypes="fc",
    doc="The determinants of square matrices.",
)  # fmt: skip


def det(input: Any, name: str | None = None) -> Tensor:
    """The determinants of the square matrices in the last two axes. Singular matrices have a gradient too."""
    (a,), d = brought(input)
    return given(det_op(a), d)


def _slogdet_infer(a: TensorType) -> tuple[TensorType, TensorType]:
    t = _number(a)
    return t, TensorType(real_dtype(t.dtype) if t.dtype.kind == "c" else t.dtype, t.shape)


def _slogdet(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sign, size = np.linalg.slogdet(a)
    return np.asarray(sign), np.asarray(size)


def _slogdet_vjp(g: tuple, y: tuple, a: Tensor) -> tuple:
    size = g[1]
    if a.dtype.kind == "c":
        size = E.complex_(size, E.imag(E.mul(E.conj(y[0]), g[0])))
    return (E.mul(column(column(size)), inv_op(adjoint(a))),)


def _slogdet_jvp(t: tuple, y: tuple, a: Tensor) -> tuple:
    moved = reduce_sum(E.mul(matrix_transpose(inv_op(a)), t[0]), (-2, -1))
    if a.dtype.kind != "c":
        return None, moved
    turn = E.complex_(E.cast(0.0, dtype=y[1].dtype), E.imag(moved))
    return E.mul(turn, y[0]), E.real(moved)


slogdet_op: Op = Op(
    "slogdet", "opaque", _slogdet_infer, _slogdet, vjp=_slogdet_vjp, jvp=_slogdet_jvp, dtypes="fc",
    doc="The determinants' signs, or their places on the unit circle, and the logarithms of their sizes.",
)  # fmt: skip


def slogdet(input: Any, name: str | None = None) -> LogMatrixDeterminant:
    """The signs of determinants and the logarithms of their absolute values, which are real; 0 and −inf if singular.

    det = sign · exp(log). Of complex matrices the sign is a number on the unit circle.
    """
    (a,), d = brought(input)
    sign, size = slogdet_op(a)
    return LogMatrixDeterminant(given(sign, d), given(size, d))


# --- three diagonals --------------------------------------------------------------------------------------------------
def _tridiagonal_infer(d: TensorType, b: TensorType) -> TensorType:
    check_matrices(d, b)
    if not known_equal(d.shape[-2], 3) or not known_equal(d.shape[-1], b.shape[-2]):
        raise ShapeError(f"diagonals of shape {show_shape(d.shape)} and a right side {show_shape(b.shape)}")
    return TensorType(d.dtype, (*broadcast_shapes(d.shape[:-2], b.shape[:-2]), *b.shape[-2:]))


def moved_along(x: Operand, axis: int, by: int) -> Tensor:
    """The elements moved towards the front (−1) or the back (1) of an axis, with a zero where none comes from."""
    n = x.shape[axis]
    pairs = [[0, 0] if i != axis else [0, 1] if by < 0 else [1, 0] for i in range(x.ndim)]
    return cut(pad(x, pairs), axis, 1 if by < 0 else 0, n)


def _line(d: Operand, i: int) -> Tensor:
    """One of the diagonals, without its axis."""
    x = cut(d, d.ndim - 2, i, 1)
    return S.reshape(x, shape=(*d.shape[:-2], d.shape[-1]))


def adjoint_diagonals(d: Operand) -> Tensor:
    last = d.ndim - 2
    above = moved_along(_line(d, 2), last, -1)
    below = moved_along(_line(d, 0), last, 1)
    return E.conjugate(stack([above, _line(d, 1), below], -2))


def tridiagonal_product(d: Operand, x: Operand) -> Tensor:
    """The product of tridiagonal matrices and matrices."""
    rows = x.ndim - 2
    y = E.mul(column(_line(d, 1)), x)
    y = E.add(y, E.mul(column(_line(d, 0)), moved_along(x, rows, -1)))
    return E.add(y, E.mul(column(_line(d, 2)), moved_along(x, rows, 1)))


def _tridiagonal_vjp(g: Tensor, y: Tensor, d: Tensor, b: Tensor) -> tuple:
    back = tridiagonal_op(adjoint_diagonals(d), g)
    x, rows = E.conjugate(y), y.ndim - 2
    parts = [moved_along(x, rows, -1), x, moved_along(x, rows, 1)]
    gd = stack([E.neg(reduce_sum(E.mul(back, p), -1)) for p in parts], -2)
    return sum_to(gd, d), sum_to(back, b)


def _tridiagonal_jvp(t: tuple, y: Tensor, d: Tensor, b: Tensor) -> Tensor:
    moved = None if t[0] is None else tridiagonal_product(t[0], y)
    right = E.neg(moved) if t[1] is None else t[1] if moved is None else E.sub(t[1], moved)
    return tridiagonal_op(d, right)


tridiagonal_op: Op = Op(
    "tridiagonal_solve", "opaque", _tridiagonal_infer, K.explained(K.tridiagonal_solve, "is singular"),
    vjp=_tridiagonal_vjp, jvp=_tridiagonal_jvp, promote="common", arity=2, dtypes="fc",
    doc="x with T x = b, where T has three diagonals: the rows of the first operand.",
)  # fmt: skip
_FORMATS = ("compact", "sequence", "matrix")


def _diagonals(diagonals: Any, form: str, *others: Any) -> tuple[list[Operand], DType]:
    """Three diagonals as one tensor of three rows, and other operands in the same dtype."""
    require(form in _FORMATS, f"diagonals_format is one of {', '.join(map(repr, _FORMATS))}, not {form!r}")
    if form == "compact":
        return brought(diagonals, *others)
    if form == "matrix":
        (m, *more), d = brought(diagonals, *others)
        check_square(m.type)
        n, last = m.shape[-1], m.ndim - 2
        wide = pad(m, [*[[0, 0]] * last, [1, 1], [1, 1]])  # so that a matrix of size 1 has three diagonals
        lines = [diag_part(cut(cut(wide, last, 1, n), last + 1, j, n)) for j in (2, 1, 0)]
        return [stack(lines, -2), *more], d
    require(len(diagonals) == 3, f"'sequence' takes three diagonals, not {len(diagonals)}")
    (above, main, below, *more), d = brought(*diagonals, *others)
    n, last = main.shape[-1], main.ndim - 1
    if not known_equal(above.shape[-1], n):
        above = pad(above, [[0, 0]] * last + [[0, 1]])
    if not known_equal(below.shape[-1], n):
        below = pad(below, [[0, 0]] * last + [[1, 0]])
    return [stack([above, main, below], -2), *more], d


def tridiagonal_solve(
    diagonals: Any, rhs: Any, diagonals_format: str = "compact", transpose_rhs: bool = False,
    conjugate_rhs: bool = False, name: str | None = None, partial_pivoting: bool = True, perturb_singular: bool = False,
) -> Tensor:  # fmt: skip
    """x with T · x = rhs for tridiagonal matrices T.

    Parameters
    ----------
    diagonals : "compact": shape (…, 3, n), the superdiagonal, whose last element is not read, the diagonal, and the
        subdiagonal, whose first element is not read; "sequence": the three, the outer ones of n or n − 1 elements;
        "matrix": shape (…, n, n), of which only the three diagonals are read
    rhs : shape (…, n, k), or (…, n) for one right side
    transpose_rhs, conjugate_rhs : what is done to the right side before

    Rows are always exchanged where that is more accurate, as TensorFlow does for `partial_pivoting`. Raises
    `ArgumentError` for a singular matrix; `perturb_singular`, which needs a TPU in TensorFlow, is not available.
    """
    require(not perturb_singular, "perturb_singular is not available")
    (d, b), own = _diagonals(diagonals, diagonals_format, rhs)
    vector = b.ndim == d.ndim - 1 and not transpose_rhs
    if vector:
        b = column(b)
    if transpose_rhs:
        b = swapaxes(b, -1, -2)
    _tridiagonal_infer(d.type, b.type)
    y = tridiagonal_op(d, E.conj(b) if conjugate_rhs and b.dtype.kind == "c" else b)
    return given(S.reshape(y, shape=tuple(y.shape[:-1])) if vector else y, own)


def tridiagonal_matmul(diagonals: Any, rhs: Any, diagonals_format: str = "compact", name: str | None = None) -> Tensor:
    """T · rhs for tridiagonal matrices T, given as `tridiagonal_solve` takes them; rhs has shape (…, n, k)."""
    (d, b), own = _diagonals(diagonals, diagonals_format, rhs)
    _tridiagonal_infer(d.type, b.type)
    return given(tridiagonal_product(d, b), own)
