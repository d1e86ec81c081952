"""Indexing: what `x[key]` and `v[key].assign(value)` mean, as slices, gathers and updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.context import activity, context
from tracejit.errors import ArgumentError, DTypeError, OutOfRangeError, TracedValueError, locate
from tracejit.ir.dim import Dim, product
from tracejit.ir.graph import Value
from tracejit.ir.types import show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_size, as_sizes, known, operand
from tracejit.ops.creation import counter
from tracejit.ops.select import linear_index
from tracejit.tensor import Operand, Tensor, Variable, convert, wrap


def _plain(k: Any) -> Any:
    """A component of a key as NumPy takes it; the bounds of a slice may be tensors."""
    if isinstance(k, Operand):
        return k._value("an index")
    if type(k) is slice and not all(type(b) in (int, type(None)) for b in (k.start, k.stop, k.step)):
        return slice(*[None if b is None else int(as_size(b, "a slice bound")) for b in (k.start, k.stop, k.step)])
    return k


def _numpy_item(x: Operand, key: tuple) -> np.ndarray:
    try:
        return x._value("indexing")[tuple([_plain(k) for k in key])]
    except IndexError as e:
        raise locate(OutOfRangeError(f"{e} (the tensor is {x.type})")) from None


def getitem(x: Operand, key: Any) -> Tensor:
    """Elements of a tensor as NumPy's indexing picks them."""
    if not activity.busy:
        if type(key) is int or (type(key) is tuple and all(type(k) is int for k in key)):
            try:
                return wrap(x._a[key])
            except (IndexError, TypeError):  # explained below
                pass
        k = key if type(key) is tuple else (key,)
        return wrap(_numpy_item(x, k))
    return _getitem(x, key if type(key) is tuple else (key,))


class _Plan:
    """A key worked out: the slice of each axis, the shape after it, and the index arrays by axis of that shape."""

    def __init__(self, x: Operand, key: tuple) -> None:
        self.start: list[Size] = []
        self.size: list[Size] = []
        self.step: list[int] = []
        self.shape: list[Size] = []
        self.arrays: dict[int, Operand] = {}
        shape = tuple(x.shape)
        parts = _expand(x, key)
        arrays = any(isinstance(k, Operand) for k in parts)
        axis = 0
        for k in parts:
            if k is None:
                self.shape.append(1)
                continue
            d = shape[axis]
            if isinstance(k, slice):
                self._add(*_bounds(k, d))
                self.shape.append(self.size[-1])
            elif isinstance(k, Operand):
                self._add(0, d, 1)
                self.arrays[len(self.shape)] = k
                self.shape.append(d)
            elif arrays:  # beside index arrays an integer is one of them
                self._add(_position(k, d, axis, shape), 1, 1)
                self.arrays[len(self.shape)] = convert(0)
                self.shape.append(1)
            else:
                self._add(_position(k, d, axis, shape), 1, 1)
            axis += 1

    def _add(self, start: Size, size: Size, step: int) -> None:
        self.start.append(start)
        self.size.append(size)
        self.step.append(step)

    def is_whole(self, shape: tuple[Size, ...]) -> bool:
        return tuple(self.size) == shape and all(s == 1 for s in self.step)


def _expand(x: Operand, key: tuple) -> list[Any]:
    """One component per axis (ints, Dims, slices, integer tensors) and None for new axes."""
    parts: list[Any] = []
    masks: list[tuple[Any, tuple[int, ...]]] = []
    dots = [i for i, k in enumerate(key) if k is Ellipsis]
    if len(dots) > 1:
        raise locate(OutOfRangeError("an index can only have a single ellipsis ('...')"))
    for k in key:
        if k is None or k is Ellipsis or isinstance(k, (slice, Dim)) or type(k) is int:
            parts.append(k)
        elif isinstance(k, (bool, np.bool_)):
            raise locate(ArgumentError("a single bool is no index", remedy="use tj.expand_dims, or x[None]"))
        elif isinstance(k, (np.integer, int)):
            parts.append(int(k))
        else:
            k = _listed(k)
            arrays = _array(k)
            if isinstance(k, np.ndarray) and k.dtype == np.bool_:
                masks.append((arrays[0], k.shape))
            parts += arrays
    used = sum(k is not None and k is not Ellipsis for k in parts)
    if used > x.ndim:
        raise locate(OutOfRangeError(f"too many indices: the tensor {x.type} has {x.ndim} axes, {used} were indexed"))
    fill = [slice(None)] * (x.ndim - used)
    at = next((i for i, k in enumerate(parts) if k is Ellipsis), len(parts))
    parts = parts[:at] + fill + parts[at + 1 :]
    for first, shape in masks:
        axis = sum(k is not None for k in parts[: next(i for i, k in enumerate(parts) if k is first)])
        own = tuple(x.shape[axis : axis + len(shape)])
        if any(type(d) is int and d != n for d, n in zip(own, shape, strict=True)):
            raise locate(OutOfRangeError(f"a mask of shape {shape} does not fit axes of sizes {show_shape(own)}"))
    return parts


