"""Matrices made of bands, and bands taken out of matrices, under TensorFlow's names and alignments."""

from __future__ import annotations

from typing import Any

from tracejit.context import activity
from tracejit.errors import ShapeError, locate
from tracejit.ir.sizes import is_unit, known_equal, product
from tracejit.ir.types import show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import linalg
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_size, as_sizes, operand, require
from tracejit.ops.creation import counter, zeros
from tracejit.ops.quick import traced
from tracejit.ops.solve import triangular_solve
from tracejit.tensor import Operand, Tensor, convert

_ALIGNMENTS = ("RIGHT_LEFT", "LEFT_RIGHT", "LEFT_LEFT", "RIGHT_RIGHT")


class _Band:
    """Diagonals low … high of matrices with these sizes, and where the shorter ones of them begin in their rows."""

    def __init__(self, low: int, high: int, rows: Size, columns: Size, align: str) -> None:
        require(align in _ALIGNMENTS, f"align is one of {', '.join(map(repr, _ALIGNMENTS))}, not {align!r}")
        self.low, self.high, self.rows, self.columns = low, high, rows, columns
        above, below = align.split("_")
        self.left = (above == "LEFT", below == "LEFT")
        self.longest = _smaller(rows + min(high, 0), columns - max(low, 0))

    def offset(self, d: Tensor) -> Tensor:
        """Where the elements of diagonals begin."""
        up, down = E.maximum(d, 0), E.minimum(d, 0)
        length = E.minimum(E.add(down, self.rows), E.sub(self.columns, up))
        after = E.sub(self.longest, length)
        left = [E.greater_equal(d, 0) if self.left[0] else None, E.less_equal(d, 0) if self.left[1] else None]
        for begins in left:
            if begins is not None:
                after = E.where(begins, 0, after)
        return after


def _smaller(a: Size, b: Size) -> Size:
    return a if a is b or known_equal(a, b) or a <= b else b


def _limits(k: Any) -> tuple[int, int]:
    """The lowest and the highest diagonal."""
    both = [int(d) for d in as_sizes(k, "k")]
    require(1 <= len(both) <= 2 and both[0] <= both[-1], f"k is a diagonal, or the lowest and the highest, not {k!r}")
    return both[0], both[-1]


def _within(b: _Band, what: str) -> None:
    last, first = b.columns - 1, 1 - b.rows
    inside = b.low >= first and b.high <= last
    if not (inside or (b.low == b.high == 0)):
        shape = show_shape((b.rows, b.columns))
        raise locate(ShapeError(f"{what}: diagonals {b.low} … {b.high} are not all inside matrices of shape {shape}"))


def _filled(x: Operand, b: _Band, others: Any) -> Tensor:
    """Matrices with bands in their place and `others` around them; x has the bands as rows."""
    r, c = counter(b.rows, 2, 0), counter(b.columns, 2, 1)
    d = E.sub(c, r)
    inside = E.logical_and(E.greater_equal(d, b.low), E.less_equal(d, b.high))
    at = E.add(E.add(E.mul(E.sub(b.high, d), b.longest), E.minimum(r, c)), b.offset(d))
    lead = tuple(x.shape[:-2])
    if known_equal(x.shape[-1], 0):
        return S.broadcast_to(others, shape=(*lead, b.rows, b.columns))
    flat = S.reshape(x, shape=(*lead, product(tuple(x.shape[-2:]))))
    values = I.gather(flat, E.where(inside, at, 0), axis=len(lead))
    return E.where(inside, values, others)


def _as_rows(diagonal: Operand, b: _Band) -> Operand:
    """Bands as rows; a single one may have no axis for it."""
    count = b.high - b.low + 1
    x = diagonal
    if count == 1:
        x = S.reshape(x, shape=(*x.shape[:-1], 1, x.shape[-1]))
    if x.ndim < 2 or not known_equal(x.shape[-2], count) or not known_equal(x.shape[-1], b.longest):
        want = f"(…, {b.longest})" if count == 1 else f"(…, {count}, {b.longest})"
        raise locate(ShapeError(f"diagonals of shape {show_shape(diagonal.shape)}, they need {want}"))
    return x


def diag(
    diagonal: Any, name: str | None = None, k: Any = 0, num_rows: Any = -1, num_cols: Any = -1, padding_value: Any = 0,
    align: str = "RIGHT_LEFT",
) -> Tensor:  # fmt: skip
    """Matrices with the given diagonals and `padding_value` elsewhere.

    Parameters
    ----------
    diagonal : shape (…, n) for one diagonal; (…, count, n) for several, the highest first, where n is the length of
        the longest and `align` says at which end of their rows shorter ones lie
    k : the diagonal, or the lowest and the highest; 0 is the main one, those above it are positive
    num_rows, num_cols : sizes of the matrices, by default square and as small as the diagonals allow
    align : for those above and below the main one, "RIGHT_LEFT" by default
    """
    if not activity.busy:
        if (quick := traced(diag, diagonal, None, k, num_rows, num_cols, padding_value, align)) is not None:
            return quick
    x = operand(diagonal)
    require(x.ndim >= 1, "diag needs one axis or more")
    low, high = _limits(k)
    rows, columns = as_size(num_rows), as_size(num_cols)
    free = [isinstance(n, int) and n == -1 for n in (rows, columns)]
    if low == high == 0 and all(free) and isinstance(padding_value, (int, float)) and padding_value == 0:
        return linalg.diag(x)
    n = x.shape[-1]
    least = [n - min(high, 0), n + max(low, 0)]
    if all(free):
        rows = columns = least[0] if least[0] is least[1] or least[0] >= least[1] else least[1]
    else:
        rows, columns = (w if f else v for v, w, f in zip((rows, columns), least, free, strict=True))
    b = _Band(low, high, rows, columns, align)
    return _filled(_as_rows(x, b), b, convert(padding_value, x.dtype))


