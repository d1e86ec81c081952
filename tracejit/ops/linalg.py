"""Products of matrices and tensors, norms, and matrices cut along diagonals."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.context import activity, context, reading
from tracejit.errors import ShapeError, locate
from tracejit.fast import fast
from tracejit.ir.sizes import fit, known_equal, product
from tracejit.ir.types import show_shape
from tracejit.ops import contract as C
from tracejit.ops import directlinalg
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops.args import as_axis, as_size, as_sizes, factors, floating, listed, operand, require
from tracejit.ops.array import cut, moveaxis, swapaxes
from tracejit.ops.check import as_flag
from tracejit.ops.creation import counter
from tracejit.ops.define import FUNCTIONS, install_method
from tracejit.ops.extents import computed, numbers
from tracejit.ops.quick import at_once, exact, planned
from tracejit.ops.reductions import reduce_max, reduce_min, reduce_sum
from tracejit.slices import IndexedSlices
from tracejit.tensor import Operand, Tensor, convert, run_silently, wrap


def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    output_type: Any = None,
    name: str | None = None,
) -> Tensor:
    """The matrix product over the last two axes; the axes before them are broadcast.

    A 1-D operand is a row on the left and a column on the right, and that axis is dropped from the result.
    Raises `ShapeError` when the inner sizes differ.
    """
    try:
        plain = not (transpose_a or transpose_b or adjoint_a or adjoint_b)
    except ValueError:  # an array
        flags = {"transpose_a": transpose_a, "transpose_b": transpose_b, "adjoint_a": adjoint_a, "adjoint_b": adjoint_b}
        plain = not any(as_flag(x, name) for name, x in flags.items())
    if plain and not (activity.busy or output_type):
        if _native is not None and (r := _native(a, b)) is not NotImplemented:
            return r
        if type(a) is Tensor and type(b) is Tensor and a._a.dtype is b._a.dtype and a._a.dtype.kind != "b":
            try:
                return wrap(run_silently(C.multiply, a._a, b._a))
            except Exception:  # explained below
                pass
    elif not (activity.busy or adjoint_a or adjoint_b or output_type):
        if (quick := at_once(directlinalg.product, a, b, transpose_a, transpose_b)) is not None:
            return quick
    both = (transpose_a and adjoint_a) or (transpose_b and adjoint_b)
    require(not both, "an operand is transposed or made adjoint, not both")
    x, y = operand(a), operand(b)
    x, y = factors(x, y) if output_type is None else (operand(x, output_type), operand(y, output_type))
    ta, tb = bool(transpose_a or adjoint_a), bool(transpose_b or adjoint_b)
    if adjoint_a and x.dtype.kind == "c":
        x = E.conj(x)
    if adjoint_b and y.dtype.kind == "c":
        y = E.conj(y)
    m, n = x.ndim, y.ndim
    if m >= 2 and n >= 2:
        return C.matmul(x, y, ta=ta, tb=tb) if ta or tb else C.matmul(x, y)
    if not m or not n:
        raise locate(
            ShapeError(
                f"matmul: left {show_shape(x.shape)}, right {show_shape(y.shape)}: a 0-d operand", remedy="use *"
            )
        )
    if not fit(x.shape[-1] if m == 1 or not ta else x.shape[-2], y.shape[0 if n == 1 else -1 if tb else -2]):
        raise locate(ShapeError(f"matmul: left {show_shape(x.shape)}, right {show_shape(y.shape)}: the sizes differ"))
    if m == 1:
        x, ta = S.reshape(x, shape=(1, *x.shape)), False
    if n == 1:
        y, tb = S.reshape(y, shape=(*y.shape, 1)), False
    z = C.matmul(x, y, ta=ta, tb=tb) if ta or tb else C.matmul(x, y)
    shape = tuple(z.shape)
    return S.reshape(z, shape=shape[:-2] + (() if m == 1 else shape[-2:-1]) + (() if n == 1 else shape[-1:]))


def own_matmul(a: Any, b: Any, **options: Any) -> Tensor:
    """The matrix product within other functions of matrices, which `autocast` leaves in their own type."""
    if context.autocast is None:
        return matmul(a, b, **options)
    with reading(None):
        return matmul(a, b, **options)


_native: Callable[[Any, Any], Any] | None = None


def _accelerate(function: Callable[[Any, Any], Any]) -> None:
    global _native
    _native = function


matmul.op = C.matmul  # type: ignore[attr-defined]
FUNCTIONS.append((matmul, _accelerate))


def _matmul(self: Operand, other: Any) -> Tensor:
    return matmul(self, other)


def _rmatmul(self: Operand, other: Any) -> Tensor:
    return matmul(other, self)


install_method("__matmul__", _matmul)
install_method("__rmatmul__", _rmatmul)


def matvec(a: Any, b: Any, transpose_a: bool = False, adjoint_a: bool = False, name: str | None = None) -> Tensor:
    """The products of matrices and vectors: the last axes of `a` (two) and `b` (one)."""
    transpose_a, adjoint_a = as_flag(transpose_a, "transpose_a"), as_flag(adjoint_a, "adjoint_a")
    if _native is not None and type(a) is Tensor and type(b) is Tensor and not (transpose_a or adjoint_a):
        if not activity.busy and a._a.ndim > 1 == b._a.ndim and (r := _native(a, b)) is not NotImplemented:
            return r  # type: ignore[no-any-return]
    if not (activity.busy or adjoint_a) and (quick := at_once(directlinalg.matvec, a, b, transpose_a)) is not None:
        return quick
    v = operand(b)
    y = matmul(a, S.reshape(v, shape=(*v.shape, 1)), transpose_a=transpose_a, adjoint_a=adjoint_a)
    return S.reshape(y, shape=tuple(y.shape[:-1]))


def _folded(a: Any, b: Any) -> Tensor | None:
    """Vectors and matrices multiplied as such, None where there is more to it."""
    native = C.matmul.native
    if native is not None and type(a) is Tensor and type(b) is Tensor and a._a.ndim < 3 and b._a.ndim < 3:
        if (r := native(a, b)) is not NotImplemented:
            return r  # type: ignore[no-any-return]
    return at_once(directlinalg.folded, a, b, 1)  # type: ignore[no-any-return]


def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Tensor:
    """Sum over pairs of axes: the last n of a with the first n of b, or the axes that two lists name."""
    if not activity.busy:
        if type(axes) is int and axes == 1 and (quick := _folded(a, b)) is not None:
            return quick
        if (quick := planned(tensordot, a, b, axes)) is not None:
            return quick
    x, y = factors(operand(a), operand(b))
    if isinstance(axes, (list, tuple)) or getattr(axes, "ndim", False):
        require(len(axes) == 2, f"axes are a number or a pair, not {axes!r}")
        left = [as_axis(i, x.ndim) for i in as_sizes(axes[0], "axes")]
        right = [as_axis(i, y.ndim) for i in as_sizes(axes[1], "axes")]
    else:
        n = int(as_size(axes, "axes"))
        require(0 <= n <= min(x.ndim, y.ndim), f"axes = {n} for tensors of {x.ndim} and {y.ndim} axes")
        left, right = list(range(x.ndim - n, x.ndim)), list(range(n))
    if len(left) != len(right) or not all(fit(x.shape[i], y.shape[j]) for i, j in zip(left, right)):
        raise locate(
            ShapeError(
                f"tensordot: axes {left} of {show_shape(x.shape)} and {right} of {show_shape(y.shape)} do not match"
            )
        )
    free_x = [i for i in range(x.ndim) if i not in left]
    free_y = [i for i in range(y.ndim) if i not in right]
    inner = product(tuple([x.shape[i] for i in left]))
    rows, columns = tuple([x.shape[i] for i in free_x]), tuple([y.shape[i] for i in free_y])
    p = S.reshape(permuted(x, free_x + left), shape=(product(rows), inner))
    q = S.reshape(permuted(y, right + free_y), shape=(inner, product(columns)))
    return S.reshape(C.matmul(p, q), shape=rows + columns)


def permuted(x: Operand, perm: Sequence[int]) -> Operand:
    return x if list(perm) == list(range(x.ndim)) else S.transpose(x, perm=tuple(perm))


# --- norms ------------------------------------------------------------------------------------------------------------
def norm(
    tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Tensor:
    """The norm of vectors along an axis, of matrices in two axes, or of all elements as one vector.

    Parameters
    ----------
    ord : for vectors "euclidean", a number p, 0 for how many elements are not 0, or ±inf; for matrices "euclidean" or
        "fro", "nuc" (the sum of the singular values), ±2 (the largest and the smallest of them), ±1 and ±inf (sums of
        columns and of rows)
    axis : None for all elements, an axis, or the two axes of matrices
    """
    if not activity.busy:
        whole = axis is None and not keepdims and type(ord) is str and ord in ("euclidean", "fro")
        if whole and (quick := at_once(directlinalg.euclidean_norm, tensor)) is not None:
            return quick
        if (quick := planned(norm, tensor, ord, axis, keepdims)) is not None:
            return quick
    x = floating(tensor)
    pair = axis is not None and not isinstance(axis, int) and len(as_sizes(axis, "axis")) == 2
    if isinstance(ord, str):
        require(ord in ("euclidean", "fro", "nuc"), f"no norm is called {ord!r}", "use 'euclidean', 'fro' or 'nuc'")
        require(pair or ord != "nuc", "the norm 'nuc' is one of matrices", "name two axes")
    else:
        require(isinstance(ord, (int, float)), f"ord is a name or a number, not {ord!r}")
    if ord in ("euclidean", "fro"):
        return E.sqrt(reduce_sum(_squared(x), axis, keepdims))
    if pair:
        return _matrix_norm(x, ord, as_sizes(axis, "axis"), keepdims)
    return _vector_norm(x, ord, axis, keepdims)


def _squared(x: Operand) -> Tensor:
    """The squares of the elements' sizes."""
    return E.square(x) if x.dtype.kind != "c" else E.add(E.square(E.real(x)), E.square(E.imag(x)))


