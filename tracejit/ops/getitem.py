"""Indexing: what `x[key]` means, as slices and gathers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracejit.context import activity, context
from tracejit.errors import ArgumentError, OutOfRangeError, ShapeError, TracedValueError, locate
from tracejit.fast import fast
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Value
from tracejit.ir.sizes import at_least, fit, product, shown
from tracejit.ir.types import show_shape
from tracejit.ops import direct, found
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_size, as_sizes, known, operand, waits
from tracejit.ops.bounds import Window, block, computes, require_block, step_of, window
from tracejit.ops.check import require_index, require_room
from tracejit.ops.extents import computed, listed_numbers
from tracejit.ops.quick import at_once, traced
from tracejit.ops.select import linear_index
from tracejit.tensor import Operand, Tensor, Variable, convert, quietly, used, wrap

_MOST = np.iinfo(np.int64).max


def plain(k: Any) -> Any:
    """A component of a key as NumPy takes it; the bounds of a slice may be tensors."""
    if isinstance(k, Operand):
        k = k._value("an index")
        if not k.ndim and k.dtype.kind in "iu" and k.dtype.char not in "LQ":
            return k.item()  # whose result is a view
    if isinstance(k, (np.ndarray, np.uint64)) and k.dtype.char in "LQ" and k.size and k.max() > _MOST:
        raise IndexError(f"index {k.max()} is out of bounds")  # NumPy takes it for a negative one
    if type(k) is slice and not all(type(b) in (int, type(None)) for b in (k.start, k.stop, k.step)):
        return slice(*[None if b is None else int(as_size(b, "a slice bound")) for b in (k.start, k.stop, k.step)])
    return k


def _numpy_item(x: Operand, key: tuple) -> np.ndarray:
    try:
        return quietly(x._value("indexing").__getitem__, tuple([plain(k) for k in key]))  # type: ignore[no-any-return]
    except IndexError as e:
        raise locate(OutOfRangeError(f"{e} (the tensor is {x.type})")) from None
    except ValueError as e:
        raise locate(ArgumentError(f"{e} (the tensor is {x.type})")) from None


_BOUND = (int, type(None))


def _simple(k: Any) -> bool:
    """Whether NumPy may take a component as it is: an integer, a slice of integers, a new axis, or the dots."""
    if type(k) is slice:
        return type(k.start) in _BOUND and type(k.stop) in _BOUND and type(k.step) in _BOUND
    return type(k) is int or k is None or k is Ellipsis


def getitem(x: Operand, key: Any) -> Tensor:
    """Elements of a tensor as NumPy's indexing picks them."""
    if not activity.busy:
        used()
        kind = type(key)
        if (
            kind is int
            or (kind is slice and type(key.start) in _BOUND and type(key.stop) in _BOUND and type(key.step) in _BOUND)
            or (kind is tuple and all(map(_simple, key)))
        ):
            try:
                return wrap(x._a[key])
            except (IndexError, TypeError, ValueError):  # explained below
                pass
        k = key if type(key) is tuple else (key,)
        return wrap(_numpy_item(x, k))
    return _getitem(x, key if type(key) is tuple else (key,))