def diag_part(
    input: Any, name: str | None = None, k: Any = 0, padding_value: Any = 0, align: str = "RIGHT_LEFT"
) -> Tensor:
    """Diagonals of the matrices in the last two axes: (…, n) for one, (…, count, n) for several, the highest first.

    `k` is the diagonal, or the lowest and the highest. Shorter ones lie at the ends of their rows that `align` says,
    with `padding_value` beside them. Raises `ShapeError` for diagonals outside the matrices.
    """
    if not activity.busy and (quick := traced(diag_part, input, None, k, padding_value, align)) is not None:
        return quick
    x = operand(input)
    low, high = _limits(k)
    if low == high == 0:
        return linalg.diag_part(x)
    require(x.ndim >= 2, f"a diagonal needs two axes or more, the shape is {show_shape(x.shape)}")
    b = _Band(low, high, x.shape[-2], x.shape[-1], align)
    _within(b, "diag_part")
    d, j = E.sub(high, counter(high - low + 1, 2, 0)), counter(b.longest, 2, 1)
    up, down = E.maximum(d, 0), E.minimum(d, 0)
    i = E.sub(j, b.offset(d))
    length = E.minimum(E.add(down, b.rows), E.sub(b.columns, up))
    inside = E.logical_and(E.greater_equal(i, 0), E.less(i, length))
    at = E.add(E.mul(E.sub(i, down), b.columns), E.add(i, up))
    lead = tuple(x.shape[:-2])
    flat = S.reshape(x, shape=(*lead, b.rows * b.columns))
    values = I.gather(flat, E.where(inside, at, 0), axis=len(lead))
    y = E.where(inside, values, convert(padding_value, x.dtype))
    return S.reshape(y, shape=(*lead, b.longest)) if low == high else y


def set_diag(input: Any, diagonal: Any, name: str | None = None, k: Any = 0, align: str = "RIGHT_LEFT") -> Tensor:
    """The matrices in the last two axes with these diagonals in the place of theirs; others stay.

    `diagonal` and `align` are as `tj.linalg.diag_part` gives and takes them. Raises `ShapeError` for sizes that do not
    fit.
    """
    if not activity.busy and (quick := traced(set_diag, input, diagonal, None, k, align)) is not None:
        return quick
    x = operand(input)
    values = operand(diagonal, x.dtype)
    require(x.ndim >= 2, f"a diagonal needs two axes or more, the shape is {show_shape(x.shape)}")
    low, high = _limits(k)
    b = _Band(low, high, x.shape[-2], x.shape[-1], align)
    _within(b, "set_diag")
    rows = _as_rows(values, b)
    if rows.ndim != x.ndim or not all(map(known_equal, rows.shape[:-2], x.shape[:-2])):
        shapes = f"{show_shape(values.shape)} for matrices {show_shape(x.shape)}"
        raise locate(ShapeError(f"diagonals of shape {shapes}: the leading axes differ"))
    return _filled(rows, b, x)


def tensor_diag(diagonal: Any, name: str | None = None) -> Tensor:
    """A tensor of twice the axes, with the elements where both halves of the position are alike, and zeros."""
    if not activity.busy and (quick := traced(tensor_diag, diagonal)) is not None:
        return quick
    x = operand(diagonal)
    shape = tuple(x.shape)
    return S.reshape(linalg.diag(S.reshape(x, shape=(product(shape),))), shape=shape * 2)


def tensor_diag_part(input: Any, name: str | None = None) -> Tensor:
    """The elements at positions both halves of which are alike; the shape has to be one twice."""
    if not activity.busy and (quick := traced(tensor_diag_part, input)) is not None:
        return quick
    x = operand(input)
    half = x.ndim // 2
    shape = tuple(x.shape[:half])
    if x.ndim % 2 or not x.ndim or not all(map(known_equal, shape, x.shape[half:])):
        raise locate(ShapeError(f"shape {show_shape(x.shape)} is not one shape twice"))
    n = product(shape)
    return S.reshape(linalg.diag_part(S.reshape(x, shape=(n, n))), shape=shape)


def banded_triangular_solve(
    bands: Any, rhs: Any, lower: bool = True, adjoint: bool = False, name: str | None = None
) -> Tensor:
    """x with T · x = rhs, or Tᴴ · x = rhs, for triangles T that are given by their diagonals.

    `bands` has shape (…, count, n): the main diagonal and `count` − 1 below it, or above it unless `lower`, the highest
    first, aligned "LEFT_RIGHT". Raises `ArgumentError` when the main diagonal has a zero.
    """
    x = operand(bands)
    require(x.ndim >= 2, f"bands need two axes or more, the shape is {show_shape(x.shape)}")
    count, n = as_size(x.shape[-2]), x.shape[-1]
    k = (1 - count, 0) if lower else (0, count - 1)
    single = S.reshape(x, shape=(*x.shape[:-2], n)) if is_unit(count) else x
    full = set_diag(zeros((*x.shape[:-2], n, n), x.dtype), single, k=k, align="LEFT_RIGHT")
    return triangular_solve(full, rhs, lower, adjoint)