def _sizes_of(x: Operand) -> Tensor:
    return E.abs_(x) if x.dtype.kind != "c" else E.sqrt(_squared(x))


def _vector_norm(x: Operand, ord: float, axis: Any, keepdims: bool) -> Tensor:
    if ord == 2:
        return E.sqrt(reduce_sum(_squared(x), axis, keepdims))
    size = _sizes_of(x)
    if ord in (math.inf, -math.inf):
        return (reduce_max if ord > 0 else reduce_min)(size, axis, keepdims)
    if ord == 0:
        return reduce_sum(E.cast(E.not_equal(x, 0), dtype=size.dtype), axis, keepdims)
    if ord == 1:
        return reduce_sum(size, axis, keepdims)
    return E.pow_(reduce_sum(E.pow_(size, float(ord)), axis, keepdims), 1.0 / ord)


def _matrix_norm(x: Operand, ord: Any, axes: Sequence[Any], keepdims: bool) -> Tensor:
    rows, columns = (as_axis(i, x.ndim) for i in axes)
    require(rows != columns, f"axis {tuple(axes)} names an axis twice")
    require(ord in ("nuc", 1, -1, 2, -2, math.inf, -math.inf), f"no norm of matrices is {ord!r}", "use 1, 2 or inf")
    if ord in ("nuc", 2, -2):
        from tracejit.ops.spectra import svdvals

        rest = [i for i in range(x.ndim) if i not in (rows, columns)]
        s = svdvals(permuted(x, [*rest, rows, columns]))
        y = (reduce_sum if ord == "nuc" else reduce_max if ord == 2 else reduce_min)(s, -1)
        if not keepdims:
            return y
        return S.reshape(y, shape=tuple([1 if i in (rows, columns) else d for i, d in enumerate(x.shape)]))
    first, second = (rows, columns) if abs(ord) == 1 else (columns, rows)
    y = (reduce_max if ord > 0 else reduce_min)(reduce_sum(_sizes_of(x), first, True), second, True)
    return y if keepdims else S.reshape(y, shape=tuple([d for i, d in enumerate(x.shape) if i not in (rows, columns)]))