class Cut:
    """A key worked out: the slice of each axis, the shape after it, and the index arrays by axis of that shape."""

    def __init__(self, x: Operand, key: tuple) -> None:
        self.start: list[Size] = []
        self.size: list[Size] = []
        self.step: list[int] = []
        self.shape: list[Size] = []
        self.arrays: dict[int, Operand] = {}
        self.windows: dict[int, Window] = {}
        shape = tuple(x.shape)
        parts = components(x, key)
        arrays = any(isinstance(k, (Operand, Flag)) for k in parts)
        axis = 0
        for k in parts:
            if k is None or isinstance(k, Flag):
                if k is not None:
                    self.arrays[len(self.shape)] = k.positions
                self.shape.append(1)
                continue
            d = shape[axis]
            if isinstance(k, slice):
                self._add(*self._part(k, d, axis))
                self.shape.append(self.size[-1])
            elif isinstance(k, Operand):
                self._add(0, d, 1)
                self.arrays[len(self.shape)] = k
                self.shape.append(d)
            elif arrays:  # beside index arrays an integer is one of them
                self._add(position(k, d, axis, shape), 1, 1)
                self.arrays[len(self.shape)] = convert(0)
                self.shape.append(1)
            else:
                self._add(position(k, d, axis, shape), 1, 1)
            axis += 1

    def _part(self, s: slice, d: Size, axis: int) -> tuple[Size, Size, int]:
        """Start, number of elements and step of a slice, of what is in the window where the program computes bounds."""
        if not computes(s, d):
            return _bounds(s, d)
        part = window(s, d)
        if isinstance(part, Window):
            self.windows[axis] = part
            return 0, part.size, 1
        return part

    def _add(self, start: Size, size: Size, step: int) -> None:
        self.start.append(start)
        self.size.append(size)
        self.step.append(step)

    def is_whole(self, shape: tuple[Size, ...]) -> bool:
        return tuple(self.size) == shape and all(s == 1 for s in self.step)

    def block(self, x: Operand) -> Any:
        """The slice of x, before index arrays pick from it."""
        y: Any = x
        for axis, w in self.windows.items():
            y = w.of(y, axis)
        if not self.is_whole(tuple(y.shape)):
            y = S.slice_(y, start=tuple(self.start), size=tuple(self.size), step=tuple(self.step))
        return y if tuple(y.shape) == tuple(self.shape) else S.reshape(y, shape=tuple(self.shape))

    def replaced(self, x: Operand, block: Operand) -> Tensor:
        """x with another block in the place of its slice."""
        if self.windows:
            return self._put_back(x, block)
        whole = self.is_whole(tuple(x.shape))
        y: Any = block
        if tuple(y.shape) != tuple(self.size):
            y = S.reshape(y, shape=tuple(self.size))
        return y if whole else S.update(x, y, start=tuple(self.start), step=tuple(self.step))


    def _put_back(self, x: Operand, block: Operand) -> Tensor:
        """As `replaced`, with what is in the windows put back one after the other."""
        inner: list[Any] = [x]
        for axis, w in self.windows.items():
            inner.append(w.of(inner[-1], axis))
        windows, self.windows = self.windows, {}
        y = self.replaced(inner[-1], block)
        self.windows = windows
        for (axis, w), around in zip(reversed(windows.items()), inner[-2::-1], strict=True):
            y = w.replaced(around, axis, y)
        return y


class Flag:
    """A truth value in a key: a new axis, of which its one element is taken or none, as an index array would."""

    __slots__ = ("positions",)

    def __init__(self, true: bool) -> None:
        self.positions = convert(np.zeros(int(true), np.int64))


def _as_flag(k: Any) -> bool | None:
    """The truth value that a component of a key is, None if it is none whose value is known."""
    if isinstance(k, (bool, np.bool_)):
        return bool(k)
    if isinstance(k, np.ndarray) and not k.ndim and k.dtype == np.bool_:
        return bool(k)
    if isinstance(k, Operand) and type(k._a) is not Value and not (context.trace and isinstance(k, Variable)):
        return bool(k._value("a mask")) if k.dtype.kind == "b" and not k.ndim else None
    return None


def _with_flags(parts: list[Any]) -> list[Any]:
    """The truth values in a key as what they mean; a true one alone is a new axis."""
    flags = [f for f in map(_as_flag, parts) if f is not None]
    if not flags:
        return parts
    alone = flags == [True] and not any(isinstance(k, (int, Dim, np.integer)) and _as_flag(k) is None for k in parts)
    alone = alone and all(k is None or k is Ellipsis or isinstance(k, slice) or _as_flag(k) for k in parts)
    return [k if (f := _as_flag(k)) is None else None if alone else Flag(f) for k in parts]


