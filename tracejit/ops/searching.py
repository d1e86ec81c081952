"""Searching: positions in sorted sequences, what is different in a list, permutations and their inverses."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.context import activity
from tracejit.errors import ArgumentError, DTypeError, ShapeError, locate
from tracejit.ir.op import Op
from tracejit.ir.sizes import known_equal, product
from tracejit.ir.types import TensorType, as_dtype, int32, int64, show_shape
from tracejit.ops import directplaces, found
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import reduce as R
from tracejit.ops import shape as S
from tracejit.ops.args import eager_only, operand, require, waits
from tracejit.ops.array import concat, cut
from tracejit.ops.check import require_all, require_index
from tracejit.ops.creation import counter
from tracejit.ops.define import numpy_name, same_shape
from tracejit.ops.quick import at_once, traced
from tracejit.ops.results import Unique, UniqueWithCounts
from tracejit.ops.select import in_order
from tracejit.tensor import Operand, Tensor, common_dtype, convert, quietly


def _search_infer(s: TensorType, v: TensorType, *, right: bool) -> TensorType:
    if s.dtype is not v.dtype or s.dtype.kind not in "biuf":
        raise DTypeError(f"values of {v.dtype.name} are not searched for among {s.dtype.name}")
    if not s.rank or s.rank != v.rank or not same_shape(s.shape[:-1], v.shape[:-1]):
        raise ShapeError(f"values {v} do not go with sequences {s}: all axes but the last are the same")
    return TensorType(int64, v.shape)


def _search(s: np.ndarray, v: np.ndarray, *, right: bool) -> np.ndarray:
    side: Any = "right" if right else "left"
    s, v = R.in_float32(s), R.in_float32(v)
    if s.size and not (s[..., :-1] <= s[..., 1:]).all():
        return _halved(s, v, right)
    if s.ndim == 1:
        return np.searchsorted(s, v, side)
    out = np.empty(v.shape, np.int64)
    for at in np.ndindex(*s.shape[:-1]):
        out[at] = np.searchsorted(s[at], v[at], side)
    return out


def _halved(s: np.ndarray, v: np.ndarray, right: bool) -> np.ndarray:
    """The steps that native code takes: what they find in rows that are not in order, no order says."""

    def before(at: np.ndarray) -> np.ndarray:
        x = np.take_along_axis(s, at, -1)
        low, high = (v, x) if right else (x, v)
        less = (low < high) | (np.isnan(high) & ~np.isnan(low)) if s.dtype.kind == "f" else low < high
        return ~less if right else less

    base, left = np.zeros(v.shape, np.int64), s.shape[-1]
    while left > 1:
        half = left // 2
        base = np.where(before(base + (half - 1)), base + half, base)
        left -= half
    return base + before(base)


search: Op = Op(
    "search", "opaque", _search_infer, _search, dtypes="biuf", arity=2,
    doc="How many elements of an ascending last axis are below each value, or not above it where `right`; int64.",
)  # fmt: skip


def searchsorted(
    sorted_sequence: Any, values: Any, side: str = "left", out_type: Any = int32, name: str | None = None
) -> Tensor:
    """Where in an ascending last axis values belong: before the first that is not below them ("left"), or after the
    last that is not above them ("right").

    sorted_sequence   (…, n): rows in ascending order, NaN after everything else; a single row (n,) is for values of any
                      shape
    values            (…, m) with the same leading axes
    result            of the shape of the values, of `out_type` (int32 or int64)

    Raises `ShapeError` if the leading axes differ.
    """
    if not activity.busy and (quick := traced(searchsorted, sorted_sequence, values, side, out_type)) is not None:
        return quick
    require(side in ("left", "right"), f"side is 'left' or 'right', not {side!r}")
    d = common_dtype((sorted_sequence, values))[0]
    s, v = operand(sorted_sequence, d), operand(values, d)
    if d.kind == "c":
        raise locate(DTypeError(f"{d.name} has no order to search in"))
    if not s.ndim:
        raise locate(ShapeError("sorted_sequence has no axis"))
    shape = tuple(v.shape)
    if s.ndim == 1:
        v = S.reshape(v, shape=(product(shape),))
    elif not same_shape(tuple(s.shape[:-1]), shape[:-1]):
        raise locate(ShapeError(f"values {v.type} do not go with sequences {s.type}: axes before the last differ"))
    y = search(s, v, right=side == "right")
    out = as_dtype(out_type)
    if out.kind not in "iu":
        raise locate(DTypeError(f"out_type must be an integer type, not {out.name}"))
    return S.reshape(E.cast(y, dtype=out), shape=shape)


@numpy_name("searchsorted")
def _np_searchsorted(a: Any, v: Any, side: str = "left") -> Tensor:
    return searchsorted(a, v, side, int64)


# --- what is different ------------------------------------------------------------------------------------------------
def _list(x: Any, what: str) -> Operand:
    x = operand(x)
    if x.ndim != 1:
        raise locate(ShapeError(f"{what} is a list, not a tensor of shape {show_shape(x.shape)}"))
    if x.dtype.kind == "c":
        raise locate(DTypeError(f"{what} has dtype {x.dtype.name}, which has no order"))
    return x


def _first_equals(x: Operand) -> Tensor:
    """For each element of a list the position of the first that is equal to it. NaN equals nothing."""
    n = x.shape[0]
    order = R.argsort(x, axis=0, descending=False)
    line = I.gather(x, order, axis=0)
    again = E.equal(line, cut(concat([line, line], 0), 0, n - 1, n) if not known_equal(n, 0) else line)
    leads = E.logical_or(E.equal(counter(n, 1, 0, int64), 0), E.logical_not(again))
    run = E.sub(R.cumsum(E.cast(leads, dtype=int64), axis=0, exclusive=False, reverse=False), 1)
    head = I.scatter_sum(E.where(leads, order, 0), run, size=n, axis=0)
    return I.put(S.broadcast_to(convert(0, int64), shape=(n,)), order, I.gather(head, run, axis=0), axis=0)


def _hits(mask: Tensor, what: str) -> Tensor:
    return found.hits(mask) if waits(mask) else convert(np.flatnonzero(eager_only(mask, what)))


def _distinct(x: Operand) -> tuple[Tensor, Tensor]:
    """The positions of the elements that no earlier one equals, and for each element the number of its own of these."""
    if not waits(x):
        a = R.in_float32(x._value("x"))
        _, heads, own = quietly(lambda: np.unique(a, return_index=True, return_inverse=True, equal_nan=False))
        order = np.argsort(heads)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return convert(heads[order]), convert(rank[own])
    first = _first_equals(x)
    new = E.equal(first, counter(x.shape[0], 1, 0, int64))
    number = R.cumsum(E.cast(new, dtype=int64), axis=0, exclusive=True, reverse=False)
    return _hits(new, "unique"), I.gather(number, first, axis=0)


def unique(x: Any, out_idx: Any = int32, name: str | None = None) -> Unique:
    """The different elements of a list in the order in which they come first, and for each element its place there.

    `y, idx = unique(x)`: `x[i] == y[idx[i]]`. How many there are the program finds out. NaN equals nothing.
    """
    if not activity.busy and (quick := at_once(directplaces.unique, x, out_idx)) is not None:
        return Unique(*quick)
    x = _list(x, "x")
    places, number = _distinct(x)
    return Unique(I.gather(x, places, axis=0), E.cast(number, dtype=as_dtype(out_idx)))


def unique_with_counts(x: Any, out_idx: Any = int32, name: str | None = None) -> UniqueWithCounts:
    """As `unique`, and how often each of the different elements is there."""
    if not activity.busy and (quick := at_once(directplaces.unique_with_counts, x, out_idx)) is not None:
        return UniqueWithCounts(*quick)
    x = _list(x, "x")
    d = as_dtype(out_idx)
    places, number = _distinct(x)
    one = S.broadcast_to(convert(1, d), shape=tuple(x.shape))
    counts = I.scatter_sum(one, number, size=places.shape[0], axis=0)
    return UniqueWithCounts(I.gather(x, places, axis=0), E.cast(number, dtype=d), counts)


@numpy_name("unique")
def _np_unique(ar: Any) -> Tensor:
    """In ascending order, NaN once."""
    x = operand(ar)
    n = product(tuple(x.shape))
    line = in_order(S.reshape(x, shape=(n,)), axis=0, descending=False)
    before = cut(concat([line, line], 0), 0, n - 1, n) if not known_equal(n, 0) else line
    again = E.equal(line, before)
    if x.dtype.kind == "f":
        again = E.logical_or(again, E.logical_and(E.not_equal(line, line), E.not_equal(before, before)))
    new = E.logical_or(E.equal(counter(n, 1, 0, int64), 0), E.logical_not(again))
    return I.gather(line, _hits(new, "unique"), axis=0)  # type: ignore[no-any-return]


# --- permutations and positions ---------------------------------------------------------------------------------------
def invert_permutation(x: Any, name: str | None = None) -> Tensor:
    """y with `y[x[i]] == i`. Raises `ArgumentError` unless x holds each of 0 … n − 1 once."""
    if not activity.busy and (quick := traced(invert_permutation, x)) is not None:
        return quick
    x = _list(x, "x")
    if x.dtype.kind not in "iu":
        raise locate(DTypeError(f"a permutation holds integers, not {x.dtype.name}"))
    n = x.shape[0]
    require_index(x, n, 0)
    steps = counter(n, 1, 0, x.dtype)
    y = I.put(E.mul(steps, 0), x, steps, axis=0)
    once = I.gather(y, x, axis=0)
    ok = E.equal(once, steps)
    if x.dtype.kind == "i":
        ok = E.logical_and(ok, E.greater_equal(x, 0))
    require_all(ok, "a permutation holds each of its positions once, not {}", [x])
    return y


def unravel_index(indices: Any, dims: Any, name: str | None = None) -> Tensor:
    """The coordinates of positions in the flattened array of shape `dims`, a row for each axis.

    Raises `OutOfRangeError` for positions outside.
    """
    if not activity.busy and (quick := traced(unravel_index, indices, dims)) is not None:
        return quick
    from_, sizes = operand(indices), operand(dims)
    if from_.dtype.kind not in "iu" or sizes.dtype.kind not in "iu" or sizes.ndim != 1:
        raise locate(DTypeError(f"indices {from_.type} and dims {sizes.type} are integers, dims a list"))
    k = int(sizes.shape[0])
    total: Any = R.reduce_prod(E.cast(sizes, dtype=int64), axis=(0,))
    i = E.cast(from_, dtype=int64)
    inside = E.logical_and(E.greater_equal(i, 0), E.less(i, total))
    require_all(inside, "index {} is outside an array of shape {}", [from_, sizes], "OutOfRangeError")
    rows: list[Tensor] = []
    for j in reversed(range(k)):
        size = S.reshape(cut(E.cast(sizes, dtype=int64), 0, j, 1), shape=())
        rows.append(E.floormod(i, size))
        i = E.floordiv(i, size)
    if not rows:
        raise locate(ArgumentError("dims names no axis"))
    whole = [S.reshape(E.cast(r, dtype=from_.dtype), shape=(1, *r.shape)) for r in reversed(rows)]
    return concat(whole, 0)