def normalize(tensor: Any, ord: Any = "euclidean", axis: Any = None, name: str | None = None) -> tuple[Tensor, Tensor]:
    """The tensor divided by its norm, and the norm, whose axes are kept; arguments as those of `tj.norm`."""
    x = floating(tensor)
    size = norm(x, ord, axis, True)
    return E.div(x, size), size


def vector_norm(x: Any, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Tensor:
    """The norm of vectors along one axis or several, or of all elements; `ord` as that of vectors in `tj.norm`."""
    if not activity.busy and (quick := planned(vector_norm, x, axis, keepdims, ord)) is not None:
        return quick
    require(isinstance(ord, (int, float)), f"ord is a number, not {ord!r}")
    return _vector_norm(floating(x), ord, axis, keepdims)


def matrix_norm(x: Any, ord: Any = "fro", keepdims: bool = False) -> Tensor:
    """The norm of the matrices in the last two axes; `ord` as that of matrices in `tj.norm`."""
    return norm(x, ord, (-2, -1), keepdims)


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None) -> Tensor:
    """x / √Σ|x|² over axes; `epsilon` bounds the sum from below."""
    if not activity.busy and (quick := planned(l2_normalize, x, axis, epsilon)) is not None:
        return quick
    x = floating(x)
    if x.dtype.kind == "c":
        size = reduce_sum(E.square(E.abs_(x)), axis, True)
        return E.mul(x, E.cast(E.rsqrt(E.maximum(size, epsilon)), dtype=x.dtype))
    return E.mul(x, E.rsqrt(E.maximum(reduce_sum(E.square(x), axis, True), epsilon)))


