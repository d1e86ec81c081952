"""Assigning to a part of a Variable: `v[key].assign(value)` for slices, index arrays and masks, eager and traced."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import numpy as np

from tracejit.context import activity, context, reading
from tracejit.errors import ArgumentError, MissingAttributeError, OutOfRangeError, ShapeError, TracedValueError, locate
from tracejit.fast import fast
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.op import OPS
from tracejit.ir.sizes import fit, known_equal, now_unit, product
from tracejit.ir.types import broadcast_shapes, int64, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import reductions as R
from tracejit.ops import shape as S
from tracejit.ops.args import Size
from tracejit.ops.check import require_index
from tracejit.ops.creation import counter
from tracejit.ops.getitem import Cut, Flag, Places, components, getitem, plain
from tracejit.publicnames import OTHERS
from tracejit.spreading import spread_to
from tracejit.tensor import Operand, Tensor, Variable, convert, quietly, run_silently, wrap
from tracejit.variable import _assign


def _variable_getitem(v: Variable, key: Any) -> Tensor:
    mask = traced_mask(key)
    if mask is not None:
        return _MaskedSlice(v, key, mask)  # type: ignore[return-value]
    t = getitem(v, key)
    if type(t._a) is not Value and np.may_share_memory(t._a, v._a):
        t._a = quietly(t._a.copy)
    t._slice_of = (v, key)
    return t


def traced_mask(key: Any) -> Operand | None:
    """The mask in a key whose values only the running program knows."""
    if context.trace is None:
        return None
    for k in key if type(key) is tuple else (key,):
        mask = isinstance(k, Operand) and k.dtype.kind == "b" and k.ndim
        if mask and (type(k._a) is Value or isinstance(k, Variable)):
            return k
    return None


def _slice_method(combine: Callable[[Any, Any], Any] | None) -> Callable[..., Variable]:
    def method(
        self: Tensor, value: Any, use_locking: bool = False, name: Any = None, read_value: bool = True
    ) -> Variable:
        v, key = self._slice_of
        if not activity.busy and (Variable.assign is _assign) and (native := fast.put) is not None:
            new = value if combine is None else _combined(combine, v, key, value)
            if native(v, key, new) is not NotImplemented:
                return v  # type: ignore[no-any-return]
        if context.autocast is not None:
            with reading(None):
                return method(self, value)
        if combine is None and not activity.busy and _put(v, key, value):
            return v  # type: ignore[no-any-return]
        key = key if type(key) is tuple else (key,)
        if combine is not None:
            value = combine(getitem(v, key), value)
        return v.assign(_replaced(v, key, value))

    return method


def _combined(combine: Callable[[Any, Any], Any], v: Variable, key: Any, value: Any) -> Any:
    """What is there now, combined with a value; None where that is not simple."""
    try:
        return combine(v[key], value)
    except Exception:  # the ordinary way explains what is wrong
        return None


_EXACT = 1 << 24  # integers up to which float32 has all
_PLAIN = frozenset((int, slice, type(Ellipsis)))


def _put(v: Variable, key: Any, value: Any) -> bool:
    """Assign to a part of a Variable if it is simple: a number or a tensor of its type at integers and slices."""
    if type(v) is not Variable or Variable.assign is not _assign:
        return False
    if type(key) not in _PLAIN and not (type(key) is tuple and _PLAIN.issuperset(map(type, key))):
        return False
    a, kind = v._a, type(value)
    if kind is Tensor:
        if value._a.dtype is not a.dtype:
            return False
        value = value._a if value._a.size != 1 else value._a.reshape(())
    elif a.dtype.char not in "fd" or not (kind is float or (kind is int and -_EXACT <= value <= _EXACT)):
        return False
    try:
        new = run_silently(a.copy)
        run_silently(new.__setitem__, key, value)
    except Exception:  # the ordinary way explains what is wrong
        return False
    v._a = new
    return True


SLICE_METHODS: dict[str, Any] = {
    "assign": _slice_method(None), "assign_add": _slice_method(E.add), "assign_sub": _slice_method(E.sub),
}  # fmt: skip


OTHERS += [(f"v[key].{name}", method) for name, method in SLICE_METHODS.items()]


def _only_of_slices(name: str, method: Callable[..., Variable]) -> property:
    """A method of tensors that know which part of a Variable they are a copy of; others lack it. (A `__getattr__`
    would cost time wherever NumPy asks for an attribute that tensors do not have.)
    """
    slice_of = Operand._slice_of.__get__

    def get(self: Tensor) -> Any:
        try:
            slice_of(self)
        except AttributeError:
            raise MissingAttributeError(
                f"'Tensor' object has no attribute {name!r}: only a Variable, or a slice of one, can be assigned"
            ) from None
        return MethodType(method, self)

    return property(get, doc=method.__doc__)


def _replaced(v: Variable, key: tuple, value: Any) -> Tensor:
    """The Variable's value with the elements at `key` replaced."""
    value = convert(value, v.dtype) if not isinstance(value, Operand) else value
    value = v._fitting_dtype(value)
    if context.trace is None:
        a = quietly(v._a.copy)
        new = value._value("an assigned value")
        try:
            a[tuple([plain(k) for k in key])] = new.reshape(()) if new.size == 1 else new
        except IndexError as e:
            raise locate(OutOfRangeError(f"{e} (the Variable is {v.type})")) from None
        except ValueError as e:
            raise locate(ShapeError(f"cannot assign {value.type} to a slice of {v._label()}: {e}")) from None
        return wrap(a)
    plan = Cut(v, key)
    if not plan.arrays:
        return plan.replaced(v, spread(value, tuple(plan.shape)))
    if len(plan.arrays) == 1 and not any(i.ndim for i in plan.arrays.values()):
        return plan.replaced(v, _at_one(plan.block(v), *next(iter(plan.arrays.items())), value))
    return plan.replaced(v, put_at(plan.block(v), plan.arrays, value))


