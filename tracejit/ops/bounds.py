"""Slices whose bounds the program computes: beginnings and ends as sizes that it finds out, other parts as gathers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tracejit.context import context
from tracejit.errors import ArgumentError, ShapeError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.sizes import fit, is_unit, shown
from tracejit.ir.types import int64, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_size, require
from tracejit.ops.check import check, named, require_room
from tracejit.ops.counted import inside, settle
from tracejit.ops.creation import counter
from tracejit.ops.extents import computed, extent, is_late, listed_numbers, number, numbers
from tracejit.ops.found import as_number, told
from tracejit.tensor import Operand, Tensor, convert

Bound = int | Dim | Tensor | None


@dataclass
class Window:
    """`size` elements of an axis from a place that the program computes, in steps of `step`."""

    start: Any
    size: Size
    step: Any

    def places(self) -> Tensor:
        i = counter(self.size, dtype=int64)
        return E.add(i if type(self.step) is int and self.step == 1 else E.mul(i, self.step), self.start)

    def of(self, x: Operand, axis: int) -> Tensor:
        return I.gather(x, self.places(), axis=axis)  # type: ignore[no-any-return]

    def replaced(self, x: Operand, axis: int, part: Operand) -> Tensor:
        """x with another part in the window."""
        return I.put(x, self.places(), part, axis=axis)  # type: ignore[no-any-return]


def bound(b: Any) -> Bound:
    """A bound of a slice: what of it is known now, or a 0-d tensor."""
    if isinstance(b, Dim) and b.is_found:
        return as_number(b)  # type: ignore[no-any-return]
    if not computed(b):
        return b  # type: ignore[no-any-return]
    found = numbers(b, "a slice bound", bound=True)
    if len(found) != 1:
        raise locate(ShapeError(f"a slice bound is one integer, not a tensor {b.type}"))
    return bound(found[0]) if isinstance(found[0], Dim) else found[0]


def computes(s: slice, d: Size) -> bool:
    """Whether the program computes a bound of a slice of an axis of size d."""
    if context.trace is None:
        return False
    bounds = [b for b in (s.start, s.stop) if b is not None]
    if any((isinstance(b, Operand) and computed(b)) or is_late(b) for b in (*bounds, s.step)):
        return True
    return is_late(d) and any(isinstance(b, Dim) or (type(b) is int and b != 0) for b in bounds)


def _within(b: Bound, default: Any, d: Size, low: int) -> Any:
    """A bound counted from the front, between low and d + low."""
    if b is None:
        return default
    n = number(d)
    if isinstance(b, int) and isinstance(n, int):
        return min(max(b + n if b < 0 else b, low), n + low)
    if isinstance(b, int):
        return E.maximum(E.add(n, b), low) if b < 0 else E.minimum(n if low == 0 else E.add(n, low), b)
    at: Any = number(b) if isinstance(b, Dim) else E.cast(b, dtype=int64)
    at = E.where(E.less(at, 0), E.add(at, n), at)
    return E.minimum(E.maximum(at, low), E.add(n, low) if low else n)


def _clipped(k: int | None, default: Size, d: Dim) -> Size:
    """A bound that is a number, counted from the front, where no more elements are than the program finds out."""
    return default if k is None else d.upto(k) if k >= 0 else d - d.upto(-k)


def _known_part(first: Bound, last: Bound, d: Dim) -> tuple[Size, Size, int] | None:
    """Start and size between bounds that are numbers, if they are on one side of what the program finds out."""
    if not (first is None or type(first) is int) or not (last is None or type(last) is int):
        return None
    if first and last is not None and (first > last or (first < 0) is not (last < 0)):
        return None
    a, b = _clipped(first, 0, d), _clipped(last, d, d)
    return a, b - a, 1


def step_of(s: slice) -> int:
    """The step of a slice, which is known."""
    step = 1 if s.step is None else int(as_size(s.step, "a slice step"))
    if step == 0:
        raise locate(ArgumentError("a slice step must not be 0"))
    return step


def _stepped(first: Bound, last: Bound, d: Size, step: Tensor) -> Window:
    """A slice in steps that the program computes: their sign says which end it begins at."""
    k, n = E.cast(step, dtype=int64), number(d)
    check(E.not_equal(k, 0), error="ArgumentError", message=named("a slice step must not be 0"))
    up = E.greater(k, 0)
    low = E.where(up, convert(0, int64), -1)

    def within(b: Any, default: Any) -> Any:
        if b is None:
            return default
        at = convert(number(b), int64) if isinstance(b, (int, Dim)) else E.cast(b, dtype=int64)
        at = E.where(E.less(at, 0), E.add(at, n), at)
        return E.minimum(E.maximum(at, low), E.add(low, n))

    begin = within(first, E.where(up, convert(0, int64), n - 1 if isinstance(n, int) else E.sub(n, 1)))
    end = within(last, E.where(up, convert(n, int64), -1))
    count = E.floordiv(E.sub(E.add(E.sub(end, begin), k), E.sign(k)), k)
    return Window(begin, told(E.maximum(count, 0), d), k)


def window(s: slice, d: Size) -> Window | tuple[Size, Size, int]:
    """A slice of an axis of size d: start, size and step, where the program finds out no more than one number."""
    first, last, by = bound(s.start), bound(s.stop), bound(s.step)
    if isinstance(by, Tensor):
        return _stepped(first, last, d, by)
    step = step_of(s)
    if all(b is None or type(b) is int for b in (first, last)) and type(d) is int:
        places = range(*slice(first, last, step).indices(d))
        return places.start, len(places), step
    if step == 1 and isinstance(d, Dim) and (part := _known_part(first, last, d)) is not None:
        return part
    settle(first, last, d, step)
    if (found := inside(first, last, d, step)) is not None:
        begin, count = found
        return Window(convert(begin, int64), count, step) if isinstance(begin, Tensor) else (begin, count, step)
    if step == 1 and (last is None or (type(first) is int and first == 0) or first is None):
        if last is None:
            start = told(_within(first, 0, d, 0), d)
            return start, d - start, 1
        return 0, told(_within(last, d, d, 0), d), 1
    low = 0 if step > 0 else -1
    n = number(d)
    begin = _within(first, 0 if step > 0 else E.add(n, -1) if isinstance(n, Tensor) else n - 1, d, low)
    end = _within(last, n if step > 0 else -1, d, low)
    length = E.sub(end, begin) if step > 0 else E.sub(begin, end)
    if abs(step) != 1:
        length = E.floordiv(E.add(length, abs(step) - 1), abs(step))
    return Window(begin, told(E.cast(E.maximum(length, 0), dtype=int64), d), step)


def require_block(b: Size, n: Size, d: Size, axis: int) -> None:
    """Refuse n elements from b that leave an axis of size d, where the program finds out any of the three."""
    for rest in (b, n, d - b - n):
        require_room(rest, "ShapeError", f"slice [{{}} : {{}}] leaves axis {axis} of size {{}}", b, b + n, d)


def block(x: Operand, begin: Any, size: Any) -> Tensor:
    """The block of `size` elements from `begin`, some of which the program computes; −1 reaches to the end."""
    for what, given in (("begin", begin), ("size", size)):
        for k in given if isinstance(given, (list, tuple)) else ():
            if isinstance(k, Operand) and not all(map(is_unit, k.shape)):
                raise locate(ShapeError(f"{what} is one integer, not a tensor {k.type}"))
    starts, counts = listed_numbers(begin, "begin", bound=True), listed_numbers(size, "size", bound=True)
    if not len(starts) == len(counts) == x.ndim:
        found = f"{len(starts)} and {len(counts)}"
        raise locate(ShapeError(f"begin and size need a number for each axis of {x.type}, not {found}"))
    start: list[Size] = []
    own: list[Size] = []
    y: Any = x
    for axis, (b, n, d) in enumerate(zip(starts, counts, x.shape, strict=True)):
        if isinstance(b, Tensor):
            y, n = _from(y, axis, b, n, d)
            b = 0
        elif isinstance(n, Tensor):
            n = extent(E.where(E.equal(n, -1), number(d - b), n), "a size of a slice", d - b)
        else:
            n = d - b if type(n) is int and n == -1 else n
            require_block(b, n, d, axis)
        start.append(b)
        own.append(n)
    return S.slice_(y, start=tuple(start), size=tuple(own), step=(1,) * x.ndim)


def _along(x: Operand, axis: int, first: Size, size: Size) -> Tensor:
    start = tuple([first if i == axis else 0 for i in range(x.ndim)])
    whole = tuple([size if i == axis else k for i, k in enumerate(x.shape)])
    return S.slice_(x, start=start, size=whole, step=(1,) * x.ndim)  # type: ignore[no-any-return]


def _from(x: Operand, axis: int, begin: Tensor, n: Any, d: Size) -> tuple[Tensor, Size]:
    """n slices along an axis from a place that the program computes, and how many they are."""
    b = E.cast(begin, dtype=int64)
    if type(n) is int and n == -1:
        first = extent(b, "the begin of a slice", d)
        return _along(x, axis, first, d - first), d - first
    size = n
    if isinstance(n, Tensor):
        size = extent(E.where(E.equal(n, -1), E.sub(number(d), b), n), "a size of a slice", d)
    last = E.sub(number(d), number(size))
    ok = E.logical_and(E.greater_equal(b, 0), E.less_equal(b, last))
    message = f"a slice from {{}} of {{}} elements leaves axis {axis} of size {{}}"
    check(ok, b, convert(number(size)), convert(number(d)), error="ShapeError", message=named(message))
    return Window(b, size, 1).of(x, axis), size


def pieces(x: Operand, sizes: Any, axis: int) -> list[Tensor]:
    """Pieces along an axis whose sizes the program computes: each has no more than those before it leave."""
    given = listed_numbers(sizes, "num_or_size_splits")
    free = [i for i, n in enumerate(given) if type(n) is int and n == -1]
    require(len(free) <= 1, "split leaves more than one size open")
    own: dict[int, Size] = {}
    left: Size = x.shape[axis]
    for i, n in enumerate(given):
        if i not in free:
            own[i] = extent(n, "a size of split", left)
            require_room(left - own[i], "ShapeError", "a size of split is above {}: {}", left, own[i])
            left = left - own[i]
    if free:
        own[free[0]] = left
    elif not fit(left, 0):
        total = shown(x.shape[axis])
        raise locate(ShapeError(f"sizes {show_shape(own.values())} do not add up to {total}, the size of axis {axis}"))
    out, start = [], 0
    for i in range(len(given)):
        out.append(_along(x, axis, start, own[i]))
        start = start + own[i]
    return out


def turned(x: Operand, shift: Any, axis: int) -> Tensor:
    """The slices along an axis shifted by a number that the program computes."""
    n = x.shape[axis]
    places = E.sub(counter(n, dtype=int64), E.cast(number(shift), dtype=int64))
    return I.gather(x, E.floormod(places, number(n)), axis=axis)  # type: ignore[no-any-return]
