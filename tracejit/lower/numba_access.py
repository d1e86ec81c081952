"""Where a kernel's operand lies, as a reader would write it: an array's shape and an index for each of its axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracejit.ir.dim import Dim
from tracejit.ir.sizes import divide, hint, is_unit, product
from tracejit.passes.layout import contiguous

Size = int | Dim


class Index:
    """start + Σ factor · loop index: the position along one axis of an array."""

    __slots__ = ("start", "terms")

    def __init__(self, start: Size = 0, terms: Sequence[tuple[int, Size]] = ()) -> None:
        self.start, self.terms = start, list(terms)  # (loop axis, factor)

    @property
    def axis(self) -> int | None:
        """The loop axis, if the index is nothing but that axis's index."""
        plain = len(self.terms) == 1 and same(self.start, 0) and same(self.terms[0][1], 1)
        return self.terms[0][0] if plain else None

    def text(self, loop: Callable[[int], str], size: Callable[[Size], str]) -> str:
        """As an expression; `loop` names the loop indices, `size` writes sizes."""
        out = ""
        for axis, factor in self.terms:
            if isinstance(factor, int) and abs(factor) == 1:
                part, minus = loop(axis), factor < 0
            else:
                minus = isinstance(factor, int) and factor < 0
                part = f"{loop(axis)} * {_factor(-factor if minus else factor, size)}"
            out = f"{out} {'-' if minus else '+'} {part}" if out else f"-{part}" if minus else part
        if same(self.start, 0) and out:
            return out
        start = size(self.start)
        if not out:
            return start
        if out.startswith("-"):
            return f"{start} - {out[1:]}"
        if isinstance(self.start, int) and self.start < 0:
            return f"{out} - {-self.start}"
        return f"{out} + {start}"


def _factor(d: Size, size: Callable[[Size], str]) -> str:
    text = size(d)
    return text if text.isalnum() or text.isidentifier() else f"({text})"


class Placement:
    """An array of `shape` (one axis if `flat`: the buffer's elements in order) and the index along each axis."""

    __slots__ = ("shape", "indices", "flat")

    def __init__(self, shape: tuple[Size, ...], indices: list[Index], flat: bool = False) -> None:
        self.shape, self.indices, self.flat = shape, indices, flat

    def axes(self, sizes: Sequence[Size]) -> list[tuple[int, int]]:
        """(loop axis, array axis) where a loop walks along an array axis from end to end."""
        pairs = [(i.axis, k) for k, i in enumerate(self.indices)]
        return [(a, k) for a, k in pairs if a is not None and a < len(sizes) and same(self.shape[k], sizes[a])]

    def text(self, loop: Callable[[int], str], size: Callable[[Size], str]) -> str:
        """The index in brackets."""
        return "[" + (", ".join([i.text(loop, size) for i in self.indices]) or "()") + "]"


def same(a: Size, b: Size) -> bool:
    """Whether two sizes are equal for all values of the symbols."""
    if isinstance(a, Dim):
        return a.same(b)
    return not isinstance(b, Dim) and a == b


def place(base: tuple[Size, ...], sizes: Sequence[Size], strides: Sequence[Size], offset: Size) -> Placement:
    """The elements at `offset + Σ strides·index` of a contiguous buffer of shape `base`, loops running over `sizes`."""
    axes = [a for a, s in enumerate(strides) if not same(s, 0) and not is_unit(sizes[a])]
    return (
        _whole(base, axes, sizes, strides, offset)
        or _parts(base, axes, sizes, strides, offset)
        or _flat(base, axes, strides, offset)
    )


def place_parts(base: tuple[Size, ...], sizes: Sequence[Size], strides: Sequence[Size], offset: Size) -> Placement:
    """The same where strides and offset count the parts of complex elements."""
    return place(base, sizes, [divide(s, 2) for s in strides], divide(offset, 2))


def _whole(
    base: tuple[Size, ...], axes: list[int], sizes: Sequence[Size], strides: Sequence[Size], offset: Size
) -> Placement | None:
    """The loops walk the whole buffer, each along an axis of its own."""
    order = sorted(axes, key=lambda a: -hint(strides[a]))
    shape = tuple([sizes[a] for a in order])
    fits = all(same(strides[a], t) for a, t in zip(order, contiguous(shape), strict=True))
    if not fits or not same(offset, 0) or not same(product(shape), product(base)):
        return None
    return Placement(shape, [Index(0, [(a, 1)]) for a in order])


def _ratio(a: Size, b: Size) -> int | None:
    """The integer a / b, if it is one for all sizes."""
    if isinstance(a, Dim) and isinstance(b, Dim):
        if a.terms.keys() != b.terms.keys():
            return None
        found = {c // b.terms[m] if c % b.terms[m] == 0 else None for m, c in a.terms.items()}
        return found.pop() if len(found) == 1 else None
    if isinstance(a, Dim) or isinstance(b, Dim) or b == 0 or a % b:
        return None
    return a // b


def _parts(
    base: tuple[Size, ...], axes: list[int], sizes: Sequence[Size], strides: Sequence[Size], offset: Size
) -> Placement | None:
    """The loops walk along the buffer's own axes, which they may begin late, leave early or step through."""
    shape = tuple([d for d in base if not is_unit(d)])
    steps = contiguous(shape)
    indices = [Index() for _ in shape]
    rest = offset
    for k, t in enumerate(steps):
        if isinstance(rest, int) and isinstance(t, int) and t:
            indices[k].start, rest = rest // t, rest % t
        else:
            whole = _ratio(rest, t)
            if whole is not None:
                indices[k].start, rest = whole, 0
    if not same(rest, 0):
        return None
    for a in axes:
        found = next(((k, r) for k, t in enumerate(steps) if (r := _ratio(strides[a], t)) is not None), None)
        if found is None:
            return None
        indices[found[0]].terms.append((a, found[1]))
    fits = all(_within(d, i, sizes) for d, i in zip(shape[1:], indices[1:], strict=True))
    return Placement(shape, indices) if fits else None  # the first axis is left only where the buffer is


def _within(d: Size, i: Index, sizes: Sequence[Size]) -> bool:
    """Whether an index stays within an axis of size d, for all values of the symbols."""
    low, high = i.start, i.start
    for a, f in i.terms:
        end = f * (sizes[a] - 1)
        if _at_least(f, 0):
            high = high + end
        elif _at_least(-f, 0):
            low = low + end
        else:
            return False
    return _at_least(low, 0) and _at_least(d - 1, high)


def _at_least(a: Size, b: Size) -> bool:
    diff = a - b
    return diff.compare(0, ">=") is True if isinstance(diff, Dim) else diff >= 0


def _flat(base: tuple[Size, ...], axes: list[int], strides: Sequence[Size], offset: Size) -> Placement:
    return Placement((product(base),), [Index(offset, [(a, strides[a]) for a in axes])], True)