# --- diagonals --------------------------------------------------------------------------------------------------------
def diag_part(input: Any, name: str | None = None) -> Tensor:
    """The main diagonals of the matrices in the last two axes."""
    if not activity.busy and (quick := planned(diag_part, input)) is not None:
        return quick
    x = operand(input)
    require(x.ndim >= 2, f"a diagonal needs two axes or more, the shape is {show_shape(x.shape)}")
    rows, columns = x.shape[-2:]
    n = rows if rows <= columns else columns
    flat = S.reshape(x, shape=(*x.shape[:-2], rows * columns))
    return cut(flat, x.ndim - 2, 0, n, columns + 1)


def diag(diagonal: Any, name: str | None = None) -> Tensor:
    """Matrices with the last axis on the main diagonal and zeros elsewhere."""
    if not activity.busy and (quick := planned(diag, diagonal)) is not None:
        return quick
    x = operand(diagonal)
    require(x.ndim >= 1, "diag needs one axis or more")
    n = x.shape[-1]
    on = E.equal(counter(n, 2, 0), counter(n, 2, 1))
    return E.where(on, S.reshape(x, shape=(*x.shape, 1)), convert(0, x.dtype))


def trace(x: Any, name: str | None = None) -> Tensor:
    """The sums of the main diagonals of the matrices in the last two axes."""
    if not activity.busy and (quick := planned(trace, x)) is not None:
        return quick
    return reduce_sum(diag_part(x), -1)


def band_part(input: Any, num_lower: Any, num_upper: Any, name: str | None = None) -> Tensor:
    """The matrices with zeros below `num_lower` subdiagonals and above `num_upper` superdiagonals; −1 keeps all."""
    if not activity.busy and (quick := planned(band_part, input, num_lower, num_upper)) is not None:
        return quick
    x = operand(input)
    require(x.ndim >= 2, f"band_part needs two axes or more, the shape is {show_shape(x.shape)}")
    below, above = _diagonals(num_lower), _diagonals(num_upper)
    rows, columns = counter(x.shape[-2], 2, 0), counter(x.shape[-1], 2, 1)
    keep: Any = None
    for most, away in ((below, E.sub(rows, columns)), (above, E.sub(columns, rows))):
        late = isinstance(most, Tensor)
        if late or most >= 0:
            inside = E.less_equal(away, most)
            inside = E.logical_or(inside, E.less(most, 0)) if late else inside
            keep = inside if keep is None else E.logical_and(keep, inside)
    return E.identity(x) if keep is None else E.where(keep, x, convert(0, x.dtype))


def _diagonals(n: Any) -> Any:
    """How many diagonals are kept: a number, or a 0-d tensor that the program computes."""
    return numbers(n, "a number of diagonals")[0] if isinstance(n, Operand) and computed(n) else as_size(n)