def _at_one(block: Operand, axis: int, i: Operand, value: Operand) -> Tensor:
    """The block with another value at one position of an axis: a mask of where it is, which fuses."""
    n, shape = block.shape[axis], tuple(block.shape)
    require_index(i, n, axis)
    at = E.where(E.less(i, 0), E.add(i, n), i)
    new = spread(value, (*shape[:axis], *shape[axis + 1 :]))
    new = S.reshape(new, shape=(*shape[:axis], 1, *shape[axis + 1 :]))
    return E.where(E.equal(counter(n, len(shape), axis, i.dtype), at), new, block)


def put_at(x: Operand, arrays: dict[int, Operand], value: Operand) -> Tensor:
    """x with the elements that `_pick` gives replaced; where positions are equal the last one counts."""
    p = Places(x, arrays)
    shape = (*p.x.shape[: p.axis], *p.at.shape, *p.x.shape[p.axis + 1 :])
    return p.back(I.put(p.x, p.at, spread(value, shape), axis=p.axis))


def spread(value: Operand, shape: tuple[Size, ...]) -> Operand:
    """The value repeated to a shape, as NumPy does it in an assignment: leading axes of size 1 may be too many."""
    more = value.ndim - len(shape)
    if more > 0 and all(map(now_unit, value.shape[:more])):
        value = S.reshape(value, shape=tuple(value.shape[more:]))
    if tuple(value.shape) == shape:
        return value
    if context.trace is not None:
        value = spread_to(value, shape)
    try:
        both = broadcast_shapes(tuple(value.shape), shape)
        fits = len(both) == len(shape) and all(map(fit, both, shape))
    except ShapeError:
        fits = False
    if not fits:
        raise locate(ShapeError(f"cannot assign {value.type} to a slice of shape {show_shape(shape)}"))
    return S.broadcast_to(value, shape=shape)