def components(x: Operand, key: tuple) -> list[Any]:
    """One component per axis (ints, Dims, slices, integer tensors), None for new axes, and `Flag`s."""
    parts: list[Any] = []
    masks: list[tuple[Any, tuple[int, ...]]] = []
    dots = [i for i, k in enumerate(key) if k is Ellipsis]
    if len(dots) > 1:
        raise locate(OutOfRangeError("an index can only have a single ellipsis ('...')"))
    for k in _with_flags(list(key)):
        if isinstance(k, Dim) and k.is_found:
            k = found.as_number(k)
        if k is None or k is Ellipsis or isinstance(k, (slice, Dim, Flag)) or type(k) is int:
            parts.append(k)
        elif isinstance(k, (np.integer, int)):
            parts.append(int(k))
        else:
            k = _listed(k)
            arrays = _array(k)
            if isinstance(k, (np.ndarray, Operand)) and k.dtype.kind == "b":
                masks.append((arrays[0], tuple(k.shape)))
            parts += arrays
    used = sum(k is not None and k is not Ellipsis and not isinstance(k, Flag) for k in parts)
    if used > x.ndim:
        raise locate(OutOfRangeError(f"too many indices: the tensor {x.type} has {x.ndim} axes, {used} were indexed"))
    fill = [slice(None)] * (x.ndim - used)
    at = next((i for i, k in enumerate(parts) if k is Ellipsis), len(parts))
    parts = parts[:at] + fill + parts[at + 1 :]
    for first, shape in masks:
        before = parts[: next(i for i, k in enumerate(parts) if k is first)]
        axis = sum(k is not None and not isinstance(k, Flag) for k in before)
        own = tuple(x.shape[axis : axis + len(shape)])
        if not all(map(fit, own, shape)):
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
    if isinstance(k, str):
        raise locate(OutOfRangeError(f"an index is an integer or a mask, not {k!r}"))
    t = operand(k)
    if isinstance(t, Variable) and context.trace is not None:
        t = E.identity(t)
    kind = t.dtype.kind
    if kind == "b":
        if type(t._a) is Value and t.ndim and waits(t):
            return list(found.coordinates(t))
        if type(t._a) is Value:
            raise locate(
                TracedValueError(
                    f"x[mask]: the shape of the result depends on the values of a traced mask {t.type}",
                    remedy="use tj.where(mask, a, b), which keeps the shape, or multiply by the mask",
                )
            )
        return [wrap(i) for i in np.nonzero(t._value("a mask"))]
    if kind not in "iu":
        raise locate(OutOfRangeError(f"an index is an integer or a mask, not {t.type}"))
    if not t.ndim:
        a = known(t._a) if type(t._a) is Value else t._value("an index")
        if a is not None:
            n = a.item()
            return [n if isinstance(n, Dim) else int(n)]
    return [t]


def position(k: Size, d: Size, axis: int, shape: tuple[Size, ...]) -> Size:
    """An integer index counted from the front."""
    negative = k < 0  # decisions about symbolic sizes become guards
    left = k + d if negative else d - 1 - k
    require_room(left, "OutOfRangeError", f"index {{}} is outside axis {axis} of size {{}}", k, d)
    if not at_least(left, 0):
        raise locate(OutOfRangeError(f"index {k} is outside axis {axis} of {show_shape(shape)}"))
    return k + d if negative else k


def _bounds(s: slice, d: Size) -> tuple[Size, Size, int]:
    """Start, number of elements and step of a slice of an axis of size `d`."""
    step = step_of(s)
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
    if n < 0 or (type(n) is int and n == 0):  # a symbol may be 0: the slice is empty then
        return 0, 0, 1
    return start, n if abs(step) == 1 else (n + abs(step) - 1) // abs(step), step


