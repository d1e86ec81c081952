"""Reading, writing and combining at positions that are data: gather, its transpose, put, and what adds or compares."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.op import Op
from tracejit.ir.sizes import product
from tracejit.ir.types import TensorType, int64, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import shape as S
from tracejit.ops.define import same_shape
from tracejit.ops.reduce import zeros_besides
from tracejit.tensor import Tensor


def _gather_infer(x: TensorType, i: TensorType, *, axis: int) -> TensorType:
    if i.dtype.kind not in "iu":
        raise DTypeError(f"indices have dtype {i.dtype.name}; they must be integers")
    if not 0 <= axis < x.rank:
        raise ShapeError(f"axis {axis} of {show_shape(x.shape)}")
    return TensorType(x.dtype, x.shape[:axis] + i.shape + x.shape[axis + 1 :])


def _gather_vjp(g: Tensor, y: Tensor, x: Tensor, i: Tensor, *, axis: int) -> tuple:
    return (scatter_sum(g, i, size=x.shape[axis], axis=axis), None)


gather: Op = Op(
    "gather", "index", _gather_infer, lambda x, i, *, axis: np.take(x, i, axis=axis), vjp=_gather_vjp,
    jvp=lambda t, y, x, i, *, axis: None if t[0] is None else gather(t[0], i, axis=axis), dtypes="biufc", arity=2,
    doc="The slices of x along an axis at the given indices; negative ones count from the end.",
)  # fmt: skip


def _scatter_infer(g: TensorType, i: TensorType, *, size: int, axis: int) -> TensorType:
    return TensorType(g.dtype, (*g.shape[:axis], size, *g.shape[axis + i.rank :]))


def combine_at(ufunc: np.ufunc, out: np.ndarray, i: np.ndarray, v: np.ndarray, axis: int = 0) -> np.ndarray:
    """`ufunc.at` along an axis, line by line or slice by slice, which is many times faster. Returns `out`."""
    if not out.flags.c_contiguous:
        ufunc.at(out, (slice(None),) * axis + (i,), v)  # type: ignore[arg-type]  # the stubs know of no slices here
        return out
    n, count = out.shape[axis], i.size
    lead, rest = math.prod(out.shape[:axis]), math.prod(out.shape[axis + 1 :])
    lines = lead * rest
    if not count * lines:
        if count and (i.min() < -n or i.max() >= n):
            raise IndexError(f"an index is out of bounds for axis {axis} with size {n}")
        return out
    to, of, at = out.reshape(lead, n, rest), v.reshape(lead, count, rest), i.reshape(-1)
    if count <= lines:
        for k, j in enumerate(at.tolist()):
            ufunc(to[:, j], of[:, k], out=to[:, j])
        return out
    for a in range(lead):
        for b in range(rest):
            ufunc.at(to[a, :, b], at, np.ascontiguousarray(of[a, :, b]))
    return out


MANY = 32  # summands of a bin from which they are kept in a wider type


def sum_at(g: np.ndarray, i: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Slices summed into zeros; narrow types in float32, and that in float64 where a bin may get many of them."""
    d = g.dtype
    kept = d
    if d.kind in "fV" and (d.itemsize < 4 or (d.itemsize < 8 and i.size > MANY * max(size, 1))):
        kept = np.dtype(np.float64 if d.itemsize == 4 else np.float32)
    if kept.char == "d" and g.ndim == i.ndim and (i.size == 0 or (i.min() >= 0 and i.max() < size)):
        return np.bincount(i.reshape(-1), g.reshape(-1), size).astype(d)
    v = g.astype(kept, copy=False)
    out = combine_at(np.add, np.zeros((*g.shape[:axis], size, *g.shape[axis + i.ndim :]), kept), i, v, axis)
    return out.astype(d, copy=False)


def _scatter(g: np.ndarray, i: np.ndarray, *, size: int, axis: int) -> np.ndarray:
    return sum_at(g, i, size, axis)