# --- slices of Variables by traced masks ------------------------------------------------------------------------------
class _MaskedSlice(Operand):
    """`v[mask]` of a mask whose values are not known yet: it can be assigned, and nothing else."""

    __slots__ = ("_of",)

    def __init__(self, v: Variable, key: Any, mask: Operand) -> None:
        self._of = v, key if type(key) is tuple else (key,), mask

    @property
    def _a(self) -> Any:  # type: ignore[override]
        raise locate(
            TracedValueError(
                f"x[mask]: the shape of the result depends on the values of a traced mask {self._of[2].type}",
                remedy="use tj.where(mask, a, b), which keeps the shape, or multiply by the mask",
            )
        )


def _masked_method(combine: Callable[[Any, Any], Any] | None) -> Callable[..., Variable]:
    def method(
        self: _MaskedSlice, value: Any, use_locking: bool = False, name: Any = None, read_value: bool = True
    ) -> Variable:
        if context.autocast is not None:
            with reading(None):
                return method(self, value)
        v, key, mask = self._of
        return v.assign(replaced_where(v, key, E.identity(mask), value, combine))

    return method


for _name, _combine in (("assign", None), ("assign_add", E.add), ("assign_sub", E.sub)):
    setattr(_MaskedSlice, _name, _masked_method(_combine))


def replaced_where(
    v: Operand, key: tuple, mask: Tensor, value: Any, combine: Callable[..., Any] | None,
    fitting: Callable[[Any, Any], Tensor] = Variable._fitting_dtype,
) -> Tensor:  # fmt: skip
    """The value of a Variable or tensor with the elements at a mask, in slices of the other axes, replaced."""
    marks = [slice(None)] * mask.ndim
    key = tuple([m for k in key for m in (marks if traced_mask(k) is not None else (k,))])
    parts = components(v, key)
    if any(isinstance(k, (Operand, Flag)) for k in parts) or sum(k is marks[0] for k in parts) != mask.ndim:
        raise locate(ArgumentError("a traced mask goes with integers and slices, not with other index tensors"))
    first = next(i for i, k in enumerate(parts) if k is marks[0])
    axis = sum(k is None or isinstance(k, slice) for k in parts[:first])
    plan = Cut(v, key)
    block = plan.block(v)
    own = tuple(block.shape[axis : axis + mask.ndim])
    if not all(map(fit, own, mask.shape)):
        raise locate(OutOfRangeError(f"a mask of {show_shape(mask.shape)} does not fit axes of {show_shape(own)}"))
    new = _at_mask(value if isinstance(value, Operand) else convert(value, v.dtype), mask, block, axis)
    new = fitting(v, new if combine is None else combine(block, new))
    hit = S.reshape(mask, shape=(*mask.shape, *(1,) * (block.ndim - axis - mask.ndim)))
    return plan.replaced(v, E.where(hit, spread(new, tuple(block.shape)), block))


def _at_mask(value: Operand, mask: Tensor, block: Operand, axis: int) -> Operand:
    """What stands where the mask is true, for every element of the mask: the values in order, or one for all."""
    at = value.ndim - (block.ndim - axis - mask.ndim) - 1  # the axis of the value that counts the true elements
    if at < 0:
        return value
    k, shape = value.shape[at], tuple(value.shape)
    if now_unit(k):
        return S.reshape(value, shape=(*shape[:at], *(1,) * mask.ndim, *shape[at + 1 :]))
    flat = E.cast(S.reshape(mask, shape=(product(tuple(mask.shape)),)), dtype=int64)
    count, want = R.reduce_sum(flat), convert(k, int64)
    fits = E.equal(count, want)
    if isinstance(k, Dim) and k.is_found:
        fits = E.logical_or(fits, E.equal(want, 1))
    OPS["check"](
        fits, want, count, error="ArgumentError",
        message="cannot assign {} values to the {} elements where the mask is true",
    )  # fmt: skip
    if known_equal(k, 0):
        return block
    place = E.minimum(E.maximum(E.sub(R.cumsum(flat), 1), 0), E.sub(want, 1))
    return I.gather(value, S.reshape(place, shape=tuple(mask.shape)), axis=at)


Variable.__getitem__ = _variable_getitem  # type: ignore[method-assign, assignment]
for _name, _method in SLICE_METHODS.items():
    setattr(Tensor, _name, _only_of_slices(_name, _method))