def _listed(k: Any) -> Any:
    """A list of bools, an empty list or a mask of known value as an array."""
    if isinstance(k, list) and all(isinstance(b, (bool, np.bool_)) for b in k):
        return np.array(k, np.bool_ if k else np.int64)
    if isinstance(k, Operand) and k.dtype.kind == "b" and type(k._a) is not Value and k.ndim:
        return k._value("a mask")
    return k


def _array(k: Any) -> list[Any]:
    """An index tensor; a mask as one integer tensor per axis."""
    if isinstance(k, np.ndarray) and k.dtype == np.bool_:
        return [wrap(i) for i in np.nonzero(k)]
    t = operand(k)
    kind = t.dtype.kind
    if kind == "b":
        if type(t._a) is Value:
            raise locate(
                TracedValueError(
                    f"x[mask]: the shape of the result depends on the values of a traced mask {t.type}",
                    remedy="use tj.where(mask, a, b), which keeps the shape, or multiply by the mask",
                )
            )
        return [wrap(i) for i in np.nonzero(t._value("a mask"))]
    if kind not in "iu":
        raise locate(DTypeError(f"an index is an integer or a mask, not {t.type}"))
    if not t.ndim:
        a = known(t._a) if type(t._a) is Value else t._value("an index")
        if a is not None:
            n = a.item()
            return [n if isinstance(n, Dim) else int(n)]
    return [t]


def _position(k: Size, d: Size, axis: int, shape: tuple[Size, ...]) -> Size:
    """An integer index counted from the front."""
    negative = k < 0  # decisions about symbolic sizes become guards
    if (k + d if negative else d - 1 - k) < 0:
        raise locate(OutOfRangeError(f"index {k} is outside axis {axis} of {show_shape(shape)}"))
    return k + d if negative else k


def _bounds(s: slice, d: Size) -> tuple[Size, Size, int]:
    """Start, number of elements and step of a slice of an axis of size `d`."""
    step = 1 if s.step is None else int(as_size(s.step, "a slice step"))
    if step == 0:
        raise locate(ArgumentError("a slice step must not be 0"))
    low, high = (0, d) if step > 0 else (-1, d - 1)

    def clamp(b: Any, default: Size) -> Size:
        if b is None:
            return default
        b = as_size(b, "a slice bound")
        if type(b) is int and type(d) is int:
            return min(max(b + d if b < 0 else b, low), high)
        if b < 0:
            b = b + d
            return low if b < low else b
        return high if b > high else b

    start = clamp(s.start, low if step > 0 else high)
    stop = clamp(s.stop, high if step > 0 else low)
    n = stop - start if step > 0 else start - stop
    if n <= 0:
        return 0, 0, 1
    return start, n if abs(step) == 1 else (n + abs(step) - 1) // abs(step), step


def _getitem(x: Operand, key: tuple) -> Tensor:
    plan = _Plan(x, key)
    y: Any = x
    if not plan.is_whole(tuple(x.shape)):
        y = S.slice_(y, start=tuple(plan.start), size=tuple(plan.size), step=tuple(plan.step))
    if tuple(y.shape) != tuple(plan.shape):
        y = S.reshape(y, shape=tuple(plan.shape))
    if plan.arrays:
        return _pick(y, plan.arrays)
    return y if type(y) is Tensor else E.identity(y)


def _pick(x: Operand, arrays: dict[int, Operand]) -> Tensor:
    """NumPy's advanced indexing with integer tensors in some axes."""
    axes = sorted(arrays)
    for a in axes:
        _check(arrays[a], x.shape[a], a)
    if len(axes) == 1:
        return I.gather(x, arrays[axes[0]], axis=axes[0])
    together = axes == list(range(axes[0], axes[-1] + 1))
    at = axes[0] if together else 0
    if not together:  # the axes of the result that the index arrays give come first
        x = S.transpose(x, perm=(*axes, *[a for a in range(x.ndim) if a not in arrays]))
    n = len(axes)
    sizes = tuple(x.shape[at : at + n])
    flat = S.reshape(x, shape=(*x.shape[:at], product(sizes), *x.shape[at + n :]))
    return I.gather(flat, linear_index([arrays[a] for a in axes], sizes), axis=at)


def _check(i: Operand, d: Size, axis: int) -> None:
    if type(i._a) is Value or isinstance(d, Dim) or not i._a.size:
        return
    a = i._value("an index")
    low, high = int(a.min()), int(a.max())
    if low < -d or high >= d:
        raise locate(OutOfRangeError(f"index {high if high >= d else low} is outside axis {axis} of size {d}"))


# --- slices of Variables ----------------------------------------------------------------------------------------------
def _variable_getitem(v: Variable, key: Any) -> Tensor:
    t = getitem(v, key)
    if type(t._a) is not Value and np.may_share_memory(t._a, v._a):
        t._a = t._a.copy()
    t._slice_of = (v, key)  # type: ignore[attr-defined]
    return t