def _getitem(x: Operand, key: tuple) -> Tensor:
    plan = Cut(x, key)
    y = plan.block(x)
    if plan.arrays:
        return _pick(y, plan.arrays)
    return y if type(y) is Tensor else E.identity(y)


class Places:
    """Where index arrays point: one axis `axis` of `x`, which is brought into the right order, and positions on it."""

    def __init__(self, x: Operand, arrays: dict[int, Operand]) -> None:
        axes = sorted(arrays)
        for a in axes:
            require_index(arrays[a], x.shape[a], a)
        self.perm: tuple[int, ...] | None = None
        self.axis = axes[0]
        if len(axes) == 1:
            self.x, self.at, self.shape = x, arrays[axes[0]], tuple(x.shape)
            return
        if axes != list(range(axes[0], axes[-1] + 1)):
            # the axes of the result that the index arrays give come first
            self.axis, self.perm = 0, (*axes, *[a for a in range(x.ndim) if a not in arrays])
            x = S.transpose(x, perm=self.perm)
        n, self.shape = len(axes), tuple(x.shape)
        sizes = self.shape[self.axis : self.axis + n]
        self.x = S.reshape(x, shape=(*self.shape[: self.axis], product(sizes), *self.shape[self.axis + n :]))
        self.at = linear_index([arrays[a] for a in axes], sizes)

    def back(self, x: Operand) -> Tensor:
        """x with its axes as they were."""
        y = S.reshape(x, shape=self.shape)
        if self.perm is None:
            return y
        return S.transpose(y, perm=tuple([self.perm.index(a) for a in range(len(self.perm))]))


def _pick(x: Operand, arrays: dict[int, Operand]) -> Tensor:
    """NumPy's advanced indexing with integer tensors in some axes."""
    p = Places(x, arrays)
    return I.gather(p.x, p.at, axis=p.axis)


Operand.__getitem__ = getitem  # type: ignore[method-assign]


def slice_(input_: Any, begin: Any, size: Any, name: str | None = None) -> Tensor:
    """The block of `size` elements from `begin`; a size of −1 reaches to the end."""
    if (native := fast.block) is not None and (r := native(input_, begin, size)) is not NotImplemented:
        return r  # type: ignore[no-any-return]
    if not activity.busy and (quick := at_once(direct.block, input_, begin, size)) is not None:
        return quick
    x = operand(input_)
    if computed(begin) or computed(size):
        return block(x, begin, size)
    starts, counts = as_sizes(begin, "begin"), as_sizes(size, "size")
    if not len(starts) == len(counts) == x.ndim:
        raise locate(ShapeError(f"begin and size need a number for each axis of {x.type}, not {starts} and {counts}"))
    counts = tuple(
        [d - b if type(n) is int and n == -1 else n for b, n, d in zip(starts, counts, x.shape, strict=True)]
    )
    for axis, (b, n, d) in enumerate(zip(starts, counts, x.shape, strict=True)):
        require_block(b, n, d, axis)
        if type(b) is type(n) is type(d) is int and not 0 <= b <= b + n <= d:
            raise locate(ShapeError(f"slice [{b} : {b + n}] leaves axis {axis} of size {shown(d)}"))
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
    native = fast.strided
    if native and not (begin_mask or end_mask or ellipsis_mask or new_axis_mask or shrink_axis_mask):
        if (r := native(input_, begin, end, strides)) is not NotImplemented:
            return r  # type: ignore[no-any-return]
    if not activity.busy:
        masks = begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_axis_mask
        if (quick := traced(strided_slice, input_, begin, end, strides, *masks)) is not None:
            return quick
    b, e = listed_numbers(begin, "begin", bound=True), listed_numbers(end, "end", bound=True)
    s = (1,) * len(b) if strides is None else as_sizes(strides, "strides")
    if not len(b) == len(e) == len(s):
        raise locate(ShapeError(f"begin, end and strides differ in length: {b}, {e}, {s}"))
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