def matrix_transpose(a: Any, name: str | None = None, conjugate: bool = False) -> Tensor:
    """The last two axes exchanged."""
    if not conjugate and (native := fast.swap_last) is not None and (r := native(a)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    x = operand(a)
    y = swapaxes(x, -1, -2)
    return E.conj(y) if conjugate and x.dtype.kind == "c" else y


def outer(a: Any, b: Any) -> Tensor:
    """All products of an element of a with one of b, both flattened."""
    if not activity.busy and (quick := planned(outer, a, b)) is not None:
        return quick
    x, y = operand(a), operand(b)
    n, m = product(tuple(x.shape)), product(tuple(y.shape))
    return E.mul(S.reshape(x, shape=(n, 1)), S.reshape(y, shape=(1, m)))


def vecdot(a: Any, b: Any, axis: int = -1) -> Tensor:
    """Σ conj(a) · b along an axis; the others are broadcast."""
    if not activity.busy and (quick := planned(vecdot, a, b, axis)) is not None:
        return quick
    x, y = operand(a), operand(b)
    require(bool(x.ndim and y.ndim), "vecdot needs one axis or more")
    if axis != -1:
        x, y = moveaxis(x, axis, -1), moveaxis(y, axis, -1)
    if not fit(x.shape[-1], y.shape[-1]):
        raise locate(ShapeError(f"vecdot: {show_shape(x.shape)} and {show_shape(y.shape)}: the sizes differ"))
    return reduce_sum(E.mul(E.conj(x) if x.dtype.kind == "c" else x, y), -1)


def cross(a: Any, b: Any, name: str | None = None, axis: int = -1) -> Tensor:
    """The cross products of vectors of three elements along an axis; the others are broadcast."""
    if not activity.busy and (quick := planned(cross, a, b, None, axis)) is not None:
        return quick
    x, y = operand(a), operand(b)
    for t in (x, y):
        if not t.ndim or not known_equal(t.shape[as_axis(axis, t.ndim)], 3):
            raise locate(ShapeError(f"cross: {show_shape(x.shape)} and {show_shape(y.shape)}: vectors have 3 elements"))
    if axis != -1:
        x, y = moveaxis(x, axis, -1), moveaxis(y, axis, -1)
    (x1, y1), (x2, y2) = ([_turned(t, k) for t in (x, y)] for k in (1, 2))
    z = E.sub(E.mul(x1, y2), E.mul(x2, y1))
    return z if axis == -1 else moveaxis(z, -1, axis)


def _turned(x: Operand, k: int) -> Tensor:
    """The elements of vectors of three from the k-th on, and those before it behind them."""
    last = x.ndim - 1
    return S.concat(cut(x, last, k, 3 - k), cut(x, last, 0, k), axis=last)


def kron(a: Any, b: Any) -> Tensor:
    """The Kronecker product: blocks b times each element of a; the one with fewer axes gets new ones in front."""
    x, y = operand(a), operand(b)
    rank = max(x.ndim, y.ndim)
    sizes = [(*(1,) * (rank - t.ndim), *t.shape) for t in (x, y)]
    left = S.reshape(x, shape=tuple([d for n in sizes[0] for d in (n, 1)]))
    right = S.reshape(y, shape=tuple([d for n in sizes[1] for d in (1, n)]))
    return S.reshape(E.mul(left, right), shape=tuple([n * m for n, m in zip(*sizes, strict=True)]))


def global_norm(t_list: Any, name: str | None = None) -> Tensor:
    """√Σ of the squares of all elements of all tensors; None is left out. Of `IndexedSlices` the rows count, each for
    itself.
    """
    if not activity.busy and (quick := planned(global_norm, t_list)) is not None:
        return quick
    return E.sqrt(_sum_of_squares(t_list))


def _rows(t: Any) -> Any:
    return t.values if isinstance(t, IndexedSlices) else t


def _sum_of_squares(t_list: Any) -> Tensor:
    parts = [reduce_sum(E.square(floating(_rows(t)))) for t in listed(t_list, "t_list") if t is not None]
    require(bool(parts), "global_norm needs one tensor or more")
    return functools.reduce(E.add, parts)


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Tensor:
    """t scaled down so that its norm over axes is at most `clip_norm`. Of `IndexedSlices` the rows are scaled."""
    if isinstance(t, IndexedSlices):
        rows = clip_by_norm(t.values, clip_norm, axes)
        return IndexedSlices(rows, t.indices, t.dense_shape)  # type: ignore[return-value]
    if not activity.busy and (quick := planned(clip_by_norm, t, clip_norm, axes)) is not None:
        return quick
    x = floating(t)
    total = reduce_sum(E.square(x), axes, True)
    size = E.sqrt(E.where(E.equal(total, 0), 1.0, total))
    return E.mul(x, E.div(clip_norm, E.maximum(size, clip_norm)))


def clip_by_global_norm(t_list: Any, clip_norm: Any, use_norm: Any = None, name: str | None = None) -> tuple:
    """Tensors scaled down together so that their global norm is at most `clip_norm`; and that norm.

    Of `IndexedSlices` the rows count, each for itself, and stay rows.
    """
    given = listed(t_list, "t_list")
    t_list = [_rows(t) for t in given]
    total = None if use_norm is not None else _sum_of_squares(t_list)
    size = operand(use_norm) if total is None else E.sqrt(total)
    over = E.logical_not(E.less_equal(size, clip_norm))  # so is what is not a number
    # a root of its own, which never is that of 0: the slopes of that one have no slopes
    large = E.where(over, size, 1.0) if total is None else E.sqrt(E.where(over, total, 1.0))
    scale = E.where(over, E.div(clip_norm, large), 1.0)
    made = [None if t is None else E.mul(floating(t), E.cast(scale, dtype=operand(t).dtype)) for t in t_list]
    pairs = zip(made, given, strict=True)
    return [IndexedSlices(x, t.indices, t.dense_shape) if isinstance(t, IndexedSlices) else x for x, t in pairs], size


for _f in (diag_part, diag, band_part, outer, cross):
    exact(_f)