def _scatter_vjp(h: Tensor, y: Tensor, g: Tensor, i: Tensor, *, size: Any, axis: int) -> tuple:
    return (gather(h, i, axis=axis), None)


scatter_sum: Op = Op(
    "scatter_sum", "index", _scatter_infer, _scatter, vjp=_scatter_vjp,
    jvp=lambda t, y, g, i, *, size, axis: None if t[0] is None else scatter_sum(t[0], i, size=size, axis=axis),
    dtypes="iufc", arity=2, doc="Slices summed into zeros at the given indices: the transpose of gather.",
)  # fmt: skip


def _put_infer(x: TensorType, i: TensorType, v: TensorType, *, axis: int) -> TensorType:
    want = _gather_infer(x, i, axis=axis)
    if not same_shape(v.shape, want.shape) or v.dtype is not x.dtype:
        raise ShapeError(f"{v} is put where {want} would be read")
    return x.strong()


def _put(x: np.ndarray, i: np.ndarray, v: np.ndarray, *, axis: int) -> np.ndarray:
    out = x.copy()
    out[(slice(None),) * axis + (i,)] = v
    return out


def _put_vjp(g: Tensor, y: Tensor, x: Tensor, i: Tensor, v: Tensor, *, axis: int) -> tuple:
    kept = put(g, i, S.broadcast_to(E.cast(0, dtype=g.dtype), shape=tuple(v.shape)), axis=axis)
    own = gather(g, i, axis=axis)
    if i.ndim:
        own = E.where(_last_at(i, x.shape[axis], v.ndim, axis), own, 0)
    return (kept, None, own)


def _last_at(i: Tensor, size: Any, rank: int, axis: int) -> Tensor:
    """Which of the positions has no equal one behind it, as a mask that goes with what is put there."""
    n = product(tuple(i.shape))
    order = S.reshape(S.iota(shape=(n,), axis=0, dtype=int64), shape=tuple(i.shape))
    slots = S.broadcast_to(E.cast(0, dtype=int64), shape=(size,))
    last = E.equal(gather(put(slots, i, order, axis=0), i, axis=0), order)
    return S.reshape(last, shape=(1,) * axis + tuple(i.shape) + (1,) * (rank - axis - i.ndim))


def _put_jvp(t: tuple, y: Tensor, x: Tensor, i: Tensor, v: Tensor, *, axis: int) -> Tensor | None:
    if t[0] is None and t[2] is None:
        return None
    like = [
        S.broadcast_to(E.cast(0, dtype=p.dtype), shape=tuple(p.shape)) if d is None else d
        for d, p in ((t[0], x), (t[2], v))
    ]
    return put(like[0], i, like[1], axis=axis)


put: Op = Op(
    "put", "index", _put_infer, _put, vjp=_put_vjp, jvp=_put_jvp, dtypes="biufc", arity=3,
    doc="x with slices replaced at the given indices along an axis; of equal indices the last one counts.",
)  # fmt: skip


def _combine(ufunc: np.ufunc) -> Any:
    def run(x: np.ndarray, i: np.ndarray, v: np.ndarray, *, axis: int) -> np.ndarray:
        return combine_at(ufunc, x.copy("C"), i, v, axis)

    return run


def _add_at_jvp(t: tuple, y: Tensor, x: Tensor, i: Tensor, v: Tensor, *, axis: int) -> Tensor | None:
    if t[2] is None:
        return t[0]
    if t[0] is None:
        return scatter_sum(t[2], i, size=x.shape[axis], axis=axis)
    return add_at(t[0], i, t[2], axis=axis)


add_at: Op = Op(
    "add_at", "index", _put_infer, _combine(np.add),
    vjp=lambda g, y, x, i, v, *, axis: (g, None, gather(g, i, axis=axis)), jvp=_add_at_jvp, dtypes="iufc", arity=3,
    doc="x with slices added at the given indices along an axis; of equal indices each counts.",
)  # fmt: skip