def _slice_method(combine: Callable[[Any, Any], Any] | None) -> Callable[..., Variable]:
    def method(
        self: Tensor, value: Any, use_locking: bool = False, name: Any = None, read_value: bool = True
    ) -> Variable:
        v, key = self.__dict__["_slice_of"]
        key = key if type(key) is tuple else (key,)
        if combine is not None:
            value = combine(getitem(v, key), value)
        return v.assign(_replaced(v, key, value))

    return method


_METHODS = {"assign": _slice_method(None), "assign_add": _slice_method(E.add), "assign_sub": _slice_method(E.sub)}


def _getattr(self: Tensor, name: str) -> Any:
    if name in _METHODS:
        if "_slice_of" in self.__dict__:
            return _METHODS[name].__get__(self)
        raise AttributeError(
            f"'Tensor' object has no attribute {name!r}: only a Variable, or a slice of one, can be assigned"
        )
    raise AttributeError(f"'Tensor' object has no attribute {name!r}")


def _replaced(v: Variable, key: tuple, value: Any) -> Tensor:
    """The Variable's value with the elements at `key` replaced."""
    value = convert(value, v.dtype) if not isinstance(value, Operand) else value
    if value.dtype is not v.dtype:
        value = v._fitting_dtype(value)
    if context.trace is None:
        a = v._a.copy()
        try:
            a[tuple([_plain(k) for k in key])] = value._value("an assigned value")
        except IndexError as e:
            raise locate(OutOfRangeError(f"{e} (the Variable is {v.type})")) from None
        except ValueError as e:
            raise locate(ArgumentError(f"cannot assign {value.type} to a slice of {v._label()}: {e}")) from None
        return wrap(a)
    plan = _Plan(v, key)
    if plan.arrays:
        return _replaced_at(v, plan, value)
    inner = tuple(plan.shape)
    if plan.is_whole(tuple(v.shape)) and inner == tuple(v.shape):
        return S.broadcast_to(value, shape=inner)
    block = S.reshape(S.broadcast_to(value, shape=inner), shape=tuple(plan.size))
    return S.update(v, block, start=tuple(plan.start), step=tuple(plan.step))


def _replaced_at(v: Variable, plan: _Plan, value: Operand) -> Tensor:
    """An assignment at one traced position: a mask of where it is, over the axes that the key has."""
    if len(plan.arrays) > 1 or any(i.ndim for i in plan.arrays.values()) or len(plan.shape) != v.ndim:
        raise locate(
            ArgumentError(
                "a traced assignment takes integers, slices and one 0-d tensor as index",
                remedy="use tj.tensor_scatter_nd_update(v, indices, updates) and v.assign(...)",
            )
        )
    ((axis, i),) = plan.arrays.items()
    n = plan.shape[axis]
    at = E.where(E.less(i, 0), E.add(i, n), i)
    block = S.slice_(v, start=tuple(plan.start), size=tuple(plan.size), step=tuple(plan.step))
    inner = tuple([d for a, d in enumerate(plan.size) if a != axis])
    new = S.broadcast_to(value, shape=inner)
    new = S.reshape(new, shape=tuple([1 if a == axis else d for a, d in enumerate(plan.size)]))
    block = E.where(E.equal(counter(n, v.ndim, axis, i.dtype), at), new, block)
    return S.update(v, block, start=tuple(plan.start), step=tuple(plan.step))


Operand.__getitem__ = getitem  # type: ignore[method-assign]
Variable.__getitem__ = _variable_getitem  # type: ignore[method-assign, assignment]
Tensor.__getattr__ = _getattr  # type: ignore[attr-defined]


def slice_(input_: Any, begin: Any, size: Any, name: str | None = None) -> Tensor:
    """The block of `size` elements from `begin`; a size of −1 reaches to the end."""
    x = operand(input_)
    starts, counts = as_sizes(begin, "begin"), as_sizes(size, "size")
    counts = tuple(
        [d - b if type(n) is int and n == -1 else n for b, n, d in zip(starts, counts, x.shape, strict=True)]
    )
    return S.slice_(x, start=starts, size=counts, step=(1,) * x.ndim)


def strided_slice(
    input_: Any,
    begin: Any,
    end: Any,
    strides: Any = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: str | None = None,
) -> Tensor:
    """`x[begin:end:strides]` in each axis; bit i of a mask changes what component i means."""
    b, e = as_sizes(begin, "begin"), as_sizes(end, "end")
    s = (1,) * len(b) if strides is None else as_sizes(strides, "strides")
    key: list[Any] = []
    for i, (lo, hi, st) in enumerate(zip(b, e, s, strict=True)):
        bit = 1 << i
        if ellipsis_mask & bit:
            key.append(Ellipsis)
        elif new_axis_mask & bit:
            key.append(None)
        elif shrink_axis_mask & bit:
            key.append(lo)
        else:
            key.append(slice(None if begin_mask & bit else lo, None if end_mask & bit else hi, st))
    return getitem(operand(input_), tuple(key))
