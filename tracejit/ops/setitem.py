"""Item assignment as a function: `x[key] = value` as a new tensor, with NumPy's rules for keys and broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.errors import DTypeError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.sizes import product
from tracejit.ir.types import bool_, int64, promote, promote_weak
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import shape as S
from tracejit.ops.assign import put_at, replaced_where, spread, traced_mask
from tracejit.ops.check import require_index
from tracejit.ops.getitem import Cut, Flag, components, position
from tracejit.ops.select import linear_index
from tracejit.tensor import Operand, Tensor, convert, strong


def with_item(x: Operand, key: Any, value: Any, combine: Callable[[Any, Any], Any] | None = None) -> Tensor:
    """A tensor like x, in which the elements at `key` are `value`; with `combine`, what that makes of both.

    Of equal positions the last one counts. Raises `OutOfRangeError` as reading does, `ShapeError` for a value that does
    not broadcast, `DTypeError` for one that x's dtype does not hold: floats are never cut off to integers.
    """
    x = strong(x)
    key = key if type(key) is tuple else (key,)
    flag = single_flag(key)
    if flag is not None:
        return _where_all(x, flag, value, combine)
    mask = traced_mask(key)
    if mask is not None:
        return replaced_where(x, key, E.identity(mask), value, combine, fitting)
    new = fitting(x, value if combine is None else combine(x[key], value))
    parts = components(x, key)
    indices = [k for k in parts if isinstance(k, Operand)]
    if indices and not any(k.ndim for k in indices) and not any(k is None or isinstance(k, Flag) for k in parts):
        return _at_element(x, parts, new)
    plan = Cut(x, key)
    if not plan.arrays:
        return plan.replaced(x, spread(new, tuple(plan.shape)))
    return plan.replaced(x, put_at(plan.block(x), plan.arrays, new))


def single_flag(key: Any) -> Any:
    """The truth value that is all of a key: everything is assigned if it is true, else nothing; None for other keys."""
    key = key if type(key) is tuple else (key,)
    if len(key) != 1:
        return None
    (k,) = key
    flag = isinstance(k, (bool, np.bool_)) or (isinstance(k, (Operand, np.ndarray)) and not k.ndim and k.dtype == bool)
    return k if flag else None


def _where_all(x: Operand, flag: Any, value: Any, combine: Callable[[Any, Any], Any] | None) -> Tensor:
    new = spread(fitting(x, value if combine is None else combine(x, value)), tuple(x.shape))
    return E.where(convert(flag, bool_), new, x)  # type: ignore[no-any-return]


def fitting(x: Operand, value: Any) -> Tensor:
    """The value in x's dtype, unless that would lose precision."""
    t = value if isinstance(value, Operand) else convert(value, x.dtype)
    t = t if type(t) is Tensor else E.identity(t)
    weak = type(t._a) is Value and t._a.type.weak  # a Python number: its kind counts
    if t.dtype is x.dtype and not weak:
        return t
    number = "i" if t.dtype.kind in "iu" else t.dtype.kind
    if (promote_weak(x.dtype, number) if weak else promote(x.dtype, t.dtype)) is not x.dtype:
        said = f"cannot assign {t.type} to elements of a tensor {x.type}: it would lose precision"
        raise locate(DTypeError(said, remedy=f"tj.cast(value, tj.{x.dtype.name})"))
    return E.cast(t, dtype=x.dtype)


def _at_element(x: Operand, parts: list[Any], value: Tensor) -> Tensor:
    """x with the element, or the slice, at one position of some axes replaced; slices remain in the others."""
    fixed = [a for a, k in enumerate(parts) if not isinstance(k, slice)]
    rest = tuple([k for k in parts if isinstance(k, slice)])
    shape = tuple(x.shape)
    at = [_index(k, shape, a) for a, k in zip(fixed, [parts[a] for a in fixed], strict=True)]
    perm = None
    if fixed != list(range(fixed[0], fixed[-1] + 1)):
        perm = (*fixed, *[a for a in range(x.ndim) if a not in fixed])
        x = S.transpose(x, perm=perm)
    axis, ordered = 0 if perm else fixed[0], tuple(x.shape)
    place = at[0]
    if len(fixed) > 1:
        sizes = ordered[axis : axis + len(fixed)]
        x = S.reshape(x, shape=(*ordered[:axis], product(sizes), *ordered[axis + len(fixed) :]))
        place = linear_index(at, sizes)
    if all(k == slice(None) for k in rest):
        value = spread(value, (*x.shape[:axis], *x.shape[axis + 1 :]))  # type: ignore[assignment]
    else:
        old = I.gather(x, place, axis=axis)
        plan = Cut(old, rest)
        value = plan.replaced(old, spread(value, tuple(plan.shape)))
    new = I.put(x, place, value, axis=axis)
    if len(fixed) > 1:
        new = S.reshape(new, shape=ordered)
    return new if perm is None else S.transpose(new, perm=tuple([perm.index(a) for a in range(len(perm))]))


def _index(k: Any, shape: tuple[Any, ...], axis: int) -> Operand:
    if isinstance(k, (int, Dim)):
        return convert(position(k, shape[axis], axis, shape), int64)
    require_index(k, shape[axis], axis)
    return k  # type: ignore[no-any-return]