def _ones(x: Tensor) -> Tensor:
    return S.broadcast_to(E.cast(1, dtype=x.dtype), shape=tuple(x.shape))


def _others(x: Tensor, i: Tensor, v: Tensor, axis: int) -> Tensor:
    """For each factor the product of x and the other factors of its place, right also where there are zeros."""
    def total(t: Tensor) -> Tensor:
        return gather(scatter_sum(t, i, size=x.shape[axis], axis=axis), i, axis=axis)

    zero = E.equal(v, 0)
    safe = E.where(zero, 1, v)
    rest = E.div(gather(mul_at(x, i, safe, axis=axis), i, axis=axis), safe)
    return E.multiply_no_nan(rest, zeros_besides(v, zero, total))


def _mul_at_vjp(g: Tensor, y: Tensor, x: Tensor, i: Tensor, v: Tensor, *, axis: int) -> tuple:
    own = E.mul(g, E.conjugate(mul_at(_ones(x), i, v, axis=axis)))
    return (own, None, E.mul(gather(g, i, axis=axis), E.conjugate(_others(x, i, v, axis))))


def _mul_at_jvp(t: tuple, y: Tensor, x: Tensor, i: Tensor, v: Tensor, *, axis: int) -> Tensor | None:
    terms = []
    if t[0] is not None:
        terms.append(E.mul(t[0], mul_at(_ones(x), i, v, axis=axis)))
    if t[2] is not None:
        terms.append(scatter_sum(E.mul(t[2], _others(x, i, v, axis)), i, size=x.shape[axis], axis=axis))
    return E.add(*terms) if len(terms) == 2 else terms[0] if terms else None


mul_at: Op = Op(
    "mul_at", "index", _put_infer, _combine(np.multiply), vjp=_mul_at_vjp, jvp=_mul_at_jvp, dtypes="iufc", arity=3,
    doc="x with slices multiplied by others at the given indices along an axis; of equal indices each counts.",
)  # fmt: skip


def _hits(y: Tensor, x: Tensor, i: Tensor, v: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which of the places and of the slices are the extreme of their place, as numbers, and how many share it."""
    ours = E.cast(E.equal(x, y), dtype=x.dtype)
    theirs = E.cast(E.equal(v, gather(y, i, axis=axis)), dtype=x.dtype)
    return ours, theirs, add_at(ours, i, theirs, axis=axis)


def _extreme_at_vjp(g: Tensor, y: Tensor, x: Tensor, i: Tensor, v: Tensor, *, axis: int) -> tuple:
    ours, theirs, count = _hits(y, x, i, v, axis)
    share = E.div(g, count)
    return (E.mul(share, ours), None, E.mul(gather(share, i, axis=axis), theirs))


def _extreme_at_jvp(t: tuple, y: Tensor, x: Tensor, i: Tensor, v: Tensor, *, axis: int) -> Tensor | None:
    if t[0] is None and t[2] is None:
        return None
    ours, theirs, count = _hits(y, x, i, v, axis)
    total: Any = None if t[0] is None else E.mul(t[0], ours)
    if t[2] is not None:
        moved = E.mul(t[2], theirs)
        size = x.shape[axis]
        total = scatter_sum(moved, i, size=size, axis=axis) if total is None else add_at(total, i, moved, axis=axis)
    return E.div(total, count)


def _extreme_at(name: str, ufunc: np.ufunc, word: str) -> Op:
    return Op(
        name, "index", _put_infer, _combine(ufunc), vjp=_extreme_at_vjp, jvp=_extreme_at_jvp, dtypes="iuf", arity=3,
        doc=f"x with the {word} of its slices and others at the given indices; equal ones share the gradient.",
    )  # fmt: skip


max_at, min_at = _extreme_at("max_at", np.maximum, "larger"), _extreme_at("min_at", np.minimum, "smaller")
COMBINED = {"add_at": "add", "mul_at": "mul", "max_at": "max", "min_at": "min"}  # how each combines
